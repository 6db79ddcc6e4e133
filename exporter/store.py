"""The state file: named values and file rows, saved in one transaction.

It stores bytes; the ledger interprets them. One process uses it at a time, guarded by an operating-system lock next to
the file. A file that cannot be used is renamed, never deleted, and that is logged.

Each transaction saves a digest of the whole content, which is checked whenever the file is opened: SQLite's own checks
do not notice a changed digit in a value.
"""

import contextlib
import hashlib
import logging
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from exporter.databases import companions, format_versions, set_aside, tells_of_damage, words
from exporter.locks import HeldError, LockFile

APPLICATION_ID = 0x514C4578
"""Marks an SQLite file as ours ("QLEx")."""
MIGRATIONS = (
    """
    CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE files (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE saves (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL);
    INSERT INTO saves VALUES (1, 0);
    """,
    """
    ALTER TABLE saves ADD COLUMN digest BLOB;
    """,
)
"""The statements that migrate each version to the next; the version of a file is the number of migrations applied."""
BUSY_SECONDS = 0.5
"""Seconds that another program (a backup, the sqlite3 shell) may keep the file busy before opening or saving fails.

Short enough for a last save within the time of a stop; the ledger tries again."""
PRIVATE = 0o600
DIGEST_BYTES = 16
"""A random change goes unnoticed once in 2**128. A deliberate change can include a new digest."""

_FIRST_START, _RESET = "first start", "reset"

log = logging.getLogger("exporter.store")


class StoreError(Exception):
    """The state file cannot be read or written now; nothing in it is lost, and trying again may succeed."""


class StoreLockedError(StoreError):
    """Another process uses the state file: `holder` is its process ID, 0 if that is unknown."""

    def __init__(self, path: Path, holder: int) -> None:
        super().__init__(
            f"the state file {path} is in use by {HeldError.who(holder)}; stop it, or set another state.file"
        )
        self.holder = holder


class _UnusableError(Exception):
    """The file is damaged, foreign or newer: `str()` says which."""


