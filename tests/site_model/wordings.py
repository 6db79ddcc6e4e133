"""Words that nobody has seen yet: generators of failures, successes and noise, not lists of them."""

import random
from collections.abc import Callable
from typing import Any

Line = dict[str, Any]
Wording = Callable[[random.Random], Line]

_SYLLABLES = [
    "ba",
    "ko",
    "ri",
    "ten",
    "mos",
    "ul",
    "dre",
    "va",
    "li",
    "qua",
    "ser",
    "pon",
    "ti",
    "ras",
    "el",
    "no",
    "fu",
    "gar",
    "wi",
]
_THINGS = [
    "synchronisation",
    "sync",
    "assignment sync",
    "the assignments",
    "syncing with the backend",
    "the license backend",
    "backend contact",
    "contact with the cloud",
    "license refresh",
    "refresh of entitlements",
    "re-syncing assignments with the backend",
    "call to the licensing cloud",
    "upstream",
    "license server",
    "renewal of the lease at the back-end",
]
_FAILED = [
    "failed",
    "did not complete",
    "could not be completed",
    "was aborted",
    "gave an error",
    "timed out",
    "ended with a fault",
    "broke off",
    "was refused",
    "rejected by the remote side",
    "is unavailable",
    "unreachable",
    "went wrong",
    "was interrupted",
    "not possible",
    "no answer",
    "lost",
    "cannot proceed",
    "denied",
    "unsuccessful",
    "terminated abnormally",
    "exhausted all tries",
    "never answered",
    "gave up after 3 tries",
    "blocked",
    "returned nothing",
    "hung up",
    "expired before an answer",
    "returned 503",
    "answered 502 twice",
]
_NEUTRAL = [
    "come back on Tuesday",
    "see the operator",
    "policy 17 applies",
    "quota of the day is used",
    "maintenance window",
    "the gate is shut",
    "another lease is held",
    "ticket 4711",
    "please register first",
    "code QX-88",
    "state 3 -> 4",
]
_REASONS = [
    "Forbidden",
    "Bad Gateway",
    "Proxy Authentication Required",
    "",
    "unknown status code",
    "Blocked By Policy",
    "EOF",
    "Zugriff verweigert",
]
_ADDRESS = "https://license.qlikcloud.com/v1/assignments"


def word(rng: random.Random) -> str:
    """A word of no language."""
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))


def phrase(rng: random.Random, words: int = 4) -> str:
    """Some words of no language."""
    return " ".join(word(rng) for _ in range(rng.randint(2, words)))


def failure(rng: random.Random) -> Wording:
    """One way in which a service words its failed syncs, the same for a whole outage."""
    return rng.choice((_known, _go_reason, _go_reason, _odd_words, _odd_words, _odd_key, _odd_level, _odd_page))(rng)


def known_failure(rng: random.Random) -> Wording:
    """A failure in words that are in the catalogue."""
    return _known(rng)


def _known(rng: random.Random) -> Wording:
    text = rng.choice(
        (
            f'Post "{_ADDRESS}": dial tcp: lookup license.qlikcloud.com: no such host',
            "dial tcp 203.0.113.7:443: connectex: No connection could be made because the target machine actively refused it.",
            f'Post "{_ADDRESS}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
            "x509: certificate signed by unknown authority",
            "sync failed: EOF",
            "wsarecv: An existing connection was forcibly closed by the remote host.",
        )
    )
    return _said(rng, text, source=rng.random() < 0.7)


def _go_reason(rng: random.Random) -> Wording:
    reason = rng.choice((*_REASONS, phrase(rng), phrase(rng).title()))
    method = rng.choice(("Get", "Post", "Put", "Head", "Patch", "Delete"))
    address = f'"{_ADDRESS}"' if rng.random() < 0.7 else _ADDRESS
    before = rng.choice(("", "failed to sync: ", f"{word(rng)}: ", "assignments: "))
    return _said(rng, f"{before}{method} {address}: {reason}".rstrip(), source=rng.random() < 0.5)


def _odd_words(rng: random.Random) -> Wording:
    text = rng.choice(
        (
            f"{rng.choice(_THINGS)} {rng.choice(_FAILED)}",
            f"{rng.choice(_THINGS)} {rng.choice(_FAILED)}: {phrase(rng)}",
            f"{word(rng)}: {rng.choice(_THINGS)}: {rng.choice(_FAILED)} ({phrase(rng)})",
        )
    )
    return _said(rng, text, source=rng.random() < 0.5)


