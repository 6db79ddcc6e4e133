"""The list of people with seats that nobody uses, for a terminal (issue 18, point 2)."""

import json
import time
import tracemalloc
from typing import Any

import pytest
from qrs_server import NEVER, Answer, FakeQrs, Site

from exporter.commands.idle_seats import print_idle_seats
from exporter.qrs import AccessType, LicenseOverview
from exporter.qrs.people import LONGEST_ROW, Rows, holder_of

FULL = "/qrs/license/{}accesstype/full"

pytestmark = pytest.mark.windows


def row(user: str, days_ago: float | None, **changes: Any) -> dict[str, Any]:
    """One assignment, with the fields that are seen in public."""
    used = NEVER
    if days_ago is not None:
        used = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - days_ago * 86400))
    return {
        "id": "264ff070-6306-4f1b-85db-21a8468939b5",
        "createdDate": "2024-03-01T08:00:00.000Z",
        "user": {"id": "x", "userId": user, "userDirectory": "EXAMPLE", "name": f"{user.title()} Example"},
        "lastUsed": used,
        "excess": False,
        "quarantined": False,
        "quarantineEnd": NEVER,
    } | changes


@pytest.fixture
def qrs(qrs: FakeQrs) -> FakeQrs:
    qrs.answers[FULL.format("professional")] = [row("anna", 100), row("bert", 1), row("carl", None)]
    qrs.answers[FULL.format("analyzer")] = [row("BERT", 2), row("dora", 3), row("emil", None, lastUsed=None)]
    return qrs


def overview(professional: float = 3, analyzer: float = 3) -> LicenseOverview:
    def seats(number: float) -> AccessType:
        return AccessType(number, number, number, 0, 0, 0)

    return LicenseOverview(
        read_at=time.time(), access={"professional": seats(professional), "analyzer": seats(analyzer)}
    )


def test_idle_seats_and_people_with_two_are_listed(
    qrs: FakeQrs, qrs_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    print_idle_seats(qrs_site.settings(qrs.url), overview())
    told = capsys.readouterr().out
    assert "EXAMPLE\\anna (Anna Example)" in told
    assert "never used  EXAMPLE\\carl" in told
    assert "EXAMPLE\\BERT (Bert Example), also holds a professional seat" in told
    assert "never used  EXAMPLE\\emil" in told
    assert "dora" not in told
    assert told.count("2 of 3 seats listed.") == 2
    assert "not complete" not in told
    assert {request.method for request in qrs.requests} == {"GET"}


def test_an_empty_list_where_seats_are_allocated_is_missing_rights(
    qrs: FakeQrs, qrs_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    qrs.answers[FULL.format("professional")] = []
    print_idle_seats(qrs_site.settings(qrs.url), overview())
    assert (
        "The list is not complete: 3 are allocated. qrs.user has no right to read the others."
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "answer",
    [
        Answer(403, b"Forbidden"),
        Answer(200, b"{}"),
        Answer(200, b"[1]"),
        Answer(200, b"[{"),
        Answer(200, b"<html>"),
        Answer(200, b'[{"user": "\xff"}]'),
    ],
)
def test_a_list_that_cannot_be_read_is_told_and_the_other_is_shown(
    qrs: FakeQrs, qrs_site: Site, capsys: pytest.CaptureFixture[str], answer: Answer
) -> None:
    qrs.answers[FULL.format("professional")] = answer
    print_idle_seats(qrs_site.settings(qrs.url), overview())
    told = capsys.readouterr().out
    assert "The list could not be read: " in told
    assert "emil" in told


def test_rows_are_the_same_however_the_answer_is_cut() -> None:
    rows = [row('ann\u00e9 "]}', 1), row("b", None), {"user": None}, {}]
    text = json.dumps(rows, ensure_ascii=False, indent=1).encode("utf-8-sig")
    for size in (1, 2, 3, 7, 1000, len(text)):
        split = Rows()
        found = [each for at in range(0, len(text), size) for each in split.add(text[at : at + size])]
        assert (found, split.complete) == (rows, True)


def test_a_row_that_never_ends_is_given_up() -> None:
    split = Rows()
    assert list(split.add(b'[{"a": "' + b"x" * (LONGEST_ROW // 2))) == []
    with pytest.raises(ValueError, match="too long"):
        list(split.add(b"x" * LONGEST_ROW))


def test_a_row_without_a_user_or_a_date_is_no_error() -> None:
    for strange in ({}, {"user": None}, {"user": {"userId": 7}, "lastUsed": 7}, {"lastUsed": "soon"}, None):
        assert holder_of(strange).user == ""
        assert holder_of(strange).last_used is None


@pytest.mark.slow
def test_fifty_thousand_users_take_no_memory() -> None:
    one = json.dumps(row("user", 40)).encode()
    split = Rows()
    tracemalloc.start()
    try:
        number = sum(1 for _ in split.add(b"["))
        for _ in range(50_000):
            number += sum(1 for _ in split.add(one + b","))
        number += sum(1 for _ in split.add(b"]"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (number, split.complete) == (50_000, True)
    assert peak < 1 << 20
