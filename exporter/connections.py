"""The HTTP clients' connections: names resolved without blocking, sockets that are closed reliably."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from exporter.threads import in_thread

CLOSE_TIMEOUT = 1.0
"""Seconds that the event loop has at the end to close its connections, which are already shut down."""


class Resolver(AbstractResolver):
    """Uses this machine's resolver (hazard 120), in such a way that a lookup that hangs does not block others."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError."""
        found = await in_thread(("name", host.casefold()), socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=str(place[0]), port=int(place[1]), family=kind, proto=protocol, flags=flags
            )
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Nothing is kept."""


@contextlib.asynccontextmanager
async def connections() -> AsyncIterator[aiohttp.TCPConnector]:
    """Connections that end with the block. An orderly TLS shutdown would depend on the server, which may hang."""
    sockets: list[socket.socket] = []

    def opened(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = address
        sockets.append(socket.socket(family, kind, protocol))
        return sockets[-1]

    connector = aiohttp.TCPConnector(resolver=Resolver(), socket_factory=opened)
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
