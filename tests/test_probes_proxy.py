"""Probes through proxies: fake ones for every way to fail, tinyproxy for a real one."""

import base64
import contextlib
import functools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from probe_peers import (
    AUTHORITY,
    CERTIFICATE,
    NOT_FOUND,
    PATIENCE,
    Handler,
    answering,
    black_hole,
    closed_at_once,
    closed_port,
    header,
    listening,
    probed,
    proxying,
    resetting,
    saying,
    secured,
    serving,
    silent,
    to,
    written,
)

from exporter.config import Duration
from exporter.probes import Address, ProbeResult

SECURE = serving(CERTIFICATE)
GOOD = secured(SECURE, answering(NOT_FOUND))
CREDENTIALS = base64.b64encode(b"DOMAIN\\svc:p@ss:w\xc3\xb6rd")
URL_CREDENTIALS = "DOMAIN%5Csvc:p%40ss%3Aw%C3%B6rd"


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("ca") / "ca.pem", AUTHORITY.cert_pem.bytes())


def nobody(host: str, port: int, family: int) -> list[Address]:
    raise AssertionError(f"{host} was looked up here")


@pytest.mark.windows
def test_hazard_129_a_tunnel_is_asked_for_and_credentials_go_on_connect_only(ca_file: str) -> None:
    requests: list[bytes] = []
    asked: list[bytes] = []
    with (
        listening(secured(SECURE, answering(NOT_FOUND, asked))) as port,
        listening(proxying(requests, credentials=CREDENTIALS)) as proxy,
    ):
        result = probed(to(port, ca_file, proxy=f"http://{URL_CREDENTIALS}@127.0.0.1:{proxy}"))
    assert result.success, result.story
    assert result.proxied
    assert set(result.phases) == {"connect", "proxy", "tls", "http"}
    assert all(head.startswith(f"CONNECT localhost:{port} HTTP/1.1\r\n".encode()) for head in requests)
    assert [header(head, b"proxy-authorization") for head in requests] == [None, b"Basic " + CREDENTIALS]
    assert header(asked[0], b"proxy-authorization") is None
    told = " ".join((result.detail, *result.story))
    assert "svc" not in told
    assert "p@ss" not in told
    assert f"http://127.0.0.1:{proxy}" in told


@pytest.mark.parametrize("protocol", ["tcp", "tls", "http", "https"])
def test_every_protocol_goes_through_the_tunnel(protocol: str, ca_file: str) -> None:
    handler = {"tcp": silent, "http": answering(NOT_FOUND)}.get(protocol, GOOD)
    requests: list[bytes] = []
    with listening(handler) as port, listening(proxying(requests)) as proxy:
        result = probed(to(port, ca_file, protocol=protocol, proxy=f"http://127.0.0.1:{proxy}"))
    assert result.success, result.story
    assert "proxy" in result.phases
    assert len(requests) == 1


def test_behind_a_proxy_the_targets_name_is_never_looked_up_here(ca_file: str) -> None:
    certificate = serving(AUTHORITY.issue_cert("license.example"))
    requests: list[bytes] = []
    with (
        listening(secured(certificate, answering(NOT_FOUND))) as port,
        listening(proxying(requests, ways={"license.example": port})) as proxy,
    ):
        settings = to(0, ca_file, target="license.example:443", proxy=f"http://127.0.0.1:{proxy}")
        result = probed(settings, resolver=nobody)
        names: list[str] = []

        def only_the_proxy(host: str, port: int, family: int) -> list[Address]:
            names.append(host)
            return [Address(socket.AF_INET, ("127.0.0.1", port))]

        named = probed(
            to(0, ca_file, target="license.example:443", proxy=f"http://proxy.example:{proxy}"), resolver=only_the_proxy
        )
    assert result.success, result.story
    assert "dns" not in result.phases
    assert named.success, named.story
    assert names == ["proxy.example"]


