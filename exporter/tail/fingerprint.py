"""Fingerprints: whether a file contains what was read from another one. Ids and names are hints, the bytes decide."""

import hashlib
import os
from typing import Literal, NamedTuple

from exporter.logs import files

HEAD = 1024
"""Bytes at the beginning of a file whose hash is part of its fingerprint."""
ANCHOR = 256
"""Bytes before the offset whose hash proves that it is still the same content."""

Likeness = Literal["same", "prefix", "other"]
"""`same`: it contains all of it, and maybe more. `prefix`: it is shorter and may be the beginning: an unfinished copy.
`other`: it contains something else."""


class Fingerprint(NamedTuple):
    """Identifies the content that was read of a file."""

    head: str
    """Hash of the first `head_length` bytes."""
    head_length: int
    anchor: str
    """Hash of the `anchor_length` bytes before `offset`."""
    anchor_length: int
    offset: int
    """How many bytes were read."""

    def compare(self, descriptor: int) -> Likeness:
        """How the open file compares to the content with this fingerprint. Raises OSError.

        Bytes that can be read count more than the size that the file system reports (hazards 23 and 78).
        """
        head = files.read_at(descriptor, 0, self.head_length)
        fits = holds(head, self.head, self.head_length)
        anchor = files.read_at(descriptor, self.offset - self.anchor_length, self.anchor_length) if fits else b""
        if fits and holds(anchor, self.anchor, self.anchor_length):
            return "same"
        if os.fstat(descriptor).st_size >= self.offset:
            return "other"
        return "prefix" if fits or len(head) < self.head_length else "other"


def digest(data: bytes) -> str:
    """The hash of bytes in a fingerprint; empty for none."""
    return hashlib.blake2b(data, digest_size=16).hexdigest() if data else ""


def holds(data: bytes, hashed: str, length: int) -> bool:
    """Whether `data` consists of the `length` bytes with this hash."""
    return len(data) == length and digest(data) == hashed


def compare_files(copy: int, original: int) -> Likeness:
    """How the open file `copy` compares to the open file `original`. Raises OSError."""
    copied, size = os.fstat(copy).st_size, os.fstat(original).st_size
    if copied and not size:
        return "other"  # anything would be a copy of an empty file
    shorter = min(copied, size)
    parts = ((0, min(shorter, HEAD)), (max(0, shorter - ANCHOR), min(shorter, ANCHOR)))
    if any(files.read_at(copy, *part) != files.read_at(original, *part) for part in parts):
        return "other"
    return "same" if copied >= size else "prefix"
