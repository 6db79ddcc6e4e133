"""Records: single entries of a log, as data. Made by `logs.formats`, mostly as columns of many."""

import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, overload

import msgspec

from exporter.logs.table import Table
from exporter.logs.times import Times

LONGEST_TEXT = 16_384
"""Characters of one record that are searched for a message."""


class Record(msgspec.Struct, kw_only=True, gc=False):
    """One record of a log.

    `at`: its own time in seconds since 1970; None if it has no usable one: then `dated` is False, and the tail gives it
    the time of its predecessor. `counts`: False for history. `malformed`: it violates its format; it is still searched
    for messages. `orphan`: a line that belongs to no record, which is counted as malformed but not as a record. `raw`:
    the bytes of the record in the file.
    """

    at: float | None = msgspec.field(default=None, name=" at ")
    dated: bool = msgspec.field(default=True, name=" dated ")
    counts: bool = msgspec.field(default=True, name=" counts ")
    malformed: bool = msgspec.field(default=False, name=" malformed ")
    orphan: bool = msgspec.field(default=False, name=" orphan ")
    raw: bytes = msgspec.field(default=b"", name=" raw ")


class LicensesRecord(Record, gc=False):
    """A line of the Licenses service: one JSON object (qlik-facts 1). Unknown keys are allowed."""

    timestamp: str | int | float | None = None
    message: str = ""
    msg: str = ""
    error: str = ""
    err: str = ""
    error_message: str = msgspec.field(default="", name="errorMessage")
    error_type: str = msgspec.field(default="", name="errorType")
    response_error_type: str = msgspec.field(default="", name="res.errorType")
    response_error_message: str = msgspec.field(default="", name="res.errorMessage")
    level: str = ""
    caller: str = ""
    corr_id: str = msgspec.field(default="", name="corrId")
    status_code: str | int | float | None = msgspec.field(default=None, name="statusCode")
    response_status_code: str | int | float | None = msgspec.field(default=None, name="res.statusCode")


TEXT_FIELDS = (
    "message", "error_message", "error_type", "response_error_type", "error", "msg", "err", "response_error_message",
)  # fmt: skip
"""The fields of an entry that can say what happened. The field `info` cannot (qlik-facts 1, trap 1)."""
KEY_FIELDS = (*TEXT_FIELDS, "level", "caller", "status_code", "response_status_code")
"""All fields of an entry that its meaning depends on."""
texts_of: Callable[[LicensesRecord], tuple[str, ...]] = operator.attrgetter(*TEXT_FIELDS)
meaning_key: Callable[[LicensesRecord], tuple[Any, ...]] = operator.attrgetter(*KEY_FIELDS)


class Places(NamedTuple):
    """The positions of a table's columns (-1: no such column), and the least number of tabs in a complete row."""

    tabs: int
    timestamp: int
    message: int
    description: int
    user_directory: int
    user_id: int
    command: int
    result: int
    level: int
    logger: int


class TableRecord(Record, gc=False):
    """A row of a tab-separated log. Fields are extracted from `raw` only when needed, since few rows matter."""

    places: Places

    def field(self, place: int) -> str:
        """The field at `place`; empty if the row has none."""
        fields = self.raw.split(b"\t")
        return fields[place].decode("utf-8", "replace")[:LONGEST_TEXT] if 0 <= place < len(fields) else ""


class AuditRecord(TableRecord, gc=False):
    """A row of the security audit log (qlik-facts 2)."""

    @property
    def description(self) -> str:
        """`Command=<name>;Result=<code>;ResultText=<text>`, composed if the row has only the parts."""
        places = self.places
        text = self.field(places.description)
        if "command" in text.lower() and "result" in text.lower():
            return text
        return f"Command={self.field(places.command)};Result={self.field(places.result)};ResultText={text}"

    @property
    def message(self) -> str:
        """The message; for a torn row the whole row, since its columns cannot be trusted.

        A row with more tabs than its header has a tab within a text: the message may be longer, or further right.
        """
        place, extra = self.places.message, self.raw.count(b"\t") - self.places.tabs
        if self.malformed and extra < 0:
            return self.raw.split(b"\t", 3)[-1].decode("utf-8", "replace")[:LONGEST_TEXT]
        return "\t".join(self.field(at) for at in range(place, place + max(extra, 0) + 1))[:LONGEST_TEXT]

    @property
    def user(self) -> tuple[str, str]:
        """The user's directory and id."""
        return self.field(self.places.user_directory).strip(), self.field(self.places.user_id).strip()


