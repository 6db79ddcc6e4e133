"""The tail beyond the hazards: history, merging by time, rolled generations of every kind, limits, single readings."""

import itertools
import os
import time
from pathlib import Path

import pytest
from tailing import Driven

from exporter.logs import files
from exporter.logs.files import Pattern
from exporter.tail import tail as tail_module
from exporter.tail.tail import read_once

pytestmark = pytest.mark.windows


def _line(second: float, text: str = "m") -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(1_700_000_000 + second)) + f"{(20 + second) % 60:09.6f}Z"
    return f'{{"message":"{text}","timestamp":"{stamp}"}}\n'


# --- history ---------------------------------------------------------------------------------------------------------


def test_history_restates_and_never_counts_through_any_restart(folder: Path) -> None:
    driven = Driven(folder, history="restate")
    driven.write("app.txt", "1\n2\nhal")
    driven.start()
    driven.discover()
    driven.kill()  # the marks are saved, nothing is read yet
    driven.append("app.txt", "f\n3\n")
    driven.start()
    driven.tick()
    driven.kill()
    driven.start()
    driven.append("app.txt", "4\n")
    driven.tick()
    assert driven.texts == ["half", "3", "4"]
    assert [record.raw for record in driven.records if not record.counts] == [b"1", b"2"]


def test_history_that_is_ignored_is_not_even_told(folder: Path) -> None:
    driven = Driven(folder, history="ignore")
    driven.write("app.txt", "1\n2\nhal")
    driven.start()
    driven.tick()
    driven.append("app.txt", "f\n3\n")
    driven.tick()
    assert [record.raw for record in driven.records] == [b"half", b"3"]


def test_history_that_counts(folder: Path) -> None:
    driven = Driven(folder, history="count")
    driven.write("app.txt", "1\n2\n")
    driven.start()
    driven.tick()
    assert driven.texts == ["1", "2"]


