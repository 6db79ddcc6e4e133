"""The rules of the sync: whether and why it fails, whether the service is silent, and the resulting lockout."""

from collections.abc import Callable

import msgspec

from exporter.events import ErrorClass
from exporter.probes import CURES, Reason
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
"""The verdict for the reason of a failed probe; all other reasons mean the network."""
_REASON_WORDS: dict[Reason, str] = {
    "dns": "this machine cannot resolve the name of {peer}",
    "tcp_refused": "the connection to {peer} is refused",
    "tcp_timeout": "the connection to {peer} gets no answer",
    "tcp_unreachable": "there is no route to {peer}, or this machine blocks the connection",
    "proxy_connect": "the proxy opens no connection to the backend",
    "proxy_auth": "the proxy requires a login, and does not get one that it accepts",
    "tls_untrusted": "this machine does not trust the certificate that is served",
    "tls_expired": "the certificate that is served is not valid at this time",
    "tls_hostname": "the certificate that is served is for another host",
    "tls_handshake": "the TLS handshake fails",
    "tls_timeout": "the TLS handshake gets no answer",
    "http_status": "the response is not the expected one",
    "http_timeout": "no complete response arrives in time",
    "http_protocol": "the response is not HTTP",
    "reset": "the connection is cut",
    "other": "what failed is in the message of the probe",
}
"""What a failed probe found. The peer is the proxy if there is one."""
_ERROR_WORDS: dict[ErrorClass, str] = {
    "dns": "the name of the backend cannot be resolved",
    "refused": "the connection is refused",
    "timeout": "the backend does not answer in time",
    "reset": "the connection is cut",
    "tls": "the certificate or the TLS connection is not accepted",
    "proxy": "the proxy refuses the connection or fails",
    "http": "the backend, or something in its place, answers with an HTTP error",
    "other": "a request to the backend failed for a reason that is not recognised",
}


class _Cause(msgspec.Struct, frozen=True):
    """Why syncs fail."""

    verdict: VerdictName
    because: str
    """Including the conjunction or punctuation that connects it to the sentence before it."""
    evidence: tuple[str, ...]
    cure: tuple[str, ...]


def _cause(seen: Evidence) -> _Cause:
    """Why syncs fail, according to the log of the service and our probes. Contradictions are reported."""
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
            f": {works} works, {fails} does not",
            tuple(evidence),
            (*way_cure(seen), seen.product.service_proxy),
        )
    if error == "proxy":
        if good is not None and not good.proxied:
            evidence.append("So the direct connection works, and the proxy that the service uses does not.")
        return _Cause(
            "sync_failing_proxy",
            ": the proxy that the Licenses service uses refuses the connection or fails",
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
            ": something other than the backend answers the Licenses service with a page",
            tuple(evidence),
            (
                "Look for a filter, a proxy or a login page between this node and license.qlikcloud.com, and have "
                "this host exempted.",
                *way_cure(seen),
                seen.product.service_proxy,
            ),
        )
    if error == "http":
        return _Cause(
            "sync_failing_network",
            ": the backend, or something in its place, answers the Licenses service with an HTTP error",
            (*evidence, "It is not known whether the cause is at Qlik or at a proxy or filter in between."),
            (
                "Check Qlik's status page, or ask Qlik Support, whether the license backend has a disruption.",
                *way_cure(seen),
                seen.product.service_proxy,
            ),
        )
    if error == "tls":
        if good is not None:
            evidence.append("The probe accepts the certificate and the TLS connection; the Licenses service does not.")
        return _Cause(
            "sync_failing_interception",
            ": the Licenses service does not accept the server's certificate or the TLS connection",
            tuple(evidence),
            (EXEMPT, *way_cure(seen)),
        )
    if bad is not None:
        verdict = _BY_REASON.get(bad.reason or "", "sync_failing_network")
        if bad.server_error:
            because = f": the backend itself answers with an error ({bad.status})"
            return _Cause(verdict, because, tuple(evidence), way_cure(seen))
        if bad.reason == "http_status" and bad.proxied:
            verdict = "sync_failing_proxy"
        words = _REASON_WORDS[bad.reason or "other"].format(peer="the proxy" if bad.proxied else "the backend")
        return _Cause(verdict, f": {words}", tuple(evidence), way_cure(seen))
    if good is not None:
        if error in NETWORK_ERRORS and good.proxied:
            evidence.append("So the proxy works; the Licenses service seems to connect directly, and fails.")
            return _Cause(
                "sync_failing_proxy",
                ": the Licenses service does not seem to use the proxy that works",
                tuple(evidence),
                (seen.product.service_proxy, seen.product.restart),
            )
        evidence.append(
            "The probe reaches the backend, yet no sync is known to have succeeded since: a contradiction, unless the "
            "Licenses service connects in another way than the probe."
        )
        return _Cause(
            "sync_failing_service",
            ", although the probe reaches the backend",
            tuple(evidence),
            (seen.product.restart, seen.product.service_proxy, *seen.product.force, CONFIRM),
        )
    if error in NETWORK_ERRORS:
        return _Cause(
            "sync_failing_network",
            f": {_ERROR_WORDS[error]}",
            tuple(evidence),
            (TRY_THE_WAY, OPEN_THE_WAY, seen.product.restart),
        )
    return _Cause(
        "sync_failing_service",
        ": the log gives no reason that is recognised",
        tuple(evidence),
        (TRY_THE_WAY, seen.product.restart, seen.product.service_proxy, *seen.product.force),
    )


