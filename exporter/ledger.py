"""The ledger: folds what sources report, saves it, and only then publishes what was counted. Owns the state file.

One committer thread does all of it. A batch of records is folded into a copy of the state, which is saved with the new
offsets in one transaction before its counters are shown: so a kill at any instant neither loses nor doubles a record,
and no scrape ever sees a durable counter that a restart could take back (hazards 89, 90 and 95). The reader continues
while the state is saved, and while it is behind, several batches are saved at once. Only `run` uses it.

Which reader reads what is `placement`'s affair, what the state's values mean in bytes `codec`'s.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exporter.codec import Checkpoints
from exporter.config import Config
from exporter.events import LogName, OutsideEvent, SettleDue
from exporter.license import LicenseState, Recognised, Rules, new_state
from exporter.observation import LogFigures
from exporter.placement import Placement
from exporter.saving import Saving
from exporter.store import BUSY_SECONDS, StoreError, StoreLockedError
from exporter.tail.batch import Batch, Clock

MOST_EVENTS = 10_000
"""Most events of other sources that may wait to be folded; the oldest are dropped."""
STOP_SECONDS = 2.0
"""How long `stop` waits in total for threads that are stuck."""

log = logging.getLogger("exporter.store")


class Pace(NamedTuple):
    """Intervals and timeouts in seconds."""

    save: float = 300.0
    """The state is saved at least this often, even if nothing has changed."""
    pending: float = 0.2
    """While a reader is behind, the state is saved this often: saving each batch would take longer than reading it."""
    retry: float = 5.0
    """Wait before a failed save is retried if nothing is new, and before work resumes after an unexpected error."""
    open: float = 0.5
    """How long the start waits for a state file that is locked or on a slow share; later it is opened when possible."""
    busy: float = BUSY_SECONDS
    """How long another program may keep the state file busy before a save fails."""


class Published(NamedTuple):
    """What readers of the ledger see. Never modified, only replaced."""

    state: LicenseState
    """The newest state; gauges come from it."""
    counted: LicenseState | None
    """The last saved state; durable counters come from it. None until the state file is open."""


class _Task:
    """Work for the committer: a batch or an event, and how its submitter learns the result."""

    def __init__(self, work: Batch | OutsideEvent, epoch: int) -> None:
        self.work = work
        self.epoch = epoch
        self.accepted = False
        self.done = threading.Event()


def _is_behind(task: _Task) -> bool:
    """Whether the submitter of a batch will submit another immediately."""
    return isinstance(task.work, Batch) and task.accepted and task.work.behind


class Ledger:
    """The owner of the state: folds, saves and publishes it.

    Any thread may call `submit` and `submit_event` and read the properties.
    """

    def __init__(
        self,
        path: Path,
        rules: Rules,
        noted: Callable[[LogName, Sequence[Any], Recognised], None] = lambda log, records, recognised: None,
        restarted: Callable[[], None] = lambda: None,
        *,
        clock: Clock | None = None,
        pace: Pace = Pace(),  # noqa: B008  # it cannot be changed
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Have the committer open the state file `path`, and wait at most `pace.open` for that.

        If it is not available, the committer retries. Callbacks: `noted` receives the records of each batch and their
        meanings once it is folded; `restarted` is called before the same records are read again; `step` is called with
        the name of each step of a commit, for tests that stop the process there. Raises StoreLockedError.
        """
        self._rules = rules
        self._noted = noted
        self._restarted = restarted
        self._clock = clock or Clock()
        self._pace = pace
        self._step = step
        self.published = Published(new_state(), None)
        self.saving = Saving(path, self._clock, pace.save, pace.pending, pace.busy)
        self._faults = 0
        self._folding = threading.Lock()
        """Held while state, checkpoints and placement change together; never during access to files."""
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
    def component_failures(self) -> dict[str, int]:
        """How often reading and committing failed and were restarted."""
        return {"tail": self._placement.failures, "store": self._faults}

    @property
    def epoch(self) -> int:
        """The number of the current placement of readers."""
        return self._placement.epoch

    def figures(self) -> dict[LogName, LogFigures]:
        """What is known of reading each enabled log. Reads memory only."""
        return self._placement.figures()

    def start(self, config: Config) -> None:
        """Start reading the logs. Raises StoreLockedError if the lock was found after the constructor returned."""
        with self._wake:
            if self._refusal:
                raise self._refusal
            self._config = config
        self._place()

    def reconfigure(self, config: Config, rules: Rules) -> None:
        """Apply other settings from now on."""
        self._config, self._rules = config, rules
        self._place()

    def stop(self) -> None:
        """Stop reading, commit what was submitted, and close the state file. Takes at most `STOP_SECONDS`."""
        deadline = self._clock.monotonic() + STOP_SECONDS
        self._placement.stop(STOP_SECONDS)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(max(0.1, deadline - self._clock.monotonic()))

    def submit_event(self, event: OutsideEvent) -> None:
        """Queue an event of another source. Never blocks."""
        with self._wake:
            while len(self._tasks) >= MOST_EVENTS and not isinstance(self._tasks[0].work, Batch):
                self._tasks.popleft()
            self._tasks.append(_Task(event, self.epoch))
            self._wake.notify()

    # --- for the readers ---------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, epoch: int = 0) -> bool:
        """Queue a batch, and wait until it is folded. False: it is discarded, as the readers were placed again."""
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
                if self._config is None:  # at the start: another exporter uses this state file
                    self._refusal = error
                    return
        except Exception as error:  # as below
            self._fault("the first commit", error)
        finally:
            self._tried_first.set()
        while True:
            with self._wake:
                if not self._tasks and not self._stopping and not self._place_anew:
                    self._wake.wait(self.saving.seconds_until_due() if self.saving.works else self._pace.retry)
                tasks = list(self._tasks)
                self._tasks.clear()
                stopping, place, self._place_anew = self._stopping, self._place_anew, False
            try:
                if tasks or not self.saving.works or stopping or self.saving.seconds_until_due() <= 0:
                    self._commit(tasks)
                if place and not stopping:
                    self._place()
            except Exception as error:  # unexpected errors of committing are handled and counted only here
                self._fault("a commit", error)
                self._place_anew = True  # what was submitted is read again from the last commit on
                with self._folding:
                    self._placement.void()  # and so is what follows
                for task in tasks:
                    task.accepted = False
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, self._pace.retry)
            finally:
                for task in tasks:
                    task.done.set()
            if stopping and not self._tasks:
                self.saving.close()
                return

    def _commit(self, tasks: list[_Task]) -> None:
        """Open the state file if it is not open yet; then fold, save and publish, in this order.

        A batch whose reader is behind may be saved with the next ones.
        """
        try:
            self.saving.open(self._adopt, self._restarted)
        except StoreError as error:
            if isinstance(error, StoreLockedError) and not self._tried_first.is_set():
                raise
            self.saving.failed(error)
        now = self._clock.wall()
        with self._folding:
            state = self._folded(tasks, now)
            self._step("folded")
            for task in tasks:
                if isinstance(task.work, Batch) and task.accepted:
                    self._checkpoints.keep(task.work)
            self.published = Published(state, self.published.counted)
            self.saving.pending = bool(tasks) and all(map(_is_behind, tasks)) and not self._stopping
            if self.saving.pending and self.saving.works and self.saving.seconds_until_due() > 0:
                return
            values = self.saving.encoded(state)
        for task in tasks:
            task.done.set()
        if self.saving.save(values, self._checkpoints, now):
            self._step("saved")
            self.published = Published(state, state)
            self._step("exposed")
        self._placement.published()

    def _adopt(self, state: LicenseState, checkpoints: Checkpoints) -> None:
        with self._folding:
            self.published, self._checkpoints = Published(state, state), checkpoints
            self._placement.void()  # batches in progress belong to the replaced state
            self._place_anew = self._config is not None

    # --- folding -----------------------------------------------------------------------------------------------------

    def _folded(self, tasks: list[_Task], now: float) -> LicenseState:
        """The state after `tasks`; marks each batch that was accepted. The published state is not modified."""
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
        """The state after `batch`. A record that makes folding fail is left out, so that it blocks no others."""
        name, state = batch.log, before.copy()
        try:
            recognised = state.fold_records(name, batch.records, now, self._rules)
            self._noted(name, batch.records, recognised)
        except Exception as error:  # unexpected; handled and counted only here
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
