"""Observations made the way the exporter makes them: log lines in, an `Observation` out. For tests only."""

import json
import time
from collections.abc import Iterable, Sequence

from exporter.config import (
    BACKEND_PROBE,
    REPOSITORY_PROBE,
    Config,
    Duration,
    LicenseConfig,
    MessageConfig,
    ProbeConfig,
    QrsConfig,
)
from exporter.events import LOG_NAMES, LogName, SettleDue
from exporter.examination import rules_of as rules_of_site
from exporter.journal import Journal
from exporter.license import Rules, new_state
from exporter.logs.formats import split
from exporter.logs.messages import Catalogue
from exporter.logs.times import instant
from exporter.observation import LogFigures, Observation
from exporter.probes import ProbeHistory, ProbeResult, Reason
from exporter.qrs import LicenseOverview, QrsBoard, UnusedOverview

NOON = instant("2026-11-02T12:00:00Z") or 0.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

ATTEMPT = "re-syncing assignments with the backend"
NO_SUCH_HOST = "dial tcp: lookup license.qlikcloud.com: no such host"
PROXY_407 = "proxyconnect tcp: Proxy Authentication Required"
UNTRUSTED = "x509: certificate signed by unknown authority"
STALE = "invalid license error, license verification error: lic is stale"


def stamp(at: float) -> str:
    """`at` as the Licenses service writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e7):07d}Z"


def licenses_line(at: float, message: str, **more: str) -> str:
    """One line of the Licenses log; `error` becomes its error text."""
    pairs = {"caller": "sync.go:290", "level": "info", "message": message, "timestamp": stamp(at)}
    return json.dumps({**pairs, **more})


def syncs(first: float, last: float, every: float = 600.0, error: str = "") -> list[str]:
    """Sync attempts, each followed by `error` two seconds later if one is given."""
    lines = []
    at = first
    while at <= last:
        lines.append(licenses_line(at, ATTEMPT))
        if error:
            lines.append(licenses_line(at + 2, "sync failed", errorMessage=error))
        at += every
    return lines


AUDIT_HEADER = (
    "Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    "RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    "Origin\tContext\tCommand\tResult\tMessage\tChecksum"
)


def refusal(at: float, user: str, sessions: int | None = None, number: int = 1) -> str:
    """One refusal in the audit log."""
    count = "" if sessions is None else f" SessionCount: '{sessions}',"
    message = f"Access was denied for User: 'CONTOSO\\{user}', SessionID: 'x',{count} OperationType: 'UsageDenied'"
    return audit_row(
        at, user, "Command=License user access;Result=403;ResultText=Error: Access denied", message, number
    )


def audit_row(at: float, user: str, description: str, message: str, number: int = 1, directory: str = "CONTOSO") -> str:
    """One row of the audit log."""
    columns = [str(number), "14.54.7.0", stamp(at)[:23] + "+0000", "QLIKNODE1", "id", description, "0", "0", "0"]
    columns += [directory, user, "0", "Not available", "Security", "10.0.0.21", "Repository", "x", "/r", "c", "403"]
    return "\t".join([*columns, message, "checksum"])


def result(
    at: float,
    reason: Reason | None = None,
    *,
    judged: bool = True,
    settings: ProbeConfig = BACKEND_PROBE,
    proxied: bool = False,
    issuer_expected: bool | None = None,
    issuer: str | None = None,
    clock_skew: float | None = None,
) -> ProbeResult:
    """One probe that ended at `at`."""
    return ProbeResult(
        target=settings.target,
        role=settings.role,
        at=at - 0.1,
        ended=at,
        success=reason is None if judged else None,
        reason=reason,
        detail="as expected" if reason is None else "it did not work",
        phases={"dns": 0.01},
        proxied=proxied,
        issuer_expected=issuer_expected,
        issuer=issuer,
        clock_skew=clock_skew,
    )


def history(results: Iterable[ProbeResult], settings: ProbeConfig = BACKEND_PROBE) -> ProbeHistory:
    """A probe's history."""
    kept = ProbeHistory(settings)
    for one in results:
        kept.record(one)
    return kept


def repository(results: Iterable[ProbeResult]) -> ProbeHistory:
    """The history of the probe of the Repository."""
    return history(results, REPOSITORY_PROBE)


def board(overview: LicenseOverview, unused: UnusedOverview | None = None) -> QrsBoard:
    """What the Repository API told."""
    board = QrsBoard(QrsConfig(enabled=True, seats_interval=Duration(6 * 3600)))
    board._succeeded(overview, 0.1)
    if unused is not None:
        board._counted(unused)
    return board


def rules_of(license: LicenseConfig | None = None, messages: tuple[MessageConfig, ...] = ()) -> Rules:
    """The rules of a site."""
    license = license or LicenseConfig()
    catalogue = Catalogue(messages)
    return rules_of_site(Config(license=license), catalogue)


def observation(
    licenses: Sequence[str] | None = None,
    audit: Sequence[str] | None = None,
    *,
    now: float = NOON,
    license: LicenseConfig | None = None,
    messages: tuple[MessageConfig, ...] = (),
    probes: Sequence[ProbeHistory] = (),
    qrs: QrsBoard | None = None,
    started: float | None = None,
    covered_since: float | None = None,
    logs: dict[LogName, LogFigures] | None = None,
    show_people: bool = False,
    trace: Sequence[str] | None = None,
) -> Observation:
    """What is known at `now` after these lines were read to their end."""
    rules = rules_of(license, messages)
    state, journal = new_state(bytes(32)), Journal(show_people)
    figures: dict[LogName, LogFigures] = {}
    lines_of: dict[LogName, list[str] | None] = {
        "licenses": list(licenses) if licenses is not None else None,
        "repository_audit": [AUDIT_HEADER, *audit] if audit is not None else None,
        "repository_trace": list(trace) if trace is not None else None,
    }
    oldest = None
    for log, lines in lines_of.items():
        if lines is None:
            continue
        records = split(log, [line.encode() for line in lines], None, final=True).records
        journal.note(log, records, state.fold_records(log, records, now, rules))
        state.caught_up.add(log)
        figures[log] = LogFigures(files=1, listed=True, last_read=now)
        if log == "licenses":
            oldest = min((record.at for record in records if record.at is not None), default=None)
    state.fold(SettleDue(now), now, rules)
    return Observation(
        now=now,
        rules=rules,
        state=state,
        counted=state,
        messages={log: Catalogue(messages).names(log) for log in LOG_NAMES},
        logs=figures if logs is None else logs,
        probes=probes,
        qrs=qrs,
        started=started,
        covered_since=covered_since if covered_since is not None else oldest,
        journal=journal,
    )
