"""One reading of everything there is, and what it comes to, for `diagnose` and `bundle`. Uses no state file."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from exporter.config import Config, ProbeConfig, probes_of
from exporter.events import LOG_NAMES, LogName, ProbeFinished, SettleDue
from exporter.journal import Journal
from exporter.license import FUTURE, LicenseState, Rules, new_state
from exporter.logs.formats import Record
from exporter.logs.messages import Catalogue
from exporter.logs.sources import Source
from exporter.observation import LogFigures, Observation
from exporter.probes import ProbeHistory, ProbeResult, probe
from exporter.qrs import QrsBoard, read_into, sync_seen

Progress = Callable[[int], None]
"""Told how many bytes more were read."""


def rules_of(config: Config, catalogue: Catalogue) -> Rules:
    """What the fold goes by on this site."""
    settings = config.license
    return Rules(catalogue.recognise, catalogue.infers, settings.kind, settings.grace, settings.settle)


def examine(
    sources: Sequence[Source],
    config: Config,
    catalogue: Catalogue,
    *,
    now: float | None = None,
    as_of_newest: bool = False,
    probing: bool = False,
    show_people: bool = False,
    progress: Progress = lambda size: None,
    environ: Mapping[str, str] = os.environ,
) -> Observation:
    """Everything that `sources` hold, folded, and judged as of `now`, of the newest entry, or of this moment.

    Entries after a given `now` are left out. `probing` also runs each configured probe once, and reads the Repository
    API where it is enabled.
    """
    reading = _Reading(rules_of(config, catalogue), now, Journal(show_people))
    figures = {source.log: reading.read(source, progress) for source in sources}
    if now is None:
        now = reading.newest if as_of_newest and reading.newest is not None else time.time()
    histories: tuple[ProbeHistory, ...] = ()
    board = None
    if probing:
        histories, board = asyncio.run(_asked(config, environ))
        for history in histories:
            for result in history.results:
                finished = ProbeFinished(result.target, result.role, result.ended, result.success)
                reading.state.fold(finished, result.ended, reading.rules)
        overview = board.overview(time.time()) if board is not None else None
        if overview is not None and (event := sync_seen(overview, config.qrs)):
            reading.state.fold(event, time.time(), reading.rules)
    reading.state.fold(SettleDue(now), now, reading.rules)
    return Observation(
        now=now,
        rules=reading.rules,
        state=reading.state,
        counted=reading.state,
        messages={log: catalogue.names(log) for log in LOG_NAMES},
        logs=figures,
        probes=histories,
        qrs=board,
        covered_since=reading.oldest,
        journal=reading.journal,
    )


class _Reading:
    """The fold of one reading, with what is learnt on the way."""

    def __init__(self, rules: Rules, until: float | None, journal: Journal) -> None:
        self.rules, self._until, self.journal = rules, until, journal
        self.state: LicenseState = new_state()
        self.newest: float | None = None
        self.oldest: float | None = None
        """The oldest entry of the Licenses log."""

    def read(self, source: Source, progress: Progress) -> LogFigures:
        """Fold all that `source` holds. What cannot be read is said in the figures."""
        log, problems = source.log, {}
        for batch in source.read():
            self._fold(log, batch.records)
            self.state.count_reading(
                log,
                read_bytes=batch.read_bytes,
                rotations=batch.rotations,
                lost_generations=batch.lost_generations,
            )
            progress(batch.read_bytes)
            problems.update({trouble.path: trouble.problem for trouble in batch.troubles})
        self.state.caught_up.add(log)
        return LogFigures(
            files=len(source.files),
            last_read=time.time(),
            read_errors=len(problems),
            listed=True,
            problem="; ".join(f"{path}: {problem}" for path, problem in problems.items()),
            paths=tuple(pattern.text for pattern in source.patterns),
        )

    def _fold(self, log: LogName, records: Sequence[Record]) -> None:
        kept = records
        if (until := self._until) is not None:
            kept = [record for record in records if record.at is None or record.at <= until]
        horizon = time.time() + FUTURE
        times = [record.at for record in kept if record.at is not None and record.at <= horizon]
        if times:
            self.newest = max(times) if self.newest is None else max(self.newest, max(times))
            if log == "licenses":
                self.oldest = min(times) if self.oldest is None else min(self.oldest, min(times))
        now = self._until if self._until is not None else self.newest if self.newest is not None else time.time()
        self.state.fold_records(log, kept, now, self.rules)
        self.journal.note(log, kept, self.rules)


async def _asked(config: Config, environ: Mapping[str, str]) -> tuple[tuple[ProbeHistory, ...], QrsBoard | None]:
    """One round of probes and of the Repository API."""
    histories = tuple(ProbeHistory(settings) for settings in probes_of(config, environ))
    results = await asyncio.gather(*(probe(history.settings, environ=environ) for history in histories))
    for history, result in zip(histories, results, strict=True):
        history.record(result)
    direct = [
        await _directly(history.settings, environ)
        for history, result in zip(histories, results, strict=True)
        if result.role == "backend" and result.proxied and not result.success
    ]
    board = None
    if config.qrs.enabled:
        board = QrsBoard(config.qrs)
        await read_into(board)
    return (*histories, *direct), board


async def _directly(settings: ProbeConfig, environ: Mapping[str, str]) -> ProbeHistory:
    """The same probe without its proxy: whether the direct way works tells a proxy's trouble from the network's."""
    history = ProbeHistory(msgspec.structs.replace(settings, proxy="none", proxy_file=""))
    result: ProbeResult = await probe(history.settings, environ=environ)
    history.record(result)
    return history
