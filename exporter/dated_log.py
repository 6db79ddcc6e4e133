"""The log of the Windows service, which has no console: one file per day. Uses the standard library only."""

import contextlib
import datetime
import re
import threading
from collections.abc import Callable
from pathlib import Path

LOG_DAYS = 14
"""Days for which files are kept."""
LOG_BYTES_PER_DAY = 20 << 20
"""Lines beyond are dropped."""


class DatedLog:
    """A text stream into one file per day.

    Files are named `name`-YYYY-MM-DD.log and never renamed (hazard 135). If the disk fails, only log lines are lost.
    """

    def __init__(self, folder: Path, name: str, today: Callable[[], datetime.date] = datetime.date.today) -> None:
        self._folder, self._name, self._today, self._lock = folder, name, today, threading.Lock()
        self._day: datetime.date | None = None
        self.last_line = ""
        """The last line written: the reason, when the exporter has just failed."""

    def write(self, text: str) -> int:
        """Append `text` to the file of this day."""
        if text.strip():
            self.last_line = text.strip().splitlines()[-1]
        with self._lock, contextlib.suppress(OSError):
            day = self._today()
            if day != self._day:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._remove_old(day)
                self._day = day
            with (self._folder / f"{self._name}-{day.isoformat()}.log").open("a", encoding="utf-8") as file:
                if file.tell() < LOG_BYTES_PER_DAY:
                    file.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing: each write is complete."""

    def isatty(self) -> bool:
        """False: it is a file."""
        return False

    def _remove_old(self, day: datetime.date) -> None:
        oldest = (day - datetime.timedelta(days=LOG_DAYS)).isoformat()
        for file in self._folder.glob(f"{self._name}-*.log"):
            if re.fullmatch(r"\d{4}-\d\d-\d\d", file.stem[-10:]) and file.stem[-10:] < oldest:
                with contextlib.suppress(OSError):
                    file.unlink()
