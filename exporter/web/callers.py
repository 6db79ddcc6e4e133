"""Who sends a request: client certificates, logins, the request rate, and whether it comes from this machine."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from exporter.web.limits import Limits
from exporter.web.webfile import Rules, TlsRules

LONGEST_PASSWORD = 72
"""Bytes: bcrypt ignores the rest of a password."""

GUARDED_PATHS = frozenset({"/-/reload", "/config", "/api/v1/events"})
"""Answered to programs on this machine only, unless there are web users."""

_LOCAL_HOST = re.compile(r"(?:localhost|(127(?:\.[0-9]{1,3}){3})|\[::1\])(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE)
_OWN_FIELDS = re.compile(
    r"Host|User-Agent|Accept|Accept-(?:Charset|Encoding|Language)|Authorization|Cache-Control|Connection"
    r"|Content-(?:Encoding|Length|Type)|Cookie|DNT|Expect|If-(?:Match|Modified-Since|None-Match|Unmodified-Since)"
    r"|Keep-Alive|Origin|Pragma|Priority|Range|Referer|Sec-[A-Za-z-]+|TE|Transfer-Encoding|Upgrade-Insecure-Requests"
    r"|X-Prometheus-Scrape-Timeout-Seconds",
    re.ASCII | re.IGNORECASE,
)
"""Header fields that browsers, curl, PowerShell, Prometheus and HTTP libraries send on their own. Proxies add others,
under too many names to list (X-Forwarded-For, Forwarded, Via, CF-Ray, X-Request-Id, traceparent and so on)."""


def certificate_admitted(tls: TlsRules, certificate: Mapping[str, Any] | None) -> bool:
    """Whether the client's verified certificate has one of the required names (exact match, as in the toolkit)."""
    if tls.allowed_names is None:
        return True
    names = {str(value) for _, value in (certificate or {}).get("subjectAltName", ())}
    addresses = {_plain_address(name) for name in names}
    return bool(tls.allowed_names & (names | addresses))


