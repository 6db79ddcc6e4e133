"""Discovery: which matching paths exist, and which log file is at each of them.

Files that were renamed, copied, linked, replaced or remounted are found again, so that nothing counts twice and nothing
is missed. Each path is opened once, and compared on that handle: `adopt` a known file, `wait`, or `begin` a new one.
"""

import contextlib
import os
import stat
from collections.abc import Sequence

from exporter.logs import files
from exporter.logs.files import Identity, Pattern
from exporter.tail.batch import Batch
from exporter.tail.copies import Copies, is_outgrown, signature
from exporter.tail.fingerprint import compare_files
from exporter.tail.listing import Folders, History
from exporter.tail.logfile import LogFile, originals
from exporter.tail.rotation import RotatedSearch, holds_all
from exporter.tail.tracker import Tracker


class Discovery:
    """Looks for the files of one log below one root."""

    def __init__(
        self,
        tracker: Tracker,
        patterns: Sequence[Pattern],
        archive: str,
        history: History,
        searched: Sequence[Pattern],
        everything: bool,
    ) -> None:
        """`searched`: all patterns of the log; `everything`: also read older rotated files."""
        self.folders = Folders(tracker, patterns, history, everything)
        self.matched = 0
        """How many files match."""
        self._tracker = tracker
        self._copies = Copies(tracker.clock)
        self._rotated = RotatedSearch(tracker, self._copies, archive, tuple(searched) or patterns, everything)
        self._skipped: dict[str, tuple[int, ...]] = {}
        """Paths of files that are not logs, with their status."""
        self._by_identity: dict[Identity, LogFile] = {}
        """The files of this tail, collected once per discovery that found unknown paths."""
        self._began = float("-inf")
        """When the current discovery began, by the monotonic clock."""

    def first_listings(self) -> Batch | None:
        """List all folders. The content of files when their pattern is first listed is history: the batch says so.

        Commit it before calling `run`, which begins to read.
        """
        self._began = self._tracker.clock.monotonic()
        return self.folders.list_all()

    def run(self) -> Batch:
        """Find out which file is at each path that `first_listings` saw, and what else is to be read."""
        tracker = self._tracker
        tracker.needs_discovery = False
        batch = tracker.new_batch()
        errors_before = tracker.unreadable.count
        matching = self.folders.matching
        unresolved = self._known_paths(matching, batch)
        self._find_by_number(unresolved, batch)
        if unresolved:
            self._resolve_all(unresolved, batch)
        seen_all = self.folders.complete and not self.folders.missing and tracker.unreadable.count == errors_before
        self._rotated.run(self.folders, seen_all, batch)
        if self.folders.complete:
            tracker.table.note_listing(tracker.root.name, self._began)
        self.matched = len({file.key for path in matching if (file := tracker.at(path))})
        for path in self._skipped.keys() - set(matching):
            del self._skipped[path]
            tracker.unreadable.remove(path)
        return batch

    def skip(self, path: str) -> None:
        """The file at `path` is not a log: ignore it until it changes."""
        with contextlib.suppress(OSError):
            self._skipped[path] = signature(os.stat(path))

    # --- paths that are known ----------------------------------------------------------------------------------------

    def _known_paths(self, matching: list[str], batch: Batch) -> dict[str, os.stat_result]:
        """The matching paths without a known file, with their status; files that have left their path are noted."""
        tracker = self._tracker
        unresolved: dict[str, os.stat_result] = {}
        for path in matching:
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since it was listed, or a link to nothing
            except OSError as error:
                tracker.unreadable.add(path, error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            file = tracker.at(path)
            if file is None:
                unresolved[path] = status
                continue
            looked = None if file.is_open or len(file.paths) > 1 else signature(status)
            if looked and file.looked == looked:
                continue
            if self._is_at(file, path, status):
                file.looked = looked
                if not file.is_open:
                    tracker.wake(file)
            else:
                if not file.is_open and file.identity.known and files.identity(status) == file.identity:
                    tracker.truncated(file, batch)
                tracker.leave(path, replaced=True)
                unresolved[path] = status
        present = set(matching)
        for path in tracker.paths:
            if path not in present and (self.folders.complete or os.path.dirname(path) in self.folders.patterns):
                tracker.leave(path)
        return unresolved

    def _is_at(self, file: LogFile, path: str, status: os.stat_result) -> bool:
        """Whether the file is still at `path`; if so it is open afterwards, unless it cannot be read."""
        here = files.identity(status)
        if here.known and file.identity.known:
            if here == file.identity and (file.is_open or file.failures):
                return True  # a file that could not be read is opened again by the polls only, which know when
            if here.number != file.identity.number:
                return False
        # No ids (hazard 33), another device (hazard 32, a remounted share), or no open handle that prevents the number
        # from being used again (hazard 24): compare the bytes.
        errors_before = self._tracker.unreadable.count
        descriptor = self._tracker.openable(path)
        if descriptor is None:
            return self._tracker.unreadable.count != errors_before  # an unreadable file need not be another one
        try:
            if same := holds_all(file, path, descriptor, self._tracker):
                self._tracker.reattach(file, descriptor, path)
                return True
        except OSError as error:
            self._tracker.unreadable.add(path, error)
            same = True
        os.close(descriptor)
        return same

    def _find_by_number(self, unresolved: dict[str, os.stat_result], batch: Batch) -> None:
        """Find renamed files by their file number, wherever they are in the folders (hazard 7)."""
        tracker, table = self._tracker, self._tracker.table
        missing = [file for file in table.files("missing", "lost") if file.identity.known]
        left = [file for file in tracker.reading if file.state == "left" and file.identity.known]
        if not missing and not left:
            return
        at: dict[str, str] = {}
        for folder, patterns in self.folders.patterns.items():
            for name, number in self.folders.listing.names(folder).items():
                path = os.path.join(folder, name)
                if not number and any(
                    pattern.matches(name) or table.is_new(pattern.rotated(name)) for pattern in patterns
                ):
                    with contextlib.suppress(OSError):  # Windows: a listing contains no number (hazard 77)
                        number = os.stat(path).st_ino
                if number and tracker.at(path) is None:
                    at.setdefault(str(number), path)
        for file in left:
            here = at.get(file.identity.number)
            if here and here != file.path:
                tracker.renamed(file, here, here in unresolved, batch)
                unresolved.pop(here, None)
        for file in missing:
            here = at.get(file.identity.number)
            if here and self._find_at(file, here, here in unresolved, batch):
                unresolved.pop(here, None)

    def _find_at(self, file: LogFile, path: str, matches: bool, batch: Batch) -> bool:
        """Continue with a missing file at `path` if that contains what was read of it."""
        descriptor = self._tracker.openable(path)
        if descriptor is None:
            return False
        if self._adopt(file, path, descriptor, matches, batch):
            return True
        os.close(descriptor)
        return False

    def _adopt(self, file: LogFile, path: str, descriptor: int, matches: bool, batch: Batch) -> bool:
        """Continue with a file at the open path if that contains what was read of it."""
        try:
            return holds_all(file, path, descriptor, self._tracker) and self._tracker.adopt(
                file, path, descriptor, matches, batch
            )
        except OSError as error:
            self._tracker.unreadable.add(path, error)
            return False

    # --- paths that are not known ------------------------------------------------------------------------------------

    def _resolve_all(self, unresolved: dict[str, os.stat_result], batch: Batch) -> None:
        held = self._tracker.held
        self._by_identity = {file.identity: file for file in held if file.identity.known}
        by_name: dict[str, list[LogFile]] = {}
        for file in held:
            by_name.setdefault(file.name, []).append(file)
        for path, status in sorted(unresolved.items()):
            if self._skipped.get(path) == signature(status) or self._is_held(path, status, batch):
                continue
            descriptor = self._tracker.openable(path)
            if descriptor is None:
                continue
            if not self._resolve(path, status, descriptor, by_name, batch):
                os.close(descriptor)
            elif (found := self._tracker.at(path)) and found.identity.known:
                self._by_identity[found.identity] = found

    def _is_held(self, path: str, status: os.stat_result, batch: Batch) -> bool:
        """Whether `path` is a new name, or a further one, of a file that this tail holds."""
        here = files.identity(status)
        file = self._by_identity.get(here) if here.known else None
        if file is None or not self._tracker.holds(file):
            return False
        if file.left_at is None:
            self._tracker.link(path, file)
            return True
        if not file.is_open:
            # No open handle prevents the number from being used again (hazard 24): compare the bytes.
            descriptor = self._tracker.openable(path)
            if descriptor is None:
                return False
            try:
                if not holds_all(file, path, descriptor, self._tracker):
                    return False
            except OSError as error:
                self._tracker.unreadable.add(path, error)
                return False
            finally:
                os.close(descriptor)
        self._tracker.renamed(file, path, True, batch)
        return True

    def _resolve(
        self, path: str, status: os.stat_result, descriptor: int, by_name: dict[str, list[LogFile]], batch: Batch
    ) -> bool:
        """Find out which file the open `path` is. Returns whether the descriptor was taken over."""
        tracker, table = self._tracker, self._tracker.table
        try:
            opened = files.identity(os.fstat(descriptor))
            if tracker.has_open(opened):
                tracker.needs_discovery = True  # a share's cache: the name still opens the old file (hazards 40, 85)
                return False
            self._replaced_by_copy(path, descriptor)
            names = originals(os.path.basename(path))
            missing = table.files("missing", "lost")
            known = [
                file
                for file in (*missing, *table.files("final"))
                if tracker.same_path(file.path, path) and (file.checkpoint.offset or not file.checkpoint.rolled)
            ]
            known += [file for file in missing if file.checkpoint.offset and file.name in names]
            if any(self._adopt(file, path, descriptor, True, batch) for file in known):
                return True
            beside = [file for name in names for file in by_name.get(name, ()) if tracker.holds(file)]
            if self._may_be_copy(path, status, descriptor, beside, [file for file in missing if file.name in names]):
                return False
            tracker.begin(path, descriptor, batch)
            self._copies.forget(path)
        except OSError as error:
            tracker.unreadable.add(path, error)
            return False
        return True

    def _replaced_by_copy(self, path: str, descriptor: int) -> None:
        """Release a file that a copy of itself replaced, as rsync does; reading continues there. Raises OSError."""
        folder, name = os.path.split(path)
        if not self.folders.listing.names(folder).get(name):
            return  # else the listing has file numbers: so the one that had this name is no longer in the folder
        for file in self._tracker.open:
            taken = file.state == "left" and file.replaced and file.checkpoint.offset and file.path == path
            if (
                taken
                and file.cursor.descriptor is not None
                and compare_files(descriptor, file.cursor.descriptor) != "other"
            ):
                self._tracker.release(file)

    def _may_be_copy(
        self, path: str, status: os.stat_result, descriptor: int, beside: list[LogFile], missing: list[LogFile]
    ) -> bool:
        """Whether the bytes of the open `path` may be those of a known file (hazard 18): then it waits.

        The original is read, not an equal copy of it or one that the original has outgrown. Raises OSError.
        """
        read = [file for file in (*beside, *missing) if file.checkpoint.offset]
        if not read:
            return False
        settles = self._copies.settles(path, status)
        for file in read:
            likeness = file.checkpoint.fingerprint.compare(descriptor)
            if likeness == "same" or (likeness == "prefix" and settles):
                return True
            if file in beside and status.st_size and is_outgrown(descriptor, file.path):
                return True
        return False
