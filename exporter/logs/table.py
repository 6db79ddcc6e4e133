"""Rows of a tab-separated log: divided into fields all at once, and then kept as text, since few of them matter."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence, Set
from itertools import accumulate
from typing import overload

from exporter.logs.lines import Lines


class Fields:
    """The fields of complete rows with the same number of tabs."""

    def __init__(self, fields: list[bytes], width: int) -> None:
        """`fields`: those of all rows, `width` of each, of which the last is its line end."""
        self._fields = fields
        self.last = width - 2
        """The place of the last column."""

    @classmethod
    def of(cls, text: bytes) -> "Fields | None":
        """Those of the rows in `text`, which ends with LF; None unless all have the same number of tabs."""
        # Each LF becomes a field of its own. These are at regular distances, and no others exist, if and only if all
        # rows have the same number of tabs: this is as exact as counting the tabs of each row, but faster.
        marked = text.replace(b"\n", b"\t\n\t")
        count = (len(marked) - len(text)) // 2
        fields = marked.split(b"\t")
        del fields[-1]
        width, rest = divmod(len(fields), count or 1)
        if not count or rest or fields[width - 1 :: width] != [b"\n"] * count:
            return None
        return cls(fields, width)

    def column(self, place: int) -> list[bytes]:
        """The field at `place` of each row."""
        found = self._fields[place :: self.last + 2]
        return [field.removesuffix(b"\r") for field in found] if place == self.last else found


class Part:
    """The rows of one read."""

    def __init__(self, lines: Lines, count: int, texts: Set[bytes]) -> None:
        self.count = count
        """How many they are, known before they are divided."""
        self.texts = texts
        """The distinct texts in the columns that may tell what a row means."""
        self._lines = lines
        self._found: dict[int, bytes] = {}

    def rows_with(self, texts: Iterable[bytes]) -> list[int]:
        """The numbers of the rows that contain one of `texts`, which need not all be divided then.

        Those of all rows if there are nearly as many texts, so that the time does not grow with their product.
        """
        texts = list(texts)
        if len(texts) * 2 > self.count:
            return list(range(self.count))
        whole = self._lines.text
        begins: set[int] = set()
        for text in texts:
            at = whole.find(text)
            while at >= 0:
                begins.add(whole.rfind(b"\n", 0, at) + 1)
                at = whole.find(text, whole.index(b"\n", at))
        found: dict[int, bytes] = {}
        number = before = 0
        for begin in sorted(begins):
            number += whole.count(b"\n", before, begin)
            before = begin
            found[number] = whole[begin : whole.index(b"\n", begin)].removesuffix(b"\r")
        self._found.update(found)
        return list(found)

    def row(self, place: int) -> bytes:
        """A row, without its line end."""
        found = self._found.get(place)
        return self._lines[place] if found is None else found

    def cut(self, begin: int, end: int) -> "Part":
        """The rows from `begin` to `end`."""
        if begin <= 0 and end >= self.count:
            return self
        lines = self._lines[max(0, begin) : max(0, end)]
        return Part(Lines.of(lines), len(lines), self.texts)


class Table(Sequence[bytes]):
    """The rows of parts, one after the other. A part is divided into its rows when one of them is accessed."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self._ends = list(accumulate(part.count for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> "Table": ...
    def __getitem__(self, place: int | slice) -> "bytes | Table":
        if isinstance(place, slice):
            begin, end, _ = place.indices(len(self))
            starts = [part_end - part.count for part, part_end in zip(self.parts, self._ends, strict=True)]
            return Table(
                [
                    part.cut(begin - start, end - start)
                    for part, start in zip(self.parts, starts, strict=True)
                    if start < end and begin < start + part.count
                ]
            )
        place = range(len(self))[place]
        number = bisect_right(self._ends, place)
        part = self.parts[number]
        return part.row(place - self._ends[number] + part.count)

    def __add__(self, other: "Table") -> "Table":
        return Table(self.parts + other.parts)
