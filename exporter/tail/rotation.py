"""The search for files that were rotated unnoticed, next to the live files and in the archive, and when it gives up.

A rotated name (stem and stamp) is one file, in whatever folder.
"""

import logging
import os
from collections.abc import Iterable, Sequence

from exporter.logs import files
from exporter.logs.files import Listing, Pattern, Rotated, archived
from exporter.masking import masked_name
from exporter.tail.batch import Batch
from exporter.tail.checkpoint import UNKNOWN_MARK, LogCheckpoint
from exporter.tail.copies import Copies
from exporter.tail.fingerprint import compare_files
from exporter.tail.listing import Folders
from exporter.tail.logfile import LogFile, may_be, rotated_as
from exporter.tail.table import Relatives
from exporter.tail.tracker import Tracker

ARCHIVE_SECONDS = 300.0
"""Seconds between searches of the archive, which is also searched when something may have been missed."""
MOST_FIRST_SEEN = 10_000
"""Largest number of archived files whose first sighting is remembered."""

log = logging.getLogger("exporter.tail")


class RotatedSearch:
    """Looks for the rotated files of one log below one root."""

    def __init__(
        self, tracker: Tracker, copies: Copies, archive: str, searched: Sequence[Pattern], everything: bool
    ) -> None:
        """`searched`: all patterns of the log; `everything`: also read older files of the archive."""
        self._tracker = tracker
        self._table = tracker.table
        self._copies = copies
        self._archive = archive
        self._searched = tuple(searched)
        self._everything = everything
        self._archive_searched = float("-inf")
        self._first_seen: dict[str, float] = {}
        """When each unknown archived file was first seen, by the monotonic clock."""

    def run(self, folders: Folders, complete: bool, batch: Batch) -> None:
        """Search the listed `folders` and the archive. `complete`: no folder is missing from them.

        A file that complete searches do not find is lost.
        """
        tracker, table = self._tracker, self._table
        began, errors_before = batch.at, tracker.unreadable.count
        waiting = self._search_folders(folders, batch)
        if self._archive:
            complete &= self._search_archive(batch)
        if complete and not waiting and tracker.unreadable.count == errors_before:
            away = {file.key for file in table.files("missing") if _is_away(file, folders)}
            for path in table.finish_search(tracker.root.name, away, began, tracker.clock.wall(), batch):
                log.warning(
                    "a rotated log file cannot be found again; its unread records are lost: %s", masked_name(path)
                )
        table.forget_old(tracker.clock.wall(), batch)

    def _search_folders(self, folders: Folders, batch: Batch) -> bool:
        """Look at the rotated files beside the live ones. Returns whether to look again before anything is given up."""
        waiting: set[Rotated] = set()
        for folder, patterns in folders.patterns.items():
            for name in sorted(folders.listing.names(folder)):
                if any(pattern.matches(name) for pattern in patterns):
                    continue
                rotated = next((rotated for pattern in patterns if (rotated := pattern.rotated(name))), None)
                if rotated and self._consider(os.path.join(folder, name), rotated, batch):
                    waiting.add(rotated)
        self._table.note_waiting(self._tracker.root.name, waiting)
        return bool(waiting)

    def _search_archive(self, batch: Batch) -> bool:
        """Search the archive for what was missed. Returns whether it was searched and no file there has to wait."""
        tracker, table = self._tracker, self._table
        now = tracker.clock.monotonic()
        if not table.archive_due and now - self._archive_searched < ARCHIVE_SECONDS:
            return False
        known = table.log_checkpoint
        tracker.heartbeat()
        try:
            found = sorted(archived(self._archive, self._searched, Listing()))
        except (FileNotFoundError, NotADirectoryError):
            if self._archive not in known.listed | known.absent and os.path.isdir(os.path.dirname(self._archive)):
                table.write(LogCheckpoint(absent={self._archive: tracker.root.name}), batch)
            return False
        except OSError as error:
            tracker.unreadable.add(self._archive, error)
            return False
        tracker.unreadable.remove(self._archive)
        if self._archive not in known.listed:
            rotated = {} if self._everything else self._history(found)
            table.write(LogCheckpoint(listed={self._archive: tracker.clock.wall()}, rolled=rotated), batch)
        waiting = False
        for path in found:
            waiting |= self._consider(path, rotated_as(path), batch, archived=True)
        self._archive_searched = now
        table.note_archive_search(waiting)
        return not waiting

    def _history(self, found: Iterable[str]) -> dict[str, str]:
        """By stem: the newest stamp that is history when the archive is listed for the first time.

        That is everything in it, unless it is known to be new: then only files from before the log was first listed,
        which somebody has moved there.
        """
        known, stamps = self._table.log_checkpoint, dict[str, str]()
        is_new = known.absent.get(self._archive) == self._tracker.root.name
        begun = min(known.listed.values(), default=self._tracker.clock.wall())
        for path in found:
            rotated = rotated_as(path)
            if rotated and not (is_new and _modified(path) >= begun):
                stamps[rotated.stem] = max(rotated.stamp, stamps.get(rotated.stem, ""))
        return stamps

    def _consider(self, path: str, rotated: Rotated | None, batch: Batch, archived: bool = False) -> bool:
        """Look at a file that does not match, but may have matched before: a known one or, if it has a rotated name,
        an unknown one. Returns whether to look again before anything is given up.
        """
        related = self._table.relatives(os.path.basename(path), rotated, self._tracker.root.name)
        if not related.is_new and not related.missing:
            return False
        if related.unsettled or (archived and self._may_be_elsewhere(path, rotated, related)):
            return True
        descriptor = self._tracker.openable(path)
        if descriptor is None:
            return False
        taken, wait = False, False
        try:
            taken, wait = self._identify(path, rotated, descriptor, related, batch)
        except OSError as error:
            self._tracker.unreadable.add(path, error)
        if not taken:
            os.close(descriptor)
        return wait

    def _identify(
        self, path: str, rotated: Rotated | None, descriptor: int, related: Relatives, batch: Batch
    ) -> tuple[bool, bool]:
        """Find out which file the open `path` is. Returns whether the descriptor was taken over, and as `_consider`.

        Raises OSError.
        """
        tracker = self._tracker
        for file in related.missing:
            if holds_all(file, path, descriptor, tracker):
                adopted = tracker.adopt(file, path, descriptor, False, batch)
                return adopted, not adopted
        if not related.is_new:
            return False, False
        for file in tracker.open:
            if file.left_at is None or not may_be(os.path.basename(path), file.name):
                continue
            assert file.cursor.descriptor is not None  # noqa: S101  # it is open
            likeness = compare_files(descriptor, file.cursor.descriptor)
            if likeness == "same":  # read through our handle already (hazard 11)
                tracker.named(file, path, batch)
            if likeness != "other":
                return False, likeness == "prefix"
        likenesses = [file.checkpoint.fingerprint.compare(descriptor) for file in related.missing]
        for file in related.final:
            likeness = file.checkpoint.fingerprint.compare(descriptor)
            if likeness == "same":
                if rotated:
                    self._table.name(rotated, file)
                    self._table.count_rotation(file, batch)
                return False, False
            likenesses.append(likeness)
        status = os.fstat(descriptor)
        if any(
            file.is_open or file.checkpoint.fingerprint.compare(descriptor) == "same"
            for file in tracker.live_with(files.identity(status))
        ):
            return False, False  # a link to a live file, or a cached name on a share (hazards 40, 85)
        if self._copies.settles(path, status) and "prefix" in likenesses:
            return False, True
        begun = tracker.begin_rotated(path, descriptor, related.version, batch)
        if begun:
            self._copies.forget(path)
        return begun, not begun

    def _may_be_elsewhere(self, path: str, rotated: Rotated | None, related: Relatives) -> bool:
        """Whether the archived file at `path` may be one that the tail of another root reads or is about to find."""
        if rotated and self._table.is_waiting(rotated):
            return True
        if len(self._first_seen) > MOST_FIRST_SEEN:
            self._first_seen.clear()
        # Not the beginning of this search: the file may have been moved here after another tail looked for it.
        seen_at = self._first_seen.setdefault(path, self._tracker.clock.monotonic())
        return related.left_elsewhere or not self._table.listed_everywhere_since(seen_at, self._tracker.root.name)


def holds_all(file: LogFile, path: str, descriptor: int, tracker: Tracker) -> bool:
    """Whether the open file at `path` contains what was read of `file`. Raises OSError.

    If nothing was read of it, the content proves little: then the name must match as well.
    """
    at = file.checkpoint
    same_path = tracker.same_path(at.path, path)
    if at.mark == UNKNOWN_MARK and not same_path:
        return False
    rotated = rotated_as(path)
    named_alike = same_path or (rotated is not None and rotated == rotated_as(at.path))
    return bool(at.offset or at.mark or named_alike) and at.fingerprint.compare(descriptor) == "same"


def _is_away(file: LogFile, folders: Folders) -> bool:
    """Whether a missing file may return with its disk: its mount point is empty, or another disk is mounted there."""
    folder = os.path.dirname(file.path)
    if folder not in folders.patterns or file.checkpoint.device == "0":
        return False
    try:
        return str(os.stat(folder).st_dev) != file.checkpoint.device
    except OSError:
        return True


def _modified(path: str) -> float:
    """When the file was last modified; 0 if that is not known."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
