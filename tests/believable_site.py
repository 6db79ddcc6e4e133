"""Writes the metrics of a believable Qlik estate as OpenMetrics: what dashboards are drawn from and tested against.

Three sites tell one story that ends at `now`, a Tuesday afternoon (`NOW`). Zurich (three nodes) is well for weeks, with
the usual noise; five days and seven hours before the end somebody changes the password of its proxy, syncs fail from
then on, and on Tuesday morning the license goes stale and everyone is refused. Lyon (one node) is well, but its line to
the internet flaps in the last hours, and its logs could not be read for an hour, until its exporter was restarted with
the right account. The plant (one node) has an offline license, which expires in 45 days. One of Zurich's exporters stops
25 minutes before the end.

    python tests/believable_site.py month.om --days 30 --step 600
    promtool tsdb create-blocks-from openmetrics --max-block-duration=486h month.om DATA

promtool takes the lines in the order of time, as they are written here. Nothing is random: the same call writes the
same bytes.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import sin
from pathlib import Path
from typing import TextIO

from exporter.events import DENIAL_REASONS, ERROR_CLASSES, LOG_NAMES, SEVERE_LEVELS, USER_DENIAL_REASONS
from exporter.license import SUCCESS_SOURCES
from exporter.logs.messages import Catalogue
from exporter.metrics import COMPONENTS
from exporter.probes import REASONS
from exporter.remote_write.figures import DROPPED_REASONS
from exporter.verdict import VERDICTS

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NOW = datetime(2026, 11, 24, 15, 20, tzinfo=UTC).timestamp()
"""The end of the story. A Tuesday, so that the morning on which the license went stale is a working day's."""

GRACE = 5 * DAY
SYNC_EVERY = 10 * MINUTE
SETTLE = 90.0
LONGEST_STORY = 40 * DAY
PROXY_PASSWORD_CHANGED = NOW - 5 * DAY - 7 * HOUR
EXPORTER_STOPPED = NOW - 25 * MINUTE
EXPORTERS_RESTARTED = NOW - 9 * DAY
QLIK_UPGRADED = NOW - 2 * DAY
LYON_LOG_UNREADABLE = (NOW - 15 * HOUR, NOW - 14 * HOUR)
JOB = "qlik-license"

ALERTS_OF_A_SITE = ("Stale", "AccessDeniedMassive")
"""They have no `instance`."""

MESSAGES = Catalogue()

Sample = tuple[str, Mapping[str, str], float]


@dataclass(frozen=True)
class Outage:
    """The backend could not be reached between two instants; `reason` is the probe's, `error` the service's."""

    start: float
    end: float
    reason: str
    error: str


