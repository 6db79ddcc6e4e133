"""The sync clock beside sites whose truth is known. More of them by hand: `python -m tests.site_model --help`."""

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.cli import main
from tests.site_model.judge import LONGEST_FALSE, Figures, judged, observed
from tests.site_model.world import KINDS, Kind, world_of

pytestmark = pytest.mark.slow

DAYS = 7.0
HISTORIES = range(2)
MOST_FALSE = {"torn": 0.005, "slow": 0.005, "disorder": 0.005, "mixed": 0.005}
"""The share of minutes in which a success may be shown that was none; in the other worlds 20 minutes in a row."""


@pytest.mark.slow
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
    assert (found.blips, found.false_page, found.unpaged, found.miscounted) == (0, 0, 0, 0), found


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
def test_where_syncs_fail_in_silence_qliks_own_verdict_stands_until_users_get_in(history: int) -> None:
    found = judged(world_of("silent", history, 9))
    assert (found.blips, found.late_clear, found.false_page, found.miscounted) == (0, 0, 0, 0), found
    assert found.behind < 0.01 * found.minutes, found


@pytest.mark.slow
def test_the_worlds_hold_what_they_are_for() -> None:
    """A model without lockouts, failures, torn or disorderly lines would prove nothing."""
    worlds = {kind: [world_of(kind, history, DAYS) for history in HISTORIES] for kind in KINDS}
    assert sum(len(world.lockouts()) for found in worlds.values() for world in found) >= 1
    assert all(sum(len(world.failures) for world in found) > 50 for found in worlds.values())
    assert all(sum(len(world.successes) for world in found) > 100 for found in worlds.values())
    eventful = worlds["eventful"]
    assert all(world.shifts and world.denied["parallel_sessions"] > 10 for world in eventful)
    assert sum(world.denied["no_access_pass"] for world in eventful) > 50
    torn = [line for world in worlds["torn"] for _, line in world.written if not line.endswith(b"}")]
    assert len(torn) > 100
    assert Figures(minutes=1, longest_false=3) + Figures(minutes=2, longest_false=2) == Figures(3, longest_false=3)


@pytest.mark.parametrize("kind", ["clean", "odd"])
def test_backfill_and_once_say_what_the_running_fold_said(kind: Kind, tmp_path: Path, capsys) -> None:
    world = world_of(kind, 1, 1.5)
    folder = tmp_path / "Log" / "Licenses"
    folder.mkdir(parents=True)
    (folder / "l.log").write_bytes(b"".join(line + b"\n" for _, line in world.written))
    output = tmp_path / "out.om"
    assert main(["backfill", str(tmp_path / "Log"), "-o", str(output), "--step", "1m"]) == 0
    families = {family.name: family for family in text_string_to_metric_families(output.read_text())}
    told = {float(s.timestamp): s.value for s in families["qlik_license_sync_last_success_timestamp_seconds"].samples}
    state = None
    compared = 0
    for now, state, _ in observed(world):  # the last one is used below
        success = state.last_success()
        if now in told or success is not None:
            assert told.get(now) == (success[0] if success else None) or now > max(told)
            compared += 1
    assert compared > 1000
    assert state is not None
    config = tmp_path / "config.yml"
    others = "  repository_audit: {enabled: false}\n  repository_trace: {enabled: false}\n"
    config.write_text(f"probes: []\nlogs:\n  licenses: {{paths: ['{folder.as_posix()}/*.log']}}\n{others}")
    capsys.readouterr()
    assert main(["run", "--once", "--config.file", str(config)]) == 0
    once = capsys.readouterr().out
    assert f"qlik_license_sync_attempts_total {state.counters.sync_attempts}.0" in once
    assert f"qlik_license_sync_failures_total {state.counters.sync_failures}.0" in once
