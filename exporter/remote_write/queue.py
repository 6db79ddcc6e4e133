"""The queue of sample sets that the receiver has not taken yet: an SQLite file beside the state file.

A batch is stored before it is sent, and deleted after it was taken, so that a kill at any moment loses none. Limited in
size: the oldest batches make room. If the file cannot be used (full disk, read-only), the newest batches wait in
memory, so that a node with a full disk is still monitored. A damaged file is renamed, never deleted, which is logged.
"""

import contextlib
import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exporter.databases import format_versions, set_aside, tells_of_damage, words
from exporter.locks import HeldError, LockFile

APPLICATION_ID = 0x514C5277
"""Marks an SQLite file as ours ("QLRw")."""
VERSION = 1
SCHEMA = """
CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, samples INTEGER NOT NULL, body BLOB NOT NULL,
    digest BLOB NOT NULL
)
"""
LARGEST_QUEUE = 64 << 20
"""Bytes of request bodies: with 3.6 kB each (measured) and one every 30 s, six days."""
MOST_IN_MEMORY = 20
"""Batches that wait in memory if the file cannot be used: ten minutes at the default interval."""
BUSY_SECONDS = 0.5
"""Seconds that another program (a backup, a virus scanner) may keep the file busy."""
PRIVATE = 0o600
DIGEST_BYTES = 16

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """One request body, and what it holds."""

    at: int
    """When the samples were taken, in milliseconds since the epoch."""
    samples: int
    body: bytes
    id: int = 0
    """Its row; 0 in memory."""


@dataclass(frozen=True)
class Waiting:
    """What waits."""

    samples: int = 0
    bytes: int = 0
    """Of request bodies."""
    oldest: int | None = None
    """When the oldest samples were taken, in milliseconds; None if nothing waits."""


class _UnusableError(Exception):
    """The file is damaged or foreign: `str()` says which."""


def queue_file_of(state_file: Path) -> Path:
    """The queue's file, beside the state file: `state-remote-write.db`."""
    return state_file.with_name(f"{state_file.stem}-remote-write{state_file.suffix}")


