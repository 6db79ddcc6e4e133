"""The rules of all but the sync: stale or expired licenses, refused users, seats, capacity, and unreadable logs."""

from collections.abc import Callable

from exporter.events import LogName
from exporter.license import INVALID_PAUSE
from exporter.masking import masked
from exporter.probes import CURES
from exporter.qrs.overview import Holder
from exporter.verdict.evidence import Evidence, failed_probe, were
from exporter.verdict.finding import Finding
from exporter.verdict.limits import DAY
from exporter.verdict.phrases import (
    CONFIRM,
    NOTHING,
    SILENCE_DOUBTED,
    TRY_THE_WAY,
)
from exporter.verdict.sync import way_cure
from exporter.wording import ago, count, instant, listed, span

# --- the license is stale, expired or invalid ------------------------------------------------------------------------


def _license_stale(seen: Evidence) -> list[Finding]:
    verdict_at = seen.state.stale_verdict
    if not seen.stale or verdict_at is None:
        return []
    age = seen.now - verdict_at
    evidence = [
        f"The Licenses service reported its license as stale at {seen.at(verdict_at)}, and no successful sync is "
        "known since.",
        seen.success_sentence(),
    ]
    if seen.state.last_attempt is not None and (seen.success is None or seen.state.last_attempt > seen.success):
        evidence.append(f"A sync was attempted at {seen.at(seen.state.last_attempt)}; an attempt is not a success.")
    evidence += seen.refused_sentences() + seen.repository_sentences() + seen.probe_sentences()
    if seen.state.sync.doubted:
        evidence.append(SILENCE_DOUBTED)
    if seen.dead:
        cure = [*way_cure(seen), seen.product.restart, *seen.product.force, CONFIRM]
        if seen.good is not None and seen.bad is None:
            evidence.append("So the network is not the problem now; what is missing is a sync.")
            cure = [seen.product.restart, *seen.product.force, seen.product.service_proxy, CONFIRM]
        return [
            Finding(
                verdict="license_stale",
                severity="critical",
                summary="The license is stale: Qlik has not verified it for too long, and refuses everyone.",
                users_see=seen.product.everyone_sees,
                evidence=tuple(evidence),
                cure=tuple(cure),
                alert="QlikLicenseStale",
            )
        ]
    return [
        Finding(
            verdict="license_stale",
            severity="warning",
            summary=f"The license was reported stale {span(age)} ago, and no successful sync is known since.",
            users_see=f"Perhaps nothing, perhaps {seen.product.refusal} Ask a user.",
            evidence=tuple(evidence),
            cure=(
                f"{seen.product.try_it} If that works, a sync has succeeded without being recognised.",
                "Then run `qlik-license-exporter explain --unknown` on the Licenses log, and add its message under "
                "`messages:`.",
                f"If it does not work, restore the connection to the backend. {seen.product.restart}",
            ),
            alert="QlikLicenseStaleUnconfirmed",
        )
    ]


_RENEW = (
    "Get the renewed license from your Qlik partner, and apply it in the QMC, License management.",
    "If it was renewed already: a signed key is refreshed within a day of contact with the backend; force a sync. An "
    "offline definition must be applied by hand.",
)
_WRONG_KEY = (
    "In the QMC, License management, Site license: compare the key with that of your order, and apply the correct one.",
    "If the key is correct, ask your Qlik partner: a deny-listed key can only be replaced by Qlik.",
)


def _license_expired(seen: Evidence) -> list[Finding]:
    overview = seen.qrs
    if overview is None:
        return []
    past = overview.expiry is not None and overview.expiry < seen.now
    if not (overview.expired or past or overview.valid is False):
        return []
    invalid = overview.valid is False and not (overview.expired or past)
    evidence = [f"The Repository API was read at {seen.at(overview.read_at)}."]
    if overview.expiry is not None:
        evidence.append(f"The license is valid until {instant(overview.expiry)}.")
    if past and overview.expired is False:
        evidence.append("The Repository itself does not report it as expired, which contradicts this date.")
    return [
        Finding(
            verdict="license_expired",
            severity="critical",
            summary="Qlik reports the license as invalid." if invalid else "The license has expired.",
            users_see=seen.product.everyone_sees,
            evidence=(*evidence, *seen.refused_sentences()),
            cure=_WRONG_KEY if invalid else _RENEW,
            alert="QlikLicenseInvalid" if invalid else "QlikLicenseExpired",
        )
    ]


