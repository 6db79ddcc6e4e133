"""A process that tails a folder until everything is counted, or dies at a given step of a commit.

Arguments: the folder, and the step and its number, such as `saved:2`, or nothing. Prints, after each exposure, the
durable count of records; what a scrape would show.
"""

import os
import sys
import time
from pathlib import Path

from exporter.config import AuditLogConfig, Config, Duration, LicensesLogConfig, LogsConfig, TraceLogConfig
from exporter.ledger import Ledger
from exporter.license import Rules

DEADLINE = 30.0


def main(folder: Path, crash: str) -> int:
    """Run. Returns 0 if everything was counted, 3 if the deadline passed; dies with 9 at the step."""
    at, _, number = crash.partition(":")
    left = [int(number or 0)]
    ledgers: list[Ledger] = []

    def step(name: str) -> None:
        if name == "exposed" and ledgers:
            logs = ledgers[0].published.counted.counters.logs
            print(logs["licenses"].records if "licenses" in logs else 0, flush=True)
        if name == at:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)

    config = Config(
        logs=LogsConfig(
            licenses=LicensesLogConfig(paths=(str(folder / "*.txt"),)),
            repository_audit=AuditLogConfig(enabled=False),
            repository_trace=TraceLogConfig(enabled=False),
        ),
        poll_interval=Duration(0.1),
        discovery_interval=Duration(0.1),
    )
    rules = Rules(lambda log, records: [("unknown", None)] * len(records))
    ledger = Ledger(folder / "state" / "state.db", rules, step=step)
    ledgers.append(ledger)
    ledger.start(config)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        figures = ledger.figures()["licenses"]
        if figures.listed and not figures.unread_bytes and not (folder / "more").exists():
            ledger.stop()
            return 0
        if figures.listed and (folder / "more").exists():
            with open(folder / "app.txt", "ab") as file:
                file.write((folder / "more").read_bytes())
            (folder / "more").unlink()
            time.sleep(0.3)  # longer than a poll: what was written is seen before the end is looked for
    return 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
