"""Rows of the tab-separated logs: the security audit log and the trace logs (qlik-facts 2 and 3). Never raises."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from exporter.logs.lines import Lines
from exporter.logs.records import AuditRecord, Columns, Places, Record, TableRecord, TraceRecord
from exporter.logs.table import Fields, Part, Table
from exporter.logs.times import Times, row_time, rows_stamped

_AUDIT_COLUMNS = (
    b"Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    b"RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    b"Origin\tContext\tCommand\tResult\tMessage\tChecksum"
)
_TRACE_COLUMNS = b"Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2"


_USUAL: dict[type[TableRecord], bytes] = {AuditRecord: _AUDIT_COLUMNS, TraceRecord: _TRACE_COLUMNS}
"""The usual header row, for columns that a file's own header does not have."""


@lru_cache(maxsize=64)
def _places(header: bytes, usual: bytes) -> Places:
    def named_in(row: bytes) -> dict[str, int]:
        return {name.strip().casefold(): place for place, name in enumerate(row.decode("utf-8", "replace").split("\t"))}

    named = {**named_in(usual), **named_in(header)}
    return Places(
        header.count(b"\t"), *(named.get(name.replace("_", ""), -1) for name in Places._fields if name != "tabs")
    )


def rows_of(
    lines: Lines, header: bytes | None, final: bool, kind: type[TableRecord]
) -> tuple[Sequence[Any], Sequence[int], int, bytes | None]:
    """The parts of `formats.Split`. A row starts with a number and continues over lines until it has all tabs."""
    usual = _USUAL[kind]
    text = lines.text
    end = text.find(b"\n") + 1
    current = header
    if begins := _is_header(text[:end]):  # as at the beginning of a file
        text, current = text[end:], text[: end - 1].removesuffix(b"\r")
    if (columns := _by_columns(text, _places(current or usual, usual), kind)) is not None:
        return columns, range(begins, begins + len(columns)), 0, current
    places = _places(header or usual, usual)
    records: list[Record] = []
    starts: list[int] = []
    opened = -1  # the index of the open record's first line
    tabs = 0

    def close(end: int, malformed: bool) -> None:
        text = b"\n".join(lines[opened:end])
        fields = text.split(b"\t", places.timestamp + 1)
        at = row_time(fields[places.timestamp]) if len(fields) > places.timestamp else None
        records.append(kind(at=at, malformed=at is None or malformed, raw=text, places=places))
        starts.append(opened)

    for index, line in enumerate(lines.divided):
        if not line:  # adds nothing to an open record
            continue
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
            places = _places(header, usual)
        elif opened >= 0:
            tabs += line.count(b"\t")
        elif line.strip():
            records.append(Record(malformed=True, orphan=True, raw=line))
            starts.append(index)
        if opened >= 0 and tabs >= places.tabs:
            close(index + 1, malformed=False)
            opened = -1
    if opened >= 0 and final:
        close(len(lines), malformed=True)
        opened = -1
    return records, starts, len(lines) - opened if opened >= 0 else 0, header


def _by_columns(text: bytes, places: Places, kind: type[TableRecord]) -> Columns | None:
    """The rows as columns if all are complete, dated, and have as many tabs as the first; None otherwise."""
    if text.count(b"\t", 0, text.find(b"\n") + 1) < places.tabs or (fields := Fields.of(text)) is None:
        return None
    last = fields.last
    if not places.tabs <= last or not 0 <= places.timestamp <= last or not _are_numbers(fields.column(0)):
        return None
    times = rows_stamped(fields.column(places.timestamp))
    if not isinstance(times, Times):
        return None
    loggers: list[bytes] = []
    texts: set[bytes] = set()
    if kind is TraceRecord:
        loggers = fields.column(places.logger) if 0 <= places.logger <= last else []
    else:
        messages = range(places.message, places.message + last - places.tabs + 1)
        for place in (places.description, places.command, places.result, *messages):  # see `AuditRecord`
            texts.update(fields.column(place) if 0 <= place <= last else ())
    return Columns(Table([Part(Lines(text), len(times), texts)]), times, _maker(kind, places), loggers)


def _are_numbers(fields: list[bytes]) -> bool:
    return all(fields) and b"".join(fields).isdigit()


@lru_cache(maxsize=64)
def _maker(kind: type[TableRecord], places: Places) -> Callable[[bytes], TableRecord]:
    """A function that makes the record of a complete row."""
    return lambda row: kind(raw=row, places=places)


def _is_header(line: bytes) -> bool:
    return line[:8].lower() == b"sequence" and line.count(b"\t") > 2
