"""What tailing costs: many idle files, many lines.

In calls, with a fifth to spare; and how it grows in seconds of the same process, since loops without calls do not count.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import calls_of
from tailing import Driven

from exporter.tail.listing import History

pytestmark = pytest.mark.slow


def seconds_of(work: Callable[[], object]) -> float:
    """The processor time that `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def ten_seconds_of(driven: Driven) -> None:
    """What happens in ten seconds without news."""
    driven.discover()
    for _ in range(10):
        driven.poll()


@pytest.mark.slow
@pytest.mark.parametrize("history", ["count", "restate"])
def test_hazard_132_5000_idle_files_are_not_held_and_hardly_looked_at(folder: Path, history: History) -> None:
    driven = Driven(folder, history=history)
    for number in range(5_000):
        driven.write(f"{number:04}.txt", "1\n2\n")
    driven.start()
    calls = calls_of(lambda: driven.tick(polls=1))
    assert len(driven.records) == 10_000
    assert calls < 5_000 * 660, "calls for each file, found and read"
    driven.tick(polls=5, seconds=11)
    assert driven.tail is not None
    assert driven.tail.handles == 0
    assert calls_of(lambda: ten_seconds_of(driven)) < 5_000 * 36, "calls for each file that rests, with one discovery"
    driven.append("0042.txt", "3\n")
    driven.tick(polls=1)
    assert driven.texts[-1] == "3"


@pytest.mark.slow
def test_four_times_as_many_files_take_four_times_as_long_to_find_and_to_look_at_not_sixteen(folder: Path) -> None:
    def seconds(count: int) -> tuple[float, float]:
        (folder / str(count)).mkdir()
        driven = Driven(folder / str(count))
        for number in range(count):
            driven.write(f"{number:04}.txt", "1\n2\n")
        driven.start()
        first = seconds_of(lambda: driven.tick(polls=1))
        assert len(driven.records) == 2 * count
        driven.tick(polls=5, seconds=11)
        resting = min(seconds_of(lambda: ten_seconds_of(driven)) for _ in range(5))
        driven.stop()
        return first, resting

    (few_first, few_resting), (first, resting) = seconds(1_250), seconds(5_000)
    assert first < 10 * few_first
    assert resting < 10 * few_resting


@pytest.mark.slow
def test_a_million_lines_flow_through_the_tail(folder: Path) -> None:
    driven = Driven(folder, log="repository_audit")  # lines that are no records: the tail alone
    with open(driven.path("app.txt"), "wb") as writer:
        for _ in range(100):
            writer.write(b"\r\n" * 10_000)
    driven.start()
    calls = calls_of(lambda: driven.tick(polls=1))
    assert sum(batch.read_bytes for batch in driven.batches) == 2_000_000
    assert calls < 10_000


def catching_up(folder: Path, files: int, lines: int) -> Driven:
    """A tail that is about to read so many files, whose entries have to be merged."""
    folder.mkdir()
    driven = Driven(folder, history="restate")
    for number in range(files):
        entries = (
            f'{{"n":{line},"timestamp":"2023-11-14T{line // 60:02}:{line % 60:02}:{number % 60:02}Z"}}\n'
            for line in range(lines)
        )
        driven.write(f"{number:03}.txt", "".join(entries))
    return driven.start()


@pytest.mark.slow
def test_hundreds_of_files_that_catch_up_together_take_no_time_for_each_other(folder: Path) -> None:
    driven = catching_up(folder / "counted", 600, 400)
    calls = calls_of(lambda: driven.tick(polls=1))
    assert len(driven.records) == 240_000
    assert calls < 240_000 * 60, "calls for each record"
    times = [record.at for record in driven.records]
    assert times == sorted(times)
    many = catching_up(folder / "many", 600, 400)
    few = catching_up(folder / "few", 150, 1_440)
    for_few, for_many = seconds_of(lambda: few.tick(polls=1)), seconds_of(lambda: many.tick(polls=1))
    assert for_many / len(many.records) < 3 * for_few / len(few.records)
