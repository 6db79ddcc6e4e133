"""Hazards 1 to 11: files that are renamed and made anew. Numbers are those of the hazard catalogue."""

import errno
import logging
import os
import sys
from pathlib import Path

import pytest
from tailing import Driven

from exporter.logs import files
from exporter.logs.files import Root, open_shared

pytestmark = pytest.mark.windows
ROLLED = "app_2024-01-01T00.00.{:02}Z.log"


def test_hazard_1_the_old_file_is_read_to_its_end_before_the_new_one(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n2\n")
    driven.tick()
    driven.append("app.txt", "3\n")
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "4\n")
    driven.tick()
    assert driven.texts == ["1", "2", "3", "4"]
    assert driven.rotations == 1


def test_hazard_2_what_is_written_to_a_renamed_file_still_counts(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", "r.log")
    driven.poll()
    driven.append("r.log", "2\n")
    driven.write("app.txt", "3\n")
    driven.tick()
    driven.append("r.log", "4\n")
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3", "4"]


def test_hazard_3_a_renamed_file_that_matches_again_is_not_read_twice(folder: Path) -> None:
    driven = Driven(folder, "app*").start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", "app.txt.1")
    driven.append("app.txt.1", "2\n")
    driven.write("app.txt", "3\n")
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "2", "3"]


@pytest.mark.parametrize("gap", [0.0, 3600.0])
def test_hazard_4_a_gap_between_rename_and_create_of_any_length(folder: Path, gap: float) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", "r.log")
    driven.tick()
    driven.tick(seconds=gap / 3)
    driven.write("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]
    assert driven.rotations == 1


def test_hazard_5_the_same_name_with_another_file_is_another_file(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.tick()
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]


def test_hazard_5_also_when_both_hold_the_same_line(folder: Path) -> None:
    driven = Driven(folder).start()
    for number in range(4):
        driven.write("app.txt", "same\n")
        driven.tick()
        driven.move("app.txt", f"r{number}.log")
    driven.tick()
    assert driven.texts == ["same"] * 4


@pytest.mark.parametrize(
    "rolled",
    # A Windows listing tells no file number: there only the names that Qlik gives are searched.
    [ROLLED.format(1)] if sys.platform == "win32" else ["r.log", ROLLED.format(1)],
)
def test_hazard_7_a_roll_while_the_exporter_is_down(folder: Path, rolled: str) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n2\n")
    driven.tick()
    driven.stop()
    driven.append("app.txt", "3\n")
    driven.move("app.txt", rolled)
    driven.write("app.txt", "4\n")
    driven.start()
    driven.tick()
    assert driven.texts == ["1", "2", "3", "4"]
    assert driven.rotations == 1


@pytest.mark.parametrize("moved", [False, True], ids=["beside", "archived"])
@pytest.mark.parametrize("stamp", ["2024-01-01T00.00.{:02}Z", "20240101T0000{:02}Z"])
def test_hazard_7_several_rolls_while_down_wherever_the_files_went(folder: Path, moved: bool, stamp: str) -> None:
    archive = folder / "archive" / "node1"
    archive.mkdir(parents=True)
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.append("app.txt", "0\n")
    driven.tick()
    driven.stop()
    for number in range(1, 6):
        driven.append("app.txt", f"{number}\n")
        rolled = f"app_{stamp.format(number)}.log"
        driven.move("app.txt", rolled)
        if moved:
            driven.copy(rolled, f"archive/node1/{rolled}")  # another volume: copy and delete (hazard 11)
            driven.remove(rolled)
    driven.write("app.txt", "6\n")
    driven.start()
    driven.tick()
    driven.wait_out()
    driven.stop()
    driven.start()
    driven.tick()
    assert driven.texts == [str(number) for number in range(7)]
    assert (driven.rotations, driven.lost) == (5, 0)


def test_hazard_7_several_rolls_between_two_polls(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "0\n")
    driven.tick()
    for number in range(1, 5):
        driven.append("app.txt", f"{number}\n")
        driven.move("app.txt", ROLLED.format(number))
    driven.write("app.txt", "5\n")
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == [str(number) for number in range(6)]
    assert driven.rotations == 4


def test_hazard_8_a_chain_of_numbered_names(folder: Path) -> None:
    driven = Driven(folder, "app*").start()
    for number in range(3):
        driven.append("app.txt", f"{number} before\n")
        driven.tick()
        for place in range(number, 0, -1):
            driven.move(f"app.txt.{place}", f"app.txt.{place + 1}")
        driven.move("app.txt", "app.txt.1")
        driven.append("app.txt", f"{number} after\n")
        driven.tick()
    assert sorted(driven.texts) == sorted(f"{number} {when}" for number in range(3) for when in ("before", "after"))


def test_hazard_9_a_file_that_cannot_be_opened_yet_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = iter(range(3))

    def opening(path: str) -> int:
        if path.endswith("app.txt") and next(refusals, None) is not None:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_shared(path)

    monkeypatch.setattr(files, "open_shared", opening)
    errors: list[int] = []
    driven = Driven(folder, failed=lambda: errors.append(1)).start()
    driven.write("app.txt", "1\n")
    driven.write("other.txt", "2\n")
    with caplog.at_level(logging.INFO):
        driven.tick(polls=1)
        assert driven.texts == ["2"]
        driven.tick(polls=4)
    assert sorted(driven.texts) == ["1", "2"]
    assert len(errors) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_hazard_10_files_that_come_later_are_read_from_their_beginning(folder: Path) -> None:
    driven = Driven(folder, history="restate")
    driven.append("app.txt", "0\n")
    driven.start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "2\n3\n")
    driven.tick()
    assert driven.texts == ["1", "2", "3"]
    assert [record.raw for record in driven.records if not record.counts] == [b"0"]