def _plain_address(text: str) -> str:
    """`text` in the usual spelling if it is an IP address (OpenSSL writes ::1 as 0:0:0:0:0:0:0:1)."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text


class Logins:
    """Checks user names and passwords outside the event loop; remembers only keyed digests of correct ones.

    Addresses take turns, so that a client with many logins delays only its own.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.logins_checked, thread_name_prefix="web login")
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._checking = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Waiting logins by group of addresses; the next group comes first."""

    async def admitted(self, rules: Rules, authorization: str | None, group: str = "") -> bool | None:
        """Whether the header has a user of `rules` and the right password; None: too many logins of `group` wait."""
        login = _login(authorization)
        if login is None:
            return False
        user, password = login
        password_hash = rules.users.get(user)
        known = "" if password_hash is None else password_hash
        digest = hmac.digest(self._key, b"\0".join((user.encode(), known.encode(), password)), "sha256")
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        if not await self._turn(group):
            return None
        try:
            costliest = max((_cost(other) for other in rules.users.values()), default=0)
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._pool, _password_right, password, password_hash, costliest)
        finally:
            self._next()
        if right:
            self._right[digest] = None
            if len(self._right) > self._limits.logins_remembered:
                self._right.popitem(last=False)
        return right

    async def _turn(self, group: str) -> bool:
        """Wait until a check may begin; False if too many are waiting. Call `_next` after the check."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the listener was replaced, and the logins of the old loop are gone
            self._loop, self._checking, self._waiting = loop, 0, OrderedDict()
        if self._checking < self._limits.logins_checked:
            self._checking += 1
            return True
        queue = self._waiting.get(group, ())
        if len(queue) >= self._limits.logins_waiting_each or len(self._waiting) >= self._limits.addresses_waiting:
            return False
        turn = loop.create_future()
        self._waiting.setdefault(group, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:  # the client went away
            if not turn.cancelled():
                self._next()
            raise
        return True

    def _next(self) -> None:
        """A check has ended: let another begin."""
        while self._waiting:
            group, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            self._waiting.move_to_end(group)
            if not queue:
                del self._waiting[group]
            if not turn.done():
                turn.set_result(None)
                return
        self._checking -= 1

    def stop(self) -> None:
        """Check no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _login(authorization: str | None) -> tuple[str, bytes] | None:
    """The user and the password of an `Authorization: Basic` header field."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _cost(password_hash: str) -> int:
    return int(password_hash[4:6])


def _password_right(password: bytes, password_hash: str | None, costliest: int) -> bool:
    """Whether the password matches the hash; None: there is no such user.

    A refusal takes as long as a check of the `costliest` hash, so that it does not reveal whether there is such a user:
    each step of cost doubles the work, and 2^c + 2^c + 2^(c+1) + … + 2^(n-1) = 2^n.
    """
    import bcrypt  # a compiled library, needed only if there are users

    if b"\0" in password:  # no other program would hash it whole
        password = hashlib.sha256(password).hexdigest().encode()  # wrong, and just as slow
    password = password[:LONGEST_PASSWORD]
    if password_hash is None:
        rest: Iterable[int] = (costliest,)
    elif bcrypt.checkpw(password, password_hash.encode()):
        return True
    else:
        rest = range(_cost(password_hash), costliest)
    for more in rest:
        bcrypt.checkpw(password, f"$2b${more:02}${'.' * 53}".encode())
    return False


class RateLimit:
    """A token bucket for all requests together, as in the toolkit."""

    def __init__(self) -> None:
        self._measure: tuple[int, float] | None = None
        self._tokens, self._filled_at = 0.0, 0.0

    def admits(self, rules: Rules, now: float) -> bool:
        """Whether one more request is within the rate; `now` in seconds of a monotonic clock."""
        if rules.interval <= 0:
            return True
        if self._measure != (rules.burst, rules.interval):
            self._measure, self._tokens, self._filled_at = (rules.burst, rules.interval), rules.burst, now
        gained = (now - self._filled_at) / rules.interval
        self._tokens, self._filled_at = min(rules.burst, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def is_local(peer: str | None, version: tuple[int, int], hosts: Sequence[str], fields: Iterable[str]) -> bool:
    """Whether a request comes from a program on this machine, on its own behalf.

    `peer` is its address, `version` that of HTTP, `hosts` each value of the Host field, `fields` the names of all
    header fields. A web page in a browser on this machine may have made its own name point at 127.0.0.1 (DNS
    rebinding), so the host must be loopback, too. A proxy on this machine forwards requests of others: nginx does so
    with HTTP/1.0 and its own Host, others add a header field. One that does neither cannot be distinguished from a
    program on this machine.
    """
    return (
        peer is not None
        and _is_loopback(peer)
        and version == (1, 1)
        and len(hosts) == 1
        and is_local_host(hosts[0])
        and all(_OWN_FIELDS.fullmatch(field) for field in fields)
    )


def is_local_host(host: str) -> bool:
    """Whether a Host field names this machine, in the spelling that programs use.

    `localhost`, an address of 127.0.0.0/8 as four numbers, or `[::1]`, each with or without a port.
    """
    match = _LOCAL_HOST.fullmatch(host)
    if not match or int(match[2] or 1) not in range(1, 65536):
        return False
    return not match[1] or all(part == str(int(part)) and int(part) < 256 for part in match[1].split("."))


def group_of(peer: object) -> str:
    """The group of clients that share limits: one IPv4 address, or one IPv6 network of 64 bits.

    `peer` is the socket's peer name: a tuple that begins with the address, or None if it has already gone.
    """
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])  # type: ignore[index]  # a tuple for both families
    except (TypeError, ValueError, IndexError):
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser reports that another site's page sent the request."""
    if headers.get("Sec-Fetch-Site", "none").lower() in ("cross-site", "same-site"):
        return True
    origin = headers.get("Origin")
    return origin is not None and origin.lower().partition("://")[2] != headers.get("Host", "").lower()


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # an IPv4 client of an IPv6 socket
    return (mapped or parsed).is_loopback
