"""`backfill`: what the logs hold becomes history that a real Prometheus answers from."""

import json
import subprocess
import urllib.parse
from itertools import groupby
from pathlib import Path

import pytest
from live_programs import eventually, fetched, free_port, running
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
    syncs,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from shipped import program

from exporter.cli import main
from exporter.commands.backfill import MOST_STEPS, step_for


def incident(folder: Path) -> Path:
    """A day and a half: good syncs, then failing ones, a stale license with refusals, and its recovery. One file is rolled."""
    licenses = folder / "Licenses/Licenses.log"
    audit = folder / "Repository/Audit"
    licenses.parent.mkdir(parents=True)
    audit.mkdir(parents=True)
    lines = [
        *syncs(NOON - 32 * HOUR, NOON - 30 * HOUR),
        *syncs(NOON - 29 * HOUR, NOON - 6 * HOUR, error=NO_SUCH_HOST),
        *(licenses_line(NOON - 5 * HOUR + age * MINUTE, STALE) for age in range(60)),
        *syncs(NOON - 2 * HOUR, NOON),
    ]
    licenses.write_text("".join(f"{line}\n" for line in lines))
    refused = [refusal(NOON - 5 * HOUR + number * MINUTE, f"kowalska{number}", number=number) for number in range(40)]
    rolled = audit / "QLIKNODE1_AuditSecurity_Repository_2026-11-02T07.30.00Z.log"
    rolled.write_text("".join(f"{line}\r\n" for line in (AUDIT_HEADER, *refused[:20])))
    live = audit / "QLIKNODE1_AuditSecurity_Repository.txt"
    last = audit_row(NOON - MINUTE, "x", "Command=Open app;Result=200;ResultText=Success", "ok", number=99)
    live.write_text("".join(f"{line}\r\n" for line in (AUDIT_HEADER, *refused[20:], last)))
    (folder / "copy.log").write_bytes(rolled.read_bytes())
    return folder


def backfilled(tmp_path: Path, *words: str) -> Path:
    output = tmp_path / "out.om"
    assert main(["backfill", str(incident(tmp_path / "Log")), "-o", str(output), *words]) == 0
    return output


@pytest.mark.slow
def test_the_file_is_openmetrics_with_each_metrics_samples_together_and_in_order(tmp_path, capsys):
    output = backfilled(tmp_path, "--label", 'site=Berlin "Mitte"', "--step", "5m")
    text = output.read_text()
    assert text.endswith("# EOF\n")
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert not [name for name in types if "_probe_" in name or "_qrs_" in name]
    assert {name.removeprefix("qlik_license_exporter_") for name in types if "_exporter_" in name} == {
        "log_records", "log_malformed_records", "log_future_records", "log_last_entry_timestamp_seconds",
    }  # fmt: skip
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(found) == set(types)
    for family in found.values():
        for _, samples in groupby(
            sorted(family.samples, key=lambda s: sorted(s.labels.items())), key=lambda s: s.labels
        ):
            times = [float(sample.timestamp) for sample in samples]
            assert times == sorted(set(times))
            assert all(time % 300 == 0 for time in times)
    ages = found["qlik_license_sync_age_seconds"].samples
    assert ages[0].labels == {"site": 'Berlin "Mitte"'}
    assert "at a step of 5m" in capsys.readouterr().err


@pytest.mark.slow
def test_durable_counters_are_born_at_zero_before_the_first_record(tmp_path):
    families = text_string_to_metric_families(backfilled(tmp_path, "--step", "10m").read_text())
    counters = [family for family in families if family.type == "counter"]
    assert counters
    for family in counters:
        series = {}
        for sample in family.samples:
            series.setdefault(tuple(sample.labels.items()), []).append(sample.value)
        for values in series.values():
            assert values[0] == 0
            assert values == sorted(values)


@pytest.mark.slow
def test_nobody_and_no_machine_is_named_in_it(tmp_path):
    text = backfilled(tmp_path, "--step", "10m").read_text()
    for secret in ("kowalska", "QLIKNODE1", "CONTOSO", "10.0.0.21"):
        assert secret.casefold() not in text.casefold()


