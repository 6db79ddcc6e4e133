"""Every reason and every stage of a direct probe, against real listeners on loopback."""

import asyncio
import datetime
import email.utils
import select
import socket
import ssl
import time
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from probe_peers import (
    AUTHORITY,
    CERTIFICATE,
    CERTIFICATE_ENDS,
    NOT_FOUND,
    Handler,
    answering,
    black_hole,
    closed_at_once,
    closed_port,
    closing,
    days,
    endless,
    ends_at,
    listening,
    probed,
    request_head,
    resetting,
    saying,
    secured,
    serving,
    silent,
    to,
    written,
)

from exporter.config import Duration
from exporter.probes import CURES, probe

GOOD = answering(NOT_FOUND)
QUICK = Duration(0.6)

pytestmark = pytest.mark.windows


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("ca") / "ca.pem", AUTHORITY.cert_pem.bytes())


# --- the good case ----------------------------------------------------------------------------------------------------


def test_a_healthy_backend_answers_404_and_every_stage_is_timed(ca_file: str) -> None:
    asked: list[bytes] = []
    with listening(secured(serving(CERTIFICATE), answering(NOT_FOUND, asked))) as port:
        before = time.time()
        result = probed(to(port, ca_file, role="backend"))
    assert (result.success, result.reason, result.status, result.ip_protocol) == (True, None, 404, 4)
    assert set(result.phases) == {"dns", "connect", "tls", "http"}
    assert result.tls_version == "TLSv1.3"
    assert result.issuer == "Acme Root"
    assert result.issuer_expected is None
    assert not result.proxied
    assert before <= result.at <= result.ended <= time.time()
    assert (result.target, result.role) == (f"localhost:{port}", "backend")
    assert [line.partition(":")[0] for line in result.story] == ["start", "dns", "connect", "tls", "http"]
    assert asked[0].startswith(b"GET / HTTP/1.1\r\n")
    assert f"Host: localhost:{port}\r\n".encode() in asked[0]


@pytest.mark.parametrize("kind", ["SelectorEventLoop", "ProactorEventLoop"])
def test_a_probe_runs_on_every_kind_of_event_loop(kind: str, ca_file: str) -> None:
    loop_factory = getattr(asyncio, kind, asyncio.SelectorEventLoop)  # Proactor is Windows' own
    with listening(secured(serving(CERTIFICATE), GOOD)) as port, asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(probe(to(port, ca_file))).success
        assert runner.run(probe(to(port))).reason == "tls_untrusted"
        assert runner.run(probe(to(closed_port(), timeout=Duration(20)))).reason == "tcp_refused"
        with listening(silent) as says_nothing:
            assert runner.run(probe(to(says_nothing, timeout=QUICK))).reason == "tls_timeout"


@pytest.mark.parametrize(
    ("protocol", "handler", "phases"),
    [
        ("tcp", silent, {"dns", "connect"}),
        ("tls", secured(serving(CERTIFICATE), silent), {"dns", "connect", "tls"}),
        ("http", GOOD, {"dns", "connect", "http"}),
    ],
)
def test_a_probe_goes_as_far_as_its_protocol(protocol: str, handler: Handler, phases: set[str], ca_file: str) -> None:
    with listening(handler) as port:
        result = probed(to(port, ca_file, protocol=protocol))
    assert result.success
    assert set(result.phases) == phases


def test_the_path_and_the_statuses_are_settings() -> None:
    asked: list[bytes] = []
    with listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n", asked)) as port:
        assert probed(to(port, protocol="http", path="/health?x=1", expected_statuses=(200, 204))).success
    assert asked[0].startswith(b"GET /health?x=1 ")


# --- connect ----------------------------------------------------------------------------------------------------------


def test_a_closed_port_is_refused() -> None:
    result = probed(to(closed_port()))
    assert result.reason == "tcp_refused"
    assert set(result.phases) == {"dns", "connect"}
    assert (result.status, result.ip_protocol, result.cert_expiry) == (None, None, None)


def test_a_silent_address_is_a_timeout() -> None:
    with black_hole() as port:
        result = probed(to(port, timeout=QUICK))
    assert result.reason == "tcp_timeout"
    assert set(result.phases) == {"dns", "connect"}
    assert result.phases["connect"] > QUICK / 2


def test_an_address_without_a_route_is_unreachable() -> None:
    # Linux refuses TCP to a multicast address with ENETUNREACH, whatever its routes are; nothing is sent.
    assert probed(to(80, target="224.0.0.1:80")).reason == "tcp_unreachable"


# --- tls --------------------------------------------------------------------------------------------------------------


