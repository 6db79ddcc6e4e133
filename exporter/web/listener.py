"""The web server's event loop: serves its ports, enforces the limits for clients, and is replaced if it hangs.

It is a selector loop in its own thread on every platform: a client's reset can close a Proactor listener (hazard 118),
and the rest of the exporter must not delay a scrape (hazard 122).
"""

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11

from exporter.web.connection import Connection, Connections, Opening
from exporter.web.limits import Limits
from exporter.web.security import Security
from exporter.web.sockets import (
    ListenError,
    is_only_v6,
    listening_socket,
    listening_sockets,
    reachable,
    reason,
    shown_address,
)

LAST_TURNS = 20
"""Cycles of 10 ms that the remaining tasks of a loop have at its end."""
SPOKEN = (HttpVersion10, HttpVersion11)
"""The versions of HTTP that are answered."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


class Listener:
    """The ports, served by one loop in one daemon thread, and a watchdog that replaces both if they hang."""

    def __init__(
        self,
        handle: Handler,
        security: Security,
        failed: Callable[[], None],
        limits: Limits,
    ) -> None:
        self._handle, self._security, self._failed, self._limits = handle, security, failed, limits
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="web watchdog", daemon=True)
        self._loop: _LoopThread | None = None
        self._places: list[tuple[int, tuple[Any, ...], bool]] = []

    @property
    def bound(self) -> tuple[str, ...]:
        """The addresses listened on, with their real ports."""
        return tuple(shown_address(place) for _, place, _ in self._places)

    def start(self, addresses: Sequence[str]) -> None:
        """Listen on every address. Raises ListenError, and then listens on none."""
        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                sockets.extend(listening_sockets(address, self._limits))
        except ListenError:
            for opened in sockets:
                opened.close()
            raise
        self._places = [(opened.family, opened.getsockname(), is_only_v6(opened)) for opened in sockets]
        self._loop = _LoopThread(sockets, self._handle, self._security, self._limits)
        self._watchdog.start()

    def stop(self) -> None:
        """Stop within the time for it, also with clients connected."""
        self._stopping.set()
        if self._loop:
            self._watchdog.join(self._limits.stop / 10)
            self._loop.stop(self._limits.stop * 0.8)

    def _watch(self) -> None:
        missed = 0
        while not self._stopping.wait(self._limits.watch):
            missed = 0 if self._answers() else missed + 1
            if self._loop is None or not self._loop.alive or missed >= self._limits.knocks_missed:
                missed = 0 if self._replaced() else self._limits.knocks_missed

    def _answers(self) -> bool:
        """Whether every port accepts: connect to it, and check that the loop accepted the connection (hazard 118)."""
        loop = self._loop
        if loop is None or not loop.alive:
            return False
        for index, (_, place, _) in enumerate(self._places):
            accepted = loop.accepted[index]
            deadline = time.monotonic() + self._limits.knock
            try:
                with socket.create_connection((reachable(place[0]), place[1]), timeout=self._limits.knock):
                    while loop.accepted[index] == accepted:
                        if time.monotonic() > deadline or self._stopping.wait(0.01):
                            return self._stopping.is_set()
            except (ConnectionRefusedError, TimeoutError):
                return False
            except OSError:
                continue  # it is this side that could not connect (no descriptor, no route): that proves nothing
        return True

    def _replaced(self) -> bool:
        """Close what is left of the old loop and its sockets, and reopen them on the same ports."""
        if self._loop:
            self._loop.stop(self._limits.stop / 3)
            self._loop = None
            self._failed()
            _log.error("the web server does not answer; restarting it")
        sockets: list[socket.socket] = []
        try:
            for family, place, only_v6 in self._places:
                sockets.append(listening_socket(family, place, only_v6, self._limits))
        except OSError as error:
            for opened in sockets:
                opened.close()
            _log.debug("the web server cannot be restarted yet: %s", reason(error))
            return False
        self._loop = _LoopThread(sockets, self._handle, self._security, self._limits)
        if self._stopping.is_set():
            self._loop.stop(self._limits.stop / 3)
        return True


class _LoopThread:
    """One event loop in one daemon thread, with its listening sockets: replaced as a whole if it hangs."""

    def __init__(self, sockets: Sequence[socket.socket], handle: Handler, security: Security, limits: Limits) -> None:
        self.accepted = [0] * len(sockets)
        """Connections accepted so far, by socket."""
        self._sockets, self._security, self._handle, self._limits = sockets, security, handle, limits
        self._descriptors = [listening.fileno() for listening in sockets]
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_exception_handler(self._note_error)
        self._requests = web.Server(self._answer, loop=self._loop, handler_cancellation=True)
        self._servers: list[asyncio.Server] = []
        self._connections = Connections()
        self._turns = asyncio.Lock()
        self._most = _most_connections(limits)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds, half of which is for answers in progress. A thread that hangs is abandoned."""
        with contextlib.suppress(RuntimeError):  # the loop has ended on its own
            self._loop.call_soon_threadsafe(self._begin_stop, timeout / 2)
        self._thread.join(timeout)
        for listening in self._sockets:
            listening.close()

    # --- in the loop's thread from here on

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.call_soon(self._sweep)
            self._loop.run_forever()
        except (OSError, ValueError) as error:  # a socket that the loop selects on was closed behind its back
            _log.error("the web server's loop ended: %s", type(error).__name__)
        except RuntimeError:
            pass  # it was stopped before it listened on every port
        try:
            for descriptor in self._descriptors:
                self._loop.remove_reader(descriptor)
            for connection in list(self._connections):
                connection.drop()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            for _ in range(LAST_TURNS):  # for the tasks to end, and the transports to close
                self._loop.call_later(0.01, self._loop.stop)
                self._loop.run_forever()
                if not asyncio.all_tasks(self._loop):
                    break
        except OSError:
            pass  # another such socket: the rest ends with the process
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        for index, listening in enumerate(self._sockets):
            opening = functools.partial(self._opening, index)
            # A server accepts as many per cycle as its backlog; the backlog of the system is set again.
            server = await self._loop.create_server(opening, sock=listening, backlog=self._limits.accepts_per_turn)
            self._servers.append(server)
            listening.listen(self._limits.backlog)

    def _opening(self, index: int) -> Opening:
        self.accepted[index] += 1
        return Opening(self._opened, self._limits)

    def _opened(self, wire: asyncio.Transport) -> Connection:
        tls = self._security.current().tls
        connection = Connection(self._requests, self._loop, wire, tls, self._connections, self._limits)
        if self._connections.number_of(connection.group) > max(1, self._most // 2):
            self._close_one(connection.group)
        elif len(self._connections) > self._most:
            self._close_one()
        return connection

    def _close_one(self, group: str | None = None) -> None:
        if connection := self._connections.longest_waiting(group):
            self._connections.remove(connection)
            connection.drop()

    def _begin_stop(self, patience: float) -> None:
        for server in self._servers:
            with contextlib.suppress(ValueError):  # its socket was closed behind its back
                server.close()
        for connection in list(self._connections):
            connection.close()
        self._end_when_idle(self._loop.time() + patience)

    def _end_when_idle(self, deadline: float) -> None:
        if any(connection.answering for connection in self._connections) and self._loop.time() < deadline:
            self._loop.call_later(0.02, self._end_when_idle, deadline)
            return
        for connection in list(self._connections):
            connection.drop()
        self._loop.call_later(0.02, self._loop.stop)  # one more cycle, for the transports to close

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.answer_begins(request.can_read_body)
        if connection.tls is not self._security.current().tls:
            connection.drop()  # opened under rules that no longer apply; the client can reconnect
            raise asyncio.CancelledError
        if request._version not in SPOKEN:
            request._version = HttpVersion11  # else aiohttp repeats the version of the request in its status line
            return connection.handle_error(request, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if connection.pipelined:  # one of these per cycle of the loop, so that they do not delay other clients
            async with self._turns:
                await asyncio.sleep(0)
        return await self._handle(request)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [late for late in self._connections if late.deadline < now]:
            connection.drop()
        self._loop.call_later(self._limits.sweep, self._sweep)

    def _note_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
            for _number in range(max(1, self._most // 8)):  # asyncio accepts again after a second
                self._close_one()
        elif not isinstance(error, ConnectionError | ssl.SSLError | TimeoutError):  # a client left (hazard 119)
            _log.error("web loop: %s", type(error).__name__ if error else "an error without a name")


def _most_connections(limits: Limits) -> int:
    """What the limits say, or half of the descriptors that this process may have, if that is less."""
    if sys.platform == "win32":
        return limits.connections
    import resource  # only there on these platforms

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.connections if allowed == resource.RLIM_INFINITY else min(limits.connections, allowed // 2)
