"""The composition root, the only module that knows all others: what runs, who is notified, and how it is shut down.

Files are read by one thread per root and folded by the ledger's thread; probes and the Repository API run on an event
loop here; the web server has its own. A scrape only reads the results from memory.
"""

import asyncio
import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from exporter.config import Config, ConfigError, ProbeConfig, masked_yaml, probes_of, state_file_of, text_of
from exporter.events import LOG_NAMES
from exporter.examination import rules_of
from exporter.filewatch import SETTLED, FileWatch, await_settled, refuse_truncated, stamps
from exporter.journal import Journal
from exporter.ledger import Ledger
from exporter.logs.messages import Catalogue, catalogue_of
from exporter.metrics import COMPONENTS, LicenseCollector, ProbeCollector, process_collectors
from exporter.observation import Observation
from exporter.probes import ProbeBoard, Prober, ProbeResult, ServiceBoard, run_probe, run_service, story_of
from exporter.products import PRODUCTS
from exporter.qrs import LicenseOverview, QrsBoard, run_qrs, sync_seen
from exporter.remote_write.queue import queue_file_of
from exporter.remote_write.series import Sample
from exporter.remote_write.writer import RemoteWriter, writer_of
from exporter.status import events_of, status_of
from exporter.textfile import TextfileWriter
from exporter.verdict import judge
from exporter.web.page import SCRIPT, STYLE, page_of
from exporter.web.security import Security
from exporter.web.server import Isolated, WebServer

WAKE = 0.5
"""Seconds between two checks for a stop, so that a signal is noticed on every platform (hazard 116)."""
RESTART_PAUSE = 5.0
"""Seconds before a component that failed is restarted."""
RELOAD_SECONDS = 10.0
"""Seconds that a reload request waits for the new configuration to be applied."""
STOP_SECONDS = 2.5
"""Seconds that all parts together have to end: a stop takes less than 3 s, even if something hangs (hazard 121)."""

_PATH = re.compile(r"(?<![\w:/])(?:[A-Za-z]:)?[/\\][^\s`:]*")

_log = logging.getLogger(__name__)


class Options(NamedTuple):
    """The settings that the command line adds to the configuration."""

    reread: Callable[[], Config]
    """Loads the current configuration; raises ConfigError."""
    reload_asked: threading.Event
    """Set from outside, for example by a signal, to reload the configuration."""
    config_file: str = ""
    """The configuration file; empty if there is none."""
    web_config_file: str | None = None
    textfile_directory: str | None = None
    listens: bool = True
    """False in textfile mode without a listen address: then no port is opened."""
    settled: float = SETTLED
    """Seconds without a change before the configuration or the web file is read."""


