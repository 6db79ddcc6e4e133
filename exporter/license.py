"""LicenseState: the fold over everything observed, and what follows from it (sync age, stale, lockout). Pure.

Instants are log time; `now` is always an argument. The rules are those of docs/design.md, "The sync clock".
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from exporter.events import (
    USER_DENIAL_REASONS,
    AccessDenied,
    DenialReason,
    ErrorClass,
    LicenseError,
    LicenseStale,
    LogEvent,
    LogName,
    OutsideEvent,
    ProbeFinished,
    QrsLicenseRead,
    SettleDue,
    SevereEntry,
    SevereLevel,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
)

FUTURE = 300.0
"""Seconds that a record may be ahead of now and still move instants."""
CLOCK_WRONG = 3600.0
"""Seconds that an instant noted earlier may be ahead of now: beyond, the clock was wrong when it was noted."""
DISORDER = 60.0
"""Seconds that a record may be older than the newest one and still take part in the sync clock."""
REFUSED_WINDOW = 3600.0
"""Seconds for which refused users are remembered, as keyed hashes."""
MOST_REFUSED = 10_000
"""Refused users that are remembered for each reason; more saturate the gauge."""
MOST_INFERRED = 10_000
"""Inferred successes that can be taken back; at an attempt every 10 minutes a grace of 5 days needs 720."""
MOST_PROBE_FAILURES = 1_000
"""Instants of failed backend probes that are kept."""

SuccessSource = Literal["message", "qrs", "inferred"]
SUCCESS_SOURCES: tuple[SuccessSource, ...] = ("message", "qrs", "inferred")


class RecordLike(Protocol):
    """What the fold needs of a log record; see `exporter.logs.formats.Record`."""

    at: float | None
    counts: bool
    malformed: bool
    orphan: bool


Recognised = Sequence[tuple[str, LogEvent | None]]
"""For each record its message, and what it means or None."""


class Rules(NamedTuple):
    """What the fold goes by: the settings of the license, and the catalogue."""

    recognise: Callable[[LogName, Sequence[Any]], Recognised]
    """The catalogue."""
    infers: bool = True
    """Whether a sync that nothing contradicts is taken for a success; False where a message tells of successes."""
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
    """The durable counters. `sync_attempts` = `sync_failures` + `sync_successes` + `sync_retried` + pending ones."""

    sync_attempts: int = 0
    sync_failures: int = 0
    sync_successes: int = 0
    sync_retried: int = 0
    """Attempts that opened no sync of their own: retries, and those whose time was out of order or in the future."""
    errors: dict[ErrorClass, int] = {}
    denials: dict[DenialReason, int] = {}
    logs: dict[LogName, LogCounters] = {}


class PendingSync(msgspec.Struct, frozen=True):
    """A sync that was attempted at `at` and of which nothing more is known yet."""

    at: float
    counts: bool


class InferredSuccess(msgspec.Struct, frozen=True):
    """A sync that nothing contradicted. Can be taken back, and then `failures_before` are consecutive again."""

    at: float
    counts: bool
    failures_before: int


class LicenseState(msgspec.Struct, kw_only=True):
    """Everything durable that is known of the license. Mutable: the ledger folds into a copy and swaps it in."""

    key: bytes = b""
    """The installation's own random key, under which refused users are hashed."""
    counters: Counters = msgspec.field(default_factory=Counters)
    caught_up: set[LogName] = set()
    """The logs that were read to the end found when they were first listed: only then their gauges are shown."""
    last_entry: dict[LogName, float] = {}
    """Each log's newest entry by its own time."""
    service_seen: bool = False
    """Whether the Licenses service has shown that it manages the license."""

    pending: PendingSync | None = None
    provisional: bool = False
    """Whether the newest inferred success is the newest sync, so that a late failure still revokes it."""
    inferred: list[InferredSuccess] = []
    """The inferred successes of the last grace period and the newest one before it, oldest first."""
    message_success: float | None = None
    qrs_success: float | None = None
    last_attempt: float | None = None
    last_failure: float | None = None
    stale_verdict: float | None = None
    last_error: dict[ErrorClass, float] = {}
    """The newest error entry of each class."""
    last_denial: dict[DenialReason, float] = {}
    """The newest refusal for each reason."""
    consecutive_failures: int = 0
    probe_failures: list[float] = []
    """Instants of failed backend probes, oldest first, as far back as a pending sync may need them."""
    probe_success: dict[str, float] = {}
    """The last good probe of each target."""
    refused: dict[DenialReason, dict[str, tuple[float, ...]]] = {}
    """Refused users of the last hour, hashed: the newest row time, and one more where that is still to come."""

    def copy(self) -> "LicenseState":
        """A state that can be folded on without changing this one."""
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
            inferred=list(self.inferred),
            probe_failures=list(self.probe_failures),
            probe_success=dict(self.probe_success),
            last_error=dict(self.last_error),
            last_denial=dict(self.last_denial),
            refused={reason: dict(users) for reason, users in self.refused.items()},
        )

    # --- what follows from it ----------------------------------------------------------------------------------------

    def sync_expected(self, rules: Rules) -> bool:
        """Whether this site's license is to be synchronised with the backend at all."""
        return rules.kind == "signed_key" or (rules.kind == "auto" and self.service_seen)

    def last_success(self) -> tuple[float, SuccessSource] | None:
        """The instant of the last sync that succeeded, and how it is known; None where none is."""
        known: list[tuple[float, SuccessSource]] = []
        if self.inferred:
            known.append((self.inferred[-1].at, "inferred"))
        if self.qrs_success is not None:
            known.append((self.qrs_success, "qrs"))
        if self.message_success is not None:
            known.append((self.message_success, "message"))
        return max(known, key=lambda success: (success[0], success[1] != "inferred"), default=None)

    def stale(self) -> bool:
        """Whether the newest stale verdict is newer than the last success."""
        success = self.last_success()
        return self.stale_verdict is not None and (success is None or self.stale_verdict > success[0])

    def lockout(self, rules: Rules) -> float | None:
        """When users will be locked out at the latest: last success + grace (an upper bound, qlik-facts 1)."""
        success = self.last_success()
        return success[0] + rules.grace if success and self.sync_expected(rules) else None

    def refused_users(self, reason: DenialReason, now: float) -> int:
        """Distinct users refused for `reason` within (now - 1 h, now], by row time."""
        users = self.refused.get(reason, {})
        return sum(any(now - REFUSED_WINDOW < at <= now for at in times) for times in users.values())

    # --- the fold ----------------------------------------------------------------------------------------------------

    def log_counters(self, log: LogName) -> LogCounters:
        """The counters of `log`, made where there are none yet."""
        return self.counters.logs.setdefault(log, LogCounters())

    def count_reading(
        self, log: LogName, *, read_bytes: int = 0, rotations: int = 0, lost_generations: int = 0
    ) -> None:
        """Add what the tail did to read `log`."""
        counters = self.log_counters(log)
        counters.read_bytes += read_bytes
        counters.rotations += rotations
        counters.lost_generations += lost_generations

    def fold_records(self, log: LogName, records: Sequence[RecordLike], now: float, rules: Rules) -> Recognised:
        """Fold `records` of `log`, in order. History restates; every other record counts exactly once.

        Returns what they were recognised as.
        """
        recognised = rules.recognise(log, records)
        counters = self.log_counters(log)
        messages = counters.messages
        newest = self.last_entry.get(log, float("-inf"))
        horizon = now + FUTURE
        clock = log == "licenses"
        for record, (message, event) in zip(records, recognised, strict=True):
            counts = record.counts
            if record.malformed:
                counters.malformed += counts
                if record.orphan:
                    continue
            if counts:
                messages[message] = messages.get(message, 0) + 1
            at = record.at
            if at is not None:
                if at > horizon:
                    at = None  # counted, but no instant of the future moves a clock
                    counters.future += counts
                elif at > newest:
                    newest = at
                elif newest > now + CLOCK_WRONG:
                    self._disbelieve(horizon)
                    newest = at
                if clock and at is not None and self.pending is not None and at >= newest - DISORDER:
                    self._settle(at, rules)
            if event is not None:
                in_order = at is not None and at >= newest - DISORDER
                self._fold_event(log, event, at, in_order, counts, now, rules)
        counters.records = sum(messages.values())
        if newest > float("-inf"):
            self.last_entry[log] = newest
        self._forget(now)
        return recognised

    def fold(self, event: OutsideEvent, now: float, rules: Rules) -> None:
        """Fold what another source than the logs observed."""
        if isinstance(event, SettleDue):
            self._settle(event.at, rules)
        elif isinstance(event, ProbeFinished):
            if event.success:
                known = self.probe_success.get(event.target)
                self.probe_success[event.target] = _later(
                    known if known is not None and known <= now + CLOCK_WRONG else None, event.at
                )
            elif event.success is False and event.role == "backend":
                self.probe_failures.append(event.at)
        elif isinstance(event, QrsLicenseRead) and event.updated <= now + FUTURE:
            self._succeed_by_qrs(event.updated)
        self._forget(now)

    def _disbelieve(self, horizon: float) -> None:
        """Forget what lies beyond `horizon`: the clock was ahead when it was noted, and what comes would seem older."""
        for field in ("message_success", "qrs_success", "last_attempt", "last_failure", "stale_verdict"):
            if (getattr(self, field) or 0.0) > horizon:
                setattr(self, field, None)
        self.last_entry = {log: at for log, at in self.last_entry.items() if at <= horizon}
        self.last_error = {error: at for error, at in self.last_error.items() if at <= horizon}
        self.last_denial = {reason: at for reason, at in self.last_denial.items() if at <= horizon}
        if self.pending is not None and self.pending.at > horizon:
            self.counters.sync_retried += self.pending.counts
            self.pending = None
        if self.inferred and self.inferred[-1].at > horizon:
            self.inferred = [success for success in self.inferred if success.at <= horizon]
            self.provisional = False

    def _fold_event(
        self, log: LogName, event: LogEvent, at: float | None, in_order: bool, counts: bool, now: float, rules: Rules
    ) -> None:
        counters = self.counters
        if at is not None and isinstance(event, SyncFailed | LicenseStale | LicenseError):
            error: ErrorClass = "stale" if isinstance(event, LicenseStale) else event.error
            self.last_error[error] = _later(self.last_error.get(error), at)
        if isinstance(event, AccessDenied):
            counters.denials[event.reason] = counters.denials.get(event.reason, 0) + counts
            if at is not None:
                self.last_denial[event.reason] = _later(self.last_denial.get(event.reason), at)
            if at is not None and event.user and event.reason in USER_DENIAL_REASONS:
                self._refuse(event.reason, event.user, at, now)
        elif isinstance(event, SevereEntry):
            severe = self.log_counters(log).severe
            severe[event.level] = severe.get(event.level, 0) + counts
        elif isinstance(event, SyncAttempted):
            self._attempt(at, in_order, counts)
        elif isinstance(event, SyncSucceeded):
            self.service_seen = True
            if at is not None:
                self.message_success = _later(self.message_success, at)
                if in_order:
                    self._close_pending_well(at)
                    self.consecutive_failures = 0
        elif isinstance(event, SyncFailed):
            counters.errors[event.error] = counters.errors.get(event.error, 0) + counts
            if at is not None and in_order:
                self._fail(at)
        elif isinstance(event, LicenseStale):
            self.service_seen = True
            counters.errors["stale"] = counters.errors.get("stale", 0) + counts
            if at is not None:
                self.stale_verdict = _later(self.stale_verdict, at)
                if in_order:
                    self._fail(at)
                    self._retract(at, rules.grace)
        elif isinstance(event, LicenseError):
            self.service_seen |= event.service
            counters.errors[event.error] = counters.errors.get(event.error, 0) + counts

    # --- the sync clock ----------------------------------------------------------------------------------------------

    def _attempt(self, at: float | None, in_order: bool, counts: bool) -> None:
        self.service_seen = True
        self.counters.sync_attempts += counts
        if at is not None:
            self.last_attempt = _later(self.last_attempt, at)
        if at is None or not in_order or self.pending is not None:
            self.counters.sync_retried += counts
        else:
            self.pending = PendingSync(at, counts)
            self.provisional = False

    def _settle(self, at: float, rules: Rules) -> None:
        """A pending sync that has outlived the settle time by `at` becomes an inferred success."""
        pending = self.pending
        if pending is None or not rules.infers or at <= pending.at + rules.settle:
            return
        contradiction = [probe for probe in self.probe_failures if pending.at <= probe <= pending.at + rules.settle]
        if contradiction:
            self._fail(contradiction[0])
            return
        self.pending = None
        self.inferred.append(InferredSuccess(pending.at, pending.counts, self.consecutive_failures))
        while len(self.inferred) > 1 and (
            self.inferred[1].at <= pending.at - rules.grace or len(self.inferred) > MOST_INFERRED
        ):
            del self.inferred[0]
        self.counters.sync_successes += pending.counts
        self.consecutive_failures = 0
        self.provisional = True

    def _fail(self, at: float) -> None:
        """A failure at `at` ends the pending sync, or revokes a success that was inferred since."""
        if self.pending is not None and at >= self.pending.at:
            self.counters.sync_failures += self.pending.counts
            self.pending = None
            self.consecutive_failures += 1
        elif self.provisional and self.inferred and at >= self.inferred[-1].at:
            self._take_back(self.inferred.pop())
        else:
            return  # an error without a recognised attempt: counted among the errors, no sync failed
        self.provisional = False
        self.last_failure = _later(self.last_failure, at)

    def _retract(self, at: float, grace: float) -> None:
        """A stale verdict at `at`: Qlik itself says that there was no success within the grace period before it."""
        retracted = [success for success in self.inferred if at - grace < success.at <= at]
        if retracted:
            self.inferred = [success for success in self.inferred if not at - grace < success.at <= at]
            for success in retracted:
                self._take_back(success)
            self.provisional = False
            self.last_failure = _later(self.last_failure, at)

    def _take_back(self, success: InferredSuccess) -> None:
        self.counters.sync_successes -= success.counts
        self.counters.sync_failures += success.counts
        known = self.last_success()
        if known is None or known[0] < success.at:
            self.consecutive_failures += success.failures_before + 1

    def _close_pending_well(self, at: float) -> None:
        self.provisional = False
        if self.pending is not None and self.pending.at <= at:
            self.counters.sync_successes += self.pending.counts
            self.pending = None

    def _succeed_by_qrs(self, updated: float) -> None:
        self.qrs_success = _later(self.qrs_success, updated)
        self._close_pending_well(updated)
        if self.last_failure is None or updated > self.last_failure:
            self.consecutive_failures = 0

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
        users.pop(digest, None)  # to stand last: `_forget` looks from the front
        users[digest] = tuple(sorted({*past[-1:], *_ends(ahead)}))

    def _forget(self, now: float) -> None:
        """Drop what nothing can ask for any more.

        Whoever was refused last stands last, so only the first need a look: a flood of refusals makes no fold slower.
        One whose row came late may be dropped up to an hour later than it could be, which nothing shows.
        """
        for users in self.refused.values():
            gone = takewhile(lambda user: not now - REFUSED_WINDOW < user[1][-1] <= now + CLOCK_WRONG, users.items())
            for digest, _ in list(gone):
                del users[digest]
        del self.probe_failures[:-MOST_PROBE_FAILURES]


def new_state(key: bytes | None = None) -> LicenseState:
    """A state that knows nothing, with a random key unless one is given."""
    return LicenseState(key=secrets.token_bytes(32) if key is None else key)


def _later(known: float | None, at: float) -> float:
    return at if known is None else max(known, at)


def _ends(times: list[float]) -> list[float]:
    return [min(times), max(times)] if times else []
