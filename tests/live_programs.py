"""A real Prometheus, a real Alertmanager and the loopback servers that they talk to, each for one test."""

import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from shipped import program

DEADLINE = 60.0
"""Seconds until a condition must have come true, on a busy machine."""

T = TypeVar("T")


def eventually(what: str, condition: Callable[[], T], deadline: float = DEADLINE) -> T:
    """The first truthy value of `condition`, asked every tenth of a second; fails with `what` after the deadline."""
    end = time.monotonic() + deadline
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.1)


def free_port() -> int:
    """A port that nobody listens on at this moment, for programs that cannot take port 0."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def fetched(url: str) -> str:
    """The body at `url`, or nothing where nobody answers yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def posted(url: str, body: Any) -> None:
    """Sends `body` as JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=5).close()


@contextmanager
def running(log: Path, name: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the time of a `with`; what it says goes into `log`."""
    with (
        log.open("ab") as out,
        subprocess.Popen([program(name), *map(str, arguments)], stdout=out, stderr=out) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def alertmanager(folder: Path, config: Path) -> Iterator[str]:
    """A real Alertmanager with that configuration; gives its address."""
    url = f"http://127.0.0.1:{free_port()}"
    arguments = [f"--config.file={config}", f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address="]
    with running(folder / "alertmanager.log", "prometheus-alertmanager", *arguments, f"--web.listen-address={url[7:]}"):
        eventually("Alertmanager is ready", lambda: fetched(f"{url}/-/ready"))
        yield url


@contextmanager
def prometheus(folder: Path, config: Path, port: int) -> Iterator[str]:
    """A real Prometheus with that configuration; gives its address."""
    url = f"http://127.0.0.1:{port}"
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'prometheus'}"]
    with running(folder / "prometheus.log", "prometheus", *arguments, f"--web.listen-address={url[7:]}"):
        eventually("Prometheus is ready", lambda: fetched(f"{url}/-/ready"))
        yield url


class Webhook:
    """A receiver on loopback: what was posted to it, by path."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "Webhook":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def alerts(self, path: str, name: str, status: str) -> list[dict[str, Any]]:
        """The alerts of that name and status that were posted to `path`."""
        return [
            alert
            for where, message in list(self.received)
            if where == path
            for alert in message["alerts"]
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]


class MailServer:
    """An SMTP server on loopback that takes every mail: what was sent to it."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "MailServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed: the test is over
                return
            with connection, connection.makefile("rwb") as lines:
                self._converse(lines)

    def _converse(self, lines: Any) -> None:
        def say(text: str) -> None:
            lines.write(text.encode() + b"\r\n")
            lines.flush()

        say("220 loopback")
        for line in lines:
            command = line[:4].upper()
            if command == b"DATA":
                say("354 go on")
                mail = b""
                for part in lines:
                    if part == b".\r\n":
                        break
                    mail += part
                self.received.append(mail.decode())
            say("221 bye" if command == b"QUIT" else "250 ok")
            if command == b"QUIT":
                return