def test_hazard_11_an_archived_copy_is_not_counted_again(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.append("app.txt", "2\n")
    driven.move("app.txt", ROLLED.format(1))
    driven.copy(ROLLED.format(1), "archive/" + ROLLED.format(1))
    driven.remove(ROLLED.format(1))
    driven.write("app.txt", "3\n")
    driven.tick()
    driven.wait_out()
    driven.stop()
    driven.start()
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert not driven.path(ROLLED.format(1)).exists()


def test_hazard_11_a_copy_that_is_still_being_made_waits(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.append("app.txt", "1\n22\n")
    driven.tick()
    driven.stop()
    content = b"1\n22\n333\n"
    driven.remove("app.txt")
    driven.write("app.txt", "4\n")
    driven.write("archive/" + ROLLED.format(1), b"")
    driven.start()
    for byte in content:
        driven.append("archive/" + ROLLED.format(1), bytes([byte]))
        driven.tick(polls=1, seconds=2)
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "22", "333", "4"]
    assert driven.lost == 0


def test_a_saved_file_that_is_nowhere_counts_as_lost_once(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.stop()
    driven.remove("app.txt")
    driven.write("app.txt", "2\n3\n")
    driven.start()
    driven.tick(polls=6)
    driven.stop()
    driven.start()
    driven.tick(polls=6)
    assert driven.texts == ["1", "2", "3"]
    assert (driven.lost, driven.rotations) == (1, 1)


def test_a_file_that_was_tidied_away_long_after_its_last_line_is_not_lost(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("old.txt", "1\n")
    os.utime(driven.path("old.txt"), (driven.now - 7 * 86400, driven.now - 7 * 86400))
    driven.append("app.txt", "2\n")
    driven.tick()
    driven.stop()
    driven.remove("old.txt")
    driven.start()
    driven.tick(polls=6)
    assert driven.lost == 0


def test_hazard_93_rolls_without_end_leave_handles_and_saved_rows_flat(folder: Path) -> None:
    driven = Driven(folder).start()
    sizes: list[tuple[int, int]] = []
    for number in range(400):  # what could grow by a roll shows after some hundred as well as after ten thousand
        driven.append("app.txt", f"{number}\n")
        driven.tick(polls=1, seconds=8)
        rolled = f"app_20240101T{number // 60:04}{number % 60:02}Z.log"
        driven.move("app.txt", rolled)
        driven.tick(polls=1, seconds=8)
        if number >= 10:
            driven.remove(f"app_20240101T{(number - 10) // 60:04}{(number - 10) % 60:02}Z.log")
        assert driven.tail is not None
        sizes.append((len(driven.saved), driven.tail.handles))
    driven.wait_out()
    assert driven.count == 400
    assert driven.rotations == 400
    assert max(sizes[50:200]) >= max(sizes[200:])
    assert max(size for size, _ in sizes) <= 12
    assert max(handles for _, handles in sizes) <= 12


# --- the archive: late, away, on another root, beside its original --------------------------------------------------

ELSEWHERE = Root("another", False, False)


def _rolled(number: int) -> str:
    return f"app_20240101T00000{number}Z.log"


def _archive(driven: Driven, number: int) -> None:
    """What a move to another volume leaves: a copy, and no original."""
    driven.move("app.txt", _rolled(number))
    driven.copy(_rolled(number), f"archive/{_rolled(number)}")
    driven.remove(_rolled(number))


@pytest.mark.parametrize("archive_root", [None, ELSEWHERE], ids=["the same root", "another root"])
@pytest.mark.parametrize("archive_first", [False, True], ids=["folder first", "archive first"])
def test_hazard_11_a_file_that_goes_straight_to_the_archive_counts_once(
    folder: Path, archive_root: Root | None, archive_first: bool
) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=archive_root).start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.append("app.txt", "2\n")
    _archive(driven, 1)
    driven.write("app.txt", "3\n")
    if archive_first:
        driven.tails.reverse()
    driven.tick()
    driven.wait_out()
    driven.tick(seconds=400)
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert (driven.rotations, driven.lost) == (1, 0)


@pytest.mark.parametrize("archive_first", [False, True], ids=["folder first", "archive first"])
def test_a_roll_while_down_counts_once_wherever_the_process_is_killed_between_two_roots(
    folder: Path, archive_first: bool
) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=ELSEWHERE).start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.kill()
    driven.append("app.txt", "2\n")
    _archive(driven, 1)
    driven.write("app.txt", "3\n")
    for _ in range(3):
        driven.start()
        driven.discover_in(driven.tails[archive_first])
        driven.kill()
    driven.start()
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert (driven.rotations, driven.lost) == (1, 0)


@pytest.mark.parametrize("archive_root", [None, ELSEWHERE], ids=["the same root", "another root"])
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_hazard_43_an_archive_that_is_made_for_the_first_roll_holds_no_history(
    folder: Path, archive_root: Root | None, down: bool
) -> None:
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=archive_root).start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.tick()
    if down:
        driven.kill()
    (folder / "archive").mkdir()
    for number in (1, 2):
        _archive(driven, number)
        driven.write("app.txt", f"{number + 1}\n")
    if down:
        driven.start()
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert (driven.rotations, driven.lost) == (2, 0)


