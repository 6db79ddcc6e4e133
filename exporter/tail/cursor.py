"""Reads one open file: from bytes after the offset to records, and the checkpoint after them.

A cursor owns the handle and the records read ahead. It does not change a checkpoint; it returns the next one.
"""

import errno
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec

from exporter.logs import files, formats, framing
from exporter.logs.records import Columns, times_of
from exporter.logs.times import Times
from exporter.tail.checkpoint import FileCheckpoint
from exporter.tail.fingerprint import ANCHOR, HEAD, digest, holds

SMALLEST_READ = 4 * 1024
"""Smallest number of bytes requested in one read."""
LARGEST_READ = 64 * 1024
"""Largest number of bytes requested in one read, except for longer lines: what is made of them stays in a processor's
cache, and their memory is used again instead of being returned to the system."""
TURN_BYTES = 1 << 20
"""Bytes without a record that are read from a file in one poll, before the other files of its log have their turn."""
OPEN_SECONDS = 5.0
"""Seconds without growth after which an incomplete row is taken as it is."""
OPEN_BYTES = 64 * 1024
"""Size in bytes from which an incomplete row is taken as it is."""


class RewrittenError(Exception):
    """The file no longer contains what was read from it: it was truncated, or rewritten in place."""


class Parsed:
    """Records that were read and not yet handed over."""

    def __init__(
        self,
        start: FileCheckpoint,
        data: bytes,
        framed: framing.Framed,
        split: formats.Split,
        consumed: int,
        read_at: float,
    ) -> None:
        self.start = start
        """The checkpoint before the records."""
        self.data = data
        """The bytes that were read: those of the checkpoint's anchor, and the following ones."""
        self.consumed = consumed
        """Bytes after the start's offset that were consumed."""
        self.read_at = read_at
        """When they were read, by the monotonic clock."""
        self.records: Sequence[Any] = split.records
        self.header = split.header
        self.skipping = framed.skipping
        self.done = 0
        """How many of the records were handed over."""
        self._ends = framed.ends
        self._line_ends: list[int] = []
        self._starts = split.starts
        self._keys: Sequence[float] = ()
        self._next = (-1, 0.0)
        self._last: float | None = None

    def end_of(self, count: int) -> int:
        """Where the first `count` records end, in bytes after the start's offset."""
        if count == len(self.records):
            return self.consumed
        self._line_ends = self._line_ends or self._ends()
        return self._line_ends[self._starts[count] - 1]

    @property
    def keys(self) -> Sequence[float]:
        """The time by which each record is merged: never earlier than that of the record before it."""
        if not self._keys:
            times: Sequence[Any] = times_of(self.records)  # `_parse` ensures that each has one
            in_order = isinstance(times, Times) and times.in_order
            self._keys = times if in_order else list(accumulate(times, max))
        return self._keys

    @property
    def next_key(self) -> float:
        """The key of the first record that was not handed over."""
        if self._next[0] != self.done:
            self._next = (self.done, self.keys[self.done])
        return self._next[1]

    @property
    def last_key(self) -> float:
        """The key of the last record."""
        if self._last is None:
            self._last = self.keys[-1]
        return self._last

    def up_to(self, horizon: float) -> int:
        """How many records to hand over, so that those up to the time `horizon` are included."""
        if self.last_key <= horizon:
            return len(self.records)
        if self.header != self.start.header and self.next_key <= horizon:
            return len(self.records)  # the header row changes within them, and only the last one is known
        return bisect_right(self.keys, horizon, lo=self.done)


