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
from exporter.logs.files import Identity, Listing, NotALogError, Pattern, Rolled, archived, rolled_name
from exporter.logs.generation import UNKNOWN_MARK, FileRow, Generation, begin_alike, new_row
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
        self._began = self._began_at = float("-inf")
        """When the search under way began: a monotonic instant, and an instant."""
        self._errors_before = 0
        self._strangers: dict[str, float] = {}
        """The monotonic instant when an archived file was first seen that nobody knows yet."""
        self._listing = Listing()
        self._folders: dict[str, list[Pattern]] = {}

    def first_listings(self) -> Batch | None:
        """List all folders. What files hold when their pattern is first listed is history: a batch that says so.

        It is to be committed before `run` is called, which begins to read.
        """
        self._began, self._began_at = self._held.clock.monotonic(), self._held.clock.wall()
        self._errors_before = self._held.errors
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
            self._index = _Index.of(held.generations.values(), list(held.register.rows.values()))
            for path, status in sorted(unresolved.items()):
                self._resolve(path, status, batch)
        waiting = self._find_rolled(folders, listing, batch)
        searched = self.listed and not self.missing
        if self._archive:
            reached, waiting_there = self._search_archive(batch)
            searched &= reached
            waiting |= waiting_there
        if self.listed:
            held.register.listed_at[held.root.name] = self._began
        if searched and not waiting and held.errors == self._errors_before:
            held.register.searched_at[held.root.name] = self._began_at
            self._give_up(folders, batch)
            self._collapse(batch)
        self._forget(batch)
        for path in matched:
            held.vacant.pop(path, None)
        self.matched = len({held.paths[path] for path in matched if path in held.paths})
        for path in held.skipped.keys() - set(matched):
            del held.skipped[path]
            held.healed(path)
        for table in (self._rejected, self._copies, self._strangers):
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
            closed, looked = generation.descriptor is None, look(status)
            if closed and self._held.looked.get(path) == looked:
                continue
            if self._is_at(generation, path, status):
                if closed:
                    self._held.looked[path] = looked
                if generation.descriptor is None:
                    self._held.awake[key] = generation
                    generation.behind = True
            else:
                self._held.leave(path, replaced=True)
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
        if here.known and row.identity.known:
            if here == row.identity and (generation.descriptor is not None or generation.failures):
                return True  # one in trouble is opened by the polls alone, which know when
            if here.number != row.number:
                return False
        # No ids (hazard 33), another device (hazard 32, a share that was mounted anew), or nothing held that keeps the
        # number from being used again (hazard 24): the bytes tell.
        errors_before = self._held.errors
        descriptor = self._fitting(row, path, status)
        if descriptor is None:
            return self._held.errors != errors_before  # that it cannot be read does not mean that it is another
        generation.close()
        self._held.open.pop(row.key, None)
        self._held.opened(generation, descriptor, path)
        return True

    def _find_by_number(
        self, unresolved: dict[str, os.stat_result], folders: dict[str, list[Pattern]], listing: Listing, batch: Batch
    ) -> None:
        """Find renamed files by their file number, wherever they are in the folders (hazard 7)."""
        rows = [row for row in list(self._held.register.unbound.values()) if row.identity.known]
        left = [
            generation
            for generation in self._held.active
            if generation.row.key in self._held.register.adrift and generation.row.identity.known
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
        self._count_roll(generation, batch)
        generation.row = msgspec.structs.replace(generation.row, path=path)
        generation.grew = False
        if matches:
            generation.left_at = None
            self._held.paths[path] = generation.row.key
            self._held.register.adrift.pop(generation.row.key, None)
        else:
            self._name(generation, path, batch)
        self._held.save(generation, batch)

    def _resolve(self, path: str, status: os.stat_result, batch: Batch) -> None:
        """Find out which generation a matching path stands for; a new one if no other."""
        if self._held.skipped.get(path) == look(status):
            return
        here = files.identity(status)
        live = self._index.by_identity.get(here) if here.known else None
        if live is not None and live.left_at is not None and live.descriptor is None:
            # Nothing is held that keeps the number from being used again (hazard 24): the bytes tell.
            descriptor = self._fitting(live.row, path, status)
            if descriptor is None:
                live = None
            else:
                os.close(descriptor)
        if live is not None and self._held.generations.get(live.row.key) is live:
            if live.left_at is not None:
                self._found_again(live, path, True, batch)
            else:  # a link, another spelling, or the same file under two patterns (hazard 38)
                self._held.paths[path] = live.row.key
                self._held.linked.add(live.row.key)
            return
        for generation in self._held.active:
            row = generation.row
            replaced = generation.replaced and row.key in self._held.register.adrift and self._same_path(row.path, path)
            if replaced and row.offset and self._copies_held(generation, path):
                self._held.unbind(generation)  # a copy of it took its place, as rsync makes one: it goes on there
        unbound = list(self._held.register.unbound.values())
        originals = _originals(os.path.basename(path))
        candidates = [
            row
            for row in (*unbound, *self._index.final)
            if self._same_path(row.path, path) and (row.offset or not row.rolled)
        ]
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
        """Whether the bytes at `path` may be those of a generation that is known (hazard 18): then they wait.

        Of an equal copy beside its original, and of one that the original has outgrown, the original is read.
        """
        originals = _originals(os.path.basename(path))
        known = [generation.row for name in originals for generation in self._index.by_name.get(name, ())]
        rows = known + [row for row in list(self._held.register.unbound.values())
                        if os.path.basename(row.path) in originals]  # fmt: skip
        rows = [row for row in rows if row.offset]
        if not rows:
            return False
        settles = self._settles(path, status)
        try:
            descriptor = files.open_shared(path)
        except OSError as error:
            self._held.failed(path, error)
            return True
        try:
            return any(
                row.fits(descriptor)
                or (settles and row.may_grow_into(descriptor))
                or (row in known and status.st_size and _is_outgrown(descriptor, row.path))
                for row in rows
            )
        except OSError as error:
            self._held.failed(path, error)
            return True
        finally:
            os.close(descriptor)

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
            # Of a row that nothing was read of there is hardly any proof: it must bear its name at least.
            proven = row.offset or row.mark or self._same_path(row.path, path) or _is_same_roll(row.path, path)
            if proven and row.fits(descriptor):
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
        if self._held.register.adopt(row.key) is None and not row.final:
            os.close(descriptor)  # another root's tail was faster
            return False
        if not self._same_path(row.path, path):
            batch.rotations += not row.rolled
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
            name = rolled_name(os.path.basename(path))
            if name and not self._held.register.claim(name, row.key):
                os.close(descriptor)  # another root's tail has just begun with it
                return None
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
        for generation in self._held.active:
            if generation.left_at is not None and generation.row.path == path:
                self._count_roll(generation, batch)
        for row in self._index.final:
            if row.path == path:
                self._held.register.note_roll(row.key, batch)

    def _count_roll(self, generation: Generation, batch: Batch) -> None:
        """A generation that we hold was rolled: count it once, and save that even if nothing was read of it yet."""
        if not generation.row.rolled:
            batch.rotations += 1
            row = generation.row = msgspec.structs.replace(generation.row, rolled=True)
            self._held.register.rows[row.key] = batch.rows[row.key] = row

    def _find_rolled(self, folders: dict[str, list[Pattern]], listing: Listing, batch: Batch) -> bool:
        """Find generations that were rolled unseen. Returns whether to look again before anything is given up."""
        waiting: set[Rolled] = set()
        for folder, patterns in folders.items():
            for name in sorted(listing.names(folder)):
                if any(pattern.matches(name) for pattern in patterns):
                    continue
                rolled = next((rolled for pattern in patterns if (rolled := pattern.rolled(name))), None)
                if rolled and self._consider(os.path.join(folder, name), batch):
                    waiting.add(rolled)
        self._held.register.waiting[self._held.root.name] = waiting
        return bool(waiting)

    def _search_archive(self, batch: Batch) -> tuple[bool, bool]:
        """Search the archive for what was missed. Returns whether it was searched, and as `_find_rolled`."""
        register, waiting = self._held.register, False
        now = self._held.clock.monotonic()
        if not register.archive_due and now - self._archive_searched < ARCHIVE_SECONDS:
            return False, waiting
        book = register.book
        self._held.beat()
        try:
            found = sorted(archived(self._archive, self._searched, Listing()))
        except (FileNotFoundError, NotADirectoryError):
            if self._archive not in book.listed | book.absent and os.path.isdir(os.path.dirname(self._archive)):
                absent = {**book.absent, self._archive: self._held.root.name}
                batch.book = register.book = msgspec.structs.replace(book, absent=absent)
            return False, waiting
        except OSError as error:
            self._held.failed(self._archive, error)
            return False, waiting
        self._held.healed(self._archive)
        if self._archive not in book.listed:
            listed, rolled = {**book.listed, self._archive: self._held.clock.wall()}, dict(book.rolled)
            # What an archive holds when it is first listed is history, unless it was seen not to be there before.
            if not self._everything and book.absent.get(self._archive) != self._held.root.name:
                for generation in filter(None, (rolled_name(os.path.basename(path)) for path in found)):
                    rolled[generation.stem] = max(generation.stamp, rolled.get(generation.stem, ""))
            batch.book = register.book = msgspec.structs.replace(book, listed=listed, rolled=rolled)
        for path in found:
            waiting |= self._consider(path, batch, archived=True)
        self._archive_searched = now
        register.archive_due = waiting or any(not row.lost for row in list(register.unbound.values()))
        return True, waiting

    def _consider(self, path: str, batch: Batch, archived: bool = False) -> bool:
        """Look at a file that does not match, but may be a generation of one that does: one that was saved, or, if it
        bears the name of a rolled one, one that nobody has seen. Returns as `_find_rolled`.
        """
        name = os.path.basename(path)
        rolled = rolled_name(name)
        register = self._held.register
        news = register.is_news(rolled)
        related = [
            row
            for row in list(register.unbound.values())
            if (news or not row.lost) and _is_generation_of(name, os.path.basename(row.path))
        ]
        if not news and not related:
            return False
        if archived and (any(rolled in names for names in register.waiting.values()) or self._may_be_elsewhere(path)):
            return True
        try:
            status = os.stat(path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._held.failed(path, error)
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        for row in related:
            if self._adopt(row, path, False, batch):
                return False
        if not news:
            return False
        if any(row.key not in register.unbound for row in related):
            return True  # another root's tail has just found one of them
        for generation in self._held.active:
            if generation.left_at is None or not _is_generation_of(name, os.path.basename(generation.row.path)):
                continue
            if (whole := self._copies_held(generation, path)) is not None:
                if whole:  # read through our handle already (hazard 11)
                    self._name(generation, path, batch)
                return not whole
        final = [
            row
            for row in list(register.rows.values())
            if row.final and row.offset and _is_generation_of(name, os.path.basename(row.path))
        ]
        for row in final:
            descriptor = self._fitting(row, path, status)
            if descriptor is not None:
                os.close(descriptor)
                if rolled:
                    register.rolled_names[rolled] = row.key
                    register.note_roll(row.key, batch)
                return False
        if self._settles(path, status) and self._may_grow(path, related + final):
            return True
        if begun := self._begin(path, batch, rolled=True):
            self._name(begun, path, batch)
        return False

    def _may_be_elsewhere(self, path: str) -> bool:
        """Whether the archived file at `path` may be what the tail of another root reads, or is about to find."""
        register, name = self._held.register, os.path.basename(path)
        others = register.places - {self._held.root.name}
        if not others:
            return False
        seen_at = self._strangers.setdefault(path, self._began)
        if any(register.listed_at.get(place, float("-inf")) <= seen_at for place in others):
            return True
        return any(
            key not in self._held.generations and _is_generation_of(name, left)
            for key, left in list(register.adrift.items())
        )

    def _name(self, generation: Generation, path: str, batch: Batch) -> None:
        """Remember that the generation has the rolled name `path`; and its row, so that nobody takes it for done."""
        self._held.register.adrift.pop(generation.row.key, None)
        if rolled := rolled_name(os.path.basename(path)):
            self._count_roll(generation, batch)
            row = generation.row = msgspec.structs.replace(generation.row, path=path)
            self._held.register.rolled_names[rolled] = row.key
            self._held.register.rows[row.key] = batch.rows[row.key] = row

    def _copies_held(self, generation: Generation, path: str) -> bool | None:
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

    def _settles(self, path: str, status: os.stat_result) -> bool:
        """Whether the file at `path` may still be growing: nothing says that it is unchanged for `QUIET_SECONDS`."""
        seen_as, now = look(status), self._held.clock.monotonic()
        before, since = self._copies.get(path, (seen_as, now))
        self._copies[path] = (seen_as, since if before == seen_as else now)
        return now - self._copies[path][1] < QUIET_SECONDS

    def _may_grow(self, path: str, rows: Iterable[FileRow]) -> bool:
        """Whether the file at `path` may be an unfinished copy of one of the rows."""
        try:
            descriptor = files.open_shared(path)
        except OSError:
            return False
        try:
            return any(row.offset and row.may_grow_into(descriptor) for row in rows)
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _give_up(self, folders: Iterable[str], batch: Batch) -> None:
        """Count saved files that are nowhere to be found as lost."""
        register, now = self._held.register, self._held.clock.wall()
        for key, row in list(register.unbound.items()):
            if row.lost:
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
            if any(agreed.count(place) < SEARCHES for place in register.places) or register.adopt(key) is None:
                continue
            replaced = any(other.path == row.path and other.key != key for other in list(register.rows.values()))
            rolled = row.rolled or replaced
            batch.rotations += rolled and not row.rolled
            if row.offset and not row.mark and (rolled or now - row.changed < UNMISSED_SECONDS):
                batch.lost_generations += 1
                lost = masked_name(row.path)
                log.warning("a rolled log file cannot be found again; what it held unread is lost: %s", lost)
            row = msgspec.structs.replace(row, rolled=rolled, lost=True, gone=now)
            register.unbound[key] = register.rows[key] = batch.rows[key] = row

    def _forget(self, batch: Batch) -> None:
        """Forget final and lost files that need not be remembered any more."""
        register, now = self._held.register, self._held.clock.wall()
        gone = sorted(
            (row.gone, key)
            for key, row in list(register.rows.items())
            if row.gone and key not in self._held.generations
        )
        for number, (since, key) in enumerate(gone):
            if number < len(gone) - MOST_REMEMBERED or now - since > REMEMBERED_SECONDS:
                register.forget(key, batch)

    def _collapse(self, batch: Batch) -> None:
        """Let one stamp stand for all generations up to it that are done with, so that the state stays small.

        Not before all roots were searched since then: an older generation may wait in an archive that was away.
        """
        register = self._held.register
        searched_at = min(register.searched_at.get(place, 0.0) for place in register.places)
        rolled = dict(register.book.rolled)
        for stem in {generation.stem for generation in register.rolled_names}:
            done = ""
            for generation in sorted(generation for generation in register.rolled_names if generation.stem == stem):
                row = register.rows.get(register.rolled_names[generation])
                if row and not 0 < row.gone < searched_at:
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


def _is_outgrown(copy: int, original: str) -> bool:
    """Whether the open file `copy` is the beginning of the longer file `original`. Raises OSError."""
    try:
        descriptor = files.open_shared(original)
    except FileNotFoundError:
        return False
    try:
        return os.fstat(copy).st_size <= os.fstat(descriptor).st_size and begin_alike(copy, descriptor)
    finally:
        os.close(descriptor)


def _is_same_roll(one: str, other: str) -> bool:
    """Whether two paths bear the name of the same rolled generation."""
    rolled = rolled_name(os.path.basename(one))
    return rolled is not None and rolled == rolled_name(os.path.basename(other))


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
