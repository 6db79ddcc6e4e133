"""Generates logs, reads each with `--once` and with mtail, and prints lines a second and their ratio."""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
START = datetime(2026, 11, 1, tzinfo=UTC)
TARGETS = {"licenses": 8, "audit": 5}

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
        ) + f".{number * 7919 % 10_000_000:07}Z"
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


LOGS = {"licenses": licenses_lines, "audit": audit_lines}


def timed(command: list[str], environ: dict[str, str]) -> tuple[float, str, int]:
    """Wall seconds of a whole process, its output, and its largest memory in KiB."""
    begun = time.perf_counter()
    output = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    if output.returncode:
        sys.exit(f"{command[0]} failed:\n{output.stderr[-2000:]}")
    return took, output.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> int:
    """Print the ratios; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of each log")
    lines = parser.parse_args().lines
    mtail = shutil.which("mtail")
    if mtail is None:
        sys.exit("mtail is missing: apt-get install mtail")
    missed = False
    print(f"{lines} lines a log, whole processes, start included\n")
    print("log        reader     lines/s   seconds  records seen  ratio")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, generate in LOGS.items():
            log = Path(folder) / f"{name}_AuditSecurity_Repository.txt"
            with log.open("w", newline="") as stream:
                stream.writelines(generate(lines))
            key = "licenses" if name == "licenses" else "repository_audit"
            others = "".join(
                f"  {other}: {{enabled: false}}\n"
                for other in ("licenses", "repository_audit", "repository_trace")
                if other != key
            )
            config = Path(folder) / f"{name}.yml"
            config.write_text(f"probes: []\nlogs:\n{others}  {key}: {{paths: ['{log}']}}\n")
            environ = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
            ours, exposition, _ = timed(
                [sys.executable, "-m", "exporter", "run", "--once", "--config.file", str(config)], environ
            )
            seen = re.search(
                rf'^qlik_license_exporter_log_records_total{{log="{key}"}} (\S+)', exposition, re.MULTILINE
            )
            theirs, output, _ = timed(
                [
                    mtail,
                    "--one_shot",
                    "--one_shot_format=prometheus",
                    "--progs",
                    str(HERE / f"{name}.mtail"),
                    "--logs",
                    str(log),
                ],
                environ,
            )
            theirs_seen = re.search(r"^records_total\{.*\} (\S+)", output, re.MULTILINE)
            ratio = theirs / ours
            missed |= ratio < TARGETS[name]
            print(f"{name:<10} exporter  {lines / ours:>8.0f}  {ours:>8.2f}  {float(seen[1]) if seen else 0:>12.0f}")
            print(
                f"{name:<10} mtail     {lines / theirs:>8.0f}  {theirs:>8.2f}  {float(theirs_seen[1]) if theirs_seen else 0:>12.0f}  {ratio:.1f} (target {TARGETS[name]})"
            )
            log.unlink()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
