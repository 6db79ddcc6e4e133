"""A real Prometheus scrapes the real server, with everything that the web file can ask of it."""

import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest
import trustme
from web_stand_in import eventually, site

AUTHORITY = trustme.CA()


@contextmanager
def _prometheus(folder: Path, scrape: str) -> Iterator[str]:
    """The base URL of a Prometheus with this scrape job, while the block runs."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: install Debian's package prometheus"
    (folder / "prometheus.yml").write_text(scrape)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("wb") as log:
        running = subprocess.Popen([program, *arguments], cwd=folder, stdout=log, stderr=log)
        try:
            yield f"http://{address}"
        finally:
            running.terminate()
            running.wait(20)


def _value(base: str, expression: str) -> float | None:
    """What the expression is now, or None: not there yet."""
    try:
        with urllib.request.urlopen(
            f"{base}/api/v1/query?query={urllib.parse.quote(expression)}", timeout=20
        ) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return None
    return float(found[0]["value"][1]) if found else None


def _issue(folder: Path) -> None:
    issued = AUTHORITY.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "new.key"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "new.crt"))
    os.replace(folder / "new.key", folder / "server.key")
    os.replace(folder / "new.crt", folder / "server.crt")


@pytest.mark.slow
def test_prometheus_scrapes_with_tls_client_certificate_and_login_through_a_renewal(tmp_path: Path) -> None:
    _issue(tmp_path)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    client = AUTHORITY.issue_cert("prometheus.example")
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.crt"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt,\n"
        "  client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus.example]}\n"
        f"basic_auth_users: {{prometheus: {bcrypt.hashpw(b'secret', bcrypt.gensalt(8)).decode()}}}\n"
    )
    with site(str(tmp_path / "web.yml"), address="localhost:0") as running:
        scrape = (
            "scrape_configs: [{job_name: qlik, scheme: https, scrape_interval: 1s, scrape_timeout: 1s,\n"
            "  tls_config: {ca_file: ca.crt, cert_file: client.crt, key_file: client.key},\n"
            "  basic_auth: {username: prometheus, password: secret},\n"
            f"  static_configs: [{{targets: ['localhost:{running.port}']}}]}}]\n"
        )
        with _prometheus(tmp_path, scrape) as base:
            assert eventually(lambda: _value(base, "qlik_license_sync_age_seconds") == 42)
            _issue(tmp_path)
            succeeded = _value(base, "sum_over_time(up[1m])") or 0
            assert eventually(lambda: (_value(base, "sum_over_time(up[1m])") or 0) >= succeeded + 2)
    assert running.failures == []
