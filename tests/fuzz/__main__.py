"""`python -m tests.fuzz TARGET [LIBFUZZER-OPTION]...`: looks for bytes that break a promise, until it is stopped.

What it finds is written to `crash-…`, and goes into the tests of the module as an example. `make fuzz` runs each target
for a minute; the tests run each for a while that is always the same.
"""

import json
import sys
from collections.abc import Callable
from functools import partial

import atheris

with atheris.instrument_imports(include=["exporter"]):
    from exporter.config import Config, ConfigError, masked_yaml, parse
    from exporter.events import LOG_NAMES, LogName
    from exporter.examination import rules_of
    from exporter.license import new_state
    from exporter.logs.messages import Catalogue
    from exporter.logs.numbered import Line, UnknownLogError, lines_of
    from exporter.masking import masked
    from exporter.qrs.answers import overview_of
    from exporter.qrs.failure import QrsError

NOW = 1_793_606_400.0
RULES = rules_of(Config(), Catalogue())


def logs(data: bytes) -> None:
    """Any bytes give the same records, however they are cut; each is folded, and none is counted twice."""
    log, size, body = LOG_NAMES[data[0] % 3], 1 + data[1], data[2:]
    whole, cut = _lines(log, body, len(body) or 1), _lines(log, body, size)
    assert [(line.number, line.record) for line in whole] == [(line.number, line.record) for line in cut]
    state = new_state(b"key")
    state.fold_records(log, [line.record for line in whole], NOW, RULES)
    counters = state.log_counters(log)
    assert counters.records == sum(not line.record.orphan for line in whole)
    assert counters.malformed == sum(line.record.malformed for line in whole)
    for line in whole:
        masked(line.record.raw.decode("utf-8", "replace"))


def _lines(log: LogName, body: bytes, size: int) -> list[Line]:
    pieces = iter([body[at : at + size] for at in range(0, len(body), size)])
    try:
        return list(lines_of(lambda _: next(pieces, b""), log))
    except UnknownLogError:
        return []


def configuration(data: bytes) -> None:
    """Any text is a configuration, or an error that names the file."""
    try:
        config = parse(data.decode("utf-8", "replace"), "fuzz.yml", {})
    except ConfigError as error:
        assert str(error).startswith("fuzz.yml")
        assert "\n" not in str(error)
    else:
        masked_yaml(config)


def answers(data: bytes) -> None:
    """Any three answers of the Repository give figures, or an error with a reason."""
    try:
        trees = json.loads(b"[" + data + b"]")
    except (ValueError, RecursionError):
        return
    try:
        overview_of(*(*trees, None, None, None)[:3], read_at=NOW)
    except QrsError as error:
        assert error.reason


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "logs": (
        logs,
        [
            b'\0\x07{"message":"re-syncing assignments with the backend","timestamp":"2026-11-02T08:15:00.1234567Z"}\n',
            b'\0\x20\xef\xbb\xbf{"res.errorType":"LICENSES-OutdatedLicense","errorMessage":"lic is stale: \\u00e9"\r\n',
            b"\1\x0b1\tv\t20261102T081500.101+0100\th\ti\tCommand=Add user access;Result=400\t0\t0\t0\tD\tu\t0\tn\ts"
            b"\t::1\tR\tn\tc\tc\t400\tUsageDenied SessionCount: '5'\tx\r\n",
            b"\2\x401\t2026-11-02T08:15:00+01:00\tWARN\th\tCore.Licensing\t1\tx\ts\tm\tx\n\xff\xfe1\0\t\0",
        ],
    ),
    "configuration": (
        configuration,
        [
            b"logs:\n  licenses: {enabled: true, paths: ['/a/*.log'], archive: ''}\nlicense: {grace: 5d}\n",
            b"probes:\n  - {target: 'a:1', role: backend, proxy: 'http://u:p@h:1', timeout: 10s}\nqrs: {enabled: true}\n",
            b"messages: [{name: a, log: licenses, match: '(a', means: sync_succeeded}]\nstate: &x {file: ${A}}\n",
        ],
    ),
    "answers": (
        answers,
        [
            b'{"keyDetails":"Valid To: 2027-03-31","isExpired":false,"product":2,"isSubscription":true},'
            b'{"professionalAccess":{"enabled":true,"total":"5","allocated":4.5,"available":-1}},'
            b'[{"UserDirectory":"D","UserId":"u"}]',
            b'null,{"tokensEnabled":true,"totalTokens":1e400,"analyzerTimeAccess":{"enabled":true,"usedMinutes":[]}}',
        ],
    ),
}
"""Each target, and some bytes to begin with."""


def main() -> None:
    """Fuzz the target that is named first; what follows is for libFuzzer."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [LIBFUZZER-OPTION]...")
    target, seeds = TARGETS[sys.argv.pop(1)]
    for seed in seeds:
        target(seed)
    atheris.Setup(sys.argv, partial(_tried, target), custom_mutator=partial(_mutated, seeds))
    atheris.Fuzz()


def _tried(target: Callable[[bytes], None], data: bytes) -> None:
    if len(data) > 2:
        target(data)


def _mutated(seeds: list[bytes], data: bytes, most: int, seed: int) -> bytes:
    """libFuzzer's own mutation; of a seed where there is nothing to mutate yet."""
    return bytes(atheris.Mutate(data if len(data) > 2 else seeds[seed % len(seeds)], most))


main()
