"""`demo`: plays a license incident in two minutes, on the stock exporter, with real log files and a real backend that
goes away; with Prometheus and Alertmanager beside it where they are installed. Loopback only; removes what it made.
"""

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from exporter.commands.scaled_rules import scaled
from exporter.config import Config

GRACE = 60.0
"""Seconds that stand for Qlik's five days."""
REAL_GRACE = 5 * 86400.0
ROUND = 2.0 * GRACE
SYNC_EVERY = 5.0
"""Seconds between sync attempts; Qlik's ten minutes."""
TICK = 0.25
DEPLOY = Path(__file__).parents[2] / "deploy"
"""In a clone; an installed package has none, and the demo then plays without Prometheus."""
RULES = DEPLOY / "prometheus" / "qlik-license.rules.yml"
ROUTES = DEPLOY / "alertmanager" / "alertmanager.yml"
AUDIT_HEADER = (
    "Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    "RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    "Origin\tContext\tCommand\tResult\tMessage\tChecksum\r\n"
)


@dataclass(frozen=True)
class Chapter:
    """A part of the story: from `begins` (in graces) on, with the verdict that the exporter must give at its end."""

    begins: float
    title: str
    verdict: str
    reachable: bool
    stale: bool = False


CHAPTERS = (
    Chapter(0.0, "All is well: the Licenses service syncs, the backend answers.", "well", reachable=True),
    Chapter(
        0.25,
        "The backend goes away. Nobody notices: users still get in, and Qlik says nothing.",
        "sync_failing_network",
        reachable=False,
    ),
    Chapter(
        0.74,
        "Three of the five days are gone. The lockout alert pages, before anyone is refused.",
        "lockout_coming",
        reachable=False,
    ),
    Chapter(
        1.26,
        "The five days are over: the license is stale, and users are refused.",
        "license_stale",
        reachable=False,
        stale=True,
    ),
    Chapter(
        1.55,
        "The firewall is open again, the Dispatcher was restarted: the next sync succeeds. What is left is one user "
        "with five sessions.",
        "parallel_sessions",
        reachable=True,
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="end after N rounds (default: until Ctrl-C)")
    parser.add_argument("--pace", type=float, default=1.0, metavar="X", help="play X times as fast (default: 1)")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Play until stopped; 0, or 1 where a chapter ended with another verdict than it should have."""
    if not 0 < arguments.pace <= 5:
        print("--pace: expected more than 0 and at most 5", file=sys.stderr)
        return 2
    with contextlib.ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="qlik-license-demo-")))
        try:
            return 0 if _Demo(folder, arguments.pace, ends).play(arguments.rounds) else 1
        except KeyboardInterrupt:
            print("\nStopped. Everything that the demo made is removed.")
            return 0


class _Demo:
    def __init__(self, folder: Path, pace: float, ends: contextlib.ExitStack) -> None:
        self._folder, self._pace, self._ends = folder, pace, ends
        self._grace = GRACE / pace
        self._started = time.monotonic()
        self._backend = _Backend()
        ends.callback(self._backend.close)
        self._exporter_port = _free_port(10188)
        self._prometheus = shutil.which("prometheus")
        self._alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

    def play(self, rounds: int) -> bool:
        """The rounds; False where a verdict was not the expected one."""
        self._say_where(self._start_monitoring())
        good = True
        number = 0
        while rounds == 0 or number < rounds:
            number += 1
            good &= self._round(number)
        return good

    # --- the programs beside the exporter

    def _start_monitoring(self) -> dict[str, str]:
        """Start Prometheus and Alertmanager where they can be had; what to look at, by name."""
        exporter = f"http://127.0.0.1:{self._exporter_port}"
        places = {"status page": f"{exporter}/", "metrics": f"{exporter}/metrics"}
        if not (self._prometheus and self._alertmanager and RULES.exists()):
            places["no alerts"] = (
                "Prometheus, Alertmanager or the rules of a clone are missing: logs, metrics and page alone"
            )
            return places
        receiver = _serve(_Notifications(self._say))
        self._ends.callback(_close, receiver)
        prometheus, alertmanager = _free_port(9190), _free_port(9193)
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
            f"A license incident in {ROUND / self._pace:.0f} seconds: {self._grace:.0f} s stand for Qlik's five days."
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
        node = _Node(home / "Log", self._backend.port)
        self._backend.open()
        config = home / "config.yml"
        settings = _EXPORTER.format(
            log=node.folder.as_posix(),
            state=(home / "state.db").as_posix(),
            backend=self._backend.port,
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

    def _chapters(self, number: int, node: "_Node", exporter: "subprocess.Popen[bytes]") -> bool:
        begun = time.monotonic()
        ends = [chapter.begins * self._grace for chapter in CHAPTERS[1:]] + [ROUND / self._pace]
        good = True
        for chapter, end in zip(CHAPTERS, ends, strict=True):
            self._say(f"[{time.monotonic() - begun:4.0f} s] {chapter.title}")
            (self._backend.open if chapter.reachable else self._backend.close)()
            writer = node.writer(chapter, SYNC_EVERY / self._pace)
            told = time.monotonic()
            while time.monotonic() - begun < end:
                if exporter.poll() is not None:
                    self._say((self._folder / "exporter.log").read_text("utf-8", "replace")[-2000:])
                    raise SystemExit("the exporter has ended")
                next(writer)
                if time.monotonic() - told > 10 / self._pace:
                    told = time.monotonic()
                    self._say(f"[{told - begun:4.0f} s]     {self._figures()}")
                time.sleep(TICK)
            verdict = self._verdict()
            right = verdict == chapter.verdict
            good &= right
            said = "as it should be" if right else f"but it should be {chapter.verdict}"
            self._say(f"[{time.monotonic() - begun:4.0f} s]     verdict: {verdict}, {said}. {self._figures()}")
        self._say(f"Round {number} is over.\n")
        return good

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
        return ", ".join(parts)


def _hurried(routes: str, url: str) -> str:
    """The shipped Alertmanager configuration, without its patience, and with the demo as every receiver."""
    routes = re.sub(r"group_wait: \w+", "group_wait: 1s", routes)
    routes = re.sub(r"group_interval: \w+", "group_interval: 1s", routes)
    return re.sub(r"^(\s+- url: )http\S+", lambda found: found[1] + url, routes, flags=re.MULTILINE)


# --- what the exporter watches ----------------------------------------------------------------------------------------


class _Node:
    """A Qlik node's log folders, written in the published shapes."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._licenses = folder / "Licenses" / "licenses.log"
        self._audit = folder / "Repository" / "Audit" / "QLIKNODE1_AuditSecurity_Repository.txt"
        self._port, self._rows = port, 0
        self._licenses.parent.mkdir(parents=True)
        self._audit.parent.mkdir(parents=True)
        self._append(self._audit, "\ufeff" + AUDIT_HEADER)

    def writer(self, chapter: Chapter, every: float) -> Iterator[None]:
        """Each step writes what is due in `chapter`."""
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                due += every
                self._sync_attempt()
                if not chapter.reachable:
                    self._backend_error()
                if chapter.stale:
                    self._stale_verdict()
                    for user in range(12):
                        self._refusal(f"user{user:02}", None)
                    self._refusal("user20", 5)
            yield

    def _append(self, file: Path, text: str) -> None:
        with file.open("a", encoding="utf-8", newline="") as stream:
            stream.write(text)

    def _line(self, **pairs: object) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"
        self._append(self._licenses, json.dumps({**pairs, "timestamp": now}, separators=(",", ":")) + "\n")

    def _sync_attempt(self) -> None:
        self._line(
            caller="sync.go:290",
            level="info",
            licenseNumber="XXXXXXXX",
            message="re-syncing assignments with the backend",
        )

    def _backend_error(self) -> None:
        error = f"dial tcp 127.0.0.1:{self._port}: connect: connection refused"
        self._line(caller="sync.go:311", level="info", message=f"sync failed: {error}")

    def _stale_verdict(self) -> None:
        text = "Too much time has passed since the last license update"
        self._line(
            caller="handler.go:44",
            errorMessage=text,
            errorType="LICENSES-OutdatedLicense",
            level="info",
            statusCode=403,
        )

    def _refusal(self, user: str, sessions: int | None) -> None:
        self._rows += 1
        now = datetime.now().astimezone()
        at = now.strftime("%Y%m%dT%H%M%S.") + f"{now.microsecond // 1000:03}" + now.strftime("%z")
        message = "Login access denied for SessionID: 'x', Hostname: \"10.0.0.21\", OperationType: 'UsageDenied'"
        if sessions is not None:
            message = (
                f"Access was denied for User: 'CONTOSO\\{user}', with AccessID 'x', SessionID: 'x', "
                f"SessionCount: '{sessions}', Hostname: '::1', OperationType: 'UsageDenied'"
            )
        row = [str(self._rows), "14.54.7.0", at, "QLIKNODE1", "x"]
        row += [
            "Command=License user access;Result=403;ResultText=Error: Access denied",
            "0",
            "0",
            "0",
            "CONTOSO",
            user,
        ]
        row += ["0", "Not available", "Security", "10.0.0.21", "Repository", "Not available", "/repository"]
        row += ["License user access", "403", message, "x"]
        self._append(self._audit, "\t".join(row) + "\r\n")


class _Backend:
    """Answers 404 on loopback, as license.qlikcloud.com does, until it is closed."""

    def __init__(self) -> None:
        self.port = _free_port(0)
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Answer from now on."""
        if self._server is None:
            self._server = _serve(_NotFound, self.port)

    def close(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            _close(self._server)
            self._server = None


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _Notifications(say: Callable[[str], None]) -> type[BaseHTTPRequestHandler]:  # noqa: N802  # makes a class
    """The handler of Alertmanager's webhook: shows each notification as it was received."""

    class Received(_NotFound):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            for alert in json.loads(body).get("alerts", ()):
                labels, texts = alert["labels"], alert["annotations"]
                what = f"{alert['status'].upper()} {labels['severity']} {labels['alertname']}"
                say(f"        >> received: {what}: {texts.get('summary', '')}")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Received


def _serve(handler: type[BaseHTTPRequestHandler], port: int = 0) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def _close(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def _free_port(wanted: int) -> int:
    """`wanted` where it is free on loopback, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if sys.platform != "win32":  # there the option would let two programs share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


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
  - {{target: 'localhost:{backend}', role: backend, protocol: http, interval: 1s, timeout: 1s, proxy: none}}
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
