"""What the product makes of a site, minute by minute, beside the truth."""

import bisect
from dataclasses import dataclass

from exporter.config import Config
from exporter.events import SettleDue
from exporter.examination import rules_of
from exporter.license import new_state
from exporter.logs.formats import split
from exporter.logs.messages import Catalogue
from tests.site_model.world import World

MINUTE = 60.0
BEHIND, PATIENCE = 15 * MINUTE, 17 * MINUTE


@dataclass
class Figures:
    """Minutes of one history."""

    minutes: int = 0
    false: int = 0
    """Showed a success that was none."""
    longest_false: int = 0
    """The longest run of such minutes."""
    run: int = 0
    behind: int = 0
    """Showed a success more than 15 minutes older than the true one, 17 minutes after it."""
    blips: int = 0
    """Not stale in a lockout that a stale verdict has told of."""
    late_clear: int = 0
    """Still stale more than 30 minutes after a real recovery, while users get in."""
    unclear: int = 0
    first_false: float = 0.0


def judged(world: World) -> Figures:
    """The running fold over the lines as they were written, polled every minute."""
    catalogue = Catalogue()
    rules = rules_of(Config(), catalogue)
    state = new_state(b"k")
    found = Figures()
    records = _records("licenses", [text for _, text in world.written])
    rows = _records("repository_audit", [text for _, text in world.rows])
    line = row = 0
    now = world.begin
    while now < world.end:
        now += MINUTE
        for log, source, parsed, place in (
            ("licenses", world.written, records, line),
            ("repository_audit", world.rows, rows, row),
        ):
            end = place
            while end < len(source) and source[end][0] <= now:
                end += 1
            if end > place:
                state.fold_records(log, parsed[place:end], now, rules)
            if log == "licenses":
                line = end
            else:
                row = end
        state.fold(SettleDue(now), now, rules)
        _compare(world, state, now, found)
    return found


def _records(log, lines):
    records = split(log, lines, None, True).records
    at = None
    for record in records:
        if record.at is None:
            record.at = at
        at = record.at
    return records


def _compare(world: World, state, now: float, found: Figures) -> None:
    found.minutes += 1
    success = state.last_success()
    shown = success[0] if success else None
    if shown is not None and not _true(world.successes, shown):
        found.false += 1
        found.run += 1
        found.longest_false = max(found.longest_false, found.run)
        if found.run == 21 and not found.first_false:
            found.first_false = now
    else:
        found.run = 0
    true = world.last_success(now - PATIENCE)
    if true is not None and (shown is None or shown < true - BEHIND):
        found.behind += 1
    found.unclear += state.unclear_attempts > 0
    if world.locked_out(now) and state.stale_verdict is not None and not state.stale():
        last = world.last_success(now)
        if last is None or state.stale_verdict > last:
            found.blips += 1


def _true(successes: list[float], at: float) -> bool:
    place = bisect.bisect_left(successes, at - 2)
    return place < len(successes) and successes[place] <= at + 60
