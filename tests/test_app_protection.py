"""What goes wrong around a running exporter: disks, clocks, time zones, locales, dead file systems, dying parts."""

import asyncio
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter import app
from exporter.config import load
from exporter.metrics import METRICS
from exporter.once import exposition_once
from tests.exporting import (
    ExporterProcess,
    Site,
    append,
    append_rows,
    dead_while,
    eventually,
    process,
    series,
    thread,
)
from tests.observed import ATTEMPT, STALE, audit_row, licenses_line, refusal
from tests.probe_peers import closed_port

STALE_ERRORS = 'qlik_license_errors_total{error="stale"}'
VERDICT_AT = "qlik_license_stale_last_verdict_timestamp_seconds"
SAVE_FAILURES = "qlik_license_exporter_state_save_failures_total"
LAST_SAVE = "qlik_license_exporter_state_last_save_timestamp_seconds"
NO_PASS = 'qlik_license_access_denied_users{reason="no_access_pass"}'

CLOCK = """
import time
from pathlib import Path
right = time.time
time.time = lambda: right() + float(Path({file!r}).read_text())
"""
"""A clock that goes wrong by as many seconds as stand in `file`."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than the site's: its own root, with a reader of its own."""
    folder = Path(f"/dev/shm/qlik-test-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir()
    yield folder
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def stopped(exporter: ExporterProcess) -> float:
    """Seconds that a stop takes."""
    began = time.monotonic()
    assert exporter.stop(within=10) == 0
    return time.monotonic() - began


@pytest.mark.slow
def test_on_a_full_disk_gauges_go_on_counters_wait_and_both_recover(site: Site) -> None:
    with process(site) as exporter:
        exporter.await_ready()
        first = time.time()
        append(site.licenses, licenses_line(first, STALE))
        exporter.await_value(STALE_ERRORS, 1)
        resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        append(site.licenses, licenses_line(first + 1, STALE))
        eventually("the verdict is seen", lambda: (exporter.value(VERDICT_AT) or 0) > first + 0.5)
        seen = exporter.metrics()
        assert seen[SAVE_FAILURES] >= 1
        assert seen[STALE_ERRORS] == 1, "what is not saved is not counted"
        assert exporter.ask("/-/ready").status == 200
        resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        append(site.licenses, licenses_line(first + 2, STALE))
        exporter.await_value(STALE_ERRORS, 3)
        assert exporter.stop() == 0
    with process(site) as exporter:
        assert exporter.value(STALE_ERRORS) == 3


def durable(seen: dict[str, float]) -> dict[str, float]:
    """The durable counters among the samples."""
    return {
        name: value
        for name, value in seen.items()
        if (metric := METRICS.get(name.partition("{")[0])) and metric.durable
    }


def await_gauges_without_state(exporter: ExporterProcess, verdict: float) -> None:
    """Returns once the verdict of that instant is seen, although there is no state: and says so everywhere."""
    eventually("the verdict is seen", lambda: (exporter.value(VERDICT_AT) or 0) > verdict - 0.5)
    exporter.await_ready()
    seen = exporter.metrics()
    assert seen["qlik_license_stale"] == 1
    assert not durable(seen), "what is not known is not shown"
    assert "qlik_license_exporter_first_start_timestamp_seconds" not in seen
    assert LAST_SAVE not in seen
    assert seen[SAVE_FAILURES] >= 1
    for page in ("/", "/-/ready"):
        assert "the state cannot be saved; counters are not updated" in exporter.ask(page).text
    assert exporter.ask("/api/v1/status").status == 200


def assert_said_once(exporter: ExporterProcess, failure: str) -> None:
    assert [line.count(failure) for line in exporter.said.splitlines() if "counters are not" in line] == [1]
    assert exporter.said.count("can be saved again") == 1
    assert "Traceback" not in exporter.said


@pytest.mark.slow
def test_a_first_start_on_a_full_disk_goes_on_and_counts_once_there_is_room(site: Site) -> None:
    site.state.parent.mkdir()
    full = (
        f"mount -t tmpfs -o size=1m none '{site.state.parent}'; cat /dev/zero > '{site.state.parent}/ballast' || true"
    )
    first = time.time()
    append(site.licenses, licenses_line(first - 9, STALE))
    with process(site, mounts=full) as exporter:
        await_gauges_without_state(exporter, first - 9)
        append(site.licenses, licenses_line(first, STALE))
        await_gauges_without_state(exporter, first)
        exporter.seen_at(site.state.parent / "ballast").unlink()
        append(site.licenses, licenses_line(first + 1, STALE))
        seen = exporter.await_value(STALE_ERRORS, 2)
        assert seen["qlik_license_exporter_first_start_timestamp_seconds"] >= first
        assert "qlik_license_exporter_state_reset_timestamp_seconds" not in seen
        assert LAST_SAVE in seen
        assert exporter.ask("/-/ready").text == "Ready.\n"
        assert_said_once(exporter, "database or disk is full")


@pytest.mark.slow
def test_a_state_that_cannot_be_written_at_the_start_is_taken_up_later_and_loses_nothing(site: Site) -> None:
    with process(site) as exporter:
        exporter.await_ready()
        append(site.licenses, licenses_line(time.time(), ATTEMPT), licenses_line(time.time(), STALE))
        before = exporter.await_value(STALE_ERRORS, 1)
        assert exporter.stop() == 0
    folder = f"'{site.state.parent}'"
    read_only = f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}"
    append(site.licenses, licenses_line(time.time(), STALE))  # while it is down
    with process(site, mounts=read_only) as exporter:
        now = time.time()
        append(site.licenses, licenses_line(now, STALE))
        await_gauges_without_state(exporter, now)
        exporter.mount("-o", "remount,bind,rw", str(site.state.parent))
        lowest = dict(before)
        while (seen := exporter.metrics()).get(STALE_ERRORS) != 3:
            assert not {name for name, value in durable(seen).items() if value < lowest.get(name, 0)}
            lowest.update(durable(seen))
        exporter.await_ready()
        assert seen["qlik_license_sync_failures_total"] == 1
        first = "qlik_license_exporter_first_start_timestamp_seconds"
        assert seen[first] == before[first]
        assert len(json.loads(exporter.ask("/api/v1/events").text)["events"]) == 2, "none is shown twice"
        assert exporter.stop() == 0
        assert_said_once(exporter, "Read-only file system")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["a file in the way", "a link to nowhere"])
