"""Proof: whether a file holds what was read of a generation. Ids and names only narrow, the bytes decide.

Nothing is changed here: it only compares.
"""

import os
from collections.abc import Iterable

from exporter.logs import files
from exporter.logs.files import rolled_name
from exporter.logs.generation import FileRow, Generation, begin_alike
from exporter.logs.held import Held, look

QUIET_SECONDS = 30.0
"""Unchanged for so long, a renamed or removed file is final and is let go (hazards 2, 41 and 51)."""
MOST_COMPARED = 10_000
"""Comparisons of files with saved rows that are remembered, so that each is made once."""


class Proof:
    """Compares files with what one tail holds, each file with each row only once while it stays the same."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._rejected: dict[tuple[str, str], tuple[int, ...]] = {}
        """Which path was compared with which row, at which status, and was not it."""
        self._copies: dict[str, tuple[tuple[int, ...], float]] = {}
        """Paths that may be copies still growing, with their status and since when it holds."""

    def same_path(self, one: str, other: str) -> bool:
        """Whether two paths are spellings of one."""
        return one.casefold() == other.casefold() if self._held.root.caseless else one == other

    def fitting(self, row: FileRow, path: str, status: os.stat_result) -> int | None:
        """A descriptor of the file at `path` if it holds what was read of `row`, or None."""
        compared, seen_as = (row.key, path), (*look(status), row.offset)
        if self._rejected.get(compared) == seen_as:
            return None
        descriptor = self._held.openable(path)
        if descriptor is None:
            return None
        try:
            # Of a row that nothing was read of there is hardly any proof: it must bear its name at least.
            proven = row.offset or row.mark or self.same_path(row.path, path) or is_same_roll(row.path, path)
            if proven and row.fits(descriptor):
                self._rejected.pop(compared, None)
                return descriptor
            if len(self._rejected) > MOST_COMPARED:
                self._rejected.clear()
            self._rejected[compared] = seen_as
        except OSError as error:
            self._held.failed(path, error)
        os.close(descriptor)
        return None

    def copies_held(self, generation: Generation, path: str) -> bool | None:
        """Whether `path` is a whole copy (True) or the beginning of one (False) of a generation that left its name."""
        if generation.descriptor is None:
            return None
        try:
            descriptor = files.open_shared(path)
        except OSError:
            return None
        try:
            if not begin_alike(descriptor, generation.descriptor):
                return None
            return os.fstat(descriptor).st_size >= os.fstat(generation.descriptor).st_size
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def settles(self, path: str, status: os.stat_result) -> bool:
        """Whether the file at `path` may still be growing: nothing says that it is unchanged for `QUIET_SECONDS`."""
        seen_as, now = look(status), self._held.clock.monotonic()
        before, since = self._copies.get(path, (seen_as, now))
        if len(self._copies) > MOST_COMPARED:
            self._copies.clear()
        self._copies[path] = (seen_as, since if before == seen_as else now)
        return now - self._copies[path][1] < QUIET_SECONDS

    def may_grow(self, path: str, rows: Iterable[FileRow]) -> bool:
        """Whether the file at `path` may be an unfinished copy of one of the rows."""
        try:
            descriptor = files.open_shared(path)
        except OSError:
            return False
        try:
            # One that fits by now was finished since it was looked at.
            return any(row.offset and (row.may_grow_into(descriptor) or row.fits(descriptor)) for row in rows)
        except OSError:
            return False
        finally:
            os.close(descriptor)


def is_outgrown(copy: int, original: str) -> bool:
    """Whether the open file `copy` is the beginning of the longer file `original`. Raises OSError."""
    try:
        descriptor = files.open_shared(original)
    except FileNotFoundError:
        return False
    try:
        return os.fstat(copy).st_size <= os.fstat(descriptor).st_size and begin_alike(copy, descriptor)
    finally:
        os.close(descriptor)


def is_same_roll(one: str, other: str) -> bool:
    """Whether two paths bear the name of the same rolled generation."""
    rolled = rolled_name(os.path.basename(one))
    return rolled is not None and rolled == rolled_name(os.path.basename(other))


def originals(name: str) -> set[str]:
    """The names of files that `name` may be a copy of: `app.txt` for `app.txt.1`, a live file for a rolled one."""
    names = {name[:place] for place, char in enumerate(name) if char in ".-_~ " and place}
    if rolled := rolled_name(name):
        names |= {rolled.stem + suffix for suffix in (".txt", ".log", "")}
    return names


def is_generation_of(name: str, other: str) -> bool:
    """Whether the file `name` may hold what the file `other` held: the same name, or a generation of it."""
    if name.casefold() == other.casefold():
        return True
    rolled, before = rolled_name(name), rolled_name(other)
    if rolled is None:
        return False
    return rolled == before if before else rolled.stem.casefold() == os.path.splitext(other)[0].casefold()
