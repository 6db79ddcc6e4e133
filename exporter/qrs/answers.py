"""Interprets the decoded answers of the Repository API. Pure.

Fields: qlik-facts 4. What an answer does not contain is None, never 0; what is missing, renamed or not understood is
counted and named. No serial number, key, owner or user leaves this module.
"""

import re
from collections import Counter
from datetime import datetime

from exporter.printable import printable
from exporter.qrs.endpoint import repository
from exporter.qrs.failure import no_json
from exporter.qrs.fields import LARGEST_NUMBER, Findings, Part
from exporter.qrs.overview import (
    AccessType,
    AccessTypeName,
    LicenseKind,
    LicenseOverview,
)
from exporter.qrs.valid_to import FIRST_YEAR, ending_of

LICENSE = "/qrs/license"
ACCESS = "/qrs/license/accesstypeoverview"
SESSIONS = "/qps/session"
LONGEST_QUOTE = 40
"""Characters of a date's form that a note shows."""
LONGEST_PRODUCT = 64
"""Characters of a product's name as a label."""
FURTHEST_AHEAD = 300.0
"""Seconds that the Repository's clock may be ahead of ours before its times are ignored."""


def overview_of(
    license_answer: object,
    access_answer: object,
    sessions_answer: object = None,
    *,
    read_at: float,
    sessions_failure: str = "",
) -> LicenseOverview:
    """The overview in the decoded answers of the three endpoints. Pure. Raises QrsError if one is not a license."""
    findings = Findings()
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
    license_ = Part(_object(license_answer, LICENSE), "license", findings)
    access = Part(_object(access_answer, ACCESS), "accesstypeoverview", findings)
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


def _access(overview: Part) -> dict[AccessTypeName, AccessType]:
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


def _knows(license_: Part, name: str) -> bool:
    """Whether the answer is from a release with the field: those without signed keys do not have it."""
    return name in license_.fields or "key" in license_.fields or "keyDetails" in license_.fields


def _is_of_tokens(overview: Part) -> bool:
    """Whether the answer is from a release that knows tokens only."""
    return not {"professionalAccess", "analyzerAccess"} & set(overview.fields) and {"userAccess", "totalTokens"} <= set(
        overview.fields
    )


def _tokens_enabled(overview: Part) -> bool | None:
    if "tokensEnabled" in overview.fields or not _is_of_tokens(overview):
        return overview.flag("tokensEnabled")
    return True


def _kind(license_: Part) -> LicenseKind | None:
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


def _valid(license_: Part) -> bool | None:
    invalid, blacklisted = license_.flag("isInvalid"), license_.flag("isBlacklisted")
    if invalid or blacklisted:
        return False
    return None if invalid is None or blacklisted is None else True


def _product(license_: Part) -> str | None:
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


def _most_sessions(answer: object, findings: Findings) -> float | None:
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


def _updated(license_: Part, read_at: float) -> float | None:
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


def _expiry(license_: Part, kind: LicenseKind | None) -> float | None:
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
