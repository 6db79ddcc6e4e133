"""Where a single reading takes its records from: what the configuration names, or what a person gives.

Which log a given file is of is told by its name, as Qlik names it, else by its content. Copies are left out.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from exporter.config import Config
from exporter.events import LOG_NAMES, LogName
from exporter.logs.files import Listing, NotALogError, Pattern, open_shared, read_at, rolled_name, root_of
from exporter.tail.batch import Batch
from exporter.tail.tail import read_once

MOST_FILES = 100_000
"""Files below given folders that are looked at."""
SNIFFED = 64 << 10
"""Bytes at a file's beginning by which its log is told."""
COMPARED = 1 << 20
"""Bytes that are compared at a time to tell a copy."""

_QLIK_NAME = re.compile(
    r"_(?P<kind>[A-Za-z]+)_(?P<service>Repository|Proxy|Engine|Scheduler|Printing|ServiceDispatcher|Deployment)"
    r"(?:_(?:\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d|\d{8}T\d{6})Z)?\.(?:txt|log)$",
    re.IGNORECASE,
)
_OURS: dict[tuple[str, str], LogName] = {
    ("auditsecurity", "repository"): "repository_audit",
    ("license", "repository"): "repository_trace",
    ("system", "repository"): "repository_trace",
}
"""The names of qlik-facts 2 and 3; every other file of Qlik's is no license log."""
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")
_LICENSING = re.compile(rb"licens|re-syncing assignments", re.IGNORECASE)
_ENDINGS = frozenset({".log", ".txt", ".json", ".jsonl", ".tsv", ""})

Skip = Literal["no license log", "a copy of another file", "packed: unpack it first", "cannot be read"]


@dataclass(frozen=True)
class Source:
    """The files of one log."""

    log: LogName
    patterns: tuple[Pattern, ...]
    archive: str = ""
    files: tuple[str, ...] = ()
    size: int = 0
    """Bytes in them, for a progress bar."""

    def read(self) -> Iterator[Batch]:
        """Everything they hold, from the beginning, merged by time, each record once."""
        return read_once(self.log, self.patterns, archive=self.archive)


@dataclass
class Given:
    """What given files and folders turned out to be."""

    sources: list[Source] = field(default_factory=list)
    skipped: dict[Skip, int] = field(default_factory=dict)


def configured_sources(config: Config) -> list[Source]:
    """The logs that the configuration names."""
    sources = []
    for log, settings in config.logs.enabled():
        patterns = tuple(Pattern(path, root_of(path).caseless) for path in settings.paths)
        files = _matching(patterns)
        size = sum(_size(path) for path in files)
        sources.append(Source(log, patterns, settings.archive, files, size))
    return sources


def _matching(patterns: Sequence[Pattern]) -> tuple[str, ...]:
    listing, found = Listing(), []
    for pattern in patterns:
        try:
            for folder in pattern.folders(listing):
                found += [os.path.join(folder, name) for name in listing.names(folder) if pattern.matches(name)]
        except OSError:
            continue  # the reading itself says what cannot be read
    return tuple(sorted(set(found)))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def given_sources(paths: Sequence[str], otherwise: LogName | None = None) -> Given:
    """The logs among `paths`: files, and folders with all that lies below. Raises OSError where nothing is there.

    A file that was named itself, and of which neither name nor content tells the log, is of the log `otherwise`.
    """
    given = Given()
    found: dict[LogName, list[str]] = {}
    for path, chosen in _files_below(paths):
        log = _log_of(path, chosen, given, otherwise)
        if log is not None:
            found.setdefault(log, []).append(path)
    for log in LOG_NAMES:
        files = _without_copies(found.get(log, []), given)
        if files:
            patterns = tuple(_only(path) for path in files)
            given.sources.append(Source(log, patterns, "", tuple(files), sum(_size(path) for path in files)))
    return given


def _only(path: str) -> Pattern:
    """The pattern for one file, without the rolled ones beside it: those were given, too, or were left out."""
    pattern = Pattern.literal(path)
    pattern.suffix = ""
    return pattern


