"""Byte streams to a peer: over TCP, and over TLS inside any other stream. The only opener of sockets and handshakes.

TLS runs in memory buffers over our own sockets. So every stage can be timed, TLS works inside TLS (an `https://`
proxy), and the certificates are available even if they do not verify.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

CHUNK = 16 << 10
"""Bytes asked for at a time."""
TRUST_AGE = 300.0
"""Seconds after which the system's trusted certificates are read again."""
LARGEST_CA_FILE = 1 << 20

_CERTIFICATE_MESSAGE = 11
_HANDSHAKE = 22
_VERSION_NAMES: dict[int, str] = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
_Step = TypeVar("_Step")


class Address(NamedTuple):
    """One address of a host, as `getaddrinfo` returns it."""

    family: int
    place: tuple[Any, ...]
    """The socket address: the IP address and the port first."""


class EndOfStreamError(ConnectionError):
    """The peer closed the connection although more data was expected."""


class Stream(Protocol):
    """A two-way pipe of bytes."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""

    async def receive(self) -> bytes:
        """The next bytes, at least one; none at the end."""


class TcpStream:
    """A connected socket, which its opener closes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """The next bytes; none at the end."""
        await asyncio.sleep(0)  # a peer that never pauses must not keep the deadline from being noticed
        return await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)


async def connected_socket(
    addresses: Sequence[Address], stagger: float, errors: dict[Address, OSError]
) -> tuple[socket.socket, Address] | None:
    """A connection to the first address that answers, each tried at most `stagger` seconds after the one before it.

    So a silent address does not fail a host that another one reaches (hazard 124). None if all have failed; `errors`
    receives each failure when it occurs, so that it is known even if time runs out.
    """
    waiting = deque(addresses)
    attempts: dict[asyncio.Task[socket.socket], Address] = {}
    try:
        while waiting or attempts:
            if waiting:
                address = waiting.popleft()
                attempts[asyncio.create_task(_connected(address))] = address
            await asyncio.wait(attempts, timeout=stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in attempts if task.done()]:
                error = task.exception()
                if error is None:
                    return task.result(), attempts.pop(task)
                if not isinstance(error, OSError):
                    raise error
                errors[attempts.pop(task)] = error
    finally:
        for task in attempts:
            task.cancel()
        for late in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    return None


async def _connected(address: Address) -> socket.socket:
    opened = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, address.place)
    except BaseException:
        opened.close()
        raise
    return opened


class _WitnessedSession(ssl.SSLObject):
    """A TLS session that keeps the certificates the peer sent, whether or not they verify."""

    served: tuple[bytes, ...] = ()
    served_version: str | None = None


class TlsStream:
    """TLS as a client inside another stream."""

    def __init__(self, inner: Stream, trust: ssl.SSLContext, host: str) -> None:
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = trust.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.first = b""
        """The first bytes that the peer sent: they show which protocol it uses instead of TLS."""

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The chain as served, DER, the leaf first; also after a failed handshake."""
        return self._session.served if isinstance(self._session, _WitnessedSession) else ()

    @property
    def version(self) -> str | None:
        """The negotiated protocol version, such as `TLSv1.3`; also if the certificates failed to verify."""
        return self._session.version() or getattr(self._session, "served_version", None)

    async def handshake(self) -> None:
        """Agree on keys and verify the peer. Raises ssl.SSLError, OSError."""
        await self._stepped(self._session.do_handshake)

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        await self._stepped(lambda: self._session.write(data))

    async def receive(self) -> bytes:
        """The next bytes; none at the end, announced or not."""
        try:
            return await self._stepped(lambda: self._session.read(CHUNK))
        except (EndOfStreamError, ssl.SSLZeroReturnError):
            return b""

    async def _stepped(self, step: Callable[[], _Step]) -> _Step:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._inner.receive()
                if not data:
                    raise EndOfStreamError("closed by the peer") from None
                self.first = self.first or data[:16]
                self._incoming.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the TLS alert with the reason
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._inner.send(self._outgoing.read())


def trust(ca_file: str) -> ssl.SSLContext:
    """A TLS context that trusts the system's store and the certificates (PEM or DER) in `ca_file`.

    Reads files; contexts are shared, and rebuilt when `ca_file` changes and every TRUST_AGE seconds. The lowest version
    is TLS 1.2. Raises OSError (which includes ssl.SSLError) if `ca_file` cannot be used.
    """
    stamp = (os.stat(ca_file).st_mtime_ns if ca_file else 0, int(time.monotonic() / TRUST_AGE))
    if ca_file not in _trusted or _trusted[ca_file][0] != stamp:
        _trusted[ca_file] = stamp, _context(ca_file)
    return _trusted[ca_file][1]


_trusted: dict[str, tuple[tuple[int, int], ssl.SSLContext]] = {}
"""The contexts that `trust` has built (a megabyte and 30 ms each), by `ca_file`: one per file in the configuration."""


def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an issuing CA in `ca_file` is enough, as it is for Go
    context.load_default_certs()
    if ca_file:
        with Path(ca_file).open("rb") as stream:
            data = stream.read(LARGEST_CA_FILE)
        context.load_verify_locations(cadata=data.decode("ascii", "ignore") if b"-----BEGIN" in data else data)
    context.sslobject_class = _WitnessedSession
    # The public interface provides no certificate after a failed verification, and before Python 3.13 no chain at all.
    # This hook of the standard library (the same since 3.8) receives the messages of the handshake.
    context._msg_callback = _witness  # type: ignore[attr-defined]  # not in the type stubs
    return context


def _witness(
    session: ssl.SSLObject, direction: str, version: int, content_type: int, message: int, data: bytes
) -> None:
    if not isinstance(session, _WitnessedSession):
        return
    if direction == "read" and content_type == _HANDSHAKE and message == _CERTIFICATE_MESSAGE:
        session.served_version = _VERSION_NAMES.get(version)
        session.served = _served(data, newer=version == ssl.TLSVersion.TLSv1_3)


def _served(message: bytes, newer: bool) -> tuple[bytes, ...]:
    """The certificates in a handshake's Certificate message (RFC 5246, 7.4.2; RFC 8446, 4.4.2). Never raises."""
    at = 4  # the message's type and length
    if newer:
        at += 1 + int.from_bytes(message[at : at + 1])  # the request context
    at += 3  # the length of the list, which fills the rest
    found = []
    while at + 3 <= len(message):
        end = at + 3 + int.from_bytes(message[at : at + 3])
        found.append(message[at + 3 : end])
        at = end
        if newer:
            at += 2 + int.from_bytes(message[at : at + 2])  # the entry's extensions
    return tuple(found)
