"""`diagnose [FILE|DIR…]`: one verdict on this machine or on copied logs, with its evidence and its cure."""

import argparse
import json
import math
import sys
from collections.abc import Sequence

import msgspec

from exporter.commands.idle_seats import print_idle_seats
from exporter.commands.terminal import NO_JUDGEMENT, Colour, Paint, ProgressBar, complain
from exporter.config import Config
from exporter.examination import examine
from exporter.journal import Journal
from exporter.logs.messages import catalogue_of
from exporter.logs.times import instant
from exporter.observation import Observation
from exporter.printable import printable, printable_tree
from exporter.sources import Given, Source, configured_sources, given_sources
from exporter.verdict import Finding, Judgement, Severity, judge
from exporter.wording import count, listed, size
from exporter.wording import instant as instant_text

EXIT_CODES: dict[Severity, int] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}

_COLOURS: dict[Severity, Colour] = {"ok": "green", "warning": "yellow", "critical": "red", "unknown": "magenta"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="FILE|DIR",
        help="copied logs (live, rotated, archived), in any folder structure "
        "(default: the current state of this machine, and a probe)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of text")
    parser.add_argument("--now", metavar="INSTANT", help="diagnose as of this time: RFC 3339, or seconds since 1970")
    parser.add_argument(
        "--probe", action="store_true", help="also probe the backend from this machine when diagnosing copied logs"
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Print the verdict and return its severity: 0 ok, 1 warning, 2 critical, 3 unknown.

    Raises ConfigError.
    """
    try:
        now = instant_given(arguments.now)
        given = given_sources(arguments.paths) if arguments.paths else Given(configured_sources(config))
    except (ValueError, OSError) as error:
        what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        complain(what)
        return NO_JUDGEMENT
    bar = ProgressBar(sum(source.size for source in given.sources))
    try:
        seen = examine(
            given.sources,
            config,
            catalogue_of(config, arguments.config_file or "defaults"),
            now=now,
            as_of_newest=bool(arguments.paths),
            probing=arguments.probe or not arguments.paths,
            journal=Journal(arguments.show_people),
            progress=bar,
        )
    finally:
        bar.close()
    judgement = judge(seen)
    if arguments.json:
        print(json.dumps(printable_tree(as_json(judgement)), ensure_ascii=False, indent=2))
    else:
        print(report_of(judgement, seen, given, Paint(sys.stdout)))
        overview = seen.qrs.overview(seen.now) if seen.qrs else None
        if arguments.show_people and overview is not None:
            print_idle_seats(config.qrs, overview)
    return EXIT_CODES[judgement.severity]


def instant_given(text: str | None) -> float | None:
    """The instant that `--now` names. Raises ValueError with the expectation."""
    if text is None:
        return None
    at = instant(text.strip())
    if at is None:
        try:
            at = float(text)
        except ValueError:
            at = math.nan
    if not math.isfinite(at):
        raise ValueError(f"--now: found `{text}`, expected such as 2026-11-02T08:15:00Z, or seconds since 1970")
    return at


def as_json(judgement: Judgement) -> dict[str, object]:
    """The judgement as JSON data; its lesser findings have the same shape."""
    whole: dict[str, object] = msgspec.to_builtins(judgement)
    whole["also"] = [{**msgspec.to_builtins(finding), "also": []} for finding in judgement.also]
    return whole


def report_of(judgement: Judgement, seen: Observation, given: Given, paint: Paint) -> str:
    """The judgement for a person."""
    lines = _finding(judgement, paint)
    for finding in judgement.also:
        lines += ["", paint("Also:", "bold"), *_finding(finding, paint)]
    lines += ["", paint(_ground(given.sources, given, seen), "dim")]
    return "\n".join(lines)


def _finding(finding: Finding, paint: Paint) -> list[str]:
    lines = [
        f"{paint(finding.severity.upper(), _COLOURS[finding.severity])} {paint(finding.verdict, 'bold')}",
        printable(finding.summary),
        f"What users see: {printable(finding.users_see)}",
        "Why:",
        *(f"  - {printable(sentence)}" for sentence in finding.evidence),
    ]
    if finding.cure:
        lines += [
            "What to do:",
            *(f"  {number}. {step}" for number, step in enumerate(map(printable, finding.cure), start=1)),
        ]
    if finding.alert:
        lines.append(f"Alert: {finding.alert}")
    return lines


def _ground(sources: Sequence[Source], given: Given, seen: Observation) -> str:
    """What the judgement is based on."""
    logs = [f"{source.log} ({count(len(source.files), 'file')})" for source in sources]
    text = f"As of {instant_text(seen.now)}"
    text += (
        f", from {size(sum(source.size for source in sources))} of logs: {listed(logs)}."
        if logs
        else ", without any log."
    )
    if given.skipped:
        skipped = [f"{count(number, 'file')} ({why})" for why, number in given.skipped.items()]
        text += f" Left out: {listed(skipped)}."
    return text
