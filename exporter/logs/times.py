"""Times in the formats of Qlik's logs. Pure."""

import calendar
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

EARLIEST = calendar.timegm((2000, 1, 1, 0, 0, 0))
"""Earlier times are zero dates (hazard 111)."""
LATEST = calendar.timegm((2200, 1, 1, 0, 0, 0))
DAY = 86_400
"""Seconds, larger than any offset from UTC."""
MOST_REMEMBERED = 4096
"""Size of each cache."""

_INSTANT = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[Tt ](\d\d):?(\d\d):?(\d\d)(?:[.,](\d{1,12}))? ?(?:([Zz])|([+-])(\d\d):?(\d\d)?)",
    re.ASCII,
)


def instant(text: str) -> float | None:
    """The time `text` in seconds since 1970, or None.

    Reads `2020-01-20T08:13:32.7038396Z`, `20110805T145657.000+0200` and mixtures of them (qlik-facts 1 and 2). A time
    without an offset is ambiguous and not usable.
    """
    # Nearly every entry is of the same minute as the one before: then only the seconds are parsed.
    if _is_usual(text) and (known := _MINUTES.get(text[:17])) is not None:
        return known + float(text[17:-1])
    return _any_instant(text)


def stamped(stamps: list[Any]) -> "Times | list[float | None]":
    """The times of `stamps`, which are values of JSON.

    If all have the usual format, only their order is checked, and each is converted when it is accessed.
    """
    try:
        text = "".join(stamps)
    except TypeError:
        text = ""
    if text.isascii() and _are_of_one_day(text.encode(), len(stamps), _ENTRY_TIME) and _is_span(stamps, 11, instant):
        return Times(stamps, instant, _usual_instants, in_order=True)
    if _are_usual(text) and None not in {instant(f"{minute}00Z") for minute in {stamp[:17] for stamp in stamps}}:
        return Times(
            text[:-1].split("Z"), _instant_before_z, _usual_instants
        )  # without the Z they sort like their times
    return [(instant(stamp) if type(stamp) is str else None) or _epoch_instant(stamp) for stamp in stamps]


def _instant_before_z(stamp: str) -> float | None:
    return instant(stamp + "Z")


def _usual_instants(stamps: list[str]) -> list[float]:
    """The times of stamps in the usual format, with or without their Z."""
    minutes = [stamp[:17] for stamp in stamps]
    starts = {minute: instant(f"{minute}00Z") or 0.0 for minute in set(minutes)}
    seconds = [float(stamp[17:].rstrip("Z")) for stamp in stamps]
    return list(map(operator.add, map(starts.__getitem__, minutes), seconds))


class Times(Sequence[float]):
    """Times that are converted when accessed: stamps that sort like their texts, and functions to convert them."""

    __slots__ = ("_all_of", "_known", "_of", "_stamps", "in_order")

    def __init__(
        self,
        stamps: list[Any],
        of: Callable[[Any], float | None],
        all_of: Callable[[list[Any]], list[Any]],
        in_order: bool | None = None,
    ) -> None:
        """`of` and `all_of` must be able to convert each of `stamps`. `in_order`: whether they are, if known."""
        self._stamps, self._of, self._all_of = stamps, of, all_of
        self._known: list[float] | None = None
        self.in_order = sorted(stamps) == stamps if in_order is None else in_order
        """Whether they are in ascending order."""

    def all(self) -> list[float]:
        """All of them, converted."""
        if self._known is None:
            self._known = self._all_of(self._stamps)
        return self._known

    def __len__(self) -> int:
        return len(self._stamps)

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> "Times": ...
    def __getitem__(self, place: int | slice) -> "float | Times":
        if isinstance(place, slice):
            return Times(self._stamps[place], self._of, self._all_of, self.in_order or None)
        if self._known is not None:
            return self._known[place]
        at = self._of(self._stamps[place])
        assert at is not None  # noqa: S101  # stamps without an instant do not come here
        return at

    def __iter__(self) -> Iterator[float]:
        return iter(self.all())

    def __add__(self, other: "Times") -> "Times":
        if self._of is not other._of:
            return Times(self.all() + other.all(), float, list)
        follows = not other._stamps or self._stamps[-1:] <= other._stamps[:1]
        in_order = self.in_order and other.in_order and follows
        return Times(self._stamps + other._stamps, self._of, self._all_of, in_order)


_USUAL = r"[0-9T:-]{17}(?:[0-5][0-9]|60)\.[0-9]{1,12}"
_is_usual = re.compile(f"{_USUAL}Z").fullmatch
_are_usual = re.compile(f"(?:{_USUAL}Z)++").fullmatch
_MINUTES: dict[str, float] = {}
"""The start of each minute seen, by the text of its UTC time without the seconds."""


def _any_instant(text: str) -> float | None:
    match = _INSTANT.fullmatch(text.strip())
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    day_start = _day(int(year), int(month), int(day))
    if day_start is None or int(hour) > 23 or int(minute) > 59 or int(second) > 60:
        return None
    at = float(day_start + int(hour) * 3600 + int(minute) * 60)
    if sign:
        offset = int(offset_hours) * 3600 + int(offset_minutes or 0) * 60
        if offset > 16 * 3600:
            return None
        at += offset if sign == "-" else -offset
    if not EARLIEST <= at < LATEST:
        return None
    if text[-1:] == "Z" and text[16:17] == ":":
        if len(_MINUTES) >= MOST_REMEMBERED:
            _MINUTES.clear()
        _MINUTES[text[:17]] = at
    return at + float(f"{second}.{fraction or 0}")


