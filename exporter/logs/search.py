"""Discovery: which matching files there are, and which generation each of them is.

What has been renamed, copied, linked, replaced or remounted is found again, so that nothing counts twice and nothing is
passed over.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence

import msgspec

from exporter.logs import files
from exporter.logs.binding import Binding, Index
from exporter.logs.files import Listing, Pattern
from exporter.logs.folders import Folders, History
from exporter.logs.generation import Generation
from exporter.logs.held import Held, look
from exporter.logs.proof import Proof, is_outgrown, originals
from exporter.logs.register import Batch
from exporter.logs.rolled import RolledSearch


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
        self.folders = Folders(held, patterns, history, everything)
        self.matched = 0
        """How many files match."""
        self._proof = Proof(held)
        self._binding = Binding(held, self._proof)
        self._rolled = RolledSearch(held, self._proof, self._binding, archive, tuple(searched) or patterns, everything)
        self._began = float("-inf")
        """The monotonic instant when the search under way began."""

    def first_listings(self) -> Batch | None:
        """List all folders. What files hold when their pattern is first listed is history: a batch that says so.

        It is to be committed before `run` is called, which begins to read.
        """
        self._began = self._held.clock.monotonic()
        return self.folders.look()

    def run(self) -> Batch:
        """Find out which generation each file is that `first_listings` saw, and what else is to be read."""
        held, folders, listing = self._held, self.folders.patterns, self.folders.listing
        held.restless = False
        batch = held.new_batch()
        errors_before = held.errors
        matched = [
            os.path.join(folder, name)
            for folder, patterns in folders.items()
            for name in listing.names(folder)
            if any(pattern.matches(name) for pattern in patterns)
        ]
        unresolved = self._known_paths(matched, folders, self.folders.complete, batch)
        self._find_by_number(unresolved, folders, listing, batch)
        if unresolved:
            self._binding.index = Index.of(held.generations.values(), list(held.register.rows.values()))
            for path, status in sorted(unresolved.items()):
                self._resolve(path, status, batch)
        seen_all = self.folders.complete and not self.folders.missing and held.errors == errors_before
        self._rolled.run(folders, listing, self._began, seen_all, batch)
        if self.folders.complete:
            held.register.listed_at[held.root.name] = self._began
        for path in matched:
            held.vacant.pop(path, None)
        self.matched = len({held.paths[path] for path in matched if path in held.paths})
        for path in held.skipped.keys() - set(matched):
            del held.skipped[path]
            held.healed(path)
        return batch

    def _known_paths(
        self, matched: list[str], folders: Iterable[str], complete: bool, batch: Batch
    ) -> dict[str, os.stat_result]:
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
                row = generation.row
                if closed and row.offset and row.identity.known and files.identity(status) == row.identity:
                    batch.rotations += not row.rolled
                    generation.row = msgspec.structs.replace(row, rolled=True, truncated=not generation.unread)
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
        descriptor = self._proof.fitting(row, path, status)
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
                self._binding.found_again(generation, here, here in unresolved, batch)
                unresolved.pop(here, None)
        for row in rows:
            here = at.get(row.number)
            if here and self._binding.adopt(row, here, here in unresolved, batch):
                unresolved.pop(here, None)

    def _resolve(self, path: str, status: os.stat_result, batch: Batch) -> None:
        """Find out which generation a matching path stands for; a new one if no other."""
        if self._held.skipped.get(path) == look(status):
            return
        here = files.identity(status)
        live = self._binding.index.by_identity.get(here) if here.known else None
        if live is not None and live.left_at is not None and live.descriptor is None:
            # Nothing is held that keeps the number from being used again (hazard 24): the bytes tell.
            descriptor = self._proof.fitting(live.row, path, status)
            if descriptor is None:
                live = None
            else:
                os.close(descriptor)
        if live is not None and self._held.generations.get(live.row.key) is live:
            if live.left_at is not None:
                self._binding.found_again(live, path, True, batch)
            else:  # a link, another spelling, or the same file under two patterns (hazard 38)
                self._held.paths[path] = live.row.key
                self._held.linked.add(live.row.key)
            return
        folder, name = os.path.split(path)
        for generation in self._held.active if self.folders.listing.names(folder).get(name) else ():
            # The listing tells file numbers: so the one that had this name is not in the folder any more.
            row = generation.row
            adrift = generation.replaced and row.key in self._held.register.adrift
            if adrift and row.offset and row.path == path and self._proof.copies_held(generation, path):
                self._held.unbind(generation)  # a copy of it took its place, as rsync makes one: it goes on there
        unbound = list(self._held.register.unbound.values())
        names = originals(name)
        candidates = [
            row
            for row in (*unbound, *self._binding.index.final)
            if self._proof.same_path(row.path, path) and (row.offset or not row.rolled)
        ]
        candidates += [row for row in unbound if row.offset and os.path.basename(row.path) in names]
        for row in candidates:
            if self._binding.adopt(row, path, True, batch):
                return
        if self._may_be_copy(path, status):
            return
        self._binding.begin(path, batch, rolled=False)

    def _may_be_copy(self, path: str, status: os.stat_result) -> bool:
        """Whether the bytes at `path` may be those of a generation that is known (hazard 18): then they wait.

        Of an equal copy beside its original, and of one that the original has outgrown, the original is read.
        """
        names = originals(os.path.basename(path))
        known = [generation.row for name in names for generation in self._binding.index.by_name.get(name, ())]
        rows = known + [row for row in list(self._held.register.unbound.values())
                        if os.path.basename(row.path) in names]  # fmt: skip
        rows = [row for row in rows if row.offset]
        if not rows:
            return False
        settles = self._proof.settles(path, status)
        try:
            descriptor = files.open_shared(path)
        except OSError as error:
            self._held.failed(path, error)
            return True
        try:
            return any(
                row.fits(descriptor)
                or (settles and row.may_grow_into(descriptor))
                or (row in known and status.st_size and is_outgrown(descriptor, row.path))
                for row in rows
            )
        except OSError as error:
            self._held.failed(path, error)
            return True
        finally:
            os.close(descriptor)
