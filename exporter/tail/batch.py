"""Batches: the result of one step of a tail, folded and saved as a unit. Data only."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.events import LogName
from exporter.logs.records import joined_all
from exporter.tail.checkpoint import FileCheckpoint, LogCheckpoint


@dataclass(frozen=True)
class Clock:
    """The two clocks: wall time, and monotonic time for durations."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Unreadable:
    """A path that cannot be read, and why, in words for a user of this machine."""

    path: str
    problem: str
    denied: bool
    since: float


@dataclass
class Batch:
    """The result of one step of a tail."""

    log: LogName
    root: str
    at: float = 0.0
    """When the step began."""
    parts: list[Sequence[Any]] = field(default_factory=list)
    """The records, as they were read."""
    checkpoints: dict[str, FileCheckpoint] = field(default_factory=dict)
    """Checkpoints to save, by the file's key."""
    forgotten: set[str] = field(default_factory=set)
    """Keys of checkpoints to drop."""
    log_checkpoint: LogCheckpoint | None = None
    """Changes of the log's checkpoint, to be merged into the saved one."""
    read_bytes: int = 0
    rotations: int = 0
    lost_generations: int = 0
    behind: bool = False
    """Whether there is more to read immediately."""
    drained: bool = False
    """Whether everything readable has been read."""
    caught_up: bool = False
    """Whether the log has been read up to the end it had when this process first listed it."""
    unreadable: tuple[Unreadable, ...] = ()
    """Set by `read_once`: what could not be read."""
    files: int = 0
    """Set by `read_once`: how many files there were."""

    @property
    def records(self) -> Sequence[Any]:
        """All records, in their order; joined only when they are asked for."""
        self.parts = [joined_all(self.parts)]
        return self.parts[0]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to fold or save."""
        return not (
            any(self.parts)
            or self.checkpoints
            or self.forgotten
            or self.log_checkpoint
            or self.read_bytes
            or self.rotations
            or self.lost_generations
        )
