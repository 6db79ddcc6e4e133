"""The generations that one tail reads: their open files, their paths, and the trouble with them."""

import errno
import logging
import os
from collections.abc import Callable

import msgspec

from exporter.logs import files
from exporter.logs.files import NotALogError, Root
from exporter.logs.generation import FileRow, Generation
from exporter.logs.register import Batch, Clock, Register, Trouble
from exporter.masking import masked_name

MOST_HANDLES = 256
"""Files that one tail keeps open at once."""
MOST_VACANT = 64
"""Names without a file that are looked at in each poll, as a new file is about to take them."""

log = logging.getLogger("exporter.tail")


class Held:
    """What discovery and reading share. Used by one thread only."""

    def __init__(
        self,
        register: Register,
        root: Root,
        clock: Clock,
        most_handles: int = MOST_HANDLES,
        beat: Callable[[], None] = lambda: None,
        count_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`beat` is told before every call that may hang, `count_failure` of every one that failed."""
        self.register = register
        self.root = root
        self.clock = clock
        self.beat = beat
        self.restless = True
        """Whether something was seen to move, so that the next discovery should not wait."""
        self.generations: dict[str, Generation] = {}
        self.open: dict[str, Generation] = {}
        """Those with an open file."""
        self.awake: dict[str, Generation] = {}
        """Those without an open file that have something to read."""
        self.paths: dict[str, str] = {}
        """The key of the generation that each matching path stands for."""
        self.looked: dict[str, tuple[int, ...]] = {}
        """For each matching path of a closed file what its status was."""
        self.linked: set[str] = set()
        """Keys for which several paths stand."""
        self.vacant: dict[str, None] = {}
        """Paths whose file has left, so that a new one is to be expected."""
        self.skipped: dict[str, tuple[int, ...]] = {}
        """Paths of files that are no logs, with their status."""
        self.troubles: dict[str, Trouble] = {}
        self.errors = 0
        self._most_handles = most_handles
        self._count_failure = count_failure

    @property
    def active(self) -> tuple[Generation, ...]:
        """The generations that are open or have something to read."""
        return (*self.awake.values(), *self.open.values())

    def new_batch(self) -> Batch:
        """A batch with nothing in it."""
        return Batch(self.register.log, self.root.name, self.clock.wall())

    def drop(self, generation: Generation) -> None:
        """Have nothing to do with the generation any more."""
        generation.close()
        generation.behind = False  # else a poll under way would ask it again and again
        key = generation.row.key
        self.register.adrift.pop(key, None)
        for path in self.paths_of(generation.row):
            del self.paths[path]
            self.looked.pop(path, None)
        for table in (self.generations, self.open, self.awake):
            table.pop(key, None)
        self.linked.discard(key)

    def save(self, generation: Generation, batch: Batch) -> None:
        """Have the generation's row saved with the batch, once something was read of it."""
        row = generation.row
        if row.offset or row.key in self.register.rows:
            self.register.rows[row.key] = batch.rows[row.key] = row

    def opened(self, generation: Generation, descriptor: int, path: str) -> None:
        """The generation's file is open as `descriptor`."""
        status = os.fstat(descriptor)
        here = files.identity(status)
        generation.descriptor = descriptor
        generation.behind = True
        generation.size = max(generation.size, status.st_size)
        if here != generation.row.identity or path != generation.row.path:
            generation.row = msgspec.structs.replace(generation.row, device=here.device, number=here.number, path=path)
        self.open[generation.row.key] = generation
        self.awake.pop(generation.row.key, None)

    def open_file(self, path: str) -> int:
        """Open `path`, with fewer other files open if there are too many. Raises OSError."""
        while len(self.open) >= self._most_handles and self._close_one():
            pass
        try:
            return files.open_shared(path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # Somebody needs handles: do with half as many from now on (hazard 46).
        self._most_handles = max(2, len(self.open) // 2)
        while len(self.open) >= self._most_handles and self._close_one():
            pass
        return files.open_shared(path)

    def openable(self, path: str) -> int | None:
        """A descriptor of the file at `path`; None where there is no log, or it cannot be opened, which is noted."""
        self.beat()
        try:
            return self.open_file(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError as error:
            self.failed(path, error)
            return None

    def _close_one(self) -> bool:
        """Close an open file: the one opened longest ago of those that can best be spared."""
        spare = first = None
        for generation in self.open.values():
            if generation.left_at is None:
                first = first or generation
                if not generation.behind and generation.parsed is None:
                    spare = generation
                    break
        least = spare or first or next(iter(self.open.values()), None)
        if least is None:
            return False
        self.rest(least)
        return True

    def rest(self, generation: Generation) -> None:
        """Close a file; its path is looked at by discovery from now on, or it is searched for if none is known."""
        key = generation.row.key
        if key in self.register.adrift:
            self.unbind(generation)
            return
        del self.open[key]
        generation.release()
        if generation.behind or generation.parsed is not None or generation.left_at is not None:
            self.awake[key] = generation

    def leave(self, path: str, replaced: bool = False) -> None:
        """`path` does not stand for its generation any more; `replaced`: without a gap, as another file has it."""
        key = self.paths.pop(path)
        self.looked.pop(path, None)
        self.restless = True
        self.register.archive_due = True
        self.vacant[path] = None
        if len(self.vacant) > MOST_VACANT:
            del self.vacant[next(iter(self.vacant))]
        generation = self.generations[key]
        if generation.row.path != path:
            return  # a link to it
        if key in self.linked and (other := next((path for path, known in self.paths.items() if known == key), "")):
            generation.row = msgspec.structs.replace(generation.row, path=other)
        elif generation.descriptor is None:
            self.unbind(generation)
        elif generation.left_at is None:
            generation.left_at = self.clock.monotonic()
            generation.replaced = replaced
            generation.behind = True
            self.register.adrift[key] = os.path.basename(path)

    def unbind(self, generation: Generation) -> None:
        """Nothing is known of where the generation is: its row waits for its file to be found."""
        row = generation.row
        if row.key in self.register.rows or row.offset:
            self.register.unbound[row.key] = row  # before it is let go: another tail must find it on one list or other
            self.register.archive_due = True
        self.drop(generation)

    def paths_of(self, row: FileRow) -> list[str]:
        """The matching paths that stand for the generation."""
        if row.key in self.linked:
            return [path for path, key in self.paths.items() if key == row.key]
        return [row.path] if self.paths.get(row.path) == row.key else []

    def failed(self, path: str, error: OSError) -> None:
        """Count a failure, and say it once for as long as it lasts (hazard 134)."""
        self.errors += 1
        self._count_failure()
        if path not in self.troubles:
            trouble = Trouble(
                path=path,
                problem=error.strerror or str(error) or type(error).__name__,
                denied=isinstance(error, PermissionError),
                since=self.clock.wall(),
            )
            self.troubles[path] = trouble
            log.warning("cannot read %s: %s", masked_name(path), trouble.problem)

    def healed(self, path: str) -> None:
        """What could not be read before, if so, can be read again."""
        if self.troubles.pop(path, None):
            log.info("can read %s again", masked_name(path))


def look(status: os.stat_result) -> tuple[int, ...]:
    """What a path's status is compared by, to see that nothing happened."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
