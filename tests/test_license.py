"""The sync clock and the counters, rule by rule: docs/design.md, "The sync clock"."""

import time
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.events import (
    AccessDenied,
    LicenseError,
    LicenseStale,
    LogEvent,
    ProbeFinished,
    QrsLicenseRead,
    SettleDue,
    SevereEntry,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
)
from exporter.license import MOST_REFUSED, LicenseState, Rules, new_state

START = 1_800_000_000.0
DAY = 86400.0


class Entry(NamedTuple):
    """A record that is already recognised: the seam between the catalogue and the fold."""

    at: float | None
    event: LogEvent | None = None
    counts: bool = True
    malformed: bool = False
    orphan: bool = False
    message: str = "m"


RULES = Rules(
    recognise=lambda log, entries: [(entry.message, entry.event) for entry in entries], settle=90, grace=5 * DAY
)
TOLD = RULES._replace(infers=False)


def attempt(at: float, **more: bool) -> Entry:
    return Entry(START + at, SyncAttempted(), **more)


def failure(at: float) -> Entry:
    return Entry(START + at, SyncFailed("timeout"))


def stale(at: float) -> Entry:
    return Entry(START + at, LicenseStale())


def other(at: float) -> Entry:
    return Entry(START + at)


def told(at: float) -> Entry:
    return Entry(START + at, SyncSucceeded())


def folded(
    *entries: Entry, now: float = 30 * DAY, rules: Rules = RULES, state: LicenseState | None = None
) -> LicenseState:
    state = (state or new_state(b"k")).copy()
    for entry in entries:
        state.fold_records("licenses", [entry], START + now, rules)
    return state


def success_of(state: LicenseState) -> tuple[float, str] | None:
    success = state.last_success()
    return (success[0] - START, success[1]) if success else None


def figures(state: LicenseState) -> tuple[int, int, int, int]:
    c = state.counters
    return c.sync_attempts, c.sync_failures, c.sync_successes, c.sync_retried


def test_case_a2_an_attempt_that_a_stale_verdict_follows_is_a_failure() -> None:
    state = folded(attempt(0), stale(0.04), other(DAY))
    assert (success_of(state), state.stale(), state.consecutive_failures) == (None, True, 1)
    assert figures(state) == (1, 1, 0, 0)


def test_an_attempt_alone_is_no_success_until_the_settle_time_is_over() -> None:
    assert success_of(folded(attempt(0), other(90))) is None
    assert success_of(folded(attempt(0), other(90.1))) == (0, "inferred")


def test_without_a_later_record_the_wall_clock_settles() -> None:
    state = folded(attempt(0))
    state.fold(SettleDue(START + 90), START + 90, RULES)
    assert success_of(state) is None
    state.fold(SettleDue(START + 91), START + 91, RULES)
    assert success_of(state) == (0, "inferred")


def test_a_failure_within_the_settle_time_fails_the_sync() -> None:
    state = folded(attempt(0), failure(90), other(DAY))
    assert (success_of(state), figures(state), state.consecutive_failures) == (None, (1, 1, 0, 0), 1)
    assert state.last_failure == START + 90


def test_a_second_attempt_within_the_settle_time_is_the_same_sync_retried() -> None:
    state = folded(attempt(0), attempt(30), other(100))
    assert (success_of(state), figures(state)) == ((0, "inferred"), (2, 0, 1, 1))
    assert state.last_attempt == START + 30


def test_attempts_more_frequent_than_the_settle_time_still_settle() -> None:
    state = folded(*(attempt(minute * 60) for minute in range(10)))
    assert success_of(state) == (360, "inferred")


def test_a_late_failure_before_the_next_attempt_revokes_an_inferred_success() -> None:
    state = folded(attempt(0), attempt(600), failure(800))
    assert (success_of(state), figures(state)) == ((0, "inferred"), (2, 1, 1, 0))
    assert state.consecutive_failures == 1


