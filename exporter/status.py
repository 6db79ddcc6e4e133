"""The status page and `/api/v1/status` as plain data, from one observation. Pure.

Times are in seconds since 1970 (UTC), durations in seconds; None means not known. People, hosts and keys are masked
unless the site shows people. The names of the fields are API.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

from exporter import __version__
from exporter.events import DENIAL_REASONS, LOG_NAMES, USER_DENIAL_REASONS, DenialReason, LogName
from exporter.journal import Entry, Journal
from exporter.license import LicenseState, LogCounters, SuccessSource
from exporter.masking import masked
from exporter.observation import LogFigures, Observation
from exporter.printable import printable, printable_tree
from exporter.probes import Phase, ProbeHistory, ServiceBoard
from exporter.qrs import QrsBoard
from exporter.verdict import Judgement, judge
from exporter.verdict.phrases import SILENCE_DOUBTED
from exporter.wording import instant

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
_Shown = TypeVar("_Shown", bound=msgspec.Struct)
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
    unclear_attempts: int
    """Attempts since the last success of which it is not known how they ended."""
    unclear_since: float | None
    """When the first of them was made."""
    silence_doubted: str
    """Why an attempt without a logged failure does not count as a success; empty if it does."""
    lockout: float | None
    grace: float
    sync_attempts: int
    sync_failures: int


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """The refusals for one reason."""

    reason: DenialReason
    users_last_hour: int | None
    """Distinct users; None if the entries name no user."""
    last: float | None
    total: int


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One interval of the timeline: the worst state of the sync, and the backend probes."""

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
    """A wording that no message of the catalogue matches."""

    log: str
    template: str
    count: int
    first: float | None
    last: float | None


class ServicePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the Licenses service."""

    path: str
    status: int | None
    problem: str


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What the Licenses service itself answers."""

    at: float | None
    pages: tuple[ServicePage, ...]
    series: int
    names: tuple[str, ...]
    """Metric names that seem to be about licenses."""


class RemoteWrite(msgspec.Struct, frozen=True, kw_only=True):
    """What is pushed."""

    highest_sent: float | None
    """Time of the newest samples that the receiver has taken; None: none since the start."""
    pending: int
    """Samples that wait."""
    oldest_pending: float | None


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """One probe that ended."""

    at: float
    success: bool | None
    """None: not judged; `detail` says why."""
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


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """Seats of one kind that nobody uses."""

    access_type: str
    allocated: float
    unused: dict[str, float]
    """By the time since their last use, as the label `unused`."""


