"""Interprets the decoded answers of the Repository API. Pure.

Fields: qlik-facts 4. What an answer does not contain is None, never 0; what is missing, renamed or not understood is
counted and named. No serial number, key, owner or user leaves this module.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from exporter.printable import printable
from exporter.qrs.endpoint import repository
from exporter.qrs.failure import QrsError, no_json
from exporter.qrs.overview import (
    AccessType,
    AccessTypeName,
    DaysUnused,
    Holder,
    LicenseKind,
    LicenseOverview,
    Unused,
    UnusedOverview,
    UnusedSeats,
)
from exporter.qrs.valid_to import FIRST_YEAR, ending_of

LICENSE = "/qrs/license"
ACCESS = "/qrs/license/accesstypeoverview"
SESSIONS = "/qps/session"

SEATS: dict[AccessTypeName, str] = {
    "professional": "/qrs/license/professionalaccesstype/count",
    "analyzer": "/qrs/license/analyzeraccesstype/count",
}
"""Where the allocated seats of a kind are counted: the answer is a number and names nobody."""

HOLDERS: dict[Holder, str] = {"removed": "removedExternally", "inactive": "inactive", "blocked": "blacklisted"}
"""The fields of a user (seen) that tell why the holder of a seat does not use it."""

DAYS_UNUSED: dict[DaysUnused, int] = {"90d": 90, "60d": 60, "30d": 30}
LONG_AGO, FAR_AHEAD = datetime(1900, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, tzinfo=UTC)
"""Every date of use is between the two: Qlik writes 1753-01-01 for "no date"."""

LARGEST_NUMBER = 1e12
"""No count of seats, tokens or minutes is larger: beyond it a number is not understood."""
MOST_NOTES = 20
"""Sentences kept of one read; all problems are counted."""
LONGEST_QUOTE = 40
"""Characters of a date's form that a note shows."""
LONGEST_PRODUCT = 64
"""Characters of a product's name as a label."""
FURTHEST_AHEAD = 300.0
"""Seconds that the Repository's clock may be ahead of ours before its times are ignored."""

_FAMILIAR = frozenset(
    re.findall(
        r"\w+",
        """
        id createdDate modifiedDate modifiedByUserName lef serial check key keyDetails name organization product
        numberOfCores isExpired expiredReason isBlacklisted isInvalid isSubscription isCloudServices isElastic updated
        privileges schemaPath totalTokens availableTokens tokensEnabled userAccess loginAccess professionalAccess
        analyzerAccess analyzerTimeAccess enabled tokenCost allocatedTokens usedTokens quarantinedTokens
        unavailableTokens total allocated used quarantined excess available allocatedMinutes usedMinutes
        unavailableMinutes
        """,
    )
)
"""Every field name seen in public sources: others, beside a missing one, are what it may have been renamed to."""


@dataclass
class _Findings:
    """The problems and notes of one read."""

    notes: list[str] = field(default_factory=list)
    problems: int = 0

    def note(self, sentence: str) -> None:
        if len(self.notes) < MOST_NOTES and sentence not in self.notes:
            self.notes.append(sentence)

    def problem(self, sentence: str) -> None:
        self.problems += 1
        self.note(sentence)


