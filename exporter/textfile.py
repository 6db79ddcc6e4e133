"""Textfile mode: the exposition as a file for node_exporter's or windows_exporter's textfile collector.

For sites that may open no port. It alone writes into that folder.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

FILE_NAME = "qlik_license.prom"
TEMPORARY_NAME = ".qlik_license.prom.tmp"
"""Beside the file, so that replacing it is one step; collectors read `*.prom` only."""
INTERVAL = 15.0
"""Seconds between two writes."""
REPLACE_TRIES = 20
REPLACE_PAUSE = 0.1
"""Seconds between two tries to replace a file that a virus scanner or the collector holds (hazard 88): 2 s in all."""
STOP_TIMEOUT = 3.0
"""Seconds that a stop waits for a write under way."""

_log = logging.getLogger(__name__)


class TextfileWriter:
    """Writes the exposition every `interval` seconds from a thread of its own, until stopped."""

    def __init__(
        self,
        directory: Path,
        exposition: Callable[[], bytes],
        failed: Callable[[], None],
        interval: float = INTERVAL,
    ) -> None:
        """`exposition` gives the text format; `failed` is called for every write that did not come about."""
        self._directory, self._exposition, self._failed, self._interval = directory, exposition, failed, interval
        self._stopping = threading.Event()
        # A daemon: a folder on a dead share must not hold up the end of the process (hazard 121).
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)

    def start(self) -> None:
        """Write now, and then again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more, and take the file away: what no longer runs has no metrics."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        well = True
        while True:
            well = self._written(well)
            if self._stopping.wait(self._interval):
                break
        with contextlib.suppress(OSError):
            remove(self._directory)

    def _written(self, well: bool) -> bool:
        """One write; whether it came about. Only a change is logged (hazard 134)."""
        try:
            write(self._directory, self._exposition())
        except Exception as error:  # a full disk or a failing collector: the next write may do better
            self._failed()
            if well:
                reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
                _log.error("the textfile cannot be written: %s", reason)
            return False
        if not well:
            _log.info("the textfile is written again")
        return True


def write(directory: Path, exposition: bytes) -> None:
    """Put the exposition into `directory` in one step: a reader sees the old file or the new one, never a part.

    Raises OSError; the old file then stays.
    """
    temporary = directory / TEMPORARY_NAME
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # left by a process that was killed
    # Created new and never followed: somebody else may write into this folder, too. Readable for the collector.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(exposition)
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, directory / FILE_NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(directory)


def remove(directory: Path) -> None:
    """Take the file away. Raises OSError."""
    (directory / FILE_NAME).unlink(missing_ok=True)


def _replace(temporary: Path, file: Path) -> None:
    for tries_left in reversed(range(REPLACE_TRIES)):
        try:
            os.replace(temporary, file)
            return
        except PermissionError:
            if not tries_left:
                raise
            time.sleep(REPLACE_PAUSE)


def _sync_directory(directory: Path) -> None:
    if sys.platform == "win32":
        return  # there a folder cannot be opened
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
