"""Merging: the parsed records of several files in the order of their times."""

import heapq
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

from exporter.logs.records import are_history, joined_all
from exporter.tail.cursor import Parsed
from exporter.tail.logfile import LogFile, rotated_as


class Taken(NamedTuple):
    """The result of `Merge.take`."""

    records: Sequence[Any]
    read_bytes: int
    history_bytes: int
    """How many of those bytes were history."""
    files: list[LogFile]
    """Those whose checkpoints moved."""


class Merge:
    """The files with parsed records. The cost of a step depends on the files it takes from, not on all files."""

    def __init__(self) -> None:
        self._heads: list[tuple[float, tuple[bool, str, str], int, LogFile, Parsed]] = []
        """By the time of the next record."""
        self._ends: list[tuple[float, int, LogFile, Parsed]] = []
        """By the time of the last parsed record, if there is more to read after it."""
        self._number = 0

    def add(self, file: LogFile) -> None:
        """Add a file that has parsed records."""
        parsed = file.cursor.parsed
        assert parsed is not None  # noqa: S101  # that is what this is called for
        self._number += 1
        heapq.heappush(self._heads, (parsed.next_key, age_order(file), self._number, file, parsed))
        if file.cursor.behind:
            heapq.heappush(self._ends, (parsed.last_key, self._number, file, parsed))

    def take(self) -> Taken:
        """The records that are no later than any still to come. Add every file with more to read before."""
        while self._ends and self._ends[0][2].cursor.parsed is not self._ends[0][3]:
            heapq.heappop(self._ends)
        horizon = self._ends[0][0] if self._ends else float("inf")
        keys: list[Sequence[float]] = []
        parts: list[Sequence[Any]] = []
        read = history = 0
        moved: list[LogFile] = []
        while self._heads and self._heads[0][0] <= horizon:
            *_, file, parsed = heapq.heappop(self._heads)
            if file.cursor.parsed is not parsed:
                continue  # the file was closed: it will be read again
            count = parsed.up_to(horizon)
            keys.append(parsed.keys[parsed.done : count])
            taken, length = file.take(count)
            parts.append(taken)
            read += length
            history += length if are_history(taken) else 0
            moved.append(file)
            if file.cursor.parsed is not None:
                self._number += 1
                heapq.heappush(self._heads, (parsed.next_key, age_order(file), self._number, file, parsed))
        if all(before[-1] <= after[0] for before, after in pairwise(keys)):  # as of rotated files
            return Taken(joined_all(parts), read, history, moved)
        records, times = list(chain.from_iterable(parts)), list(chain.from_iterable(keys))
        return Taken([records[at] for at in sorted(range(len(times)), key=times.__getitem__)], read, history, moved)


def take_alone(file: LogFile) -> Taken:
    """All parsed records of the only file, without merging."""
    assert file.cursor.parsed is not None  # noqa: S101  # that is what this is called for
    records, length = file.take(len(file.cursor.parsed.records))
    return Taken(records, length, length if are_history(records) else 0, [file])


def age_order(file: LogFile) -> tuple[bool, str, str]:
    """For equal times: rotated files first, in the order of their stamps."""
    rotated = rotated_as(file.path)
    return (rotated is None, rotated.stamp if rotated else "", file.path)
