"""Lines become records: the three formats of Qlik's logs. Total: whatever a line holds, a record comes out.

Pure; knows nothing of files. `split` frames and parses; `messages` says what a record means.
"""

import calendar
import operator
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from exporter.events import LogName

LONGEST_TEXT = 16_384
"""Characters of one record that are searched for a message."""
EARLIEST = calendar.timegm((2000, 1, 1, 0, 0, 0))
"""Earlier row times are no times but a zero date (hazard 111)."""
LATEST = calendar.timegm((2200, 1, 1, 0, 0, 0))
DAY = 86_400
"""Seconds; no offset from UTC is so large."""


class Record(msgspec.Struct, kw_only=True, gc=False):
    """One record of a log.

    `at` is the row's own time in seconds since 1970, None where it has no usable one: then `dated` is False, and the
    tail gives it its predecessor's. `counts` is False for history, which restates but never counts. `malformed` says
    that the row breaks its format; what can be recognised in it is recognised even so. `orphan` is a line that belongs
    to no record: counted as malformed, but it is no record. `raw` is the record as it stood in the file.
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


_TEXT_FIELDS = (
    "message", "error_message", "error_type", "response_error_type", "error", "msg", "err", "response_error_message",
)  # fmt: skip
texts_of: Callable[[LicensesRecord], tuple[str, ...]] = operator.attrgetter(*_TEXT_FIELDS)
"""Everything in a record that can say what happened. An `info` says nothing (qlik-facts 1, trap 1)."""
meaning_key: Callable[[LicensesRecord], tuple[Any, ...]] = operator.attrgetter(
    *_TEXT_FIELDS, "level", "caller", "status_code", "response_status_code"
)
"""All of a record that its meaning depends on."""


class Columns(NamedTuple):
    """Where a table's columns stand, and how many tabs a complete row has at least. -1: there is no such column."""

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
    """A row of a tab-separated log. Its fields are taken out of `raw` only when they are asked for: few rows matter."""

    columns: Columns

    def field(self, place: int) -> str:
        """The field at `place`, empty where the row has none."""
        fields = self.raw.split(b"\t")
        return fields[place].decode("utf-8", "replace")[:LONGEST_TEXT] if 0 <= place < len(fields) else ""


class AuditRecord(TableRecord, gc=False):
    """A row of the security audit log (qlik-facts 2)."""

    @property
    def description(self) -> str:
        """`Command=<name>;Result=<code>;ResultText=<text>`, put together where the row has only the parts."""
        columns = self.columns
        text = self.field(columns.description)
        if "command" in text.lower() and "result" in text.lower():
            return text
        return f"Command={self.field(columns.command)};Result={self.field(columns.result)};ResultText={text}"

    @property
    def message(self) -> str:
        """The message; of a torn row all that it holds, since its columns cannot be trusted.

        A row with more tabs than its header has one within a text: the message may be longer, or further on.
        """
        place, extra = self.columns.message, self.raw.count(b"\t") - self.columns.tabs
        if self.malformed and extra < 0:
            return self.raw.split(b"\t", 3)[-1].decode("utf-8", "replace")[:LONGEST_TEXT]
        return "\t".join(self.field(at) for at in range(place, place + max(extra, 0) + 1))[:LONGEST_TEXT]

    @property
    def user(self) -> tuple[str, str]:
        """The user's directory and id."""
        return self.field(self.columns.user_directory).strip(), self.field(self.columns.user_id).strip()


class TraceRecord(TableRecord, gc=False):
    """A row of a Repository trace log (qlik-facts 3)."""

    @property
    def level(self) -> str:
        """The level as it is written, such as `WARN`."""
        return self.field(self.columns.level)

    @property
    def logger(self) -> str:
        """`<Facility>.<Service>.<class>`."""
        return self.field(self.columns.logger)

    @property
    def message(self) -> str:
        """What was logged."""
        return self.field(self.columns.message)


class Split(NamedTuple):
    """What `split` made of some lines."""

    records: list[Any]
    """The complete records, in order."""
    starts: Sequence[int]
    """For each record the index of its first line."""
    open_lines: int
    """How many lines at the end belong to a record that is not complete yet."""
    header: bytes | None
    """The current header row, to be given back with the next lines of the same file."""


def split(log: LogName, lines: list[bytes], header: bytes | None, final: bool) -> Split:
    """The records in `lines`: whole lines without their line ends, in UTF-8.

    `header` is what the last call for the same file returned, or None at its beginning. `final` says that nothing
    more can come, so that an open record is closed as it is.
    """
    return _SPLITTERS[log](lines, header, final)


def record_of(log: LogName, text: bytes) -> Any:
    """The record that a single line makes, whatever it holds, for `explain`; None for an empty or header line."""
    records = split(log, [text], None, final=True).records
    return records[0] if records else None


