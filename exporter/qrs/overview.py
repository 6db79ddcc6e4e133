"""What the Repository API reports about the license in one read. Data only."""

from typing import Literal

import msgspec

LicenseKind = Literal["signed_key", "lef"]
AccessTypeName = Literal["professional", "analyzer"]
DaysUnused = Literal["30d", "60d", "90d"]
Unused = DaysUnused | Literal["never"]
Holder = Literal["removed", "inactive", "blocked"]


class AccessType(msgspec.Struct, frozen=True):
    """The seats of one kind. None: the Repository did not say."""

    licenses: float | None
    allocated: float | None
    used: float | None
    available: float | None
    """Negative where more is allocated than owned."""
    quarantined: float | None
    excess: float | None


class UnusedSeats(msgspec.Struct, frozen=True):
    """How many of the allocated seats of one kind have not been used for long."""

    allocated: float
    """The seats that were counted. Those in quarantine may be among them."""
    unused: dict[Unused, float]
    """By the time since their last use. A seat not used for 90 days is counted as `60d` and `30d`, too; one that was
    never used as `never` only."""


class UnusedOverview(msgspec.Struct, frozen=True, kw_only=True):
    """What one count of the seats that nobody uses found."""

    read_at: float
    access: dict[AccessTypeName, UnusedSeats] = {}
    """Only the kinds of seat whose count can be trusted."""
    holders: dict[AccessTypeName, dict[Holder, float]] = {}
    """Seats held by users who were removed from their directory, are inactive, or are blocked. Only the counts that can
    be trusted; one user may be in several.
    """
    notes: tuple[str, ...] = ()
    """Sentences: which kind could not be counted, and why; about holders, they start with `holders: `. No secrets."""
    problems: int = 0
    """How many kinds could not be counted. A count of holders that is missing is none: its filter is not documented."""


class LicenseOverview(msgspec.Struct, frozen=True, kw_only=True):
    """What one read found. None: not known, so not exposed. Instants in seconds since 1970."""

    read_at: float
    expiry: float | None = None
    """The last second (UTC) of the earliest `Valid To` day; None if perpetual or unknown."""
    expired: bool | None = None
    valid: bool | None = None
    """False if the Repository reports the license as invalid or blacklisted; for its expiry see `expired`."""
    kind: LicenseKind | None = None
    product: str | None = None
    subscription: bool | None = None
    access: dict[AccessTypeName, AccessType] = {}
    """Only the kinds of seat that are enabled."""
    capacity_allocated: float | None = None
    """Seconds in this calendar month, like the two below."""
    capacity_used: float | None = None
    capacity_unavailable: float | None = None
    tokens: float | None = None
    tokens_available: float | None = None
    sessions_per_user_max: float | None = None
    updated: float | None = None
    """`license.updated`; that it is the last refresh is inferred (qlik-facts 4)."""
    notes: tuple[str, ...] = ()
    """Sentences: what was missing, renamed or not understood, and how it was interpreted. No secrets."""
    problems: int = 0
    """How many fields were missing or not understood."""
