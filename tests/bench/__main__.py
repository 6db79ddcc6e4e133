"""Generates logs, reads each with `--once` and with mtail, and prints lines a second and their ratio."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from exporter.events import LOG_NAMES

HERE = Path(__file__).parent
START = datetime(2026, 11, 1, tzinfo=UTC)
PROJECT = HERE.parents[1]
PROGRAMS = {
    "": ("mtail, counting the same messages", True),
    "_few": ("mtail, counting a few things only", True),
    "_plain": ("mtail, counting lines, reading no time", False),
}
"""What mtail is given to do, by the ending of its program's name, and whether the target holds against it."""

AUDIT_HEADER = (
    "Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    "RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    "Origin\tContext\tCommand\tResult\tMessage\tChecksum\r\n"
)


def licenses_lines(count: int) -> Iterator[str]:
    """Ten lines a second: mostly entries of no account, an attempt every ten minutes, now and then an error."""
    for number in range(count):
        at = (START + timedelta(seconds=number // 10)).strftime(
            "%Y-%m-%dT%H:%M:%S"
        ) + f".{number % 10 * 1_000_000 + number * 7919 % 1_000_000:07}Z"
        if number % 600 == 0:
            text = '"licenseNumber":"XXXXXXXX","message":"re-syncing assignments with the backend"'
        elif number % 997 == 0:
            text = '"message":"sync failed: dial tcp: lookup license.qlikcloud.com: no such host"'
        elif number % 50_021 == 0:
            text = '"errorMessage":"Too much time has passed since the last license update","errorType":"LICENSES-OutdatedLicense"'
        else:
            text = f'"message":"request handled","method":"GET","path":"/v1/licenses/{number % 977}/status","statusCode":200'
        yield f'{{"caller":"handler.go:61","corrId":"{number:016x}:0:1","level":"info",{text},"timestamp":"{at}"}}\n'


def audit_lines(count: int) -> Iterator[str]:
    """Ten rows a second: mostly what the Repository does all day, now and then a refusal."""
    yield AUDIT_HEADER
    for number in range(1, count):
        at = (START + timedelta(seconds=number // 10)).strftime("%Y%m%dT%H%M%S") + f".{number % 1000:03}+0000"
        user = f"user{number % 4000:04}"
        command, result, message = "Open app", "0", "Success"
        if number % 401 == 0:
            command, result = "License user access", "403"
            message = f"Access was denied for User: 'CONTOSO\\{user}', with AccessID '{number:036}', SessionID: '{number:036}', SessionCount: '{number % 7}', Hostname: '::1', OperationType: 'UsageDenied'"
        elif number % 1009 == 0:
            command, result, message = "Add user access from license", "400", "<BrokenRules>"
        yield (
            f"{number}\t14.54.7.0\t{at}\tQLIKNODE1\t6fe4f1a1-0000-4000-8000-{number:012}\t"
            f"Command={command};Result={result};ResultText={message[:20]}\t0\t0\t0\tCONTOSO\t{user}\t0\tNot available\t"
            f"Security\t10.0.0.21\tRepository\tNot available\t/repository\t{command}\t{result}\t{message}\t{number:040x}\r\n"
        )


LOGS = {"licenses": (licenses_lines, 8), "repository_audit": (audit_lines, 5)}
"""What makes each log, and how many times faster than mtail it is to be read."""


class Run(NamedTuple):
    """A whole process, its start included."""

    seconds: float
    processor: float
    """Seconds of processor time, user and system: what it costs however busy the machine is."""
    mebibytes: float
    """Its largest memory."""
    records: float
    """How many it says that it has seen."""


def run(command: list[str], records: str) -> Run:
    """Run `command`; `records` finds in its output how many it has seen."""
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, cwd=PROJECT)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - begun
        output.seek(0)
        seen = re.search(records, output.read().decode(), re.MULTILINE)
    if status or not seen:
        sys.exit(f"{command[0]} failed, or has seen no record")
    return Run(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, float(seen[1]))


def row(log: str, reader: str, lines: int, one: Run) -> str:
    """A line of the table."""
    figures = (
        f"{lines / one.seconds:>8.0f}{one.seconds:>9.2f}{one.processor:>11.2f}{one.records:>9.0f}{one.mebibytes:>5.0f}"
    )
    return f"{log:<17}{reader:<42}{figures}"


def main() -> int:
    """Print the ratios; 1 where a target is missed, or the two have not seen the same."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of each log")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each, by turns; the best counts")
    arguments = parser.parse_args()
    lines = arguments.lines
    if shutil.which("mtail") is None:
        sys.exit("mtail is missing: apt-get install mtail")
    good = True
    print(f"{lines} lines a log, whole processes, start included\n")
    print(f"{'log':<17}{'reader':<42}{'lines/s':>8}{'seconds':>9}{'processor':>11}{'records':>9}{'MiB':>5}  ratios")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, (generate, target) in LOGS.items():
            log = Path(folder) / f"{name}.log"
            with log.open("w", newline="") as stream:
                stream.writelines(generate(lines))
            config = Path(folder) / f"{name}.yml"
            others = "".join(f"  {other}: {{enabled: false}}\n" for other in LOG_NAMES if other != name)
            config.write_text(f"probes: []\nlogs:\n{others}  {name}: {{paths: ['{log}']}}\n")
            commands = {
                "exporter": [sys.executable, "-m", "exporter", "run", "--once", "--config.file", str(config)],
                **{
                    what: ["mtail", "--one_shot", "--one_shot_format=prometheus", "--logs", str(log)]
                    + ["--progs", str(HERE / f"{name}{program}.mtail")]
                    for program, (what, _) in PROGRAMS.items()
                },
            }
            records = rf'^(?:qlik_license_exporter_log_records_total{{log="{name}"}}|records_total{{.*}}) (\S+)'
            rounds = [
                {reader: run(command, records) for reader, command in commands.items()} for _ in range(arguments.rounds)
            ]
            best = {reader: min((runs[reader] for runs in rounds), key=lambda one: one.seconds) for reader in commands}
            ours = best.pop("exporter")
            print(row(name, "exporter", lines, ours), flush=True)
            for what, binding in PROGRAMS.values():
                theirs = best[what]
                ratio = theirs.seconds / ours.seconds
                wanted = f" (target {target})" if binding else ""
                print(
                    f"{row(name, what, lines, theirs)}  {ratio:.1f}{wanted}, processor {theirs.processor / ours.processor:.1f}",
                    flush=True,
                )
                good &= theirs.records == ours.records and (ratio >= target or not binding)
            log.unlink()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
