"""`backfill FILE|DIR… -o out.om`: the history in logs as OpenMetrics, from which promtool creates Prometheus blocks.

The logs are folded in the order of their times, and at every step the series are written as they would have been
scraped then. One spool file per series keeps its samples together, as the format requires, in constant memory.
"""

import argparse
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

from exporter.commands.terminal import ProgressBar, complain
from exporter.config import Config, Duration, duration
from exporter.events import LOG_NAMES, LogName, SettleDue
from exporter.examination import rules_of
from exporter.license import FUTURE, JUMP, Rules, new_state
from exporter.logs.files import open_shared, read_at
from exporter.logs.messages import catalogue_of
from exporter.logs.numbered import UnknownLogError, lines_of
from exporter.logs.records import Record
from exporter.metrics import METRICS, history_families
from exporter.observation import LogFigures, Observation
from exporter.sources import Source, given_sources
from exporter.sync_clock import DISORDER
from exporter.verdict import judge
from exporter.wording import count, instant

USUAL_STEP = Duration(60)
MOST_STEPS = 50_000
"""The largest number of steps of one history: five weeks at one minute, half a year at five minutes."""
STEPS = tuple(Duration(seconds) for seconds in (60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400))
"""The steps to choose from if the history is too long for one minute."""
LOOK_BACK = Duration(300)
"""How long Prometheus considers a sample current: longer steps leave gaps in graphs."""
LOOK_AHEAD = 20_000
"""Records within which a clock that was set ahead by mistake is corrected."""
GLANCE = 256 << 10
"""Bytes at both ends of a file from which its time span is determined."""

