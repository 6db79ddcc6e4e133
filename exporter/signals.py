"""Signals, from the start of the process: `hold`, then either `heed` (`run`) or `release` (other commands).

Uses `signal.signal`: an event loop's own handlers do not exist on Windows (hazard 115). Imports almost nothing, so that
little time passes before `hold`.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

if sys.platform == "win32":
    _STOPPING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    _RELOADING: tuple[int, ...] = ()
else:
    _STOPPING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    _RELOADING: tuple[int, ...] = (signal.SIGHUP,)
_HEEDED = _STOPPING + _RELOADING

_before: dict[int, signal.Handlers | int | Callable[[int, FrameType | None], object] | None] = {}
"""The handlers that were set before `hold`."""
_reloads: list[int] = []
"""The requests for a reload that came since `hold`."""


def hold() -> None:
    """Exit cleanly on a request to stop, since nothing has begun yet; remember a request for a reload."""
    for number in _HEEDED:
        _before[number] = signal.signal(number, _remember if is_reload(number) else _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _remember(number: int, frame: FrameType | None) -> None:
    _reloads.append(number)


def heed(tell: Callable[[int], object]) -> None:
    """Have `tell` called with the number of each signal that requests a stop or a reload. Main thread only.

    It is called between any two instructions of the main thread, even during a call of itself: so it must take no lock,
    not even that of an event. `queue.SimpleQueue.put` is reentrant.
    """
    for number in _HEEDED:
        signal.signal(number, lambda number, frame: tell(number))
    while _reloads:
        tell(_reloads.pop())


def ignore() -> None:
    """Ignore signals during the shutdown: Python resets our handlers before the process has ended."""
    for number in _HEEDED:
        signal.signal(number, signal.SIG_IGN)


def is_reload(number: int) -> bool:
    """Whether the signal requests a reload, not a stop."""
    return number in _RELOADING


def release() -> None:
    """Restore the handlers from before `hold`; a signal received since then takes effect now."""
    for number, handler in _before.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    _before.clear()
    while _reloads:
        signal.raise_signal(_reloads.pop())
