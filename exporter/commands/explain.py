"""`explain FILE…|-`: what each log line means, which series it changes and why; or which messages are unknown."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from exporter.commands.terminal import Paint, ProgressBar, complain
from exporter.config import Config
from exporter.config.settings import MessageMeaning
from exporter.events import (
    LOG_NAMES,
    AccessDenied,
    AccessGranted,
    LicenseError,
    LicenseStale,
    LogEvent,
    LogName,
    ServiceStarted,
    SevereEntry,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
    SyncTrouble,
)
from exporter.examination import rules_of
from exporter.journal import meaning_of, text_of
from exporter.license import FUTURE, LicenseState, Rules, new_state
from exporter.logs.files import open_shared
from exporter.logs.messages import MESSAGES, UNKNOWN, catalogue_of
from exporter.logs.numbered import Line, UnknownLogError, lines_of
from exporter.logs.records import Record
from exporter.masking import Templates, masked, masked_name
from exporter.metrics import (
    LOG_FUTURE,
    LOG_MALFORMED,
    LOG_MESSAGES,
    LOG_RECORDS,
    SYNC_AGE,
    Metric,
    license_families,
)
from exporter.observation import Observation
from exporter.printable import printable
from exporter.sources import given_sources
from exporter.wording import count, instant, span

STDIN = "-"
MOST_ENTRIES = 20
"""Unknown messages for which a configuration entry is proposed, at most."""
Moved = dict[str, list[float | None]]
"""Changed series by name, from and to; the value before is None if only the increase is known."""
_EXPLAINED, _FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "paths", nargs="+", metavar="FILE|DIR|-", help="log files, folders with logs, or - for standard input"
    )
    parser.add_argument(
        "--unknown", action="store_true", help="list only the distinct messages that were not recognised"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--log", choices=LOG_NAMES, help="the log, if neither name nor content identifies it")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Explains every record in the order given: 0, or 1 where something could not be read. Raises ConfigError."""
    rules = rules_of(config, catalogue_of(config, arguments.config_file or "defaults"))
    if arguments.unknown:
        return _print_unknown(arguments, rules)
    explainer = Explainer(rules, arguments.show_people)
    paint = Paint(sys.stdout)
    code = _EXPLAINED
    inputs = list(_inputs(arguments))
    for name, lines in inputs:
        shown = printable(name) if arguments.show_people else masked_name(name)
        if len(inputs) > 1 and not arguments.json:
            print(paint(shown, "bold"))
        try:
            for line in lines:
                explained = {"file": shown, **explainer.explain(line)}
                print(
                    json.dumps(explained, ensure_ascii=False) if arguments.json else _text(explained, paint),
                    flush=name == STDIN,
                )
        except UnknownLogError:
            complain(f"{shown}: not recognised as a log; specify it with --log: {', '.join(LOG_NAMES)}")
            code = _FAILED
    return code


def _inputs(arguments: argparse.Namespace) -> Iterator[tuple[str, Iterator[Line]]]:
    """Each file with its records, in the order given; folders in the order of their logs."""
    for path in arguments.paths:
        if path == STDIN:
            yield path, lines_of(lambda size: os.read(sys.stdin.fileno(), size), arguments.log)
        elif os.path.isdir(path):
            for source in given_sources([path]).sources:
                for file in source.files:
                    yield file, _file_lines(file, arguments.log or source.log)
        else:
            sources = given_sources([path]).sources
            yield path, _file_lines(path, arguments.log or (sources[0].log if sources else None))


def _file_lines(path: str, log: LogName | None) -> Iterator[Line]:
    descriptor = open_shared(path)
    try:
        yield from lines_of(lambda size: os.read(descriptor, size), log)
    finally:
        os.close(descriptor)


# --- one record ------------------------------------------------------------------------------------------------------

_SENTENCES = {(message.log, message.name): message.sentence for message in MESSAGES}


