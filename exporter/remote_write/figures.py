"""What is known of remote write at one moment, for metrics. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DroppedReason = Literal["too_old", "bad_request", "unauthorized", "http", "queue_full", "queue_unavailable"]
DROPPED_REASONS: tuple[DroppedReason, ...] = (
    "too_old",
    "bad_request",
    "unauthorized",
    "http",
    "queue_full",
    "queue_unavailable",
)
"""Refused by the receiver: older than what it has, status 400, 401 or 403, another 4xx. Not kept by the queue."""


@dataclass(frozen=True)
class RemoteWriteFigures:
    """What was sent since the process started, and what waits."""

    sent: int = 0
    """Samples that the receiver has taken."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Samples by reason."""
    retried: int = 0
    """Samples in requests that failed and are sent again, each time."""
    pending: int = 0
    """Samples in the queue."""
    pending_bytes: int = 0
    """Compressed."""
    oldest_pending: float | None = None
    """When the oldest samples in the queue were taken."""
    highest_sent: float | None = None
    """When the newest samples that the receiver has taken were taken."""
