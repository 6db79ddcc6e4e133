"""The ledger: what it publishes when, what it does while saving fails, and how it bears what hangs or breaks."""

import errno
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter import ledger as ledger_module
from exporter import placement
from exporter.account import account
from exporter.config import AuditLogConfig, Config, Duration, LicensesLogConfig, LogsConfig, TraceLogConfig
from exporter.events import AccessDenied, LogEvent, LogName, ProbeFinished, SyncAttempted
from exporter.ledger import Ledger, Pace
from exporter.license import Rules
from exporter.logs import files
from exporter.logs.files import Root
from exporter.store import Store, StoreLockedError
from exporter.tail import tail as tail_module
from exporter.tail.batch import Batch, Clock

DEADLINE = 20.0


def recognise(log: LogName, records: Any) -> list[tuple[str, LogEvent | None]]:
    found: list[tuple[str, LogEvent | None]] = []
    for record in records:
        if b"attempt" in record.raw:
            found.append(("sync_attempted", SyncAttempted()))
        elif b"refused" in record.raw:
            found.append(("access_denied", AccessDenied("no_access_pass", record.raw.decode())))
        else:
            found.append(("unknown", None))
    return found


RULES = Rules(recognise)
READS_NOTHING = LogsConfig(
    licenses=LicensesLogConfig(enabled=False),
    repository_audit=AuditLogConfig(enabled=False),
    repository_trace=TraceLogConfig(enabled=False),
)


def _config(folder: Path, *paths: str, **options: Any) -> Config:
    return Config(
        logs=LogsConfig(
            licenses=LicensesLogConfig(paths=tuple(str(folder / path) for path in paths or ("*.txt",))),
            repository_audit=AuditLogConfig(enabled=False),
            repository_trace=TraceLogConfig(enabled=False),
        ),
        poll_interval=Duration(0.1),
        discovery_interval=Duration(0.1),
        history="count",
        **options,
    )


def _ledger(folder: Path, rules: Rules = RULES, **options: Any) -> Ledger:
    return Ledger(folder / "state" / "state.db", rules, **options)


def _saved(folder: Path, table: str) -> dict[str, bytes]:
    """What the state file holds, as another process reads it."""
    database = sqlite3.connect(folder / "state" / "state.db")
    try:
        return dict(database.execute(f"SELECT * FROM {table}").fetchall())
    finally:
        database.close()


def _raw_into(noted: list[bytes]) -> Callable[[LogName, list[Any], Any], None]:
    return lambda log, records, recognised: noted.extend(record.raw for record in records)


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.01)


def _append(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "ab") as file:
        file.write(text.encode())


def _counted(ledger: Ledger) -> int:
    assert ledger.published.counted
    return ledger.published.counted.log_counters("licenses").records


def _read_bytes(ledger: Ledger) -> int:
    """Those that are shown."""
    assert ledger.published.counted
    return ledger.published.counted.log_counters("licenses").read_bytes


def _seen(ledger: Ledger) -> int:
    return ledger.published.state.log_counters("licenses").records


def test_records_are_counted_and_kept_over_restarts(folder: Path) -> None:
    for round_ in range(1, 4):
        noted: list[bytes] = []
        ledger = _ledger(folder, noted=_raw_into(noted))
        ledger.start(_config(folder))
        _append(folder, "app.txt", "1\n2\n")
        _until(lambda ledger=ledger, round_=round_: _counted(ledger) == 2 * round_, "both lines counted")
        ledger.stop()
        assert noted == [b"1", b"2"]
    assert ledger.published.counted.log_counters("licenses").read_bytes == 12


