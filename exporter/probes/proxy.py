"""A proxy: parsing its address, requesting a tunnel, and interpreting answers that open none."""

import asyncio
import base64
import binascii
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import h11

from exporter.printable import printable
from exporter.probes.exchange import Exchange, ascii_host, authority, header, origin, status_text
from exporter.probes.failure import Failure, Inconclusive
from exporter.probes.login import Credentials, Login, NoLoginError, begin_login
from exporter.probes.stream import Stream, TlsStream
from exporter.threads import in_thread

MOST_REFUSALS = 3
"""Consecutive refusals after which the same credentials are not sent for a while."""
REST = 900.0
"""Seconds for which they are not sent. Domains commonly lock an account after 5 to 10 failures within half an hour."""
LOGIN_SECONDS = 3.0
"""Seconds that one step of a login may take on this machine."""
MOST_STEPS = 6
"""Requests of one login at most: NTLM takes two, Negotiate up to four."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)')
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SPELLED = {"ntlm": "NTLM", "negotiate": "Negotiate", "kerberos": "Kerberos", "digest": "Digest", "bearer": "Bearer"}
_UNKNOWN = "so it is unknown whether the Licenses service gets through."

_Result = TypeVar("_Result")

Connect = Callable[[], Awaitable[Stream]]
"""Opens a connection to the proxy. Raises OSError."""


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, connected to in clear text or with TLS."""

    scheme: str
    host: str
    port: int
    credentials: Credentials
    withheld: bool = False
    """Whether the Licenses service has credentials for it that the probe cannot use, or may use differently."""

    def __str__(self) -> str:
        """The proxy for people: without credentials."""
        return f"{self.scheme}://{authority(self.host, self.port)}"


def proxy_of(url: str, credentials: Credentials | None = None, *, withheld: bool = False) -> Proxy:
    """The proxy at `url`; unless others are given, its credentials are the percent-encoded ones in `url`.

    The configuration has validated `url`.
    """
    parts = urlsplit(url)
    if credentials is None:
        credentials = Credentials(unquote(parts.username or ""), unquote(parts.password or ""))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Proxy(parts.scheme, parts.hostname or "", port, credentials, withheld)


async def tunnel(
    connect: Connect, proxy: Proxy, host: str, port: int, trusted: ssl.SSLContext, note: Callable[[str], None]
) -> Stream:
    """Opens a tunnel to `host` (CONNECT, RFC 9110, 9.3.6). `note` receives how the probe authenticates.

    The credentials are part of these requests only (hazard 129). Basic is sent with the first request, as Go's clients
    do. With a user of a domain, the probe first waits for what the proxy offers: a domain password must not be sent in
    clear text if NTLM is possible. Raises Failure, Inconclusive, and the errors of streams.
    """
    way = _Way(connect, proxy, authority(ascii_host(host), port), trusted)
    if resting := _resting(proxy):
        answer = await way.ask("")
        if _refused(answer):
            raise resting
    else:
        answer = await _let_in(way, proxy, note)
    if not 200 <= answer.status_code < 300:
        answered = f"{status_text(answer.status_code)}{origin(answer)}"
        why = f": it does not reach {way.place} itself" if answer.status_code in (502, 503, 504) else ""
        raise Failure("proxy_connect", f"The proxy {proxy} answered {answered} and opened no tunnel{why}.")
    if way.follows:
        raise own_page(proxy)
    return way.stream


async def _let_in(way: "_Way", proxy: Proxy, note: Callable[[str], None]) -> h11.Response:
    """The answer of `proxy` once it no longer requires a login. Raises Failure and Inconclusive otherwise."""
    credentials = proxy.credentials
    sent = "" if credentials.method == "any" and credentials.with_domain else credentials.basic
    answer = await way.ask(sent)
    offered = offered_schemes(answer)
    login: Login | None = None
    hindrance = ""
    if _refused(answer) and not (sent and "basic" in offered):
        try:
            login = await _patiently(proxy, partial(begin_login, offered, credentials, proxy.host))
        except NoLoginError as error:
            hindrance = str(error)
        if login is not None:
            note(f"logging in with {login.scheme}" + (f" as {login.whom}." if login.whom else "."))
            answer = await _logged_in(way, login, proxy)
        elif not sent and credentials.basic and "basic" in offered:
            sent = credentials.basic
            answer = await way.ask(sent)
    if not _refused(answer):
        _refusals.pop(_account(proxy), None)
        return answer
    if login:
        ended, password_refused = _refused_login(answer, proxy, login), login.proved and credentials.complete
    else:
        ended = _refused_basic(answer, proxy, offered, hindrance, sent=bool(sent))
        password_refused = isinstance(ended, Failure) and bool(sent)
    if password_refused:
        _refusals[_account(proxy)] = _Refusals(_refused_before(proxy) + 1, time.monotonic(), ended)
    raise ended


