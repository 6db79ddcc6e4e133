"""Probes through proxies that want NTLM or Negotiate: a real handshake, and every way to spoil it."""

import base64
import getpass
import logging
import socket
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import h11
import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from login_peers import (
    Refusal,
    accounts,
    announced_close,
    announced_proxy_close,
    folded,
    folded_within,
    http_1_0,
    in_chunks,
    joined,
    logging_in,
    refusal,
    tunnelled,
    unframed,
)
from probe_peers import (
    AUTHORITY,
    CERTIFICATE,
    NOT_FOUND,
    answering,
    header,
    listening,
    probed,
    request_head,
    secured,
    serving,
    to,
    written,
)

from exporter.config import Duration
from exporter.probes import ProbeResult, proxy
from exporter.probes.exchange import LARGEST_HEAD
from exporter.probes.login import own_account
from exporter.probes.proxy import offered_schemes

assert accounts  # a fixture

SECURE = serving(CERTIFICATE)
PASSWORD = "hidden-p@ss"
Requests = list[tuple[socket.socket, bytes]]


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("ca") / "ca.pem", AUTHORITY.cert_pem.bytes())


def through(
    requests: Requests,
    ca_file: str,
    *,
    user: str = r"CONTOSO\svc",
    password: str = PASSWORD,
    url: str = "",
    **proxy: object,
) -> tuple[ProbeResult, list[bytes]]:
    """A probe through such a proxy, and what the target was asked."""
    asked: list[bytes] = []
    with (
        listening(secured(SECURE, answering(NOT_FOUND, asked))) as port,
        listening(logging_in(requests, **proxy)) as at,  # type: ignore[arg-type]
    ):
        login = {} if url or not user else {"proxy_user": user, "proxy_password": password}
        result = probed(to(port, ca_file, proxy=f"http://{url}127.0.0.1:{at}", **login))
    everything = str(result)
    for secret in (PASSWORD, "svc", "CONTOSO", "TlRMTVNTUA"):
        assert secret not in everything
    assert all(b"roxy-" not in request for request in asked), "nothing of the login leaves the tunnel request"
    return result, asked


def sent(requests: Requests) -> list[str]:
    """What was sent to the proxy as Proxy-Authorization, request by request, each NTLM message by its number."""
    found = []
    for _, head in requests:
        scheme, _, token = (header(head, b"proxy-authorization") or b"").decode().partition(" ")
        raw = base64.b64decode(token) if scheme == "NTLM" else b""
        found.append(f"NTLM {raw[8]}" if raw else scheme)
    return found


def connections(requests: Requests) -> list[int]:
    """By request: the number of its connection."""
    order = list(dict.fromkeys(id(connection) for connection, _ in requests))
    return [order.index(id(connection)) for connection, _ in requests]


# --- logins that succeed ----------------------------------------------------------------------------------------------


@pytest.mark.windows
@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("user", [r"CONTOSO\svc", r"contoso\SVC", "svc@CONTOSO.EXAMPLE"])
def test_a_user_with_a_domain_speaks_ntlm_on_one_connection(user: str, ca_file: str) -> None:
    requests: Requests = []
    result, asked = through(requests, ca_file, user=user)
    assert result.success, result.story
    assert (sent(requests), connections(requests)) == (["", "NTLM 1", "NTLM 3"], [0, 0, 0])
    assert all(header(head, b"proxy-connection") == b"Keep-Alive" for _, head in requests)
    assert set(result.phases) == {"connect", "proxy", "tls", "http"}
    assert len(asked) == 1
    assert any(line.startswith("proxy: logging in with NTLM") for line in result.story)


@pytest.mark.usefixtures("accounts")
def test_the_user_and_the_password_can_stand_in_the_address(ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, url="CONTOSO%5Csvc:hidden-p%40ss@")
    assert result.success, result.story
    assert sent(requests) == ["", "NTLM 1", "NTLM 3"]


@pytest.mark.windows
@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("offers", "schemes"),
    [
        (["NTLM"], ["", "NTLM 1", "NTLM 3"]),
        (["NTLM", "Negotiate"], ["", "NTLM 1", "NTLM 3"]),
        (['Basic realm="x"', "NTLM"], ["", "NTLM 1", "NTLM 3"]),
        (["NTLM", 'Basic realm="x"', "Negotiate"], ["", "NTLM 1", "NTLM 3"]),
    ],
)
@pytest.mark.parametrize("told", [refusal, joined])
def test_offers_may_come_in_any_order(offers: list[str], schemes: list[str], told: Refusal, ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, offers=offers, first=told)
    assert result.success, result.story
    assert sent(requests) == schemes