def test_a_state_folder_that_comes_later_is_waited_for(site: Site, way: str) -> None:
    place = site.folder / "share"
    if way == "a file in the way":
        place.touch()
    else:
        place.symlink_to(site.folder / "nowhere")
    site.settings["state"]["file"] = str(place / "state.db")
    with process(site) as exporter:
        now = time.time()
        eventually("it is ready", lambda: exporter.ask("/-/ready").status == 200)
        append(site.licenses, licenses_line(now, STALE))
        await_gauges_without_state(exporter, now)
        place.unlink()
        append(site.licenses, licenses_line(now, STALE))
        exporter.await_value(STALE_ERRORS, 2)
        assert (place / "state.db").exists()


@pytest.mark.slow
def test_a_clock_that_jumps_shows_no_negative_age_and_doubles_nothing(site: Site) -> None:
    clock = site.folder / "clock"
    clock.write_text("0")
    now = time.time()
    site.settings["messages"] = [{"name": "fine", "log": "licenses", "match": "fine", "means": "sync_succeeded"}]
    append(site.licenses, licenses_line(now, "fine"))
    append_rows(site.audit, refusal(now, "user07"))
    with process(site, prelude=CLOCK.format(file=str(clock))) as exporter:
        exporter.await_ready()
        for jump, age, refused in ((86400, 86400, 0), (-86400, 0, 0), (0, 0, 1)):
            (site.folder / "draft").write_text(str(jump))
            (site.folder / "draft").replace(clock)
            seen = exporter.metrics()
            assert age <= seen["qlik_license_sync_age_seconds"] < age + 600, jump
            assert seen[NO_PASS] == refused, jump
            assert seen["qlik_license_sync_last_success_timestamp_seconds"] == pytest.approx(now, abs=0.001)
        append(site.licenses, licenses_line(time.time(), STALE))
        assert (
            exporter.await_value(STALE_ERRORS, 1)['qlik_license_exporter_component_failures_total{component="store"}']
            == 0
        )


