"""The search for generations that were rolled unseen: beside the live files and in the archive, and when to give up.

A rolled name (stem and stamp) is one generation, wherever it lies.
"""

import logging
import os
import stat
from collections.abc import Iterable, Sequence

import msgspec

from exporter.logs.binding import Binding
from exporter.logs.files import Listing, Pattern, Rolled, archived, rolled_name
from exporter.logs.held import Held
from exporter.logs.proof import Proof, is_generation_of
from exporter.logs.register import Batch, LogBook
from exporter.masking import masked_name

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
MOST_STRANGERS = 10_000
"""Archived files of which it is remembered when they were first seen."""

log = logging.getLogger("exporter.tail")


class RolledSearch:
    """Looks for the rolled generations of one log below one root."""

    def __init__(
        self, held: Held, proof: Proof, binding: Binding, archive: str, searched: Sequence[Pattern], everything: bool
    ) -> None:
        """`searched`: all patterns of the log; `everything`: read what the archive held before, too."""
        self._held = held
        self._proof = proof
        self._binding = binding
        self._archive = archive
        self._searched = tuple(searched)
        self._everything = everything
        self._number = 0
        """How many complete searches there were."""
        self._archive_searched = float("-inf")
        self._began = float("-inf")
        """The monotonic instant when the search under way began."""
        self._strangers: dict[str, float] = {}
        """The monotonic instant when an archived file was first seen that nobody knows yet."""

    def run(
        self, folders: dict[str, list[Pattern]], listing: Listing, began: float, complete: bool, batch: Batch
    ) -> None:
        """Search the listed `folders` and the archive. `complete`: there is no other folder that could hold something.

        `began`: the monotonic instant when listing began.
        """
        self._began = began
        register, began_at = self._held.register, batch.at
        errors_before = self._held.errors
        waiting = self._find_rolled(folders, listing, batch)
        if self._archive:
            reached, waiting_there = self._search_archive(batch)
            complete &= reached and not waiting_there
        if complete and not waiting and self._held.errors == errors_before:
            self._number += 1
            register.searched_at[self._held.root.name] = began_at
            self._give_up(folders, batch)
            register.collapse(batch)
        self._forget(batch)

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
        self._held.register.wait(self._held.root.name, waiting)
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
                register.write(LogBook(absent={self._archive: self._held.root.name}), batch)
            return False, waiting
        except OSError as error:
            self._held.failed(self._archive, error)
            return False, waiting
        self._held.healed(self._archive)
        if self._archive not in book.listed:
            rolled = {} if self._everything else self._history(found)
            register.write(LogBook(listed={self._archive: self._held.clock.wall()}, rolled=rolled), batch)
        for path in found:
            waiting |= self._consider(path, batch, archived=True)
        self._archive_searched = now
        register.archive_due = waiting or any(not row.lost for row in list(register.unbound.values()))
        return True, waiting

    def _history(self, found: Iterable[str]) -> dict[str, str]:
        """For each stem the newest stamp that is history, as the archive is listed for the first time.

        All that it holds is, unless it was seen not to be there before: then only files older than that the log was
        first listed, which somebody has moved there.
        """
        book, stamps = self._held.register.book, dict[str, str]()
        is_new = book.absent.get(self._archive) == self._held.root.name
        begun = min(book.listed.values(), default=self._held.clock.wall())
        for path in found:
            rolled = rolled_name(os.path.basename(path))
            if rolled and not (is_new and _modified(path) >= begun):
                stamps[rolled.stem] = max(rolled.stamp, stamps.get(rolled.stem, ""))
        return stamps

    def _consider(self, path: str, batch: Batch, archived: bool = False) -> bool:
        """Look at a file that does not match, but may be a generation of one that does: one that was saved, or, if it
        bears the name of a rolled one, one that nobody has seen. Returns as `_find_rolled`.
        """
        name = os.path.basename(path)
        rolled = rolled_name(name)
        register = self._held.register
        news = register.is_news(rolled)
        elsewhere = archived and ((rolled and register.is_waiting(rolled)) or self._may_be_elsewhere(path))
        related = [
            row
            for row in list(register.unbound.values())
            if (news or not row.lost) and is_generation_of(name, os.path.basename(row.path))
        ]
        if not news and not related:
            return False
        if elsewhere:
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
            if self._binding.adopt(row, path, False, batch):
                return False
        if not news:
            return False
        if any(row.key not in register.unbound for row in related):
            return True  # another root's tail has just found one of them
        for generation in self._held.active:
            if generation.left_at is None or not is_generation_of(name, os.path.basename(generation.row.path)):
                continue
            if (whole := self._proof.copies_held(generation, path)) is not None:
                if whole:  # read through our handle already (hazard 11)
                    self._binding.name(generation, path, batch)
                return not whole
        final = [
            row
            for row in list(register.rows.values())
            if row.final and row.offset and is_generation_of(name, os.path.basename(row.path))
        ]
        for row in final:
            descriptor = self._proof.fitting(row, path, status)
            if descriptor is not None:
                os.close(descriptor)
                if rolled:
                    register.name(rolled, row.key)
                    register.note_roll(row.key, batch)
                return False
        if self._proof.settles(path, status) and self._proof.may_grow(path, related + final):
            return True
        if begun := self._binding.begin(path, batch, rolled=True):
            self._binding.name(begun, path, batch)
        return False

    def _may_be_elsewhere(self, path: str) -> bool:
        """Whether the archived file at `path` may be what the tail of another root reads, or is about to find."""
        register, name = self._held.register, os.path.basename(path)
        others = register.places - {self._held.root.name}
        if not others:
            return False
        if len(self._strangers) > MOST_STRANGERS:
            self._strangers.clear()
        # Not the beginning of this search: the file may have been moved here since, after another tail looked for it.
        seen_at = self._strangers.setdefault(path, self._held.clock.monotonic())
        if any(register.listed_at.get(place, float("-inf")) <= seen_at for place in others):
            return True
        return any(
            key not in self._held.generations and is_generation_of(name, left)
            for key, left in list(register.adrift.items())
        )

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
            missed = not row.truncated and (rolled or now - row.changed < UNMISSED_SECONDS)
            if row.offset and not row.mark and missed:
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


def _modified(path: str) -> float:
    """When the file was last modified; 0 if that cannot be told."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
