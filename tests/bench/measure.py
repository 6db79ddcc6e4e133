"""Whole processes, measured: time, processor time, memory; and the exporter while it runs, scraped all the while."""

import compileall
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.events import LOG_NAMES

PROJECT = Path(__file__).parents[2]
SCRAPE_SECONDS = 0.2


@dataclass
class Run:
    """A whole process, its start included."""

    seconds: float
    processor: float
    """Seconds of processor time, user and system."""
    mebibytes: float
    """Its largest resident set."""
    scrapes: list[float] = field(default_factory=list)
    """Seconds that each scrape took, if it was scraped."""


def run(command: list[str]) -> Run:
    """Run `command` to its end. Ends the program where it fails."""
    timed = [sys.executable, "-I", "-S", str(Path(__file__).with_name("timed.py")), *command]
    done = subprocess.run(timed, capture_output=True, text=True, cwd=PROJECT)
    seconds, processor, kibibytes, status = map(float, done.stdout.split())
    if status:
        sys.exit(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return Run(seconds, processor, kibibytes / 1024)


def instructions(command: list[str]) -> int:
    """How many instructions the processor executes for `command`: the same whatever else it does. By valgrind."""
    counted = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    done = subprocess.run(
        counted, capture_output=True, text=True, cwd=PROJECT, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{' '.join(counted)} failed: {done.stderr[-2000:]}")
    return int(found[1])


def configuration(path: Path, log: str, pattern: str, *more: str) -> list[str]:
    """Write a configuration that reads one log only. Returns the arguments that name it."""
    others = "".join(f"  {other}: {{enabled: false}}\n" for other in LOG_NAMES if other != log)
    path.write_text(
        f"history: count\nlogs:\n{others}  {log}: {{paths: ['{pattern}']}}\n"
        + "".join(f"{line}\n" for line in more or ("probes: []",))
    )
    return ["--config.file", str(path)]


def once(config: list[str]) -> list[str]:
    """The command that reads all logs, prints the metrics and ends."""
    return [sys.executable, "-m", "exporter", "run", "--once", *config]


class Exporter:
    """A running exporter."""

    def __init__(self, config: list[str], state: Path) -> None:
        self.port = free_port()
        self.begun = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process runs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "run", *config, "--state.file", str(state)]
            + ["--web.listen-address", f"127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            cwd=PROJECT,
        )
        self.scrapes: list[float] = []

    def scrape(self) -> str:
        """The metrics; empty while it does not listen yet. How long it took is kept."""
        if self.process.poll() is not None:
            self._errors.seek(0)
            sys.exit(f"the exporter ended: {self._errors.read().decode()[-2000:]}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        begun = time.perf_counter()
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()
        self.scrapes.append(time.perf_counter() - begun)
        return text

    def processor(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mebibytes(self, name: str = "VmHWM") -> float:
        """Its largest resident set (`VmHWM`) or that of now (`VmRSS`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def stop(self) -> None:
        """End it as a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@contextmanager
def running(config: list[str]) -> Iterator[Exporter]:
    """An exporter with a state file of its own, ended at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        exporter = Exporter(config, Path(folder) / "state.db")
        try:
            yield exporter
        finally:
            exporter.stop()


def catch_up(config: list[str], log: str, records: int) -> Run:
    """Start the exporter, and scrape it until it has counted so many records."""
    with running(config) as exporter:
        while value(exporter.scrape(), f'qlik_license_exporter_log_records_total{{log="{log}"}}') < records:
            time.sleep(SCRAPE_SECONDS)
        took = time.perf_counter() - exporter.begun
        return Run(took, exporter.processor(), exporter.mebibytes(), exporter.scrapes)


def value(exposition: str, series: str) -> float:
    """The value of a series; 0 where it is absent."""
    found = re.search(rf"^{re.escape(series)} (\S+)", exposition, re.MULTILINE)
    return float(found[1]) if found else 0.0


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def free_port() -> int:
    """A port of the loopback interface on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def compile_exporter() -> None:
    """As an installation does, so that no run has to do it: some environments keep Python from storing the result."""
    compileall.compile_dir(PROJECT / "exporter", quiet=1)


def machine() -> str:
    """What the figures were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{os.cpu_count()} cores ({model[1] if model else 'unknown'}), "
        f"{int(memory[1]) / 2**20 if memory else 0:.0f} GiB of memory, Linux {os.uname().release}, Python {python}"
    )
