"""The whole chain on the real programs: a log line and a lost backend become messages on loopback, and end after recovery."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from live_programs import Webhook, alertmanager, eventually, fetched, free_port, prometheus, running
from observed import AUDIT_HEADER, audit_row, refusal
from shipped import ALERTMANAGER, RULES, rules

from exporter.demo.scaled_rules import scaled

pytestmark = pytest.mark.slow

GRACE = 60
"""Seconds that stand for the five days of the rules."""
SITE = "Lyon"
ATTEMPT = (
    '{"caller":"sync.go:290","level":"info","message":"re-syncing assignments with the backend","timestamp":"%s"}\n'
)
STALE = (
    '{"caller":"handler.go:44","errorMessage":"Too much time has passed since the last license update",'
    '"errorType":"LICENSES-OutdatedLicense","level":"info","statusCode":403,"timestamp":"%s"}\n'
)


@contextmanager
def backend(port: int) -> Iterator[None]:
    """The license backend: answers 404, which is the healthy answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Site:
    """A node with the real exporter, watched by Prometheus and Alertmanager with the shipped rules and routes."""

    def __init__(self, folder: Path, hook: str) -> None:
        self.folder = folder
        self.log = folder / "licenses.log"
        self.log.touch()
        self.audit = folder / "AuditSecurity_Repository.txt"
        self.audit.write_text(AUDIT_HEADER + "\r\n")
        self.backend_port = free_port()
        self.exporter = f"127.0.0.1:{free_port()}"
        self.prometheus_port = free_port()
        self.exporter_config = folder / "exporter.yml"
        self.exporter_config.write_text(
            yaml.safe_dump(
                {
                    "logs": {
                        "licenses": {"paths": [str(self.log)]},
                        "repository_audit": {"paths": [str(self.audit)]},
                        "repository_trace": {"enabled": False},
                    },
                    "poll_interval": "100ms",
                    "discovery_interval": "200ms",
                    "license": {"kind": "signed_key", "grace": f"{GRACE}s", "settle": "1s"},
                    "probes": [
                        {
                            "target": f"127.0.0.1:{self.backend_port}",
                            "role": "backend",
                            "protocol": "http",
                            "interval": "1s",
                            "timeout": "2s",
                            "proxy": "none",
                        }
                    ],
                    "state": {"file": str(folder / "state.db")},
                    "web": {"listen_addresses": [self.exporter]},
                }
            )
        )
        (folder / "rules.yml").write_text(scaled(RULES.read_text(), GRACE / 432000))
        routes = (
            ALERTMANAGER.read_text()
            .replace("http://127.0.0.1:9096", hook)
            .replace("templates/", f"{ALERTMANAGER.parent}/templates/")
        )
        routes = re.sub(r"group_wait: \w+", "group_wait: 500ms", routes)
        self.alertmanager_config = folder / "alertmanager.yml"
        self.alertmanager_config.write_text(re.sub(r"group_interval: \w+", "group_interval: 1s", routes))

    def prometheus_config(self, alertmanager_url: str) -> Path:
        """Prometheus' configuration: every interval is one second."""
        file = self.folder / "prometheus.yml"
        scrape = {
            "job_name": "qlik-license",
            "static_configs": [{"targets": [self.exporter], "labels": {"site": SITE}}],
        }
        targets = {"static_configs": [{"targets": [alertmanager_url.removeprefix("http://")]}]}
        file.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yml"],
                    "alerting": {"alertmanagers": [targets]},
                    "scrape_configs": [scrape],
                }
            )
        )
        return file

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """The real exporter, as a process of its own."""
        with running(
            self.folder / "exporter.log", sys.executable, "-m", "exporter", "run", "--config.file", self.exporter_config
        ):
            eventually("the exporter is ready", lambda: fetched(f"http://{self.exporter}/-/ready"))
            yield

    def writes(self, line: str) -> None:
        """Qlik's Licenses service appends to its log."""
        with self.log.open("a") as log:
            log.write(line % datetime.now(UTC).isoformat().replace("+00:00", "Z"))
            log.flush()
            os.fsync(log.fileno())

    def refuses(self, users: int) -> None:
        """Qlik's Repository refuses so many users for want of an access pass."""
        with self.audit.open("a", newline="") as log:
            for number in range(users):
                log.write(refusal(time.time(), f"user{number}", number=number + 1) + "\r\n")

    def lets_in(self, user: str) -> None:
        """Qlik's Repository lets a user in."""
        granted = f"Access was granted to User: 'CONTOSO\\{user}', SessionID: 'x', OperationType: 'UsageGranted'"
        row = audit_row(time.time(), user, "Command=License user access;Result=0;ResultText=Success", granted, 99)
        with self.audit.open("a", newline="") as log:
            log.write(row.replace("\t403\t", "\t0\t") + "\r\n")

    def shows(self, series: str) -> bool:
        """Whether the exporter shows that sample now."""
        return re.search(series, fetched(f"http://{self.exporter}/metrics"), re.MULTILINE) is not None


