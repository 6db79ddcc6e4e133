"""Plays a license incident in two minutes: the real exporter with real log files, a backend that becomes unreachable
and a Repository API; with Prometheus and Alertmanager if they are installed. Loopback only; removes all that it made.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from exporter.assets import asset
from exporter.demo.scaled_rules import scaled
from exporter.demo.site import (
    SEATS,
    SEATS_FREE,
    SESSIONS_AT_MOST,
    Backend,
    Node,
    Repository,
    Silent,
    close,
    free_port,
    serve,
)

GRACE = 60.0
"""Seconds that represent Qlik's five days."""
REAL_GRACE = 5 * 86400.0
ROUND = 2.0 * GRACE
SYNC_EVERY = 5.0
"""Seconds between sync attempts; Qlik's ten minutes."""
TICK = 0.25
RULES = asset("deploy/prometheus/qlik-license.rules.yml")
ROUTES = asset("deploy/alertmanager/alertmanager.yml")
EVERYONE = tuple(f"user{number:02}" for number in range(12))
THE_BUSY_ONE = ("user20",)
THE_NEW_ONE = ("user21",)


@dataclass(frozen=True)
class Chapter:
    """A part of the story: from `begins` (in graces) on, with the expected verdict of the exporter at its end."""

    begins: float
    title: str
    verdict: str
    reachable: bool = True
    """Whether the backend answers."""
    stale: bool = False
    """Whether the Licenses service reports its license as stale at each attempt."""
    refused: tuple[str, ...] = ()
    """Users who are refused without an access pass."""
    refused_a_sixth: tuple[str, ...] = ()
    """A user who has all sessions that one user may have, and opens another."""
    seats_free: int = SEATS_FREE


CHAPTERS = (
    Chapter(0.0, "All is well: the Licenses service syncs, and the backend answers.", "well"),
    Chapter(
        0.25,
        "The backend becomes unreachable. Nobody notices: users can still work, and Qlik shows nothing.",
        "sync_failing_network",
        reachable=False,
    ),
    Chapter(
        0.74,
        "Three of the five days have passed. The lockout alert fires, before any user is refused.",
        "lockout_coming",
        reachable=False,
    ),
    Chapter(
        1.26,
        f"The five days have passed: the license is stale, and users are refused with {SEATS_FREE} seats free.",
        "license_stale",
        reachable=False,
        stale=True,
        refused=EVERYONE,
        refused_a_sixth=THE_BUSY_ONE,
    ),
    Chapter(
        1.55,
        "The firewall is open again and the Dispatcher was restarted: the next sync succeeds. One user still has five "
        "sessions.",
        "parallel_sessions",
        refused_a_sixth=THE_BUSY_ONE,
    ),
    Chapter(
        1.70,
        "The last free seat is assigned, and a new user is refused with the same message. The Repository API shows "
        "that this time it is a shortage of seats.",
        "seats_exhausted",
        refused=THE_NEW_ONE,
        seats_free=0,
    ),
)


