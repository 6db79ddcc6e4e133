"""Probes: whether the license backend can be reached from here and, if not, at which stage and why."""

from exporter.probes.licenses_service import PATHS, Page, ServiceBoard, ServiceLook, look_at_service, run_service
from exporter.probes.result import (
    CURES,
    PHASES,
    REASONS,
    Phase,
    ProbeBoard,
    ProbeHistory,
    ProbeResult,
    Reason,
    story_of,
)
from exporter.probes.schedule import Prober, run_probe
from exporter.probes.stages import Resolver, look_up, probe
from exporter.probes.stream import Address

__all__ = [
    "CURES",
    "PATHS",
    "PHASES",
    "REASONS",
    "Address",
    "Page",
    "Phase",
    "ProbeBoard",
    "ProbeHistory",
    "ProbeResult",
    "Prober",
    "Reason",
    "Resolver",
    "ServiceBoard",
    "ServiceLook",
    "look_at_service",
    "look_up",
    "probe",
    "run_probe",
    "run_service",
    "story_of",
]
