"""A site, played: connectivity, its Licenses service and its users; what they write, and what is true."""

import bisect
import json
import random
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

from tests.site_model import wordings

Kind = Literal["clean", "odd", "noisy", "torn", "slow", "disorder", "silent", "hourly", "eventful", "mixed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""`hourly`: clean, with another rhythm. `eventful`: noisy, with a clock that is wrong for hours, summer time that ends,
hours without a free seat, and users who all come back at once. `mixed`: odd, noisy, torn and disorderly at once.
"""
START = 1_790_000_000 // 86400 * 86400
DAY = 86400.0
GRACE = 5 * DAY
RHYTHM = 600.0


@dataclass
class World:
    """What a site wrote, and what was true."""

    kind: Kind
    seed: int
    begin: float
    end: float
    written: list[tuple[float, bytes]] = field(default_factory=list)
    """The Licenses log: when each line was written, in the order of the file."""
    rows: list[tuple[float, bytes]] = field(default_factory=list)
    """The audit log."""
    successes: list[float] = field(default_factory=list)
    """When a sync really succeeded."""
    failures: list[float] = field(default_factory=list)
    """When one failed, by its attempt."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    let_in: list[float] = field(default_factory=list)
    """When users were let in."""
    shifts: list[tuple[float, float, float]] = field(default_factory=list)
    """From when to when the node's clock was wrong, and by how many seconds."""
    denied: dict[str, int] = field(default_factory=dict)
    """How many people were refused, by reason."""

    def node_time(self, at: float) -> float:
        """What the node's clock shows at `at`."""
        return at + sum(by for begin, end, by in self.shifts if begin <= at < end)

    def is_clock_right(self, at: float) -> bool:
        """Whether the node's clock is right and a sync has succeeded since it last was not, a while ago."""
        last = self.last_success(at) or 0.0
        return not any(begin <= at and end + 2 * 3600 > min(at, last) for begin, end, _ in self.shifts)

    def locked_out(self, at: float) -> bool:
        """Whether everyone is refused."""
        last = self.last_success(at)
        return at - (self.begin if last is None else last) > GRACE

    def lockouts(self) -> list[float]:
        """The instants at which lockouts began."""
        known = [self.begin, *self.successes, self.end]
        return [one + GRACE for one, other in pairwise(known) if other - one > GRACE and one != self.begin]

    def recovered(self, at: float) -> bool:
        """Whether the site has been in order for half an hour, after the outage before."""
        return not any(begin < at and end > at - 1800 - 2 * RHYTHM for begin, end in self.outages)

    def people_let_in(self, since: float, at: float) -> int:
        """How many people were let in between."""
        return bisect.bisect(self.let_in, at) - bisect.bisect(self.let_in, since)

    def last_success(self, at: float) -> float | None:
        """The last true success at `at`."""
        place = bisect.bisect(self.successes, at)
        return self.successes[place - 1] if place else None


_NOISY = ("noisy", "eventful", "mixed")


class _Play:
    def __init__(self, kind: Kind, seed: int, days: float) -> None:
        self.rng = random.Random(f"{kind} {seed}")
        rng = self.rng
        self.world = World(kind, seed, START, START + days * DAY)
        self.entries: list[tuple[float, wordings.Line]] = []
        self.sources = rng.random() < 0.8
        self.correlated = rng.random() < 0.3
        self.success_wording = wordings.success(rng) if kind != "clean" else None
        self.retries = rng.random() < 0.4
        self.requests = rng.choice((0.0, 60.0, 120.0, 600.0))
        self.rhythm = 3600.0 if kind == "hourly" else RHYTHM
        self.noise = [wordings.noise(rng) for _ in range(rng.randint(1, 4))] if kind in _NOISY else []
        self.users = rng.choice((60.0, 300.0, 1200.0))

    def play(self) -> World:
        world, rng = self.world, self.rng
        world.outages = self._outages()
        world.shifts = self._shifts() if world.kind == "eventful" else []
        shortages, storms = (self._shortages(), self._storms()) if world.kind == "eventful" else ([], [])
        stops = self._stops()
        at = world.begin + rng.uniform(1, 300)
        stop = 0
        last_success = world.begin
        wording = wordings.failure(rng)
        outage: tuple[float, float] | None = None
        while at < world.end:
            if stop < len(stops) and at >= stops[stop][0]:
                at = self._restart(*stops[stop])
                stop += 1
            now_out = next((o for o in world.outages if o[0] <= at < o[1]), None)
            if now_out is not None and now_out != outage:
                wording = (
                    wordings.known_failure(rng)
                    if world.kind in ("clean", "slow", "disorder", "torn")
                    else wordings.failure(rng)
                )
            outage = now_out
            dies = stop < len(stops) and at < stops[stop][0] < at + 30
            if dies:
                self._attempt(at, rng.randbytes(8).hex())
                (world.failures if outage else world.successes).append(at)
                last_success = last_success if outage else at
                at += 1
                continue
            if outage is None:
                self._succeed(at)
                last_success = at
            else:
                at = self._fail(at, wording, last_success)
            if rng.random() < 0.001:
                self._key_trick(at + rng.uniform(100, 300))
            at += self.rhythm + rng.uniform(-3, 3)
        self._requests(shortages)
        self._noise()
        for at in storms:
            self._storm(at)
        self._write(stops)
        return world

    def _outages(self) -> list[tuple[float, float]]:
        rng, world = self.rng, self.world
        found, at = [], world.begin + rng.uniform(0.1, 2) * DAY
        if rng.random() < 0.1:
            return [(world.begin, world.begin + rng.uniform(1, 8) * DAY)]
        if world.kind in _NOISY and rng.random() < 0.6:
            return []
        while at < world.end:
            length = rng.choice((rng.uniform(0.01, 0.2), rng.uniform(0.2, 2), rng.uniform(5.2, 7)))
            if rng.random() < 0.15:  # flapping
                for _ in range(rng.randint(5, 30)):
                    found.append((at, at + rng.uniform(300, 3000)))
                    at = found[-1][1] + rng.uniform(300, 3000)
            else:
                found.append((at, at + length * DAY))
            at = found[-1][1] + rng.uniform(0.3, 4) * DAY
        return found

    def _stops(self) -> list[tuple[float, float]]:
        rng, world = self.rng, self.world
        stops, at = [], world.begin + rng.uniform(0.5, 3) * DAY
        while at < world.end:
            stops.append((at, at + rng.choice((20.0, 120.0, 3600.0, rng.uniform(3600, 20000)))))
            at = stops[-1][1] + rng.uniform(1, 5) * DAY
        return stops

    def _shifts(self) -> list[tuple[float, float, float]]:
        """Someone sets the node's clock wrong, by minutes or hours, and right again."""
        rng, shifts, at = self.rng, [], self.world.begin + self.rng.uniform(0.2, 3) * DAY
        while at < self.world.end:
            by = rng.choice((-1, 1)) * rng.choice((rng.uniform(60, 1800), rng.uniform(1800, 3 * 3600), 86400.0))
            shifts.append((at, at + rng.uniform(600, 4 * 3600), by))
            at = shifts[-1][1] + rng.uniform(1, 3) * DAY
        return shifts

    def _shortages(self) -> list[tuple[float, float]]:
        """Hours in which no seat is free."""
        rng = self.rng
        begins = sorted(self.world.begin + rng.uniform(0, 7) * DAY for _ in range(rng.randint(1, 3)))
        return [(begin, begin + rng.uniform(1, 12) * 3600) for begin in begins]

    def _storms(self) -> list[float]:
        """When all users come back at once: the VPN was gone for a while."""
        rng = self.rng
        return [self.world.begin + rng.uniform(0, 7) * DAY for _ in range(rng.randint(1, 4))]

    def _storm(self, at: float) -> None:
        """Each user's browser asks again for all its tabs: the first five get a session."""
        for number in range(self.rng.randint(50, 200)):
            when, user = at + number * self.rng.uniform(0, 0.3), f"u{number % 40}"
            if when >= self.world.end:
                return
            self._log(when, {"caller": "server.go:70", "level": "info", "message": f"POST /v1/users/{user}/access 200"})
            if number % 40 < 10:
                self._deny(when, user, "parallel_sessions")
            else:
                self._row(when, user, "Open hub;Result=0;ResultText=Success", "UsageGranted")

    def _restart(self, down: float, up: float) -> float:
        if self.rng.random() < 0.7:
            self._log(
                up, {"caller": "main.go:40", "level": "info", "message": "Licenses service started, listening on 9200"}
            )
        return up + self.rng.uniform(1, 20)

    def _key_trick(self, at: float) -> None:
        """An administrator breaks the key to force a sync (case A4)."""
        for number in range(self.rng.randint(1, 4)):
            text = "invalid license error, license verification error: bad signature"
            self._log(
                at + number,
                {"caller": "handler.go:61", "level": "info", "message": text, "res.errorType": "licenses.InvalidLicenseError",
                 "res.statusCode": 403},
            )  # fmt: skip

    def _log(self, at: float, line: wordings.Line) -> None:
        if at < self.world.end:
            self.entries.append((at, line))

    def _attempt(self, at: float, correlation: str) -> wordings.Line:
        own: wordings.Line = {"caller": "sync.go:290"} if self.sources else {}
        if self.correlated:
            own["corrId"] = correlation
        self._log(at, {**own, "level": "info", "message": "re-syncing assignments with the backend"})
        return {"corrId": correlation} if self.correlated else {}

    def _succeed(self, at: float) -> None:
        own = self._attempt(at, self.rng.randbytes(8).hex())
        self.world.successes.append(at)
        if self.success_wording is not None:
            self._log(at + self.rng.uniform(0.1, 5), {**self.success_wording(self.rng), **own})

    def _fail(self, at: float, wording: wordings.Wording, last_success: float) -> float:
        rng, world = self.rng, self.world
        tries = rng.choice((1, 2, 3)) if self.retries else 1
        for number in range(tries):
            own = self._attempt(at, rng.randbytes(8).hex())
            delay = (
                rng.uniform(60, 300) if world.kind == "slow" else rng.choice((rng.uniform(0.01, 2), rng.uniform(1, 30)))
            )
            if world.kind == "silent":
                delay = 0.5
            else:
                self._log(at + delay, {**wording(rng), **own})
            if number < tries - 1:
                at += delay + rng.uniform(1, 40)
                if rng.random() < 0.02 and not any(o[0] <= at < o[1] for o in world.outages):
                    self._succeed(at)
                    return at
        world.failures.append(at)
        return at

    def _requests(self, shortages: list[tuple[float, float]]) -> None:
        """What users and other services ask of the service, and the stale verdicts that they get in a lockout."""
        rng, world = self.rng, self.world
        at = world.begin
        while self.requests and (at := at + rng.expovariate(1 / self.requests)) < world.end:
            path = rng.choice(("/health", "/v1/licenses/overview"))
            self._log(at, {"caller": "server.go:70", "level": "info", "message": f"GET {path} 200"})
        at = world.begin
        while (at := at + rng.expovariate(1 / self._user_pause(at))) < world.end:
            user = wordings.word(rng)
            if world.locked_out(at):
                self._log(
                    at,
                    {
                        "caller": "handler.go:44",
                        "errorMessage": "Too much time has passed since the last license update",
                        "errorType": "LICENSES-OutdatedLicense",
                        "level": "info",
                        "statusCode": 403,
                    },
                )
                self._deny(at, user, "no_access_pass")
            elif any(begin <= at < end for begin, end in shortages):
                self._deny(at, user, "no_access_pass")
                self._log(at, {"caller": "handler.go:44", "level": "info", "errorMessage": "user has no allocation",
                               "errorType": "LICENSES-NoAllocation", "statusCode": 403})  # fmt: skip
            else:
                self._log(
                    at, {"caller": "server.go:70", "level": "info", "message": f"POST /v1/users/{user}/access 200"}
                )
                self._row(at, user, "Open hub;Result=0;ResultText=Success", "UsageGranted" if self.sources else "")

    def _user_pause(self, at: float) -> float:
        hour = at % DAY / 3600
        return self.users if 7 <= hour < 19 else self.users * 20

    def _deny(self, at: float, user: str, reason: Literal["no_access_pass", "parallel_sessions"]) -> None:
        sessions = "SessionCount: '5', " if reason == "parallel_sessions" else ""
        denied = "License user access;Result=403;ResultText=Error: Access denied"
        self._row(at, user, denied, "UsageDenied", sessions)
        self.world.denied[reason] = self.world.denied.get(reason, 0) + 1

    def _row(self, at: float, user: str, command: str, operation: str, sessions: str = "") -> None:
        offset = 2 if self.world.kind == "eventful" and at < self.world.begin + 3.5 * DAY else 0
        local = time.gmtime(self.world.node_time(at) + offset * 3600)  # summer time ends in between
        stamp = time.strftime("%Y%m%dT%H%M%S.000", local) + f"+0{offset}00"
        name, code = command.split(";")[0], command.split(";")[1].removeprefix("Result=")
        message = f"Login access for SessionID: 'x', {sessions}OperationType: '{operation}'" if operation else "ok"
        fields = [str(len(self.world.rows) + 1), "1", stamp, "NODE1", "id", f"Command={command}", "0", "0", "0", "CONTOSO", user,
                  "0", "", "", "::1", "Repository", "", "", name, code, message, "sum"]  # fmt: skip
        self.world.rows.append((at, "\t".join(fields).encode()))

    def _noise(self) -> None:
        for every, wording in self.noise:
            at = self.world.begin
            regular = self.rng.random() < 0.5
            while (at := at + (every if regular else self.rng.expovariate(1 / every))) < self.world.end:
                self._log(at, wording(self.rng))

    def _write(self, stops: list[tuple[float, float]]) -> None:
        rng, world = self.rng, self.world
        alive = [entry for entry in self.entries if not any(down <= entry[0] < up for down, up in stops)]
        lines = []
        for at, line in alive:
            node = world.node_time(at)
            seconds, fraction = int(node), f"{node % 1:.7f}"[1:]
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
            text = json.dumps({**line, "timestamp": stamp}, ensure_ascii=False).encode()
            late = rng.uniform(0, 20) if world.kind in ("disorder", "mixed") else 0.0
            lines.append((at + late, text))
        lines.sort(key=lambda line: line[0])
        if world.kind in ("torn", "mixed"):
            lines = [(at, text[: rng.randrange(1, len(text))] if rng.random() < 0.02 else text) for at, text in lines]
        world.written = lines
        world.rows.sort(key=lambda row: row[0])


def world_of(kind: Kind, seed: int, days: float = 12) -> World:
    """The history number `seed` of a kind; always the same."""
    return _Play(kind, seed, days).play()