def test_a_late_failure_after_the_next_attempt_belongs_to_that_one() -> None:
    state = folded(attempt(0), attempt(600), failure(610), failure(620))
    assert (success_of(state), figures(state)) == ((0, "inferred"), (2, 1, 1, 0))


def test_an_error_without_a_recognised_attempt_fails_no_sync_but_is_counted() -> None:
    state = folded(failure(0), failure(5))
    assert (figures(state), state.last_failure, state.counters.errors) == ((0, 0, 0, 0), None, {"timeout": 2})


def test_case_a4_the_administrators_key_trick_does_not_fail_the_sync() -> None:
    invalid = Entry(START + 1, LicenseError("invalid", service=True))
    state = folded(attempt(0), invalid, invalid, other(100))
    assert (success_of(state), state.counters.errors) == ((0, "inferred"), {"invalid": 2})


def test_a_failed_backend_probe_before_the_settling_prevents_an_inferred_success() -> None:
    for probe_at, role, expected in (
        (45, "backend", None),
        (45, "local", (0, "inferred")),
        (91, "backend", (0, "inferred")),
    ):
        state = folded(attempt(0))
        state.fold(ProbeFinished("t", role, START + probe_at, success=False), START + probe_at, RULES)
        assert success_of(folded(other(100), state=state)) == expected


def test_an_inconclusive_probe_prevents_no_success_and_is_none() -> None:
    state = folded(attempt(0))
    state.fold(ProbeFinished("t", "backend", START + 45, success=None), START + 45, RULES)
    assert success_of(folded(other(100), state=state)) == (0, "inferred")
    assert (state.probe_success, state.probe_failures) == ({}, [])


def test_a_probe_that_failed_before_its_attempt_was_read_prevents_it_too() -> None:
    state = new_state(b"k")
    state.fold(ProbeFinished("t", "backend", START + 1, success=False), START + 1, RULES)
    assert success_of(folded(attempt(0), other(100), state=state)) is None


def test_a_day_of_a_black_holed_firewall_never_shows_a_success() -> None:
    """An attempt every 10 minutes, nothing else in the log, the probe failing every minute."""
    state = new_state(b"k")
    for minute in range(24 * 60):
        now = START + minute * 60
        if minute % 10 == 0:
            state.fold_records("licenses", [Entry(now, SyncAttempted())], now, RULES)
        state.fold(ProbeFinished("t", "backend", now + 5, success=False), now + 5, RULES)
        state.fold(SettleDue(now + 59), now + 59, RULES)
        assert state.last_success() is None
    assert state.consecutive_failures == 144


def test_the_same_without_a_probe_shows_inferred_ones_until_a_stale_verdict_takes_them_back() -> None:
    entries = [attempt(minute * 600) for minute in range(144)]
    state = folded(*entries, other(144 * 600))
    assert (success_of(state), figures(state)) == ((143 * 600, "inferred"), (144, 0, 144, 0))
    state = folded(stale(144 * 600 + 1), state=state)
    assert (success_of(state), state.stale(), figures(state)) == (None, True, (144, 144, 0, 0))
    assert state.consecutive_failures == 144


def test_a_stale_verdict_takes_back_only_the_last_grace_period() -> None:
    state = folded(attempt(0), attempt(DAY), attempt(6 * DAY), other(6 * DAY + 100), stale(6.5 * DAY))
    assert success_of(state) == (DAY, "inferred")
    assert state.stale()
    assert folded(attempt(7 * DAY), other(7 * DAY + 100), state=state).stale() is False


def test_a_told_success_settles_at_once_and_nothing_is_inferred_beside_it() -> None:
    state = folded(attempt(0), told(2), attempt(600), other(DAY), rules=TOLD)
    assert (success_of(state), figures(state), state.pending is not None) == ((2, "message"), (2, 0, 1, 0), True)
    state = folded(stale(DAY + 1), state=state, rules=TOLD)
    assert success_of(state) == (2, "message")