class Explainer:
    """Folds records one by one into a real `LicenseState`, and reports what each of them changed."""

    def __init__(self, rules: Rules, show_people: bool = False) -> None:
        self._rules, self._show_people = rules, show_people
        self._state = new_state()
        self._state.caught_up.update(LOG_NAMES)  # else gauges are not known yet
        self._now: float | None = None
        self._before = _series(self._state, rules, 0.0)
        self._last_at: dict[LogName, float] = {}

    def explain(self, line: Line) -> dict[str, Any]:
        """`line`, `log`, `time`, `message`, `meaning`, `event`, `text`, `moved` (series to from and to), `why`."""
        log, record = line.log, line.record
        if record.orphan:
            self._state.fold_records(log, [record], self._now or time.time(), self._rules)
            why = ["this line does not belong to a record: counted as malformed only"]
            return _explanation(line, None, "", None, "", {_name(LOG_MALFORMED, log): [None, 1]}, why)
        ((message, event),) = self._rules.recognise(log, [record])
        why = []
        moved: Moved = {}
        if record.at is None:
            record.at = self._last_at.get(log)
            why.append(
                "it has no valid time: the time of the record before it is used"
                if record.at
                else "it has no valid time"
            )
        wall = time.time()
        if record.at is not None and record.at <= wall + FUTURE:
            self._last_at[log] = record.at
            self._now = max(self._now or record.at, record.at)
        marks = _marks(self._state)
        self._state.fold_records(log, [record], self._now or wall, self._rules)
        moved[_name(LOG_RECORDS, log)] = moved[_name(LOG_MESSAGES, log, message)] = [None, 1]
        if record.malformed:
            moved[_name(LOG_MALFORMED, log)] = [None, 1]
            why.append("its format is invalid; what can be recognised in it is used nevertheless")
        if record.at is not None and record.at > wall + FUTURE:
            moved[_name(LOG_FUTURE, log)] = [None, 1]
            why.append("its time is in the future: it counts, but changes no timestamp")
        if event is not None or _marks(self._state) != marks:
            after = _series(self._state, self._rules, self._now or wall)
            moved |= {
                name: [self._before.get(name), after.get(name)]
                for name in (*after, *(name for name in self._before if name not in after))
                if self._before.get(name) != after.get(name)
            }
            self._before = after
        succeeded = _marks(self._state).success
        if succeeded is not None and succeeded > (marks.success or 0.0):
            why.append(
                f"the sync attempted at {instant(succeeded)} was followed by no sign of trouble: an inferred success"
            )
        why += self._why(message, event, marks)
        text = text_of(record)
        return _explanation(
            line,
            record.at,
            message,
            event,
            text if self._show_people else masked(text),
            moved,
            why,
        )

    def _why(self, message: str, event: LogEvent | None, before: "_Marks") -> list[str]:
        """Why the event changed these series, in the terms of the sync clock."""
        after = _marks(self._state)
        if event is None:
            return ["no known message matches: counted as unknown"] if message == UNKNOWN else ["only counted"]
        if isinstance(event, SyncAttempted):
            settle = span(self._state.sync.wait())
            if after.pending != before.pending:
                return [f"a sync begins; its result is known after {settle}, or by the next failure"]
            return ["it begins no sync: its time is out of order, or not known"]
        if isinstance(event, SyncSucceeded):
            return ["a success message from the configuration: not inferred"]
        if isinstance(event, SyncFailed | LicenseStale | SyncTrouble) or (
            isinstance(event, LicenseError) and event.trouble is not None
        ):
            why = []
            if after.failed > before.failed:
                why.append("the sync that it belongs to has failed")
            if after.unclear > before.unclear:
                why.append("the result of the sync is unclear: neither a success nor a failure")
            if (before.success or 0.0) > (after.success or 0.0):
                why.append("inferred successes before it are withdrawn")
            if isinstance(event, LicenseStale):
                why.append("everyone is refused until a sync succeeds")
            if self._state.sync.pending() is not None and not why and not isinstance(event, SyncFailed):
                why.append("it may be about the current sync, which therefore does not count as a success")
            return why or ["it does not affect a sync: none is in progress, or the entry is about something else"]
        if isinstance(event, ServiceStarted):
            return ["the service was started again: a sync in progress may have been interrupted"]
        if isinstance(event, AccessGranted):
            return ["a user was granted access: the license is not stale"]
        if isinstance(event, LicenseError):
            return ["a license error that does not affect a sync"]
        if isinstance(event, SevereEntry):
            return ["a license logger reports a problem"]
        return [_why_denied(event)]


