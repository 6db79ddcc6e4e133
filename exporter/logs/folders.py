"""First listings: what files hold when their log is first listed is history, and their sizes say so."""

import os
from collections.abc import Sequence
from typing import Literal

import msgspec

from exporter.logs import files
from exporter.logs.files import Listing, NotALogError, Pattern
from exporter.logs.generation import UNKNOWN_MARK, FileRow, new_row
from exporter.logs.held import Held
from exporter.logs.register import Batch, LogBook

History = Literal["restate", "count", "ignore"]


class Folders:
    """The folders that the patterns of one tail stand for, listed anew for each discovery."""

    def __init__(self, held: Held, patterns: Sequence[Pattern], history: History, everything: bool) -> None:
        """`everything`: rolled generations that were there before are no history either."""
        self.patterns: dict[str, list[Pattern]] = {}
        """Each folder that could be listed, with the patterns that mean files in it."""
        self.listing = Listing()
        self.complete = False
        """Whether all folders that exist could be listed."""
        self.missing: tuple[str, ...] = ()
        """The patterns whose folder does not exist."""
        self._held = held
        self._all = tuple(patterns)
        self._history = history
        self._everything = everything
        self._absent: dict[str, float] = {}
        """The instant when a pattern's folder was last found missing."""

    def look(self) -> Batch | None:
        """List all folders. Returns what is to be saved before anything is read, for those listed the first time."""
        self.listing = Listing()
        self.patterns, missing, self.complete = self._list(self.listing)
        self.missing = tuple(sorted(missing))
        return self._marks(missing)

    def _list(self, listing: Listing) -> tuple[dict[str, list[Pattern]], set[str], bool]:
        """The folders that could be listed, the patterns whose folder is missing, and whether all others could."""
        folders: dict[str, list[Pattern]] = {}
        missing: set[str] = set()
        complete = True
        for pattern in self._all:
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
        folders, listing = self.patterns, self.listing
        book = self._held.register.book
        fresh = [
            pattern
            for pattern in self._all
            if pattern.text not in book.listed
            and pattern.text not in missing
            and any(pattern in patterns for patterns in folders.values())
        ]
        if not fresh:
            return None
        now = self._held.clock.wall()
        batch = self._held.new_batch()
        rolled: dict[str, str] = {}
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
        self._held.register.write(LogBook(listed={pattern.text: now for pattern in fresh}, rolled=rolled), batch)
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
