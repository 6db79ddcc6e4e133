"""What cannot be read: each failure is counted, and logged once for as long as it lasts (hazard 134).

A failure that comes and goes is logged once in `LOG_INTERVAL`.
"""

import logging
from collections.abc import Callable

from exporter.masking import masked_name
from exporter.tail.batch import Clock, Unreadable

LOG_INTERVAL = 600.0
"""Seconds within which at most one failure of a path is logged, with its end."""

log = logging.getLogger("exporter.tail")


class UnreadablePaths:
    """The paths of one tail that cannot be read."""

    def __init__(self, clock: Clock, failed: Callable[[], None]) -> None:
        """`failed` is called for every failure."""
        self.count = 0
        """Failures so far."""
        self._clock = clock
        self._failed = failed
        self._known: dict[str, Unreadable] = {}
        self._logged: dict[str, float] = {}
        """When a failure of each path was last logged, by the monotonic clock."""
        self._shown: set[str] = set()
        """The paths whose present failure was logged."""

    @property
    def all(self) -> tuple[Unreadable, ...]:
        """The paths that cannot be read now."""
        return tuple(self._known.values())

    def add(self, path: str, error: OSError) -> None:
        """Note that a path could not be listed, opened or read."""
        self.count += 1
        self._failed()
        if path not in self._known:
            self._known[path] = Unreadable(
                path=path,
                problem=error.strerror or str(error) or type(error).__name__,
                denied=isinstance(error, PermissionError),
                since=self._clock.wall(),
            )
        now = self._clock.monotonic()
        if path not in self._shown and now - self._logged.get(path, float("-inf")) >= LOG_INTERVAL:
            self._logged = {each: at for each, at in self._logged.items() if now - at < LOG_INTERVAL} | {path: now}
            self._shown.add(path)
            log.warning("cannot read %s: %s", masked_name(path), self._known[path].problem)

    def remove(self, path: str) -> None:
        """Note that a path can be read, or no longer exists."""
        self._known.pop(path, None)
        if path in self._shown:
            self._shown.remove(path)
            log.info("can read %s again", masked_name(path))
