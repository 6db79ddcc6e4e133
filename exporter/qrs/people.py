"""Who holds a seat that nobody uses: for a terminal only. Nothing of it is logged, kept or exposed as a metric."""

import codecs
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from exporter.qrs.overview import AccessTypeName

LONGEST_ROW = 64 << 10
"""Characters of one row. The real ones have some 600."""
FIRST_USE = datetime(1900, 1, 1, tzinfo=UTC).timestamp()
"""An earlier date of use is none: Qlik writes 1753-01-01."""

FULL: dict[AccessTypeName, str] = {
    "professional": "/qrs/license/professionalaccesstype/full",
    "analyzer": "/qrs/license/analyzeraccesstype/full",
}
"""Where the allocated seats of a kind are listed with their users (seen)."""


class Holder(msgspec.Struct, frozen=True):
    """One allocated seat and who holds it."""

    user: str
    """`DIRECTORY\\user`, or empty if the row names none."""
    name: str
    last_used: float | None
    """None: never, or not understood."""


class Rows:
    """Splits a JSON array that arrives in pieces into its objects, so that only one of them is in memory."""

    def __init__(self) -> None:
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._begun = self.complete = False
        """`complete`: the array has ended."""

    def add(self, piece: bytes) -> Iterator[object]:
        """The rows that `piece` completes. Raises ValueError if this is no JSON array of rows."""
        self._text += self._decoder.decode(piece)
        place = 0
        while True:
            while place < len(self._text) and self._text[place] in " \t\r\n,":
                place += 1
            if place == len(self._text) or self.complete:
                break
            if not self._begun:
                if self._text[place] != "[":
                    raise ValueError("no JSON array")
                self._begun, place = True, place + 1
            elif self._text[place] == "]":
                self.complete, place = True, place + 1
            else:
                if self._text[place] != "{":
                    raise ValueError("a row is no object")
                try:
                    row, place = _DECODER.raw_decode(self._text, place)
                except (json.JSONDecodeError, RecursionError):
                    if len(self._text) - place > LONGEST_ROW:
                        raise ValueError("a row is too long, or not JSON") from None
                    break
                yield row
        self._text = self._text[place:]


_DECODER = json.JSONDecoder()


def holder_of(row: object) -> Holder:
    """What one row says. Fields that are missing or not understood are empty."""
    fields = row if isinstance(row, dict) else {}
    held_by = fields.get("user")
    user = held_by if isinstance(held_by, dict) else {}
    directory, identity, name = (
        text if isinstance(text := user.get(key), str) else "" for key in ("userDirectory", "userId", "name")
    )
    return Holder(f"{directory}\\{identity}" if identity else "", name, _instant(fields.get("lastUsed")))


def _instant(value: object) -> float | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        at = moment.timestamp() if moment is not None and moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
    return at if at is not None and at > FIRST_USE else None
