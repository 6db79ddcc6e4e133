"""The limits of the web server: what clients may use of it, and how long anything may take."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All of them; `Limits()` is what holds outside of tests. Times are in seconds."""

    connections: int = 200 if sys.platform == "win32" else 512
    """At once, half of them from one address. One more closes the one of the same address, or of the address with the
    most, that has waited longest, whatever it waits for: nobody keeps a scraper out, and a newcomer is never refused.
    Windows: a selector loop there holds 512 sockets."""
    backlog: int = 1024
    """Connections that the system keeps until they are accepted."""
    accepts_per_turn: int = 8
    """Connections taken from one socket before the loop looks at anything else. A request is answered within some ten
    turns: before so many newcomers of one address have come that its connection would have to go."""
    send_buffer: int = 65536
    """Bytes that the system keeps of answers which a client does not read; without a limit it is megabytes."""

    head: float = 10.0
    """For a TLS handshake and for a request's head, from its first byte or the connection's opening."""
    idle: float = 300.0
    """Between two requests: more than any sensible scrape interval."""
    answer: float = 150.0
    """For an answer to be made: more than the longest probe."""
    write: float = 30.0
    """For a client to take an answer."""
    sweep: float = 0.5
    """Between two looks for connections that are late."""
    lingering: float = 1.0
    """For the unread body of a refused request, which is still read, so that the refusal arrives."""
    line_bytes: int = 8190
    """Of a request's first line, and of each header field."""
    head_bytes: int = 65536
    """Of one request's line and header fields together."""
    body_bytes: int = 65536
    """Nothing here needs a body; a small one is overlooked."""

    probes: int = 16
    """Requests for a probe that wait at once; a probe may take two minutes, and each keeps a connection."""
    probes_each: int = 8
    """The same, of one address."""
    probe: float = 120.0
    """For one probe, also where the client gives no time-out."""
    reload: float = 60.0
    """For the answer to a reload; the reload itself goes on."""

    logins_checked: int = 2
    """Passwords hashed at the same time: each keeps one core busy."""
    logins_waiting_each: int = 8
    """Logins of one address that wait for their check; more are turned away, so that guessing cannot pile up work."""
    addresses_waiting: int = 256
    """Addresses of which logins wait."""
    logins_remembered: int = 128
    """Right logins that need no check again."""

    stop: float = 3.0
    """Until the server is gone, clients or not; half of it is for answers being made."""
    watch: float = 5.0
    """Between two knocks of the watchdog at its own ports."""
    knock: float = 5.0
    """For a knock to be heard."""
    knocks_missed: int = 2
    """Knocks in a row that nobody hears before the listener counts as dead: 5 s + 2 x 5 s < 30 s."""
    taken_tries: int = 20 if sys.platform == "win32" else 1
    """Tries to listen on a port that is taken. Windows keeps a port for the connections of a killed program, for as
    long as their other ends last; elsewhere SO_REUSEADDR says that those do not count."""
    taken_pause: float = 0.5
    """Between two such tries."""