_LABEL = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)=(.*)", re.DOTALL)
_TAKEN = frozenset(label for metric in METRICS.values() for label in metric.labels)
_WRITTEN, _FAILED, _UNUSABLE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("paths", nargs="+", metavar="FILE|DIR", help="log files or folders: live, rotated and archived")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the OpenMetrics file to write")
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="label to add to every series, as a scrape would: job=qlik-license, site=…, instance=… (repeatable)",
    )
    parser.add_argument(
        "--step", metavar="DURATION", help=f"time between two samples (default: {USUAL_STEP}, longer if needed)"
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Write the file and print what it contains: 0; 1 without any log, 2 for an invalid option. Raises ConfigError."""
    try:
        labels = labels_given(arguments.label)
        sources = given_sources(arguments.paths).sources
        span = span_of(sources)
        step = step_for(span, arguments.step)
    except ValueError as error:
        complain(error)
        return _UNUSABLE
    if span is None:
        complain("no log with a usable time was found")
        return _FAILED
    catalogue = catalogue_of(config, arguments.config_file or "defaults")
    messages = {log: catalogue.names(log) for log in LOG_NAMES}
    output = Path(arguments.output)
    bar = ProgressBar(sum(source.size for source in sources))
    replay = _Replay(sources, rules_of(config, catalogue), bar)
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".backfill-") as folder:
        spool = _Spool(Path(folder), labels)
        try:
            for seen in replay.observations(span[0], step, messages):
                spool.write(seen)
        finally:
            spool.close()
            bar.close()
        spool.join(output)
    print(_summary(output, span, step, spool, arguments.step is not None), file=sys.stderr)
    return _WRITTEN


def _summary(output: Path, span: tuple[float, float], step: Duration, spool: "_Spool", chosen: bool) -> str:
    lines = [
        f"{count(spool.samples, 'sample')} at a step of {step}, from {instant(span[0])} to {instant(span[1])}.",
    ]
    if step > USUAL_STEP and not chosen:
        lines.append(f"The history is too long for a step of {USUAL_STEP}; --step sets another.")
    if step > LOOK_BACK:
        lines.append(
            f"Graphs will show gaps. To look at it, start Prometheus with --query.lookback-delta={Duration(2 * step)}."
        )
    lines.append(
        f"Next: promtool tsdb create-blocks-from openmetrics {shlex.quote(str(output))} DATA_FOLDER_OF_PROMETHEUS"
    )
    return "\n".join(lines)


# --- options ---------------------------------------------------------------------------------------------------------


def labels_given(texts: Sequence[str]) -> dict[str, str]:
    """The labels of `--label`. Raises ValueError with the expectation."""
    labels: dict[str, str] = {}
    for text in texts:
        match = _LABEL.fullmatch(text)
        if match is None or match[1].startswith("__"):
            raise ValueError(f"--label: found `{text}`, expected name=value, such as site=berlin")
        if match[1] in _TAKEN or match[1] in labels:
            raise ValueError(f"--label: found `{match[1]}`, expected a name that the series do not already have")
        labels[match[1]] = match[2]
    return labels


def step_for(span: tuple[float, float] | None, asked: str | None) -> Duration:
    """The step: as given, else one minute, or longer for a long span. Raises ValueError with the expectation."""
    seconds = span[1] - span[0] if span else 0.0
    fitting = next((step for step in STEPS if seconds / step <= MOST_STEPS), STEPS[-1])
    if asked is None:
        return fitting
    try:
        step = duration(asked)
    except ValueError as error:
        raise ValueError(f"--step: found `{asked}`, expected {error}") from None
    if step < 1 or seconds / step > MOST_STEPS:
        raise ValueError(f"--step: found `{asked}`, expected at least {max(Duration(1), fitting)} for this history")
    return step


def span_of(sources: Sequence[Source]) -> tuple[float, float] | None:
    """The first and the last instant in the logs, from both ends of each file; None if there is none."""
    horizon = time.time() + FUTURE
    times = [
        at
        for source in sources
        for file in source.files
        for at in _ends(file, source)
        if at is not None and at <= horizon
    ]
    return (min(times), max(times)) if times else None


def _ends(file: str, source: Source) -> Iterator[float | None]:
    try:
        descriptor = open_shared(file)
    except OSError:
        return  # the reading itself says so
    try:
        size = os.fstat(descriptor).st_size
        head = read_at(descriptor, 0, GLANCE)
        tail = read_at(descriptor, max(0, size - GLANCE) & ~1, GLANCE) if size > GLANCE else b""
    finally:
        os.close(descriptor)
    if tail and head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        tail = head[:2] + tail
    for piece in (head, tail):
        if piece:
            parts = iter((piece, b""))
            try:
                yield from (line.record.at for line in lines_of(lambda _, parts=parts: next(parts, b""), source.log))  # type: ignore[misc]  # binds the loop's value
            except UnknownLogError:
                continue


# --- the replay ------------------------------------------------------------------------------------------------------


class _Replay:
    """The logs, folded step by step."""

    def __init__(self, sources: Sequence[Source], rules: Rules, progress: ProgressBar) -> None:
        self._rules = rules
        self._streams = [_Stream(source, progress) for source in sources]

    def observations(
        self, first: float, step: float, messages: Mapping[LogName, Sequence[str]]
    ) -> Iterator[Observation]:
        """What was known at each step, from the last one before `first` until nothing more is to come."""
        state = new_state()
        state.caught_up.update(stream.source.log for stream in self._streams)
        figures = {
            stream.source.log: LogFigures(files=len(stream.source.files), listed=True) for stream in self._streams
        }
        number = math.ceil(first / step) - 1  # before the first record: every counter starts at 0
        while True:
            now = number * step
            for stream in self._streams:
                if records := stream.until(now):
                    state.fold_records(stream.source.log, records, now, self._rules)
            state.fold(SettleDue(now), now, self._rules)
            seen = Observation(
                now=now,
                rules=self._rules,
                state=state,
                counted=state,
                messages=messages,
                logs=figures,
                covered_since=first,
            )
            yield seen
            if all(stream.ended for stream in self._streams):
                return
            number += 1


class _Stream:
    """The records of one log, as far as an instant."""

    def __init__(self, source: Source, progress: ProgressBar) -> None:
        self.source = source
        self.ended = False
        self._batches = source.read()
        self._progress = progress
        self._horizon = time.time() + FUTURE
        self._records: list[Record] = []
        self._times: list[float] = []
        self._next = 0
        self._ahead: list[Record] = []
        self._fill()

    def until(self, now: float) -> list[Record]:
        """The next records up to `now`. One in the future is returned immediately: it changes no timestamp."""
        found: list[Record] = []
        while not self.ended:
            records, start = self._records, self._next
            end = start
            for record, at in zip(records[start:], self._times[start:], strict=True):
                if record.at is not None and now < at <= self._horizon:
                    break
                end += 1
            found += records[start:end]
            self._next = end
            if end < len(records):
                break
            self._fill()
        return found

    def _fill(self) -> None:
        """The next records, and when they were written. One batch is read ahead: a clock may be set right there."""
        current = self._ahead or self._read()
        self._ahead = self._read() if current else []
        self._records, self._next = current, 0
        self._times = written_at([*current, *self._ahead])[: len(current)]
        self.ended = not current

    def _read(self) -> list[Record]:
        for batch in self._batches:
            self._progress(batch.read_bytes)
            if batch.records:
                return list(batch.records)
        return []


def written_at(records: Sequence[Record]) -> list[float]:
    """When each of `records` was written: its own time, except while the clock was wrong.

    A step of more than an hour that a later record takes back was a clock set ahead by mistake: those records were
    written when the clock was last right. Without that, all that follows would wait until the wrong time is reached.
    """
    times: list[float] = []
    wrong_until, last = 0, 0.0
    for index, record in enumerate(records):
        at = last if record.at is None else record.at
        if index < wrong_until:
            at = last
        elif last and at > last + JUMP:
            later = (number for number in range(index + 1, min(len(records), index + LOOK_AHEAD)))
            back = next((n for n in later if _between(records[n].at, last - DISORDER, at - DISORDER)), None)
            if back is not None:
                wrong_until, at = back, last
        times.append(at)
        last = max(last, at)
    return times


def _between(at: float | None, low: float, high: float) -> bool:
    return at is not None and low <= at < high


# --- the file --------------------------------------------------------------------------------------------------------


class _Series(NamedTuple):
    """The spool file of one series, and the text before each value."""

    file: IO[str]
    beginning: str


class _Spool:
    """A file of samples per series, joined at the end: the format requires the samples of a series together."""

    def __init__(self, folder: Path, labels: dict[str, str]) -> None:
        self.samples = 0
        self._folder, self._labels = folder, labels
        self._series: dict[str, dict[tuple[str, ...], _Series]] = {name: {} for name in METRICS}
        """By the metric's name and the label values."""

    def write(self, seen: Observation) -> None:
        """Write the samples of one step."""
        at = _number(seen.now)
        for family in history_families(replace(seen, judgement=judge(seen))):
            for sample in family.samples:
                values = tuple(sample.labels.values())
                series = self._series[sample.name].get(values) or self._opened(sample.name, sample.labels, values)
                series.file.write(f"{series.beginning} {_number(sample.value)} {at}\n")
                self.samples += 1

    def _opened(self, name: str, labels: dict[str, str], values: tuple[str, ...]) -> _Series:
        known = self._series[name]
        file = (self._folder / f"{name}.{len(known)}").open("w", encoding="utf-8", newline="\n")
        known[values] = _Series(file, name + _labels({**labels, **self._labels}))
        return known[values]

    def close(self) -> None:
        """No more samples."""
        for known in self._series.values():
            for series in known.values():
                series.file.close()

    def join(self, output: Path) -> None:
        """Write all of it as one file."""
        with output.open("w", encoding="utf-8", newline="\n") as joined:
            for metric in METRICS.values():
                if known := self._series[metric.name]:
                    name = metric.name.removesuffix("_total")
                    joined.write(f"# HELP {name} {_escaped(metric.meaning)}\n# TYPE {name} {metric.kind}\n")
                    for series in known.values():
                        with Path(series.file.name).open(encoding="utf-8", newline="\n") as samples:
                            shutil.copyfileobj(samples, joined)
            joined.write("# EOF\n")


def _labels(labels: dict[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
