"""The status page: `status.Status` as one HTML document. Pure. No external resources, and little script.

Every text goes through `escape`. Nothing is shown by colour alone, but also by a word, a height or a shape.
"""

from collections.abc import Mapping
from importlib.resources import files

from exporter.license import REFUSED_WINDOW
from exporter.observation import Observation
from exporter.probes import Phase
from exporter.status import License, Probe, Probed, Qrs, Service, Status
from exporter.status import status as status_made_of
from exporter.verdict import Finding, Judgement, Severity
from exporter.web.markup import escape, item_list, pairs, prose, table_of
from exporter.web.timeline import timeline_section
from exporter.wording import ago, brief, count, instant, span

NAME = "qlik-license-exporter"
PATIENCE = 20
"""Seconds that an update of the page may take."""
REFRESH = 60
"""Seconds after which the page reloads itself."""
PUSHES_LATE = 120.0
"""Seconds for which samples may wait before the page says so."""

STYLE = files("exporter.web").joinpath("page.css").read_text("utf-8")
SCRIPT = files("exporter.web").joinpath("page.js").read_text("utf-8")

_BADGES: dict[Severity, str] = {
    "ok": "All well",
    "warning": "Warning",
    "critical": "Critical",
    "unknown": "Cannot tell",
}
_SOURCES = {
    "message": "from a log message",
    "qrs": "from the Repository API",
    "inferred": "inferred: no failure followed",
}
_REASONS = {
    "no_access_pass": "No access pass",
    "parallel_sessions": "Too many parallel sessions",
    "allocation_refused": "License could not be allocated",
}


def page_of(seen: Observation, people: bool = False) -> str:
    """The whole document, for one observation; `people`: for somebody who may see them."""
    return page(status_made_of(seen, people))


def page(status: Status) -> str:
    """The whole document."""
    sections = [
        _verdict(status),
        _clock(status),
        _refusals(status),
        timeline_section(status.timeline, status.now),
        _events(status),
        *(_probe(probe, status.now) for probe in status.probes),
        _sources(status),
    ]
    if status.qrs is not None:
        sections.append(_qrs(status.qrs, status.now))
    if status.service is not None:
        sections.append(_service(status.service, status.now))
    title = f"{_BADGES[status.verdict.severity]}: Qlik license"
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en" data-page="{NAME}" data-refresh="{REFRESH}" data-patience="{PATIENCE}">'
        '<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<noscript><meta http-equiv="refresh" content="{REFRESH}"></noscript>'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        '<a class="skip" href="#content">Skip to the verdict</a>'
        f'<header><p class="name">qlik-license-exporter</p><p>As of <time>{instant(status.now)}</time>'
        f"{'' if status.ready else ' · still reading the logs'} · updated every {REFRESH} s</p>"
        '<p id="away" class="no" role="status" hidden>This page could not be updated and shows old data.</p></header>'
        f'<main id="content">{"".join(sections)}</main>'
        f"{_footer(status)}<script>{SCRIPT}</script></body></html>\n"
    )


# --- the verdict -----------------------------------------------------------------------------------------------------


def _verdict(status: Status) -> str:
    verdict = status.verdict
    also = "".join(
        f'<details class="{finding.severity}" id="{finding.verdict}"><summary id="{finding.verdict}-head">'
        f"{_badge(finding.severity)} {escape(finding.summary)}</summary>{_finding(finding)}</details>"
        for finding in verdict.also
    )
    return (
        f'<section class="wide verdict {verdict.severity}" aria-labelledby="verdict">{_badge(verdict.severity)}'
        f'<h1 id="verdict">{escape(verdict.summary)}</h1>{_finding(verdict)}{also}</section>'
    )


def _badge(severity: Severity) -> str:
    return f'<span class="badge">{_BADGES[severity]}</span>'


def _finding(finding: Finding) -> str:
    cure = f"<div><h3>What to do</h3>{item_list('ol', finding.cure)}</div>" if finding.cure else ""
    alert = f'<p class="soft">Verdict <code>{finding.verdict}</code>'
    if finding.alert:  # its runbook, which this server has, too
        alert += f', alert <a href="runbooks/{escape(finding.alert)}"><code>{escape(finding.alert)}</code></a>'
    alert += "</p>"
    return (
        f"<p><strong>What users see:</strong> {escape(finding.users_see)}</p>"
        f'<div class="columns"><div><h3>Why</h3>{item_list("ul", finding.evidence)}</div>{cure}</div>{alert}'
    )


