"""Remote write as a whole: one thread takes sample sets, another sends them, the queue on disk is between them."""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from exporter.config import RemoteWriteConfig
from exporter.remote_write.encoding import write_request
from exporter.remote_write.figures import RemoteWriteFigures
from exporter.remote_write.queue import Batch, BatchQueue
from exporter.remote_write.receiver import Answer, receiver
from exporter.remote_write.series import JOB, Sample, SampleSets

FIRST_PAUSE = 1.0
"""Seconds until a failed request is sent again; doubled with each further failure."""
LONGEST_PAUSE = 60.0
LAST_SECONDS = 2.0
"""Seconds after a stop in which the end of all series is sent; what is left is sent after the next start."""
WAKE = 0.25
"""Seconds between two checks for a stop while a request is in progress."""

_log = logging.getLogger(__name__)


class RemoteWriter:
    """Pushes what a scrape would show, every `interval`, until stopped. No scrape waits for its threads."""

    def __init__(
        self,
        settings: RemoteWriteConfig,
        samples: Callable[[], Iterable[Sample]],
        queue: BatchQueue,
        instance: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts nothing yet. `samples`: what a scrape shows now. `instance`: the label, unless it is configured."""
        self._settings, self._samples, self._queue, self._instance = settings, samples, queue, instance
        self._wall, self._monotonic = wall, monotonic
        self._sets = SampleSets()
        self._sent = self._retried = 0
        self._refused: Counter[str] = Counter()
        self._highest_sent: float | None = None
        self._failures = 0
        """Failed requests since the last answer that settled a batch."""
        self._next_try = 0.0
        """On the monotonic clock."""
        self._trouble = ""
        """What is wrong with sending, as it was logged."""
        self._unreadable = False
        """Whether the last sample set could not be taken."""
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._stopped_at = 0.0
        # Daemons: neither a dead disk nor a receiver that hangs may delay the end of the process (hazard 121).
        self._taker = threading.Thread(target=self._take_until_stopped, name="remote write samples", daemon=True)
        self._sender = threading.Thread(target=self._send_until_stopped, name="remote write", daemon=True)

    @property
    def figures(self) -> RemoteWriteFigures:
        """What was sent, and what waits; from memory."""
        waiting = self._queue.waiting
        return RemoteWriteFigures(
            sent=self._sent,
            dropped=self._refused + self._queue.dropped,
            retried=self._retried,
            pending=waiting.samples,
            pending_bytes=waiting.bytes,
            oldest_pending=None if waiting.oldest is None else waiting.oldest / 1000,
            highest_sent=self._highest_sent,
        )

    def start(self) -> None:
        """Take the first sample set now, and then one at each interval."""
        self._taker.start()
        self._sender.start()

    def stop(self) -> None:
        """End all series, and send what waits, for at most LAST_SECONDS."""
        self._stopped_at = time.monotonic()
        self._stopping.set()
        self._wake.set()
        if self._sender.ident is not None:
            self._sender.join(LAST_SECONDS + WAKE)

    def configure(self, settings: RemoteWriteConfig) -> None:
        """Use other settings from now on, for what waits, too. Series whose labels change end."""
        if settings != self._settings:
            self._settings, self._next_try = settings, 0.0
            self._wake.set()

    # --- taking samples

    def take(self) -> None:
        """Put one sample set into the queue."""
        began, at = self._monotonic(), self._wall()
        samples: list[Sample] | None
        try:
            samples = list(self._samples())
            self._unreadable = False
        except Exception as error:  # as after a scrape that fails, `up` is 0
            if not self._unreadable:
                _log.error("the samples for remote write cannot be taken: %s", type(error).__name__)
            samples, self._unreadable = None, True
        target = {"job": JOB, "instance": self._instance, **self._settings.labels}
        self._put(self._sets.next(samples, target, self._monotonic() - began), at)

    def end(self) -> None:
        """Put the end of all series into the queue."""
        if markers := self._sets.end():
            self._put(markers, self._wall())

    def _put(self, series: list[tuple[tuple[tuple[str, str], ...], float]], at: float) -> None:
        milliseconds = int(at * 1000)
        self._queue.add(Batch(milliseconds, len(series), write_request(series, milliseconds)))
        self._wake.set()

    def _take_until_stopped(self) -> None:
        due = self._monotonic()
        while True:
            self._guarded(self.take)
            due = max(due + self._settings.interval, self._monotonic())
            if self._stopping.wait(due - self._monotonic()):
                break
        self._guarded(self.end)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # a fault of ours: the next sample set may do better, and the exporter goes on
            _log.error("remote write failed: %s: %s", type(error).__name__, error)

    # --- sending

    async def deliver(self) -> float:
        """Send what waits, oldest first, until nothing does or a request fails. Returns the seconds until the next
        attempt is due."""
        if (pause := self._next_try - self._monotonic()) > 0:
            return pause
        batch = self._queue.oldest()
        if batch is None:
            return LONGEST_PAUSE
        async with receiver(self._settings, self._wall) as post:
            while batch is not None:
                answer = await post(batch.body)
                self._note(batch, answer)
                if answer.verdict == "failed":
                    return max(0.0, self._next_try - self._monotonic())
                batch = self._queue.oldest()
        return LONGEST_PAUSE

    def _note(self, batch: Batch, answer: Answer) -> None:
        """Keep the books; only a change is logged (hazard 134)."""
        if answer.verdict == "failed":
            self._retried += batch.samples
            pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 16), LONGEST_PAUSE)
            # Spread, so that not all nodes of a site come back in the same second.
            pause = max(pause * random.uniform(0.5, 1.0), answer.retry_after * random.uniform(1.0, 1.1))  # noqa: S311  # no secret
            self._failures += 1
            self._next_try = self._monotonic() + pause
            if answer.sentence != self._trouble:
                _log.warning("remote write: %s; samples are kept and sent again", answer.sentence)
        else:
            self._failures, self._next_try = 0, 0.0
            if answer.verdict == "refused":
                self._refused[answer.reason] += batch.samples
                if answer.sentence != self._trouble:
                    _log.error("remote write: %s; the refused samples are dropped", answer.sentence)
            else:
                self._sent += batch.samples
                self._highest_sent = max(self._highest_sent or 0.0, batch.at / 1000)
                if self._trouble:
                    _log.info("remote write works again; %d samples wait", self._queue.waiting.samples)
            self._queue.remove(batch)
        self._trouble = "" if answer.verdict == "taken" else answer.sentence

    def _send_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause = self._delivered()
            if not self._stopping.is_set():
                self._wake.wait(pause)
        self._taker.join(max(0.0, self._stopped_at + LAST_SECONDS - time.monotonic()))
        self._next_try = 0.0
        self._delivered()
        self._queue.close()

    def _delivered(self) -> float:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                return runner.run(self._deliver_in_time())
        except Exception as error:  # a fault of ours: what waits is sent later
            _log.error("remote write failed: %s: %s", type(error).__name__, error)
            return LONGEST_PAUSE

    async def _deliver_in_time(self) -> float:
        """`deliver`, cancelled LAST_SECONDS after a stop."""
        task = asyncio.create_task(self.deliver())
        while not task.done():
            await asyncio.wait({task}, timeout=WAKE)
            if self._stopping.is_set() and time.monotonic() > self._stopped_at + LAST_SECONDS:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                return 0.0
        return task.result()


def writer_of(
    settings: RemoteWriteConfig, samples: Callable[[], Iterable[Sample]], queue_file: Path, instance: str
) -> RemoteWriter:
    """A writer with its queue in `queue_file`."""
    return RemoteWriter(settings, samples, BatchQueue(queue_file), instance)