@dataclass(frozen=True)
class Node:
    """One Qlik node with its exporter, and everything that happens to it."""

    site: str
    name: str
    central: bool = False
    offline: bool = False
    proxy: str = ""
    outages: tuple[Outage, ...] = ()
    started: float = EXPORTERS_RESTARTED
    """When its exporter was last started."""
    up_until: float = NOW + DAY
    dice: random.Random = field(default_factory=random.Random)

    @cached_property
    def attempts(self) -> list[tuple[float, str]]:
        """Every sync attempt: its instant, and the class of the error it ended with, or ''."""
        attempts = []
        instant = NOW - LONGEST_STORY
        while instant < NOW and not self.offline:
            error = next((o.error for o in self.outages if o.start <= instant < o.end), "")
            attempts.append((instant, error or ("timeout" if self.dice.random() < 1 / 400 else "")))
            instant += SYNC_EVERY + self.dice.uniform(-5, 5)
        return attempts

    @cached_property
    def good_syncs(self) -> list[float]:
        return [instant for instant, error in self.attempts if not error]

    @cached_property
    def bad_syncs(self) -> list[float]:
        return [instant for instant, error in self.attempts if error]

    @cached_property
    def stale_since(self) -> float:
        """When the license goes stale: the grace after the last good sync before the end."""
        return self.good_syncs[-1] + GRACE if self.good_syncs else NOW + DAY

    @cached_property
    def denials(self) -> list[tuple[float, str, int]]:
        """Every refusal: instant, reason, number of the user."""
        denials: list[tuple[float, str, int]] = []
        day = NOW - LONGEST_STORY - (NOW - LONGEST_STORY) % DAY
        while day < NOW:
            if datetime.fromtimestamp(day, UTC).weekday() < 5:
                if self.dice.random() < 0.5:  # one user of five open browsers: a burst
                    burst = day + self.dice.uniform(8, 16) * HOUR
                    denials += [(burst + i * 4, "parallel_sessions", 900) for i in range(self.dice.randint(2, 9))]
                if self.dice.random() < 0.35:
                    denials.append((day + self.dice.uniform(8, 16) * HOUR, "no_access_pass", self.dice.randint(1, 80)))
                if self.central and self.dice.random() < 0.15:
                    denials.append((day + self.dice.uniform(8, 16) * HOUR, "allocation_refused", 0))
            day += DAY
        instant = self.stale_since
        while instant < NOW and not self.offline:  # everyone comes to work
            denials.append((instant, "no_access_pass", self.dice.randint(1, 80)))
            hour = datetime.fromtimestamp(instant, UTC).hour
            instant += self.dice.expovariate(1 / (45 if 7 <= hour < 16 else 900))
        return sorted(d for d in denials if d[0] < NOW)

    @cached_property
    def instants(self) -> dict[str, list[float]]:
        """When each class of sync error and each reason of a refusal happened."""
        instants: dict[str, list[float]] = defaultdict(list)
        for instant, what, *_ in [*self.attempts, *self.denials]:
            instants[what].append(instant)
        return instants

    def count(self, what: str, at: float) -> int:
        return bisect_right(self.instants[what], at)

    def users_refused(self, at: float, reason: str) -> int:
        first, last = (bisect_right(self.denials, (instant, "~", 0)) for instant in (at - HOUR, at))
        return len({user for _, why, user in self.denials[first:last] if why == reason})

    def reached(self, at: float) -> bool:
        return not any(o.start <= at < o.end for o in self.outages)

    def stale(self, at: float) -> bool:
        return at >= self.stale_since


def estate() -> list[Node]:
    """The nodes of the three sites."""
    password = Outage(PROXY_PASSWORD_CHANGED, NOW + DAY, "proxy_auth", "proxy")
    blip = Outage(NOW - 12.4 * DAY, NOW - 12.4 * DAY + 25 * MINUTE, "tcp_timeout", "timeout")
    flaps = tuple(
        Outage(NOW - hours * HOUR, NOW - hours * HOUR + minutes * MINUTE, "dns", "dns")
        for hours, minutes in ((10, 12), (8.5, 21), (6.2, 15), (5.1, 14), (3.6, 16), (2.2, 12), (1.2, 18))
    )
    proxied = {"site": "zurich", "proxy": "proxy.zurich.example:3128", "outages": (blip, password)}
    return [
        Node(name="qlik-central", central=True, dice=random.Random(1), **proxied),
        Node(name="qlik-rim1", dice=random.Random(2), **proxied),
        Node(name="qlik-rim2", dice=random.Random(3), up_until=EXPORTER_STOPPED, **proxied),
        Node(
            site="lyon",
            name="qlik-lyon",
            central=True,
            dice=random.Random(4),
            outages=flaps,
            started=LYON_LOG_UNREADABLE[1],
        ),
        Node(site="plant", name="qlik-plant", central=True, offline=True, dice=random.Random(5)),
    ]


def samples(node: Node, at: float) -> Iterator[Sample]:
    """What a scrape of the node's exporter holds at an instant."""
    if at >= node.up_until:
        yield "up", {}, 0
        return
    started = max(start for start in (NOW - LONGEST_STORY, EXPORTERS_RESTARTED, node.started) if start <= at)
    yield "up", {}, 1
    yield "scrape_duration_seconds", {}, 0.004 + 0.002 * node.dice.random()
    yield from _license(node, at)
    yield from _refusals(node, at)
    yield from _probes(node, at, started)
    if node.central:
        yield from _seats(node, at)
    yield from _exporter(node, at, started)


