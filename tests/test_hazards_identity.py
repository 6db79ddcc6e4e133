"""Hazards 24 to 40: which file is which."""

import os
import time
from pathlib import Path

import msgspec
import pytest
from tailing import Driven

from exporter.logs import files
from exporter.logs.files import Identity, Root
from exporter.tail.checkpoint import FileCheckpoint, new_checkpoint
from exporter.tail.fingerprint import HEAD


@pytest.mark.parametrize("down", [True, False], ids=["while down", "between polls"])
@pytest.mark.parametrize("lines", [1, 50], ids=["24 smaller", "25 larger"])
def test_hazard_24_and_hazard_25_a_file_number_that_is_used_again(folder: Path, lines: int, down: bool) -> None:
    for attempt in range(30):  # another process on this disk may be quicker to take the number
        (folder / str(attempt)).mkdir()
        driven = Driven(folder / str(attempt)).start()
        driven.write("app.txt", "1\n2\n3\n4\n5\n")
        driven.tick()
        number = os.stat(driven.path("app.txt")).st_ino
        if not down:
            driven.tick(polls=5, seconds=10)  # closed: an open file's number cannot be used again
            assert driven.tail is not None
            assert driven.tail.handles == 0
        else:
            driven.stop()
        driven.remove("app.txt")
        driven.write("app.txt", "".join(f"x{line}\n" for line in range(lines)))
        reused = os.stat(driven.path("app.txt")).st_ino == number
        if down:
            driven.start()
        driven.tick()
        driven.stop()
        assert driven.count == 5 + lines
        if reused:
            return
    pytest.fail("the file number was never used again: this proves nothing")