# --- the sync clock --------------------------------------------------------------------------------------------------


def _clock(status: Status) -> str:
    license, now = status.license, status.now
    if license.kind in ("offline", "lef"):
        clock = '<p class="clock">No sync clock</p><p class="soft">This kind of license never synchronises.</p>'
    elif license.stale and _is_confirmed_stale(status.verdict):
        clock = '<p class="clock no">Locked out</p><p class="soft">until a sync succeeds</p>'
    elif license.stale:
        clock = '<p class="clock no">Reported stale</p><p class="soft">Users may be locked out.</p>'
    elif license.lockout is None:
        clock = '<p class="clock">Not known</p><p class="soft">No successful sync is known.</p>'
    elif license.lockout > now:
        clock = (
            f'<p class="clock">{span(license.lockout - now)}</p>'
            f'<p class="soft">until users are locked out, unless a sync succeeds: {instant(license.lockout)} at the '
            "latest</p>"
        )
    else:
        clock = f'<p class="clock no">Due {ago(license.lockout, now)}</p><p class="soft">Users may be locked out.</p>'
    rows = [
        ("Last success", _when(license.last_success, now)),
        ("Source", _SOURCES[license.success_source] if license.success_source else "–"),
        ("Last attempt", _when(license.last_attempt, now)),
        ("Last failure", _when(license.last_failure, now)),
        ("Consecutive failures", str(license.consecutive_failures)),
        ("Unclear attempts", _unclear(license, now)),
        ("Last reported stale", _when(license.stale_verdict, now)),
        ("In total", f"{count(license.sync_attempts, 'attempt')}, {count(license.sync_failures, 'failure')}"),
        ("Grace", span(license.grace)),
    ]
    doubt = ""
    if license.silence_doubted:
        why = prose(license.silence_doubted)
        doubt = f'<p class="soft"><strong>Silence is not taken for a success:</strong> {why}</p>'
    return (
        f'<section aria-labelledby="clock"><h2 id="clock">Time until lockout</h2>{clock}{pairs(rows)}{doubt}</section>'
    )


def _is_confirmed_stale(verdict: Judgement) -> bool:
    return any(
        finding.verdict == "license_stale" and finding.severity == "critical" for finding in (verdict, *verdict.also)
    )


def _unclear(license: License, now: float) -> str:
    since = f", since {_when(license.unclear_since, now)}" if license.unclear_since is not None else ""
    return f"{license.unclear_attempts:,}{since}"


def _when(at: float | None, now: float) -> str:
    return f"{instant(at)}, {ago(at, now)}" if at is not None else "–"


def _refusals(status: Status) -> str:
    body = [
        (
            _REASONS[refusal.reason],
            "–" if refusal.users_last_hour is None else f"{refusal.users_last_hour:,}",
            f"{refusal.total:,}",
            brief(refusal.last, status.now) if refusal.last is not None else "–",
        )
        for refusal in status.refusals
    ]
    hour = span(REFUSED_WINDOW) if REFUSED_WINDOW != 3600 else "hour"
    table = table_of(
        "Refusals in the Repository's audit log, by reason",
        ("Reason", f"Users, last {hour}", "Refusals", "Last"),
        body,
        numbers={1, 2},
    )
    return f'<section aria-labelledby="refusals"><h2 id="refusals">Refused users</h2>{table}</section>'


# --- entries ---------------------------------------------------------------------------------------------------------


def _events(status: Status) -> str:
    if status.events:
        heads = ["Last", "Times", "Meaning", "Text"]
        body = [
            [
                brief(kind.last, status.now) if kind.last is not None else "–",
                f"{kind.count:,}"
                + (f" since {brief(kind.first, status.now)}" if kind.count > 1 and kind.first else ""),
                kind.meaning,
                kind.text,
            ]
            for kind in status.events
        ]
        if status.people_shown:
            heads.insert(3, "User")
            for row, kind in zip(body, status.events, strict=True):
                row.insert(3, kind.user)
        table = table_of("Notable log entries, newest first; repeated entries are grouped; times are UTC", heads, body)
    else:
        table = '<p class="soft">None since the exporter started.</p>'
    note = "" if status.people_shown else '<p class="soft">Users, hosts, keys and numbers are masked.</p>'
    return (
        '<section class="wide" aria-labelledby="events"><h2 id="events">Recent notable entries</h2>'
        f"{table}{note}</section>"
    )


