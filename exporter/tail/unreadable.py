"""What cannot be read: each failure is counted, and logged once for as long as it lasts (hazard 134)."""

import logging
from collections.abc import Callable

from exporter.masking import masked_name
from exporter.tail.batch import Clock, Unreadable

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

    @property
    def all(self) -> tuple[Unreadable, ...]:
        """The paths that cannot be read now."""
        return tuple(self._known.values())

    def add(self, path: str, error: OSError) -> None:
        """Note that a path could not be listed, opened or read."""
        self.count += 1
        self._failed()
        if path not in self._known:
            found = self._known[path] = Unreadable(
                path=path,
                problem=error.strerror or str(error) or type(error).__name__,
                denied=isinstance(error, PermissionError),
                since=self._clock.wall(),
            )
            log.warning("cannot read %s: %s", masked_name(path), found.problem)

    def remove(self, path: str) -> None:
        """Note that a path can be read, or no longer exists."""
        if self._known.pop(path, None):
            log.info("can read %s again", masked_name(path))
