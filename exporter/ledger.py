"""The ledger: folds what sources report, saves it, and only then publishes what was counted. Owns the state file.

One committer thread does all of it. A batch of records is folded into a copy of the state, saved with the new offsets
in one transaction, and then swapped in: so a kill at any instant neither loses nor doubles a record, and no scrape ever
sees a durable counter that a restart could take back (hazards 89, 90 and 95). Only `run` uses it.
"""

import getpass
import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from exporter.config import Config, LogConfig
from exporter.events import LogName, OutsideEvent, SettleDue
from exporter.license import LicenseState, Recognised, Rules, new_state
from exporter.logs.files import Pattern, Root, root_of
from exporter.observation import LogFigures
from exporter.store import Store, StoreError, StoreLockedError
from exporter.tail.batch import Batch, Clock
from exporter.tail.checkpoint import FileCheckpoint, LogCheckpoint
from exporter.tail.reader import Assignment, Reader
from exporter.tail.table import FileTable
from exporter.tail.tail import Tail

SAVE_SECONDS = 300.0
"""The state is saved at least so often, also when nothing changed."""
OPEN_SECONDS = 0.5
"""How long the start waits for a state file that is locked or far away; it is then opened when that can be done."""
RETRY_SECONDS = 5.0
"""Wait before a save that failed is tried again, when nothing new comes, and before any work after a fault of ours."""
QUIET_POLLS = 2
"""Polls in a row that left nothing unread, after which the licenses log counts as silent."""
MOST_EVENTS = 10_000
"""Events of other sources that wait to be folded; older ones make room."""
STOP_SECONDS = 2.0
"""How long `stop` waits for what is stuck, in all."""

_BOOK = "book:"
_FILE = "file:"
_STATE = "license."
_REFUSED = "license.refused."

log = logging.getLogger("exporter.store")


class Published(NamedTuple):
    """What readers of the ledger see: never changed, only replaced."""

    state: LicenseState
    """The newest fold: gauges come from it."""
    counted: LicenseState | None
    """The last durable one: durable counters come from it. None until the state file is open: then none is known."""


class _Task:
    """Work for the committer: a batch, or an event, and who waits for it."""

    def __init__(self, work: Batch | OutsideEvent, epoch: int) -> None:
        self.work = work
        self.epoch = epoch
        self.accepted = False
        self.done = threading.Event()