def test_figures_tell_of_files_and_of_what_hinders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _append(folder, "app.txt", "1\n")
    _append(folder, "denied.txt", "1\n")
    real = files.open_shared

    def opening(path: str) -> int:
        if path.endswith("denied.txt"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(files, "open_shared", opening)
    ledger = _ledger(folder)
    ledger.start(_config(folder))
    _until(lambda: ledger.figures()["licenses"].read_errors >= 3, "errors counted")
    figures = ledger.figures()["licenses"]
    assert figures.files == 1
    assert figures.paths == (str(folder / "*.txt"),)
    assert figures.problem == f"{folder / 'denied.txt'}: Permission denied (this process runs as {account()})"
    monkeypatch.setattr(files, "open_shared", real)
    _until(lambda: ledger.figures()["licenses"].files == 2 and _counted(ledger) == 2, "the file read after all")
    assert ledger.figures()["licenses"].problem == ""
    assert ledger.figures()["licenses"].last_read is not None
    assert ledger.figures()["licenses"].listed
    ledger.stop()


def test_while_saving_fails_gauges_go_on_counters_wait_and_recovery_is_automatic(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = _ledger(folder, pace=Pace(busy=0.01, retry=0.05))
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: _counted(ledger) == 1, "the first line counted")
    saved = ledger.saving.last_save
    other = sqlite3.connect(folder / "state" / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    _append(folder, "app.txt", "2\n3\n")
    _until(lambda: _seen(ledger) == 3, "the fold goes on")
    _append(folder, "app.txt", "4 attempt\n")
    _until(lambda: ledger.published.state.last_attempt, "gauges follow")
    assert _counted(ledger) == 1
    assert ledger.published.counted.last_attempt is None
    assert ledger.saving.last_save == saved
    _until(lambda: ledger.saving.failures >= 3, "each failure counted")
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    other.execute("ROLLBACK")
    other.close()
    _until(lambda: _counted(ledger) == 4, "recovery without help")
    ledger.stop()
    again = _ledger(folder)
    assert _counted(again) == 4
    again.stop()


@pytest.mark.slow
def test_a_state_file_that_another_program_keeps_locked_holds_up_neither_start_nor_stop(folder: Path) -> None:
    _ledger(folder).stop()
    other = sqlite3.connect(folder / "state" / "state.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    ledger = _ledger(folder)
    ledger.start(_config(folder))
    assert time.monotonic() - began < 1
    _append(folder, "app.txt", "1\n")
    _until(lambda: _seen(ledger) == 1, "gauges go on")
    began = time.monotonic()
    ledger.stop()
    assert time.monotonic() - began < 2.5
    other.execute("ROLLBACK")
    other.close()
    again = _ledger(folder)
    again.start(_config(folder))
    _until(lambda: _counted(again) == 1, "read again and counted once")
    again.stop()


def test_a_kill_while_saving_fails_loses_and_doubles_nothing(folder: Path) -> None:
    ledger = _ledger(folder, pace=Pace(busy=0.01))
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: _counted(ledger) == 1, "the first line counted")
    other = sqlite3.connect(folder / "state" / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    _append(folder, "app.txt", "2\n")
    _until(lambda: _seen(ledger) == 2, "the fold goes on")
    ledger.stop()  # its last save fails, too
    other.execute("ROLLBACK")
    other.close()
    again = _ledger(folder)
    assert _counted(again) == 1
    again.start(_config(folder))
    _until(lambda: _counted(again) == 2, "read again")
    again.stop()


@pytest.mark.slow
def test_a_pending_sync_is_settled_by_silence(folder: Path) -> None:
    now = [1_700_000_000.0]
    ledger = _ledger(folder, clock=Clock(lambda: now[0], time.monotonic))
    ledger.start(_config(folder))
    _append(folder, "app.txt", '{"message":"attempt","timestamp":"2023-11-14T22:13:20Z"}\n')
    _until(lambda: ledger.published.state.settle_due(), "an attempt pending")
    now[0] += 89
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert not ledger.published.state.last_success()
        time.sleep(0.02)
    now[0] += 2
    _until(lambda: ledger.published.counted.last_success(), "settled and saved")
    assert ledger.published.counted.last_success() == (1_700_000_000.0, "inferred")
    ledger.stop()


@pytest.mark.slow
def test_hazard_45_a_stuck_root_delays_only_itself_and_no_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    real = os.scandir

    def scandir(path: str):  # type: ignore[no-untyped-def]  # as os.scandir
        if "stuck" in str(path):
            release.wait(30)
        return real(path)

    monkeypatch.setattr(files.os, "scandir", scandir)
    monkeypatch.setattr(placement, "root_of", lambda path: Root("stuck" if "stuck" in path else "well", False, False))
    monkeypatch.setattr("exporter.tail.reader.STUCK_SECONDS", 0.2)
    _append(folder, "stuck/app.txt", "1\n")
    _append(folder, "well/app.txt", "2\n")
    before = threading.active_count()
    ledger = _ledger(folder)
    ledger.start(_config(folder, "stuck/*.txt", "well/*.txt"))
    _until(lambda: _counted(ledger) == 1, "the other root read")
    _until(lambda: "no response from stuck" in ledger.figures()["licenses"].problem, "told")
    assert not ledger.figures()["licenses"].listed
    for _ in range(50):
        began = time.monotonic()
        ledger.figures()
        assert time.monotonic() - began < 0.2
    ledger.reconfigure(_config(folder, "stuck/*.txt", "well/*.txt"), RULES)
    _append(folder, "well/app.txt", "3\n")
    _until(lambda: _counted(ledger) == 2, "the other root goes on")
    assert threading.active_count() == before + 3, "the committer, and never two readers for one root"
    release.set()
    _until(lambda: _counted(ledger) == 3, "caught up once it answers")
    release.clear()
    time.sleep(0.3)
    began = time.monotonic()
    ledger.stop()
    assert time.monotonic() - began < 3
    release.set()


@pytest.mark.slow
def test_hazard_121_a_stop_while_a_read_hangs_takes_less_than_3_seconds_and_saves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, hung = threading.Event(), threading.Event()
    real = files.read_at

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        if hung.is_set():
            release.wait(30)
        return real(descriptor, offset, size)

    monkeypatch.setattr(files, "read_at", read_at)
    ledger = _ledger(folder)
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: _counted(ledger) == 1, "counted")
    ledger.submit_event(ProbeFinished("t:1", "other", 5.0, True))
    hung.set()
    time.sleep(0.2)
    began = time.monotonic()
    ledger.stop()
    assert time.monotonic() - began < 3
    release.set()
    again = _ledger(folder)
    assert again.published.counted.probe_success == {"t:1": 5.0}
    again.stop()


def test_other_settings_take_effect_and_nothing_counts_twice(folder: Path) -> None:
    ledger = _ledger(folder)
    _append(folder, "a.txt", "1\n")
    _append(folder, "b.txt", "2\n")
    ledger.start(_config(folder, "a*.txt"))
    _until(lambda: _counted(ledger) == 1, "the first pattern")
    for _ in range(5):
        ledger.reconfigure(_config(folder, "a*.txt", "b*.txt"), RULES)
        _append(folder, "a.txt", "3\n")
    _until(lambda: _counted(ledger) == 7, "both patterns")
    _until(lambda: ledger.figures()["licenses"].files == 2, "both files told")
    ledger.stop()
    again = _ledger(folder)
    assert _counted(again) == 7
    again.stop()


def test_a_record_that_the_fold_cannot_bear_stops_no_other(folder: Path) -> None:
    def faulty(log: LogName, records: Any) -> list[tuple[str, LogEvent | None]]:
        if any(b"poison" in record.raw for record in records):
            raise RuntimeError("a fault of ours")
        return recognise(log, records)

    ledger = _ledger(folder, Rules(faulty))
    _append(folder, "app.txt", "1\npoison\n2\n")
    ledger.start(_config(folder))
    _until(lambda: _counted(ledger) == 2, "the others counted")
    assert ledger.component_failures["store"] >= 1
    ledger.stop()


def test_reading_that_dies_begins_anew_and_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.tail.reader.PAUSE_SECONDS", 0.05)
    real, failing = tail_module.Tail.poll, [2]

    def poll(self: tail_module.Tail) -> tail_module.Batch:
        if failing[0]:
            failing[0] -= 1
            raise RuntimeError("a fault of ours")
        return real(self)

    monkeypatch.setattr(tail_module.Tail, "poll", poll)
    ledger = _ledger(folder)
    _append(folder, "app.txt", "1\n")
    ledger.start(_config(folder))
    _until(lambda: _counted(ledger) == 1, "read after all")
    assert ledger.component_failures["tail"] == 2
    ledger.stop()


def test_the_state_is_saved_every_five_minutes_also_when_nothing_changes(folder: Path) -> None:
    ledger = _ledger(folder, pace=Pace(save=0.2))
    ledger.start(_config(folder))
    first = ledger.saving.last_save
    assert first is not None
    _until(lambda: (ledger.saving.last_save or 0) > first + 0.5, "saved again and again")
    ledger.stop()


def test_refused_users_are_kept_and_a_commit_writes_only_what_it_changed(folder: Path) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60))
    ledger = _ledger(folder)
    _append(
        folder,
        "app.txt",
        "".join(f'{{"message":"refused {number}","timestamp":"{stamp}"}}\n' for number in range(2_000)),
    )
    ledger.start(_config(folder))
    _until(lambda: _counted(ledger) == 2_000, "counted")
    assert ledger.published.counted.refused_users("no_access_pass", now) == 2_000
    before = _saved(folder, "state")
    _append(folder, "app.txt", f'{{"message":"refused again","timestamp":"{stamp}"}}\n')
    _until(lambda: _counted(ledger) == 2_001, "counted")
    ledger.stop()
    after = _saved(folder, "state")
    assert len([name for name in after if "license.refused" in name and after[name] != before[name]]) == 1
    assert len([name for name in after if "license.refused" in name]) > 200
    again = _ledger(folder)
    assert again.published.counted.refused_users("no_access_pass", now) == 2_001
    assert again.published.counted.key == ledger.published.counted.key
    again.stop()