def _why_denied(event: AccessDenied) -> str:
    if event.reason == "parallel_sessions":
        return "the row counts five sessions or more"
    if event.reason == "no_access_pass":
        return "refused with fewer than five sessions, or without a count: the license is missing, not the session"
    return "a license could not be allocated"


class _Marks(NamedTuple):
    """The parts of the sync clock that a record can change."""

    pending: float | None
    success: float | None
    failed: int
    unclear: int


def _marks(state: LicenseState) -> _Marks:
    clock = state.sync
    return _Marks(clock.pending(), clock.inferred_success(), *clock.since(None))


def _explanation(
    line: Line,
    at: float | None,
    message: str,
    event: LogEvent | None,
    text: str,
    moved: Moved,
    why: list[str],
) -> dict[str, Any]:
    return {
        "line": line.number,
        "log": line.log,
        "time": at,
        "message": message,
        "meaning": _SENTENCES.get((line.log, message), ""),
        "event": meaning_of(event) if event is not None else "",
        "text": text,
        "moved": dict(moved),
        "why": why,
    }


def _series(state: LicenseState, rules: Rules, now: float) -> dict[str, float]:
    """The series that an event can change, with their values; unknown ones are left out."""
    seen = Observation(now=now, rules=rules, state=state, counted=state, messages=dict.fromkeys(LOG_NAMES, ()), logs={})
    return {
        _spelled(sample.name, sample.labels): sample.value
        for family in license_families(seen)
        if family.name != SYNC_AGE.name  # it changes with every record
        for sample in family.samples
    }


def _name(metric: Metric, *values: str) -> str:
    return _spelled(metric.name, dict(zip(metric.labels, values, strict=True)))


def _spelled(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inner}}}" if inner else name


# --- for a person ----------------------------------------------------------------------------------------------------


def _text(explained: Mapping[str, Any], paint: Paint) -> str:
    at = instant(explained["time"]) if explained["time"] is not None else "no time"
    recognised = explained["message"] not in ("", UNKNOWN)
    name = paint(explained["message"] or "no record", "green" if recognised else "yellow")
    lines = [f"{explained['line']:>7}  {paint(at, 'dim')}  {explained['log']}  {name}"]
    if explained["text"]:
        lines.append(f"         {explained['text']}")
    if explained["meaning"]:
        lines.append(f"         means: {explained['meaning']}")
    if explained["event"]:
        lines.append(f"         event: {paint(explained['event'], 'red' if _is_bad(explained['event']) else 'cyan')}")
    moved = "; ".join(_change(series, *values) for series, values in explained["moved"].items())
    lines.append(f"         moves: {moved}")
    lines += [f"         why:   {sentence}" for sentence in explained["why"]]
    return "\n".join(lines)


def _is_bad(event: str) -> bool:
    return not event.startswith(("sync attempted", "sync succeeded"))


def _change(series: str, before: float | None, after: float | None) -> str:
    if "_total" in series:
        return f"{series} +{(after or 0) - (before or 0):g}"
    if after is None:
        return f"{series} gone"
    value = instant(after) if "_timestamp_" in series else f"{after:g}"
    return f"{series} = {value}"


# --- unknown messages ------------------------------------------------------------------------------------------------


