"""Tails one log: returns complete new records of the matching files, each exactly once.

`Tail.discover` finds files and `Tail.poll` reads them; both return batches, which the caller saves together with what
was counted of them. Nothing here waits, keeps counters, or interprets records.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from exporter.events import LogName
from exporter.logs import files
from exporter.logs.files import NotALogError, Pattern, Root
from exporter.logs.records import without_history
from exporter.tail.batch import Batch, Clock, Unreadable
from exporter.tail.copies import QUIET_SECONDS
from exporter.tail.cursor import SMALLEST_READ, TURN_BYTES, RewrittenError
from exporter.tail.discovery import Discovery
from exporter.tail.listing import History
from exporter.tail.logfile import LogFile
from exporter.tail.merge import Merge, Taken, take_alone
from exporter.tail.table import FileTable
from exporter.tail.tracker import MOST_HANDLES, Tracker
from exporter.tail.unreadable import UnreadablePaths

BATCH_BYTES = 1 << 20
"""Approximate size of a batch in bytes of log; also the limit for reading ahead to merge files by time."""
LONGEST_MERGE = 60.0
"""Once the log has caught up: seconds that records wait for older ones that a huge file may still contain."""
LOOK_SECONDS = 0.2
"""While there is more to read, polls follow each other immediately: then only every so many seconds, names are checked,
and the files that were read to their end."""
GROWING_SECONDS = 900.0
"""How long after an append a file counts as growing: longer than the usual interval of syncs, 10 minutes."""
WATCHED_SECONDS = 3600.0
"""Seconds without growth after which a file that has grown is closed, and then checked by its name only. One that never
grew is closed after `QUIET_SECONDS`: it may be an archive that Qlik wants to replace (hazard 70)."""
STALE_SECONDS = 1.0
"""Seconds before a file with a stale handle is opened again, doubled each time (hazard 44)."""
LONGEST_STALE = 30.0
"""The longest such wait in seconds."""
FORGIVEN_FAILURES = 3
"""Consecutive failures after which an unreadable file no longer delays readiness."""
NETWORK_PROOFS = 2
"""Consecutive polls that must find a file on a network rewritten before it counts as that (hazard 23)."""

_STALE = frozenset(
    getattr(errno, name)
    for name in ("ESTALE", "EIO", "ENODEV", "ENXIO", "ENETDOWN", "EHOSTDOWN", "EBADF")
    if hasattr(errno, name)
)
"""Errors after which a handle can no longer be used."""


@dataclass(frozen=True)
class TailStatus:
    """The progress of a tail, for metrics and the status page."""

    log: LogName
    root: str
    listed: bool = False
    files: int = 0
    unread_bytes: int = 0
    growing: int = 0
    """Files to which something was appended within the last `GROWING_SECONDS`."""
    last_read: float | None = None
    """The time of the last poll without an error."""
    unreadable: tuple[Unreadable, ...] = ()
    missing: tuple[str, ...] = ()
    """The patterns whose folder does not exist."""
    caught_up: bool = False


class Tail:
    """The files of one log below one root. `discover` and `poll` are called by one thread only."""

    def __init__(
        self,
        table: FileTable,
        patterns: Sequence[Pattern],
        root: Root,
        *,
        archive: str = "",
        history: History = "restate",
        searched: Sequence[Pattern] = (),
        everything: bool = False,
        clock: Clock | None = None,
        most_handles: int = MOST_HANDLES,
        heartbeat: Callable[[], None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """`archive`, `searched`, `everything`: see `Discovery`; `heartbeat`: `Tracker`; `failed`: `UnreadablePaths`."""
        self.status = TailStatus(table.log, root.name)
        self._grew: dict[LogFile, float] = {}
        self.archive_only = not patterns
        self._table = table
        self._history = history
        self._clock = clock or Clock()
        self._unreadable = UnreadablePaths(self._clock, failed)
        self._tracker = Tracker(table, root, self._clock, self._unreadable, most_handles, heartbeat)
        self._discovery = Discovery(self._tracker, patterns, archive, history, searched, everything)
        self._caught_up = False
        self._was_behind = False
        """Whether the last poll left something to read."""
        self._looked_at = float("-inf")
        self._merge = Merge()
        """The files with parsed records."""
        table.add_root(root.name)

    @property
    def log(self) -> LogName:
        """Which log it is."""
        return self._table.log

    @property
    def needs_discovery(self) -> bool:
        """Whether a file was renamed or removed, so that the next discovery should not wait."""
        return self._tracker.needs_discovery

    @property
    def handles(self) -> int:
        """Files that are open."""
        return len(self._tracker.open)

    @property
    def behind(self) -> bool:
        """Whether there is more to read immediately."""
        return any(file.cursor.busy and not file.failures for file in self._tracker.reading)

    def close(self) -> None:
        """Close all files."""
        self._tracker.close_all()

    # --- discovery ---------------------------------------------------------------------------------------------------

    def discover(self) -> Iterator[Batch]:
        """Look for files. Commit each batch before requesting the next."""
        self._table.settle(self._tracker.root.name)
        errors_before = self._unreadable.count
        if marks := self._discovery.first_listings():
            yield marks
        batch = self._discovery.run()
        self._describe(batch, read=self._unreadable.count == errors_before)
        yield batch

    # --- polling -----------------------------------------------------------------------------------------------------

    def poll(self) -> Batch:
        """Read what is new in the known files, up to about `BATCH_BYTES`. Commit the batch before polling again."""
        self._table.settle(self._tracker.root.name)
        batch = self._tracker.new_batch()
        errors_before, now = self._unreadable.count, self._clock.monotonic()
        look = not self._was_behind or now - self._looked_at >= LOOK_SECONDS
        if look:
            self._looked_at = now
            for file in self._tracker.open:
                self._watch(file)
            self._tracker.look_at_vacant_paths()
        self._read(now, batch, look)
        if look:
            self._finish_files(now, batch)
        batch.behind, batch.caught_up = self.behind, self._caught_up
        if look or not batch.behind:
            self._describe(batch, read=self._unreadable.count == errors_before)
        self._was_behind = batch.behind
        return batch

    def _watch(self, file: LogFile) -> None:
        """Check whether an open file still has its name."""
        descriptor = file.cursor.descriptor
        assert descriptor is not None  # noqa: S101  # it is open
        self._tracker.heartbeat()
        file.delete_pending = files.is_delete_pending(descriptor)
        if file.left_at is not None or not file.identity.known:
            return
        try:
            status = os.stat(file.path)
        except (FileNotFoundError, NotADirectoryError):
            self._tracker.leave(file.path)
            return
        except OSError:
            return  # reading will show it
        here = files.identity(status)
        if here.known and here != file.identity:
            self._tracker.leave(file.path, replaced=True)
        elif status.st_mtime != file.cursor.modified:
            file.cursor.suspicious = True

    def _read(self, now: float, batch: Batch, look: bool) -> None:
        """Read the files in turns, and hand over their records in the order of their times.

        `look`: also those that were read to their end.
        """
        reading, merge = self._tracker.reading, self._merge
        if look:
            merge = self._merge = Merge()
            for file in reading:
                parsed = file.cursor.parsed
                if parsed is not None and self._caught_up and now - parsed.read_at >= LONGEST_MERGE:
                    self._hand_over(take_alone(file), batch)
                if file.cursor.parsed is not None:
                    merge.add(file)
        to_read = [file for file in reading if file.cursor.parsed is None and (look or file.cursor.behind)]
        spent, alone = 0, len(reading) == 1
        while spent < BATCH_BYTES:
            most = max(SMALLEST_READ, BATCH_BYTES // max(1, len(to_read)))
            undecided: list[LogFile] = []
            without_record: list[LogFile] = []
            filled: list[LogFile] = []
            for file in to_read:
                if now < file.retry_at:
                    continue
                spent += self._read_file(file, now, most, batch)
                if file.cursor.parsed is not None:
                    filled.append(file)
                elif file.cursor.behind and not file.failures:
                    # Not read far enough to know how old its next record is; but others do not wait forever.
                    (undecided if file.cursor.bytes_since_record < TURN_BYTES else without_record).append(file)
            for file in filled if not alone else ():
                if file.cursor.parsed is not None:  # else another file needed its handle
                    merge.add(file)
            if undecided:
                to_read = undecided
                continue
            taken = take_alone(filled[0]) if alone and filled else merge.take()
            self._hand_over(taken, batch)
            spent += taken.read_bytes
            to_read = [file for file in taken.files if file.cursor.parsed is None and file.cursor.behind]
            if not taken.records:
                to_read = without_record
                if not without_record:
                    break

    def _read_file(self, file: LogFile, now: float, most: int, batch: Batch, final: bool = False) -> int:
        """Read from a file. All errors of reading are handled here."""
        before = file.checkpoint
        self._tracker.heartbeat()
        try:
            if not file.is_open and not self._reopen(file):
                return 0
            done = file.read_ahead(now, most, final)
        except RewrittenError:
            self._rewritten(file, batch)
            return 0
        except NotALogError as error:
            self._discovery.skip(file.path)
            self._unreadable.add(file.path, error)
            self._tracker.release(file)
            return 0
        except OSError as error:
            self._fail(file, error, now)
            return 0
        self._unreadable.remove(file.path)
        if done:
            batch.read_bytes += done if before.mark <= before.offset else 0  # history is not counted
            self._tracker.save(file, batch)
        self._tracker.rest(file)
        return done

    def _reopen(self, file: LogFile) -> bool:
        """Open a closed file again. False if it is no longer at its path. Raises OSError."""
        try:
            descriptor = self._tracker.open_path(file.path)
        except FileNotFoundError:
            self._tracker.needs_discovery = True
            self._tracker.release(file)
            return False
        try:
            same = file.checkpoint.fingerprint.compare(descriptor) == "same"
            status = os.fstat(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        here = files.identity(status)
        if not same and here.known and here != file.identity:
            os.close(descriptor)
            self._tracker.needs_discovery = True
            self._tracker.release(file)
            return False
        self._tracker.attach(file, descriptor, file.path, status)
        return True

    def _rewritten(self, file: LogFile, batch: Batch) -> None:
        """The file contains other bytes than were read of it; on a network this must be seen repeatedly."""
        file.mismatches += 1
        file.cursor.behind = False
        if file.mismatches < (NETWORK_PROOFS if self._tracker.root.network else 1):
            return
        try:
            self._tracker.rewritten(file, batch)
        except OSError as error:
            self._fail(file, error, self._clock.monotonic())

    def _fail(self, file: LogFile, error: OSError, now: float) -> None:
        """A file could not be opened or read: close it and try again, later if its handle went stale."""
        stale = error.errno in _STALE
        wait = min(STALE_SECONDS * 2**file.failures, LONGEST_STALE) if stale else 0.0
        self._unreadable.add(file.path, error)
        self._tracker.fail(file, now + wait)

    def _hand_over(self, taken: Taken, batch: Batch) -> None:
        """Move records into the batch, with the checkpoints after them. History is not counted as read."""
        for file in taken.files:
            self._tracker.save(file, batch)
            self._tracker.rest(file)
        records = without_history(taken.records) if self._history == "ignore" else taken.records
        batch.parts.append(records)
        batch.read_bytes += taken.read_bytes - taken.history_bytes
        if taken.read_bytes > taken.history_bytes:
            self._grew.update(dict.fromkeys(taken.files, self._clock.monotonic()))

    # --- the end of a file -------------------------------------------------------------------------------------------

    def _finish_files(self, now: float, batch: Batch) -> None:
        """Finish files to which nothing more is appended."""
        for file in self._tracker.reading:
            if file.cursor.busy or now < file.retry_at:
                continue
            quiet = now - file.cursor.quiet_since
            if file.left_at is not None:
                if file.delete_pending or min(quiet, now - file.left_at) >= QUIET_SECONDS:
                    self._finish(file, now, batch)
            elif file.is_open and quiet >= (WATCHED_SECONDS if file.cursor.grew else QUIET_SECONDS):
                self._tracker.close(file)

    def _finish(self, file: LogFile, now: float, batch: Batch) -> None:
        """Count the unterminated last line of a file to which nothing more is appended, and close it (hazard 51)."""
        while batch.read_bytes < 2 * BATCH_BYTES:
            self._read_file(file, now, BATCH_BYTES, batch, final=True)
            if not self._tracker.holds(file) or not file.is_open:
                return  # it could not be read, or is another file: later
            if file.cursor.parsed is not None:
                records, length = file.take(len(file.cursor.parsed.records))
                batch.parts.append(records)
                batch.read_bytes += length
                self._tracker.save(file, batch)
            elif not file.cursor.behind:
                break
        else:
            return
        self._tracker.finish(file, batch)

    def finish_all(self) -> Iterator[Batch]:
        """For reading once: finish every file, including its unterminated last line."""
        for file in self._tracker.held:
            batch = self._tracker.new_batch()
            self._finish(file, self._clock.monotonic(), batch)
            yield batch

    # --- what is known of it -----------------------------------------------------------------------------------------

    def _describe(self, batch: Batch, read: bool) -> None:
        """Note the progress in the batch and in `status`."""
        reading, unreadable = self._tracker.reading, self._unreadable.all
        listed = self._discovery.folders.complete
        busy = [file for file in reading if file.cursor.busy]
        batch.behind = self.behind
        batch.drained = listed and not busy and not self.needs_discovery and not unreadable
        if listed and all(file.failures >= FORGIVEN_FAILURES for file in busy):
            self._caught_up = True
        batch.caught_up = self._caught_up
        since = self._clock.monotonic() - GROWING_SECONDS
        self._grew = {file: at for file, at in self._grew.items() if at > since}
        self.status = TailStatus(
            log=self._table.log,
            root=self._tracker.root.name,
            listed=listed,
            files=self._discovery.matched,
            unread_bytes=sum(file.unread for file in reading),
            growing=len(self._grew),
            last_read=self._clock.wall() if read else self.status.last_read,
            unreadable=unreadable,
            missing=self._discovery.folders.missing,
            caught_up=self._caught_up,
        )


def read_once(
    log: LogName,
    patterns: Sequence[Pattern],
    *,
    archive: str = "",
    final: bool = True,
    clock: Clock | None = None,
) -> Iterator[Batch]:
    """All records of the files that match `patterns`, from the beginning, merged by time; all of them count.

    Rotated files next to them and in `archive` are read, too. Uses no state and constant memory. `final`: an
    unterminated last line counts as a record. The last batch lists unreadable files in `unreadable`.
    """
    table = FileTable(log)
    root = Root("", network=False, caseless=bool(patterns) and patterns[0].caseless)
    tail = Tail(table, patterns, root, archive=archive, history="count", everything=True, clock=clock)
    try:
        for batch in tail.discover():
            yield batch
        while True:
            batch = tail.poll()
            batch.unreadable, batch.files = tail.status.unreadable, tail.status.files
            yield batch
            if batch.empty:
                break
        if final:
            yield from tail.finish_all()
    finally:
        tail.close()
