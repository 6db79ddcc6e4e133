"""Listening sockets: from a configured address to bound sockets, on every platform."""

import errno
import logging
import socket
import sys
import time
from typing import Any

from exporter.web.limits import Limits

PORT_TRIES = 20
"""Attempts to find a port that is free in both families, for port 0."""

_TAKEN = {errno.EADDRINUSE, 10048, 10013}  # Windows' own numbers for a port that is taken, or taken exclusively
_FAMILY_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.EINVAL}

_log = logging.getLogger(__name__)


class ListenError(Exception):
    """An address cannot be listened on: `str()` is one line that names it and says why."""


def listening_sockets(address: str, limits: Limits) -> list[socket.socket]:
    """Bound sockets for `host:port`, `:port` (both IP families, each its own socket) or `[IPv6]:port`.

    A family that this machine does not have is a warning as long as the other one works (hazard 123).
    Raises ListenError.
    """
    host, _, port = address.rpartition(":")
    for _attempt in range(PORT_TRIES):
        try:
            return _bound(address, host.strip("[]"), int(port), limits)
        except _OtherFamilyTakenError:
            continue
    raise ListenError(f"cannot listen on {address}: no port is free for both IPv4 and IPv6")


class _OtherFamilyTakenError(Exception):
    """The port that the system chose for the first family is used in the second."""


def _bound(address: str, host: str, port: int, limits: Limits) -> list[socket.socket]:
    if host:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise ListenError(f"cannot listen on {address}: the host cannot be resolved: {reason(error)}") from None
        places = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    else:
        places = [(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port, 0, 0))]
    sockets: list[socket.socket] = []
    missing: list[str] = []
    for family, place in places:
        wanted = sockets[0].getsockname()[1] if sockets and port == 0 else port
        try:
            sockets.append(_freed(family, (place[0], wanted, *place[2:]), not host, limits))
        except OSError as error:
            if error.errno in _FAMILY_MISSING and len(places) > 1:
                missing.append(f"{place[0]}: {reason(error)}")
                continue
            for opened in sockets:
                opened.close()
            if port == 0 and sockets:
                raise _OtherFamilyTakenError from None
            raise ListenError(f"cannot listen on {address}: {reason(error)}") from None
    if not sockets:
        raise ListenError(f"cannot listen on {address}: {'; '.join(missing)}")
    for text in missing:
        _log.warning("not listening on %s", text)
    return sockets


def _freed(family: int, place: tuple[Any, ...], only_v6: bool, limits: Limits) -> socket.socket:
    """The listening socket; waits if connections of a killed program may still occupy the port."""
    for left in range(limits.taken_tries - 1, 0, -1):
        try:
            return listening_socket(family, place, only_v6, limits)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            if left == limits.taken_tries - 1:
                _log.warning("port %d is in use; waiting for it", place[1])
        time.sleep(limits.taken_pause)
    return listening_socket(family, place, only_v6, limits)


def listening_socket(family: int, place: tuple[Any, ...], only_v6: bool, limits: Limits) -> socket.socket:
    """One socket that listens at a place. Raises OSError."""
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # SO_REUSEADDR would let two programs share one port there
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer)  # what it accepts inherits this
        opened.bind(place)
        opened.listen(limits.backlog)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def reason(error: Exception) -> str:
    """Why a socket is not available, in words."""
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return "another program is using the port"
    if code == errno.EACCES:
        return "this account may not use the port, or another program is using it"
    return str(getattr(error, "strerror", None) or error).lower()


def shown_address(place: tuple[Any, ...]) -> str:
    """A socket's name as `host:port`."""
    host = str(place[0])
    return f"[{host}]:{place[1]}" if ":" in host else f"{host}:{place[1]}"


def is_only_v6(opened: socket.socket) -> bool:
    """Whether an IPv6 socket does not accept IPv4."""
    return opened.family == socket.AF_INET6 and bool(opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def reachable(host: str) -> str:
    """The address at which a socket bound to `host` can be reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
