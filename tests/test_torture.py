"""The real exporter is killed dozens of times under a writer that splits lines and rolls files, while it is scraped."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tailing import disk_folder

pytestmark = pytest.mark.slow

KILLS = 24
DEADLINE = 90.0
"""Seconds within which everything must have happened; on an idle machine it takes a third."""
LINE = '{{"message":"re-syncing assignments with the backend","timestamp":"2024-01-01T00:00:00Z","n":{}}}\n'
ROW = "{}\t20240101T000000.000+0000\tWARN\tnode\tRepository.Core.Licensing.X\t1\tid\tqlik\t{}\tsum\r\n"
HEADER = "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2\r\n"
DURABLE = re.compile(
    r"^(qlik_license_(?:exporter_log_(?:records|read_bytes|malformed_records|rotations|lost_generations)_total"
    r"|log_messages_total|log_severe_entries_total|sync_attempts_total|errors_total|access_denials_total)(?:\{.*\})?) (\S+)$",
    re.MULTILINE,
)


class Writer(threading.Thread):
    """Qlik: writes lines in pieces, header rows again and again, and rolls its files to `.log` and into the archive."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.random = random.Random(seed)
        self.written = {"licenses": 0, "repository_trace": 0}
        self.rolls = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self._step()
            self.stopping.wait(self.random.random() * 0.01)

    def _step(self) -> None:
        log = self.random.choice(list(self.written))
        file = self.folder / f"{log}.txt"
        number = self.written[log]
        if log == "licenses":
            line = LINE.format(number)
        else:
            line = ROW.format(number, "two\r\nlines" if number % 7 == 0 else "m")
            if not file.exists() or number % 11 == 0:
                line = HEADER + line
        data = line.encode()
        cut = self.random.randrange(len(data))
        with open(file, "ab", 0) as out:
            out.write(data[:cut])
            if self.random.random() < 0.2:
                self.stopping.wait(0.005)
            out.write(data[cut:])
        self.written[log] += 1
        if self.random.random() < 0.06:
            self.rolls += 1
            rolled = f"{log}_20240101T{self.rolls // 3600:02}{self.rolls // 60 % 60:02}{self.rolls % 60:02}Z.log"
            os.rename(file, self.folder / rolled)
            if self.random.random() < 0.5:
                os.rename(self.folder / rolled, self.folder / "archive" / rolled)


class Scraper(threading.Thread):
    """Prometheus: scrapes as often as it can, and looks whether a durable counter ever fell."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.highest: dict[str, float] = {}
        self.fell: list[str] = []
        self.scrapes = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    self.look(answer.read().decode())
            except (OSError, urllib.error.URLError, ValueError):
                pass  # it was just killed
            self.stopping.wait(0.02)

    def look(self, exposition: str) -> None:
        found = {series: float(value) for series, value in DURABLE.findall(exposition)}
        if not exposition.endswith("\n") or not found:
            return
        self.scrapes += 1
        for series, value in found.items():
            if value < self.highest.get(series, 0.0):
                self.fell.append(f"{series} {self.highest[series]} -> {value}")
            self.highest[series] = max(value, self.highest.get(series, 0.0))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _exporter(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "exporter", "run", "--config.file", str(config)]
    with open(config.with_suffix(".log"), "ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _records(scraper: Scraper, log: str) -> float:
    return scraper.highest.get(f'qlik_license_exporter_log_records_total{{log="{log}"}}', -1.0)


@pytest.mark.timeout(DEADLINE + 30)
def test_no_kill_loses_or_doubles_a_record_or_takes_a_durable_counter_back() -> None:
    with disk_folder() as folder:
        (folder / "archive").mkdir()
        port = _free_port()
        config = folder / "exporter.yml"
        config.write_text(
            f"""
            logs:
              licenses: {{paths: ['{folder}/licenses.txt'], archive: '{folder}/archive'}}
              repository_audit: {{enabled: false}}
              repository_trace: {{paths: ['{folder}/repository_trace*.txt'], archive: '{folder}/archive'}}
            poll_interval: 100ms
            discovery_interval: 200ms
            history: count
            probes: []
            state: {{file: '{folder}/state/state.db'}}
            web: {{listen_addresses: ['127.0.0.1:{port}']}}
            """
        )
        writer, scraper = Writer(folder, seed=7), Scraper(port)
        began = time.monotonic()
        scraper.start()
        with _exporter(config):  # lists the empty folder: what is written from then on counts
            while not _ready(port) and time.monotonic() - began < DEADLINE:
                time.sleep(0.02)
        writer.start()
        chance = random.Random(11)
        for _ in range(KILLS):
            seen = scraper.scrapes
            with _exporter(config) as process:
                if chance.random() < 0.7:  # else it is killed somewhere in its start
                    while scraper.scrapes < seen + 2 and time.monotonic() - began < DEADLINE:
                        time.sleep(0.01)
                else:
                    time.sleep(chance.random() * 0.8)
                time.sleep(chance.random() * 0.2)
                os.kill(process.pid, signal.SIGKILL)
        writer.stopping.set()
        writer.join()
        with _exporter(config):
            while time.monotonic() - began < DEADLINE and any(
                _records(scraper, log) < count for log, count in writer.written.items()
            ):
                time.sleep(0.05)
            seen = scraper.scrapes
            while scraper.scrapes < seen + 20 and time.monotonic() - began < DEADLINE:
                time.sleep(0.01)  # whatever is counted twice would be counted now
        scraper.stopping.set()
        scraper.join()
        log_text = config.with_suffix(".log").read_text()
        assert scraper.fell == []
        assert {log: _records(scraper, log) for log in writer.written} == writer.written, log_text[-3000:]
        assert writer.rolls > 20
        assert scraper.scrapes > KILLS
        for log in writer.written:
            lost = f'qlik_license_exporter_log_lost_generations_total{{log="{log}"}}'
            assert scraper.highest[lost] == 0
        assert "Traceback" not in log_text