class BatchQueue:
    """Batches in the order in which they were taken. Never raises: what cannot be kept is counted in `dropped`."""

    def __init__(self, path: Path, limit: int = LARGEST_QUEUE, wall: Callable[[], float] = time.time) -> None:
        """Opens nothing yet: the disk may be slow or away. `limit`: bytes of request bodies."""
        self.path = Path(os.path.realpath(path)) if os.path.islink(path) else path
        self._limit, self._wall = limit, wall
        self._database: sqlite3.Connection | None = None
        self._lock: LockFile | None = None
        self._guard = threading.Lock()
        self._held: deque[Batch] = deque()
        """Batches in memory, newer than all in the file."""
        self._done = 0
        """The row up to which all were taken, even if they could not be deleted."""
        self._stored = Waiting()
        """What waits in the file, as of its last use."""
        self._problem = ""
        self.dropped: Counter[str] = Counter()
        """Samples that were dropped, by reason: queue_full, queue_unavailable."""
        self.waiting = Waiting()
        """What waits, as of the last change; replaced, never changed."""

    def add(self, batch: Batch) -> None:
        """Append a batch."""
        with self._guard:
            self._held.append(batch)
            self._attempt(self._store_held)
            while len(self._held) > MOST_IN_MEMORY:
                self.dropped["queue_unavailable"] += self._held.popleft().samples
            self._count()

    def oldest(self) -> Batch | None:
        """The oldest batch; None if the queue is empty."""
        with self._guard:
            found = self._attempt(self._first)
            self._count()
            return found or (self._held[0] if self._held else None)

    def remove(self, batch: Batch) -> None:
        """Remove a batch that `oldest` returned: it was taken, or will never be."""
        with self._guard:
            if batch.id:
                self._done = max(self._done, batch.id)
                self._attempt(self._delete_done)
            elif self._held and self._held[0] is batch:
                self._held.popleft()
            self._count()

    def close(self) -> None:
        """Close the file and release its lock. What waits in memory is stored if possible now."""
        with self._guard:
            if self._held:
                self._attempt(self._store_held)
            self._disconnect()
            if self._lock:
                self._lock.release()
                self._lock = None

    # --- with the open file

    def _store_held(self, database: sqlite3.Connection) -> None:
        """Move what is in memory to the file, and delete the oldest batches if it is too large then."""
        rows = [(one.at, one.samples, one.body, _digest(one.at, one.samples, one.body)) for one in self._held]
        size, gone, dropped = self._stored.bytes + sum(len(one.body) for one in self._held), self._done, 0
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO batches (at, samples, body, digest) VALUES (?, ?, ?, ?)", rows)
        if size > self._limit:
            query = "SELECT id, samples, length(body) FROM batches WHERE id > ? ORDER BY id"
            for row, samples, length in database.execute(query, (self._done,)):
                if size <= self._limit:
                    break
                size, gone, dropped = size - length, row, dropped + samples
        database.execute("DELETE FROM batches WHERE id <= ?", (gone,))
        database.execute("COMMIT")
        self._held.clear()
        if dropped:
            self.dropped["queue_full"] += dropped
        self._measure(database)

    def _first(self, database: sqlite3.Connection) -> Batch | None:
        query = "SELECT id, at, samples, body, digest FROM batches WHERE id > ? ORDER BY id LIMIT 1"
        row, at, samples, body, digest = database.execute(query, (self._done,)).fetchone() or (0, 0, 0, b"", None)
        if not row:
            return None
        if not isinstance(body, bytes) or digest != _digest(at, samples, body):
            raise _UnusableError("is damaged: a batch does not match its digest")
        return Batch(at, samples, body, row)

    def _delete_done(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM batches WHERE id <= ?", (self._done,))
        self._measure(database)

    def _measure(self, database: sqlite3.Connection) -> None:
        query = "SELECT coalesce(sum(samples), 0), coalesce(sum(length(body)), 0), min(at) FROM batches WHERE id > ?"
        self._stored = Waiting(*database.execute(query, (self._done,)).fetchone())

    def _count(self) -> None:
        held, stored = self._held, self._stored
        self.waiting = Waiting(
            stored.samples + sum(one.samples for one in held),
            stored.bytes + sum(len(one.body) for one in held),
            stored.oldest if stored.oldest is not None else held[0].at if held else None,
        )

    # --- opening

    def _attempt(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """The result of `work` on the open database; None if it cannot be used, which is logged once."""
        try:
            try:
                result = work(self._connected())
            except (sqlite3.Error, _UnusableError) as error:
                if isinstance(error, sqlite3.Error) and not tells_of_damage(error):
                    raise
                self._begin_anew(error)
                result = work(self._connected())
        except (sqlite3.Error, OSError, HeldError, _UnusableError) as error:
            if _tells_of_full_disk(error):  # what is stored can still be read
                self._roll_back()
            else:  # a new connection next time: a disk that vanished can leave this one in any condition
                self._disconnect()
            problem = f"is in use by {HeldError.who(error.holder)}" if isinstance(error, HeldError) else words(error)
            if problem != self._problem:
                self._problem = problem
                text = "the remote write queue %s cannot be used: %s; the newest %d batches wait in memory"
                _log.error(text, self.path, problem, MOST_IN_MEMORY)
            return None
        if self._problem:
            self._problem = ""
            _log.info("the remote write queue %s can be used again", self.path)
        return result

    def _connected(self) -> sqlite3.Connection:
        """The open database. Raises sqlite3.Error, OSError, HeldError, _UnusableError."""
        if self._database is not None:
            if self._is_there():
                return self._database
            self._disconnect()
            self._lose("was deleted or replaced while it was in use")
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._lock is None:
            self._lock = LockFile(self.path.with_name(self.path.name + ".lock"), PRIVATE)
        else:
            self._lock.renew()
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE))
        if any(version not in (1, 2) for version in format_versions(self.path)):
            raise _UnusableError("is damaged: its file format has an unknown version")
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        self._database, self._status = database, os.stat(self.path)
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Check an existing file, or begin a new one in one transaction."""
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        is_new = not (application or version or tables)
        if not is_new:
            if application != APPLICATION_ID:
                raise _UnusableError("belongs to another program")
            if version != VERSION:
                raise _UnusableError(f"has version {version}, this release supports {VERSION}")
            finding = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if finding != "ok":
                raise _UnusableError(f"is damaged: {finding.splitlines()[-1]}")
        else:
            database.execute("PRAGMA auto_vacuum = FULL")  # gives space back to the disk
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        if is_new:
            database.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {VERSION}; COMMIT"
            )
        (last,) = database.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
        if last < self._done:  # another file than before
            self._done = 0
        self._measure(database)

    def _is_there(self) -> bool:
        """Whether the open file is still the one at its path. Raises OSError if that is not known."""
        try:
            return os.path.samestat(os.stat(self.path), self._status)
        except FileNotFoundError:
            return False

    def _begin_anew(self, error: Exception) -> None:
        """Rename the file, whose content cannot be used. Raises OSError."""
        self._disconnect()
        why = str(error) if isinstance(error, _UnusableError) else f"is damaged: {words(error)}"
        aside = set_aside(self.path, self._wall())
        self._lose(f"{why}; it was set aside as {aside}")

    def _lose(self, why: str) -> None:
        """What was in the file is lost."""
        _log.error("the remote write queue %s %s: at least %d samples are lost", self.path, why, self._stored.samples)
        if self._stored.samples:
            self.dropped["queue_unavailable"] += self._stored.samples
        self._stored, self._done = Waiting(), 0

    def _roll_back(self) -> None:
        if self._database is not None and self._database.in_transaction:
            try:
                self._database.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()

    def _disconnect(self) -> None:
        if self._database is not None:
            database, self._database = self._database, None
            with contextlib.suppress(sqlite3.Error):
                database.close()


def _digest(at: object, samples: object, body: bytes) -> bytes:
    """What tells of a changed byte: SQLite's own checks do not."""
    return hashlib.blake2b(f"{at} {samples} ".encode() + body, digest_size=DIGEST_BYTES).digest()


def _tells_of_full_disk(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