def _contradicted(seen: Evidence) -> list[Finding]:
    """A license that is configured as never synchronising, although the log shows otherwise."""
    if not seen.offline:
        return []
    state, kind = seen.state, f"`license.kind: {seen.rules.kind}`"
    stale, attempt = state.stale_verdict, state.last_attempt
    invalid = state.last_error.get("invalid") if seen.invalid_for() >= INVALID_PAUSE else None
    said = []
    if stale is not None and seen.now - stale < seen.limits.stale_recent:
        said.append(f"The Licenses service reported its license as stale at {seen.at(stale)}.")
    if invalid is not None:
        said.append(
            f"It has reported the license as invalid for {span(seen.invalid_for())}, last at {seen.at(invalid)}."
        )
    if attempt is not None and seen.now - attempt < DAY:
        said.append(f"It attempted a sync with the backend at {seen.at(attempt)}.")
    if not said:
        return []
    refused = seen.refused >= seen.limits.denied_users
    dead = stale is not None and seen.now - stale < seen.limits.stale_recent
    never = f"although {kind} says that the license never synchronises"
    if dead:
        summary = f"The license is reported stale, {never}."
    elif invalid is not None:
        summary = f"The license, which is configured as {kind}, is reported invalid."
    else:
        summary = f"Syncs are attempted, {never}."
    return [
        Finding(
            verdict="license_stale" if dead else "license_expired" if invalid is not None else "not_enough_evidence",
            severity="critical" if refused and (dead or invalid is not None) else "warning",
            summary=summary,
            users_see=f"Perhaps nothing, perhaps {seen.product.refusal} Ask a user."
            if dead or invalid is not None
            else "Nothing, as far as is known.",
            evidence=(*said, *seen.refused_sentences(), *seen.repository_sentences()),
            cure=(
                "In the QMC, License management: which kind of license is set? Configure `license.kind` accordingly, "
                "or remove it: `auto` follows what the service does.",
                *((seen.product.restart, *seen.product.force) if dead else ()),
            ),
            alert="",
        )
    ]


def _invalid(seen: Evidence) -> list[Finding]:
    """A license that the service reports as invalid for a day: forcing a sync causes that for minutes only."""
    if seen.offline or seen.invalid_for() < DAY:
        return []
    return [
        Finding(
            verdict="license_expired",
            severity="critical" if seen.refused >= seen.limits.denied_users else "warning",
            summary=f"The Licenses service has reported the license as invalid for {span(seen.invalid_for())}.",
            users_see=f"Perhaps nothing, perhaps {seen.product.refusal} Ask a user.",
            evidence=(
                f"The last time was at {seen.at(seen.state.last_error['invalid'])}. Forcing a sync causes this for "
                "minutes, not for a day.",
                seen.success_sentence(),
                *seen.refused_sentences(),
                *seen.repository_sentences(),
            ),
            cure=(
                "In the QMC, License management: is the key complete and correct? Apply it again.",
                "If it is, ask Qlik Support why the key is rejected.",
            ),
            alert="",
        )
    ]


