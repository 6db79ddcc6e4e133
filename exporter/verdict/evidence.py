"""What follows from an observation, and the sentences about it, on which the rules are based. Pure."""

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from exporter.events import DenialReason, ErrorClass
from exporter.license import INVALID_PAUSE, REFUSED_WINDOW
from exporter.masking import masked
from exporter.verdict.limits import DAY, limits_of
from exporter.wording import ago, count, instant, listed

if TYPE_CHECKING:
    from exporter.observation import Observation
    from exporter.probes import ProbeHistory, ProbeResult, Reason

NETWORK_ERRORS: tuple[ErrorClass, ...] = ("dns", "refused", "timeout", "reset", "other")
CONTACTS = ("contact_failed", "backend_unreachable")
"""The messages of class `other` that are network errors."""
SYNC_ERRORS: tuple[ErrorClass, ...] = (*NETWORK_ERRORS, "tls", "proxy", "http")
"""The errors of the Licenses log that make a sync fail."""


class Evidence:
    """What follows from one observation, for the rules."""

    def __init__(self, seen: "Observation") -> None:
        self.seen, self.now, self.state, self.rules = seen, seen.now, seen.state, seen.rules
        self.limits = limits_of(seen.rules.grace)
        self.product = seen.product
        self.one_shot = seen.started is None
        self.offline = seen.rules.kind in ("offline", "lef")
        self.expected = seen.state.sync_expected(seen.rules)
        known = seen.state.last_success()
        self.success: float | None = known[0] if known else None
        self.source = known[1] if known else None
        self.stale = self.expected and seen.state.stale()
        self.lockout = None if self.stale else seen.state.lockout(seen.rules)
        self.recovered = self._recovered()
        self.refused = self._refused_since(self.unexplained_since("no_access_pass"))
        self.parallel = seen.state.refused_users("parallel_sessions", seen.now)
        self.dead = self.stale and self._confirmed()
        self.qrs = seen.qrs.overview(seen.now) if seen.qrs else None
        self.unused = seen.qrs.unused(seen.now) if seen.qrs else None
        # A failing probe counts immediately while syncs fail: the two confirm each other.
        patience = 0.0 if seen.state.consecutive_failures else self.limits.unreachable
        self.good, self.bad = self._probed("backend", patience)
        _, self.repository_bad = self._probed("repository", self.limits.repository_down)
        self.error = self._newest_error()
        self.stranger = bool(
            self.error and self.error[0] == "http" and seen.state.last_error_message == "answered_by_stranger"
        )
        """Whether something other than the backend answered last."""

    def _recovered(self) -> float | None:
        """When the license became good again, if it was stale shortly before."""
        stale = self.state.stale_verdict
        if stale is None or self.stale:
            return None
        known = (*self.state.sync.inferred_successes(), self.state.message_success, self.state.qrs_success)
        first = min((at for at in known if at is not None and at > stale), default=None)
        return first if first is not None and first - stale < max(self.limits.stale_recent, REFUSED_WINDOW) else None

    def unexplained_since(self, reason: DenialReason) -> float:
        """Since when refusals count as current: for an hour, and not from before the license became good again."""
        hour = self.now - REFUSED_WINDOW
        if self.recovered is None or reason != "no_access_pass":
            return hour
        return max(hour, self.recovered + self.rules.settle)

    def _refused_since(self, since: float) -> int:
        users = self.state.refused.get("no_access_pass", {})
        return sum(any(since < at <= self.now for at in times) for times in users.values())

    def _confirmed(self) -> bool:
        """Whether the stale verdict is recent, or users are refused accordingly."""
        young = self.now - (self.state.stale_verdict or 0.0) < self.limits.stale_recent
        return young or self.refused >= self.limits.denied_users

    def _probed(self, role: str, patience: float) -> "tuple[ProbeResult | None, ProbeResult | None]":
        """The newest good result of a role's probes, and a bad one that has lasted for `patience` seconds."""
        good = bad = None
        for history in self.seen.probes:
            last = history.last
            if history.settings.role != role or last is None:
                continue
            if last.success:
                good = last
            elif last.success is None:  # it says nothing, neither for nor against
                continue
            elif self.one_shot or self.now - self._failing_since(history) >= patience:
                bad = last
        return good, bad

    @staticmethod
    def _failing_since(history: "ProbeHistory") -> float:
        began = history.results[0].at if history.last_success is None else history.last_success
        return max([began, *(result.ended for result in history.results if result.success is None)])

    def _newest_error(self) -> tuple[ErrorClass, float] | None:
        """The newest network error of the Licenses log since the last success."""
        after = self.success if self.success is not None else float("-inf")
        errors = [(at, error) for error, at in self.state.last_error.items() if error in SYNC_ERRORS and at > after]
        newest = max(errors, default=None)
        if newest is None or (newest[1] == "other" and self.state.last_error_message not in CONTACTS):
            return None
        return newest[1], newest[0]

    def denials(self, reason: DenialReason) -> int:
        """Refusals within the hour: a lower bound."""
        since = self.unexplained_since(reason)
        kept = self.seen.journal.refusals(reason, since, self.now) if self.seen.journal else 0
        last = self.state.last_denial.get(reason)
        return max(kept, int(last is not None and since < last <= self.now))

    def licenses_silent(self) -> bool:
        """Whether the Licenses service has logged nothing for longer than its daily interval, although we can read."""
        last = self.state.last_entry.get("licenses", self.seen.covered_since)
        return self.expected and last is not None and self.now - last > self.limits.overdue

    def covered(self) -> float:
        """Seconds for which the Licenses log has been followed."""
        return self.now - self.seen.covered_since if self.seen.covered_since is not None else 0.0

    # --- sentences

    def at(self, at: float) -> str:
        """An instant and how long ago it is."""
        return f"{instant(at)} ({ago(at, self.now)})"

    def success_sentence(self) -> str:
        """The last success, and how it is known."""
        if self.success is None:
            return "No successful sync is known."
        how = {
            "message": "A log message says so.",
            "qrs": "That is when the Repository API says that the license was last updated.",
            "inferred": "This is inferred: a sync was attempted, and no failure followed.",
        }[self.source or "inferred"]
        return f"The last successful sync was at {self.at(self.success)}. {how}"

    def probe_sentences(self) -> list[str]:
        """The results of the backend probes."""
        said = []
        if self.bad is not None:
            said.append(failed_probe(self.bad, self))
        if self.good is not None:
            way = "through the proxy" if self.good.proxied else "directly"
            said.append(f"The probe reaches {self.good.target} {way}, last at {self.at(self.good.ended)}.")
        said += [
            f"The probe of {h.settings.target} is not judged: {h.last.shown_detail(masked).rstrip('.')}."
            for h in self.seen.probes
            if h.settings.role == "backend" and h.last is not None and h.last.success is None
        ]
        if not said and not any(h.settings.role == "backend" and h.last for h in self.seen.probes):
            said.append("The connection to the backend has not been probed.")
        if self.seen.service is not None and (look := self.seen.service.last) is not None:
            said += look.sentences(masked)
        return said

    @property
    def overdue_lockout(self) -> bool:
        """Whether users should be locked out by now, according to the sync clock."""
        return self.expected and self.lockout is not None and self.lockout <= self.now

    def flapping(self) -> "tuple[list[bool], int, list[tuple[Reason, int]] | None] | None":
        """Good and bad probes or syncs in order, how often they changed, and the probes' reasons; None: steady."""
        limits = self.limits
        for history in self.seen.probes:
            if history.settings.role == "backend":
                judged = [result for result in history.results if result.success is not None]
                recent = [bool(result.success) for result in judged if result.ended > self.now - limits.flapping_window]
                if changes := self._changes(recent):
                    since = self.now - limits.flapping_window
                    reasons = Counter(r.reason for r in judged if r.ended > since and r.reason is not None)
                    return recent, changes, reasons.most_common()
        clock = self.state.sync
        since = self.now - max(limits.flapping_window, 2 * limits.flapping_changes * clock.rhythm)
        ends = [(end.at, end.outcome) for end in clock.ends]
        ends += [(judged.at, judged.outcome) for judged in reversed(list(clock.judged()))]
        syncs = [
            outcome != "failed" for at, outcome in ends if at > since and outcome in ("succeeded", "reported", "failed")
        ]
        return (syncs, changes, None) if (changes := self._changes(syncs)) else None

    def _changes(self, recent: "list[bool]") -> int:
        """How often good and bad alternate, if that is worth a finding; else 0."""
        changes = sum(before != after for before, after in pairwise(recent))
        steady = changes < self.limits.flapping_changes or sum(recent) / len(recent) >= self.limits.flapping_share
        return 0 if not recent or steady else changes

    def invalid_for(self) -> float:
        """Seconds for which the service has repeatedly reported the license as invalid, up to now; 0: it has not."""
        last, since = self.state.last_error.get("invalid"), self.state.invalid_since
        if last is None or since is None or self.now - last > max(INVALID_PAUSE, 2 * self.state.sync.rhythm):
            return 0.0
        return last - since

    def repository_sentences(self) -> list[str]:
        """The warnings and errors of the Repository's license loggers within a day."""
        recent = {level: at for level, at in self.state.last_severe.items() if self.now - at < DAY}
        if not recent:
            return []
        logged = self.state.log_counters("repository_trace")
        numbers = [
            count(logged.severe.get(level, 0), word)
            for level, word in (("warn", "warning"), ("error", "error"), ("fatal", "fatal error"))
            if level in recent and logged.severe.get(level, 0)
        ]
        written = listed(numbers) if numbers else "complaints"
        invalid = logged.messages.get("license_invalid_in_repository", 0)
        sentence = f"The Repository's license logger wrote {written}, the last at {self.at(max(recent.values()))}"
        if invalid:
            times = "once" if invalid == 1 else f"{invalid:,} times"
            sentence += f"; it aborted license maintenance {times} because it found the license invalid"
        return [f"{sentence}."]

    def refused_sentences(self) -> list[str]:
        """How many were refused without an access pass within the hour, without naming anyone."""
        if not self.refused:
            return []
        users = count(self.refused, "user", "distinct users")
        return [f"{users} {were(self.refused)} refused without an access pass within the last hour."]

    def skew(self) -> float | None:
        """The error of this machine's clock, if it is too large."""
        for result in (self.bad, self.good):
            if result is not None and result.clock_skew is not None and abs(result.clock_skew) > self.limits.clock_skew:
                return result.clock_skew
        return None


def were(number: float) -> str:
    """`was` for one, else `were`."""
    return "was" if number == 1 else "were"


def failed_probe(result: "ProbeResult", evidence: Evidence) -> str:
    """What a failed probe found."""
    detail = result.shown_detail(masked).rstrip(".")
    return f"The probe of {result.target} failed at {evidence.at(result.ended)} with {result.reason}: {detail}."
