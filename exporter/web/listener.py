"""Sockets, their event loop and their limits: hands each HTTP request to one function. It alone opens ports.

The loop is a selector loop in a thread of its own on every platform: a Proactor listener can die of one client's reset
(hazard 118), and nothing that the rest of the exporter does may delay a scrape (hazard 122).
"""

import asyncio
import contextlib
import errno
import itertools
import logging
import socket
import ssl
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpVersion10, HttpVersion11

from exporter.web.callers import certificate_admitted, group_of
from exporter.web.security import Security
from exporter.web.webfile import DEFAULT_HEADERS, TlsRules

MOST_CONNECTIONS = 200 if sys.platform == "win32" else 512
"""At once, half of them from one address. One more closes the one of the same address, or of the address with the most,
that has waited longest, whatever it waits for: nobody keeps a scraper out, and a newcomer is never refused.
Windows: a selector loop there holds 512 sockets."""
SEND_BUFFER = 65536
"""Bytes that the system keeps of answers which a client does not read; without a limit it is megabytes."""
BACKLOG = 1024
ACCEPTS_PER_TURN = 8
"""Connections taken from one socket before the loop looks at anything else. A request is answered within some ten
turns: before so many newcomers of one address have come that its connection would have to go."""
ACCEPT_PAUSE = 0.2
"""Seconds without accepting after the system had no descriptor or buffer left."""
HEAD_TIMEOUT = 10.0
"""Seconds for a TLS handshake and for a request's head, from its first byte or the connection's opening."""
IDLE_TIMEOUT = 300.0
"""Seconds that a connection may be kept between two requests: more than any sensible scrape interval."""
ANSWER_TIMEOUT = 150.0
"""Seconds for an answer to be made: more than the longest probe."""
WRITE_TIMEOUT = 30.0
"""Seconds for a client to take an answer."""
LARGEST_LINE = 8190
LARGEST_HEAD = 65536
"""Bytes of one request's line and header fields together."""
LINGERING = 1.0
"""Seconds that the unread body of a refused request is still read, so that the refusal arrives."""
SWEEP_INTERVAL = 0.5
STOP_TIMEOUT = 3.0
"""Seconds until the server is gone, clients or not; half of it is for answers being made."""
LAST_TURNS = 20
"""Turns of 10 ms that the tasks of a loop that ends have at most."""
WATCH_INTERVAL = 5.0
"""Seconds between two knocks of the watchdog at its own ports."""
KNOCK_TIMEOUT = 5.0
KNOCKS_MISSED = 2
"""Knocks in a row that nobody answers before the listener counts as dead: 5 s + 2 x 5 s < 30 s."""
PORT_TRIES = 20
"""Tries to find a port that is free in both families, when asked for any."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
TAKEN_TRIES = 20 if sys.platform == "win32" else 1
"""Windows keeps a port for the connections of a killed program, for as long as their other ends last: a service that
is started anew would find it taken. Elsewhere SO_REUSEADDR says that those do not count."""
TAKEN_PAUSE = 0.5
"""Seconds between two tries."""
_TAKEN = {errno.EADDRINUSE, 10048, 10013}  # Windows' own numbers for a port that is taken, or taken exclusively

_FAMILY_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.EINVAL}

SPOKEN = (HttpVersion10, HttpVersion11)
"""The versions of HTTP that are answered."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)
_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.disabled = True  # aiohttp would log tracebacks and clients' addresses; what matters is logged here


class ListenError(Exception):
    """An address cannot be listened on: `str()` is one line that names it and says why."""


def listening_sockets(address: str) -> list[socket.socket]:
    """Bound sockets for `host:port`, `:port` (both IP families, each its own socket) or `[IPv6]:port`.

    A family that this machine does not have is a warning as long as the other one works (hazard 123).
    Raises ListenError.
    """
    host, _, port = address.rpartition(":")
    for _attempt in range(PORT_TRIES):
        try:
            return _bound(address, host.strip("[]"), int(port))
        except _OtherFamilyTakenError:
            continue
    raise ListenError(f"cannot listen on {address}: no port is free for both IPv4 and IPv6")


