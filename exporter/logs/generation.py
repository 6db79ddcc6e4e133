"""One generation of a log file: what is saved of it, how it is recognised again, how its next records are read.

A generation is the content that a writer puts into one file between two rolls. Ids and names only narrow the search
for it: the proof is its bytes (hazards 14 to 33).
"""

import errno
import hashlib
import os
import secrets
from bisect import bisect_right
from itertools import accumulate
from operator import attrgetter
from typing import Any

import msgspec

from exporter.events import LogName
from exporter.logs import files, formats, framing

HEAD = 1024
"""Bytes at the beginning of a file whose hash helps to recognise it."""
ANCHOR = 256
"""Bytes before the offset whose hash proves that it is still the same content."""
SMALLEST_READ = 4 * 1024
"""Bytes that are asked for at once at least."""
SMALL_READ = 64 * 1024
"""Bytes that are asked for where nothing much is expected."""
LARGEST_READ = framing.LONGEST_LINE
"""Bytes that are asked for at once at most."""
TURN_BYTES = 1 << 20
"""Bytes without a record that a file may have read in one poll; then the other files of its log go first."""
OPEN_SECONDS = 5.0
"""Quiet after which a row that is not complete is taken as it is."""
OPEN_BYTES = 64 * 1024
"""Size from which a row that is not complete is taken as it is."""
UNKNOWN_MARK = -1
"""The mark of a file that was there at the first listing and could not be opened then."""


class RewrittenError(Exception):
    """The file no longer holds what was read of it: it was truncated, or written anew in place."""


class FileRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is saved of a generation, in one transaction with what was counted of it."""

    key: str
    """Our own name for it, as nothing else is sure to stay."""
    log: LogName
    path: str
    device: str = "0"
    number: str = "0"
    head: str = ""
    """Hash of the first `head_length` bytes."""
    head_length: int = 0
    anchor: str = ""
    """Hash of the `anchor_length` bytes before `offset`."""
    anchor_length: int = 0
    offset: int = 0
    """Bytes that are done with: always the end of a record."""
    encoding: framing.Encoding = ""
    header: bytes | None = None
    mark: int = 0
    """Records that end up to here are history; 0 once they are read."""
    last_at: float | None = None
    """The time of the last record, for a next one that has none."""
    skipping: bool = False
    """Whether the offset lies inside an over-long line that was counted already."""
    rolled: bool = False
    """Whether it is known to have been renamed or removed, so that its roll was counted."""
    final: bool = False
    """Whether all of it was counted and nothing more can come."""
    changed: float = 0.0
    """The instant when it was last seen to grow."""
    gone: float = 0.0
    """The instant since when it is final or cannot be found; 0: neither."""
    lost: bool = False
    """Whether it was given up."""
    truncated: bool = False
    """Whether it was cut or rewritten in place, after all that was seen of it had been read."""

    @property
    def identity(self) -> files.Identity:
        """Its ids when it was last open: hints."""
        return files.Identity(self.device, self.number)

    def fits(self, descriptor: int) -> bool:
        """Whether the file open as `descriptor` holds what was read of this generation. Raises OSError."""
        head = files.read_at(descriptor, 0, self.head_length)
        return self.has_head(head) and self.has_anchor(
            files.read_at(descriptor, self.offset - self.anchor_length, self.anchor_length)
        )

    def may_grow_into(self, descriptor: int) -> bool:
        """Whether the file open as `descriptor` may be an unfinished copy of this generation. Raises OSError."""
        size = os.fstat(descriptor).st_size
        if size >= self.offset:
            return False
        return size < self.head_length or self.has_head(files.read_at(descriptor, 0, self.head_length))

    def has_head(self, head: bytes) -> bool:
        """Whether `head` is the beginning of what was read."""
        return len(head) == self.head_length and _hash(head) == self.head

    def has_anchor(self, anchor: bytes) -> bool:
        """Whether `anchor` is the end of what was read."""
        return len(anchor) == self.anchor_length and _hash(anchor) == self.anchor


def new_row(log: LogName, path: str, descriptor: int) -> FileRow:
    """The row of a generation of which nothing was read yet. Raises OSError."""
    status = os.fstat(descriptor)
    ids = files.identity(status)
    head = files.read_at(descriptor, 0, HEAD)
    return FileRow(
        key=secrets.token_hex(8),
        log=log,
        path=path,
        device=ids.device,
        number=ids.number,
        head=_hash(head),
        head_length=len(head),
        changed=status.st_mtime,
    )


def begin_alike(one: int, other: int) -> bool:
    """Whether the shorter of two open files is the beginning of the longer, as its head and its end tell.

    Raises OSError.
    """
    size = min(os.fstat(one).st_size, os.fstat(other).st_size)
    parts = ((0, min(size, HEAD)), (max(0, size - ANCHOR), min(size, ANCHOR)))
    return all(files.read_at(one, offset, length) == files.read_at(other, offset, length) for offset, length in parts)


_time_of = attrgetter("at")


class Parsed:
    """Records that were read and not yet handed over."""

    def __init__(self, row: FileRow, data: bytes, framed: framing.Framed, split: formats.Split, consumed: int) -> None:
        self.row = row
        """The row in front of the records."""
        self.data = data
        """The bytes that were read: the row's anchor, and what follows it."""
        self.consumed = consumed
        """Bytes behind the row's offset that are done with."""
        self.records: list[Any] = split.records
        self.header = split.header
        self.skipping = framed.skipping
        self.done = 0
        """How many of the records were handed over."""
        self._line_ends = framed.ends
        self._starts = split.starts
        self._keys: list[float] = []

    def end_of(self, count: int) -> int:
        """How many bytes behind the row's offset the first `count` records end."""
        return self.consumed if count == len(self.records) else self._line_ends[self._starts[count] - 1]

    @property
    def keys(self) -> list[float]:
        """For each record the time that it is merged by: never before that of the record in front of it."""
        if not self._keys:
            self._keys = list(accumulate(map(_time_of, self.records), max))
        return self._keys

    def up_to(self, horizon: float) -> int:
        """How many records are to be handed over so that no later than `horizon` is left out."""
        if self.header != self.row.header and self.keys[self.done] <= horizon:
            return len(self.records)  # the header row changes somewhere among them: only the end knows its own
        return bisect_right(self.keys, horizon, lo=self.done)


