"""The files for reading once: those of the configuration, or those given on the command line.

The log of a given file is determined by its name, as Qlik names it, else by its content. Copies are left out.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from exporter.config import Config
from exporter.events import LOG_NAMES, LogName
from exporter.logs.files import Listing, NotALogError, Pattern, open_shared, read_at, root_of, rotated_name
from exporter.logs.framing import is_packed
from exporter.logs.kinds import log_of_content, log_of_name
from exporter.tail.batch import Batch
from exporter.tail.tail import read_once

MOST_FILES = 100_000
"""Largest number of files examined below given folders."""
SNIFFED = 64 << 10
"""Bytes at the beginning of a file from which its log is determined."""
COMPARED = 1 << 20
"""Bytes that are compared at a time to recognise a copy."""

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
    """The logs among given files and folders, and what was skipped."""

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
            continue  # reading reports what cannot be read
    return tuple(sorted(set(found)))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def given_sources(paths: Sequence[str], otherwise: LogName | None = None) -> Given:
    """The logs among `paths`: files, and folders with everything below. Raises OSError for a path that does not exist.

    A file that was given directly, and whose name and content do not identify its log, belongs to the log `otherwise`.
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
    """The pattern for one file, without the rotated ones beside it: those were given, too, or were left out."""
    pattern = Pattern.literal(path)
    pattern.suffix = ""
    return pattern


def _files_below(paths: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each file once, and whether it was given directly."""
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
    """The log of a file; if there is none, the reason is counted."""

    def skip(why: Skip) -> None:
        given.skipped[why] = given.skipped.get(why, 0) + 1

    if named := log_of_name(os.path.basename(path)):
        if named.log is None and not chosen:
            skip("no license log")
            return None
        if named.log is not None:
            return named.log
    if not chosen and os.path.splitext(path)[1].lower() not in _ENDINGS:
        skip("packed: unpack it first" if is_packed(_head(path, 8)) else "no license log")
        return None
    try:
        head = _head(path, SNIFFED)
    except OSError:
        skip("cannot be read")
        return None
    if is_packed(head):
        skip("packed: unpack it first")
        return None
    own_folder = PurePath(path).parent.name.lower() == "licenses"
    log = log_of_content(head, chosen or own_folder or "licens" in os.path.basename(path).lower())
    if log is None and own_folder and not head.strip():
        log = "licenses"  # the service's folder with an empty file: the log exists, without entries
    if log is None and chosen:
        log = otherwise
    if log is None:
        skip("no license log")
    return log


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
    """`files` without copies: complete ones, and those that were made before the original grew."""
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
    """Rotated files in the order of their stamps, then those still written."""
    rotated = rotated_name(os.path.basename(path))
    return rotated is None, rotated.stamp if rotated else "", path


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