class _OtherFamilyTakenError(Exception):
    """The port that the system chose for the first family is used in the second."""


def _bound(address: str, host: str, port: int) -> list[socket.socket]:
    if host:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise ListenError(f"cannot listen on {address}: the host cannot be resolved: {_reason(error)}") from None
        places = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    else:
        places = [(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port, 0, 0))]
    sockets: list[socket.socket] = []
    missing: list[str] = []
    for family, place in places:
        wanted = sockets[0].getsockname()[1] if sockets and port == 0 else port
        try:
            sockets.append(_freed(family, (place[0], wanted, *place[2:]), only_v6=not host))
        except OSError as error:
            if error.errno in _FAMILY_MISSING and len(places) > 1:
                missing.append(f"{place[0]}: {_reason(error)}")
                continue
            for opened in sockets:
                opened.close()
            if port == 0 and sockets:
                raise _OtherFamilyTakenError from None
            raise ListenError(f"cannot listen on {address}: {_reason(error)}") from None
    if not sockets:
        raise ListenError(f"cannot listen on {address}: {'; '.join(missing)}")
    for text in missing:
        _log.warning("not listening on %s", text)
    return sockets


def _freed(family: int, place: tuple[Any, ...], only_v6: bool) -> socket.socket:
    """The listening socket, waited for where the port may still be held by connections of a program that was killed."""
    for left in range(TAKEN_TRIES - 1, 0, -1):
        try:
            return _listening(family, place, only_v6)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            if left == TAKEN_TRIES - 1:
                _log.warning("port %d is in use; waiting for it", place[1])
        time.sleep(TAKEN_PAUSE)
    return _listening(family, place, only_v6)


