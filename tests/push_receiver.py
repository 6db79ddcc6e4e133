"""A receiver of remote write on loopback that decodes what it gets by its own reading of the formats."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import cramjam

STALE = bytes.fromhex("020000000000f07f")
"""A stale marker's value, as its bytes in little-endian order."""


class Pushed(NamedTuple):
    """One sample of one series."""

    labels: dict[str, str]
    value: float
    at: int
    raw: bytes

    @property
    def name(self) -> str:
        return self.labels["__name__"]

    @property
    def stale(self) -> bool:
        return self.raw == STALE


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number and value (an integer, 8 bytes, or bytes)."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    at = 0
    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        elif kind == 1:
            yield number, data[at : at + 8]
            at += 8
        else:
            assert kind == 2, kind
            length = varint()
            yield number, data[at : at + length]
            at += length


def decoded(body: bytes) -> list[Pushed]:
    """The samples of a request; checks what the specification asks of every series."""
    found = []
    for number, series in _fields(bytes(cramjam.snappy.decompress_raw(body))):
        assert number == 1
        names: list[tuple[str, str]] = []
        samples = []
        for part, content in _fields(series):
            if part == 1:
                label = dict(_fields(content))
                names.append((label[1].decode(), label[2].decode()))
            else:
                sample = dict(_fields(content))
                samples.append((sample.get(1, bytes(8)), sample[2]))
        assert names == sorted(names)
        assert len(dict(names)) == len(names)
        assert all(value for _, value in names), "an empty label"
        assert "__name__" in dict(names)
        ((raw, at),) = samples
        found.append(Pushed(dict(names), struct.unpack("<d", raw)[0], at, raw))
    return found


class Receiver:
    """Takes what is sent to it, unless `answers` hold something else for the next requests.

    An answer is a status, a status with headers and body, or a function that gets the socket.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.taken: list[list[Pushed]] = []
        """The requests that were answered 204."""
        self.headers: list[dict[str, str]] = []
        """Of every request."""
        self.answers: list[int | tuple[int, dict[str, str], bytes] | Callable[[socket.socket], None]] = []
        self.always: int | None = None
        """The answer where `answers` is empty; None: 204."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = receiver.answers.pop(0) if receiver.answers else receiver.always or 204
                if callable(answer):
                    self.close_connection = True
                    answer(self.connection)
                    return
                status, headers, text = answer if isinstance(answer, tuple) else (answer, {}, b"")
                if status == 204:
                    receiver.taken.append(decoded(body))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that goes away

        self._server = Server(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/api/v1/write"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown()
            self._server.server_close()
        self._thread.join()

    @property
    def samples(self) -> list[Pushed]:
        """All samples taken, in order."""
        return [sample for request in self.taken for sample in request]
