"""The real exporter for tests: a site's log folders and configuration, and the process or thread that observes them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from exporter.app import Exporter, Options
from exporter.config import load
from tests.observed import AUDIT_HEADER

DEADLINE = 30.0
"""Seconds until a condition must have come true, on a busy machine."""
REPOSITORY = Path(__file__).parents[1]
SAMPLES = Path(__file__).parent / "samples"
TRACE_HEADER = "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tProxySessionId\tId2"

_DEAD = """
import os, time
def dead_while(switch, path, really=os.stat):
    def there():
        try:
            return bool(really(switch))
        except OSError:
            return False
    def patiently(call):
        def asked(asked_for=".", *rest, **more):
            if not isinstance(asked_for, int) and os.fsdecode(asked_for).startswith(path):
                while there():
                    time.sleep(0.02)
            return call(asked_for, *rest, **more)
        return asked
    os.scandir, os.stat, os.open = patiently(os.scandir), patiently(os.stat), patiently(os.open)
"""

Value = TypeVar("Value")


def dead_while(switch: Path, path: Path) -> str:
    """A prelude: whatever touches `path` does not come back while the file `switch` is there, as on a dead share."""
    return f"{_DEAD}dead_while({str(switch)!r}, {str(path)!r})"


def eventually(what: str, condition: Callable[[], Value], deadline: float = DEADLINE) -> Value:
    """The first truthy value of `condition`; fails with `what` after the deadline."""
    end = time.monotonic() + deadline
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.03)


class Answer(NamedTuple):
    """What was answered over HTTP."""

    status: int
    text: str
    headers: HTTPMessage


def asked(url: str, method: str = "GET", **headers: str) -> Answer:
    """The answer to one request. Raises OSError where nobody answers."""
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Answer(answer.status, answer.read().decode(), answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read().decode(), refused.headers)


def series(exposition: str) -> dict[str, float]:
    """The samples of an exposition in the text format, by their name and labels as they stand there."""
    lines = (line for line in exposition.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def stamped(at: float, offset: str = "+0000") -> str:
    """`at` as Qlik's tab-separated logs write it."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}{offset}"


def trace_row(at: float, level: str, logger: str = "License.Repository.Repository.Core.Licensing.Maintenance") -> str:
    """One row of a trace log."""
    return "\t".join(["1", stamped(at), level, "QLIKNODE1", logger, "12", "id", "CONTOSO\\svc", "text", "0", "id2"])


