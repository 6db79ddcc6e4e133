"""Observation: everything known at one instant, for metrics, status page and verdict. Data only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.events import LogName
from exporter.license import LicenseState, Rules
from exporter.products import SENSE, Product

if TYPE_CHECKING:
    from exporter.journal import Journal
    from exporter.probes import ProbeHistory, ServiceBoard
    from exporter.qrs import QrsBoard
    from exporter.remote_write.figures import RemoteWriteFigures
    from exporter.verdict import Judgement


@dataclass(frozen=True)
class LogFigures:
    """What is known of reading one log right now."""

    files: int = 0
    """Files that match."""
    growing: int | None = None
    """Files to which something was appended within the last 15 minutes. None in one-shot commands."""
    unread_bytes: int = 0
    last_read: float | None = None
    """When it was last read without an error."""
    read_errors: int = 0
    """Failed attempts to list or read, since the process started."""
    listed: bool = False
    """Whether its folders have been listed, a missing one included, and read to the end found then."""
    problem: str = ""
    """Why it cannot be read, for the administrator, not masked; empty if it can."""
    paths: tuple[str, ...] = ()
    """The file patterns."""


@dataclass(frozen=True)
class Observation:
    """Everything known at `now`, as used by a scrape, the status page and the verdict. None: not known."""

    now: float
    rules: Rules
    state: LicenseState
    """The newest fold: gauges come from it."""
    counted: LicenseState | None
    """The last durable one: durable counters come from it, so that no restart takes one back. None: the state file
    is not open yet, and no such counter is known."""
    messages: Mapping[LogName, Sequence[str]]
    """Every value of the label `message`, by log."""
    logs: Mapping[LogName, LogFigures]
    """The logs that are read."""
    probes: "Sequence[ProbeHistory]" = ()
    qrs: "QrsBoard | None" = None
    """None if the Repository API is not enabled."""
    service: "ServiceBoard | None" = None
    """None if the pages of the Licenses service are not requested."""
    remote_write: "RemoteWriteFigures | None" = None
    """None if nothing is pushed."""
    product: Product = SENSE
    judgement: "Judgement | None" = None
    """The verdict on all of it, if it was judged."""
    started: float | None = None
    """When this process started; None in one-shot commands."""
    first_started: float | None = None
    """When this state file was first used; None in one-shot commands, and until it is open."""
    covered_since: float | None = None
    """Since when the Licenses log is known: the oldest entry read (one-shot commands), else the very first start."""
    journal: "Journal | None" = None
    """Recent notable entries and unknown wordings."""
    component_failures: Mapping[str, int] = field(default_factory=dict)
    state_last_save: float | None = None
    state_reset: float | None = None
    state_save_failures: int = 0
    reload_successful: bool = True
    reload_success: float | None = None
