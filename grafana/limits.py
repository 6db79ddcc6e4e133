"""The limits that the boards draw, with their colours: each is that of the alert named beside it."""

Steps = tuple[tuple[float | None, str], ...]
"""From low to high: the value from which a colour holds; None is "from the start"."""

HOUR = 3600.0
DAY = 24 * HOUR

SYNC_OVERDUE_SECONDS = 26 * HOUR
"""QlikLicenseSyncOverdue, QlikLicenseContactLost: one daily refresh was missed."""
LOCKOUT_IMMINENT_SECONDS = 48 * HOUR
"""QlikLicenseLockoutImminent: less than this is left."""
GRACE_SECONDS = 5 * DAY
"""The default of `license.grace`; the countdown itself uses the exporter's own setting."""
FLAPPING_RATIO = 0.95
"""QlikLicenseBackendFlapping: share of good probes over six hours."""
CLOCK_SKEW_SECONDS = 120.0
"""QlikLicenseClockSkew."""
CERTIFICATE_EXPIRING_SECONDS = 7 * DAY
"""QlikLicenseCertificateExpiring."""
EXPIRING_SECONDS = (60 * DAY, 30 * DAY, 7 * DAY)
"""QlikLicenseExpiringSoon: info, warning, critical."""
USERS_REFUSED = (3, 10)
"""QlikLicenseAccessDenied and QlikLicenseAccessDeniedMassive: distinct users within an hour."""
SEATS_NEARLY_EXHAUSTED_RATIO = 0.9
"""QlikLicenseSeatsNearlyExhausted: share of the seats that are given away."""
CAPACITY_NEARLY_EXHAUSTED_RATIO = 0.9
"""QlikLicenseCapacityNearlyExhausted."""
LOG_UNREAD_BYTES = 1024 * 1024
"""QlikLicenseLogLagging."""
LOG_NOT_READ_SECONDS = 300.0
"""QlikLicenseLogUnreadable: no poll without an error for this long."""
STATE_NOT_SAVED_SECONDS = 900.0
"""QlikLicenseStateNotSaved."""

LOCKOUT_STEPS: Steps = (
    (None, "red"),
    (LOCKOUT_IMMINENT_SECONDS, "orange"),
    (GRACE_SECONDS - SYNC_OVERDUE_SECONDS, "green"),
)
SYNC_AGE_STEPS: Steps = (
    (None, "green"),
    (SYNC_OVERDUE_SECONDS, "orange"),
    (GRACE_SECONDS - LOCKOUT_IMMINENT_SECONDS, "red"),
)
USERS_REFUSED_STEPS: Steps = ((None, "green"), (USERS_REFUSED[0], "orange"), (USERS_REFUSED[1], "red"))
BACKEND_STEPS: Steps = ((None, "red"), (FLAPPING_RATIO, "green"))
EXPIRY_STEPS: Steps = (
    (None, "red"),
    (EXPIRING_SECONDS[2], "orange"),
    (EXPIRING_SECONDS[1], "blue"),
    (EXPIRING_SECONDS[0], "green"),
)
CERTIFICATE_STEPS: Steps = (
    (None, "red"),
    (CERTIFICATE_EXPIRING_SECONDS, "orange"),
    (2 * CERTIFICATE_EXPIRING_SECONDS, "green"),
)