@dataclass
class _Part:
    """One JSON object of an answer. A field that is missing or not understood is None, counted, and named."""

    fields: dict[str, object]
    path: str
    findings: _Findings

    def value(self, name: str) -> object:
        if name in self.fields:
            return self.fields[name]
        others = [other for other in self.fields if other not in _FAMILIAR and re.fullmatch(r"\w{1,40}", other)]
        hint = f" (not known here: {', '.join(others[:5])})" if others else ""
        self.findings.problem(f"{self.path}.{name} is missing{hint}")
        return None

    def has(self, name: str) -> bool:
        """Whether the field is there. One that some releases do not have is missing only if it seems to be renamed."""
        return name in self.fields or any(other not in _FAMILIAR for other in self.fields)

    def enabled_part(self, name: str) -> "_Part | None":
        """The object called `name` if it says `enabled`; null is "there is none", and no problem."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.findings.problem(f"{self.path}.{name} is not an object")
            return None
        part = _Part(value, f"{self.path}.{name}", self.findings)
        return part if part.flag("enabled") else None

    def flag(self, name: str) -> bool | None:
        value = self.value(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if isinstance(value, bool):
            return value
        self._not_understood(name)
        return None

    def number(self, name: str, least: float = 0.0) -> float | None:
        value = self.value(name)
        number = math.nan
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\s*", value):
            number = float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) <= LARGEST_NUMBER else math.inf
        if least <= number <= LARGEST_NUMBER:
            return number
        self._not_understood(name)
        return None

    def seconds(self, name: str) -> float | None:
        """A number of minutes, in seconds."""
        minutes = self.number(name)
        return None if minutes is None else minutes * 60

    def holds_text(self, name: str) -> bool:
        value = self.fields.get(name)
        return isinstance(value, str) and bool(value.strip())

    def _not_understood(self, name: str) -> None:
        if name in self.fields:
            found = "null" if self.fields[name] is None else "not understood"
            self.findings.problem(f"{self.path}.{name} is {found}")


def overview_of(
    license_answer: object,
    access_answer: object,
    sessions_answer: object = None,
    *,
    read_at: float,
    sessions_failure: str = "",
) -> LicenseOverview:
    """The overview in the decoded answers of the three endpoints. Pure. Raises QrsError if one is not a license."""
    findings = _Findings()
    sessions = None
    if sessions_failure:
        findings.problem(f"sessions: {sessions_failure}")
    elif sessions_answer is not None:
        sessions = _most_sessions(sessions_answer, findings)
    if license_answer is None:
        findings.note("no license is set, or qrs.user cannot see it")
        return LicenseOverview(
            read_at=read_at,
            sessions_per_user_max=sessions,
            notes=tuple(findings.notes),
            problems=findings.problems,
        )
    license_ = _Part(_object(license_answer, LICENSE), "license", findings)
    access = _Part(_object(access_answer, ACCESS), "accesstypeoverview", findings)
    kind = _kind(license_)
    capacity = access.enabled_part("analyzerTimeAccess") if access.has("analyzerTimeAccess") else None
    tokens = _tokens_enabled(access)
    return LicenseOverview(
        read_at=read_at,
        expiry=_expiry(license_, kind),
        expired=license_.flag("isExpired"),
        valid=_valid(license_),
        kind=kind,
        product=_product(license_),
        subscription=license_.flag("isSubscription") if _knows(license_, "isSubscription") else None,
        access=_access(access),
        capacity_allocated=capacity.seconds("allocatedMinutes") if capacity else None,
        capacity_used=capacity.seconds("usedMinutes") if capacity else None,
        capacity_unavailable=capacity.seconds("unavailableMinutes") if capacity else None,
        tokens=access.number("totalTokens") if tokens else None,
        tokens_available=access.number("availableTokens", least=-LARGEST_NUMBER) if tokens else None,
        sessions_per_user_max=sessions,
        updated=_updated(license_, read_at),
        notes=tuple(findings.notes),
        problems=findings.problems,
    )


def _object(answer: object, path: str) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise no_json(repository("", path), "JSON that is not an object")
    return answer


def _access(overview: _Part) -> dict[AccessTypeName, AccessType]:
    names: dict[AccessTypeName, str] = {"professional": "professionalAccess", "analyzer": "analyzerAccess"}
    return {
        name: AccessType(
            licenses=part.number("total"),
            allocated=part.number("allocated"),
            used=part.number("used"),
            available=part.number("available", least=-LARGEST_NUMBER),
            quarantined=part.number("quarantined"),
            excess=part.number("excess") if part.has("excess") else None,
        )
        for name, field_name in names.items()
        if not _is_of_tokens(overview) and (part := overview.enabled_part(field_name))
    }


def _knows(license_: _Part, name: str) -> bool:
    """Whether the answer is from a release with the field: those without signed keys do not have it."""
    return name in license_.fields or "key" in license_.fields or "keyDetails" in license_.fields


def _is_of_tokens(overview: _Part) -> bool:
    """Whether the answer is from a release that knows tokens only."""
    return not {"professionalAccess", "analyzerAccess"} & set(overview.fields) and {"userAccess", "totalTokens"} <= set(
        overview.fields
    )


def _tokens_enabled(overview: _Part) -> bool | None:
    if "tokensEnabled" in overview.fields or not _is_of_tokens(overview):
        return overview.flag("tokensEnabled")
    return True


def _kind(license_: _Part) -> LicenseKind | None:
    """A signed key has a `key`; the older kind has a serial number (or the LEF text) without one."""
    if license_.holds_text("key"):
        return "signed_key"
    if "key" not in license_.fields and license_.holds_text("keyDetails"):
        license_.value("key")  # counted as missing: details of a key without the key
        return "signed_key"
    if license_.holds_text("serial") or license_.holds_text("lef"):
        return "lef"
    license_.findings.problem("license names neither a key nor a serial number")
    return None


def _valid(license_: _Part) -> bool | None:
    invalid, blacklisted = license_.flag("isInvalid"), license_.flag("isBlacklisted")
    if invalid or blacklisted:
        return False
    return None if invalid is None or blacklisted is None else True


def _product(license_: _Part) -> str | None:
    """A number or a name (both seen in public sources), fit for a label."""
    value = license_.value("product")
    if isinstance(value, str) and (product := printable(value[:1024], LONGEST_PRODUCT)):
        return product
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER:
        return str(value)
    if value is not None:
        license_.findings.problem("license.product cannot be parsed")
    return None


def _form_of(text: str) -> str:
    """`00/00/0000` for a date: the text may be anything, and goes into our own log."""
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "0", printable(text[:1024], LONGEST_QUOTE)))


def _most_sessions(answer: object, findings: _Findings) -> float | None:
    """The most open sessions that any one user holds at this proxy: a lower bound, since a site has several."""
    if not isinstance(answer, list):
        findings.problem(f"GET {SESSIONS} answered with JSON that is not a list")
        return None
    held: Counter[tuple[str, str]] = Counter()
    for entry in answer:
        names = {key.lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
        directory, user = names.get("userdirectory"), names.get("userid")
        if isinstance(directory, str) and isinstance(user, str) and user:
            held[directory.casefold(), user.casefold()] += 1
    if answer and not held:
        findings.problem(f"GET {SESSIONS} answered with sessions that name no UserDirectory and UserId")
        return None
    return float(max(held.values(), default=0))


def _updated(license_: _Part, read_at: float) -> float | None:
    value = license_.value("updated") if _knows(license_, "updated") else None
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        license_.findings.problem("license.updated is not a time with a time zone")
        return None
    if moment.year < FIRST_YEAR:  # Qlik writes 1753-01-01 for "never"
        return None
    if moment.timestamp() > read_at + FURTHEST_AHEAD:
        license_.findings.problem("license.updated is in the future: compare the clocks")
        return None
    return moment.timestamp()


def _expiry(license_: _Part, kind: LicenseKind | None) -> float | None:
    """The end of the license, see `valid_to`; None if perpetual or not understood."""
    findings = license_.findings
    details = license_.value("keyDetails") if kind == "signed_key" else license_.fields.get("keyDetails")
    if not isinstance(details, str) or not details.strip():
        if kind == "signed_key" and "keyDetails" in license_.fields:
            findings.problem("license.keyDetails is empty: expiry not known")
        return None
    ending = ending_of(details)
    for text in ending.not_understood:
        findings.problem(f"license.keyDetails: Valid To, of the form `{_form_of(text)}`, is not an unambiguous date")
    if ending.other_name:
        findings.problem(f"license.keyDetails has no Valid To, but `{ending.other_name}`: expiry not known")
    elif not ending.named:
        findings.note("license.keyDetails has no Valid To: considered perpetual")
    return ending.at


# --- seats that nobody uses ------------------------------------------------------------------------------------------

CountName = DaysUnused | Literal["never dated", "dated", "all"]


def filters_at(now: float) -> dict[CountName, str]:
    """The counts that show how long seats have not been used, each with its filter; an empty one counts all.

    Only `le` is used, which is known from production. A seat without any date is in none but the last.
    """
    today = datetime.fromtimestamp(now, UTC)
    until: dict[CountName, datetime] = {"never dated": LONG_AGO}
    until |= {name: today - timedelta(days=days) for name, days in DAYS_UNUSED.items()}
    until["dated"] = FAR_AHEAD
    said = {name: f"lastUsed le '{at:%Y-%m-%dT%H:%M:%S}.000Z'" for name, at in until.items()}
    return {**said, "all": ""}


HolderCount = tuple[Holder, bool]
"""Who is counted, and whether it is those for whom it is true, or the others."""


def holder_filters() -> dict[HolderCount, str]:
    """The counts that tell how many seats are held by people who are gone, each with its filter.

    That a filter may name a field of the user is inferred, so both halves are counted: they prove each other.
    """
    return {
        (holder, value): f"user.{name} eq {str(value).lower()}"
        for holder, name in HOLDERS.items()
        for value in (True, False)
    }


def unused_of(
    answers: Mapping[AccessTypeName, Mapping[CountName, object] | QrsError],
    overview: LicenseOverview,
    *,
    read_at: float,
    holders: Mapping[AccessTypeName, Mapping[HolderCount, object] | QrsError] | None = None,
) -> UnusedOverview:
    """What the decoded counts of each kind of seat say, beside the `overview` of the same minute. Pure.

    A user without the right to see seats may get zeros instead of a refusal: a count that disagrees with the overview
    is not used.
    """
    findings = _Findings()
    access = {}
    for name, answer in answers.items():
        path = SEATS[name].removeprefix("/qrs/license/")
        if isinstance(answer, QrsError):
            findings.problem(f"seats: {answer}")
        elif seats := _unused(answer, overview.access[name], path, findings):
            access[name] = seats
    held = {}
    for name, counts in (holders or {}).items():
        if isinstance(counts, QrsError):
            findings.note(f"holders: {counts}")
        elif name in access:
            path = SEATS[name].removeprefix("/qrs/license/")
            held[name] = _holders(counts, access[name].allocated, path, findings)
    return UnusedOverview(
        read_at=read_at, access=access, holders=held, notes=tuple(findings.notes), problems=findings.problems
    )


def _holders(
    answers: Mapping[HolderCount, object], total: float, path: str, findings: _Findings
) -> dict[Holder, float]:
    found: dict[Holder, float] = {}
    for holder, name in HOLDERS.items():
        numbers = []
        for value in (True, False):
            answer = answers[holder, value]
            part = _Part(answer if isinstance(answer, dict) else {}, path, _Findings())
            numbers.append(part.number("value"))
        yes, no = numbers
        # A deleted user's seat is in neither half. An ignored filter gives all twice, one that selects nothing 0.
        if yes is not None and no is not None and yes + no <= total and (yes + no > 0 or total == 0):
            found[holder] = yes
        else:
            findings.note(f"holders: {path} does not understand a filter by user.{name}, or may not see users")
    return found


def _unused(
    answers: Mapping[CountName, object], known: AccessType, path: str, findings: _Findings
) -> UnusedSeats | None:
    counts: dict[CountName, float] = {}
    for name, answer in answers.items():
        if not isinstance(answer, dict):
            findings.problem(f"seats: {path} is not an object")
            return None
        number = _Part(answer, f"seats: {path}", findings).number("value")
        if number is None:
            return None
        counts[name] = number
    total = counts["all"]
    if known.allocated is None:
        findings.problem(f"seats: {path} cannot be compared, since the overview does not say how many are allocated")
    elif total < known.allocated:
        findings.problem(
            f"seats: {path} is {total:,.0f}, but {known.allocated:,.0f} are allocated: qrs.user has no right to read "
            "them all"
        )
    elif sorted(counts.values()) != list(counts.values()):
        findings.problem(f"seats: {path} is larger for longer ago: its filter was not understood, or seats changed")
    elif total and counts["never dated"] == total and known.used:
        findings.problem(
            f"seats: {path} says that none was ever used, but {known.used:,.0f} were: its filter is ignored"
        )
    else:
        never = total - counts["dated"] + counts["never dated"]
        unused: dict[Unused, float] = {name: counts[name] - counts["never dated"] for name in reversed(DAYS_UNUSED)}
        return UnusedSeats(total, {**unused, "never": never})
    return None
