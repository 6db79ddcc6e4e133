"""The receiver of remote write: one request at a time over HTTP, and what its answer means for a batch."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import unquote, urlsplit

import aiohttp

from exporter import __version__
from exporter.config import ConfigError, RemoteWriteConfig, is_header_value, text_of
from exporter.connections import connections
from exporter.network_errors import OTHER_NAME, UNKNOWN_ISSUER, cause_of, openssl_word, system_word
from exporter.remote_write.encoding import write_request
from exporter.remote_write.figures import DroppedReason
from exporter.threads import in_thread

SEND_TIMEOUT = 30.0
"""Seconds for one request with its answer, as Prometheus' own `remote_timeout`."""
LARGEST_ANSWER = 16 << 10
"""Bytes of an answer that are read; only searched for `_OLD`, never shown."""
LARGEST_CA_FILE = 1 << 20
LONGEST_RETRY_AFTER = 600.0
"""Seconds: a receiver that asks for a longer pause is asked again after this one."""

_OLD = (b"out of order", b"out-of-order", b"out of bounds", b"too old", b"duplicate sample")
"""What Prometheus, Mimir, Thanos and VictoriaMetrics say of samples that are older than those they have."""


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    verdict: Literal["taken", "refused", "failed"]
    """refused: the receiver will never take this batch. failed: it is to be sent again."""
    sentence: str = ""
    """Why not, for a person: no host, no text of the receiver."""
    reason: DroppedReason = "http"
    """Of a refused batch."""
    retry_after: float = 0.0
    """Seconds that the receiver asks to wait."""


Post = Callable[[bytes], Awaitable[Answer]]


async def look(settings: RemoteWriteConfig, now: float) -> Answer:
    """What the receiver answers to a request without samples, which changes nothing there."""
    async with receiver(settings, lambda: now) as post:
        return await post(write_request((), 0))


@contextlib.asynccontextmanager
async def receiver(settings: RemoteWriteConfig, wall: Callable[[], float]) -> AsyncIterator[Post]:
    """A function that sends one body; raises nothing. The connection is kept for the block.

    Files with secrets and certificates are read at the beginning, so that renewed ones need no restart.
    """
    async with contextlib.AsyncExitStack() as opened:
        session: aiohttp.ClientSession | None = None
        context: ssl.SSLContext | bool = True
        login: dict[str, str] = {}
        unusable = ""
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                login = await in_thread(("file", "remote_write"), _login, settings)
                if settings.url.startswith("https:"):
                    context = await in_thread(("file", "remote_write"), _tls_context, settings)
            connector = await opened.enter_async_context(connections())
            session = await opened.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={
                        **settings.headers,
                        **login,
                        "Content-Type": "application/x-protobuf",
                        "Content-Encoding": "snappy",
                        "X-Prometheus-Remote-Write-Version": "0.1.0",
                        "User-Agent": f"qlik-license-exporter/{__version__}",
                        "Accept-Encoding": "identity",
                    },
                    timeout=aiohttp.ClientTimeout(total=None),  # below
                    auto_decompress=False,
                    trust_env=False,
                )
            )
        except _FileError as error:
            unusable = str(error)
        except TimeoutError:
            unusable = f"the files of remote_write could not be read within {SEND_TIMEOUT:g} s"

        async def post(body: bytes) -> Answer:
            if session is None:
                return Answer("failed", unusable)
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    return await _post(session, settings, context, body, wall)
            except TimeoutError:
                return Answer("failed", f"the receiver (remote_write.url) did not answer within {SEND_TIMEOUT:g} s")
            except (aiohttp.ClientError, OSError, UnicodeError) as error:
                return Answer("failed", _failure(error, settings))

        yield post


async def _post(
    session: aiohttp.ClientSession,
    settings: RemoteWriteConfig,
    context: ssl.SSLContext | bool,
    body: bytes,
    wall: Callable[[], float],
) -> Answer:
    proxy, login = _proxy(settings.proxy_url)
    tunnelled = settings.url.startswith("https:")  # the receiver never gets the proxy's login
    async with session.post(
        settings.url,
        data=body,
        ssl=context,
        server_hostname=settings.tls_config.server_name or None,
        proxy=proxy,
        proxy_headers=login if tunnelled else None,
        headers=None if tunnelled else login,
        allow_redirects=False,
    ) as response:
        text = bytearray()
        if 400 <= response.status <= 499:  # only there the words matter; a 2xx counts even if its body breaks off
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for chunk in response.content.iter_any():
                    text += chunk
                    if len(text) > LARGEST_ANSWER:
                        response.close()
                        break
        return _meaning(response.status, bytes(text), response.headers.get("Retry-After", ""), wall())


def _meaning(status: int, text: bytes, retry_after: str, now: float) -> Answer:
    """As the specification wants it: 5xx and 429 are sent again, other 4xx never. A redirect is not followed: it says
    nothing about the samples, so they are kept until the address is right."""
    if 200 <= status <= 299:
        return Answer("taken", f"answered {status}")
    answered = f"the receiver (remote_write.url) answered {status}"
    if 300 <= status <= 399:
        return Answer("failed", f"{answered}, a redirect: is remote_write.url its final address?")
    if status == 429 or not 400 <= status <= 499:
        return Answer("failed", answered, retry_after=_seconds(retry_after, now))
    if status == 407:  # not the receiver's
        return Answer("failed", _PROXY_LOGIN)
    if status in (401, 403):
        return Answer("refused", f"{answered}: it does not accept the login of remote_write", "unauthorized")
    if status == 404:
        return Answer("refused", f"{answered}: is the path in remote_write.url right, and is the receiver enabled?")
    if any(words in text.lower() for words in _OLD):
        return Answer("refused", f"{answered}: the samples are older than those it has", "too_old")
    return Answer("refused", answered, "bad_request" if status == 400 else "http")