def way_cure(seen: Evidence) -> tuple[str, ...]:
    """How to make the backend reachable, by the stage at which the probe fails."""
    steps = []
    if seen.bad is not None and seen.bad.reason is not None:
        steps.append(seen.bad.cure)
    elif seen.good is None:
        steps += [TRY_THE_WAY, OPEN_THE_WAY]
    if seen.skew() is not None:
        steps.append(FIX_CLOCK)
    return tuple(steps)


def _sync(seen: Evidence) -> list[Finding]:
    """Syncs that fail, are overdue or cannot work, the silence of the service, and the resulting lockout."""
    if not seen.expected or seen.dead:
        return []
    if seen.stale:  # long ago, and not confirmed since: only whether the service is still running is worth a finding
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
        pass  # covered by the finding of an unreliable connection
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
        last = ""
        if state.last_failure is not None:
            last = f", {'the last ' if state.consecutive_failures > 1 else ''}at {seen.at(state.last_failure)}"
        since = " since the last success" if seen.success is not None else ""
        evidence.append(f"{count(state.consecutive_failures, 'sync')} failed{since}{last}.")
    if unattempted and state.last_attempt is not None:
        evidence.append(
            f"No sync has been attempted since {seen.at(state.last_attempt)}, although the service goes on logging."
        )
    evidence += cause.evidence
    if (skew := seen.skew()) is not None:
        evidence.append(f"The clock of this machine differs by {span(skew)} from the backend's.")
    if seen.lockout is not None:
        evidence.append(_lockout_sentence(seen, "Without a sync"))
    if failing:
        summary = f"License syncs fail{cause.because}."
        alert = "QlikLicenseSyncFailing" if state.consecutive_failures >= limits.failures else ""
    elif overdue:
        summary = (
            f"No sync is known to have succeeded for {span(seen.now - (seen.success or seen.now))}{cause.because}."
        )
        alert = "QlikLicenseSyncNotAttempted" if unattempted else "QlikLicenseSyncOverdue"
    else:
        summary = f"{'The' if seen.good is None else 'A'} probe of the license backend fails{cause.because}."
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
    """Attempts that ended neither in silence nor with a recognised failure."""
    number = seen.state.unclear_attempts
    since = " since the last success" if seen.success is not None else ""
    evidence = [
        seen.success_sentence(),
        f"It is not known how {count(number, 'sync')}{since} ended: {'it was' if number == 1 else 'each was'} followed "
        "by entries that are not understood, by none, by a restart of the service, or by a failed probe.",
    ]
    if seen.state.consecutive_failures:
        evidence.append(f"{count(seen.state.consecutive_failures, 'other sync')} failed{since}.")
    if seen.lockout is not None:
        evidence.append(_lockout_sentence(seen, "If it failed" if number == 1 else "If they failed"))
    return Finding(
        verdict="sync_unclear",
        severity="warning",
        summary="It is unclear whether the license is still synchronised: it is not known how "
        f"{'the last sync' if number == 1 else f'{number:,} syncs'} ended.",
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


def _lockout_sentence(seen: Evidence, condition: str) -> str:
    due = seen.lockout or seen.now
    if due <= seen.now:
        return f"{condition}, users should have been locked out at {seen.at(due)}."
    return f"{condition}, users are locked out at {seen.at(due)} at the latest."


def _lockout(seen: Evidence, cause: _Cause, findings: list[Finding]) -> Finding | None:
    """The expected lockout: the grace since the last success, or since the first sign of the service."""
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
        f"{_lockout_sentence(seen, f'With a grace of {span(seen.rules.grace)}')} This is an upper bound, since Qlik "
        "does not say which of its two schedules counts."
    )
    if seen.state.unclear_attempts:
        number = seen.state.unclear_attempts
        since = " since the last success" if seen.success is not None else ""
        evidence.append(
            f"It is not known how {count(number, 'sync')}{since} ended. "
            f"If {'it' if number == 1 else 'one of them'} succeeded, there is more time."
        )
    left = due - seen.now
    certain = seen.success is not None and not seen.state.unclear_attempts
    summary = (
        f"Users {'will' if certain else 'may'} be locked out in {span(left)}, at {instant(due)}, unless a sync "
        "succeeds first."
        if left > 0
        else f"Users should have been locked out at {instant(due)}, {span(left)} ago: no sync is known to have "
        "succeeded in time."
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
    """A certificate from an unexpected issuer on a working connection, which the service may not trust."""
    good = seen.good
    if good is None or good.issuer_expected is not False or not seen.expected:
        return []
    issuer = f'"{good.issuer}"' if good.issuer else "a CA without an organisation"
    return [
        Finding(
            verdict="sync_failing_interception",
            severity="warning",
            summary="TLS to the license backend seems to be inspected; syncs fail if the Licenses service does not "
            "trust the issuer.",
            users_see=seen.product.not_yet,
            evidence=(
                f"The certificate served for {good.target} was issued by {issuer}, which is not one of "
                "`expected_issuers`.",
                seen.success_sentence(),
            ),
            cure=(EXEMPT,),
            alert="QlikLicenseTlsIntercepted",
        )
    ]


def _backend_flapping(seen: Evidence) -> list[Finding]:
    """An unreliable connection to the backend, according to the probes, else to the syncs in the log: one finding."""
    if not seen.expected or seen.dead:
        return []
    found = seen.flapping()
    if found is None:
        return []
    recent, changes, reasons = found
    what = "probe" if reasons is not None else "sync"
    evidence = [
        f"{sum(recent)} of {len(recent)} {what}s succeeded, with {changes} changes between success and failure.",
        seen.success_sentence(),
    ]
    if reasons:
        failures = [f"{reason} ({number})" for reason, number in reasons]
        evidence.insert(1, f"The other probes failed with {listed(failures)}.")
    elif seen.error is not None:
        evidence.insert(1, f"The Licenses service last reported that {_ERROR_WORDS[seen.error[0]]}.")
    share = sum(recent) / len(recent)
    return [
        Finding(
            verdict="backend_flapping",
            severity="warning",
            summary=f"Contact with the license backend is unreliable: {share:.0%} of the {what}s succeeded.",
            users_see="Nothing yet, but whether a sync succeeds is a matter of chance.",
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
