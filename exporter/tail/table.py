"""The table of a log: its files and what is saved of them. Their only owner, shared by the tails of several roots.

Every method takes the lock, never waits for a file system, and returns copies. So a result was true at one instant;
`version` shows whether it still is.
"""

import threading
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from exporter.events import LogName
from exporter.logs.files import Rotated
from exporter.tail.batch import Batch
from exporter.tail.checkpoint import FileCheckpoint, LogCheckpoint
from exporter.tail.logfile import HELD, STATES, LogFile, State, may_be, rotated_as

SEARCHES = 2
"""How many complete searches on each root must not find a file before it is lost."""
UNMISSED_SECONDS = 86_400.0
"""A file that was unchanged for that long contained nothing unread when it disappeared: it was deleted, not lost."""
REMEMBERED_SECONDS = 7 * 86_400.0
"""How long a final or lost file is remembered, in case its folder returns with it."""
MOST_REMEMBERED = 1024
"""How many of those are remembered."""


@dataclass
class RootSearch:
    """The searches of one root for files of the log."""

    listed_at: float = float("-inf")
    """When the last successful listing of all its folders began, by the monotonic clock."""
    searched_at: float = 0.0
    """When the last complete search began, including the archive."""
    waiting: frozenset[Rotated] = frozenset()
    """Rotated files in its folders that are not identified yet; their copies elsewhere are not, either."""


class Relatives(NamedTuple):
    """The files whose content a file with a certain name may contain, at one instant."""

    version: int
    is_new: bool
    """Whether no file with that rotated name is known yet."""
    missing: list[LogFile]
    """Missing and lost ones."""
    final: list[LogFile]
    left_elsewhere: bool
    """Whether the tail of another root reads a file whose current name is not known."""
    unsettled: bool
    """Whether the tail of another root has released a file in a batch that is not committed yet."""