def test_the_zone_of_this_machine_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows bring their own offset, and are read alike wherever, also in the hours that a clock change repeats."""
    rows = [
        audit_row(0, f"user{number:02}", "Command=License user access;Result=403;ResultText=Error", "UsageDenied")
        for number in range(3)
    ]
    stamps = ("20241027T023000.000+0200", "20241027T023000.000+0100", "20241102T081732.440+01:00")
    rows = [row.replace("1970-01-01T00:00:00.000+0000", at) for row, at in zip(rows, stamps, strict=True)]
    assert [row.split("\t")[2] for row in rows] == list(stamps)
    append_rows(site.audit, *rows)
    append(site.licenses, licenses_line(1_700_000_000, STALE))
    shown = set()
    for zone in ("UTC", "Asia/Kolkata", "America/St_Johns", "Europe/Berlin"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            seen = series(exposition_once(load(str(site.configured())), ""))
        finally:
            monkeypatch.undo()
            time.tzset()
        shown.add(
            tuple(
                (name, value)
                for name, value in seen.items()
                if "exposition_time" not in name and "last_read" not in name
            )
        )
    (same,) = shown
    assert dict(same)['qlik_license_exporter_log_last_entry_timestamp_seconds{log="repository_audit"}'] == 1730531852.44
    assert dict(same)['qlik_license_access_denials_total{reason="no_access_pass"}'] == 3


@pytest.mark.slow
def test_it_needs_no_home_no_locale_and_no_terminal(tmp_path: Path) -> None:
    site = Site(tmp_path / "Zürich 日本")
    append(site.licenses, licenses_line(time.time(), "Grüße 日本"))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PROGRAMDATA": str(tmp_path)}
    with process(site, environment=environment) as exporter:
        exporter.await_ready()
        append(site.licenses, licenses_line(time.time(), STALE + " ü"))
        exporter.await_value(STALE_ERRORS, 1)
        assert exporter.ask("/").status == 200
        assert exporter.stop() == 0
        assert "Traceback" not in exporter.said


@pytest.mark.slow
def test_a_pipe_or_a_folder_among_the_logs_hinders_nothing(site: Site) -> None:
    os.mkfifo(site.licenses.parent / "pipe.log")
    (site.licenses.parent / "folder.log").mkdir()
    with process(site) as exporter:
        exporter.await_ready()
        append(site.licenses, licenses_line(time.time(), STALE))
        exporter.await_value(STALE_ERRORS, 1)
        assert stopped(exporter) < 3


@pytest.mark.slow
def test_hazard_45_and_hazard_121_and_hazard_122_a_dead_share_delays_only_itself_and_no_stop(
    site: Site, elsewhere: Path
) -> None:
    switch = site.folder / "the server is gone"
    append(elsewhere / "licenses.log", licenses_line(time.time(), ATTEMPT))
    site.settings["logs"]["licenses"]["paths"] = [str(elsewhere / "*.log")]
    prelude = dead_while(switch, elsewhere)
    with process(site, prelude=prelude) as exporter:
        exporter.await_ready()
        switch.touch()
        append(elsewhere / "licenses.log", licenses_line(time.time(), STALE))
        append_rows(site.audit, refusal(time.time(), "user07"))
        exporter.await_value('qlik_license_access_denials_total{reason="no_access_pass"}', 1)
        began = time.monotonic()
        assert exporter.ask("/metrics").status == 200
        assert time.monotonic() - began < 2
        assert stopped(exporter) < 3


@pytest.mark.slow
def test_a_dead_share_at_the_start_keeps_it_from_being_ready_and_from_nothing_else(site: Site, elsewhere: Path) -> None:
    switch = site.folder / "the server is gone"
    switch.touch()
    append(elsewhere / "licenses.log", licenses_line(time.time(), STALE))
    site.settings["logs"]["licenses"]["paths"] = [str(elsewhere / "*.log")]
    append_rows(site.audit, refusal(time.time(), "user07"))
    with process(site, prelude=dead_while(switch, elsewhere)) as exporter:
        exporter.await_value(NO_PASS, 1)
        seen = exporter.metrics()
        assert "qlik_license_stale" not in seen
        ready = exporter.ask("/-/ready")
        assert (ready.status, "licenses" in ready.text, "audit" in ready.text) == (503, True, False)
        assert seen['qlik_license_exporter_component_failures_total{component="tail"}'] == 0
        switch.unlink()
        assert exporter.await_ready().value("qlik_license_stale") == 1
        switch.touch()
        assert stopped(exporter) < 3


@pytest.mark.slow
def test_a_configuration_on_a_dead_share_holds_up_neither_probes_nor_the_stop(site: Site) -> None:
    switch = site.folder / "the server is gone"
    target = f"127.0.0.1:{closed_port()}"
    site.settings["probes"] = [{"target": target, "protocol": "tcp", "proxy": "none", "interval": "1s"}]
    prelude = dead_while(switch, site.config_file)
    with process(site, prelude=prelude) as exporter:
        exporter.await_ready()
        switch.touch()
        exporter.process.send_signal(signal.SIGHUP)
        time_to_look = time.monotonic() + app.SETTLED + 2 * app.WAKE
        attempts = f'qlik_license_probe_attempts_total{{role="other",target="{target}"}}'
        eventually("it has looked", lambda: time.monotonic() > time_to_look)
        before = exporter.value(attempts) or 0
        eventually("it still probes", lambda: (exporter.value(attempts) or 0) > before)
        assert stopped(exporter) < 3


def test_a_part_that_dies_is_counted_and_started_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "RESTART_PAUSE", 0.01)
    starts: list[int] = []

    async def dying(*arguments: Any) -> None:
        starts.append(1)
        if len(starts) < 4:
            raise OSError("no descriptors left")
        await asyncio.sleep(3600)

    monkeypatch.setattr(app, "run_probe", dying)
    site.settings["probes"] = [{"target": "localhost:1"}]
    with thread(site) as exporter:
        exporter.await_value('qlik_license_exporter_component_failures_total{component="probe"}', 3)
        assert exporter.ask("/-/healthy").status == 200


def test_a_failing_answer_is_counted_and_tells_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("secret")

    with thread(site) as exporter:
        exporter.await_ready()
        with monkeypatch.context() as broken_for_now:
            broken_for_now.setattr(app, "judge", broken)
            answer = exporter.ask("/metrics")
            assert answer.status == 200, "what else is known is shown (hazard 107)"
            assert "process_start_time_seconds" in answer.text
            page = exporter.ask("/")
            assert (page.status, "secret" in page.text) == (500, False)
        assert (exporter.value('qlik_license_exporter_component_failures_total{component="web"}') or 0) >= 1
    assert "secret" not in caplog.text
