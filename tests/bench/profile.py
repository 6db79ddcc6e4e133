"""Where `--once` spends its processor time: `python -m tests.bench.profile LOG [LINES]`, sampled every 2 ms."""

import contextlib
import io
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from exporter.cli import main
from tests.bench.logs import write_logs
from tests.bench.measure import configuration

samples: Counter[str] = Counter()


def sample(number: int, frame: FrameType | None) -> None:
    """Count the innermost function of the exporter."""
    while frame is not None and "/exporter/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        samples["(imports, libraries)"] += 1
    else:
        place = frame.f_code.co_filename.rpartition("/exporter/")[2]
        samples[f"{place} {frame.f_code.co_qualname.removesuffix('.<locals>.<listcomp>')}"] += 1


with tempfile.TemporaryDirectory(prefix="bench-") as folder:
    log, lines = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    write_logs(Path(folder), log, lines, 1)
    config = configuration(Path(folder) / "c.yml", log, f"{folder}/*.log")
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, 0.002, 0.002)
    with contextlib.redirect_stdout(io.StringIO()):
        main(["run", "--once", *config])
    signal.setitimer(signal.ITIMER_PROF, 0)
for place, number in samples.most_common(20):
    print(f"{100 * number / samples.total():5.1f} %  {place}")
