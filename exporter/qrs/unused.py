"""Interprets the counts of seats that nobody uses. Pure.

Endpoints and filters: qlik-facts 4. Only numbers are requested, and no names.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from exporter.qrs.failure import QrsError
from exporter.qrs.fields import Findings, Part
from exporter.qrs.overview import (
    AccessType,
    AccessTypeName,
    DaysUnused,
    Holder,
    LicenseOverview,
    Unused,
    UnusedOverview,
    UnusedSeats,
)

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
    findings = Findings()
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


def _holders(answers: Mapping[HolderCount, object], total: float, path: str, findings: Findings) -> dict[Holder, float]:
    found: dict[Holder, float] = {}
    for holder, name in HOLDERS.items():
        numbers = []
        for value in (True, False):
            answer = answers[holder, value]
            part = Part(answer if isinstance(answer, dict) else {}, path, Findings())
            numbers.append(part.number("value"))
        yes, no = numbers
        # A deleted user's seat is in neither half. An ignored filter gives all twice, one that selects nothing 0.
        if yes is not None and no is not None and yes + no <= total and (yes + no > 0 or total == 0):
            found[holder] = yes
        else:
            findings.note(f"holders: {path} does not understand a filter by user.{name}, or may not see users")
    return found


def _unused(
    answers: Mapping[CountName, object], known: AccessType, path: str, findings: Findings
) -> UnusedSeats | None:
    counts: dict[CountName, float] = {}
    for name, answer in answers.items():
        if not isinstance(answer, dict):
            findings.problem(f"seats: {path} is not an object")
            return None
        number = Part(answer, f"seats: {path}", findings).number("value")
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
