"""The documentation: tables made from the code, examples that work, links that lead somewhere.

`UPDATE_DOCS=1` renews the tables.
"""

import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from exporter.cli import COMMANDS
from exporter.config import parse
from exporter.logs.messages import MESSAGES
from exporter.metrics import METRICS
from exporter.probes import CURES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(
    page
    for page in (
        *ROOT.glob("*.md"),
        *(page for part in ("docs", "deploy", "grafana", "tests") for page in (ROOT / part).rglob("*.md")),
    )
    if page.name != "CHANGELOG.md"
)


def metrics_table() -> str:
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in METRICS.values():
        labels = "; ".join(
            f"`{label}`" + (f": {', '.join(values)}" if values and len(values) < 18 else "")
            for label, values in metric.labels.items()
        )
        rows.append(
            f"| `{metric.name}` | {metric.kind}{' **D**' if metric.durable else ''} | {labels} | {metric.meaning} |"
        )
    return "\n".join(rows)


def messages_table() -> str:
    rows = ["| log | message | certainty | meaning |", "| --- | --- | --- | --- |"]
    rows += [f"| {message.log} | `{message.name}` | {message.certainty} | {message.sentence} |" for message in MESSAGES]
    return "\n".join(rows)


def commands_table() -> str:
    rows = ["| command | what it does |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{name}` | {command.sentence} |" for name, command in COMMANDS.items())])


def cures_table() -> str:
    rows = ["| reason | likely cure |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{reason}` | {cure} |" for reason, cure in CURES.items())])


@pytest.mark.parametrize(
    ("page", "name", "table"),
    [
        (DOCS / "metrics.md", "metrics", metrics_table()),
        (DOCS / "messages.md", "messages", messages_table()),
        (DOCS / "commands.md", "commands", commands_table()),
        (DOCS / "probes.md", "cures", cures_table()),
    ],
)
def test_the_tables_are_those_of_the_code(page: Path, name: str, table: str) -> None:
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = page.read_text("utf-8").partition(begin)
    found, _, after = rest.partition(end)
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(f"{before}{begin}\n{table}\n\n{end}{after}", "utf-8")
        return
    assert found.strip() == table, "UPDATE_DOCS=1 renews it"


def test_the_yaml_examples_are_configurations_that_load() -> None:
    configurations = [
        (page, block)
        for page in PAGES
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        if isinstance(keys := yaml.safe_load(block), dict)
        and set(keys) <= {"logs", "license", "probes", "messages", "qrs", "remote_write", "state", "web"}
    ]
    assert len(configurations) >= 4
    for page, block in configurations:
        block = re.sub(r".*key_password_file.*\n", "", block)  # a file of the reader's own
        parse(
            block,
            str(page),
            {"LICENSE_PROXY": "http://u:p@proxy:3128", "PROXY": "http://u:p@proxy:3128", "PROXY_PASSWORD": "p"},
        )


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_that_any_file_names_exists() -> None:
    named: set[tuple[str, str]] = set()
    for folder in ("exporter", "deploy", "grafana", "tests", "docs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".md", ".yml", ".service", ".ps1", ".xml", ".wxs"}:
                named |= {(str(file), name) for name in re.findall(r"\bdocs/[\w-]+\.md\b", file.read_text("utf-8"))}
    assert named
    assert sorted((file, name) for file, name in named if not (ROOT / name).exists()) == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README.read_text("utf-8")))
    for page in sorted(linked):
        linked |= {f"docs/{name}" for name in re.findall(r"\]\(([\w-]+\.md)", (ROOT / page).read_text("utf-8"))}
    assert {f"docs/{page.name}" for page in DOCS.iterdir()} <= linked


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_the_source_distribution_carries_the_pages() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert {"docs", "README.md"} <= set(build["targets"]["sdist"]["include"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_registry_and_no_path_of_a_machine_is_named(page: Path) -> None:
    text = page.read_text("utf-8")
    for forbidden in ("py" + "pi.org", "python" + "hosted", "/work" + "/", "registry.npm"):
        assert forbidden not in text
