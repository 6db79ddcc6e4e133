"""The files of one tail: their handles, their paths, and every transition from one state to the next.

Discovery and reading report what happened to a file; the consequences are decided here, in one place.
"""

import errno
import os
from collections.abc import Callable

import msgspec

from exporter.logs import files
from exporter.logs.files import Identity, NotALogError, Root
from exporter.tail.batch import Batch, Clock
from exporter.tail.checkpoint import UNKNOWN_MARK, new_checkpoint
from exporter.tail.cursor import Cursor
from exporter.tail.logfile import HELD, LogFile, State, rotated_as
from exporter.tail.table import FileTable
from exporter.tail.unreadable import UnreadablePaths

MOST_HANDLES = 256
"""Largest number of files that one tail keeps open."""
CLOSED_AT_ONCE = 16
"""Where too many files are open, one in this many is closed."""
MOST_VACANT = 64
"""Names without a file that are checked in each poll, at most, since a new file is about to take them."""


class Tracker:
    """The files of one tail, shared by discovery and reading. Used by one thread only."""

    def __init__(
        self,
        table: FileTable,
        root: Root,
        clock: Clock,
        unreadable: UnreadablePaths,
        most_handles: int = MOST_HANDLES,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`heartbeat` is called before every call that may hang."""
        self.table = table
        self.root = root
        self.clock = clock
        self.unreadable = unreadable
        self.heartbeat = heartbeat
        self.needs_discovery = True
        """Whether a file was renamed or removed, so that the next discovery should not wait."""
        self._open: dict[str, LogFile] = {}
        """Files with a handle, the one opened longest ago first."""
        self._closed: dict[str, LogFile] = {}
        """Files without a handle that have something to read."""
        self._paths: dict[str, LogFile] = {}
        """The file at each matching path."""
        self._vacant: dict[str, None] = {}
        """Paths whose file has left, so that a new one is expected."""
        self._most_handles = most_handles

    def new_batch(self) -> Batch:
        """An empty batch."""
        return Batch(self.table.log, self.root.name, self.clock.wall())

    # --- what is held ------------------------------------------------------------------------------------------------

    @property
    def open(self) -> tuple[LogFile, ...]:
        """The files with a handle."""
        return tuple(self._open.values())

    @property
    def reading(self) -> tuple[LogFile, ...]:
        """The files that are open or have something to read."""
        return (*self._closed.values(), *self._open.values())

    @property
    def held(self) -> tuple[LogFile, ...]:
        """All files that this tail holds."""
        return self.table.held_by(self.root.name)

    @property
    def paths(self) -> tuple[str, ...]:
        """The matching paths with a file."""
        return tuple(self._paths)

    def at(self, path: str) -> LogFile | None:
        """The file at the matching path."""
        return self._paths.get(path)

    def has_open(self, identity: Identity) -> bool:
        """Whether a file with these ids is open."""
        here = (identity.device, identity.number)
        return identity.known and here in [
            (file.checkpoint.device, file.checkpoint.number) for file in self._open.values()
        ]

    def live_with(self, identity: Identity) -> list[LogFile]:
        """The live files with these ids: at most one, unless the file system has no ids."""
        return [file for file in self._paths.values() if file.state == "live" and _has(file, identity)]

    def holds(self, file: LogFile) -> bool:
        """Whether the file is still this tail's."""
        return file.state in HELD and file.root == self.root.name

    # --- handles -----------------------------------------------------------------------------------------------------

    def openable(self, path: str) -> int | None:
        """A descriptor of the file at `path`; None where there is no log, or it cannot be opened, which is noted."""
        self.heartbeat()
        try:
            return self.open_path(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError as error:
            self.unreadable.add(path, error)
            return None

    def open_path(self, path: str) -> int:
        """Open `path`, with fewer other files open if there are too many. Raises OSError."""
        self._make_room()
        try:
            return files.open_shared(path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # Handles are scarce: use half as many from now on (hazard 46).
        self._most_handles = max(2, len(self._open) // 2)
        self._make_room()
        return files.open_shared(path)

    def _make_room(self) -> None:
        """Close files if no more may be opened: those needed least, and of these the ones opened longest ago.

        Several at once, so that not each opening has to look for one; but only one of those that would have to be found
        again.
        """
        while self._open and len(self._open) >= self._most_handles:
            every = list(self._open.values())
            named = [file for file in every if file.left_at is None]
            idle = [file for file in named if not file.cursor.busy]
            some = 1 + self._most_handles // CLOSED_AT_ONCE
            for file in idle[:some] or named[:some] or every[:1]:
                self.close(file)

    def attach(self, file: LogFile, descriptor: int, path: str, status: os.stat_result) -> None:
        """The file is open as `descriptor`, with this status, found at `path`."""
        here = files.identity(status)
        cursor = file.cursor
        cursor.descriptor = descriptor
        cursor.behind = True
        cursor.size = max(cursor.size, status.st_size)
        if here != file.identity or path != file.path:
            file.checkpoint = msgspec.structs.replace(
                file.checkpoint, device=here.device, number=here.number, path=path
            )
        self._open[file.key] = file
        self._closed.pop(file.key, None)

    def close(self, file: LogFile) -> None:
        """Close a file. Discovery checks its path from now on; without a path, it has to be found again."""
        if file.state == "left":
            self.release(file)
            return
        del self._open[file.key]
        file.cursor.release()
        if file.cursor.busy or file.left_at is not None:
            self._closed[file.key] = file

    def reattach(self, file: LogFile, descriptor: int, path: str) -> None:
        """The file is open as another descriptor than before; what was read ahead is read again. Raises OSError."""
        status = os.fstat(descriptor)
        file.cursor.close()
        self._open.pop(file.key, None)
        self.attach(file, descriptor, path, status)

    def wake(self, file: LogFile) -> None:
        """A closed file has something to read."""
        file.cursor.behind = True
        self._closed[file.key] = file

    def rest(self, file: LogFile) -> None:
        """A file has nothing more to read now."""
        if not file.cursor.busy:
            self._closed.pop(file.key, None)

    def fail(self, file: LogFile, retry_at: float) -> None:
        """The file could not be read: it is closed, and not opened again before `retry_at` of the monotonic clock."""
        file.cursor.close()
        file.failures += 1
        file.retry_at = retry_at
        self._open.pop(file.key, None)
        if file.state == "left":
            self.release(file)
        else:
            self._closed[file.key] = file

    def close_all(self) -> None:
        """Close all handles."""
        for file in self.reading:
            file.cursor.close()

    # --- from one state to the next ----------------------------------------------------------------------------------

    def save(self, file: LogFile, batch: Batch) -> None:
        """Save the file's checkpoint with the batch, once something was read of it."""
        if file.checkpoint.offset or file.saved:
            self.table.save(file, batch)

    def adopt(self, file: LogFile, path: str, descriptor: int, matches: bool, batch: Batch) -> bool:
        """missing, lost or final → live or rotated: the open file at `path` contains what was read of it.

        False if another tail was faster: the descriptor is still the caller's then, as where OSError is raised.
        """
        status = os.fstat(descriptor)
        if not self.table.adopt(file, self.root.name, "live" if matches else "rotated"):
            return False
        before = file.checkpoint
        if not self.same_path(before.path, path):
            self.table.count_rotation(file, batch)
        file.checkpoint = msgspec.structs.replace(
            file.checkpoint,
            path=path,
            final=False,
            gone=0.0,
            lost=False,
            truncated=False,
            mark=status.st_size if before.mark == UNKNOWN_MARK else before.mark,
        )
        now = self.clock.monotonic()
        file.cursor, file.left_at, file.replaced = Cursor(file.checkpoint, now), None, False
        self.attach(file, descriptor, path, status)
        if matches:
            self._stand_for(path, file)
        else:
            file.left_at = now
            self._name(file, path, batch)
        self.save(file, batch)
        return True

    def begin(self, path: str, descriptor: int, batch: Batch) -> None:
        """New file → live: the open file at `path` is read from its beginning. Raises OSError."""
        file, status = self._new(path, descriptor, "live")
        self.table.add(file)
        self.attach(file, descriptor, path, status)
        self._stand_for(path, file)
        self._note_successor(path, batch)

    def begin_rotated(self, path: str, descriptor: int, version: int, batch: Batch) -> bool:
        """New file → rotated; `version`: that of the table when this was found out.

        False if it changed: the descriptor is still the caller's then, as where OSError is raised.
        """
        file, status = self._new(path, descriptor, "rotated")
        if not self.table.claim(file, rotated_as(path), version):
            return False
        file.left_at = self.clock.monotonic()
        self.attach(file, descriptor, path, status)
        self.table.count_rotation(file, batch)
        return True

    def _new(self, path: str, descriptor: int, state: State) -> tuple[LogFile, os.stat_result]:
        checkpoint = new_checkpoint(self.table.log, path, descriptor)
        return LogFile(checkpoint, state, self.root.name, self.clock.monotonic()), os.fstat(descriptor)

    def _stand_for(self, path: str, file: LogFile) -> None:
        self._paths[path] = file
        self._vacant.pop(path, None)
        if path not in file.paths:
            file.paths.append(path)
        file.looked = None

    def link(self, path: str, file: LogFile) -> None:
        """Another path of a live file: a link, another spelling, or the same file under two patterns (hazard 38)."""
        self._stand_for(path, file)

    def leave(self, path: str, replaced: bool = False) -> None:
        """live → left, or missing if it is closed. `replaced`: another file took its name immediately."""
        file = self._paths.pop(path)
        file.paths.remove(path)
        self.needs_discovery = True
        self.table.note_missed()
        self._vacant[path] = None
        if len(self._vacant) > MOST_VACANT:
            del self._vacant[next(iter(self._vacant))]
        if file.path != path:
            return  # a link to it
        if file.paths:
            file.checkpoint = msgspec.structs.replace(file.checkpoint, path=file.paths[0])
        elif not file.is_open:
            self.release(file)
        elif file.left_at is None:
            file.left_at = self.clock.monotonic()
            file.replaced = replaced
            file.cursor.behind = True
            self.table.move(file, "left")

    def release(self, file: LogFile) -> None:
        """live, left or rotated → missing: it is not known where it is."""
        self._let_go(file)
        if file.saved or file.checkpoint.offset:
            self.table.note_missed()
            self.table.move(file, "missing")
        else:
            self.table.remove(file)

    def _let_go(self, file: LogFile) -> None:
        file.cursor.close()
        file.cursor.behind = False  # else a poll in progress would read it again and again
        for path in file.paths:
            del self._paths[path]
        file.paths, file.looked = [], None
        self._open.pop(file.key, None)
        self._closed.pop(file.key, None)

    def renamed(self, file: LogFile, path: str, matches: bool, batch: Batch) -> None:
        """left → live or rotated: its name is now `path`."""
        self.table.count_rotation(file, batch)
        file.checkpoint = msgspec.structs.replace(file.checkpoint, path=path)
        file.cursor.grew = False
        if matches:
            file.left_at = None
            self.table.move(file, "live")
            self._stand_for(path, file)
        else:
            self.named(file, path, batch)
        self.save(file, batch)

    def named(self, file: LogFile, path: str, batch: Batch) -> None:
        """left → rotated: this is its name now, or that of a copy of it."""
        self._name(file, path, batch)
        self.table.move(file, "rotated")

    def _name(self, file: LogFile, path: str, batch: Batch) -> None:
        if rotated := rotated_as(path):
            self.table.count_rotation(file, batch)
            file.checkpoint = msgspec.structs.replace(file.checkpoint, path=path)
            self.table.name(rotated, file)
            self.table.save(file, batch)

    def _note_successor(self, path: str, batch: Batch) -> None:
        """Another file has taken `path`: those at this path before were rotated."""
        for file in self.table.files("left", "rotated", "final"):
            if file.path == path and file.root in ("", self.root.name):
                self.table.count_rotation(file, batch)

    def truncated(self, file: LogFile, batch: Batch) -> None:
        """live → missing: a file with other content and the same number is at its path."""
        if file.checkpoint.offset:
            self.table.count_rotation(file, batch)
            file.checkpoint = msgspec.structs.replace(file.checkpoint, truncated=not file.unread)

    def rewritten(self, file: LogFile, batch: Batch) -> None:
        """An open file contains other bytes than were read of it: it becomes a new file (hazards 13 to 15).

        Raises OSError.
        """
        descriptor = file.cursor.descriptor
        assert descriptor is not None  # noqa: S101  # it was just read
        fresh, status = self._new(file.path, descriptor, file.state)
        fresh.left_at, paths = file.left_at, file.paths
        self.truncated(file, batch)
        file.cursor.descriptor = None
        self._let_go(file)
        if file.checkpoint.offset:
            self.table.move(file, "missing")
            self.needs_discovery = True
            self.table.note_missed()
            self.table.save(file, batch)
        elif file.saved:
            self.table.forget(file, batch)
        else:
            self.table.remove(file)
        self.table.add(fresh)
        self.attach(fresh, descriptor, file.path, status)
        for path in paths:
            self._stand_for(path, fresh)

    def finish(self, file: LogFile, batch: Batch) -> None:
        """left or rotated → final: all of it was counted, and nothing more can be appended."""
        file.checkpoint = msgspec.structs.replace(file.checkpoint, final=True, gone=self.clock.wall())
        self._let_go(file)
        if file.saved or file.checkpoint.offset:
            self.table.move(file, "final")
            self.table.save(file, batch)
        else:
            self.table.remove(file)
        self.needs_discovery = True  # so that its name is determined, too

    # --- names -------------------------------------------------------------------------------------------------------

    def same_path(self, one: str, other: str) -> bool:
        """Whether two paths are spellings of one."""
        return one.casefold() == other.casefold() if self.root.caseless else one == other

    def look_at_vacant_paths(self) -> None:
        """Check for a new file where one has left."""
        for path in self._vacant:
            self.heartbeat()
            self.needs_discovery |= os.path.lexists(path)


def _has(file: LogFile, identity: Identity) -> bool:
    """Whether the file had these ids when it was last open."""
    at = file.checkpoint
    return identity.known and at.number == identity.number and at.device == identity.device