def _listening(family: int, place: tuple[Any, ...], only_v6: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # SO_REUSEADDR would let two programs share one port there
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # what it accepts inherits this
        opened.bind(place)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return "another program is using the port"
    if code == errno.EACCES:
        return "this account may not use the port, or another program is using it"
    return str(getattr(error, "strerror", None) or error).lower()


def shown_address(place: tuple[Any, ...]) -> str:
    """A socket's name as `host:port`."""
    host = str(place[0])
    return f"[{host}]:{place[1]}" if ":" in host else f"{host}:{place[1]}"


class Listener:
    """The ports, served by one loop in one daemon thread, and a watchdog that replaces both when they are dead."""

    def __init__(
        self,
        handle: Handler,
        security: Security,
        failed: Callable[[], None],
        watch_interval: float = WATCH_INTERVAL,
    ) -> None:
        self._handle, self._security, self._failed = handle, security, failed
        self._watch_interval = watch_interval
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
                sockets.extend(listening_sockets(address))
        except ListenError:
            for opened in sockets:
                opened.close()
            raise
        self._places = [(opened.family, opened.getsockname(), _is_only_v6(opened)) for opened in sockets]
        self._loop = _LoopThread(sockets, self._handle, self._security)
        self._watchdog.start()

    def stop(self) -> None:
        """Stop within STOP_TIMEOUT, also with clients connected."""
        self._stopping.set()
        if self._loop:
            self._watchdog.join(STOP_TIMEOUT / 10)
            self._loop.stop(STOP_TIMEOUT * 0.8)

    def _watch(self) -> None:
        missed = 0
        while not self._stopping.wait(self._watch_interval):
            missed = 0 if self._answers() else missed + 1
            if self._loop is None or not self._loop.alive or missed >= KNOCKS_MISSED:
                missed = 0 if self._replaced() else KNOCKS_MISSED

    def _answers(self) -> bool:
        """Whether every port accepts: knock from outside, and ask whether the loop heard it (hazard 118)."""
        loop = self._loop
        if loop is None or not loop.alive:
            return False
        for index, (_, place, _) in enumerate(self._places):
            heard = loop.accepted[index]
            deadline = time.monotonic() + KNOCK_TIMEOUT
            try:
                with socket.create_connection((_reachable(place[0]), place[1]), timeout=KNOCK_TIMEOUT):
                    while loop.accepted[index] == heard:
                        if time.monotonic() > deadline or self._stopping.wait(0.01):
                            return self._stopping.is_set()
            except (ConnectionRefusedError, TimeoutError):
                return False
            except OSError:
                continue  # it is this side that could not connect (no descriptor, no route): that proves nothing
        return True

    def _replaced(self) -> bool:
        """Close what is left of the old loop and its sockets, and open them anew on the same ports."""
        if self._loop:
            self._loop.stop(STOP_TIMEOUT / 3)
            self._loop = None
            self._failed()
            _log.error("the web server does not answer; restarting it")
        sockets: list[socket.socket] = []
        try:
            for family, place, only_v6 in self._places:
                sockets.append(_listening(family, place, only_v6))
        except OSError as error:
            for opened in sockets:
                opened.close()
            _log.debug("the web server cannot be restarted yet: %s", _reason(error))
            return False
        self._loop = _LoopThread(sockets, self._handle, self._security)
        if self._stopping.is_set():
            self._loop.stop(STOP_TIMEOUT / 3)
        return True


def _is_only_v6(opened: socket.socket) -> bool:
    return opened.family == socket.AF_INET6 and bool(opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


class _LoopThread:
    """One event loop in one daemon thread, with the sockets it accepts from: replaced as a whole when dead."""

    def __init__(self, sockets: Sequence[socket.socket], handle: Handler, security: Security) -> None:
        self.accepted = [0] * len(sockets)
        """Connections accepted so far, by socket."""
        self._sockets, self._security, self._handle = sockets, security, handle
        self._heard: set[int] = set()
        """The numbers of the listening sockets that the loop selects on."""
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_exception_handler(_note_loop_error)
        self._server = web.Server(self._answer, loop=self._loop, handler_cancellation=True)
        self._connections = _Connections()
        self._turns = asyncio.Lock()
        self._openings: set[asyncio.Task[None]] = set()
        self._most = _most_connections()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds: answers being made get half of it. A thread that hangs is left behind."""
        with contextlib.suppress(RuntimeError):  # the loop has ended on its own
            self._loop.call_soon_threadsafe(self._begin_stop, timeout / 2)
        self._thread.join(timeout)
        for listening in self._sockets:
            listening.close()

    # --- in the loop's thread from here on

    def _run(self) -> None:
        for index in range(len(self._sockets)):
            self._loop.call_soon(self._listen, index)
        self._loop.call_soon(self._sweep)
        try:
            self._loop.run_forever()
        except OSError as error:  # Windows: a socket that the loop selects on was closed behind its back
            _log.error("the web server's loop ended: %s", type(error).__name__)
        try:
            for descriptor in self._heard:
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
            pass  # another such socket: what is left ends with the process
        finally:
            self._loop.close()

    def _begin_stop(self, patience: float) -> None:
        for listening in self._sockets:
            self._deafen(listening)
            listening.close()
        for connection in list(self._connections):
            connection.close()
        self._end_when_idle(self._loop.time() + patience)

    def _end_when_idle(self, deadline: float) -> None:
        if any(connection.answering for connection in self._connections) and self._loop.time() < deadline:
            self._loop.call_later(0.02, self._end_when_idle, deadline)
            return
        for connection in list(self._connections):
            connection.drop()
        self._loop.call_later(0.02, self._loop.stop)  # one more turn, for the transports to close

    def _listen(self, index: int) -> None:
        listening = self._sockets[index]
        if listening.fileno() >= 0:
            self._heard.add(listening.fileno())
            self._loop.add_reader(listening.fileno(), self._accept, index)

    def _deafen(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._heard.discard(listening.fileno())
            self._loop.remove_reader(listening.fileno())

    def _accept(self, index: int) -> None:
        listening = self._sockets[index]
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError, ConnectionResetError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    for _ in range(self._most // 8):
                        self._close_one(self._connections.longest_waiting())
                    self._deafen(listening)
                    self._loop.call_later(ACCEPT_PAUSE, self._listen, index)
                return  # anything worse the watchdog finds out
            self.accepted[index] += 1
            accepted.setblocking(False)
            group = group_of(peer)
            if self._connections.number_of(group) >= max(1, self._most // 2):
                self._close_one(self._connections.longest_waiting(group))
            elif len(self._connections) >= self._most:
                self._close_one(self._connections.longest_waiting())
            self._open(accepted, group)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(_Connection, request.protocol)
        connection.answer_begins(request.can_read_body)
        if connection.tls is not self._security.current().tls:
            connection.drop()  # opened under rules that no longer hold; the client comes again
            raise asyncio.CancelledError
        if request._version not in SPOKEN:
            request._version = HttpVersion11  # else aiohttp repeats in its status line what it was asked for
            return connection.handle_error(request, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if connection.pipelined:  # one of these in each turn of the loop: they delay nobody who asks for one thing
            async with self._turns:
                await asyncio.sleep(0)
        return await self._handle(request)

    def _close_one(self, connection: "_Connection | None") -> None:
        if connection:
            self._connections.remove(connection)
            connection.drop()

    def _open(self, accepted: socket.socket, group: str) -> None:
        tls = self._security.current().tls
        connection = _Connection(
            self._server, self._loop, tls, group, self._connections.touch, self._connections.remove
        )
        self._connections.add(connection)
        opening = self._loop.create_task(self._opened(connection, accepted, tls))
        connection.opening = opening
        self._openings.add(opening)
        opening.add_done_callback(lambda _: self._settle(opening, connection, accepted))

    def _settle(self, opening: "asyncio.Task[None]", connection: "_Connection", accepted: socket.socket) -> None:
        """An opening has ended, if only by being cancelled before it began: then nobody else closes the socket."""
        self._openings.discard(opening)
        if connection.wire is None:
            accepted.close()
            self._connections.remove(connection)

    async def _opened(self, connection: "_Connection", accepted: socket.socket, tls: TlsRules | None) -> None:
        try:
            if tls:
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=tls.context,
                    ssl_handshake_timeout=HEAD_TIMEOUT,
                    ssl_shutdown_timeout=LINGERING,
                )
            else:
                await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except (OSError, asyncio.CancelledError):
            pass  # the client went away, took too long, or speaks no TLS that we do; or it had to make room

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [late for late in self._connections if late.deadline < now]:
            connection.drop()
        self._loop.call_later(SWEEP_INTERVAL, self._sweep)


class _Connections:
    """The open connections, in the order in which they have waited, for each group of addresses."""

    def __init__(self) -> None:
        self._groups: dict[str, OrderedDict[_Connection, None]] = {}
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator["_Connection"]:
        return itertools.chain.from_iterable(self._groups.values())

    def number_of(self, group: str) -> int:
        return len(self._groups.get(group, ()))

    def add(self, connection: "_Connection") -> None:
        self._groups.setdefault(connection.group, OrderedDict())[connection] = None
        self._number += 1

    def touch(self, connection: "_Connection") -> None:
        """It begins to wait for something else."""
        group = self._groups.get(connection.group)
        if group is not None and connection in group:
            group.move_to_end(connection)

    def remove(self, connection: "_Connection") -> None:
        group = self._groups.get(connection.group)
        if group is not None and connection in group:
            del group[connection]
            self._number -= 1
            if not group:
                del self._groups[connection.group]

    def longest_waiting(self, group: str | None = None) -> "_Connection | None":
        """That of the group, or of the group that has the most connections; None where there is none."""
        if group is None:
            group = max(self._groups, key=self.number_of, default="")
        return next(iter(self._groups.get(group, ())), None)


class _Heads:
    """Follows the heads of requests in what a client sends; bodies, which no request here needs, look like heads."""

    def __init__(self) -> None:
        self.complete = 0
        """Heads that were sent to their end and not answered yet."""
        self.begun = 0
        """Bytes of the head that was not sent to its end."""
        self._last = b""

    def take(self, data: bytes) -> None:
        """These bytes came."""
        while data := data if self.begun else data.lstrip(b"\r\n"):
            seen = self._last + data
            end = seen.find(b"\r\n\r\n")
            if end < 0:
                self.begun += len(data)
                self._last = seen[-3:]
                return
            self.complete += 1
            self.begun, self._last, data = 0, b"", seen[end + 4 :]


class _Connection(web.RequestHandler):
    """One client: aiohttp's protocol with a deadline for each thing that takes time, and plain refusals."""

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        tls: TlsRules | None,
        group: str,
        touched: Callable[["_Connection"], None],
        gone: Callable[["_Connection"], None],
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE_TIMEOUT,
            logger=_silent,
            access_log=_silent,
            max_line_size=LARGEST_LINE,
            max_field_size=LARGEST_LINE,
            lingering_time=LINGERING,
            auto_decompress=False,  # nobody reads a body here, least of all one that unfolds to gigabytes
        )
        self.tls, self.group = tls, group
        self.answering = False
        self.pipelined = False
        """Whether the request being answered was sent before the answer to the one before it."""
        self.opening: asyncio.Task[None] | None = None
        self.wire: asyncio.Transport | None = None
        self.deadline = loop.time() + HEAD_TIMEOUT
        self._heads, self._sends_body, self._answered = _Heads(), False, False
        self._touched, self._gone = touched, gone

    def drop(self) -> None:
        """Close at once, whatever is under way."""
        if self.wire:
            self.wire.abort()
        elif self.opening:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        if self.tls and not certificate_admitted(self.tls, transport.get_extra_info("peercert")):
            self.force_close()  # what it has sent already is not looked at
            self.drop()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gone(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._sends_body:
            waits = not self._heads.complete and not self._heads.begun and self._answered
            self._heads.take(data)
            if waits and self._heads.begun:
                self.deadline = self._loop.time() + HEAD_TIMEOUT
            if not self._heads.complete and self._heads.begun > LARGEST_HEAD:
                self.drop()
                return
        super().data_received(data)

    def answer_begins(self, sends_body: bool) -> None:
        """A request's head is complete: from here on the time is ours."""
        self._sends_body = sends_body  # then this is its last request
        self.answering, self.deadline = True, self._loop.time() + ANSWER_TIMEOUT
        self._touched(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self.deadline = self._loop.time() + WRITE_TIMEOUT
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.answering, self._answered = False, True
            self._heads.complete = max(0, self._heads.complete - 1)
            self.pipelined = self._heads.complete > 0
            if resp.keep_alive:  # else what still comes is the unread rest, until LINGERING is over
                self.deadline = self._loop.time() + (HEAD_TIMEOUT if self._heads.begun else IDLE_TIMEOUT)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if exc is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a web answer failed: %s", type(exc).__name__)
        refusal = web.Response(status=status, text=f"{HTTPStatus(status).phrase}.\n")
        refusal.headers.update(DEFAULT_HEADERS)
        refusal.force_close()
        return refusal

    def log_exception(self, *args: object, **kw: object) -> None:
        error = kw.get("exc_info")
        if not isinstance(error, HttpProcessingError):  # a client that speaks no HTTP fills no log
            _log.error("a web connection failed: %s", type(error).__name__)


def _note_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if not isinstance(error, ConnectionError | ssl.SSLError | TimeoutError):  # a client that went away (hazard 119)
        _log.error("web loop: %s", type(error).__name__ if error else "an error without a name")


def _most_connections() -> int:
    """MOST_CONNECTIONS, or half of the descriptors that this process may have, if that is less."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource  # only there on these platforms

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if allowed == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, allowed // 2)
