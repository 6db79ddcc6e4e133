"""The shipped rules and the programs that judge them; for the tests of rules, routes, runbooks, compose and the live chain."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "deploy"
RULES = DEPLOY / "prometheus" / "qlik-license.rules.yml"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
RUNBOOKS = DEPLOY / "runbooks"

_PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
}


def parsed(file: Path) -> Any:
    """A YAML file. By libyaml where PyYAML has it: the rules and their tests take seconds without."""
    return yaml.load(file.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def program(name: str) -> str:
    """The path of a program; a test that needs a missing one fails and says what to install."""
    found = shutil.which(name)
    assert found, f"needs {name}: apt-get install {_PACKAGES[name]}"
    return found


def output(name: str, *arguments: object) -> str:
    """What a program prints; the test fails with it when the program does."""
    done = subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"{name} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Alert:
    """One alerting rule as shipped."""

    name: str
    severity: str
    expression: str
    waits: str
    annotations: dict[str, str]


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule as shipped, recordings first."""
    return [rule for group in parsed(RULES)["groups"] for rule in group["rules"]]


@cache
def alerts() -> list[Alert]:
    """Every alerting rule as shipped."""
    return [
        Alert(rule["alert"], rule["labels"]["severity"], rule["expr"], rule.get("for", ""), rule["annotations"])
        for rule in rules()
        if "alert" in rule
    ]


def conditions(name: str) -> list[str]:
    """The expressions of an alert or a recording, each with those of the recordings that it reads."""
    recorded = {rule["record"]: str(rule["expr"]) for rule in rules() if "record" in rule}
    whole = []
    for rule in rules():
        if name in (rule.get("alert"), rule.get("record")):
            parts, left = [], [str(rule["expr"])]
            while left:
                parts.append(left.pop())
                read = [each for each in recorded if re.search(rf"(?<![\w:]){each}(?![\w:])", parts[-1])]
                left += [recorded[each] for each in read if recorded[each] not in (*parts, *left)]
            whole.append("\n".join(parts))
    return whole
