"""What the tail does so that it costs little, waits for copies, and forgets: each mechanism has a test that needs it."""

import os
from pathlib import Path
from typing import Any

import pytest
from tailing import Driven

from exporter.logs import files
from exporter.logs.files import Root, Rotated
from exporter.tail.batch import Batch
from exporter.tail.checkpoint import FileCheckpoint
from exporter.tail.logfile import LogFile
from exporter.tail.table import MOST_REMEMBERED, REMEMBERED_SECONDS, FileTable
from exporter.tail.tail import LOOK_SECONDS

ROLLED = "app_20240101T0000{:02}Z.log"


def _opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    opened: list[str] = []
    real = files.open_shared
    monkeypatch.setattr(files, "open_shared", lambda path: opened.append(os.path.basename(path)) or real(path))
    return opened


def test_a_name_that_a_file_has_left_is_looked_at_in_each_poll(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", "r.log")
    driven.tick()
    assert driven.tail is not None
    assert not driven.tail.needs_discovery
    driven.append("app.txt", "2\n")
    driven.commit(driven.tail.poll())
    assert driven.tail.needs_discovery, "a new file has come"


def test_the_archive_is_listed_again_only_when_something_was_missed_or_after_five_minutes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda path: listed.append(os.path.basename(path)) or real(path))
    driven.tick(polls=10, seconds=10)
    assert "archive" not in listed
    driven.tick(polls=1, seconds=300)
    assert listed.count("archive") == 1
    driven.move("app.txt", "r.log")
    driven.tick(polls=1)
    assert listed.count("archive") > 1, "a file has left its name"


def test_half_a_copy_of_a_file_that_is_read_through_its_handle_waits_however_long_it_takes(folder: Path) -> None:
    (folder / "archive").mkdir()
    (folder / "elsewhere").mkdir()
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.append("app.txt", "1\n2\n3\n")
    driven.tick()
    with open(driven.path("app.txt"), "ab", 0) as writer:
        driven.move("app.txt", "elsewhere/app.txt")
        driven.write(f"archive/{ROLLED.format(1)}", "1\n2\n")
        for _ in range(6):  # the writer goes on, so the file is not final; the copy stalls for a minute
            writer.write(b"more\n")
            driven.tick(polls=1, seconds=12)
    driven.copy("elsewhere/app.txt", f"archive/{ROLLED.format(1)}")
    driven.remove("elsewhere/app.txt")
    driven.wait_out()
    driven.tick(polls=2, seconds=400)
    assert driven.texts == ["1", "2", "3"] + ["more"] * 6
    assert driven.lost == 0


@pytest.mark.slow
def test_lost_files_are_forgotten_beyond_a_number_and_after_a_week(folder: Path) -> None:
    driven = Driven(folder).start()
    for number in range(MOST_REMEMBERED + 30):
        driven.append("app.txt", f"{number} {'x' * number}\n")
        driven.tick(polls=1)
        os.truncate(driven.path("app.txt"), 0)
    driven.tick(polls=6, seconds=10)
    assert MOST_REMEMBERED <= len(driven.saved) <= MOST_REMEMBERED + 3
    driven.tick(polls=1, seconds=REMEMBERED_SECONDS)
    assert len(driven.saved) <= 3


def test_old_files_of_an_archive_are_not_opened_at_each_search_for_a_lost_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "archive").mkdir()
    for number in range(20):
        (folder / "archive" / ROLLED.format(number)).write_text(f"old {number}\n")
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.stop()
    driven.remove("app.txt")
    driven.start()
    driven.tick(polls=6)
    assert driven.lost == 1
    opened = _opened(monkeypatch)
    driven.tick(polls=3, seconds=400)
    assert not opened


def test_two_readers_that_begin_with_one_rotated_file_are_told_apart() -> None:
    table, rotated = FileTable("licenses"), Rotated("app", "20240101T000001")
    one, other = (
        LogFile(FileCheckpoint(key=key, log="licenses", path=f"{key}/app_20240101T000001Z.log"), "rotated", key)
        for key in ("one", "other")
    )
    seen_by_one = table.relatives("app_20240101T000001Z.log", rotated, "one").version
    seen_by_other = table.relatives("app_20240101T000001Z.log", rotated, "other").version
    assert table.claim(one, rotated, seen_by_one)
    assert not table.claim(other, rotated, seen_by_other)
    assert not table.claim(other, rotated, table.relatives("x", rotated, "other").version), "the name is taken"


