"""Listing: the folders of one tail's patterns, and what is history when they are first listed."""

import os
from collections.abc import Sequence
from typing import Literal

import msgspec

from exporter.logs import files
from exporter.logs.files import Listing, NotALogError, Pattern
from exporter.tail.batch import Batch
from exporter.tail.checkpoint import UNKNOWN_MARK, FileCheckpoint, LogCheckpoint, new_checkpoint
from exporter.tail.logfile import LogFile
from exporter.tail.tracker import Tracker

History = Literal["restate", "count", "ignore"]


class Folders:
    """The folders of one tail, listed for each discovery."""

    def __init__(self, tracker: Tracker, patterns: Sequence[Pattern], history: History, everything: bool) -> None:
        """`everything`: older rotated files are not history either."""
        self.patterns: dict[str, list[Pattern]] = {}
        """Each folder that could be listed, with the patterns of files in it."""
        self.listing = Listing()
        self.complete = False
        """Whether all folders that exist could be listed."""
        self.missing: tuple[str, ...] = ()
        """The patterns whose folder does not exist."""
        self._tracker = tracker
        self._all = tuple(patterns)
        self._history = history
        self._everything = everything
        self._absent: dict[str, float] = {}
        """When a pattern's folder was last found missing."""

    def list_all(self) -> Batch | None:
        """List all folders. Returns what is to be saved before anything is read, for those listed the first time."""
        self.listing, self.patterns, self.complete = Listing(), {}, True
        missing = set()
        for pattern in self._all:
            self._tracker.heartbeat()
            try:
                found = self._list(pattern)
            except (FileNotFoundError, NotADirectoryError):
                found = False
            except OSError as error:
                self.complete = False
                self._tracker.unreadable.add(pattern.text, error)
                continue
            self._tracker.unreadable.remove(pattern.text)
            if not found:
                missing.add(pattern.text)
                self._absent[pattern.text] = self._tracker.clock.wall()
        self.missing = tuple(sorted(missing))
        known = self._tracker.table.log_checkpoint.listed
        fresh = [
            pattern
            for pattern in self._all
            if pattern.text not in known and any(pattern in patterns for patterns in self.patterns.values())
        ]
        return self._first_listing(fresh) if fresh else None

    def _list(self, pattern: Pattern) -> bool:
        """List the folders of a pattern. Returns whether there is any. Raises OSError."""
        found = False
        for folder in pattern.folders(self.listing):
            self._tracker.heartbeat()
            try:
                self.listing.names(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a normal state, without a time limit (hazards 4 and 43)
            self.patterns.setdefault(folder, []).append(pattern)
            found = True
        return found

    @property
    def matching(self) -> list[str]:
        """The paths that match."""
        return [
            os.path.join(folder, name)
            for folder, patterns in self.patterns.items()
            for name in self.listing.names(folder)
            if any(pattern.matches(name) for pattern in patterns)
        ]

    def _first_listing(self, fresh: list[Pattern]) -> Batch:
        """The content of files when their pattern is first listed is history: saves their sizes before reading."""
        tracker, table = self._tracker, self._tracker.table
        batch = tracker.new_batch()
        rotated: dict[str, str] = {}
        known = {file.path for file in table.files("missing", "lost")} | set(tracker.paths)
        marked: list[FileCheckpoint] = []
        for pattern in fresh:
            names = [(folder, name) for folder, patterns in self.patterns.items() if pattern in patterns
                     for name in self.listing.names(folder)]  # fmt: skip
            for _, name in names:
                if not self._everything and (generation := pattern.rotated(name)):
                    rotated[generation.stem] = max(generation.stamp, rotated.get(generation.stem, ""))
            if self._history == "count":
                continue
            paths = [os.path.join(folder, name) for folder, name in names if pattern.matches(name)]
            found = [at for path in paths if path not in known and (at := self._marked(path))]
            # A folder that did not exist a moment ago and contains nothing older is new, and so are its records.
            since = self._absent.get(pattern.text)
            if since is None or any(at.changed < since - 2 for at in found):
                marked += found
        now = tracker.clock.wall()
        table.write(LogCheckpoint(listed={pattern.text: now for pattern in fresh}, rolled=rotated), batch)
        for checkpoint in marked:
            file = LogFile(checkpoint, "missing")
            table.add(file)
            table.save(file, batch)
        return batch

    def _marked(self, path: str) -> FileCheckpoint | None:
        """The checkpoint that makes a file's present content history."""
        log = self._tracker.table.log
        unknown = FileCheckpoint(key=os.urandom(8).hex(), log=log, path=path, mark=UNKNOWN_MARK)
        self._tracker.heartbeat()
        try:
            descriptor = files.open_shared(path)
        except (FileNotFoundError, NotALogError):
            return None
        except OSError:
            return unknown
        try:
            size = os.fstat(descriptor).st_size
            return msgspec.structs.replace(new_checkpoint(log, path, descriptor), mark=size)
        except OSError:
            return unknown
        finally:
            os.close(descriptor)
