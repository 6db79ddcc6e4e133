"""One probe: dns, connect, (proxy,) tls, http, each timed, each failure named, all under one deadline.

It sees what the Licenses service on the same machine would see: through the same proxy, never through one that only an
environment variable names.
"""

import asyncio
import base64
import contextlib
import email.utils
import errno
import http
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import h11

from exporter import __version__
from exporter.config import ProbeConfig
from exporter.dispatcher import licenses_service_proxy
from exporter.probes.certificate import ServedChain, day, printable, served_chain
from exporter.probes.result import Phase, ProbeResult, Reason
from exporter.probes.stream import (
    STAGGER,
    Address,
    ConnectError,
    EndOfStreamError,
    Stream,
    TcpStream,
    TlsStream,
    connected_socket,
    trust,
)
from exporter.probes.threads import FILE_CALLS, LOOKUPS, in_thread

LARGEST_HEAD = 64 << 10
"""Bytes of an answer before its body, at most."""
LARGEST_BODY = 64 << 10
"""Bytes of a body that are read; the rest, be it endless, is left."""
MOST_ADDRESSES = 64
"""Addresses of one name that are tried."""
ADDRESSES_SHOWN = 4

AGENT = f"qlik-license-exporter/{__version__}"

Resolver = Callable[[str, int, int], Iterable[Address]]
"""(host, port, family) to addresses; may block; raises OSError. `family` is AF_UNSPEC, AF_INET or AF_INET6."""

_TIMED_OUT: dict[Phase, tuple[Reason, str]] = {
    "dns": ("dns", "The name server did not answer in time."),
    "connect": ("tcp_timeout", "The connection was not answered in time."),
    "proxy": ("proxy_connect", "The proxy did not answer in time."),
    "tls": ("tls_timeout", "The connection opened, but TLS was not agreed on in time."),
    "http": ("http_timeout", "The answer did not come, or did not end, in time."),
}
_UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EACCES,  # what a firewall on this machine answers, on Windows and on Linux
    errno.EPERM,
}
_WINDOWS_UNREACHABLE = {10013, 10047, 10049, 10050, 10051, 10064, 10065, 1231, 1232}
_WINDOWS_TIMED_OUT = {10060, 121, 1460}
_WINDOWS_REFUSED = {10061, 1225}
_WINDOWS_RESET = {10052, 10053, 10054, 64, 1236}
_UNCONNECTED: dict[Reason, str] = {
    "tcp_refused": "refused",
    "tcp_timeout": "no answer",
    "tcp_unreachable": "no way there, or forbidden on this machine",
    "reset": "reset",
}
_EXPIRED, _NOT_YET_VALID, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64
"""OpenSSL's X509_V_ERR_ numbers."""
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)(?=\s|,|$)")


def look_up(host: str, port: int, family: int) -> list[Address]:
    """The addresses of `host` as this machine's resolver knows them."""
    return [
        Address(found, place)
        for found, _, _, _, place in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    ]


async def probe(
    settings: ProbeConfig,
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # part of what is promised, and kept by asyncio.timeout
    resolver: Resolver = look_up,
    environ: Mapping[str, str] = os.environ,
) -> ProbeResult:
    """One probe of `settings.target` within `timeout` seconds (default: its own), over everything from DNS to body.

    Never raises for what a network can do: that is in the result.
    """
    return await RunningProbe(settings, resolver, environ).run(settings.timeout if timeout is None else timeout)


