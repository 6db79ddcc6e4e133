"""Real peers on loopback for the probes' tests: listeners that behave, and listeners that misbehave at one stage."""

import asyncio
import contextlib
import datetime
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509

from exporter.config import ProbeConfig
from exporter.probes import PHASES, ProbeResult, probe

Handler = Callable[[socket.socket], None]

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PATIENCE = 20.0
"""Seconds after which a peer gives up, so that a failing test ends."""


@contextlib.contextmanager
def listening(handler: Handler, host: str = "127.0.0.1") -> Iterator[int]:
    """The port of a listener that hands each connection to `handler`, in a thread of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=128)
    connections: set[socket.socket] = set()
    ended = threading.Event()

    def handled(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            handler(connection)
        connections.discard(connection)

    def accepting() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if ended.is_set():  # accepted while the listener was being closed
                connection.close()
                return
            connection.settimeout(PATIENCE)
            connections.add(connection)
            threading.Thread(target=handled, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accepting, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in list(connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no connection: its queue is full, so Linux drops what comes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = [socket.socket() for _ in range(4)]
    try:
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
    finally:
        for each in (*fillers, listener):
            each.close()


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- handlers ---------------------------------------------------------------------------------------------------------


def request_head(connection: socket.socket) -> bytes:
    """What was asked, up to the empty line."""
    head = b""
    while b"\r\n\r\n" not in head and (data := connection.recv(4096)):
        head += data
    return head


def answering(answer: bytes, asked: list[bytes] | None = None) -> Handler:
    """Reads one request, answers `answer`, and closes politely."""

    def handle(connection: socket.socket) -> None:
        head = request_head(connection)
        if asked is not None:
            asked.append(head)
        connection.sendall(answer)
        closing(connection)

    return handle


def closing(connection: socket.socket) -> None:
    """Closes for sending, and waits until the peer closes too: nothing is lost on the way."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def closed_at_once(connection: socket.socket) -> None:
    """Reads once, then closes (FIN)."""
    connection.recv(4096)
    connection.shutdown(socket.SHUT_WR)


def resetting(connection: socket.socket) -> None:
    """Reads once, then resets the connection (RST instead of FIN)."""
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(connection: socket.socket) -> None:
    """Reads for ever, says nothing."""
    while connection.recv(4096):
        pass


def saying(data: bytes) -> Handler:
    """Says `data` once something was asked, then keeps silent."""

    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)
        silent(connection)

    return handle


def endless(head: bytes, piece: bytes) -> Handler:
    """Answers `head`, then `piece` for as long as anybody listens."""

    def handle(connection: socket.socket) -> None:
        request_head(connection)
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return handle


def secured(context: ssl.SSLContext, handler: Handler) -> Handler:
    """`handler` behind TLS."""

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as inside:
            try:
                inside.do_handshake()
            except ssl.SSLError:
                with socket.socket(fileno=inside.detach()) as plain:
                    closing(plain)  # so that the alert is not lost to a reset
                return
            handler(inside)

    return handle


def proxying(
    requests: list[bytes],
    *,
    credentials: bytes | None = None,
    challenge: bytes = b'Proxy-Authenticate: Basic realm="proxy"\r\n',
    ways: dict[str, int] | None = None,
) -> Handler:
    """A CONNECT proxy that keeps the requests; `ways` sends host names to loopback ports."""

    def handle(connection: socket.socket) -> None:
        head = request_head(connection)
        requests.append(head)
        if credentials is not None and header(head, b"proxy-authorization") != b"Basic " + credentials:
            refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n" + challenge
            connection.sendall(refusal + b"Content-Length: 0\r\n\r\n")
            closing(connection)
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection(("127.0.0.1", (ways or {}).get(host, int(port)))) as origin:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            relay(connection, origin)

    return handle


def header(head: bytes, name: bytes) -> bytes | None:
    """The value of one header of a request; None without it."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return None


def relay(one: socket.socket, other: socket.socket) -> None:
    """Passes bytes both ways until either side ends."""
    pairs = {one: other, other: one}
    while True:
        pending = [each for each in pairs if isinstance(each, ssl.SSLSocket) and each.pending()]
        ready = pending or select.select(list(pairs), [], [], PATIENCE)[0]
        if not ready:
            return
        for each in ready:
            data = each.recv(4096)
            if not data:
                return
            pairs[each].sendall(data)


# --- certificates -----------------------------------------------------------------------------------------------------


def days(count: float) -> datetime.datetime:
    """The instant `count` days from now."""
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=count)


def ends_at(pem: bytes) -> float:
    """When the first certificate in `pem` ends, as Unix time: what a probe of it is compared with.

    Not `days` counted anew: a module's certificate is as old as the session, which may take longer than any tolerance.
    """
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server's context with `certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def written(path: Path, data: bytes) -> str:
    """The name of the file at `path`, which now holds `data`."""
    path.write_bytes(data)
    return str(path)


AUTHORITY = trustme.CA(organization_name="Acme Root", organization_unit_name="tests")
CERTIFICATE = AUTHORITY.issue_cert("localhost", "127.0.0.1", "::1", not_after=days(30))
CERTIFICATE_ENDS = ends_at(CERTIFICATE.cert_chain_pems[0].bytes())


# --- probing ----------------------------------------------------------------------------------------------------------


def probed(settings: ProbeConfig, **options: Any) -> ProbeResult:
    """One probe; whatever the peer does, its deadline is kept and what it tells is sound."""
    started = time.monotonic()
    result = asyncio.run(probe(settings, **options))
    assert time.monotonic() - started < options.get("timeout", settings.timeout) + 5
    assert (result.success is False) == (result.reason is not None)
    assert bool(result.cure) == (not result.success)
    assert set(result.phases) <= set(PHASES)
    assert all(seconds >= 0 for seconds in result.phases.values())
    assert result.detail.endswith(".")
    return result


def to(port: int, ca_file: str = "", **settings: object) -> ProbeConfig:
    """A probe of that port of localhost."""
    values = {"target": f"localhost:{port}", "proxy": "none", "ca_file": ca_file, "ip_protocol": "4"}
    return ProbeConfig(**{**values, **settings})  # type: ignore[arg-type]
