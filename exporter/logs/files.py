"""Finding and opening log files without ever blocking their writer. The only module that knows the platforms' rules.

Nothing here keeps a folder open, requests write access, or trusts a size or time from a directory listing.
"""

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

MOST_FOLDERS = 4_096
"""Largest number of folders that one pattern may match; further ones are ignored."""
ARCHIVE_DEPTH = 4
"""Levels of subfolders of an archive that are searched (Qlik archives in one folder per node and service)."""
NETWORK_TYPES = frozenset({"cifs", "smb3", "smbfs", "nfs", "nfs4", "ncpfs", "afs", "ceph", "9p", "fuse.sshfs"})
"""File systems whose metadata may lag behind their data (hazards 23, 48 and 85)."""
BLOCK = 4096
"""Bytes: holes of sparse files are skipped in multiples of it."""
CASELESS_TYPES = frozenset({"cifs", "smb3", "smbfs", "ncpfs"})
"""File systems for which `A.txt` and `a.TXT` are the same name (hazard 38)."""

_WILD = re.compile(r"[*?]")
_ROLLED = re.compile(
    r"(?P<stem>.+)_(?P<stamp>\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d|\d{8}T\d{6})Z\.log", re.IGNORECASE | re.DOTALL
)


class NotALogError(OSError):
    """The path is not a regular file but a folder, a pipe or a device."""


class Identity(NamedTuple):
    """The file system's ids of a file: a hint, not a proof. Decimal text, as ids can have 128 bits (hazard 34)."""

    device: str
    number: str

    @property
    def known(self) -> bool:
        """False if the file system has no usable ids and reports 0 (hazard 33)."""
        return self.number != "0"


class Root(NamedTuple):
    """A drive, a share or a mount: it may stop responding as a whole."""

    name: str
    network: bool
    caseless: bool


class Rotated(NamedTuple):
    """The parts of a rotated file's name: the stem of the live file, and the time stamp in one spelling."""

    stem: str
    stamp: str


# --- opening ---------------------------------------------------------------------------------------------------------

if sys.platform == "win32":
    import _winapi
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _SHARE_ALL = 0x1 | 0x2 | 0x4  # FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE
    _SEQUENTIAL_SCAN = 0x08000000
    _INVALID_HANDLE = ctypes.c_void_p(-1).value
    _FILE_STANDARD_INFO = 1
    _FILE_TYPE_DISK = 1
    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _create_file = _kernel.CreateFileW
    _create_file.argtypes = [
        wintypes.LPCWSTR,
        wintypes.DWORD,
        wintypes.DWORD,
        wintypes.LPVOID,
        wintypes.DWORD,
        wintypes.DWORD,
        wintypes.HANDLE,
    ]
    _create_file.restype = wintypes.HANDLE
    _file_information = _kernel.GetFileInformationByHandleEx
    _file_information.argtypes = [wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD]
    _file_information.restype = wintypes.BOOL

    class _StandardInfo(ctypes.Structure):
        _fields_ = (
            ("allocation_size", wintypes.LARGE_INTEGER),
            ("end_of_file", wintypes.LARGE_INTEGER),
            ("number_of_links", wintypes.DWORD),
            ("delete_pending", wintypes.BOOLEAN),
            ("directory", wintypes.BOOLEAN),
        )

    def _open(path: str) -> int:
        # Plain open() does not share deletion: Qlik could neither rotate nor archive its log, and log4net then
        # discards messages (hazards 67 to 73).
        handle = _create_file(
            path, _winapi.GENERIC_READ, _SHARE_ALL, None, _winapi.OPEN_EXISTING, _SEQUENTIAL_SCAN, None
        )
        if handle is None or handle == _INVALID_HANDLE:
            error = ctypes.WinError(ctypes.get_last_error())
            error.filename = path
            if isinstance(error, PermissionError) and os.path.isdir(path):
                raise NotALogError(errno.EISDIR, "is a folder", path)
            raise error
        try:
            if _winapi.GetFileType(handle) != _FILE_TYPE_DISK:
                raise NotALogError(errno.EINVAL, "is not a regular file", path)
            return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)
        except BaseException:
            _winapi.CloseHandle(handle)
            raise

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of the file. Raises OSError."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        return _filled(os.read(descriptor, size), size, lambda done: os.read(descriptor, size - done))

    def is_delete_pending(descriptor: int) -> bool:
        """Whether the file was deleted: its name remains in use until we close it (hazards 69 and 74)."""
        info = _StandardInfo()
        handle = msvcrt.get_osfhandle(descriptor)
        done = _file_information(handle, _FILE_STANDARD_INFO, ctypes.byref(info), ctypes.sizeof(info))
        return bool(done and info.delete_pending)

    def next_data(descriptor: int, offset: int) -> int:
        """Always `offset`: holes are not skipped on this platform."""
        return offset

