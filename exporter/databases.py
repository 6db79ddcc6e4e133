"""SQLite files as the state store and the queue of remote write use them: damage, and setting a file aside."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path


def set_aside(path: Path, now: float) -> Path:
    """Rename the database and the files next to it to names with the time `now`. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    aside = path.with_name(f"{path.name}.bad-{stamp}")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.bad-{stamp}-{number}")
    os.replace(path, aside)
    for companion, other in zip(companions(path), companions(aside), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.replace(companion, other)
    return aside


def companions(path: Path) -> tuple[Path, Path, Path]:
    """The files that SQLite puts next to a database."""
    return (
        path.with_name(path.name + "-wal"),
        path.with_name(path.name + "-shm"),
        path.with_name(path.name + "-journal"),
    )


def tells_of_damage(error: Exception) -> bool:
    """Whether the content of the file is damaged, rather than the disk failing."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, UnicodeDecodeError)  # a damaged name in SQLite's own words about it
    code = getattr(
        error, "sqlite_errorcode", sqlite3.SQLITE_ERROR
    )  # none if Python found the error, for example in a text
    return code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def format_versions(path: Path) -> bytes:
    """The versions for writing and reading in the header of an SQLite file (https://sqlite.org/fileformat2.html)."""
    with open(path, "rb") as file:
        return file.read(20)[18:]


def words(error: BaseException) -> str:
    """The error without the path that Python adds to it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
