"""What the Repository API's answers are taken for (issue 7, points 1 and 2; cases D1, D2, D3, C5)."""

import json
import math
import re
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qrs_server import (
    BLACKLISTED,
    CAPACITY,
    EMPTY,
    EXPIRED,
    KEY,
    LEF,
    SECRETS,
    SERIAL,
    SIGNED_KEY,
    TOKENS,
    access_answer,
    license_answer,
    seats,
    session,
)

from exporter.config import QrsConfig
from exporter.events import QrsLicenseRead
from exporter.qrs import AccessType, LicenseOverview, QrsError, sync_seen
from exporter.qrs.answers import overview_of
from exporter.qrs.valid_to import day_of

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC).timestamp()


def read(site: tuple[Any, Any], sessions: Any = None) -> LicenseOverview:
    """The overview of answers that have gone over the wire as JSON."""
    license_, access = (json.loads(json.dumps(answer)) for answer in site)
    return overview_of(license_, access, sessions, read_at=NOW)


def license_read(**changes: Any) -> LicenseOverview:
    return read((license_answer(**changes), access_answer()))


def access_read(**changes: Any) -> LicenseOverview:
    return read((license_answer(), access_answer(**changes)))


def end_of(year: int, month: int, day: int) -> float:
    return datetime(year, month, day, 23, 59, 59, tzinfo=UTC).timestamp()


def known(overview: LicenseOverview) -> set[str]:
    """The names of the figures that would be exposed."""
    values = msgspec.structs.asdict(overview)
    for name in ("read_at", "notes", "problems"):
        del values[name]
    return {name for name, value in values.items() if value is not None and value != {}}


# --- the shapes of the facts page ---


def test_a_signed_key_shows_seats_expiry_flags_and_info() -> None:
    assert read(SIGNED_KEY) == LicenseOverview(
        read_at=NOW,
        expiry=end_of(2027, 3, 31),
        expired=False,
        valid=True,
        kind="signed_key",
        product="Qlik Sense Enterprise",
        subscription=True,
        access={
            "professional": AccessType(licenses=25, allocated=20, used=12, available=5, quarantined=2, excess=0),
            "analyzer": AccessType(licenses=100, allocated=97, used=80, available=3, quarantined=0, excess=0),
        },
        updated=datetime(2026, 11, 24, 9, 17, 16, 366000, tzinfo=UTC).timestamp(),
    )


def test_capacity_minutes_become_seconds_and_disabled_seats_show_nothing() -> None:
    overview = read(CAPACITY)
    assert overview.capacity_allocated == 60000 * 60
    assert overview.capacity_used == 1234.5 * 60
    assert overview.capacity_unavailable == 6 * 60
    assert set(overview.access) == {"professional"}
    assert overview.problems == 0


def test_a_token_license_shows_tokens_and_no_seats() -> None:
    overview = read(TOKENS)
    assert (overview.tokens, overview.tokens_available) == (10, 3.5)
    assert (overview.access, overview.kind, overview.expiry, overview.problems) == ({}, "lef", None, 0)


def test_tokens_are_shown_for_token_licenses_only() -> None:
    assert access_read(totalTokens=10, availableTokens=10).tokens is None


def test_a_serial_number_without_a_key_is_a_lef_and_its_missing_details_are_no_problem() -> None:
    overview = read(LEF)
    assert (overview.kind, overview.product, overview.expiry, overview.problems) == ("lef", "2", None, 0)


def test_case_d2_an_expired_license_keeps_its_date_in_the_past() -> None:
    overview = read(EXPIRED)
    assert overview.expired is True
    assert overview.expiry == end_of(2024, 12, 31)
    assert overview.expiry < NOW


@pytest.mark.parametrize("flag", ["isBlacklisted", "isInvalid"])
def test_a_blacklisted_or_invalid_license_is_not_valid(flag: str) -> None:
    assert license_read(**{flag: True}).valid is False
    assert read(BLACKLISTED).expired is False


def test_a_site_without_a_license_shows_nothing_but_says_so() -> None:
    overview = read(EMPTY)
    assert known(overview) == set()
    assert overview.problems == 0
    assert "no license is set" in overview.notes[0]


def test_case_c5_quarantined_and_excess_seats_are_their_own_figures() -> None:
    seat = access_read(professionalAccess=seats(10, 12, 9, 3, 2)).access["professional"]
    assert (seat.available, seat.quarantined, seat.excess) == (-2, 3, 2)


# --- missing, renamed, null, not understood: absent and counted, never 0 ---


