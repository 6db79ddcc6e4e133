"""What the log messages mean."""

import re
from pathlib import Path

import pytest

from exporter.config import MessageConfig
from exporter.events import (
    AccessDenied,
    LicenseError,
    LicenseStale,
    SevereEntry,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
)
from exporter.logs.formats import record_of, split
from exporter.logs.messages import MESSAGES, UNKNOWN, Catalogue

SAMPLES = Path(__file__).parent / "samples"
CATALOGUE = Catalogue()


def licenses(text: str, key: str = "message", catalogue: Catalogue = CATALOGUE, **more: str) -> tuple[str, object]:
    pairs = "".join(f',"{name}":"{value}"' for name, value in more.items())
    line = f'{{"{key}":"{text}","level":"info","timestamp":"2020-01-20T08:13:32Z"{pairs}}}'.encode()
    return tuple(catalogue.recognise("licenses", [record_of("licenses", line)])[0])


def lines_of(sample: Path) -> list[bytes]:
    return [line.rstrip(b"\r") for line in sample.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n") if line]


def test_every_message_has_a_sentence_and_a_sample_line() -> None:
    """A newcomer adds one function and one sample line: this test asks for both."""
    seen = set()
    for sample in sorted(SAMPLES.glob("*/*.txt")):
        log = sample.parent.name
        for record in split(log, lines_of(sample), None, True).records:
            recognised = CATALOGUE.recognise(log, [record])[0]
            seen.add(recognised.message)
            assert recognised.message == sample.stem, f"a line of {sample.name} is recognised as {recognised.message}"
    assert seen == {message.name for message in MESSAGES}
    assert all(message.sentence.endswith(".") for message in MESSAGES)
    assert all(re.fullmatch("[a-z_]+", message.name) for message in MESSAGES)


def test_the_published_lines_are_understood_exactly() -> None:
    records = split("licenses", lines_of(SAMPLES / "licenses-published.log"), None, True).records
    assert [tuple(found) for found in CATALOGUE.recognise("licenses", records)] == [
        ("license_stale", LicenseStale()),
        ("sync_attempted", SyncAttempted()),
        ("license_stale", LicenseStale()),
    ]


def test_case_b1_and_case_b4_refusals_go_by_the_session_count_of_the_row() -> None:
    records = split(
        "repository_audit", lines_of(SAMPLES / "QLIKNODE1_AuditSecurity_Repository.txt"), None, True
    ).records
    assert [found.event for found in CATALOGUE.recognise("repository_audit", records)] == [
        None,
        AccessDenied("no_access_pass", r"CONTOSO\user01"),
        AccessDenied("parallel_sessions", r"CONTOSO\user02"),
        None,
        AccessDenied("allocation_refused"),
    ]


def test_trace_rows_of_license_loggers_count_by_level() -> None:
    records = split("repository_trace", lines_of(SAMPLES / "QLIKNODE1_License_Repository.txt"), None, True).records
    assert [found.event for found in CATALOGUE.recognise("repository_trace", records)] == [
        None,
        SevereEntry("warn"),
        SevereEntry("error"),
    ]


@pytest.mark.parametrize("key", ["message", "errorMessage", "error", "err", "errorType", "res.errorType", "msg"])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("dial tcp: lookup license.qlikcloud.com: no such host", "dns"),
        ("dial tcp: lookup license.qlikcloud.com: getaddrinfow: The requested name is valid", "dns"),
        ("connectex: No connection could be made because the target machine actively refused it.", "refused"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "refused"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "timeout"),
        ("context deadline exceeded (Client.Timeout exceeded while awaiting headers)", "timeout"),
        ("connectex: A connection attempt failed because the connected party did not respond", "timeout"),
        ("net/http: TLS handshake timeout", "tls"),
        ("x509: certificate signed by unknown authority", "tls"),
        ("x509: certificate has expired or is not yet valid", "tls"),
        ("remote error: tls: handshake failure", "tls"),
        ("proxyconnect tcp: dial tcp 10.0.0.9:3128: i/o timeout", "proxy"),
        ("Proxy Authentication Required", "proxy"),
        ("wsarecv: An existing connection was forcibly closed by the remote host.", "reset"),
        ("read: connection reset by peer", "reset"),
        ("Post https://license.qlikcloud.com/v1: EOF", "reset"),
        ("unexpected EOF", "reset"),
        ("EOF", "reset"),
        ("503 Service Unavailable", "http"),
        ("dial tcp: lookup license.qlikcloud.com on 10.0.0.1:53: server misbehaving", "dns"),
        ("write tcp 10.0.0.1:5000: write: broken pipe", "reset"),
        ("wsarecv: Eine vorhandene Verbindung wurde vom Remotehost geschlossen.", "reset"),
        ("got EOF", "reset"),
        ("dial tcp 10.0.0.1:443: connect: network is unreachable", "other"),
        ("dial tcp 10.0.0.1:443: connectex: Es konnte keine Verbindung hergestellt werden.", "other"),
    ],
)
def test_a_network_error_is_found_under_any_key_and_in_any_case(key: str, text: str, error: str) -> None:
    for spelling in (text, text.upper(), text.lower()):
        assert licenses(spelling, key)[1] == SyncFailed(error)


