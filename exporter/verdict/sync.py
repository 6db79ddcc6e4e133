"""The rules of the sync: whether it fails and why, whether the service is silent, and the lockout that comes of it."""

from collections.abc import Callable

import msgspec

from exporter.events import ErrorClass
from exporter.probes import CURES
from exporter.verdict.evidence import NETWORK_ERRORS, Evidence
from exporter.verdict.finding import Finding, VerdictName
from exporter.verdict.limits import HOUR
from exporter.verdict.phrases import (
    CONFIRM,
    EXEMPT,
    FIX_CLOCK,
    OPEN_THE_WAY,
    SHOW_UNKNOWN,
    TRY_THE_WAY,
)
from exporter.wording import count, instant, listed, span

_BY_REASON: dict[str, VerdictName] = {
    "proxy_connect": "sync_failing_proxy",
    "proxy_auth": "sync_failing_proxy",
    "tls_untrusted": "sync_failing_interception",
}
"""The verdict for a failed probe's reason; all others are the network's."""
_ERROR_WORDS: dict[ErrorClass, str] = {
    "dns": "the name of the backend cannot be resolved",
    "refused": "the connection is refused",
    "timeout": "the backend does not answer in time",
    "reset": "the connection is cut",
    "tls": "the certificate or the TLS connection is not accepted",
    "proxy": "the proxy refuses or fails",
    "http": "the backend, or something in its place, answers with an HTTP error",
    "other": "its request to the backend failed for another reason",
}


class _Cause(msgspec.Struct, frozen=True):
    """Why syncs fail."""

    verdict: VerdictName
    because: str
    evidence: tuple[str, ...]
    cure: tuple[str, ...]


def _cause(seen: Evidence) -> _Cause:
    """Why syncs fail, by the service's own words and by our probes. What contradicts itself is said."""
    error = seen.error[0] if seen.error else None
    good, bad = seen.good, seen.bad
    evidence = []
    if seen.error is not None:
        words = "something else answers with a page" if seen.stranger else _ERROR_WORDS[seen.error[0]]
        evidence.append(f"The Licenses service reported at {seen.at(seen.error[1])} that {words}.")
    evidence += seen.probe_sentences()
    if good is not None and bad is not None and good.proxied != bad.proxied:
        works, fails = (
            ("the direct connection", "the one through the proxy")
            if bad.proxied
            else ("the connection through the proxy", "the direct one")
        )
        evidence.append(f"So {works} works and {fails} does not.")
        return _Cause(
            "sync_failing_proxy",
            f"{works} works, {fails} does not",
            tuple(evidence),
            (*way_cure(seen), seen.product.service_proxy),
        )
    if error == "proxy":
        if good is not None and not good.proxied:
            evidence.append("So the direct connection works, and the proxy that the service uses does not.")
        return _Cause(
            "sync_failing_proxy",
            "the proxy that the Licenses service uses refuses or fails",
            tuple(evidence),
            (
                seen.product.service_proxy,
                "Check the user name and password for the proxy, and that it allows CONNECT to port 443.",
                seen.product.restart,
            ),
        )
    if seen.stranger:
        return _Cause(
            "sync_failing_interception",
            "something other than the backend answers the Licenses service with a page",
            tuple(evidence),
            (
                "Look for a filter, a proxy or a login page between this node and license.qlikcloud.com, and "
                "exempt it.",
                *way_cure(seen),
                seen.product.service_proxy,
            ),
        )
    if error == "http":
        return _Cause(
            "sync_failing_network",
            "the backend, or something in its place, answers the Licenses service with an HTTP error",
            (*evidence, "It is not known whether the cause is at Qlik or at a proxy or filter in between."),
            (
                "Check Qlik's status page, or ask Qlik Support, whether the license backend has a disruption.",
                *way_cure(seen),
                seen.product.service_proxy,
            ),
        )
    if error == "tls":
        if good is not None:
            evidence.append("This machine trusts the certificate; the Licenses service does not.")
        return _Cause(
            "sync_failing_interception",
            "the Licenses service does not trust the server's certificate",
            tuple(evidence),
            (EXEMPT, *way_cure(seen)),
        )
    if bad is not None:
        verdict = _BY_REASON.get(bad.reason or "", "sync_failing_network")
        if bad.server_error:
            because = f"the backend itself answers with an error ({bad.status})"
            return _Cause(verdict, because, tuple(evidence), way_cure(seen))
        if bad.reason == "http_status" and bad.proxied:
            verdict = "sync_failing_proxy"
        because = {
            "sync_failing_proxy": "the proxy refuses or fails",
            "sync_failing_interception": "TLS is intercepted, or the backend's certificate is not trusted",
        }.get(verdict, f"the network does not let this machine connect ({bad.reason})")
        return _Cause(verdict, because, tuple(evidence), way_cure(seen))
    if good is not None:
        if error in NETWORK_ERRORS and good.proxied:
            evidence.append("So the proxy works, and the service seems to connect directly, which does not.")
            return _Cause(
                "sync_failing_proxy",
                "the service does not use the proxy that works",
                tuple(evidence),
                (seen.product.service_proxy, seen.product.restart),
            )
        evidence.append(
            "The network is fine, but the sync fails: a contradiction, unless the service is configured wrongly."
        )
        return _Cause(
            "sync_failing_service",
            "although the backend can be reached",
            tuple(evidence),
            (seen.product.restart, seen.product.service_proxy, *seen.product.force, CONFIRM),
        )
    if error in NETWORK_ERRORS:
        return _Cause(
            "sync_failing_network",
            f"{_ERROR_WORDS[error]}",
            tuple(evidence),
            (TRY_THE_WAY, OPEN_THE_WAY, seen.product.restart),
        )
    return _Cause(
        "sync_failing_service",
        "the log gives no reason that is recognised",
        tuple(evidence),
        (TRY_THE_WAY, seen.product.restart, seen.product.service_proxy, *seen.product.force),
    )


