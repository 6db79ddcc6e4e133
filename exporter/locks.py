"""Files that one process at a time locks for its lifetime: next to the state file, and in a textfile folder.

The lock is held by the operating system: it ends with the process, however that ends, so there are no stale locks.
"""

import contextlib
import os
import sys
from pathlib import Path


class HeldError(Exception):
    """Another process has the lock: `holder` is its process ID, 0 if that is unknown."""

    def __init__(self, holder: int) -> None:
        super().__init__(f"held by {self.who(holder)}")
        self.holder = holder

    @staticmethod
    def who(holder: int) -> str:
        """The holder in words."""
        return f"process {holder}" if holder else "another process"


class LockFile:
    """A lock that is held from its creation to `release`. The file contains the holder's process ID and a number."""

    def __init__(self, path: Path, mode: int) -> None:
        """Creates the file with the permissions `mode` if there is none. Raises HeldError or OSError."""
        self._path, self._mode = path, mode
        self.noted = self._take()
        """The number that was last written, by this process or another."""

    def _take(self) -> int:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, self._mode)
        except PermissionError:  # created by another account, maybe no longer in use: locking needs no write access
            self._descriptor = os.open(self._path, os.O_RDONLY)
        try:
            words = os.read(self._descriptor, 100).split()
            holder, noted = [int(word) if word.isdigit() else 0 for word in (*words, b"", b"")][:2]
            if not _locked(self._descriptor):
                raise HeldError(holder)
        except BaseException:
            self.release()
            raise
        self.note(noted)
        return noted

    def renew(self) -> None:
        """Take the lock again if its file was deleted. Raises HeldError or OSError."""
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
                return
        except OSError:
            pass  # it is gone, or was never taken again
        self.release()
        self._take()

    def note(self, number: int) -> None:
        """Write `number` to the file. A failure does not affect the lock."""
        self.noted = number
        with contextlib.suppress(OSError):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, b"%-20d %-20d\n" % (os.getpid(), number))

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        # Windows locks also block reading: lock a byte behind what is written, so that others can read it.
        os.lseek(descriptor, 4096, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:  # EACCES on Windows, no number at all under Wine
            return False
        return True

else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