def _license(node: Node, at: float) -> Iterator[Sample]:
    yield "qlik_license_sync_expected", {}, 0 if node.offline else 1
    yield "qlik_license_stale", {}, 1 if node.stale(at) else 0
    yield "qlik_license_grace_seconds", {}, GRACE
    for verdict in VERDICTS:
        yield "qlik_license_verdict", {"verdict": verdict}, 1 if verdict == _verdict(node, at) else 0
    attempts = bisect_right(node.attempts, (at, "~"))
    failures = bisect_right(node.bad_syncs, at)
    yield "qlik_license_sync_attempts_total", {}, attempts
    yield "qlik_license_sync_failures_total", {}, failures
    stale_entries = node.count("no_access_pass", at) - node.count("no_access_pass", node.stale_since)
    for error in ERROR_CLASSES:
        seen = max(0, stale_entries) if error == "stale" else node.count(error, at)
        yield "qlik_license_errors_total", {"error": error}, seen
    if node.offline:
        return
    last_good = node.good_syncs[bisect_left(node.good_syncs, at - SETTLE) - 1]
    yield "qlik_license_sync_age_seconds", {}, at - last_good
    yield "qlik_license_sync_last_success_timestamp_seconds", {}, last_good
    for source in SUCCESS_SOURCES:
        yield "qlik_license_sync_success_source", {"source": source}, 1 if source == "inferred" else 0
    yield "qlik_license_lockout_timestamp_seconds", {}, last_good + GRACE
    yield "qlik_license_sync_last_attempt_timestamp_seconds", {}, node.attempts[attempts - 1][0]
    if failures:
        yield "qlik_license_sync_last_failure_timestamp_seconds", {}, node.bad_syncs[failures - 1]
    yield "qlik_license_sync_consecutive_failures", {}, failures - bisect_right(node.bad_syncs, last_good)
    yield "qlik_license_sync_unclear_attempts", {}, 0
    if node.stale(at):
        yield "qlik_license_stale_last_verdict_timestamp_seconds", {}, at - at % SYNC_EVERY


def _verdict(node: Node, at: float) -> str:
    if node.stale(at):
        return "license_stale"
    if node.offline:
        return "license_expiring"
    last_good = node.good_syncs[bisect_left(node.good_syncs, at - SETTLE) - 1]
    if at - last_good > GRACE - 2 * DAY:
        return "lockout_coming"
    if not node.reached(at) and at - last_good > 30 * MINUTE:
        return "sync_failing_proxy"
    if any(at - 6 * HOUR < o.end and o.start < at and o.reason == "dns" for o in node.outages):
        return "backend_flapping"
    return "parallel_sessions" if node.users_refused(at, "parallel_sessions") else "well"


def _refusals(node: Node, at: float) -> Iterator[Sample]:
    for reason in DENIAL_REASONS:
        yield "qlik_license_access_denials_total", {"reason": reason}, node.count(reason, at)
    for reason in USER_DENIAL_REASONS:
        yield "qlik_license_access_denied_users", {"reason": reason}, node.users_refused(at, reason)
    yield from _messages(node, at)


def _messages(node: Node, at: float) -> Iterator[Sample]:
    minutes = (at - NOW + LONGEST_STORY) / MINUTE
    counts = {
        "sync_attempted": bisect_right(node.attempts, (at, "~")),
        "license_stale": max(0, node.count("no_access_pass", at) - node.count("no_access_pass", node.stale_since)),
        "proxy_failed": node.count("proxy", at),
        "backend_timed_out": node.count("timeout", at),
        "backend_not_resolved": node.count("dns", at),
        "access_denied": node.count("no_access_pass", at) + node.count("parallel_sessions", at),
        "allocation_refused": node.count("allocation_refused", at),
        "access_granted": int(minutes * 2),
        "licensing_entry": int(minutes / 20),
        "other_logger": int(minutes / 3),
    }
    untaught = max(0.0, at - QLIK_UPGRADED) / (7 * MINUTE) if node.name == "qlik-rim1" else 0
    for log in LOG_NAMES:
        for message in MESSAGES.names(log):
            count = counts.get(message, int(untaught) if (log, message) == ("licenses", "unknown") else 0)
            yield "qlik_license_log_messages_total", {"log": log, "message": message}, count
    for level in SEVERE_LEVELS:
        hours = {"warn": 9, "error": 40, "fatal": 5000}[level]
        labels = {"log": "repository_trace", "level": level}
        yield "qlik_license_log_severe_entries_total", labels, int(minutes / 60 / hours)


