"""Lines become records: the three formats of Qlik's logs. Total: whatever a line holds, a record comes out.

Pure; knows nothing of files. `split` frames and parses; `messages` says what a record means.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from exporter.events import LogName
from exporter.logs.entries import entries_of
from exporter.logs.records import AuditRecord, TraceRecord
from exporter.logs.rows import rows_of


class Split(NamedTuple):
    """What `split` made of some lines."""

    records: Sequence[Any]
    """The complete records, in order; `Columns` where they are all whole and dated."""
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
    if log == "licenses":
        return Split(*entries_of(lines), open_lines=0, header=None)
    return Split(*rows_of(lines, header, final, AuditRecord if log == "repository_audit" else TraceRecord))


def record_of(log: LogName, text: bytes) -> Any:
    """The record that a single line makes, whatever it holds, for `explain`; None for an empty or header line."""
    records = split(log, [text], None, final=True).records
    return records[0] if records else None