class FileTable:
    """The files of one log.

    A file belongs to the tail that holds it, and only that tail changes and saves its checkpoint; `adopt` and `claim`
    determine the tail. So the batches of two tails may be committed in any order.
    """

    def __init__(
        self,
        log: LogName,
        checkpoints: Iterable[FileCheckpoint] = (),
        log_checkpoint: LogCheckpoint = LogCheckpoint(),  # noqa: B008  # it is immutable
    ) -> None:
        """`checkpoints`, `log_checkpoint`: what was saved."""
        self.log = log
        self.log_checkpoint = log_checkpoint
        self._archive_due = True
        self._version = 0
        """Changes whenever the state of a file changes."""
        self._lock = threading.RLock()
        self._files: dict[State, dict[str, LogFile]] = {state: {} for state in STATES}
        self._rotated: dict[Rotated, LogFile] = {}
        """The files with a known rotated name."""
        self._roots: dict[str, RootSearch] = {}
        for checkpoint in checkpoints:
            file = LogFile(checkpoint, "final" if checkpoint.final else "lost" if checkpoint.lost else "missing")
            file.saved = True
            self._files[file.state][file.key] = file
            if rotated := rotated_as(file.path):
                self._rotated[rotated] = file

    # --- files and their states --------------------------------------------------------------------------------------

    def files(self, *states: State) -> tuple[LogFile, ...]:
        """The files in any of these states."""
        with self._lock:
            return tuple(file for state in states for file in self._files[state].values())

    def held_by(self, root: str) -> tuple[LogFile, ...]:
        """The files that the tail of a root holds."""
        return tuple(file for file in self.files(*HELD) if file.root == root)

    def add(self, file: LogFile) -> None:
        """Add a new file."""
        with self._lock:
            self._version += 1
            self._files[file.state][file.key] = file

    def move(self, file: LogFile, state: State) -> None:
        """Change the state of a file."""
        with self._lock:
            self._version += 1
            self._files[file.state].pop(file.key, None)
            file.state = state
            self._files[state][file.key] = file

    def adopt(self, file: LogFile, root: str, state: State) -> bool:
        """Assign a file that no tail holds to the tail of a root. False if another tail was faster."""
        with self._lock:
            if file.state in HELD or file.root not in ("", root) or file.key not in self._files[file.state]:
                return False
            file.root, file.misses = root, {}
            self.move(file, state)
            return True

    def claim(self, file: LogFile, rotated: Rotated | None, version: int) -> bool:
        """Add a new file under its rotated name, unless something has changed since `version`."""
        with self._lock:
            if version != self._version or not self._is_new(rotated):
                return False
            if rotated is not None:
                self._rotated[rotated] = file
            self.add(file)
            return True

    def remove(self, file: LogFile) -> None:
        """Remove a file of which nothing needs to be remembered."""
        with self._lock:
            self._version += 1
            self._files[file.state].pop(file.key, None)
            file.root = ""

    def settle(self, root: str) -> None:
        """The last batch of the tail of a root is committed: other tails may take the files that it released."""
        with self._lock:
            for file in self.files("missing", "final"):
                if file.root == root:
                    file.root = ""

    # --- what is saved -----------------------------------------------------------------------------------------------

    def save(self, file: LogFile, batch: Batch) -> None:
        """Save a file's checkpoint with the batch."""
        with self._lock:
            file.saved = True
            batch.checkpoints[file.key] = file.checkpoint
            batch.forgotten.discard(file.key)

    def forget(self, file: LogFile, batch: Batch) -> None:
        """Delete a file, with its saved row, as it is no longer needed."""
        with self._lock:
            self.remove(file)
            file.saved = False
            batch.checkpoints.pop(file.key, None)
            batch.forgotten.add(file.key)

    def write(self, change: LogCheckpoint, batch: Batch) -> None:
        """Save a change of the log's checkpoint with the batch."""
        with self._lock:
            self.log_checkpoint = self.log_checkpoint.merged(change)
            batch.log_checkpoint = batch.log_checkpoint.merged(change) if batch.log_checkpoint else change

    def count_rotation(self, file: LogFile, batch: Batch) -> None:
        """A file was rotated: count that once, even if nothing was read of it yet."""
        with self._lock:
            if not file.checkpoint.rolled and (file.state in HELD or file.saved):
                batch.rotations += 1
                file.checkpoint = msgspec.structs.replace(file.checkpoint, rolled=True)
                self.save(file, batch)

    # --- rotated names -----------------------------------------------------------------------------------------------

    def name(self, rotated: Rotated, file: LogFile) -> None:
        """Note the file's rotated name."""
        with self._lock:
            self._rotated[rotated] = file

    def is_new(self, rotated: Rotated | None) -> bool:
        """Whether a file with this rotated name still has to be examined."""
        with self._lock:
            return self._is_new(rotated)

    def _is_new(self, rotated: Rotated | None) -> bool:
        if rotated is None or rotated.stamp <= self.log_checkpoint.rolled.get(rotated.stem, ""):
            return False
        file = self._rotated.get(rotated)
        return file is None or file.key in self._files["missing"] or file.key in self._files["lost"]

    def relatives(self, name: str, rotated: Rotated | None, root: str) -> Relatives:
        """The files whose content one that is called `name`, found on `root`, may hold."""
        with self._lock:
            is_new = self._is_new(rotated)
            # Lost files alone are no reason to open the old files of an archive at each search.
            if not is_new and not self._files["missing"]:
                return Relatives(self._version, False, [], [], False, False)
            missing = [file for file in self.files("missing", "lost") if may_be(name, file.name)]
            final = [
                file for file in self.files("final") if is_new and file.checkpoint.offset and may_be(name, file.name)
            ]
            left = any(file.root != root and may_be(name, file.name) for file in self.files("left"))
            unsettled = any(file.root not in ("", root) for file in missing + final)
            return Relatives(self._version, is_new, missing, final, left, unsettled)

    # --- searches ----------------------------------------------------------------------------------------------------

    def add_root(self, root: str) -> None:
        """Add a root that is searched for files of the log."""
        with self._lock:
            self._roots.setdefault(root, RootSearch())

    def note_listing(self, root: str, at: float) -> None:
        """All folders of the root were listed; the listing began at `at` of the monotonic clock."""
        with self._lock:
            self._roots[root].listed_at = at

    def listed_everywhere_since(self, at: float, but: str) -> bool:
        """Whether all roots `but` this one were listed since `at` of the monotonic clock."""
        with self._lock:
            return all(search.listed_at > at for root, search in self._roots.items() if root != but)

    @property
    def archive_due(self) -> bool:
        """Whether the archive may contain something that was missed."""
        return self._archive_due

    def note_missed(self) -> None:
        """Note that the archive may contain something that was missed."""
        with self._lock:
            self._archive_due = True

    def note_archive_search(self, waiting: bool) -> None:
        """The archive was searched; `waiting`: some of its files are not identified yet."""
        with self._lock:
            self._archive_due = waiting or bool(self._files["missing"])

    def note_waiting(self, root: str, waiting: Iterable[Rotated]) -> None:
        """Set the rotated files in the folders of the root that are not identified yet."""
        with self._lock:
            self._roots[root].waiting = frozenset(waiting)

    def is_waiting(self, rotated: Rotated) -> bool:
        """Whether a file with this name is not identified yet in the folders of any root."""
        with self._lock:
            return any(rotated in search.waiting for search in self._roots.values())

    def finish_search(self, root: str, away: Container[str], began: float, now: float, batch: Batch) -> list[str]:
        """A complete search of the root has ended: missing files may be lost, and old ones are summarised by a stamp.

        `away`: the keys of missing files whose disk is missing, and which may return with it. Returns the paths of the
        lost files with something unread in them.
        """
        with self._lock:
            self._roots[root].searched_at = began
            lost = []
            paths = Counter(file.path for files in self._files.values() for file in files.values() if file.saved)
            for file in self.files("missing"):
                if file.key in away or file.root not in ("", root):
                    continue
                file.misses[root] = file.misses.get(root, 0) + 1
                if any(file.misses.get(name, 0) < SEARCHES for name in self._roots):
                    continue
                if self._give_up(file, paths[file.path] > 1, now, batch):
                    lost.append(file.path)
            self._collapse(batch)
            return lost

    def _give_up(self, file: LogFile, replaced: bool, now: float, batch: Batch) -> bool:
        """A file is lost; `replaced`: another has its path. Returns whether it contained something unread."""
        before = file.checkpoint
        rotated = before.rolled or replaced
        batch.rotations += rotated and not before.rolled
        missed = not before.truncated and (rotated or now - before.changed < UNMISSED_SECONDS)
        unread = bool(before.offset and not before.mark and missed)
        batch.lost_generations += unread
        file.checkpoint = msgspec.structs.replace(before, rolled=rotated, lost=True, gone=now)
        file.root = ""
        self.move(file, "lost")
        self.save(file, batch)
        return unread

    def _collapse(self, batch: Batch) -> None:
        """Remember finished rotated files by the newest stamp only, so that the state remains small.

        Only after all roots were searched since then: an older one may be in an archive that was not available.
        """
        searched_at = min(search.searched_at for search in self._roots.values())
        rotated = dict(self.log_checkpoint.rolled)
        by_stem: dict[str, list[Rotated]] = {}
        for name in self._rotated:
            by_stem.setdefault(name.stem, []).append(name)
        for stem, names in by_stem.items():
            done = ""
            for name in sorted(names):
                file = self._rotated[name]
                if file.saved:
                    if not 0 < file.checkpoint.gone < searched_at or file.root:
                        break
                    self.forget(file, batch)
                done = name.stamp
                del self._rotated[name]
            if done > rotated.get(stem, ""):
                rotated[stem] = done
        if rotated != self.log_checkpoint.rolled:
            self.write(LogCheckpoint(rolled=rotated), batch)

    def forget_old(self, now: float, batch: Batch) -> None:
        """Delete final and lost files that need not be remembered any longer."""
        with self._lock:
            gone = sorted((file.checkpoint.gone, file.key, file) for file in self.files("final", "lost"))
            for number, (since, _, file) in enumerate(gone):
                too_many, too_old = number < len(gone) - MOST_REMEMBERED, now - since > REMEMBERED_SECONDS
                if (too_many or too_old) and not file.root:
                    self.forget(file, batch)
