"""`diagnose` on copied logs and on a machine: through the command line, as a person runs it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from observed import (
    ATTEMPT,
    AUDIT_HEADER,
    DAY,
    HOUR,
    MINUTE,
    NO_SUCH_HOST,
    NOON,
    STALE,
    audit_row,
    licenses_line,
    refusal,
    stamp,
    syncs,
)

from exporter.cli import main
from exporter.logs.kinds import log_of_content
from exporter.sources import given_sources

KEYS = ["verdict", "severity", "summary", "users_see", "evidence", "cure", "alert", "also"]
SAMPLES = Path(__file__).parent / "samples"


def write(file: Path, lines: list[str], end: str = "\r\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\xef\xbb\xbf" + "".join(line + end for line in lines).encode())
    return file


def node(folder: Path, licenses: list[str], audit: list[str] | None = None) -> Path:
    """A node's Log folder as it is copied: our logs, and those of other services."""
    write(folder / "Log/Licenses/Licenses.log", licenses)
    write(folder / "Log/Repository/Audit/QLIKNODE1_AuditSecurity_Repository.txt", [AUDIT_HEADER, *(audit or [])])
    write(
        folder / "Log/Engine/Trace/QLIKNODE1_System_Engine.txt",
        ["Sequence#\tTimestamp\tLevel\tLogger", "1\tx\tERROR\ty"],
    )
    write(
        folder / "Log/HubService/hub.log", ['{"level":"info","message":"hub ready","timestamp":"2029-01-01T00:00:00Z"}']
    )
    (folder / "Log/Licenses/old.zip").write_bytes(b"PK\x03\x04rest")
    return folder / "Log"


def diagnosed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    code = main(["diagnose", "--json", *map(str, words)])
    told = json.loads(capsys.readouterr().out)
    return code, told


def test_a_healthy_nodes_copied_folder_is_well_as_of_its_newest_entry(tmp_path, capsys):
    folder = node(tmp_path, syncs(NOON - DAY, NOON), [audit_row(NOON, "a", "Command=Open app;Result=200", "ok")])
    code, told = diagnosed(capsys, folder)
    assert (code, told["verdict"], told["severity"]) == (0, "well", "ok")
    assert list(told) == KEYS
    assert told["also"] == []


def test_case_a1_a_stale_license_is_critical_and_its_refused_users_are_counted(tmp_path, capsys):
    licenses = [*syncs(NOON - DAY, NOON - 2 * HOUR, error=NO_SUCH_HOST), licenses_line(NOON - 60, STALE)]
    audit = [refusal(NOON - number, f"user{number:02}", number=number) for number in range(1, 13)]
    code, told = diagnosed(capsys, node(tmp_path, licenses, audit))
    assert (code, told["verdict"], told["alert"]) == (2, "license_stale", "QlikLicenseStale")
    assert any("12 distinct users" in sentence for sentence in told["evidence"])


def test_lesser_findings_have_the_same_shape(tmp_path, capsys):
    licenses = [*syncs(NOON - 80 * HOUR, NOON - 76 * HOUR), *syncs(NOON - 75 * HOUR, NOON, error=NO_SUCH_HOST)]
    code, told = diagnosed(capsys, node(tmp_path, licenses))
    assert (code, told["verdict"]) == (2, "lockout_coming")
    assert [list(finding) for finding in told["also"]] == [KEYS]
    assert told["also"][0]["verdict"] == "sync_failing_network"


def test_case_a2_the_published_lines_are_a_stale_license(capsys):
    code, told = diagnosed(capsys, SAMPLES / "licenses-published.log")
    assert (code, told["verdict"]) == (2, "license_stale")


