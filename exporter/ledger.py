"""The ledger: folds what sources report, saves it, and only then publishes what was counted. Owns the state file.

One committer thread does all of it. A batch of records is folded into a copy of the state, saved with the new offsets
in one transaction, and then swapped in: so a kill at any instant neither loses nor doubles a record, and no scrape ever
sees a durable counter that a restart could take back (hazards 89, 90 and 95). Only `run` uses it.

Which reader reads what is `placement`'s affair, what the state's values mean in bytes `codec`'s.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exporter.codec import Checkpoints, encoded, restored
from exporter.config import Config
from exporter.events import LogName, OutsideEvent, SettleDue
from exporter.license import LicenseState, Recognised, Rules, new_state
from exporter.observation import LogFigures
from exporter.placement import Placement
from exporter.store import BUSY_SECONDS, Store, StoreError, StoreLockedError
from exporter.tail.batch import Batch, Clock

MOST_EVENTS = 10_000
"""Events of other sources that wait to be folded; older ones make room."""
STOP_SECONDS = 2.0
"""How long `stop` waits for what is stuck, in all."""

log = logging.getLogger("exporter.store")


class Pace(NamedTuple):
    """How often, and how long, in seconds."""

    save: float = 300.0
    """The state is saved at least so often, also when nothing changed."""
    retry: float = 5.0
    """Wait before a save that failed is tried again, where nothing new comes, and before work after a fault of ours."""
    open: float = 0.5
    """How long the start waits for a state file that is locked or far away; it is then opened when that can be done."""
    busy: float = BUSY_SECONDS
    """How long another program may keep the state file busy before a save fails."""


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
        noted: Callable[[LogName, Sequence[Any], Recognised], None] = lambda log, records, recognised: None,
        begun_anew: Callable[[], None] = lambda: None,
        *,
        clock: Clock | None = None,
        pace: Pace = Pace(),  # noqa: B008  # it cannot be changed
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Has the committer open the state file `path`, and waits `pace.open` at most for that.

        Where it is not available, the committer tries again.
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
        self._pace = pace
        self._step = step
        self.published = Published(new_state(), None)
        self.last_save: float | None = None
        self._saved_at = float("-inf")
        self.save_failures = 0
        self._faults = 0
        self._unsaved = True  # a first save tells whether saving works, before anything is counted
        self._folding = threading.Lock()
        """Held while the state, the checkpoints and the placement change together; never while a file is waited for."""
        self._checkpoints = Checkpoints()
        self._placement = Placement(self._clock, self.submit, self._place_soon)
        self._config: Config | None = None
        self._tasks: deque[_Task] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._place_anew = False
        self._tried_first = threading.Event()
        self._refusal: StoreLockedError | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()
        self._tried_first.wait(pace.open)
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

    @property
    def component_failures(self) -> dict[str, int]:
        """How often reading and committing failed and were restarted."""
        return {"tail": self._placement.failures, "store": self._faults}

    @property
    def epoch(self) -> int:
        """The number of the present placement of readers."""
        return self._placement.epoch

    def figures(self) -> dict[LogName, LogFigures]:
        """What is known of reading each enabled log. Reads memory only."""
        return self._placement.figures()

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
        self._placement.stop(STOP_SECONDS)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(max(0.1, deadline - self._clock.monotonic()))

    def submit_event(self, event: OutsideEvent) -> None:
        """Have an event of another source folded soon. Never blocks."""
        with self._wake:
            while len(self._tasks) >= MOST_EVENTS and not isinstance(self._tasks[0].work, Batch):
                self._tasks.popleft()
            self._tasks.append(_Task(event, self.epoch))
            self._wake.notify()

    # --- for the readers ---------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, epoch: int = 0) -> bool:
        """Have a batch folded, and wait until it is. False: the readers were placed again, and the batch is void."""
        if epoch != self.epoch:
            return False
        events: list[OutsideEvent] = []
        if batch.log == "licenses":
            silent = self._placement.is_silent(batch)
            due = self.published.state.settle_due()
            if due is not None and batch.at > due and silent:
                events.append(SettleDue(batch.at))
        if batch.empty and not events and not self._placement.first_catches_up(batch):
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

    def _place(self) -> None:
        with self._folding:
            if self._config is not None:
                self._placement.place(self._config, self._checkpoints)

    def _place_soon(self) -> None:
        with self._wake:
            self._place_anew = True
            self._wake.notify()

    # --- the committer -----------------------------------------------------------------------------------------------

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
                    self._wake.wait(self._pace.retry if self._unsaved else self._until_due())
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
                with self._folding:
                    self._placement.void()  # and so is what follows it
                for task in tasks:
                    task.accepted = False
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, self._pace.retry)
            finally:
                for task in tasks:
                    task.done.set()
            if stopping and not self._tasks:
                if self._store:
                    self._store.close()
                return

    def _until_due(self) -> float:
        return self._saved_at + self._pace.save - self._clock.monotonic()

    def _commit(self, tasks: list[_Task]) -> None:
        """Open the state file where that is still to be done; then fold, save, publish: in this order."""
        if self._store is None:
            self._tried(self._open)
        now = self._clock.wall()
        with self._folding:
            state = self._folded(tasks, now)
            self._step("folded")
            values = encoded(state, self._store.state if self._store else ())
            for task in tasks:
                if isinstance(task.work, Batch) and task.accepted:
                    self._checkpoints.keep(task.work)
            self.published = Published(state, self.published.counted)
        store, checkpoints = self._store, self._checkpoints
        if store is None or not self._tried(lambda: store.save(values, checkpoints.unsaved, checkpoints.forgotten)):
            return
        self._step("saved")
        if self._unsaved and self.save_failures:
            log.info("the state file can be saved again")
        self._unsaved = False
        checkpoints.saved()
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
        store = Store(self._path, self._clock.wall, self._pace.busy)
        try:
            try:
                found = restored(store.state, store.files)
            except ValueError as error:
                store.start_anew(f"is damaged: {error}")
                found = None
        except BaseException:
            store.close()
            raise
        if found is not None:
            state, checkpoints = found
            with self._folding:
                self.published, self._checkpoints = Published(state, state), checkpoints
                self._placement.void()  # what is under way belongs to what was folded before
                self._place_anew = self._config is not None
        self._store = store
        if found is not None:
            self._begun_anew()

    # --- folding -----------------------------------------------------------------------------------------------------

    def _folded(self, tasks: list[_Task], now: float) -> LicenseState:
        """The state after `tasks`; says of each batch whether it was accepted. What is published stays as it is."""
        state = self.published.state
        for task in tasks:
            if isinstance(task.work, Batch):
                task.accepted = task.epoch == self.epoch
                if task.accepted:
                    state = self._after(state, task.work, now)
            else:
                state = state.copy()
                state.fold(task.work, now, self._rules)
        return state

    def _after(self, before: LicenseState, batch: Batch, now: float) -> LicenseState:
        """The state after `batch`. A record that the fold cannot bear is left out: it must not stop all others."""
        name, state = batch.log, before.copy()
        try:
            recognised = state.fold_records(name, batch.records, now, self._rules)
            self._noted(name, batch.records, recognised)
        except Exception as error:  # a fault of ours; handled and counted here alone
            self._fault("folding", error)
            state = before.copy()
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
        if self._placement.caught_up_with(batch):
            state.caught_up.add(name)
        return state

    def _fault(self, doing: str, error: Exception) -> None:
        self._faults += 1
        log.error("%s failed: %s: %s", doing, type(error).__name__, error)