def _of_an_older_release(folder: Path, *statements: str) -> None:
    """Make the state file one of the release before digests, and change it by `statements`."""
    database = sqlite3.connect(folder / "state" / "state.db", isolation_level=None)
    for statement in (*statements, "ALTER TABLE saves DROP COLUMN digest", "PRAGMA user_version = 2"):
        database.execute(statement)
    database.close()


def test_a_state_of_the_wrong_shape_is_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = _ledger(folder)
    ledger.stop()
    for sql in (
        "UPDATE state SET value = CAST('[1]' AS BLOB) WHERE name = 'license.counters'",
        "INSERT INTO files VALUES ('file:x', CAST('{\"key\": 5}' AS BLOB))",
        "INSERT INTO files VALUES ('book:other', CAST('{}' AS BLOB))",
    ):
        caplog.clear()
        _of_an_older_release(folder, sql)
        ledger = _ledger(folder)
        assert ledger.saving.reset is not None
        assert "is damaged" in caplog.text
        ledger.stop()


def test_states_of_an_older_release_take_defaults_for_what_they_lack(folder: Path) -> None:
    ledger = _ledger(folder)
    key = ledger.published.counted.key
    ledger.stop()
    _of_an_older_release(
        folder,
        "DELETE FROM state WHERE name = 'license.probe_success'",
        "INSERT INTO state VALUES ('license.of_another_release', CAST('5' AS BLOB))",
    )
    ledger = _ledger(folder)
    assert ledger.published.counted.key == key
    assert ledger.saving.reset is None
    ledger.stop()


