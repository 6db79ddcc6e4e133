"""LicenseState: folds everything that was observed, and derives sync age, stale and lockout. Pure.

Times are log time; `now` is always an argument. The rules are those of docs/design.md, "The sync clock".
"""

import hashlib
import hmac
import operator
import secrets
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, compress, takewhile
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from exporter.events import (
    USER_DENIAL_REASONS,
    AccessDenied,
    AccessGranted,
    DenialReason,
    ErrorClass,
    LicenseError,
    LicenseInUse,
    LicenseStale,
    LogEvent,
    LogName,
    OutsideEvent,
    ProbeFinished,
    QrsLicenseRead,
    ServiceStarted,
    SettleDue,
    SevereEntry,
    SevereLevel,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
    SyncTrouble,
)
from exporter.logs.records import Columns, times_of
from exporter.logs.times import Times
from exporter.sync_clock import DISORDER, Attempt, ClockRules, Mark, SyncClock

FUTURE = 300.0
"""Seconds that a record may be ahead of now and still change timestamps."""
CLOCK_WRONG = 3600.0
"""Seconds that a time noted earlier may be ahead of now. If it is later, the clock was wrong when it was noted."""
REFUSED_WINDOW = 3600.0
"""Seconds for which refused users are remembered, as keyed hashes."""
MOST_REFUSED = 10_000
"""Largest number of refused users remembered for each reason; the gauge does not exceed it."""
INVALID_PAUSE = 3600.0
"""Seconds after which another report of an invalid license begins a new series."""
JUMP = 3600.0
"""A larger step in seconds between two entries of the Licenses log may be a clock that was set ahead by mistake."""

SuccessSource = Literal["message", "qrs", "inferred"]
SUCCESS_SOURCES: tuple[SuccessSource, ...] = ("message", "qrs", "inferred")


class RecordLike(Protocol):
    """The part of a log record that folding uses; see `exporter.logs.records.Record`."""

    at: float | None
    counts: bool
    malformed: bool
    orphan: bool
    dated: bool


Recognised = Sequence[tuple[str, LogEvent | None]]
"""For each record its message, and its event or None."""


def meaningful(recognised: Recognised) -> list[int]:
    """The numbers of the records with a meaning. Nearly all others have the same one as the last, compared first."""
    usual = recognised[-1] if recognised and recognised[-1][1] is None else None
    return [number for number, one in enumerate(recognised) if one is not usual and one[1] is not None]


_message_of = operator.itemgetter(0)
_is_dated = operator.attrgetter("dated")


class _Peaks(NamedTuple):
    """The latest time so far at each record; the largest step between two of them, and the largest number of seconds
    by which a record is older than it."""

    values: Sequence[float]
    tallest_step: float
    lateness: float


def _peaks(records: Sequence[RecordLike], newest: float, horizon: float) -> _Peaks | None:
    """None unless every record has a time from shortly before `newest` to `horizon`."""
    times = times_of(records)
    if not times:
        return None
    if isinstance(times, Times) and times.in_order and newest <= times[0] and times[-1] - newest <= JUMP:
        return _Peaks(times, times[-1] - newest, 0.0) if times[-1] <= horizon else None
    known = times.all() if isinstance(times, Times) else [at for at in times if at is not None]
    if len(known) < len(times) or not newest - DISORDER <= min(known) <= max(known) <= horizon:
        return None
    peaks = list(accumulate(known, max, initial=newest))
    after = peaks[1:]
    return _Peaks(after, max(map(operator.sub, after, peaks)), max(map(operator.sub, after, known)))


def _all_dated(records: Sequence[RecordLike]) -> bool:
    """Whether each of `records` has a time of its own."""
    return isinstance(records, Columns) or all(map(_is_dated, records))


class Rules(NamedTuple):
    """The inputs of folding: the settings of the license, and the catalogue."""

    recognise: Callable[[LogName, Sequence[Any]], Recognised]
    """The catalogue."""
    uses: Callable[[LogName, Sequence[Any]], Sequence[tuple[float, LicenseInUse]]] = lambda log, records: ()
    """Signs of use in records. Called only while silence proves nothing."""
    infers: bool = True
    """Whether success is inferred from silence; False if a message reports successes."""
    kind: Literal["auto", "signed_key", "offline", "lef"] = "auto"
    grace: float = 5 * 86400
    settle: float = 90


