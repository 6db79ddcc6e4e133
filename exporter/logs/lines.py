"""The complete lines of a log as one text, which is divided only if a single line is needed."""

from collections.abc import Sequence
from typing import overload


class Lines(Sequence[bytes]):
    """Lines in UTF-8, without their line ends, NULs and byte order mark."""

    __slots__ = ("_divided", "text")

    def __init__(self, text: bytes) -> None:
        """`text` is empty or ends with a line end."""
        self.text = text
        """All lines with their line ends, LF or CRLF."""
        self._divided: list[bytes] | None = None

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> "Lines":
        """These lines."""
        if isinstance(lines, Lines):
            return lines
        found = cls(b"".join([line + b"\n" for line in lines]))
        found._divided = list(lines)
        return found

    @property
    def divided(self) -> list[bytes]:
        """The lines."""
        if self._divided is None:
            self._divided = self.text.replace(b"\r\n", b"\n").split(b"\n")
            del self._divided[-1]
        return self._divided

    def __len__(self) -> int:
        return len(self.divided)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        return self.divided[place]