def test_a_file_that_another_reader_let_go_since_is_not_read_again() -> None:
    table, rotated = FileTable("licenses"), Rotated("app", "20240101T000001")
    held = LogFile(FileCheckpoint(key="held", log="licenses", path="app.txt", offset=2), "live", "one")
    table.add(held)
    seen = table.relatives("app_20240101T000001Z.log", rotated, "other")
    assert not seen.missing
    table.move(held, "missing")
    archived = LogFile(FileCheckpoint(key="a", log="licenses", path="app_20240101T000001Z.log"), "rotated", "other")
    assert not table.claim(archived, rotated, seen.version)
    assert table.relatives("app_20240101T000001Z.log", rotated, "other").unsettled
    assert not table.adopt(held, "other", "rotated"), "what was found of it is not committed yet"
    table.settle("one")
    assert table.adopt(held, "other", "rotated")
    assert not table.adopt(held, "one", "live"), "another reader holds it"


def test_a_final_or_missing_file_of_another_root_is_saved_by_its_own_reader_first() -> None:
    table = FileTable("licenses")
    table.add_root("one")
    table.add_root("other")
    file = LogFile(FileCheckpoint(key="f", log="licenses", path="app_20240101T000001Z.log", offset=2), "rotated", "one")
    table.add(file)
    table.name(Rotated("app", "20240101T000001"), file)
    table.save(file, Batch("licenses", "one"))
    table.move(file, "final")
    batch = Batch("licenses", "other")
    table.forget_old(REMEMBERED_SECONDS * 10, batch)
    assert not batch.forgotten
    table.settle("one")
    table.forget_old(REMEMBERED_SECONDS * 10, batch)
    assert batch.forgotten == {"f"}


def test_no_read_asks_for_more_than_fits_into_a_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", ("x" * 2000 + "\n") * 2000)
    asked: list[int] = []
    real = files.read_at

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        asked.append(size)
        return real(descriptor, offset, size)

    monkeypatch.setattr(files, "read_at", read_at)
    driven.tick(polls=4)
    assert driven.count == 2000
    assert 1 << 16 <= max(asked) < 100_000


def test_no_more_files_are_open_than_may_be(folder: Path) -> None:
    driven = Driven(folder, most_handles=8).start()
    for number in range(40):
        driven.append(f"{number}.txt", f"{number}\n")
    driven.tick()
    assert driven.count == 40
    assert 0 < driven.handles <= 8
    for number in range(40):
        driven.append(f"{number}.txt", "more\n")
    driven.tick()
    assert driven.count == 80
    assert 0 < driven.handles <= 8


def test_of_files_that_would_have_to_be_found_again_only_one_is_closed_for_another(folder: Path) -> None:
    driven = Driven(folder, most_handles=32).start()
    for number in range(32):
        driven.append(f"{number}.txt", f"{number}\n")
    driven.tick()
    assert driven.handles == 32
    for number in range(32):
        driven.move(f"{number}.txt", f"{number}.away")
    driven.append("new.txt", "new\n")
    driven.poll()  # all are found to have left
    driven.discover()
    assert driven.handles == 32
    driven.tick()
    assert driven.count == 33


