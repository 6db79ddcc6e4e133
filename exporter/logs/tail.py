"""Tailing one log exactly: complete new records of the files that match, each handed over once.

`Tail.discover` finds files and `Tail.poll` reads them; both make batches that whoever drives the tail saves together
with what was counted of them. Nothing here waits, counts for good, or knows what a record means.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from exporter.events import LogName
from exporter.logs import files
from exporter.logs.files import NotALogError, Pattern, Root
from exporter.logs.folders import History
from exporter.logs.generation import SMALLEST_READ, TURN_BYTES, Generation, RewrittenError, new_row
from exporter.logs.held import MOST_HANDLES, Held, look
from exporter.logs.merge import Merge, Taken, take_alone
from exporter.logs.proof import QUIET_SECONDS
from exporter.logs.register import Batch, Clock, Register, Trouble
from exporter.logs.search import Search

BATCH_BYTES = 4 << 20
"""Bytes of log that one batch covers, about; also what may be read ahead to merge files by time."""
WATCHED_SECONDS = 3600.0
"""A file that grew while it was watched, and then has not for so long, is closed and looked at by its name alone. One
that never grew is closed after `QUIET_SECONDS`: it may be an archive that Qlik wants to replace (hazard 70)."""
STALE_SECONDS = 1.0
"""Seconds for which a file whose handle went stale is left alone, doubled each time (hazard 44)."""
LONGEST_STALE = 30.0
"""Seconds to which that is doubled at most."""
FORGIVEN_FAILURES = 3
"""A file that could not be read so often in a row does not hold up readiness any longer."""
NETWORK_PROOFS = 2
"""How many polls in a row must agree that a file on a network was rewritten (hazard 23)."""


@dataclass(frozen=True)
class TailStatus:
    """What is known of a tail's reading, for metrics and the status page."""

    log: LogName
    root: str
    listed: bool = False
    files: int = 0
    unread_bytes: int = 0
    last_read: float | None = None
    """The instant of the last poll without error."""
    troubles: tuple[Trouble, ...] = ()
    missing: tuple[str, ...] = ()
    """The patterns whose folder does not exist."""
    caught_up: bool = False