class Ledger:
    """Everything durable. `submit` and `submit_event` may be called by any thread, and all properties read."""

    def __init__(
        self,
        path: Path,
        rules: Rules,
        noted: Callable[[LogName, list[Any], Recognised], None] = lambda log, records, recognised: None,
        begun_anew: Callable[[], None] = lambda: None,
        *,
        clock: Clock | None = None,
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Has the committer open the state file `path`, and waits `OPEN_SECONDS` at most for that.

        Where it cannot be had now, the committer tries again.
        `noted` is told each batch of records, and what they mean, once it is folded; `begun_anew` is told before the
        same records come once more.
        `step` is told each step of a commit, for tests that stop the process there. Raises StoreLockedError.
        """
        self._path = path
        self._store: Store | None = None
        self._rules = rules
        self._noted = noted
        self._begun_anew = begun_anew
        self._clock = clock or Clock()
        self._step = step
        self._shards: set[str] = set()
        self._rows: dict[LogName, dict[str, FileCheckpoint]] = {}
        self._books: dict[LogName, LogCheckpoint] = {}
        self.published = Published(new_state(), None)
        self.last_save: float | None = None
        self._saved_at = float("-inf")
        self.save_failures = 0
        self.component_failures = {"tail": 0, "store": 0}
        self._unsaved_rows: dict[str, bytes] = {}
        self._unsaved_forgotten: set[str] = set()
        self._unsaved = True  # a first save tells whether saving works, before anything is counted
        self._tasks: deque[_Task] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._committing = threading.Lock()
        self._config: Config | None = None
        self._epoch = 0
        self._readers: dict[str, Reader] = {}
        self._sources: dict[LogName, set[str]] = {}
        self._quiet_polls: dict[str, int] = {}
        self._caught_up: dict[LogName, set[str]] = {}
        self._read_errors: dict[LogName, int] = {}
        self._place_anew = False
        self._tried_first = threading.Event()
        self._refusal: StoreLockedError | None = None
        self._thread.start()
        self._tried_first.wait(OPEN_SECONDS)
        if self._refusal:
            raise self._refusal

    # --- for the application -----------------------------------------------------------------------------------------

    @property
    def first_start(self) -> float | None:
        """The instant when this state file was first used; None until it is open."""
        return self._store.first_start if self._store else None

    @property
    def reset(self) -> float | None:
        """The instant when earlier counts were last found to be gone or old; None: never, or not known yet."""
        return self._store.reset if self._store else None

    @property
    def saves(self) -> bool:
        """Whether the state was saved when that was last tried."""
        return not self._unsaved

    def start(self, config: Config) -> None:
        """Begin to read the logs. Raises StoreLockedError where that was found only now."""
        with self._wake:
            if self._refusal:
                raise self._refusal
            self._config = config
        self._place()

    def reconfigure(self, config: Config, rules: Rules) -> None:
        """Go by other settings from now on."""
        self._config, self._rules = config, rules
        self._place()

    def stop(self) -> None:
        """Stop reading; have the committer commit what was handed in, and close the state file. Takes `STOP_SECONDS`
        at most.
        """
        deadline = self._clock.monotonic() + STOP_SECONDS
        for reader in self._readers.values():
            reader.stop()
        for reader in self._readers.values():
            reader.join(max(0.0, (deadline - self._clock.monotonic()) / 2))
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(max(0.1, deadline - self._clock.monotonic()))

    def submit_event(self, event: OutsideEvent) -> None:
        """Have an event of another source folded soon. Never blocks."""
        with self._wake:
            while len(self._tasks) >= MOST_EVENTS and not isinstance(self._tasks[0].work, Batch):
                self._tasks.popleft()
            self._tasks.append(_Task(event, self._epoch))
            self._wake.notify()

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
        problems = [
            f"no response from {reader.root.name} for {reader.stuck_seconds:.0f} s"
            for reader in list(self._readers.values())
            if reader.root.name in sources and reader.stuck_seconds
        ]
        for trouble in (trouble for status in statuses for trouble in status.troubles):
            who = f" (this process runs as {account()})" if trouble.denied else ""
            problems.append(f"{trouble.path}: {trouble.problem}{who}")
        read = [status.last_read for status in statuses]
        known = [at for at in read if at is not None]
        return LogFigures(
            files=sum(status.files for status in statuses),
            unread_bytes=sum(status.unread_bytes for status in statuses),
            last_read=min(known) if known and len(known) == len(read) else None,
            read_errors=self._read_errors.get(name, 0),
            listed=bool(sources) and self._caught_up.get(name, set()) >= sources,
            problem=problems[0] if problems else "",
            paths=settings.paths,
        )

    # --- placing readers ---------------------------------------------------------------------------------------------

    def _place(self) -> None:
        """Have each root's reader read what belongs to that root now, from where the last commit stands."""
        config = self._config
        if config is None:
            return
        with self._committing:
            self._epoch += 1
            epoch = self._epoch
            plan: dict[Root, list[Callable[[Callable[[], None]], Tail]]] = {}
            places: dict[str, str] = {}
            self._sources, self._quiet_polls, self._caught_up = {}, {}, {}
            for name, settings in config.logs.enabled():
                table = FileTable(name, self._rows.get(name, {}).values(), self._books.get(name, LogCheckpoint()))
                self._sources[name] = set()
                for root, make in self._tails_of(name, settings, table, config, places):
                    plan.setdefault(root, []).append(make)
            for root in plan:
                if root.name not in self._readers:
                    self._readers[root.name] = Reader(root, self._reading_failed, self._roots_moved, self._clock)
        for name_, reader in self._readers.items():
            here = [make for root, makes in plan.items() if root.name == name_ for make in makes]
            mine = [path for path, root in places.items() if root == name_]
            reader.assign(
                Assignment(
                    here,
                    lambda batch: self.submit(batch, epoch),
                    lambda mine=mine, name_=name_: all(root_of(path).name == name_ for path in mine),  # type: ignore[misc]  # mypy cannot infer a lambda's defaults
                    config.poll_interval,
                    config.discovery_interval,
                )
            )

    def _tails_of(
        self, name: LogName, settings: LogConfig, table: FileTable, config: Config, places: dict[str, str]
    ) -> Iterable[tuple[Root, Callable[[Callable[[], None]], Tail]]]:
        """One tail for each root that holds files of the log, or its archive."""
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

    def _count_read_error(self, name: LogName) -> None:
        with self._wake:
            self._read_errors[name] = self._read_errors.get(name, 0) + 1

    def _reading_failed(self) -> None:
        self.component_failures["tail"] += 1
        self._roots_moved()

    def _roots_moved(self) -> None:
        with self._wake:
            self._place_anew = True
            self._wake.notify()

    # --- committing --------------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, epoch: int = 0) -> bool:
        """Have a batch folded, and wait until it is. False: reading was placed anew, and the batch is void."""
        if epoch != self._epoch:
            return False
        events: list[OutsideEvent] = []
        if batch.log == "licenses":
            self._quiet_polls[batch.root] = self._quiet_polls.get(batch.root, 0) + 1 if batch.drained else 0
            due = self.published.state.settle_due()
            if (
                due is not None
                and batch.at > due
                and all(self._quiet_polls.get(root, 0) >= QUIET_POLLS for root in self._sources.get("licenses", ()))
            ):
                events.append(SettleDue(batch.at))
        news = batch.caught_up and batch.root not in self._caught_up.get(batch.log, ())
        if batch.empty and not news and not events:
            return True
        self._step("read")
        task = _Task(batch, epoch)
        with self._wake:
            if self._stopping:
                return False
            self._tasks.append(task)
            self._tasks.extend(_Task(event, epoch) for event in events)
            self._wake.notify()
        task.done.wait()
        return task.accepted

    def _run(self) -> None:
        try:
            self._commit([])
        except StoreLockedError as error:
            with self._wake:
                if self._config is None:  # at the start: another exporter does this one's work
                    self._refusal = error
                    return
        except Exception as error:  # as below
            self._fault("the first commit", error)
        finally:
            self._tried_first.set()
        while True:
            with self._wake:
                if not self._tasks and not self._stopping and not self._place_anew:
                    self._wake.wait(RETRY_SECONDS if self._unsaved else self._until_due())
                tasks = list(self._tasks)
                self._tasks.clear()
                stopping, place, self._place_anew = self._stopping, self._place_anew, False
            try:
                if tasks or self._unsaved or stopping or self._until_due() <= 0:
                    self._commit(tasks)
                if place and not stopping:
                    self._place()
            except Exception as error:  # the one place where a fault of ours in committing is handled and counted
                self._fault("a commit", error)
                self._place_anew = True  # what was handed in is read again, from the last commit on
                with self._committing:
                    self._epoch += 1  # and what follows it is void
                for task in tasks:
                    task.accepted = False
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, RETRY_SECONDS)
            finally:
                for task in tasks:
                    task.done.set()
            if stopping and not self._tasks:
                if self._store:
                    self._store.close()
                return

    def _until_due(self) -> float:
        return self._saved_at + SAVE_SECONDS - self._clock.monotonic()

    def _commit(self, tasks: list[_Task]) -> None:
        """Open the state file where that is still to be done; then fold, save, publish: in this order."""
        if self._store is None:
            self._tried(self._open)
        now = self._clock.wall()
        with self._committing:  # never while the state file is waited for
            state = self.published.state.copy()
            for task in tasks:
                if isinstance(task.work, Batch):
                    task.accepted = task.epoch == self._epoch
                    if task.accepted:
                        state = self._folded(state, task.work, now)
                else:
                    state.fold(task.work, now, self._rules)
            self._step("folded")
            values = self._encoded(state)
            for task in tasks:
                if isinstance(task.work, Batch) and task.accepted:
                    self._keep_rows(task.work)
            self.published = Published(state, self.published.counted)
        store = self._store
        if store is None or not self._tried(lambda: store.save(values, self._unsaved_rows, self._unsaved_forgotten)):
            return
        self._step("saved")
        if self._unsaved and self.save_failures:
            log.info("the state file can be saved again")
        self._unsaved = False
        self._unsaved_rows, self._unsaved_forgotten = {}, set()
        self.last_save, self._saved_at = now, self._clock.monotonic()
        self.published = Published(state, state)
        self._step("exposed")

    def _tried(self, act: Callable[[], None]) -> bool:
        """Whether `act` on the state file succeeded. A failure is counted, and said once until saving works again."""
        try:
            act()
        except StoreError as error:
            if isinstance(error, StoreLockedError) and not self._tried_first.is_set():
                raise
            self.save_failures += 1
            if self.save_failures == 1 or not self._unsaved:
                log.error("%s; until then gauges are updated, counters are not", error)
            self._unsaved = True
            return False
        return True

    def _open(self) -> None:
        """Open the state file. What it holds takes the place of what was folded without it, for that is only a part.

        Where it holds nothing yet, all that was folded since the start is saved to it: none of that is history.
        Raises StoreError.
        """
        store = Store(self._path, self._clock.wall)
        try:
            try:
                with self._committing:
                    state = self._restored(store)
                    if state is not None:
                        self.published = Published(state, state)
                        self._unsaved_rows, self._unsaved_forgotten = {}, set()
                        self._epoch += 1  # what is under way belongs to what was folded before
                        self._place_anew = self._config is not None
            except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
                store.start_anew(f"is damaged: {error}")
                state = None
        except BaseException:
            store.close()
            raise
        self._store = store
        if state is not None:
            self._begun_anew()

    def _folded(self, before: LicenseState, batch: Batch, now: float) -> LicenseState:
        """The state after `batch`. A record that the fold cannot bear is left out: it must not stop all others."""
        name, state = batch.log, before.copy()
        try:
            recognised = state.fold_records(name, batch.records, now, self._rules)
            self._noted(name, batch.records, recognised)
        except Exception as error:  # a fault of ours; handled and counted here alone
            self._fault("folding", error)
            state = before
            for record in batch.records:
                trial = state.copy()
                try:
                    trial.fold_records(name, [record], now, self._rules)
                except Exception as again:
                    self._fault("folding a record", again)
                else:
                    state = trial
        state.count_reading(
            name,
            read_bytes=batch.read_bytes,
            rotations=batch.rotations,
            lost_generations=batch.lost_generations,
        )
        if batch.caught_up:
            roots = self._caught_up.setdefault(name, set())
            roots.add(batch.root)
            if roots >= self._sources.get(name, set()):
                state.caught_up.add(name)
        return state

    def _fault(self, doing: str, error: Exception) -> None:
        self.component_failures["store"] += 1
        log.error("%s failed: %s: %s", doing, type(error).__name__, error)

    def _keep_rows(self, batch: Batch) -> None:
        """Remember what is to be saved with the state."""
        name = batch.log
        rows = self._rows.setdefault(name, {})
        for key in batch.forgotten:
            rows.pop(key, None)
            self._unsaved_rows.pop(_FILE + key, None)
            self._unsaved_forgotten.add(_FILE + key)
        for key, row in batch.checkpoints.items():
            rows[key] = row
            self._unsaved_rows[_FILE + key] = _encoded_with_names(row)
            self._unsaved_forgotten.discard(_FILE + key)
        if batch.log_checkpoint is not None:
            self._books[name] = self._books.get(name, LogCheckpoint()).merged(batch.log_checkpoint)
            self._unsaved_rows[_BOOK + name] = _encoded_with_names(self._books[name])

    # --- between the state and the store's bytes ---------------------------------------------------------------------

    def _restored(self, store: Store) -> LicenseState | None:
        """The state as it was saved, and its rows and books; None where none was yet. Raises what cannot be decoded."""
        rows: dict[LogName, dict[str, FileCheckpoint]] = {}
        books: dict[LogName, LogCheckpoint] = {}
        for key, value in store.files.items():
            if key.startswith(_FILE):
                row = msgspec.convert(json.loads(value), FileCheckpoint)
                rows.setdefault(row.log, {})[row.key] = row
            elif key.startswith(_BOOK):
                log_name = msgspec.convert(key.removeprefix(_BOOK), LogName)
                books[log_name] = msgspec.convert(json.loads(value), LogCheckpoint)
        fields: dict[str, Any] = {}
        refused: dict[str, dict[str, Any]] = {}
        shards: set[str] = set()
        for name, value in store.state.items():
            if name.startswith(_REFUSED):
                shards.add(name)
                reason = name.removeprefix(_REFUSED).partition(".")[0]
                refused.setdefault(reason, {}).update(msgspec.json.decode(value))
            elif name.startswith(_STATE):
                fields[name.removeprefix(_STATE)] = msgspec.json.decode(value)
        if not fields:
            if store.files:
                raise ValueError("it tells what was read, but not what was counted")
            return None
        state = msgspec.convert({**fields, "refused": refused}, LicenseState)
        self._rows, self._books, self._shards = rows, books, shards
        return state

    def _encoded(self, state: LicenseState) -> Mapping[str, bytes]:
        """The state as named values, so small that a commit writes only what it changed."""
        values = {
            _STATE + field: msgspec.json.encode(getattr(state, field))
            for field in state.__struct_fields__
            if field != "refused"
        }
        shards: dict[str, dict[str, Any]] = {name: {} for name in self._shards}
        for reason, users in state.refused.items():
            for digest, times in users.items():
                shards.setdefault(f"{_REFUSED}{reason}.{digest[:2]}", {})[digest] = times
        self._shards = set(shards)
        values.update((name, msgspec.json.encode(users)) for name, users in shards.items())
        return values


def _encoded_with_names(value: FileCheckpoint | LogCheckpoint) -> bytes:
    """As JSON of ASCII only: a file's name need not be text, and msgspec encodes none that is not."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def account() -> str:
    """The account that this process runs as, for a person who is to grant it a right."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        if sys.platform == "win32":
            return "unknown"
        return str(os.getuid())