def test_the_state_file_and_what_lies_beside_it_is_private(folder: Path) -> None:
    ledger = _ledger(folder)
    for name in os.listdir(folder / "state"):
        assert stat.S_IMODE(os.stat(folder / "state" / name).st_mode) == 0o600, name
    assert stat.S_IMODE(os.stat(folder / "state").st_mode) == 0o700
    ledger.stop()


def test_a_flood_of_events_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MOST_EVENTS", 10)
    go_on = threading.Event()

    def step(name: str) -> None:
        if name == "saved":
            go_on.wait(DEADLINE)

    ledger = _ledger(folder, pace=Pace(open=0.01), step=step)
    for number in range(1000):
        ledger.submit_event(ProbeFinished(f"t{number}:1", "other", float(number), True))
    go_on.set()
    ledger.start(_config(folder))
    _until(lambda: ledger.published.counted and "t999:1" in ledger.published.counted.probe_success, "the newest folded")
    assert len(ledger.published.counted.probe_success) == 10
    ledger.stop()


def test_a_log_is_read_to_its_end_only_once_its_numbers_are_shown(folder: Path) -> None:
    started: list[Ledger] = []
    seen = []

    def step(name: str) -> None:
        for one in started if name == "saved" else ():
            shown, figures = one.published.counted, one.figures().get("licenses")
            if figures is not None:
                seen.append((figures.listed, shown is not None and "licenses" in shown.caught_up))

    ledger = _ledger(folder, step=step)
    _append(folder, "app.txt", "1\n2\n")
    started.append(ledger)
    ledger.start(_config(folder))
    _until(lambda: ledger.figures()["licenses"].listed, "read to the end")
    assert _counted(ledger) == 2
    ledger.stop()
    assert (False, False) in seen
    assert (True, False) not in seen