# --- row times -------------------------------------------------------------------------------------------------------

_INSTANT = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[Tt ](\d\d):?(\d\d):?(\d\d)(?:[.,](\d{1,12}))? ?(?:([Zz])|([+-])(\d\d):?(\d\d)?)",
    re.ASCII,
)


def instant(text: str) -> float | None:
    """The seconds since 1970 that `text` names, or None.

    Reads `2020-01-20T08:13:32.7038396Z`, `20110805T145657.000+0200` and their mixtures (qlik-facts 1 and 2). A time
    without an offset could be any of a day's 24 hours and is not usable.
    """
    # Nearly all entries of a log share their minute with the one before: only the seconds are parsed.
    if _is_usual(text) and (known := _MINUTES.get(text[:17])) is not None:
        return known + float(text[17:-1])
    return _any_instant(text)


def _instants(stamps: list[Any]) -> list[float | None]:
    """What each of `stamps` names; a log's share their minutes."""
    minutes = _MINUTES
    if set(map(type, stamps)) == {str} and all(map(_is_usual, stamps)):
        starts = {head: minutes.get(head) or instant(f"{head}00Z") for head in {text[:17] for text in stamps}}
        try:
            return [starts[text[:17]] + float(text[17:-1]) for text in stamps]  # type: ignore[operator]  # an unusable minute raises TypeError
        except TypeError:
            pass
    return [(instant(stamp) if type(stamp) is str else None) or _epoch_instant(stamp) for stamp in stamps]


_is_usual = re.compile(r"[0-9T:-]{17}(?:[0-5][0-9]|60)\.[0-9]{1,12}Z").fullmatch
_MINUTES: dict[str, float] = {}
"""The start of each minute seen, by the text of its UTC time without the seconds."""
MOST_REMEMBERED = 4096
"""Times of each kind that are remembered."""


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
    # No public line has a number here; Go loggers that write one write seconds or parts of a second (inferred).
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float):
        for parts in (1, 1e3, 1e6, 1e9):
            if EARLIEST <= value / parts < LATEST:
                return value / parts
    return None


_NUMBER = re.compile(r"\d{9,20}(?:\.\d{1,12})?", re.ASCII)


# --- Licenses JSON ---------------------------------------------------------------------------------------------------

_decode_typed = msgspec.json.Decoder(LicensesRecord, strict=True).decode
_decode_any = msgspec.json.Decoder(strict=True).decode
_PAIR = re.compile(rb'"((?:[^"\\]|\\.){1,64})"\s*:\s*(?:"((?:[^"\\]|\\.)*)(?:"|\Z)|([^\s",{}\[\]]+))')
"""A pair of a JSON object; the last one of a line that was cut off has no closing quote."""
_FIELDS = {
    field.encode_name.casefold(): field.name
    for field in msgspec.structs.fields(LicensesRecord)
    if field.encode_name[0] != " "
}
"""The fields by their keys in lower case."""
_TEXTS = frozenset(
    field.encode_name.casefold() for field in msgspec.structs.fields(LicensesRecord) if field.name in _TEXT_FIELDS
)
_TELLING = re.compile(r"err|message|msg|reason|cause|detail|code", re.IGNORECASE)
"""Names of JSON keys whose text may say what went wrong, wherever they stand."""


def _split_licenses(lines: list[bytes], header: bytes | None, final: bool) -> Split:
    starts: Sequence[int] = range(len(lines))
    try:
        records = list(map(_decode_typed, lines))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        starts = [index for index, line in enumerate(lines) if line.strip()]
        lines = [lines[index] for index in starts]
        records = [_typed_or_odd(line) for line in lines]
    for place in [place for place, record in enumerate(records) if record.timestamp is None or not record.message]:
        record = records[place]
        if record.timestamp is None or not any(texts_of(record)):  # its keys may be written in another case
            records[place] = _odd_record(lines[place])
    times = _instants([record.timestamp for record in records])
    for record, line, at in zip(records, lines, times, strict=True):
        record.raw = line
        record.at = at
    if None in times:
        for record in records:
            if record.at is None:
                record.malformed, record.dated = True, False
    return Split(records, starts, 0, None)