def test_the_repository_api_can_tell_of_a_success() -> None:
    state = folded(attempt(0), failure(1))
    state.fold(QrsLicenseRead(START + 50), START + 60, RULES)
    assert (success_of(state), state.consecutive_failures) == ((50, "qrs"), 0)
    state.fold(QrsLicenseRead(START + 5 * DAY), START + 60, RULES)
    assert success_of(state) == (50, "qrs"), "an instant of the future moves nothing"


def test_a_record_of_the_future_counts_but_moves_no_instant() -> None:
    state = folded(attempt(0), stale(31 * DAY), attempt(31 * DAY), now=1)
    assert (state.stale(), state.stale_verdict, state.last_attempt) == (False, None, START)
    assert (state.counters.logs["licenses"].future, figures(state)) == (2, (2, 0, 0, 1))
    assert state.counters.errors == {"stale": 1}
    assert folded(stale(300), now=0).stale(), "five minutes ahead is a clock that is slightly off"


def test_hazard_113_an_out_of_order_record_raises_maxima_but_takes_no_part_in_the_clock() -> None:
    state = folded(other(1000), attempt(900), failure(901), stale(930))
    assert (state.last_attempt, state.pending, state.stale_verdict) == (START + 900, None, START + 930)
    assert figures(state) == (1, 0, 0, 1)
    assert state.last_entry["licenses"] == START + 1000
    assert folded(other(1000), attempt(940), other(1100)).last_success() == (START + 940, "inferred")


def test_a_late_stale_verdict_retracts_nothing() -> None:
    state = folded(attempt(0), other(1000), stale(100))
    assert (success_of(state), state.stale()) == ((0, "inferred"), True)


def test_a_record_without_any_time_counts_and_moves_nothing() -> None:
    state = folded(Entry(None, LicenseStale()), Entry(None, SyncAttempted()))
    assert (state.stale(), state.counters.errors, figures(state)) == (False, {"stale": 1}, (1, 0, 0, 1))


def test_history_restates_but_never_counts() -> None:
    state = folded(attempt(0, counts=False), Entry(START + 200, LicenseStale(), counts=False))
    assert state.stale()
    assert figures(state) == (0, 0, 0, 0)
    assert state.counters.errors.get("stale", 0) == 0
    assert state.counters.logs["licenses"].records == 0


def test_a_failure_of_an_attempt_that_is_history_fails_the_sync_without_counting_it() -> None:
    state = new_state(b"k")
    state.fold_records("licenses", [Entry(START, SyncAttempted(), counts=False)], START, RULES)
    state.fold_records("licenses", [Entry(START + 5, SyncFailed("dns"))], START + 5, RULES)
    counters = state.counters
    assert (counters.sync_attempts, counters.sync_failures, counters.errors) == (0, 0, {"dns": 1})
    assert (state.consecutive_failures, state.last_failure) == (1, START + 5)


def test_a_sync_is_expected_by_the_kind_of_license() -> None:
    quiet, seen = folded(failure(0)), folded(attempt(0))
    for kind, before, after in (
        ("auto", False, True),
        ("signed_key", True, True),
        ("offline", False, False),
        ("lef", False, False),
    ):
        rules = RULES._replace(kind=kind)
        assert (quiet.sync_expected(rules), seen.sync_expected(rules)) == (before, after)
    assert folded(Entry(START, LicenseError("other", service=True))).sync_expected(RULES)
    assert not folded(Entry(START, LicenseError("other"))).sync_expected(RULES)


def test_the_lockout_is_the_last_success_and_the_grace() -> None:
    state = folded(attempt(0), other(100))
    assert state.lockout(RULES) == START + 5 * DAY
    assert state.lockout(RULES._replace(kind="offline")) is None
    assert folded(attempt(0)).lockout(RULES) is None


def denial(at: float, user: str, reason: str = "no_access_pass") -> Entry:
    return Entry(START + at, AccessDenied(reason, user))