def _print_unknown(arguments: argparse.Namespace, rules: Rules) -> int:
    templates = Templates(arguments.show_people)
    troubles: set[str] = set()
    code = _EXPLAINED
    try:
        for log, records in _batches(arguments):
            for record, (message, event) in zip(records, rules.recognise(log, records), strict=True):
                if message == UNKNOWN and not record.orphan:
                    templates.add(log, text_of(record), 1, [] if record.at is None else [record.at])
                    if log == "licenses" and event is not None and not record.malformed:
                        troubles.add(masked(text_of(record)))
    except UnknownLogError:
        complain(f"the input is not recognised as a log; specify it with --log: {', '.join(LOG_NAMES)}")
        code = _FAILED
    rows = templates.rows()
    if arguments.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return code
    paint = Paint(sys.stdout)
    if not rows and code == _EXPLAINED:
        print("Every record was recognised.")
    for row in rows:
        print(f"{row['count']:>9,}  {row['log']:<16}  {paint(str(row['template']), 'yellow')}")
    if rows:
        total = sum(int(str(row["count"])) for row in rows)
        print(paint(f"{count(len(rows), 'unknown message')} in {count(total, 'record')}.", "dim"))
    wordings = [str(row["template"]) for row in rows if str(row["template"]) in troubles][:MOST_ENTRIES]
    if wordings:
        print(f"\n{teaching(wordings)}")
    return code


FEWEST_LETTERS = 12
"""Letters that a proposed pattern needs: with fewer, as of `dial tcp`, it would match what means something else."""


def teaching(wordings: Sequence[str]) -> str:
    """The configuration entries for masked `wordings` that may report trouble, to be pasted and corrected."""
    lines = [
        "# These may be about a sync. If you know what one means, put it into the configuration; means is one of",
        f"# {', '.join(get_args(MessageMeaning))}.",
        "messages:",
    ]
    names: set[str] = set()
    for wording in wordings:
        words = re.findall("[a-z]+", re.sub("<[^>]*>", " ", wording).casefold())[:4]
        pattern = _pattern_of(wording)
        if not pattern:
            lines.append(f"  # too little is left of it once it is masked; write the pattern yourself: {wording}")
            continue
        name = "_".join(words)
        while name in names:
            name += "_too"
        names.add(name)
        quoted = pattern.replace("'", "''")
        lines.append(f"  - {{name: {name}, log: licenses, match: '{quoted}', means: sync_failed}}")
    if not names:
        lines[2] += " []"
    return "\n".join(lines)


def _pattern_of(wording: str) -> str:
    """A pattern for the part of a masked wording that says most, with any word where one is masked.

    Empty if too few letters are left.
    """
    best, most = "", FEWEST_LETTERS - 1
    # Other masks may stand for several words, and ` | ` divides the fields of an entry.
    for part in re.split(r"<(?!name>|user>|host>|id>)[a-z ]+>|\s\|\s", wording):
        literals = re.split("<[a-z]+>", part)
        while literals and not any(map(str.isalpha, literals[0])):
            del literals[0]
        while literals and not any(map(str.isalpha, literals[-1])):
            del literals[-1]
        letters = sum(map(str.isalpha, "".join(literals)))
        if letters > most:
            escaped = [re.escape(literal).replace(r"\ ", " ") for literal in literals]
            best, most = r"\S+".join(escaped).strip(), letters
    return best


def _batches(arguments: argparse.Namespace) -> Iterator[tuple[LogName, Sequence[Record]]]:
    """The records of all given files, in batches of any size."""
    paths = [path for path in arguments.paths if path != STDIN]
    if len(paths) < len(arguments.paths):
        for line in lines_of(lambda size: os.read(sys.stdin.fileno(), size), arguments.log):
            yield line.log, [line.record]
    given = given_sources(paths, arguments.log)
    if given.skipped and not given.sources:
        raise UnknownLogError
    bar = ProgressBar(sum(source.size for source in given.sources))
    try:
        for source in given.sources:
            for batch in source.read():
                yield arguments.log or source.log, batch.records
                bar(batch.read_bytes)
    finally:
        bar.close()
