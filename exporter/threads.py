"""Runs calls that can block forever (name lookups, files on slow disks), each in its own daemon thread.

The event loop's default executor is not used: its threads are joined at exit and, once all are stuck, block every other
lookup (hazard 121). Here a stuck call blocks only its own thread. The number of threads is limited per name and per
file, not in total, so that a stuck lookup does not affect other names.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

MOST_ALIKE = 4
"""Calls for the same name or file that may be in progress or stuck at the same time; further ones wait. All names and
files come from the configuration, so the number of threads is limited, too."""
PAUSE = 0.01
"""Seconds between two checks for a free place."""

_running: Counter[Hashable] = Counter()
"""Calls in progress by name or file; shared by all event loops, under the lock."""
_lock = threading.Lock()

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def under_way(about: Hashable) -> int:
    """How many calls for the same name or file have not returned."""
    with _lock:
        return _running[about]


def _entered(about: Hashable) -> bool:
    with _lock:
        if _running[about] >= MOST_ALIKE:
            return False
        _running[about] += 1
        return True


def _left(about: Hashable) -> None:
    with _lock:
        _running[about] -= 1
        if not _running[about]:
            del _running[about]


async def in_thread(
    about: Hashable,
    call: Callable[_Arguments, _Result],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Result:
    """The result of `call(...)`, started once fewer than MOST_ALIKE calls `about` the same thing are in progress.

    Raises what the call raises.
    """
    while not _entered(about):  # noqa: ASYNC110  # the room is made by threads of any loop
        await asyncio.sleep(PAUSE)
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if outcome.done():  # nobody is waiting any more
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # without an error it is the call's own result

    def work() -> None:
        result, error = None, None
        try:
            result = call(*args, **kwargs)
        except BaseException as caught:  # re-raised in the caller
            error = caught
        finally:
            _left(about)
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop has ended meanwhile
            return

    try:
        threading.Thread(target=work, name="probe-call", daemon=True).start()
    except RuntimeError as error:
        _left(about)
        raise OSError("this machine cannot start more threads") from error
    return await outcome
