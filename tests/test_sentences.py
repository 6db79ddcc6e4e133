"""Every sentence that this program says to people, in one list: `golden/sentences.txt`, made to be read.

`UPDATE_GOLDEN=1` rewrites it; then read the difference as somebody would who is paged by it. The verdict's sentences
come from situations, so that they stand there whole. Those of the commands, the probes and the page are read from the
source, where each `{}` stands for what is put in; those of the alerts are as shipped.
"""

import ast
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from observed import (
    ATTEMPT,
    DAY,
    HOUR,
    MINUTE,
    NO_SUCH_HOST,
    NOON,
    PROXY_407,
    STALE,
    UNTRUSTED,
    audit_row,
    board,
    history,
    licenses_line,
    observation,
    refusal,
    repository,
    result,
    syncs,
)
from shipped import alerts
from test_cures import judged
from test_verdict import GOOD, REACHED, failing, invalid_lines, overview, unreachable

from exporter.config import LicenseConfig, LicensesServiceConfig
from exporter.observation import LogFigures, Observation
from exporter.probes import REASONS, ServiceBoard
from exporter.probes.licenses_service import Page, ServiceLook
from exporter.products import PRODUCTS
from exporter.qrs import AccessType
from exporter.verdict import Finding, judge

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "sentences.txt"
VERDICT = tuple(
    f"verdict/{name}.py" for name in ("rules", "validity", "seats", "sync", "evidence", "phrases", "judging")
)
COMMANDS = ("commands/diagnose.py", "commands/probe.py", "commands/check.py")


# --- situations that no other test needs -----------------------------------------------------------------------------

ERRORS = {
    "dns": NO_SUCH_HOST,
    "refused": "dial tcp 10.0.0.1:443: connect: connection refused",
    "timeout": "dial tcp 10.0.0.1:443: i/o timeout",
    "reset": "read tcp: connection reset by peer",
    "tls": UNTRUSTED,
    "proxy": PROXY_407,
    "http": "backend answered with unexpected status code: 503",
    "stranger": "invalid character '<' looking for beginning of value",
    "other": 'Get "https://license.qlikcloud.com/x": something unheard of',
}


def unclear(number: int) -> list[str]:
    """Good syncs, and then some that end in unknown words."""
    lines = syncs(NOON - 5 * HOUR, NOON - 2 * HOUR) if number != 1 else []
    for age in [20 * place for place in range(number, 0, -1)]:
        lines.append(licenses_line(NOON - age * MINUTE, ATTEMPT))
        lines.append(licenses_line(NOON - age * MINUTE + 5, "assignment update failed: quota", caller="quota.go:7"))
    return lines


def looked(*pages: tuple[str, int | None], series: int = 0, names: tuple[str, ...] = ()) -> ServiceBoard:
    """A look at the Licenses service itself."""
    told = tuple(Page(path=path, status=status, problem="" if status else "No answer.") for path, status in pages)
    look = ServiceLook(target="localhost:9200", at=NOON - 5, pages=told, series=series, names=names)
    return ServiceBoard(LicensesServiceConfig(), look)


def by_turns(error: str) -> list[str]:
    lines: list[str] = []
    for number in range(120):
        lines += syncs(
            NOON - 20 * HOUR + 600 * number, NOON - 20 * HOUR + 600 * number, error="" if number % 3 == 0 else error
        )
    return lines


