"""From bytes to lines: encodings, line ends, holes of NULs and overlong lines. Pure; knows nothing of files or records.

Lines end with LF only (hazard 55), and only complete lines are returned (hazards 49 and 57). So the lines do not depend
on how a stream is divided into reads.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

LONGEST_LINE = 1 << 20
"""Bytes kept of one line; the rest of a longer one is skipped (hazard 22)."""

Encoding = Literal["", "utf-8", "utf-16-le", "utf-16-be"]
"""`""` until there are enough bytes to decide."""

_MARKS: tuple[tuple[bytes, Encoding], ...] = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")
"""First bytes of gzip, zip, zstandard, 7z, bzip2 and xz files (hazard 64)."""


class Framed(NamedTuple):
    """The result of `frame`."""

    lines: list[bytes]
    """Complete lines in UTF-8, without line end, NULs and byte order mark."""
    ends: Callable[[], list[int]]
    """Computes for each line the offset of its end, which is rarely needed."""
    text: bytes
    """All of the lines as one text, to be searched: with other line ends, and perhaps with the rest behind them."""
    consumed: int
    """How many of the bytes were consumed."""
    skipping: bool
    """Whether the next bytes belong to the rest of an overlong line."""


def is_packed(head: bytes) -> bool:
    """Whether a file with these first bytes is compressed, and so not a log."""
    return head.startswith(_PACKED)


def encoding_of(head: bytes, final: bool = False) -> Encoding:
    """The encoding of a file that starts with `head`, by its byte order mark (hazards 59 and 60).

    `""` while there are too few bytes, unless no more will follow (`final`).
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if not final and any(mark.startswith(head) for mark, _ in _MARKS):
        return ""
    return "utf-8"


def frame(data: bytes, encoding: Encoding, *, at_start: bool, skipping: bool, final: bool) -> Framed:
    """The lines of `data`, the bytes of a file that follow those consumed by the last call.

    `at_start`: they are the first bytes of the file. `skipping`: what the last call returned. `final`: no more bytes
    will follow, so that an unterminated last line is complete.
    """
    wide = encoding.startswith("utf-16")
    begin = 0
    if skipping:
        begin = _after_line_end(data, encoding) if wide else data.find(b"\n") + 1
        if not begin:
            return Framed([], list, b"", len(data) - (len(data) % 2 if wide and not final else 0), not final)
    body = data[begin:] if begin else data
    raw, rest_at = _split_wide(body, encoding) if wide else _split(body)
    ends = partial(_line_ends, body, encoding, begin)
    rest = body[rest_at:]
    consumed = rest_at
    skipping = False
    if rest and (final or len(rest) >= LONGEST_LINE):
        consumed = len(body) - (len(body) % 2 if wide and not final else 0)
        if final or rest != bytes(len(rest)):
            raw.append(rest[:LONGEST_LINE])
            ends = partial(_line_ends, body, encoding, begin, consumed)
            skipping = not final
        # else: a hole of NULs (power loss, a sparse file) in front of the next line, not a line (hazards 21 and 22)
    lines = _cleaned(raw, body, encoding, at_start)
    text = b"\n".join(lines) if wide or b"\0" in body else body
    if b"\r" in body:
        lines = [line.removesuffix(b"\r") for line in lines]
    return Framed(lines, ends, text, begin + consumed, skipping)


def _split(body: bytes) -> tuple[list[bytes], int]:
    """The complete lines, and where the last one ends."""
    raw = body.split(b"\n")
    return raw, len(body) - len(raw.pop())


def _split_wide(body: bytes, encoding: Encoding) -> tuple[list[bytes], int]:
    raw: list[bytes] = []
    begin = 0
    while end := _after_line_end(body, encoding, begin):
        raw.append(body[begin : end - 2])
        begin = end
    return raw, begin


def _line_ends(body: bytes, encoding: Encoding, begin: int, last: int = 0) -> list[int]:
    """Where the whole lines of `body` end, and a `last` one that has no line end, counted from `begin` before it."""
    wide = encoding.startswith("utf-16")
    raw, _ = _split_wide(body, encoding) if wide else _split(body)
    ends = accumulate([len(line) + (2 if wide else 1) for line in raw], initial=begin)
    return [*ends, *([begin + last] if last else [])][1:]


def _after_line_end(body: bytes, encoding: Encoding, begin: int = 0) -> int:
    """Where the line that starts at `begin` ends, its line end included; 0 if it does not."""
    line_end = b"\n\0" if encoding == "utf-16-le" else b"\0\n"
    at = body.find(line_end, begin)
    while at % 2 and at >= 0:  # two bytes of adjacent characters
        at = body.find(line_end, at + 1)
    return at + 2 if at >= 0 else 0


def _cleaned(raw: list[bytes], body: bytes, encoding: Encoding, at_start: bool) -> list[bytes]:
    if not raw:
        return raw
    if encoding.startswith("utf-16"):
        raw = [line.decode(encoding, "replace").encode() for line in raw]
    if at_start:
        raw[0] = raw[0].removeprefix(b"\xef\xbb\xbf")
    if b"\0" in body:  # one check for all bytes: much faster than one per line
        raw = [line.replace(b"\0", b"") for line in raw]
    return raw
