"""One probe: dns, connect, (proxy,) tls, http. Each stage is timed, each failure classified, under one deadline.

It takes the same path as the Licenses service on the same machine: through the same proxy, never through one that is
only set in an environment variable.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import h11

from exporter.config import ProbeConfig
from exporter.probes.certificate import ServedChain, served_chain
from exporter.probes.exchange import Exchange, ascii_host, authority, clock_skew, header, origin, status_text
from exporter.probes.failure import (
    ADDRESSES_SHOWN,
    Failure,
    Inconclusive,
    connect_failure,
    error_text,
    lookup_text,
    stage_failure,
    time_out,
)
from exporter.probes.login import Credentials
from exporter.probes.proxy import Proxy, own_page, proxy_of, tunnel
from exporter.probes.result import Phase, ProbeResult, is_server_error
from exporter.probes.stream import Address, Stream, TcpStream, TlsStream, connected_socket, trust
from exporter.products import SENSE, Product
from exporter.services_conf import ServiceProxy, licenses_service_proxy
from exporter.threads import in_thread

MOST_ADDRESSES = 64
"""Addresses of one name that are tried."""
STAGGER = 0.25
"""Seconds before the next address is tried in parallel with one that has not answered (RFC 8305)."""

TLS_RECORDS = (20, 21, 22, 23)
"""What the first byte of every TLS record is."""

Resolver = Callable[[str, int, int], Iterable[Address]]
"""(host, port, family) to addresses; may block; raises OSError. `family` is AF_UNSPEC, AF_INET or AF_INET6."""


def look_up(host: str, port: int, family: int) -> list[Address]:
    """The addresses of `host` according to this machine's resolver."""
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
    product: Product = SENSE,
) -> ProbeResult:
    """One probe of `settings.target` within `timeout` seconds (default: its own), over everything from DNS to body.

    Never raises for network errors: they are in the result.
    """
    return await RunningProbe(settings, resolver, environ, product).run(
        settings.timeout if timeout is None else timeout
    )


