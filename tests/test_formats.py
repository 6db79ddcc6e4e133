"""Lines become records, whatever they hold."""

import observed
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.events import LOG_NAMES
from exporter.logs.entries import deeper_texts
from exporter.logs.formats import record_of, split
from exporter.logs.times import instant

AUDIT_HEADER = observed.AUDIT_HEADER.encode()


def audit_row(
    number: int = 1, message: str = "hello", checksum: str = "c0ffee", at: str = "20261102T081500.101+0100"
) -> bytes:
    return "\t".join(
        [
            str(number),
            "14.54",
            at,
            "NODE",
            "id",
            "Command=x;Result=0;ResultText=y",
            "0",
            "0",
            "0",
            "CONTOSO",
            "user01",
            "0",
            "n",
            "s",
            "::1",
            "Repository",
            "n",
            "c",
            "x",
            "0",
            message,
            checksum,
        ]
    ).encode()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-01-20T08:13:32.7038396Z", 1579508012.7038396),
        ("2020-01-20T08:13:32Z", 1579508012.0),
        ("2020-01-20T08:13:32.123Z", 1579508012.123),
        ("2020-01-20T08:13:32.123456789Z", 1579508012.123456789),
        ("2020-01-20 08:13:32,5Z", 1579508012.5),
        ("2020-01-20T09:13:32+01:00", 1579508012.0),
        ("2020-01-20T03:13:32-05", 1579508012.0),
        ("20200120T091332.000+0100", 1579508012.0),
        ("20110805T145657.000+0200", 1312549017.0),
        ("20110805T145657.000+02:00", 1312549017.0),
        ("2026-03-29T01:59:59.999+01:00", 1774745999.999),  # the last instant before the clocks change in Europe
        ("2026-03-29T03:00:00.000+02:00", 1774746000.0),  # and the next one
        ("2024-02-29T00:00:00Z", 1709164800.0),
        ("2016-12-31T23:59:60Z", 1483228800.0),  # a leap second
    ],
)
def test_a_row_time_is_read_in_every_published_spelling(text: str, seconds: float) -> None:
    assert instant(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xxxxxx",
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2020-01-20T24:13:32Z",
        "2020-01-20T08:13:32",
        "2020-01-20",
        "2020-01-20T08:13:61Z",
        "2020-01-20T08:13:3²Z",
        "2020-01-20T08:13:nanZ",
        "2020-01-20T08:13: 1Z",
        "2020-01-20T08:13:1_0Z",
        "9999-01-01T00:00:00Z",
        "\x00" * 20,
        "2020-01-20T08:13:32+99:00",
        "2020-01-20T08:13:1e1Z",
        "2020-01-20T08:13:-1Z",
    ],
)
def test_hazard_111_what_is_no_time_is_no_time(text: str) -> None:
    assert instant(text) is None


def test_the_published_line_that_is_no_json_is_read_as_far_as_it_can_be() -> None:
    line = b'{"caller":"handler.go:61","message":"a: lic is stale","res.errorType":"licenses.InvalidLicenseError","timestamp":xxxxxx"}'
    record = record_of("licenses", line)
    assert (record.malformed, record.at) == (True, None)
    assert record.message == "a: lic is stale"
    assert record.response_error_type == "licenses.InvalidLicenseError"


POISON = [
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"message":' + b"9" * 5_000 + b"}",
    b'{"message":NaN,"timestamp":Infinity}',
    b'{"message":1e999}',
    b'{"message":"\\ud800","timestamp":"2020-01-20T08:13:32Z"}',
    b'{"message":"\x01\x02"}',
    b'{"message":"\xff\xfe"}',
    b"null",
    b"[]",
    b'"text"',
    b"5",
    b"{}",
    b"\0\0\0\0",
    b"\x1f\x8b\x08\x00garbage",
    b'{"message":null,"errorMessage":{"a":[1,2]},"timestamp":true}',
    b'{"message":"a","message":"b"}',
    b'{"timestamp":-1}',
]


@pytest.mark.parametrize("line", POISON)
@pytest.mark.parametrize("log", LOG_NAMES)
def test_poison_is_one_record_or_one_orphan_and_never_an_error(log: str, line: bytes) -> None:
    records = split(log, [line], None, True).records
    assert len(records) == 1
    assert records[0].malformed


@settings(deadline=None)
@given(
    st.sampled_from(LOG_NAMES), st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\n", b""))), st.booleans()
)
def test_splitting_never_fails_and_gives_a_start_for_each_record(log: str, lines: list[bytes], final: bool) -> None:
    found = split(log, lines, None, final)
    assert len(found.records) == len(found.starts)
    assert list(found.starts) == sorted(found.starts)
    assert not (final and found.open_lines)