class Demo:
    """One play of the story, in a folder of its own."""

    def __init__(self, folder: Path, pace: float, ends: contextlib.ExitStack) -> None:
        self._folder, self._pace, self._ends = folder, pace, ends
        self._grace = GRACE / pace
        self._started = time.monotonic()
        self._backend = Backend()
        ends.callback(self._backend.close)
        self._repository = Repository(folder)
        ends.callback(self._repository.close)
        self._exporter_port = free_port(10188)
        self._prometheus = shutil.which("prometheus")
        self._alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

    def play(self, rounds: int) -> bool:
        """Play the rounds; False if a verdict was not the expected one."""
        self._say_where(self._start_monitoring())
        good = True
        number = 0
        while rounds == 0 or number < rounds:
            number += 1
            good &= self._round(number)
        return good

    # --- the programs beside the exporter

    def _start_monitoring(self) -> dict[str, str]:
        """Start Prometheus and Alertmanager if they are installed; returns the pages to open, by name."""
        exporter = f"http://127.0.0.1:{self._exporter_port}"
        places = {"status page": f"{exporter}/", "metrics": f"{exporter}/metrics"}
        found = {"prometheus": self._prometheus, "alertmanager": self._alertmanager}
        if missing := [name for name, path in found.items() if not path]:
            places["no alerts"] = (
                f"{' and '.join(missing)} not found on PATH: only logs, metrics and status page "
                "(on Debian: apt-get install prometheus prometheus-alertmanager)"
            )
            return places
        receiver = serve(_notifications(self._say))
        self._ends.callback(close, receiver)
        prometheus, alertmanager = free_port(9190), free_port(9193)
        home = self._folder / "monitoring"
        home.mkdir()
        (home / "rules.yml").write_text(scaled(RULES.read_text("utf-8"), self._grace / REAL_GRACE), "utf-8")
        shutil.copytree(ROUTES.parent, home, dirs_exist_ok=True)
        routes = _hurried(ROUTES.read_text("utf-8"), f"http://127.0.0.1:{receiver.server_address[1]}/")
        (home / "alertmanager.yml").write_text(routes, "utf-8")
        (home / "prometheus.yml").write_text(
            _PROMETHEUS.format(exporter=self._exporter_port, alertmanager=alertmanager), "utf-8"
        )
        self._start(
            "alertmanager",
            [str(self._alertmanager), f"--config.file={home}/alertmanager.yml", f"--storage.path={home}/alertmanager"]
            + [f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=", "--log.level=warn"],
        )
        self._start(
            "prometheus",
            [str(self._prometheus), f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/prometheus"]
            + [f"--web.listen-address=127.0.0.1:{prometheus}", "--log.level=warn"],
        )
        places["Prometheus"] = f"http://127.0.0.1:{prometheus}/alerts"
        places["Alertmanager"] = f"http://127.0.0.1:{alertmanager}/"
        return places

    def _start(self, name: str, command: list[str]) -> "subprocess.Popen[bytes]":
        log = self._ends.enter_context((self._folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603  # our own words
        self._ends.callback(_end, process)
        return process

    def _say_where(self, places: dict[str, str]) -> None:
        self._say(
            f"A license incident in {ROUND / self._pace:.0f} seconds: {self._grace:.0f} s represent Qlik's five days."
        )
        for name, place in places.items():
            self._say(f"  {name:<14}{place}")
        self._say(f"  {'log files':<14}{self._folder}")
        self._say("Ctrl-C stops it and removes everything.\n")

    def _say(self, text: str) -> None:
        print(text, flush=True)

    # --- one round

    def _round(self, number: int) -> bool:
        home = self._folder / f"round-{number}"
        node = Node(home / "Log")
        self._backend.open()
        config = home / "config.yml"
        settings = _EXPORTER.format(
            log=node.folder.as_posix(),
            state=(home / "state.db").as_posix(),
            backend=self._backend.port,
            repository=self._repository.url,
            certificates=self._folder.as_posix(),
            grace=f"{self._grace * 1000:.0f}ms",
            settle=f"{2000 / self._pace:.0f}ms",
        )
        config.write_text(settings, "utf-8")
        exporter = self._start(
            "exporter",
            [sys.executable, "-m", "exporter", "run", "--config.file", str(config), "--log.level", "warning"]
            + ["--web.listen-address", f"127.0.0.1:{self._exporter_port}"],
        )
        try:
            return self._chapters(number, node, exporter)
        finally:
            _end(exporter)
            shutil.rmtree(home, ignore_errors=True)

    def _chapters(self, number: int, node: Node, exporter: "subprocess.Popen[bytes]") -> bool:
        begun = time.monotonic()
        ends = [chapter.begins * self._grace for chapter in CHAPTERS[1:]] + [ROUND / self._pace]
        good = True
        for chapter, end in zip(CHAPTERS, ends, strict=True):
            self._say(f"[{time.monotonic() - begun:4.0f} s] {chapter.title}")
            (self._backend.open if chapter.reachable else self._backend.close)()
            self._repository.seats_free = chapter.seats_free
            self._repository.sessions = SESSIONS_AT_MOST if chapter.refused_a_sixth else 1
            due = time.monotonic()
            shown_at = time.monotonic()
            while time.monotonic() - begun < end:
                if exporter.poll() is not None:
                    self._say((self._folder / "exporter.log").read_text("utf-8", "replace")[-2000:])
                    raise SystemExit("the exporter has ended")
                if time.monotonic() >= due:
                    due += SYNC_EVERY / self._pace
                    self._write(node, chapter)
                if time.monotonic() - shown_at > 10 / self._pace:
                    shown_at = time.monotonic()
                    self._say(f"[{shown_at - begun:4.0f} s]     {self._figures()}")
                time.sleep(TICK)
            verdict = self._verdict()
            right = verdict == chapter.verdict
            good &= right
            said = "as it should be" if right else f"but it should be {chapter.verdict}"
            self._say(f"[{time.monotonic() - begun:4.0f} s]     verdict: {verdict}, {said}. {self._figures()}")
        self._say(f"Round {number} is over.\n")
        return good

    def _write(self, node: Node, chapter: Chapter) -> None:
        """Write what the node logs around one sync attempt."""
        node.sync_attempt()
        if not chapter.reachable:
            node.backend_error()
        if chapter.stale:
            node.stale_verdict()
        if chapter.reachable:
            node.granted("user99")
        for user in chapter.refused:
            node.refusal(user)
        for user in chapter.refused_a_sixth:
            node.refusal(user, sessions=SESSIONS_AT_MOST)

    def _metrics(self) -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._exporter_port}/metrics", timeout=2
            ) as answer:  # loopback
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return ""

    def _verdict(self) -> str:
        found = re.search(r'^qlik_license_verdict\{verdict="(\w+)"\} 1\.0', self._metrics(), re.MULTILINE)
        return found[1] if found else "none"

    def _figures(self) -> str:
        metrics = self._metrics()

        def value(name: str) -> float | None:
            found = re.search(rf"^{re.escape(name)} (\S+)", metrics, re.MULTILINE)
            return float(found[1]) if found else None

        age, lockout, stale = (
            value(f"qlik_license_{name}") for name in ("sync_age_seconds", "lockout_timestamp_seconds", "stale")
        )
        parts = ["no sync known yet" if age is None else f"last sync {age:.0f} s ago"]
        if lockout is not None:
            left = lockout - time.time()
            parts.append(f"lockout in {left:.0f} s" if left > 0 else "lockout time is over")
        parts.append("stale" if stale else "not stale")
        for reason in ("no_access_pass", "parallel_sessions"):
            refused = value(f'qlik_license_access_denials_total{{reason="{reason}"}}') or 0
            parts.append(f"{refused:.0f} {reason}")
        free = value('qlik_license_access_available{access_type="professional"}')
        parts.append("seats not known yet" if free is None else f"{free:.0f} of {SEATS} seats free")
        return ", ".join(parts)


def _hurried(routes: str, url: str) -> str:
    """The shipped Alertmanager configuration with short waiting times, and with the demo as every receiver, also of
    alerts that otherwise appear on dashboards only.
    """
    routes = routes.replace("- name: nobody\n", "- name: nobody\n    webhook_configs:\n      - url: http://demo/\n")
    routes = re.sub(r"group_wait: \w+", "group_wait: 1s", routes)
    routes = re.sub(r"group_interval: \w+", "group_interval: 1s", routes)
    return re.sub(r"^(\s+- url: )http\S+", lambda found: found[1] + url, routes, flags=re.MULTILINE)


def _notifications(say: Callable[[str], None]) -> type[BaseHTTPRequestHandler]:
    """The handler of Alertmanager's webhook: shows each notification as it was received."""

    class Received(Silent):
        def do_POST(self) -> None:  # noqa: N802  # http.server's name for it
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            for alert in json.loads(body).get("alerts", ()):
                labels, texts = alert["labels"], alert["annotations"]
                what = f"{alert['status'].upper()} {labels['severity']} {labels['alertname']}"
                say(f"        >> received: {what}: {texts.get('summary', '')}")
            self.answer(200)

    return Received


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_EXPORTER = """\
logs:
  licenses: {{paths: ['{log}/Licenses/*.log']}}
  repository_audit: {{paths: ['{log}/Repository/Audit/*_AuditSecurity_Repository.txt']}}
  repository_trace: {{enabled: false}}
poll_interval: 200ms
discovery_interval: 1s
license: {{grace: {grace}, settle: {settle}}}
probes:
  - {{target: '127.0.0.1:{backend}', role: backend, protocol: http, interval: 1s, timeout: 1s, proxy: none}}
qrs:
  enabled: true
  url: {repository}
  sessions_url: {repository}
  certificate: '{certificates}/client.pem'
  key: '{certificates}/client_key.pem'
  ca_file: '{certificates}/client.pem'
  interval: 1s
state: {{file: '{state}'}}
"""

_PROMETHEUS = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting:
  alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]
scrape_configs:
  - job_name: qlik-license
    static_configs: [{{targets: ['127.0.0.1:{exporter}'], labels: {{site: demo}}}}]
"""