def test_hazard_130_a_private_ca_is_untrusted_until_ca_file_names_it(ca_file: str, tmp_path: Path) -> None:
    der = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes()).public_bytes(serialization.Encoding.DER)
    with listening(secured(serving(CERTIFICATE), GOOD)) as port:
        untrusted = probed(to(port))
        trusted = [probed(to(port, file)) for file in (ca_file, written(tmp_path / "ca.cer", der))]
    assert untrusted.reason == "tls_untrusted"
    assert "Acme Root" in untrusted.detail
    assert set(untrusted.phases) == {"dns", "connect", "tls"}
    assert [result.success for result in trusted] == [True, True]


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_ca_file_that_cannot_be_used_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "company.pem"
    if content is not None:
        file.write_bytes(content)
    result = probed(to(closed_port(), str(file)))
    assert result.reason == "other"
    assert "company.pem" in result.detail
    assert not result.phases


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificates_are_shown_also_when_they_do_not_verify(version: ssl.TLSVersion, ca_file: str) -> None:
    context = serving(CERTIFICATE)
    context.maximum_version = version
    with listening(secured(context, GOOD)) as port:
        verified, untrusted = probed(to(port, ca_file)), probed(to(port))
    assert verified.success
    assert untrusted.reason == "tls_untrusted"
    for result in (verified, untrusted):
        assert result.tls_version == version.name.replace("_", ".")
        assert result.issuer == "Acme Root"
        assert result.cert_expiry == CERTIFICATE_ENDS
        assert result.chain_expiry == result.cert_expiry


@pytest.mark.parametrize(
    ("names", "starts", "ends", "reason"),
    [
        (("localhost",), -20, -2, "tls_expired"),
        (("localhost",), 2, 20, "tls_expired"),
        (("elsewhere.example",), -1, 20, "tls_hostname"),
        (("10.1.2.3",), -1, 20, "tls_hostname"),
    ],
)
def test_a_certificate_that_is_not_for_now_or_not_for_this_host(
    names: tuple[str, ...], starts: float, ends: float, reason: str, ca_file: str
) -> None:
    certificate = AUTHORITY.issue_cert(*names, not_before=days(starts), not_after=days(ends))
    with listening(secured(serving(certificate), GOOD)) as port:
        result = probed(to(port, ca_file))
    assert result.reason == reason
    assert result.cert_expiry == ends_at(certificate.cert_chain_pems[0].bytes())
    assert result.issuer == "Acme Root"
    assert set(result.phases) == {"dns", "connect", "tls"}


def test_an_address_is_compared_with_the_addresses_in_the_certificate(ca_file: str) -> None:
    elsewhere = AUTHORITY.issue_cert("127.0.0.2")
    with listening(secured(serving(CERTIFICATE), GOOD)) as good, listening(secured(serving(elsewhere), GOOD)) as bad:
        assert probed(to(0, ca_file, target=f"127.0.0.1:{good}")).success
        assert probed(to(0, ca_file, target=f"127.0.0.1:{bad}")).reason == "tls_hostname"


