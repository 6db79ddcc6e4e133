"""The current rules: those of the newest valid version of the web file, which is read in a separate thread."""

import logging
import threading
import time

from exporter.config import ConfigError
from exporter.filewatch import SETTLED, FileWatch, await_settled, stamps
from exporter.web.webfile import Rules, load, weakened

TRIED_AGAIN = 15.0
"""Seconds until a rejected version is read again: the files that it names may exist by then, or be readable."""

_log = logging.getLogger(__name__)


class Security:
    """The current rules, and a watch over their files: web file, certificate, key, client CA.

    A new version takes effect once it has settled. One that is invalid or protects less changes nothing.
    """

    def __init__(self, file: str | None, settled: float = SETTLED, tried_again: float = TRIED_AGAIN) -> None:
        """Read the file; `settled`: seconds without a change before a version is read. Raises ConfigError."""
        self._file, self._settled, self._tried_again = file or "", settled, tried_again
        if file:
            await_settled([file], settled)
        self._rules = load(file)
        if stamps([name for name, _ in self._rules.read_from]) != self._rules.read_from:
            raise ConfigError(self._file, "", "changed while it was being read")
        self._watch = FileWatch(self._rules.read_from, settled)
        self.refused = ""
        """What is wrong with the newest version, while an older one is in force; else empty."""
        self._tried = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="web file", daemon=True)

    def current(self) -> Rules:
        """The current rules, from memory."""
        return self._rules

    def start(self) -> None:
        """Watch the files from now on. A share that does not answer blocks only this thread (hazard 122)."""
        if self._file:
            self._thread.start()

    def stop(self) -> None:
        """Stop watching; does not wait for a share that does not answer."""
        self._stopping.set()

    def _follow(self) -> None:
        while not self._stopping.wait(self._settled / 2):
            waited = self.refused and time.monotonic() - self._tried > self._tried_again
            if self._watch.changed() or waited:
                self._read_again()

    def _read_again(self) -> None:
        self._tried = time.monotonic()
        problem: ConfigError | None = None
        try:
            rules = load(self._file, self._rules)
            if weaker := weakened(self._rules, rules):
                said = f"protects less than the current one: {'; '.join(weaker)}"
                problem = ConfigError(self._file, "", f"{said}; if this is intended, restart the exporter")
        except ConfigError as error:
            problem = error
        if not self._watch.unchanged():
            return  # it is being written again: it may have been read in part
        if problem:
            if self.refused != str(problem):
                _log.error("%s; the last valid version stays in force", problem)
            self.refused = str(problem)
            return
        self._rules, self.refused = rules, ""
        self._watch = FileWatch(rules.read_from, self._settled)
        _log.info("%s: reloaded: %s", self._file, rules.summary())