def _typed_or_odd(line: bytes) -> LicensesRecord:
    try:
        return _decode_typed(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _odd_record(line)


ERROR_KEY = re.compile(
    rb'"[^"\\:]{0,40}(?:err|xception|fail|fault|panic)[^"\\:]{0,40}"\s*:\s*(?!null\b|""|false\b|0[,}\s])|LICENSES-',
    re.IGNORECASE,
)
"""A key of an error with a value that says something. Only lines with one are looked into more deeply."""


_MARKS = (b'"err', b"rror", b"xception", b'"fail', b"ailure", b'"fault', b'"panic', b"LICENSES-")
"""What a line with a key of an error nearly always holds: looked for first, in many lines at once."""


def lines_with_errors(lines: Sequence[bytes]) -> list[int]:
    """Which of `lines` hold a key of an error with a value that says something, or a code."""
    text = b"\n".join(lines)
    ends = list(accumulate([len(line) + 1 for line in lines]))
    found = set()
    for mark in _MARKS:
        at = text.find(mark)
        while at >= 0:
            line = bisect_right(ends, at)
            found.add(line)
            at = text.find(mark, ends[line]) if line < len(ends) else -1
    return [line for line in sorted(found) if ERROR_KEY.search(lines[line])]


def deeper_texts(record: LicensesRecord) -> tuple[str, tuple[str, ...]]:
    """What a record says under keys nobody has published, such as `"error": {"message": …}`.

    All telling texts, joined, and the values of keys of errors. Both empty where no such key says anything.
    """
    if not ERROR_KEY.search(record.raw):
        return "", ()
    tree = _tree(record.raw)
    errors = tuple(value for key, value in _leaves(tree, "", 8) if _ERROR_NAME.search(key))
    return "\n".join(_telling_texts(tree))[:LONGEST_TEXT], errors


_ERROR_NAME = re.compile(r"err|exception|fail|fault|panic", re.IGNORECASE)


def _leaves(value: object, key: str, depth: int) -> list[tuple[str, str]]:
    """Every value with the names of the keys that lead to it."""
    if isinstance(value, dict) and depth:
        return [pair for name, child in value.items() for pair in _leaves(child, f"{key}.{name}", depth - 1)]
    if isinstance(value, list) and depth:
        return [pair for child in value for pair in _leaves(child, key, depth - 1)]
    return [(key, str(value))] if isinstance(value, str | int | float | bool) else []


def _telling_texts(tree: object) -> list[str]:
    return [text for key, text in _strings(tree, "", 8) if _TELLING.search(key)]


def _tree(line: bytes) -> object:
    try:
        return _decode_any(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _strings(value: object, key: str, depth: int) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(key, value)]
    if isinstance(value, dict) and depth:
        return [pair for name, child in value.items() for pair in _strings(child, f"{key}.{name}", depth - 1)]
    if isinstance(value, list) and depth:
        return [pair for child in value for pair in _strings(child, key, depth - 1)]
    return []


def _odd_record(line: bytes) -> LicensesRecord:
    """A line that is no JSON object of the known types: its pairs are read as far as they can be."""
    tree = _tree(line)
    if isinstance(tree, dict):  # JSON, with a type that surprises: `"message": 5`
        pairs = {name.casefold(): value for name, value in tree.items() if isinstance(value, str | int | float)}
        pairs["err"] = "\n".join(_telling_texts(tree))
        malformed = False
    else:  # the first published line is no valid JSON (qlik-facts 1, trap 2)
        pairs = {}
        for name, text, bare in _PAIR.findall(line[:LONGEST_TEXT]):
            key, said = _unescaped(name).casefold(), _unescaped(text or bare)
            # Two objects on one line, after a torn write: neither hides what the other says.
            if key not in pairs:
                pairs[key] = said
            elif key in _TEXTS:
                pairs[key] = f"{pairs[key]}\n{said}"
        if not pairs.keys() & _TEXTS:
            pairs["message"] = line[:LONGEST_TEXT].decode("utf-8", "replace")  # no JSON at all
        malformed = True
    record = LicensesRecord(malformed=malformed)
    for key, field in _FIELDS.items():
        if key in pairs:
            value = pairs[key]
            kept = key == "timestamp" or key.endswith("statuscode")
            setattr(record, field, value if kept else str(value)[:LONGEST_TEXT])
    return record


def _unescaped(text: bytes) -> str:
    try:
        return str(_decode_any(b'"' + text + b'"'))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return text.decode("utf-8", "replace")


# --- tab-separated rows ----------------------------------------------------------------------------------------------

_AUDIT_COLUMNS = (
    b"Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    b"RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    b"Origin\tContext\tCommand\tResult\tMessage\tChecksum"
)
_TRACE_COLUMNS = b"Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2"


@lru_cache(maxsize=64)
def _columns(header: bytes, usual: bytes) -> Columns:
    def places(row: bytes) -> dict[str, int]:
        return {name.strip().casefold(): place for place, name in enumerate(row.decode("utf-8", "replace").split("\t"))}

    named = {**places(usual), **places(header)}
    return Columns(
        header.count(b"\t"), *(named.get(name.replace("_", ""), -1) for name in Columns._fields if name != "tabs")
    )


def _split_table(lines: list[bytes], header: bytes | None, final: bool, usual: bytes, kind: type[TableRecord]) -> Split:
    """Frame rows: a row starts with a number, and goes on over raw line breaks until it has all its tabs."""
    columns = _columns(header or usual, usual)
    if whole := _whole_rows(lines, columns, kind):
        return Split(whole, range(len(lines)), 0, header)
    records: list[Record] = []
    starts: list[int] = []
    opened = -1  # the index of the open record's first line
    tabs = 0

    def close(end: int, malformed: bool) -> None:
        text = b"\n".join(lines[opened:end])
        fields = text.split(b"\t", columns.timestamp + 1)
        at = _row_time(fields[columns.timestamp]) if len(fields) > columns.timestamp else None
        records.append(kind(at=at, malformed=at is None or malformed, raw=text, columns=columns))
        starts.append(opened)

    for index, line in enumerate(lines):
        number, tab, _ = line.partition(b"\t")
        if tab and number.isdigit():
            if opened >= 0:
                close(index, malformed=True)
            opened, tabs = index, line.count(b"\t")
        elif _is_header(line):  # log4net writes it each time it opens the file (hazard 66)
            if opened >= 0:
                close(index, malformed=True)
            opened = -1
            header = line
            columns = _columns(header, usual)
        elif opened >= 0:
            tabs += line.count(b"\t")
        elif line.strip():
            records.append(Record(malformed=True, orphan=True, raw=line))
            starts.append(index)
        if opened >= 0 and tabs >= columns.tabs:
            close(index + 1, malformed=False)
            opened = -1
    if opened >= 0 and final:
        close(len(lines), malformed=True)
        opened = -1
    return Split(records, starts, len(lines) - opened if opened >= 0 else 0, header)


def _whole_rows(lines: list[bytes], columns: Columns, kind: type[TableRecord]) -> list[TableRecord]:
    """The rows where each line is a whole one with a time, which is nearly always; nothing where any is not."""
    stamp, tabs = columns.timestamp, columns.tabs
    texts = [
        fields[stamp]
        for line in lines
        if line.count(b"\t") >= tabs >= stamp and (fields := line.split(b"\t", stamp + 1))[0].isdigit()
    ]
    if len(texts) < len(lines):
        return []
    minutes, seconds, rests = _ROW_MINUTES, _ROW_SECONDS, _ROW_RESTS
    times = [
        minute + second + rest
        if (minute := minutes.get(text[:13])) is not None
        and (second := seconds.get(text[13:15])) is not None
        and (rest := rests.get(text[15:])) is not None
        else _row_time(text)
        for text in texts
    ]
    if None in times:
        return []
    return [kind(at=at, raw=line, columns=columns) for at, line in zip(times, lines, strict=True)]


_ROW_MINUTES: dict[bytes, float] = {}
"""What `20110805T1456` would name in UTC, for each minute seen."""
_ROW_SECONDS = {f"{second:02}".encode(): float(second) for second in range(61)}
_ROW_RESTS: dict[bytes, float] = {}
"""The seconds that `.000+0200` adds to it, for each fraction and offset seen."""
_MILLISECONDS = {f".{number:03}".encode(): number / 1000 for number in range(1000)}
_MIDNIGHT = calendar.timegm((2020, 1, 1, 0, 0, 0))


def _row_time(text: bytes) -> float | None:
    """What `20110805T145657.000+0200` or any other spelling names; the parts of this usual one are remembered."""
    if (fraction := _MILLISECONDS.get(text[15:19])) is not None:
        minute = instant(text[:13].decode("utf-8", "replace") + "00Z")
        midnight = instant("20200101T000000" + text[19:].decode("utf-8", "replace"))
        # Near the ends of all usable times the offset decides.
        if minute is not None and midnight is not None and EARLIEST + DAY <= minute < LATEST - DAY:
            for remembered in (_ROW_MINUTES, _ROW_RESTS):
                if len(remembered) >= MOST_REMEMBERED:
                    remembered.clear()
            _ROW_MINUTES[text[:13]] = minute
            _ROW_RESTS[text[15:]] = midnight - _MIDNIGHT + fraction
    return instant(text.decode("utf-8", "replace"))


def _is_header(line: bytes) -> bool:
    return line[:8].lower() == b"sequence" and line.count(b"\t") > 2


def _split_audit(lines: list[bytes], header: bytes | None, final: bool) -> Split:
    return _split_table(lines, header, final, _AUDIT_COLUMNS, AuditRecord)


def _split_trace(lines: list[bytes], header: bytes | None, final: bool) -> Split:
    return _split_table(lines, header, final, _TRACE_COLUMNS, TraceRecord)


_SPLITTERS: dict[LogName, Callable[[list[bytes], bytes | None, bool], Split]] = {
    "licenses": _split_licenses,
    "repository_audit": _split_audit,
    "repository_trace": _split_trace,
}
