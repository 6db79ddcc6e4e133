"""Textfile mode: the exposition as a file for node_exporter's or windows_exporter's textfile collector.

For sites where no port may be opened. One exporter at a time writes to a folder; a second one is rejected.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from exporter.locks import HeldError, LockFile

FILE_NAME = "qlik_license.prom"
LOCK_NAME = ".qlik_license.prom.lock"
"""Locked by the process that writes to the folder."""
TEMPORARY_NAME = ".qlik_license.prom.tmp"
"""In the same folder, so that the file is replaced in one step; collectors read `*.prom` only."""
READABLE = 0o644
"""The collector runs as another user. These permissions apply whatever the umask, which units often set to 077."""
INTERVAL = 15.0
"""Seconds between two writes."""
REPLACE_TRIES = 20
REPLACE_PAUSE = 0.1
"""Seconds between two attempts to replace a file that another program has open (hazard 88): 2 s in all."""
START_SECONDS = 0.5
"""Seconds that a start waits to find out whether another exporter uses the folder."""
STOP_TIMEOUT = 3.0
"""Seconds that a stop waits for a write in progress."""

_log = logging.getLogger(__name__)


class TextfileHeldError(Exception):
    """Another exporter writes to the folder."""

    def __init__(self, directory: Path, holder: int) -> None:
        super().__init__(
            f"the textfile folder {directory} is in use by {HeldError.who(holder)}; "
            "give each exporter a --textfile.directory of its own"
        )


class TextfileWriter:
    """Writes the exposition every `interval` seconds in its own thread, until stopped."""

    def __init__(
        self,
        directory: Path,
        exposition: Callable[[], bytes],
        failed: Callable[[], None],
        interval: float = INTERVAL,
    ) -> None:
        """`exposition` returns the text format; `failed` is called for every failed write."""
        self._directory, self._exposition, self._failed, self._interval = directory, exposition, failed, interval
        self._stopping = threading.Event()
        self._lock: LockFile | None = None
        self._tried = threading.Event()
        self._late = False
        self._refusal: TextfileHeldError | None = None
        # A daemon: a folder on a dead share must not delay the end of the process (hazard 121).
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)

    def start(self) -> None:
        """Write now, and then at the interval. Raises TextfileHeldError if another exporter writes to the folder.

        A folder that is missing, not writable, or does not answer, is tried again at each write.
        """
        self._thread.start()
        self._late = not self._tried.wait(START_SECONDS)
        if self._refusal:
            raise self._refusal

    def stop(self) -> None:
        """Stop writing, and remove the file: an exporter that is not running has no metrics."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT)

    def _hold(self) -> None:
        """Lock the folder for this process. Raises TextfileHeldError or OSError."""
        try:
            if self._lock:
                self._lock.renew()
            else:
                self._lock = LockFile(self._directory / LOCK_NAME, READABLE)
        except HeldError as held:
            raise TextfileHeldError(self._directory, held.holder) from held

    def _run(self) -> None:
        try:
            self._hold()
        except TextfileHeldError as refusal:
            self._refusal = refusal
        except OSError:
            pass  # as the first write will say
        finally:
            self._tried.set()
        if self._refusal and not self._late:
            return
        well = True
        while True:
            well = self._written(well)
            if self._stopping.wait(self._interval):
                break
        with contextlib.suppress(OSError, TextfileHeldError):
            self._hold()
            remove(self._directory)
            (self._directory / LOCK_NAME).unlink()  # fails on Windows while it is open
        if self._lock:
            self._lock.release()

    def _written(self, well: bool) -> bool:
        """Write once; returns whether that succeeded. Only a change is logged (hazard 134)."""
        try:
            self._hold()
            write(self._directory, self._exposition())
        except Exception as error:  # a full disk or a failing collector: the next write may succeed
            self._failed()
            if well:
                reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
                if isinstance(error, TextfileHeldError):
                    reason = str(error)
                _log.error("the textfile cannot be written: %s", reason)
            return False
        if not well:
            _log.info("the textfile can be written again")
        return True


def write(directory: Path, exposition: bytes) -> None:
    """Put the exposition into `directory` in one step: a reader sees the old file or the new one, never a part.

    Raises OSError; the old file then stays.
    """
    temporary = directory / TEMPORARY_NAME
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # left by a process that was killed
    # Created, and never through a link: others may write to this folder, too. Readable for the collector.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), READABLE)
    try:
        if sys.platform != "win32":
            os.fchmod(descriptor, READABLE)
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
    """Remove the file. Raises OSError."""
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
