"""What the status page and `/api/v1/status` show: one observation as plain data, made once for both. Pure.

Every instant is in seconds since 1970 (UTC), every span in seconds; None is what is not known. People, hosts and keys
are masked unless the site shows people. The names of the fields are API.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from exporter import __version__
from exporter.events import DENIAL_REASONS, LOG_NAMES, USER_DENIAL_REASONS, DenialReason, LogName
from exporter.journal import Entry, Journal
from exporter.license import LogCounters, SuccessSource
from exporter.masking import masked
from exporter.observation import LogFigures, Observation
from exporter.printable import printable, printable_tree
from exporter.probes import Phase, ProbeHistory, ProbeResult
from exporter.qrs import QrsBoard
from exporter.verdict import Judgement, judge

EVENTS_SHOWN = 20
"""Kinds of entries on the page; `/api/v1/events` has each entry."""
UNKNOWN_SHOWN = 10
PROBES_SHOWN = 20
"""Results of each probe on the page."""
SLOTS = 48
"""Parts of the timeline."""
_WINDOWS = (600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
"""Spans that the timeline may show: the shortest that holds what is known."""

SyncMark = Literal["", "attempted", "succeeded", "failed", "stale"]
_GRAVITY: tuple[SyncMark, ...] = ("", "attempted", "succeeded", "failed", "stale")


class License(msgspec.Struct, frozen=True, kw_only=True):
    """The sync clock."""

    kind: str
    sync_expected: bool
    stale: bool
    stale_verdict: float | None
    last_success: float | None
    success_source: SuccessSource | None
    last_attempt: float | None
    last_failure: float | None
    consecutive_failures: int
    lockout: float | None
    grace: float
    sync_attempts: int
    sync_failures: int


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """The refusals for one reason."""

    reason: DenialReason
    users_last_hour: int | None
    """Distinct users; None where no user is named."""
    last: float | None
    total: int


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the timeline: the gravest mark of the sync, and the backend's probes."""

    since: float
    sync: SyncMark
    probes_good: int
    probes_bad: int


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Sync and backend probes over the last while."""

    since: float
    until: float
    slots: tuple[Slot, ...]


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Recent entries that say the same."""

    log: LogName
    message: str
    meaning: str
    user: str
    text: str
    count: int
    first: float | None
    last: float | None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One log and how it is read."""

    log: LogName
    files: int
    caught_up: bool
    unread_bytes: int
    last_entry: float | None
    last_read: float | None
    records: int
    malformed: int
    unknown: int
    read_errors: int
    problem: str


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """A wording that no message of the catalogue knows."""

    log: str
    template: str
    count: int
    first: float | None
    last: float | None


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """One probe that ended."""

    at: float
    success: bool | None
    """None: inconclusive; `detail` says why."""
    reason: str | None
    detail: str
    phases: dict[Phase, float]
    status: int | None
    ip_protocol: int | None
    proxied: bool


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One target: its last result, and those before."""

    target: str
    role: str
    last_success: float | None
    attempts: int
    failures: dict[str, int]
    cure: str
    tls_version: str | None
    issuer: str | None
    issuer_expected: bool | None
    certificate_expiry: float | None
    clock_skew: float | None
    results: tuple[Probed, ...]
    """The newest first."""


class Seats(msgspec.Struct, frozen=True, kw_only=True):
    """The licenses of one access type."""

    access_type: str
    licenses: float | None
    allocated: float | None
    used: float | None
    available: float | None
    quarantined: float | None
    excess: float | None


