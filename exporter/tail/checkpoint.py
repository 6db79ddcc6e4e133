"""Checkpoints: what is saved of a file and of a log, in one transaction with what was counted. Data only."""

import os
import secrets

import msgspec

from exporter.events import LogName
from exporter.logs import files, framing
from exporter.tail.fingerprint import HEAD, Fingerprint, digest

UNKNOWN_MARK = -1
"""The mark of a file that existed at the first listing and could not be opened then."""


class FileCheckpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is saved of one file. The names of its fields are the format of the state file."""

    key: str
    """Our own name for the file, since nothing else is permanent."""
    log: LogName
    path: str
    device: str = "0"
    number: str = "0"
    head: str = ""
    """Hash of the first `head_length` bytes."""
    head_length: int = 0
    anchor: str = ""
    """Hash of the `anchor_length` bytes before `offset`."""
    anchor_length: int = 0
    offset: int = 0
    """Bytes consumed: always the end of a record."""
    encoding: framing.Encoding = ""
    header: bytes | None = None
    mark: int = 0
    """Records that end at or before this offset are history; 0 once they are read."""
    last_at: float | None = None
    """The time of the last record, for a following one without a time."""
    skipping: bool = False
    """Whether the offset is inside an overlong line that was already counted."""
    rolled: bool = False
    """Whether it is known to have been renamed or removed: its rotation was counted."""
    final: bool = False
    """Whether all of it was counted and nothing more can be appended."""
    changed: float = 0.0
    """When it was last seen to grow."""
    gone: float = 0.0
    """Since when it is final or lost; 0: neither."""
    lost: bool = False
    """Whether it was given up."""
    truncated: bool = False
    """Whether it was cut or rewritten in place, after all that was seen of it had been read."""

    @property
    def identity(self) -> files.Identity:
        """Its ids when it was last open: hints."""
        return files.Identity(self.device, self.number)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of its content."""
        return Fingerprint(self.head, self.head_length, self.anchor, self.anchor_length, self.offset)


class LogCheckpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is saved of a log as a whole."""

    listed: dict[str, float] = {}
    """Each pattern (and archive) whose folder was listed, with the time of the first listing."""
    absent: dict[str, str] = {}
    """Each archive that did not exist at the first search, with the root of that search."""
    rolled: dict[str, str] = {}
    """For each live file's stem the stamp of the newest rotated file that is finished."""

    def merged(self, change: "LogCheckpoint") -> "LogCheckpoint":
        """A copy with a change. Changes by several tails may be merged in any order, as nothing is ever removed."""
        return LogCheckpoint(
            listed={**change.listed, **self.listed},
            absent={**change.absent, **self.absent},
            rolled={
                stem: max(self.rolled.get(stem, ""), change.rolled.get(stem, ""))
                for stem in (self.rolled | change.rolled)
            },
        )


def new_checkpoint(log: LogName, path: str, descriptor: int) -> FileCheckpoint:
    """The checkpoint of an open file that was not read yet. Raises OSError."""
    status = os.fstat(descriptor)
    ids = files.identity(status)
    head = files.read_at(descriptor, 0, HEAD)
    return FileCheckpoint(
        key=secrets.token_hex(8),
        log=log,
        path=path,
        device=ids.device,
        number=ids.number,
        head=digest(head),
        head_length=len(head),
        changed=status.st_mtime,
    )