def self_signed(path: Path, common_name: str, ends: float, organisation: str | None = None) -> Path:
    """A file with a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        names.append(x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organisation))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(x509.Name(names))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(days(-100))
        .not_valid_after(days(ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def with_file(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_self_signed_certificate_is_untrusted_and_its_host_is_no_issuer(tmp_path: Path) -> None:
    file = self_signed(tmp_path / "server.pem", "QLIKNODE1-CA", ends=10)
    with listening(secured(with_file(file), GOOD)) as port:
        result = probed(to(port, expected_issuers=("Amazon",)))
        trusted = probed(to(port, str(file)))
    assert result.reason == "tls_untrusted"
    assert result.issuer == ""  # the issuer names no organisation, and a host never becomes a label
    assert result.issuer_expected is False
    assert trusted.success


def test_an_issuer_is_at_most_64_printable_characters(tmp_path: Path) -> None:
    file = self_signed(tmp_path / "server.pem", "x", 10, organisation="Évil\u202e\n\t" + "x" * 60)
    with listening(secured(with_file(file), GOOD)) as port:
        issuer = probed(to(port)).issuer
    assert issuer == ("Évil  " + "x" * 60)[:64]


def test_hazard_128_the_earliest_end_of_the_chain_is_apart_from_the_leaf(ca_file: str, tmp_path: Path) -> None:
    cross = self_signed(tmp_path / "cross.pem", "Old Root", ends=-1).read_bytes()
    file = tmp_path / "chain.pem"
    leaf = CERTIFICATE.cert_chain_pems[0].bytes()
    file.write_bytes(CERTIFICATE.private_key_pem.bytes() + leaf + cross.partition(b"-----BEGIN PRIVATE")[0])
    with listening(secured(with_file(file), GOOD)) as port:
        verified, untrusted = probed(to(port, ca_file)), probed(to(port))
    assert verified.success
    assert untrusted.reason == "tls_untrusted"
    for result in (verified, untrusted):
        assert result.cert_expiry == CERTIFICATE_ENDS
        assert result.chain_expiry == ends_at(cross)


def test_a_chain_over_an_intermediate_is_verified_to_the_root_or_to_the_intermediate(
    ca_file: str, tmp_path: Path
) -> None:
    between = AUTHORITY.create_child_ca()
    leaf = between.issue_cert("localhost")
    issuing = written(tmp_path / "issuing.pem", between.cert_pem.bytes())
    with listening(secured(serving(leaf), GOOD)) as port:
        assert probed(to(port, ca_file)).success
        assert probed(to(port, issuing)).success
        assert probed(to(port)).reason == "tls_untrusted"


@pytest.mark.parametrize(
    ("expected", "as_expected"), [(("Amazon", "acme root "), True), (("Amazon",), False), ((), None)]
)
def test_an_unexpected_issuer_is_visible_even_where_its_ca_is_trusted(
    expected: tuple[str, ...], as_expected: bool | None, ca_file: str
) -> None:
    with listening(secured(serving(CERTIFICATE), GOOD)) as port:
        result = probed(to(port, ca_file, expected_issuers=expected))
    assert result.success
    assert result.issuer_expected is as_expected


def test_a_server_of_tls_1_0_only_is_a_handshake_failure(ca_file: str) -> None:
    context = serving(CERTIFICATE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    with listening(secured(context, GOOD)) as port:
        result = probed(to(port, ca_file))
    assert result.reason == "tls_handshake"
    assert "protocol" in result.detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", "plain HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not TLS"),
        (b"<html>no</html>", "not TLS"),
        (bytes(range(64)) * 4, "not TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "handshake failure"),
    ],
)
def test_what_does_not_speak_tls_is_a_handshake_failure(answer: bytes, words: str) -> None:
    with listening(saying(answer)) as port:
        result = probed(to(port))
    assert result.reason == "tls_handshake"
    assert words in result.detail
    assert set(result.phases) == {"dns", "connect", "tls"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_wanted_client_certificate_is_a_handshake_failure(version: ssl.TLSVersion, ca_file: str) -> None:
    context = serving(CERTIFICATE)
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    with listening(secured(context, GOOD)) as port:
        result = probed(to(port, ca_file))
    assert result.reason == "tls_handshake"
    assert result.issuer == "Acme Root"


# --- silence and resets, stage by stage -------------------------------------------------------------------------------

SECURE = serving(CERTIFICATE)
HALF_A_BODY = b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\nsome"


@pytest.mark.parametrize(
    ("handler", "reason", "phase", "status"),
    [
        (silent, "tls_timeout", "tls", None),
        (secured(SECURE, silent), "http_timeout", "http", None),
        (secured(SECURE, saying(b"HTTP/1.1 404 Not")), "http_timeout", "http", None),
        (secured(SECURE, saying(HALF_A_BODY)), "http_timeout", "http", 404),
    ],
)
@pytest.mark.slow
def test_silence_is_named_by_the_stage_it_falls_into(
    handler: Handler, reason: str, phase: str, status: int | None, ca_file: str
) -> None:
    with listening(handler) as port:
        result = probed(to(port, ca_file, timeout=QUICK))
    assert (result.reason, list(result.phases)[-1], result.status) == (reason, phase, status)


@pytest.mark.parametrize(
    ("handler", "phase"),
    [
        (resetting, "tls"),
        (closed_at_once, "tls"),
        (secured(SECURE, resetting), "http"),
        (secured(SECURE, closed_at_once), "http"),
        (secured(SECURE, answering(b"HTTP/1.1 404 Not Found\r\nContent-Le")), "http"),
        (secured(SECURE, answering(HALF_A_BODY)), "http"),
        (secured(SECURE, answering(b"HTTP/1.1 404 N\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")), "http"),
    ],
)
def test_a_connection_cut_before_its_end_is_a_reset_at_each_stage(handler: Handler, phase: str, ca_file: str) -> None:
    with listening(handler) as port:
        result = probed(to(port, ca_file))
    assert (result.reason, list(result.phases)[-1]) == ("reset", phase), result.story


# --- http -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "itself"), [(429, True), (500, True), (503, True), (511, False), (403, False)])
def test_an_error_of_the_server_itself_is_told_from_a_page_of_somebody_else(
    status: int, itself: bool, ca_file: str
) -> None:
    page = f"HTTP/1.1 {status} Hello\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno"
    with listening(secured(SECURE, answering(page.encode()))) as port:
        result = probed(to(port, ca_file))
        inspected = probed(to(port, ca_file, expected_issuers=("Amazon",)))
    with listening(answering(page.encode())) as port:
        plain = probed(to(port, ca_file, protocol="http"))
    assert (result.reason, result.status, result.server_error) == ("http_status", status, itself)
    assert ("an error of the server itself" in result.detail) == itself
    assert ("HTML page" in result.detail) == (not itself)
    assert ("the connection to it works" in result.cure) == itself
    for told in (inspected, plain):
        assert (told.reason, told.server_error) == ("http_status", False)
        assert "HTML page" in told.detail
        assert told.cure == CURES["http_status"]


@pytest.mark.parametrize("status", [200, 302, 403, 407, 500, 599])
def test_a_page_of_somebody_else_is_down_and_its_status_is_shown(status: int, ca_file: str) -> None:
    page = f"HTTP/1.1 {status} Hello\r\nServer: Filter/1\r\nLocation: https://login.example/?u=j.doe\r\n"
    with listening(secured(SECURE, answering(page.encode() + b"Content-Length: 2\r\n\r\nno"))) as port:
        result = probed(to(port, ca_file))
    assert (result.reason, result.status) == ("http_status", status)
    assert "Filter/1" in result.detail
    assert "login.example" in result.detail
    assert "j.doe" not in result.detail
    assert set(result.phases) == {"dns", "connect", "tls", "http"}


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/9 what\r\n\r\n",
        b"HTP/1.1 404 Not Found\r\n\r\n",
        b"\x00\xff" * 40,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\n" + b"X-A: " + b"a" * 200_000,
        b"HTTP/1.1 404 Not Found\r\n" + b"not a header\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000,
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_is_no_http(answer: bytes) -> None:
    with listening(saying(answer)) as port:
        result = probed(to(port, protocol="http"))
    assert result.reason == "http_protocol"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\n\r\nuntil the end",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + NOT_FOUND,
        b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_every_form_of_a_404_is_healthy(answer: bytes, ca_file: str) -> None:
    with listening(answering(answer)) as plain, listening(secured(SECURE, answering(answer))) as port:
        assert probed(to(plain, protocol="http")).success
        assert probed(to(port, ca_file)).success


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 1000),
    ],
)
def test_an_endless_body_is_read_to_a_limit_and_no_further(head: bytes, piece: bytes, ca_file: str) -> None:
    with listening(secured(SECURE, endless(head, piece))) as port:
        result = probed(to(port, ca_file, timeout=Duration(30)))
    assert result.success
    assert result.phases["http"] < 15


def dated(offset: float, *more: str) -> bytes:
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset)
    lines = ["HTTP/1.1 404 Not Found", f"Date: {email.utils.format_datetime(date, usegmt=True)}", "Content-Length: 0"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


@pytest.mark.parametrize(
    ("offset", "more", "skew"),
    [(0, (), 0), (-600, (), 600), (600, (), -600), (-600, ("Age: 540",), 60), (-600, ("Age: old",), 600)],
)
def test_the_clock_is_compared_with_the_answers_date(offset: float, more: tuple[str, ...], skew: float) -> None:
    with listening(answering(dated(offset, *more))) as port:
        result = probed(to(port, protocol="http"))
    assert result.clock_skew == pytest.approx(skew, abs=3)


@pytest.mark.slow
def test_half_the_round_trip_is_taken_off_the_clock_skew() -> None:
    def slow(connection: socket.socket) -> None:
        request_head(connection)
        answer = dated(0)
        select.select([connection], [], [], 2)  # a way back of two seconds
        connection.sendall(answer)
        closing(connection)

    with listening(slow) as port:
        result = probed(to(port, protocol="http"))
    assert result.clock_skew is not None
    assert (
        0.9 < result.clock_skew < 2.2
    )  # one second too much, since the way back took all of it; the date has no parts


@pytest.mark.parametrize("date", ["", "Date: yesterday\r\n", "Date: Thu, 99 Foo 2020 00:00:00 GMT\r\n"])
def test_without_a_usable_date_there_is_no_clock_skew(date: str) -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n" + date.encode() + b"\r\n"
    with listening(answering(answer)) as port:
        result = probed(to(port, protocol="http"))
    assert result.success
    assert result.clock_skew is None
