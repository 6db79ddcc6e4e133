"""Calls that can block for ever (name lookups, files on slow disks), each in a daemon thread of its own.

Never the event loop's default executor: its threads are joined at exit and, once all are stuck, starve every other
lookup (hazard 121). Here a stuck call holds nothing but its own thread. The number of threads is limited by name and by
file, never for all together: whatever hangs keeps no other name from being looked up.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

MOST_ALIKE = 4
"""Calls about the same name or file that may be under way, or stuck, at the same time; a further one waits. The names
and files are those of the configuration, so the threads are limited, too."""
PAUSE = 0.01
"""Seconds between two looks whether there is room."""

_running: Counter[Hashable] = Counter()
"""Calls under way by what they are about; shared by the threads of any event loop, under the lock."""
_lock = threading.Lock()

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def under_way(about: Hashable) -> int:
    """How many calls about the same thing have not come back."""
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
    """The outcome of `call(...)`, once fewer than MOST_ALIKE calls are under way `about` the same thing. Raises what it
    raises.
    """
    while not _entered(about):  # noqa: ASYNC110  # the room is made by threads of any loop
        await asyncio.sleep(PAUSE)
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if outcome.done():  # nobody waits any more
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # without an error it is the call's own result

    def work() -> None:
        result, error = None, None
        try:
            result = call(*args, **kwargs)
        except BaseException as caught:  # handed to whoever waits
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