def situations() -> Iterator[Observation]:
    """Observations that reach the branches of the verdict which `test_verdict` does not need."""
    for error in ERRORS.values():
        yield observation(failing(error))
        yield observation(failing(error), probes=REACHED)
        yield observation(failing(error), probes=[history([result(NOON - 30, proxied=True)])])
        yield observation(by_turns(error))
    for reason in REASONS:
        yield observation(GOOD, probes=unreachable(reason))
        yield observation(failing(NO_SUCH_HOST), probes=unreachable(reason, proxied=True))
        yield observation(GOOD, probes=[repository([result(NOON - 30, reason)])])
    for number in (1, 2, 4):
        yield observation(unclear(number))
    yield observation([*syncs(NOON - 90 * HOUR, NOON - 80 * HOUR), *unclear(4)[-8:]])
    yield observation(
        [
            *syncs(NOON - 3 * HOUR, NOON - 2 * HOUR),
            *syncs(NOON - 90 * MINUTE, NOON - 90 * MINUTE, error=NO_SUCH_HOST),
            *unclear(4)[-8:],
        ]
    )
    refused = [refusal(NOON - number, f"u{number}") for number in range(1, 15)]
    dead = [licenses_line(NOON - 60, STALE)]
    for rows in ([], refused[:1], refused):
        yield observation(dead, rows)
        yield observation(GOOD, rows)
        yield observation(failing(NO_SUCH_HOST), rows)
        yield observation(invalid_lines(30), rows)
        for kind in ("offline", "lef"):
            for lines in ([], dead, invalid_lines(3), GOOD):
                yield observation(lines, rows, license=LicenseConfig(kind=kind))
    yield observation([*syncs(NOON - 30 * HOUR, NOON - 40 * MINUTE), *dead])
    yield observation(
        GOOD, probes=[history([result(NOON - 30)]), history([result(NOON - 30, "proxy_auth", proxied=True)])]
    )
    yield observation(
        GOOD, probes=[history([result(NOON - 30, proxied=True)]), history([result(NOON - 30, "tcp_timeout")])]
    )
    yield observation(failing(NO_SUCH_HOST), probes=[history([result(NOON - 30, judged=False, proxied=True)])])
    yield observation(GOOD, probes=[history([result(NOON - 30, issuer_expected=False)])])
    yield observation([], logs={"licenses": LogFigures(files=1, listed=True)}, covered_since=NOON - 3 * DAY)
    yield observation([licenses_line(NOON - HOUR, "started"), licenses_line(NOON - 50 * MINUTE, NO_SUCH_HOST)])
    synchronising = LicenseConfig(kind="signed_key")
    yield observation([], license=synchronising, covered_since=NOON - 3 * DAY)
    updated = observation([], license=synchronising)
    updated.state.qrs_success = NOON - HOUR
    yield updated
    bought = overview(
        capacity_allocated=6000.0,
        capacity_used=5700.0,
        sessions_per_user_max=5.0,
        access={"professional": AccessType(10, 10, 5, 0, 2, 0), "analyzer": AccessType(10, 10, 5, 0, 0, 0)},
    )
    burst = [refusal(NOON - number, "burster", sessions=5, number=number) for number in range(1, 8)]
    yield observation(GOOD, [*burst, *refused], qrs=board(bought))
    yield observation(
        GOOD,
        [*burst[:1], audit_row(NOON - 60, "u", "Command=Open app;Result=200", "opened")],
        qrs=board(bought),
        probes=[repository([result(NOON - 30, "tcp_refused")])],
    )
    yield observation(GOOD, logs={"licenses": LogFigures(listed=True), "repository_audit": LogFigures(listed=True)})
    yield replace(observation(GOOD), service=looked(("/health", 200), ("/ready", 200), ("/metrics", 200), series=3))
    yield replace(observation(GOOD), service=looked(("/metrics", 200), series=3, names=("license_syncs_total",)))
    yield replace(observation(GOOD), service=looked(("/health", 404), ("/ready", 404), ("/metrics", 404)))
    yield replace(observation(GOOD), service=looked(("/health", 200), ("/ready", 503)))
    yield replace(observation(GOOD), service=looked(("/health", None)))


@cache
def findings() -> tuple[Finding, ...]:
    """Everything that the verdict finds, in the situations of `test_verdict` and in those above, for each product."""
    every = [judgement for _, judgement in judged()]
    for seen in situations():
        every += [judge(replace(seen, product=product)) for product in PRODUCTS.values()]
    return tuple(finding for judgement in every for finding in (judgement, *judgement.also))