class LogCounters(msgspec.Struct):
    """The durable counters of one log."""

    records: int = 0
    read_bytes: int = 0
    malformed: int = 0
    future: int = 0
    rotations: int = 0
    lost_generations: int = 0
    messages: dict[str, int] = {}
    severe: dict[SevereLevel, int] = {}


class Counters(msgspec.Struct):
    """The durable counters."""

    sync_attempts: int = 0
    sync_failures: int = 0
    errors: dict[ErrorClass, int] = {}
    denials: dict[DenialReason, int] = {}
    logs: dict[LogName, LogCounters] = {}


class LicenseState(msgspec.Struct, kw_only=True):
    """Everything durable that is known about the license. Mutable: the ledger folds into a copy, which replaces it."""

    key: bytes = b""
    """A random key of this installation, with which refused users are hashed."""
    counters: Counters = msgspec.field(default_factory=Counters)
    caught_up: set[LogName] = set()
    """The logs that were read to the end they had when they were first listed; only their gauges are shown."""
    last_entry: dict[LogName, float] = {}
    """The time of each log's newest entry."""
    first_sign: float | None = None
    """When the Licenses service first showed that it manages the license, by an attempt, a code or a network error."""
    sync: SyncClock = msgspec.field(default_factory=SyncClock)
    """Which syncs succeeded."""
    jump: tuple[float, float] | None = None
    """The last large step in the times of the Licenses log, from and to. If it is reversed, the clock was wrong."""
    message_success: float | None = None
    qrs_success: float | None = None
    last_attempt: float | None = None
    last_failure: float | None = None
    stale_verdict: float | None = None
    last_error: dict[ErrorClass, float] = {}
    """The newest error entry of each class."""
    last_denial: dict[DenialReason, float] = {}
    """The newest refusal for each reason."""
    last_error_message: str = ""
    """The name of the newest message of a network error."""
    invalid_since: float | None = None
    """Since when the license has repeatedly been reported as invalid."""
    last_severe: dict[SevereLevel, float] = {}
    """The newest entry of the Repository's license loggers at each level above INFO."""
    probe_success: dict[str, float] = {}
    """The last successful probe of each target."""
    refused: dict[DenialReason, dict[str, tuple[float, ...]]] = {}
    """Refused users of the last hour, hashed: the newest row time, and the first and last ones in the future."""

    def copy(self) -> "LicenseState":
        """A copy that can be changed independently."""
        return msgspec.structs.replace(
            self,
            counters=msgspec.structs.replace(
                self.counters,
                errors=dict(self.counters.errors),
                denials=dict(self.counters.denials),
                logs={
                    log: msgspec.structs.replace(
                        counters, messages=dict(counters.messages), severe=dict(counters.severe)
                    )
                    for log, counters in self.counters.logs.items()
                },
            ),
            caught_up=set(self.caught_up),
            last_entry=dict(self.last_entry),
            sync=self.sync.copy(),
            probe_success=dict(self.probe_success),
            last_error=dict(self.last_error),
            last_denial=dict(self.last_denial),
            last_severe=dict(self.last_severe),
            refused={reason: dict(users) for reason, users in self.refused.items()},
        )

    # --- derived values ----------------------------------------------------------------------------------------------

    def sync_expected(self, rules: Rules) -> bool:
        """Whether the license of this site is synchronised with the backend."""
        return rules.kind == "signed_key" or (rules.kind == "auto" and self.first_sign is not None)

    def last_success(self) -> tuple[float, SuccessSource] | None:
        """The time of the last sync that succeeded, and how it is known; None if none is known."""
        known: list[tuple[float, SuccessSource]] = []
        if (inferred := self.sync.inferred_success()) is not None:
            known.append((inferred, "inferred"))
        if self.qrs_success is not None:
            known.append((self.qrs_success, "qrs"))
        if self.message_success is not None:
            known.append((self.message_success, "message"))
        return max(known, key=lambda success: (success[0], success[1] != "inferred"), default=None)

    @property
    def consecutive_failures(self) -> int:
        """Syncs that failed since the last success."""
        return self._since_success()[0]

    @property
    def unclear_attempts(self) -> int:
        """Syncs since the last success that ended unclear."""
        return self._since_success()[1]

    @property
    def unclear_since(self) -> float | None:
        """When the first of the kept ones was attempted; None if there is none."""
        success = self.last_success()
        return self.sync.unclear_since(success[0] if success else None)

    def _since_success(self) -> tuple[int, int]:
        success = self.last_success()
        return self.sync.since(success[0] if success else None)

    def stale(self) -> bool:
        """Whether the newest stale verdict is newer than the last success."""
        success = self.last_success()
        return self.stale_verdict is not None and (success is None or self.stale_verdict > success[0])

    def lockout(self, rules: Rules) -> float | None:
        """When users will be locked out at the latest: last success + grace (an upper bound, qlik-facts 1).

        If no success is known, the grace period is counted from the first sign of the service.
        """
        success = self.last_success()
        since = success[0] if success else self.first_sign
        return since + rules.grace if since is not None and self.sync_expected(rules) else None

    def refused_users(self, reason: DenialReason, now: float) -> int:
        """Distinct users refused for `reason` within (now - 1 h, now], by row time."""
        users = self.refused.get(reason, {})
        return sum(any(now - REFUSED_WINDOW < at <= now for at in times) for times in users.values())

    # --- folding -----------------------------------------------------------------------------------------------------

    def log_counters(self, log: LogName) -> LogCounters:
        """The counters of `log`, created if there are none yet."""
        return self.counters.logs.setdefault(log, LogCounters())

    def count_reading(
        self, log: LogName, *, read_bytes: int = 0, rotations: int = 0, lost_generations: int = 0
    ) -> None:
        """Add the tail's figures of reading `log`."""
        counters = self.log_counters(log)
        counters.read_bytes += read_bytes
        counters.rotations += rotations
        counters.lost_generations += lost_generations

    def fold_records(self, log: LogName, records: Sequence[RecordLike], now: float, rules: Rules) -> Recognised:
        """Fold `records` of `log`, in order. History sets gauges only; every other record counts exactly once.

        Returns their meanings.
        """
        recognised = rules.recognise(log, records)
        self.sync.rules = ClockRules(rules.infers, rules.grace, rules.settle)
        self._count_messages(log, records, recognised)
        done = self._fold_plain(log, records, recognised, now)
        if done < len(records):
            self._fold_any(log, records[done:], recognised[done:], now, rules)
        self.counters.sync_failures = max(self.counters.sync_failures, self.sync.failures)
        self._forget(now)
        return recognised

    def _count_messages(self, log: LogName, records: Sequence[RecordLike], recognised: Recognised) -> None:
        counters = self.log_counters(log)
        messages: Iterable[str] = map(_message_of, recognised)
        if not isinstance(records, Columns):
            counters.malformed += sum([record.counts for record in records if record.malformed])
            messages = compress(
                messages, [record.counts and not (record.malformed and record.orphan) for record in records]
            )
        elif not records.counts:
            return
        elif recognised:  # nearly all have the same message
            usual = recognised[-1]
            others = [one for one in recognised if one is not usual]
            counters.messages[usual[0]] = counters.messages.get(usual[0], 0) + len(recognised) - len(others)
            counters.records += len(recognised) - len(others)
            messages = map(_message_of, others)
        for message, number in Counter(messages).items():
            counters.messages[message] = counters.messages.get(message, 0) + number
            counters.records += number

    def _fold_plain(self, log: LogName, records: Sequence[RecordLike], recognised: Recognised, now: float) -> int:
        """Fold records with plausible times: only those with a meaning are handled individually.

        Returns how many were folded: none if any time is implausible, otherwise those up to the first from which on
        every record matters.
        """
        newest = self.last_entry.get(log)
        clock = self.sync if log == "licenses" else None
        if (
            newest is None
            or newest > now + CLOCK_WRONG
            or self.sync.doubted
            or (clock is not None and clock.follows_torn())
            or not _all_dated(records)
            or (peaks := _peaks(records, newest, now + FUTURE)) is None
        ):
            return 0
        if clock is not None:
            if peaks.tallest_step > JUMP or peaks.lateness > DISORDER:
                return 0
            clock.entries += len(records)
            clock.lateness = max(clock.lateness, peaks.lateness)
        noted = 0
        for index in meaningful(recognised):
            record, peak = records[index], peaks.values[index]
            at, (message, event) = record.at, recognised[index]
            if at is None or event is None:
                continue  # never: `peaks` ensures it
            if clock is not None:
                if type(event) is ServiceStarted:
                    noted = self._note_entries(peaks.values, noted, index)
                    clock.note_entry(at, new_run=True)
                noted = self._note_entries(peaks.values, noted, index + 1)
                clock.latest = peak if clock.latest is None else max(clock.latest, peak)
            self._fold_event(log, record, message, event, at, at >= peak - DISORDER, now)
            if self.sync.doubted:
                self.last_entry[log] = peak
                return index + 1
        latest = peaks.values[-1]
        if clock is not None:
            self._note_entries(peaks.values, noted, len(records))
            clock.latest = latest if clock.latest is None else max(clock.latest, latest)
        self.last_entry[log] = latest
        return len(records)

    def _note_entries(self, peaks: Sequence[float], begin: int, end: int) -> int:
        """Pass to the clock those records from `begin` to `end` that show a living service after an attempt."""
        while (begin := bisect_left(peaks, self.sync.outlived_from, begin, end)) < end:
            self.sync.note_entry(peaks[begin])
            begin += 1
        return end

    def _fold_any(
        self, log: LogName, records: Sequence[RecordLike], recognised: Recognised, now: float, rules: Rules
    ) -> None:
        """Fold records individually, with any times."""
        counters = self.log_counters(log)
        newest = self.last_entry.get(log, float("-inf"))
        horizon = now + FUTURE
        clock = self.sync if log == "licenses" else None
        for record, (message, event) in zip(records, recognised, strict=True):
            if record.malformed and record.orphan:
                continue
            at = record.at
            if at is not None:
                if at > horizon:
                    at = None  # counted, but a time in the future changes no timestamp
                    counters.future += record.counts
                elif at > newest:
                    if clock is not None and JUMP < at - newest < float("inf"):
                        self.jump = (newest, at)
                    newest = at
                elif newest > now + CLOCK_WRONG:
                    self._disbelieve(horizon)
                    newest = at
                elif at < newest - DISORDER and clock is not None and self._clock_was_wrong(at, newest):
                    newest = at
            in_order = at is not None and at >= newest - DISORDER
            if clock is not None and at is not None and in_order:
                if record.dated:
                    clock.entries += 1
                    clock.lateness = max(clock.lateness, newest - at)
                clock.latest = newest if clock.latest is None else max(clock.latest, newest)
                new_run = type(event) is ServiceStarted
                if record.dated and (new_run or clock.follows_torn()):
                    clock.note_entry(at, new_run=new_run)
                if record.dated and newest >= clock.outlived_from:
                    clock.note_entry(newest)
            if event is not None:
                self._fold_event(log, record, message, event, at, in_order, now)
            if self.sync.doubted and at is not None:  # in the order of the records: a verdict may stand between them
                for used_at, use in rules.uses(log, [record]):
                    self.sync.in_use(used_at, use.kind, person=log == "repository_audit")
        if newest > float("-inf"):
            self.last_entry[log] = newest

    def fold(self, event: OutsideEvent, now: float, rules: Rules) -> None:
        """Fold an event of a source other than the logs."""
        self.sync.rules = ClockRules(rules.infers, rules.grace, rules.settle)
        if isinstance(event, SettleDue):
            if self.sync.latest is not None:
                self.sync.latest = max(self.sync.latest, event.at)
        elif isinstance(event, ProbeFinished):
            known = self.probe_success.get(event.target)
            if event.success:
                self.probe_success[event.target] = _later(
                    known if known is not None and known <= now + CLOCK_WRONG else None, event.at
                )
            elif event.success is False and event.role == "backend" and known is not None:
                self.sync.probe_failed(event.at)  # one that never succeeded may be configured wrongly
        elif isinstance(event, QrsLicenseRead) and event.updated <= now + FUTURE:
            self.qrs_success = _later(self.qrs_success, event.updated)
            self.sync.reported(event.updated)
        self._forget(now)

    def settle_due(self) -> float | None:
        """When the passing of time next changes what is known of the syncs if nothing more comes; None: never."""
        return self.sync.due()

    def _clock_was_wrong(self, at: float, newest: float) -> bool:
        """Whether an entry at `at` reverses the last large step of the times, which shows that the clock was wrong.

        The entry must continue about where the times were before that step: an old file that is found late goes back
        further.
        """
        if self.jump is None:
            return False
        before, beyond = self.jump
        if not (before - DISORDER <= at < beyond - DISORDER and at - before <= 2 * (newest - beyond) + JUMP / 2):
            return False
        self._disbelieve(beyond - DISORDER)
        self.jump = None
        return True

    def _disbelieve(self, horizon: float) -> None:
        """Discard times after `horizon`: the clock was ahead when they were noted, and new entries would seem older."""
        for field in (
            "message_success",
            "qrs_success",
            "last_attempt",
            "last_failure",
            "stale_verdict",
            "first_sign",
            "invalid_since",
        ):
            if (getattr(self, field) or 0.0) > horizon:
                setattr(self, field, None)
        self.last_entry = {log: at for log, at in self.last_entry.items() if at <= horizon}
        self.last_error = {error: at for error, at in self.last_error.items() if at <= horizon}
        self.last_denial = {reason: at for reason, at in self.last_denial.items() if at <= horizon}
        self.last_severe = {level: at for level, at in self.last_severe.items() if at <= horizon}
        self.sync.disbelieve(horizon)

    def _fold_event(
        self,
        log: LogName,
        record: RecordLike,
        message: str,
        event: LogEvent,
        at: float | None,
        in_order: bool,
        now: float,
    ) -> None:
        counters, counts = self.counters, record.counts
        if isinstance(event, SyncAttempted):
            counters.sync_attempts += counts
            self._fold_sync(record, message, event, at, in_order)
            return
        if isinstance(event, (SyncFailed, LicenseStale, LicenseError)):
            error: ErrorClass = "stale" if isinstance(event, LicenseStale) else event.error
            counters.errors[error] = counters.errors.get(error, 0) + counts
        if isinstance(event, AccessDenied):
            counters.denials[event.reason] = counters.denials.get(event.reason, 0) + counts
            if at is not None:
                self.last_denial[event.reason] = _later(self.last_denial.get(event.reason), at)
            if at is not None and event.user and event.reason in USER_DENIAL_REASONS:
                self._refuse(event.reason, event.user, at, now)
        elif isinstance(event, AccessGranted):
            if at is not None:
                self.sync.trust(at)
        elif isinstance(event, SevereEntry):
            severe = self.log_counters(log).severe
            severe[event.level] = severe.get(event.level, 0) + counts
            if at is not None:
                self.last_severe[event.level] = _later(self.last_severe.get(event.level), at)
        elif log == "licenses":
            self._fold_sync(record, message, event, at, in_order)

    # --- the sync clock ----------------------------------------------------------------------------------------------

    def _fold_sync(self, record: RecordLike, message: str, event: LogEvent, at: float | None, in_order: bool) -> None:
        """What an entry of the Licenses log says about syncs. One without a time, or far out of order, ends none."""
        if at is None:
            if self._shows_the_service(event):
                self.first_sign = self.first_sign or self.sync.latest
            return
        clock, correlation = self.sync, getattr(record, "corr_id", "")
        if not record.dated and clock.latest is not None:
            at = max(at, clock.latest)  # up to then the log had been read to its end, and the entry was not there yet
        if self.first_sign is None and self._shows_the_service(event):
            self.first_sign = at
        if isinstance(event, SyncAttempted):
            self.last_attempt = _later(self.last_attempt, at)
            if in_order:
                attempt = Attempt(at, record.counts, correlation, event.source)
                if record.dated:
                    clock.attempted(attempt)
                else:
                    clock.torn_attempt = attempt
                    clock.note_torn(at)  # the beginning of a failure may read like that, too
        elif isinstance(event, SyncSucceeded):
            self.message_success = _later(self.message_success, at)
            if in_order:
                clock.reported(at)
        elif isinstance(event, LicenseStale):
            self.last_error["stale"] = _later(self.last_error.get("stale"), at)
            self.stale_verdict = _later(self.stale_verdict, at)
            if in_order:
                clock.called_stale(at)
                self.last_failure = _later(self.last_failure, at)
        elif isinstance(event, SyncFailed):
            if in_order and not record.dated:
                clock.note_torn(at)
            if not in_order:
                clock.contradicted(at, event.wording)
            elif clock.failed(at, event.wording, correlation, event.source):
                self.last_failure = _later(self.last_failure, at)
                self.last_error[event.error] = _later(self.last_error.get(event.error), at)
                self.last_error_message = message
        elif isinstance(event, (LicenseError, SyncTrouble)):
            if isinstance(event, LicenseError):
                if event.error == "invalid":
                    self._note_invalid(at)
                self.last_error[event.error] = _later(self.last_error.get(event.error), at)
            trouble = event.trouble if isinstance(event, LicenseError) else event
            if trouble is not None and not in_order:
                if not trouble.tied:
                    clock.contradicted(at, trouble.wording)
            elif trouble is not None:
                mark = Mark(at, "tied" if trouble.tied else "trouble", correlation, trouble.source)
                if clock.troubled(mark, trouble.wording, trouble.statement):
                    self.last_failure = _later(self.last_failure, at)
                if not record.dated and not trouble.tied:
                    clock.note_torn(at)

    def _note_invalid(self, at: float) -> None:
        """Note a report of an invalid license. Forcing a sync causes a series (case A4); a pause begins a new one."""
        last = self.last_error.get("invalid")
        if self.invalid_since is None or last is None or at - last > max(INVALID_PAUSE, 2 * self.sync.rhythm):
            self.invalid_since = at

    def _shows_the_service(self, event: LogEvent) -> bool:
        """Whether only a Licenses service that manages the license logs `event`."""
        if isinstance(event, LicenseError):
            return event.service
        return isinstance(event, (SyncAttempted, SyncSucceeded, SyncFailed, LicenseStale))

    # --- refused users -----------------------------------------------------------------------------------------------

    def _refuse(self, reason: DenialReason, user: str, at: float, now: float) -> None:
        if at <= now - REFUSED_WINDOW:
            return
        users = self.refused.setdefault(reason, {})
        digest = hmac.digest(self.key, user.casefold().encode("utf-8", "replace"), hashlib.sha256)[:8].hex()
        known = users.get(digest, ())
        if not known and len(users) >= MOST_REFUSED:
            return
        times = (*known, at)
        past = sorted(time for time in times if time <= now)
        ahead = [time for time in times if time > now]
        users.pop(digest, None)  # inserted last again: `_forget` starts at the front
        users[digest] = tuple(sorted({*past[-1:], *_ends(ahead)}))

    def _forget(self, now: float) -> None:
        """Delete refused users that are no longer counted.

        The last refused user is at the end, so only the first ones are checked, and a flood of refusals does not slow
        folding. A user whose row was read late may be deleted up to an hour late, which has no visible effect.
        """
        for users in self.refused.values():
            gone = takewhile(lambda user: not now - REFUSED_WINDOW < user[1][-1] <= now + CLOCK_WRONG, users.items())
            for digest, _ in list(gone):
                del users[digest]


def new_state(key: bytes | None = None) -> LicenseState:
    """An empty state, with a random key unless one is given."""
    return LicenseState(key=secrets.token_bytes(32) if key is None else key)


def _later(known: float | None, at: float) -> float:
    return at if known is None else max(known, at)


def _ends(times: list[float]) -> list[float]:
    return [min(times), max(times)] if times else []