@pytest.mark.parametrize("name", ["isExpired", "isBlacklisted", "isInvalid", "isSubscription", "product", "keyDetails"])
def test_a_missing_license_field_is_named_and_exports_nothing(name: str) -> None:
    answer = license_answer()
    del answer[name]
    overview = read((answer, access_answer()))
    gone = {"isExpired": "expired", "isSubscription": "subscription", "product": "product", "keyDetails": "expiry"}
    assert gone.get(name, "valid") not in known(overview)
    assert overview.problems == 1
    assert overview.notes == (f"license.{name} is missing",)


@pytest.mark.parametrize(
    ("answer_name", "field_name"),
    [
        ("total", "licenses"),
        ("allocated", "allocated"),
        ("used", "used"),
        ("available", "available"),
        ("quarantined", "quarantined"),
        ("excess", "excess"),
    ],
)
def test_a_renamed_seat_figure_is_named_with_what_stands_in_its_place(answer_name: str, field_name: str) -> None:
    block = seats(100, 97, 80)
    block["seatFigure"] = block.pop(answer_name)
    overview = access_read(analyzerAccess=block)
    assert getattr(overview.access["analyzer"], field_name) is None
    assert overview.problems == 1
    assert overview.notes == (
        f"accesstypeoverview.analyzerAccess.{answer_name} is missing (not known here: seatFigure)",
    )


def test_a_missing_kind_of_seat_is_counted_and_a_null_one_is_not() -> None:
    answer = access_answer(professionalAccess=None)
    del answer["analyzerAccess"]
    overview = read((license_answer(), answer))
    assert overview.access == {}
    assert overview.notes == ("accesstypeoverview.analyzerAccess is missing",)


def without(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {
        key: without(value, *names) if isinstance(value, dict) else value
        for key, value in answer.items()
        if key not in names
    }


def test_the_documented_answer_without_excess_and_analyzer_time_is_complete() -> None:
    overview = read((license_answer(), without(access_answer(), "excess", "analyzerTimeAccess", "schemaPath")))
    assert (overview.problems, overview.notes) == (0, ())
    assert overview.access["professional"] == AccessType(
        licenses=25, allocated=20, used=12, available=5, quarantined=2, excess=None
    )
    assert overview.capacity_allocated is None


def test_the_answers_of_releases_that_knew_tokens_only_are_complete() -> None:
    access = {
        "totalTokens": 10,
        "availableTokens": 3.5,
        "userAccess": {"allocatedTokens": 5, "usedTokens": 5, "quarantinedTokens": 1},
        "loginAccess": {"allocatedTokens": 1, "usedTokens": 1, "unavailableTokens": 0},
    }
    old = without(license_answer(lef="10 TOKENS"), "key", "keyDetails", "isSubscription", "updated", "check")
    overview = read((old, access))
    assert (overview.problems, overview.notes) == (0, ())
    assert (overview.kind, overview.tokens, overview.tokens_available, overview.access) == ("lef", 10, 3.5, {})
    assert read((old, access | {"tokensEnabled": False})).tokens is None
    assert read((old, {})).problems > 0


@pytest.mark.parametrize("enabled", [None, "perhaps", 1, "missing"])
def test_seats_that_do_not_say_whether_they_are_enabled_export_nothing_and_are_counted(enabled: Any) -> None:
    block = seats(100, 97) | {"enabled": enabled}
    if enabled == "missing":
        del block["enabled"]
    overview = access_read(analyzerAccess=block)
    assert "analyzer" not in overview.access
    assert overview.problems == 1


@pytest.mark.parametrize(
    ("value", "number"),
    [("97", 97.0), (" 97.5 ", 97.5), (97.5, 97.5), (0, 0.0), ("+3", 3.0), (10**12, 1e12)],
)
def test_numbers_come_as_strings_and_floats(value: Any, number: float) -> None:
    assert access_read(analyzerAccess=seats(100, 0) | {"used": value}).access["analyzer"].used == number


@pytest.mark.parametrize(
    "value",
    [-1, "-1", 1e308, 10**400, math.nan, math.inf, "NaN", "1e5", "1,000", "", "٣", True, False, None, [], {}],
)
def test_absurd_numbers_are_counted_and_export_nothing(value: Any) -> None:
    overview = access_read(analyzerAccess=seats(100, 0) | {"used": value})
    assert overview.access["analyzer"].used is None
    assert overview.access["analyzer"].licenses == 100
    assert overview.problems == 1
    assert overview.notes[0].startswith("accesstypeoverview.analyzerAccess.used is ")


def test_flags_may_come_as_words() -> None:
    overview = license_read(isExpired="True", isInvalid="false")
    assert (overview.expired, overview.valid) == (True, True)


@pytest.mark.parametrize("answer", [[], "text", 5, True])
def test_an_answer_that_is_no_object_is_no_answer(answer: Any) -> None:
    with pytest.raises(QrsError, match=r"json: GET /qrs/license \(qrs.url\) answered") as caught:
        read((answer, access_answer()))
    assert caught.value.reason == "json"
    with pytest.raises(QrsError, match=r"json: GET /qrs/license/accesstypeoverview \(qrs.url\) answered"):
        read((license_answer(), answer))


def test_a_license_that_names_neither_key_nor_serial_has_no_kind_and_is_counted() -> None:
    overview = license_read(key=None, serial=None)
    assert overview.kind is None
    assert overview.problems == 1


def test_details_of_a_key_without_a_key_are_a_signed_key_with_a_missing_field() -> None:
    answer = license_answer()
    answer["signedKey"] = answer.pop("key")
    overview = read((answer, access_answer()))
    assert (overview.kind, overview.problems) == ("signed_key", 1)
    assert overview.notes == ("license.key is missing (not known here: signedKey)",)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("Qlik\nSense\x00" + "x" * 100, "Qlik Sense\ufffd" + "x" * 53),
        (2, "2"),
        ("", None),
        (None, None),
        ({"id": 2}, None),
    ],
)
def test_the_product_fits_a_label(value: Any, label: str | None) -> None:
    assert license_read(product=value).product == label


