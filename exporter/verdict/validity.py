"""The rules of the license as a whole: whether it is stale, expired or invalid."""

from exporter.license import INVALID_PAUSE
from exporter.probes import CURES
from exporter.verdict.evidence import Evidence, failed_probe
from exporter.verdict.finding import Finding
from exporter.verdict.limits import DAY
from exporter.verdict.phrases import (
    CONFIRM,
    SILENCE_DOUBTED,
    TRY_THE_WAY,
)
from exporter.verdict.sync import way_cure
from exporter.wording import instant, span


def license_stale(seen: Evidence) -> list[Finding]:
    """The logs say that the license is stale, or may still be."""
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


def license_expired(seen: Evidence) -> list[Finding]:
    """Qlik reports the license as expired or invalid, or its last day is over."""
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


def license_contradicted(seen: Evidence) -> list[Finding]:
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


def license_invalid(seen: Evidence) -> list[Finding]:
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


def repository_down(seen: Evidence) -> list[Finding]:
    """The Repository does not answer, so that nobody can log in."""
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
