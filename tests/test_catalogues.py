"""The catalogues that code and tests refer to by number: docs/hazards.md, docs/cases.md, docs/qlik-facts.md.

`UPDATE_DOCS=1` renews the test modules that they name.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HAZARDS, CASES, FACTS = (ROOT / "docs" / name for name in ("hazards.md", "cases.md", "qlik-facts.md"))
ENTRY = re.compile(r"^- \*\*(\w+)\.\*\* (.*(?:\n  .*)*)", re.MULTILINE)
"""An entry of a catalogue: its number and its text."""
CASE_GROUP = re.compile(r"name: 'Case ([^:]*):")
"""How a group of rule tests names its cases."""


def entries(page: Path) -> dict[str, str]:
    found = ENTRY.findall(page.read_text("utf-8"))
    assert len(found) == len(dict(found)), "a number is given twice"
    return dict(found)


@cache
def sources() -> dict[Path, str]:
    """Every text of the project that may refer to a catalogue, except the catalogues."""
    folders = ("exporter", "deploy", "grafana", "tests", "docs")
    kinds = {".py", ".md", ".yml", ".sh", ".ps1", ".service"}
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in kinds]
    return {file: file.read_text("utf-8") for file in (*files, *ROOT.glob("*.md")) if file not in {HAZARDS, CASES}}


def numbers(pattern: str, number: str) -> Iterator[tuple[str, str]]:
    """Each file and each number in a reference: `pattern`, then numbers joined by commas, "and", "or" or "to"."""
    for file, text in sources().items():
        for listed in re.findall(rf"(?:{pattern})[ _]({number}(?:(?:,| and| or| to|, and) {number})*)(?![\w-])", text):
            yield from ((str(file.relative_to(ROOT)), each) for each in re.findall(number, listed))


def all_tests() -> Iterator[tuple[Path, str]]:
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        yield from (
            (file, name) for name in re.findall(r"^\s*(?:async )?def (test_\w+)", sources()[file], re.MULTILINE)
        )


def shown_by(kind: str) -> dict[str, set[str]]:
    """The test modules of each number."""
    found: dict[str, set[str]] = {}
    for file, name in all_tests():
        for number in re.findall(rf"{kind}_([a-d]?\d+)(?=_)", name):
            module = file.relative_to(ROOT / "tests").with_suffix("").as_posix()
            found.setdefault(number.upper(), set()).add(module)
    if kind == "case":
        for file in (ROOT / "deploy/prometheus/tests").glob("*.yml"):
            for group in CASE_GROUP.findall(file.read_text("utf-8")):
                for number in re.findall(r"[A-D]\d+", group):
                    found.setdefault(number, set()).add(file.name)
    return found


def test_every_hazard_that_anything_refers_to_is_in_the_catalogue() -> None:
    known = entries(HAZARDS)
    assert [use for use in numbers("[Hh]azards?", r"\d+") if use[1] not in known] == []


def test_every_case_that_anything_refers_to_is_in_the_catalogue() -> None:
    known = entries(CASES)
    used = [*numbers("[Cc]ases?", r"[A-Da-d]\d+"), *(("a test", number) for number in shown_by("case"))]
    assert len(used) > 20
    assert [use for use in used if use[1].upper() not in known] == []


def test_every_fact_that_anything_refers_to_is_on_the_page() -> None:
    text = FACTS.read_text("utf-8")
    sections = set(re.findall(r"^## (\d+)\. ", text, re.MULTILINE))
    traps = set(re.findall(r"^(\d+)\. ", text, re.MULTILINE))
    used = list(numbers("qlik-facts", r"\d+"))
    assert len(used) > 10
    assert [use for use in used if use[1] not in sections] == []
    assert [use for use in numbers("trap", r"\d+") if use[1] not in traps] == []


def test_the_name_of_a_test_begins_with_the_number_of_its_hazard_or_case() -> None:
    """One spelling, so that `pytest -k hazard_45_` finds all of them."""
    number = r"(?:hazard_\d+|case_[a-d]\d+)"
    spelt = re.compile(rf"test_{number}(?:_and_{number})*_[a-z0-9]")
    asked = re.compile(r"hazards?_\d|case_[a-d]\d|^test_\d{2,3}_")
    wrong = [f"{file.name}: {name}" for file, name in all_tests() if asked.search(name) and not spelt.match(name)]
    assert wrong == []


@pytest.mark.parametrize(("page", "kind"), [(HAZARDS, "hazard"), (CASES, "case")])
def test_an_entry_names_the_modules_that_test_it(page: Path, kind: str) -> None:
    modules = shown_by(kind)
    text = page.read_text("utf-8")
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(ENTRY.sub(lambda entry: renewed(entry, modules.get(entry[1], set())), text), "utf-8")
        return
    for number, entry in entries(page).items():
        named = re.search(r"^  \*Tests:\* ((?:`[\w/.]+`(?:, )?)+)\.", entry, re.MULTILINE)
        assert set(re.findall(r"`([\w/.]+)`", named[1] if named else "")) == modules.get(number, set()), (
            f"{kind} {number}: UPDATE_DOCS=1 renews the list"
        )
        assert page is CASES or named or "*No test of its own:* " in entry, number


def renewed(entry: re.Match[str], modules: set[str]) -> str:
    """The entry with the modules that test it, before the links that end it."""
    if not modules:
        return entry[0]
    lead, _, last = entry[0].rpartition("\n  ")
    return f"{lead}\n  *Tests:* {', '.join(f'`{module}`' for module in sorted(modules))}. {last[last.index('[') :]}"


def test_what_stands_for_a_missing_test_exists() -> None:
    names = {name for _, name in all_tests()}
    modules = {file.stem for file, _ in all_tests()}
    for number, entry in entries(HAZARDS).items():
        for name in re.findall(r"`(test_\w+)`", entry.partition("*No test of its own:*")[2]):
            assert name in names | modules, number
