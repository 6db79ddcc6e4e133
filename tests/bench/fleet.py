"""What a fleet costs, measured: `python -m tests.bench.fleet` prints the figures of docs/linux.md.

One real exporter stands for many nodes: a real Prometheus scrapes it once for each, evaluates the shipped rules, and
writes to a receiver that counts bytes. All on loopback, ended by itself.
"""

import argparse
import http.server
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
NODES_PER_SITE = 4
SCRAPE_SECONDS = 5
RULES = PROJECT / "deploy" / "prometheus" / "qlik-license.rules.yml"
SAMPLE_LOG = PROJECT / "tests" / "samples" / "licenses-published.log"


def main() -> int:
    """Measure and print. Returns 0, or 1 where a program is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=90)
    arguments = parser.parse_args()
    if not shutil.which("prometheus"):
        print("needs Prometheus: apt-get install prometheus", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as work:
        measure(Path(work), arguments.nodes, arguments.seconds)
    return 0


def measure(work: Path, nodes: int, seconds: int) -> None:
    """Start all three, wait, and print what was counted."""
    exporter_port, prometheus_port = free_port(), free_port()
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    (work / "Licenses").mkdir()
    shutil.copy(SAMPLE_LOG, work / "Licenses" / "NODE1_Licenses.log")
    (work / "exporter.yml").write_text(
        f"logs:\n  licenses: {{paths: ['{work}/Licenses/*.log']}}\n"
        "probes: [{target: '127.0.0.1:1', role: backend, proxy: none, protocol: tcp}]\n"
        f"web: {{listen_addresses: ['127.0.0.1:{exporter_port}']}}\n"
    )
    (work / "prometheus.yml").write_text(configuration(nodes, exporter_port, prometheus_port, receiver.server_port))
    running = [
        start(
            work / "exporter.log",
            sys.executable,
            "-m",
            "exporter",
            "run",
            "--config.file",
            str(work / "exporter.yml"),
            "--state.file",
            str(work / "state.db"),
        ),
        start(
            work / "prometheus.log",
            "prometheus",
            f"--config.file={work}/prometheus.yml",
            f"--storage.tsdb.path={work}/data",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        ),
    ]
    try:
        plain, packed = exposition(exporter_port), exposition(exporter_port, gzip=True)
        begun = time.monotonic()
        wait_until(lambda: value(prometheus_port, "count(up{job='qlik-license'} == 1)") == nodes, "all nodes scraped")
        time.sleep(max(0.0, seconds - (time.monotonic() - begun)))  # the measurement itself lasts this long
        series = len([line for line in plain.splitlines() if line and not line.startswith(b"#")])
        recorded = value(prometheus_port, 'count({__name__=~".+:.+"})')
        head = value(prometheus_port, "prometheus_tsdb_head_series")
        sent = Receiver.received / (value(prometheus_port, "prometheus_remote_storage_samples_total") or 1)
        took = value(prometheus_port, "max(scrape_duration_seconds{job='qlik-license'})")
        evaluated = value(prometheus_port, "sum(prometheus_rule_group_last_duration_seconds)")
        memory = value(prometheus_port, "process_resident_memory_bytes{job='prometheus'}")
        print(f"one node: {series} series, {len(plain)} bytes a scrape, {len(packed)} compressed")
        print(
            f"{nodes} nodes in {nodes // NODES_PER_SITE} sites: {head:.0f} series in the head, {recorded:.0f} recorded"
        )
        print(
            f"slowest scrape {took * 1000:.0f} ms, all rules {evaluated * 1000:.0f} ms, Prometheus {memory / 1e6:.0f} MB"
        )
        print(f"remote write: {sent:.1f} bytes a sample")
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)
        receiver.shutdown()


def configuration(nodes: int, exporter_port: int, prometheus_port: int, receiver_port: int) -> str:
    """Prometheus's configuration: as many targets as nodes, four to a site, all of them the one exporter."""
    groups = [
        {
            "targets": [f"127.0.0.1:{exporter_port}"],
            "labels": {"instance": f"node{node}", "site": f"site{node // NODES_PER_SITE}"},
        }
        for node in range(nodes)
    ]
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": "qlik-license", "static_configs": groups},
                {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{prometheus_port}"]}]},
            ],
            "remote_write": [{"url": f"http://127.0.0.1:{receiver_port}/api/v1/push"}],
        }
    )


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what Prometheus writes, and counts its bytes."""

    received = 0

    def do_POST(self) -> None:
        """Read the whole request; answer 204."""
        Receiver.received += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing: a line a request would be noise."""


def start(log: Path, *command: str) -> "subprocess.Popen[bytes]":
    """Start `command` in the project's folder; its output goes to `log`."""
    with log.open("wb") as stream:
        return subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exposition(port: int, gzip: bool = False) -> bytes:
    """What the exporter answers to a scrape, once all is read, as it goes over the network."""
    wait_until(lambda: answered(f"http://127.0.0.1:{port}/-/ready"), "the exporter is ready")
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": "gzip"} if gzip else {}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return bytes(answer.read())


def answered(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def value(port: int, expression: str) -> float:
    """What Prometheus says `expression` is now; 0 where it says nothing."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return 0.0
    return float(result[0]["value"][1]) if result else 0.0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition; TimeoutError where it does not come."""
    deadline = time.monotonic() + 120
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
