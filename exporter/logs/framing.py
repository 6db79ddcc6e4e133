"""From bytes to lines: encodings, line ends, holes of NULs and overlong lines. Pure; knows nothing of files or records.

Lines end with LF only (hazard 55), and only complete lines are returned (hazards 49 and 57). So the lines do not depend
on how a stream is divided into reads.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

from exporter.logs.lines import Lines

LONGEST_LINE = 1 << 20
"""Bytes kept of one line; the rest of a longer one is skipped (hazard 22)."""

Encoding = Literal["", "utf-8", "utf-16-le", "utf-16-be"]
"""`""` until there are enough bytes to decide."""

_MARKS: tuple[tuple[bytes, Encoding], ...] = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_WIDE_LINE_END = {"utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")
"""First bytes of gzip, zip, zstandard, 7z, bzip2 and xz files (hazard 64)."""


class Framed(NamedTuple):
    """The result of `frame`."""

    lines: Lines
    """The complete lines."""
    ends: Callable[[], list[int]]
    """Computes for each line the offset of its end, which is rarely needed."""
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
            return Framed(Lines(b""), list, len(data) - (len(data) % 2 if wide and not final else 0), not final)
    body = data[begin:] if begin else data
    consumed = _after_last_line_end(body, encoding) if wide else body.rfind(b"\n") + 1
    text, rest, missing_end = body[:consumed], body[consumed:], b""
    ends = partial(_line_ends, body, encoding, begin)
    skipping = False
    if rest and (final or len(rest) >= LONGEST_LINE):
        consumed = len(body) - (len(body) % 2 if wide and not final else 0)
        if final or rest != bytes(len(rest)):
            text, missing_end = text + rest[:LONGEST_LINE], b"\n"
            ends = partial(_line_ends, body, encoding, begin, consumed)
            skipping = not final
        # else: a hole of NULs (power loss, a sparse file) in front of the next line, not a line (hazards 21 and 22)
    if wide:
        text = text.decode(encoding, "replace").encode()
    if at_start:
        text = text.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in text:
        text = text.replace(b"\0", b"")
    return Framed(Lines(text + missing_end), ends, begin + consumed, skipping)


def _line_ends(body: bytes, encoding: Encoding, begin: int, last: int = 0) -> list[int]:
    """Where the whole lines of `body` end, and a `last` one that has no line end, counted from `begin` before it."""
    wide = encoding.startswith("utf-16")
    raw = _split_wide(body, encoding) if wide else body.split(b"\n")[:-1]
    ends = accumulate([len(line) + (2 if wide else 1) for line in raw], initial=begin)
    return [*ends, *([begin + last] if last else [])][1:]


def _after_line_end(body: bytes, encoding: Encoding, begin: int = 0) -> int:
    """Where the line that starts at `begin` ends, its line end included; 0 if it does not."""
    line_end = _WIDE_LINE_END[encoding]
    at = body.find(line_end, begin)
    while at % 2 and at >= 0:  # two bytes of adjacent characters
        at = body.find(line_end, at + 1)
    return at + 2 if at >= 0 else 0


def _after_last_line_end(body: bytes, encoding: Encoding) -> int:
    """Where the last complete line ends, its line end included; 0 if there is none."""
    line_end = _WIDE_LINE_END[encoding]
    at = body.rfind(line_end)
    while at % 2 and at >= 0:  # two bytes of adjacent characters
        at = body.rfind(line_end, 0, at + 1)
    return at + 2 if at >= 0 else 0


def _split_wide(body: bytes, encoding: Encoding) -> list[bytes]:
    raw: list[bytes] = []
    begin = 0
    while end := _after_line_end(body, encoding, begin):
        raw.append(body[begin : end - 2])
        begin = end
    return raw