@pytest.mark.windows
def test_hazard_24_a_closed_files_number_used_again_beside_its_archived_copy(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.tick(polls=2, seconds=40)  # so that the file is closed
    number = os.stat(driven.path("app.txt")).st_ino
    driven.copy("app.txt", "archive/app_20240101T000001Z.log")
    driven.remove("app.txt")
    driven.write("app.txt", "2\n3\n")
    if os.name == "posix":
        assert os.stat(driven.path("app.txt")).st_ino == number
    driven.tick(seconds=400)
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert (driven.rotations, driven.lost) == (1, 0)


@pytest.mark.parametrize("down", [False, True])
def test_a_file_that_is_replaced_by_a_longer_copy_of_itself_goes_on(folder: Path, down: bool) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    if down:
        driven.kill()
    driven.copy("app.txt", "part")  # as rsync does it
    driven.append("part", "2\n")
    os.replace(driven.path("part"), driven.path("app.txt"))
    if down:
        driven.start()
    driven.tick()
    driven.append("app.txt", "3\n")
    driven.tick()
    driven.wait_out()
    assert driven.texts == ["1", "2", "3"]
    assert (driven.rotations, driven.lost) == (0, 0)


def test_a_file_that_is_deleted_and_written_again_is_another_even_with_the_same_content(folder: Path) -> None:
    driven = Driven(folder).start()
    for _ in range(3):
        driven.write("app.txt", "1\n2\n")
        driven.tick()
        driven.remove("app.txt")
        driven.tick()
    assert driven.texts == ["1", "2"] * 3


def test_hazard_26_files_with_the_same_first_kilobytes_are_two(folder: Path) -> None:
    driven = Driven(folder).start()
    head = "H" * 2000 + "\n"
    driven.write("a.txt", head + "1\n")
    driven.write("b.txt", head + "2\n")
    driven.tick()
    driven.append("a.txt", "3\n")
    driven.stop()
    driven.start()
    driven.tick()
    assert driven.count == 5


@pytest.mark.windows
def test_files_with_the_same_content_are_as_many_as_there_are(folder: Path) -> None:
    driven = Driven(folder).start()
    for number in range(1, 31):
        driven.write(f"f{number}.txt", "same\n")
        driven.tick(polls=1)
    driven.stop()
    driven.start()
    driven.tick()
    assert driven.count == 30


@pytest.mark.windows
def test_hazard_28_empty_files_are_silent_and_separate(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven(folder).start()
    for number in range(400):
        driven.write(f"{number}.txt", "")
    driven.tick()
    assert driven.count == 0
    driven.append("123.txt", "x\n")
    driven.tick()
    assert driven.texts == ["x"]
    assert not caplog.records


@pytest.mark.windows
def test_hazard_29_short_files_are_read_at_once(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.tick(polls=1)
    assert driven.texts == ["1"]


@pytest.mark.windows
def test_hazard_30_what_identifies_a_file_grows_with_it(folder: Path) -> None:
    driven = Driven(folder).start()
    for number in range(2 * HEAD // 10):
        driven.append("app.txt", f"{number:09}\n")
        driven.tick(polls=1)
        driven.stop()
        driven.start()
    driven.tick()
    assert driven.texts == [f"{number:09}" for number in range(2 * HEAD // 10)]


def _changed(monkeypatch: pytest.MonkeyPatch, change: dict[str, int]) -> None:
    """Have every status tell other ids."""

    def told(status: os.stat_result) -> Identity:
        ids = {"st_dev": status.st_dev, "st_ino": status.st_ino} | change
        return Identity(str(ids["st_dev"]), str(ids["st_ino"]))

    monkeypatch.setattr(files, "identity", told)


def test_hazard_32_another_device_number_after_a_remount(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n2\n3\n")
    driven.tick()
    driven.stop()
    _changed(monkeypatch, {"st_dev": 99})
    driven.start()
    driven.tick()
    assert driven.count == 3
    assert (driven.rotations, driven.lost) == (0, 0)


@pytest.mark.parametrize("rolled", ["r.log", "app_2024-01-01T00.00.00Z.log"])
def test_hazard_33_without_file_ids_the_content_tells(
    folder: Path, rolled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _changed(monkeypatch, {"st_dev": 0, "st_ino": 0})
    monkeypatch.setattr(files.os, "scandir", _without_numbers(os.scandir))
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n2\n")
    driven.write("b.txt", "3\n4\n")
    driven.tick()
    assert driven.count == 4
    driven.append("app.txt", "5\n")
    driven.move("app.txt", rolled)
    driven.write("app.txt", "6\n")
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3", "4", "5", "6"]


def _without_numbers(scandir):  # type: ignore[no-untyped-def]  # a listing as Windows makes it: hazard 77
    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def inode(self) -> int:
            return 0

    class Entries(list):  # type: ignore[type-arg]  # as above
        def __enter__(self):  # type: ignore[no-untyped-def]
            return self

        def __exit__(self, *error: object) -> None:
            return None

    def listed(path: str) -> Entries:
        with scandir(path) as entries:
            return Entries(Entry(entry.name) for entry in entries)

    return listed


@pytest.mark.windows
@pytest.mark.parametrize("number", [2**64 + 5, 2**127])
def test_hazard_34_file_ids_of_any_width_are_kept(number: int) -> None:
    row = FileCheckpoint(key="k", log="licenses", path="p", device=str(number), number=str(number))
    assert msgspec.json.decode(msgspec.json.encode(row), type=FileCheckpoint).identity == Identity(
        str(number), str(number)
    )


@pytest.mark.windows
def test_hazard_35_creation_times_play_no_part(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "same\n")
    driven.tick()
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "same\n")  # on NTFS it inherits the creation time of the one before
    driven.tick()
    assert driven.count == 2


@pytest.mark.windows
def test_hazard_38_two_spellings_of_one_file_are_one_file(folder: Path) -> None:
    driven = Driven(folder, "A*.TXT", "a*.txt", root=Root("share", False, True)).start()
    driven.write("App.txt", "1\n")
    driven.tick()
    assert driven.texts == ["1"]
    assert driven.tail is not None
    assert driven.tail.status.files == 1


def test_links_to_one_file_are_one_file(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    os.link(driven.path("app.txt"), driven.path("hard.txt"))
    os.symlink(driven.path("app.txt"), driven.path("soft.txt"))
    os.symlink(driven.path("nothing"), driven.path("dangling.txt"))
    os.symlink(driven.path("loop.txt"), driven.path("loop.txt"))
    driven.tick()
    driven.append("hard.txt", "2\n")
    driven.tick()
    driven.remove("app.txt")
    driven.append("hard.txt", "3\n")
    driven.tick()
    driven.wait_out()
    driven.append("hard.txt", "4\n")
    driven.tick()
    assert driven.texts == ["1", "2", "3", "4"]


@pytest.mark.windows
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_hazard_39_brackets_are_letters_and_both_separators_work(folder: Path, separator: str) -> None:
    (folder / "a[1]").mkdir()
    driven = Driven(folder, separator.join(["a[1]", "*.txt"])).start()
    driven.write("a[1]/x.txt", "1\n")
    driven.tick()
    assert driven.texts == ["1"]


@pytest.mark.windows
def test_hazard_39_wildcards_in_folders(folder: Path) -> None:
    driven = Driven(folder, "node?/Lo*/x.txt").start()
    for name in ("node1", "node2", "other"):
        (folder / name / "Log").mkdir(parents=True)
        driven.write(f"{name}/Log/x.txt", f"{name}\n")
    driven.tick()
    assert sorted(driven.texts) == ["node1", "node2"]


def test_hazard_40_a_name_that_still_opens_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder, root=Root("share", network=True, caseless=True)).start()
    driven.append("app.txt", "1\n2\n")
    driven.tick()
    real, stale = files.open_shared, iter([True])
    app, rolled = str(driven.path("app.txt")), str(driven.path("r.log"))
    monkeypatch.setattr(files, "open_shared", lambda path: real(rolled if path == app and next(stale, False) else path))
    driven.append("app.txt", "3\n")
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "4\n5\n")
    driven.tick()
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3", "4", "5"]


@pytest.mark.windows
@pytest.mark.parametrize("when", [0, time.time() + 80 * 365 * 86400], ids=["1970", "the future"])
def test_hazard_79_and_hazard_114_modification_times_play_no_part(folder: Path, when: float) -> None:
    driven = Driven(folder).start()
    for number in range(5):
        driven.append("app.txt", f"{number}\n")
        os.utime(driven.path("app.txt"), (when, when))
        driven.tick()
        driven.tick(polls=4, seconds=11)
    assert driven.count == 5


def test_hazard_79_files_of_more_than_2_gib(folder: Path) -> None:
    driven = Driven(folder)
    with open(driven.path("app.txt"), "wb") as writer:
        writer.truncate(3 << 30)
    with open(driven.path("app.txt"), "rb") as reader:
        row = new_checkpoint("licenses", reader.name, reader.fileno())
    row = msgspec.structs.replace(row, offset=3 << 30, encoding="utf-8")  # as if all of it had been read
    driven.saved[row.key] = msgspec.json.encode(row)
    driven.append("app.txt", "1\n")
    driven.start()
    driven.tick()
    driven.append("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]
