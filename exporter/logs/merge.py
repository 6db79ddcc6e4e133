"""Merging: the parsed records of several generations in the order of their times."""

import heapq
import os
from typing import Any, NamedTuple

from exporter.logs.files import rolled_name
from exporter.logs.generation import Generation, Parsed


class Taken(NamedTuple):
    """What `Merge.take` handed over."""

    records: list[Any]
    read_bytes: int
    history_bytes: int
    """How many of those bytes were history."""
    generations: list[Generation]
    """Whose rows moved."""


class Merge:
    """The generations with parsed records. One step costs by how many it takes from, not by how many there are."""

    def __init__(self) -> None:
        self._heads: list[tuple[float, tuple[bool, str, str], int, Generation, Parsed]] = []
        """By the time of the next record."""
        self._ends: list[tuple[float, int, Generation, Parsed]] = []
        """By the time of the last parsed record, where more is to be read behind it."""
        self._number = 0

    def add(self, generation: Generation) -> None:
        """A generation has parsed records."""
        parsed = generation.parsed
        assert parsed is not None  # noqa: S101  # that is what this is called for
        self._number += 1
        heapq.heappush(self._heads, (parsed.keys[parsed.done], age_order(generation), self._number, generation, parsed))
        if generation.behind:
            heapq.heappush(self._ends, (parsed.keys[-1], self._number, generation, parsed))

    def take(self) -> Taken:
        """What is no later than all that may still come. Every generation with more to read is to be added before."""
        while self._ends and self._ends[0][2].parsed is not self._ends[0][3]:
            heapq.heappop(self._ends)
        horizon = self._ends[0][0] if self._ends else float("inf")
        keys: list[float] = []
        records: list[Any] = []
        read = history = 0
        moved: list[Generation] = []
        while self._heads and self._heads[0][0] <= horizon:
            *_, generation, parsed = heapq.heappop(self._heads)
            if generation.parsed is not parsed:
                continue  # the file was closed: it will be read again
            count = parsed.up_to(horizon)
            keys += parsed.keys[parsed.done : count]
            taken, length = generation.take(count)
            records += taken
            read += length
            history += 0 if taken[0].counts else length
            moved.append(generation)
            if generation.parsed is not None:
                self._number += 1
                heapq.heappush(
                    self._heads, (parsed.keys[parsed.done], age_order(generation), self._number, generation, parsed)
                )
        if len(moved) > 1:
            records = [records[index] for index in sorted(range(len(keys)), key=keys.__getitem__)]
        return Taken(records, read, history, moved)


def take_alone(generation: Generation) -> Taken:
    """Everything that is parsed of the only generation there is: nothing is to be merged."""
    assert generation.parsed is not None  # noqa: S101  # that is what this is called for
    records, length = generation.take(len(generation.parsed.records))
    return Taken(records, length, 0 if records[0].counts else length, [generation])


def age_order(generation: Generation) -> tuple[bool, str, str]:
    """For equal times: rolled generations first, in the order of their stamps."""
    rolled = rolled_name(os.path.basename(generation.row.path))
    return (rolled is None, rolled.stamp if rolled else "", generation.row.path)