class Failure(Exception):  # noqa: N818  # not an error of this program: what a probe is there to find
    """A stage failed: why, as a label and as a sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True)
class _Proxy:
    scheme: str
    host: str
    port: int
    authorization: str = field(repr=False)
    """The value of Proxy-Authorization; empty without credentials."""

    @property
    def shown(self) -> str:
        return f"{self.scheme}://{_authority(self.host, self.port)}"


class RunningProbe:
    """A probe under way: what it has found so far can be told at any time."""

    def __init__(
        self, settings: ProbeConfig, resolver: Resolver = look_up, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._settings, self._resolver, self._environ = settings, resolver, environ
        self._at = time.time()
        self._phase: Phase | None = None
        self._phase_started = 0.0
        self._phases: dict[Phase, float] = {}
        self._notes: list[tuple[Phase | None, str]] = []
        self._proxy: _Proxy | None = None
        self._status: int | None = None
        self._ip_protocol: int | None = None
        self._chain: ServedChain | None = None
        self._tls_version: str | None = None
        self._clock_skew: float | None = None

    async def run(self, seconds: float) -> ProbeResult:
        """Go through the stages until done, failed, or `seconds` are over."""
        try:
            async with asyncio.timeout(seconds):
                await self._go(seconds)
        except TimeoutError:
            return self.timed_out()
        except Failure as failure:
            return self._result(failure)
        return self._result(None)

    def timed_out(self) -> ProbeResult:
        """The result if time is up now."""
        if self._phase is None:
            return self._result(Failure("other", "A file on this machine could not be read in time."))
        reason, detail = _TIMED_OUT[self._phase]
        if self._proxy and self._phase in ("dns", "connect"):
            reason, detail = "proxy_connect", f"The proxy {self._proxy.shown} could not be reached in time."
        return self._result(Failure(reason, detail))

    def _result(self, failure: Failure | None) -> ProbeResult:
        settings, chain = self._settings, self._chain
        phases = dict(self._phases)
        if self._phase and self._phase not in phases:  # asked while that stage goes on
            phases[self._phase] = time.monotonic() - self._phase_started
        expected = {organisation.strip().casefold() for organisation in settings.expected_issuers}
        return ProbeResult(
            target=settings.target,
            role=settings.role,
            at=self._at,
            ended=time.time(),
            success=failure is None,
            reason=failure.reason if failure else None,
            detail=failure.detail if failure else self._success(),
            phases=phases,
            status=self._status,
            ip_protocol=self._ip_protocol,
            cert_expiry=chain.expiry if chain else None,
            chain_expiry=chain.chain_expiry if chain else None,
            tls_version=self._tls_version,
            issuer=chain.issuer if chain else None,
            issuer_expected=chain.issuer.casefold() in expected if chain and expected else None,
            clock_skew=self._clock_skew,
            proxied=self._proxy is not None,
            story=self._story(phases, failure),
        )

    def _success(self) -> str:
        through = f" through the proxy {self._proxy.shown}" if self._proxy else ""
        answer = f" and answered {_status_text(self._status)}, as expected" if self._status is not None else ""
        return f"{self._settings.target} was reached by {self._settings.protocol}{through}{answer}."

    def _story(self, phases: Mapping[Phase, float], failure: Failure | None) -> tuple[str, ...]:
        notes = [*self._notes, (self._phase, failure.detail)] if failure else self._notes
        story = []
        for index, (phase, sentence) in enumerate(notes):
            last = phase is not None and all(later != phase for later, _ in notes[index + 1 :])
            took = f" [{phases[phase] * 1000:.0f} ms]" if phase and last else ""
            story.append(f"{phase or 'start'}: {sentence}{took}")
        return tuple(story)

    def _note(self, sentence: str) -> None:
        self._notes.append((self._phase, sentence))

    @contextlib.contextmanager
    def _stage(self, phase: Phase) -> Iterator[None]:
        """Times one stage, and names what can go wrong in it."""
        self._phase, self._phase_started = phase, time.monotonic()
        try:
            yield
        except (OSError, h11.ProtocolError, ValueError) as error:  # SSLError is an OSError
            raise self._failure(phase, error) from error
        finally:
            self._phases[phase] = time.monotonic() - self._phase_started

    def _failure(self, phase: Phase, error: Exception) -> Failure:
        if phase == "dns":
            detail = f"{self._peer} could not be looked up: {_lookup_text(error)}."
            return Failure("proxy_connect" if self._proxy else "dns", detail)
        if phase == "proxy":
            return Failure("proxy_connect", f"The proxy could not be used: {_text(error)}.")
        if isinstance(error, ssl.SSLCertVerificationError):
            return _verification_failure(error, self._settings.host, self._chain)
        if isinstance(error, ssl.SSLError):
            return Failure("tls_handshake", f"TLS failed: {_text(error)}.")
        if isinstance(error, h11.ProtocolError):
            return Failure("http_protocol", f"The answer is not HTTP: {_text(error)}.")
        if isinstance(error, OSError):
            reason = _reason_of(error)
            if reason == "tcp_timeout":  # the system's own time-out, before ours
                return Failure(*_TIMED_OUT[phase])
            return Failure(reason, f"The connection was lost: {_text(error)}.")
        return Failure("other", f"The probe cannot be done as it is set: {_text(error)}.")

    @property
    def _peer(self) -> str:
        return f"The proxy {self._proxy.host}" if self._proxy else self._settings.host

    # --- the stages ---------------------------------------------------------------------------------------------------

    async def _go(self, seconds: float) -> None:
        settings = self._settings
        trusted = await self._prepared()
        addresses = await self._addresses()
        connected = await self._connect(addresses, seconds)
        with contextlib.closing(connected):
            stream: Stream = TcpStream(connected)
            if self._proxy:
                stream = await self._tunnel(stream, self._proxy, trusted)
            if settings.protocol in ("https", "tls"):
                stream = await self._handshake(stream, trusted)
            if settings.protocol in ("https", "http"):
                await self._ask(stream)

    async def _prepared(self) -> ssl.SSLContext:
        """Chooses the proxy, and reads which certificates are trusted."""
        settings = self._settings
        if settings.proxy not in ("auto", "none"):
            self._proxy = _proxy_of(settings.proxy)
            self._note(f"through the proxy {self._proxy.shown}, as configured.")
        elif settings.proxy == "auto" and settings.role not in ("local", "proxy"):
            found = await in_thread(FILE_CALLS, licenses_service_proxy, self._environ)
            self._proxy = _proxy_of(found.url) if found.url else None
            self._note(found.sentence)
        else:
            self._note("without a proxy.")
        try:
            return await in_thread(FILE_CALLS, trust, settings.ca_file)
        except (OSError, ValueError) as error:
            raise Failure("other", f"ca_file {settings.ca_file} cannot be used: {_text(error)}.") from error

    async def _addresses(self) -> list[Address]:
        """Looks up the target or, in its place, the proxy: behind a proxy the target's name is the proxy's matter."""
        host, port = (self._proxy or self._settings).host, (self._proxy or self._settings).port
        if self._proxy and _is_address(host):
            return look_up(host, port, socket.AF_UNSPEC)  # blocks not: there is nothing to ask
        wanted = {"4": socket.AF_INET, "6": socket.AF_INET6}.get(self._settings.ip_protocol, socket.AF_UNSPEC)
        with self._stage("dns"):
            found = await in_thread(LOOKUPS, lambda: list(self._resolver(host, port, wanted)))
            usable = [address for address in dict.fromkeys(found) if wanted in (socket.AF_UNSPEC, address.family)]
            if not usable:
                raise OSError("the name has no address of the wanted kind")
            usable.sort(key=lambda address: address.family != socket.AF_INET)
            self._note(f"{host} is {_shown(usable)}.")
            return usable[:MOST_ADDRESSES]

    async def _connect(self, addresses: Sequence[Address], seconds: float) -> socket.socket:
        with self._stage("connect"):
            try:
                connected, address = await connected_socket(addresses, min(STAGGER, seconds / 2 / len(addresses)))
            except ConnectError as error:
                raise self._unconnected(error) from error
            self._ip_protocol = 6 if address.family == socket.AF_INET6 else 4
            self._note(f"{_shown([address])} port {address.place[1]} answered.")
            return connected

    def _unconnected(self, error: ConnectError) -> Failure:
        """The first address's failure decides, unless another one says more than that there is no way to it."""
        reasons = [_reason_of(why) for _, why in error.errors]
        reason = next((each for each in reasons if each != "tcp_unreachable"), reasons[0])
        detail = "; ".join(
            f"{address.place[0]}: {_UNCONNECTED.get(each) or _text(why)}"
            for each, (address, why) in zip(reasons[:ADDRESSES_SHOWN], error.errors, strict=False)
        )
        if self._proxy:
            return Failure("proxy_connect", f"The proxy {self._proxy.shown} could not be connected to: {detail}.")
        return Failure(reason, f"No connection to port {self._settings.port}: {detail}.")

    async def _tunnel(self, stream: Stream, proxy: _Proxy, trusted: ssl.SSLContext) -> Stream:
        """Asks the proxy for a tunnel to the target (CONNECT, RFC 9110). The credentials go here and nowhere else."""
        with self._stage("proxy"):
            if proxy.scheme == "https":
                secured = TlsStream(stream, trusted, _ascii_host(proxy.host))
                await secured.handshake()
                stream = secured
            authority = _authority(_ascii_host(self._settings.host), self._settings.port)
            headers = [("Host", authority), ("User-Agent", AGENT)]
            if proxy.authorization:
                headers.append(("Proxy-Authorization", proxy.authorization))
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
            request = h11.Request(method="CONNECT", target=authority, headers=headers)
            await _send(stream, connection, request)
            answer = await _head(stream, connection)
            if answer.status_code in (407, 401):  # tinyproxy answers wrong credentials with 401
                raise _authentication_failure(answer, with_credentials=bool(proxy.authorization))
            if not 200 <= answer.status_code < 300:
                raise Failure(
                    "proxy_connect",
                    f"The proxy {proxy.shown} answered {_status_text(answer.status_code)}{_origin(answer)} "
                    "and opened no tunnel.",
                )
            if connection.trailing_data[0]:
                raise Failure("proxy_connect", f"The proxy {proxy.shown} answered with a page of its own.")
            self._note(f"{proxy.shown} opened a tunnel to {self._settings.target}.")
            return stream

    async def _handshake(self, stream: Stream, trusted: ssl.SSLContext) -> Stream:
        with self._stage("tls"):
            secured = TlsStream(stream, trusted, _ascii_host(self._settings.host))
            try:
                await secured.handshake()
            except ssl.SSLError:
                if secured.first and secured.first[0] not in (20, 21, 22, 23):
                    raise self._not_tls(secured.first) from None
                raise
            finally:
                self._tls_version = secured.version
                self._chain = served_chain(secured.certificates)
                if self._chain:
                    self._note(f"{self._tls_version}, {self._chain.sentence}.")
            return secured

    def _not_tls(self, first: bytes) -> Failure:
        if self._proxy and first.lstrip().startswith(b"<"):
            return Failure("proxy_connect", f"The proxy {self._proxy.shown} answered with a page of its own.")
        what = "plain HTTP" if first.startswith(b"HTTP/") else "something else"
        return Failure("tls_handshake", f"What answered speaks {what}, not TLS.")

    async def _ask(self, stream: Stream) -> None:
        settings = self._settings
        with self._stage("http"):
            usual = {"https": 443, "http": 80}[settings.protocol]
            host = _ascii_host(settings.host)
            shown = _authority(host, settings.port) if settings.port != usual else _authority(host)
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
            headers = [("Host", shown), ("User-Agent", AGENT), ("Accept", "*/*"), ("Connection", "close")]
            asked, started = time.time(), time.monotonic()
            await _send(stream, connection, h11.Request(method="GET", target=settings.path, headers=headers))
            answer = await _head(stream, connection)
            self._status = answer.status_code
            self._clock_skew = _clock_skew(answer, asked + (time.monotonic() - started) / 2)
            await _body(stream, connection)
            if answer.status_code not in settings.expected_statuses:
                expected = ", ".join(map(str, settings.expected_statuses)) or "nothing"
                raise Failure(
                    "http_status",
                    f"The answer was {_status_text(answer.status_code)}{_origin(answer)}, expected {expected}.",
                )
            self._note(f"the answer was {_status_text(answer.status_code)}, as expected.")