# --- refused credentials ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Refusals:
    """Refusals in a row of the same credentials by the same proxy."""

    number: int
    last: float
    """By the monotonic clock."""
    ended: Failure | Inconclusive


_refusals: dict[int, _Refusals] = {}
"""By `_account`, since the process started."""


def _account(proxy: Proxy) -> int:
    return hash((str(proxy), proxy.credentials))


def _refused_before(proxy: Proxy) -> int:
    known = _refusals.get(_account(proxy))
    return known.number if known else 0


def _resting(proxy: Proxy) -> Failure | Inconclusive | None:
    """The outcome of a probe whose credentials are not sent now, because they were refused repeatedly.

    A probe runs every minute. Sending a wrong password that often would lock the account in its domain, which may be
    the one that the Licenses service itself needs.
    """
    known = _refusals.get(_account(proxy))
    if known is None or known.number < MOST_REFUSALS:
        return None
    if time.monotonic() >= known.last + REST:
        return None
    said = (
        f"{str(known.ended).removesuffix('.')}. It has done so several times in a row; the login is tried again after "
        "a pause, so that the account is not locked."
    )
    if isinstance(known.ended, Failure):
        return Failure(known.ended.reason, said, tried=False)
    return Inconclusive(said)


class _ClosedError(Exception):
    """The connection cannot be used for the next request of a login."""


class _Way:
    """The requests to a proxy for one tunnel, on one connection as long as the proxy keeps it open."""

    def __init__(self, connect: Connect, proxy: Proxy, place: str, trusted: ssl.SSLContext) -> None:
        self._connect, self._proxy, self._trusted = connect, proxy, trusted
        self.place = place
        """The target, as HTTP writes it."""
        self._exchange: Exchange | None = None
        self.stream: Stream
        """The connection of the last request."""

    async def ask(self, authorization: str, *, same: bool = False) -> h11.Response:
        """CONNECT with that Proxy-Authorization. `same`: on the connection of the last request.

        Raises _ClosedError if that is not available.
        """
        kept = self._exchange is not None and await self._exchange.goes_on()
        if same and not kept:
            raise _ClosedError
        if self._exchange is None or not kept:
            self.stream = await self._opened()
            self._exchange = Exchange(self.stream)
        headers = [("Host", self.place), ("Proxy-Connection", "Keep-Alive")]
        if authorization:
            headers.append(("Proxy-Authorization", authorization))
        try:
            return await self._exchange.ask("CONNECT", self.place, headers)
        except ConnectionError:
            if not kept:
                raise
            if same:
                raise _ClosedError from None
        self._exchange = None  # the proxy closed what it had promised to keep
        return await self.ask(authorization)

    @property
    def follows(self) -> bool:
        """Whether something already followed the last answer."""
        return self._exchange is not None and self._exchange.follows

    async def _opened(self) -> Stream:
        stream = await self._connect()
        if self._proxy.scheme == "https":
            secured = TlsStream(stream, self._trusted, ascii_host(self._proxy.host))
            await secured.handshake()
            stream = secured
        return stream


async def _patiently(proxy: Proxy, step: Callable[[], _Result]) -> _Result:
    """The result of a step that may contact a domain controller. Raises NoLoginError if it takes too long."""
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            return await in_thread(("login", proxy.host), step)
    except TimeoutError:
        raise NoLoginError(f"and this machine provided no login within {LOGIN_SECONDS:g} s") from None


async def _logged_in(way: _Way, login: Login, proxy: Proxy) -> h11.Response:
    """The answer to the last step of `login`. Raises Inconclusive if the steps cannot be completed."""
    challenge: bytes | None = None
    try:
        for _ in range(MOST_STEPS):
            authorization = await _patiently(proxy, partial(login.answer, challenge))
            answer = await way.ask(authorization, same=challenge is not None)
            challenge = _challenge_of(answer, login.scheme)
            if not _refused(answer) or challenge is None:
                return answer
            if login.proved and login.scheme == "NTLM":  # another challenge starts over: it was refused
                return answer
        raise NoLoginError(f"{login.scheme} did not end after {MOST_STEPS} steps")
    except NoLoginError as error:
        raise Inconclusive(f"The proxy {proxy} requires a login; {error}, {_UNKNOWN}") from None
    except _ClosedError:
        raise Inconclusive(
            f"The proxy {proxy} closes the connection between the steps of {login.scheme}, which require a single "
            f"connection, {_UNKNOWN}"
        ) from None