def way_cure(seen: Evidence) -> tuple[str, ...]:
    """How to open the way to the backend, by the stage at which the probe ends."""
    steps = []
    if seen.bad is not None and seen.bad.reason is not None:
        steps.append(seen.bad.cure)
    elif seen.good is None:
        steps += [TRY_THE_WAY, OPEN_THE_WAY]
    if seen.skew() is not None:
        steps.append(FIX_CLOCK)
    return tuple(steps)


def _sync(seen: Evidence) -> list[Finding]:
    """Syncs that fail, are overdue or cannot work, the silence of the service, and the lockout that comes of it."""
    if not seen.expected or seen.dead:
        return []
    if seen.stale:  # long ago, and not confirmed since: only whether the service still lives is worth a finding
        return [_silence(seen)] if seen.licenses_silent() else []
    limits, state = seen.limits, seen.state
    age = seen.now - seen.success if seen.success is not None else None
    overdue = age is not None and age > limits.overdue
    failing = state.consecutive_failures >= (limits.failures if seen.success is not None else 1) or (
        state.consecutive_failures > 0 and seen.bad is not None
    )
    attempt_age = seen.now - state.last_attempt if state.last_attempt is not None else None
    silent = seen.licenses_silent()
    findings: list[Finding] = []
    cause = _cause(seen)
    unclear = state.unclear_attempts >= limits.unclear or (seen.success is None and state.unclear_attempts > 0)
    if unclear and not failing and seen.bad is None:
        findings.append(_unclear(seen))
    elif seen.flapping() is not None and state.consecutive_failures < limits.failures and not overdue:
        pass  # the finding of a backend that comes and goes says it
    elif failing or seen.bad is not None or (overdue and not silent):
        findings.append(_sync_finding(seen, cause, failing, overdue, attempt_age))
    if silent:
        findings.append(_silence(seen))
    if lockout := _lockout(seen, cause, findings):
        findings.insert(0, lockout)
    return findings


