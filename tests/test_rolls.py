"""Ten thousand rolls, through the tail, the ledger and the state file: nothing grows with their number."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import generate_latest

from exporter.config import AuditLogConfig, Config, LicensesLogConfig, LogsConfig, TraceLogConfig
from exporter.events import LOG_NAMES
from exporter.ledger import Ledger
from exporter.license import Rules
from exporter.logs.files import Pattern, root_of
from exporter.logs.messages import Catalogue
from exporter.metrics import LicenseCollector
from exporter.observation import Observation
from exporter.tail.batch import Batch, Clock
from exporter.tail.table import FileTable
from exporter.tail.tail import Tail

pytestmark = pytest.mark.slow

ROLLS = 10_000
BETWEEN_TICKS = 2
"""Rolls between two looks at the folder."""
SECONDS = 20.0
"""Of the clock, for each tick."""
WARM_UP = 1_000
"""Rolls after which everything has its size."""
STAY = 12
"""Rolled files that lie in the folder before Qlik's archiver takes them away."""

READS_NOTHING = Config(
    logs=LogsConfig(
        licenses=LicensesLogConfig(enabled=False),
        repository_audit=AuditLogConfig(enabled=False),
        repository_trace=TraceLogConfig(enabled=False),
    )
)
"""So that the test reads, by a clock that moves when told to."""


class Sizes(NamedTuple):
    """What must not grow."""

    memory: int
    """Bytes of the process."""
    handles: int
    series: int
    rows: int
    """Rows of the state file."""
    state: int
    """Bytes of the state file and of what SQLite puts beside it."""


MORE = Sizes(memory=1 << 20, handles=0, series=0, rows=0, state=64 << 10)
"""What the last 9,000 rolls may add: less than 120 bytes of memory and 8 of the state file each."""


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder in memory: 10,000 commits to a disk that others use as well take minutes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def test_ten_thousand_rolls_leave_memory_handles_series_and_state_flat(folder: Path, state: Path) -> None:
    now = [1_700_000_000.0]
    clock = Clock(lambda: now[0], lambda: now[0])
    rules = Rules(lambda log, records: [("unknown", None)] * len(records))
    ledger = Ledger(state / "state.db", rules)
    ledger.start(READS_NOTHING)
    root = root_of(str(folder))
    tail = Tail(
        FileTable("licenses"), [Pattern(str(folder / "app.txt"), root.caseless)], root, history="count", clock=clock
    )

    def submit(batch: Batch) -> bool:
        assert ledger.submit(batch, epoch=1)
        return batch.empty

    def tick() -> None:
        now[0] += SECONDS
        while True:
            for batch in tail.discover():
                submit(batch)
            if submit(tail.poll()) and not tail.needs_discovery:
                return

    def sizes() -> Sizes:
        counted = ledger.published.counted
        assert counted
        messages = {log: Catalogue(()).names(log) for log in LOG_NAMES}
        known = Observation(now[0], rules, ledger.published.state, counted, messages, ledger.figures())
        return Sizes(
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            handles=len(os.listdir("/proc/self/fd")),
            series=len(generate_latest(LicenseCollector(lambda: known)).splitlines()),
            rows=len(ledger.saving._store.files) if ledger.saving._store else 0,
            state=sum(file.stat().st_size for file in state.iterdir()),
        )

    def write(number: int) -> None:
        with open(folder / "app.txt", "ab") as file:
            file.write(b'{"n":%d}\n' % number)

    rolled: list[Path] = []
    seen: list[Sizes] = []
    write(0)
    tick()
    for number in range(1, ROLLS + 1):
        at = time.gmtime(now[0] + number % BETWEEN_TICKS)
        rolled.append(folder / time.strftime("app_%Y-%m-%dT%H.%M.%SZ.log", at))
        os.rename(folder / "app.txt", rolled[-1])
        write(number)
        if number % BETWEEN_TICKS == 0:
            tick()
        if len(rolled) > STAY:
            rolled.pop(0).unlink()
        if number % WARM_UP == 0:
            seen.append(sizes())
    tail.close()
    ledger.stop()
    assert ledger.published.counted
    counters = ledger.published.counted.log_counters("licenses")
    assert (counters.records, counters.rotations, counters.lost_generations) == (ROLLS + 1, ROLLS, 0)
    for what, more in MORE._asdict().items():
        found = [getattr(sizes, what) for sizes in seen]
        assert max(found) <= found[0] + more, (what, found)