class Store:
    """The open state file. `save` may be called by one thread at a time."""

    first_start: float
    """The instant when this state file was first used."""
    reset: float | None
    """The time when previous counts were last found to be missing or outdated; None: never."""
    state: dict[str, bytes]
    """The values that are kept."""
    files: dict[str, bytes]
    """The rows that are kept."""

    def __init__(self, path: Path, wall: Callable[[], float] = time.time, busy: float = BUSY_SECONDS) -> None:
        """Lock and open `path`, which is created if missing. Raises StoreLockedError, StoreError.

        `busy`: how many seconds another program may keep the file busy before opening or saving fails.
        """
        # The lock and SQLite's own files are next to the file itself, also if `path` is a link.
        path = Path(os.path.realpath(path)) if os.path.islink(path) else path
        self.path = path
        self.state, self.files = {}, {}
        self._wall, self._busy = wall, busy
        self._database: sqlite3.Connection | None = None
        self._number = 0
        """The number of the last save."""
        self._sum = 0
        """The sum of the digests of all rows."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # It contains the number of the last save, which reveals an older copy of the state file, unless both were
            # copied.
            self._lock = LockFile(path.with_name(path.name + ".lock"), PRIVATE)
        except HeldError as held:
            raise StoreLockedError(path, held.holder) from held
        except OSError as error:
            raise StoreError(
                f"the state file {path} cannot be locked: {error.filename or path.parent}: {words(error)}"
            ) from error
        try:
            self._open_or_begin()
        except BaseException:
            self.close()
            raise

    def start_anew(self, why: str) -> None:
        """Rename the file, whose content cannot be used, and begin with an empty one. Raises StoreError."""
        self._disconnect()
        self._begin_with_nothing(why)
        self._connect()

    def save(self, state: Mapping[str, bytes], files: Mapping[str, bytes], forgotten: Collection[str]) -> None:
        """Save these values and rows, and delete the rows `forgotten`: all of it, or nothing on StoreError.

        Only what has changed since the last save is written.
        """
        try:
            if self._database is None or not self._is_there():
                self._connect_again()
            self._renew_lock()
            assert self._database is not None  # noqa: S101  # connected just now
            changed_state = [(name, value) for name, value in state.items() if self.state.get(name) != value]
            changed_files = [(key, value) for key, value in files.items() if self.files.get(key) != value]
            dropped = [key for key in forgotten if key in self.files and key not in files]
            total = (
                self._sum + _change("state", self.state, changed_state) + _change("files", self.files, changed_files)
            )
            total -= _sum("files", ((key, self.files[key]) for key in dropped))
            with self._transaction(self._database) as database:
                database.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", changed_state)
                database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", changed_files)
                database.executemany("DELETE FROM files WHERE key = ?", [(key,) for key in dropped])
                _note_save(database, self._number + 1, total)
        except (sqlite3.Error, OSError) as error:
            # A new connection next time: a full or vanished disk can leave this one in any condition.
            self._disconnect()
            raise StoreError(f"the state file {self.path} cannot be written: {words(error)}") from error
        self._number, self._sum = self._number + 1, total
        self.state.update(changed_state)
        self.files.update(changed_files)
        for key in dropped:
            del self.files[key]
        self._lock.note(self._number)

    def _is_there(self) -> bool:
        """Whether the open file is still the one at its path, and complete: it never shrinks."""
        if not _is_taken(self.path):
            return False
        status = os.stat(self.path)
        return os.path.samestat(status, self._status) and status.st_size >= self._status.st_size

    def _connect_again(self) -> None:
        """Connect; if the file was deleted, replaced or damaged in the meantime, write all known values again."""
        self._disconnect()
        try:
            if not self._is_there():
                raise _UnusableError("was deleted, replaced or cut while it was in use")
            self._connect(newest=self._number)
        except _UnusableError as error:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._renew_lock()
            self._begin(str(error), self.state, self.files, self._number)
            self._connect()

    def _renew_lock(self) -> None:
        try:
            self._lock.renew()
        except HeldError as held:
            raise StoreLockedError(self.path, held.holder) from held

    def close(self) -> None:
        """Close the file and release its lock."""
        self._disconnect()
        self._lock.release()

    @staticmethod
    @contextlib.contextmanager
    def _transaction(database: sqlite3.Connection, kind: str = "IMMEDIATE"):  # type: ignore[no-untyped-def]  # a context manager of a connection
        database.execute(f"BEGIN {kind}")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open_or_begin(self) -> None:
        try:
            if not _is_taken(self.path):
                self._begin_with_nothing("is missing, although it was saved to before" if self._lock.noted else "")
            self._connect()
        except _UnusableError as error:
            self.start_anew(str(error))
        except OSError as error:
            raise StoreError(f"the state file {self.path} cannot be used: {words(error)}") from error
        if self._number < self._lock.noted:
            log.error(
                "the state file %s is an older copy (save %d of %d): what was counted since then is counted again, as "
                "far as the logs still contain it",
                self.path,
                self._number,
                self._lock.noted,
            )
            self.reset = self._wall()
            self.save({_RESET: repr(self.reset).encode()}, {}, ())

    def _begin_with_nothing(self, why: str) -> None:
        now = repr(self._wall()).encode()
        self._begin(why, {_FIRST_START: now, **({_RESET: now} if why else {})}, {}, 0)

    def _begin(self, why: str, state: Mapping[str, bytes], files: Mapping[str, bytes], number: int) -> None:
        """Create a state file with this content. An existing one is renamed; `why` says what is wrong with it.

        It is first completed under another name, so that no kill leaves half of one, and a full disk changes nothing.
        """
        draft = self.path.with_name(self.path.name + ".new")
        aside: Path | None = None
        try:
            for name in (draft, *companions(draft)):
                name.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
            with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                database.executescript(f"PRAGMA application_id = {APPLICATION_ID}; BEGIN; {''.join(MIGRATIONS)}")
                database.executemany("INSERT INTO state VALUES (?, ?)", state.items())
                database.executemany("INSERT INTO files VALUES (?, ?)", files.items())
                _note_save(database, number, _sum_of(database, state, files))
                database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
                database.execute("COMMIT")
            if _is_taken(self.path):
                aside = set_aside(self.path, self._wall())
            for name in companions(self.path):
                name.unlink(missing_ok=True)
            os.replace(draft, self.path)
            self._status = os.stat(self.path)
            _sync_folder(self.path.parent)
        except (sqlite3.Error, OSError) as error:
            what = f" {why}, and a new one" if why else ""
            raise StoreError(f"the state file {self.path}{what} cannot be created: {words(error)}") from error
        self._lock.note(number)
        if why:
            where = f"it was set aside as {aside}, and " if aside else ""
            then = "all current values are written to a new one" if number else "counters restart at 0"
            log.error("the state file %s %s; %s%s", self.path, why, where, then)

    def _connect(self, newest: int = 0) -> None:
        """Open the file, bring it up to date and read it. Raises _UnusableError, or StoreError.

        `newest`: the number of the last save that is known to have been there.
        """
        try:
            status = os.stat(self.path)
            if not stat.S_ISREG(status.st_mode):
                raise _UnusableError("is not a file")
            if status.st_size == 0:
                raise _UnusableError("is empty")
            if any(version not in (1, 2) for version in format_versions(self.path)):
                # SQLite would open such a file read-only.
                raise _UnusableError("is damaged: its file format has an unknown version")
            database = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None, check_same_thread=False)
            try:
                self._read(database, newest)
            except BaseException:
                database.close()
                raise
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            if tells_of_damage(error):
                raise _UnusableError(f"is damaged: {words(error)}") from error
            raise StoreError(f"the state file {self.path} cannot be used: {words(error)}") from error
        self._database, self._status = database, status

    def _read(self, database: sqlite3.Connection, newest: int) -> None:
        self._check(database)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        old = version < len(MIGRATIONS)
        with self._transaction(database, "IMMEDIATE" if old else "DEFERRED"):
            if old:
                for statement in "".join(MIGRATIONS[version:]).split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            state = _values(database, "SELECT name, value FROM state")
            files = _values(database, "SELECT key, value FROM files")
            total = _sum_of(database, state, files)
            number, digest = database.execute("SELECT number, digest FROM saves").fetchone() or (None, None)
            if old and isinstance(number, int):
                digest = _note_save(database, number, total)
        if old:
            log.info("the state file %s was migrated from version %d to %d", self.path, version, len(MIGRATIONS))
        if not isinstance(number, int):
            raise _UnusableError("is damaged: its number of saves is not a number")
        if digest != _digest(number, total):
            raise _UnusableError("is damaged: its content does not match its digest")
        if number < newest:
            raise _UnusableError("was replaced by an older copy while it was in use")
        first_start, reset = _instant(state, _FIRST_START), _instant(state, _RESET)
        if first_start is None:
            raise _UnusableError("is damaged: its first start is missing")
        self.state, self.files, self._number, self._sum = state, files, number, total
        self.first_start, self.reset = first_start, reset

    @staticmethod
    def _check(database: sqlite3.Connection) -> None:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise _UnusableError("belongs to another program")
        if version > len(MIGRATIONS):
            raise _UnusableError(
                f"was written by a newer release (version {version}, this one supports {len(MIGRATIONS)})"
            )
        if version < 1:
            raise _UnusableError("is damaged: it has no version")
        finding = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise _UnusableError(f"is damaged: {finding.splitlines()[-1]}")

    def _disconnect(self) -> None:
        if self._database is not None:
            database, self._database = self._database, None
            with contextlib.suppress(sqlite3.Error):
                database.execute("PRAGMA busy_timeout = 0")  # do not wait just to tidy up
            with contextlib.suppress(sqlite3.Error):
                database.close()


if sys.platform == "win32":

    def _sync_folder(folder: Path) -> None:
        """Windows cannot sync a folder."""

else:

    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _values(database: sqlite3.Connection, query: str) -> dict[str, bytes]:
    values = dict(database.execute(query).fetchall())
    if not all(isinstance(key, str) and isinstance(value, bytes) for key, value in values.items()):
        raise _UnusableError("is damaged: a value has the wrong type")
    return values


def _sum_of(database: sqlite3.Connection, state: Mapping[str, bytes], files: Mapping[str, bytes]) -> int:
    """The sum over these rows and the table definitions: with a changed definition SQLite converts values."""
    schema = _values(database, "SELECT name, CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL")
    return _sum("state", state.items()) + _sum("files", files.items()) + _sum("schema", schema.items())


def _sum(table: str, rows: Iterable[tuple[str, bytes]]) -> int:
    """The sum of the digests of `rows`: independent of their order, so that a commit hashes only changed rows."""
    total = 0
    for key, value in rows:
        name = f"{table}\0{key}\0".encode()
        total += int.from_bytes(hashlib.blake2b(name + value, digest_size=DIGEST_BYTES).digest(), "big")
    return total


def _change(table: str, before: Mapping[str, bytes], rows: list[tuple[str, bytes]]) -> int:
    """What `rows`, which replace those of the same key in `before`, add to the sum."""
    return _sum(table, rows) - _sum(table, ((key, before[key]) for key, _ in rows if key in before))


def _digest(number: int, total: int) -> bytes:
    """The digest for save `number` of rows whose digests add up to `total`."""
    return hashlib.blake2b(b"%d %d" % (number, total % 256**DIGEST_BYTES), digest_size=DIGEST_BYTES).digest()


def _note_save(database: sqlite3.Connection, number: int, total: int) -> bytes:
    """Write the number of the save and its digest, which is returned."""
    digest = _digest(number, total)
    database.execute("UPDATE saves SET number = ?, digest = ?", (number, digest))
    return digest


def _is_taken(path: Path) -> bool:
    """Whether something of this name exists, including a dangling link. Raises OSError if that is not known."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _instant(state: Mapping[str, bytes], name: str) -> float | None:
    try:
        return float(state[name]) if name in state else None
    except ValueError:
        raise _UnusableError("is damaged: a time is not a number") from None