def test_rolled_and_archived_files_are_read_in_order_and_copies_once(tmp_path, capsys):
    folder = node(tmp_path, syncs(NOON - HOUR, NOON))
    audit = folder / "Repository/Audit"
    first = [refusal(NOON - 50 * MINUTE + number, f"user{number}", number=number) for number in range(1, 4)]
    second = [refusal(NOON - 20 * MINUTE + number, f"user{number}", number=number + 10) for number in range(3, 6)]
    live = [refusal(NOON - number, f"user{number}", number=30 - number) for number in (3, 2, 1)]
    stamps = (
        stamp(NOON - 30 * MINUTE)[:19].replace(":", "."),
        stamp(NOON - 10 * MINUTE)[:19].replace(":", "").replace("-", ""),
    )
    rolled = write(audit / f"QLIKNODE1_AuditSecurity_Repository_{stamps[0]}Z.log", [AUDIT_HEADER, *first])
    archived = tmp_path / f"Log/ArchivedLogs/qliknode1/QLIKNODE1_AuditSecurity_Repository_{stamps[1]}Z.log"
    write(archived, [AUDIT_HEADER, *second])
    write(audit / "QLIKNODE1_AuditSecurity_Repository.txt", [AUDIT_HEADER, *live])
    # The same once more, as zipping and unpacking leaves it: a whole copy, and one made before the file grew on.
    write(tmp_path / "Log/copy" / rolled.name, [AUDIT_HEADER, *first])
    write(tmp_path / "Log/copy/QLIKNODE1_AuditSecurity_Repository.txt", [AUDIT_HEADER, live[0]])
    code, told = diagnosed(capsys, folder)
    assert (code, told["verdict"]) == (1, "users_refused")
    assert any("5 distinct users" in sentence for sentence in told["evidence"])
    (source,) = [source for source in given_sources([str(folder)]).sources if source.log == "repository_audit"]
    records = [record for batch in source.read() for record in batch.records]
    assert len(records) == 9
    assert [record.at for record in records] == sorted(record.at for record in records)


def test_now_judges_as_of_another_instant(tmp_path, capsys):
    folder = node(tmp_path, [*syncs(NOON - DAY, NOON - 2 * HOUR), licenses_line(NOON, STALE)])
    assert diagnosed(capsys, folder, "--now", "2026-11-02T11:00:00Z")[1]["verdict"] == "well"
    assert diagnosed(capsys, folder, "--now", str(NOON + 60))[1]["severity"] == "critical"
    code, told = diagnosed(capsys, folder, "--now", "2026-11-10T12:00:00+01:00")
    assert (code, told["alert"]) == (1, "QlikLicenseStaleUnconfirmed")
    assert main(["diagnose", str(folder), "--now", "noon"]) == 64
    assert "--now: found `noon`, expected" in capsys.readouterr().err


def test_a_flat_mixture_of_renamed_files_is_told_apart_by_content(tmp_path, capsys):
    write(tmp_path / "one.txt", syncs(NOON - HOUR, NOON))
    write(tmp_path / "two.txt", [AUDIT_HEADER, refusal(NOON, "user01")])
    trace = "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2"
    write(tmp_path / "three.log", [trace, "1\t20261102T120000.000+0000\tWARN\tQ\tx.Core.Licensing.y\t1\ti\tu\tm\ti"])
    assert [source.log for source in given_sources([str(tmp_path)]).sources] == [
        "licenses",
        "repository_audit",
        "repository_trace",
    ]
    assert diagnosed(capsys, tmp_path)[1]["verdict"] == "users_refused"


@pytest.mark.parametrize(
    ("head", "log"),
    [
        (b'{"message":"x"}', "licenses"),
        ('{"message":"x"}'.encode("utf-16"), "licenses"),
        (b"\xef\xbb\xbf" + AUDIT_HEADER.encode(), "repository_audit"),
        (refusal(NOON, "user01").encode(), "repository_audit"),
        (b"1\t20261102T120000.000+0000\tWARN\tQ\tx.Core.Licensing.y\t1\ti\tu\tm\ti", "repository_trace"),
        (b"plain text\n", None),
        (b"", None),
    ],
)
def test_a_logs_content_tells_what_it_is(head, log):
    assert log_of_content(head) == log


def test_other_services_logs_do_not_disturb(tmp_path, capsys):
    folder = node(tmp_path, syncs(NOON - HOUR, NOON))
    given = given_sources([str(folder)])
    assert given.skipped == {"no license log": 2, "packed: unpack it first": 1}