class Tail:
    """The files of one log below one root. `discover` and `poll` are called by one thread only."""

    def __init__(
        self,
        register: Register,
        patterns: Sequence[Pattern],
        root: Root,
        *,
        archive: str = "",
        history: History = "restate",
        searched: Sequence[Pattern] = (),
        everything: bool = False,
        clock: Clock | None = None,
        most_handles: int = MOST_HANDLES,
        beat: Callable[[], None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """`archive`, `searched`, `everything`: see `Search`; `beat`, `failed`: see `Held`."""
        self.status = TailStatus(register.log, root.name)
        self.archive_only = not patterns
        self._history = history
        self._held = Held(register, root, clock or Clock(), most_handles, beat, failed)
        self._search = Search(self._held, patterns, archive, history, searched, everything)
        self._caught_up = False
        register.places.add(root.name)

    @property
    def log(self) -> LogName:
        """Which log it is."""
        return self._held.register.log

    @property
    def restless(self) -> bool:
        """Whether something was seen to move, so that the next discovery should not wait."""
        return self._held.restless

    def discover(self) -> Iterator[Batch]:
        """Look for files. Each batch is to be committed before the next is asked for."""
        errors_before = self._held.errors
        if marks := self._search.first_listings():
            yield marks
        batch = self._search.run()
        self._finish_batch(batch, read=self._held.errors == errors_before)
        yield batch

    def poll(self) -> Batch:
        """Read what is new in the known files, up to about `BATCH_BYTES`. Hand in the batch before polling again."""
        batch = self._held.new_batch()
        errors_before, now = self._held.errors, self._held.clock.monotonic()
        for generation in list(self._held.open.values()):
            self._watch(generation)
        for path in self._held.vacant:
            self._held.beat()
            self._held.restless |= os.path.lexists(path)
        merge = Merge()
        hungry: list[Generation] = []
        for generation in self._held.active:
            if generation.parsed is None:
                hungry.append(generation)
            else:
                merge.add(generation)
        spent, alone = 0, len(self._held.active) == 1
        while spent < BATCH_BYTES:
            most = max(SMALLEST_READ, BATCH_BYTES // max(1, len(hungry)))
            unfilled: list[Generation] = []
            barren: list[Generation] = []
            parsed: list[Generation] = []
            for generation in hungry:
                if now >= generation.retry_at:
                    spent += self._fill(generation, now, most, batch)
                    if generation.parsed is not None:
                        parsed.append(generation)
                    elif generation.behind and not generation.failures:
                        # Not read far enough to know how old its next record is; but others do not wait for ever.
                        (unfilled if generation.barren_bytes < TURN_BYTES else barren).append(generation)
            for generation in parsed if not alone else ():
                if generation.parsed is not None:  # else another file needed its handle
                    merge.add(generation)
            if unfilled:
                hungry = unfilled
                continue
            taken = take_alone(parsed[0]) if alone and parsed else merge.take()
            self._hand_over(taken, batch)
            spent += taken.read_bytes
            hungry = [generation for generation in taken.generations if generation.parsed is None and generation.behind]
            if not taken.records:
                hungry = barren
                if not barren:
                    break
        self._finish_files(now, batch)
        self._finish_batch(batch, read=self._held.errors == errors_before)
        return batch

    def _watch(self, generation: Generation) -> None:
        """See whether an open file still bears its name."""
        descriptor, row = generation.descriptor, generation.row
        assert descriptor is not None  # noqa: S101  # those in `_open` are open
        self._held.beat()
        generation.doomed = files.is_doomed(descriptor)
        if generation.left_at is not None or not row.identity.known:
            return
        try:
            status = os.stat(row.path)
        except (FileNotFoundError, NotADirectoryError):
            self._held.leave(row.path)
            return
        except OSError:
            return  # the reading will tell
        here = files.identity(status)
        if here.known and here != row.identity:
            self._held.leave(row.path, replaced=True)
        elif status.st_mtime != generation.modified:
            generation.suspicious = True

    def _fill(self, generation: Generation, now: float, most: int, batch: Batch, final: bool = False) -> int:
        """Read from a file. Whatever goes wrong is handled here, and here alone."""
        row = generation.row
        self._held.beat()
        try:
            if generation.descriptor is None and not self._reopen(generation, batch):
                return 0
            done = generation.fill(now, most, final)
        except RewrittenError:
            self._rewritten(generation, batch)
            return 0
        except NotALogError as error:
            self._skip(generation, error)
            return 0
        except OSError as error:
            self._stumbled(generation, error, now)
            return 0
        self._held.healed(row.path)
        generation.failures = 0
        if done:
            batch.read_bytes += done if row.mark <= row.offset else 0  # history counts nothing
            self._held.save(generation, batch)
        if not generation.behind and generation.parsed is None:
            self._held.awake.pop(row.key, None)
        return done

    def _reopen(self, generation: Generation, batch: Batch) -> bool:
        """Open a closed file again. False if its path does not hold it any more."""
        row = generation.row
        try:
            descriptor = self._held.open_file(row.path)
        except FileNotFoundError:
            self._held.restless = True
            self._held.unbind(generation)
            return False
        try:
            fits = row.fits(descriptor)
            here = files.identity(os.fstat(descriptor))
        except OSError:
            os.close(descriptor)
            raise
        if not fits and here.known and here != row.identity:
            os.close(descriptor)
            self._held.restless = True
            self._held.unbind(generation)
            return False
        self._held.opened(generation, descriptor, row.path)
        return True

    def _rewritten(self, generation: Generation, batch: Batch) -> None:
        """The file holds other bytes than were read: another generation began in place (hazards 13 to 15)."""
        generation.mismatches += 1
        generation.behind = False
        if generation.mismatches < (NETWORK_PROOFS if self._held.root.network else 1):
            return
        old, descriptor = generation.row, generation.descriptor
        assert descriptor is not None  # noqa: S101  # it was just read
        try:
            row = new_row(self._held.register.log, old.path, descriptor)
        except OSError as error:
            self._stumbled(generation, error, self._held.clock.monotonic())
            return
        generation.descriptor = None
        del self._held.open[old.key], self._held.generations[old.key]
        fresh = Generation(row, self._held.clock.monotonic())
        fresh.left_at = generation.left_at
        self._held.generations[row.key] = fresh
        for path in self._held.paths_of(old):
            self._held.paths[path] = row.key
        if old.key in self._held.linked:
            self._held.linked.add(row.key)
        self._held.opened(fresh, descriptor, old.path)
        if old.offset:
            batch.rotations += 1
            old = msgspec.structs.replace(old, rolled=True, truncated=not generation.unread)
            self._held.register.rows[old.key] = self._held.register.unbound[old.key] = batch.rows[old.key] = old
            self._held.register.archive_due = self._held.restless = True
        elif old.key in self._held.register.rows:
            self._held.register.forget(old.key, batch)

    def _skip(self, generation: Generation, error: NotALogError) -> None:
        """What the file holds is no log: leave it alone until it changes."""
        path = generation.row.path
        with contextlib.suppress(OSError):
            self._held.skipped[path] = look(os.stat(path))
        self._held.failed(path, error)
        self._held.unbind(generation)

    def _stumbled(self, generation: Generation, error: OSError, now: float) -> None:
        """A file could not be opened or read: close it and try again, later if its handle went stale."""
        key = generation.row.key
        generation.close()
        generation.failures += 1
        if error.errno in _STALE:
            wait = min(STALE_SECONDS * 2 ** (generation.failures - 1), LONGEST_STALE)
            generation.retry_at = now + wait
        self._held.open.pop(key, None)
        if key in self._held.register.adrift:
            self._held.unbind(generation)
        else:
            self._held.awake[key] = generation
        self._held.failed(generation.row.path, error)

    def _hand_over(self, taken: Taken, batch: Batch) -> None:
        """Move records into the batch, with the rows behind them. History is no part of what was counted as read."""
        for generation in taken.generations:
            self._held.save(generation, batch)
            if generation.parsed is None and not generation.behind:
                self._held.awake.pop(generation.row.key, None)
        if self._history == "ignore":
            batch.records.extend(record for record in taken.records if record.counts)
        else:
            batch.records.extend(taken.records)
        batch.read_bytes += taken.read_bytes - taken.history_bytes

    def _finish_files(self, now: float, batch: Batch) -> None:
        """Let go of files that nothing more comes from."""
        for generation in self._held.active:
            if generation.behind or generation.parsed is not None or now < generation.retry_at:
                continue
            quiet = now - generation.quiet_since
            if generation.left_at is not None:
                if generation.doomed or min(quiet, now - generation.left_at) >= QUIET_SECONDS:
                    self._finish(generation, now, batch)
            elif generation.descriptor is not None and quiet >= (WATCHED_SECONDS if generation.grew else QUIET_SECONDS):
                self._held.rest(generation)

    def _finish(self, generation: Generation, now: float, batch: Batch) -> None:
        """Count the unterminated tail of a file that nothing more comes from, and let it go for good (hazard 51)."""
        key = generation.row.key
        while batch.read_bytes < 2 * BATCH_BYTES:
            self._fill(generation, now, BATCH_BYTES, batch, final=True)
            if self._held.generations.get(key) is not generation or generation.descriptor is None:
                return  # it could not be read, or proved to be another: later
            if generation.parsed is not None:
                records, length = generation.take(len(generation.parsed.records))
                batch.records.extend(records)
                batch.read_bytes += length
                self._held.save(generation, batch)
            elif not generation.behind:
                break
        else:
            return
        generation.row = msgspec.structs.replace(generation.row, final=True, gone=self._held.clock.wall())
        self._held.save(generation, batch)
        self._held.drop(generation)
        self._held.restless = True  # so that its name is done with, too

    def finish_all(self) -> Iterator[Batch]:
        """For a single reading: take every file as final, its unterminated last line included."""
        for generation in list(self._held.generations.values()):
            batch = self._held.new_batch()
            self._finish(generation, self._held.clock.monotonic(), batch)
            yield batch

    @property
    def handles(self) -> int:
        """Files that are open."""
        return len(self._held.open)

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once."""
        return any(
            (generation.behind or generation.parsed is not None) and not generation.failures
            for generation in self._held.active
        )

    def close(self) -> None:
        """Let go of all files."""
        for generation in self._held.generations.values():
            generation.close()

    def _finish_batch(self, batch: Batch, read: bool) -> None:
        listed = self._search.folders.complete
        busy = [generation for generation in self._held.active if generation.behind or generation.parsed is not None]
        batch.drained = listed and not busy and not self._held.restless and not self._held.troubles
        if listed and all(generation.failures >= FORGIVEN_FAILURES for generation in busy):
            self._caught_up = True
        batch.caught_up = self._caught_up
        unread = sum(generation.unread for generation in self._held.active)
        self.status = TailStatus(
            log=self._held.register.log,
            root=self._held.root.name,
            listed=listed,
            files=self._search.matched,
            unread_bytes=unread,
            last_read=self._held.clock.wall() if read else self.status.last_read,
            troubles=tuple(self._held.troubles.values()),
            missing=self._search.folders.missing,
            caught_up=self._caught_up,
        )


_STALE = frozenset(
    getattr(errno, name)
    for name in ("ESTALE", "EIO", "ENODEV", "ENXIO", "ENETDOWN", "EHOSTDOWN", "EBADF")
    if hasattr(errno, name)
)
"""Errors after which a handle is of no more use."""


def read_once(
    log: LogName,
    patterns: Sequence[Pattern],
    *,
    archive: str = "",
    final: bool = True,
    clock: Clock | None = None,
) -> Iterator[Batch]:
    """Everything that the files meant by `patterns` hold now, from the beginning, merged by time; all of it counts.

    Rolled generations beside them and in `archive` are read, too. Uses no state and flat memory. `final`: an
    unterminated last line counts as a record. Files that cannot be read are told in the last batch's `troubles`.
    """
    register = Register(log)
    root = Root("", network=False, caseless=bool(patterns) and patterns[0].caseless)
    tail = Tail(register, patterns, root, archive=archive, history="count", everything=True, clock=clock)
    try:
        for batch in tail.discover():
            yield batch
        while True:
            batch = tail.poll()
            batch.troubles, batch.files = tail.status.troubles, tail.status.files
            yield batch
            if batch.empty:
                break
        if final:
            yield from tail.finish_all()
    finally:
        tail.close()