# --- Valid To ---


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-31",
        "2026-12-31T00:00:00",
        "2026-12-31T23:59:59.9999999Z",
        "2026-12-31T00:00:00+02:00",
        "2026-12-31 00:00:00",
        "2026/12/31",
        "2026.12.31",
        "20261231",
        "31/12/2026",
        "12/31/2026",
        "12/31/2026 12:00:00 AM",
        "31.12.2026 00:00:00",
        "31-12-2026",
        "31 December 2026",
        "31. Dec 2026",
        "31st December 2026",
        "31-Dec-2026",
        "Dec 31, 2026",
        "December 31 2026",
        "Thursday, December 31, 2026",
        "Thursday, 31 December 2026 00:00",
        "Thu, 31 Dec 2026 00:00:00 GMT",
        "Thu Dec 31 2026 00:00:00 GMT+0000 (Coordinated Universal Time)",
    ],
)
def test_common_spellings_of_a_day_are_read(text: str) -> None:
    assert day_of(text) == date(2026, 12, 31)
    assert license_read(keyDetails=f"Valid To: {text}").expiry == end_of(2026, 12, 31)


@pytest.mark.parametrize(
    "text",
    [
        "05/06/2026",
        "05.06.2026",
        "12-31-26",
        "2026-13-01",
        "2026-02-30",
        "2026-31-12",
        "31 Dezember 2026",
        "1798675200",
        "Q4 2026",
        "in 30 days",
        "0001-01-01",
        "1753-01-01",
        "2026-12-31 or so",
        "",
        "-",
        "x" * 200,
    ],
)
def test_other_spellings_are_counted_and_never_guessed_and_only_their_form_is_shown(text: str) -> None:
    overview = license_read(keyDetails=f"Valid From: 2024-01-01\nValid To: {text}\nOther: x")
    assert overview.expiry is None
    assert overview.problems == 1
    (note,) = overview.notes
    form = re.sub("[A-Za-z]", "a", re.sub("[0-9]", "0", text[:40]))
    assert note == f"license.keyDetails: Valid To, of the form `{form}`, is not an unambiguous date"


def test_a_day_that_reads_the_same_both_ways_is_read() -> None:
    assert day_of("05/05/2026") == date(2026, 5, 5)


def test_of_several_valid_to_the_earliest_is_taken_in_any_layout() -> None:
    details = "A\r\nValid To: 2027-06-30\r\n  VALID TO :2027-01-15\nfoo; Valid To: 2028-01-01; Valid From: 2020-01-01"
    overview = license_read(keyDetails=details)
    assert (overview.expiry, overview.problems) == (end_of(2027, 1, 15), 0)


def test_a_readable_valid_to_counts_beside_an_unreadable_one() -> None:
    overview = license_read(keyDetails="Valid To: 2027-06-30\nValid To: 05/06/2026")
    assert (overview.expiry, overview.problems) == (end_of(2027, 6, 30), 1)


@pytest.mark.parametrize("details", ["Product: x\nSeats: 5", "Valid To: never", "Valid To: 9999-12-31T23:59:59"])
def test_a_perpetual_license_has_no_expiry_and_no_problem(details: str) -> None:
    overview = license_read(keyDetails=details)
    assert (overview.expiry, overview.problems, overview.expired) == (None, 0, False)