# --- probes ----------------------------------------------------------------------------------------------------------


def _probe(probe: Probe, now: float) -> str:
    last = probe.results[0] if probe.results else None
    name = f"probe-{escape(probe.target)}"
    if last is None:
        state = "<p>Not probed yet.</p>"
    elif last.success is None:
        state = (
            f'<p><span class="soft">? Not judged</span>, {ago(last.at, now)}: {escape(last.detail)}</p>'
            f"<p><strong>Likely cure:</strong> {prose(probe.cure)}</p>"
        )
    elif last.success:
        way = "through the proxy" if last.proxied else "directly"
        state = f'<p><span class="yes">✓ Reached</span> {way}, {ago(last.at, now)}.</p>'
    else:
        state = (
            f'<p><span class="no">✗ {escape(last.reason or "failed")}</span>, {ago(last.at, now)}: '
            f"{escape(last.detail)}</p><p><strong>Likely cure:</strong> {prose(probe.cure)}</p>"
        )
    failures = ", ".join(f"{reason} {number:,}" for reason, number in probe.failures.items()) or "none"
    rows = [
        ("Last success", _when(probe.last_success, now)),
        ("Probes", f"{probe.attempts:,}; failed: {failures}"),
    ]
    if last is not None:
        rows.append(("Stages", _stages(last.phases)))
    if probe.tls_version or probe.issuer:
        issuer = probe.issuer or "no organisation named"
        expected = {True: "expected", False: "NOT expected", None: ""}[probe.issuer_expected]
        rows.append(("Certificate", ", ".join(part for part in (probe.tls_version or "", issuer, expected) if part)))
    if probe.certificate_expiry is not None:
        rows.append(("Certificate expires", _when(probe.certificate_expiry, now)))
    if probe.clock_skew is not None:
        rows.append(("Clock", f"differs by {span(probe.clock_skew)}"))
    results = table_of(
        "Most recent probes, newest first",
        ("Time", "Result", "Stages"),
        [(instant(result.at), _outcome(result), _stages(result.phases)) for result in probe.results],
    )
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">Probe: {escape(probe.target)} '
        f'<span class="soft">({escape(probe.role)})</span></h2>{state}{pairs(rows)}'
        f'<details id="{name}-history"><summary id="{name}-history-head">History</summary>{results}</details></section>'
    )


def _outcome(result: Probed) -> str:
    if result.success is None:
        return "? not judged"
    return "✓ reached" if result.success else f"✗ {result.reason}"


def _stages(phases: Mapping[Phase, float]) -> str:
    return ", ".join(f"{phase} {took * 1000:,.0f} ms" for phase, took in phases.items()) or "–"


# --- logs, the Licenses service, seats -------------------------------------------------------------------------------


def _sources(status: Status) -> str:
    body = [
        (
            source.log,
            f"{source.files:,}",
            ago(source.last_entry, status.now) if source.last_entry is not None else "–",
            ago(source.last_read, status.now) if source.last_read is not None else "–",
            f"{source.unread_bytes:,}",
            f"{source.records:,}",
            f"{source.malformed:,}",
            f"{source.unknown:,}",
            source.problem or ("" if source.caught_up else "still reading"),
        )
        for source in status.sources
    ]
    heads = ("Log", "Files", "Newest entry", "Last read", "Unread bytes", "Records", "Malformed", "Unknown", "Problem")
    table = table_of("Log files and their state", heads, body, numbers={1, 4, 5, 6, 7})
    unknown = ""
    if status.unknown:
        unknown = (
            '<details id="unknown"><summary id="unknown-head">Unknown messages of the Licenses log</summary>'
            + table_of(
                "Messages that were not recognised, most frequent first; masked",
                ("Count", "Message"),
                [(f"{wording.count:,}", wording.template) for wording in status.unknown],
                numbers={0},
            )
            + "</details>"
        )
    return f'<section class="wide" aria-labelledby="sources"><h2 id="sources">Logs</h2>{table}{unknown}</section>'


