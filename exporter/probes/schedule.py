"""When probes run: each at its own interval, and on demand with at most one in progress per target."""

import asyncio
import math
import random
from collections.abc import Callable
from typing import Never

from exporter.config import ProbeConfig
from exporter.probes.result import ProbeResult
from exporter.probes.stages import RunningProbe, probe
from exporter.products import SENSE, Product

SPREAD = 0.1
"""Part of the interval within which the first probe starts, so that targets and nodes are not probed simultaneously."""
LONGEST_SPREAD = 5.0
"""Seconds of that at most."""


async def run_probe(settings: ProbeConfig, on_result: Callable[[ProbeResult], None], product: Product = SENSE) -> Never:
    """Probes forever at `settings.interval`, never concurrently; rounds missed by a long probe are skipped."""
    loop = asyncio.get_running_loop()
    due = loop.time() + random.uniform(0, min(settings.interval * SPREAD, LONGEST_SPREAD))  # noqa: S311  # no secret
    while True:
        await asyncio.sleep(due - loop.time())
        on_result(await probe(settings, product=product))
        missed = max(0, math.floor((loop.time() - due) / settings.interval))
        due += settings.interval * (missed + 1)


class Prober:
    """Probes on demand: at most one in progress per target; concurrent requests share its result."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[ProbeConfig, RunningProbe, asyncio.Task[ProbeResult]]] = {}

    async def probe(self, settings: ProbeConfig, seconds: float | None = None, product: Product = SENSE) -> ProbeResult:
        """The result of the probe in progress, started if there is none; after `seconds` what is known by then."""
        _, running, task = self._started(settings, product)
        done, _ = await asyncio.wait({task}, timeout=seconds)  # cancels nothing: others may wait for it, too
        return task.result() if done else running.timed_out()

    def _started(
        self, settings: ProbeConfig, product: Product
    ) -> tuple[ProbeConfig, RunningProbe, asyncio.Task[ProbeResult]]:
        entry = self._running.get(settings.target)
        if entry is None or entry[0] != settings:
            running = RunningProbe(settings, product=product)
            task = asyncio.create_task(running.run(settings.timeout))
            entry = self._running[settings.target] = (settings, running, task)
            task.add_done_callback(lambda task: self._forget(settings.target, task))
        return entry

    def _forget(self, target: str, task: asyncio.Task[ProbeResult]) -> None:
        if self._running[target][2] is task:
            del self._running[target]