def _files_below(paths: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each file once, and whether it was named itself."""
    seen: set[str] = set()
    for path in paths:
        os.stat(path)
        folders = sorted(os.walk(path)) if os.path.isdir(path) else []
        below = [os.path.join(folder, name) for folder, _, names in folders for name in sorted(names)]
        for file in below or ([] if folders else [path]):
            real = os.path.realpath(file)
            if real not in seen and len(seen) < MOST_FILES:
                seen.add(real)
                yield file, not folders


def _log_of(path: str, chosen: bool, given: Given, otherwise: LogName | None) -> LogName | None:
    """Which log a file is of; counts why where it is of none."""

    def skip(why: Skip) -> None:
        given.skipped[why] = given.skipped.get(why, 0) + 1

    if named := _QLIK_NAME.search(os.path.basename(path)):
        log = _OURS.get((named["kind"].lower(), named["service"].lower()))
        if log is None and not chosen:
            skip("no license log")
            return None
        if log is not None:
            return log
    if not chosen and os.path.splitext(path)[1].lower() not in _ENDINGS:
        skip("packed: unpack it first" if _head(path, 8).startswith(_PACKED) else "no license log")
        return None
    try:
        head = _head(path, SNIFFED)
    except OSError:
        skip("cannot be read")
        return None
    if head.startswith(_PACKED):
        skip("packed: unpack it first")
        return None
    own_folder = PurePath(path).parent.name.lower() == "licenses"
    log = log_of_content(head, chosen or own_folder or "licens" in os.path.basename(path).lower())
    if log is None and own_folder and not head.strip():
        log = "licenses"  # the service's folder with an empty file: it is there, and silent
    if log is None and chosen:
        log = otherwise
    if log is None:
        skip("no license log")
    return log


def log_of_content(head: bytes, trusting: bool = True) -> LogName | None:
    """Which log begins with `head`; None for none of ours. Other services write JSON, too: unless `trusting`, it must
    speak of licenses.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", "replace").encode()
    head = head.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip()
    first = head.split(b"\n", 1)[0]
    if first.startswith(b"{"):
        return "licenses" if trusting or _LICENSING.search(head) else None
    columns = [name.strip().lower() for name in first.split(b"\t")]
    if columns[0].startswith(b"sequence"):
        if b"description" in columns or b"securityclass" in columns:
            return "repository_audit"
        return "repository_trace" if b"logger" in columns else None
    if columns[0].isdigit() and len(columns) > 9:
        if any(name.startswith(b"command=") for name in columns):
            return "repository_audit"
        return "repository_trace" if any(name in _LEVELS for name in columns[1:4]) else None
    return None


_LEVELS = {b"debug", b"info", b"warn", b"warning", b"error", b"fatal"}


def _head(path: str, size: int) -> bytes:
    try:
        descriptor = open_shared(path)
    except NotALogError:
        return b""
    try:
        return read_at(descriptor, 0, size)
    finally:
        os.close(descriptor)


# --- copies ----------------------------------------------------------------------------------------------------------


def _without_copies(files: Sequence[str], given: Given) -> list[str]:
    """`files` without those that another one begins with: whole copies, and copies made before the file grew on."""
    kept: list[tuple[str, bytes]] = []
    for path in sorted(files, key=lambda path: (-_size(path), path)):
        size = _size(path)
        head = _head(path, min(size, 4096))
        if size and any(other.startswith(head) and _begins_with(longer, path, size) for longer, other in kept):
            given.skipped["a copy of another file"] = given.skipped.get("a copy of another file", 0) + 1
            continue
        kept.append((path, head))
    return sorted((path for path, _ in kept), key=_age)


def _age(path: str) -> tuple[bool, str, str]:
    """Rolled files in the order of their stamps, then those still written."""
    rolled = rolled_name(os.path.basename(path))
    return rolled is None, rolled.stamp if rolled else "", path


def _begins_with(longer: str, shorter: str, size: int) -> bool:
    one = other = -1
    try:
        one = open_shared(longer)
        other = open_shared(shorter)
        return all(
            read_at(one, offset, min(COMPARED, size - offset)) == read_at(other, offset, min(COMPARED, size - offset))
            for offset in range(0, size, COMPARED)
        )
    except OSError:
        return False
    finally:
        for descriptor in (one, other):
            if descriptor >= 0:
                os.close(descriptor)