else:

    def _open(path: str) -> int:
        # O_NONBLOCK: a pipe in the folder must not hang the reader.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of the file. Raises OSError."""
        return _filled(
            os.pread(descriptor, size, offset), size, lambda done: os.pread(descriptor, size - done, offset + done)
        )

    def is_delete_pending(descriptor: int) -> bool:
        """Whether a deleted file keeps its name until we close it: never on this platform."""
        return False

    def next_data(descriptor: int, offset: int) -> int:
        """The offset of the next byte, from `offset` on, that is not in a hole of a sparse file.

        The end of the file if only a hole follows; `offset` if the file system does not report holes. Never raises.
        """
        try:
            return os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else offset


def open_shared(path: str) -> int:
    """Open `path` for reading so that every other process can still read, write, rename and delete the file.

    Raises OSError; NotALogError if it is not a regular file.
    """
    descriptor = _open(path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotALogError(errno.EINVAL, "is not a regular file", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _filled(data: bytes, size: int, more: Callable[[int], bytes]) -> bytes:
    if not data or len(data) == size:
        return data
    parts, done = [data], len(data)
    while done < size and (data := more(done)):  # a short read is not the end (hazard 48)
        parts.append(data)
        done += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def identity(status: os.stat_result) -> Identity:
    """The ids in a result of `os.fstat` or `os.stat`. Those of a directory listing are not reliable (hazard 77)."""
    return Identity(str(status.st_dev), str(status.st_ino))


# --- roots -----------------------------------------------------------------------------------------------------------


def root_of(path: str, mounts: str = "/proc/self/mountinfo") -> Root:
    """The drive, share or mount that contains `path`, determined without accessing it (hazard 45)."""
    if sys.platform == "win32":
        drive = os.path.splitdrive(os.path.abspath(path))[0]
        return Root(drive.casefold(), drive.startswith("\\\\"), True)
    return mounted_root(os.path.abspath(path), mounts)


def mounted_root(path: str, mounts: str) -> Root:
    """The mount that the table `mounts` (in the form of /proc/self/mountinfo) names for the absolute `path`."""
    best = Root("/", False, False)
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                left, _, right = line.partition(" - ")
                fields, type_ = left.split(" "), right.split(" ", 1)[0]
                if len(fields) < 5:
                    continue
                point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best.name):
                    best = Root(point, type_ in NETWORK_TYPES, type_ in CASELESS_TYPES)
    except OSError:
        pass  # no such table on this system: a single root
    return best


# --- patterns --------------------------------------------------------------------------------------------------------


class Listing:
    """The content of folders. Each is listed at most once in the lifetime of this object."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, int]] = {}

    def names(self, folder: str) -> dict[str, int]:
        """The names in `folder`, each with its file number (0 if the listing contains none). Raises OSError."""
        found = self._folders.get(folder)
        if found is None:
            with os.scandir(folder) as entries:  # read to the end and closed at once: no folder stays open (hazard 73)
                windows = sys.platform == "win32"
                found = {entry.name: 0 if windows else entry.inode() for entry in entries}
            self._folders[folder] = found
        return found


class Pattern:
    r"""A path in which `*` and `?` match any characters except a separator. `[` is an ordinary character (hazard 39).

    `/` and `\` both separate on Windows and, as the configuration may come from there, in patterns everywhere.
    """

    def __init__(self, text: str, caseless: bool = sys.platform == "win32") -> None:
        self.text = text
        if sys.platform == "win32":
            parts = PureWindowsPath(os.path.abspath(text) if not _WILD.search(text) else text).parts
        else:
            parts = PurePosixPath(text.replace("\\", "/")).parts
        wild = next((index for index, part in enumerate(parts) if _WILD.search(part)), len(parts) - 1)
        self.base = os.path.join(*parts[:wild]) if wild else os.curdir
        """The folder before the first wildcard."""
        self._parts = parts[wild:]
        self.caseless = caseless
        self._flags = re.IGNORECASE if caseless else 0
        self._name = self._regex(self._parts[-1])
        self.suffix = os.path.splitext(self._parts[-1])[1]
        """The ending of the live files' names, such as `.txt`."""

    @classmethod
    def literal(cls, path: str) -> "Pattern":
        """The pattern that matches only `path`, whatever characters it contains."""
        pattern = cls.__new__(cls)
        pattern.text = path
        pattern.base, name = os.path.split(path)
        pattern.base = pattern.base or os.curdir
        pattern._parts = (name,)
        pattern._flags, pattern.caseless = 0, False
        pattern._name = re.compile(re.escape(name))
        pattern.suffix = os.path.splitext(name)[1]
        return pattern

    def _regex(self, part: str) -> re.Pattern[str]:
        wild = {"*": ".*", "?": "."}
        return re.compile("".join(wild.get(char) or re.escape(char) for char in part), self._flags | re.DOTALL)

    def folders(self, listing: Listing) -> Iterator[str]:
        """The folders in which matching files can be. Raises OSError."""
        folders = [self.base]
        for part in self._parts[:-1]:
            below: list[str] = []
            for folder in folders:
                if not _WILD.search(part):
                    below.append(os.path.join(folder, part))
                    continue
                regex = self._regex(part)
                try:
                    names = listing.names(folder)
                except (FileNotFoundError, NotADirectoryError):
                    if folder == self.base:
                        raise
                    continue
                below.extend(os.path.join(folder, name) for name in names if regex.fullmatch(name))
            folders = below[:MOST_FOLDERS]
        yield from folders

    def matches(self, name: str) -> bool:
        """Whether a file of this name in one of the folders matches."""
        return self._name.fullmatch(name) is not None

    def rotated(self, name: str) -> Rotated | None:
        """The parts of `name` if it is that of a rotated file of a matching live file, or None."""
        if self.suffix and (rotated := rotated_name(name)) and self.matches(rotated.stem + self.suffix):
            return rotated
        return None


def rotated_name(name: str) -> Rotated | None:
    """The parts of a rotated file's name (qlik-facts 2: two spellings of the stamp), or None for other names."""
    match = _ROLLED.fullmatch(name)
    return Rotated(match["stem"], re.sub(r"[-.]", "", match["stamp"]).upper()) if match else None


def archived(folder: str, patterns: Iterable[Pattern], listing: Listing) -> Iterator[str]:
    """The paths below the archive `folder` with the name of a live or rotated file of `patterns`."""
    patterns = tuple(patterns)
    folders = list(Pattern(os.path.join(folder, "*")).folders(listing)) if _WILD.search(folder) else [folder]
    for _ in range(ARCHIVE_DEPTH):
        below: list[str] = []
        for here in folders:
            try:
                names = listing.names(here)
            except (FileNotFoundError, NotADirectoryError):
                if here == folder:
                    raise
                continue
            for name in names:
                path = os.path.join(here, name)
                if any(pattern.matches(name) or pattern.rotated(name) for pattern in patterns):
                    yield path
                elif "." not in name and os.path.isdir(path):
                    below.append(path)
        folders = below[:MOST_FOLDERS]
