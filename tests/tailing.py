"""A tail on a real folder, driven by hand: the recipe verbs of the hazard catalogue (A, W, MV, CP, TR, TICK, START…)."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from exporter.events import LogName
from exporter.logs.files import Pattern, Root, root_of
from exporter.tail.batch import Batch, Clock
from exporter.tail.checkpoint import FileCheckpoint, LogCheckpoint
from exporter.tail.listing import History
from exporter.tail.table import FileTable
from exporter.tail.tail import Tail

MOST_POLLS_FOR_NOTHING = 10
"""Polls that find nothing but want a discovery, before the next tick: a file whose every read fails wants one each time."""


@contextmanager
def disk_folder() -> Iterator[Path]:
    """A folder on a disk: a tmpfs never reuses file numbers and so hides every identity bug."""
    for place in (tempfile.gettempdir(), "/var/tmp", os.getcwd()):
        if os.path.isdir(place) and _file_system(place) not in ("tmpfs", "ramfs"):
            # Wine removes the last of a file only when its server has let go of it, a moment later.
            with tempfile.TemporaryDirectory(prefix="tail-", dir=place, ignore_cleanup_errors=True) as name:
                yield Path(name)
            return
    raise RuntimeError("these tests need a folder on a disk: set TMPDIR to one that is no tmpfs")


def _file_system(place: str) -> str:
    """The type of the file system that holds `place`, as the mount table tells it; empty where there is none."""
    best, found = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4]
        if (place == point or place.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, found = point, right.split(" ")[0]
    return found


class Driven:
    """A tail with a saved state and clocks that move when told to."""

    def __init__(
        self,
        folder: Path,
        *patterns: str,
        log: LogName = "licenses",
        archive: str = "",
        history: History = "count",
        root: Root | None = None,
        archive_root: Root | None = None,
        **options: Any,
    ) -> None:
        """`archive_root`: the archive is on a root of its own, with a tail of its own, as on another drive."""
        self.folder = folder
        self.root = root or root_of(str(folder))
        self.patterns = [
            Pattern(os.path.join(folder, pattern), self.root.caseless) for pattern in patterns or ("*.txt",)
        ]
        self.log, self.archive, self.archive_root, self.history = log, archive, archive_root, history
        self.options = options
        self.now = 1_700_000_000.0
        self.saved: dict[str, bytes] = {}
        self.records: list[Any] = []
        self.batches: list[Batch] = []
        self.tails: list[Tail] = []

    # --- the exporter ---

    def start(self) -> "Driven":
        files = [msgspec.json.decode(row, type=FileCheckpoint) for key, row in self.saved.items() if key != "book"]
        book = msgspec.json.decode(self.saved.get("book", b"{}"), type=LogCheckpoint)
        self.table = FileTable(self.log, files, book)
        self.tails = [self._tail(self.root, self.patterns, "" if self.archive_root else self.archive)]
        if self.archive_root:
            self.tails.append(self._tail(self.archive_root, [], self.archive))
        return self

    def _tail(self, root: Root, patterns: list[Pattern], archive: str) -> Tail:
        return Tail(
            self.table,
            patterns,
            root,
            archive=archive,
            history=self.history,
            searched=self.patterns,
            clock=Clock(lambda: self.now, lambda: self.now),
            **self.options,
        )

    @property
    def tail(self) -> Tail | None:
        """The tail of the log's own folder."""
        return self.tails[0] if self.tails else None

    def stop(self) -> None:
        for tail in self.tails:
            tail.close()
        self.tails = []

    kill = stop  # nothing is kept but what was saved

    def commit(self, batch: Batch) -> None:
        for key in batch.forgotten:
            self.saved.pop(key, None)
        for key, row in batch.checkpoints.items():
            self.saved[key] = msgspec.json.encode(row)
        if batch.log_checkpoint is not None:
            before = msgspec.json.decode(self.saved.get("book", b"{}"), type=LogCheckpoint)
            self.saved["book"] = msgspec.json.encode(before.merged(batch.log_checkpoint))
        self.records += batch.records
        self.batches.append(batch)

    def discover(self) -> None:
        assert self.tails
        for tail in self.tails:
            self.discover_in(tail)

    def discover_in(self, tail: Tail) -> None:
        for batch in tail.discover():
            self.commit(batch)

    def poll(self) -> None:
        assert self.tails
        for tail in self.tails:
            if tail.needs_discovery:
                self.discover_in(tail)
            found_nothing = 0
            while found_nothing < MOST_POLLS_FOR_NOTHING:
                batch = tail.poll()
                self.commit(batch)
                if tail.needs_discovery:
                    self.discover_in(tail)
                    found_nothing += batch.empty
                elif batch.empty:
                    break

    def tick(self, polls: int = 3, seconds: float = 1.0) -> None:
        for _ in range(polls):
            self.now += seconds
            self.discover()
            self.poll()

    def wait_out(self) -> None:
        """Long enough for a rolled file to be final."""
        self.tick(polls=4, seconds=11)

    # --- what came of it ---

    @property
    def texts(self) -> list[str]:
        return [record.raw.decode("utf-8", "replace") for record in self.records if record.counts]

    @property
    def count(self) -> int:
        return len(self.texts)

    @property
    def rotations(self) -> int:
        return sum(batch.rotations for batch in self.batches)

    @property
    def lost(self) -> int:
        return sum(batch.lost_generations for batch in self.batches)

    @property
    def handles(self) -> int:
        """Descriptors of this process below the folder."""
        count = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                count += os.readlink(f"/proc/self/fd/{name}").startswith(str(self.folder))
            except OSError:
                continue
        return count

    # --- the writer ---

    def path(self, name: str) -> Path:
        return self.folder / name

    def append(self, name: str, text: str | bytes) -> None:
        with open(self.path(name), "ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def write(self, name: str, text: str | bytes) -> None:
        with open(self.path(name), "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def move(self, name: str, to: str) -> None:
        os.rename(self.path(name), self.path(to))

    def copy(self, name: str, to: str) -> None:
        shutil.copyfile(self.path(name), self.path(to))

    def remove(self, name: str) -> None:
        os.unlink(self.path(name))
