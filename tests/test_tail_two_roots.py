"""One log on two roots: the threads of both readers use one table of files, at the same time."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tailing import Driven

from exporter.logs.files import Root
from exporter.tail.tail import Tail

ROLLS = 10
STEMS = [f"app{number}" for number in range(60)]


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Threads that take turns after nearly every step, so that what can go wrong between two does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.usefixtures("restless_threads")
def test_two_readers_of_one_log_at_the_same_time_count_each_record_once(folder: Path) -> None:
    (folder / "archive").mkdir()
    driven = Driven(folder, archive=str(folder / "archive"), archive_root=Root("another", False, False)).start()
    driven.tick()
    stop, committing = threading.Event(), threading.Lock()
    failures: list[Exception] = []

    def read(tail: Tail) -> None:
        try:
            while not stop.is_set():
                for batch in tail.discover():
                    with committing:
                        driven.commit(batch)
                batch = tail.poll()
                with committing:
                    driven.commit(batch)
        except Exception as error:  # whatever it is, the test tells
            failures.append(error)

    threads = [threading.Thread(target=read, args=(tail,)) for tail in driven.tails]
    for thread in threads:
        thread.start()
    for number in range(ROLLS):
        for stem in STEMS:
            driven.append(f"{stem}.txt", f"{number} of {stem}\n")
            rolled = f"{stem}_20240101T0000{number:02}Z.log"
            driven.move(f"{stem}.txt", rolled)
            if number % 3 == 0:
                driven.copy(rolled, f"archive/{rolled}")
                driven.remove(rolled)
            elif number % 3 == 1:
                driven.move(rolled, f"archive/{rolled}")
            driven.now += 0.1
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    driven.tick(polls=8, seconds=100)
    assert sorted(driven.texts) == sorted(f"{number} of {stem}" for number in range(ROLLS) for stem in STEMS)
    assert driven.lost == 0
