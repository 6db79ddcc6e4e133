"""Signals, from the first instruction of the process on: `hold`, then either `heed` (`run`) or `release` (the rest).

By `signal.signal`: an event loop's own handlers do not exist on Windows (hazard 115). Imports next to nothing, so that
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
    """End cleanly when asked to stop, for nothing has begun yet; remember a request for a reload."""
    for number in _HEEDED:
        _before[number] = signal.signal(number, _remember if is_reload(number) else _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _remember(number: int, frame: FrameType | None) -> None:
    _reloads.append(number)


def heed(tell: Callable[[int], object]) -> None:
    """Have `tell` called with the number of each signal that asks for a stop or a reload. Main thread only.

    It is called between any two steps of the main thread, also while it is being called: so it may take no lock, not
    even an event's. `queue.SimpleQueue.put` is made for this.
    """
    for number in _HEEDED:
        signal.signal(number, lambda number, frame: tell(number))
    while _reloads:
        tell(_reloads.pop())


def ignore() -> None:
    """Let no signal change how the process ends: Python resets handlers of ours before it is done."""
    for number in _HEEDED:
        signal.signal(number, signal.SIG_IGN)


def is_reload(number: int) -> bool:
    """Whether the signal asks for the configuration to be read again, not for a stop."""
    return number in _RELOADING


def release() -> None:
    """Have every signal do what it did before `hold`; one that came since does it now."""
    for number, handler in _before.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    _before.clear()
    while _reloads:
        signal.raise_signal(_reloads.pop())
