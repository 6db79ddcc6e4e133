"""One HTTP/1.1 request and its answer over any stream, within limits."""

import email.utils
import http
from collections.abc import Sequence
from datetime import UTC
from urllib.parse import urlsplit

import h11

from exporter import __version__
from exporter.printable import printable
from exporter.probes.certificate import LONGEST_ISSUER
from exporter.probes.stream import EndOfStreamError, Stream

LARGEST_HEAD = 64 << 10
"""Largest size of an answer before its body, in bytes."""
LARGEST_BODY = 64 << 10
"""Bytes of a body that are read; the rest, even if endless, is not."""
_START = b"HTTP/"
AGENT = f"qlik-license-exporter/{__version__}"


class Exchange:
    """A request and its answer; several if the connection is kept open."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        self._answer: h11.Response | None = None

    async def ask(self, method: str, target: str, headers: Sequence[tuple[str, str]]) -> h11.Response:
        """Send a request and return the head of its answer; interim answers (1xx) are skipped.

        Raises h11.ProtocolError for what is not HTTP, and OSError.
        """
        request = h11.Request(method=method, target=target, headers=[*headers, ("User-Agent", AGENT)])
        head, end = self._connection.send(request), self._connection.send(h11.EndOfMessage())
        await self._stream.send((head or b"") + (end or b""))
        self._answer = await self._head()
        return self._answer

    async def goes_on(self) -> bool:
        """Read the rest of the answer; returns whether the connection can be used for another request.

        It cannot after HTTP/1.0, after an announced close (also by the old header Proxy-Connection), and after a body
        whose end is marked only by the close.
        """
        head = self._answer
        if (
            head is None
            or head.http_version == b"1.0"
            or not (header(head, b"content-length") or header(head, b"transfer-encoding"))
        ):
            return False
        connection = f"{header(head, b'connection')}, {header(head, b'proxy-connection')}"
        if "close" in [token.strip().casefold() for token in connection.split(",")]:
            return False
        try:
            await self.read_body()
            self._connection.start_next_cycle()
        except (ConnectionError, h11.ProtocolError):
            return False
        return True

    @property
    def follows(self) -> bool:
        """Whether something already followed a head that opened a tunnel."""
        return bool(self._connection.trailing_data[0])

    async def _head(self) -> h11.Response:
        received = 0
        start = b""
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Response):
                return event
            if event is not h11.NEED_DATA:
                continue
            data = await self._stream.receive()
            if not data:
                raise EndOfStreamError(
                    "closed before the response was complete" if received else "closed before a response"
                )
            start = (start + data)[: len(_START)]
            if not _START.startswith(start):
                raise h11.RemoteProtocolError("it does not begin with HTTP/")
            received += len(data)
            if received > LARGEST_HEAD:
                raise h11.RemoteProtocolError("its header is not terminated")
            self._connection.receive_data(data)

    async def read_body(self) -> bytes:
        """Read the body to its end, or as much of it as is allowed."""
        received, ended = 0, False
        body = bytearray()
        while received < LARGEST_BODY:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError:
                if ended:
                    raise EndOfStreamError("closed before the response was complete") from None
                raise
            if event is h11.NEED_DATA:
                data = await self._stream.receive()
                received, ended = received + len(data), not data
                self._connection.receive_data(data)
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
        return bytes(body)


def clock_skew(answer: h11.Response, local: float) -> float | None:
    """Seconds that `local` is ahead of the answer's Date; a cached answer is older by its Age."""
    try:
        date = email.utils.parsedate_to_datetime(header(answer, b"date"))
    except ValueError:
        return None
    remote = date if date.tzinfo else date.replace(tzinfo=UTC)
    age = header(answer, b"age")
    return local - remote.timestamp() - (int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0)


def header(answer: h11.Response, name: bytes) -> str:
    """The values of one header, joined as HTTP joins them; empty without it."""
    return ", ".join(value.decode("latin-1") for found, value in answer.headers if found == name)


def origin(answer: h11.Response) -> str:
    """Who gave the answer, according to its headers."""
    server, location = printable(header(answer, b"server"), LONGEST_ISSUER), header(answer, b"location")
    try:
        where = printable(urlsplit(location).hostname or "", LONGEST_ISSUER) if location else ""
    except ValueError:
        where = ""
    return (f" from `{server}`" if server else "") + (f" that redirects to {where}" if where else "")


def status_text(status: int | None) -> str:
    """A status with its standard reason phrase."""
    try:
        return f"{status} {http.HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


def authority(host: str, port: int | None = None) -> str:
    """`host:port` as HTTP writes it."""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port is not None else shown


def ascii_host(host: str) -> str:
    """`host` as TLS and HTTP spell it: international names encoded, no closing dot, no interface."""
    plain = host.partition("%")[0].removesuffix(".")
    return plain if plain.isascii() else plain.encode("idna").decode()
