"""Reading in the background: the last good figures age and vanish, failures are told once (issue 7, point 3)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import pytest
from qrs_server import LICENSE, SECRETS, SESSIONS, SIGNED_KEY, Answer, FakeQrs, Site, license_answer, session

from exporter.qrs import LicenseOverview, QrsBoard, run_qrs
from exporter.qrs.board import JITTER, pause_after

DEADLINE = 20.0
"""Seconds after which a condition that was waited for counts as never coming."""

pytestmark = pytest.mark.windows


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # nothing to wait for but the condition
            await asyncio.sleep(0.01)


def while_running(board: QrsBoard, story: Callable[[], Awaitable[None]], reads: list[LicenseOverview]) -> None:
    async def both() -> None:
        task = asyncio.create_task(run_qrs(board, reads.append))
        try:
            await story()
            assert not task.done(), "the reader ended"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(both())


def test_nothing_is_claimed_before_the_first_read(qrs_site: Site) -> None:
    board = QrsBoard(qrs_site.settings("https://localhost:4242"))
    assert (board.up, board.duration, board.last_success, board.overview(time.time())) == (None, None, None, None)
    assert (board.reason, board.problems) == ("", 0)


def test_the_first_read_comes_at_once_and_further_ones_on_the_interval(qrs: FakeQrs, qrs_site: Site) -> None:
    board, reads = QrsBoard(qrs_site.settings(qrs.url)), list[LicenseOverview]()

    async def story() -> None:
        await until(lambda: len(reads) >= 3)

    while_running(board, story, reads)
    assert (board.up, board.reason) == (True, "")
    assert board.duration is not None
    assert 0 < board.duration < DEADLINE
    assert board.last_success == reads[-1].read_at
    assert board.overview(time.time()) == reads[-1]


def test_a_failure_keeps_the_last_good_figures_until_max_age_and_then_shows_none(
    qrs: FakeQrs, qrs_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.qrs")
    board, reads = QrsBoard(qrs_site.settings(qrs.url)), list[LicenseOverview]()

    async def story() -> None:
        await until(lambda: reads)
        qrs.answers[LICENSE] = Answer(403, b"Forbidden")
        await until(lambda: board.up is False)
        refused = len(qrs.requests)
        await until(lambda: len(qrs.requests) > refused + 3)
        good = reads[-1]
        assert board.overview(time.time()) == good
        assert board.last_success == good.read_at
        assert board.overview(good.read_at + 59) == good
        assert board.overview(good.read_at + 61) is None
        assert board.reason.startswith("forbidden: ")
        qrs.says(SIGNED_KEY)
        await until(lambda: board.up)
        assert board.reason == ""

    while_running(board, story, reads)
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[0] for line in told] == [
        "the Repository API answers",
        "the Repository API cannot be read",
        "the Repository API answers",
    ], "one line for each change of state (hazard 134)"
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_a_renamed_field_is_told_once_and_counted_each_time(
    qrs: FakeQrs, qrs_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.qrs")
    answer = license_answer()
    answer["expired"] = answer.pop("isExpired")
    qrs.answers[LICENSE] = answer
    qrs.answers[SESSIONS] = [session("ANNA", 1)]
    board = QrsBoard(qrs_site.settings(qrs.url, sessions_url=qrs.url))
    reads = list[LicenseOverview]()

    async def story() -> None:
        await until(lambda: len(reads) >= 3)

    while_running(board, story, reads)
    assert board.problems == len(reads)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the Repository API answers; license.isExpired is missing (not known here: expired)")
    ]


def test_a_server_that_comes_up_later_is_found(qrs_site: Site) -> None:
    with FakeQrs(qrs_site) as earlier:
        port = earlier.port
    board, reads = QrsBoard(qrs_site.settings(earlier.url)), list[LicenseOverview]()

    async def story() -> None:
        await until(lambda: board.up is False)
        assert board.reason.startswith("refused: ")
        assert board.overview(time.time()) is None
        with FakeQrs(qrs_site, port=port):
            await until(lambda: reads)

    while_running(board, story, reads)


def test_pauses_differ_so_that_exporters_do_not_call_in_step() -> None:
    pauses = [pause_after(300, 0) for _ in range(20)]
    assert len(set(pauses)) == len(pauses)
    assert all(270 <= pause <= 330 for pause in pauses)


def test_a_failed_read_is_tried_again_soon_and_then_backs_off_to_the_interval() -> None:
    for failures, seconds in enumerate((300, 15, 30, 60, 120, 240, 300)):
        assert pause_after(300, failures) == pytest.approx(seconds, rel=JITTER)
    assert pause_after(5, 1) == pytest.approx(5, rel=JITTER)
    assert pause_after(86400, 10**6) == pytest.approx(86400, rel=JITTER)