class RunningProbe:
    """A probe in progress: its result so far is available at any time."""

    def __init__(
        self,
        settings: ProbeConfig,
        resolver: Resolver = look_up,
        environ: Mapping[str, str] = os.environ,
        product: Product = SENSE,
    ) -> None:
        self._settings, self._resolver, self._environ, self._product = settings, resolver, environ, product
        self._at = time.time()
        self._phase: Phase | None = None
        self._phase_started = 0.0
        self._phases: dict[Phase, float] = {}
        self._notes: list[tuple[Phase | None, str]] = []
        self._proxy: Proxy | None = None
        self._addresses: list[Address] = []
        self._errors: dict[Address, OSError] = {}
        self._address: Address
        self._status: int | None = None
        self._ip_protocol: int | None = None
        self._chain: ServedChain | None = None
        self._tls_version: str | None = None
        self._clock_skew: float | None = None
        self.body = b""
        """The body of the answer, as far as it was read."""

    async def run(self, seconds: float) -> ProbeResult:
        """Go through the stages until done, failed, or `seconds` are over."""
        try:
            async with asyncio.timeout(seconds):
                await self._go(seconds)
        except TimeoutError:
            return self.timed_out()
        except (Failure, Inconclusive) as ended:
            return self._result(ended)
        return self._result(None)

    def timed_out(self) -> ProbeResult:
        """The result if the time ended now."""
        if self._phase is None:
            return self._result(Failure("other", "A file on this machine could not be read in time."))
        if self._phase == "connect":
            return self._result(self._unconnected())
        if self._phase == "dns":
            return self._result(self._on_the_way(time_out("dns")))
        return self._result(time_out(self._phase))

    def _result(self, ended: Failure | Inconclusive | None) -> ProbeResult:
        failure = ended if isinstance(ended, Failure) else None
        settings, chain = self._settings, self._chain
        phases = dict(self._phases)
        if self._phase and self._phase not in phases:  # that stage is still in progress
            phases[self._phase] = time.monotonic() - self._phase_started
        return ProbeResult(
            target=settings.target,
            role=settings.role,
            at=self._at,
            ended=time.time(),
            success=None if isinstance(ended, Inconclusive) else ended is None,
            reason=failure.reason if failure else None,
            detail=str(ended) if ended else self._success(),
            phases=phases,
            status=self._status,
            ip_protocol=self._ip_protocol,
            cert_expiry=chain.expiry if chain else None,
            chain_expiry=chain.chain_expiry if chain else None,
            tls_version=self._tls_version,
            issuer=chain.issuer if chain else None,
            issuer_expected=not self._unexpected_issuer() if chain and settings.expected_issuers else None,
            clock_skew=self._clock_skew,
            proxied=self._proxy is not None,
            tried=failure is None or failure.tried,
            story=self._story(phases, str(ended) if ended else ""),
        )

    def _success(self) -> str:
        through = f" through the proxy {self._proxy}" if self._proxy else ""
        answer = f" and answered {status_text(self._status)}, as expected" if self._status is not None else ""
        return f"{self._settings.target} was reached by {self._settings.protocol}{through}{answer}."

    def _story(self, phases: Mapping[Phase, float], end: str) -> tuple[str, ...]:
        notes = [*self._notes, (self._phase, end)] if end else self._notes
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
        """Times one stage, and classifies its errors."""
        self._phase, self._phase_started = phase, time.monotonic()
        try:
            yield
        except (OSError, h11.ProtocolError, ValueError) as error:  # SSLError is an OSError
            raise self._failure(phase, error) from error
        finally:
            self._phases[phase] = time.monotonic() - self._phase_started

    def _failure(self, phase: Phase, error: Exception) -> Failure:
        if phase == "dns":
            peer = f"The proxy {self._proxy.host}" if self._proxy else self._settings.host
            return self._on_the_way(Failure("dns", f"{peer} could not be resolved: {lookup_text(error)}."))
        if phase == "proxy" and isinstance(error, OSError | h11.RemoteProtocolError):
            return Failure("proxy_connect", f"The proxy {self._proxy} could not be used: {error_text(error)}.")
        return stage_failure(phase, error, self._settings.host, self._chain)

    def _unconnected(self) -> Failure:
        port = (self._proxy or self._settings).port
        return self._on_the_way(connect_failure(self._addresses, self._errors, port))

    def _on_the_way(self, failure: Failure) -> Failure:
        """A failure before anything was reached: with a proxy, it is the proxy that was not reached."""
        return Failure("proxy_connect", f"The proxy {self._proxy}: {failure.detail}") if self._proxy else failure

    # --- the stages ---------------------------------------------------------------------------------------------------

    async def _go(self, seconds: float) -> None:
        protocol = self._settings.protocol
        trusted = await self._prepared()
        self._addresses = await self._looked_up()
        with contextlib.ExitStack() as sockets:
            connected = sockets.enter_context(contextlib.closing(await self._connected(seconds)))
            stream: Stream = TcpStream(connected)
            if self._proxy:
                stream = await self._tunnelled(stream, sockets, self._proxy, trusted)
            if protocol in ("https", "tls"):
                stream = await self._secured(stream, trusted)
            if protocol in ("https", "http"):
                await self._ask(stream)

    async def _prepared(self) -> ssl.SSLContext:
        """Chooses the proxy, and reads which certificates are trusted."""
        settings = self._settings
        if settings.proxy not in ("auto", "none"):
            self._proxy = proxy_of(settings.proxy, self._configured())
            self._note(f"through the proxy {self._proxy}, as configured.")
        elif settings.proxy == "auto" and settings.role not in ("repository", "local", "proxy"):
            about = ("file", self._product.proxy_file)
            found = await in_thread(about, licenses_service_proxy, self._environ, self._product)
            self._proxy = self._services_own(found) if found.url else None
            self._note(found.sentence)
        else:
            self._note("without a proxy.")
        try:
            return await in_thread(("file", settings.ca_file), trust, settings.ca_file)
        except (OSError, ValueError) as error:
            raise Failure("other", f"ca_file {settings.ca_file} cannot be used: {error_text(error)}.") from error

    def _configured(self) -> Credentials | None:
        """The credentials that the configuration gives beside the proxy's address."""
        settings = self._settings
        return Credentials(settings.proxy_user, settings.proxy_password) if settings.proxy_user else None

    def _services_own(self, found: ServiceProxy) -> Proxy:
        """The Licenses service's proxy, with its own credentials unless the configuration gives some."""
        if configured := self._configured():
            return proxy_of(found.url, configured)
        return proxy_of(found.url, Credentials(found.user, found.password, found.method), withheld=found.withheld)

    async def _looked_up(self) -> list[Address]:
        """The addresses of the target, or of the proxy if there is one, which then resolves the target's name."""
        host, port = (self._proxy or self._settings).host, (self._proxy or self._settings).port
        if self._proxy and _is_address(host):  # nothing to resolve, so there is no such stage
            return look_up(host, port, socket.AF_UNSPEC)
        wanted = {"4": socket.AF_INET, "6": socket.AF_INET6}.get(self._settings.ip_protocol, socket.AF_UNSPEC)
        with self._stage("dns"):
            found = await in_thread(("name", host.casefold()), lambda: list(self._resolver(host, port, wanted)))
            usable = [address for address in dict.fromkeys(found) if wanted in (socket.AF_UNSPEC, address.family)]
            if not usable:
                raise OSError("it has no address of the requested IP version")
            usable.sort(key=lambda address: address.family != socket.AF_INET)
            more = len(usable) - ADDRESSES_SHOWN
            listed = ", ".join(str(address.place[0]) for address in usable[:ADDRESSES_SHOWN])
            self._note(f"{host} is {listed}{f' and {more} more' if more > 0 else ''}.")
            return usable[:MOST_ADDRESSES]

    async def _connected(self, seconds: float) -> socket.socket:
        with self._stage("connect"):
            # All addresses are tried within half of the time.
            stagger = min(STAGGER, seconds / 2 / len(self._addresses))
            found = await connected_socket(self._addresses, stagger, self._errors)
            if found is None:
                raise self._unconnected()
            connected, address = found
            self._address = address
            self._ip_protocol = 6 if address.family == socket.AF_INET6 else 4
            self._note(f"{address.place[0]} port {address.place[1]} answered.")
            return connected

    async def _tunnelled(
        self, first: Stream, sockets: contextlib.ExitStack, proxy: Proxy, trusted: ssl.SSLContext
    ) -> Stream:
        """A tunnel through `proxy`, on the `first` connection or on a further one in its place."""
        unused = [first]

        async def connect() -> Stream:
            if unused:
                return unused.pop()
            sockets.close()
            errors: dict[Address, OSError] = {}
            found = await connected_socket([self._address], 0, errors)
            if found is None:
                raise errors[self._address]
            return TcpStream(sockets.enter_context(contextlib.closing(found[0])))

        with self._stage("proxy"):
            stream = await tunnel(connect, proxy, self._settings.host, self._settings.port, trusted, self._note)
            self._note(f"{proxy} opened a tunnel to {self._settings.target}.")
            return stream

    async def _secured(self, stream: Stream, trusted: ssl.SSLContext) -> Stream:
        with self._stage("tls"):
            secured = TlsStream(stream, trusted, ascii_host(self._settings.host))
            try:
                await secured.handshake()
            except ssl.SSLError:
                if secured.first and secured.first[0] not in TLS_RECORDS:
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
            return own_page(self._proxy)
        what = "plain HTTP" if first.startswith(b"HTTP/") else "something else"
        return Failure("tls_handshake", f"The peer speaks {what}, not TLS.")

    async def _ask(self, stream: Stream) -> None:
        settings = self._settings
        with self._stage("http"):
            usual = {"https": 443, "http": 80}[settings.protocol]
            host = authority(ascii_host(settings.host), None if settings.port == usual else settings.port)
            asked, started = time.time(), time.monotonic()
            exchange = Exchange(stream)
            headers = [("Host", host), ("Accept", "*/*"), ("Connection", "close")]
            answer = await exchange.ask("GET", settings.path, headers)
            self._status = answer.status_code
            self._clock_skew = clock_skew(answer, asked + (time.monotonic() - started) / 2)
            self.body = await exchange.read_body()
            status = status_text(answer.status_code)
            if answer.status_code not in settings.expected_statuses:
                expected = ", ".join(map(str, settings.expected_statuses)) or "none"
                said = f"The response was {status}{origin(answer)}, expected {expected}{self._whose(answer)}."
                raise Failure("http_status", said)
            self._note(f"the response was {status}, as expected.")

    def _whose(self, answer: h11.Response) -> str:
        """Who seems to have given an answer that was not expected, as the end of a sentence."""
        if self._chain and not self._unexpected_issuer() and is_server_error(answer.status_code):
            return ": apparently an error of the server itself, judging by its certificate"
        if header(answer, b"content-type").casefold().startswith("text/html"):
            return ": an HTML page, such as that of a filter or a login"
        return ""

    def _unexpected_issuer(self) -> bool:
        expected = {organisation.strip().casefold() for organisation in self._settings.expected_issuers}
        return self._chain is not None and bool(expected) and self._chain.issuer.casefold() not in expected


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return True
    return False
