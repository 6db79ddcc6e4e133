"""Calls that can block for ever (name lookups, files on slow disks), each in a daemon thread of its own.

Never the event loop's default executor: its threads are joined at exit and, once all are stuck, starve every other
lookup (hazard 121). Here a stuck call holds nothing but its own thread, until as many are stuck as are allowed.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

MOST_LOOKUPS = 32
MOST_FILE_CALLS = 32
"""Calls of a kind that may be under way, or stuck, at the same time; a further one waits."""
PAUSE = 0.01
"""Seconds between two looks for a free place."""

LOOKUPS = threading.BoundedSemaphore(MOST_LOOKUPS)
FILE_CALLS = threading.BoundedSemaphore(MOST_FILE_CALLS)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


async def in_thread(
    slots: threading.BoundedSemaphore,
    call: Callable[_Arguments, _Result],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Result:
    """The outcome of `call(...)`, once one of the `slots` is free. Raises what it raises."""
    while not slots.acquire(blocking=False):  # noqa: ASYNC110  # the slots belong to threads of any loop
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
            slots.release()
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop has ended meanwhile
            return

    try:
        threading.Thread(target=work, name="probe-call", daemon=True).start()
    except RuntimeError as error:
        slots.release()
        raise OSError("this machine starts no more threads") from error
    return await outcome
