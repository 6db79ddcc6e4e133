"""The limits that the boards draw, with their colours: the alerts' own, most from the exporter's table."""

from exporter.verdict import LIMITS
from exporter.verdict.limits import DAY, USUAL_GRACE

Steps = tuple[tuple[float | None, str], ...]
"""From low to high: the value from which a colour holds; None is "from the start"."""

USUAL_GRACE_DAYS = USUAL_GRACE / DAY
CERTIFICATE_EXPIRING_SECONDS = 7 * DAY
"""QlikLicenseCertificateExpiring."""
SEATS_NEARLY_EXHAUSTED_RATIO = 0.9
"""QlikLicenseSeatsNearlyExhausted: share of the seats that are given away."""
LOG_UNREAD_BYTES = 1024.0 * 1024
"""QlikLicenseLogLagging."""
STATE_NOT_SAVED_SECONDS = 900.0
"""QlikLicenseStateNotSaved."""
REMOTE_WRITE_WAITING_SECONDS = 900.0
"""QlikLicenseRemoteWriteFailing."""

LOCKOUT_STEPS: Steps = ((None, "red"), (LIMITS.lockout_near, "orange"), (USUAL_GRACE - LIMITS.overdue, "green"))
SYNC_AGE_STEPS: Steps = ((None, "green"), (LIMITS.overdue, "orange"), (USUAL_GRACE - LIMITS.lockout_near, "red"))
SYNC_AGE_LINES_DAYS: Steps = (
    (None, "transparent"),
    (LIMITS.overdue / DAY, "yellow"),
    ((USUAL_GRACE - LIMITS.lockout_near) / DAY, "orange"),
    (USUAL_GRACE_DAYS, "red"),
)
IN_A_ROW_STEPS: Steps = ((None, "green"), (1, "yellow"), (LIMITS.failures, "orange"))
USERS_REFUSED_STEPS: Steps = ((None, "green"), (LIMITS.denied_users, "orange"), (LIMITS.massive_users, "red"))
BACKEND_STEPS: Steps = ((None, "red"), (LIMITS.flapping_share, "green"))
EXPIRY_STEPS: Steps = (
    (None, "red"),
    (LIMITS.expiring[2], "orange"),
    (LIMITS.expiring[1], "blue"),
    (LIMITS.expiring[0], "green"),
)
CERTIFICATE_STEPS: Steps = (
    (None, "red"),
    (CERTIFICATE_EXPIRING_SECONDS, "orange"),
    (2 * CERTIFICATE_EXPIRING_SECONDS, "green"),
)


def line_at(limit: float) -> Steps:
    """A red line at a limit."""
    return ((None, "transparent"), (limit, "red"))
