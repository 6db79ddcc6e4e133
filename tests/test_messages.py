"""What the log messages mean."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import NOON, audit_row

from exporter.config import MessageConfig
from exporter.events import (
    AccessDenied,
    AccessGranted,
    LicenseError,
    LicenseStale,
    ServiceStarted,
    SevereEntry,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
    SyncTrouble,
)
from exporter.logs import trouble
from exporter.logs.formats import record_of, split
from exporter.logs.messages import MESSAGES, UNKNOWN, Catalogue
from exporter.logs.trouble import speaks_of_failure

SAMPLES = Path(__file__).parent / "samples"
CATALOGUE = Catalogue()


def licenses(text: str, key: str = "message", catalogue: Catalogue = CATALOGUE, **more: str) -> tuple[str, object]:
    pairs = "".join(f',"{name}":"{value}"' for name, value in more.items())
    line = f'{{"{key}":"{text}","level":"info","timestamp":"2020-01-20T08:13:32Z"{pairs}}}'.encode()
    return tuple(catalogue.recognise("licenses", [record_of("licenses", line)])[0])


def error_of(event: object) -> str:
    return event.error if isinstance(event, SyncFailed | LicenseError) else ""


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
        ("sync_attempted", SyncAttempted("sync.go")),
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
        assert error_of(licenses(spelling, key)[1]) == error


def test_an_invalid_license_is_no_stale_one_and_an_info_proves_nothing() -> None:
    invalid = ("license_invalid", LicenseError("invalid", service=True))
    assert (
        licenses("license verification error: bad key", **{"res.errorType": "licenses.InvalidLicenseError"}) == invalid
    )
    assert licenses("lic is stale", level="info")[1] == LicenseStale()


def test_an_invalid_license_because_of_the_network_says_so() -> None:
    name, event = licenses(
        "license verification error: i/o timeout", **{"res.errorType": "licenses.InvalidLicenseError"}
    )
    assert (name, error_of(event)) == ("license_invalid", "timeout")


def test_other_codes_are_counted_under_one_name() -> None:
    for code, name in (("LICENSES-Whatever", "license_refused"), ("licenses.SomeOtherError", "license_error")):
        found, event = licenses("x", "y", errorType=code)
        assert (found, error_of(event), event.service, event.trouble is not None) == (name, "other", True, True)
    assert licenses("licenses-service started") == ("service_started", ServiceStarted())


@pytest.mark.parametrize("text", ["the public is stale", "mtls: enabled", "geof: none", "metropublic is stale"])
def test_a_text_in_the_middle_of_a_word_is_another_word(text: str) -> None:
    name, event = licenses(text)
    assert name == UNKNOWN
    assert event is None or (isinstance(event, SyncTrouble) and event.tied), "it would only matter to its own sync"


def test_an_invalid_license_that_is_stale_in_other_words_is_stale() -> None:
    assert licenses("the license is Stale", **{"res.errorType": "licenses.InvalidLicenseError"})[1] == LicenseStale()


@pytest.mark.parametrize("code", ["LICENSES-007", "licenses-somethingelse", "Licenses.SomeOtherError"])
def test_a_code_is_one_in_any_case_where_it_stands_alone(code: str) -> None:
    event = licenses("x", errorType=code)[1]
    assert isinstance(event, LicenseError)
    assert event.service
    assert licenses("the licenses-service is up") == (UNKNOWN, None)


def test_a_code_under_a_key_nobody_has_published_is_found() -> None:
    assert licenses("request done", code="LICENSES-OutdatedLicense")[1] == LicenseStale()


def test_an_error_of_an_unknown_wording_is_an_error_all_the_same() -> None:
    name, event = licenses("something nobody has seen", "errorMessage")
    assert (name, error_of(event), event.service, event.trouble.tied) == (UNKNOWN, "other", False, False)


def audit_event(user: str, description: str, message: str, directory: str = "CONTOSO") -> object:
    row = audit_row(NOON, user, description, message, directory=directory)
    return CATALOGUE.recognise("repository_audit", [record_of("repository_audit", row.encode())])[0].event


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("User: 'D\\u', SessionCount: '4', OperationType: 'UsageDenied'", AccessDenied("no_access_pass", r"D\u")),
        ("User: 'D\\O'Brien', SessionCount: '5', 'UsageDenied'", AccessDenied("parallel_sessions", r"D\O'Brien")),
        ("User: 'D\\u'\t, Session Count: '5', 'UsageDenied'", AccessDenied("parallel_sessions", r"D\u")),
        ('User: "D\\u", SessionCount: "5", OperationType: "UsageDenied"', AccessDenied("parallel_sessions", r"D\u")),
        ("SessionCount: 12, operationtype: usagedenied", AccessDenied("parallel_sessions", r"CONTOSO\user01")),
        ("OperationType: 'UsageDenied'", AccessDenied("no_access_pass", r"CONTOSO\user01")),
        ("OperationType: 'UsageGranted'", AccessGranted()),
        ("Access is denied", None),
        ("Your account is inactive. Contact your administrator to activate it. 'UsageDenied'", None),
    ],
)
def test_a_refusal_is_read_with_any_quotes(message: str, event: object) -> None:
    assert audit_event("user01", "Command=c;Result=403;ResultText=e", message) == event


def test_a_row_that_names_nobody_refuses_nobody_in_particular() -> None:
    event = audit_event("Not available", "d", "OperationType: 'UsageDenied'", directory="")
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


def test_a_sites_wording_goes_before_all_built_in_ones_but_the_stale_verdict() -> None:
    catalogue = taught(match=".", name="everything")
    assert licenses("lic is stale", catalogue=catalogue)[0] == "license_stale"
    for text in ("tls: session resumed", "re-syncing assignments with the backend", "anything"):
        assert licenses(text, catalogue=catalogue)[0] == "everything"


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


@pytest.mark.parametrize("method", ["Get", "Head", "Post", "Put", "Patch", "Delete"])
@pytest.mark.parametrize("quoted", ['\\"', ""])
@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("Forbidden", "proxy"),
        ("Bad Gateway", "proxy"),
        ("Proxy Authentication Required", "proxy"),
        ("unknown status code", "proxy"),
        ("", "proxy"),
        ("EOF", "reset"),
        ("dial tcp: lookup x: no such host", "dns"),
        ("invalid character '<' looking for beginning of value", "http"),
        ("unexpected status code 503", "http"),
        ("Blocked By Policy 17", "other"),
        ("was immer das hei\u00dfen mag", "other"),
    ],
)
def test_any_failed_request_to_the_backend_fails_the_sync_whatever_its_reason(
    method: str, quoted: str, reason: str, error: str
) -> None:
    text = f"{method} {quoted}https://license.qlikcloud.com/v1{quoted}: {reason}"
    for before in ("", "failed to sync: ", "x: y: "):
        for spelling in (before + text, (before + text).rstrip()):
            event = licenses(spelling)[1]
            assert (error_of(event), isinstance(event, SyncFailed), event.wording) == (error, True, "")


@pytest.mark.parametrize(
    "text",
    [
        'Get \\"https://localhost:4242/qrs/about\\": EOF',
        'Post \\"https://127.0.0.1:9031/x\\": Forbidden',
        'Post \\"http://[::1]:4243/x\\": context deadline exceeded',
        "dial tcp [::1]:4242: connectex: No connection could be made because the target machine actively refused it.",
        "dial tcp 10.1.2.3:4747: i/o timeout",
        "localhost:4242: actively refused",
        'Get \\"https://NODE7:4242/qrs\\": EOF',
    ],
)
def test_a_failed_contact_within_the_node_or_to_qliks_own_ports_is_another_matter(text: str) -> None:
    assert licenses(text) == ("other_service_failed", None)


@pytest.mark.parametrize(
    "text",
    [
        "proxyconnect tcp: dial tcp 127.0.0.1:3128: connect: connection refused",
        "dial tcp: lookup license.qlikcloud.com on 127.0.0.53:53: no such host",
        "read tcp 127.0.0.1:50123->203.0.113.7:443: i/o timeout",
    ],
)
def test_a_local_proxy_or_resolver_is_the_way_to_the_backend(text: str) -> None:
    assert isinstance(licenses(text)[1], SyncFailed)


@pytest.mark.parametrize(
    "text",
    [
        "re-syncing assignments with the backend failed",
        "could not finish re-syncing assignments with the backend",
        "re-syncing assignments with the backend: no answer",
        "finished re-syncing assignments with the backend",
        "re-syncing assignments with the backend done",
    ],
)
def test_the_words_of_an_attempt_and_what_came_of_it_are_no_attempt(text: str) -> None:
    assert not isinstance(licenses(text)[1], SyncAttempted)


@pytest.mark.parametrize(
    "text",
    [
        "sync finished with 0 errors",
        "assignments synchronised, nothing failed",
        "sync done: errors=0 failed=0",
        "re-sync of the assignments ended without any error",
        "no failures while syncing 512 assignments",
        "none of the assignments was rejected",
        "synchronised 503 assignments",
    ],
)
def test_a_failure_that_is_denied_is_no_trouble(text: str) -> None:
    assert licenses(text) == (UNKNOWN, None)


@pytest.mark.parametrize(
    "words", ["failed", "was refused", "is unavailable", "fehlgeschlagen", "n'a pas abouti", "失敗"]
)
def test_words_of_failure_beside_words_of_the_sync_are_trouble(words: str) -> None:
    event = licenses(f"assignment sync {words}", caller="x.go:1")[1]
    assert isinstance(event, SyncTrouble)
    assert (event.tied, event.source) == (False, "x.go")


def test_a_level_above_info_an_error_or_a_code_is_trouble_but_not_a_users_request() -> None:
    for pairs in (
        {"level": "warn"},
        {"err": "kaputt"},
        {"level": "info", "lastError": "x"},
        {"errorType": "LICENSES-X"},
    ):
        event = licenses("abc", **pairs)[1]
        trouble = event.trouble if isinstance(event, LicenseError) else event
        assert isinstance(trouble, SyncTrouble)
        assert not trouble.tied
    for value in ("", "null", "<nil>", "0", "none", "no error"):
        assert licenses("abc", err=value) == (UNKNOWN, None)
    event = licenses("abc", errorType="LICENSES-X", statusCode="404")[1]
    assert event.trouble.tied, "a user asked for what there is not"
    assert licenses("GET /v1/licenses/users/x 404 failed", level="warn")[1].tied


def test_a_torn_line_is_trouble_unless_its_beginning_says_what_it_is() -> None:
    catalogue = Catalogue()

    def event_of(line: bytes) -> object:
        return catalogue.recognise("licenses", [record_of("licenses", line)])[0].event

    whole = b'{"caller":"server.go:70","level":"info","message":"GET /v1/x 200","timestamp":"2026-11-02T08:15:00Z"}'
    assert event_of(whole) is None
    assert event_of(whole[:60]) is None, "that place in the source never logged anything of a sync"
    assert event_of(whole[:12]) == SyncTrouble("")
    assert event_of(whole.replace(b"server.go:70", b"client.go:88")) is None
    assert (
        event_of(whole.replace(b"server.go:70", b"client.go:88").replace(b'",', b'","lastError":"x is shut",', 1))
        is not None
    )
    assert event_of(b'{"caller":"client.go:88","level":"info","mess') == SyncTrouble(""), "under a key nobody knows"
    assert event_of(b'{"caller":"sync.go:310","level":"info","message":"Post \\"https://') == SyncTrouble("")
    assert event_of(b'{"caller":"sync.go:290","level":"info","message":"re-syncing assig') == SyncAttempted("sync.go")
    assert event_of(b'{"message":"re-syncing assignments with the backend') == SyncAttempted()
    assert event_of(b'{"message":"re-syncing assignments with the backend fai') == SyncTrouble("")


GOOD_ENDS = """
sync finished without a hitch
sync done, no issue
sync completed, error count 0
sync completed, failed: 0
assignments synced, failures=0, retries=0
sync ok errors: none
sync finished error-free
not one failure during sync
sync: failed 0 of 512
sync: 0/512 failed
sync: 0 of 512 assignments failed
zero failures in sync
none rejected, 512 accepted
the backend is no longer failing
sync finished (errors: 0, warnings: 0)
sync finished; nothing was rejected, nothing failed
sync completed with no errors and no warnings
sync completed with zero errors
re-sync done without failure
assignments are up to date; no failed assignments
sync done - error=<nil>
sync done err=nil
synchronisation successful, 0 failed
assignment sync succeeded: 512 ok, 0 failed, 0 skipped
backend contact ok, no retries needed
no failure to report after sync
sync did not encounter any error
sync encountered no errors
never failed since start, sync ok
sync went through with no failures
no problems syncing with the backend
assignments synced, nobody was denied
all 512 assignments synced; none failed
sync finished in 312 ms, 0 errors
backend answered 200, no error
sync is not failing
the sync has not failed
did not time out, sync ok
sync done, nothing missing
sync finished: failed=0 invalid=0 expired=0
sync finished, failed assignments: 0
sync finished; failure count: 0
errors during sync: 0
no need to retry the sync
sync completed, fail=0
sync: errors 0, ok 512
"""
BAD_ENDS = """
sync finished with 1 error
sync not finished
no success in sync
sync: failed 3 of 512
sync did not finish
no answer from backend
sync: 0 succeeded
sync: errors 10
sync failed: 10 errors
nothing came back from the backend
sync not ok
backend is not reachable
sync failed, no retries left
sync failed without reason
no errors but no answer from the backend
sync ended with failures: 3
zero assignments synced, backend unavailable
sync: failed=05
could not sync, 0 assignments updated
sync failed (0 of 512 synced)
no sync possible
not synced
errors=1 failed=0
the backend returned 503
status 502 from the backend
the backend answered 429 twice
sync: code=500
"""


@pytest.mark.parametrize("text", GOOD_ENDS.strip().splitlines())
def test_no_failure_is_heard_where_it_is_denied(text: str) -> None:
    assert not speaks_of_failure(text)


@pytest.mark.parametrize("text", BAD_ENDS.strip().splitlines())
def test_a_failure_is_heard_beside_one_that_is_denied(text: str) -> None:
    assert speaks_of_failure(text)


@given(st.lists(st.sampled_from((GOOD_ENDS + BAD_ENDS).split()), min_size=1, max_size=8).map(" ".join))
def test_the_quick_look_at_words_hides_no_failure(text: str) -> None:
    """Most texts are passed over by their words alone: whoever adds a failure of several words names its beginning."""
    left = trouble._DENIED_FAILURE.sub(" ", text.lower())
    assert speaks_of_failure(text) == bool(trouble._FAILURE.search(left) or trouble._FAILURE_ABROAD.search(left))


def test_a_failure_within_a_long_word_is_found_and_long_words_are_not_remembered() -> None:
    before = trouble._may_fail.cache_info().currsize
    assert speaks_of_failure("x" * 500 + "failed" + "x" * 500)
    assert not speaks_of_failure("x" * 1000)
    assert trouble._may_fail.cache_info().currsize == before


def test_of_a_huge_text_only_the_beginning_is_searched() -> None:
    """Else a line of a megabyte would keep everything else waiting for seconds."""
    for filler, found in ((10_000, "backend_not_resolved"), (20_000, UNKNOWN)):
        line = f'{{"message":"{"x " * (filler // 2)}dial tcp: lookup x: no such host","timestamp":"2026-11-01T00:00:00Z"}}'.encode()
        assert Catalogue().recognise("licenses", split("licenses", [line], None, True).records)[0].message == found


def test_what_is_searched_for_in_rows_lies_within_one_column() -> None:
    """Rows are searched by their columns, also where a description is composed of several."""
    for message in MESSAGES:
        if message.log == "repository_audit":
            assert message.texts
            assert not [text for text in message.texts if set(text) & set("\t\n=;")]