def test_refused_users_are_distinct_by_name_whatever_its_case_and_leave_after_the_hour() -> None:
    state = folded(denial(0, r"D\a"), denial(10, r"d\A"), denial(20, r"D\b"), denial(30, ""), now=60)
    assert [state.refused_users("no_access_pass", START + at) for at in (9, 60, 3609.9, 3610, 3620)] == [0, 2, 2, 1, 0]
    assert state.refused_users("parallel_sessions", START + 60) == 0
    state.fold(SettleDue(START + 3700), START + 3700, RULES)
    assert state.refused["no_access_pass"] == {}
    assert b"D" not in msgspec.json.encode(folded(denial(0, "DDDDDD"), now=1).refused)


def test_a_backlog_of_old_refusals_counts_but_names_nobody_as_refused_now() -> None:
    state = folded(*(denial(at, f"u{at}") for at in range(20)), now=2 * DAY)
    assert (state.refused_users("no_access_pass", START + 2 * DAY), state.counters.denials) == (
        0,
        {"no_access_pass": 20},
    )


def test_refused_users_saturate() -> None:
    state = new_state(b"k")
    state.fold_records("repository_audit", [denial(0, f"u{n}") for n in range(MOST_REFUSED + 500)], START + 1, RULES)
    assert state.refused_users("no_access_pass", START + 1) == MOST_REFUSED
    assert state.counters.denials == {"no_access_pass": MOST_REFUSED + 500}


def test_a_flood_of_refused_users_makes_no_fold_slower() -> None:
    def seconds(users: int) -> float:
        state = new_state(b"k")
        state.fold_records("repository_audit", [denial(0, f"u{n}") for n in range(users)], START + 1, RULES)
        began = time.process_time()
        for n in range(500):
            state.fold_records("repository_audit", [denial(1, f"u{n}")], START + 1, RULES)
        return time.process_time() - began

    assert seconds(MOST_REFUSED) < 8 * seconds(10), "it was 50 times as slow once"


def test_a_user_who_is_refused_again_is_remembered_from_then_on() -> None:
    state = folded(denial(0, "a"), denial(10, "b"), denial(3000, "a"), now=3000)
    state.fold(SettleDue(START + 3700), START + 3700, RULES)
    assert len(state.refused["no_access_pass"]) == 1
    assert state.refused_users("no_access_pass", START + 3700) == 1


def test_a_row_slightly_ahead_does_not_hide_the_one_before_it() -> None:
    state = folded(denial(0, "u"), denial(100, "u"), denial(200, "u"), now=50)
    assert [state.refused_users("no_access_pass", START + at) for at in (50, 3590, 3650, 3790, 3801)] == [1, 1, 1, 1, 0]


def test_a_clock_that_was_a_year_ahead_makes_nobody_blind_once_it_is_right() -> None:
    year = 365 * DAY
    ahead = [attempt(year), other(year + 200), attempt(year + 600), failure(year + 610), denial(year, "a")]
    state = folded(*ahead, attempt(year + 1200), now=year + 1200)
    state.fold(ProbeFinished("t:1", "backend", START + year, True), START + year, RULES)
    before = state.copy().counters
    state.fold_records("licenses", [attempt(10), stale(20), denial(20, "b")], START + 30, RULES)
    state.fold(ProbeFinished("t:1", "backend", START + 30, True), START + 30, RULES)
    assert state.stale()
    assert (state.last_success(), state.last_attempt, state.last_failure) == (None, START + 10, START + 20)
    assert state.last_entry == {"licenses": START + 20}
    assert state.consecutive_failures == 2
    assert state.refused_users("no_access_pass", START + 30) == len(state.refused["no_access_pass"]) == 1
    assert state.probe_success == {"t:1": START + 30}
    counters = state.counters
    assert (counters.sync_attempts, counters.sync_failures) == (before.sync_attempts + 1, before.sync_failures + 1)
    assert counters.sync_attempts == counters.sync_failures + counters.sync_successes + counters.sync_retried