def _probes(node: Node, at: float, started: float) -> Iterator[Sample]:
    targets = [("license.qlikcloud.com:443", "backend"), ("localhost:4242", "repository")]
    if node.proxy:
        targets.append((node.proxy, "proxy"))
    if node.offline:
        targets = targets[1:]
    for target, role in targets:
        labels = {"target": target, "role": role}
        outage = next((o for o in node.outages if o.start <= at < o.end), None) if role == "backend" else None
        lost: dict[str, float] = dict.fromkeys(REASONS, 0.0)
        for o in node.outages if role == "backend" else ():
            lost[o.reason] += max(0.0, min(at, o.end) - max(started, o.start))
        yield "qlik_license_probe_success", labels, 0 if outage else 1
        yield "qlik_license_probe_attempts_total", labels, int((at - started) / MINUTE)
        for reason, seconds in lost.items():
            yield "qlik_license_probe_failures_total", {**labels, "reason": reason}, int(seconds / MINUTE)
        yield "qlik_license_probe_last_run_timestamp_seconds", labels, at - 20
        yield "qlik_license_probe_last_success_timestamp_seconds", labels, outage.start - 20 if outage else at - 20
        yield from _last_probe(node, at, labels, outage)


def _last_probe(node: Node, at: float, labels: dict[str, str], outage: Outage | None) -> Iterator[Sample]:
    remote = labels["role"] == "backend"
    wave = 1 + 0.2 * sin(at / 9000) + 0.3 * node.dice.random()
    phases = {"dns": 0.004, "connect": 0.021 if remote else 0.0006}
    if remote:
        phases |= {"proxy": 0.009} if node.proxy else {}
        phases |= {} if outage else {"tls": 0.038, "http": 0.055}
    if outage and outage.reason == "dns":
        phases = {"dns": 2.0}
    for phase, seconds in phases.items():
        yield "qlik_license_probe_duration_seconds", {**labels, "phase": phase}, seconds * wave
    if "connect" in phases:
        yield "qlik_license_probe_ip_protocol", labels, 4
    if not remote or outage:
        return
    yield "qlik_license_probe_http_status_code", labels, 404
    yield "qlik_license_probe_tls_cert_expiry_timestamp_seconds", labels, NOW + 41 * DAY
    yield "qlik_license_probe_tls_chain_expiry_timestamp_seconds", labels, NOW + 412 * DAY
    yield "qlik_license_probe_tls_info", {**labels, "version": "TLSv1.3", "issuer": "Amazon"}, 1
    yield "qlik_license_probe_tls_issuer_expected", labels, 1
    drift = (at - EXPORTERS_RESTARTED) / DAY * 1.5 if node.name == "qlik-lyon" and at > EXPORTERS_RESTARTED else 0
    yield "qlik_license_probe_clock_skew_seconds", labels, drift + 0.4 * (node.dice.random() - 0.5)