class Qrs(msgspec.Struct, frozen=True, kw_only=True):
    """What the Repository API tells."""

    up: bool | None
    problem: str
    read_at: float | None
    expiry: float | None
    expired: bool | None
    valid: bool | None
    kind: str | None
    product: str | None
    seats: tuple[Seats, ...]
    capacity_allocated: float | None
    capacity_used: float | None
    tokens: float | None
    tokens_available: float | None
    sessions_per_user_max: float | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown."""

    version: str
    now: float
    started: float | None
    first_started: float | None
    ready: bool
    """Whether every log has been read to the end found at start."""
    people_shown: bool
    verdict: Judgement
    license: License
    refusals: tuple[Refusals, ...]
    timeline: Timeline
    events: tuple[Events, ...]
    sources: tuple[Source, ...]
    unknown: tuple[Unknown, ...]
    probes: tuple[Probe, ...]
    qrs: Qrs | None
    state_last_save: float | None
    component_failures: dict[str, int]


def status(seen: Observation, people: bool = False) -> Status:
    """The status of one observation; `people`: for somebody who may see them, where `web.show_people` is set."""
    show_people = people and seen.journal is not None and seen.journal.show_people
    shown: Callable[[str], str] = printable if show_people else masked
    success = seen.state.last_success()
    return Status(
        version=__version__,
        now=seen.now,
        started=seen.started,
        first_started=seen.first_started,
        ready=all(figures.listed for figures in seen.logs.values()),
        people_shown=show_people,
        verdict=judge(seen),
        license=License(
            kind=seen.rules.kind,
            sync_expected=seen.state.sync_expected(seen.rules),
            stale=seen.state.sync_expected(seen.rules) and seen.state.stale(),
            stale_verdict=seen.state.stale_verdict,
            last_success=success[0] if success else None,
            success_source=success[1] if success else None,
            last_attempt=seen.state.last_attempt,
            last_failure=seen.state.last_failure,
            consecutive_failures=seen.state.consecutive_failures,
            lockout=seen.state.lockout(seen.rules),
            grace=seen.rules.grace,
            sync_attempts=(seen.counted or seen.state).counters.sync_attempts,
            sync_failures=(seen.counted or seen.state).counters.sync_failures,
        ),
        refusals=tuple(_refusals(seen, reason) for reason in DENIAL_REASONS),
        timeline=_timeline(seen),
        events=_events(seen.journal.entries(people=people))[:EVENTS_SHOWN] if seen.journal else (),
        sources=tuple(_source(seen, log, seen.logs[log], shown) for log in LOG_NAMES if log in seen.logs),
        unknown=_unknown(seen.journal, people)[:UNKNOWN_SHOWN],
        probes=tuple(_probe(history, seen.state.probe_success, shown) for history in seen.probes),
        qrs=_qrs(seen.qrs, seen.now, shown) if seen.qrs is not None else None,
        state_last_save=seen.state_last_save,
        component_failures=dict(seen.component_failures),
    )


def status_of(seen: Observation, people: bool = False) -> dict[str, object]:
    """The same as what JSON is made of, for `/api/v1/status`."""
    return dict(printable_tree(msgspec.to_builtins(status(seen, people))))


def events_of(journal: Journal, people: bool = False) -> dict[str, object]:
    """The newest notable entries, each of them, and the unknown wordings, for `/api/v1/events`."""
    tree = {"events": journal.entries(people=people), "unknown": _unknown(journal, people)}
    return dict(printable_tree(msgspec.to_builtins(tree)))


def _unknown(journal: Journal | None, people: bool) -> tuple[Unknown, ...]:
    """The wordings of the Licenses log that nothing recognised, the most frequent first."""
    return tuple(msgspec.convert(row, Unknown) for row in (journal.unknown(people) if journal else ()))


def _events(entries: Sequence[Entry]) -> tuple[Events, ...]:
    """Entries that say the same, as one; the newest first, as `entries` are."""
    alike: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((entry.log, entry.message, entry.meaning, entry.user, entry.text), []).append(entry)
    return tuple(
        Events(
            log=group[0].log,
            message=group[0].message,
            meaning=group[0].meaning,
            user=group[0].user,
            text=group[0].text,
            count=len(group),
            first=group[-1].at,
            last=group[0].at,
        )
        for group in alike.values()
    )


def _refusals(seen: Observation, reason: DenialReason) -> Refusals:
    return Refusals(
        reason=reason,
        users_last_hour=seen.state.refused_users(reason, seen.now) if reason in USER_DENIAL_REASONS else None,
        last=seen.state.last_denial.get(reason),
        total=(seen.counted or seen.state).counters.denials.get(reason, 0),
    )


def _source(seen: Observation, log: LogName, figures: LogFigures, shown: Callable[[str], str]) -> Source:
    counters = (seen.counted or seen.state).counters.logs.get(log) or LogCounters()
    return Source(
        log=log,
        files=figures.files,
        caught_up=log in seen.state.caught_up,
        unread_bytes=figures.unread_bytes,
        last_entry=seen.state.last_entry.get(log),
        last_read=figures.last_read,
        records=counters.records,
        malformed=counters.malformed,
        unknown=counters.messages.get("unknown", 0),
        read_errors=figures.read_errors,
        problem=shown(figures.problem),
    )


def _probe(history: ProbeHistory, kept: Mapping[str, float], shown: Callable[[str], str]) -> Probe:
    last = history.last
    return Probe(
        target=history.settings.target,
        role=history.settings.role,
        last_success=history.last_success or kept.get(history.settings.target),
        attempts=history.attempts,
        failures={reason: number for reason, number in history.failures.items() if number},
        cure=last.cure if last is not None else "",
        tls_version=last.tls_version if last else None,
        issuer=last.issuer if last else None,
        issuer_expected=last.issuer_expected if last else None,
        certificate_expiry=last.cert_expiry if last else None,
        clock_skew=last.clock_skew if last else None,
        results=tuple(_probed(result, shown) for result in list(history.results)[: -PROBES_SHOWN - 1 : -1]),
    )


def _probed(result: ProbeResult, shown: Callable[[str], str]) -> Probed:
    return Probed(
        at=result.ended,
        success=result.success,
        reason=result.reason,
        detail=shown(result.detail),
        phases=dict(result.phases),
        status=result.status,
        ip_protocol=result.ip_protocol,
        proxied=result.proxied,
    )


def _qrs(board: QrsBoard, now: float, shown: Callable[[str], str]) -> Qrs:
    overview = board.overview(now)
    return Qrs(
        up=board.up,
        problem=shown(board.reason),
        read_at=board.last_success,
        expiry=overview.expiry if overview else None,
        expired=overview.expired if overview else None,
        valid=overview.valid if overview else None,
        kind=overview.kind if overview else None,
        product=overview.product if overview else None,
        seats=tuple(
            Seats(access_type=name, **msgspec.structs.asdict(seats))
            for name, seats in (overview.access.items() if overview else ())
        ),
        capacity_allocated=overview.capacity_allocated if overview else None,
        capacity_used=overview.capacity_used if overview else None,
        tokens=overview.tokens if overview else None,
        tokens_available=overview.tokens_available if overview else None,
        sessions_per_user_max=overview.sessions_per_user_max if overview else None,
    )


def _timeline(seen: Observation) -> Timeline:
    """The marks of the sync and the probes, in equal slots up to now."""
    now = seen.now
    longest = _WINDOWS[-1]
    marks: list[tuple[float, SyncMark]] = []
    if seen.journal:
        marks += [(at, mark) for at, mark in seen.journal.syncs(now - longest, now)]
    marks += [(at, "succeeded") for at in seen.state.sync.inferred_successes() if at > now - longest]
    probes = [
        (result.ended, result.success)
        for history in seen.probes
        if history.settings.role == "backend"
        for result in list(history.results)
        if result.success is not None and result.ended > now - longest
    ]
    oldest = min([at for at, _ in marks] + [at for at, _ in probes], default=now)
    window = next((span for span in _WINDOWS if now - oldest <= span), longest)
    since, width = now - window, window / SLOTS
    gravest: list[SyncMark] = [""] * SLOTS
    good, bad = [0] * SLOTS, [0] * SLOTS
    for at, mark in marks:
        slot = min(SLOTS - 1, max(0, int((at - since) / width)))
        gravest[slot] = max(gravest[slot], mark, key=_GRAVITY.index)
    for at, success in probes:
        slot = min(SLOTS - 1, max(0, int((at - since) / width)))
        good[slot] += success
        bad[slot] += not success
    return Timeline(
        since=since,
        until=now,
        slots=tuple(
            Slot(since=since + slot * width, sync=gravest[slot], probes_good=good[slot], probes_bad=bad[slot])
            for slot in range(SLOTS)
        ),
    )