class TraceRecord(TableRecord, gc=False):
    """A row of a Repository trace log (qlik-facts 3)."""

    @property
    def level(self) -> str:
        """The level as it is written, such as `WARN`."""
        return self.field(self.places.level)

    @property
    def logger(self) -> str:
        """`<Facility>.<Service>.<class>`."""
        return self.field(self.places.logger)

    @property
    def message(self) -> str:
        """What was logged."""
        return self.field(self.places.message)


class Columns(Sequence[Record]):
    """Complete, dated records of one log, stored by columns, since few of them are needed individually.

    A record is made when it is accessed by its number.
    """

    __slots__ = ("_make", "counts", "doubtful", "keys", "lines", "times")

    def __init__(
        self,
        lines: list[bytes] | Table,
        times: Times,
        make: Callable[[bytes], Record],
        keys: list[Any],
        doubtful: Sequence[int] = (),
        counts: bool = True,
    ) -> None:
        """`make` makes the record of a line, without its time."""
        self.lines, self.times, self._make = lines, times, make
        self.keys = keys
        """For the Licenses log: the values of each record's known keys that determine its meaning. For a trace log: the
        logger of each row.
        """
        self.doubtful = doubtful
        """The numbers of the records whose meaning may depend on other parts, in order."""
        self.counts = counts
        """False for history."""

    def __len__(self) -> int:
        return len(self.times)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "Columns": ...
    def __getitem__(self, place: int | slice) -> "Record | Columns":
        if isinstance(place, slice):
            begin, end, _ = place.indices(len(self))
            doubtful = [number - begin for number in self.doubtful if begin <= number < end]
            part = slice(begin, end)
            return Columns(self.lines[part], self.times[part], self._make, self.keys[part], doubtful, self.counts)
        record = self._make(line := self.lines[place])
        record.raw, record.at, record.counts = line, self.times[place], self.counts
        return record

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(len(self)))

    def followed_by(self, other: "Columns") -> "Columns":
        """These records followed by `other`. Requires `is_like`."""
        behind = [len(self) + number for number in other.doubtful]
        lines, others = self.lines, other.lines
        return Columns(
            lines + others,  # type: ignore[operator]  # records that are alike come from logs of one format
            self.times + other.times,
            self._make,
            self.keys + other.keys,
            [*self.doubtful, *behind],
            self.counts,
        )

    def is_like(self, other: "Columns") -> bool:
        """Whether both have the same kind of records, and both or neither are history."""
        return self._make == other._make and self.counts == other.counts


def joined(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    """All of `first`, then all of `second`; as columns if both are."""
    if not first or not second:
        return first or second
    if isinstance(first, Columns) and isinstance(second, Columns) and first.is_like(second):
        return first.followed_by(second)
    return [*first, *second]


def joined_all(parts: list[Sequence[Any]]) -> Sequence[Any]:
    """All of `parts`, one after the other."""
    while len(parts) > 1:  # in pairs, so that nothing is copied often
        pairs = zip_longest(parts[::2], parts[1::2], fillvalue=())
        parts = [joined(first, second) for first, second in pairs]
    return parts[0] if parts else ()


def times_of(records: Sequence[Any]) -> Sequence[float | None]:
    """The times of `records`."""
    return records.times if isinstance(records, Columns) else [record.at for record in records]


def are_history(records: Sequence[Any]) -> bool:
    """Whether `records`, those of one read, are history."""
    return not (records.counts if isinstance(records, Columns) else records[0].counts)


def without_history(records: Sequence[Any]) -> Sequence[Any]:
    """Those of `records` that count."""
    if isinstance(records, Columns):
        return records if records.counts else ()
    return [record for record in records if record.counts]
