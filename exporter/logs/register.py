"""What is saved of a log, and handed over with its records: its rows, its book, batches. Data and tables."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from exporter.events import LogName
from exporter.logs.files import Rolled, rolled_name
from exporter.logs.generation import FileRow


@dataclass(frozen=True)
class Clock:
    """The two clocks: of instants, and of spans."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class LogBook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is saved of a log as a whole."""

    listed: dict[str, float] = {}
    """Each pattern (and archive) whose folder was listed, with the instant of the first time."""
    absent: dict[str, str] = {}
    """Each archive that was not there when it was first looked for, with the root that it was looked for on."""
    rolled: dict[str, str] = {}
    """For each live file's stem the stamp of the newest generation that is done with."""

    def merged(self, change: "LogBook") -> "LogBook":
        """The book with a change. Changes by several tails may be merged in any order, as nothing ever leaves it."""
        return LogBook(
            listed={**change.listed, **self.listed},
            absent={**change.absent, **self.absent},
            rolled={
                stem: max(self.rolled.get(stem, ""), change.rolled.get(stem, ""))
                for stem in (self.rolled | change.rolled)
            },
        )


@dataclass(frozen=True)
class Trouble:
    """A path that cannot be read: in words for a person at this machine."""

    path: str
    problem: str
    denied: bool
    since: float


@dataclass
class Batch:
    """What one step of a tail found, to be folded and saved as one."""

    log: LogName
    root: str
    at: float = 0.0
    """The instant when the step began."""
    records: list[Any] = field(default_factory=list)
    rows: dict[str, FileRow] = field(default_factory=dict)
    """Rows to save, by key."""
    forgotten: set[str] = field(default_factory=set)
    """Keys of rows to drop."""
    book: LogBook | None = None
    """What is new in the log's book, to be merged into the one that is saved."""
    read_bytes: int = 0
    rotations: int = 0
    lost_generations: int = 0
    drained: bool = False
    """Whether nothing that can be read was left unread."""
    caught_up: bool = False
    """Whether the log has been read to the end found when this process first listed it."""
    troubles: tuple[Trouble, ...] = ()
    """Set by `read_once`: what could not be read."""
    files: int = 0
    """Set by `read_once`: how many files there were."""
    """What cannot be read (of a single reading)."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it to fold or to save."""
        return not (
            self.records
            or self.rows
            or self.forgotten
            or self.book
            or self.read_bytes
            or self.rotations
            or self.lost_generations
        )


@dataclass
class Register:
    """What all tails of one log share: its saved rows and its book.

    A row belongs to the tail that holds its generation, and that tail alone changes and saves it: `adopt` and `claim`
    decide who that is. So the batches of two tails may be committed in any order.
    """

    log: LogName
    rows: dict[str, FileRow] = field(default_factory=dict)
    """Every row as it was last handed over, by key."""
    book: LogBook = field(default_factory=LogBook)
    unbound: dict[str, FileRow] = field(default_factory=dict)
    """Rows that no tail has found a file for."""
    misses: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    """For each unbound row the complete searches that did not find it."""
    _rolled_names: dict[Rolled, str] = field(default_factory=dict)
    """The generations that are known by name, with their row's key."""
    adrift: dict[str, str] = field(default_factory=dict)
    """The keys of generations that a tail reads on although their name was taken from them, with that name: until it
    is known what they are called now, any file that turns up may be a copy of them."""
    _waiting: dict[str, set[Rolled]] = field(default_factory=dict)
    """For each root the rolled files in its folders of which it is not clear yet what they are: so their copies in the
    archive are not looked at either."""
    archive_due: bool = True
    """Whether something may have been missed that the archive holds."""
    places: set[str] = field(default_factory=set)
    """The roots on which the log is searched for."""
    listed_at: dict[str, float] = field(default_factory=dict)
    """For each root the monotonic instant when it was last begun to list all of its folders, and that succeeded."""
    searched_at: dict[str, float] = field(default_factory=dict)
    """For each root the instant when the last search began that was complete, its archive included."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        for key, row in self.rows.items():
            if not row.final:
                self.unbound[key] = row
            if rolled := rolled_name(os.path.basename(row.path)):
                self._rolled_names[rolled] = key

    def write(self, change: LogBook, batch: Batch) -> None:
        """Have a change of the book saved with the batch."""
        with self._lock:
            self.book = self.book.merged(change)
        batch.book = batch.book.merged(change) if batch.book else change

    def adopt(self, key: str) -> FileRow | None:
        """The unbound row, which is the caller's from now on; None if another tail was faster."""
        with self._lock:
            self.misses.pop(key, None)
            return self.unbound.pop(key, None)

    def note_roll(self, key: str, batch: Batch) -> None:
        """A generation that is done with proves to have been rolled: count it, unless it was counted."""
        with self._lock:
            row = self.rows.get(key)
            if row is not None and row.final and not row.rolled:
                batch.rotations += 1
                self.rows[key] = batch.rows[key] = msgspec.structs.replace(row, rolled=True)

    def claim(self, rolled: Rolled, key: str) -> bool:
        """Have the generation of that name read as the row `key`. False if another tail was faster."""
        with self._lock:
            if not self.is_news(rolled):
                return False
            self._rolled_names[rolled] = key
            return True

    def name(self, rolled: Rolled, key: str) -> None:
        """The generation of that name is the one of the row `key`."""
        with self._lock:
            self._rolled_names[rolled] = key

    def wait(self, place: str, rolled: set[Rolled]) -> None:
        """In the folders of the root `place` these rolled files are not known yet."""
        with self._lock:
            self._waiting[place] = rolled

    def is_waiting(self, rolled: Rolled) -> bool:
        """Whether on any root a file of that name is not known yet."""
        with self._lock:
            return any(rolled in names for names in self._waiting.values())

    def collapse(self, batch: Batch) -> None:
        """Let one stamp stand for all generations up to it that are done with, so that the state stays small.

        Not before all roots were searched since then: an older generation may wait in an archive that was away.
        """
        with self._lock:
            searched_at = min(self.searched_at.get(place, 0.0) for place in self.places)
            rolled = dict(self.book.rolled)
            by_stem: dict[str, list[Rolled]] = {}
            for generation in self._rolled_names:
                by_stem.setdefault(generation.stem, []).append(generation)
            for stem, generations in by_stem.items():
                done = ""
                for generation in sorted(generations):
                    row = self.rows.get(self._rolled_names[generation])
                    if row and not 0 < row.gone < searched_at:
                        break
                    done = generation.stamp
                    if row:
                        self.forget(row.key, batch)
                    del self._rolled_names[generation]
                if done > rolled.get(stem, ""):
                    rolled[stem] = done
            if rolled != self.book.rolled:
                self.write(LogBook(rolled=rolled), batch)

    def forget(self, key: str, batch: Batch) -> None:
        """Drop a row: nobody will ask for it any more."""
        self.rows.pop(key, None)
        self.unbound.pop(key, None)
        self.misses.pop(key, None)
        batch.rows.pop(key, None)
        batch.forgotten.add(key)

    def is_news(self, rolled: Rolled | None) -> bool:
        """Whether a generation of this name is still to be looked at."""
        if rolled is None or rolled.stamp <= self.book.rolled.get(rolled.stem, ""):
            return False
        key = self._rolled_names.get(rolled)
        return key is None or key in self.unbound
