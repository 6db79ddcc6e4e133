"""The ledger: folds what sources report, saves it, and only then publishes what was counted. Owns the state file.

Readers fold their batches of records into a copy of the state. The committer thread saves it with the new offsets in
one transaction before its counters are shown: so a kill at any instant neither loses nor doubles a record, and no
scrape ever sees a durable counter that a restart could take back (hazards 89, 90 and 95). The reader continues
meanwhile, and while it is behind, several batches are saved at once. Only `run` uses it.

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
        the name of each step, for tests that stop the process there. Raises StoreLockedError.
        """
        self._rules = rules
        self._noted = noted
        self._restarted = restarted
        self._clock = clock or Clock()
        self._pace = pace
        self._step = step
        self.published = Published(new_state(), None)
        self.saving = Saving(path, self._clock, pace.busy)
        self._faults = 0
        self._folding = threading.Lock()
        """Held while state, checkpoints and placement change together; never during access to files."""
        self._checkpoints = Checkpoints()
        self._placement = Placement(self._clock, self.submit, self._place_soon)
        self._config: Config | None = None
        self._events: deque[OutsideEvent] = deque(maxlen=MOST_EVENTS)
        self._wake = threading.Condition()
        self._stopping = False
        self._place_anew = False
        self._pending = False
        """Whether something was folded that is not saved yet."""
        self._urgent = False
        """Whether to save immediately."""
        self._pausing = False
        """Whether to pause after an unexpected error, and then to place the readers again."""
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
            self._events.append(event)
            self._wake.notify()

    # --- for the readers ---------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, epoch: int = 0) -> bool:
        """Fold a batch, in the thread of its reader, which is faster than handing it over (`docs/benchmarks.md`).

        It is saved soon. False: it is discarded, as the readers were placed again.
        """
        with self._folding:
            if epoch != self.epoch or self._stopping:
                return False
            settles = False
            if batch.log == "licenses":
                silent = self._placement.is_silent(batch)
                due = self.published.state.settle_due()
                settles = due is not None and batch.at > due and silent
            if batch.empty and not settles and not self._placement.first_catches_up(batch):
                return True
            self._step("read")
            now = self._clock.wall()
            try:
                state = self._after(self.published.state, batch, now)
                if settles:
                    state.fold(SettleDue(batch.at), now, self._rules)
                self._step("folded")
            except Exception as error:  # unexpected; handled and counted only here
                self._failed("a fold", error)
                accepted = False
            else:
                self._checkpoints.keep(batch)
                self.published = Published(state, self.published.counted)
                accepted = True
            wakes = self._pausing or not batch.behind or not self._pending
            self._pending = True
            self._urgent |= not batch.behind
        if wakes:
            with self._wake:
                self._wake.notify()
        return accepted

    def _place(self) -> None:
        with self._folding:
            if self._config is not None:
                self._placement.place(self._config, self._checkpoints)

    def _place_soon(self) -> None:
        with self._wake:
            self._place_anew = True
            self._wake.notify()

    def _failed(self, doing: str, error: Exception) -> None:
        """Have everything read again from the last checkpoint on, after a pause. Called with `_folding`."""
        self._fault(doing, error)
        self._placement.void()
        self._pausing = True

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
                if not (self._events or self._urgent or self._pausing or self._place_anew or self._stopping):
                    self._wake.wait(self._seconds_until_due() if self.saving.works else self._pace.retry)
                events = list(self._events)
                self._events.clear()
                stopping, place, self._place_anew = self._stopping, self._place_anew, False
            try:
                due = not self.saving.works or self._seconds_until_due() <= 0
                if events or self._urgent or stopping or due:
                    self._commit(events)
                if place and not stopping:
                    self._place()
            except Exception as error:  # unexpected errors of committing are handled and counted only here
                with self._folding:
                    self._failed("a commit", error)
            if self._pausing:
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, self._pace.retry)
                    self._pausing, self._place_anew = False, True
            if stopping and not self._events:
                self.saving.close()
                return

    def _seconds_until_due(self) -> float:
        """Seconds until the next save, even if nothing has changed."""
        return self.saving.seconds_until_due(self._pace.pending if self._pending else self._pace.save)

    def _commit(self, events: list[OutsideEvent]) -> None:
        """Open the state file if it is not open yet; then fold `events`, and save and publish what was folded."""
        try:
            self.saving.open(self._adopt, self._restarted)
        except StoreError as error:
            if isinstance(error, StoreLockedError) and not self._tried_first.is_set():
                raise
            self.saving.failed(error)
        now = self._clock.wall()
        with self._folding:
            self._pending = self._urgent = False
            for event in events:
                state = self.published.state.copy()
                state.fold(event, now, self._rules)
                self.published = Published(state, self.published.counted)
            state, checkpoints = self.published.state, self._checkpoints
            values, rows = self.saving.encoded(state), checkpoints.unsaved()
            progress = self._placement.progress()
        saved = False
        try:
            saved = self.saving.save(values, rows, now)
        finally:
            if not saved:
                with self._folding:
                    checkpoints.not_saved(rows)
        if saved:
            self._step("saved")
        with self._folding:
            if saved:
                self.published = Published(self.published.state, state)
            self._placement.show(progress)
        if saved:
            self._step("exposed")

    def _adopt(self, state: LicenseState, checkpoints: Checkpoints) -> None:
        with self._folding:
            self.published, self._checkpoints = Published(state, state), checkpoints
            self._placement.void()  # batches in progress belong to the replaced state
            self._place_anew = self._config is not None

    # --- folding -----------------------------------------------------------------------------------------------------

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