def test_an_invalid_license_is_no_stale_one_and_the_level_is_never_trusted() -> None:
    invalid = ("license_invalid", LicenseError("invalid", service=True))
    assert (
        licenses("license verification error: bad key", **{"res.errorType": "licenses.InvalidLicenseError"}) == invalid
    )
    assert licenses("all is well", level="error") == (UNKNOWN, None)


def test_an_invalid_license_because_of_the_network_says_so() -> None:
    name, event = licenses(
        "license verification error: i/o timeout", **{"res.errorType": "licenses.InvalidLicenseError"}
    )
    assert (name, event) == ("license_invalid", SyncFailed("timeout"))


def test_other_codes_are_counted_under_one_name() -> None:
    assert licenses("x", "y", errorType="LICENSES-Whatever") == ("license_refused", LicenseError("other", service=True))
    assert licenses("x", "y", errorType="licenses.SomeOtherError") == (
        "license_error",
        LicenseError("other", service=True),
    )
    assert licenses("licenses-service started") == (UNKNOWN, None)


@pytest.mark.parametrize("text", ["the public is stale", "mtls: enabled", "geof: none", "metropublic is stale"])
def test_a_text_in_the_middle_of_a_word_is_another_word(text: str) -> None:
    assert licenses(text) == (UNKNOWN, None)


def test_an_invalid_license_that_is_stale_in_other_words_is_stale() -> None:
    assert licenses("the license is Stale", **{"res.errorType": "licenses.InvalidLicenseError"})[1] == LicenseStale()


@pytest.mark.parametrize("code", ["LICENSES-007", "licenses-somethingelse", "Licenses.SomeOtherError"])
def test_a_code_is_one_in_any_case_where_it_stands_alone(code: str) -> None:
    assert licenses("x", errorType=code)[1] == LicenseError("other", service=True)
    assert licenses("the licenses-service is up") == (UNKNOWN, None)


def test_a_code_under_a_key_nobody_has_published_is_found() -> None:
    assert licenses("request done", code="LICENSES-OutdatedLicense")[1] == LicenseStale()


def test_an_error_of_an_unknown_wording_is_an_error_all_the_same() -> None:
    assert licenses("something nobody has seen", "errorMessage") == (UNKNOWN, LicenseError("other"))


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("User: 'D\\u', SessionCount: '4', OperationType: 'UsageDenied'", AccessDenied("no_access_pass", r"D\u")),
        ("User: 'D\\O'Brien', SessionCount: '5', 'UsageDenied'", AccessDenied("parallel_sessions", r"D\O'Brien")),
        ("User: 'D\\u'\t, Session Count: '5', 'UsageDenied'", AccessDenied("parallel_sessions", r"D\u")),
        ('User: "D\\u", SessionCount: "5", OperationType: "UsageDenied"', AccessDenied("parallel_sessions", r"D\u")),
        ("SessionCount: 12, operationtype: usagedenied", AccessDenied("parallel_sessions", r"CONTOSO\user01")),
        ("OperationType: 'UsageDenied'", AccessDenied("no_access_pass", r"CONTOSO\user01")),
        ("OperationType: 'UsageGranted'", None),
        ("Access is denied", None),
        ("Your account is inactive. Contact your administrator to activate it. 'UsageDenied'", None),
    ],
)
def test_a_refusal_is_read_with_any_quotes(message: str, event: object) -> None:
    row = "\t".join(
        [
            "1",
            "v",
            "20261102T081500.101+0100",
            "h",
            "i",
            "Command=c;Result=403;ResultText=e",
            "0",
            "0",
            "0",
            "CONTOSO",
            "user01",
            "0",
            "n",
            "s",
            "::1",
            "R",
            "n",
            "c",
            "c",
            "403",
            message,
            "x",
        ]
    )
    assert CATALOGUE.recognise("repository_audit", [record_of("repository_audit", row.encode())])[0].event == event


def test_a_row_that_names_nobody_refuses_nobody_in_particular() -> None:
    row = "\t".join(
        [
            "1",
            "v",
            "20261102T081500.101+0100",
            "h",
            "i",
            "d",
            "0",
            "0",
            "0",
            "",
            "Not available",
            "0",
            "n",
            "s",
            "::1",
            "R",
            "n",
            "c",
            "c",
            "403",
            "OperationType: 'UsageDenied'",
            "x",
        ]
    )
    event = CATALOGUE.recognise("repository_audit", [record_of("repository_audit", row.encode())])[0].event
    assert event == AccessDenied("no_access_pass", "")


