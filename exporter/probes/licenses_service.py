"""The pages of the Licenses service itself on port 9200: health, readiness and metrics.

These pages are documented for its Kubernetes edition (seen). What the service answers on Windows is unknown, so this is
off by default, reports what was found, and draws no conclusions: its sentences are evidence besides that of the log.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Never

import msgspec

from exporter.config import LicensesServiceConfig, ProbeConfig
from exporter.probes.exchange import status_text
from exporter.probes.stages import RunningProbe

PATHS = ("/health", "/ready", "/metrics")
MOST_NAMES = 12
"""Metric names that are shown."""

_SAMPLE = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]{0,199})(?:\{.*\})?[ \t]+(?:[-+]?[\d.]|[-+]?Inf|NaN)", re.MULTILINE)
_TELLING = re.compile(r"licen|sync|assign|lease|entitle|backend", re.IGNORECASE)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page that was requested."""

    path: str
    status: int | None
    """None: no answer; `problem` says why."""
    problem: str = ""


class ServiceLook(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of requests found. Labels and values of samples are not kept: their content is unknown."""

    target: str
    at: float
    pages: tuple[Page, ...]
    series: int = 0
    """Samples in the part of `/metrics` that was read."""
    names: tuple[str, ...] = ()
    """The first few names of metrics that seem to be about licenses, in alphabetical order."""

    def status(self, path: str) -> int | None:
        """The status that `path` was answered with; None without an answer."""
        return next((page.status for page in self.pages if page.path == path), None)

    def sentences(self, shown: Callable[[str], str] = str) -> tuple[str, ...]:
        """What was found, for a person; `shown` masks what a network said."""
        answered = [page for page in self.pages if page.status is not None]
        if not answered:
            problem = shown(self.pages[0].problem)
            return (f"No answer from {self.target}, where the Licenses service may listen: {problem}",)
        statuses = ", ".join(f"{page.path} {status_text(page.status)}" for page in answered)
        said = [f"The service at {self.target} answers: {statuses}."]
        if all(page.status == 404 for page in answered):
            said.append("So it has none of these pages, and says nothing about itself.")
        if self.status("/ready") == 200:
            said.append("It says that it is ready.")
        elif self.status("/ready") not in (None, 404):
            said.append("It does not say that it is ready.")
        if self.status("/metrics") == 200:
            named = f", among them {', '.join(self.names)}" if self.names else ", none of them named after licenses"
            said.append(f"It has metrics ({self.series} series{named}).")
        return tuple(said)


@dataclass
class ServiceBoard:
    """What the last round found. Written by `run_service` only."""

    settings: LicensesServiceConfig
    last: ServiceLook | None = None


async def look_at_service(settings: LicensesServiceConfig) -> ServiceLook:
    """One round of requests. Never raises for network errors."""
    at, pages, body = time.time(), list[Page](), b""
    for path in PATHS:
        running = RunningProbe(_probe_of(settings, path))
        result = await running.run(settings.timeout)
        pages.append(Page(path=path, status=result.status, problem="" if result.status else result.detail))
        if result.status is None:
            break  # the other pages would not answer either
        if path == "/metrics" and result.success:
            body = running.body
    samples = _SAMPLE.findall(body)
    return ServiceLook(
        target=_probe_of(settings, "/").target,
        at=at,
        pages=tuple(pages),
        series=len(samples),
        names=_telling(samples),
    )


async def run_service(board: ServiceBoard) -> Never:
    """Requests the pages forever, at the interval."""
    while True:
        board.last = await look_at_service(board.settings)
        await asyncio.sleep(board.settings.interval)


def _probe_of(settings: LicensesServiceConfig, path: str) -> ProbeConfig:
    scheme, _, place = settings.url.rstrip("/").partition("://")
    return ProbeConfig(
        target=place if re.search(r":\d+$", place) else f"{place}:{443 if scheme == 'https' else 80}",
        role="local",
        protocol="https" if scheme == "https" else "http",
        path=path,
        expected_statuses=(200,),
        proxy="none",
        ca_file=settings.ca_file,
        timeout=settings.timeout,
    )


def _telling(samples: Sequence[bytes]) -> tuple[str, ...]:
    names = sorted({name.decode("ascii") for name in samples})
    return tuple(name for name in names if _TELLING.search(name))[:MOST_NAMES]
