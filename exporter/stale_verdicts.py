"""The stale verdicts of a period in which users are refused, and whether use of the service shows its end. Pure.

A request that succeeds proves nothing by itself: some succeed while users are refused, too. Which ones is learned from
those that succeed between two verdicts.
"""

import msgspec

USED = 3
"""Signs of use after the newest stale verdict that are needed to show that users are let in again."""
KNOWN_VERDICTS = 3
"""Number of verdicts after which it is known which requests succeed in spite of them."""
QUIET_LONG, QUIET = 1500.0, 1200.0
"""Seconds of use without a stale verdict: required while fewer verdicts are known, and the most required later."""
MOST_KINDS = 1_000


class StaleVerdicts(msgspec.Struct, kw_only=True):
    """The verdicts of the newest such period, and the use of the service since. Mutable; copied before each change."""

    oldest: float | None = None
    """The time of the first one of the period."""
    newest: float | None = None
    count: int = 0
    gap: float = 0.0
    """The longest time between two of them, in seconds."""
    used: dict[str, int] = {}
    """Successful requests since the newest verdict, and their numbers."""
    people: int = 0
    """The number of signs since the newest verdict that users were let in."""
    answered: list[str] = []
    """Requests that succeeded between two verdicts, and so prove nothing."""
    ended: bool = False
    """Whether users were let in, or a success was reported, after the newest verdict."""

    def copy(self) -> "StaleVerdicts":
        """A copy that can be changed independently."""
        return msgspec.structs.replace(self, used=dict(self.used), answered=list(self.answered))

    def are_before(self, at: float) -> bool:
        """Whether all of them are older than `at`."""
        return self.newest is None or at > self.newest

    def add(self, at: float, grace: float) -> None:
        """Note a verdict. One more than a grace period after the one before begins a new period."""
        if self.newest is None or at > self.newest:
            self.ended = False
        if self.newest is None or at - self.newest > grace:
            self.oldest, self.count, self.gap, self.answered = at, 0, 0.0, []
        elif at > self.newest:
            self.gap = max(self.gap, at - self.newest)
            self.answered = [*dict.fromkeys((*self.answered, *self.used))][-MOST_KINDS:]
        self.count += 1
        self.newest = at if self.newest is None else max(self.newest, at)
        self.used, self.people = {}, 0

    def note_use(self, at: float, kind: str, *, person: bool) -> bool:
        """Note that somebody used the service, or a `person` the hub, and was not refused. Returns whether that shows
        that users are let in again.

        It does once the service is used and no verdict has come for longer than the verdicts were apart. Requests that
        succeeded between two verdicts do not count; the shorter the time of the verdicts, the less it says that others
        did not. While few verdicts are known, only users count.
        """
        if self.newest is None or at <= self.newest:
            return False
        if kind in self.used or len(self.used) < MOST_KINDS:
            self.used[kind] = self.used.get(kind, 0) + 1
        self.people += person and kind not in self.answered
        quiet = at - self.newest
        if self.count < KNOWN_VERDICTS:
            return self.people >= USED and quiet > QUIET_LONG
        telling = sum(number for used, number in self.used.items() if used not in self.answered)
        known = max(1.0, self.newest - (self.oldest or 0.0))
        return quiet > min(self.gap, QUIET) and telling >= USED + USED * quiet / known
