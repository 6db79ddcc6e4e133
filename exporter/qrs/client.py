"""One read of the Repository API over mutual TLS. The only module that sends requests to it, and only GET.

Endpoints and headers: qlik-facts 4.
"""

import asyncio
import contextlib
import json
import secrets
import ssl
import string
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import aiohttp

from exporter.config import QrsConfig
from exporter.connections import connections
from exporter.qrs.answers import ACCESS, LICENSE, overview_of
from exporter.qrs.certificates import server_name_of, tls_context
from exporter.qrs.endpoint import Endpoint, repository, sessions
from exporter.qrs.failure import QrsError, connection_failure, no_json, unwanted_status
from exporter.qrs.overview import AccessTypeName, LicenseOverview, UnusedOverview
from exporter.qrs.people import FULL, Holder, Rows, holder_of
from exporter.qrs.unused import SEATS, CountName, HolderCount, filters_at, holder_filters, unused_of
from exporter.threads import in_thread

READ_TIMEOUT = 15.0
"""Seconds for everything that is requested of one service: files, connection and all answers."""
LARGEST_ANSWER = 4 << 20
"""Bytes of one answer. The longest is the list of sessions, some 500 bytes each."""
LIST_TIMEOUT = 120.0
"""Seconds for a list of all seats of one kind: the Repository needs several for tens of thousands."""
LONGEST_LIST = 256 << 20
"""Bytes of such a list, which is never in memory as a whole."""

_KEY_CHARACTERS = string.ascii_letters + string.digits


async def read_overview(settings: QrsConfig, timeout: float = READ_TIMEOUT) -> LicenseOverview:  # noqa: ASYNC109  # tests shorten it
    """Seats, minutes and expiry, now. Raises QrsError. The certificate files are read each time, so that
    renewed ones need no restart.
    """
    return await _read(settings, timeout)


@contextlib.asynccontextmanager
async def _within(seconds: float, asked: Endpoint) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise QrsError(
            "timeout", f"{asked.service} ({asked.setting}) did not answer completely within {seconds:g} s"
        ) from None


async def read_unused(
    settings: QrsConfig,
    overview: LicenseOverview,
    timeout: float = READ_TIMEOUT,  # noqa: ASYNC109  # tests shorten it
) -> UnusedOverview:
    """How long the seats of `overview` have not been used. Requests numbers only, one after the other, and no names. A
    kind of seat that cannot be counted is a note. Raises QrsError if no request can be made.
    """
    now = time.time()
    answers: dict[AccessTypeName, dict[CountName, object] | QrsError] = {}
    holders: dict[AccessTypeName, dict[HolderCount, object] | QrsError] = {}
    async with _requests(settings, timeout) as requests:
        get = requests.get
        for name in overview.access:
            asked = repository(settings.url, SEATS[name])
            try:
                async with _within(timeout, asked):
                    answers[name] = {each: await get(asked, wanted) for each, wanted in filters_at(now).items()}
            except QrsError as error:
                answers[name] = error
                continue
            try:
                async with _within(timeout, asked):
                    holders[name] = {each: await get(asked, wanted) for each, wanted in holder_filters().items()}
            except QrsError as error:
                holders[name] = error
    return unused_of(answers, overview, read_at=now, holders=holders)


async def read_holders(
    settings: QrsConfig,
    name: AccessTypeName,
    on_holder: Callable[[Holder], None],
    timeout: float = LIST_TIMEOUT,  # noqa: ASYNC109  # tests shorten it
) -> int:
    """Every allocated seat of one kind with its user, handed over as it arrives; returns how many there were. For a
    person at a terminal only. Raises QrsError.
    """
    asked = repository(settings.url, FULL[name])
    rows, number = Rows(), 0
    async with _requests(settings, timeout) as requests, _within(timeout, asked):
        pieces = requests.pieces(asked)
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    for row in rows.add(piece):
                        number += 1
                        on_holder(holder_of(row))
        except ValueError:
            raise no_json(asked, "something that is not a JSON list") from None
    if not rows.complete:
        raise no_json(asked, "a JSON list that has no end")
    return number


async def _read(settings: QrsConfig, seconds: float) -> LicenseOverview:
    license_, access = repository(settings.url, LICENSE), repository(settings.url, ACCESS)
    async with _requests(settings, seconds) as requests:
        get = requests.get
        async with _within(seconds, license_):
            license_answer = await get(license_)
            access_answer = None if license_answer is None else await get(access)
        sessions_answer: object = None
        sessions_failure = ""
        if settings.sessions_url:
            try:
                async with _within(seconds, sessions(settings.sessions_url)):
                    sessions_answer = await get(sessions(settings.sessions_url))
            except QrsError as error:  # the proxy is another service: its failure must not hide the license
                sessions_failure = str(error)
    return overview_of(
        license_answer, access_answer, sessions_answer, read_at=time.time(), sessions_failure=sessions_failure
    )


@dataclass(frozen=True)
class _Requests:
    """Requests one after another, over connections that are kept."""

    settings: QrsConfig
    session: aiohttp.ClientSession
    context: ssl.SSLContext
    xrfkey: str

    async def get(self, asked: Endpoint, wanted: str = "") -> object:
        """The JSON answer; `wanted` is the filter. Raises QrsError."""
        body = bytearray()
        pieces = self.pieces(asked, wanted, LARGEST_ANSWER)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                body += piece
        try:
            return json.loads(body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            raise no_json(asked, "something that is not JSON") from None

    async def pieces(self, asked: Endpoint, wanted: str = "", largest: int = LONGEST_LIST) -> AsyncGenerator[bytes]:
        """The answer as it arrives, at most `largest` bytes of it. Raises QrsError."""
        server_name = await in_thread(("file", "Host.cfg"), server_name_of, self.settings, asked.url)
        query = {"xrfkey": self.xrfkey} | ({"filter": wanted} if wanted else {})
        received = 0
        try:
            async with self.session.get(
                f"{asked.url}?{urlencode(query, quote_via=quote)}",  # a space as %20: `+` is not one everywhere
                ssl=self.context,
                server_hostname=server_name,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise unwanted_status(asked, response.status)
                async for chunk in response.content.iter_any():
                    received += len(chunk)
                    if received > largest:
                        raise QrsError("too_large", f"{asked} answered with more than {largest} bytes")
                    yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failure(asked, error, self.settings) from None


@contextlib.asynccontextmanager
async def _requests(settings: QrsConfig, seconds: float) -> AsyncIterator[_Requests]:
    """Requests over connections that end with the block. Raises QrsError."""
    async with _within(seconds, repository(settings.url, LICENSE)):
        context = await in_thread(("file", settings.certificate), tls_context, settings)
    xrfkey = "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(16))
    headers = {
        "X-Qlik-Xrfkey": xrfkey,
        "X-Qlik-User": settings.user.strip(),
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # with auto_decompress off: no answer grows after its size was checked
    }
    async with (
        connections() as connector,
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),  # `read_overview` holds the deadline
            auto_decompress=False,
            trust_env=False,  # a proxy in the environment is not for this machine's own Repository
        ) as session,
    ):
        yield _Requests(settings, session, context, xrfkey)
