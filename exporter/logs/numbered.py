"""The records of one file or stream with their line numbers, for `explain`. Uses no state."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from exporter.events import LogName
from exporter.logs.formats import split
from exporter.logs.framing import encoding_of, frame
from exporter.logs.kinds import log_of_content
from exporter.logs.records import Record

CHUNK = 1 << 20
"""Bytes requested at a time."""


class UnknownLogError(Exception):
    """The first lines do not show which log this is."""


class Line(NamedTuple):
    """One record, and where it begins."""

    number: int
    """The number of its first line, from 1."""
    log: LogName
    record: Record


def lines_of(read: Callable[[int], bytes], log: LogName | None = None) -> Iterator[Line]:
    """The records of what `read(size)` returns until it returns nothing, each as soon as it is complete.

    Without `log`, the first bytes decide which log it is. Raises UnknownLogError, and OSError from `read`.
    """
    data, encoding = b"", encoding_of(b"")
    at_start, skipping, final = True, False, False
    pending: list[bytes] = []
    first_pending = 1
    header: bytes | None = None
    while not final:
        more = read(CHUNK)
        final = not more
        data += more
        encoding = encoding_of(data[:4], final) if at_start else encoding
        if not encoding or not data:
            continue
        framed = frame(data, encoding, at_start=at_start, skipping=skipping, final=final)
        data, skipping = data[framed.consumed :], framed.skipping
        at_start = at_start and framed.consumed == 0
        pending += framed.lines
        if log is None:
            log = log_of_content(b"\n".join(pending))
            if log is None:
                if final or any(line.strip() for line in pending):
                    raise UnknownLogError
                continue
        done = split(log, pending, header, final)
        header = done.header
        for start, record in zip(done.starts, done.records, strict=True):
            yield Line(first_pending + start, log, record)
        kept = len(pending) - done.open_lines
        first_pending += kept
        del pending[:kept]
    if log is not None and pending:
        done = split(log, pending, header, final=True)
        for start, record in zip(done.starts, done.records, strict=True):
            yield Line(first_pending + start, log, record)
