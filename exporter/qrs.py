"""The Repository API (QRS): seats, minutes and expiry, read over mutual TLS. Only here, and nothing but GET is sent.

Facts about endpoints, headers and fields: qlik-facts 4. What an answer does not say is None, never 0; what is missing,
renamed or not understood is counted and named. No serial number, key, owner or user leaves this module.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import math
import os
import random
import re
import secrets
import socket
import ssl
import string
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Never
from urllib.parse import urlsplit

import aiohttp
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from exporter.config import QrsConfig, local_path
from exporter.events import QrsLicenseRead

READ_TIMEOUT = 15.0
"""Seconds for one whole read: files, connection and every answer together."""
CLOSE_TIMEOUT = 1.0
"""Seconds that the event loop has after a read to close its connections, which are shut by then."""
FIRST_RETRY = 15.0
"""Seconds until the first try after a failure; doubled with each further one, up to the interval."""
JITTER = 0.1
"""Share of every pause by which it is shortened or prolonged, so that many exporters do not call in step."""
LARGEST_ANSWER = 4 << 20
"""Bytes of one answer. The longest is the list of sessions, some 500 bytes each."""
LARGEST_FILE = 1 << 20
"""Bytes of a certificate, key or CA file."""
LARGEST_NUMBER = 1e12
"""No count of seats, tokens or minutes is larger: beyond it a number is not understood."""
MOST_NOTES = 20
"""Sentences kept of one read; all problems are counted."""
LONGEST_QUOTE = 40
"""Characters of an answer that are quoted in a note, and that a product name may fill as a label: see `_printable`."""
LONGEST_PRODUCT = 64
FURTHEST_AHEAD = 300.0
"""Seconds that the Repository's clock may be ahead of ours before its instants are not believed."""
FIRST_YEAR, LAST_YEAR, PERPETUAL_YEAR = 2000, 2199, 9999
"""Years in which a license can end; 9999 is how .NET writes "never"."""

Reason = Literal[
    "certificate", "forbidden", "dns", "refused", "timeout", "tls", "reset", "http", "json", "too_large", "other"
]
LicenseKind = Literal["signed_key", "lef"]
AccessTypeName = Literal["professional", "analyzer"]

log = logging.getLogger(__name__)


class AccessType(msgspec.Struct, frozen=True):
    """The seats of one kind. None: the Repository did not say."""

    licenses: float | None
    allocated: float | None
    used: float | None
    available: float | None
    """Negative where more is allocated than owned."""
    quarantined: float | None
    excess: float | None


class LicenseOverview(msgspec.Struct, frozen=True, kw_only=True):
    """What one read found. None: not known, so not exposed. Instants in seconds since 1970."""

    read_at: float
    expiry: float | None = None
    """The last second (UTC) of the earliest `Valid To` day; None if perpetual or unknown."""
    expired: bool | None = None
    valid: bool | None = None
    """False if the Repository calls the license invalid or blacklisted; expiry is `expired`'s matter."""
    kind: LicenseKind | None = None
    product: str | None = None
    subscription: bool | None = None
    access: dict[AccessTypeName, AccessType] = {}
    """Only the kinds of seat that are enabled."""
    capacity_allocated: float | None = None
    """Seconds in this calendar month, like the two below."""
    capacity_used: float | None = None
    capacity_unavailable: float | None = None
    tokens: float | None = None
    tokens_available: float | None = None
    sessions_per_user_max: float | None = None
    updated: float | None = None
    """`license.updated`; that it is the last refresh is inferred (qlik-facts 4)."""
    notes: tuple[str, ...] = ()
    """Sentences: what was missing, renamed or not understood, and what was taken for what. No secrets."""
    problems: int = 0
    """How many fields were missing or not understood."""


