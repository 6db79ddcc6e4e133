"""What an alert, its runbook and the verdict tell people to do agree. The probe's cures are in one place, `CURES`."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import test_verdict
from shipped import RUNBOOKS, alerts

from exporter.observation import Observation
from exporter.probes import CURES
from exporter.products import SENSE
from exporter.verdict import Finding, Judgement, judge

REMEDIES = {
    "restart the Licenses service": r"restart [^.:;]*Service Dispatcher",
    "force a sync": r"change one character|force (?:a sync|one)",
    "let the node connect": r"port 443|`qlik-license-exporter probe|likely cure",
    "compare the service's proxy": r"services\.conf|\[licenses\.parameters\]|proxy setting",
    "exempt from inspection": r"exempt [^.]*(?:inspection|host)",
    "set the clock": r"w32tm",
    "apply the renewed license": r"renewed license|the renewal",
    "add a message": r"`messages:`|`explain --unknown`",
    "assign a license": r"assign",
    "take seats back": r"[Tt]ake (?:back|seats)|seats back",
    "more minutes": r"[Bb]uy more minutes",
    "find the job": r"technical account",
    "start the Repository": r"[Ss]tart the (?:Windows service )?\*?Qlik Sense Repository",
    "correct the logs": r"`logs:`",
}
"""What people can do, and how it is recognised in a text."""


def remedies(text: str) -> set[str]:
    flat = " ".join(text.split())
    return {name for name, pattern in REMEDIES.items() if re.search(pattern, flat, re.IGNORECASE)}


@cache
def page(alert: str) -> str:
    return (RUNBOOKS / f"{alert}.md").read_text("utf-8")


def part(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@cache
def told(alert: str) -> str:
    """What the runbook has people do: its own sections, and those of the pages that its *Fix* sends them to."""
    linked = re.findall(r"\]\((\w+)\.md\)", part(page(alert), "Fix"))
    own = [part(page(alert), title) for title in ("Check", "Fix")]
    return "\n".join([*own, *(part(page(name), "Fix") for name in linked)])


def cases(function: Callable[..., None]) -> list[dict[str, object]]:
    """The arguments with which pytest calls a test."""
    given: list[list[dict[str, object]]] = []
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            names, values = mark.args
            names = names.split(",") if isinstance(names, str) else names
            given.append([dict(zip(names, row if len(names) > 1 else (row,), strict=True)) for row in values])
    known = {name for marks in given for name in marks[0]}
    if set(inspect.signature(function).parameters) != known:
        return []  # it wants a fixture
    return [{name: value for part in row for name, value in part.items()} for row in product(*given)]


@cache
def judged() -> tuple[tuple[Observation, Judgement], ...]:
    """The situations of `test_verdict`, and what the verdict says of each."""
    found: list[tuple[Observation, Judgement]] = []

    def noted(seen: Observation) -> Judgement:
        judgement = judge(seen)
        found.append((seen, judgement))
        return judgement

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_verdict, "judge", noted)
        for name, function in vars(test_verdict).items():
            if name.startswith("test_") and not hasattr(function, "hypothesis"):
                for arguments in cases(function):
                    function(**arguments)
    return tuple(found)


@cache
def findings() -> tuple[Finding, ...]:
    """Everything that the verdict finds in the situations of `test_verdict`, for Qlik Sense."""
    sense = [judgement for seen, judgement in judged() if seen.product is SENSE]
    return tuple(finding for judgement in sense for finding in (judgement, *judgement.also))


def test_the_situations_reach_every_alert_that_a_finding_names() -> None:
    source = "".join(
        Path(module.__file__ or "").read_text("utf-8")
        for module in (test_verdict.sync, test_verdict.rules, test_verdict.seat_rules, test_verdict.validity)
    )
    assert {finding.alert for finding in findings()} - {""} >= set(re.findall(r'"(QlikLicense\w+)"', source))


def test_a_runbook_tells_whatever_the_verdict_tells() -> None:
    missing = {
        (finding.alert, remedy)
        for finding in findings()
        if finding.alert
        for remedy in remedies(" ".join(step for step in finding.cure if step not in CURES.values()))
        - remedies(told(finding.alert))
    }
    assert missing == set()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_a_runbook_tells_whatever_the_first_step_of_its_alert_tells(alert: object) -> None:
    step = alert.annotations["first_step"]  # type: ignore[attr-defined]
    assert remedies(step) <= remedies(told(alert.name)), step  # type: ignore[attr-defined]


def test_no_runbook_and_no_alert_repeats_the_cures_of_a_probe() -> None:
    for file in RUNBOOKS.glob("*.md"):
        text = file.read_text("utf-8")
        assert [reason for reason, cure in CURES.items() if cure[:60] in text] == [], file.name
        listed = re.findall(r"^- `(\w+)`(?:, `\w+`)*: (?!\[)", part(text, "Fix"), re.MULTILINE)
        assert not set(listed) & set(CURES), f"{file.name}: the probe prints its cures itself"