@pytest.mark.usefixtures("accounts")
def test_a_proxy_that_offers_negotiate_alone_gets_ntlm_inside_it(ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, offers=["Negotiate"])
    assert result.success, result.story
    assert sent(requests) == ["", "Negotiate", "Negotiate"]
    assert connections(requests) == [0, 0, 0]


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("told", [in_chunks, folded, folded_within, joined])
def test_a_challenge_is_found_however_it_is_sent(told: Refusal, ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, first=told, second=told)
    assert result.success, result.story
    assert connections(requests) == [0, 0, 0]


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("told", [announced_close, announced_proxy_close, http_1_0, unframed])
def test_a_proxy_may_close_after_it_has_told_its_offers(told: Refusal, ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, first=told)
    assert result.success, result.story
    assert connections(requests) == [0, 1, 1]


@pytest.mark.usefixtures("accounts")
def test_a_user_without_a_domain_is_tried_by_basic_and_then_by_ntlm(ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, user="plain")
    assert result.success, result.story
    assert sent(requests) == ["Basic", "NTLM 1", "NTLM 3"]


def test_a_user_with_a_domain_uses_basic_where_nothing_else_is_offered(ca_file: str) -> None:
    requests: Requests = []
    right = base64.b64encode(rf"CONTOSO\svc:{PASSWORD}".encode())
    for closes_after in (0, 1):
        requests.clear()
        result, _ = through(
            requests, ca_file, offers=["Digest realm=x", "Basic realm=x"], basic=right, closes_after=closes_after
        )
        assert result.success, result.story
        assert sent(requests) == ["", "Basic"]


# --- logins that fail -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    "offers",
    [
        pytest.param(["NTLM"], marks=pytest.mark.windows),
        ["Negotiate"],  # Wine's SSPI crashes on a user and a password
        pytest.param(["NTLM", 'Basic realm="x"'], marks=pytest.mark.windows),
    ],
)
@pytest.mark.parametrize(("user", "password"), [(r"CONTOSO\svc", "wrong"), (r"CONTOSO\nobody", PASSWORD)])
def test_wrong_credentials_are_proxy_auth_and_are_sent_once(
    offers: Sequence[str], user: str, password: str, ca_file: str
) -> None:
    requests: Requests = []
    result, asked = through(requests, ca_file, user=user, password=password, offers=offers)
    assert (result.success, result.reason) == (False, "proxy_auth"), result.story
    assert "rejected the user name and password" in result.detail
    assert len(requests) == 3
    assert not asked


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("offers", "asked"), [(["NTLM"], ["", "NTLM 1", "NTLM 3"]), (['Basic realm="x"'], ["", "Basic"])]
)
def test_credentials_that_are_refused_again_and_again_rest_so_that_no_account_is_locked(
    offers: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: Requests = []

    def once(password: str = "wrong") -> ProbeResult:
        requests.clear()
        return probed(to(443, proxy=url, proxy_user=r"CONTOSO\svc", proxy_password=password))

    with listening(logging_in(requests, offers=offers)) as at:
        url = f"http://127.0.0.1:{at}"
        for _ in range(proxy.MOST_REFUSALS):
            assert once().tried
            assert sent(requests) == asked
        rests = once()
        assert (rests.success, rests.reason, rests.tried) == (False, "proxy_auth", False)
        assert "several times in a row; the login is tried again after a pause" in rests.detail
        assert rests.event is None, "a failure that was not found out now speaks against no sync"
        assert sent(requests) == [""], "the proxy is asked, the password is not sent"
        other = once("other")
        assert other.tried, "other credentials are tried at once"
        assert sent(requests) == asked
        monkeypatch.setattr(proxy, "REST", 0.0)
        assert once().tried
        assert sent(requests) == asked


def test_a_proxy_that_wants_no_login_any_more_is_noticed_while_credentials_rest(ca_file: str) -> None:
    wants = [True]

    def moody(connection: socket.socket) -> None:
        if not wants:
            return tunnelled(connection, request_head(connection))
        return logging_in([], offers=["Basic realm=x"])(connection)

    with listening(secured(SECURE, answering(NOT_FOUND))) as port, listening(moody) as at:
        settings = to(port, ca_file, proxy=f"http://127.0.0.1:{at}", proxy_user="svc", proxy_password="wrong")
        assert [probed(settings).tried for _ in range(4)] == [True, True, True, False]
        wants.clear()
        assert probed(settings).success


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("told", [announced_close, announced_proxy_close, http_1_0, unframed])
def test_a_proxy_that_announces_a_close_between_the_steps_is_inconclusive(told: Refusal, ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, second=told)
    assert (result.success, result.reason) == (None, None)
    assert "closes the connection between the steps of NTLM" in result.detail
    assert sent(requests) == ["", "NTLM 1"], "nothing that proves a password is sent on another connection"


@pytest.mark.usefixtures("accounts")
def test_a_proxy_that_closes_unannounced_between_the_steps_is_inconclusive(ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, closes_after=1)
    assert (result.success, result.reason) == (None, None)
    assert "closes the connection between the steps of NTLM" in result.detail
    assert sent(requests) == ["", "NTLM 1"]


def test_a_proxy_that_closes_every_connection_at_once_is_a_failure(ca_file: str) -> None:
    with listening(lambda connection: None) as at:
        result = probed(to(443, proxy=f"http://127.0.0.1:{at}", proxy_user="A\\b", proxy_password="c"))
    assert result.reason == "proxy_connect"


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        ("NTLM", "sent no NTLM challenge"),
        ("NTLM a", "is not base64"),
        ("NTLM TlRMTVNTUAA=", "NTLM did not go on"),
        ("NTLM TlRMTVNTUAACAAAA//////////8=", "NTLM did not go on"),
        ("NTLM " + base64.b64encode(b"NTLMSSP\0\2" + bytes(200)).decode(), ""),
        ("NTLM " + base64.b64encode(bytes(range(256)) * 90).decode(), "NTLM did not go on"),
    ],
)
def test_a_challenge_that_is_none_is_inconclusive(challenge: str, words: str, ca_file: str) -> None:
    def silly(connection: socket.socket) -> None:
        while connection.recv(4096):
            connection.sendall(refusal([challenge]))

    with listening(silly) as at:
        result = probed(to(443, proxy=f"http://127.0.0.1:{at}", proxy_user="A\\b", proxy_password="hidden-pw"))
    assert result.success is not True
    if words:
        assert (result.success, result.reason) == (None, None)
        assert words in result.detail
    assert "hidden-pw" not in str(result)
    assert "NTLMSSP" not in str(result)


