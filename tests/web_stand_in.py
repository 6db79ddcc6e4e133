"""A small exporter behind a real web server on a free port: what the tests of the web side ask."""

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.registry import Collector

from exporter.web.connection import Connections
from exporter.web.limits import Limits
from exporter.web.listener import _LoopThread
from exporter.web.security import Security
from exporter.web.server import DEFAULT_LIMITS, WebServer

DEADLINE = 20.0
SETTLED = 0.05
"""Seconds that a web file rests before it is taken."""
TARGET = "license.qlikcloud.com:443"
METRICS = CollectorRegistry()
Gauge("qlik_license_sync_age_seconds", "Seconds since the last license sync that succeeded.", registry=METRICS).set(42)
Counter("qlik_license_sync_attempts", "Sync attempts.", registry=METRICS)


@dataclass
class StandIn:
    """The answers that an exporter would give, each of which a test may replace."""

    metrics: Collector = METRICS
    readiness: tuple[bool, str] = (True, "")
    reload_problem: Callable[[], str | None] = lambda: None
    html: str = "<!doctype html><title>License</title>"
    asked: list[tuple[str, float]] = field(default_factory=list)

    def registry(self) -> Collector:
        return self.metrics

    def ready(self) -> tuple[bool, str]:
        return self.readiness

    def config_yaml(self) -> str:
        return "poll_interval: 1s\n"

    def reload(self) -> str | None:
        return self.reload_problem()

    def status(self, people: bool) -> dict[str, object]:
        return {"verdict": "well", "summary": "Überall grün", "people": people}

    def events(self, people: bool) -> dict[str, object]:
        return {"events": [], "people": people}

    def page(self, people: bool) -> str:
        return self.html + ("kowalska" if people else "")

    async def probe(self, target: str, seconds: float) -> Collector:
        self.asked.append((target, seconds))
        if target != TARGET:
            raise KeyError(target)
        return self.metrics

    async def probe_story(self, target: str, seconds: float) -> str:
        self.asked.append((target, seconds))
        if target != TARGET:
            raise KeyError(target)
        return "dns: 3 ms\nconnect: refused\n"


@dataclass
class Site:
    """A running server, and how to reach it."""

    server: WebServer
    exporter: StandIn
    failures: list[str]
    security: Security = field(default_factory=lambda: Security(None))
    proxy_port: int = 0
    """Where a proxy in front of it answers, if there is one."""

    @property
    def port(self) -> int:
        return self.proxy_port or int(self.server.bound[0].rpartition(":")[2])

    @property
    def serving(self) -> _LoopThread:
        """The loop that serves now. Only here do the tests look inside the server."""
        assert self.server._listener._loop
        return self.server._listener._loop

    @property
    def replaced(self) -> bool:
        """Whether no loop serves at the moment."""
        return self.server._listener._loop is None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's event loop."""
        return self.serving._loop

    @property
    def connections(self) -> Connections:
        """The connections that the server holds now."""
        return self.serving._connections

    def close_ports(self) -> None:
        """Close the listening sockets behind the server's back."""
        for opened in self.serving._sockets:
            opened.close()

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, header fields and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def raw(self, data: bytes) -> bytes:
        """What the server says to these bytes until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    """Everything that still comes from the other side."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


@contextlib.contextmanager
def site(
    web_file: str | None = None,
    exporter: StandIn | None = None,
    address: str = "127.0.0.1:0",
    styles: tuple[str, ...] = (),
    scripts: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Site]:
    """A server that answers while the block runs."""
    failures: list[str] = []
    exporter = exporter or StandIn()
    security = Security(web_file, SETTLED)
    server = WebServer(exporter, security, lambda: failures.append("web"), styles, scripts, limits)
    server.start([address])
    try:
        yield Site(server, exporter, failures, security)
    finally:
        server.stop()


def eventually(claim: Callable[[], bool], seconds: float = DEADLINE) -> bool:
    """Whether the claim comes true within that time."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