def _seconds(retry_after: str, now: float) -> float:
    """The seconds that a `Retry-After` header asks for, at most LONGEST_RETRY_AFTER; 0 if it cannot be understood."""
    text = retry_after.strip()
    try:
        if text.isascii() and text.isdigit():
            wanted = float(text[:10])
        else:
            at = parsedate_to_datetime(text)
            wanted = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(wanted, 0.0), LONGEST_RETRY_AFTER)


# --- files -----------------------------------------------------------------------------------------------------------


class _FileError(Exception):
    """A file that a setting names cannot be used: `str()` names both."""


def _login(settings: RemoteWriteConfig) -> dict[str, str]:
    """The `Authorization` header. Raises _FileError."""
    basic, token = settings.basic_auth, settings.authorization
    if basic.username:
        password = _secret("basic_auth.password_file", basic.password_file) or basic.password
        return {"Authorization": _basic(basic.username, password)}
    if credentials := _secret("authorization.credentials_file", token.credentials_file) or token.credentials:
        if not is_header_value(credentials):
            raise _FileError("remote_write.authorization.credentials_file contains a character that no header may")
        return {"Authorization": f"{token.type} {credentials}"}
    return {}


def _secret(key: str, file: str) -> str:
    if not file:
        return ""
    try:
        return text_of(file).rstrip("\r\n")
    except ConfigError as error:
        raise _FileError(f"{file} (remote_write.{key}): {error.problem}") from None


def _tls_context(settings: RemoteWriteConfig) -> ssl.SSLContext:
    """Trusts the system's store and `ca_file`; at least TLS 1.2. Raises _FileError."""
    tls = settings.tls_config
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an issuing CA in `ca_file` is enough, as it is for Go
    if tls.ca_file:
        named = f"{tls.ca_file} (remote_write.tls_config.ca_file)"
        try:
            with open(tls.ca_file, "rb") as stream:
                data = stream.read(LARGEST_CA_FILE)
            context.load_verify_locations(cadata=data.decode("ascii", "ignore") if b"-----BEGIN" in data else data)
        except (ssl.SSLError, ValueError):
            raise _FileError(f"{named} contains no CA certificate in PEM or DER") from None
        except OSError as error:
            raise _FileError(f"{named} cannot be read: {error.strerror}") from None
    if tls.cert_file:
        named = f"{tls.cert_file} and {tls.key_file} (remote_write.tls_config)"
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
        except (ssl.SSLError, ValueError):
            raise _FileError(f"{named} are not a certificate and its unencrypted key in PEM") from None
        except OSError as error:
            raise _FileError(f"{named} cannot be read: {error.strerror}") from None
    return context


def _proxy(url: str) -> tuple[str | None, dict[str, str]]:
    """The proxy's address without its login, and the header that carries the login."""
    if not url:
        return None, {}
    parts = urlsplit(url)
    address = f"http://{parts.netloc.rpartition('@')[2]}"
    if parts.username is None:
        return address, {}
    return address, {"Proxy-Authorization": _basic(unquote(parts.username), unquote(parts.password or ""))}


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


# --- failures --------------------------------------------------------------------------------------------------------


_PROXY_LOGIN = "a proxy answered 407: it wants a login, or does not accept the one in remote_write.proxy_url"


def _failure(error: Exception, settings: RemoteWriteConfig) -> str:
    """aiohttp's failure in our words; its own text would name the host."""
    whose = "the receiver (remote_write.url)"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status == 407:
            return _PROXY_LOGIN
        return f"the proxy (remote_write.proxy_url) answered {error.status}: it does not connect to the receiver"
    cause = cause_of(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in OTHER_NAME:
            return (
                f"the certificate of {whose} is for another host name: set remote_write.tls_config.server_name to the "
                "name in it"
            )
        if cause.verify_code in UNKNOWN_ISSUER:
            return f"the certificate of {whose} is not issued by a trusted CA: set remote_write.tls_config.ca_file"
        return f"the certificate of {whose} cannot be verified: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection to {whose}: {openssl_word(cause)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.InvalidURL | UnicodeError):  # or not a host's name
        return f"the host in remote_write.{'proxy_url' if settings.proxy_url else 'url'} cannot be resolved"
    if settings.proxy_url and isinstance(error, aiohttp.ClientConnectorError):
        whose = "the proxy (remote_write.proxy_url)"
    if isinstance(cause, ConnectionRefusedError):
        return f"{whose} refuses connections"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return f"{whose} closed the connection before it answered completely"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{whose} answered with something that is not HTTP"
    if isinstance(cause, ConnectionError):
        return f"{whose} closed the connection before it answered completely"
    return f"{whose} cannot be reached: {system_word(cause)}"
