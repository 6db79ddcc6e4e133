"""The whole exporter beside a Repository: from the API's answers to /metrics, the log and `check` (issue 7, 1 to 3)."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_programs import eventually, fetched, free_port
from observed import ATTEMPT, licenses_line
from qrs_server import (
    ANALYZERS,
    CAPACITY,
    EMPTY,
    PROFESSIONALS,
    SECRETS,
    SIGNED_KEY,
    TOKENS,
    FakeQrs,
    Seats,
    Site,
    license_answer,
    session,
)

pytestmark = pytest.mark.slow

FAMILIES = (
    "qlik_license_qrs_",
    "qlik_license_expir",
    "qlik_license_valid",
    "qlik_license_info",
    "qlik_license_access_licenses",
    "qlik_license_access_allocated",
    "qlik_license_access_used",
    "qlik_license_access_available",
    "qlik_license_access_quarantined",
    "qlik_license_access_excess",
    "qlik_license_analyzer_capacity",
    "qlik_license_tokens",
    "qlik_license_sessions",
)
"""How the names of the series begin that the Repository API feeds."""
MEASURED = ("qlik_license_qrs_duration_seconds", "qlik_license_qrs_last_success_timestamp_seconds")
"""Series whose values differ from read to read."""
SYNCED = "qlik_license_sync_last_success_timestamp_seconds"


def configuration(folder: Path, qrs_site: Site, **qrs: Any) -> Path:
    settings = {
        "enabled": True,
        "certificate": str(qrs_site.folder / "client.pem"),
        "key": str(qrs_site.folder / "client_key.pem"),
        "ca_file": str(qrs_site.folder / "root.pem"),
        "server_name": "localhost",
        "interval": "1s",
    }
    paths = {
        name: {"paths": [str(folder / "logs" / name)]} for name in ("licenses", "repository_audit", "repository_trace")
    }
    tree = {
        "logs": paths,
        "license": {"kind": "signed_key"},
        "probes": [],
        "state": {"file": str(folder / "state.db")},
        "qrs": settings | qrs,
    }
    file = folder / "exporter.yml"
    file.write_text(json.dumps(tree))  # JSON is YAML
    return file


@contextlib.contextmanager
def exporting(folder: Path, config: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """A running exporter: its address, and what reads its log."""
    address = f"127.0.0.1:{free_port()}"
    log = folder / "exporter.log"
    command = [sys.executable, "-m", "exporter", f"--config.file={config}", f"--web.listen-address={address}"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield f"http://{address}", log.read_text
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def series(exposition: str) -> dict[str, str]:
    """The series that the Repository API feeds, with their values."""
    found = {}
    for line in exposition.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith(FAMILIES) and not name.startswith(MEASURED):
            found[name] = value
    return found


def scraped(url: str, up: str) -> dict[str, str]:
    """The series once `qlik_license_qrs_up` has the value `up`."""

    def there() -> dict[str, str]:
        found = series(fetched(f"{url}/metrics"))
        return found if found.get("qlik_license_qrs_up") == up else {}

    return eventually(f"qlik_license_qrs_up is {up}", there)


def test_every_series_of_the_contract_comes_from_the_answers(qrs: FakeQrs, qrs_site: Site, tmp_path: Path) -> None:
    qrs.says((SIGNED_KEY[0], CAPACITY[1] | {"analyzerAccess": SIGNED_KEY[1]["analyzerAccess"]}))
    qrs.answers["/qps/session"] = [session("ANNA", number) for number in range(4)]
    config = configuration(tmp_path, qrs_site, url=qrs.url, sessions_url=qrs.url, trust_updated=True)
    with exporting(tmp_path, config) as (url, log):
        scraped(url, "1.0")
        eventually("the sync clock follows", lambda: f"{SYNCED} 1.795511836366e+09" in fetched(f"{url}/metrics"))
        assert 'qlik_license_sync_success_source{source="qrs"} 1.0' in fetched(f"{url}/metrics")
        assert series(fetched(f"{url}/metrics")) == {
            "qlik_license_qrs_up": "1.0",
            "qlik_license_qrs_problems_total": "0.0",
            "qlik_license_expiry_timestamp_seconds": "1.806537599e+09",
            "qlik_license_expired": "0.0",
            "qlik_license_valid": "1.0",
            'qlik_license_info{kind="signed_key",product="Qlik Sense Enterprise",subscription="true"}': "1.0",
            'qlik_license_access_licenses{access_type="professional"}': "25.0",
            'qlik_license_access_licenses{access_type="analyzer"}': "100.0",
            'qlik_license_access_allocated{access_type="professional"}': "20.0",
            'qlik_license_access_allocated{access_type="analyzer"}': "97.0",
            'qlik_license_access_used{access_type="professional"}': "12.0",
            'qlik_license_access_used{access_type="analyzer"}': "80.0",
            'qlik_license_access_available{access_type="professional"}': "5.0",
            'qlik_license_access_available{access_type="analyzer"}': "3.0",
            'qlik_license_access_quarantined{access_type="professional"}': "2.0",
            'qlik_license_access_quarantined{access_type="analyzer"}': "0.0",
            'qlik_license_access_excess{access_type="professional"}': "0.0",
            'qlik_license_access_excess{access_type="analyzer"}': "0.0",
            "qlik_license_analyzer_capacity_allocated_seconds": "3.6e+06",
            "qlik_license_analyzer_capacity_used_seconds": "74070.0",
            "qlik_license_analyzer_capacity_unavailable_seconds": "360.0",
            "qlik_license_sessions_per_user_max": "4.0",
        }
        everything = "".join(fetched(f"{url}{path}") for path in ("/", "/metrics", "/config", "/api/v1/status"))
    assert not [secret for secret in SECRETS if secret in everything + log()]
    assert {request.method for request in qrs.requests} == {"GET"}


def test_what_is_not_there_leaves_no_series_and_updated_moves_no_clock_unless_trusted(
    qrs: FakeQrs, qrs_site: Site, tmp_path: Path
) -> None:
    qrs.says(TOKENS)
    with exporting(tmp_path, configuration(tmp_path, qrs_site, url=qrs.url)) as (url, _):
        assert scraped(url, "1.0") == {
            "qlik_license_qrs_up": "1.0",
            "qlik_license_qrs_problems_total": "0.0",
            "qlik_license_expired": "0.0",
            "qlik_license_valid": "1.0",
            'qlik_license_info{kind="lef",product="Qlik Sense Enterprise",subscription="false"}': "1.0",
            "qlik_license_tokens": "10.0",
            "qlik_license_tokens_available": "3.5",
        }
        assert SYNCED + " " not in fetched(f"{url}/metrics")
        qrs.says(EMPTY)
        nothing = {"qlik_license_qrs_up": "1.0", "qlik_license_qrs_problems_total": "0.0"}
        eventually("a site without a license shows nothing", lambda: series(fetched(f"{url}/metrics")) == nothing)


def test_case_b8_403_is_seen_as_itself_and_never_as_a_denial_and_figures_vanish_after_max_age(
    qrs: FakeQrs, qrs_site: Site, tmp_path: Path
) -> None:
    with exporting(tmp_path, configuration(tmp_path, qrs_site, url=qrs.url, max_age="2s")) as (url, log):
        eventually("seats are shown", lambda: "qlik_license_access_licenses{" in fetched(f"{url}/metrics"))
        qrs.users.clear()
        scraped(url, "0.0")
        left = {"qlik_license_qrs_up": "0.0", "qlik_license_qrs_problems_total": "0.0"}
        eventually("old figures disappear", lambda: series(fetched(f"{url}/metrics")) == left)
        exposition = fetched(f"{url}/metrics")
        for reason in ("no_access_pass", "parallel_sessions", "allocation_refused"):
            assert f'qlik_license_access_denials_total{{reason="{reason}"}} 0.0' in exposition
        assert 'qlik_license_exporter_component_failures_total{component="qrs"} 0.0' in exposition
        qrs.users["INTERNAL", "sa_api"] = "LicenseReader"
        scraped(url, "1.0")
    assert log().count("forbidden: GET /qrs/license (qrs.url) answered 403") == 1
    assert "denied" not in log()


def checked(config: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "exporter", f"--config.file={config}", "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_check_names_what_is_wrong_with_the_repository_api(qrs: FakeQrs, qrs_site: Site, tmp_path: Path) -> None:
    config = configuration(tmp_path, qrs_site, url=qrs.url)
    (tmp_path / "logs").mkdir()
    answer = license_answer()
    del answer["isExpired"]
    qrs.answers["/qrs/license"] = answer
    code, said = checked(config)
    assert (code, "license.isExpired is missing" in said) == (0, True)
    qrs_site.write_client(days=-1)
    code, said = checked(config)
    assert code == 1
    assert f"failed   certificate: {qrs_site.folder / 'client.pem'} expired on " in said
    assert not [secret for secret in SECRETS if secret in said]


def test_check_names_the_right_that_is_missing_to_count_seats(qrs: FakeQrs, qrs_site: Site, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for path in (PROFESSIONALS, ANALYZERS):
        qrs.answers[path] = Seats([], visible=False)
    code, said = checked(configuration(tmp_path, qrs_site, url=qrs.url))
    assert (code, "seats: " in said) == (0, False)
    code, said = checked(configuration(tmp_path, qrs_site, url=qrs.url, seats_interval="6h"))
    assert code == 1
    assert "seats: professionalaccesstype/count is 0, but 20 are allocated: qrs.user has no right" in said
    qrs_site.write_client(days=-1)
    assert checked(configuration(tmp_path, qrs_site, url=qrs.url, seats_interval="6h"))[0] == 1


def test_seats_that_nobody_uses_come_from_the_answers_and_from_diagnose(
    qrs: FakeQrs, qrs_site: Site, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    long_ago, now = time.time() - 100 * 86400, time.time()
    qrs.answers[PROFESSIONALS] = Seats([long_ago] * 11 + [now] * 9)
    qrs.answers[ANALYZERS] = Seats([now] * 97)
    for log in ("repository_audit", "repository_trace"):
        (tmp_path / "logs" / log).touch()
    (tmp_path / "logs" / "licenses").write_text(licenses_line(now - 600, ATTEMPT) + "\n")
    config = configuration(tmp_path, qrs_site, url=qrs.url, seats_interval="6h")
    name = 'qlik_license_access_unused{access_type="professional",unused="90d"}'
    with exporting(tmp_path, config) as (url, _):
        eventually("unused seats are exposed", lambda: f"{name} 11.0" in fetched(f"{url}/metrics"))
    command = [sys.executable, "-m", "exporter", f"--config.file={config}", "diagnose"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "11 of 20 professional seats were not used for 90 days." in said


def test_who_holds_an_idle_seat_is_asked_for_and_told_at_a_terminal_only(
    qrs: FakeQrs, qrs_site: Site, tmp_path: Path
) -> None:
    row = {
        "user": {"userDirectory": "EXAMPLE", "userId": "idle", "name": "Ida"},
        "lastUsed": "2020-01-01T00:00:00.000Z",
    }
    for kind in ("professional", "analyzer"):
        qrs.answers[f"/qrs/license/{kind}accesstype/full"] = [row]
    config = configuration(tmp_path, qrs_site, url=qrs.url)
    at_terminal = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]
    command = [sys.executable, "-m", "exporter", "diagnose", f"--config.file={config}"]

    def said(*words: str) -> str:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    for words in (command, [*command, "--show-people"], [*at_terminal, *command]):
        assert "idle" not in said(*words)
    assert not [request for request in qrs.requests if request.path.endswith("/full")]
    told = said(*at_terminal, *command, "--show-people")
    assert "2020-01-01  EXAMPLE\\idle (Ida)" in told
    assert "EXAMPLE\\idle (Ida), also holds a professional seat" in told
    assert "The list is not complete: 20 are allocated." in told


def test_a_protected_key_never_makes_a_program_at_a_terminal_ask_for_its_password(
    qrs: FakeQrs, qrs_site: Site, tmp_path: Path
) -> None:
    """OpenSSL itself would ask at the terminal, and a service started from one would wait for ever."""
    qrs_site.write_client(password="hidden-password")
    config = configuration(tmp_path, qrs_site, url=qrs.url)
    at_terminal = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]
    command = [*at_terminal, sys.executable, "-m", "exporter", f"--config.file={config}", "check"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert "client_key.pem is protected by a password: set qrs.key_password" in done.stdout
    assert "pass phrase" not in done.stdout
