"""The sync clock beside sites whose truth is known. More of them by hand: `python -m tests.site_model --help`."""

import pytest

from tests.site_model.judge import LONGEST_FALSE, Figures, judged
from tests.site_model.world import KINDS, Kind, world_of

DAYS = 7.0
HISTORIES = range(2)
MOST_FALSE = {"torn": 0.005, "slow": 0.005, "disorder": 0.005, "mixed": 0.005}
"""The share of minutes in which a success may be shown that was none; in the other worlds 20 minutes in a row."""


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "silent"])
def test_no_success_is_claimed_that_was_none_and_none_is_missed(kind: Kind, history: int) -> None:
    world = world_of(kind, history, DAYS)
    found = judged(world)
    assert found.minutes > 10_000
    if kind in MOST_FALSE:
        assert found.false < MOST_FALSE[kind] * found.minutes, found
    else:
        assert found.longest_false <= LONGEST_FALSE, found
    assert found.behind < 0.01 * found.minutes, found
    assert (found.blips, found.false_page, found.unpaged) == (0, 0, 0), found


@pytest.mark.parametrize("history", HISTORIES)
def test_where_syncs_fail_in_silence_qliks_own_verdict_stands_until_users_get_in(history: int) -> None:
    found = judged(world_of("silent", history, 9))
    assert (found.blips, found.late_clear, found.false_page) == (0, 0, 0), found
    assert found.behind < 0.01 * found.minutes, found


def test_the_worlds_hold_what_they_are_for() -> None:
    """A model without lockouts, failures, torn or disorderly lines would prove nothing."""
    worlds = {kind: [world_of(kind, history, DAYS) for history in HISTORIES] for kind in KINDS}
    assert sum(len(world.lockouts()) for found in worlds.values() for world in found) >= 1
    assert all(sum(len(world.failures) for world in found) > 50 for found in worlds.values())
    assert all(sum(len(world.successes) for world in found) > 100 for found in worlds.values())
    torn = [line for world in worlds["torn"] for _, line in world.written if not line.endswith(b"}")]
    assert len(torn) > 100
    assert Figures(minutes=1, longest_false=3) + Figures(minutes=2, longest_false=2) == Figures(3, longest_false=3)
