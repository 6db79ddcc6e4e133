"""What commands show on a terminal only: colours and a progress bar. Elsewhere: plain text."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Literal, TextIO

from exporter.printable import printable

NO_JUDGEMENT = 64
"""Exit code of `diagnose` for errors (EX_USAGE of sysexits.h), unlike its severities 0 to 3."""
BAR = 30
"""Characters of a full bar."""
REDRAW = 0.2
"""Seconds between two updates of it."""

Colour = Literal["red", "green", "yellow", "magenta", "cyan", "bold", "dim"]
_CODES: dict[Colour, str] = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
    "bold": "1",
    "dim": "2",
}


def complain(text: object) -> None:
    """Print an error to standard error, in one line."""
    print(f"qlik-license-exporter: {printable(str(text))}", file=sys.stderr)


class Paint:
    """Colours text if `stream` is a terminal and the variable NO_COLOR is not set."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self._on = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        if self._on and sys.platform == "win32":
            os.system("")  # noqa: S605, S607  # the known way to make the Windows console understand colours

    def __call__(self, text: str, colour: Colour) -> str:
        """`text`, coloured if enabled."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._on else text


class ProgressBar:
    """Shows how much of `total` bytes is done, on standard error if that is a terminal."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._done = total, 0
        self._on = total > 0 and self._stream.isatty()
        self._drawn = time.monotonic()
        self._shown = False

    def __call__(self, size: int) -> None:
        """`size` bytes more are done."""
        self._done += size
        if self._on and time.monotonic() - self._drawn >= REDRAW:
            self._drawn, self._shown = time.monotonic(), True
            share = min(1.0, self._done / self._total)
            full = round(share * BAR)
            bar = "#" * full + "." * (BAR - full)
            self._stream.write(f"\r[{bar}] {share:4.0%} of {self._total / 1e6:,.0f} MB ")
            self._stream.flush()

    def close(self) -> None:
        """Remove the bar."""
        if self._shown:
            self._stream.write("\r" + " " * (BAR + 30) + "\r")
            self._stream.flush()
