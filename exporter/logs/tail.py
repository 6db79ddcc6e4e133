"""Tailing one log exactly: complete new records of the files that match, each handed over once. All rotation lore.

`Tail.discover` finds files and `Tail.poll` reads them; both make batches that whoever drives the tail saves together
with what was counted of them. Nothing here waits, counts for good, or knows what a record means.
"""

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from exporter.events import LogName
from exporter.logs.files import (
    Identity,
    Listing,
    NotALogError,
    Pattern,
    Rolled,
    Root,
    archived,
    identity,
    is_doomed,
    open_shared,
    read_at,
    rolled_name,
)
from exporter.logs.generation import (
    ANCHOR,
    HEAD,
    SMALLEST_READ,
    UNKNOWN_MARK,
    FileRow,
    Generation,
    RewrittenError,
    new_row,
)

BATCH_BYTES = 4 << 20
"""Bytes of log that one batch covers, about; also what may be read ahead to merge files by time."""
MOST_HANDLES = 256
"""Files that one tail keeps open at once."""
QUIET_SECONDS = 30.0
"""Unchanged for so long, a renamed or removed file is final and is let go (hazards 2, 41 and 51)."""
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
SEARCHES = 2
"""How many complete searches must agree that a saved file is nowhere before it counts as lost."""
UNMISSED_SECONDS = 86_400.0
"""A file that had not changed for so long held nothing unread when it went: it is not lost but tidied away."""
ARCHIVE_SECONDS = 300.0
"""The archive is searched when something may have been missed, and else so often."""
REMEMBERED_SECONDS = 7 * 86_400.0
"""How long a final or lost file is remembered, in case that its folder comes back with it."""
MOST_REMEMBERED = 256
"""How many of those are remembered for each log."""
MOST_COMPARED = 10_000
"""Comparisons of files with saved rows that are remembered, so that each is made once."""
MOST_VACANT = 64
"""Names without a file that are looked at in each poll, as a new file is about to take them."""

log_ = logging.getLogger("exporter.tail")

History = Literal["restate", "count", "ignore"]


class LogBook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is saved of a log as a whole."""

    listed: dict[str, float] = {}
    """Each pattern (and archive) whose folder was listed, with the instant of the first time."""
    rolled: dict[str, str] = {}
    """For each live file's stem the stamp of the newest generation that is done with."""


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
    """The log's book, where it changed."""
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
    """What all tails of one log share: its saved rows and its book. Only touched in ways that need no lock."""

    log: LogName
    rows: dict[str, FileRow] = field(default_factory=dict)
    """Every row as it was last handed over, by key."""
    book: LogBook = field(default_factory=LogBook)
    unbound: dict[str, FileRow] = field(default_factory=dict)
    """Rows that no tail has found a file for."""
    misses: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    """For each unbound row the complete searches that did not find it."""
    rolled_names: dict[Rolled, str] = field(default_factory=dict)
    """The generations that are known by name, with their row's key."""
    archive_due: bool = True
    """Whether something may have been missed that the archive holds."""
    places: set[str] = field(default_factory=set)
    """The roots on which the log is searched for."""

    def __post_init__(self) -> None:
        for key, row in self.rows.items():
            if not row.final:
                self.unbound[key] = row
            if rolled := rolled_name(os.path.basename(row.path)):
                self.rolled_names[rolled] = key