def test_nothing_given_that_is_a_log_is_not_enough_evidence(tmp_path, capsys):
    code, told = diagnosed(capsys, tmp_path)
    assert (code, told["verdict"]) == (3, "not_enough_evidence")
    assert main(["diagnose", str(tmp_path / "missing")]) == 64
    assert "No such file" in capsys.readouterr().err


def test_a_silent_service_is_told_from_a_missing_log(tmp_path, capsys):
    folder = node(tmp_path, syncs(NOON - 3 * DAY, NOON - 2 * DAY), [audit_row(NOON, "a", "Command=x;Result=200", "ok")])
    code, told = diagnosed(capsys, folder)
    assert (code, told["verdict"]) == (1, "service_silent")


def test_the_text_for_a_person_holds_verdict_evidence_cure_and_ground_and_no_name(tmp_path, capsys):
    folder = node(tmp_path, syncs(NOON - HOUR, NOON), [refusal(NOON, "kowalska")])
    assert main(["diagnose", str(folder)]) == 1
    text = capsys.readouterr().out
    assert text.startswith("WARNING users_refused\n1 user was refused")
    assert "What to do:\n  1. " in text
    assert "As of 2026-11-02 12:00:00 UTC" in text
    assert "kowalska" not in text
    assert "\x1b" not in text


# --- this machine ----------------------------------------------------------------------------------------------------


def machine(tmp_path: Path, target: str) -> Path:
    """A configuration for logs below `tmp_path` and one probe."""
    config = tmp_path / "config.yml"
    config.write_text(
        f"logs:\n  licenses: {{paths: ['{tmp_path}/Log/Licenses/*.log']}}\n"
        f"  repository_audit: {{paths: ['{tmp_path}/Log/Repository/Audit/*_AuditSecurity_Repository.txt']}}\n"
        "  repository_trace: {enabled: false}\n"
        f"probes: [{{target: '{target}', role: backend, protocol: tcp, proxy: none, timeout: 5s}}]\n"
    )
    return config


def test_without_arguments_this_machine_is_judged_now_and_probed(tmp_path, capsys):
    now = time.time()
    node(tmp_path, [*syncs(now - 5 * HOUR, now - 3 * HOUR), *syncs(now - 2 * HOUR, now - 60, error=NO_SUCH_HOST)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        code, told = diagnosed(capsys, "--config.file", machine(tmp_path, target))
        assert (code, told["verdict"]) == (1, "sync_failing_service")
        assert any("contradict" in sentence for sentence in told["evidence"])
    code, told = diagnosed(capsys, "--config.file", machine(tmp_path, target))
    assert (code, told["verdict"]) == (1, "sync_failing_network")
    assert any("tcp_refused" in sentence for sentence in told["evidence"])


def test_without_any_log_this_machine_is_blind(tmp_path, capsys):
    code, told = diagnosed(capsys, "--config.file", machine(tmp_path, "127.0.0.1:9"))
    assert (code, told["verdict"], told["alert"]) == (3, "tail_blind", "QlikLicenseLogUnreadable")


# --- at a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is a thing of POSIX systems")
def test_a_terminal_sees_colours_and_a_bar_and_a_pipe_sees_neither(tmp_path):
    import pty

    lines = [licenses_line(NOON - DAY + number / 10, "padding " + "x" * 400) for number in range(30_000)]
    folder = node(tmp_path, [*lines, licenses_line(NOON, ATTEMPT)])
    main_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "exporter", "diagnose", str(folder)]
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(main_end, 4096)
            except OSError:
                return
            shown.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    environ = {**os.environ, "TERM": "xterm"}
    environ.pop("NO_COLOR", None)
    done = subprocess.run(command, stdout=terminal, stderr=terminal, env=environ, timeout=100, check=False)
    os.close(terminal)
    reader.join(10)
    os.close(main_end)
    text = b"".join(shown)
    assert done.returncode == 3
    assert b"\x1b[35mUNKNOWN" in text
    assert b"MB " in text
    piped = subprocess.run(command, capture_output=True, env=environ, timeout=100, check=False)
    assert b"\x1b" not in piped.stdout + piped.stderr
    assert piped.stderr == b""
