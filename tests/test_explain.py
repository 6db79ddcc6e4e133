"""`explain`: each line, its message, its event, the series it moved and why; and the wordings nobody knows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from observed import (
    ATTEMPT,
    AUDIT_HEADER,
    NO_SUCH_HOST,
    NOON,
    STALE,
    audit_row,
    licenses_line,
    refusal,
    syncs,
)

from exporter.cli import main
from exporter.config import load
from exporter.metrics import METRICS

SAMPLES = Path(__file__).parent / "samples"


def explained(capsys: pytest.CaptureFixture[str], file: Path, *words: str) -> list[dict]:
    assert main(["explain", "--json", str(file), *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def log(tmp_path: Path, *lines: str, name: str = "Licenses.log") -> Path:
    file = tmp_path / name
    file.write_text("".join(line + "\n" for line in lines))
    return file


def test_case_a2_the_published_lines_are_explained_as_the_fold_takes_them(capsys):
    first, second, third = explained(capsys, SAMPLES / "licenses-published.log")
    assert [line["message"] for line in (first, second, third)] == ["license_stale", "sync_attempted", "license_stale"]
    assert "its format is invalid" in " ".join(first["why"])
    assert second["moved"]["qlik_license_sync_attempts_total"] == [0, 1]
    assert "qlik_license_sync_last_success_timestamp_seconds" not in second["moved"]
    assert "a sync begins" in second["why"][0]
    assert third["moved"]["qlik_license_stale"] == [0, 1]
    assert third["moved"]["qlik_license_sync_failures_total"] == [0, 1]
    assert third["moved"]['qlik_license_errors_total{error="stale"}'] == [1, 2]
    assert "the sync that it belongs to has failed" in third["why"]


def test_a_settled_sync_says_which_attempt_became_a_success_and_a_failure_takes_it_back(tmp_path, capsys):
    lines = explained(
        capsys,
        log(
            tmp_path,
            licenses_line(NOON, ATTEMPT),
            licenses_line(NOON + 100, "something unheard of"),
            licenses_line(NOON + 120, "failed", errorMessage=NO_SUCH_HOST),
        ),
    )
    assert lines[1]["moved"]["qlik_license_sync_last_success_timestamp_seconds"] == [None, NOON]
    assert lines[1]["moved"]['qlik_license_sync_success_source{source="inferred"}'] == [0, 1]
    assert "no sign of trouble: an inferred success" in lines[1]["why"][0]
    assert lines[2]["moved"]["qlik_license_sync_last_success_timestamp_seconds"] == [NOON, None]
    assert lines[2]["why"] == ["the sync that it belongs to has failed", "inferred successes before it are withdrawn"]


def test_every_series_that_is_said_to_move_is_promised_by_the_catalogue(capsys):
    for sample in sorted(SAMPLES.iterdir()):
        for line in explained(capsys, sample):
            for series in line["moved"]:
                assert series.partition("{")[0] in METRICS


def test_audit_rows_tell_reason_and_distinct_users(tmp_path, capsys):
    rows = [refusal(NOON, "kowalska"), refusal(NOON + 1, "KOWALSKA"), refusal(NOON + 2, "x", sessions=5), "stray"]
    lines = explained(capsys, log(tmp_path, AUDIT_HEADER, *rows, name="Q_AuditSecurity_Repository.txt"))
    users = 'qlik_license_access_denied_users{reason="no_access_pass"}'
    assert lines[0]["moved"][users] == [0, 1]
    assert users not in lines[1]["moved"]
    assert lines[2]["why"] == ["the row counts five sessions or more"]
    assert [line["line"] for line in lines] == [2, 3, 4, 5]
    assert "does not belong to a record" in lines[3]["why"][0]
    assert lines[0]["file"] == "<host>_AuditSecurity_Repository.txt"


def test_records_over_several_lines_are_explained_once_with_their_first_line(tmp_path, capsys):
    torn = refusal(NOON, "a").replace("Error: Access", "Error:\nAccess")
    lines = explained(
        capsys, log(tmp_path, AUDIT_HEADER, torn, refusal(NOON, "b"), name="Q_AuditSecurity_Repository.txt")
    )
    assert [line["line"] for line in lines] == [2, 4]
    assert [line["message"] for line in lines] == ["access_denied", "access_denied"]


def test_utf_16_and_carriage_returns_are_read_as_the_exporter_reads_them(tmp_path, capsys):
    file = tmp_path / "Licenses.log"
    text = "".join(line + "\r\n" for line in syncs(NOON, NOON + 1200))
    file.write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    assert [line["message"] for line in explained(capsys, file)] == ["sync_attempted"] * 3


@pytest.mark.parametrize(
    ("log_words", "lines"),
    [
        ([], [licenses_line(NOON, STALE)]),
        ([], [AUDIT_HEADER, refusal(NOON, "kowalska")]),
        (["--log", "repository_audit"], [refusal(NOON, "kowalska")]),
    ],
)
def test_the_input_is_read_too_and_its_log_is_told_by_its_first_line(log_words, lines):
    command = [sys.executable, "-m", "exporter", "explain", "-", *log_words]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert b"license stale" in done.stdout or b"user refused: no_access_pass" in done.stdout
    assert b"kowalska" not in done.stdout
    assert b"\x1b" not in done.stdout


def test_a_line_is_explained_as_soon_as_it_is_complete():
    command = [sys.executable, "-u", "-m", "exporter", "explain", "--json", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(licenses_line(NOON, ATTEMPT).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["message"] == "sync_attempted"
        process.stdin.close()
        assert process.wait(60) == 0


def test_what_is_no_log_is_said_and_the_others_go_on(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("nothing\n")
    assert main(["explain", str(tmp_path / "a.txt"), str(log(tmp_path, licenses_line(NOON, STALE)))]) == 1
    told = capsys.readouterr()
    assert "specify it with --log" in told.err
    assert "license stale" in told.out


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    file = log(tmp_path, *syncs(NOON, NOON + 600 * 3000))
    done = subprocess.run(
        f"{sys.executable} -m exporter explain {file} | head -1",
        shell=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_unknown_wordings_come_once_each_most_frequent_first_masked(tmp_path, capsys):
    file = log(
        tmp_path,
        *syncs(NOON, NOON + 1200),
        *(
            licenses_line(NOON + age, f"assignments of user kowalska{age} are up to date in {age} ms")
            for age in range(5)
        ),
        *(
            licenses_line(NOON + age, "license definition refreshed", licenseNumber="1234567890123456")
            for age in range(3)
        ),
    )
    assert main(["explain", "--unknown", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert [line.split(maxsplit=2) for line in text.splitlines()[:2]] == [
        ["5", "licenses", "assignments of user <id> are up to date in <number>"],
        ["3", "licenses", "license definition refreshed"],
    ]
    assert "2 unknown messages in 8 records" in text
    assert main(["explain", "--unknown", "--json", str(file)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["count"], row["log"]) for row in rows] == [(5, "licenses"), (3, "licenses")]
    assert rows[0]["first"] == NOON


def test_a_file_that_tells_nothing_of_its_log_is_read_as_it_is_said_and_is_never_called_recognised(tmp_path, capsys):
    file = tmp_path / "notes"
    file.write_bytes(b"something odd of user kowalska\n\x80\x00\xffbinary\n")
    assert main(["explain", "--unknown", str(file)]) == 1
    said = capsys.readouterr()
    assert "not recognised as a log; specify it with --log" in said.err
    assert "recognised" not in said.out
    assert main(["explain", "--unknown", "--log", "licenses", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "something" in shown
    assert "2 unknown messages in 2 records" in shown
    assert "kowalska" not in shown


def test_a_taught_wording_is_no_longer_unknown(tmp_path, capsys):
    config = tmp_path / "config.yml"
    config.write_text(
        "messages: [{name: refreshed, log: licenses, match: definition refreshed, means: sync_succeeded}]\n"
    )
    folder = tmp_path / "logs"
    folder.mkdir()
    file = log(folder, licenses_line(NOON, "license definition refreshed"))
    assert main(["explain", "--unknown", "--config.file", str(config), str(folder)]) == 0
    assert capsys.readouterr().out == "Every record was recognised.\n"
    (line,) = explained(capsys, file, "--config.file", str(config))
    assert line["message"] == "refreshed"
    assert line["why"] == ["a success message from the configuration: not inferred"]


def test_rows_of_no_interest_are_unknown_by_their_wording_not_by_their_result_code(tmp_path, capsys):
    rows = [
        audit_row(NOON, "a", f"Command=Open app;Result={code};ResultText=x", "ok", number=code) for code in (200, 404)
    ]
    log(tmp_path, AUDIT_HEADER, *rows, *rows[:1], name="Q_AuditSecurity_Repository.txt")
    assert main(["explain", "--unknown", "--json", str(tmp_path)]) == 0
    counts = {row["template"]: row["count"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert sorted(counts.values()) == [1, 2]
    assert any("Result=404" in template for template in counts)


def test_a_folders_rolled_files_are_explained_before_the_live_one(tmp_path, capsys):
    name = "Q_AuditSecurity_Repository"
    log(tmp_path, AUDIT_HEADER, refusal(NOON, "c"), name=f"{name}.txt")
    log(tmp_path, AUDIT_HEADER, refusal(NOON - 60, "b"), name=f"{name}_20261102T115930Z.log")
    log(tmp_path, AUDIT_HEADER, refusal(NOON - 120, "a"), name=f"{name}_2026-11-02T11.58.30Z.log")
    users = 'qlik_license_access_denied_users{reason="no_access_pass"}'
    lines = explained(capsys, tmp_path)
    assert [line["time"] for line in lines] == [NOON - 120, NOON - 60, NOON]
    assert [line["moved"][users] for line in lines] == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("the moon stood between us and the sun", r"the \S+ \S+ between \S+ and the"),
        ("sync could not be brought to an end because the gnome ate it", r"sync could not be \S+ to an end because the \S+ \S+ it"),
        ("assignment sync didn't work: 'kalt' 17", "assignment sync didn't work: '"),
        ("the first attempt took 17 s and that is what matters here", "and that is what matters here"),
        ("warp core breach in sector 7 of 9", ""),
        ("flurbled: /a/b c", ""),
    ],
)  # fmt: skip
def test_a_proposed_pattern_fits_the_text_and_is_not_too_wide(tmp_path, capsys, text, pattern):
    assert main(["explain", "--unknown", str(log(tmp_path, licenses_line(NOON, text, level="error")))]) == 0
    printed = capsys.readouterr().out
    taught = yaml.safe_load(printed[printed.index("# These may") :])["messages"]
    assert [message["match"] for message in taught] == ([pattern] if pattern else [])
    assert all(re.search(message["match"], text) for message in taught)
    assert ("write the pattern yourself" in printed) == (not pattern)


def test_unknown_wordings_of_trouble_come_with_the_configuration_that_teaches_them(tmp_path, capsys):
    lines = [
        licenses_line(NOON, "assignment sync didn't work: 'kalt' 17"),
        licenses_line(NOON + 1, "reading the quota of user kowalska took 5 ms"),
        licenses_line(NOON + 2, "memory cache is full", level="error"),
    ]
    file = log(tmp_path, *lines)
    assert main(["explain", "--unknown", str(file)]) == 0
    printed = capsys.readouterr().out
    configuration = tmp_path / "taught.yml"
    configuration.write_text(printed[printed.index("# These may be about a sync") :])
    taught = load(str(configuration)).messages
    assert [message.means for message in taught] == ["sync_failed", "sync_failed"]
    assert "kowalska" not in printed
    assert main(["--config.file", str(configuration), "explain", "--unknown", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "messages:" not in printed
    assert "1 unknown message in 1 record" in printed