class QrsError(Exception):
    """A read failed. `reason` is one word of a closed set; `str()` is that word and a sentence that says what to do."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(f"{reason}: {sentence}")
        self.reason: Reason = reason


@dataclass
class QrsBoard:
    """What is known from the Repository API now. Written by `run_qrs` only."""

    settings: QrsConfig
    up: bool | None = None
    """Whether the last read succeeded; None before the first."""
    duration: float | None = None
    """Seconds that the last read took."""
    last_success: float | None = None
    reason: str = ""
    """Why the last read failed, `QrsError` as text; empty when it did not."""
    problems: int = 0
    """Fields missing or not understood, over all reads of this process."""
    _last_good: LicenseOverview | None = None

    def overview(self, now: float) -> LicenseOverview | None:
        """The last good read until it is `max_age` old, then nothing: figures that old would lie."""
        if self._last_good is None or now - self._last_good.read_at > self.settings.max_age:
            return None
        return self._last_good

    def _succeeded(self, overview: LicenseOverview, duration: float) -> None:
        before = (self.up, self._last_good.notes if self._last_good else ())
        self.up, self.reason, self.duration = True, "", duration
        self.last_success, self._last_good = overview.read_at, overview
        self.problems += overview.problems
        if before != (True, overview.notes):
            log.log(
                logging.WARNING if overview.problems else logging.INFO,
                "the Repository API answers%s",
                "".join(f"; {note}" for note in overview.notes),
            )

    def _failed(self, error: QrsError, duration: float) -> None:
        if self.reason != str(error):
            log.warning("the Repository API cannot be read: %s", error)
        self.up, self.reason, self.duration = False, str(error), duration


def sync_seen(overview: LicenseOverview, settings: QrsConfig) -> QrsLicenseRead | None:
    """What a read says about the last sync: nothing, unless the site trusts `updated` (`qrs.trust_updated`)."""
    if not settings.trust_updated or overview.updated is None:
        return None
    return QrsLicenseRead(overview.updated)


async def read_into(board: QrsBoard) -> LicenseOverview | None:
    """One read, kept on `board`; None where it failed."""
    began = time.monotonic()
    try:
        overview = await read_overview(board.settings)
    except QrsError as error:
        board._failed(error, time.monotonic() - began)
        return None
    board._succeeded(overview, time.monotonic() - began)
    return overview


async def run_qrs(board: QrsBoard, settings: QrsConfig, on_read: Callable[[LicenseOverview], None]) -> Never:
    """Reads for ever: at once, then on the interval; after a failure sooner, then backing off to the interval.

    `on_read` gets every good read. One line is logged for each change of state, not for each read (hazard 134).
    """
    failures = 0
    while True:
        if overview := await read_into(board):
            failures = 0
            on_read(overview)
        else:
            failures += 1
        await asyncio.sleep(pause_after(settings.interval, failures))


def pause_after(interval: float, failures: int) -> float:
    """Seconds until the next read after so many failures in a row, with jitter."""
    pause = min(interval, FIRST_RETRY * 2.0 ** min(failures - 1, 20)) if failures else interval
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # no secret


# --- one read --------------------------------------------------------------------------------------------------------

_LICENSE = "/qrs/license"
_ACCESS = "/qrs/license/accesstypeoverview"
_SESSIONS = "/qps/session"
_KEY_CHARACTERS = string.ascii_letters + string.digits
_FILES = ThreadPoolExecutor(1, "qrs-files")
"""Reads the certificate files: off the event loop (hazard 122); one that hangs starves no DNS (hazard 121)."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def read_overview(settings: QrsConfig, timeout: float = READ_TIMEOUT) -> LicenseOverview:  # noqa: ASYNC109  # tests shorten it
    """Seats, minutes and expiry, now. Raises QrsError. The certificate files are read anew each time, so that
    renewed ones need no restart.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _read(settings)
    except TimeoutError:
        raise QrsError("timeout", f"the Repository did not answer in full within {timeout:g} s") from None


async def _read(settings: QrsConfig) -> LicenseOverview:
    in_thread = asyncio.get_running_loop().run_in_executor
    context = await in_thread(_FILES, tls_context, settings)
    xrfkey = "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(16))
    headers = {
        "X-Qlik-Xrfkey": xrfkey,
        "X-Qlik-User": settings.user.strip(),
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # with auto_decompress off: no answer grows after its size was checked
    }
    async with (
        _connections() as connector,
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),  # `read_overview` holds the deadline
            auto_decompress=False,
            trust_env=False,  # a proxy in the environment is not for this machine's own Repository
        ) as session,
    ):

        async def get(url: str, path: str) -> object:
            name = await in_thread(_FILES, server_name_of, settings, url)
            return await _get(session, url + path, path, {"xrfkey": xrfkey}, context, name, settings)

        site = settings.url.rstrip("/").removesuffix("/qrs")
        license_answer = await get(site, _LICENSE)
        access_answer = None if license_answer is None else await get(site, _ACCESS)
        sessions_answer: object = None
        sessions_failure = ""
        if settings.sessions_url:
            proxy = settings.sessions_url.rstrip("/").removesuffix(_SESSIONS)
            try:
                sessions_answer = await get(proxy, _SESSIONS)
            except QrsError as error:  # the proxy is another service: its failure must not hide the license
                sessions_failure = str(error)
    return overview_of(
        license_answer, access_answer, sessions_answer, read_at=time.time(), sessions_failure=sessions_failure
    )


@contextlib.asynccontextmanager
async def _connections() -> AsyncIterator[aiohttp.TCPConnector]:
    """Connections that end with the read. A polite TLS farewell would leave them to a stalled server's pleasure."""
    sockets: list[socket.socket] = []

    def opened(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = address
        sockets.append(socket.socket(family, kind, protocol))
        return sockets[-1]

    connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver(), socket_factory=opened)  # hazard 120
    try:
        yield connector
    finally:
        await connector.close()
        for still_open in sockets:
            with contextlib.suppress(OSError):  # closed already
                still_open.shutdown(socket.SHUT_RDWR)
        ends = time.monotonic() + CLOSE_TIMEOUT
        while any(one.fileno() != -1 for one in sockets) and time.monotonic() < ends:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)


