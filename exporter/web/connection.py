"""The connections of clients: their deadlines, and which one is closed if there are too many."""

import asyncio
import contextlib
import itertools
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from exporter.web.callers import certificate_admitted, group_of
from exporter.web.limits import Limits
from exporter.web.webfile import DEFAULT_HEADERS, TlsRules

_HEAD_END = re.compile(rb"\r\n\r\n[\r\n]*")
"""The end of a head, with empty lines before the next one."""

_log = logging.getLogger(__name__)
_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.disabled = True  # aiohttp would log tracebacks and clients' addresses; what matters is logged here


class Connections:
    """The open connections by group of addresses, within it the one that has waited longest first."""

    def __init__(self) -> None:
        self._groups: dict[str, OrderedDict[Connection, None]] = {}
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator["Connection"]:
        return itertools.chain.from_iterable(self._groups.values())

    def number_of(self, group: str) -> int:
        """The number of connections of a group."""
        return len(self._groups.get(group, ()))

    def add(self, connection: "Connection") -> None:
        """Count a connection that was opened."""
        self._groups.setdefault(connection.group, OrderedDict())[connection] = None
        self._number += 1

    def touch(self, connection: "Connection") -> None:
        """Note that the connection has begun to wait for something else."""
        group = self._groups.get(connection.group)
        if group is not None and connection in group:
            group.move_to_end(connection)

    def remove(self, connection: "Connection") -> None:
        """Remove a connection that is closed or being closed."""
        group = self._groups.get(connection.group)
        if group is not None and connection in group:
            del group[connection]
            self._number -= 1
            if not group:
                del self._groups[connection.group]

    def longest_waiting(self, group: str | None = None) -> "Connection | None":
        """The one that has waited longest, of the group or of the largest group; None if there is none."""
        if group is None:
            group = max(self._groups, key=self.number_of, default="")
        return next(iter(self._groups.get(group, ())), None)


class Heads:
    """Counts the heads of requests in the data of a client. Bodies, which no request needs, count like heads."""

    def __init__(self) -> None:
        self.complete = 0
        """Complete heads that are not answered yet."""
        self.begun = 0
        """Bytes of the incomplete head."""
        self._last = b""

    def take(self, data: bytes) -> None:
        """The client has sent these bytes."""
        if not self.begun:
            data = data.lstrip(b"\r\n")
        seen = self._last + data
        rest = 0
        for end in _HEAD_END.finditer(seen):
            self.complete += 1
            rest = end.end()
        self.begun = len(seen) - rest if rest else self.begun + len(data)
        self._last = seen[max(rest, len(seen) - 3) :]


class Connection(web.RequestHandler):
    """One client: aiohttp's protocol with a deadline for each thing that takes time, and plain refusals."""

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        wire: asyncio.Transport,
        tls: TlsRules | None,
        connections: Connections,
        limits: Limits,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle,
            logger=_silent,
            access_log=_silent,
            max_line_size=limits.line_bytes,
            max_field_size=limits.line_bytes,
            lingering_time=limits.lingering,
            auto_decompress=False,  # no body is read, least of all one that decompresses to gigabytes
        )
        self.tls, self.group = tls, group_of(wire.get_extra_info("peername"))
        self.answering = False
        self.pipelined = False
        """Whether the client sent the current request before it had the answer to the previous one."""
        self._wire, self._limits, self._connections = wire, limits, connections
        self.deadline = loop.time() + limits.head
        self._heads, self._sends_body, self._answered = Heads(), False, False
        self._early: list[bytes] | None = []
        """Data that arrives with the end of a TLS handshake, before `connection_made`; None afterwards."""
        connections.add(self)

    def drop(self) -> None:
        """Close immediately, whatever is in progress."""
        self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is ready. Close it if the client's certificate is not admitted."""
        self._wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        early, self._early = self._early or [], None
        if self.tls and not certificate_admitted(self.tls, transport.get_extra_info("peercert")):
            self.force_close()  # what it has sent so far is ignored
            self.drop()
            return
        for data in early:
            self.data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection was closed by either side."""
        self._connections.remove(self)
        if self._early is None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what the client has sent, within the limits for heads."""
        if self._early is not None:
            self._early.append(data)
            return
        if not self._sends_body:
            waits = not self._heads.complete and not self._heads.begun and self._answered
            self._heads.take(data)
            if waits and self._heads.begun:
                self.deadline = self._loop.time() + self._limits.head
            if not self._heads.complete and self._heads.begun > self._limits.head_bytes:
                self.drop()
                return
        super().data_received(data)

    def answer_begins(self, sends_body: bool) -> None:
        """A request's head is complete; the deadline for its answer begins."""
        self._sends_body = sends_body  # then this is the last request of this connection
        self.answering, self.deadline = True, self._loop.time() + self._limits.answer
        self._connections.touch(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; the deadline for the next request begins."""
        self.deadline = self._loop.time() + self._limits.write
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.answering, self._answered = False, True
            self._heads.complete = max(0, self._heads.complete - 1)
            self.pipelined = self._heads.complete > 0
            if resp.keep_alive:  # else what still comes is the unread rest, until LINGERING is over
                self.deadline = self._loop.time() + (self._limits.head if self._heads.begun else self._limits.idle)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """An error response that contains nothing from the request."""
        if exc is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a web answer failed: %s", type(exc).__name__)
        refusal = web.Response(status=status, text=f"{HTTPStatus(status).phrase}.\n")
        refusal.headers.update(DEFAULT_HEADERS)
        refusal.force_close()
        return refusal

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log the type of an error without its text, which may come from the client."""
        error = kw.get("exc_info")
        if not isinstance(error, HttpProcessingError):  # clients that send no HTTP must not fill the log
            _log.error("a web connection failed: %s", type(error).__name__)


class Opening(asyncio.Protocol):
    """A connection that was just accepted. It becomes a `Connection`, after a TLS handshake if the rules require TLS.

    It receives no data itself: the loop reads in the cycle after `connection_made`, where the handshake begins first.
    """

    def __init__(self, opened: Callable[[asyncio.Transport], Connection], limits: Limits) -> None:
        self._opened, self._limits = opened, limits
        self._securing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Continue as a `Connection`."""
        wire = cast(asyncio.Transport, transport)
        connection = self._opened(wire)
        if connection.tls:
            securing = self._secured(wire, connection, connection.tls)
            self._securing = asyncio.get_running_loop().create_task(securing)
        else:
            wire.set_protocol(connection)
            connection.connection_made(wire)

    async def _secured(self, wire: asyncio.Transport, connection: Connection, tls: TlsRules) -> None:
        secured = None
        with contextlib.suppress(OSError):  # the client disconnected, took too long, or supports no TLS that we do
            secured = await asyncio.get_running_loop().start_tls(
                wire,
                connection,
                tls.context,
                server_side=True,
                ssl_handshake_timeout=self._limits.head,
                ssl_shutdown_timeout=self._limits.lingering,
            )
        if secured is None or secured.is_closing():
            wire.abort()
            connection.connection_lost(None)
        else:
            connection.connection_made(secured)