def test_a_reader_goes_on_while_the_state_is_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = _ledger(folder)
    ledger.start(Config(logs=READS_NOTHING))
    real, go_on = Store.save, threading.Event()

    def save(*arguments: Any) -> None:
        go_on.wait(DEADLINE)
        real(*arguments)

    monkeypatch.setattr(Store, "save", save)
    assert ledger.submit(Batch("licenses", "root", read_bytes=1), ledger.epoch)
    assert ledger.published.state.log_counters("licenses").read_bytes == 1
    assert _read_bytes(ledger) == 0
    go_on.set()
    _until(lambda: _read_bytes(ledger) == 1, "saved")
    ledger.stop()


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_while_a_reader_is_behind_several_batches_are_saved_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    ledger = _ledger(folder, pace=Pace(pending=DEADLINE if stopped else 0.5))
    ledger.start(Config(logs=READS_NOTHING))
    saves = []
    real = Store.save
    monkeypatch.setattr(Store, "save", lambda *arguments: (saves.append(0), real(*arguments)))
    for _ in range(20):
        assert ledger.submit(Batch("licenses", "root", read_bytes=1, behind=True), ledger.epoch)
    assert ledger.published.state.log_counters("licenses").read_bytes == 20
    assert _read_bytes(ledger) < 20
    if stopped:
        ledger.stop()
    # Even if no other batch follows: its reader may hang.
    _until(lambda: _read_bytes(ledger) == 20, "saved")
    assert len(saves) < 5
    assert ledger.submit(Batch("licenses", "root", read_bytes=1, behind=True), ledger.epoch) != stopped
    if not stopped:
        assert ledger.submit(Batch("licenses", "root", read_bytes=1), ledger.epoch)
        _until(lambda: _read_bytes(ledger) == 22, "saved at once")
        ledger.stop()


def test_rows_are_what_the_tail_made_of_them(folder: Path) -> None:
    ledger = _ledger(folder)
    _append(folder, "app.txt", "1\n2\nhalf")
    ledger.start(_config(folder))
    _until(lambda: _counted(ledger) == 2, "counted")
    ledger.stop()
    rows = [msgspec.json.decode(row) for key, row in _saved(folder, "files").items() if key.startswith("file:")]
    assert [(row["offset"], row["path"]) for row in rows] == [(4, str(folder / "app.txt"))]


def test_files_that_move_to_another_root_are_read_on_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ["before"]
    monkeypatch.setattr(placement, "root_of", lambda path: Root(where[0], False, False))
    ledger = _ledger(folder)
    _append(folder, "app.txt", "1\n")
    ledger.start(_config(folder))
    _until(lambda: _counted(ledger) == 1, "counted")
    where[0] = "after"  # a share was mounted over the folder
    _until(lambda: any("after" in thread.name for thread in threading.enumerate()), "a reader for the new root")
    _append(folder, "app.txt", "2\n")
    _until(lambda: _counted(ledger) == 2, "read on")
    _until(lambda: ledger.figures()["licenses"].files == 1, "told once")
    ledger.stop()


def test_an_archive_on_another_root_is_searched_by_its_own_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "archive").mkdir()
    monkeypatch.setattr(placement, "root_of", lambda path: Root("share" if "archive" in path else "disk", False, False))
    config = _config(folder)
    licenses = msgspec.structs.replace(config.logs.licenses, archive=str(folder / "archive"))
    config = msgspec.structs.replace(config, logs=msgspec.structs.replace(config.logs, licenses=licenses))
    ledger = _ledger(folder)
    _append(folder, "app.txt", "1\n")
    ledger.start(config)
    _until(lambda: _counted(ledger) == 1 and ledger.figures()["licenses"].listed, "counted")
    _until(lambda: str(folder / "archive") in str(_saved(folder, "files").get("book:licenses")), "the archive listed")
    ledger.stop()
    _append(folder, "app.txt", "2\n")
    os.rename(folder / "app.txt", folder / "archive" / "app_20240101T000000Z.log")
    _append(folder, "archive/app_20240101T000001Z.log", "3\n")
    _append(folder, "app.txt", "4\n")
    ledger = _ledger(folder)
    ledger.start(config)
    _until(lambda: _counted(ledger) == 4, "all generations read")
    counters = ledger.published.counted.log_counters("licenses")
    assert (counters.rotations, counters.lost_generations) == (2, 0)
    ledger.stop()