def test_a_surprising_type_does_not_hide_what_the_other_keys_say() -> None:
    record = record_of("licenses", b'{"message":7,"errorType":"LICENSES-X","timestamp":"2020-01-20T08:13:32Z"}')
    assert (record.message, record.error_type, record.malformed) == ("7", "LICENSES-X", False)


@pytest.mark.parametrize(
    "line",
    [
        b'{"Message":"lic is stale","Timestamp":"2020-01-20T08:13:32Z"}',
        b'{"MESSAGE":"lic is stale","timestamp":"2020-01-20T08:13:32Z"}',
        b'{"message":"lic is stale","TIMESTAMP":"1579508012"}',
        b'{"Message":"lic is stale","Timestamp":1579508012000',
    ],
)
def test_keys_are_read_in_any_case(line: bytes) -> None:
    record = record_of("licenses", line)
    assert (record.message, record.at) == ("lic is stale", 1579508012.0)


@pytest.mark.parametrize(
    "stamp", ["1579508012", '"1579508012"', "1579508012000", '"1579508012000.0"', "1579508012000000000"]
)
def test_a_time_that_is_a_number_is_read_as_text_or_number_in_seconds_or_parts(stamp: str) -> None:
    record = record_of("licenses", f'{{"message":"x","timestamp":{stamp}}}'.encode())
    assert (record.at, record.malformed) == (1579508012.0, False)


def test_an_error_under_a_key_nobody_has_published_is_found() -> None:
    line = b'{"message":"sync failed","cause":{"error":{"detail":"no such host"}},"timestamp":"2020-01-20T08:13:32Z"}'
    assert "no such host" in deeper_texts(record_of("licenses", line))[0]


def test_a_row_torn_by_raw_line_breaks_is_one_record() -> None:
    rows = audit_row(1, "first\nsecond\n\nthird").split(b"\n")
    found = split("repository_audit", [AUDIT_HEADER, *rows, audit_row(2)], None, False)
    assert [record.message for record in found.records] == ["first\nsecond\n\nthird", "hello"]
    assert found.starts == [1, 5]
    assert not any(record.malformed for record in found.records)


def test_a_row_that_is_not_complete_stays_open_until_the_end_is_certain() -> None:
    half = audit_row(1, "first\nsecond").split(b"\n")[0]
    assert split("repository_audit", [half], AUDIT_HEADER, False).open_lines == 1
    closed = split("repository_audit", [half], AUDIT_HEADER, True)
    assert [record.malformed for record in closed.records] == [True]


def test_hazard_66_a_header_in_mid_file_is_no_row_and_may_change_the_columns() -> None:
    short = b"Sequence#\tTimestamp\tUserId\tDescription\tMessage\tUserDirectory\tChecksum"
    row = b"2\t20261102T081500.101+0100\tuser02\tCommand=y\tother\tFABRIKAM\tx"
    found = split("repository_audit", [AUDIT_HEADER, audit_row(1), AUDIT_HEADER, short, row], None, False)
    assert [(record.message, *record.user) for record in found.records] == [
        ("hello", "CONTOSO", "user01"),
        ("other", "FABRIKAM", "user02"),
    ]
    assert found.header == short


def test_header_names_are_read_in_any_case_and_columns_fall_back_to_positions() -> None:
    found = split("repository_audit", [AUDIT_HEADER.upper(), audit_row()], None, False)
    assert found.records[0].user == ("CONTOSO", "user01")
    assert split("repository_audit", [audit_row()], None, False).records[0].user == ("CONTOSO", "user01")


def test_a_line_that_belongs_to_no_row_is_an_orphan() -> None:
    found = split("repository_audit", [b"torn rest\tx", audit_row()], AUDIT_HEADER, False)
    assert [(record.orphan, record.malformed) for record in found.records] == [(True, True), (False, False)]


def test_empty_lines_are_no_records() -> None:
    for log in LOG_NAMES:
        assert split(log, [b"", b"  ", b""], None, True).records == []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "20110805T1456",
                    "2011-08-05T14:56:",
                    "20110805T1457",
                    "20110231T1456",
                    "19991231T2330",
                    "20000101T0030",
                    "1970",
                ]
            ),
            st.sampled_from(["57", "58", "00", "60", "61", "5", ""]),
            st.sampled_from(["", ".0", ".000", ".250", ",250", ".1234567", ".1²3"]),
            st.sampled_from(["+0200", "-0930", "Z", "+02:00", "+1700", "+0200\u00a0", ""]),
        ).map("".join),
        min_size=1,
        max_size=12,
    )
)
def test_rows_read_at_once_have_the_times_that_each_has_alone(times: list[str]) -> None:
    """Seconds and minutes of neighbours are remembered: that may never show."""
    lines = [f"{number}\t1\t{text}".encode() + b"\t" * 20 for number, text in enumerate(times)]
    for _ in range(2):
        records = split("repository_audit", lines, None, final=True).records
        assert [record.at for record in records] == [instant(text) for text in times]