def own_page(proxy: Proxy) -> Failure:
    """The proxy pretends to open a tunnel, and sends a page of its own through it."""
    return Failure("proxy_connect", f"The proxy {proxy} answered with a page of its own.")


def _refused(answer: h11.Response) -> bool:
    return answer.status_code in (407, 401)  # tinyproxy answers wrong credentials with 401


def _challenges(answer: h11.Response) -> list[tuple[str, str]]:
    """The schemes that a 407 offers, in lower case, each with its token or an empty text (RFC 9110, 11.6.1).

    Several headers, several challenges in one header, parameters and lines folded anywhere are all allowed. A 401 has
    its challenges in the other header.
    """
    values = f"{header(answer, b'proxy-authenticate')}, {header(answer, b'www-authenticate')}"
    found = []
    for challenge in _QUOTED.sub('""', values).split(","):
        scheme, *parts = challenge.split() or [""]
        rest = "".join(parts)
        if scheme and "=" not in scheme and '"' not in scheme and not rest.startswith("="):  # else a parameter
            found.append((scheme.casefold(), rest if _TOKEN.fullmatch(rest) else ""))
    return found


def offered_schemes(answer: h11.Response) -> tuple[str, ...]:
    """The authentication schemes that a 407 offers, in lower case and in the given order."""
    return tuple(dict.fromkeys(scheme for scheme, _ in _challenges(answer)))


def _challenge_of(answer: h11.Response, scheme: str) -> bytes | None:
    """The challenge that the proxy sent, None without one. Raises NoLoginError if it is not base64."""
    token = next((token for name, token in _challenges(answer) if name == scheme.casefold() and token), "")
    if not token:
        return None
    try:
        return base64.b64decode(token, validate=True)
    except binascii.Error:
        raise NoLoginError("its challenge is not base64") from None


def _refused_login(answer: h11.Response, proxy: Proxy, login: Login) -> Failure | Inconclusive:
    """The outcome after a proxy refused NTLM or Negotiate."""
    who = f"The proxy {proxy} (status: {answer.status_code})"
    if not login.proved:
        return Inconclusive(f"{who} sent no {login.scheme} challenge, {_UNKNOWN}")
    if login.whom:
        return Inconclusive(
            f"{who} rejected the account that this probe runs as ({login.scheme}); the Licenses "
            f"service may use another one, {_UNKNOWN}"
        )
    if proxy.withheld:
        return Inconclusive(
            f"{who} rejected the Licenses service's user name and password as this probe sends "
            f"them ({login.scheme}); the service may add a domain, {_UNKNOWN}"
        )
    return Failure("proxy_auth", f"{who} rejected the user name and password ({login.scheme}).")


def _refused_basic(
    answer: h11.Response, proxy: Proxy, offered: tuple[str, ...], hindrance: str, *, sent: bool
) -> Failure | Inconclusive:
    """The outcome after a proxy refused Basic credentials, or requires what the probe cannot provide.

    The probe fails only if the Licenses service, with the settings that can be seen, would fail too: its Basic
    credentials are refused, or Basic is required and there are none. If the probe does not support the scheme, or has
    no credentials while the service has some, the service may succeed: then nothing is concluded.
    """
    who = f"The proxy {proxy} (status: {answer.status_code})"
    offered = tuple(dict.fromkeys((*offered, *offered_schemes(answer))))
    if answer.status_code == 401 and not offered:  # this means that the login is wrong
        offered = ("basic",)
    if not offered:
        return Inconclusive(f"{who} does not say which authentication it requires, {_UNKNOWN}")
    if "basic" not in offered:
        named = " and ".join(_SPELLED.get(scheme, printable(scheme, 20)) for scheme in offered[:4])
        return Inconclusive(f"{who} accepts only {named}, {hindrance}, {_UNKNOWN}")
    if sent:
        return Failure("proxy_auth", f"{who} rejected the user name and password.")
    if proxy.withheld or proxy.credentials.user:  # there are credentials, but not for Basic
        return Inconclusive(
            f"{who} requires a user name and password; this probe cannot use those of the Licenses service, {_UNKNOWN}"
        )
    return Failure("proxy_auth", f"{who} requires a user name and password, and none is set.")