class Generation:
    """A generation that is being read: its row, the open file, and the records that wait to be handed over."""

    def __init__(self, row: FileRow, now: float) -> None:
        self.row = row
        self.descriptor: int | None = None
        self.parsed: Parsed | None = None
        self.behind = True
        """Whether there may be more to read at once."""
        self.suspicious = False
        """Whether something happened to the file that only its beginning can tell."""
        self.quiet_since = now
        """The monotonic instant of the last growth."""
        self.grew = False
        """Whether it grew while it was watched."""
        self.left_at: float | None = None
        """The monotonic instant since when the file does not bear the name of a live one any more."""
        self.replaced = False
        """Whether another file had its name as soon as it left."""
        self.size = row.offset
        self.modified = row.changed
        """When the file was last modified, as far as that can be believed (hazard 76)."""
        self.retry_at = 0.0
        """The monotonic instant before which a file in trouble is left alone."""
        self.failures = 0
        """How often in a row it could not be read."""
        self.mismatches = 0
        """How often in a row its bytes were not those that had been read."""
        self.barren_bytes = 0
        """Bytes that were read since the last record."""
        self.doomed = False
        """Whether the file was deleted and keeps its name for as long as we hold it (Windows)."""
        self._wish = SMALL_READ
        self._least = SMALLEST_READ
        self._seen = (row.offset, -1)

    @property
    def unread(self) -> int:
        """Bytes that are there and not handed over."""
        return max(0, self.size - self.row.offset)

    def close(self) -> None:
        """Let go of the file, and of what was read and not handed over: it will be read again."""
        self.parsed = None
        self.release()

    def release(self) -> None:
        """Let go of the file."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)

    def fill(self, now: float, most: int, final: bool = False) -> int:
        """Read what comes next, about `most` bytes, into `parsed`. `final`: nothing more will be written.

        Returns the bytes that were done with at once, as no record is in them. Raises OSError, or RewrittenError.
        """
        started_at = self.row.offset
        if self.barren_bytes >= TURN_BYTES:
            most = min(most, TURN_BYTES)
            self._skip_hole()
        begin = self.row.offset
        while self.parsed is None and self._fill_once(now, most, final):
            if self.row.offset - begin >= most:
                break
        self.barren_bytes = 0 if self.parsed is not None else self.barren_bytes + self.row.offset - begin
        return self.row.offset - started_at

    def _skip_hole(self) -> None:
        """Skip what the file system knows to be a hole of a sparse file: it holds no line end, and no record."""
        row = self.row
        if self.parsed is not None or not row.encoding:
            return
        assert self.descriptor is not None  # noqa: S101  # the tail opens before it fills
        last = min(row.mark or self.size, self.size) - LARGEST_READ  # what a writer may still fill is read as ever
        offset = min(files.next_data(self.descriptor, row.offset), last)
        offset -= (offset - row.offset) % files.BLOCK  # whole characters, whatever the encoding
        if offset <= row.offset:
            return
        anchor = files.read_at(self.descriptor, offset - ANCHOR, ANCHOR)
        if anchor == bytes(ANCHOR):
            self.row = msgspec.structs.replace(row, offset=offset, anchor=_hash(anchor), anchor_length=ANCHOR)
            self._seen = (offset, -1)

    def _fill_once(self, now: float, most: int, final: bool) -> bool:
        """Read once. Returns whether it is worth to read on at once."""
        row = self.row
        assert self.descriptor is not None  # noqa: S101  # the tail opens before it fills
        wanted = max(min(self._wish, most), self._least)
        to_mark = row.mark - row.offset
        in_history = to_mark > 0
        if in_history:
            wanted = min(wanted, to_mark)
        data = files.read_at(self.descriptor, row.offset - row.anchor_length, row.anchor_length + wanted)
        body = data[row.anchor_length :]
        if not row.has_anchor(data[: row.anchor_length]):
            raise RewrittenError
        if (body or self.suspicious) and not row.has_head(files.read_at(self.descriptor, 0, row.head_length)):
            raise RewrittenError
        self.mismatches = 0
        self.suspicious = False
        self._notice(now, len(body))
        at_end = len(body) < wanted
        self.behind = not at_end
        encoding = row.encoding
        if not encoding:
            if framing.is_packed(body):
                raise files.NotALogError(errno.EINVAL, "is compressed, and only plain text is read", row.path)
            encoding = framing.encoding_of(body[:4], final and at_end)
        if encoding:
            quiet = at_end and now - self.quiet_since >= OPEN_SECONDS
            parsed = self._parse(row, data, encoding, final=final and at_end, quiet=quiet)
        if not encoding or not parsed.consumed:
            if in_history and (at_end or wanted == to_mark):
                # Everything that was complete at the first listing is read: from here on records count.
                self.row = msgspec.structs.replace(row, mark=0)
                self.behind = True
            elif not at_end:
                self._least = min(wanted * 4, LARGEST_READ)
            return self.behind
        self._least = SMALLEST_READ
        self._wish = LARGEST_READ if self.behind else SMALL_READ
        if encoding != row.encoding:
            parsed.row = self.row = msgspec.structs.replace(row, encoding=encoding)
        if in_history:
            self.behind = self.size > row.offset + len(body) or (self.behind and wanted < to_mark)
            for record in parsed.records:
                record.counts = False
        if parsed.records:
            self.parsed = parsed
            return False
        self.row = self._moved(parsed, parsed.consumed, row.last_at)
        return self.behind

    def _notice(self, now: float, length: int) -> None:
        status = os.fstat(self.descriptor or 0)
        self.modified = status.st_mtime
        self.size = max(self.row.offset + length, status.st_size)  # the status may lag behind the data (hazard 76)
        if self._seen != (self.row.offset, length):
            self.grew |= self._seen[1] >= 0
            self._seen = (self.row.offset, length)
            self.quiet_since = now

    def _parse(self, row: FileRow, data: bytes, encoding: framing.Encoding, final: bool, quiet: bool) -> Parsed:
        framed = framing.frame(
            data[row.anchor_length :], encoding, at_start=not row.offset, skipping=row.skipping, final=final
        )
        split = formats.split(row.log, framed.lines, row.header, final or framed.skipping)
        consumed = framed.consumed
        if split.open_lines:
            first_open = len(framed.lines) - split.open_lines
            opened_at = framed.ends[first_open - 1] if first_open else 0
            if quiet or consumed - opened_at >= OPEN_BYTES:
                split = formats.split(row.log, framed.lines, row.header, True)
            else:
                consumed = opened_at
        # A record without a usable time takes its predecessor's; a first one was written before the file's last
        # change, and before what stands behind it.
        if None in map(_time_of, split.records):
            at = row.last_at
            if at is None:
                known = (record.at for record in split.records if record.at is not None)
                at = min(self.modified, next(known, self.modified))
            for record in split.records:
                if record.at is None:
                    record.at = at
                else:
                    at = record.at
        return Parsed(row, data, framed, split, consumed)

    def take(self, count: int) -> tuple[list[Any], int]:
        """Hand over the parsed records up to number `count`, and the bytes done with; the row moves behind them."""
        parsed = self.parsed
        assert parsed is not None  # noqa: S101  # asked only of one with parsed records
        whole = not parsed.done and count == len(parsed.records)
        records = parsed.records if whole else parsed.records[parsed.done : count]
        before = self.row.offset
        self.row = self._moved(parsed, parsed.end_of(count), records[-1].at)
        parsed.done = count
        if count == len(parsed.records):
            self.parsed = None
        return records, self.row.offset - before

    def _moved(self, parsed: Parsed, end: int, last_at: float | None) -> FileRow:
        """The row behind `end` bytes of what was parsed."""
        row = parsed.row
        offset = row.offset + end
        begin = row.offset - row.anchor_length  # where `data` begins in the file
        anchor = parsed.data[max(0, offset - begin - ANCHOR) : offset - begin]
        head, head_length = row.head, row.head_length
        if (length := min(offset, HEAD)) != head_length:
            # Only bytes that were done with: others may have been read wrongly on a network (hazard 48).
            first = parsed.data[:length] if begin == 0 else self._head(length)
            if first:
                head, head_length = _hash(first), len(first)
        done = end == parsed.consumed
        self._seen = (offset, self._seen[1] - end if done else -1)
        return msgspec.structs.replace(
            row,
            head=head,
            head_length=head_length,
            anchor=_hash(anchor),
            anchor_length=len(anchor),
            offset=offset,
            header=parsed.header if done else row.header,
            mark=row.mark if row.mark > offset else 0,
            last_at=last_at,
            skipping=done and parsed.skipping,
            changed=self.modified,
        )

    def _head(self, length: int) -> bytes:
        """The first bytes of the file, or nothing where they cannot be read now."""
        try:
            return b"" if self.descriptor is None else files.read_at(self.descriptor, 0, length)
        except OSError:
            return b""


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest() if data else ""
