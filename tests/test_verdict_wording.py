"""Spans, instants and counts as people read them."""

import pytest
from observed import DAY, HOUR, NOON

from exporter.wording import ago, brief, count, instant, listed, size, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (59.4, "59 s"),
        (119, "119 s"),
        (5 * 60, "5 min"),
        (90 * 60, "1 h 30 min"),
        (26 * HOUR, "26 h"),
        (-26 * HOUR, "26 h"),
        (4 * DAY + 2 * HOUR, "4 d 2 h"),
        (5 * DAY, "5 d"),
        (400 * DAY + 5 * HOUR, "400 d"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds, text):
    assert span(seconds) == text


def test_instants_are_told_in_utc_and_relative_to_now():
    assert instant(NOON) == "2026-11-02 12:00:00 UTC"
    assert ago(NOON - HOUR, NOON) == "1 h ago"
    assert ago(NOON + HOUR, NOON) == "in 1 h"
    assert ago(NOON, NOON) == "just now"
    assert brief(NOON - HOUR, NOON) == "11:00:00 (1 h ago)"
    assert brief(NOON - 3 * DAY, NOON) == "2026-10-30 12:00"


def test_counts_lists_and_sizes_read_as_sentences():
    assert count(1, "user") == "1 user"
    assert count(1200, "user") == "1,200 users"
    assert count(2, "success", "successes") == "2 successes"
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert [size(length) for length in (12, 3400, 1_203_000_000)] == ["12 bytes", "3.4 kB", "1,203.0 MB"]
