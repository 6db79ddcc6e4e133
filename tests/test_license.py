"""The sync clock and the counters, rule by rule: docs/design.md, "The sync clock"."""

import time
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.events import (
    AccessDenied,
    AccessGranted,
    LicenseError,
    LicenseInUse,
    LicenseStale,
    LogEvent,
    ProbeFinished,
    QrsLicenseRead,
    ServiceStarted,
    SettleDue,
    SevereEntry,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
    SyncTrouble,
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
    dated: bool = True
    corr_id: str = ""
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


def figures(state: LicenseState) -> tuple[int, int, int]:
    """Attempts and failures that count, and failures in a row."""
    return state.counters.sync_attempts, state.counters.sync_failures, state.consecutive_failures


def test_case_a2_an_attempt_that_a_stale_verdict_follows_is_a_failure() -> None:
    state = folded(attempt(0), stale(0.04), other(DAY))
    assert (success_of(state), state.stale()) == (None, True)
    assert figures(state) == (1, 1, 1)


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
    assert (success_of(state), figures(state)) == (None, (1, 1, 1))
    assert state.last_failure == START + 90


def test_an_attempt_that_another_follows_at_once_was_retried_and_the_later_one_stands_for_itself() -> None:
    state = folded(attempt(0), attempt(30), other(121))
    assert (success_of(state), figures(state)) == ((30, "inferred"), (2, 0, 0))
    state = folded(attempt(0), attempt(60), attempt(95), failure(97), other(400))
    assert (success_of(state), figures(state)) == (None, (3, 1, 1))


def test_a_late_failure_before_the_next_attempt_revokes_an_inferred_success() -> None:
    state = folded(attempt(0), other(100), attempt(600), other(700))
    assert success_of(state) == (600, "inferred")
    state = folded(failure(800), state=state)
    assert (success_of(state), figures(state)) == ((0, "inferred"), (2, 1, 1))


def test_a_failure_ends_the_newest_attempt_before_it_and_that_one_only() -> None:
    state = folded(attempt(0), other(100), attempt(600), failure(610), failure(620), other(2000))
    assert (success_of(state), figures(state)) == ((0, "inferred"), (2, 1, 1))


def test_a_failure_that_is_read_before_its_attempt_belongs_to_it() -> None:
    for lines in ([failure(600.2), attempt(600.1)], [attempt(600.1), failure(600.2)]):
        state = folded(attempt(0), other(100), *lines, other(900))
        assert (success_of(state), figures(state)) == ((0, "inferred"), (2, 1, 1))


def test_the_clock_waits_longer_once_a_failure_came_late_and_does_not_flip_again() -> None:
    state = folded(attempt(0), other(100), attempt(600), failure(800), attempt(1200), other(1399))
    assert success_of(state) == (0, "inferred"), "a failure after 200 s is waited for"
    assert success_of(folded(other(1600), state=state)) == (1200, "inferred")


def test_a_stale_verdict_says_nothing_of_how_slow_failures_are() -> None:
    state = folded(attempt(0), other(100), attempt(600), stale(800), attempt(1200), other(1200 + 95))
    assert state.sync.wait() == 90


def test_errors_without_a_recognised_attempt_stand_for_one_where_none_is_near() -> None:
    """Attempts in unknown words: the failures count in a row all the same, and show that the service is there."""
    state = folded(*(failure(number * 600) for number in range(5)), failure(2401))
    assert (success_of(state), figures(state)) == (None, (0, 0, 5))
    assert (state.last_failure, state.counters.errors) == (START + 2401, {"timeout": 6})
    assert (state.sync_expected(RULES), state.lockout(RULES)) == (True, START + 5 * DAY)


def test_a_service_that_may_have_died_before_its_failure_is_not_taken_at_its_silence() -> None:
    state = folded(*(attempt(number * 600) for number in range(5)))
    state.fold(SettleDue(START + 2400 + 100), START + 2500, RULES)
    assert success_of(state) == (2400, "inferred")
    state.fold(SettleDue(START + 2400 + 901), START + 3301, RULES)
    assert (success_of(state), state.unclear_attempts) == ((1800, "inferred"), 1), "a rhythm and a half of silence"
    started = Entry(START + 2520, ServiceStarted())
    state = folded(*(attempt(number * 600) for number in range(5)), started, other(3000))
    assert (success_of(state), state.unclear_attempts) == ((1800, "inferred"), 1), "the next entry is of a new run"
    state = folded(*(attempt(number * 600) for number in range(5)), attempt(2400 + 200), other(2400 + 210))
    assert (success_of(state), state.unclear_attempts) == ((1800, "inferred"), 1), "an attempt much too early"


def trouble(at: float, wording: str = "w", **more: object) -> Entry:
    return Entry(START + at, SyncTrouble(wording, **more))


def test_trouble_makes_a_sync_unclear_and_fails_it_where_it_is_its_own() -> None:
    state = folded(attempt(0), trouble(5), other(200))
    assert (success_of(state), figures(state), state.unclear_attempts) == (None, (1, 0, 0), 1)
    own = Entry(START, SyncAttempted("sync.go"))
    assert figures(folded(own, trouble(5, source="sync.go"), other(200))) == (1, 1, 1)
    assert figures(folded(own, trouble(5, source="sync.go", tied=True), other(200))) == (1, 1, 1)
    assert success_of(folded(own, trouble(5, source="quota.go", tied=True), other(200))) == (0, "inferred")
    correlated = Entry(START, SyncAttempted(), corr_id="c")
    for correlation, failed in (("c", 1), ("d", 0)):
        entry = Entry(START + 5, SyncTrouble("w", tied=True), corr_id=correlation)
        assert figures(folded(correlated, entry, other(200))) == (1, failed, failed)


def test_trouble_after_the_settle_time_revokes_nothing() -> None:
    assert success_of(folded(attempt(0), trouble(95), other(200))) == (0, "inferred")


def test_a_wording_that_comes_as_often_when_no_sync_is_under_way_is_about_something_else() -> None:
    entries = [attempt(number * 600) for number in range(20)] + [trouble(number * 120 + 7) for number in range(100)]
    state = folded(*sorted(entries, key=lambda entry: entry.at), other(12090))
    assert success_of(state) == (19 * 600, "inferred")
    assert state.unclear_attempts == 0
    only_then = [entry for n in range(20) for entry in (attempt(n * 600), trouble(n * 600 + 7))]
    assert folded(*only_then, other(12090)).unclear_attempts == 20, "one that only follows attempts is about them"


def test_a_torn_line_without_a_time_counts_for_the_attempt_on_either_side() -> None:
    torn = Entry(START + 100, SyncTrouble(""), malformed=True, dated=False)
    state = folded(attempt(0), other(100), torn, attempt(120), other(800))
    assert (success_of(state), state.unclear_attempts) == ((0, "inferred"), 1)
    state = folded(attempt(0), other(100), torn, attempt(600), other(800))
    assert success_of(state) == (600, "inferred"), "too long after it"
    state = folded(attempt(0), torn._replace(at=START), other(200))
    assert (success_of(state), state.unclear_attempts) == (None, 1)


def test_in_a_log_that_is_written_in_order_a_torn_line_before_an_attempt_is_not_about_it() -> None:
    ordered = [other(number) for number in range(300)]
    torn = Entry(START + 300, SyncTrouble(""), malformed=True, dated=False)
    assert success_of(folded(*ordered, torn, attempt(310), other(800))) == (310, "inferred")
    late = [*ordered[:100], other(80), *ordered[101:]]
    assert folded(*late, torn, attempt(310), other(800)).unclear_attempts == 1, "this one is written 20 s out of order"


@pytest.mark.parametrize("event", [SyncTrouble(""), SyncFailed("connection")])
def test_in_a_log_out_of_order_the_entry_behind_a_torn_one_tells_how_late_that_was_written(event: Any) -> None:
    late = [other(number) for number in range(300) if number != 80] + [other(80)]
    late.sort(key=lambda entry: entry.at + 20 * (entry.at == START + 80))
    torn = Entry(START + 299, event, malformed=True, dated=False)  # nothing was written for two minutes before it
    failed = folded(*late, torn, attempt(425), other(900))
    assert (success_of(failed), failed.unclear_attempts) == (None, 1)
    behind = folded(*late, torn, other(430), attempt(445), other(900))
    assert (success_of(behind), behind.unclear_attempts) == (None, 1)
    assert success_of(folded(*late, torn, other(430), attempt(520), other(900))) == (520, "inferred"), "too long after"


def test_a_retry_after_a_failure_says_nothing_about_the_rhythm() -> None:
    state = folded(attempt(0), failure(60), attempt(180), failure(240), attempt(360), other(1000))
    assert state.sync.rhythm == 600
    alike = [attempt(number * 180) for number in range(4)]
    assert folded(*alike, other(1000)).sync.rhythm == 180


def test_a_failure_that_was_written_after_the_clock_was_set_back_is_not_silence() -> None:
    back = folded(attempt(0), attempt(600), failure(200), other(1200))
    assert (success_of(back), back.unclear_attempts) == ((0, "inferred"), 1), "the sync of 600 may have failed"
    assert success_of(folded(attempt(0), attempt(600), other(200), other(1200))) == (600, "inferred")
    late = folded(attempt(0), attempt(600), failure(-4000), other(1200))
    assert success_of(late) == (600, "inferred"), "an old file that was read late"


def test_a_rhythm_that_was_learnt_from_a_missing_attempt_is_unlearnt_on_a_noisy_site() -> None:
    entries = [attempt(0)]
    for number in range(2, 30):  # the second attempt is missing
        entries += [trouble(number * 600 - at, f"w{number}") for at in (420, 240)] + [attempt(number * 600)]
    assert folded(*entries[:8], other(3000)).sync.rhythm == 1200
    assert folded(*entries, other(20000)).sync.rhythm == 600


def test_a_torn_attempt_in_a_log_out_of_order_may_be_a_torn_failure_of_the_attempt_behind_it() -> None:
    late = [other(number) for number in range(300) if number != 80] + [other(80)]
    late.sort(key=lambda entry: entry.at + 20 * (entry.at == START + 80))
    torn = Entry(START + 299, SyncAttempted(), malformed=True, dated=False)
    state = folded(*late, torn, other(290), attempt(310), other(900))
    assert (success_of(state), state.unclear_attempts) == (None, 1)


def test_a_torn_attempt_takes_the_time_of_the_next_entry() -> None:
    torn = Entry(START, SyncAttempted(), malformed=True, dated=False)
    assert folded(other(0), torn, failure(5), other(200)).consecutive_failures == 1
    state = folded(other(0), torn, other(5), other(200))
    assert (success_of(state), state.unclear_attempts) == (None, 1), "its time is not known well enough for a success"


def test_case_a4_the_administrators_key_trick_does_not_fail_the_sync() -> None:
    invalid = Entry(START + 1, LicenseError("invalid", service=True))
    state = folded(attempt(0), invalid, invalid, other(100))
    assert (success_of(state), state.counters.errors) == ((0, "inferred"), {"invalid": 2})


def probed(state: LicenseState, at: float, success: bool | None, role: str = "backend") -> LicenseState:
    state.fold(ProbeFinished("t", role, START + at, success), START + at, RULES)
    return state


def test_a_failed_backend_probe_before_the_settling_makes_a_sync_unclear_and_no_more() -> None:
    for at, role, success, expected in (
        (45, "backend", False, None),
        (45, "local", False, (0, "inferred")),
        (45, "backend", None, (0, "inferred")),
        (91, "backend", False, (0, "inferred")),
    ):
        state = probed(probed(folded(attempt(0)), -60, True), at, success, role)
        state = folded(other(100), state=state)
        assert (success_of(state), state.consecutive_failures) == (expected, 0)
        assert state.unclear_attempts == (expected is None)


def test_a_target_that_never_succeeded_is_a_matter_of_its_set_up_and_prevents_nothing() -> None:
    assert success_of(folded(other(100), state=probed(folded(attempt(0)), 45, False))) == (0, "inferred")


def test_a_probe_that_failed_before_its_attempt_was_read_prevents_it_too() -> None:
    state = probed(probed(new_state(b"k"), -60, True), 1, False)
    assert success_of(folded(attempt(0), other(100), state=state)) is None


def test_a_day_of_a_black_holed_firewall_never_shows_a_success() -> None:
    """An attempt every 10 minutes, nothing else in the log, the probe failing every minute."""
    state = probed(new_state(b"k"), -60, True)
    for minute in range(24 * 60):
        now = START + minute * 60
        if minute % 10 == 0:
            state.fold_records("licenses", [Entry(now, SyncAttempted())], now, RULES)
        state.fold(ProbeFinished("t", "backend", now + 5, success=False), now + 5, RULES)
        state.fold(SettleDue(now + 59), now + 59, RULES)
        assert state.last_success() is None
    assert (state.unclear_attempts, state.lockout(RULES)) == (144, START + 5 * DAY)


def silent_lockout(*, first_verdict: float = 144 * 600 + 1) -> LicenseState:
    entries = [attempt(minute * 600) for minute in range(144)]
    state = folded(*entries, other(144 * 600))
    assert (success_of(state), figures(state)) == ((143 * 600, "inferred"), (144, 0, 0))
    return folded(stale(first_verdict), state=state)


def test_a_stale_verdict_takes_back_what_silence_seemed_to_prove_and_silence_proves_nothing_from_then_on() -> None:
    state = silent_lockout()
    assert (success_of(state), state.stale(), figures(state)) == (None, True, (144, 144, 144))
    state = folded(*(attempt(number * 600) for number in range(145, 160)), other(160 * 600), state=state)
    assert (success_of(state), state.stale()) == (None, True)


def test_a_site_that_fails_loudly_is_believed_when_it_falls_silent() -> None:
    loud = [entry for n in range(100) for entry in (attempt(n * 600), failure(n * 600 + 1))]
    state = folded(*loud, attempt(60000), other(60100), stale(60200), attempt(60600), other(60700))
    assert (success_of(state), state.stale()) == ((60600, "inferred"), False)


def test_while_the_license_is_stale_only_an_entry_after_an_attempt_shows_that_it_succeeded() -> None:
    """A service that is restarted again and again dies before it can log a failure; nothing follows its last attempt."""
    loud = [entry for n in range(100) for entry in (attempt(n * 600), failure(n * 600 + 1))]
    silent = SettleDue(START + 60600 + 300)
    for entries, seen in (((attempt(60600),), False), ((attempt(60600), other(60700)), True), ((attempt(60600), told(60601)), True)):  # fmt: skip
        state = folded(*loud, stale(60200), *entries)
        state.fold(silent, START + 60900, RULES)
        assert (success_of(state) is not None, state.stale()) == (seen, not seen)
    # Where it is not stale, silence is enough; also once a sync has succeeded since, or a user was let in.
    state = folded(*loud, stale(60200), attempt(60600))
    state.fold_records("repository_audit", [Entry(START + 60650, AccessGranted())], START + 60700, RULES)
    state.fold(silent, START + 60900, RULES)
    assert (success_of(state), state.stale()) == ((60600, "inferred"), False)
    for before in ((), (stale(50200), attempt(60000), other(60100), attempt(60300), other(60400))):
        state = folded(*loud[:180], *before, attempt(60600))
        state.fold(silent, START + 60900, RULES)
        assert success_of(state) == (60600, "inferred")


def used(state: LicenseState, *asked: tuple[float, str], log: str = "licenses") -> LicenseState:
    kinds = {START + at: LicenseInUse(kind) for at, kind in asked}
    rules = RULES._replace(uses=lambda log, entries: [(e.at, kinds[e.at]) for e in entries if e.at in kinds])
    copy = state.copy()
    copy.fold_records(log, [other(at) for at, _ in asked], START + 30 * DAY, rules)
    return copy


def test_use_without_a_verdict_restores_the_belief_but_not_what_is_answered_well_in_a_lockout_too() -> None:
    begun = 144 * 600
    state = silent_lockout()
    for number in range(1, 5):  # a machine's request is answered well between the verdicts
        state = used(state, (begun + number * 600 - 5, "machine"))
        state = folded(attempt(begun + number * 600), stale(begun + number * 600 + 300), state=state)
    end = begun + 4 * 600 + 300
    state = folded(attempt(end + 300), other(end + 600), state=state)
    quiet = used(state, *((end + 100 * number, "machine") for number in range(1, 11)))
    assert quiet.stale()
    people = used(state, *((end + 100 * number, "person") for number in range(1, 11)))
    assert (people.stale(), success_of(people)) == (False, (end + 300, "inferred"))


def verdicts(state: LicenseState, *ats: float) -> LicenseState:
    for at in ats:
        state = folded(stale(at), state=state)
    return state


def test_a_request_that_was_rare_while_users_were_refused_proves_little() -> None:
    end = 144 * 600 + 2401
    short = verdicts(silent_lockout(), end - 1600, end - 800, end)
    short = folded(attempt(end + 300), other(end + 600), state=short)
    asked = [(end + 500 * number, "machine") for number in range(1, 5)]
    assert used(short, *asked).stale(), "four in 2,000 s, after verdicts of 2,400 s"
    many = [(end + 100 * number, "person") for number in range(1, 21)]
    assert not used(short, *many).stale()


def test_a_belief_that_another_verdict_disproves_is_not_believed_again_by_the_same_requests() -> None:
    end = 144 * 600 + 1
    state = verdicts(silent_lockout(), *(end + 600 * number for number in range(1, 4)))
    end += 1800

    def asked(state: LicenseState, end: float) -> LicenseState:
        state = folded(attempt(end + 300), other(end + 600), state=state)
        return used(state, *((end + 100 * number, "machine") for number in range(1, 15)))

    state = asked(state, end)
    assert not state.stale()
    state = verdicts(state, end + 1500)
    assert state.stale()
    assert asked(state, end + 1500).stale(), "these requests succeed while users are refused, too"
    assert asked(verdicts(state, end + 3000), end + 3000).stale(), "what a verdict disproved is no loud failure"


def test_one_verdict_is_not_disproved_by_machines_but_by_people_and_by_better_evidence() -> None:
    end = 144 * 600 + 1
    state = folded(attempt(end + 600), other(end + 800), state=silent_lockout())
    asked = [(end + 200 * number, "x") for number in range(1, 10)]
    assert used(state, *asked).stale()
    assert not used(state, *asked, log="repository_audit").stale()
    granted = state.copy()
    granted.fold_records("repository_audit", [Entry(START + end + 700, AccessGranted())], START + 30 * DAY, RULES)
    assert not granted.stale()


def test_a_stale_verdict_takes_back_only_the_last_grace_period() -> None:
    state = folded(
        attempt(0), other(100), attempt(DAY), other(DAY + 100), attempt(6 * DAY), other(6 * DAY + 100), stale(6.5 * DAY)
    )
    assert success_of(state) == (DAY, "inferred")
    assert state.stale()
    assert folded(attempt(7 * DAY), other(7 * DAY + 100), state=state).stale() is False


def test_a_told_success_settles_at_once_and_nothing_is_inferred_beside_it() -> None:
    state = folded(attempt(0), told(2), attempt(600), other(DAY), rules=TOLD)
    assert (success_of(state), figures(state)) == ((2, "message"), (2, 0, 0))
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
    assert (state.counters.logs["licenses"].future, figures(state)) == (2, (2, 0, 0))
    assert state.counters.errors == {"stale": 1}
    assert folded(stale(300), now=0).stale(), "five minutes ahead is a clock that is slightly off"


def test_hazard_113_an_out_of_order_record_raises_maxima_but_takes_no_part_in_the_clock() -> None:
    state = folded(other(1000), attempt(900), failure(901), stale(930))
    assert (state.last_attempt, state.sync.attempts, state.stale_verdict) == (START + 900, [], START + 930)
    assert figures(state) == (1, 0, 0)
    assert state.last_entry["licenses"] == START + 1000
    assert folded(other(1000), attempt(940), other(1100)).last_success() == (START + 940, "inferred")


def test_a_late_stale_verdict_retracts_nothing() -> None:
    state = folded(attempt(0), other(500), other(1000), stale(100))
    assert (success_of(state), state.stale()) == ((0, "inferred"), True)


def test_a_record_without_any_time_counts_and_moves_nothing() -> None:
    state = folded(Entry(None, LicenseStale()), Entry(None, SyncAttempted()))
    assert (state.stale(), state.counters.errors, figures(state)) == (False, {"stale": 1}, (1, 0, 0))


def test_history_restates_but_never_counts() -> None:
    state = folded(attempt(0, counts=False), Entry(START + 200, LicenseStale(), counts=False))
    assert state.stale()
    assert figures(state) == (0, 0, 1)
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
    quiet, seen = folded(other(0)), folded(attempt(0))
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
    assert folded(attempt(50), attempt(700)).lockout(RULES) == START + 50 + 5 * DAY, "the first sign of the service"
    assert folded(other(0)).lockout(RULES) is None


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
    assert state.consecutive_failures == 1
    assert state.refused_users("no_access_pass", START + 30) == len(state.refused["no_access_pass"]) == 1
    assert state.probe_success == {"t:1": START + 30}
    counters = state.counters
    assert counters.sync_attempts == before.sync_attempts + 1
    assert counters.sync_failures >= before.sync_failures


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
        SyncFailed("reset", wording="w"),
        SyncTrouble("v"),
        SyncTrouble("v", source="s"),
        ServiceStarted(),
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
def test_no_counter_falls_and_no_more_syncs_fail_than_were_attempted(
    entries: list[Entry], probes: list[tuple[int, int]], infers: bool, grace_days: int, history: int
) -> None:
    rules = RULES._replace(infers=infers, grace=grace_days * 3600)
    state, before = new_state(b"k"), (0, 0)
    for place, entry in enumerate(entries):
        for at in (at for where, at in probes if where == place):
            state.fold(ProbeFinished("t", "backend", START + at, success=False), START + at, rules)
        state.fold_records("licenses", [entry._replace(counts=place >= history)], START + DAY, rules)
        c = state.counters
        assert c.sync_failures <= c.sync_attempts
        assert (c.sync_attempts, c.sync_failures) >= before
        assert c.sync_failures >= before[1]
        before = (c.sync_attempts, c.sync_failures)
        assert min(state.consecutive_failures, state.unclear_attempts) >= 0


@settings(deadline=None)
@example([Entry(START + at, SyncAttempted()) for at in (0, 61, 0)], 1, False)
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
    assert state.consecutive_failures == 1
