"""The rules of refused users and unreadable logs, what is said if no rule applies, and the list of the rules.

The rules of the sync are in `sync`, since they depend on each other.
"""

from collections.abc import Callable

from exporter.events import LogName
from exporter.license import INVALID_PAUSE
from exporter.masking import masked
from exporter.verdict.evidence import Evidence, were
from exporter.verdict.finding import Finding
from exporter.verdict.phrases import NOTHING
from exporter.verdict.seats import capacity_exhausted, license_expiring, seat_sentences, seats_exhausted
from exporter.verdict.validity import (
    license_contradicted,
    license_expired,
    license_invalid,
    license_stale,
    repository_down,
)
from exporter.wording import ago, count, instant, listed

# --- refused users ---------------------------------------------------------------------------------------------------


def _refusals(seen: Evidence) -> list[Finding]:
    """Users that are refused although the license is good; otherwise refusals are evidence of its problem."""
    parallel = [_parallel(seen)] if seen.parallel or seen.denials("parallel_sessions") else []
    if seen.dead or seen.overdue_lockout or (seen.qrs is not None and seen.qrs.expired):
        return parallel
    findings = parallel
    denials, allocations = seen.denials("no_access_pass"), seen.denials("allocation_refused")
    good = seen.success_sentence() if seen.expected else "No problem with the license itself is known."
    seats = seat_sentences(seen)
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
    evidence += seat_sentences(seen)
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
    license_stale,
    license_expired,
    license_contradicted,
    license_invalid,
    repository_down,
    _refusals,
    seats_exhausted,
    capacity_exhausted,
    license_expiring,
    _tail_blind,
)
