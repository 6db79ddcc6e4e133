"""Discovery: which files there are, and which generation each of them is. All rotation lore hides here.

Ids and names only narrow; the proof is the bytes. What has been rolled, copied, archived, linked, replaced or remounted
is found again, so that nothing counts twice and nothing is passed over.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from exporter.logs import files
from exporter.logs.files import Identity, Listing, NotALogError, Pattern, archived, rolled_name
from exporter.logs.generation import ANCHOR, HEAD, UNKNOWN_MARK, FileRow, Generation, new_row
from exporter.logs.held import Held, look
from exporter.logs.register import Batch
from exporter.masking import masked_name

QUIET_SECONDS = 30.0
"""Unchanged for so long, a renamed or removed file is final and is let go (hazards 2, 41 and 51)."""
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

History = Literal["restate", "count", "ignore"]

log = logging.getLogger("exporter.tail")


class Search:
    """Looks for the files of one log below one root, and hands them to what is `held`."""

    def __init__(
        self,
        held: Held,
        patterns: Sequence[Pattern],
        archive: str,
        history: History,
        searched: Sequence[Pattern],
        everything: bool,
    ) -> None:
        """`searched`: all patterns of the log; `everything`: read rolled generations that were there before, too."""
        self._held = held
        self.listed = False
        """Whether all folders that exist could be listed."""
        self.matched = 0
        """How many files match."""
        self.missing: tuple[str, ...] = ()
        """The patterns whose folder does not exist."""
        self._patterns = tuple(patterns)
        self._archive = archive
        self._history = history
        self._searched = tuple(searched) or self._patterns
        self._everything = everything
        self._rejected: dict[tuple[str, str], tuple[int, ...]] = {}
        """Which path was compared with which row, at which status, and was not it."""
        self._copies: dict[str, tuple[tuple[int, ...], float]] = {}
        """Paths that may be copies still growing, with their status and since when it holds."""
        self._absent: dict[str, float] = {}
        """The instant when a pattern's folder was last found missing."""
        self._index = _Index()
        self._number = 0
        """How many searches there were."""
        self._archive_searched = float("-inf")
        self._listing = Listing()
        self._folders: dict[str, list[Pattern]] = {}

    def first_listings(self) -> Batch | None:
        """List all folders. What files hold when their pattern is first listed is history: a batch that says so.

        It is to be committed before `run` is called, which begins to read.
        """
        self._listing = Listing()
        self._folders, missing, self.listed = self._list(self._listing)
        self.missing = tuple(sorted(missing))
        return self._marks(missing)

    def run(self) -> Batch:
        """Find out which generation each file is that `first_listings` saw, and what else is to be read."""
        held, folders, listing = self._held, self._folders, self._listing
        held.restless = False
        batch = held.new_batch()
        self._number += 1
        matched = [
            os.path.join(folder, name)
            for folder, patterns in folders.items()
            for name in listing.names(folder)
            if any(pattern.matches(name) for pattern in patterns)
        ]
        unresolved = self._known_paths(matched, folders, self.listed)
        self._find_by_number(unresolved, folders, listing, batch)
        if unresolved:
            self._index = _Index.of(held.generations.values(), held.register.rows.values())
            for path, status in sorted(unresolved.items()):
                self._resolve(path, status, batch)
        waiting = self._find_rolled(folders, listing, batch)
        searched = self.listed and not self.missing
        if self._archive:
            reached, growing = self._search_archive(batch)
            searched &= reached
            waiting |= growing
        self._give_up(searched, folders, waiting, batch)
        self._collapse(searched and not waiting, batch)
        for path in matched:
            held.vacant.pop(path, None)
        self.matched = len({held.paths[path] for path in matched if path in held.paths})
        for path in held.skipped.keys() - set(matched):
            del held.skipped[path]
            held.healed(path)
        for table in (self._rejected, self._copies):
            if len(table) > MOST_COMPARED:
                table.clear()
        return batch

    def _list(self, listing: Listing) -> tuple[dict[str, list[Pattern]], set[str], bool]:
        """The folders that could be listed, the patterns whose folder is missing, and whether all others could."""
        folders: dict[str, list[Pattern]] = {}
        missing: set[str] = set()
        complete = True
        for pattern in self._patterns:
            self._held.beat()
            try:
                found = False
                for folder in pattern.folders(listing):
                    self._held.beat()
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
                self._held.failed(pattern.text, error)
                continue
            self._held.healed(pattern.text)
            if not found:
                missing.add(pattern.text)
                self._absent[pattern.text] = self._held.clock.wall()
        return folders, missing, complete

    def _marks(self, missing: set[str]) -> Batch | None:
        """What the files hold when their pattern is first listed is history: their sizes, before anything is read."""
        folders, listing = self._folders, self._listing
        book = self._held.register.book
        fresh = [
            pattern
            for pattern in self._patterns
            if pattern.text not in book.listed
            and pattern.text not in missing
            and any(pattern in patterns for patterns in folders.values())
        ]
        if not fresh:
            return None
        now = self._held.clock.wall()
        batch = self._held.new_batch()
        rolled = dict(book.rolled)
        for pattern in fresh:
            names = [(folder, name) for folder, patterns in folders.items() if pattern in patterns
                     for name in listing.names(folder)]  # fmt: skip
            for _, name in names:
                if not self._everything and (generation := pattern.rolled(name)):
                    rolled[generation.stem] = max(generation.stamp, rolled.get(generation.stem, ""))
            if self._history != "count":
                known = {row.path for row in self._held.register.unbound.values()} | set(self._held.paths)
                rows = [row for folder, name in names if pattern.matches(name)
                        and os.path.join(folder, name) not in known
                        if (row := self._marked(os.path.join(folder, name)))]  # fmt: skip
                # A folder that did not exist a moment ago and holds nothing older is new, and so are its records.
                since = self._absent.get(pattern.text)
                if since is None or any(row.changed < since - 2 for row in rows):
                    for row in rows:
                        batch.rows[row.key] = row
        self._held.register.book = batch.book = msgspec.structs.replace(
            book, listed={**book.listed, **{pattern.text: now for pattern in fresh}}, rolled=rolled
        )
        for key, row in batch.rows.items():
            self._held.register.rows[key] = self._held.register.unbound[key] = row
        return batch

    def _marked(self, path: str) -> FileRow | None:
        """The row that makes a file's present content history."""
        self._held.beat()
        try:
            descriptor = files.open_shared(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError:
            return FileRow(key=os.urandom(8).hex(), log=self._held.register.log, path=path, mark=UNKNOWN_MARK)
        try:
            status = os.fstat(descriptor)
            row = new_row(self._held.register.log, path, descriptor)
            return msgspec.structs.replace(row, mark=status.st_size)
        except OSError:
            return FileRow(key=os.urandom(8).hex(), log=self._held.register.log, path=path, mark=UNKNOWN_MARK)
        finally:
            os.close(descriptor)

    def _known_paths(self, matched: list[str], folders: Iterable[str], complete: bool) -> dict[str, os.stat_result]:
        """The matching paths that stand for no known generation, with their status; others are seen to have left."""
        unresolved: dict[str, os.stat_result] = {}
        for path in matched:
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since it was listed, or a link to nothing
            except OSError as error:
                self._held.failed(path, error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            key = self._held.paths.get(path)
            if key is None:
                unresolved[path] = status
                continue
            generation = self._held.generations[key]
            looked = look(status)
            if generation.descriptor is None and self._held.looked.get(path) == looked:
                continue
            if self._is_at(generation, path, status):
                if generation.descriptor is None:
                    self._held.looked[path] = looked
                    self._held.awake[key] = generation
                    generation.behind = True
            else:
                self._held.leave(path)
                unresolved[path] = status
        present = set(matched)
        listed = set(folders)
        for path in [path for path in self._held.paths if path not in present]:
            if complete or os.path.dirname(path) in listed:
                self._held.leave(path)
        return unresolved

    def _is_at(self, generation: Generation, path: str, status: os.stat_result) -> bool:
        """Whether `path` still stands for the file of `generation`."""
        here, row = files.identity(status), generation.row
        if here.known and row.identity.known and here == row.identity:
            return True  # a closed file is compared by its bytes once it is opened
        if here.known and row.identity.known and here.number != row.number:
            return False
        # No ids (hazard 33), or another device (hazard 32, a share that was mounted anew): the bytes tell.
        descriptor = self._fitting(row, path, status)
        if descriptor is None:
            return False
        generation.close()
        self._held.open.pop(row.key, None)
        self._held.opened(generation, descriptor, path)
        return True

    def _find_by_number(
        self, unresolved: dict[str, os.stat_result], folders: dict[str, list[Pattern]], listing: Listing, batch: Batch
    ) -> None:
        """Find renamed files by their file number, wherever they are in the folders (hazard 7)."""
        rows = [row for row in self._held.register.unbound.values() if row.identity.known]
        left = [
            generation
            for generation in self._held.active
            if generation.left_at is not None and not generation.located and generation.row.identity.known
        ]
        if not rows and not left:
            return
        at: dict[str, str] = {}
        for folder, patterns in folders.items():
            for name, number in listing.names(folder).items():
                path = os.path.join(folder, name)
                if not number and any(
                    pattern.matches(name) or self._held.register.is_news(pattern.rolled(name)) for pattern in patterns
                ):
                    with contextlib.suppress(OSError):  # Windows: a listing tells no number (hazard 77)
                        number = os.stat(path).st_ino
                if number and path not in self._held.paths:
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
        if self._held.register.counts_roll(generation.row):
            batch.rotations += 1
        generation.row = msgspec.structs.replace(generation.row, path=path, rolled=True)
        generation.grew = False
        generation.located = True
        if matches:
            generation.left_at = None
            self._held.paths[path] = generation.row.key
        else:
            self._name(generation, path, batch)
        self._held.save(generation, batch)

    def _resolve(self, path: str, status: os.stat_result, batch: Batch) -> None:
        """Find out which generation a matching path stands for; a new one if no other."""
        if self._held.skipped.get(path) == look(status):
            return
        here = files.identity(status)
        live = self._index.by_identity.get(here) if here.known else None
        if live is not None and self._held.generations.get(live.row.key) is live:
            if live.left_at is not None:
                self._found_again(live, path, True, batch)
            else:  # a link, another spelling, or the same file under two patterns (hazard 38)
                self._held.paths[path] = live.row.key
                self._held.linked.add(live.row.key)
            return
        unbound = list(self._held.register.unbound.values())
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
        return one.casefold() == other.casefold() if self._held.root.caseless else one == other

    def _may_be_copy(self, path: str, status: os.stat_result) -> bool:
        """Whether the bytes at `path` may be those of a generation that is known (hazard 18): then they wait."""
        originals = _originals(os.path.basename(path))
        rows = [generation.row for name in originals for generation in self._index.by_name.get(name, ())]
        rows += [row for row in self._held.register.unbound.values() if os.path.basename(row.path) in originals]
        rows = [row for row in rows if row.offset]
        if not rows:
            return False
        seen_as, now = look(status), self._held.clock.monotonic()
        known = self._copies.get(path)
        since = known[1] if known and known[0] == seen_as else now
        self._copies[path] = (seen_as, since)
        try:
            descriptor = files.open_shared(path)
        except OSError as error:
            self._held.failed(path, error)
            return True
        try:
            if any(row.fits(descriptor) for row in rows):
                return True  # an equal copy beside its original: the original is the one that is read
            if now - since < QUIET_SECONDS and any(row.may_grow_into(descriptor) for row in rows):
                return True
        except OSError as error:
            self._held.failed(path, error)
            return True
        finally:
            os.close(descriptor)
        del self._copies[path]
        return False

    def _fitting(self, row: FileRow, path: str, status: os.stat_result) -> int | None:
        """A descriptor of the file at `path` if it holds what was read of `row`, or None."""
        compared, seen_as = (row.key, path), (*look(status), row.offset)
        if self._rejected.get(compared) == seen_as:
            return None
        self._held.beat()
        try:
            descriptor = self._held.open_file(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError as error:
            self._held.failed(path, error)
            return None
        try:
            if row.fits(descriptor) and (row.head_length or row.mark or row.path == path
                                         or row.identity == files.identity(os.fstat(descriptor))):  # fmt: skip
                self._rejected.pop(compared, None)
                return descriptor
            self._rejected[compared] = seen_as
        except OSError as error:
            self._held.failed(path, error)
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
        if self._held.register.unbound.pop(row.key, None) is None and not row.final:
            os.close(descriptor)  # another root's tail was faster
            return False
        self._held.register.misses.pop(row.key, None)
        if not self._same_path(row.path, path):
            batch.rotations += self._held.register.counts_roll(row)
            row = msgspec.structs.replace(row, rolled=True)
        mark = os.fstat(descriptor).st_size if row.mark == UNKNOWN_MARK else row.mark
        row = msgspec.structs.replace(row, path=path, final=False, gone=0.0, lost=False, mark=mark)
        generation = self._add(row, descriptor, path)
        if matches:
            self._held.paths[path] = row.key
        else:
            generation.left_at = self._held.clock.monotonic()
            self._name(generation, path, batch)
        self._held.save(generation, batch)
        return True

    def _begin(self, path: str, batch: Batch, rolled: bool) -> Generation | None:
        """Read the file at `path` from its beginning: nobody has seen it before."""
        self._held.beat()
        try:
            descriptor = self._held.open_file(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError as error:
            self._held.failed(path, error)
            return None
        try:
            row = new_row(self._held.register.log, path, descriptor)
        except OSError as error:
            os.close(descriptor)
            self._held.failed(path, error)
            return None
        other = self._index.by_identity.get(row.identity) if row.identity.known else None
        if other is not None and other.descriptor is not None and other.row.identity == row.identity:
            os.close(descriptor)  # a share's memory: the name still opens the file that had it before (hazards 40, 85)
            self._held.restless = True
            return None
        if rolled:
            batch.rotations += 1
            row = msgspec.structs.replace(row, rolled=True)
        generation = self._add(row, descriptor, path)
        if rolled:
            generation.left_at = self._held.clock.monotonic()
        else:
            self._held.paths[path] = row.key
            self._count_rolls(path, batch)
        return generation

    def _add(self, row: FileRow, descriptor: int, path: str) -> Generation:
        generation = Generation(row, self._held.clock.monotonic())
        self._held.generations[row.key] = generation
        self._held.opened(generation, descriptor, path)
        if generation.row.identity.known:
            self._index.by_identity[generation.row.identity] = generation
        return generation

    def _count_rolls(self, path: str, batch: Batch) -> None:
        """Another file has taken `path`: those that had it before were rolled."""
        register = self._held.register
        for generation in self._held.active:
            if generation.left_at is not None and generation.row.path == path and register.counts_roll(generation.row):
                batch.rotations += 1
                generation.row = msgspec.structs.replace(generation.row, rolled=True)
                self._held.save(generation, batch)
        for row in (*register.unbound.values(), *self._index.final):
            if row.path != path or row.lost or row.key not in register.rows or not register.counts_roll(row):
                continue
            batch.rotations += 1
            if len(register.places) == 1:  # else another root's tail may have found it by now, and its row is newer
                register.rows[row.key] = batch.rows[row.key] = msgspec.structs.replace(row, rolled=True)
                if row.key in register.unbound:
                    register.unbound[row.key] = register.rows[row.key]

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
        register, waiting = self._held.register, set[str]()
        now = self._held.clock.monotonic()
        if not register.archive_due and now - self._archive_searched < ARCHIVE_SECONDS:
            return False, waiting
        first = self._archive not in register.book.listed and not self._everything
        rolled_before = dict(register.book.rolled)
        self._held.beat()
        try:
            found = sorted(archived(self._archive, self._searched, Listing()))
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._held.failed(self._archive, error)
            return False, waiting
        self._held.healed(self._archive)
        for path in found:
            rolled = rolled_name(os.path.basename(path))
            if first and rolled:
                rolled_before[rolled.stem] = max(rolled.stamp, rolled_before.get(rolled.stem, ""))
            else:
                waiting |= self._consider(path, batch, unseen=rolled is not None)
        if first:
            batch.book = register.book = msgspec.structs.replace(
                register.book,
                listed={**register.book.listed, self._archive: self._held.clock.wall()},
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
        register = self._held.register
        if rolled and not self._held.register.is_news(rolled):
            return set()
        try:
            status = os.stat(path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._held.failed(path, error)
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
            for generation in self._held.active
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
            self._held.register.rolled_names[rolled] = row.key
            self._held.register.rows[row.key] = batch.rows[row.key] = row

    def _holds(self, generation: Generation, path: str) -> bool | None:
        """Whether the file at `path` is a whole copy (True) or the beginning of one (False) of a file that we hold."""
        if generation.descriptor is None:
            return None
        try:
            descriptor = files.open_shared(path)
        except OSError:
            return None
        try:
            size, whole = os.fstat(descriptor).st_size, os.fstat(generation.descriptor).st_size
            parts = ((0, min(size, whole, HEAD)), (max(0, min(size, whole) - ANCHOR), ANCHOR))
            if any(
                files.read_at(descriptor, offset, length)[: min(size, whole) - offset]
                != files.read_at(generation.descriptor, offset, length)[: min(size, whole) - offset]
                for offset, length in parts
            ):
                return None
            return size >= whole
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _growing(self, path: str, status: os.stat_result, rows: list[FileRow]) -> set[str]:
        """The keys of those rows of which the file at `path` may be a copy that is still being made."""
        seen_as, now = look(status), self._held.clock.monotonic()
        known = self._copies.get(path)
        since = known[1] if known and known[0] == seen_as else now
        self._copies[path] = (seen_as, since)
        if now - since < QUIET_SECONDS:
            try:
                descriptor = files.open_shared(path)
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
        register, now = self._held.register, self._held.clock.wall()
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
            register.misses.setdefault(key, set()).add((self._held.root.name, self._number))
            agreed = [place for place, _ in register.misses[key]]
            if any(agreed.count(place) < SEARCHES for place in register.places):
                continue
            if register.misses.pop(key, None) is None or register.unbound.pop(key, None) is None:
                continue  # another root's tail was faster
            if row.offset and not row.mark and (row.rolled or now - row.changed < UNMISSED_SECONDS):
                batch.lost_generations += 1
                lost = masked_name(row.path)
                log.warning("a rolled log file cannot be found again; what it held unread is lost: %s", lost)
            register.unbound[key] = register.rows[key] = batch.rows[key] = msgspec.structs.replace(
                row, lost=True, gone=now
            )
        gone = sorted(
            (row.gone, key) for key, row in register.rows.items() if row.gone and key not in self._held.generations
        )
        for number, (since, key) in enumerate(gone):
            if number < len(gone) - MOST_REMEMBERED or now - since > REMEMBERED_SECONDS:
                self._held.register.forget(key, batch)

    def _collapse(self, searched: bool, batch: Batch) -> None:
        """Let one stamp stand for all generations up to it that are done with, so that the state stays small."""
        register = self._held.register
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
                    self._held.register.forget(row.key, batch)
                del register.rolled_names[generation]
            if done > rolled.get(stem, ""):
                rolled[stem] = done
        if rolled != register.book.rolled:
            batch.book = register.book = msgspec.structs.replace(register.book, rolled=rolled)


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