@pytest.mark.slow
def test_a_real_prometheus_answers_what_was_known_then(tmp_path):
    output = backfilled(tmp_path, "--label", "job=qlik-license", "--label", "site=berlin")
    data = tmp_path / "data"
    made = subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(output), str(data)],
        capture_output=True, timeout=100, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    config = tmp_path / "prometheus.yml"
    config.write_text("{}\n")
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={address}"]
    with running(tmp_path / "prometheus.log", "prometheus", *flags, "--storage.tsdb.retention.time=100y"):
        eventually("Prometheus is ready", lambda: fetched(f"http://{address}/-/ready"))

        def value(query: str, at: float) -> float | None:
            asked = urllib.parse.urlencode({"query": query, "time": at})
            answer = json.loads(fetched(f"http://{address}/api/v1/query?{asked}"))
            series = answer["data"]["result"]
            return float(series[0]["value"][1]) if series else None

        site = '{job="qlik-license",site="berlin"}'
        assert value(f"qlik_license_stale{site}", NOON - 6 * HOUR) == 0
        assert value(f"qlik_license_stale{site}", NOON - 4 * HOUR) == 1
        assert value(f"qlik_license_stale{site}", NOON - HOUR) == 0
        # The stale verdict took back every inferred success, as Qlik itself said that there was none.
        assert value(f"qlik_license_sync_age_seconds{site}", NOON - 7 * HOUR) == pytest.approx(
            23 * HOUR + 10 * MINUTE, abs=120
        )
        assert value(f"qlik_license_sync_age_seconds{site}", NOON - 4 * HOUR) is None
        assert value(f"qlik_license_sync_age_seconds{site}", NOON - MINUTE) == pytest.approx(9 * MINUTE, abs=120)
        assert value(f"qlik_license_sync_consecutive_failures{site}", NOON - 6 * HOUR) > 100
        users = 'qlik_license_access_denied_users{reason="no_access_pass"}'
        assert value(users, NOON - 5 * HOUR + 45 * MINUTE) == 40
        assert value(users, NOON - 3 * HOUR) == 0
        denials = 'increase(qlik_license_access_denials_total{reason="no_access_pass"}[12h])'
        assert value(denials, NOON - HOUR) == pytest.approx(40, rel=0.02)
        assert value('max by (verdict) (qlik_license_verdict{verdict="license_stale"})', NOON - 4 * HOUR) == 1
        assert value('max by (verdict) (qlik_license_verdict{verdict="well"})', NOON - 31 * HOUR) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--label", "site"], "expected name=value"),
        (["--label", "__name__=x"], "expected name=value"),
        (["--label", "reason=x"], "expected a name that the series do not already have"),
        (["--label", "a=1", "--label", "a=2"], "expected a name that the series do not already have"),
        (["--step", "5"], "expected a duration"),
        (["--step", "1ms"], "expected at least"),
    ],
)
def test_an_unusable_option_is_explained(tmp_path, capsys, words, told):
    output = tmp_path / "out.om"
    assert main(["backfill", str(incident(tmp_path / "Log")), "-o", str(output), *words]) == 2
    assert told in capsys.readouterr().err
    assert not output.exists()


def test_the_step_grows_with_the_history_so_that_its_size_stays_bounded():
    assert step_for((0, 7 * DAY), None) == 60
    assert step_for((0, 365 * DAY), None) == 900
    for days in (1, 30, 90, 1000, 20_000):
        assert days * DAY / step_for((0, days * DAY), None) <= MOST_STEPS
    with pytest.raises(ValueError, match="expected at least 15m"):
        step_for((0, 365 * DAY), "60s")


def test_a_folder_without_logs_writes_nothing_and_says_so(tmp_path, capsys):
    assert main(["backfill", str(tmp_path), "-o", str(tmp_path / "out.om")]) == 1
    assert "no log with a usable time" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_stray_row_of_the_future_neither_stops_the_replay_nor_moves_its_end(tmp_path):
    folder = tmp_path / "Log"
    folder.mkdir()
    lines = [
        *syncs(NOON, NOON + HOUR),
        licenses_line(NOON + 80 * 365 * DAY, "x"),
        *syncs(NOON + 2 * HOUR, NOON + 3 * HOUR),
    ]
    (folder / "Licenses.log").write_text("\n".join(lines) + "\n")
    output = tmp_path / "out.om"
    assert main(["backfill", str(folder), "-o", str(output)]) == 0
    (records,) = [
        family
        for family in text_string_to_metric_families(output.read_text())
        if family.name == "qlik_license_exporter_log_records"
    ]
    mine = [sample for sample in records.samples if sample.labels["log"] == "licenses"]
    assert mine[-1].value == len(lines)
    assert float(mine[-1].timestamp) == NOON + 3 * HOUR


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [2 * HOUR, 48 * HOUR, 400 * DAY])
def test_a_clock_that_was_set_ahead_for_five_minutes_disturbs_nothing_beyond_them(tmp_path, ahead):
    log = tmp_path / "Log/Licenses/l.log"
    log.parent.mkdir(parents=True)
    times = [NOON - 6 * HOUR + 60 * minute for minute in range(360)]
    wrong = range(100, 105)
    log.write_text(
        "".join(
            licenses_line(at + (ahead if number in wrong else 0), ATTEMPT if number % 10 == 0 else "request served")
            + "\n"
            for number, at in enumerate(times)
        )
    )
    output = tmp_path / "out.om"
    assert main(["backfill", str(tmp_path / "Log"), "-o", str(output), "--step", "1m"]) == 0
    found = {family.name: family for family in text_string_to_metric_families(output.read_text())}
    ages = {float(s.timestamp): s.value for s in found["qlik_license_sync_age_seconds"].samples}
    late = {at: age for at, age in ages.items() if age > 25 * MINUTE and NOON - 5 * HOUR < at <= NOON}
    assert not late, "ages never grow beyond the rhythm and the settle time"
    assert len([at for at in ages if at <= NOON]) > 330


def test_diagnose_is_not_deceived_by_a_clock_that_was_set_ahead(tmp_path, capsys):
    log = tmp_path / "Log/Licenses/l.log"
    log.parent.mkdir(parents=True)
    times = [NOON - 6 * HOUR + 60 * minute for minute in range(361)]
    log.write_text(
        "".join(
            licenses_line(at + (48 * HOUR if 100 <= number < 105 else 0), ATTEMPT if number % 10 == 0 else "served")
            + "\n"
            for number, at in enumerate(times)
        )
    )
    assert main(["diagnose", "--json", str(tmp_path / "Log")]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["verdict"] == "well"
    assert "10 min ago" in judged["summary"]
