"""Answers come before reading: while metrics or a page are made, readers pause between two reads.

Python runs one thread at a time. Without this, a scrape during catching up takes turns with the reader, and two to four
times as long.
"""

import contextlib
import threading
from collections.abc import Iterator

LONGEST_PAUSE = 0.02
"""Seconds of a pause between two reads, so that no number of requests stops reading."""

_idle = threading.Event()
_idle.set()


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """While an answer is made. Used by one thread at a time."""
    _idle.clear()
    try:
        yield
    finally:
        _idle.set()


def give_way() -> None:
    """Pause while an answer is made."""
    _idle.wait(LONGEST_PAUSE)
