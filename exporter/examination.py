"""Reads everything once and makes an observation of it, for `diagnose` and `bundle`. Uses no state file."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from exporter.config import Config, ProbeConfig, probes_of
from exporter.events import LOG_NAMES, LogName, SettleDue
from exporter.journal import Journal
from exporter.license import FUTURE, LicenseState, Rules, new_state
from exporter.logs.messages import Catalogue
from exporter.logs.records import Record, times_of
from exporter.masking import masked_name
from exporter.observation import LogFigures, Observation
from exporter.probes import ProbeHistory, ProbeResult, ServiceBoard, look_at_service, probe
from exporter.products import PRODUCTS
from exporter.qrs import QrsBoard, count_into, read_into, sync_seen
from exporter.sources import Source

_log = logging.getLogger(__name__)

Progress = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


def rules_of(config: Config, catalogue: Catalogue) -> Rules:
    """What the fold uses on this site."""
    settings = config.license
    return Rules(
        catalogue.recognise,
        catalogue.uses,
        infers=catalogue.infers,
        kind=settings.kind,
        grace=float(settings.grace),
        settle=float(settings.settle),
    )


def examine(
    sources: Sequence[Source],
    config: Config,
    catalogue: Catalogue,
    *,
    now: float | None = None,
    as_of_newest: bool = False,
    probing: bool = False,
    journal: Journal | None = None,
    progress: Progress = lambda size: None,
    environ: Mapping[str, str] = os.environ,
) -> Observation:
    """Everything that `sources` contain, folded, as of `now`, of the newest entry, or of the current time.

    Entries after a given `now` are left out. `probing` also runs each configured probe once, and reads the Repository
    API if it is enabled. `journal` receives every batch.
    """
    reading = _Reading(rules_of(config, catalogue), now, as_of_newest, journal)
    figures = {source.log: reading.read(source, progress) for source in sources}
    state, rules = reading.state, reading.rules
    if now is None:
        now = max(state.last_entry.values()) if as_of_newest and state.last_entry else time.time()
    histories: tuple[ProbeHistory, ...] = ()
    board = service = None
    if probing:
        if config.licenses_service.enabled:
            service = ServiceBoard(config.licenses_service)
            service.last = asyncio.run(look_at_service(service.settings))
        histories, board = asyncio.run(_asked(config, environ))
        for history in histories:
            for result in history.results:
                if finished := result.event:
                    state.fold(finished, result.ended, rules)
        overview = board.overview(time.time()) if board is not None else None
        if overview is not None and (event := sync_seen(overview, config.qrs)):
            state.fold(event, time.time(), rules)
    state.fold(SettleDue(now), now, rules)
    return Observation(
        now=now,
        rules=rules,
        product=PRODUCTS[config.product],
        service=service,
        state=state,
        counted=state,
        messages={log: catalogue.names(log) for log in LOG_NAMES},
        logs=figures,
        probes=histories,
        qrs=board,
        covered_since=reading.oldest,
        journal=journal,
    )


class _Reading:
    """The fold of one reading."""

    def __init__(self, rules: Rules, until: float | None, as_of_newest: bool, journal: Journal | None) -> None:
        self.rules, self._until, self._as_of_newest, self._journal = rules, until, as_of_newest, journal
        self.state: LicenseState = new_state()
        self.oldest: float | None = None
        """The first entry of the Licenses log."""

    def read(self, source: Source, progress: Progress) -> LogFigures:
        """Fold the records of `source`. What cannot be read is noted in the figures, and logged."""
        log, files, troubles = source.log, 0, dict[str, str]()
        for batch in source.read():
            self._fold(log, batch.records)
            self.state.count_reading(log, read_bytes=batch.read_bytes)
            progress(batch.read_bytes)
            files = max(files, batch.files)
            troubles.update({trouble.path: trouble.problem for trouble in batch.unreadable})
        for path, problem in troubles.items():
            _log.error("%s cannot be read: %s", masked_name(path), problem)
        self.state.caught_up.add(log)
        return LogFigures(
            files=files,
            last_read=None if troubles else time.time(),
            read_errors=len(troubles),
            listed=True,
            problem="; ".join(f"{path}: {problem}" for path, problem in troubles.items()),
            paths=tuple(pattern.text for pattern in source.patterns),
        )

    def _fold(self, log: LogName, records: Sequence[Record]) -> None:
        if not records:
            return
        now = time.time()
        if (until := self._until) is not None:
            records = [record for record in records if record.at is None or record.at <= until]
            now = until
        elif self._as_of_newest:  # refused users are kept for an hour of the log's own time
            horizon = now + FUTURE
            times = [at for at in times_of(records) if at is not None and at <= horizon]
            believed = list(self.state.last_entry.values())
            now = max([*times, *believed], default=now)
        if self.oldest is None and log == "licenses":
            self.oldest = next((at for at in times_of(records) if at is not None), None)
        recognised = self.state.fold_records(log, records, now, self.rules)
        if self._journal is not None:
            self._journal.note(log, records, recognised)


async def _asked(config: Config, environ: Mapping[str, str]) -> tuple[tuple[ProbeHistory, ...], QrsBoard | None]:
    """One round of probes and of the Repository API."""
    histories = tuple(ProbeHistory(settings) for settings in probes_of(config, environ))
    product = PRODUCTS[config.product]
    results = await asyncio.gather(
        *(probe(history.settings, environ=environ, product=product) for history in histories)
    )
    for history, result in zip(histories, results, strict=True):
        history.record(result)
    direct = [
        await _directly(history.settings, environ)
        for history, result in zip(histories, results, strict=True)
        if result.role == "backend" and result.proxied and result.success is False
    ]
    board = None
    if config.qrs.enabled:
        board = QrsBoard(config.qrs)
        overview = await read_into(board)
        if overview is not None and config.qrs.seats_interval:
            await count_into(board, overview)
    return (*histories, *direct), board


async def _directly(settings: ProbeConfig, environ: Mapping[str, str]) -> ProbeHistory:
    """The same probe without its proxy: it distinguishes a problem of the proxy from one of the network."""
    history = ProbeHistory(msgspec.structs.replace(settings, proxy="none", proxy_file=""))
    result: ProbeResult = await probe(history.settings, environ=environ)
    history.record(result)
    return history
