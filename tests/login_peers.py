"""A proxy on loopback that makes a real NTLM or Negotiate login, with pyspnego's acceptor, and proxies that spoil it."""

import base64
import contextlib
import socket
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import spnego
from probe_peers import Handler, header, relay, request_head
from spnego.exceptions import NegotiateOptions, SpnegoError

Refusal = Callable[[Sequence[str]], bytes]
"""A 407 with these values of Proxy-Authenticate."""


def refusal(
    challenges: Sequence[str], *, version: str = "1.1", framing: str = "Content-Length: 2\r\n\r\nno", more: str = ""
) -> bytes:
    """A plain 407 with a body."""
    headers = "".join(f"Proxy-Authenticate: {challenge}\r\n" for challenge in challenges)
    return f"HTTP/{version} 407 Proxy Authentication Required\r\n{headers}{more}{framing}".encode()


def in_chunks(challenges: Sequence[str]) -> bytes:
    """A 407 whose body comes in chunks, with a trailer."""
    chunks = "5\r\n<html\r\n1;x=y\r\n>\r\n0\r\nX-Trailer: 1\r\n\r\n"
    return refusal(challenges, framing=f"Transfer-Encoding: chunked\r\n\r\n{chunks}")


def folded(challenges: Sequence[str]) -> bytes:
    """A 407 with long challenges on several lines, as old proxies fold them."""
    return refusal([challenge.replace(" ", "\r\n ", 1) for challenge in challenges])


def folded_within(challenges: Sequence[str]) -> bytes:
    """A 407 whose challenges are folded in the middle of their base64."""
    return refusal(["\r\n\t".join(textwrap.wrap(challenge, 60)) for challenge in challenges])


def joined(challenges: Sequence[str]) -> bytes:
    """A 407 with all challenges in one header."""
    return refusal([", ".join(challenges)])


def announced_close(challenges: Sequence[str]) -> bytes:
    return refusal(challenges, more="Connection: close\r\n")


def announced_proxy_close(challenges: Sequence[str]) -> bytes:
    return refusal(challenges, more="Proxy-Connection: close\r\n")


def http_1_0(challenges: Sequence[str]) -> bytes:
    return refusal(challenges, version="1.0")


def unframed(challenges: Sequence[str]) -> bytes:
    """A 407 that only a close would end."""
    return refusal(challenges, framing="\r\nno")


def logging_in(
    requests: list[tuple[socket.socket, bytes]],
    *,
    offers: Sequence[str] = ("Negotiate", "NTLM"),
    first: Refusal = refusal,
    second: Refusal = refusal,
    closes_after: int = 0,
    basic: bytes = b"none is right",
) -> Handler:
    """A CONNECT proxy that keeps each request with its connection.

    `first`: how it tells its offers; `second`: how it sends a challenge. It closes each connection, unannounced, after
    as many answers as `closes_after` says.
    """

    def handle(connection: socket.socket) -> None:
        acceptor = None
        for answered in range(20):
            if closes_after and answered >= closes_after:
                return None
            head = request_head(connection)
            if not head:
                return None
            requests.append((connection, head))
            scheme, _, token = (header(head, b"proxy-authorization") or b"").decode().partition(" ")
            if scheme == "Basic" and token.encode() == basic:
                return tunnelled(connection, head)
            if scheme not in offers or scheme not in ("NTLM", "Negotiate"):
                connection.sendall(first(offers))
                continue
            acceptor = acceptor or _acceptor(scheme)
            try:
                challenge = acceptor.step(base64.b64decode(token))
            except SpnegoError:
                acceptor = None
                connection.sendall(first(offers))
                continue
            if acceptor.complete:
                return tunnelled(connection, head)
            connection.sendall(second([f"{scheme} {base64.b64encode(challenge or b'').decode()}"]))
        return None

    return handle


def _acceptor(scheme: str) -> spnego.ContextProxy:
    options = NegotiateOptions.use_ntlm if scheme == "NTLM" else NegotiateOptions.use_negotiate
    return spnego.server(hostname="proxy", service="HTTP", protocol=scheme.lower(), options=options)


def tunnelled(connection: socket.socket, head: bytes) -> None:
    _host, _, port = head.split(b" ")[1].decode().rpartition(":")
    with contextlib.closing(socket.create_connection(("127.0.0.1", int(port)))) as origin:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relay(connection, origin)


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The acceptor knows one account, by both its names, and one without a domain."""
    file = tmp_path / "accounts"
    file.write_text("CONTOSO:svc:hidden-p@ss\n:svc@CONTOSO.EXAMPLE:hidden-p@ss\n:plain:hidden-p@ss\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(file))