@lru_cache(maxsize=256)
def _day(year: int, month: int, day: int) -> int | None:
    if not (1 <= month <= 12 and 1 <= day <= 31 and year >= 1970):
        return None
    if day > calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, 0, 0, 0))


def _epoch_instant(value: object) -> float | None:
    # No public line has a number here; Go loggers that write numbers use seconds or fractions of them (inferred).
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float):
        for parts in (1, 1e3, 1e6, 1e9):
            if EARLIEST <= value / parts < LATEST:
                return value / parts
    return None


_NUMBER = re.compile(r"\d{9,20}(?:\.\d{1,12})?", re.ASCII)


_ROW_MINUTES: dict[bytes, float] = {}
"""`20110805T1456` as a time in UTC, for each minute seen."""
_ROW_SECONDS = {f"{second:02}".encode(): float(second) for second in range(61)}
_ROW_RESTS: dict[bytes, float] = {}
"""The seconds that `.000+0200` adds to it, for each combination seen."""
_MILLISECONDS = {f".{number:03}".encode(): number / 1000 for number in range(1000)}
_MIDNIGHT = calendar.timegm((2020, 1, 1, 0, 0, 0))


def row_time(text: bytes) -> float | None:
    """The time `20110805T145657.000+0200`, or one in another format; the parts of this usual format are cached."""
    if (
        (minute := _ROW_MINUTES.get(text[:13])) is not None
        and (second := _ROW_SECONDS.get(text[13:15])) is not None
        and (rest := _ROW_RESTS.get(text[15:])) is not None
    ):
        return minute + second + rest
    return _any_row_time(text)


def rows_stamped(stamps: list[bytes]) -> "Times | list[float | None]":
    """The times of rows; see `stamped`. Their texts sort like the times only within one offset."""
    text = b"".join(stamps)
    if _are_of_one_day(text, len(stamps), _ROW_TIME) and _is_span(stamps, 9, row_time):
        return Times(stamps, row_time, _row_times, in_order=True)
    if _are_usual_rows(text) and len(offsets := {stamp[19:] for stamp in stamps}) == 1:
        offset = offsets.pop()
        if None not in {row_time(minute + b"00.000" + offset) for minute in {stamp[:13] for stamp in stamps}}:
            return Times(stamps, row_time, _row_times)
    return list(map(row_time, stamps))


def _row_times(stamps: list[bytes]) -> list[float | None]:
    return list(map(row_time, stamps))


class _Format(NamedTuple):
    """The most frequent format of a log's times, in which all have the same length."""

    digits: bytes
    """The format, with 0 for every digit; the sign of the offset is that of the first time."""
    tens: tuple[int, ...]
    """The places of the tens of minutes and seconds, which are below 6 except in a leap second."""
    offset: int
    """Where the offset begins."""


_ENTRY_TIME = _Format(b"0000-00-00T00:00:00.0000000Z", (14, 17), 27)
_ROW_TIME = _Format(b"00000000T000000.000+0000", (11, 13), 19)
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")


def _are_of_one_day(text: bytes, count: int, usual: _Format) -> bool:
    """Whether `text` is `count` times in the usual format with the same offset.

    Only the digits of the date and the hour may still be too large; between two valid times of one day they are not.
    This is far cheaper than looking at each time.
    """
    digits, tens, offset = usual
    length = len(digits)
    if len(text) != count * length or not count:
        return False
    digits = digits[:offset] + text[offset : offset + 1] + digits[offset + 1 :]
    return (
        text[offset : offset + 1] in (b"Z", b"+", b"-")
        and text.translate(_TO_ZEROS) == digits * count
        and not any(text[place::length].strip(b"012345") for place in tens)
        and all(text[place::length] == text[place : place + 1] * count for place in range(offset, length))
    )


def _is_span(stamps: list[Any], date: int, of: Callable[[Any], float | None]) -> bool:
    """Whether `stamps` are in order, from one valid time to another of the same date, the first `date` characters."""
    first, last = stamps[0], stamps[-1]
    return first[:date] == last[:date] and of(first) is not None and of(last) is not None and sorted(stamps) == stamps


_are_usual_rows = re.compile(rb"(?:[0-9]{8}T[0-9]{4}(?:[0-5][0-9]|60)\.[0-9]{3}[+-][0-9]{4})++").fullmatch


def _any_row_time(text: bytes) -> float | None:
    if (fraction := _MILLISECONDS.get(text[15:19])) is not None:
        minute = instant(text[:13].decode("utf-8", "replace") + "00Z")
        midnight = instant("20200101T000000" + text[19:].decode("utf-8", "replace"))
        # Near the limits of usable times the offset decides.
        if minute is not None and midnight is not None and EARLIEST + DAY <= minute < LATEST - DAY:
            for remembered in (_ROW_MINUTES, _ROW_RESTS):
                if len(remembered) >= MOST_REMEMBERED:
                    remembered.clear()
            _ROW_MINUTES[text[:13]] = minute
            _ROW_RESTS[text[15:]] = midnight - _MIDNIGHT + fraction
    return instant(text.decode("utf-8", "replace"))