async def _get(
    session: aiohttp.ClientSession,
    url: str,
    path: str,
    query: Mapping[str, str],
    context: ssl.SSLContext,
    server_name: str,
    settings: QrsConfig,
) -> object:
    """The JSON that a GET of `url` answers. Raises QrsError."""
    try:
        async with session.get(
            url, params=query, ssl=context, server_hostname=server_name, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise _unwanted_status(path, response.status)
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise QrsError("too_large", f"GET {path} answered with more than {LARGEST_ANSWER} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise _connection_failure(path, error, settings) from None
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise QrsError("json", f"GET {path} answered with something that is no JSON: is this the Repository?") from None


def _unwanted_status(path: str, status: int) -> QrsError:
    """403 is a fault in this exporter's set-up; no word here may be taken for the refusal of a Qlik user (case B8)."""
    if status in (401, 403):
        return QrsError(
            "forbidden",
            f"GET {path} answered {status}: the Repository does not let this exporter read. Check that qrs.user exists "
            "and has a role that may read the license, and that qrs.certificate is the site's own client certificate",
        )
    if status in (301, 302, 303, 307, 308):
        return QrsError("http", f"GET {path} answered {status}, a redirect: is qrs.url the Repository (port 4242)?")
    if status == 404:
        return QrsError("http", f"GET {path} answered 404: is qrs.url the Repository of the central node?")
    return QrsError("http", f"GET {path} answered {status}, expected 200")


def _connection_failure(path: str, error: Exception, settings: QrsConfig) -> QrsError:
    """aiohttp's failure in our words; its own text would name the host."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _untrusted(cause, settings)
    if isinstance(cause, ssl.SSLError):
        if "_ALERT_" in str(cause):
            return QrsError("certificate", f"the server does not accept the client certificate {settings.certificate}")
        return QrsError("tls", f"no TLS connection for GET {path}: {_openssl_word(cause)}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return QrsError("dns", "the host in qrs.url or qrs.sessions_url has no address")
    if isinstance(cause, ConnectionRefusedError):
        return QrsError("refused", f"nothing listens for GET {path}: is the Qlik service running, is the port right?")
    if isinstance(error, aiohttp.ClientPayloadError):
        return QrsError("reset", f"the connection was closed before GET {path} was answered in full")
    if isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(cause, ConnectionError):
        # TLS 1.3 often shows no more than this of a refused client certificate.
        return QrsError(
            "reset",
            f"the connection was closed before GET {path} was answered: the Qlik service is not ready, or does not "
            f"accept the client certificate {settings.certificate}",
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return QrsError("http", f"GET {path} was answered with something that is no HTTP")
    if isinstance(cause, TimeoutError):
        return QrsError("timeout", f"no connection for GET {path}")
    return QrsError("other", f"GET {path} failed: {_system_word(cause)}")


def _cause(error: Exception) -> BaseException:
    """The error of TLS or of the operating system inside aiohttp's, which keeps it in one of three places."""
    return getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__ or error


_UNKNOWN_ISSUER = (7, 18, 19, 20, 21)
"""OpenSSL's verdicts for an issuer that the CA file does not hold; 7 is a CA of the same name with another key."""
_OTHER_NAME = (62, 64)
"""OpenSSL's verdicts for a certificate that carries another host name or address."""


def _untrusted(error: ssl.SSLCertVerificationError, settings: QrsConfig) -> QrsError:
    """OpenSSL's verdict on the server's certificate, with the setting to look at."""
    if error.verify_code in _OTHER_NAME:
        return QrsError(
            "tls",
            "the server's certificate carries another host name than the one asked for: set qrs.server_name to the "
            "name that Qlik's certificate carries",
        )
    if error.verify_code in _UNKNOWN_ISSUER:
        return QrsError("tls", f"the server's certificate was not issued by the CA in {settings.ca_file} (qrs.ca_file)")
    return QrsError("tls", f"the server's certificate does not verify: {error.verify_message}")


def _openssl_word(error: BaseException) -> str:
    """OpenSSL's fixed text alone, for example `WRONG_VERSION_NUMBER`: never a host, never a path."""
    found = re.search(r"\[SSL: (\w+)\]", str(error))
    return found[1].lower().replace("_", " ") if found else "the handshake failed"


def _system_word(error: BaseException) -> str:
    """The operating system's text for an error number, without the host that aiohttp adds."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(error).__name__


# --- certificates ----------------------------------------------------------------------------------------------------


def server_name_of(settings: QrsConfig, url: str, environ: Mapping[str, str] = os.environ) -> str:
    """The name that the server's certificate must carry: `server_name`, else the host of `url`.

    Qlik's certificates carry the name the node was installed with, not `localhost`; a loopback address therefore
    means the name in Qlik's own `Host.cfg`, where there is one (seen in public scripts: base64 of the host name).
    """
    host = urlsplit(url).hostname or ""
    if settings.server_name:
        return settings.server_name
    if host not in _LOOPBACK:
        return host
    try:
        encoded = Path(local_path(r"%ProgramData%\Qlik\Sense\Host.cfg", environ)).read_bytes()[:1024]
        name = base64.b64decode(encoded, validate=False).decode("ascii").strip()
    except (OSError, binascii.Error, UnicodeDecodeError):
        return host
    return name if re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) else host


def tls_context(settings: QrsConfig) -> ssl.SSLContext:
    """Mutual TLS with the files of the settings; trusts the site's own CA only. Raises QrsError, naming the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks name and chain, and knows no other CA
    ca = _file(settings.ca_file)
    try:
        if _is_pem(ca):
            context.load_verify_locations(cafile=settings.ca_file)
        else:
            context.load_verify_locations(cadata=ca)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise QrsError("certificate", f"{settings.ca_file} (qrs.ca_file) holds no CA certificate") from None
    certificate = _file(settings.certificate)
    if _is_pem(certificate):
        _load_pem(context, certificate, settings)
    else:
        _load_pfx(context, certificate, settings)
    return context


def _is_pem(data: bytes) -> bool:
    return b"-----BEGIN " in data


def _file(name: str) -> bytes:
    try:
        with open(name, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise QrsError("certificate", f"{name} cannot be read: {_system_word(error)}") from None
    except ValueError:  # a NUL in the path
        raise QrsError("certificate", "a file name among qrs.certificate, key, ca_file is not usable") from None
    if len(data) > LARGEST_FILE:
        raise QrsError("certificate", f"{name} is larger than {LARGEST_FILE} bytes: no certificate")
    return data


def _load_pem(context: ssl.SSLContext, certificate: bytes, settings: QrsConfig) -> None:
    """OpenSSL decides whether the files can be used; `cryptography` only explains why not."""
    key = _file(settings.key)
    try:
        # With a password function OpenSSL never asks at the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: settings.key_password)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise _unusable_pem(certificate, key, settings) from None
    try:
        own = x509.load_pem_x509_certificate(certificate)
    except ValueError:  # stricter than OpenSSL, which has accepted it
        return
    _check_dates(own, settings.certificate)


def _unusable_pem(certificate: bytes, key: bytes, settings: QrsConfig) -> QrsError:
    try:
        own = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return QrsError("certificate", f"{settings.certificate} (qrs.certificate) holds no certificate")
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError:  # protected by a password
        if not settings.key_password:
            return QrsError("certificate", f"{settings.key} is protected by a password: set qrs.key_password")
        try:
            private = serialization.load_pem_private_key(key, password=settings.key_password.encode())
        except (ValueError, UnsupportedAlgorithm):
            return QrsError("certificate", f"qrs.key_password does not open {settings.key}")
    except (ValueError, UnsupportedAlgorithm):
        return QrsError("certificate", f"{settings.key} (qrs.key) holds no private key")
    if private.public_key() != own.public_key():
        return QrsError("certificate", f"the key in {settings.key} is not the key of {settings.certificate}")
    return QrsError("certificate", f"{settings.certificate} with {settings.key} cannot be used: key or hash too weak?")


def _load_pfx(context: ssl.SSLContext, certificate: bytes, settings: QrsConfig) -> None:
    """A PFX file holds its own key. Python's TLS reads keys from files only, so the pair passes through a temporary
    file, encrypted with a password that is never written anywhere.
    """
    password = settings.key_password.encode() or None
    try:
        key, own, others = pkcs12.load_key_and_certificates(certificate, password)
    except (ValueError, UnsupportedAlgorithm):
        raise QrsError(
            "certificate", f"{settings.certificate} is no PEM, and no PFX file that qrs.key_password opens"
        ) from None
    if key is None or own is None:
        raise QrsError("certificate", f"{settings.certificate} holds no private key with its certificate")
    _check_dates(own, settings.certificate)
    once = secrets.token_urlsafe(32)
    bundle = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(once.encode()),
    )
    bundle += b"".join(part.public_bytes(serialization.Encoding.PEM) for part in (own, *others))
    try:
        with tempfile.TemporaryDirectory(prefix="qlik-license-exporter-") as folder:
            file = Path(folder) / "client.pem"
            file.write_bytes(bundle)
            context.load_cert_chain(file, password=once)
    except ssl.SSLError as error:
        raise QrsError("certificate", f"{settings.certificate} cannot be used: {_openssl_word(error)}") from None
    except OSError as error:
        raise QrsError("certificate", f"a PFX file needs a folder for temporary files: {_system_word(error)}") from None


def _check_dates(certificate: x509.Certificate, name: str) -> None:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        ended = certificate.not_valid_after_utc.date().isoformat()
        raise QrsError("certificate", f"{name} expired on {ended}: export a new one from the QMC")
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc.date().isoformat()
        raise QrsError("certificate", f"{name} is valid from {begins} only: is this machine's clock right?")


# --- what the answers say --------------------------------------------------------------------------------------------

_FAMILIAR = frozenset(
    re.findall(
        r"\w+",
        """
        id createdDate modifiedDate modifiedByUserName lef serial check key keyDetails name organization product
        numberOfCores isExpired expiredReason isBlacklisted isInvalid isSubscription isCloudServices isElastic updated
        privileges schemaPath totalTokens availableTokens tokensEnabled userAccess loginAccess professionalAccess
        analyzerAccess analyzerTimeAccess enabled tokenCost allocatedTokens usedTokens quarantinedTokens
        unavailableTokens total allocated used quarantined excess available allocatedMinutes usedMinutes
        unavailableMinutes
        """,
    )
)
"""Every field name seen in public sources: others, beside a missing one, are what it may have been renamed to."""


@dataclass
class _Findings:
    """What there is to say about the answers of one read."""

    notes: list[str] = field(default_factory=list)
    problems: int = 0

    def note(self, sentence: str) -> None:
        if len(self.notes) < MOST_NOTES and sentence not in self.notes:
            self.notes.append(sentence)

    def problem(self, sentence: str) -> None:
        self.problems += 1
        self.note(sentence)


@dataclass
class _Part:
    """One JSON object of an answer. A field that is missing or not understood is None, counted, and named."""

    fields: dict[str, object]
    path: str
    findings: _Findings

    def value(self, name: str) -> object:
        if name in self.fields:
            return self.fields[name]
        others = [other for other in self.fields if other not in _FAMILIAR and re.fullmatch(r"\w{1,40}", other)]
        hint = f" (not known here: {', '.join(others[:5])})" if others else ""
        self.findings.problem(f"{self.path}.{name} is missing{hint}")
        return None

    def enabled_part(self, name: str) -> "_Part | None":
        """The object called `name` if it says `enabled`; null is "there is none", and no problem."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.findings.problem(f"{self.path}.{name} is no object")
            return None
        part = _Part(value, f"{self.path}.{name}", self.findings)
        return part if part.flag("enabled") else None

    def flag(self, name: str) -> bool | None:
        value = self.value(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if isinstance(value, bool):
            return value
        self._not_understood(name)
        return None

    def number(self, name: str, least: float = 0.0) -> float | None:
        value = self.value(name)
        number = math.nan
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\s*", value):
            number = float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) <= LARGEST_NUMBER else math.inf
        if least <= number <= LARGEST_NUMBER:
            return number
        self._not_understood(name)
        return None

    def seconds(self, name: str) -> float | None:
        """A number of minutes, in seconds."""
        minutes = self.number(name)
        return None if minutes is None else minutes * 60

    def holds_text(self, name: str) -> bool:
        value = self.fields.get(name)
        return isinstance(value, str) and bool(value.strip())

    def _not_understood(self, name: str) -> None:
        if name in self.fields:
            found = "null" if self.fields[name] is None else "not understood"
            self.findings.problem(f"{self.path}.{name} is {found}")


def overview_of(
    license_answer: object,
    access_answer: object,
    sessions_answer: object = None,
    *,
    read_at: float,
    sessions_failure: str = "",
) -> LicenseOverview:
    """What the decoded answers of the three endpoints say. Pure. Raises QrsError where one is no license at all."""
    findings = _Findings()
    sessions = None
    if sessions_failure:
        findings.problem(f"sessions: {sessions_failure}")
    elif sessions_answer is not None:
        sessions = _most_sessions(sessions_answer, findings)
    if license_answer is None:
        findings.note("no license is set, or qrs.user may not see it")
        return LicenseOverview(
            read_at=read_at,
            sessions_per_user_max=sessions,
            notes=tuple(findings.notes),
            problems=findings.problems,
        )
    license_ = _Part(_object(license_answer, _LICENSE), "license", findings)
    access = _Part(_object(access_answer, _ACCESS), "accesstypeoverview", findings)
    kind = _kind(license_)
    capacity = access.enabled_part("analyzerTimeAccess")
    tokens = access.flag("tokensEnabled")
    return LicenseOverview(
        read_at=read_at,
        expiry=_expiry(license_, kind),
        expired=license_.flag("isExpired"),
        valid=_valid(license_),
        kind=kind,
        product=_product(license_),
        subscription=license_.flag("isSubscription"),
        access=_access(access),
        capacity_allocated=capacity.seconds("allocatedMinutes") if capacity else None,
        capacity_used=capacity.seconds("usedMinutes") if capacity else None,
        capacity_unavailable=capacity.seconds("unavailableMinutes") if capacity else None,
        tokens=access.number("totalTokens") if tokens else None,
        tokens_available=access.number("availableTokens", least=-LARGEST_NUMBER) if tokens else None,
        sessions_per_user_max=sessions,
        updated=_updated(license_, read_at),
        notes=tuple(findings.notes),
        problems=findings.problems,
    )


def _object(answer: object, path: str) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise QrsError("json", f"GET {path} answered with JSON that is no object: is this the Repository?")
    return answer


def _access(overview: _Part) -> dict[AccessTypeName, AccessType]:
    names: dict[AccessTypeName, str] = {"professional": "professionalAccess", "analyzer": "analyzerAccess"}
    return {
        name: AccessType(
            licenses=part.number("total"),
            allocated=part.number("allocated"),
            used=part.number("used"),
            available=part.number("available", least=-LARGEST_NUMBER),
            quarantined=part.number("quarantined"),
            excess=part.number("excess"),
        )
        for name, field_name in names.items()
        if (part := overview.enabled_part(field_name))
    }


def _kind(license_: _Part) -> LicenseKind | None:
    """A signed key has a `key`; the older kind has a serial number (or the LEF text) without one."""
    if license_.holds_text("key"):
        return "signed_key"
    if "key" not in license_.fields and license_.holds_text("keyDetails"):
        license_.value("key")  # counted as missing: details of a key without the key
        return "signed_key"
    if license_.holds_text("serial") or license_.holds_text("lef"):
        return "lef"
    license_.findings.problem("license names neither a key nor a serial number")
    return None


def _valid(license_: _Part) -> bool | None:
    invalid, blacklisted = license_.flag("isInvalid"), license_.flag("isBlacklisted")
    if invalid or blacklisted:
        return False
    return None if invalid is None or blacklisted is None else True


def _product(license_: _Part) -> str | None:
    """A number or a name (both seen in public sources), fit for a label."""
    value = license_.value("product")
    if isinstance(value, str) and _printable(value):
        return _printable(value)[:LONGEST_PRODUCT]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER:
        return str(value)
    if value is not None:
        license_.findings.problem("license.product is not understood")
    return None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:1024]).strip()


def _most_sessions(answer: object, findings: _Findings) -> float | None:
    """The most open sessions that any one user holds at this proxy: a lower bound, since a site has several."""
    if not isinstance(answer, list):
        findings.problem(f"GET {_SESSIONS} answered with JSON that is no list")
        return None
    held: Counter[tuple[str, str]] = Counter()
    for entry in answer:
        names = {key.lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
        directory, user = names.get("userdirectory"), names.get("userid")
        if isinstance(directory, str) and isinstance(user, str) and user:
            held[directory.casefold(), user.casefold()] += 1
    if answer and not held:
        findings.problem(f"GET {_SESSIONS} answered with sessions that name no UserDirectory and UserId")
        return None
    return float(max(held.values(), default=0))


def _updated(license_: _Part, read_at: float) -> float | None:
    value = license_.value("updated")
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        license_.findings.problem("license.updated is no instant with a time zone")
        return None
    if moment.year < FIRST_YEAR:  # Qlik writes 1753-01-01 for "never"
        return None
    if moment.timestamp() > read_at + FURTHEST_AHEAD:
        license_.findings.problem("license.updated lies in the future: compare the clocks")
        return None
    return moment.timestamp()


# --- `Valid To` ------------------------------------------------------------------------------------------------------

_VALID_TO = re.compile(r"valid[ \t]*to[ \t]*[:=]([^\r\n;|\\]*)", re.IGNORECASE)
_OTHER_ENDING = re.compile(r"\b(valid[ \t]+(?:until|till|through|thru)|expir\w{1,12}|end[ \t]*date)\b", re.IGNORECASE)
_PERPETUAL_WORDS = ("never", "perpetual", "unlimited")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TIME = (
    r"(?:(?:\s*T|,?\s+)\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:\s*[ap]\.?m\.?)?)?"
    r"(?:\s*(?:Z|UTC|GMT))?(?:\s*[+-]\d{2}:?\d{2})?(?:\s*\([^)]*\))?"
)
_SPELLINGS = tuple(
    re.compile(spelling + _TIME, re.IGNORECASE | re.ASCII)
    for spelling in (
        r"(?P<year>\d{4})(?P<separator>[-/.])(?P<month>\d{1,2})(?P=separator)(?P<day>\d{1,2})",  # 2026-12-31
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",  # 20261231
        r"(?P<first>\d{1,2})(?P<separator>[-/.])(?P<second>\d{1,2})(?P=separator)(?P<year>\d{4})",  # 31/12/2026
        _WEEKDAY + _DAY + r"[-/.,\s]+" + _MONTH + r"[-/.,\s]+(?P<year>\d{4})",  # 31 December 2026, 31-Dec-2026
        _WEEKDAY + _MONTH + r"\s*" + _DAY + r",?\s+(?P<year>\d{4})",  # December 31, 2026
    )
)


def day_of(text: str) -> date | None:
    """The day that `text` names, as written (a time or zone behind it moves nothing); None if it could be another one.

    `31/12/2026` and `12/31/2026` can be read in one way only and are; `05/06/2026` can be May or June and is not.
    """
    for spelling in _SPELLINGS:
        if found := spelling.fullmatch(text.strip()):
            parts = found.groupdict()
            if "first" in parts:
                days = {
                    _date(parts["year"], parts["second"], parts["first"]),
                    _date(parts["year"], parts["first"], parts["second"]),
                } - {None}
                return days.pop() if len(days) == 1 else None
            month = parts["month"][:3].lower()
            return _date(parts["year"], str(_MONTHS.index(month) + 1) if month in _MONTHS else month, parts["day"])
    return None


def _date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _expiry(license_: _Part, kind: LicenseKind | None) -> float | None:
    """The last second of the earliest `Valid To` day.

    In which time zone Qlik ends the day is unknown; UTC is our choice, at most 14 hours off.
    """
    findings = license_.findings
    details = license_.value("keyDetails") if kind == "signed_key" else license_.fields.get("keyDetails")
    if not isinstance(details, str) or not details.strip():
        if kind == "signed_key" and "keyDetails" in license_.fields:
            findings.problem("license.keyDetails is empty: expiry not known")
        return None
    spelled = [found[1].strip(" \t'\"") for found in _VALID_TO.finditer(details)]
    days = []
    for text in spelled:
        day = day_of(text)
        if text.lower() in _PERPETUAL_WORDS or (day and day.year == PERPETUAL_YEAR):
            continue
        if day and FIRST_YEAR <= day.year <= LAST_YEAR:
            days.append(day)
        else:
            findings.problem(
                f"license.keyDetails: Valid To `{_printable(text)[:LONGEST_QUOTE]}` is no unambiguous date"
            )
    if not spelled:
        if other := _OTHER_ENDING.search(details):
            findings.problem(f"license.keyDetails has no Valid To, but `{other[1]}`: expiry not known")
        else:
            findings.note("license.keyDetails has no Valid To: taken as perpetual")
    if not days:
        return None
    end = datetime.combine(min(days), datetime.min.time(), UTC) + timedelta(days=1, seconds=-1)
    return end.timestamp()