class Cursor:
    """The place in one file from which the next records are read."""

    def __init__(self, at: FileCheckpoint, now: float) -> None:
        self.descriptor: int | None = None
        self.parsed: Parsed | None = None
        self.behind = True
        """Whether there may be more to read immediately."""
        self.suspicious = False
        """Whether the file may have been replaced, so that its beginning must be checked."""
        self.quiet_since = now
        """When it last grew, by the monotonic clock."""
        self.grew = False
        """Whether it grew while it was open."""
        self.size = at.offset
        self.modified = at.changed
        """When the file was last modified, as far as that is reliable (hazard 76)."""
        self.bytes_since_record = 0
        """Bytes read since the last record."""
        self._least = SMALLEST_READ
        self._seen = (at.offset, -1)

    @property
    def busy(self) -> bool:
        """Whether there is more to read, or to hand over."""
        return self.behind or self.parsed is not None

    def close(self) -> None:
        """Close the file, and discard what was read but not handed over: it will be read again."""
        self.parsed = None
        self.release()

    def release(self) -> None:
        """Close the file."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)

    def read_ahead(self, at: FileCheckpoint, now: float, most: int, final: bool) -> FileCheckpoint:
        """Read what comes next, about `most` bytes, into `parsed`. `final`: nothing more will be written.

        Returns the checkpoint after the part that contains no record and is consumed immediately. Raises OSError,
        RewrittenError.
        """
        if self.bytes_since_record >= TURN_BYTES:
            most = min(most, TURN_BYTES)
            at = self._behind_hole(at)
        begin, more = at.offset, True
        while self.parsed is None and more and at.offset - begin < most:
            at, more = self._read(at, now, most, final)
        self.bytes_since_record = 0 if self.parsed is not None else self.bytes_since_record + at.offset - begin
        return at

    def _behind_hole(self, at: FileCheckpoint) -> FileCheckpoint:
        """The checkpoint after a hole of a sparse file, as reported by the file system: no line ends in it."""
        if self.parsed is not None or not at.encoding:
            return at
        assert self.descriptor is not None  # noqa: S101  # the tail opens before it fills
        # A hole that a writer may still fill is read normally.
        last = min(at.mark or self.size, self.size) - framing.LONGEST_LINE
        offset = min(files.next_data(self.descriptor, at.offset), last)
        offset -= (offset - at.offset) % files.BLOCK  # whole characters, whatever the encoding
        if offset <= at.offset:
            return at
        anchor = files.read_at(self.descriptor, offset - ANCHOR, ANCHOR)
        if anchor != bytes(ANCHOR):
            return at
        self._seen = (offset, -1)
        return msgspec.structs.replace(at, offset=offset, anchor=digest(anchor), anchor_length=ANCHOR)

    def _read(self, at: FileCheckpoint, now: float, most: int, final: bool) -> tuple[FileCheckpoint, bool]:
        """Read once. Returns the next checkpoint, and whether to continue reading immediately."""
        assert self.descriptor is not None  # noqa: S101  # the tail opens before it fills
        wanted = max(min(LARGEST_READ, most), self._least)
        to_mark = at.mark - at.offset
        in_history = to_mark > 0
        if in_history:
            wanted = min(wanted, to_mark)
        data = files.read_at(self.descriptor, at.offset - at.anchor_length, at.anchor_length + wanted)
        body = data[at.anchor_length :]
        if not holds(data[: at.anchor_length], at.anchor, at.anchor_length):
            raise RewrittenError
        if body or self.suspicious:
            head = files.read_at(self.descriptor, 0, at.head_length)
            if not holds(head, at.head, at.head_length):
                raise RewrittenError
        self.suspicious = False
        self._notice(at, now, len(body))
        at_end = len(body) < wanted
        self.behind = not at_end
        encoding = at.encoding
        if not encoding:
            if framing.is_packed(body):
                raise files.NotALogError(errno.EINVAL, "is compressed, and only plain text is read", at.path)
            encoding = framing.encoding_of(body[:4], final and at_end)
        parsed = None
        if encoding and body:
            quiet = at_end and now - self.quiet_since >= OPEN_SECONDS
            parsed = self._parse(at, data, encoding, now, final=final and at_end, quiet=quiet)
        if parsed is None or not parsed.consumed:
            if in_history and (at_end or wanted == to_mark):
                # Everything that was complete at the first listing is read: from here on records count.
                at = msgspec.structs.replace(at, mark=0)
                self.behind = True
            elif not at_end:
                self._least = min(wanted * 4, framing.LONGEST_LINE)
            return at, self.behind
        self._least = SMALLEST_READ
        if encoding != at.encoding:
            parsed.start = at = msgspec.structs.replace(at, encoding=encoding)
        if in_history:
            self.behind = self.size > at.offset + len(body) or (self.behind and wanted < to_mark)
            if isinstance(parsed.records, Columns):
                parsed.records.counts = False
            else:
                for record in parsed.records:
                    record.counts = False
        if parsed.records:
            self.parsed = parsed
            return at, False
        return self._moved(at, parsed, parsed.consumed, at.last_at), self.behind

    def _notice(self, at: FileCheckpoint, now: float, length: int) -> None:
        status = os.fstat(self.descriptor or 0)
        self.modified = status.st_mtime
        self.size = max(at.offset + length, status.st_size)  # the status may lag behind the data (hazard 76)
        if self._seen != (at.offset, length):
            self.grew |= self._seen[1] >= 0
            self._seen = (at.offset, length)
            self.quiet_since = now

    def _parse(
        self, at: FileCheckpoint, data: bytes, encoding: framing.Encoding, now: float, *, final: bool, quiet: bool
    ) -> Parsed:
        framed = framing.frame(
            data[at.anchor_length :], encoding, at_start=not at.offset, skipping=at.skipping, final=final
        )
        split = formats.split(at.log, framed.lines, at.header, final or framed.skipping)
        consumed = framed.consumed
        if split.open_lines:
            first_open = len(framed.lines) - split.open_lines
            opened_at = framed.ends()[first_open - 1] if first_open else 0
            if quiet or consumed - opened_at >= OPEN_BYTES:
                split = formats.split(at.log, framed.lines, at.header, True)
            else:
                consumed = opened_at
        # A record without a usable time takes that of its predecessor; the first one was written before the file's last
        # change, and before the records after it.
        if not isinstance(split.records, Columns) and None in times_of(split.records):
            time = at.last_at
            if time is None:
                known = (record.at for record in split.records if record.at is not None)
                time = min(self.modified, next(known, self.modified))
            for record in split.records:
                if record.at is None:
                    record.at = time
                else:
                    time = record.at
        return Parsed(at, data, framed, split, consumed, now)

    def take(self, at: FileCheckpoint, count: int) -> tuple[Sequence[Any], FileCheckpoint]:
        """The first `count` parsed records, and the checkpoint after them."""
        parsed = self.parsed
        assert parsed is not None  # noqa: S101  # asked only of one with parsed records
        whole = not parsed.done and count == len(parsed.records)
        records = parsed.records if whole else parsed.records[parsed.done : count]
        at = self._moved(at, parsed, parsed.end_of(count), times_of(records)[-1])
        parsed.done = count
        if count == len(parsed.records):
            self.parsed = None
        return records, at

    def _moved(self, at: FileCheckpoint, parsed: Parsed, end: int, last_at: float | None) -> FileCheckpoint:
        """The checkpoint after `end` bytes of what was parsed. The file may have been renamed since."""
        start = parsed.start
        offset = start.offset + end
        begin = start.offset - start.anchor_length  # where `data` begins in the file
        anchor = parsed.data[max(0, offset - begin - ANCHOR) : offset - begin]
        head, head_length = at.head, at.head_length
        if (length := min(offset, HEAD)) != head_length:
            # Only bytes that were consumed: others may have been read wrongly on a network (hazard 48).
            first = parsed.data[:length] if begin == 0 else self._head(length)
            if first:
                head, head_length = digest(first), len(first)
        done = end == parsed.consumed
        self._seen = (offset, self._seen[1] - end if done else -1)
        return msgspec.structs.replace(
            at,
            head=head,
            head_length=head_length,
            anchor=digest(anchor),
            anchor_length=len(anchor),
            offset=offset,
            header=parsed.header if done else start.header,
            mark=at.mark if at.mark > offset else 0,
            last_at=last_at,
            skipping=done and parsed.skipping,
            changed=self.modified,
        )

    def _head(self, length: int) -> bytes:
        """The first bytes of the file, or nothing if they cannot be read now."""
        try:
            return b"" if self.descriptor is None else files.read_at(self.descriptor, 0, length)
        except OSError:
            return b""
