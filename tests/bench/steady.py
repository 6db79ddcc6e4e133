"""What the exporter costs while it runs, how late its numbers are, and how its costs grow: `python -m tests.bench.steady`.

Prints the second half of `docs/benchmarks.md` in Markdown. Traffic goes to the loopback interface only.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

from tests.bench.logs import write_logs
from tests.bench.measure import (
    Exporter,
    compile_exporter,
    configuration,
    instructions,
    machine,
    once,
    quantile,
    run,
    running,
    value,
)

RECORDS = 'qlik_license_exporter_log_records_total{log="licenses"}'
PROBE = "probes: [{target: '127.0.0.1:9', role: backend, proxy: none, protocol: tcp}]"


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steady", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long each state is watched")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: apt-get install valgrind")
    compile_exporter()
    print(machine() + "\n")
    for part in (rest, many_files, latency):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            print(part(Path(folder), arguments.seconds), flush=True)
    print("\n| growth of | cost |\n| --- | --- |")
    for growth in (with_size, with_files, with_generations, with_series):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for line in growth(Path(folder)):
                print(f"| {line} |", flush=True)


def rest(folder: Path, seconds: int) -> str:
    """A node at rest: one file a log, one probe."""
    write_logs(folder, "licenses", 1000, 1)
    config = configuration(folder / "c.yml", "licenses", f"{folder}/*.log", PROBE)
    firsts = []
    for _ in range(5):
        with running(config) as exporter:
            while not value(exporter.scrape(), RECORDS):
                time.sleep(0.01)
            firsts.append(time.perf_counter() - exporter.begun)
    with running(config) as exporter:
        used, memory = watched(exporter, seconds)
    return (
        f"- At rest: {used:.2f} % of a core, {memory:.0f} MiB; the first scrape with all records after "
        f"{median(firsts):.2f} s (median of {len(firsts)} starts)."
    )


def many_files(folder: Path, seconds: int) -> str:
    """5,000 live files at rest."""
    write_logs(folder, "licenses", 50_000, 5000)
    with running(configuration(folder / "c.yml", "licenses", f"{folder}/*.log")) as exporter:
        while value(exporter.scrape(), RECORDS) < 50_000:
            time.sleep(0.5)
        used, memory = watched(exporter, seconds)
    return f"- At rest with 5,000 files: {used:.2f} % of a core, {memory:.0f} MiB."


def watched(exporter: Exporter, seconds: int) -> tuple[float, float]:
    """The percentage of a core and the MiB of an exporter that is scraped every 15 s, once it has settled."""
    time.sleep(15)
    begun, before = time.perf_counter(), exporter.processor()
    while time.perf_counter() - begun < seconds:
        time.sleep(15)
        exporter.scrape()
    return 100 * (exporter.processor() - before) / (time.perf_counter() - begun), exporter.mebibytes("VmRSS")


def latency(folder: Path, seconds: int) -> str:
    """1,000 records a second in 200 files: how long after its write each is on `/metrics`."""
    files = [(folder / f"{number}.log").open("a") for number in range(200)]
    entry = '{"caller":"handler.go:61","level":"info","message":"request handled","timestamp":"%s.%06d0Z"}\n'
    with running(configuration(folder / "c.yml", "licenses", f"{folder}/*.log")) as exporter:
        while not exporter.scrape():
            time.sleep(0.05)
        time.sleep(15)
        written: list[float] = []
        end = time.monotonic() + seconds

        def write() -> None:
            while time.monotonic() < end:
                for number in range(50):
                    now = time.time()
                    stream = files[(len(written) + number) % 200]
                    stream.write(entry % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)), now % 1 * 1e6))
                    stream.flush()
                written.extend([time.monotonic()] * 50)
                time.sleep(0.05)

        writer = threading.Thread(target=write)
        writer.start()
        late: list[float] = []
        while writer.is_alive() or len(late) < len(written):
            seen = int(value(exporter.scrape(), RECORDS))
            now = time.monotonic()
            late += [now - at for at in written[len(late) : seen]]
            time.sleep(0.05)
            if now > end + 30:
                break
        used, memory = 100 * exporter.processor() / (time.perf_counter() - exporter.begun), exporter.mebibytes()
    return (
        f"- {len(written) / seconds:.0f} records a second in 200 files, poll interval 1 s: on `/metrics` after "
        f"{median(late):.2f} s (median), {quantile(late, 0.99):.2f} s (99th percentile), {max(late):.2f} s (longest); "
        f"{used:.0f} % of a core, {memory:.0f} MiB; {len(late)} of {len(written)} records seen."
    )


def cost(config: list[str], lines: int, empty: float) -> str:
    """Microseconds of processor time for each record, the start subtracted; the least of three runs."""
    least = min(run(once(config)).processor for _ in range(3))
    return f"{(least - empty) / lines * 1e6:.2f} µs"


def empty_run(folder: Path) -> float:
    """Processor seconds of a run that reads nothing."""
    (folder / "none").mkdir()
    config = configuration(folder / "none" / "c.yml", "licenses", f"{folder}/none/*.log")
    return min(run(once(config)).processor for _ in range(5))


def with_size(folder: Path) -> Iterator[str]:
    """One file of 2,000 to 2 million lines: what each further record takes."""
    counted: dict[int, int] = {}
    for lines in (200, 2_000, 20_000, 200_000, 2_000_000):
        place = folder / str(lines)
        place.mkdir()
        write_logs(place, "licenses", lines, 1)
        counted[lines] = instructions(once(configuration(place / "c.yml", "licenses", f"{place}/*.log")))
    for (fewer, before), (more, after) in pairwise(counted.items()):
        yield f"file size: {fewer:,} to {more:,} lines | {(after - before) / (more - fewer):,.0f} instructions a record"


SIZES = ((2_000_000, 1), (2_000_000, 10), (2_000_000, 100), (2_000_000, 1000), (200_000, 1000))
"""Lines in all, and in how many files."""


def with_files(folder: Path) -> Iterator[str]:
    """1 to 1,000 files, and 1,000 small ones."""
    empty = empty_run(folder)
    for lines, files in SIZES:
        taken = cost_of(folder / f"{lines}_{files}", lines, files, empty)
        yield f"files: {lines:,} lines in {files:,} | {taken} a record"


def cost_of(place: Path, lines: int, files: int, empty: float) -> str:
    """The cost of a record of so many lines in so many files."""
    place.mkdir()
    write_logs(place, "licenses", lines, files)
    return cost(configuration(place / "c.yml", "licenses", f"{place}/*.log"), lines, empty)


def with_generations(folder: Path) -> Iterator[str]:
    """The same with a live file and rotated ones."""
    empty = empty_run(folder)
    for lines, generations in SIZES:
        place = folder / f"{lines}_{generations}"
        place.mkdir()
        for number, path in enumerate(write_logs(place, "licenses", lines, generations)):
            stamp = f"20261101T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z"
            path.rename(place / ("Licenses.log" if number == generations - 1 else f"Licenses_{stamp}.log"))
        config = configuration(place / "c.yml", "licenses", f"{place}/Licenses*.log")
        yield f"rotated files: {lines:,} lines in {generations:,} | {cost(config, lines, empty)} a record"


def with_series(folder: Path) -> Iterator[str]:
    """A scrape with 1 to 300 probes."""
    for targets in (1, 30, 300):
        probes = ", ".join(
            f"{{target: '127.0.0.1:{20_000 + number}', role: backend, proxy: none, protocol: tcp, interval: 1h}}"
            for number in range(targets)
        )
        config = configuration(folder / "c.yml", "licenses", f"{folder}/*.log", f"probes: [{probes}]")
        with running(config) as exporter:
            time.sleep(10)
            for _ in range(50):
                exporter.scrape()
            series = sum(1 for line in exporter.scrape().splitlines() if line and line[0] != "#")
            took = median(exporter.scrapes[-50:])
        yield f"series: {series:,} | {took * 1000:.1f} ms a scrape, {took / series * 1e6:.1f} µs a series"


if __name__ == "__main__":
    main()
