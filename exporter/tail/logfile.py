"""One log file: its state, its checkpoint, and the cursor that reads it."""

import os
from collections.abc import Sequence
from typing import Any, Literal

from exporter.logs.files import Identity, Rotated, rotated_name
from exporter.tail.checkpoint import FileCheckpoint
from exporter.tail.cursor import Cursor

State = Literal["missing", "live", "left", "rotated", "final", "lost"]
"""The states of a file; `exporter.tail` says what each means, and what leads from one to another."""
STATES: tuple[State, ...] = ("missing", "live", "left", "rotated", "final", "lost")
HELD: tuple[State, ...] = ("live", "left", "rotated")
"""The states in which the file belongs to one tail, and only that tail may change it."""


class LogFile:
    """The content that a writer puts into one file between two rotations, regardless of its folder and name.

    `state` and `root` are changed only by the table of its log, everything else by the tail that holds the file.
    """

    def __init__(self, checkpoint: FileCheckpoint, state: State, root: str = "", now: float = 0.0) -> None:
        self.checkpoint = checkpoint
        self.state: State = state
        self.root = root
        """The root whose tail holds it, or released it in a batch that is not committed yet."""
        self.saved = False
        """Whether its checkpoint was ever part of a batch."""
        self.cursor = Cursor(checkpoint, now)
        self.paths: list[str] = []
        """Its matching paths: several if it has links."""
        self.looked: tuple[int, ...] | None = None
        """The status of its path when it was last found there unchanged while closed."""
        self.left_at: float | None = None
        """Since when it no longer has the name of a live file, by the monotonic clock."""
        self.replaced = False
        """Whether another file took its name immediately."""
        self.failures = 0
        """Consecutive failures to read it."""
        self.retry_at = 0.0
        """When to try again after a failure, by the monotonic clock."""
        self.mismatches = 0
        """How often in a row its bytes differed from what had been read."""
        self.delete_pending = False
        """Whether it was deleted and keeps its name while it is open (Windows)."""
        self.misses: dict[str, int] = {}
        """By root: how many complete searches did not find it."""

    @property
    def key(self) -> str:
        """Our own name for it."""
        return self.checkpoint.key

    @property
    def path(self) -> str:
        """Where it was last seen."""
        return self.checkpoint.path

    @property
    def name(self) -> str:
        """Its last name."""
        return os.path.basename(self.checkpoint.path)

    @property
    def identity(self) -> Identity:
        """Its ids when it was last open."""
        return self.checkpoint.identity

    @property
    def is_open(self) -> bool:
        """Whether it has a handle."""
        return self.cursor.descriptor is not None

    @property
    def unread(self) -> int:
        """Bytes in the file that were not handed over yet."""
        return max(0, self.cursor.size - self.checkpoint.offset)

    def read_ahead(self, now: float, most: int, final: bool = False) -> int:
        """Read what comes next: see `Cursor.read_ahead`. Returns how many bytes were consumed without a record."""
        before = self.checkpoint.offset
        self.checkpoint = self.cursor.read_ahead(self.checkpoint, now, most, final)
        self.mismatches = self.failures = 0
        return self.checkpoint.offset - before

    def take(self, count: int) -> tuple[Sequence[Any], int]:
        """Hand over the parsed records up to number `count`. Returns them, and the bytes that were consumed."""
        before = self.checkpoint.offset
        records, self.checkpoint = self.cursor.take(self.checkpoint, count)
        return records, self.checkpoint.offset - before


def originals(name: str) -> set[str]:
    """The names of files that `name` may be a rotation of: `app.txt` for `app.txt.1`, a live file for a rotated one."""
    names = {name[:place] for place, char in enumerate(name) if char in ".-_~ " and place}
    if rotated := rotated_name(name):
        names |= {rotated.stem + suffix for suffix in (".txt", ".log", "")}
    return names


def may_be(name: str, other: str) -> bool:
    """Whether the file `name` may contain what `other` contained: the same name, or that of a rotation of it."""
    if name.casefold() == other.casefold():
        return True
    rotated, before = rotated_name(name), rotated_name(other)
    if rotated is None:
        return False
    return rotated == before if before else rotated.stem.casefold() == os.path.splitext(other)[0].casefold()


def rotated_as(path: str) -> Rotated | None:
    """The stem and stamp in the name of the file at `path`, if it is that of a rotated file."""
    return rotated_name(os.path.basename(path))