def test_a_proxy_whose_name_is_unknown_cannot_be_connected_to() -> None:
    def unknown(host: str, port: int, family: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    result = probed(to(443, proxy="http://proxy.example:3128"), resolver=unknown)
    assert result.reason == "proxy_connect"
    assert "proxy.example" in result.detail
    assert set(result.phases) == {"dns"}


def test_proxies_in_the_environment_are_not_obeyed(ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with listening(GOOD) as port:
        assert probed(to(port, ca_file)).success
        assert probed(to(port, ca_file, proxy="auto")).success


def conf(folder: Path, text: str) -> dict[str, str]:
    """An environment whose Program Files hold that services.conf."""
    file = folder / "Qlik" / "Sense" / "ServiceDispatcher" / "services.conf"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return {"ProgramFiles": str(folder)}


def test_a_proxy_address_with_an_unknown_interface_is_proxy_connect() -> None:
    assert probed(to(443, proxy="http://[fe80::1%nowhere]:3128")).reason == "proxy_connect"


@pytest.mark.parametrize(
    ("role", "proxied"), [("backend", True), ("other", True), ("repository", False), ("local", False), ("proxy", False)]
)
def test_auto_takes_the_licenses_services_own_proxy(role: str, proxied: bool, ca_file: str, tmp_path: Path) -> None:
    requests: list[bytes] = []
    with listening(GOOD) as port, listening(proxying(requests)) as proxy:
        environ = conf(tmp_path, f"[licenses.parameters]\n-proxy-uri=http://127.0.0.1:{proxy}\n")
        result = probed(to(port, ca_file, proxy="auto", role=role), environ=environ)
    assert result.success, result.story
    assert result.proxied is proxied
    assert len(requests) == proxied
    assert ("services.conf" in result.story[0]) is proxied


# --- proxies that do not let through ----------------------------------------------------------------------------------


def refusing(status: str, body: bytes = b"<html>no</html>") -> Handler:
    head = f"HTTP/1.1 {status}\r\nServer: Filter/1\r\nContent-Length: {len(body)}\r\n\r\n"
    return answering(head.encode() + body)


@pytest.mark.parametrize(
    "handler",
    [
        refusing("403 Forbidden"),
        refusing("302 Found"),
        refusing("502 Bad Gateway"),
        refusing("504 Gateway Timeout"),
        refusing("200 OK"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Log in</html>"),
        saying(b"SSH-2.0-OpenSSH_9.2\r\n"),
        saying(b"\x15\x03\x01\x00\x02\x02\x46"),
        closed_at_once,
        resetting,
        silent,
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_proxy_connect(handler: Handler) -> None:
    with listening(handler) as proxy:
        result = probed(to(443, proxy=f"http://127.0.0.1:{proxy}", timeout=Duration(0.6)))
    assert result.reason == "proxy_connect", result.story
    assert set(result.phases) == {"connect", "proxy"}
    assert result.status is None


@pytest.mark.parametrize(("status", "said"), [("502 Bad Gateway", True), ("504 X", True), ("403 Forbidden", False)])
def test_a_proxy_that_cannot_reach_the_target_itself_is_told_from_one_that_refuses(status: str, said: bool) -> None:
    with listening(refusing(status)) as proxy:
        result = probed(to(443, proxy=f"http://127.0.0.1:{proxy}"))
    assert result.reason == "proxy_connect"
    assert ("it does not reach localhost:443 itself" in result.detail) == said


def test_a_page_that_follows_an_opened_tunnel_is_the_proxys_own() -> None:
    def tunnel_then_page(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        saying(b"<html>Log in</html>")(connection)

    with listening(tunnel_then_page) as proxy:
        assert probed(to(443, proxy=f"http://127.0.0.1:{proxy}")).reason == "proxy_connect"


def test_a_proxy_that_is_not_there_is_proxy_connect() -> None:
    refused = probed(to(443, proxy=f"http://127.0.0.1:{closed_port()}"))
    with black_hole() as port:
        silent_proxy = probed(to(443, proxy=f"http://127.0.0.1:{port}", timeout=Duration(0.6)))
    for result in (refused, silent_proxy):
        assert result.reason == "proxy_connect"
        assert set(result.phases) == {"connect"}


def test_what_fails_behind_the_tunnel_is_not_the_proxys_fault() -> None:
    with listening(proxying([])) as proxy:
        url = f"http://127.0.0.1:{proxy}"
        with listening(GOOD) as port:
            assert probed(to(port, proxy=url)).reason == "tls_untrusted"
        with listening(silent) as port:
            assert probed(to(port, proxy=url, timeout=Duration(0.6))).reason == "tls_timeout"
        with listening(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>")) as port:
            assert probed(to(port, proxy=url)).reason == "tls_handshake"


def refused(tmp_path: Path, *challenges: bytes, credentials: str = "", conf_lines: str = "") -> ProbeResult:
    """A probe of a proxy that answers 407 whatever is sent, with these headers; set here, or in services.conf."""
    headers = b"".join(each + b"\r\n" for each in challenges)
    with listening(proxying([], credentials=b"none is right", challenge=headers)) as proxy:
        environ = conf(tmp_path, f"[licenses.parameters]\n-proxy-uri=http://127.0.0.1:{proxy}\n{conf_lines}")
        url = "auto" if conf_lines else f"http://{credentials}127.0.0.1:{proxy}"
        result = probed(to(443, proxy=url), environ=environ)
    assert set(result.phases) == {"connect", "proxy"}
    assert "svc" not in str(result)
    assert "wrong" not in str(result)
    return result


BASIC = b'Proxy-Authenticate: Basic realm="a, NTLM b", charset="UTF-8"'


@pytest.mark.parametrize(
    ("challenges", "credentials", "words"),
    [
        ([BASIC], "", "none is set"),
        ([BASIC], "svc:wrong@", "rejected"),
        ([b"proxy-authenticate: NTLM", b"PROXY-AUTHENTICATE: basic"], "svc:wrong@", "rejected"),
        ([b'Proxy-Authenticate: Negotiate, Digest realm="x", nonce="y", BASIC realm="z"'], "svc:wrong@", "rejected"),
        ([b"Proxy-Authenticate: Negotiate,\r\n  Basic"], "svc:wrong@", "rejected"),
        ([b"Proxy-Authenticate: , ,Basic realm = x"], "", "none is set"),
    ],
)
def test_a_proxy_that_refuses_basic_credentials_or_their_absence_is_proxy_auth(
    challenges: list[bytes], credentials: str, words: str, tmp_path: Path
) -> None:
    result = refused(tmp_path, *challenges, credentials=credentials)
    assert (result.success, result.reason) == (False, "proxy_auth")
    assert words in result.detail


@pytest.mark.parametrize("credentials", ["", "svc:wrong@", "CONTOSO%5Csvc:wrong@"])
@pytest.mark.parametrize(
    ("challenges", "words"),
    [
        ([b"Proxy-Authenticate: NTLM"], "accepts only NTLM"),
        ([b"Proxy-Authenticate: ntlm"], "accepts only NTLM"),
        ([b"Proxy-Authenticate: Negotiate, NTLM"], "accepts only Negotiate and NTLM"),
        ([b"Proxy-Authenticate: Negotiate", b"Proxy-Authenticate: NTLM"], "accepts only Negotiate and NTLM"),
        ([b"Proxy-Authenticate: Kerberos"], "accepts only Kerberos"),
        ([b'Proxy-Authenticate: Digest realm="Basic, or", nonce="Basic", qop="auth"'], "accepts only Digest"),
        ([b'Proxy-Authenticate: Digest realm="never closed, Basic'], "accepts only Digest"),
        ([b"Proxy-Authenticate: X-Own-Scheme basic=1"], "accepts only x-own-scheme"),
        ([b"Proxy-Authenticate:"], "does not say which"),
        ([], "does not say which"),
    ],
)
def test_a_proxy_whose_authentication_the_probe_cannot_give_makes_the_probe_inconclusive(
    challenges: list[bytes], words: str, credentials: str, tmp_path: Path
) -> None:
    result = refused(tmp_path, *challenges, credentials=credentials)
    assert (result.success, result.reason) == (None, None)
    if "N" in words and credentials:  # it begins a login that the proxy does not go on with
        words = "sent no N"
    assert words in result.detail
    assert result.story[-1].startswith("proxy: ")
    assert "it is unknown whether the Licenses service gets through" in result.story[-1]


@pytest.mark.parametrize(
    ("lines", "success"),
    [
        ("-proxy-username=svc\n-proxy-encrypted-password=AQAA", None),
        ("-proxy-username=svc", None),
        ("-proxy-basic-authentication=false\n-proxy-username=svc\n-proxy-password=wrong", None),
        ("-proxy-login=svc", None),  # a parameter that nobody has seen: it may well be the login
        ("-proxy-username=svc\n-proxy-password=wrong", False),
        ("-proxy-basic-authentication=false", False),  # as far as we can see, the service has no login either
    ],
)
def test_credentials_that_the_service_alone_can_use_make_a_demand_for_them_inconclusive(
    lines: str, success: bool | None, tmp_path: Path
) -> None:
    assert refused(tmp_path, BASIC, conf_lines=lines).success is success


# --- proxies that speak TLS themselves --------------------------------------------------------------------------------


@pytest.mark.windows
@pytest.mark.parametrize("credentials", [None, CREDENTIALS])
def test_an_https_proxy_carries_tls_in_tls(credentials: bytes | None, ca_file: str) -> None:
    requests: list[bytes] = []
    with (
        listening(GOOD) as port,
        listening(secured(SECURE, proxying(requests, credentials=credentials))) as proxy,
    ):
        result = probed(to(port, ca_file, proxy=f"https://{URL_CREDENTIALS}@localhost:{proxy}"))
    assert result.success, result.story
    assert len(requests) == (2 if credentials else 1)
    assert result.issuer == "Acme Root"


def test_an_https_proxy_that_is_not_trusted_or_speaks_no_tls_is_proxy_connect() -> None:
    with (
        listening(secured(SECURE, proxying([]))) as untrusted,
        listening(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as plain,
    ):
        for port in (untrusted, plain):
            result = probed(to(443, proxy=f"https://localhost:{port}", timeout=Duration(3)))
            assert result.reason == "proxy_connect"
            assert result.cert_expiry is None  # the target's certificate was never seen


# --- a real proxy -----------------------------------------------------------------------------------------------------


def answers(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def tinyproxy(folder: Path, *lines: str) -> Iterator[int]:
    """Debian's tinyproxy on a free port of loopback."""
    program = shutil.which("tinyproxy") or shutil.which("tinyproxy", path="/usr/sbin:/usr/bin")
    assert program, "install tinyproxy (Debian package `tinyproxy`)"
    port = closed_port()
    file = folder / "tinyproxy.conf"
    file.write_text("\n".join((f"Port {port}", "Listen 127.0.0.1", "Timeout 20", "MaxClients 20", *lines, "")))
    with subprocess.Popen(
        [program, "-d", "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as one:
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers(port) and time.monotonic() < deadline:
                assert one.poll() is None, "tinyproxy ended"
            yield port
        finally:
            one.terminate()


def test_a_real_proxy_lets_through_and_says_why_it_does_not(ca_file: str, tmp_path: Path) -> None:
    with listening(GOOD) as port, tinyproxy(tmp_path, f"ConnectPort {port}") as proxy:
        url = f"http://127.0.0.1:{proxy}"
        through = probed(to(port, ca_file, proxy=url))
        forbidden = probed(to(closed_port(), ca_file, proxy=url))
    assert through.success, through.story
    assert set(through.phases) == {"connect", "proxy", "tls", "http"}
    assert forbidden.reason == "proxy_connect"
    assert "403" in forbidden.detail


def test_a_real_proxy_asks_for_credentials_and_takes_them(ca_file: str, tmp_path: Path) -> None:
    with listening(GOOD) as port, tinyproxy(tmp_path, f"ConnectPort {port}", "BasicAuth svc secret") as proxy:
        probed_with = functools.partial(to, port, ca_file)
        right = probed(probed_with(proxy=f"http://svc:secret@127.0.0.1:{proxy}"))
        wrong = probed(probed_with(proxy=f"http://svc:other@127.0.0.1:{proxy}"))
        none = probed(probed_with(proxy=f"http://127.0.0.1:{proxy}"))
    assert right.success, right.story
    assert "secret" not in "".join((right.detail, *right.story))
    assert wrong.reason == "proxy_auth"  # though tinyproxy answers wrong credentials with 401
    assert "rejected" in wrong.detail
    assert none.reason == "proxy_auth"
