"""A guard of the speed of catching up that does not depend on the machine: calls on the hot path of a fixed log."""

from itertools import islice

import pytest
from calls import calls_of

from exporter.config import Config
from exporter.events import LogName
from exporter.examination import rules_of
from exporter.journal import Journal
from exporter.license import new_state
from exporter.logs.formats import split
from exporter.logs.messages import Catalogue
from tests.bench.logs import GENERATORS, START

LINES = 10_000
MOST_CALLS: dict[LogName, float] = {"licenses": 1.8, "repository_audit": 0.8, "repository_trace": 0.75}
"""Calls for each record, of Python and of C, with a fifth to spare. A change that needs more says why."""


@pytest.mark.parametrize("log", list(MOST_CALLS))
def test_the_hot_path_takes_no_more_calls_for_each_record_than_it_did(log: LogName) -> None:
    lines = [line.rstrip("\r\n").encode() for line in islice(GENERATORS[log](2 * LINES), 2 * LINES)]
    rules = rules_of(Config(), Catalogue())
    state, journal, now = new_state(b"k"), Journal(), START.timestamp() + 86400

    def caught_up(part: list[bytes]) -> None:
        records = split(log, part, None if log == "licenses" else lines[0], True).records
        journal.note(log, records, state.fold_records(log, records, now, rules))

    caught_up(lines[:LINES])  # what is remembered between batches is known then
    calls = calls_of(lambda: caught_up(lines[LINES:]))
    assert calls / LINES < MOST_CALLS[log], f"{calls / LINES:.2f} calls a record"
    assert state.counters.logs[log].records >= 2 * LINES - 1