# --- HTTP over a stream -----------------------------------------------------------------------------------------------


async def _send(stream: Stream, connection: h11.Connection, request: h11.Request) -> None:
    head, end = connection.send(request), connection.send(h11.EndOfMessage())
    await stream.send((head or b"") + (end or b""))


async def _head(stream: Stream, connection: h11.Connection) -> h11.Response:
    """The head of the answer; interim ones (1xx) are passed over."""
    seen = b""
    received = 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            return event
        if event is not h11.NEED_DATA:
            continue
        data = await stream.receive()
        if not data:
            raise EndOfStreamError("closed by the peer before an answer" if not seen else "closed amid the answer")
        seen = (seen + data)[:5]
        received += len(data)
        if seen != b"HTTP/"[: len(seen)]:
            raise h11.RemoteProtocolError("it does not begin with HTTP/")
        if received > LARGEST_HEAD:
            raise h11.RemoteProtocolError("its head does not end")
        connection.receive_data(data)


async def _body(stream: Stream, connection: h11.Connection) -> None:
    """Reads the body to its end, or as much of it as is allowed."""
    received, ended = 0, False
    while received < LARGEST_BODY:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            if ended:
                raise EndOfStreamError("closed amid the answer") from None
            raise
        if event is h11.NEED_DATA:
            data = await stream.receive()
            received, ended = received + len(data), not data
            connection.receive_data(data)
        elif not isinstance(event, h11.Data):
            return