def _service(service: Service, now: float) -> str:
    rows = [
        (page.path, str(page.status) if page.status is not None else f"no answer: {page.problem}")
        for page in service.pages
    ]
    if service.series:
        rows.append(("Metrics", ", ".join((f"{service.series:,} series", *service.names))))
    rows.append(("Looked at", _when(service.at, now)))
    return (
        f'<section aria-labelledby="service"><h2 id="service">The Licenses service itself</h2>{pairs(rows)}</section>'
    )


def _qrs(qrs: Qrs, now: float) -> str:
    state = {True: "✓ answers", False: "✗ cannot be read", None: "not read yet"}[qrs.up]
    rows = [("Repository API", state + (f": {qrs.problem}" if qrs.problem else "")), ("Read", _when(qrs.read_at, now))]
    if qrs.product or qrs.kind:
        rows.append(
            ("License", " ".join(part for part in (qrs.product or "", f"({qrs.kind})" if qrs.kind else "") if part))
        )
    rows.append(("Valid to", _when(qrs.expiry, now)))
    if qrs.expired is not None:
        rows.append(("Expired", "yes" if qrs.expired else "no"))
    if qrs.capacity_allocated is not None and qrs.capacity_used is not None:
        minutes = f"{qrs.capacity_used / 60:,.0f} of {qrs.capacity_allocated / 60:,.0f} used this month"
        rows.append(("Analyzer minutes", minutes))
    if qrs.tokens is not None and qrs.tokens_available is not None:
        rows.append(("Tokens", f"{qrs.tokens_available:,.0f} of {qrs.tokens:,.0f} available"))
    if qrs.unused_read_at is not None:
        rows.append(("Seats that nobody uses", f"counted {ago(qrs.unused_read_at, now)}"))
    if qrs.sessions_per_user_max is not None:
        rows.append(("Highest number of sessions of one user", f"{qrs.sessions_per_user_max:,.0f} of 5"))
    seats = table_of(
        "Licenses by access type",
        ("Type", "Owned", "Allocated", "Used", "Available", "Quarantined", "Excess"),
        [
            (seat.access_type, *("–" if number is None else f"{number:,.0f}" for number in
             (seat.licenses, seat.allocated, seat.used, seat.available, seat.quarantined, seat.excess)))
            for seat in qrs.seats
        ],
        numbers=range(1, 7),
    ) if qrs.seats else ""  # fmt: skip
    unused = table_of(
        "Allocated licenses that nobody uses",
        ("Type", "Counted", "Not used for 30 days", "60 days", "90 days", "Never used"),
        [
            (kind.access_type, f"{kind.allocated:,.0f}", *(f"{kind.unused[each]:,.0f}" for each in
             ("30d", "60d", "90d", "never")))
            for kind in qrs.unused
        ],
        numbers=range(1, 6),
    ) if qrs.unused else ""  # fmt: skip
    return f'<section aria-labelledby="qrs"><h2 id="qrs">License</h2>{pairs(rows)}{seats}{unused}</section>'


def _footer(status: Status) -> str:
    links = " · ".join(
        f'<a href="{path}">{name}</a>'
        for path, name in (
            ("metrics", "Metrics"),
            ("api/v1/status", "Status as JSON"),
            ("api/v1/events", "Events as JSON"),
            ("config", "Configuration"),
            ("runbooks/", "Runbooks"),
            ("-/ready", "Readiness"),
        )
    )
    facts = [f"qlik-license-exporter {escape(status.version)}"]
    if status.started is not None:
        facts.append(f"started {ago(status.started, status.now)}")
    if status.state_last_save is not None:
        facts.append(f"state saved {ago(status.state_last_save, status.now)}")
    elif status.started is not None:
        facts.append("the state cannot be saved; counters are not updated")
    if pushed := status.remote_write:
        if pushed.highest_sent is not None:
            facts.append(f"samples of {ago(pushed.highest_sent, status.now)} were pushed")
        if pushed.oldest_pending is not None and status.now - pushed.oldest_pending > PUSHES_LATE:
            since = ago(pushed.oldest_pending, status.now)
            facts.append(f"samples since {since} wait to be pushed; the log and <code>check</code> say why")
    failed = {part: number for part, number in status.component_failures.items() if number}
    if failed:
        facts.append("restarted: " + ", ".join(f"{part} {count(number, 'time')}" for part, number in failed.items()))
    return f'<footer><nav aria-label="More">{links}</nav><p>{" · ".join(facts)}</p></footer>'
