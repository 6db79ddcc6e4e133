"""Which reader reads what: one reader per root, each with its part of each log; and the progress of reading."""

import threading
from collections.abc import Callable, Iterable, Iterator

from exporter.account import account
from exporter.codec import Checkpoints
from exporter.config import Config, LogConfig
from exporter.events import LogName
from exporter.logs.files import Pattern, Root, root_of
from exporter.observation import LogFigures
from exporter.tail.batch import Batch, Clock
from exporter.tail.reader import Assignment, Reader
from exporter.tail.table import FileTable
from exporter.tail.tail import Tail, TailStatus

QUIET_POLLS = 2
"""Consecutive polls without unread data after which the Licenses log counts as silent."""

_MakeTail = Callable[[Callable[[], None]], Tail]


class Placement:
    """The readers. `place`, and whatever changes `epoch`, is called under the ledger's lock, the rest by any thread."""

    epoch = 0
    """The number of the current placement: batches of an earlier one are discarded."""
    failures = 0
    """How often a reader failed and was restarted."""

    def __init__(self, clock: Clock, submit: Callable[[Batch, int], bool], moved: Callable[[], None]) -> None:
        """`submit` takes a batch and the epoch in which it was read. `moved` is called to place all readers again."""
        self._clock, self._submit, self._moved = clock, submit, moved
        self._config: Config | None = None
        self._readers: dict[str, Reader] = {}
        self._sources: dict[LogName, set[str]] = {}
        """The roots of each log's live files."""
        self._quiet_polls: dict[str, int] = {}
        self._caught_up: dict[LogName, set[str]] = {}
        """The roots of each log that were folded up to the end they had at the start."""
        self._listed: dict[LogName, frozenset[str]] = {}
        """The same, once that is published."""
        self._counting = threading.Lock()
        self._read_errors: dict[LogName, int] = {}

    def place(self, config: Config, checkpoints: Checkpoints) -> None:
        """Assign to each root's reader the files that now belong to that root, starting at `checkpoints`."""
        self._config = config
        self.epoch += 1
        epoch = self.epoch
        plan: dict[Root, list[_MakeTail]] = {}
        places: dict[str, str] = {}
        self._sources, self._quiet_polls, self._caught_up, self._listed = {}, {}, {}, {}
        for name, settings in config.logs.enabled():
            table = checkpoints.table(name)
            self._sources[name] = set()
            for root, make in self._tails_of(name, settings, table, config, places):
                plan.setdefault(root, []).append(make)
        for root in plan:
            if root.name not in self._readers:
                self._readers[root.name] = Reader(root, self._reading_failed, self._moved, self._clock)
        for name_, reader in self._readers.items():
            here = [make for root, makes in plan.items() if root.name == name_ for make in makes]
            mine = [path for path, root in places.items() if root == name_]
            reader.assign(
                Assignment(
                    here,
                    lambda batch: self._submit(batch, epoch),
                    lambda mine=mine, name_=name_: all(root_of(path).name == name_ for path in mine),  # type: ignore[misc]  # mypy cannot infer a lambda's defaults
                    config.poll_interval,
                    config.discovery_interval,
                )
            )

    def _tails_of(
        self, name: LogName, settings: LogConfig, table: FileTable, config: Config, places: dict[str, str]
    ) -> Iterator[tuple[Root, _MakeTail]]:
        """One tail for each root with files of the log, or with its archive."""
        by_root: dict[Root, list[Pattern]] = {}
        for path in settings.paths:
            base = Pattern(path).base
            root = root_of(base)
            places[base] = root.name
            by_root.setdefault(root, []).append(Pattern(path, root.caseless))
        self._sources[name] = {root.name for root in by_root}
        archive_root = root_of(settings.archive) if settings.archive else None
        if archive_root is not None:
            places[settings.archive] = archive_root.name
            by_root.setdefault(archive_root, [])
        everywhere = [pattern for patterns in by_root.values() for pattern in patterns]
        for root, patterns in by_root.items():
            table.add_root(root.name)

            def make(heartbeat: Callable[[], None], root: Root = root, patterns: list[Pattern] = patterns) -> Tail:
                return Tail(
                    table,
                    patterns,
                    root,
                    archive=settings.archive if root == archive_root else "",
                    history=config.history,
                    searched=everywhere,
                    clock=self._clock,
                    heartbeat=heartbeat,
                    failed=lambda: self._count_read_error(name),
                )

            yield root, make

    def void(self) -> None:
        """Discard the batches in progress; they are read again once the readers are placed again."""
        self.epoch += 1

    def stop(self, seconds: float) -> None:
        """Stop reading, and wait at most `seconds` for it."""
        deadline = self._clock.monotonic() + seconds
        for reader in self._readers.values():
            reader.stop()
        for reader in self._readers.values():
            reader.join(max(0.0, (deadline - self._clock.monotonic()) / 2))

    # --- progress of reading ------------------------------------------------------------------------------------------

    def is_silent(self, batch: Batch) -> bool:
        """Whether the last polls of the whole log, including that of `batch`, left nothing unread."""
        self._quiet_polls[batch.root] = self._quiet_polls.get(batch.root, 0) + 1 if batch.drained else 0
        return all(self._quiet_polls.get(root, 0) >= QUIET_POLLS for root in self._sources.get(batch.log, ()))

    def first_catches_up(self, batch: Batch) -> bool:
        """Whether the batch is the first to reach the end that its part of the log had at the start."""
        return batch.caught_up and batch.root not in self._caught_up.get(batch.log, ())

    def caught_up_with(self, batch: Batch) -> bool:
        """Note that the batch was folded. Returns whether its whole log has been read up to its end at the start."""
        if not batch.caught_up:
            return False
        roots = self._caught_up.setdefault(batch.log, set())
        roots.add(batch.root)
        return roots >= self._sources.get(batch.log, set())

    def progress(self) -> tuple[int, dict[LogName, frozenset[str]]]:
        """Which logs have been read to their end, to be passed to `show` once their numbers are shown, too."""
        return self.epoch, {log: frozenset(roots) for log, roots in self._caught_up.items()}

    def show(self, progress: tuple[int, dict[LogName, frozenset[str]]]) -> None:
        """Show this progress, unless the readers have been placed again since."""
        epoch, listed = progress
        if epoch == self.epoch:
            self._listed = listed

    def _count_read_error(self, name: LogName) -> None:
        with self._counting:
            self._read_errors[name] = self._read_errors.get(name, 0) + 1

    def _reading_failed(self) -> None:
        with self._counting:
            self.failures += 1
        self._moved()

    def figures(self) -> dict[LogName, LogFigures]:
        """What is known of reading each enabled log. Reads memory only."""
        config = self._config
        if config is None:
            return {}
        return {name: self._figures_of(name, settings) for name, settings in config.logs.enabled()}

    def _figures_of(self, name: LogName, settings: LogConfig) -> LogFigures:
        sources = self._sources.get(name, set())
        statuses = [
            tail.status
            for reader in list(self._readers.values())
            for tail in reader.tails
            if tail.log == name and not tail.archive_only
        ]
        read = [status.last_read for status in statuses]
        known = [at for at in read if at is not None]
        return LogFigures(
            files=sum(status.files for status in statuses),
            growing=sum(status.growing for status in statuses),
            unread_bytes=sum(status.unread_bytes for status in statuses),
            last_read=min(known) if known and len(known) == len(read) else None,
            read_errors=self._read_errors.get(name, 0),
            listed=bool(sources) and self._listed.get(name, frozenset()) >= sources,
            problem=next(self._problems(sources, statuses), ""),
            paths=settings.paths,
        )

    def _problems(self, sources: set[str], statuses: Iterable[TailStatus]) -> Iterator[str]:
        for reader in list(self._readers.values()):
            if reader.root.name in sources and reader.stuck_seconds:
                yield f"no response from {reader.root.name} for {reader.stuck_seconds:.0f} s"
        for trouble in (trouble for status in statuses for trouble in status.unreadable):
            who = f" (this process runs as {account()})" if trouble.denied else ""
            yield f"{trouble.path}: {trouble.problem}{who}"