def test_a_full_disk_stops_neither_reading_nor_the_process(folder: Path) -> None:
    import resource  # not on Windows

    ledger = _ledger(folder)
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: _counted(ledger) == 1, "counted")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow beyond: what SQLite meets is a full disk
    try:
        _append(folder, "app.txt", "2\n")
        _until(lambda: _seen(ledger) == 2 and ledger.saving.failures, "the fold goes on")
        assert _counted(ledger) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _append(folder, "app.txt", "3\n")
    _until(lambda: _counted(ledger) == 3, "recovery without help")
    ledger.stop()


def _out_of_reach(folder: Path) -> Callable[[], None]:
    """Has the state folder be out of reach, as where a share is not there yet; what it returns brings it back.

    In one step, so that no folder can be made in its place meanwhile.
    """
    if (folder / "state").exists():
        os.rename(folder / "state", folder / "away")
    (folder / "state").symlink_to(folder / "not there")

    def back() -> None:
        (folder / "away").mkdir(exist_ok=True)
        (folder / "there").symlink_to(folder / "away")
        os.replace(folder / "there", folder / "state")

    return back


def test_without_a_state_file_gauges_go_on_and_what_comes_is_counted_once_there_is_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    back = _out_of_reach(folder)
    noted: list[bytes] = []
    ledger = _ledger(folder, pace=Pace(retry=0.05), noted=_raw_into(noted))
    assert ledger.published.counted is None
    ledger.start(msgspec.structs.replace(_config(folder), history="restate"))
    _until(lambda: ledger.figures()["licenses"].listed, "listed")
    _append(folder, "app.txt", "1 attempt\n")
    _until(lambda: ledger.published.state.last_attempt, "gauges follow")
    _until(lambda: ledger.saving.failures >= 3, "each failure counted")
    assert (ledger.published.counted, ledger.saving.first_start, ledger.saving.last_save, ledger.saving.works) == (
        None,
        None,
        None,
        False,
    )
    back()
    _until(lambda: ledger.published.counted, "the state file made without help")
    assert _counted(ledger) == 1
    assert (ledger.saving.reset, ledger.saving.works) == (None, True)
    _append(folder, "app.txt", "2\n")
    _until(lambda: _counted(ledger) == 2, "counted on")
    assert noted == [b"1 attempt", b"2"]
    ledger.stop()
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["ERROR", "INFO"], said
    again = _ledger(folder, pace=Pace(retry=0.05))
    assert _counted(again) == 2
    again.stop()


def test_a_state_file_that_comes_late_takes_the_place_of_what_was_folded_without_it(folder: Path) -> None:
    noted: list[bytes] = []
    options: dict[str, Any] = {
        "noted": _raw_into(noted),
        "restarted": noted.clear,
    }
    ledger = _ledger(folder, pace=Pace(retry=0.05), **options)
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n2\n")
    _until(lambda: _counted(ledger) == 2, "counted")
    ledger.stop()
    key = ledger.published.state.key
    back = _out_of_reach(folder)
    _append(folder, "app.txt", "3\n")
    ledger = _ledger(folder, pace=Pace(retry=0.05), **options)
    ledger.start(_config(folder))
    _until(lambda: _seen(ledger) == 3, "everything read, for the gauges")
    _append(folder, "app.txt", "4\n")
    _until(lambda: _seen(ledger) == 4, "and followed")
    assert ledger.published.counted is None
    back()
    seen: list[int] = []

    def counted() -> int:
        if ledger.published.counted is None:
            return 0
        seen.append(_counted(ledger))
        return seen[-1]

    _until(lambda: counted() == 4, "each line counted once")
    assert seen == sorted(seen)
    assert seen[0] >= 2
    assert ledger.published.state.key == key
    ledger.stop()
    assert noted == [b"3", b"4"], "none is noted twice"
    again = _ledger(folder, pace=Pace(retry=0.05))
    assert _counted(again) == 4
    again.stop()