def _clock_skew(answer: h11.Response, local: float) -> float | None:
    """Seconds that `local` is ahead of the answer's Date; a cached answer is older by its Age."""
    try:
        told = email.utils.parsedate_to_datetime(_header(answer, b"date"))
    except ValueError:
        return None
    age = _header(answer, b"age")
    return local - told.timestamp() - (int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0)


def _header(answer: h11.Response, name: bytes) -> str:
    return ", ".join(value.decode("latin-1") for found, value in answer.headers if found == name)


def _origin(answer: h11.Response) -> str:
    """What the answer says of who gave it."""
    server, location = printable(_header(answer, b"server")), _header(answer, b"location")
    try:
        where = printable(urlsplit(location).hostname or "") if location else ""
    except ValueError:
        where = ""
    return (f" from `{server}`" if server else "") + (f" that leads to {where}" if where else "")


def _status_text(status: int | None) -> str:
    try:
        return f"{status} {http.HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


# --- names and addresses ----------------------------------------------------------------------------------------------


def _proxy_of(url: str) -> _Proxy:
    parts = urlsplit(url)
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return _Proxy(parts.scheme, parts.hostname or "", port, authorization)


def _authority(host: str, port: int | None = None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port is not None else shown


def _ascii_host(host: str) -> str:
    """`host` as TLS and HTTP spell it: international names encoded, no closing dot, no interface."""
    plain = host.partition("%")[0].removesuffix(".")
    return plain if plain.isascii() else plain.encode("idna").decode()


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host.partition("%")[0])
            return True
    return False


