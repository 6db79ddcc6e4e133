"""The rules of seats, capacity and expiry, as the Repository API reports them."""

from exporter.qrs.overview import Holder
from exporter.verdict.evidence import Evidence, were
from exporter.verdict.finding import Finding
from exporter.wording import count, instant, listed, span


def seat_sentences(seen: Evidence) -> list[str]:
    """How many seats are available, and how many nobody uses; empty without the Repository API."""
    if seen.qrs is None:
        return []
    left = [
        f"{seats.available:.0f} of {seats.licenses:.0f} {name} seats are available"
        + (f"; in quarantine: {seats.quarantined:.0f}." if seats.quarantined else ".")
        for name, seats in seen.qrs.access.items()
        if seats.available is not None and seats.licenses is not None
    ]
    return left + unused_sentences(seen)


def unused_sentences(seen: Evidence) -> list[str]:
    """Seats that could be given to others, by the longest time for which any was not used; names no user."""
    sentences = []
    for name, seats in seen.unused.access.items() if seen.unused else ():
        allocated = count(seats.allocated, f"{name} seat")
        longest = next(((days, seats.unused[days]) for days in ("90d", "60d", "30d") if seats.unused[days]), None)
        said = []
        if longest is not None:
            days, number = longest
            said.append(f"{number:,.0f} of {allocated} {were(number)} not used for {days.removesuffix('d')} days")
        if never := seats.unused["never"]:
            said.append(f"{never:,.0f} {f'of {allocated} ' if not said else ''}{were(never)} never used")
        if said:
            sentences.append(f"{', '.join(said)}.")
        holders = seen.unused.holders.get(name, {}) if seen.unused else {}
        gone = [f"{held:,.0f} by {words}" for holder, words in _HOLDERS.items() if (held := holders.get(holder))]
        if gone:
            sentences.append(f"Of {allocated}, some are held by people who are gone: {listed(gone)}.")
    return sentences


_HOLDERS: dict[Holder, str] = {
    "removed": "users removed from their directory",
    "inactive": "inactive users",
    "blocked": "blocked users",
}


def seats_exhausted(seen: Evidence) -> list[Finding]:
    """All seats of a kind are allocated."""
    if seen.qrs is None:
        return []
    refused = bool(seen.refused or seen.denials("no_access_pass") or seen.denials("allocation_refused"))
    gone = [
        name
        for name, seats in seen.qrs.access.items()
        if seats.available is not None and seats.available <= 0 and seats.licenses
    ]
    if not gone or not refused:
        return []
    return [
        Finding(
            verdict="seats_exhausted",
            severity="warning",
            summary=f"No {' or '.join(gone)} seat is left, and users are refused.",
            users_see=f"New users: {seen.product.refusal}",
            evidence=(*seat_sentences(seen), *seen.refused_sentences()),
            cure=(
                "In the QMC, License management: take seats from users who have left or do not use them. They are free "
                "after seven days of quarantine.",
                "Sites that share a license key share its seats: check the other sites, too.",
            ),
            alert="QlikLicenseSeatsExhausted",
        )
    ]


def capacity_exhausted(seen: Evidence) -> list[Finding]:
    """The analyzer minutes of the month are used up, or nearly."""
    overview = seen.qrs
    if overview is None or not overview.capacity_allocated or overview.capacity_used is None:
        return []
    share = overview.capacity_used / overview.capacity_allocated
    if share <= seen.limits.capacity_share:
        return []
    gone = share >= 1
    return [
        Finding(
            verdict="capacity_exhausted",
            severity="warning",
            summary="The analyzer capacity of this month is used up."
            if gone
            else f"The analyzer capacity of this month is nearly used up: {share:.0%}.",
            users_see="Capacity users are refused until the first of next month."
            if gone
            else "Nothing yet. When the minutes are used up, capacity users are refused until the first of next month.",
            evidence=(
                f"{overview.capacity_used / 60:,.0f} of {overview.capacity_allocated / 60:,.0f} minutes are used.",
            ),
            cure=("Buy more minutes, or give the most active users analyzer seats.",),
            alert="QlikLicenseCapacityNearlyExhausted",
        )
    ]


def license_expiring(seen: Evidence) -> list[Finding]:
    """The last day of the license is near."""
    overview = seen.qrs
    if overview is None or overview.expiry is None or overview.expired:
        return []
    left = overview.expiry - seen.now
    if not 0 <= left < seen.limits.expiring[0]:
        return []
    return [
        Finding(
            verdict="license_expiring",
            severity="critical" if left < seen.limits.expiring[2] else "warning",
            summary=f"The license expires in {span(left)}.",
            users_see="Nothing yet. After that everyone is refused.",
            evidence=(f"According to the Repository API it is valid until {instant(overview.expiry)}.",),
            cure=(
                "Order the renewal. A signed key is refreshed by the next contact with the backend; an offline "
                "definition must be applied by hand.",
            ),
            alert="QlikLicenseExpiringSoon",
        )
    ]