class Exporter:
    """One running exporter: its sources, its web server, and their shutdown. Implements the server's `Application`."""

    def __init__(self, config: Config, options: Options) -> None:
        """Starts nothing yet. Raises ConfigError, and StoreLockedError if another process uses the state file."""
        self._options = options
        self._config = config
        self._catalogue = self._catalogue_of(config)
        self._rules = rules_of(config, self._catalogue)
        self._started = time.time()
        self._failures = dict.fromkeys(COMPONENTS, 0)
        self._reload_successful, self._reload_success = True, self._started
        self._journal = Journal(config.web.show_people)
        self._board = ProbeBoard(probes_of(config))
        self._qrs = QrsBoard(config.qrs) if config.qrs.enabled else None
        self._service = _service_board(config)
        self._prober = Prober()
        self._next: tuple[Config, tuple[ProbeConfig, ...]] | None = None
        """A new configuration that is to take effect."""
        self._in_force = threading.Event()
        self._reloading = threading.Lock()
        self._config_text = text_of(options.config_file) if options.config_file else ""
        self._security = Security(options.web_config_file, options.settled)
        self._ledger = Ledger(state_file_of(config), self._rules, self._journal.note, self._journal.clear)
        license_collector = LicenseCollector(self.observe)
        self._collector = Isolated([license_collector, *process_collectors()], lambda: self._failed("web"))
        # Without process_* and python_*: these are the collector's own there, and duplicates can fail its whole scrape.
        self._textfile_collector = Isolated([license_collector], lambda: self._failed("web"))
        self._web = WebServer(self, self._security, lambda: self._failed("web"), styles=[STYLE], scripts=[SCRIPT])
        self._textfile = (
            TextfileWriter(Path(options.textfile_directory), self._exposition, lambda: None)
            if options.textfile_directory
            else None
        )
        self._remote_write = self._remote_writer(config) if config.remote_write.url else None

    @property
    def bound(self) -> tuple[str, ...]:
        """The addresses that the server listens on, with their actual ports."""
        return self._web.bound

    # --- what is known

    def observe(self) -> Observation:
        """Everything that is known now; from memory, in any thread."""
        ledger = self._ledger
        published = ledger.published
        seen = Observation(
            now=time.time(),
            rules=self._rules,
            product=PRODUCTS[self._config.product],
            state=published.state,
            counted=published.counted,
            messages={log: self._catalogue.names(log) for log in LOG_NAMES},
            logs=ledger.figures(),
            probes=tuple(self._board.histories.values()),
            qrs=self._qrs,
            service=self._service,
            remote_write=self._remote_write.figures if self._remote_write else None,
            started=self._started,
            first_started=ledger.saving.first_start,
            covered_since=ledger.saving.first_start,
            journal=self._journal,
            component_failures={**self._failures, **ledger.component_failures},
            state_last_save=ledger.saving.last_save,
            state_reset=ledger.saving.reset,
            state_save_failures=ledger.saving.failures,
            reload_successful=self._reload_successful and not self._security.refused,
            reload_success=self._reload_success,
        )
        return replace(seen, judgement=judge(seen))

    def _catalogue_of(self, config: Config) -> Catalogue:
        return catalogue_of(config, self._options.config_file or "defaults")

    def _exposition(self) -> bytes:
        return generate_latest(self._textfile_collector)

    def _remote_writer(self, config: Config) -> RemoteWriter:
        port = config.web.listen_addresses[0].rpartition(":")[2]
        queue_file = queue_file_of(state_file_of(config))
        return writer_of(config.remote_write, self._samples, queue_file, f"{socket.gethostname()}:{port}")

    def _samples(self) -> Iterator[Sample]:
        """What a scrape shows now."""
        for family in self._collector.collect():
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def _failed(self, component: str) -> None:
        self._failures[component] += 1

    # --- what the web server asks

    def registry(self) -> Collector:
        """The metrics."""
        return self._collector

    def ready(self) -> tuple[bool, str]:
        """Whether every log has been read to the end found when this process first listed it, and what is wrong."""
        waiting = [log for log, figures in self._ledger.figures().items() if not figures.listed]
        amiss = [f"not yet read to the end: {', '.join(waiting)}"] if waiting else []
        if not self._ledger.saving.works:
            amiss.append("the state cannot be saved; counters are not updated")
        return not waiting, "; ".join(amiss)

    def config_yaml(self) -> str:
        """The current settings, masked."""
        return masked_yaml(self._config)

    def reload(self, asked: bool = True) -> str | None:
        """Read the configuration again; returns once it is applied.

        An invalid one changes nothing; the problem is returned, without any path of this machine. Unless the reload was
        `asked` for, an equal configuration changes nothing either.
        """
        with self._reloading:
            try:
                text, config = self._reread()
                self._catalogue_of(config)
            except ConfigError as error:
                self._reload_successful = False
                _log.error("configuration rejected: %s", error)
                return _PATH.sub("<path>", f"{error.key}: {error.problem}" if error.key else error.problem)
            self._config_text = text
            if config == self._config and self._reload_successful and not asked:
                return None
            self._reload_successful, self._reload_success = True, time.time()
            self._in_force.clear()
            self._next = config, probes_of(config)  # looks for folders, which no event loop may wait for
            self._in_force.wait(RELOAD_SECONDS)
            return None

    def _reread(self) -> tuple[str, Config]:
        """The configuration file's text and its settings, once the file has settled. Raises ConfigError."""
        file = self._options.config_file
        if not file:
            return "", self._options.reread()
        seen = await_settled([file], self._options.settled)
        text, config = text_of(file), self._options.reread()
        if stamps([file]) != seen:
            raise ConfigError(file, "", "changed while it was being read")
        if config != self._config:
            refuse_truncated(file, self._config_text, text)
            if self._config.probes is not None and config.probes is None:
                problem = "no longer found, expected a list: the built-in probes start only at a restart"
                raise ConfigError(file, "probes", problem)
        return text, config

    def status(self, people: bool) -> dict[str, object]:
        """The content of `/api/v1/status`."""
        return status_of(self.observe(), people)

    def events(self, people: bool) -> dict[str, object]:
        """The content of `/api/v1/events`."""
        return events_of(self._journal, people)

    def page(self, people: bool) -> str:
        """The status page."""
        return page_of(self.observe(), people)

    async def probe(self, target: str, seconds: float) -> Collector:
        """One probe on demand: the gauges of its result. Raises KeyError for a target that is not configured."""
        result = await self._probe_now(target, seconds)
        registry = CollectorRegistry()
        registry.register(ProbeCollector(result))
        return registry

    async def probe_story(self, target: str, seconds: float) -> str:
        """The same as a text, stage by stage."""
        return story_of(await self._probe_now(target, seconds))

    async def _probe_now(self, target: str, seconds: float) -> ProbeResult:
        settings = self._board.histories[target].settings
        return await self._prober.probe(settings, min(seconds, settings.timeout), PRODUCTS[self._config.product])

    # --- running

    def run(self, stop: threading.Event) -> int:
        """Observe and answer until `stop` is set; 0.

        Raises ListenError where an address is not available, TextfileHeldError where another exporter has the folder.
        """
        try:
            if stop.is_set():  # the stop was requested during loading
                return 0
            self._ledger.start(self._config)
            if self._options.listens:
                self._web.start(self._config.web.listen_addresses)
                _log.info("listening on %s %s", ", ".join(self._web.bound), self._security.current().summary())
            if self._textfile:
                self._textfile.start()
            if self._remote_write:
                self._remote_write.start()
            threading.Thread(target=self._watch_configuration, args=(stop,), name="configuration", daemon=True).start()
            # A selector loop on every platform: it may run outside of the main thread, as a service's must.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._observe_until(stop))
        finally:
            self._end()
        return 0

    async def _observe_until(self, stop: threading.Event) -> None:
        tasks = self._tasks()
        try:
            while not stop.is_set():
                await asyncio.sleep(WAKE)
                if following := self._next:
                    self._next = None
                    await _cancelled(tasks)
                    self._apply(*following)
                    tasks = self._tasks()
                    self._in_force.set()
        finally:
            await _cancelled(tasks)

    def _watch_configuration(self, stop: threading.Event) -> None:
        """Reload the configuration on request, or when its file changes.

        In a daemon thread: a file on a dead share must block neither the loop nor the stop (hazards 121 and 122).
        """
        file = self._options.config_file
        watch = FileWatch(((file, None),) if file else (), self._options.settled)  # reports the file at the start, too
        while not stop.wait(WAKE):
            changed, asked = watch.changed(), self._options.reload_asked.is_set()
            if changed or asked:
                self._options.reload_asked.clear()
                self.reload(asked)

    def _end(self) -> None:
        """Stop all parts at the same time, so that one that hangs takes no time from the others."""
        pushes = [part for part in (self._textfile, self._remote_write) if part]
        parts = [self._web.stop, self._ledger.stop, *(part.stop for part in pushes)]
        threads = [threading.Thread(target=part, daemon=True) for part in parts]
        for thread, part in zip(threads, parts, strict=True):
            try:
                thread.start()
            except RuntimeError:  # no memory for a thread, or too many threads: stop them one after another
                with contextlib.suppress(RuntimeError):  # a part that could not be started for the same reason
                    part()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            if thread.ident is None:
                continue
            thread.join(max(0.0, deadline - time.monotonic()))

    def _tasks(self) -> list["asyncio.Task[None]"]:
        product = PRODUCTS[self._config.product]

        def probing(settings: ProbeConfig) -> Callable[[], Coroutine[Any, Any, Any]]:
            return lambda: run_probe(settings, self._probed, product)

        sources = [("probe", probing(history.settings)) for history in self._board.histories.values()]
        if board := self._qrs:
            sources.append(("qrs", lambda: run_qrs(board, self._qrs_read)))
        if service := self._service:
            sources.append(("probe", lambda: run_service(service)))
        return [asyncio.create_task(self._kept_alive(component, make)) for component, make in sources]

    async def _kept_alive(self, component: str, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run a source forever: if it fails, that is counted and it is restarted; the others are not affected."""
        while True:
            try:
                await make()
            except Exception as error:  # the one place where a dead source is handled
                _log.error("%s failed and is restarted: %s: %s", component, type(error).__name__, error)
            self._failed(component)
            await asyncio.sleep(RESTART_PAUSE)

    def _probed(self, result: ProbeResult) -> None:
        self._board.record(result)
        if event := result.event:
            self._ledger.submit_event(event)

    def _qrs_read(self, overview: LicenseOverview) -> None:
        if event := sync_seen(overview, self._config.qrs):
            self._ledger.submit_event(event)

    def _apply(self, config: Config, probes: tuple[ProbeConfig, ...]) -> None:
        """Apply a new configuration; log which changes need a restart."""
        before, self._config = self._config, config
        self._catalogue = self._catalogue_of(config)
        self._rules = rules_of(config, self._catalogue)
        if state_file_of(before) != state_file_of(config):
            _log.warning("state.file: takes effect at the next start")
        if before.web != config.web:
            _log.warning("web: takes effect at the next start")
        if bool(before.remote_write.url) != bool(config.remote_write.url):
            _log.warning("remote_write.url: takes effect at the next start")
        elif self._remote_write:
            self._remote_write.configure(config.remote_write)
        self._board.configure(probes)
        if before.licenses_service != config.licenses_service:
            self._service = _service_board(config)
        if before.qrs != config.qrs:
            self._qrs = QrsBoard(config.qrs) if config.qrs.enabled else None
        self._ledger.reconfigure(config, self._rules)
        _log.info("the new configuration has been applied")


def _service_board(config: Config) -> ServiceBoard | None:
    return ServiceBoard(config.licenses_service) if config.licenses_service.enabled else None


async def _cancelled(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
