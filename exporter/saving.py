"""Opens the state file and saves to it, and retries until that works.

Used by the committer only; any thread may read the properties.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from exporter.codec import Checkpoints, Rows, encoded, restored
from exporter.license import LicenseState
from exporter.store import Store, StoreError
from exporter.tail.batch import Clock

log = logging.getLogger("exporter.store")


class Saving:
    """The state file, and whether saving works."""

    def __init__(self, path: Path, clock: Clock, busy: float) -> None:
        """`busy`: see `ledger.Pace`."""
        self._path = path
        self._clock = clock
        self._busy = busy
        self._store: Store | None = None
        self._saved_at = float("-inf")
        self.last_save: float | None = None
        """When the state was last saved."""
        self.failures = 0
        self.works = False
        """Whether the last attempt succeeded. A first save shows it before anything is counted."""

    @property
    def first_start(self) -> float | None:
        """When this state file was first used; None until it is open."""
        return self._store.first_start if self._store else None

    @property
    def reset(self) -> float | None:
        """When the earlier counts were last found to be lost or outdated; None: never, or not known yet."""
        return self._store.reset if self._store else None

    def seconds_until_due(self, interval: float) -> float:
        """Seconds until `interval` has passed since the last save."""
        return self._saved_at + interval - self._clock.monotonic()

    def open(self, adopt: Callable[[LicenseState, Checkpoints], None], restarted: Callable[[], None]) -> None:
        """Open the state file if it is not open yet. `adopt` receives its content, which replaces what was folded
        without it, since that is incomplete; `restarted` is called once the file is open.

        If the file is empty, everything folded since the start is saved to it: none of that is history. Raises
        StoreError, which `failed` counts.
        """
        if self._store is not None:
            return
        store = Store(self._path, self._clock.wall, self._busy)
        try:
            try:
                found = restored(store.state, store.files)
            except ValueError as error:
                store.start_anew(f"is damaged: {error}")
                found = None
            if found is not None:
                adopt(*found)
        except BaseException:
            store.close()
            raise
        self._store = store
        if found is not None:
            restarted()

    def encoded(self, state: LicenseState) -> dict[str, bytes]:
        """The values of `state` that `save` takes: encoded while nothing else changes it."""
        return encoded(state, self._store.state if self._store else ())

    def save(self, values: dict[str, bytes], rows: Rows, now: float) -> bool:
        """Save these values and rows. Returns whether that succeeded."""
        if self._store is None:
            return False
        try:
            self._store.save(values, rows.changed, rows.forgotten)
        except StoreError as error:
            self.failed(error)
            return False
        if not self.works and self.failures:
            log.info("the state file can be saved again")
        self.works = True
        self.last_save, self._saved_at = now, self._clock.monotonic()
        return True

    def failed(self, error: StoreError) -> None:
        """Count a failure; it is logged once until saving works again."""
        self.failures += 1
        if self.failures == 1 or self.works:
            log.error("%s; until then gauges are updated, counters are not", error)
        self.works = False

    def close(self) -> None:
        """Close the state file."""
        if self._store:
            self._store.close()