def _repository_down(seen: Evidence) -> list[Finding]:
    bad = seen.repository_bad
    if bad is None:
        return []
    evidence = [failed_probe(bad, seen)]
    last_row = seen.state.last_entry.get("repository_audit")
    if last_row is not None:
        evidence.append(f"The Repository's audit log was last written at {seen.at(last_row)}.")
    evidence.append("Refusals that this causes are not in the audit log.")
    return [
        Finding(
            verdict="repository_down",
            severity="critical",
            summary="The Repository of this node does not answer the probe as expected: users may be refused, or "
            "unable to open the hub, whatever the state of the license.",
            users_see="Users of this node may see refusals that look like a license problem, or no hub at all.",
            evidence=tuple(evidence),
            cure=(
                CURES[bad.reason] if bad.reason else TRY_THE_WAY,
                "Start the Windows service Qlik Sense Repository Service. If it is running, check the Repository "
                "Database.",
            ),
            alert="QlikLicenseRepositoryDown",
        )
    ]


# --- refused users ---------------------------------------------------------------------------------------------------


def _refusals(seen: Evidence) -> list[Finding]:
    """Users that are refused although the license is good; otherwise refusals are evidence of its problem."""
    parallel = [_parallel(seen)] if seen.parallel or seen.denials("parallel_sessions") else []
    if seen.dead or seen.overdue_lockout or (seen.qrs is not None and seen.qrs.expired):
        return parallel
    findings = parallel
    denials, allocations = seen.denials("no_access_pass"), seen.denials("allocation_refused")
    good = seen.success_sentence() if seen.expected else "No problem with the license itself is known."
    seats = _seat_sentences(seen)
    though = (
        "and it is not certain whether the license is stale"
        if seen.stale
        else "although the license is not known to be stale"
    )
    if seen.refused >= seen.limits.massive_users:
        findings.append(
            Finding(
                verdict="everyone_refused",
                severity="critical",
                summary=f"{seen.refused} users were refused within the hour, perhaps everyone, {though}.",
                users_see=f"Those users, perhaps everyone: {seen.product.refusal}",
                evidence=(*seen.refused_sentences(), good, *seats, *seen.probe_sentences()),
                cure=(
                    "In the QMC, License management: do users still have their licenses? A changed allocation rule, or "
                    "a token license whose conversion date has passed, removes them from everyone at once.",
                    "Has the user directory been synchronised? If that fails, users become inactive or unknown.",
                    "If all of that is right, the license may be stale although the log does not say so: restart the "
                    "Qlik Sense Service Dispatcher and force a sync.",
                ),
                alert="QlikLicenseAccessDeniedMassive",
            )
        )
    elif seen.refused or denials or allocations:
        alert = ""
        if seen.refused >= seen.limits.denied_users and denials >= seen.limits.denials:
            alert = "QlikLicenseAccessDenied"
        elif allocations:
            alert = "QlikLicenseAllocationRefused"
        who = count(seen.refused, "user", "distinct users") if seen.refused else "A user"
        evidence = []
        if seen.refused or denials:
            evidence.append(f"{who} {were(seen.refused or 1)} refused without an access pass within the last hour.")
        if allocations:
            evidence.append(
                "A license could not be allocated within the last hour. Possible reasons are an expired license, a "
                "deny-listed user, or no free seat."
            )
        findings.append(
            Finding(
                verdict="users_refused",
                severity="warning",
                summary=f"{who} {were(seen.refused or 1)} refused within the hour, {though}."
                if seen.refused or denials
                else "A license could not be allocated to a user within the hour.",
                users_see=f"Those users: {seen.product.refusal} No other user is known to be affected.",
                evidence=(*evidence, good, *seats),
                cure=(
                    "In the QMC, License management: do these users have an access license? If not, assign one.",
                    "If it was assigned while the user was in the hub, logging out and in is enough.",
                    "Is a seat free? A seat that was taken from a user is quarantined for seven days.",
                ),
                alert=alert,
            )
        )
    return findings


