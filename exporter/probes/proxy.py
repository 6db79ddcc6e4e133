"""A proxy: how it is written, how it is asked for a tunnel, and what it may answer instead of opening one."""

import base64
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import h11

from exporter.probes.exchange import Exchange, ascii_host, authority, header, origin, status_text
from exporter.probes.failure import Failure
from exporter.probes.stream import Stream, TlsStream

_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)(?=\s|,|$)")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, reached in the clear or by TLS."""

    scheme: str
    host: str
    port: int
    authorization: str = field(repr=False)
    """The value of Proxy-Authorization; empty without credentials."""

    def __str__(self) -> str:
        """The proxy for people: without credentials."""
        return f"{self.scheme}://{authority(self.host, self.port)}"


def proxy_of(url: str) -> Proxy:
    """The proxy that `url` names, its credentials percent-encoded. The configuration has checked that it does."""
    parts = urlsplit(url)
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Proxy(parts.scheme, parts.hostname or "", port, authorization)


async def tunnel(stream: Stream, proxy: Proxy, host: str, port: int, trusted: ssl.SSLContext) -> Stream:
    """A way to `host` through the proxy at the end of `stream` (CONNECT, RFC 9110, 9.3.6).

    The credentials go into this one request and nowhere else (hazard 129). Raises Failure and what the stream does.
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
        raise _authentication_failure(answer, with_credentials=bool(credentials))
    if not 200 <= answer.status_code < 300:
        told = f"{status_text(answer.status_code)}{origin(answer)}"
        raise Failure("proxy_connect", f"The proxy {proxy} answered {told} and opened no tunnel.")
    if exchange.follows:
        raise own_page(proxy)
    return stream


def own_page(proxy: Proxy) -> Failure:
    """The proxy pretends to open a tunnel, and sends a page of its own through it."""
    return Failure("proxy_connect", f"The proxy {proxy} answered with a page of its own.")


def _authentication_failure(answer: h11.Response, *, with_credentials: bool) -> Failure:
    status = answer.status_code
    offered = {scheme.casefold() for scheme in _SCHEME.findall(header(answer, b"proxy-authenticate"))}
    if offered and offered <= {"ntlm", "negotiate", "kerberos"}:
        return Failure(
            "proxy_auth",
            f"The proxy ({status}) accepts NTLM or Negotiate only, which this probe does not speak. Whether it "
            "works cannot be judged from here: the Licenses service itself can do NTLM.",
        )
    if with_credentials:
        return Failure("proxy_auth", f"The proxy ({status}) did not accept the user name and the password.")
    return Failure("proxy_auth", f"The proxy ({status}) wants a user name and a password, and none is set.")
