"""The verdict's data: the closed set of names, their order, and the fields of a finding."""

from typing import Literal, get_args

import msgspec

VerdictName = Literal[
    "well",
    "license_stale",
    "lockout_coming",
    "sync_failing_network",
    "sync_failing_proxy",
    "sync_failing_interception",
    "sync_failing_service",
    "sync_unclear",
    "backend_flapping",
    "service_silent",
    "tail_blind",
    "everyone_refused",
    "users_refused",
    "parallel_sessions",
    "repository_down",
    "license_expired",
    "license_expiring",
    "capacity_exhausted",
    "seats_exhausted",
    "not_enough_evidence",
]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
Severity = Literal["ok", "warning", "critical", "unknown"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One conclusion from the evidence."""

    verdict: VerdictName
    severity: Severity
    summary: str
    """One sentence."""
    users_see: str
    evidence: tuple[str, ...]
    """Sentences with figures and times."""
    cure: tuple[str, ...]
    """Steps, in order."""
    alert: str
    """The name of the provided alert for it; empty if there is none."""


class Judgement(Finding, frozen=True, kw_only=True):
    """The worst finding, and the lesser ones."""

    also: tuple[Finding, ...] = ()


WORST_FIRST: tuple[VerdictName, ...] = (
    "license_stale",
    "license_expired",
    "everyone_refused",
    "repository_down",
    "lockout_coming",
    "sync_failing_network",
    "sync_failing_proxy",
    "sync_failing_interception",
    "sync_failing_service",
    "sync_unclear",
    "tail_blind",
    "service_silent",
    "capacity_exhausted",
    "seats_exhausted",
    "backend_flapping",
    "users_refused",
    "license_expiring",
    "parallel_sessions",
    "not_enough_evidence",
    "well",
)
"""The order of critical findings, and then of the others."""