def test_orphans_are_malformed_but_no_records() -> None:
    state = folded(Entry(None, malformed=True, orphan=True), Entry(START, malformed=True), other(1))
    counters = state.counters.logs["licenses"]
    assert (counters.records, counters.malformed, counters.messages) == (2, 2, {"m": 2})


def test_severe_entries_count_by_level() -> None:
    state = new_state(b"k")
    state.fold_records(
        "repository_trace", [Entry(START, SevereEntry("warn")), Entry(START, SevereEntry("warn"))], START, RULES
    )
    assert state.counters.logs["repository_trace"].severe == {"warn": 2}


def test_a_copy_is_independent() -> None:
    state = folded(attempt(0), denial(1, "u"), other(100))
    before = msgspec.json.encode(state)
    copy = state.copy()
    copy.fold_records("licenses", [attempt(500), stale(501), denial(502, "v")], START + 600, RULES)
    copy.count_reading("licenses", read_bytes=5, rotations=1, lost_generations=1)
    copy.caught_up.add("licenses")
    assert msgspec.json.encode(state) == before


EVENTS = st.sampled_from(
    [
        SyncAttempted(),
        SyncAttempted(),
        SyncFailed("dns"),
        LicenseStale(),
        LicenseError("invalid", service=True),
        None,
        AccessDenied("no_access_pass", "a"),
        AccessDenied("parallel_sessions", "b"),
        SyncSucceeded(),
    ]
)
TIMES = st.one_of(st.integers(-200, 4 * 86400), st.integers(0, 400), st.none())
ENTRIES = st.lists(
    st.builds(lambda at, event: Entry(None if at is None else START + at, event), TIMES, EVENTS), max_size=60
)
PROBES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 86400)), max_size=5)


@settings(deadline=None)
@given(ENTRIES, PROBES, st.booleans(), st.integers(1, 10), st.integers(0, 60))
def test_attempts_are_failures_and_successes_and_retried_and_pending(
    entries: list[Entry], probes: list[tuple[int, int]], infers: bool, grace_days: int, history: int
) -> None:
    rules = RULES._replace(infers=infers, grace=grace_days * 3600)
    state = new_state(b"k")
    for place, entry in enumerate(entries):
        for at in (at for where, at in probes if where == place):
            state.fold(ProbeFinished("t", "backend", START + at, success=False), START + at, rules)
        state.fold_records("licenses", [entry._replace(counts=place >= history)], START + DAY, rules)
        c = state.counters
        pending = state.pending is not None and state.pending.counts
        assert c.sync_attempts == c.sync_failures + c.sync_successes + c.sync_retried + pending
        assert min(figures(state)) >= 0
        assert state.consecutive_failures >= 0


@settings(deadline=None)
@given(ENTRIES, st.integers(0, 60), st.booleans())
def test_a_log_cut_anywhere_and_resumed_from_the_saved_state_gives_the_same_state(
    entries: list[Entry], cut: int, infers: bool
) -> None:
    rules = RULES._replace(infers=infers)
    whole = new_state(b"k")
    whole.fold_records("licenses", entries, START + DAY, rules)
    resumed = new_state(b"k")
    resumed.fold_records("licenses", entries[:cut], START + DAY, rules)
    resumed = msgspec.json.decode(msgspec.json.encode(resumed), type=LicenseState)
    resumed.fold_records("licenses", entries[cut:], START + DAY, rules)
    assert resumed == whole


@settings(deadline=None)
@given(ENTRIES)
def test_the_age_is_never_negative_and_stale_follows_from_its_instants(entries: list[Entry]) -> None:
    state = folded(*entries)
    success = state.last_success()
    assert state.stale() == (state.stale_verdict is not None and (success is None or state.stale_verdict > success[0]))


@pytest.mark.parametrize("infers", [True, False])
def test_the_disorder_of_minus_sixty_seconds_is_tolerated(infers: bool) -> None:
    state = folded(other(100), failure(41), attempt(40), rules=RULES._replace(infers=infers))
    assert state.pending is not None
