"""SyncClock: which syncs with the backend succeeded, according to what the Licenses log says and does not say. Pure.

No published line reports a sync that succeeded (qlik-facts 1), so only the silence of a living service is evidence of a
success. All times are log time; the wall clock only shows that nothing more has come. Attempts and marks (entries that
report trouble) are kept; the outcome of an attempt is derived from them when it is needed, in the order of the entries'
own times, until the next attempt makes it final. The rules are explained in `docs/design.md`.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Literal, NamedTuple

import msgspec

from exporter.stale_verdicts import StaleVerdicts

DISORDER = 60.0
"""Seconds that an entry may be older than the newest one and still take part in the clock."""
USUAL_RHYTHM = 600.0
"""Seconds between two attempts while nothing is known yet (qlik-facts 1: user assignments every 10 minutes)."""
LONGEST_RHYTHM = 3 * 86400.0
"""A longer pause between two attempts is a pause of the service."""
RHYTHMS = 13
"""Number of pauses between attempts from which the rhythm is derived."""
TORN_REACH = 60.0
"""Seconds around a torn entry without a time within which it may belong to an attempt that is read after it."""
ORDERED = 200
"""Number of entries after which it is known how far out of order this log is written."""
LONGEST_DISORDER = 3600.0
"""An entry read after an attempt may be about it if it is older by at most so many seconds: the clock was set back."""
LIFELESS = 1.5
"""Rhythms without any entry after an attempt before the service may have died between the attempt and its failure."""
EARLY = 0.6
"""Share of a rhythm: an earlier attempt, with no entry before it, may be that of a new run."""
SLOWEST = 0.75
"""Share of a rhythm: a later failure is not learned from, as its attempt was probably not recognised."""
LONGEST_WAIT = 0.9
"""Longest wait for a failure, as a share of a rhythm."""
MARGIN = 1.5
"""The clock waits this many times as long as the slowest failure so far."""
FAR_FROM, FAR_TO = 0.5, 0.95
"""Shares of a rhythm between which no sync is in progress."""
BACKGROUND = 2
"""Number of entries of one wording while no sync is in progress after which it may be about something else."""
NEVER = 1e300
"""A time that never comes; JSON has no infinity."""
MOST_WORDINGS = 500
MOST_MARKS = 400
MOST_ENDS = 10_000
"""With an attempt every 10 minutes, a grace period of 5 days needs 720."""
MOST_PROBE_FAILURES = 1_000
MOST_ATTEMPTS = 8
"""Largest number of attempts that are not final; more of them make the oldest final immediately."""
LOUD = 0.9
"""Share of recognised failures among the attempts above which silence is evidence of success again."""
FEW, MOSTLY = 2, 3
"""If attempts are few: so few silent ones, among so many times as many failed ones, prove nothing."""

Outcome = Literal["succeeded", "reported", "failed", "unclear", "retried", "silent", "pending"]
"""`reported`: a message or the Repository API reported the success. `silent`: nothing contradicts success, but silence
proves nothing at present. `retried`: another attempt followed immediately."""


class Attempt(msgspec.Struct, frozen=True):
    """A sync that began at `at`."""

    at: float
    counts: bool = True
    correlation: str = ""
    source: str = ""
    outlived: float | None = None
    """The first entry after the time by which a failure would have been logged; None while there is none."""
    new_run: bool = False
    """Whether a new run of the service began before that."""


class Mark(msgspec.Struct, frozen=True):
    """An entry at `at` that shows how the sync in progress ends."""

    at: float
    kind: Literal["failed", "stale", "trouble", "tied", "reported"]
    """`trouble` makes a sync unclear, or fails it if it is tied to the attempt; `tied` counts only if it is."""
    correlation: str = ""
    source: str = ""
    certain: bool = True
    """Whether it is certainly about a sync. Only then a failure later than half a rhythm is learned from."""


class End(msgspec.Struct, frozen=True):
    """How a sync ended. Only a stale verdict can still change it."""

    at: float
    outcome: Outcome
    counts: bool = True
    disproved: bool = False
    """Whether only a stale verdict says that it failed."""


class Judged(NamedTuple):
    """An attempt and its outcome as far as it is known."""

    at: float
    outcome: Outcome
    failed_at: float | None
    counts: bool
    disproved: bool
    """Whether only a stale verdict says that it failed."""


class ClockRules(msgspec.Struct, frozen=True):
    """The settings of the clock."""

    infers: bool = True
    grace: float = 5 * 86400
    settle: float = 90


class SyncClock(msgspec.Struct, kw_only=True):
    """What is known of the syncs. Mutable; copied before it is changed."""

    rules: ClockRules = ClockRules()
    """Set before each fold, so that the current settings also apply to what was saved."""
    latest: float | None = None
    """The time up to which the log is known: that of its newest entry, or of the last poll that found nothing more."""
    attempts: list[Attempt] = []
    """Attempts that are not final yet, in the order of their times."""
    marks: list[Mark] = []
    """In the order of their times."""
    ends: list[End] = []
    """Final attempts of the last grace period, oldest first."""
    older_success: float | None = None
    """The newest success before those in `ends`."""
    older_failures: int = 0
    """Failures since that success, before those in `ends`."""
    older_unclear: int = 0
    pauses: list[float] = []
    """The last pauses between attempts, in seconds; negative before an attempt that seems to be a retry."""
    rhythm: float = USUAL_RHYTHM
    """The usual seconds between two attempts: the upper quartile of the last pauses, since retries shorten some."""
    slowest: float = 0.0
    """The longest time so far between an attempt and its failure, in seconds, if beyond the settle time."""
    wordings: dict[str, tuple[int, int]] = {}
    """For each wording of trouble: how often it occurred just after an attempt, and while no sync was in progress."""
    outlived_from: float = NEVER
    """From this time on, an entry shows that the service was still alive after an attempt."""
    torn: float | None = None
    """The time of the entry before the newest torn one without a time, which may belong to an attempt after it."""
    torn_until: float | None = None
    """The time of the entry after that one; None while none was read."""
    entries: int = 0
    """Entries with a time that were read."""
    lateness: float = 0.0
    """The largest number of seconds by which an entry was older than one before it."""
    torn_attempt: Attempt | None = None
    """An attempt on a torn line without a time; it gets that of the next entry."""
    orphan_failure: float | None = None
    """The newest failure without a known attempt."""
    orphan_failures: int = 0
    """Syncs that failed without a known attempt since the last success."""
    probe_failures: list[float] = []
    """Times of failed backend probes, oldest first."""

    doubted: bool = False
    """Whether a stale verdict disproved successes that were inferred from silence."""
    verdicts: StaleVerdicts = msgspec.field(default_factory=StaleVerdicts)
    """The newest stale verdicts, and the use of the service since."""

    failures: int = 0
    """Failed attempts other than history. Never decreases."""
    final_failures: int = 0
    """Final attempts that failed, other than history."""

    def copy(self) -> "SyncClock":
        """A copy that can be changed independently."""
        return msgspec.structs.replace(
            self,
            attempts=list(self.attempts),
            marks=list(self.marks),
            ends=list(self.ends),
            pauses=list(self.pauses),
            wordings=dict(self.wordings),
            probe_failures=list(self.probe_failures),
            verdicts=self.verdicts.copy(),
        )

    # --- what follows from it ----------------------------------------------------------------------------------------

    def wait(self) -> float:
        """How many seconds after an attempt a failure may still come."""
        return max(self.rules.settle, min(self.slowest * MARGIN, LONGEST_WAIT * self.rhythm))

    def judged(self) -> Iterator[Judged]:
        """The attempts that are not final, newest first."""
        for index in range(len(self.attempts) - 1, -1, -1):
            yield self._judged(index)

    def failed_attempts(self) -> list[float]:
        """The times of the attempts that failed, in whatever words."""
        known: tuple[End | Judged, ...] = (*self.ends, *self.judged())
        return [one.at for one in known if one.outcome == "failed"]

    def inferred_success(self) -> float | None:
        """The last attempt whose success is inferred from silence."""
        for judged in self.judged():
            if judged.outcome == "succeeded":
                return judged.at
        for end in reversed(self.ends):
            if end.outcome == "succeeded":
                return end.at
        return self.older_success

    def inferred_successes(self) -> list[float]:
        """All kept attempts whose success is inferred from silence, oldest first."""
        older = [] if self.older_success is None else [self.older_success]
        final = [end.at for end in self.ends if end.outcome == "succeeded"]
        newest = [judged.at for judged in self.judged() if judged.outcome == "succeeded"]
        return [*older, *final, *reversed(newest)]

    def since(self, success: float | None) -> tuple[int, int]:
        """How many syncs failed since `success`, and how many ended unclear."""
        failed = unclear = 0
        after = float("-inf") if success is None else success
        for judged in self.judged():
            if judged.at <= after:
                return failed + self._orphans_since(after), unclear
            failed += judged.outcome == "failed"
            unclear += judged.outcome == "unclear"
        for end in reversed(self.ends):
            if end.at <= after:
                return failed + self._orphans_since(after), unclear
            failed += end.outcome == "failed"
            unclear += end.outcome == "unclear"
        if self.older_success is None or self.older_success >= after:
            failed, unclear = failed + self.older_failures, unclear + self.older_unclear
        return failed + self._orphans_since(after), unclear

    def unclear_since(self, success: float | None) -> float | None:
        """The first kept attempt after `success` that ended unclear."""
        ends = [(end.at, end.outcome) for end in self.ends]
        ends += reversed([(judged.at, judged.outcome) for judged in self.judged()])
        after = float("-inf") if success is None else success
        return next((at for at, outcome in ends if outcome == "unclear" and at > after), None)

    def _orphans_since(self, after: float) -> int:
        return self.orphan_failures if self.orphan_failure is not None and self.orphan_failure > after else 0

    def pending(self) -> float | None:
        """The newest attempt whose outcome is not known yet."""
        newest = next(self.judged(), None)
        return newest.at if newest is not None and newest.outcome == "pending" else None

    def due(self) -> float | None:
        """When the passing of time next changes an outcome if nothing more comes; None: never."""
        if not self.attempts or self.latest is None:
            return None
        newest = self.attempts[-1]
        instants = [newest.at + self.wait()]
        if newest.outlived is None:
            instants.append(newest.at + LIFELESS * self.rhythm)
        return min((at for at in instants if at >= self.latest), default=None)

    def _reach(self, at: float) -> float:
        """Until when an entry can belong to an attempt at `at`; later ones belong to one that was not recognised."""
        return at + max(LONGEST_WAIT * self.rhythm, self.wait())

    def last_failure(self) -> float | None:
        """When the newest failed attempt that is not final failed."""
        return max((j.failed_at for j in self.judged() if j.failed_at is not None), default=None)

    def _judged(self, index: int) -> Judged:
        attempt = self.attempts[index]
        following = self.attempts[index + 1].at if index + 1 < len(self.attempts) else None
        reach = self._reach(attempt.at)
        end = reach if following is None or following > reach else following
        marks = [mark for mark in self.marks if attempt.at <= mark.at < end or mark.at == attempt.at]
        outcome, failed_at = self._outcome(attempt, following, marks)
        recognised = any(mark.kind == "failed" or _is_tied(mark, attempt) for mark in marks)
        return Judged(attempt.at, outcome, failed_at, attempt.counts, outcome == "failed" and not recognised)

    def _outcome(
        self, attempt: Attempt, following: float | None, marks: Sequence[Mark]
    ) -> tuple[Outcome, float | None]:
        if any(mark.kind == "reported" for mark in marks):
            return "reported", None
        failed = [mark.at for mark in marks if mark.kind in ("failed", "stale") or _is_tied(mark, attempt)]
        if failed:
            return "failed", failed[0]
        wait, latest = self.wait(), self.latest if self.latest is not None else attempt.at
        if following is not None and following - attempt.at <= wait:
            return "retried", None
        if any(mark.kind == "trouble" and mark.at <= attempt.at + wait for mark in marks):
            return "unclear", None
        probes = self.probe_failures
        if probes and bisect_left(probes, attempt.at) < bisect_right(probes, attempt.at + self.rules.settle):
            return "unclear", None
        if attempt.new_run or self._is_lifeless(attempt, following, latest):
            return "unclear", None
        if latest <= attempt.at + wait or (attempt.outlived is None and self._is_stale_at(attempt.at)):
            return "pending", None
        return ("silent" if self.doubted or not self.rules.infers else "succeeded"), None

    def _is_stale_at(self, at: float) -> bool:
        """Whether Qlik called the license stale before `at`, and nothing final has shown since that this is over.

        Then only an entry after the attempt shows that the service still lived when it could have failed.
        """
        newest = self.verdicts.newest
        if newest is None or self.verdicts.ended or not newest <= at <= newest + self.rules.grace:
            return False
        since = takewhile(lambda end: end.at > newest, reversed(self.ends))
        return not any(end.outcome in ("succeeded", "reported") for end in since)

    def _is_lifeless(self, attempt: Attempt, following: float | None, latest: float) -> bool:
        """Whether the service may have died between the attempt and its failure: nothing followed for too long, or the
        next entry is an attempt that came much too early.
        """
        outlived = latest if attempt.outlived is None else attempt.outlived
        if outlived - attempt.at > LIFELESS * self.rhythm:
            return True
        early = following is not None and following - attempt.at < EARLY * self.rhythm
        return early and attempt.outlived == following and any(pause > 0 for pause in self.pauses)

    # --- what is observed --------------------------------------------------------------------------------------------

    def note_entry(self, at: float, *, new_run: bool = False) -> None:
        """Note an entry with a time: one from `outlived_from` on, the first of a new run, or one after a torn line."""
        if self.torn is not None and self.torn_until is None:
            self.torn_until = at
        if self.torn_attempt is not None:
            torn, self.torn_attempt = self.torn_attempt, None
            if -self.lateness <= at - torn.at <= DISORDER:
                self._open(msgspec.structs.replace(torn, at=at))
                insort(self.marks, Mark(at, "trouble"), key=_at)  # neither its own time nor what preceded it is known
        wait = self.wait()
        for index, attempt in enumerate(self.attempts):
            if attempt.outlived is None and at >= (attempt.at if new_run else attempt.at + wait):
                self.attempts[index] = msgspec.structs.replace(attempt, outlived=at, new_run=new_run)
        pending = [attempt.at for attempt in self.attempts if attempt.outlived is None]
        self.outlived_from = min(pending) + wait if pending else NEVER

    def attempted(self, attempt: Attempt) -> None:
        """Note an attempt with a time."""
        if self._may_be_torn_off(attempt.at):
            insort(self.marks, Mark(attempt.at, "trouble"), key=_at)
        newest = self.attempts[-1].at if self.attempts else None
        if newest is None or newest <= attempt.at:
            previous = newest
        else:
            previous = max((other.at for other in self.attempts if other.at <= attempt.at), default=None)
        if previous is not None:
            self._note_pause(previous, attempt.at)
        self._open(attempt)
        if self.marks and (
            self.marks[-1].at >= attempt.at
            or (previous is not None and self.marks[-1].at > previous + self.rules.settle)
        ):
            self._learn()
        self._finish_old()

    def note_torn(self, at: float) -> None:
        """Note a torn entry without a time, which may have been the end of a sync. `at`: the time of the one before."""
        self.torn, self.torn_until = at, None

    def follows_torn(self) -> bool:
        """Whether the next entry with a time is the first after a torn one."""
        return self.torn_attempt is not None or (self.torn is not None and self.torn_until is None)

    def _may_be_torn_off(self, at: float) -> bool:
        """Whether the newest torn entry may have been the end of an attempt at `at` that was read after it.

        Not if the log is written in order; otherwise the entries before and after it show when it was written.
        """
        if self.torn is None:
            return False
        ordered = self.entries >= ORDERED
        reach = min(TORN_REACH, 1 + 2 * self.lateness) if ordered else TORN_REACH
        until = self.torn_until if ordered and self.lateness > 1 and self.torn_until is not None else self.torn
        return self.torn - reach <= at <= max(self.torn, until) + reach

    def _note_pause(self, previous: float, at: float) -> None:
        """Learn the rhythm from two consecutive attempts. One soon after a failure is a retry."""
        pause = at - previous
        retried = pause < SLOWEST * self.rhythm and any(
            previous <= mark.at < at and mark.kind in ("failed", "stale", "trouble") for mark in self.marks
        )
        if self.rules.settle < pause < LONGEST_RHYTHM:
            self.pauses = [*self.pauses[-(RHYTHMS - 1) :], -pause if retried else pause]
            usual = sorted(one for one in self.pauses if one > 0)
            if not usual and len(self.pauses) == RHYTHMS:  # so many in succession are not retries
                usual = sorted(map(abs, self.pauses))
            if usual:
                self.rhythm = usual[len(usual) * 3 // 4]

    def _open(self, attempt: Attempt) -> None:
        insort(self.attempts, attempt, key=_at)
        self.outlived_from = min(self.outlived_from, attempt.at + self.wait())
        if self.orphan_failure is not None and attempt.at <= self.orphan_failure < attempt.at + DISORDER:
            self.orphan_failures -= 1  # it was read before its attempt
            self.orphan_failure = None

    def failed(self, at: float, wording: str, correlation: str = "", source: str = "") -> bool:
        """Note a failed request. `wording`: set if it may be about something else. Returns whether a sync failed."""
        mark = Mark(at, "failed", correlation, source, certain=not wording)
        if wording and not self._is_tied_to_newest(mark) and self._is_background(at, wording):
            return False
        self._mark(mark)
        return True

    def troubled(self, mark: Mark, wording: str, statement: str = "") -> bool:
        """Note an entry of trouble in unknown words. Returns whether it fails a sync, that of its own attempt."""
        if wording and mark.kind == "trouble":
            known = self._is_background(mark.at, wording)
            if (statement and self._is_background(mark.at, statement)) or known:
                mark = msgspec.structs.replace(mark, kind="tied")
        self._mark(mark)
        return self._is_tied_to_newest(mark)

    def contradicted(self, at: float, wording: str) -> None:
        """Note an entry of trouble that is far older, by its time, than those read before it.

        If the node's clock was set back, it may be the end of an attempt before that.
        """
        if wording and self._is_known_background(wording):
            return
        for attempt in self.attempts:
            own = Mark(attempt.at, "trouble")
            if at < attempt.at <= at + LONGEST_DISORDER and own not in self.marks:
                insort(self.marks, own, key=_at)

    def _is_tied_to_newest(self, mark: Mark) -> bool:
        before = [attempt for attempt in self.attempts if attempt.at <= mark.at]
        return bool(before) and _is_own(mark, before[-1])

    def reported(self, at: float) -> None:
        """Note a success at `at` that a message or the Repository API reports."""
        self._mark(Mark(at, "reported"))
        self.trust(at)

    def trust(self, at: float) -> None:
        """Note better evidence than silence at `at`: a reported success, or a user who was let in."""
        if self.verdicts.are_before(at):
            self.verdicts.ended = True
            self._believe()

    def called_stale(self, at: float) -> None:
        """Note a stale verdict at `at`: Qlik itself says that no sync succeeded within the grace period before it."""
        self._mark(Mark(at, "stale"))
        begun = at - self.rules.grace
        tried = [end for end in self.ends if begun < end.at <= at and end.outcome != "retried"]
        taken = [end for end in tried if end.outcome == "succeeded"]
        fluid = [judged for judged in self.judged() if begun < judged.at <= at and judged.outcome != "retried"]
        lost = [judged for judged in fluid if judged.outcome == "succeeded"]
        if taken or lost:
            loud = sum(end.outcome == "failed" and not end.disproved for end in tried)
            loud += sum(judged.outcome == "failed" and not judged.disproved for judged in fluid)
            few = len(taken) + len(lost) <= FEW and loud >= MOSTLY * (len(taken) + len(lost))
            self.doubted = loud < LOUD * (len(tried) + len(fluid)) and not few
            self.ends = [
                msgspec.structs.replace(end, outcome="failed", disproved=True)
                if begun < end.at <= at and end.outcome == "succeeded"
                else end
                for end in self.ends
            ]
            for judged in lost:
                insort(self.marks, Mark(judged.at, "stale"), key=_at)
        self.verdicts.add(at, self.rules.grace)
        self.final_failures += sum(end.counts for end in taken)
        self._learn()
        self._finish_old()

    def in_use(self, at: float, kind: str, *, person: bool) -> None:
        """Note that somebody used the service, or a `person` the hub, and was not refused.

        Silence is evidence again once that shows that users are let in.
        """
        if self.doubted and self.verdicts.note_use(at, kind, person=person):
            self.verdicts.ended = True
            self._believe()

    def _believe(self) -> None:
        """Treat silence as evidence again, including that since the newest verdict."""
        if self.doubted:
            self.doubted = False
            after = self.verdicts.newest or 0.0
            self.ends = [
                msgspec.structs.replace(end, outcome="succeeded")
                if end.outcome == "silent" and end.at > after and self.rules.infers
                else end
                for end in self.ends
            ]

    def probe_failed(self, at: float) -> None:
        """Note a failed probe of the backend."""
        insort(self.probe_failures, at)
        del self.probe_failures[:-MOST_PROBE_FAILURES]

    def disbelieve(self, horizon: float) -> None:
        """Discard everything later than `horizon`: the clock was ahead when it was noted."""
        self.attempts = [attempt for attempt in self.attempts if attempt.at <= horizon]
        self.marks = [mark for mark in self.marks if mark.at <= horizon]
        self.ends = [end for end in self.ends if end.at <= horizon]
        self.probe_failures = [at for at in self.probe_failures if at <= horizon]
        if (self.verdicts.newest or 0.0) > horizon:
            self.verdicts.newest = None
        for field in ("older_success", "orphan_failure", "latest", "torn", "torn_until"):
            if (getattr(self, field) or 0.0) > horizon:
                setattr(self, field, None)
        self.torn_attempt = None

    # --- internals ---------------------------------------------------------------------------------------------------

    def _is_background(self, at: float, wording: str) -> bool:
        """Whether a wording is as frequent while no sync is in progress as just after an attempt."""
        before = max((attempt.at for attempt in self.attempts if attempt.at <= at), default=None)
        near, far = self.wordings.get(wording, (0, 0))
        window, far_from = self._background_windows()
        if before is not None:
            if at - before <= window:
                near += 1
            elif far_from <= at - before < FAR_TO * self.rhythm:
                far += 1
        if near + far > 100:
            near, far = near // 2, far // 2
        self.wordings.pop(wording, None)
        self.wordings[wording] = (near, far)  # the newest last
        if len(self.wordings) > MOST_WORDINGS:
            del self.wordings[next(iter(self.wordings))]
        return self._is_known_background(wording)

    def _is_known_background(self, wording: str) -> bool:
        near, far = self.wordings.get(wording, (0, 0))
        window, far_from = self._background_windows()
        return far >= BACKGROUND and far * window * 2 >= near * (FAR_TO * self.rhythm - far_from)

    def _background_windows(self) -> tuple[float, float]:
        """Seconds after an attempt: up to which an entry is about it, and from which on no sync is in progress."""
        return min(self.wait(), self.rhythm * FAR_FROM), max(FAR_FROM * self.rhythm, self.wait())

    def _mark(self, mark: Mark) -> None:
        newest = self.attempts[-1] if self.attempts else None
        since = [other for other in self.marks if newest is not None and other.at >= newest.at]
        if since and since[-1].kind == mark.kind and 0 <= mark.at - since[-1].at < 1:
            return  # a flood of the same
        ends_one = mark.kind in ("failed", "stale", "reported")
        in_order = newest is not None and newest.at <= mark.at < self._reach(newest.at)
        if ends_one and not in_order and not any(a.at <= mark.at < self._reach(a.at) for a in self.attempts):
            if mark.kind != "reported":
                self._fail_alone(mark.at)
            oldest = self.attempts[0].at if self.attempts else mark.at
            self.marks = [other for other in self.marks if other.at >= min(oldest, mark.at) - DISORDER]
        insort(self.marks, mark, key=_at)
        if len(self.marks) > MOST_MARKS:
            del self.marks[len(self.marks) // 4 : len(self.marks) // 2]  # keep the first and the newest
        if newest is None or not (ends_one or _is_tied(mark, newest)):
            return
        if in_order and mark.at <= newest.at + self.rules.settle:
            if mark.kind != "reported" and not any(_ends(other, newest) for other in since):
                self.failures += newest.counts
            return
        self._learn()
        self._finish_old()

    def _fail_alone(self, at: float) -> None:
        """Note a failure without a known attempt. At most one per settle time counts as a sync."""
        if self.ends and at < self._reach(self.ends[-1].at):
            return
        if self.orphan_failure is None or at - self.orphan_failure > self.rules.settle:
            self.orphan_failures += 1
        self.orphan_failure = at if self.orphan_failure is None else max(self.orphan_failure, at)

    def _learn(self) -> None:
        """Learn how late failures come, and count those that are not final."""
        latest = self.latest if self.latest is not None else float("-inf")
        for index, attempt in enumerate(self.attempts):
            following = self.attempts[index + 1].at if index + 1 < len(self.attempts) else float("inf")
            first = next(
                (
                    mark
                    for mark in self.marks
                    if attempt.at <= mark.at < following
                    and (mark.kind in ("failed", "stale") or _is_tied(mark, attempt))
                ),
                None,
            )
            if first is None or first.kind == "stale":  # a verdict comes when a user asks, not when a sync fails
                continue
            delay = first.at - attempt.at
            sure = following < float("inf") or latest > first.at + DISORDER
            slowest = SLOWEST if first.certain or _is_own(first, attempt) else FAR_FROM
            if sure and self.rules.settle < delay <= slowest * self.rhythm:
                self.slowest = max(self.slowest, delay)
        failed = sum(judged.outcome == "failed" and judged.counts for judged in self.judged())
        self.failures = max(self.failures, self.final_failures + failed)

    def _finish_old(self) -> None:
        """Make attempts final whose outcome a later attempt has settled."""
        latest = self.latest if self.latest is not None else float("-inf")
        while len(self.attempts) > 1 and (
            latest > self.attempts[1].at + DISORDER or len(self.attempts) > MOST_ATTEMPTS
        ):
            attempt, following = self.attempts[0], self.attempts[1].at
            if self.marks and self.marks[0].at < following:
                self._finish(self._judged(0))
                self.marks = [mark for mark in self.marks if mark.at >= following]
            elif following - attempt.at > self.rules.settle:  # else it was retried: no outcome of its own
                self._finish(self._judged(0))
            del self.attempts[0]

    def _finish(self, judged: Judged) -> None:
        if judged.outcome in ("succeeded", "reported"):
            self.orphan_failures = 0
        if judged.outcome != "retried":
            self.ends.append(End(judged.at, judged.outcome, judged.counts, judged.disproved))
            self.final_failures += judged.outcome == "failed" and judged.counts
        while self.ends and (self.ends[0].at <= judged.at - self.rules.grace or len(self.ends) > MOST_ENDS):
            end = self.ends.pop(0)
            if end.outcome == "succeeded":
                self.older_success, self.older_failures, self.older_unclear = end.at, 0, 0
            elif end.outcome == "reported":
                self.older_failures = self.older_unclear = 0
            else:
                self.older_failures += end.outcome == "failed"
                self.older_unclear += end.outcome == "unclear"


def _at(timed: Attempt | Mark) -> float:
    return timed.at


def _is_tied(mark: Mark, attempt: Attempt) -> bool:
    """Whether an entry of trouble belongs to the attempt."""
    return mark.kind in ("trouble", "tied") and _is_own(mark, attempt)


def _ends(mark: Mark, attempt: Attempt) -> bool:
    return mark.kind in ("failed", "stale", "reported") or _is_tied(mark, attempt)


def _is_own(mark: Mark, attempt: Attempt) -> bool:
    """Whether an entry belongs to the attempt, by its correlation id or its source file."""
    return (bool(mark.correlation) and mark.correlation == attempt.correlation) or (
        bool(mark.source) and mark.source == attempt.source
    )