def _seats(node: Node, at: float) -> Iterator[Sample]:
    yield "qlik_license_qrs_up", {}, 1
    yield "qlik_license_qrs_problems_total", {}, 0
    yield "qlik_license_qrs_duration_seconds", {}, 0.2 + 0.1 * node.dice.random()
    yield "qlik_license_qrs_last_success_timestamp_seconds", {}, at - at % (5 * MINUTE)
    yield "qlik_license_expiry_timestamp_seconds", {}, NOW + {"zurich": 203, "lyon": 96, "plant": 45}[node.site] * DAY
    yield "qlik_license_expired", {}, 0
    yield "qlik_license_valid", {}, 1
    if node.offline:  # and still on tokens
        yield "qlik_license_tokens", {}, 30
        yield "qlik_license_tokens_available", {}, 12
        yield "qlik_license_info", {"kind": "signed_key", "product": "Qlik Sense", "subscription": "false"}, 1
        return
    kind = {"kind": "signed_key", "product": "Qlik Sense Enterprise", "subscription": "true"}
    yield "qlik_license_info", kind, 1
    weeks = (at - NOW + LONGEST_STORY) / (7 * DAY)
    bought = {"professional": 50, "analyzer": 220} if node.site == "zurich" else {"professional": 20, "analyzer": 60}
    given = {
        "professional": bought["professional"] - 12 + int(weeks),
        "analyzer": int(bought["analyzer"] * 0.83 + 3 * weeks),
    }
    for access_type, seats in bought.items():
        labels = {"access_type": access_type}
        quarantined = 1 if access_type == "professional" else 4
        allocated = min(given[access_type], seats - quarantined)
        yield "qlik_license_access_licenses", labels, seats
        yield "qlik_license_access_allocated", labels, allocated
        yield "qlik_license_access_used", labels, int(allocated * 0.9)
        yield "qlik_license_access_quarantined", labels, quarantined
        yield "qlik_license_access_available", labels, seats - allocated - quarantined
        yield "qlik_license_access_excess", labels, 0
        for unused, number in (("30d", 4), ("60d", 2), ("90d", 1), ("never", 0)):
            yield "qlik_license_access_unused", {**labels, "unused": unused}, number
        for holder, number in (("removed", 2), ("inactive", 1), ("blocked", 0)):
            yield "qlik_license_access_held_by", {**labels, "holder": holder}, number
    seats_end = NOW + {"zurich": 52, "lyon": 37}.get(node.site, 44) * DAY  # as the rules record it
    yield "job_site:qlik_license_access_exhausted_timestamp_seconds:forecast14d", {"access_type": "analyzer"}, seats_end
    if node.site != "zurich":
        yield "job_site:qlik_license_analyzer_capacity_exhausted_timestamp_seconds:forecast7d", {}, NOW + 3 * DAY
    date = datetime.fromtimestamp(at, UTC)
    month = (date.day - 1 + date.hour / 24) / 30
    yield "qlik_license_analyzer_capacity_allocated_seconds", {}, 5000 * MINUTE
    yield (
        "qlik_license_analyzer_capacity_used_seconds",
        {},
        5000 * MINUTE * month * (0.7 if node.site == "zurich" else 1.12),
    )
    yield "qlik_license_analyzer_capacity_unavailable_seconds", {}, 0
    yield "qlik_license_sessions_per_user_max", {}, 4 if node.users_refused(at, "parallel_sessions") else 2


def _exporter(node: Node, at: float, started: float) -> Iterator[Sample]:
    prefix = "qlik_license_exporter_"
    blind = node.site == "lyon" and LYON_LOG_UNREADABLE[0] <= at < LYON_LOG_UNREADABLE[1]
    unread_for = at - LYON_LOG_UNREADABLE[0] if blind else 0.0
    yield prefix + "build_info", {"version": "0.1.0", "python_version": "3.12.7", "revision": "unknown"}, 1
    yield prefix + "start_timestamp_seconds", {}, started
    yield prefix + "first_start_timestamp_seconds", {}, NOW - LONGEST_STORY
    yield prefix + "exposition_timestamp_seconds", {}, at
    for log, per_minute in (("licenses", 0.3), ("repository_audit", 2.4), ("repository_trace", 0.4)):
        labels = {"log": log}
        minutes = (at - NOW + LONGEST_STORY) / MINUTE
        yield (
            prefix + "log_files",
            labels,
            0 if blind else {"licenses": 4, "repository_audit": 1, "repository_trace": 2}[log],
        )
        yield prefix + "log_growing_files", labels, 0 if blind else 1
        yield prefix + "log_records_total", labels, int(minutes * per_minute)
        yield prefix + "log_read_bytes_total", labels, int(minutes * per_minute) * 310
        yield prefix + "log_malformed_records_total", labels, int(minutes / 30000)
        yield prefix + "log_future_records_total", labels, 0
        yield prefix + "log_rotations_total", labels, int(minutes / 720)
        yield prefix + "log_lost_generations_total", labels, 0
        yield prefix + "log_read_errors_total", labels, int(unread_for)
        yield prefix + "log_unread_bytes", labels, unread_for * per_minute * 310 / MINUTE
        yield (
            prefix + "log_last_entry_timestamp_seconds",
            labels,
            at - unread_for - 60 / per_minute * node.dice.random(),
        )
        yield prefix + "log_last_read_timestamp_seconds", labels, at - unread_for - node.dice.random()
    for component in COMPONENTS:
        yield prefix + "component_failures_total", {"component": component}, 0
    yield prefix + "state_last_save_timestamp_seconds", {}, at - (at + 137) % (5 * MINUTE)
    yield prefix + "state_reset_timestamp_seconds", {}, NOW - LONGEST_STORY
    yield prefix + "state_save_failures_total", {}, 0
    yield prefix + "config_last_reload_successful", {}, 1
    yield prefix + "config_last_reload_success_timestamp_seconds", {}, started
    if node.name == "qlik-lyon":  # on which no port may be opened
        yield from _remote_write(node, at, started)
    yield from _alerts(node, at)
    yield "process_resident_memory_bytes", {}, 5.2e7 + 3e6 * sin(at / 40000) + 1e6 * node.dice.random()
    yield "process_cpu_seconds_total", {}, (at - started) * 0.004