@pytest.mark.parametrize("label", ["Valid until", "Expires", "Expiry date", "Expiration", "End date"])
def test_an_end_under_another_name_is_counted_not_taken_for_perpetual(label: str) -> None:
    overview = license_read(keyDetails=f"Valid From: 2024-01-01\n{label}: 2027-06-30")
    assert (overview.expiry, overview.problems) == (None, 1)
    assert "Valid To" in overview.notes[0]


def test_a_signed_key_with_empty_details_is_counted() -> None:
    assert license_read(keyDetails=" ").problems == 1
    assert license_read(keyDetails=None).problems == 1
    assert license_read(keyDetails=7).problems == 1


# --- sessions per user ---


def test_the_most_sessions_of_one_user_are_counted_whatever_the_case_of_names() -> None:
    listed = [session("anna", 1), session("ANNA", 2), session("anna", 3, "example"), session("ben", 1)]
    listed.append({"userDirectory": "EXAMPLE", "userId": "Anna", "sessionId": "x"})
    assert read(SIGNED_KEY, listed).sessions_per_user_max == 4


def test_no_session_is_zero_and_no_list_is_not_known() -> None:
    assert read(SIGNED_KEY, []).sessions_per_user_max == 0
    for answer in ({}, "x", [1, 2], [{"SessionId": "x"}]):
        overview = read(SIGNED_KEY, answer)
        assert (overview.sessions_per_user_max, overview.problems) == (None, 1)


def test_the_same_user_id_in_two_directories_is_two_users() -> None:
    assert read(SIGNED_KEY, [session("anna", 1, "A"), session("anna", 2, "B")]).sessions_per_user_max == 1


# --- updated ---


def test_updated_is_evidence_of_a_sync_only_where_the_site_trusts_it() -> None:
    overview = read(SIGNED_KEY)
    assert overview.updated is not None
    assert sync_seen(overview, QrsConfig()) is None
    assert sync_seen(overview, QrsConfig(trust_updated=True)) == QrsLicenseRead(overview.updated)
    assert sync_seen(read(EMPTY), QrsConfig(trust_updated=True)) is None


@pytest.mark.parametrize("value", ["2026-11-25T03:00:00", "yesterday", 5, "2027-01-01T00:00:00Z"])
def test_an_updated_that_cannot_be_believed_is_counted(value: Any) -> None:
    overview = license_read(updated=value)
    assert (overview.updated, overview.problems) == (None, 1)


@pytest.mark.parametrize("value", ["1753-01-01T00:00:00.000Z", None])
def test_never_updated_is_unknown_and_no_problem(value: Any) -> None:
    overview = license_read(updated=value)
    assert (overview.updated, overview.problems) == (None, 0)


def test_updated_keeps_its_zone() -> None:
    assert license_read(updated="2026-11-24T10:17:16.3661234+01:00").updated == pytest.approx(
        datetime(2026, 11, 24, 9, 17, 16, 366123, tzinfo=UTC).timestamp()
    )


# --- whatever comes ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(
    changes=st.dictionaries(st.sampled_from(sorted(license_answer())), JSON, max_size=4),
    access=st.dictionaries(st.sampled_from(sorted(access_answer())), JSON, max_size=3),
    block=st.dictionaries(st.sampled_from(sorted(seats(1, 1))), JSON, max_size=4),
    sessions=JSON,
)
def test_no_answer_breaks_the_reader_or_lets_a_number_that_is_none_out(
    changes: dict[str, Any], access: dict[str, Any], block: dict[str, Any], sessions: Any
) -> None:
    answer = access_answer(analyzerAccess=seats(1, 1) | block) | access
    overview = overview_of(license_answer(**changes), answer, sessions, read_at=NOW)
    figures = [value for value in msgspec.structs.astuple(overview) if isinstance(value, float)]
    figures += [v for seat in overview.access.values() for v in msgspec.structs.astuple(seat) if v is not None]
    assert all(math.isfinite(figure) for figure in figures)
    assert len(overview.notes) <= overview.problems + 1
    assert overview.product is None or (overview.product.isprintable() and len(overview.product) <= 64)


@given(text=st.text(max_size=40) | st.from_regex(r"\d{1,4}[-/. ]\d{1,2}[-/. ]\d{1,4}", fullmatch=True))
def test_any_text_is_a_day_or_none(text: str) -> None:
    assert day_of(text) is None or isinstance(day_of(text), date)


def test_no_secret_is_kept_of_any_answer() -> None:
    broken = license_answer(isExpired=SERIAL, updated=KEY, product=[KEY], subscription=SERIAL)
    listed = [session("ANNA", 1), {"UserId": "ANNA"}]
    for site in (SIGNED_KEY, CAPACITY, TOKENS, LEF, EXPIRED, BLACKLISTED, EMPTY, (broken, access_answer())):
        kept = repr(read(site, listed))
        assert not [secret for secret in SECRETS if secret in kept]