def _sync_finding(seen: Evidence, cause: _Cause, failing: bool, overdue: bool, attempt_age: float | None) -> Finding:
    state, limits = seen.state, seen.limits
    evidence = [seen.success_sentence()]
    unattempted = overdue and attempt_age is not None and attempt_age > limits.overdue and not failing
    if state.consecutive_failures:
        last = f", the last at {seen.at(state.last_failure)}" if state.last_failure is not None else ""
        evidence.append(f"{count(state.consecutive_failures, 'sync', 'syncs in a row')} failed{last}.")
    if unattempted and state.last_attempt is not None:
        evidence.append(
            f"No sync has been attempted since {seen.at(state.last_attempt)}, although the service goes on logging."
        )
    evidence += cause.evidence
    if (skew := seen.skew()) is not None:
        evidence.append(f"The clock of this machine differs by {span(skew)} from the backend's.")
    if seen.lockout is not None:
        evidence.append(f"Without a sync, users are locked out at {seen.at(seen.lockout)} at the latest.")
    if failing:
        summary = f"License syncs fail: {cause.because}."
        alert = "QlikLicenseSyncFailing" if state.consecutive_failures >= limits.failures else ""
    elif overdue:
        summary = (
            f"The license has not been synchronised for {span(seen.now - (seen.success or seen.now))}: {cause.because}."
        )
        alert = "QlikLicenseSyncNotAttempted" if unattempted else "QlikLicenseSyncOverdue"
    else:
        summary = f"The license backend cannot be reached from this machine: {cause.because}."
        alert = ""
        if seen.success is not None:
            evidence.append("The log shows no failed sync yet; the next one is likely to fail.")
    return Finding(
        verdict=cause.verdict,
        severity="warning",
        summary=summary,
        users_see=seen.product.not_yet,
        evidence=tuple(evidence),
        cure=cause.cure,
        alert=alert or ("QlikLicenseBackendUnreachable" if seen.bad is not None else "QlikLicenseSyncFailing"),
    )


def _unclear(seen: Evidence) -> Finding:
    """Attempts whose end is neither silence nor a failure that is understood."""
    attempts = count(seen.state.unclear_attempts, "sync", "syncs in a row")
    evidence = [
        seen.success_sentence(),
        f"It is not known how {attempts} ended: they were followed by entries that are not understood, or by none.",
    ]
    if seen.state.consecutive_failures:
        evidence.append(f"{count(seen.state.consecutive_failures, 'other sync')} failed since the last success.")
    if seen.lockout is not None:
        evidence.append(f"If they failed, users are locked out at {seen.at(seen.lockout)} at the latest.")
    return Finding(
        verdict="sync_unclear",
        severity="warning",
        summary=f"It is unclear whether the license is still synchronised: {attempts} ended with unknown messages.",
        users_see="Nothing yet. If the syncs failed, everyone is refused after the grace time.",
        evidence=(*evidence, *seen.probe_sentences()),
        cure=(SHOW_UNKNOWN, *way_cure(seen)),
        alert="QlikLicenseSyncUnclear" if seen.state.unclear_attempts >= seen.limits.unclear else "",
    )


def _silence(seen: Evidence) -> Finding:
    last = seen.state.last_entry.get("licenses")
    silent_since = last or seen.seen.covered_since or seen.now
    evidence = [
        f"The newest entry of the Licenses log is from {seen.at(last)}."
        if last is not None
        else "The Licenses log was read and contains no entry.",
        seen.success_sentence(),
    ]
    newer = [
        log for log, at in seen.state.last_entry.items() if log != "licenses" and last is not None and at > last + HOUR
    ]
    if newer:
        evidence.append(f"Other logs have newer entries ({listed(newer)}), so the node is running.")
    return Finding(
        verdict="service_silent",
        severity="warning",
        summary=f"The Licenses service has logged nothing for {span(seen.now - silent_since)}.",
        users_see=seen.product.silent,
        evidence=(*evidence, *seen.probe_sentences()),
        cure=(
            seen.product.restart,
            "If it stays silent, check in Task Manager whether its process is running, and whether the disk is full.",
            "If the logs were copied, copy the newest ones as well.",
        ),
        alert="QlikLicenseLogSilent",
    )