def test_a_login_that_never_ends_is_ended(ca_file: str) -> None:
    asked = []

    def endless(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            asked.append(data)
            # As much of SPNEGO as says: go on.
            connection.sendall(refusal(["Negotiate oQcwBaADCgEB"]))

    with listening(endless) as at:
        result = probed(to(443, proxy=f"http://127.0.0.1:{at}", proxy_user="A\\b", proxy_password="c"))
    assert result.success is None
    assert len(asked) < 10


@pytest.mark.slow
@pytest.mark.usefixtures("accounts")
def test_a_body_that_does_not_end_costs_the_deadline_and_one_too_large_the_connection(ca_file: str) -> None:
    slow = partial(refusal, framing="Content-Length: 10\r\n\r\nx")
    large = partial(refusal, framing=f"Content-Length: {1 << 30}\r\n\r\n{'x' * (1 << 17)}")
    for told, reason in ((slow, "proxy_connect"), (large, None)):
        with listening(logging_in([], second=told)) as at:
            login = {"proxy_user": r"CONTOSO\svc", "proxy_password": PASSWORD}
            result = probed(to(443, proxy=f"http://127.0.0.1:{at}", timeout=Duration(2), **login))
        assert result.reason == reason, result.story
        assert not result.success


@pytest.mark.parametrize("offers", [["NTLM"], ["Negotiate", "NTLM"], ["Negotiate"]])
def test_without_a_password_and_without_kerberos_it_is_inconclusive(offers: list[str], ca_file: str) -> None:
    requests: Requests = []
    result, _ = through(requests, ca_file, user="", offers=offers)
    assert (result.success, result.reason) == (None, None)
    assert "no user name and password" in result.detail
    assert sent(requests) == [""]


if sys.platform == "win32":  # Wine has no login to give: what is there besides is shown

    @pytest.mark.windows
    def test_the_account_that_the_probe_runs_as_is_named_with_its_domain() -> None:
        domain, separator, name = own_account().partition("\\")
        assert domain
        assert (separator, name) == ("\\", getpass.getuser())

    @pytest.mark.windows
    @pytest.mark.parametrize("offers", [["NTLM"], ["Negotiate"], ["NTLM", "Negotiate"]])
    def test_a_system_that_has_no_login_to_give_makes_the_probe_inconclusive(offers: list[str]) -> None:
        with listening(logging_in([], offers=offers)) as proxy:
            result = probed(to(443, proxy=f"http://127.0.0.1:{proxy}"))
        assert (result.success, result.reason) == (None, None)
        assert "cannot be started here" in result.detail


@pytest.mark.slow
def test_a_machine_that_hangs_when_asked_for_a_login_makes_the_probe_inconclusive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A domain controller that does not answer stands behind it: not the proxy's fault."""
    over = threading.Event()
    monkeypatch.setattr(spnego, "client", lambda *args, **options: over.wait(20))
    monkeypatch.setattr(proxy, "LOGIN_SECONDS", 0.3)
    with listening(logging_in([])) as at:
        for _ in range(6):
            result = probed(to(443, proxy=f"http://127.0.0.1:{at}", proxy_user="A\\b", proxy_password="c"))
            assert (result.success, result.reason) == (None, None)
            assert "this machine provided no login within 0.3 s" in result.detail
    over.set()


@pytest.mark.usefixtures("accounts")
def test_a_proxy_that_speaks_tls_itself_gets_the_login_inside_it(ca_file: str) -> None:
    requests: Requests = []
    with (
        listening(secured(SECURE, answering(NOT_FOUND))) as port,
        listening(secured(SECURE, logging_in(requests, first=announced_close))) as at,
    ):
        url = f"https://localhost:{at}"
        result = probed(to(port, ca_file, proxy=url, proxy_user=r"CONTOSO\svc", proxy_password=PASSWORD))
    assert result.success, result.story
    assert (sent(requests), connections(requests)) == (["", "NTLM 1", "NTLM 3"], [0, 1, 1])


# --- what the Licenses service is set to ------------------------------------------------------------------------------


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("lines", "success", "schemes"),
    [
        ("-proxy-username=CONTOSO\\svc\n-proxy-password=hidden-p@ss", True, ["", "NTLM 1", "NTLM 3"]),
        (
            "-proxy-basic-authentication=false\n-proxy-username=CONTOSO\\svc\n-proxy-password=hidden-p@ss",
            True,
            ["", "NTLM 1", "NTLM 3"],
        ),
        (
            "-proxy-basic-authentication=true\n-proxy-username=CONTOSO\\svc\n-proxy-password=hidden-p@ss",
            None,
            ["Basic"],
        ),
        (
            "-proxy-basic-authentication=false\n-proxy-username=CONTOSO\\svc\n-proxy-password=wrong",
            False,
            ["", "NTLM 1", "NTLM 3"],
        ),
        (
            "-proxy-basic-authentication=false\n-proxy-username=svc\n-proxy-password=hidden-p@ss",
            None,
            ["", "NTLM 1", "NTLM 3"],
        ),
    ],
)
def test_the_licenses_services_own_login_is_used_as_it_is_set(
    lines: str, success: bool | None, schemes: list[str], ca_file: str, tmp_path: Path
) -> None:
    requests: Requests = []
    with listening(secured(SECURE, answering(NOT_FOUND))) as port, listening(logging_in(requests)) as at:
        file = tmp_path / "Qlik" / "Sense" / "ServiceDispatcher" / "services.conf"
        file.parent.mkdir(parents=True)
        file.write_text(f"[licenses.parameters]\n-proxy-uri=http://127.0.0.1:{at}\n{lines}\n")
        result = probed(to(port, ca_file, proxy="auto"), environ={"ProgramFiles": str(tmp_path)})
    assert result.success is success, result.story
    assert sent(requests) == schemes
    assert "svc" not in str(result)