def test_a_rename_while_records_are_read_ahead_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.tail.tail.BATCH_BYTES", 1024)
    driven = Driven(folder).start()
    line = '{{"n":{},"pad":"{}","timestamp":"2024-01-01T00:00:{:02}.{:03}Z"}}\n'
    for name, pad in (("app.txt", ""), ("b.txt", "x" * 100)):
        lines = (line.format(number, pad, number // 20, number % 20) for number in range(1000))
        driven.append(name, "".join(lines))
    driven.discover()
    assert driven.tail is not None
    driven.commit(driven.tail.poll())
    assert 0 < driven.count < 2000, "the rest is read, and not handed over"
    driven.move("app.txt", ROLLED.format(1))
    driven.discover()
    driven.commit(driven.tail.poll())
    driven.append("app.txt", line.format(0, "", 59, 0))
    driven.tick()
    driven.wait_out()
    assert (driven.count, driven.rotations, driven.lost) == (2001, 1, 0)


def test_a_link_that_goes_is_no_rotation(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    os.link(driven.path("app.txt"), driven.path("link.txt"))
    driven.tick()
    driven.remove("app.txt")
    driven.append("link.txt", "2\n")
    driven.tick()
    driven.wait_out()
    assert driven.texts == ["1", "2"]
    assert (driven.rotations, driven.lost) == (0, 0)


def test_a_rotated_name_that_is_a_link_to_a_live_file_is_not_read(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    os.link(driven.path("app.txt"), driven.path(ROLLED.format(1)))
    driven.tick()
    assert driven.texts == ["1"]
    driven.append("app.txt", "2\n")
    driven.remove("app.txt")
    driven.append("app.txt", "3\n")
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert (driven.rotations, driven.lost) == (1, 0)


def test_a_file_that_is_rotated_while_a_link_to_it_stays_live_counts_once(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    os.link(driven.path("app.txt"), driven.path("link.txt"))
    driven.move("app.txt", ROLLED.format(1))
    driven.tick()
    driven.wait_out()
    driven.append("link.txt", "2\n")
    driven.tick(polls=4, seconds=40)
    assert driven.texts == ["1", "2"]


@pytest.mark.parametrize("seconds", [1, 100], ids=["while it is read", "when it is final"])
def test_a_file_whose_new_name_is_unknown_counts_as_rotated_when_another_has_its_path(
    folder: Path, seconds: float
) -> None:
    (folder / "elsewhere").mkdir()
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", "elsewhere/app.txt")
    driven.tick(seconds=seconds)
    assert driven.rotations == 0
    driven.append("app.txt", "2\n")
    driven.tick()
    driven.wait_out()
    assert driven.texts == ["1", "2"]
    assert (driven.rotations, driven.lost) == (1, 0)


def test_an_archived_file_waits_until_the_reader_of_its_folder_has_looked(folder: Path) -> None:
    (folder / "archive").mkdir()
    archive_root = Root("another", network=False, caseless=False)
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=archive_root).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", f"archive/{ROLLED.format(1)}")
    driven.now += 400  # so that the archive is searched, although nobody has missed anything yet
    driven.discover_in(driven.tails[1])
    driven.commit(driven.tails[1].poll())
    driven.tick()
    driven.wait_out()
    assert driven.texts == ["1"]
    assert (driven.rotations, driven.lost) == (1, 0)


def test_idle_files_are_closed_and_not_opened_again_by_discovery(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder).start()
    for number in range(10):
        driven.append(f"{number}.txt", "1\n")
    driven.tick(polls=5, seconds=10)
    assert driven.handles == 0
    opened = _opened(monkeypatch)
    driven.tick(polls=5, seconds=10)
    assert len(opened) <= 10, "once for each, to see that it is still the same"
    opened.clear()
    driven.tick(polls=5, seconds=10)
    assert not opened
    driven.append("3.txt", "2\n")
    driven.tick(polls=1)
    assert driven.texts[-1] == "2"


def test_a_huge_line_gets_what_the_other_files_leave_of_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.tail.tail.BATCH_BYTES", 4 << 20)
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.write("huge.txt", b"x" * (32 << 20))
    driven.discover()
    assert driven.tail is not None
    polls = 0
    while driven.tail.behind:
        driven.commit(driven.tail.poll())
        polls += 1
    assert polls < 12, "about 4 MiB each"


def test_a_file_that_cannot_be_read_does_not_hold_up_readiness_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.discover()

    def refuse(descriptor: int, offset: int, size: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "read_at", refuse)
    assert driven.tail is not None
    ready = []
    for _ in range(4):
        driven.commit(driven.tail.poll())
        ready.append(driven.batches[-1].caught_up)
    assert ready == [False, False, True, True]


def test_while_there_is_more_to_read_files_without_more_are_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at a file is a call to the file system, and polls follow each other immediately then."""
    driven = Driven(folder).start()
    for number in range(20):
        driven.write(f"{number}.txt", f"{number}\n")
    driven.write("large.txt", ("x" * 200 + "\n") * 50_000)
    driven.discover()
    assert driven.tail is not None
    looks = 0
    real = os.stat

    def stat(*arguments: Any, **named: Any) -> os.stat_result:
        nonlocal looks
        looks += 1
        return real(*arguments, **named)

    monkeypatch.setattr(os, "stat", stat)
    driven.commit(driven.tail.poll())
    assert looks >= 20
    first = looks
    while driven.tail.behind:
        driven.now += LOOK_SECONDS / 10
        driven.commit(driven.tail.poll())
    assert driven.count == 50_020
    assert looks == first
    driven.append("3.txt", "more\n")
    driven.poll()
    assert driven.count == 50_021
