"""What the product makes of a site, minute by minute, beside the truth."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from exporter.config import Config
from exporter.events import LogName, SettleDue
from exporter.examination import rules_of
from exporter.license import LicenseState, Rules, new_state
from exporter.logs.formats import split
from exporter.logs.messages import Catalogue
from tests.site_model.world import GRACE, World

MINUTE, HOUR = 60.0, 3600.0
LONGEST_FALSE = 20
"""Minutes for which a success that was none may be shown."""
BEHIND, PATIENCE = 15 * MINUTE, 17 * MINUTE
LOCKOUT_NEAR, PAGED = 48 * HOUR, 24 * HOUR
"""The alert QlikLicenseLockoutImminent; a lockout is to be paged so long before."""
CLEARED = 30 * MINUTE


@dataclass
class Figures:
    """Minutes of one history, or of many."""

    minutes: int = 0
    false: int = 0
    """Showed a success that was none."""
    longest_false: int = 0
    """The longest run of such minutes."""
    behind: int = 0
    """Showed a success more than 15 minutes older than the true one, 17 minutes after it."""
    blips: int = 0
    """Not stale in a lockout that a stale verdict has told of."""
    late_clear: int = 0
    """Still stale more than 30 minutes after a recovery, while users get in."""
    unclear: int = 0
    """Said that it is not clear how the last syncs ended."""
    false_page: int = 0
    """A lockout page on a site that was synchronised within a day."""
    unpaged: int = 0
    """A lockout of more than two days' making was not paged 24 hours before."""
    lockouts: int = 0
    miscounted: int = 0
    """Histories whose refused people were not counted exactly."""

    def __add__(self, other: "Figures") -> "Figures":
        """Both together."""
        both = Figures(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})
        both.longest_false = max(self.longest_false, other.longest_false)
        return both


def judged(world: World) -> Figures:
    """The running fold over the lines as they were written, polled every minute, beside the truth.

    While the clock is wrong, and until a sync succeeds after that, only what is claimed is judged, not what is missed.
    """
    found, false_run = Figures(), 0
    stamps = sorted(map(world.node_time, world.successes))
    lockouts = [(at, at - PAGED) for at in world.lockouts()]
    for now, state, rules in observed(world):
        found.minutes += 1
        success = state.last_success()
        shown = success[0] if success else None
        false = shown is not None and not _is_true(stamps, shown)
        false_run = false_run + 1 if false else 0
        found.false += false
        found.longest_false = max(found.longest_false, false_run)
        if not world.is_clock_right(now):
            lockouts = [lockout for lockout in lockouts if lockout[1] > now]
            continue
        true, true_now = world.last_success(now - PATIENCE), world.last_success(now)
        found.behind += true is not None and (shown is None or shown < true - BEHIND)
        found.unclear += state.unclear_attempts > 0
        stale = state.sync_expected(rules) and state.stale()
        verdict = state.stale_verdict
        locked_out = world.locked_out(now)
        told = verdict is not None and (true_now is None or verdict > true_now)
        found.blips += locked_out and told and not stale
        recovered = true_now is not None and world.recovered(now)
        found.late_clear += bool(stale and recovered and world.people_let_in(now - CLEARED, now) >= 5)
        due = state.lockout(rules)
        near = due is not None and due - now < LOCKOUT_NEAR
        found.false_page += bool(near and true is not None and now - true < 24 * HOUR)
        for lockout in [lockout for lockout in lockouts if lockout[1] <= now]:
            lockouts.remove(lockout)
            found.lockouts += 1
            found.unpaged += not (near or stale)
    found.miscounted = state.counters.denials != world.denied
    return found


def observed(world: World) -> Iterator[tuple[float, LicenseState, Rules]]:
    """Each minute, and what is known then."""
    rules = rules_of(Config(), Catalogue())
    state = new_state(b"k")
    logs: list[tuple[LogName, list[tuple[float, bytes]], list[Any]]] = [
        ("licenses", world.written, _records("licenses", world.written)),
        ("repository_audit", world.rows, _records("repository_audit", world.rows)),
    ]
    places = dict.fromkeys((log for log, _, _ in logs), 0)
    now = world.begin
    while now < world.end:
        now += MINUTE
        shown = world.node_time(now)
        for log, written, records in logs:
            begin = end = places[log]
            while end < len(written) and written[end][0] <= now:
                end += 1
            if end > begin:
                state.fold_records(log, records[begin:end], shown, rules)
                places[log] = end
        state.fold(SettleDue(shown), shown, rules)
        yield now, state, rules


def _records(log: LogName, written: list[tuple[float, bytes]]) -> list[Any]:
    records = split(log, [text for _, text in written], None, True).records
    at = None
    for record in records:  # as the tail does
        if record.at is None:
            record.at = at
        at = record.at
    return records


def _is_true(successes: list[float], at: float) -> bool:
    """A torn attempt takes the time of the entry behind it, at most a minute later."""
    place = bisect.bisect_left(successes, at - MINUTE)
    return place < len(successes) and successes[place] <= at + 2


__all__ = ["GRACE", "Figures", "judged", "observed"]
