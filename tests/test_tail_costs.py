"""What tailing costs, in calls with a fifth to spare: many idle files, many lines."""

from pathlib import Path

import pytest
from calls import calls_of
from tailing import Driven

from exporter.tail.listing import History

pytestmark = pytest.mark.slow


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

    def ten_seconds() -> None:
        driven.discover()
        for _ in range(10):
            driven.poll()

    assert calls_of(ten_seconds) < 5_000 * 36, "calls for each file that rests, with one discovery"
    driven.append("0042.txt", "3\n")
    driven.tick(polls=1)
    assert driven.texts[-1] == "3"


@pytest.mark.slow
def test_a_million_lines_flow_through_the_tail(folder: Path) -> None:
    driven = Driven(folder, log="repository_audit")  # one wide row, then lines that are no records: the tail alone
    with open(driven.path("app.txt"), "wb") as writer:
        for _ in range(100):
            writer.write(b"\r\n" * 10_000)
    driven.start()
    calls = calls_of(lambda: driven.tick(polls=1))
    assert sum(batch.read_bytes for batch in driven.batches) == 2_000_000
    assert calls < 10_000


@pytest.mark.slow
def test_hundreds_of_files_that_catch_up_together_take_no_time_for_each_other(folder: Path) -> None:
    driven = Driven(folder, history="restate")
    for number in range(600):
        lines = (
            f'{{"n":{line},"timestamp":"2023-11-14T{line // 60:02}:{line % 60:02}:{number % 60:02}Z"}}\n'
            for line in range(400)
        )
        driven.write(f"{number:03}.txt", "".join(lines))
    driven.start()
    calls = calls_of(lambda: driven.tick(polls=1))
    assert len(driven.records) == 240_000
    assert calls < 240_000 * 60, "calls for each record"
    times = [record.at for record in driven.records]
    assert times == sorted(times)
