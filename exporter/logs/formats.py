"""From lines to records: the three formats of Qlik's logs. Nothing here raises because of what a line contains.

Pure; knows nothing of files. `logs.messages` determines what a record means.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from exporter.events import LogName
from exporter.logs.entries import entries_of
from exporter.logs.lines import Lines
from exporter.logs.records import AuditRecord, TraceRecord
from exporter.logs.rows import rows_of


class Split(NamedTuple):
    """The result of `split`."""

    records: Sequence[Any]
    """The complete records, in order; as `Columns` if all of them are whole and dated."""
    starts: Sequence[int]
    """For each record the index of its first line."""
    open_lines: int
    """How many lines at the end belong to an incomplete record."""
    header: bytes | None
    """The current header row, to be passed with the next lines of the same file."""


def split(log: LogName, lines: Sequence[bytes], header: bytes | None, final: bool) -> Split:
    """The records in `lines`: complete lines in UTF-8 without their line ends.

    `header`: what the last call for the same file returned, or None at its beginning. `final`: nothing more will
    follow, so that an incomplete record is taken as it is.
    """
    lines = Lines.of(lines)
    if log == "licenses":
        return Split(*entries_of(lines), open_lines=0, header=None)
    return Split(*rows_of(lines, header, final, AuditRecord if log == "repository_audit" else TraceRecord))


def record_of(log: LogName, text: bytes) -> Any:
    """The record of a single line, for `explain`; None for an empty line or a header row."""
    records = split(log, [text], None, final=True).records
    return records[0] if records else None
