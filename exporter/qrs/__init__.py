"""The Repository API (QRS): seats, minutes and expiry, read over mutual TLS from Qlik itself. Sends nothing but GET."""

from exporter.qrs.board import QrsBoard, count_into, read_into, run_qrs, sync_seen
from exporter.qrs.failure import QrsError, Reason
from exporter.qrs.overview import AccessType, LicenseOverview, UnusedOverview, UnusedSeats

__all__ = [
    "AccessType",
    "LicenseOverview",
    "QrsBoard",
    "QrsError",
    "Reason",
    "UnusedOverview",
    "UnusedSeats",
    "count_into",
    "read_into",
    "run_qrs",
    "sync_seen",
]
