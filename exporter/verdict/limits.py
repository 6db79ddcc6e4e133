"""The limits above which something is a finding: those of the shipped alerts, in one table."""

import msgspec

HOUR = 3600.0
DAY = 24 * HOUR
USUAL_GRACE = 5 * DAY
"""The grace for which the durations below are chosen."""


class Limits(msgspec.Struct, frozen=True):
    """The limits for findings. Each is that of the alert named below it; durations are in seconds."""

    stale_recent: float = 72 * HOUR
    """QlikLicenseStale; an older verdict is QlikLicenseStaleUnconfirmed."""
    lockout_near: float = 48 * HOUR
    """QlikLicenseLockoutImminent."""
    overdue: float = 26 * HOUR
    """QlikLicenseSyncOverdue, QlikLicenseSyncNotAttempted, QlikLicenseLogSilent, QlikLicenseContactLost."""
    unreachable: float = 15 * 60
    """QlikLicenseBackendUnreachable. A one-shot probe counts immediately."""
    repository_down: float = 5 * 60
    """QlikLicenseRepositoryDown. A one-shot probe counts immediately."""
    flapping_window: float = 6 * HOUR
    """QlikLicenseBackendFlapping, with the two below."""
    flapping_share: float = 0.95
    flapping_changes: int = 6
    failures: int = 3
    """QlikLicenseSyncFailing: failures in a row."""
    unclear: int = 3
    """QlikLicenseSyncUnclear: attempts of which it is not known how they ended."""
    denied_users: int = 3
    """QlikLicenseAccessDenied: distinct users within the hour, and their refusals in total."""
    denials: int = 5
    massive_users: int = 10
    """QlikLicenseAccessDeniedMassive."""
    parallel_denials: int = 5
    """QlikLicenseParallelSessions."""
    unread: float = 5 * 60
    """QlikLicenseLogUnreadable: not read without an error for so long."""
    expiring: tuple[float, float, float] = (60 * DAY, 30 * DAY, 7 * DAY)
    """QlikLicenseExpiringSoon; the last one is critical."""
    capacity_share: float = 0.9
    """QlikLicenseCapacityNearlyExhausted."""
    clock_skew: float = 120
    """QlikLicenseClockSkew."""


LIMITS = Limits()


def limits_of(grace: float) -> Limits:
    """The limits for a site's grace.

    A grace that is not longer than the warning before a lockout is only used by the demo: then all durations of Qlik's
    processes are scaled like the grace.
    """
    if grace > LIMITS.lockout_near:
        return LIMITS
    pace = grace / USUAL_GRACE
    return msgspec.structs.replace(
        LIMITS,
        stale_recent=LIMITS.stale_recent * pace,
        lockout_near=LIMITS.lockout_near * pace,
        overdue=LIMITS.overdue * pace,
        unreachable=LIMITS.unreachable * pace,
        repository_down=LIMITS.repository_down * pace,
        flapping_window=LIMITS.flapping_window * pace,
    )
