"""Logs for the benchmarks, and the guard of the hot path: generated, always the same."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2026, 11, 1, tzinfo=UTC)

AUDIT_HEADER = (
    "Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    "RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    "Origin\tContext\tCommand\tResult\tMessage\tChecksum\r\n"
)


def licenses_lines(count: int) -> Iterator[str]:
    """Ten lines a second: mostly entries without a meaning, an attempt every ten minutes, now and then an error."""
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


TRACE_HEADER = (
    "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tProxySessionId\tId2\r\n"
)


def trace_lines(count: int) -> Iterator[str]:
    """Ten rows a second of the Repository's loggers, a few of them of the license loggers."""
    yield TRACE_HEADER
    for number in range(1, count):
        at = (START + timedelta(seconds=number // 10)).strftime("%Y%m%dT%H%M%S") + f".{number % 1000:03}+0000"
        level = "ERROR" if number % 1009 == 0 else "WARN" if number % 401 == 0 else "INFO"
        part = "Licensing.LicenseMaintenance" if number % 97 == 0 else f"Status.Events.Handler{number % 40}"
        yield (
            f"{number}\t{at}\t{level}\tQLIKNODE1\tSystem.Repository.Repository.Core.{part}\t{number % 30}\t"
            f"7d0c0000-0000-4000-8000-{number:012}\tCONTOSO\\svc_qlik\tThe event was handled in {number % 977} ms\t0\t"
            f"7d0c0000-0000-4000-8000-{number:012}\r\n"
        )


GENERATORS: dict[str, Callable[[int], Iterable[str]]] = {
    "licenses": licenses_lines,
    "repository_audit": audit_lines,
    "repository_trace": trace_lines,
}
"""What generates so many lines of each log."""


def write_logs(folder: Path, log: str, lines: int, files: int) -> list[Path]:
    """Write a log of so many `lines`, divided into `files` that follow each other in time."""
    paths = [folder / f"{log}_{number}.log" for number in range(files)]
    every = iter(GENERATORS[log](lines))
    header = next(every) if log != "licenses" else ""
    for path in paths:
        with path.open("w", newline="") as stream:
            stream.write(header)
            stream.writelines(line for _, line in zip(range(lines // files), every, strict=False))
    return paths
