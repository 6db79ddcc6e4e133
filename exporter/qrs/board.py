"""Reads the Repository API in the background: the last figures, how old they may be, and when to read again."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

from exporter.config import QrsConfig
from exporter.events import QrsLicenseRead
from exporter.qrs.failure import QrsError
from exporter.qrs.overview import LicenseOverview, UnusedOverview

FIRST_RETRY = 15.0
"""Seconds until the first try after a failure; doubled with each further one, up to the interval."""
JITTER = 0.1
"""Random variation of every pause, as a share of it, so that many exporters do not send requests simultaneously."""

log = logging.getLogger("exporter.qrs")


@dataclass
class QrsBoard:
    """The last figures of the Repository API. Written by `run_qrs` only."""

    settings: QrsConfig
    up: bool | None = None
    """Whether the last read succeeded; None before the first."""
    duration: float | None = None
    """Seconds that the last read took."""
    last_success: float | None = None
    reason: str = ""
    """Why the last read failed, `QrsError` as text; empty when it did not."""
    problems: int = 0
    """Fields missing or not understood, over all reads of this process."""
    _last_good: LicenseOverview | None = None
    _last_unused: UnusedOverview | None = None
    _next_count: float = 0.0
    """When the seats are to be counted again, on the monotonic clock."""
    _failed_counts: int = 0
    """Consecutive counts that were incomplete."""

    def overview(self, now: float) -> LicenseOverview | None:
        """The last good read until it is `max_age` old, then None: older figures would be misleading."""
        if self._last_good is None or now - self._last_good.read_at > self.settings.max_age:
            return None
        return self._last_good

    def unused(self, now: float) -> UnusedOverview | None:
        """The last count of the seats that nobody uses, unless more than one count has been missed since."""
        oldest = 2 * self.settings.seats_interval + self.settings.max_age
        if self._last_unused is None or now - self._last_unused.read_at > oldest:
            return None
        return self._last_unused

    def _succeeded(self, overview: LicenseOverview, duration: float) -> None:
        before = (self.up, self._last_good.notes if self._last_good else ())
        self.up, self.reason, self.duration = True, "", duration
        self.last_success, self._last_good = overview.read_at, overview
        self.problems += overview.problems
        if before != (True, overview.notes):
            log.log(
                logging.WARNING if overview.problems else logging.INFO,
                "the Repository API answers%s",
                "".join(f"; {note}" for note in overview.notes),
            )

    def _counted(self, found: UnusedOverview) -> None:
        before = self._last_unused.notes if self._last_unused else ()
        if found.notes != before:
            for note in found.notes or ("seats: all could be counted",):
                log.log(logging.WARNING if found.problems else logging.INFO, "the Repository API answers; %s", note)
        self._last_unused = found
        self.problems += found.problems

    def _failed(self, error: QrsError, duration: float) -> None:
        if self.reason != str(error):
            log.warning("the Repository API cannot be read: %s", error)
        self.up, self.reason, self.duration = False, str(error), duration


def sync_seen(overview: LicenseOverview, settings: QrsConfig) -> QrsLicenseRead | None:
    """What a read says about the last sync: nothing, unless the site trusts `updated` (`qrs.trust_updated`)."""
    if not settings.trust_updated or overview.updated is None:
        return None
    return QrsLicenseRead(overview.updated)


async def read_into(board: QrsBoard) -> LicenseOverview | None:
    """One read, kept on `board`; None if it failed."""
    # Here, since its HTTP client takes longer to load than all the rest, and few sites need it.
    from exporter.qrs.client import read_overview

    began = time.monotonic()
    try:
        overview = await read_overview(board.settings)
    except QrsError as error:
        board._failed(error, time.monotonic() - began)
        return None
    board._succeeded(overview, time.monotonic() - began)
    return overview


async def count_into(board: QrsBoard, overview: LicenseOverview) -> UnusedOverview:
    """One count of the seats that nobody uses, kept on `board`. A failure does not affect `overview`."""
    from exporter.qrs.client import read_unused  # here for the reason above

    try:
        found = await read_unused(board.settings, overview)
    except QrsError as error:
        found = UnusedOverview(read_at=time.time(), notes=(f"seats: {error}",), problems=1)
    board._counted(found)
    return found


async def _count_if_due(board: QrsBoard, overview: LicenseOverview) -> None:
    interval = board.settings.seats_interval
    if not interval or time.monotonic() < board._next_count:
        return
    found = await count_into(board, overview)
    board._failed_counts = board._failed_counts + 1 if found.problems else 0
    board._next_count = time.monotonic() + pause_after(interval, board._failed_counts)


async def run_qrs(board: QrsBoard, on_read: Callable[[LicenseOverview], None]) -> Never:
    """Reads forever: immediately, then at the interval; sooner after a failure, backing off to the interval.

    `on_read` receives every successful read. Changes of state are logged, not every read (hazard 134).
    """
    failures = 0
    while True:
        if overview := await read_into(board):
            failures = 0
            on_read(overview)
            await _count_if_due(board, overview)  # after the read, so that there is one request at a time
        else:
            failures += 1
        await asyncio.sleep(pause_after(board.settings.interval, failures))


def pause_after(interval: float, failures: int) -> float:
    """Seconds until the next read after so many failures in a row, with jitter."""
    pause = min(interval, FIRST_RETRY * 2.0 ** min(failures - 1, 20)) if failures else interval
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # no secret