def _odd_key(rng: random.Random) -> Wording:
    key = rng.choice(("error", "err", "errorMessage", "res.errorMessage", "lastError", "error_text"))
    value = rng.choice((phrase(rng), rng.choice(_NEUTRAL), rng.choice(_FAILED)))
    source, message = rng.random() < 0.5, rng.choice(("sync", "assignments", word(rng), ""))

    def line(rng: random.Random) -> Line:
        return {**_caller(rng, source), "level": "info", "message": message, key: value}

    return line


def _odd_level(rng: random.Random) -> Wording:
    level, text = rng.choice(("warn", "error", "fatal", "ERROR")), rng.choice((phrase(rng), rng.choice(_NEUTRAL)))
    source = rng.random() < 0.5

    def line(rng: random.Random) -> Line:
        return {**_caller(rng, source), "level": level, "message": text}

    return line


def _odd_page(rng: random.Random) -> Wording:
    code = rng.choice(("LICENSES-BackendUnreachable", "LICENSES-" + word(rng).title(), "licenses.BackendError"))
    text = rng.choice((phrase(rng), "invalid character '<' looking for beginning of value"))

    def line(rng: random.Random) -> Line:
        return {"caller": "handler.go:44", "errorMessage": text, "errorType": code, "statusCode": 503, "level": "info"}

    return line


def _said(rng: random.Random, text: str, *, source: bool) -> Wording:
    key = rng.choice(("message", "message", "message", "err", "error"))

    def line(rng: random.Random) -> Line:
        return {**_caller(rng, source), "level": "info", key: text}

    return line


def _caller(rng: random.Random, source: bool) -> Line:
    return {"caller": "sync.go:310"} if source else rng.choice(({}, {"caller": "client.go:88"}))


def success(rng: random.Random) -> Wording | None:
    """How a service words a sync that succeeded; None: not at all, which is all that is known of Qlik's."""
    if rng.random() < 0.5:
        return None
    text = rng.choice(
        (
            "finished re-syncing assignments with the backend",
            "sync finished with 0 errors",
            "assignments up to date, nothing failed",
            "synchronised 512 assignments, no failures",
            "sync done: errors=0 rejected=0",
            "received assignments from the backend without any error",
            "license definition is valid",
        )
    )
    return lambda rng: {"caller": "sync.go:330", "level": "info", "message": text}


def noise(rng: random.Random) -> tuple[float, Wording]:
    """Something that a healthy site writes, and every how many seconds."""
    hours = rng.uniform(1, 12) * 3600
    few_minutes = rng.uniform(60, 400)
    text = phrase(rng, 6)
    own = rng.choice(("localhost:4242", "127.0.0.1:4242", "[::1]:9031", "10.1.2.3:4239"))
    port = rng.choice((4242, 4243, 9031, 4747, 9200))
    return rng.choice(
        (
            (
                few_minutes,
                lambda r: {"caller": "quota.go:55", "level": "warn", "message": f"{text} {r.randint(1, 99)}"},
            ),
            (
                few_minutes,
                lambda r: {"caller": "cache.go:9", "level": "error", "message": text, "error": "entry expired"},
            ),
            (
                few_minutes,
                lambda r: {
                    "caller": "handler.go:44",
                    "level": "info",
                    "errorMessage": "user has no allocation",
                    "errorType": "LICENSES-NoAllocation",
                    "statusCode": r.choice((400, 403, 404, 409)),
                },
            ),
            (
                few_minutes,
                lambda r: {
                    "caller": "server.go:12",
                    "level": "info",
                    "message": f"{r.choice(('GET', 'POST'))} /v1/licenses/users/{word(r)} {r.choice((400, 401, 404))} failed",
                },
            ),
            (
                rng.uniform(60, 1200),
                lambda r: {
                    "level": "info",
                    "message": f"dial tcp {own}: connectex: No connection could be made because the target machine actively refused it.",
                },
            ),
            (
                rng.uniform(60, 1200),
                lambda r: {"level": "error", "message": f'Get "https://NODE1:{port}/qrs/about": EOF'},
            ),
            (few_minutes, lambda r: {"level": "info", "message": "EOF"}),
            (
                few_minutes,
                lambda r: {"caller": "query.go:12", "level": "warn", "message": f"slow {word(r)} of {phrase(r)}"},
            ),
            (hours, lambda r: {"level": "warn", "message": f"certificate of {text} is near its end"}),
        )
    )