def test_a_pattern_added_later_brings_history_and_the_first_does_not(folder: Path) -> None:
    driven = Driven(folder, "a*.txt", history="restate").start()
    driven.tick()
    driven.write("a.txt", "1\n")
    driven.write("b.txt", "old\n")
    driven.tick()
    driven.stop()
    driven.patterns.append(Pattern(os.path.join(folder, "b*.txt")))
    driven.start()
    driven.tick()
    driven.append("b.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]


def test_a_header_row_at_the_mark_makes_nothing_count(folder: Path) -> None:
    header = "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2\r\n"
    row = "{}\t20240101T000001.000+0000\tINFO\tnode\tRepository\t1\tid\tqlik\tm\tsum\r\n"
    driven = Driven(folder, log="repository_trace", history="restate")
    driven.write("app.txt", header + row.format(1))
    driven.start()
    driven.discover()
    driven.append("app.txt", header + row.format(2))
    driven.tick()
    assert [record.counts for record in driven.records] == [False, True]


def test_rolled_generations_that_were_there_at_the_first_listing_are_not_read(folder: Path) -> None:
    driven = Driven(folder, history="count")
    driven.write("app_2024-01-01T00.00.00Z.log", "old\n")
    driven.write("app.txt", "1\n")
    driven.start()
    driven.tick()
    driven.move("app.txt", "app_2024-01-01T00.00.01Z.log")
    driven.write("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]


# --- order and limits ------------------------------------------------------------------------------------------------


def test_files_that_catch_up_are_merged_by_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "BATCH_BYTES", 16 * 1024)
    driven = Driven(folder)
    for file in range(3):
        driven.write(f"{file}.txt", "".join(_line(3 * number + file) for number in range(2000)))
    driven.start()
    driven.tick()
    times = [record.at for record in driven.records]
    assert len(times) == 6000
    assert times == sorted(times)
    assert max(batch.read_bytes for batch in driven.batches) < 64 * 1024


def test_records_wait_a_minute_at_most_for_older_ones_that_a_huge_file_may_still_hold(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "BATCH_BYTES", 16 * 1024)
    driven = Driven(folder).start()
    driven.append("app.txt", _line(0, "first"))
    driven.tick()
    driven.write("huge.txt", "".join(_line(number / 1000, "old") for number in range(1, 40_000)))
    driven.append("app.txt", _line(50, "new"))
    driven.discover()
    assert driven.tail is not None
    for _ in range(59):
        driven.now += 1
        driven.commit(driven.tail.poll())
    assert "new" not in [record.message for record in driven.records]
    for _ in range(2):
        driven.now += 1
        driven.commit(driven.tail.poll())
    assert "new" in [record.message for record in driven.records]
    assert driven.tail.behind, "the huge file is still being read"
    driven.poll()
    assert driven.count == 40_001


def test_rolled_generations_are_read_in_order(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", _line(0))
    driven.tick()
    driven.stop()
    for number in range(1, 6):
        driven.append("app.txt", _line(number * 10) + _line(number * 10 + 1))
        driven.move("app.txt", f"app_2024-01-01T00.00.0{number}Z.log")
    driven.append("app.txt", _line(60))
    driven.start()
    driven.tick()
    times = [record.at for record in driven.records]
    assert times == sorted(times)
    assert len(times) == 12


def test_a_record_without_time_takes_its_predecessors_else_the_files(folder: Path) -> None:
    driven = Driven(folder)
    driven.write("app.txt", "none\n" + _line(7) + "none\n")
    os.utime(driven.path("app.txt"), (1_600_000_000, 1_600_000_000))
    driven.start()
    driven.tick()
    driven.stop()
    driven.start()
    driven.append("app.txt", "none\n")
    driven.tick()
    assert [record.at for record in driven.records] == [1_600_000_000, 1_700_000_007, 1_700_000_007, 1_700_000_007]


def test_a_partly_delivered_read_is_read_on_exactly_after_a_kill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "BATCH_BYTES", 8 * 1024)
    driven = Driven(folder)
    for file in range(3):
        driven.write(f"{file}.txt", "".join(_line(number * (file + 1), f"{file}-{number}") for number in range(500)))
    for _ in itertools.count():
        driven.start()
        driven.discover()
        assert driven.tail is not None
        batch = driven.tail.poll()
        driven.commit(batch)
        if batch.empty:
            break
        driven.tail.poll()  # read and never saved: the process is killed
        driven.kill()
    messages = [record.message for record in driven.records]
    assert sorted(messages) == sorted(f"{file}-{number}" for file in range(3) for number in range(500))


# --- single readings -------------------------------------------------------------------------------------------------


def test_a_single_reading_reads_everything_there_is(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder)
    driven.write("archive/app_2024-01-01T00.00.00Z.log", _line(0))
    driven.write("app_20240101T000001Z.log", _line(1))
    driven.write("app.txt", _line(2) + "tail")
    pattern = Pattern(os.path.join(folder, "*.txt"))
    batches = list(read_once("licenses", [pattern], archive=str(folder / "archive"), final=False))
    assert [record.at for batch in batches for record in batch.records] == [
        1_700_000_000 + second for second in range(3)
    ]
    assert all(record.counts for batch in batches for record in batch.records)


def test_a_single_reading_of_given_files_takes_their_last_line_too(folder: Path) -> None:
    driven = Driven(folder)
    driven.write("app[1].log", "1\n2")
    driven.write("app1.log", "other\n")
    batches = list(read_once("licenses", [Pattern.literal(str(driven.path("app[1].log")))]))
    assert [record.raw for batch in batches for record in batch.records] == [b"1", b"2"]


def test_a_single_reading_tells_what_it_could_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Driven(folder).write("app.txt", "1\n")

    def refuse(path: str) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "open_shared", refuse)
    batches = list(read_once("licenses", [Pattern(os.path.join(folder, "*.txt"))]))
    assert [trouble.denied for trouble in batches[-1].unreadable] == [True]


# --- several writers -------------------------------------------------------------------------------------------------


def test_files_count_as_growing_for_a_quarter_of_an_hour_after_an_append_and_history_does_not(folder: Path) -> None:
    driven = Driven(folder, history="restate")
    driven.write("a.txt", "1\n2\n")
    driven.write("b.txt", "1\n")
    driven.start()
    driven.tick()
    assert driven.tail is not None
    assert driven.tail.status.growing == 0, "what was there before the first start"
    driven.append("a.txt", "3\n")
    driven.tick()
    assert driven.tail.status.growing == 1
    driven.append("b.txt", "2\n")
    driven.write("c.txt", "1\n")
    driven.tick()
    assert driven.tail.status.growing == 3
    driven.tick(polls=1, seconds=800)
    driven.append("b.txt", "3\n")
    driven.tick()
    driven.tick(polls=2, seconds=100)
    assert driven.tail.status.growing == 1, "b alone, the others are silent"