class Site:
    """The logs of one node below a folder, and the exporter's configuration for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        logs = folder / "Qlik" / "Sense" / "Log"
        self.licenses = logs / "Licenses" / "licenses.log"
        self.audit = logs / "Repository" / "Audit" / "QLIKNODE1_AuditSecurity_Repository.txt"
        self.trace = logs / "Repository" / "Trace" / "QLIKNODE1_License_Repository.txt"
        for file in (self.licenses, self.audit, self.trace):
            file.parent.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state" / "state.db"
        self.config_file = folder / "config.yml"
        self.settings: dict[str, Any] = {
            "poll_interval": "100ms",
            "discovery_interval": "200ms",
            "logs": {
                "licenses": {"paths": [str(self.licenses.parent / "*.log")]},
                "repository_audit": {"paths": [str(self.audit.parent / "*_AuditSecurity_Repository.txt")]},
                "repository_trace": {"paths": [str(self.trace.parent / "*_License_Repository.txt")]},
            },
            "probes": [],
            "state": {"file": str(self.state)},
            "web": {"listen_addresses": ["127.0.0.1:0"]},
        }

    def with_samples(self) -> "Site":
        """The published lines, and the rows of the other two logs, as files."""
        self.licenses.write_bytes((SAMPLES / "licenses-published.log").read_bytes())
        self.audit.write_bytes((SAMPLES / self.audit.name).read_bytes())
        self.trace.write_bytes((SAMPLES / self.trace.name).read_bytes())
        return self

    def configured(self) -> Path:
        """The configuration file, written as `settings` are now, in one step."""
        draft = self.config_file.with_suffix(".new")
        draft.write_text(json.dumps(self.settings))  # JSON is YAML
        draft.replace(self.config_file)
        return self.config_file


def append(file: Path, *lines: str) -> None:
    """Write complete lines to the end of a log, as Qlik does."""
    with file.open("ab") as stream:
        stream.write("".join(f"{line}\n" for line in lines).encode())


def append_rows(file: Path, *rows: str, header: str = AUDIT_HEADER) -> None:
    """The same for a tab-separated log, with its header where the file is new."""
    append(file, *([] if file.exists() else [header]), *rows)


class Running:
    """What both ways to run the exporter share: where it answers."""

    url: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """The answer to one request."""
        return asked(self.url + path, method, **headers)

    def metrics(self) -> dict[str, float]:
        """All samples as they are now."""
        answer = self.ask("/metrics")
        assert answer.status == 200, answer
        return series(answer.text)

    def value(self, name: str) -> float | None:
        """One sample, None where it is absent."""
        return self.metrics().get(name)

    def await_value(self, name: str, value: float) -> dict[str, float]:
        """All samples once that one has `value`."""
        seen: dict[str, float] = {}

        def reached() -> bool:
            seen.clear()
            seen.update(self.metrics())
            return seen.get(name) == value

        end = time.monotonic() + DEADLINE
        while not reached():
            assert time.monotonic() < end, f"{name} is {seen.get(name)}, not {value}"
            time.sleep(0.03)
        return seen

    def await_ready(self) -> "Running":
        """Returns once every log was read to its end."""
        eventually("the exporter is ready", lambda: self.ask("/-/ready").status == 200)
        return self


class ExporterProcess(Running):
    """A process of its own, started as people start it; what it says goes to a file."""

    def __init__(
        self,
        site: Site,
        *words: str,
        prelude: str = "",
        mounts: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """What is run in the process before the exporter, to set its surroundings on edge.

        `prelude` is Python; `mounts` are shell commands that may mount what nobody else sees, even without root.
        """
        self._said = site.folder / f"said-{time.monotonic_ns()}.txt"
        program = ["-m", "exporter"]
        if prelude:
            program = ["-c", f"import sys\nfrom exporter.cli import main\n{prelude}\nsys.exit(main())"]
        before = ["unshare", "--map-root-user", "--mount", "sh", "-ec", f'{mounts}\nexec "$@"', "sh"] if mounts else []
        with self._said.open("wb") as out:
            self.process = subprocess.Popen(
                [*before, sys.executable, *program, *words],
                stdout=out,
                stderr=out,
                cwd=REPOSITORY,
                env=dict(os.environ) if environment is None else dict(environment),
            )

    @property
    def said(self) -> str:
        """Everything that it has written."""
        return self._said.read_text(errors="replace")

    def seen_at(self, path: Path) -> Path:
        """`path` as the process sees it, with its own mounts."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def mount(self, *words: str) -> None:
        """Run `mount` among the process's own mounts."""
        among = ["nsenter", "--target", str(self.process.pid), "--user", "--mount", "--preserve-credentials"]
        subprocess.run([*among, "mount", *words], check=True)

    def await_listening(self) -> "ExporterProcess":
        """Returns once it has an address."""

        def address() -> re.Match[str] | None:
            found = re.search(r"listening on (\S+?)[,\"\s]", self.said)
            assert found or self.process.poll() is None, self.said
            return found

        found = eventually("the exporter listens", address)
        self.url = f"http://{found[1].replace('0.0.0.0', '127.0.0.1')}"
        return self

    def stop(self, number: int = signal.SIGTERM, within: float = DEADLINE) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def process(site: Site, *words: str, **options: Any) -> Iterator[ExporterProcess]:
    """The exporter as a process, with the site's configuration unless `words` say otherwise; killed at the end."""
    running = ExporterProcess(site, *(words or ("--config.file", str(site.configured()))), **options)
    try:
        yield running.await_listening()
    finally:
        running.close()


def ended(site: Site, *words: str, **options: Any) -> tuple[int, str]:
    """Exit code and words of a run that ends on its own."""
    running = ExporterProcess(site, *words, **options)
    try:
        return running.process.wait(DEADLINE), running.said
    finally:
        running.close()


class ExporterThread(Running):
    """The same exporter in a thread of this process: quicker to start, and its coverage is measured."""

    def __init__(self, exporter: Exporter, stop: threading.Event, thread: threading.Thread) -> None:
        self.exporter, self.stop, self.thread = exporter, stop, thread


@contextlib.contextmanager
def thread(site: Site, **options: Any) -> Iterator[ExporterThread]:
    """The exporter in a thread, with the site's configuration; stopped at the end."""
    file = str(site.configured())
    more = {"settled": 0.05, **options}
    exporter = Exporter(load(file), Options(lambda: load(file), threading.Event(), config_file=file, **more))
    stop = threading.Event()
    running = ExporterThread(exporter, stop, threading.Thread(target=exporter.run, args=(stop,), daemon=True))
    running.thread.start()
    try:
        if options.get("listens", True):
            running.url = f"http://{eventually('the exporter listens', lambda: exporter.bound)[0]}"
        yield running
    finally:
        stop.set()
        running.thread.join(DEADLINE)
        assert not running.thread.is_alive(), "the exporter did not stop"