# --- secrecy ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("accounts")
def test_nothing_of_a_login_reaches_a_log(ca_file: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    result, _ = through([], ca_file, offers=["Negotiate"])
    assert result.success, result.story
    through([], ca_file, password="wrong")
    assert "TlRMTVNTUA" not in caplog.text
    assert "oY" not in caplog.text
    assert PASSWORD not in caplog.text


# --- challenges that are made to be slow ------------------------------------------------------------------------------


@given(st.text(alphabet='ab =,"\\\\/+\t', max_size=80))
def test_any_header_is_read_as_some_challenges(text: str) -> None:
    for scheme in offered_schemes(challenged(text)):
        assert scheme
        assert not set(scheme) & set(' ,="\t')


@pytest.mark.parametrize("text", ['X{}"', "X a{}=", '"{}', 'X {}"\\', "X a={},"])
@pytest.mark.parametrize("filling", [" ", "a", "=", '"', "\\", "a ", ', "', " ="])
def test_no_header_takes_long_to_read(text: str, filling: str) -> None:
    started = time.process_time()
    offered_schemes(challenged(text.format(filling * (LARGEST_HEAD // len(filling)))))
    assert time.process_time() - started < 1


def challenged(text: str) -> h11.Response:
    # As h11 hands it on: it has checked the characters, and stripped the ends.
    return h11.Response(status_code=407, headers=[("Proxy-Authenticate", text.strip())])
