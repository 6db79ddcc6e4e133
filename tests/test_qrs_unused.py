"""Seats that nobody uses, counted by the Repository without fetching a name (issue 18, point 2)."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from qrs_server import (
    ANALYZERS,
    LICENSE,
    NEVER,
    PROFESSIONALS,
    SECRETS,
    TOKENS,
    Answer,
    FakeQrs,
    Seats,
    Site,
    access_answer,
    closes,
    license_answer,
    seats,
    stalls,
)

from exporter.config import QrsConfig
from exporter.qrs import LicenseOverview, QrsBoard, UnusedOverview, UnusedSeats, count_into, run_qrs
from exporter.qrs.client import read_overview, read_unused

DAY = 86400.0
DEADLINE = 20.0
"""Seconds after which a condition that was waited for counts as never coming."""

pytestmark = pytest.mark.windows


def used(*days_ago: float) -> list[float]:
    """Dates of last use."""
    return [time.time() - days * DAY for days in days_ago]


@pytest.fixture
def qrs(qrs: FakeQrs) -> FakeQrs:
    qrs.says((license_answer(), access_answer(professionalAccess=seats(10, 7, 5), analyzerAccess=seats(9, 4, 4))))
    qrs.answers[PROFESSIONALS] = Seats([*used(0.1, 29.9, 30.1, 75, 365), NEVER, None])
    qrs.answers[ANALYZERS] = Seats(used(1, 2, 3, 4))
    return qrs


def counted(settings: QrsConfig, **changes: Any) -> UnusedOverview:
    async def both() -> UnusedOverview:
        return await read_unused(settings, await read_overview(settings), **changes)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(both())


def test_seats_are_counted_by_the_time_since_their_last_use_and_those_never_used_apart(
    qrs: FakeQrs, qrs_site: Site
) -> None:
    found = counted(qrs_site.settings(qrs.url))
    assert found.access == {
        "professional": UnusedSeats(7, {"30d": 3, "60d": 2, "90d": 1, "never": 2}),
        "analyzer": UnusedSeats(4, {"30d": 0, "60d": 0, "90d": 0, "never": 0}),
    }
    assert (found.notes, found.problems) == ((), 0)


@pytest.mark.parametrize("none", [NEVER, None, "0001-01-01T00:00:00.000Z"])
def test_however_no_date_is_written_a_seat_with_it_was_never_used(
    qrs: FakeQrs, qrs_site: Site, none: str | None
) -> None:
    qrs.answers[PROFESSIONALS] = Seats([none] * 3 + used(1, 2, 3, 100))
    assert counted(qrs_site.settings(qrs.url)).access["professional"].unused == {
        "30d": 1,
        "60d": 1,
        "90d": 1,
        "never": 3,
    }


def test_only_numbers_are_asked_for_and_by_the_one_filter_that_is_known_from_production(
    qrs: FakeQrs, qrs_site: Site
) -> None:
    counted(qrs_site.settings(qrs.url))
    asked = [request for request in qrs.requests[2:] if "user." not in request.query.get("filter", "")]
    assert len(asked) == 12
    assert {(request.method, request.path) for request in asked} == {("GET", PROFESSIONALS), ("GET", ANALYZERS)}
    filters = [request.query.get("filter", "") for request in asked]
    assert {text[: len("lastUsed le '")] for text in filters} == {"lastUsed le '", ""}
    assert all("+" not in request.raw_query for request in asked), "a space is written as %20"


def test_zeros_where_seats_are_allocated_are_missing_rights_and_never_zero(qrs: FakeQrs, qrs_site: Site) -> None:
    qrs.answers[PROFESSIONALS] = Seats(used(1), visible=False)
    found = counted(qrs_site.settings(qrs.url))
    assert set(found.access) == {"analyzer"}
    assert found.problems == 1
    assert found.notes == (
        "seats: professionalaccesstype/count is 0, but 7 are allocated: qrs.user has no right to read them all",
    )


def test_where_some_seats_are_hidden_nothing_is_claimed(qrs: FakeQrs, qrs_site: Site) -> None:
    qrs.answers[PROFESSIONALS] = Seats(used(1, 2, 100, 100, 100, 100))
    found = counted(qrs_site.settings(qrs.url))
    assert ("professional" in found.access, found.problems) == (False, 1)


def test_where_no_seat_is_allocated_zero_is_zero(qrs: FakeQrs, qrs_site: Site) -> None:
    qrs.says((license_answer(), access_answer(professionalAccess=seats(10, 0), analyzerAccess=seats(9, 4))))
    qrs.answers[PROFESSIONALS] = Seats([])
    found = counted(qrs_site.settings(qrs.url))
    assert found.access["professional"] == UnusedSeats(0, {"30d": 0, "60d": 0, "90d": 0, "never": 0})
    assert found.problems == 0


def test_seats_in_quarantine_may_be_counted_beside_the_allocated_ones(qrs: FakeQrs, qrs_site: Site) -> None:
    qrs.answers[ANALYZERS] = Seats(used(1, 2, 3, 4, 200))
    assert counted(qrs_site.settings(qrs.url)).access["analyzer"].allocated == 5


@pytest.mark.parametrize(
    "answer",
    [
        *({"value": value} for value in (None, "many", -1, True, 1e300, [])),
        {},
        {"count": 7},
        [],
        7,
        None,
        "7",
        {"value": 7},  # the same for every filter: it is ignored
        Answer(403, b"Forbidden"),
        Answer(404, b"Not Found"),
        Answer(200, b"<html>"),
        Answer(500, b""),
    ],
)
@pytest.mark.slow
def test_a_count_that_cannot_be_used_is_named_and_the_other_kind_is_still_counted(
    qrs: FakeQrs, qrs_site: Site, answer: Any
) -> None:
    qrs.answers[PROFESSIONALS] = answer
    found = counted(qrs_site.settings(qrs.url))
    assert (set(found.access), found.problems, len(found.notes)) == ({"analyzer"}, 1, 1)
    assert found.notes[0].startswith("seats: ")
    assert "professionalaccesstype/count" in found.notes[0]
    assert not [secret for secret in SECRETS if secret in found.notes[0]]


def test_counts_that_grow_with_age_are_not_believed(qrs: FakeQrs, qrs_site: Site) -> None:
    numbers = itertools.count(20, -1)

    class Shrinking(Seats):
        def count(self, wanted: str) -> Answer:
            return Answer(200, b'{"value": %d}' % next(numbers))

    qrs.answers[PROFESSIONALS] = Shrinking([])
    found = counted(qrs_site.settings(qrs.url))
    assert "professional" not in found.access
    assert "is larger for longer ago" in found.notes[0]


def test_a_repository_that_stalls_or_closes_costs_this_kind_only(qrs: FakeQrs, qrs_site: Site) -> None:
    qrs.behaviours[PROFESSIONALS] = stalls
    qrs.behaviours[ANALYZERS] = closes
    found = counted(qrs_site.settings(qrs.url), timeout=0.5)
    assert (found.access, found.problems) == ({}, 2)
    assert [note.split(": ")[1] for note in found.notes] == ["timeout", "reset"]


@pytest.mark.parametrize("says", [TOKENS, (None, None)])
def test_a_site_without_seats_is_asked_nothing_more(qrs: FakeQrs, qrs_site: Site, says: tuple[Any, Any]) -> None:
    qrs.says(says)
    found = counted(qrs_site.settings(qrs.url))
    assert (found.access, found.problems) == ({}, 0)
    assert not [request for request in qrs.requests if request.path.endswith("/count")]


# --- in the background ---


def while_running(board: QrsBoard, ready: Callable[[], object]) -> None:
    async def both() -> None:
        task = asyncio.create_task(run_qrs(board, lambda overview: None))
        try:
            async with asyncio.timeout(DEADLINE):
                while not ready():  # noqa: ASYNC110  # nothing to wait for but the condition
                    await asyncio.sleep(0.01)
            assert not task.done(), "the reader ended"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(both())


def paths(qrs: FakeQrs) -> list[str]:
    return [request.path for request in list(qrs.requests)]


def test_seats_are_not_counted_unless_an_interval_is_set(qrs: FakeQrs, qrs_site: Site) -> None:
    board = QrsBoard(qrs_site.settings(qrs.url))
    while_running(board, lambda: paths(qrs).count(LICENSE) > 3)
    assert PROFESSIONALS not in paths(qrs)
    assert board.unused(time.time()) is None


def test_seats_are_counted_at_once_and_then_at_their_own_interval(qrs: FakeQrs, qrs_site: Site) -> None:
    board = QrsBoard(qrs_site.settings(qrs.url, seats_interval=3600.0))
    while_running(board, lambda: paths(qrs).count(LICENSE) > 3)
    assert paths(qrs).count(PROFESSIONALS) == 12
    assert paths(qrs)[:3] == [LICENSE, "/qrs/license/accesstypeoverview", PROFESSIONALS]
    assert board.problems == 0


def test_a_failed_count_leaves_the_overview_up_and_is_tried_again_later(
    qrs: FakeQrs, qrs_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.qrs")
    qrs.answers[PROFESSIONALS] = Answer(403, b"Forbidden")
    board = QrsBoard(qrs_site.settings(qrs.url, seats_interval=0.1))
    while_running(board, lambda: paths(qrs).count(PROFESSIONALS) > 3)
    assert (board.up, board.reason) == (True, "")
    assert board.problems >= 3
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "told once, not for each count"
    assert "seats: forbidden: GET /qrs/license/professionalaccesstype/count (qrs.url) answered 403" in warnings[0]


def test_figures_stay_while_one_count_is_missing_and_then_vanish(qrs: FakeQrs, qrs_site: Site) -> None:
    board = QrsBoard(qrs_site.settings(qrs.url, seats_interval=3600.0, max_age=60.0))

    async def once() -> UnusedOverview:
        overview = await read_overview(board.settings)
        return await count_into(board, overview)

    found = asyncio.run(once())
    assert board.unused(found.read_at + 7260) == found
    assert board.unused(found.read_at + 7261) is None


def test_lost_rights_take_the_figures_away_at_once(qrs: FakeQrs, qrs_site: Site) -> None:
    board = QrsBoard(qrs_site.settings(qrs.url, seats_interval=3600.0))

    async def twice() -> tuple[UnusedOverview, UnusedOverview]:
        overview: LicenseOverview = await read_overview(board.settings)
        before = await count_into(board, overview)
        qrs.answers[PROFESSIONALS] = Seats([], visible=False)
        return before, await count_into(board, overview)

    before, after = asyncio.run(twice())
    assert "professional" in before.access
    assert board.unused(time.time()) == after
    assert "professional" not in after.access


def test_a_certificate_that_is_gone_is_a_problem_of_the_count_too(qrs: FakeQrs, qrs_site: Site) -> None:
    board = QrsBoard(qrs_site.settings(qrs.url, seats_interval=3600.0, certificate=str(qrs_site.folder / "none.pem")))
    overview = LicenseOverview(read_at=0, access={})
    found = asyncio.run(count_into(board, overview))
    assert (found.problems, board.problems) == (1, 1)
    assert found.notes[0].startswith("seats: certificate: ")


def test_seats_held_by_people_who_are_gone_are_counted_without_a_name(qrs: FakeQrs, qrs_site: Site) -> None:
    gone = {"removedExternally": 2, "inactive": 1}
    qrs.answers[PROFESSIONALS] = Seats(used(*range(7)), gone=gone, deleted=1)
    found = counted(qrs_site.settings(qrs.url))
    assert found.holders == {
        "professional": {"removed": 2, "inactive": 1, "blocked": 0},
        "analyzer": {"removed": 0, "inactive": 0, "blocked": 0},
    }
    asked = [request for request in qrs.requests if "user." in request.query.get("filter", "")]
    assert {request.method for request in asked} == {"GET"}
    assert all(request.path.endswith("/count") for request in asked), "numbers only"
    assert (found.notes, found.problems) == ((), 0)


class OtherFilters(Seats):
    """A Repository that treats a filter by a field of the user in its own way."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(used(*range(7)))
        self._answer = answer

    def count(self, wanted: str) -> Answer:
        return self._answer if "user." in wanted else super().count(wanted)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b'{"value": 7}'),  # ignored
        Answer(200, b'{"value": 0}'),  # selects nothing, or users may not be seen
        Answer(200, b"{}"),
        Answer(200, b"7"),
        Answer(400, b"Bad Request"),
        Answer(403, b"Forbidden"),
    ],
)
def test_a_filter_by_user_that_is_not_understood_takes_nothing_else_and_never_becomes_zero(
    qrs: FakeQrs, qrs_site: Site, answer: Answer
) -> None:
    qrs.answers[PROFESSIONALS] = OtherFilters(answer)
    found = counted(qrs_site.settings(qrs.url))
    assert not found.holders.get("professional")
    assert found.access["professional"].allocated == 7
    assert found.problems == 0, "its filter is documented nowhere"
    assert found.notes
    assert all(note.startswith("holders: ") for note in found.notes)
