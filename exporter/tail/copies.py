"""Copies that may still be growing: they are not read until they stop growing or are complete."""

import os

from exporter.logs import files
from exporter.tail.batch import Clock
from exporter.tail.fingerprint import compare_files

QUIET_SECONDS = 30.0
"""Seconds without a change after which a possibly unfinished copy is read as it is, and a renamed or removed file is
final (hazards 2, 41 and 51)."""
MOST_COPIES = 10_000
"""Largest number of paths whose last change is remembered."""


class Copies:
    """The files that may be unfinished copies, with their status and the time of its last change."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[tuple[int, ...], float]] = {}

    def settles(self, path: str, status: os.stat_result) -> bool:
        """Whether the file at `path` may still be growing: it is not known to be unchanged for `QUIET_SECONDS`."""
        seen_as, now = signature(status), self._clock.monotonic()
        before, since = self._seen.get(path, (seen_as, now))
        if len(self._seen) > MOST_COPIES:
            self._seen.clear()
        self._seen[path] = (seen_as, since if before == seen_as else now)
        return now - self._seen[path][1] < QUIET_SECONDS

    def forget(self, path: str) -> None:
        """The file at `path` is being read."""
        self._seen.pop(path, None)


def is_outgrown(copy: int, original: str) -> bool:
    """Whether the open file `copy` is the beginning of the file `original`, or all of it. Raises OSError."""
    try:
        descriptor = files.open_shared(original)
    except FileNotFoundError:
        return False
    try:
        smaller = os.fstat(copy).st_size <= os.fstat(descriptor).st_size
        return smaller and compare_files(copy, descriptor) != "other"
    finally:
        os.close(descriptor)


def signature(status: os.stat_result) -> tuple[int, ...]:
    """The part of a path's status that shows whether the file has changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
