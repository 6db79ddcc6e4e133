"""Reloading files: when a changed file is complete enough to be read, and when it looks truncated.

While a file is being written, it is a shorter file: settings, users or TLS are missing, and nothing in it says so.
Therefore a file is read only after it has been unchanged for a second.
"""

import os
import time
from collections.abc import Callable, Sequence

from exporter.config import ConfigError, yaml_tree

SETTLED = 1.0
"""Seconds without a change after which a file counts as complete."""
PATIENCE = 10.0
"""Seconds to wait for a file that keeps changing."""

Stamp = tuple[str, tuple[int, ...] | None]
"""A file's name, and what distinguishes its versions; None if there is no such file."""


def stamps(files: Sequence[str]) -> tuple[Stamp, ...]:
    """The files as they are now."""
    return tuple((file, _stamp(file)) for file in files)


def _stamp(file: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    # st_ctime is the time of any change (Linux), which programs that copy a file cannot set back, or of the file's
    # creation (Windows).
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def await_settled(
    files: Sequence[str],
    settled: float = SETTLED,
    patience: float = PATIENCE,
    wait: Callable[[float], object] = time.sleep,
) -> tuple[Stamp, ...]:
    """The stamps of `files` once they have been unchanged for `settled` seconds; immediately if they already are.

    Raises ConfigError if a file still changes after `patience` seconds.
    """
    begun = since = time.monotonic()
    found = stamps(files)
    if not _is_fresh(found, settled):
        return found
    while time.monotonic() - since < settled:
        wait(settled / 4)
        now = stamps(files)
        if now != found:
            changed = next(new[0] for new, old in zip(now, found, strict=True) if new != old)
            found, since = now, time.monotonic()
            if since - begun > patience:
                raise ConfigError(changed, "", f"is being written, expected no change for {settled:g} s")
    return found


def _is_fresh(found: Sequence[Stamp], settled: float) -> bool:
    edge = time.time_ns() - settled * 1e9
    return any(stamp is not None and max(stamp[:2]) > edge for _, stamp in found)


class FileWatch:
    """Reports that files have changed, once they are complete."""

    def __init__(self, seen: tuple[Stamp, ...], settled: float = SETTLED) -> None:
        """`seen`: the files' stamps from before they were last read."""
        self.files, self._settled = tuple(file for file, _ in seen), settled
        self._seen = self._last = seen
        self._since = time.monotonic()

    def changed(self) -> bool:
        """Whether there is a new version that has been unchanged long enough. Each version is reported once."""
        found = stamps(self.files)
        if found != self._last:
            self._last, self._since = found, time.monotonic()
        if found == self._seen or time.monotonic() - self._since < self._settled:
            return False
        self._seen = found
        return True

    def unchanged(self) -> bool:
        """Whether the files are still the version that `changed` reported last."""
        return stamps(self.files) == self._seen


def refuse_truncated(file: str, before: str, text: str) -> None:
    """Raise ConfigError if the new `text` of a configuration looks like a truncated version of the text `before`.

    That is: it is the beginning of it, or it holds no settings.
    """
    rest = text.rstrip()
    if len(rest) < len(before.rstrip()) and before.startswith(rest):
        problem = "found only the beginning of the current settings, expected all of them"
    elif yaml_tree(before, file) and not yaml_tree(text, file):
        problem = "found no settings, expected at least one"
    else:
        return
    raise ConfigError(file, "", f"{problem}; if this is intended, restart the exporter")
