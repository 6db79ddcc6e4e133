"""Reading once: everything that the logs hold, from the beginning, folded without any saved state."""

import asyncio
import logging
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, generate_latest

from exporter.config import Config, probes_of
from exporter.events import LOG_NAMES, LogName, ProbeFinished, SettleDue
from exporter.license import LicenseState, Rules, new_state
from exporter.logs.files import Pattern, root_of
from exporter.logs.messages import catalogue_of
from exporter.logs.tail import read_once
from exporter.metrics import LicenseCollector
from exporter.observation import LogFigures, Observation
from exporter.probes import ProbeBoard, probe
from exporter.qrs import QrsBoard, read_into, sync_seen

_log = logging.getLogger(__name__)


def exposition_once(config: Config, file: str) -> str:
    """The metrics of everything there is: every log from the beginning, all of it counted, and one round of probes.

    Raises ConfigError, naming `file`, where the catalogue cannot be made.
    """
    catalogue = catalogue_of(config, file or "defaults")
    settings = config.license
    rules = Rules(catalogue.recognise, catalogue.infers, settings.kind, settings.grace, settings.settle)
    state = new_state()
    figures = {log: _folded(state, log, each.paths, each.archive, rules) for log, each in config.logs.enabled()}
    board = ProbeBoard(probes_of(config))
    qrs = QrsBoard(config.qrs) if config.qrs.enabled else None
    asyncio.run(_observed(state, rules, board, qrs))
    now = time.time()
    state.fold(SettleDue(now), now, rules)
    seen = Observation(
        now=now,
        rules=rules,
        state=state,
        counted=state,
        messages={log: catalogue.names(log) for log in LOG_NAMES},
        logs=figures,
        probes=tuple(board.histories.values()),
        qrs=qrs,
        covered_since=min(state.last_entry.values(), default=None),
    )
    registry = CollectorRegistry()
    registry.register(LicenseCollector(lambda: seen))
    return generate_latest(registry).decode()


def _folded(state: LicenseState, log: LogName, paths: Sequence[str], archive: str, rules: Rules) -> LogFigures:
    """Fold everything that the files of `log` hold into `state`."""
    files, troubles = 0, {}
    for batch in read_once(log, [Pattern(path, root_of(path).caseless) for path in paths], archive=archive):
        state.fold_records(log, batch.records, time.time(), rules)
        state.count_reading(log, read_bytes=batch.read_bytes)
        files = max(files, batch.files)
        troubles.update({trouble.path: trouble.problem for trouble in batch.troubles})
    for path, problem in troubles.items():
        _log.error("%s cannot be read: %s", path, problem)
    state.caught_up.add(log)
    return LogFigures(
        files=files,
        last_read=None if troubles else time.time(),
        read_errors=len(troubles),
        listed=True,
        problem="; ".join(f"{path}: {problem}" for path, problem in troubles.items()),
        paths=tuple(paths),
    )


async def _observed(state: LicenseState, rules: Rules, board: ProbeBoard, qrs: QrsBoard | None) -> None:
    """One round of probes, and one read of the Repository API where it is enabled."""
    for result in await asyncio.gather(*(probe(history.settings) for history in board.histories.values())):
        board.record(result)
        event = ProbeFinished(result.target, result.role, result.ended, result.success)
        state.fold(event, result.ended, rules)
    if qrs is not None and (overview := await read_into(qrs)) and (seen := sync_seen(overview, qrs.settings)):
        state.fold(seen, time.time(), rules)