@dataclass(frozen=True)
class Clock:
    """The two clocks: of instants, and of spans."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


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
        """`searched`: all patterns of the log; `everything`: read rolled generations that were there before, too."""
        self.log = register.log
        self.root = root
        self.status = TailStatus(register.log, root.name)
        self.restless = True
        """Whether something was seen to move, so that the next discovery should not wait."""
        self._register = register
        self._patterns = tuple(patterns)
        self._archive = archive
        self._history = history
        self._searched = tuple(searched) or self._patterns
        self._everything = everything
        self.archive_only = not self._patterns
        register.places.add(root.name)
        self._clock = clock or Clock()
        self._most_handles = most_handles
        self._beat = beat
        """Told before every call that may hang."""
        self._count_failure = failed
        """Told of every failed listing, opening and reading."""
        self._generations: dict[str, Generation] = {}
        self._open: dict[str, Generation] = {}
        """Those with an open file, the longest unchanged first."""
        self._awake: dict[str, Generation] = {}
        """Those without an open file that have something to read."""
        self._paths: dict[str, str] = {}
        """The key of the generation that each matching path stands for."""
        self._looked: dict[str, tuple[int, ...]] = {}
        """For each matching path of a closed file what its status was."""
        self._rejected: dict[tuple[str, str], tuple[int, ...]] = {}
        """Which path was compared with which row, at which status, and was not it."""
        self._copies: dict[str, tuple[tuple[int, ...], float]] = {}
        """Paths that may be copies still growing, with their status and since when it holds."""
        self._absent: dict[str, float] = {}
        """The instant when a pattern's folder was last found missing."""
        self._linked: set[str] = set()
        """Keys for which several paths stand."""
        self._vacant: set[str] = set()
        """Paths whose file has left, so that a new one is to be expected."""
        self._skipped: dict[str, tuple[int, ...]] = {}
        """Paths of files that are no logs, with their status."""
        self._index = _Index()
        self._troubles: dict[str, Trouble] = {}
        self._errors = 0
        self._listed = False
        self._search = 0
        self._archive_searched = float("-inf")
        self._matched = 0
        self._missing: tuple[str, ...] = ()
        self._caught_up = False

    # --- discovery ---------------------------------------------------------------------------------------------------

    def discover(self) -> Iterator[Batch]:
        """Look for files. Each batch is to be committed before the next is asked for."""
        self.restless = False
        listing = Listing()
        errors_before = self._errors
        folders, missing, complete = self._folders(listing)
        yield from self._first_listings(folders, listing, missing)
        batch = self._batch()
        self._search += 1
        matched = [
            os.path.join(folder, name)
            for folder, patterns in folders.items()
            for name in listing.names(folder)
            if any(pattern.matches(name) for pattern in patterns)
        ]
        unresolved = self._known_paths(matched, folders, complete)
        self._find_by_number(unresolved, folders, listing, batch)
        if unresolved:
            self._index = _Index.of(self._generations.values(), self._register.rows.values())
            for path, status in sorted(unresolved.items()):
                self._resolve(path, status, batch)
        waiting = self._find_rolled(folders, listing, batch)
        searched = complete and not missing
        if self._archive:
            reached, growing = self._search_archive(batch)
            searched &= reached
            waiting |= growing
        self._give_up(searched, folders, waiting, batch)
        self._collapse(searched and not waiting, batch)
        self._vacant.difference_update(matched)
        self._listed = complete
        self._matched = len({self._paths[path] for path in matched if path in self._paths})
        self._missing = tuple(sorted(missing))
        for path in self._skipped.keys() - set(matched):
            del self._skipped[path]
            self._healed(path)
        if len(self._rejected) > MOST_COMPARED:
            self._rejected.clear()
        self._finish_batch(batch, read=self._errors == errors_before)
        yield batch

    def _folders(self, listing: Listing) -> tuple[dict[str, list[Pattern]], set[str], bool]:
        """The folders that could be listed, the patterns whose folder is missing, and whether all others could."""
        folders: dict[str, list[Pattern]] = {}
        missing: set[str] = set()
        complete = True
        for pattern in self._patterns:
            self._beat()
            try:
                found = False
                for folder in pattern.folders(listing):
                    self._beat()
                    try:
                        listing.names(folder)
                    except (FileNotFoundError, NotADirectoryError):
                        continue  # a normal state without end (hazards 4 and 43)
                    folders.setdefault(folder, []).append(pattern)
                    found = True
            except (FileNotFoundError, NotADirectoryError):
                found = False
            except OSError as error:
                complete = False
                self._failed(pattern.text, error)
                continue
            self._healed(pattern.text)
            if not found:
                missing.add(pattern.text)
                self._absent[pattern.text] = self._clock.wall()
        return folders, missing, complete

    def _first_listings(
        self, folders: dict[str, list[Pattern]], listing: Listing, missing: set[str]
    ) -> Iterator[Batch]:
        """What the files hold when their pattern is first listed is history: save their sizes before reading any."""
        book = self._register.book
        fresh = [
            pattern
            for pattern in self._patterns
            if pattern.text not in book.listed
            and pattern.text not in missing
            and any(pattern in patterns for patterns in folders.values())
        ]
        if not fresh:
            return
        now = self._clock.wall()
        batch = self._batch()
        rolled = dict(book.rolled)
        for pattern in fresh:
            names = [(folder, name) for folder, patterns in folders.items() if pattern in patterns
                     for name in listing.names(folder)]  # fmt: skip
            for _, name in names:
                if not self._everything and (generation := pattern.rolled(name)):
                    rolled[generation.stem] = max(generation.stamp, rolled.get(generation.stem, ""))
            if self._history != "count":
                known = {row.path for row in self._register.unbound.values()} | set(self._paths)
                rows = [row for folder, name in names if pattern.matches(name)
                        and os.path.join(folder, name) not in known
                        if (row := self._marked(os.path.join(folder, name)))]  # fmt: skip
                # A folder that did not exist a moment ago and holds nothing older is new, and so are its records.
                since = self._absent.get(pattern.text)
                if since is None or any(row.changed < since - 2 for row in rows):
                    for row in rows:
                        batch.rows[row.key] = row
        self._register.book = batch.book = msgspec.structs.replace(
            book, listed={**book.listed, **{pattern.text: now for pattern in fresh}}, rolled=rolled
        )
        for key, row in batch.rows.items():
            self._register.rows[key] = self._register.unbound[key] = row
        yield batch

    def _marked(self, path: str) -> FileRow | None:
        """The row that makes a file's present content history."""
        self._beat()
        try:
            descriptor = open_shared(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError:
            return FileRow(key=os.urandom(8).hex(), log=self.log, path=path, mark=UNKNOWN_MARK)
        try:
            status = os.fstat(descriptor)
            row = new_row(self.log, path, descriptor)
            return msgspec.structs.replace(row, mark=status.st_size)
        except OSError:
            return FileRow(key=os.urandom(8).hex(), log=self.log, path=path, mark=UNKNOWN_MARK)
        finally:
            os.close(descriptor)

    # --- which file is which -----------------------------------------------------------------------------------------

    def _known_paths(self, matched: list[str], folders: Iterable[str], complete: bool) -> dict[str, os.stat_result]:
        """The matching paths that stand for no known generation, with their status; others are seen to have left."""
        unresolved: dict[str, os.stat_result] = {}
        for path in matched:
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since it was listed, or a link to nothing
            except OSError as error:
                self._failed(path, error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            key = self._paths.get(path)
            if key is None:
                unresolved[path] = status
                continue
            generation = self._generations[key]
            looked = _look(status)
            if generation.descriptor is None and self._looked.get(path) == looked:
                continue
            if self._is_at(generation, path, status):
                if generation.descriptor is None:
                    self._looked[path] = looked
                    self._awake[key] = generation
                    generation.behind = True
            else:
                self._leave(path)
                unresolved[path] = status
        present = set(matched)
        listed = set(folders)
        for path in [path for path in self._paths if path not in present]:
            if complete or os.path.dirname(path) in listed:
                self._leave(path)
        return unresolved

    def _is_at(self, generation: Generation, path: str, status: os.stat_result) -> bool:
        """Whether `path` still stands for the file of `generation`."""
        here, row = identity(status), generation.row
        if here.known and row.identity.known and here == row.identity:
            return True  # a closed file is compared by its bytes once it is opened
        if here.known and row.identity.known and here.number != row.number:
            return False
        # No ids (hazard 33), or another device (hazard 32, a share that was mounted anew): the bytes tell.
        descriptor = self._fitting(row, path, status)
        if descriptor is None:
            return False
        generation.close()
        self._open.pop(row.key, None)
        self._opened(generation, descriptor, path)
        return True

    def _leave(self, path: str) -> None:
        """`path` does not stand for its generation any more."""
        key = self._paths.pop(path)
        self._looked.pop(path, None)
        self.restless = True
        self._register.archive_due = True
        if len(self._vacant) < MOST_VACANT:
            self._vacant.add(path)
        generation = self._generations[key]
        if generation.row.path != path:
            return  # a link to it
        if key in self._linked and (other := next((path for path, known in self._paths.items() if known == key), "")):
            generation.row = msgspec.structs.replace(generation.row, path=other)
        elif generation.descriptor is None:
            self._unbind(generation)
        elif generation.left_at is None:
            generation.located = False
            generation.left_at = self._clock.monotonic()
            generation.behind = True

    def _unbind(self, generation: Generation) -> None:
        """Nothing is known of where the generation is: its row waits for its file to be found."""
        generation.close()
        row = generation.row
        for table in (self._generations, self._open, self._awake):
            table.pop(row.key, None)
        for path in self._paths_of(row):
            del self._paths[path]
            self._looked.pop(path, None)
        if row.key in self._register.rows or row.offset:
            self._register.unbound[row.key] = row
            self._register.archive_due = True

    def _paths_of(self, row: FileRow) -> list[str]:
        if row.key in self._linked:
            return [path for path, key in self._paths.items() if key == row.key]
        return [row.path] if self._paths.get(row.path) == row.key else []

    def _find_by_number(
        self, unresolved: dict[str, os.stat_result], folders: dict[str, list[Pattern]], listing: Listing, batch: Batch
    ) -> None:
        """Find renamed files by their file number, wherever they are in the folders (hazard 7)."""
        rows = [row for row in self._register.unbound.values() if row.identity.known]
        left = [
            generation
            for generation in (*self._awake.values(), *self._open.values())
            if generation.left_at is not None and not generation.located and generation.row.identity.known
        ]
        if not rows and not left:
            return
        at: dict[str, str] = {}
        for folder, patterns in folders.items():
            for name, number in listing.names(folder).items():
                path = os.path.join(folder, name)
                if not number and any(
                    pattern.matches(name) or self._is_news(pattern.rolled(name)) for pattern in patterns
                ):
                    with contextlib.suppress(OSError):  # Windows: a listing tells no number (hazard 77)
                        number = os.stat(path).st_ino
                if number and path not in self._paths:
                    at.setdefault(str(number), path)
        for generation in left:
            here = at.get(generation.row.number)
            if here and here != generation.row.path:
                self._found_again(generation, here, here in unresolved, batch)
                unresolved.pop(here, None)
        for row in rows:
            here = at.get(row.number)
            if here and self._adopt(row, here, here in unresolved, batch):
                unresolved.pop(here, None)

    def _found_again(self, generation: Generation, path: str, matches: bool, batch: Batch) -> None:
        """A generation that we hold bears the name `path` now."""
        if not generation.row.rolled:
            batch.rotations += 1
        generation.row = msgspec.structs.replace(generation.row, path=path, rolled=True)
        generation.grew = False
        generation.located = True
        if matches:
            generation.left_at = None
            self._paths[path] = generation.row.key
        else:
            self._name(generation, path, batch)
        self._save(generation, batch)

    def _resolve(self, path: str, status: os.stat_result, batch: Batch) -> None:
        """Find out which generation a matching path stands for; a new one if no other."""
        if self._skipped.get(path) == _look(status):
            return
        here = identity(status)
        live = self._index.by_identity.get(here) if here.known else None
        if live is not None and self._generations.get(live.row.key) is live:
            if live.left_at is not None:
                self._found_again(live, path, True, batch)
            else:  # a link, another spelling, or the same file under two patterns (hazard 38)
                self._paths[path] = live.row.key
                self._linked.add(live.row.key)
            return
        unbound = list(self._register.unbound.values())
        originals = _originals(os.path.basename(path))
        candidates = [row for row in unbound if self._same_path(row.path, path)]
        candidates += [row for row in self._index.final if self._same_path(row.path, path)]
        candidates += [row for row in unbound if row.offset and os.path.basename(row.path) in originals]
        for row in candidates:
            if self._adopt(row, path, True, batch):
                return
        if self._may_be_copy(path, status):
            return
        self._begin(path, batch, rolled=False)

    def _same_path(self, one: str, other: str) -> bool:
        return one.casefold() == other.casefold() if self.root.caseless else one == other

    def _may_be_copy(self, path: str, status: os.stat_result) -> bool:
        """Whether the bytes at `path` may be those of a generation that is known (hazard 18): then they wait."""
        originals = _originals(os.path.basename(path))
        rows = [generation.row for name in originals for generation in self._index.by_name.get(name, ())]
        rows += [row for row in self._register.unbound.values() if os.path.basename(row.path) in originals]
        rows = [row for row in rows if row.offset]
        if not rows:
            return False
        look, now = _look(status), self._clock.monotonic()
        known = self._copies.get(path)
        since = known[1] if known and known[0] == look else now
        self._copies[path] = (look, since)
        try:
            descriptor = open_shared(path)
        except OSError as error:
            self._failed(path, error)
            return True
        try:
            if any(row.fits(descriptor) for row in rows):
                return True  # an equal copy beside its original: the original is the one that is read
            if now - since < QUIET_SECONDS and any(row.may_grow_into(descriptor) for row in rows):
                return True
        except OSError as error:
            self._failed(path, error)
            return True
        finally:
            os.close(descriptor)
        del self._copies[path]
        return False

    def _fitting(self, row: FileRow, path: str, status: os.stat_result) -> int | None:
        """A descriptor of the file at `path` if it holds what was read of `row`, or None."""
        compared, look = (row.key, path), (*_look(status), row.offset)
        if self._rejected.get(compared) == look:
            return None
        self._beat()
        try:
            descriptor = self._open_file(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError as error:
            self._failed(path, error)
            return None
        try:
            if row.fits(descriptor) and (row.head_length or row.mark or row.path == path
                                         or row.identity == identity(os.fstat(descriptor))):  # fmt: skip
                self._rejected.pop(compared, None)
                return descriptor
            self._rejected[compared] = look
        except OSError as error:
            self._failed(path, error)
        os.close(descriptor)
        return None

    def _adopt(self, row: FileRow, path: str, matches: bool, batch: Batch) -> bool:
        """Go on with `row` at `path` if the file there holds what was read of it."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        if row.mark == UNKNOWN_MARK and not self._same_path(row.path, path):
            return False
        descriptor = self._fitting(row, path, status)
        if descriptor is None:
            return False
        if self._register.unbound.pop(row.key, None) is None and not row.final:
            os.close(descriptor)  # another root's tail was faster
            return False
        self._register.misses.pop(row.key, None)
        if not self._same_path(row.path, path) and not row.rolled:
            batch.rotations += 1
            row = msgspec.structs.replace(row, rolled=True)
        mark = os.fstat(descriptor).st_size if row.mark == UNKNOWN_MARK else row.mark
        row = msgspec.structs.replace(row, path=path, final=False, gone=0.0, lost=False, mark=mark)
        generation = Generation(row, self._clock.monotonic())
        self._generations[row.key] = generation
        if matches:
            self._paths[path] = row.key
        else:
            generation.left_at = self._clock.monotonic()
            self._name(generation, path, batch)
        self._opened(generation, descriptor, path)
        self._save(generation, batch)
        return True

    def _begin(self, path: str, batch: Batch, rolled: bool) -> Generation | None:
        """Read the file at `path` from its beginning: nobody has seen it before."""
        self._beat()
        try:
            descriptor = self._open_file(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError as error:
            self._failed(path, error)
            return None
        try:
            row = new_row(self.log, path, descriptor)
        except OSError as error:
            os.close(descriptor)
            self._failed(path, error)
            return None
        other = self._index.by_identity.get(row.identity) if row.identity.known else None
        if other is not None and other.descriptor is not None and other.row.identity == row.identity:
            os.close(descriptor)  # a share's memory: the name still opens the file that had it before (hazards 40, 85)
            self.restless = True
            return None
        if rolled:
            batch.rotations += 1
            row = msgspec.structs.replace(row, rolled=True)
        generation = Generation(row, self._clock.monotonic())
        self._generations[row.key] = generation
        if rolled:
            generation.left_at = self._clock.monotonic()
        else:
            self._paths[path] = row.key
            self._count_rolls(path, batch)
        self._opened(generation, descriptor, path)
        return generation

    def _count_rolls(self, path: str, batch: Batch) -> None:
        """Another file has taken `path`: those that had it before were rolled."""
        for generation in (*self._awake.values(), *self._open.values()):
            if generation.left_at is not None and generation.row.path == path and not generation.row.rolled:
                batch.rotations += 1
                generation.row = msgspec.structs.replace(generation.row, rolled=True)
                self._save(generation, batch)
        register = self._register
        for row in (*register.unbound.values(), *self._index.final):
            if row.path == path and not row.rolled and not row.lost and row.key in register.rows:
                batch.rotations += 1
                register.rows[row.key] = batch.rows[row.key] = msgspec.structs.replace(row, rolled=True)
                if row.key in register.unbound:
                    register.unbound[row.key] = register.rows[row.key]

    # --- rolled generations ------------------------------------------------------------------------------------------

    def _find_rolled(self, folders: dict[str, list[Pattern]], listing: Listing, batch: Batch) -> set[str]:
        """Find generations that were rolled unseen. Returns the keys of rows whose copies are still growing."""
        waiting: set[str] = set()
        for folder, patterns in folders.items():
            for name in sorted(listing.names(folder)):
                if any(pattern.matches(name) for pattern in patterns):
                    continue
                if any(pattern.rolled(name) for pattern in patterns):
                    waiting |= self._consider(os.path.join(folder, name), batch, unseen=True)
        return waiting

    def _search_archive(self, batch: Batch) -> tuple[bool, set[str]]:
        """Search the archive for what was missed. Returns whether it was searched, and as `_find_rolled`."""
        register, waiting = self._register, set[str]()
        now = self._clock.monotonic()
        if not register.archive_due and now - self._archive_searched < ARCHIVE_SECONDS:
            return False, waiting
        first = self._archive not in register.book.listed and not self._everything
        rolled_before = dict(register.book.rolled)
        self._beat()
        try:
            found = sorted(archived(self._archive, self._searched, Listing()))
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._failed(self._archive, error)
            return False, waiting
        self._healed(self._archive)
        for path in found:
            rolled = rolled_name(os.path.basename(path))
            if first and rolled:
                rolled_before[rolled.stem] = max(rolled.stamp, rolled_before.get(rolled.stem, ""))
            else:
                waiting |= self._consider(path, batch, unseen=rolled is not None)
        if first:
            batch.book = register.book = msgspec.structs.replace(
                register.book,
                listed={**register.book.listed, self._archive: self._clock.wall()},
                rolled=rolled_before,
            )
        self._archive_searched = now
        register.archive_due = bool(waiting) or any(not row.lost for row in register.unbound.values())
        return True, waiting

    def _consider(self, path: str, batch: Batch, unseen: bool) -> set[str]:
        """Look at a file that does not match, but may be a generation of one that does.

        `unseen`: read it from its beginning if it is none that we know. Returns as `_find_rolled`.
        """
        name = os.path.basename(path)
        rolled = rolled_name(name)
        register = self._register
        if rolled and not self._is_news(rolled):
            return set()
        try:
            status = os.stat(path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._failed(path, error)
            return set()
        if not stat.S_ISREG(status.st_mode):
            return set()
        related = [row for row in register.unbound.values() if _is_generation_of(name, os.path.basename(row.path))]
        for row in related:
            if self._adopt(row, path, False, batch):
                return set()
        if not unseen:
            return set()
        held = [
            generation
            for generation in (*self._awake.values(), *self._open.values())
            if generation.left_at is not None and _is_generation_of(name, os.path.basename(generation.row.path))
        ]
        for generation in held:
            if (same := self._holds(generation, path)) is not None:  # read through our handle already (hazard 11)
                if same:
                    self._name(generation, path, batch)
                return set() if same else {generation.row.key}
        final = [
            row
            for row in register.rows.values()
            if row.final and row.offset and _is_generation_of(name, os.path.basename(row.path))
        ]
        for row in final:
            descriptor = self._fitting(row, path, status)
            if descriptor is not None:
                os.close(descriptor)
                if rolled:
                    register.rolled_names[rolled] = row.key
                return set()
        growing = self._growing(path, status, related + final)
        if not growing and (begun := self._begin(path, batch, rolled=True)):
            self._name(begun, path, batch)
        return growing

    def _name(self, generation: Generation, path: str, batch: Batch) -> None:
        """Remember that the generation has the rolled name `path`; and its row, so that nobody takes it for done."""
        generation.located = True
        if rolled := rolled_name(os.path.basename(path)):
            row = generation.row
            self._register.rolled_names[rolled] = row.key
            self._register.rows[row.key] = batch.rows[row.key] = row

    def _holds(self, generation: Generation, path: str) -> bool | None:
        """Whether the file at `path` is a whole copy (True) or the beginning of one (False) of a file that we hold."""
        if generation.descriptor is None:
            return None
        try:
            descriptor = open_shared(path)
        except OSError:
            return None
        try:
            size, whole = os.fstat(descriptor).st_size, os.fstat(generation.descriptor).st_size
            parts = ((0, min(size, whole, HEAD)), (max(0, min(size, whole) - ANCHOR), ANCHOR))
            if any(
                read_at(descriptor, offset, length)[: min(size, whole) - offset]
                != read_at(generation.descriptor, offset, length)[: min(size, whole) - offset]
                for offset, length in parts
            ):
                return None
            return size >= whole
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _is_news(self, rolled: Rolled | None) -> bool:
        """Whether a generation of this name is still to be looked at."""
        if rolled is None or rolled.stamp <= self._register.book.rolled.get(rolled.stem, ""):
            return False
        key = self._register.rolled_names.get(rolled)
        return key is None or key in self._register.unbound

    def _growing(self, path: str, status: os.stat_result, rows: list[FileRow]) -> set[str]:
        """The keys of those rows of which the file at `path` may be a copy that is still being made."""
        look, now = _look(status), self._clock.monotonic()
        known = self._copies.get(path)
        since = known[1] if known and known[0] == look else now
        self._copies[path] = (look, since)
        if now - since < QUIET_SECONDS:
            try:
                descriptor = open_shared(path)
            except OSError:
                return set()
            try:
                if growing := {row.key for row in rows if row.offset and row.may_grow_into(descriptor)}:
                    return growing
            except OSError:
                return set()
            finally:
                os.close(descriptor)
        del self._copies[path]
        return set()

    def _give_up(self, searched: bool, folders: Iterable[str], waiting: set[str], batch: Batch) -> None:
        """Count saved files that are nowhere to be found as lost, and forget what need not be remembered."""
        register, now = self._register, self._clock.wall()
        for key, row in list(register.unbound.items()):
            if row.lost or key in waiting or not searched:
                continue
            folder = os.path.dirname(row.path)
            if folder in folders and row.device != "0":
                try:
                    if str(os.stat(folder).st_dev) != row.device:
                        continue  # an empty mount point, or another disk: the file may come back with its own
                except OSError:
                    continue
            register.misses.setdefault(key, set()).add((self.root.name, self._search))
            agreed = [place for place, _ in register.misses[key]]
            if any(agreed.count(place) < SEARCHES for place in register.places):
                continue
            if register.misses.pop(key, None) is None:
                continue  # another root's tail was faster
            if row.offset and not row.mark and (row.rolled or now - row.changed < UNMISSED_SECONDS):
                batch.lost_generations += 1
                log_.warning("a rolled log file cannot be found again; what it held unread is lost: %s", row.path)
            register.unbound[key] = register.rows[key] = batch.rows[key] = msgspec.structs.replace(
                row, lost=True, gone=now
            )
        gone = sorted(
            (row.gone, key) for key, row in register.rows.items() if row.gone and key not in self._generations
        )
        for number, (since, key) in enumerate(gone):
            if number < len(gone) - MOST_REMEMBERED or now - since > REMEMBERED_SECONDS:
                self._forget(key, batch)

    def _forget(self, key: str, batch: Batch) -> None:
        self._register.rows.pop(key, None)
        self._register.unbound.pop(key, None)
        self._register.misses.pop(key, None)
        batch.rows.pop(key, None)
        batch.forgotten.add(key)

    def _collapse(self, searched: bool, batch: Batch) -> None:
        """Let one stamp stand for all generations up to it that are done with, so that the state stays small."""
        register = self._register
        if not searched or not register.rolled_names:
            return
        rolled = dict(register.book.rolled)
        for stem in {generation.stem for generation in register.rolled_names}:
            done = ""
            for generation in sorted(generation for generation in register.rolled_names if generation.stem == stem):
                row = register.rows.get(register.rolled_names[generation])
                if row and not row.final and not row.lost:
                    break
                done = generation.stamp
                if row:
                    self._forget(row.key, batch)
                del register.rolled_names[generation]
            if done > rolled.get(stem, ""):
                rolled[stem] = done
        if rolled != register.book.rolled:
            batch.book = register.book = msgspec.structs.replace(register.book, rolled=rolled)

    # --- reading -----------------------------------------------------------------------------------------------------

    def poll(self) -> Batch:
        """Read what is new in the known files, up to about `BATCH_BYTES`. Hand in the batch before polling again."""
        batch = self._batch()
        errors_before, now = self._errors, self._clock.monotonic()
        for generation in list(self._open.values()):
            self._watch(generation)
        for path in self._vacant:
            self._beat()
            self.restless |= os.path.lexists(path)
        readers = [*self._awake.values(), *self._open.values()]
        spent = 0
        while readers and spent < BATCH_BYTES:
            most = max(SMALLEST_READ, BATCH_BYTES // len(readers))
            for generation in readers:
                if generation.parsed is None and now >= generation.retry_at:
                    spent += self._fill(generation, now, most, batch)
            spent += self._hand_over(batch)
            readers = [
                generation
                for generation in (*self._awake.values(), *self._open.values())
                if generation.behind or generation.parsed is not None
            ]
            if all(now < generation.retry_at for generation in readers):
                break
        self._finish_files(now, batch)
        self._finish_batch(batch, read=self._errors == errors_before)
        return batch

    def _watch(self, generation: Generation) -> None:
        """See whether an open file still bears its name."""
        descriptor, row = generation.descriptor, generation.row
        assert descriptor is not None  # noqa: S101  # those in `_open` are open
        self._beat()
        generation.doomed = is_doomed(descriptor)
        if generation.left_at is not None or not row.identity.known:
            return
        try:
            status = os.stat(row.path)
        except (FileNotFoundError, NotADirectoryError):
            self._leave(row.path)
            return
        except OSError:
            return  # the reading will tell
        here = identity(status)
        if here.known and here != row.identity:
            self._leave(row.path)
        elif status.st_mtime != generation.modified:
            generation.suspicious = True

    def _fill(self, generation: Generation, now: float, most: int, batch: Batch, final: bool = False) -> int:
        """Read from a file. Whatever goes wrong is handled here, and here alone."""
        row = generation.row
        self._beat()
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
        self._healed(row.path)
        generation.failures = 0
        if done:
            batch.read_bytes += done
            self._save(generation, batch)
        if not generation.behind and generation.parsed is None:
            self._awake.pop(row.key, None)
        return done

    def _reopen(self, generation: Generation, batch: Batch) -> bool:
        """Open a closed file again. False if its path does not hold it any more."""
        row = generation.row
        try:
            descriptor = self._open_file(row.path)
        except FileNotFoundError:
            self.restless = True
            self._unbind(generation)
            return False
        try:
            fits = row.fits(descriptor)
            here = identity(os.fstat(descriptor))
        except OSError:
            os.close(descriptor)
            raise
        if not fits and here.known and here != row.identity:
            os.close(descriptor)
            self.restless = True
            self._unbind(generation)
            return False
        self._opened(generation, descriptor, row.path)
        return True

    def _open_file(self, path: str) -> int:
        """Open `path`, with fewer other files open if there are too many. Raises OSError."""
        while len(self._open) >= self._most_handles and self._close_one():
            pass
        try:
            return open_shared(path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # Somebody needs handles: do with half as many from now on (hazard 46).
        self._most_handles = max(2, len(self._open) // 2)
        while len(self._open) >= self._most_handles and self._close_one():
            pass
        return open_shared(path)

    def _close_one(self) -> bool:
        """Close the open file that can best be spared."""

        def cost(generation: Generation) -> tuple[bool, bool, float]:
            return (generation.left_at is not None, generation.behind or generation.parsed is not None,
                    generation.quiet_since)  # fmt: skip

        generation = min(self._open.values(), key=cost, default=None)
        if generation is None:
            return False
        self._rest(generation)
        return True

    def _rest(self, generation: Generation) -> None:
        """Close a file; its path is looked at by discovery from now on."""
        key = generation.row.key
        del self._open[key]
        generation.release()
        if generation.behind or generation.parsed is not None or generation.left_at is not None:
            self._awake[key] = generation

    def _opened(self, generation: Generation, descriptor: int, path: str) -> None:
        here = identity(os.fstat(descriptor))
        generation.descriptor = descriptor
        generation.behind = True
        if here != generation.row.identity or path != generation.row.path:
            generation.row = msgspec.structs.replace(generation.row, device=here.device, number=here.number, path=path)
        self._open[generation.row.key] = generation
        self._awake.pop(generation.row.key, None)
        if here.known:
            self._index.by_identity[here] = generation

    def _rewritten(self, generation: Generation, batch: Batch) -> None:
        """The file holds other bytes than were read: another generation began in place (hazards 13 to 15)."""
        generation.mismatches += 1
        generation.behind = False
        if generation.mismatches < (NETWORK_PROOFS if self.root.network else 1):
            return
        old, descriptor = generation.row, generation.descriptor
        assert descriptor is not None  # noqa: S101  # it was just read
        try:
            row = new_row(self.log, old.path, descriptor)
        except OSError as error:
            self._stumbled(generation, error, self._clock.monotonic())
            return
        generation.descriptor = None
        del self._open[old.key], self._generations[old.key]
        fresh = Generation(row, self._clock.monotonic())
        fresh.left_at = generation.left_at
        self._generations[row.key] = fresh
        for path in self._paths_of(old):
            self._paths[path] = row.key
        if old.key in self._linked:
            self._linked.add(row.key)
        self._opened(fresh, descriptor, old.path)
        if old.offset:
            batch.rotations += 1
            old = msgspec.structs.replace(old, rolled=True)
            self._register.rows[old.key] = self._register.unbound[old.key] = batch.rows[old.key] = old
            self._register.archive_due = self.restless = True
        elif old.key in self._register.rows:
            self._forget(old.key, batch)

    def _skip(self, generation: Generation, error: NotALogError) -> None:
        """What the file holds is no log: leave it alone until it changes."""
        path = generation.row.path
        with contextlib.suppress(OSError):
            self._skipped[path] = _look(os.stat(path))
        self._failed(path, error)
        self._unbind(generation)

    def _stumbled(self, generation: Generation, error: OSError, now: float) -> None:
        """A file could not be opened or read: close it and try again, later if its handle went stale."""
        key = generation.row.key
        generation.close()
        generation.failures += 1
        if error.errno in _STALE:
            wait = min(STALE_SECONDS * 2 ** (generation.failures - 1), LONGEST_STALE)
            generation.retry_at = now + wait
        self._open.pop(key, None)
        self._awake[key] = generation
        self._failed(generation.row.path, error)

    def _hand_over(self, batch: Batch) -> int:
        """Move parsed records into the batch, merged by time; return their bytes.

        Of a file with more to read only what is older than all that may still come from the others.
        """
        ready, horizon = [], float("inf")
        for generation in (*self._awake.values(), *self._open.values()):
            if generation.parsed is not None:
                ready.append(generation)
                if generation.behind:
                    horizon = min(horizon, generation.parsed.keys[-1])
            elif generation.behind and not generation.failures:
                return 0  # not read far enough to know how old its next record is
        if not ready:
            return 0
        ready.sort(key=_age_order)
        done = 0
        parts: list[tuple[list[float], list[Any]]] = []
        for generation in ready:
            parsed = generation.parsed
            assert parsed is not None  # noqa: S101  # chosen for it
            count = len(parsed.records) if len(ready) == 1 else parsed.up_to(horizon)
            if count == parsed.done:
                continue
            keys = parsed.keys[parsed.done : count] if len(ready) > 1 else []
            records, length = generation.take(count)
            done += length
            parts.append((keys, records))
            self._save(generation, batch)
            if generation.parsed is None and not generation.behind:
                self._awake.pop(generation.row.key, None)
        if len(parts) == 1:
            records = parts[0][1]
        else:
            keys = [key for keys, _ in parts for key in keys]
            records = [record for _, records in parts for record in records]
            records = [records[index] for index in sorted(range(len(keys)), key=keys.__getitem__)]
        if self._history == "ignore":
            records = [record for record in records if record.counts]
        batch.records.extend(records)
        batch.read_bytes += done
        return done

    def _finish_files(self, now: float, batch: Batch) -> None:
        """Let go of files that nothing more comes from."""
        for generation in (*self._awake.values(), *self._open.values()):
            if generation.behind or generation.parsed is not None or now < generation.retry_at:
                continue
            quiet = now - generation.quiet_since
            if generation.left_at is not None:
                if generation.doomed or min(quiet, now - generation.left_at) >= QUIET_SECONDS:
                    self._finish(generation, now, batch)
            elif generation.descriptor is not None and quiet >= (WATCHED_SECONDS if generation.grew else QUIET_SECONDS):
                self._rest(generation)

    def _finish(self, generation: Generation, now: float, batch: Batch) -> None:
        """Count the unterminated tail of a file that nothing more comes from, and let it go for good (hazard 51)."""
        key = generation.row.key
        while batch.read_bytes < 2 * BATCH_BYTES:
            self._fill(generation, now, BATCH_BYTES, batch, final=True)
            if self._generations.get(key) is not generation or generation.descriptor is None:
                return  # it could not be read, or proved to be another: later
            if generation.parsed is not None:
                records, length = generation.take(len(generation.parsed.records))
                batch.records.extend(records)
                batch.read_bytes += length
                self._save(generation, batch)
            elif not generation.behind:
                break
        else:
            return
        generation.row = msgspec.structs.replace(generation.row, final=True, gone=self._clock.wall())
        self._save(generation, batch)
        generation.close()
        for table in (self._generations, self._open, self._awake):
            table.pop(key, None)
        for path in self._paths_of(generation.row):
            del self._paths[path]
        self._linked.discard(key)
        self.restless = True  # so that its name is done with, too

    def finish_all(self) -> Iterator[Batch]:
        """For a single reading: take every file as final, its unterminated last line included."""
        for generation in list(self._generations.values()):
            batch = self._batch()
            self._finish(generation, self._clock.monotonic(), batch)
            yield batch

    @property
    def handles(self) -> int:
        """Files that are open."""
        return len(self._open)

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once."""
        return any(
            (generation.behind or generation.parsed is not None) and not generation.failures
            for generation in (*self._awake.values(), *self._open.values())
        )

    def close(self) -> None:
        """Let go of all files."""
        for generation in self._generations.values():
            generation.close()

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _batch(self) -> Batch:
        return Batch(self.log, self.root.name, self._clock.wall())

    def _save(self, generation: Generation, batch: Batch) -> None:
        """Have the generation's row saved with the batch, once something was read of it."""
        row = generation.row
        if row.offset or row.key in self._register.rows:
            self._register.rows[row.key] = batch.rows[row.key] = row

    def _finish_batch(self, batch: Batch, read: bool) -> None:
        busy = [
            generation
            for generation in (*self._awake.values(), *self._open.values())
            if generation.behind or generation.parsed is not None
        ]
        batch.drained = self._listed and not busy and not self.restless and not self._troubles
        if self._listed and all(generation.failures >= FORGIVEN_FAILURES for generation in busy):
            self._caught_up = True
        batch.caught_up = self._caught_up
        unread = sum(generation.unread for generation in (*self._awake.values(), *self._open.values()))
        self.status = TailStatus(
            log=self.log,
            root=self.root.name,
            listed=self._listed,
            files=self._matched,
            unread_bytes=unread,
            last_read=self._clock.wall() if read else self.status.last_read,
            troubles=tuple(self._troubles.values()),
            missing=self._missing,
            caught_up=self._caught_up,
        )

    def _failed(self, path: str, error: OSError) -> None:
        """Count a failure, and say it once for as long as it lasts (hazard 134)."""
        self._errors += 1
        self._count_failure()
        if path not in self._troubles:
            trouble = Trouble(
                path=path,
                problem=error.strerror or str(error) or type(error).__name__,
                denied=isinstance(error, PermissionError),
                since=self._clock.wall(),
            )
            self._troubles[path] = trouble
            log_.warning("cannot read %s: %s", path, trouble.problem)

    def _healed(self, path: str) -> None:
        if self._troubles.pop(path, None):
            log_.info("can read %s again", path)


@dataclass
class _Index:
    """Generations and rows by what a path can be compared with, made once for a discovery that found new paths."""

    by_identity: dict[Identity, Generation] = field(default_factory=dict)
    by_name: dict[str, list[Generation]] = field(default_factory=dict)
    final: list[FileRow] = field(default_factory=list)

    @classmethod
    def of(cls, generations: Iterable[Generation], rows: Iterable[FileRow]) -> "_Index":
        index = cls(final=[row for row in rows if row.final])
        for generation in generations:
            if generation.row.identity.known:
                index.by_identity[generation.row.identity] = generation
            index.by_name.setdefault(os.path.basename(generation.row.path), []).append(generation)
        return index


_STALE = frozenset(
    getattr(errno, name)
    for name in ("ESTALE", "EIO", "ENODEV", "ENXIO", "ENETDOWN", "EHOSTDOWN", "EBADF")
    if hasattr(errno, name)
)
"""Errors after which a handle is of no more use."""


def _look(status: os.stat_result) -> tuple[int, ...]:
    """What a path's status is compared by, to see that nothing happened."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _originals(name: str) -> set[str]:
    """The names of files that `name` may be a copy of: `app.txt` for `app.txt.1`, a live file for a rolled one."""
    names = {name[:place] for place, char in enumerate(name) if char in ".-_~ " and place}
    if rolled := rolled_name(name):
        names |= {rolled.stem + suffix for suffix in (".txt", ".log", "")}
    return names


def _is_generation_of(name: str, other: str) -> bool:
    """Whether the file `name` may hold what the file `other` held: the same name, or a generation of it."""
    if name.casefold() == other.casefold():
        return True
    rolled, before = rolled_name(name), rolled_name(other)
    if rolled is None:
        return False
    return rolled == before if before else rolled.stem.casefold() == os.path.splitext(other)[0].casefold()


def _age_order(generation: Generation) -> tuple[bool, str, str]:
    """Rolled generations first, in the order of their stamps."""
    rolled = rolled_name(os.path.basename(generation.row.path))
    return (rolled is None, rolled.stamp if rolled else "", generation.row.path)


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