class Qrs(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the Repository API."""

    up: bool | None
    problem: str
    read_at: float | None
    expiry: float | None
    expired: bool | None
    valid: bool | None
    kind: str | None
    product: str | None
    seats: tuple[Seats, ...]
    unused: tuple[Unused, ...]
    """Empty if they are not counted (`qrs.seats_interval`), or cannot be."""
    unused_read_at: float | None
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
    service: Service | None
    """What the Licenses service itself answers; None if `licenses_service` is not enabled."""
    remote_write: RemoteWrite | None
    """None if nothing is pushed."""
    state_last_save: float | None
    component_failures: dict[str, int]


def status(seen: Observation, people: bool = False) -> Status:
    """The status of one observation; `people`: for somebody who may see them, where `web.show_people` is set."""
    show_people = people and seen.journal is not None and seen.journal.show_people
    shown: Callable[[str], str] = printable if show_people else masked
    return _made(
        Status,
        seen,
        version=__version__,
        ready=all(figures.listed for figures in seen.logs.values()),
        people_shown=show_people,
        verdict=seen.judgement or judge(seen),
        license=_license(seen),
        refusals=tuple(_refusals(seen, reason) for reason in DENIAL_REASONS),
        timeline=_timeline(seen),
        events=_events(seen.journal.entries(people=people))[:EVENTS_SHOWN] if seen.journal else (),
        sources=tuple(_source(seen, log, seen.logs[log], shown) for log in LOG_NAMES if log in seen.logs),
        unknown=_unknown(seen.journal, people)[:UNKNOWN_SHOWN],
        probes=tuple(_probe(history, seen.state.probe_success, shown) for history in seen.probes),
        qrs=_qrs(seen.qrs, seen.now, shown) if seen.qrs is not None else None,
        service=_service(seen.service, shown) if seen.service is not None else None,
        remote_write=_made(RemoteWrite, seen.remote_write) if seen.remote_write is not None else None,
        component_failures=dict(seen.component_failures),
    )


def status_of(seen: Observation, people: bool = False) -> dict[str, object]:
    """The same as JSON data, for `/api/v1/status`."""
    return dict(printable_tree(msgspec.to_builtins(status(seen, people))))


def events_of(journal: Journal, people: bool = False) -> dict[str, object]:
    """The newest notable entries one by one, and the unknown wordings, for `/api/v1/events`."""
    tree = {"events": journal.entries(people=people), "unknown": _unknown(journal, people)}
    return dict(printable_tree(msgspec.to_builtins(tree)))


def _unknown(journal: Journal | None, people: bool) -> tuple[Unknown, ...]:
    """The wordings of the Licenses log that nothing recognised, the most frequent first."""
    return tuple(msgspec.convert(row, Unknown) for row in (journal.unknown(people) if journal else ()))


def _events(entries: Sequence[Entry]) -> tuple[Events, ...]:
    """Equal entries grouped; newest first, like `entries`."""
    alike: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((entry.log, entry.message, entry.meaning, entry.user, entry.text), []).append(entry)
    return tuple(
        _made(Events, group[0], count=len(group), first=group[-1].at, last=group[0].at) for group in alike.values()
    )


def _refusals(seen: Observation, reason: DenialReason) -> Refusals:
    return Refusals(
        reason=reason,
        users_last_hour=seen.state.refused_users(reason, seen.now) if reason in USER_DENIAL_REASONS else None,
        last=seen.state.last_denial.get(reason),
        total=(seen.counted or seen.state).counters.denials.get(reason, 0),
    )


def _license(seen: Observation) -> License:
    state, expected = seen.state, seen.state.sync_expected(seen.rules)
    at, source = state.last_success() or (None, None)
    return _made(
        License,
        (seen.counted or state).counters,
        seen.rules,
        state,
        sync_expected=expected,
        stale=expected and state.stale(),
        last_success=at,
        success_source=source,
        silence_doubted=_silence_doubted(state),
        lockout=state.lockout(seen.rules),
    )


def _silence_doubted(state: LicenseState) -> str:
    verdict = state.sync.verdicts.newest
    if not state.sync.doubted or verdict is None:
        return ""
    return f"The Licenses service reported its license as stale at {instant(verdict)}. {SILENCE_DOUBTED}"


def _source(seen: Observation, log: LogName, figures: LogFigures, shown: Callable[[str], str]) -> Source:
    counters = (seen.counted or seen.state).counters.logs.get(log) or LogCounters()
    return _made(
        Source,
        figures,
        counters,
        log=log,
        caught_up=log in seen.state.caught_up,
        last_entry=seen.state.last_entry.get(log),
        unknown=counters.messages.get("unknown", 0),
        problem=shown(figures.problem),
    )


def _probe(history: ProbeHistory, kept: Mapping[str, float], shown: Callable[[str], str]) -> Probe:
    last = history.last
    return _made(
        Probe,
        history.settings,
        history,
        last,
        last_success=history.last_success or kept.get(history.settings.target),
        failures={reason: number for reason, number in history.failures.items() if number},
        cure=last.cure if last is not None else "",
        certificate_expiry=last.cert_expiry if last else None,
        results=tuple(
            _made(
                Probed,
                result,
                at=result.ended,
                detail=printable(result.shown_detail(shown)),
                phases=dict(result.phases),
            )
            for result in list(history.results)[: -PROBES_SHOWN - 1 : -1]
        ),
    )


def _qrs(board: QrsBoard, now: float, shown: Callable[[str], str]) -> Qrs:
    overview, counted = board.overview(now), board.unused(now)
    return _made(
        Qrs,
        overview,
        up=board.up,
        problem=shown(board.reason),
        read_at=board.last_success,
        unused=tuple(
            _made(Unused, seats, access_type=name) for name, seats in (counted.access.items() if counted else ())
        ),
        unused_read_at=counted.read_at if counted else None,
        seats=tuple(
            _made(Seats, seats, access_type=name) for name, seats in (overview.access.items() if overview else ())
        ),
    )


def _made(kind: type[_Shown], *known: object, **fields: object) -> _Shown:
    """A `kind` of `fields`; missing fields are attributes of the same name, from the first of `known` that has it.

    Such a field is None if nothing has it and one of `known` is None, that is, not known yet.
    """
    for name in kind.__struct_fields__:
        if name not in fields:
            owner = next((each for each in known if hasattr(each, name)), None)
            if owner is None and None not in known:
                raise TypeError(f"nothing is known of {kind.__name__}.{name}")
            fields[name] = getattr(owner, name, None)
    return kind(**fields)


def _service(board: ServiceBoard, shown: Callable[[str], str]) -> Service:
    look = board.last
    return Service(
        at=look.at if look else None,
        pages=tuple(
            ServicePage(path=page.path, status=page.status, problem=shown(page.problem))
            for page in (look.pages if look else ())
        ),
        series=look.series if look else 0,
        names=look.names if look else (),
    )


def _timeline(seen: Observation) -> Timeline:
    """The marks of the sync and the probes, in equal slots up to now."""
    now = seen.now
    longest = _WINDOWS[-1]
    marks: list[tuple[float, SyncMark]] = []
    if seen.journal:
        marks += [(at, mark) for at, mark in seen.journal.syncs(now - longest, now)]
    marks += [(at, "succeeded") for at in seen.state.sync.inferred_successes() if at > now - longest]
    # Also those in words that no message has, which the journal only knows as attempts.
    marks += [(at, "failed") for at in seen.state.sync.failed_attempts() if now - longest < at <= now]
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
