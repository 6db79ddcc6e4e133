"""Answers come before reading."""

import threading
import time

import pytest
from prometheus_client import Metric
from web_stand_in import DEADLINE, StandIn, site

from exporter import priority
from exporter.logs.files import Root
from exporter.priority import answering, give_way
from exporter.tail import reader as reader_module
from exporter.tail.batch import Clock
from exporter.tail.reader import Assignment, Reader


def test_a_reader_pauses_while_an_answer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "LONGEST_PAUSE", DEADLINE)
    went_on = threading.Event()
    with answering():
        reader = threading.Thread(target=lambda: (give_way(), went_on.set()))
        reader.start()
        assert not went_on.wait(0.1)
    assert went_on.wait(DEADLINE)
    reader.join()


def test_no_number_of_answers_stops_reading_and_an_answer_that_failed_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering():
        give_way()
    monkeypatch.setattr(priority, "LONGEST_PAUSE", 10 * DEADLINE)
    with pytest.raises(RuntimeError), answering():
        raise RuntimeError("a fault of the answer")
    began = time.monotonic()
    give_way()
    assert time.monotonic() - began < DEADLINE


def test_metrics_and_pages_are_made_with_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Collector:
        def collect(self) -> list[Metric]:
            seen.append(priority._idle.is_set())
            return []

    monkeypatch.setattr(StandIn, "registry", lambda self: Collector())
    with site() as running:
        assert running.ask("/metrics")[0] == 200
    assert seen == [False]
    assert priority._idle.is_set()


def test_a_reader_gives_way_with_each_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(reader_module, "give_way", lambda: given.append(0))
    reader = Reader(Root("x", False, False), lambda: None, lambda: None, Clock())
    reader.assign(Assignment([], lambda batch: True, lambda: True, 0.01, 0.01))
    reader.stop()
    reader.join(DEADLINE)
    reader._heartbeat()
    assert given
