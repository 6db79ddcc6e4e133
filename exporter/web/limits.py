"""The limits of the web server: what clients may use, and how long anything may take."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`Limits()` applies outside of tests. Times are in seconds."""

    connections: int = 200 if sys.platform == "win32" else 512
    """Open at the same time; half of them from one address. A further one is accepted, and closes the one that has
    waited longest, whatever it waits for: of the same address, or of the address with the most connections. So nobody
    can keep a scraper out. Windows: a selector loop there supports 512 sockets."""
    backlog: int = 1024
    """Connections that the operating system queues until they are accepted."""
    accepts_per_turn: int = 8
    """Connections accepted from one socket per cycle of the loop. A request is answered within about ten cycles: before
    so many new connections of its address are accepted that its own is closed."""
    send_buffer: int = 65536
    """Bytes that the operating system buffers for a client that does not read; by default these are megabytes."""

    head: float = 10.0
    """For a TLS handshake, and for the head of a request, from its first byte or from the start of the connection."""
    idle: float = 300.0
    """Between two requests: more than any sensible scrape interval."""
    answer: float = 150.0
    """For making an answer: longer than the longest probe."""
    write: float = 30.0
    """For a client to read an answer."""
    sweep: float = 0.5
    """Between two searches for connections past their deadline."""
    lingering: float = 1.0
    """For reading the rest of a rejected request, so that the client receives the answer."""
    line_bytes: int = 8190
    """Of a request's first line, and of each header field."""
    head_bytes: int = 65536
    """Of one request's line and header fields together."""
    body_bytes: int = 65536
    """No request needs a body; a small one is ignored."""

    probes: int = 16
    """Requests waiting for a probe at the same time; a probe can take two minutes, and each keeps a connection."""
    probes_each: int = 8
    """The same, of one address."""
    probe: float = 120.0
    """For one probe, also if the client gives no timeout."""
    reload: float = 60.0
    """For the answer to a reload; the reload itself continues."""

    logins_checked: int = 2
    """Passwords hashed at the same time: each occupies one core."""
    logins_waiting_each: int = 8
    """Logins of one address waiting to be checked; further ones get status 429."""
    addresses_waiting: int = 256
    """Addresses with waiting logins."""
    logins_remembered: int = 128
    """Correct logins that are not checked again."""

    stop: float = 3.0
    """For a stop, even with clients connected; half of it is for finishing answers."""
    watch: float = 5.0
    """Between two connections of the watchdog to its own ports."""
    knock: float = 5.0
    """For such a connection to be accepted."""
    knocks_missed: int = 2
    """Consecutive connections that are not accepted before the listener counts as dead: 5 s + 2 x 5 s < 30 s."""
    taken_tries: int = 20 if sys.platform == "win32" else 1
    """Attempts to listen on a port that is in use. Windows keeps the port of a killed program for as long as its
    clients stay connected; elsewhere SO_REUSEADDR makes it available."""
    taken_pause: float = 0.5
    """Between two such attempts."""