def test_a_state_file_that_another_process_has_is_an_error_at_the_start_and_waited_for_later(folder: Path) -> None:
    holder = Store(folder / "state" / "state.db")
    with pytest.raises(StoreLockedError):
        _ledger(folder, pace=Pace(retry=0.05))
    holder.close()
    back = _out_of_reach(folder)
    ledger = _ledger(folder, pace=Pace(retry=0.05))
    holder = Store(folder / "away" / "state.db")
    ledger.start(_config(folder))
    back()
    failures = ledger.saving.failures
    _until(lambda: ledger.saving.failures >= failures + 2, "refused")
    assert ledger.published.counted is None
    holder.close()
    _until(lambda: ledger.saving.works, "taken over")
    ledger.stop()


def test_a_fault_between_folding_and_saving_loses_and_doubles_nothing(folder: Path) -> None:
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if name == "folded" and steps.count("read") == 2 and "fault" not in steps:
            steps.append("fault")
            raise RuntimeError("a fault of ours")

    ledger = _ledger(folder, pace=Pace(retry=0.3), step=step)
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: _counted(ledger) == 1, "counted")
    _append(folder, "app.txt", "2\n")
    _until(lambda: "fault" in steps, "the fault")
    _append(folder, "app.txt", "3\n")  # read on by a tail that believes 2 to be counted
    _until(lambda: _counted(ledger) == 3, "all counted after all")
    assert ledger.component_failures["store"] == 1
    ledger.stop()


def test_a_file_whose_name_is_no_text_is_counted_and_stops_no_other(folder: Path) -> None:
    """Any bytes but `/` and NUL are a file's name on Linux, and any 16 bits on Windows."""
    name = os.fsdecode(b"app\xff.txt")
    for counted in (2, 4):
        ledger = _ledger(folder)
        ledger.start(_config(folder))
        _append(folder, name, "1\n")
        _append(folder, "app.txt", "2\n")
        _until(lambda ledger=ledger, counted=counted: _counted(ledger) == counted, "both counted")
        assert ledger.component_failures["store"] == 0
        ledger.stop()


@pytest.mark.slow
def test_a_fault_that_stays_is_tried_now_and_then_only_and_holds_up_no_stop(folder: Path) -> None:
    def step(name: str) -> None:
        if name == "folded" and (folder / "app.txt").exists():
            raise RuntimeError("a fault of ours")

    ledger = _ledger(folder, step=step)
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: ledger.component_failures["store"], "failed")
    time.sleep(0.5)
    assert ledger.component_failures["store"] == 1
    began = time.monotonic()
    ledger.stop()
    assert time.monotonic() - began < 3


def test_hazard_88_a_name_that_a_scanner_holds_delays_the_state_file_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = os.replace, [3]

    def replace(source: Any, target: Any) -> None:
        if held[0]:
            held[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    ledger = _ledger(folder, pace=Pace(retry=0.05))
    ledger.start(_config(folder))
    _append(folder, "app.txt", "1\n")
    _until(lambda: ledger.saving.works and _counted(ledger) == 1, "saved and counted")
    assert ledger.saving.failures == 3
    ledger.stop()
    assert sorted(os.listdir(folder / "state")) == ["state.db", "state.db.lock"]


def test_what_follows_a_batch_that_was_not_folded_is_void(folder: Path) -> None:
    """Else its offset would be saved, and the batch before it be lost."""
    faults: list[Exception] = []

    def step(name: str) -> None:
        if name == "folded" and faults:
            raise faults.pop()

    ledger = _ledger(folder, pace=Pace(retry=0.05), step=step)
    ledger.start(Config(logs=READS_NOTHING))
    epoch = ledger.epoch
    faults.append(RuntimeError("a fault of ours"))
    assert not ledger.submit(Batch("licenses", "root", read_bytes=1), epoch)
    assert not ledger.submit(Batch("licenses", "root", read_bytes=2), epoch)
    _until(lambda: ledger.epoch == epoch + 2, "placed anew")
    assert ledger.submit(Batch("licenses", "root", read_bytes=4), ledger.epoch)
    _until(lambda: _read_bytes(ledger) == 4, "saved")
    ledger.stop()
