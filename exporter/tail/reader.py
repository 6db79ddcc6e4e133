"""The thread that reads all logs of one root: a drive, a share or a mount. Each root has only one.

If a file system does not answer, only this thread hangs (hazards 45, 121 and 122). It is a daemon thread, so that it
does not keep the process alive either.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from exporter.logs.files import Root
from exporter.masking import masked
from exporter.priority import give_way
from exporter.tail.batch import Batch, Clock
from exporter.tail.tail import Tail

STUCK_SECONDS = 10.0
"""Seconds after which a call to the file system that has not returned is reported as stuck."""
PAUSE_SECONDS = 1.0
"""Wait after an unexpected error before reading restarts."""

log = logging.getLogger("exporter.tail")


class Assignment:
    """What a reader reads, and how often. The tails are created in the reader's thread."""

    def __init__(
        self,
        tails: Sequence[Callable[[Callable[[], None]], Tail]],
        submit: Callable[[Batch], bool],
        still_there: Callable[[], bool],
        poll_interval: float,
        discovery_interval: float,
    ) -> None:
        """`submit` returns once the batch is folded; False if this assignment has been replaced. `still_there`: whether
        the files still belong to this root, determined without accessing them."""
        self.make_tails = tails
        self.submit = submit
        self.still_there = still_there
        self.poll_interval = poll_interval
        self.discovery_interval = discovery_interval


class Reader:
    """Reads what it was assigned until it is stopped."""

    def __init__(self, root: Root, failed: Callable[[], None], moved: Callable[[], None], clock: Clock) -> None:
        """`failed` is called when reading failed and restarts, `moved` when the files now belong to another root."""
        self.root = root
        self.tails: Sequence[Tail] = ()
        self._failed = failed
        self._moved = moved
        self._clock = clock
        self._busy_since: float | None = None
        self._next: Assignment | None = None
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader of {root.name}", daemon=True)
        self._started = False

    def assign(self, assignment: Assignment) -> None:
        """Replace the current assignment."""
        self._next = assignment
        self._wake.set()
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end. It may be stuck, and then never ends."""
        self._stopped.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait at most `seconds` for the thread to end."""
        if self._started:
            self._thread.join(seconds)

    @property
    def stuck_seconds(self) -> float:
        """For how long the current call to the file system has been stuck; 0 if it is not."""
        since = self._busy_since
        waited = self._clock.monotonic() - since if since is not None else 0.0
        return waited if waited >= STUCK_SECONDS else 0.0

    def _heartbeat(self) -> None:
        give_way()
        self._busy_since = self._clock.monotonic()

    def _run(self) -> None:
        assignment: Assignment | None = None
        due: list[float] = []
        while not self._stopped.is_set():
            self._wake.clear()
            wait = PAUSE_SECONDS
            try:
                if self._next is not None:
                    assignment, self._next = self._next, None
                    self._close()
                    self.tails = [make(self._heartbeat) for make in assignment.make_tails]
                    due = [float("-inf")] * len(self.tails)
                if assignment is not None and self._next is None:
                    wait = 0.0 if self._cycle(assignment, due) else assignment.poll_interval
            except Exception as error:  # unexpected errors of reading are handled and counted only here
                log.error("reading failed and restarts: %s: %s", type(error).__name__, masked(str(error)))
                assignment = None
                self._stopped.wait(PAUSE_SECONDS)
                self._failed()
            self._busy_since = None
            if wait:
                self._wake.wait(wait)
        self._close()

    def _cycle(self, assignment: Assignment, due: list[float]) -> bool:
        """Poll every tail once, after discovery where it is due. Returns whether there is more to read immediately."""
        more = False
        for place, tail in enumerate(self.tails):
            now = self._clock.monotonic()
            if now >= due[place] or tail.needs_discovery:
                if now >= due[place]:
                    due[place] = now + assignment.discovery_interval
                    if not assignment.still_there():
                        self._moved()
                        return False
                self._heartbeat()
                for batch in tail.discover():
                    if not self._submit(assignment, batch):
                        return False
            self._heartbeat()
            if not self._submit(assignment, tail.poll()):
                return False
            more |= tail.behind
        return more

    def _submit(self, assignment: Assignment, batch: Batch) -> bool:
        self._busy_since = None
        done = assignment.submit(batch)
        self._heartbeat()
        return done and self._next is None and not self._stopped.is_set()

    def _close(self) -> None:
        for tail in self.tails:
            tail.close()
        self.tails = ()