# --- the list --------------------------------------------------------------------------------------------------------


def distinct(sentences: Iterable[str]) -> list[str]:
    """One of those that differ in figures only, in alphabetical order."""
    alike: dict[str, str] = {}
    for sentence in sorted(set(sentences)):
        alike.setdefault(re.sub(r"\d+", "0", re.sub(r"\(?[^(;,]*(?: ago|just now)\)?", "", sentence)), sentence)
    return sorted(alike.values())


def templates(path: str) -> set[str]:
    """The texts of two words or more in a module's source, but for its docstrings, its HTML and its regular expressions."""
    tree = ast.parse((ROOT / "exporter" / path).read_text("utf-8"))
    notes = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set()

    def visit(node: ast.AST) -> None:
        if node in notes and isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            found.add(text)
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    visit(part.value)
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    plain = {" ".join(re.sub(r"<[^>]*>?|^[^<]*>", " ", text).split()) for text in found if "\\" not in text}
    return {text for text in plain if len(re.findall(r"[A-Za-z]{2,}", text)) > 1 and " " in text}


def sections() -> dict[str, list[str]]:
    """The whole list."""
    told = findings()
    probes = sorted(path.name for path in (ROOT / "exporter/probes").glob("*.py"))
    kinds = ("summary", "description", "first_step")
    shipped = {f"{key}: {alert.annotations[key]}" for alert in alerts() for key in kinds}
    return {
        "Verdict: summaries": distinct(finding.summary for finding in told),
        "Verdict: what users see": distinct(finding.users_see for finding in told),
        "Verdict: why": distinct(sentence for finding in told for sentence in finding.evidence),
        "Verdict: what to do": distinct(step for finding in told for step in finding.cure),
        "Probes": sorted(set[str]().union(*(templates(f"probes/{name}") for name in probes))),
        "Proxy of the Licenses service": sorted(templates("services_conf.py")),
        **{f"Command {Path(path).stem}": sorted(templates(path)) for path in COMMANDS},
        "Remote write": sorted(templates("remote_write/receiver.py")),
        "Page": sorted(templates("web/page.py")),
        "Alerts": [" ".join(text.split()) for text in sorted(shipped)],
    }


@pytest.mark.slow
def test_the_list_of_sentences_is_the_one_that_was_read() -> None:
    lines = []
    for title, sentences in sections().items():
        lines += [f"== {title}", "", *sentences, ""]
    text = "\n".join(lines)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
    assert text.splitlines() == GOLDEN.read_text("utf-8").splitlines(), "read them, then UPDATE_GOLDEN=1"


@pytest.mark.parametrize("path", [*VERDICT, "products.py"])
def test_the_situations_reach_every_text_of_the_verdict(path: str) -> None:
    """So every function that makes a finding is reached, too, in each of its branches that says something else."""
    told = " ".join(
        " ".join((finding.summary, finding.users_see, *finding.evidence, *finding.cure)) for finding in findings()
    )
    parts = {part.strip() for text in templates(path) for part in re.split(r"{.*?}", text) if "[" not in part}
    assert "\n".join(part for part in sorted(parts) if len(part.split()) > 2 and part not in told) == ""


def test_every_finding_is_made_of_whole_sentences() -> None:
    for finding in findings():
        for sentence in (finding.summary, finding.users_see, *finding.evidence, *finding.cure):
            assert sentence[0].isupper() or sentence[0].isdigit() or sentence[0] in '"`', sentence
            assert sentence.endswith((".", "?", ".)")), sentence
            assert not re.search(
                r"\b1 (?:\w+ )?\w+s (?:were|are|have|in)\b|  |\.\.(?!\.)|: and\b|\bNone\b|<number>", sentence
            ), sentence
