"""How fast logs are read, beside mtail and beside the least that a reader can do.

Prints a table in Markdown, that of `docs/benchmarks.md`. Each figure is the median of interleaved runs of whole
processes, their start included; mtail's program with the same counts is run once. Exits with 1 where a target is missed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.logs import GENERATORS, write_logs
from tests.bench.measure import Run, catch_up, compile_exporter, configuration, machine, once, quantile, run

HERE = Path(__file__).parent
SMALLEST, SAME, FLOOR = "mtail, smallest program", "mtail, the same counts", "decoding only"
ONCE, RUN = "exporter `--once`", "exporter `run`, scraped"


def main() -> int:
    """Print the table and what became of the targets."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=2_000_000, help="lines of each log")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, by turns")
    parser.add_argument("--logs", nargs="*", choices=GENERATORS, default=list(GENERATORS))
    parser.add_argument("--files", nargs="*", type=int, default=[1, 4])
    parser.add_argument("--quick", action="store_true", help="without mtail's program with the same counts")
    arguments = parser.parse_args()
    compile_exporter()
    if shutil.which("mtail") is None:
        sys.exit("mtail is missing: apt-get install mtail")
    version = subprocess.run(["mtail", "--version"], capture_output=True, text=True).stdout.split(" go")[0].strip()
    print(f"{machine()}; {version}; medians of {arguments.rounds} interleaved runs\n")
    print("| log | reader | seconds | million lines/s | processor seconds | MiB | `--once` is faster by |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    missed = []
    for log in arguments.logs:
        for files in arguments.files:
            runs = measured(log, arguments.lines, files, arguments.rounds, quick=arguments.quick)
            print_rows(log, arguments.lines, files, runs)
            missed += missed_targets(log, files, runs)
    print("\n" + ("\n".join(missed) if missed else "all targets are met"))
    return 1 if missed else 0


def measured(log: str, lines: int, files: int, rounds: int, *, quick: bool) -> dict[str, list[Run]]:
    """All readers of one log, by turns."""
    runs: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        paths = write_logs(Path(folder), log, lines, files)
        records = sum(path.read_bytes().count(b"\n") for path in paths) - (files if log != "licenses" else 0)
        config = configuration(Path(folder) / "c.yml", log, f"{folder}/{log}_*.log")
        mtail = ["mtail", "--one_shot", *(word for path in paths for word in ("--logs", str(path)))]
        commands = {
            ONCE: once(config),
            SMALLEST: [*mtail, "--progs", str(HERE / f"{log}_smallest.mtail")],
            SAME: [*mtail, "--progs", str(HERE / f"{log}_same.mtail")],
            FLOOR: [sys.executable, "-m", "tests.bench.floor", log, *map(str, paths)],
            "`wc -l`": ["wc", "-l", *map(str, paths)],
        }
        if files > 1 or quick:
            del commands[SAME]
        for number in range(rounds):
            for reader, command in commands.items():
                if reader != SAME or not number:  # a run of it takes as long as all the others together
                    runs.setdefault(reader, []).append(run(command))
            runs.setdefault(RUN, []).append(catch_up(config, log, records))
    return runs


def print_rows(log: str, lines: int, files: int, runs: dict[str, list[Run]]) -> None:
    """The rows of one log."""
    for reader, some in runs.items():
        seconds = median(one.seconds for one in some)
        what = f"{log}, {lines:,} lines, {files} file{'s' if files > 1 else ''}"
        print(
            f"| {what} | {reader} | {seconds:.2f} | {lines / seconds / 1e6:.2f} "
            f"| {median(one.processor for one in some):.2f} | {max(one.mebibytes for one in some):.0f} "
            f"| {seconds / median(one.seconds for one in runs[ONCE]):.2f} |",
            flush=True,
        )


def missed_targets(log: str, files: int, runs: dict[str, list[Run]]) -> list[str]:
    """The targets that are missed, by wall clock."""
    seconds = {reader: median(one.seconds for one in some) for reader, some in runs.items()}
    once_, caught_up = seconds[ONCE], seconds[RUN]
    scrapes = [took for one in runs[RUN] for took in one.scrapes]
    figures = [
        ("`run` at `--once`'s rate", once_ / caught_up, 0.75, True),
        ("milliseconds of a scrape while catching up, 99th percentile", quantile(scrapes, 0.99) * 1000, 20, False),
        ("MiB while catching up", max(one.mebibytes for one in runs[RUN]), 70, False),
    ]
    if log == "licenses":
        figures.append(("times mtail's smallest program", seconds[SMALLEST] / once_, 1.8, True))
        figures.append(("times the seconds of decoding only", once_ / seconds[FLOOR], 3.5, False))
    elif log == "repository_audit":
        figures.append(("times mtail's smallest program", seconds[SMALLEST] / once_, 2.5, True))
    return [
        f"missed: {log}, {files} files: {what}: {found:.2f}, target {'at least' if least else 'at most'} {target}"
        for what, found, target, least in figures
        if (found < target if least else found > target)
    ]


if __name__ == "__main__":
    sys.exit(main())
