"""A proxy: how it is written, how it is asked for a tunnel, and what it may answer instead of opening one."""

import base64
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import h11

from exporter.printable import printable
from exporter.probes.exchange import Exchange, ascii_host, authority, header, origin, status_text
from exporter.probes.failure import Failure, Inconclusive
from exporter.probes.stream import Stream, TlsStream

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)')
_SCHEME = re.compile(r"[^\s,=\"]+(?=\s+[^\s=]|\s*$)")
_SPELLED = {"ntlm": "NTLM", "negotiate": "Negotiate", "kerberos": "Kerberos", "digest": "Digest", "bearer": "Bearer"}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, reached in the clear or by TLS."""

    scheme: str
    host: str
    port: int
    authorization: str = field(repr=False)
    """The value of Proxy-Authorization; empty without credentials."""
    withheld: bool = False
    """Whether the Licenses service has credentials for it that cannot be used from here."""

    def __str__(self) -> str:
        """The proxy for people: without credentials."""
        return f"{self.scheme}://{authority(self.host, self.port)}"


def proxy_of(url: str, *, withheld: bool = False) -> Proxy:
    """The proxy that `url` names, its credentials percent-encoded. The configuration has checked that it does."""
    parts = urlsplit(url)
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Proxy(parts.scheme, parts.hostname or "", port, authorization, withheld)


async def tunnel(stream: Stream, proxy: Proxy, host: str, port: int, trusted: ssl.SSLContext) -> Stream:
    """A way to `host` through the proxy at the end of `stream` (CONNECT, RFC 9110, 9.3.6).

    The credentials go into this one request and nowhere else (hazard 129). Raises Failure, Inconclusive, and what the
    stream does.
    """
    if proxy.scheme == "https":
        secured = TlsStream(stream, trusted, ascii_host(proxy.host))
        await secured.handshake()
        stream = secured
    place = authority(ascii_host(host), port)
    exchange = Exchange(stream)
    credentials = [("Proxy-Authorization", proxy.authorization)] if proxy.authorization else []
    answer = await exchange.ask("CONNECT", place, [("Host", place), *credentials])
    if answer.status_code in (407, 401):  # tinyproxy answers wrong credentials with 401
        raise _refused_login(answer, proxy)
    if not 200 <= answer.status_code < 300:
        told = f"{status_text(answer.status_code)}{origin(answer)}"
        raise Failure("proxy_connect", f"The proxy {proxy} answered {told} and opened no tunnel.")
    if exchange.follows:
        raise own_page(proxy)
    return stream


def own_page(proxy: Proxy) -> Failure:
    """The proxy pretends to open a tunnel, and sends a page of its own through it."""
    return Failure("proxy_connect", f"The proxy {proxy} answered with a page of its own.")


def offered_schemes(answer: h11.Response) -> tuple[str, ...]:
    """The authentication schemes that a 407 offers, in small letters and in its order (RFC 9110, 11.6.1).

    Several headers, several challenges in one header, parameters and folded lines are all allowed. tinyproxy answers
    wrong credentials with a 401, whose challenges have the other header's name.
    """
    values = f"{header(answer, b'proxy-authenticate')}, {header(answer, b'www-authenticate')}"
    challenges = _QUOTED.sub('""', values).split(",")
    found = [scheme[0].casefold() for challenge in challenges if (scheme := _SCHEME.match(challenge.strip()))]
    return tuple(dict.fromkeys(found))


def _refused_login(answer: h11.Response, proxy: Proxy) -> Failure | Inconclusive:
    """What a proxy that wants a login says about the way behind it.

    It fails the probe only where the Licenses service, set as far as we can see like the probe, would fail too: its
    Basic credentials are refused, or Basic is asked for and there are none. What we cannot speak, or have no
    credentials for while the service has, the service may well pass: then nothing is concluded.
    """
    offered, status = offered_schemes(answer), answer.status_code
    named = " and ".join(_SPELLED.get(scheme, printable(scheme, 20)) for scheme in offered[:4])
    unknown = "so it is unknown whether the Licenses service gets through."
    if status == 401 and not offered:  # it says so much: the login is wrong
        offered = ("basic",)
    if not offered:
        return Inconclusive(
            f"The proxy {proxy} answered {status} and does not say which authentication it requires, {unknown}"
        )
    if "basic" not in offered:
        return Inconclusive(
            f"The proxy {proxy} ({status}) accepts only {named}, which this probe does not support, {unknown}"
        )
    if proxy.authorization:
        return Failure("proxy_auth", f"The proxy {proxy} ({status}) rejected the user name and password.")
    if proxy.withheld:
        return Inconclusive(
            f"The proxy {proxy} ({status}) requires a user name and password; this probe cannot use those of the "
            f"Licenses service, {unknown}"
        )
    return Failure("proxy_auth", f"The proxy {proxy} ({status}) requires a user name and password, and none is set.")