def _shown(addresses: Sequence[Address]) -> str:
    more = len(addresses) - ADDRESSES_SHOWN
    listed = ", ".join(str(address.place[0]) for address in addresses[:ADDRESSES_SHOWN])
    return f"{listed} and {more} more" if more > 0 else listed


# --- errors in words --------------------------------------------------------------------------------------------------


def _reason_of(error: OSError) -> Reason:
    number = getattr(error, "winerror", None)
    if isinstance(error, ConnectionRefusedError) or number in _WINDOWS_REFUSED:
        return "tcp_refused"
    if isinstance(error, TimeoutError) or number in _WINDOWS_TIMED_OUT:
        return "tcp_timeout"
    if isinstance(error, ConnectionError) or number in _WINDOWS_RESET:
        return "reset"
    if error.errno in _UNREACHABLE or number in _WINDOWS_UNREACHABLE:
        return "tcp_unreachable"
    return "other"


def _text(error: Exception) -> str:
    """An error in words that never hold more than the system, OpenSSL or this module put there."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown").replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.rstrip(".")
    if isinstance(error, UnicodeError):
        return "the host name cannot be encoded"
    return printable(str(error), 200) or type(error).__name__


def _lookup_text(error: Exception) -> str:
    if not isinstance(error, socket.gaierror):
        return _text(error)
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return "the name server knows no such name, or no address for it"
    if error.errno == socket.EAI_AGAIN:
        return "no name server gave an answer"
    return _text(error)


def _verification_failure(error: ssl.SSLCertVerificationError, host: str, chain: ServedChain | None) -> Failure:
    text = _text(error)
    if error.verify_code == _EXPIRED:
        when = f" on {day(chain.chain_expiry)}" if chain else ""
        return Failure("tls_expired", f"A certificate has expired{when}.")
    if error.verify_code == _NOT_YET_VALID:
        when = f" before {day(chain.starts)}" if chain else " yet"
        return Failure("tls_expired", f"The certificate is not valid{when}: check this machine's clock.")
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        names = f"; it is for {chain.names or 'no host'}" if chain else ""
        return Failure("tls_hostname", f"The certificate is not for {host}{names}.")
    issuer = f" by {chain.issuer}" if chain and chain.issuer else ""
    return Failure("tls_untrusted", f"The certificate, issued{issuer}, is not trusted on this machine: {text}.")


def _authentication_failure(answer: h11.Response, *, with_credentials: bool) -> Failure:
    status = answer.status_code
    offered = {scheme.casefold() for scheme in _SCHEME.findall(_header(answer, b"proxy-authenticate"))}
    if offered and offered <= {"ntlm", "negotiate", "kerberos"}:
        return Failure(
            "proxy_auth",
            f"The proxy ({status}) accepts NTLM or Negotiate only, which this probe does not speak. Whether it "
            "works cannot be judged from here: the Licenses service itself can do NTLM.",
        )
    if with_credentials:
        return Failure("proxy_auth", f"The proxy ({status}) did not accept the user name and the password.")
    return Failure("proxy_auth", f"The proxy ({status}) wants a user name and a password, and none is set.")