def test_a_lost_backend_and_a_stale_license_become_messages_that_end_after_recovery(tmp_path: Path) -> None:
    began = time.monotonic()
    with Webhook() as hook:
        site = Site(tmp_path, hook.url)
        with alertmanager(tmp_path, site.alertmanager_config) as alertmanager_url:
            config = site.prometheus_config(alertmanager_url)
            with site.exporting(), prometheus(tmp_path, config, site.prometheus_port) as url:
                with backend(site.backend_port):
                    # Healthy: a sync is attempted, nothing fails, so it is taken to have succeeded.
                    eventually("the backend is probed", lambda: site.shows(r"^qlik_license_probe_success\{.*\} 1"))
                    site.writes(ATTEMPT)
                    query = f"{url}/api/v1/query?query=qlik_license_sync_age_seconds"
                    eventually("Prometheus sees the success", lambda: '"result":[{' in fetched(query))
                    assert hook.received == []

                # The probe's target goes away: a ticket.
                lost = eventually(
                    "a ticket", lambda: hook.alerts("/ticket", "QlikLicenseBackendUnreachable", "firing")
                )[0]
                assert lost["labels"]["site"] == SITE
                assert lost["annotations"]["summary"] == f"Qlik license backend unreachable from {site.exporter}"
                command = f"qlik-license-exporter probe 127.0.0.1:{site.backend_port}"
                assert command in lost["annotations"]["first_step"]

                # Many users are refused: a page.
                site.refuses(12)
                many = eventually("a page", lambda: hook.alerts("/pager", "QlikLicenseAccessDeniedMassive", "firing"))[
                    0
                ]
                assert many["annotations"]["description"].startswith("About 12 users were refused")

                # Qlik calls the license stale: a page, which says what to do.
                site.writes(ATTEMPT)
                site.writes(STALE)
                page = eventually("a page", lambda: hook.alerts("/pager", "QlikLicenseStale", "firing"))[0]
                assert page["labels"] == {
                    "alertname": "QlikLicenseStale",
                    "job": "qlik-license",
                    "severity": "critical",
                    "site": SITE,
                }
                assert page["annotations"]["summary"] == f"Qlik license is stale at {SITE}: everyone is refused"
                assert "because you have no access pass" in page["annotations"]["users_see"]
                assert "Restore port 443" in page["annotations"]["first_step"]
                for alert in (lost, many, page):
                    address = alert["annotations"]["runbook_url"]
                    assert address == f"http://{site.exporter}/runbooks/{alert['labels']['alertname']}"
                    assert f"<h1>{alert['labels']['alertname']}</h1>" in fetched(address)
                    board = alert["annotations"]["dashboard_url"]
                    assert re.fullmatch(
                        rf"http://localhost:3000/d/qlik-license-\w+\?var-site={SITE}(&var-instance=.*)?", board
                    )

            # A restart of exporter and Prometheus while it fires ends nothing and repeats nothing.
            with site.exporting(), backend(site.backend_port), prometheus(tmp_path, config, site.prometheus_port):
                eventually("the backend is probed again", lambda: site.shows(r"^qlik_license_probe_success\{.*\} 1"))
                assert hook.alerts("/pager", "QlikLicenseStale", "resolved") == []

                # The backend is back, a sync goes through and a user gets in: all end, and nobody is paged for what is
                # over. (Silence after an attempt is no proof any more: this license went stale in silence.)
                site.writes(ATTEMPT)
                site.lets_in("user1")
                for path, name in (
                    ("/pager", "QlikLicenseStale"),
                    ("/pager", "QlikLicenseAccessDeniedMassive"),
                    ("/ticket", "QlikLicenseBackendUnreachable"),
                ):
                    eventually(f"{name} ends", lambda: hook.alerts(path, name, "resolved"))  # noqa: B023 - asked at once
    for name in ("QlikLicenseStale", "QlikLicenseAccessDeniedMassive"):
        assert len(hook.alerts("/pager", name, "firing")) == 1, "one incident, one page"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("place", [{"site": SITE}, {}], ids=["with a site", "without a site"])
def test_every_text_renders_on_the_real_prometheus(tmp_path: Path, place: dict[str, str]) -> None:
    labels = {**place, "instance": "node1:10188", "target": "b:443", "log": "licenses", "access_type": "analyzer"}
    always = "vector(93700)"
    for label, value in labels.items():
        always = f'label_replace({always}, "{label}", "{value}", "", "")'
    shipped = [
        {**rule, "expr": always, "for": "0s"}
        for rule in rules()
        if "alert" in rule and (place or 'site!=""' not in str(rule["expr"]))  # those are about nodes of one site
    ]
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "texts", "interval": "1s", "rules": shipped}]})
    )
    config = tmp_path / "prometheus.yml"
    config.write_text("rule_files: [rules.yml]\n")
    with prometheus(tmp_path, config, free_port()) as url:

        def firing() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(fetched(f"{url}/api/v1/alerts"))["data"]["alerts"]
            return found if len(found) == len(shipped) else []

        for alert in eventually("every alert fires", firing):
            for key, text in alert["annotations"].items():
                assert text.strip(), (alert["labels"]["alertname"], key)
                assert not re.search(r"error expanding|<no value>|\{\{|%!|  |\b(at|of|on) ?[:,.]", text), text
                assert any(value in text for value in labels.values()) or key != "summary", text