def _remote_write(node: Node, at: float, started: float) -> Iterator[Sample]:
    prefix = "qlik_license_exporter_remote_write_"
    sent = int((at - started) / 30) * 140
    waits = next((at - o.start for o in node.outages if o.start <= at < o.end), 20.0)  # its network is away, too
    yield prefix + "samples_total", {}, sent
    yield prefix + "samples_retried_total", {}, sent // 200
    for reason in DROPPED_REASONS:
        yield prefix + "samples_dropped_total", {"reason": reason}, 0
    yield prefix + "samples_pending", {}, 140 * int(waits / 30)
    yield prefix + "pending_bytes", {}, 2700 * int(waits / 30)
    yield prefix + "oldest_pending_timestamp_seconds", {}, at - waits
    yield prefix + "highest_sent_timestamp_seconds", {}, at - waits


def _alerts(node: Node, at: float) -> Iterator[Sample]:
    """Some of the alerts that the rules would raise; those of a whole site once, by its central node."""
    firing: list[dict[str, str]] = []
    if node.stale(at) and node.central:
        firing += [{"alertname": f"QlikLicense{name}", "severity": "critical"} for name in ALERTS_OF_A_SITE]
    if not node.offline and not node.reached(at - 20 * MINUTE) and not node.reached(at):
        target = {"target": "license.qlikcloud.com:443", "role": "backend"}
        firing.append({"alertname": "QlikLicenseBackendUnreachable", "severity": "warning", **target})
    if not node.offline and _verdict(node, at) == "backend_flapping":
        firing.append({"alertname": "QlikLicenseBackendFlapping", "severity": "warning"})
    if node.name == "qlik-rim1" and at > QLIK_UPGRADED:
        firing.append({"alertname": "QlikLicenseUnknownErrors", "error": "other", "severity": "info"})
    for labels in firing:
        yield "ALERTS", {**labels, "alertstate": "firing"}, 1


def write_openmetrics(out: TextIO, seconds: float, step: float) -> None:
    """Write the last `seconds` of the story, a scrape of every node each `step` seconds."""
    nodes = estate()
    scrapes = int(seconds / step)
    for scrape in range(scrapes + 1):
        at = NOW - (scrapes - scrape) * step
        for node in nodes:
            place = f'instance="{node.name}:10188",job="{JOB}",site="{node.site}"'
            for name, labels, value in samples(node, at):
                own = "".join(f',{key}="{text}"' for key, text in labels.items())
                where = place
                of_a_site = labels.get("alertname", "").removeprefix("QlikLicense") in ALERTS_OF_A_SITE
                if of_a_site or name.startswith("job_site:"):
                    where = place.partition(",")[2]
                out.write(f"{name}{{{where}{own}}} {value} {at:.0f}\n")
    out.write("# EOF\n")


def main() -> None:
    """Write the story to a file."""
    parser = argparse.ArgumentParser(description="Write a believable estate's metrics as OpenMetrics.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--step", type=float, default=600, help="seconds between scrapes")
    arguments = parser.parse_args()
    with arguments.file.open("w", encoding="utf-8", newline="\n") as out:
        write_openmetrics(out, arguments.days * DAY, arguments.step)


if __name__ == "__main__":
    main()