def _parallel(seen: Evidence) -> Finding:
    users = max(1, seen.parallel)
    denials = seen.denials("parallel_sessions")
    evidence = [
        f"{count(users, 'user', 'distinct users')} {were(users)} refused with five sessions within the last hour."
    ]
    if denials > users:
        evidence.append(f"There were at least {denials:,} such refusals.")
    if seen.qrs is not None and seen.qrs.sessions_per_user_max is not None:
        evidence.append(f"The most sessions that one user has at this proxy now: {seen.qrs.sessions_per_user_max:.0f}.")
    return Finding(
        verdict="parallel_sessions",
        severity="warning",
        summary=f"{count(users, 'user')} held five sessions and {were(users)} refused a sixth.",
        users_see='Those users: "You cannot access Qlik Sense because you have too many sessions active in parallel".',
        evidence=tuple(evidence),
        cure=(
            "Usually none: sessions end 30 minutes after their last use, and can be replaced 5 minutes later. "
            "Closing the browser does not end them.",
            "If it persists, look for a technical account, a job or an embedded page that opens a session for each "
            "call. The Repository's audit log names the user, in rows with UsageDenied.",
        ),
        alert="QlikLicenseParallelSessions" if denials >= seen.limits.parallel_denials else "",
    )


# --- seats, capacity, expiry -----------------------------------------------------------------------------------------


def _seat_sentences(seen: Evidence) -> list[str]:
    if seen.qrs is None:
        return []
    left = [
        f"{seats.available:.0f} of {seats.licenses:.0f} {name} seats are available"
        + (f"; in quarantine: {seats.quarantined:.0f}." if seats.quarantined else ".")
        for name, seats in seen.qrs.access.items()
        if seats.available is not None and seats.licenses is not None
    ]
    return left + _unused_sentences(seen)


def _unused_sentences(seen: Evidence) -> list[str]:
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


def _seats_exhausted(seen: Evidence) -> list[Finding]:
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
            evidence=(*_seat_sentences(seen), *seen.refused_sentences()),
            cure=(
                "In the QMC, License management: take seats from users who have left or do not use them. They are free "
                "after seven days of quarantine.",
                "Sites that share a license key share its seats: check the other sites, too.",
            ),
            alert="QlikLicenseSeatsExhausted",
        )
    ]


def _capacity_exhausted(seen: Evidence) -> list[Finding]:
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


def _license_expiring(seen: Evidence) -> list[Finding]:
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


# --- unreadable logs, missing evidence -------------------------------------------------------------------------------


def _tail_blind(seen: Evidence) -> list[Finding]:
    """Logs that the exporter cannot read, which is no problem of the license."""
    blind: dict[LogName, str] = {}
    for log, figures in seen.seen.logs.items():
        if log == "licenses" and seen.offline:
            continue
        if figures.problem:
            blind[log] = f"The log `{log}` cannot be read: {masked(figures.problem).rstrip('.')}."
        elif figures.listed and not figures.files:
            blind[log] = f"No file of the log `{log}` was found."
        elif (
            not seen.one_shot
            and figures.listed
            and figures.last_read is not None
            and seen.now - figures.last_read > seen.limits.unread
        ):
            blind[log] = f"The log `{log}` was last read without an error at {seen.at(figures.last_read)}."
    if not blind:
        return []
    central = "licenses" in blind
    return [
        Finding(
            verdict="tail_blind",
            severity="unknown" if central else "warning",
            summary=f"The exporter cannot read the {'log' if len(blind) == 1 else 'logs'} "
            f"{listed([f'`{log}`' for log in blind])}.",
            users_see="Not known." if central else "Nothing, as far as is known.",
            evidence=(*blind.values(), *(seen.probe_sentences() if central else ())),
            cure=(
                "Run `qlik-license-exporter check`: it names the account and every path that is denied or missing.",
                "Set the paths under `logs:`, or disable logs that this machine does not have (`enabled: false`).",
            ),
            alert="QlikLicenseLogUnreadable",
        )
    ]


