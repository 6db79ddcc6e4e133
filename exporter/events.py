"""What can happen to a license: the closed set of events that sources report and `license.LicenseState` folds.

Every instant is in seconds since 1970 (UTC), taken from the log row or the clock of the source that saw it.
"""

from typing import Literal

import msgspec

LogName = Literal["licenses", "repository_audit", "repository_trace"]
LOG_NAMES: tuple[LogName, ...] = ("licenses", "repository_audit", "repository_trace")

ErrorClass = Literal["stale", "invalid", "dns", "refused", "timeout", "tls", "proxy", "reset", "http", "other"]
ERROR_CLASSES: tuple[ErrorClass, ...] = (
    "stale",
    "invalid",
    "dns",
    "refused",
    "timeout",
    "tls",
    "proxy",
    "reset",
    "http",
    "other",
)

DenialReason = Literal["no_access_pass", "parallel_sessions", "allocation_refused"]
DENIAL_REASONS: tuple[DenialReason, ...] = ("no_access_pass", "parallel_sessions", "allocation_refused")
USER_DENIAL_REASONS: tuple[DenialReason, ...] = ("no_access_pass", "parallel_sessions")
"""The reasons for which users are counted. Refused allocations are made by rules and name none."""

SevereLevel = Literal["warn", "error", "fatal"]
SEVERE_LEVELS: tuple[SevereLevel, ...] = ("warn", "error", "fatal")


class SyncAttempted(msgspec.Struct, frozen=True):
    """The Licenses service began to synchronise with the backend (qlik-facts 1). Not a success (case A2)."""

    source: str = ""
    """The source file that logged it, such as `sync.go`; empty where the entry does not say."""


class SyncSucceeded(msgspec.Struct, frozen=True):
    """A sync was reported to have succeeded, by a message from the configuration (`messages:`)."""


class SyncFailed(msgspec.Struct, frozen=True):
    """The backend could not be used: a network, TLS, proxy or HTTP error (qlik-facts 1, texts inferred)."""

    error: ErrorClass
    wording: str = ""
    """A hash of the wording, if nothing in the entry ties it to the backend or the sync: it may be about something
    else. Empty if it is certain."""
    source: str = ""
    """The source file that logged it, such as `sync.go`, if `wording` is not empty."""


class SyncTrouble(msgspec.Struct, frozen=True):
    """An unrecognised entry that seems to report a problem. The fold decides whether it is about a sync."""

    wording: str
    """A hash of the wording, to count how often it occurs when no sync is in progress."""
    source: str = ""
    """The source file that logged it, such as `sync.go`."""
    statement: str = ""
    """A hash of the place in the source that logged it, since its text may contain a name; empty if unknown."""
    tied: bool = False
    """Whether it counts only if its correlation id or its source file ties it to an attempt."""


class ServiceStarted(msgspec.Struct, frozen=True):
    """A new run of the Licenses service began (inferred: no published line reports it)."""


class AccessGranted(msgspec.Struct, frozen=True):
    """A user was granted access (qlik-facts 2, inferred), which is impossible with a stale license."""


class LicenseInUse(msgspec.Struct, frozen=True):
    """A user used the service or the hub and was not refused. Reported only while silence proves nothing."""

    kind: str
    """A hash of what was requested."""


class LicenseStale(msgspec.Struct, frozen=True):
    """The service reported that its license is stale: everyone is refused from now on (qlik-facts 1, seen)."""


class LicenseError(msgspec.Struct, frozen=True):
    """The license was refused for another reason. Does not fail a sync (case A4: the administrator's key trick)."""

    error: ErrorClass
    service: bool = False
    """Whether the entry carries a code of the Licenses service, which shows that the service manages the license."""
    trouble: SyncTrouble | None = None
    """What it says about a sync, if it may be about one."""


class AccessDenied(msgspec.Struct, frozen=True):
    """A user, or an allocation, was refused (qlik-facts 2)."""

    reason: DenialReason
    user: str = ""
    r"""`DIRECTORY\id` as logged; empty where no user is named. Hashed before it is kept, never exposed."""


class SevereEntry(msgspec.Struct, frozen=True):
    """A license logger of the Repository's trace logs wrote at WARN, ERROR or FATAL (qlik-facts 3)."""

    level: SevereLevel


class ProbeFinished(msgspec.Struct, frozen=True):
    """A probe of `target` ended at `at`. A failed one with the role `backend` makes a pending sync unclear."""

    target: str
    role: str
    at: float
    success: bool | None
    """None: not judged."""


class QrsLicenseRead(msgspec.Struct, frozen=True):
    """The Repository API reported when the license was last refreshed (qlik-facts 4, meaning inferred)."""

    updated: float


class SettleDue(msgspec.Struct, frozen=True):
    """The licenses log has been read to its end at `at` and nothing more has come."""

    at: float


LogEvent = (
    SyncAttempted
    | SyncSucceeded
    | SyncFailed
    | SyncTrouble
    | ServiceStarted
    | LicenseStale
    | LicenseError
    | AccessDenied
    | AccessGranted
    | SevereEntry
)
"""What one log record can mean."""

OutsideEvent = ProbeFinished | QrsLicenseRead | SettleDue
"""The events from sources other than logs."""