def taught(
    match: str = "assignments are up to date", means: str = "sync_succeeded", name: str = "up_to_date"
) -> Catalogue:
    return Catalogue((MessageConfig(name=name, log="licenses", match=match, means=means),))


def test_a_taught_wording_behaves_like_a_built_in_one() -> None:
    catalogue = taught()
    assert licenses("Assignments are UP TO DATE", catalogue=catalogue) == ("up_to_date", SyncSucceeded())
    assert licenses("Assignments are up to date", "anyKey", catalogue=catalogue) == ("up_to_date", SyncSucceeded())
    assert "up_to_date" in catalogue.names("licenses")
    assert (catalogue.infers, CATALOGUE.infers) == (False, True)


def test_a_taught_pattern_may_be_anchored_to_a_text() -> None:
    taught = Catalogue(
        (MessageConfig(name="all_well", log="licenses", match="^sync is done$", means="sync_succeeded"),)
    )
    assert licenses("sync is done", catalogue=taught) == ("all_well", SyncSucceeded())
    assert licenses("the sync is done", catalogue=taught) == (UNKNOWN, None)


def test_two_entries_on_one_line_hide_nothing_of_each_other() -> None:
    lines = [b'{"message":"re-syncing assignments with the backend"}', b'{"message":"lic is stale"}']
    for line in (b"".join(lines), b"".join(reversed(lines))):
        assert CATALOGUE.recognise("licenses", [record_of("licenses", line)])[0].event == LicenseStale()


def test_a_taught_pattern_corrects_guesses_but_never_hides_what_is_seen() -> None:
    catalogue = taught(match=".", name="everything")
    assert licenses("lic is stale", catalogue=catalogue)[0] == "license_stale"
    assert licenses("tls: session resumed", catalogue=catalogue)[0] == "everything"


def test_a_name_that_is_taken_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="sync_attempted"):
        taught(name="sync_attempted")
    with pytest.raises(ValueError, match="unknown"):
        taught(name="unknown")


def test_a_refusal_in_another_column_is_no_refusal() -> None:
    row = "1\tv\t20261102T081500.101+0100\th\ti\tCommand=Open app;Result=0\t0\t0\t0\tD\tu\t0\tOperationType: 'UsageDenied'\ts\t::1\tR\tn\tc\tc\t0\tSuccess\tx"
    assert CATALOGUE.recognise("repository_audit", [record_of("repository_audit", row.encode())])[0] == (UNKNOWN, None)


def test_an_allocation_is_read_from_the_command_and_result_columns_where_there_is_no_description() -> None:
    for description in ("", "-", "Not available", "Command=Add User Access"):
        row = (
            f"1\tv\t20261102T081500.101+0100\th\ti\t{description}\t0\t0\t0\tD\tu\t0\tn\ts\t::1\tR\tn\tc\t"
            "Add User Access\t400\tx\tx"
        )
        event = CATALOGUE.recognise("repository_audit", [record_of("repository_audit", row.encode())])[0].event
        assert event == AccessDenied("allocation_refused")


@pytest.mark.parametrize(
    ("description", "refused"),
    [
        ("Command=Add user access from license;Result=400;ResultText=x", True),
        ("Command=Add User Access; Result=400", True),
        ("Command='Add User Access';Result='400'", True),
        ("Command = Add user access ; Result = 400", True),
        ("Command=Add user access;Result=4001", False),
        ("Command=Add user access rule;Result=400", False),
        ("Command=Add user access;Result=200;ResultText=Result=400", False),
    ],
)
def test_an_allocation_is_refused_by_its_own_command_and_result_alone(description: str, refused: bool) -> None:
    row = f"1\tv\t20261102T081500.101+0100\th\ti\t{description}\t0\t0\t0\tD\tu\t0\tn\ts\t::1\tR\tn\tc\tc\t0\tx\tx"
    found = CATALOGUE.recognise("repository_audit", [record_of("repository_audit", row.encode())])[0]
    assert found == (("allocation_refused", AccessDenied("allocation_refused")) if refused else (UNKNOWN, None))


def test_every_audit_message_names_a_text_since_rows_are_looked_through_for_texts_alone() -> None:
    assert all(any(message.texts) for message in MESSAGES if message.log == "repository_audit")


@pytest.mark.parametrize(
    ("text", "message"), [("EOF", "backend_reset"), ("read: eof.", "backend_reset"), ("eofriend", UNKNOWN)]
)
def test_a_short_text_is_a_whole_word(text: str, message: str) -> None:
    record = record_of("licenses", f'{{"message":"{text}","timestamp":"2026-11-02T08:15:00Z"}}'.encode())
    assert CATALOGUE.recognise("licenses", [record])[0].message == message