def doubt(seen: Evidence) -> list[Finding]:
    """What is missing if the license can be called neither good nor bad."""
    if seen.offline or (seen.expected and seen.success is not None):
        return []
    missing, supply = [], []
    licenses = seen.seen.logs.get("licenses")
    if licenses is not None and not licenses.listed:
        missing.append("The Licenses log is still being read.")
        supply.append("Wait until it has been read to the end.")
    elif not seen.expected:
        missing.append(
            "The log contains no sync and no license code of the Licenses service."
            if licenses is not None and licenses.files
            else "There is no Licenses log."
        )
        supply += [
            "Specify the folder with the log of the Licenses service, C:\\ProgramData\\Qlik\\Sense\\Log\\Licenses.",
            "If this site has an offline license definition or a license with serial and control number, set "
            "`license.kind: offline` or `lef`.",
        ]
    else:
        missing.append(
            f"A sync was attempted at {seen.at(seen.state.last_attempt)}, and it is not known yet how it ended."
            if seen.state.last_attempt is not None
            else "The Licenses service is running, but no sync was recognised in its log."
        )
        supply += [
            "Wait for the next sync, or provide logs of a longer period.",
            "Run `qlik-license-exporter explain --unknown` on the log, and add the message of a success under "
            "`messages:`.",
        ]
    if not any(history.last for history in seen.seen.probes):
        supply.append("Probe the backend: run `diagnose --probe` on the node.")
    if seen.seen.qrs is None:
        supply.append("On the central node, enable `qrs` for expiry, seats and the state of the license.")
    return [
        Finding(
            verdict="not_enough_evidence",
            severity="unknown",
            summary="There is not enough evidence yet to say whether the license is good.",
            users_see="Not known.",
            evidence=(*missing, *seen.repository_sentences(), *seen.probe_sentences()),
            cure=tuple(supply),
            alert="QlikLicenseSyncUnknown" if seen.expected else "",
        )
    ]


def well(seen: Evidence) -> Finding:
    """The verdict if no rule found anything."""
    evidence = []
    if seen.offline:
        kind = (
            "an offline license definition"
            if seen.rules.kind == "offline"
            else "a license with serial and control number"
        )
        summary = f"All is well: the site has {kind}, which never synchronises, and no problem is known."
    else:
        summary = f"All is well: the license was synchronised {ago(seen.success or seen.now, seen.now)}."
        evidence.append(seen.success_sentence())
        if seen.state.consecutive_failures:
            evidence.append(f"{count(seen.state.consecutive_failures, 'sync')} failed since, too few for a warning.")
        if seen.lockout is not None:
            evidence.append(
                f"Without another sync, users would be locked out at {seen.at(seen.lockout)} at the latest."
            )
    invalid = seen.state.last_error.get("invalid")
    if invalid is not None and (seen.success is None or invalid > seen.success):
        forced = ": a known side effect of forcing a sync" if seen.invalid_for() < INVALID_PAUSE else ""
        evidence.append(f"The service reported the license as invalid at {seen.at(invalid)}{forced}.")
    before = seen.state.refused_users("no_access_pass", seen.now)
    if seen.recovered is not None and before:
        evidence.append(
            f"{count(before, 'user')} {were(before)} refused before the license became good "
            f"at {seen.at(seen.recovered)}."
        )
    evidence += (
        seen.refused_sentences() or ["No user has been refused since, according to the logs."]
        if before
        else ["No user was refused within the last hour, according to the logs."]
    )
    evidence += seen.repository_sentences()
    if not seen.offline or any(history.last for history in seen.seen.probes):
        evidence += seen.probe_sentences()
    evidence += _seat_sentences(seen)
    if seen.qrs is not None and seen.qrs.expiry is not None:
        evidence.append(f"The license is valid until {instant(seen.qrs.expiry)}.")
    return Finding(
        verdict="well",
        severity="ok",
        summary=summary,
        users_see=NOTHING,
        evidence=tuple(evidence),
        cure=(),
        alert="",
    )


RULES: tuple[Callable[[Evidence], list[Finding]], ...] = (
    _license_stale,
    _license_expired,
    _contradicted,
    _invalid,
    _repository_down,
    _refusals,
    _seats_exhausted,
    _capacity_exhausted,
    _license_expiring,
    _tail_blind,
)