def test_generations_in_an_archive_that_is_away_for_long_are_not_taken_for_done(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=ELSEWHERE).start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.kill()
    for number in (1, 2):
        driven.append("app.txt", f"{number * 10}\n")
        _archive(driven, number)
    driven.append("app.txt", "30\n")
    driven.move("app.txt", _rolled(3))
    driven.move("archive", "away")
    driven.start()
    driven.tick()
    driven.wait_out()
    driven.tick(seconds=400)
    assert driven.lost == 0
    driven.move("away", "archive")
    driven.tick(seconds=400)
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "10", "20", "30"]
    assert (driven.rotations, driven.lost) == (3, 0)


def test_hazard_11_half_a_copy_is_not_read_while_its_original_is_there(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive")).start()
    driven.tick()
    driven.append("app.txt", "a" * 700 + "\n")
    driven.tick()
    driven.tick(polls=2, seconds=40)  # so that the file is closed
    _archive(driven, 1)
    driven.write("app.txt", "2\n3\n")
    driven.move("app.txt", _rolled(2))
    driven.write(f"archive/{_rolled(2)}", "2\n")  # stalls there for a minute
    driven.tick(polls=6, seconds=12)
    driven.copy(_rolled(2), f"archive/{_rolled(2)}")
    driven.remove(_rolled(2))
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["2", "3", "a" * 700]
    assert driven.lost == 0


def test_hazard_46_more_rolls_between_two_polls_than_handles(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive"), most_handles=8).start()
    driven.tick()
    driven.append("app.txt", "0\n")
    driven.tick()
    for number in range(1, 60):
        place = "archive/" if number % 3 else ""
        driven.move("app.txt", f"{place}app_20240101T0000{number:02}Z.log")
        driven.write("app.txt", f"{number}\n")
    driven.tick()
    driven.wait_out()
    assert sorted(map(int, driven.texts)) == list(range(60))
    assert (driven.rotations, driven.lost) == (59, 0)


def test_what_cannot_be_opened_for_a_while_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.kill()

    def refuse(path: str) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "open_shared", refuse)
    driven.start()
    driven.tick(polls=6, seconds=10)
    monkeypatch.undo()
    driven.append("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]
    assert driven.lost == 0


def test_what_was_moved_into_a_late_archive_from_before_the_first_start_is_history(folder: Path) -> None:
    driven = Driven(folder, archive=str(folder / "archive"))
    driven.start()
    driven.tick()
    driven.append("app.txt", "1\n")
    driven.tick()
    (folder / "archive").mkdir()
    driven.write(f"archive/{_rolled(1)}", "old\n")
    long_ago = driven.now - 86_400
    os.utime(driven.path(f"archive/{_rolled(1)}"), (long_ago, long_ago))
    driven.append("app.txt", "2\n")
    _archive(driven, 2)
    driven.write("app.txt", "3\n")
    driven.tick()
    driven.wait_out()
    driven.tick(seconds=400)
    assert sorted(driven.texts) == ["1", "2", "3"]


def test_two_roots_that_are_first_listed_at_once_are_both_saved_as_listed(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=ELSEWHERE, history="restate")
    driven.write("app.txt", "old\n")
    driven.start()
    of_the_archive = list(driven.tails[1].discover())
    of_the_folder = next(driven.tails[0].discover())
    for batch in (of_the_folder, *of_the_archive):
        driven.commit(batch)
    driven.kill()
    driven.append("app.txt", "2\n")
    driven.start()
    driven.tick()
    assert driven.texts == ["2"]