def _lockout(seen: Evidence, cause: _Cause, findings: list[Finding]) -> Finding | None:
    """The lockout that comes: the grace since the last success, or since the first sign of the service."""
    due = seen.lockout
    if due is None or due - seen.now >= seen.limits.lockout_near:
        return None
    evidence = [seen.success_sentence()]
    if seen.success is None:
        evidence.append(
            f"The Licenses service first logged something at {seen.at(due - seen.rules.grace)}; the grace is counted "
            "from then."
        )
    evidence.append(
        f"With a grace of {span(seen.rules.grace)} users are locked out at {seen.at(due)} at the latest: an upper "
        "bound, since Qlik does not say which of its two schedules counts."
    )
    if seen.state.unclear_attempts:
        evidence.append(
            f"It is not known how {count(seen.state.unclear_attempts, 'sync', 'syncs')} since then ended. If one of "
            "them succeeded, there is more time."
        )
    left = due - seen.now
    summary = (
        f"Users will be locked out in {span(left)}, at {instant(due)}, unless a sync succeeds first."
        if left > 0
        else f"Users should have been locked out at {instant(due)}, {span(left)} ago: no sync has succeeded since."
    )
    cures = [step for finding in findings for step in finding.cure] or list(cause.cure)
    return Finding(
        verdict="lockout_coming",
        severity="critical",
        summary=summary,
        users_see=f"Nothing yet. At the lockout everyone is refused: {seen.product.refusal}",
        evidence=tuple(dict.fromkeys((*evidence, *cause.evidence, *seen.refused_sentences()))),
        cure=tuple(dict.fromkeys(cures)),
        alert="QlikLicenseLockoutImminent",
    )


def _interception(seen: Evidence) -> list[Finding]:
    """A certificate of somebody else, though the connection stands: the service may trust it less than we do."""
    good = seen.good
    if good is None or good.issuer_expected is not False or not seen.expected:
        return []
    issuer = f' by "{good.issuer}"' if good.issuer else ""
    return [
        Finding(
            verdict="sync_failing_interception",
            severity="warning",
            summary="TLS to the license backend is inspected; syncs fail if the service does not trust that issuer.",
            users_see=seen.product.not_yet,
            evidence=(
                f"The certificate served for {good.target} was issued{issuer}, which is not one of `expected_issuers`.",
                seen.success_sentence(),
            ),
            cure=(EXEMPT,),
            alert="QlikLicenseTlsIntercepted",
        )
    ]


def _backend_flapping(seen: Evidence) -> list[Finding]:
    """A backend that comes and goes: by the probes, else by the syncs of the log. One finding, whoever sees it."""
    if not seen.expected or seen.dead:
        return []
    found = seen.flapping()
    if found is None:
        return []
    recent, changes, reasons = found
    what = "probe" if reasons is not None else "sync"
    evidence = [
        f"{count(sum(recent), f'successful {what}')} of {len(recent)}, with {changes} changes.",
        seen.success_sentence(),
    ]
    if reasons:
        evidence.insert(1, "Reasons: " + listed([f"{reason} {number}" for reason, number in reasons]) + ".")
    elif seen.error is not None:
        evidence.insert(1, f"The Licenses service last reported that {_ERROR_WORDS[seen.error[0]]}.")
    share = sum(recent) / len(recent)
    return [
        Finding(
            verdict="backend_flapping",
            severity="warning",
            summary=f"The connection to the license backend is unreliable: {share:.0%} of the {what}s succeeded.",
            users_see="Nothing yet. Syncs succeed by chance.",
            evidence=tuple(evidence),
            cure=(
                "Look for something that changes at the same intervals: a fail-over firewall, a proxy or name with "
                "several addresses, IPv6, a schedule that blocks the connection.",
                *(CURES[reason] for reason, _ in (reasons or [])[:1]),
            ),
            alert="QlikLicenseBackendFlapping",
        )
    ]


RULES: tuple[Callable[[Evidence], list[Finding]], ...] = (_sync, _interception, _backend_flapping)
