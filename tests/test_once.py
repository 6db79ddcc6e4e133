"""`--once`: everything there is, read from the beginning and counted, without any state."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.metrics import METRICS
from tests.exporting import REPOSITORY, SAMPLES, Site, append, append_rows, series
from tests.observed import ATTEMPT, STALE, licenses_line, refusal
from tests.probe_peers import closed_port
from tests.shipped import program


def once(capsys: pytest.CaptureFixture[str], site: Site, *words: str) -> tuple[int, dict[str, float], str]:
    code = main(["--config.file", str(site.configured()), "--once", *words])
    out, err = capsys.readouterr()
    return code, series(out), err


def test_everything_there_is_counts_and_no_state_is_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path).with_samples()
    code, seen, _ = once(capsys, site)
    assert code == 0
    assert seen['qlik_license_errors_total{error="stale"}'] == 2
    assert seen["qlik_license_sync_attempts_total"] == seen["qlik_license_sync_failures_total"] == 1
    assert seen["qlik_license_stale"] == 1
    assert "qlik_license_sync_age_seconds" not in seen
    for reason in ("no_access_pass", "parallel_sessions", "allocation_refused"):
        assert seen[f'qlik_license_access_denials_total{{reason="{reason}"}}'] == 1, reason
    for log, records in (("licenses", 3), ("repository_audit", 5), ("repository_trace", 3)):
        assert seen[f'qlik_license_exporter_log_records_total{{log="{log}"}}'] == records, log
    assert not site.state.parent.exists()
    assert not [name for name in seen if name.startswith("qlik_license_exporter_state_last")]


def test_the_state_file_of_a_running_exporter_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path).with_samples()
    site.state.parent.mkdir()
    site.state.write_bytes(b"somebody else's")
    assert once(capsys, site, "--state.file", str(site.state))[0] == 0
    assert site.state.read_bytes() == b"somebody else's"
    assert [file.name for file in site.state.parent.iterdir()] == ["state.db"]


def test_rolled_generations_count_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path)
    at = 1_700_000_000.0
    for number, stamp in ((1, "2026-11-01T08.00.00"), (2, "20261101T200000")):
        rolled = site.audit.with_name(f"QLIKNODE1_AuditSecurity_Repository_{stamp}Z.log")
        append_rows(rolled, refusal(at + number, f"user{number}"))
    append_rows(site.audit, refusal(at + 3, "user3"))
    site.settings["logs"]["repository_audit"]["archive"] = str(site.audit.parent)
    _, seen, _ = once(capsys, site)
    assert seen['qlik_license_access_denials_total{reason="no_access_pass"}'] == 3


@pytest.mark.parametrize(
    "line",
    [
        '{"caller":"sync.go:290","message":"re-syncing assignments with the backend","timest',
        '{"caller":"sync.go:290","message":"re-syncing assignments with the backend',
        "re-syncing assignments with the backend",
        '2026-11-02T08:15:00Z INFO re-syncing assignments with the backend {"caller":"sync.go:290"',
    ],
)
def test_what_can_be_recognised_in_a_broken_line_is_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    site = Site(tmp_path)
    append(site.licenses, line)
    _, seen, _ = once(capsys, site)
    assert seen["qlik_license_sync_attempts_total"] == 1
    assert seen['qlik_license_exporter_log_malformed_records_total{log="licenses"}'] == 1


def test_every_probe_runs_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path)
    target = f"127.0.0.1:{closed_port()}"
    site.settings["probes"] = [{"target": target, "role": "local", "protocol": "tcp", "proxy": "none"}]
    _, seen, _ = once(capsys, site)
    assert seen[f'qlik_license_probe_attempts_total{{role="local",target="{target}"}}'] == 1
    assert seen[f'qlik_license_probe_failures_total{{reason="tcp_refused",role="local",target="{target}"}}'] == 1
    assert seen[f'qlik_license_probe_success{{role="local",target="{target}"}}'] == 0


def test_an_attempt_settles_against_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path)
    append(site.licenses, licenses_line(1_700_000_000, STALE), licenses_line(1_700_100_000, ATTEMPT))
    _, seen, _ = once(capsys, site)
    assert seen["qlik_license_sync_unclear_attempts"] == 1, "the service has not been heard of since"
    assert "qlik_license_sync_last_success_timestamp_seconds" not in seen
    append(site.licenses, licenses_line(1_700_100_200, "request served"))
    _, seen, _ = once(capsys, site)
    assert seen["qlik_license_sync_last_success_timestamp_seconds"] == 1_700_100_000
    assert seen['qlik_license_sync_success_source{source="inferred"}'] == 1
    assert seen["qlik_license_stale"] == 0


def test_nothing_at_all_is_an_exposition_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path)
    site.settings["logs"] = {log: {"paths": [str(tmp_path / "nowhere" / "*")]} for log in site.settings["logs"]}
    code, seen, _ = once(capsys, site)
    assert code == 0
    assert seen["qlik_license_stale"] == seen["qlik_license_sync_expected"] == 0
    assert all(value == 0 for name, value in seen.items() if METRICS[name.partition("{")[0]].durable)


def test_the_configuration_decides_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path).with_samples()
    site.settings["logs"]["repository_audit"]["enabled"] = False
    site.settings["messages"] = [
        {
            "name": "resync_seen",
            "log": "repository_trace",
            "match": "License maintenance started",
            "means": "license_error",
        }
    ]
    _, seen, _ = once(capsys, site)
    assert seen['qlik_license_exporter_log_records_total{log="repository_audit"}'] == 0
    assert 'qlik_license_log_messages_total{log="repository_trace",message="resync_seen"}' in seen
    site.settings["messages"][0]["name"] = "license_stale"
    assert main(["--config.file", str(site.configured()), "--once"]) == 2
    assert "messages[0].name: found `license_stale`" in capsys.readouterr().err


@pytest.mark.slow
def test_the_process_prints_what_promtool_accepts_and_needs_no_configuration(tmp_path: Path) -> None:
    Site(tmp_path).with_samples()
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "--once"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "ProgramData": str(tmp_path)},
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert series(done.stdout)["qlik_license_stale"] == 1
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=done.stdout, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    command = f"{sys.executable} -m exporter --once --config.file '{site.configured()}' | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stderr == ""
    assert done.stdout.startswith("# HELP qlik_license_")


def test_the_published_lines_are_in_the_samples() -> None:
    """What these tests stand on: three lines, the first of which is no JSON."""
    lines = (SAMPLES / "licenses-published.log").read_text().splitlines()
    assert len(lines) == 3
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[0])
