"""The README's tables are made from the code. `UPDATE_README=1` writes them anew."""

import os
import re
from pathlib import Path

import pytest
import yaml

from exporter.cli import COMMANDS
from exporter.config import parse
from exporter.logs.messages import MESSAGES
from exporter.metrics import METRICS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


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
    rows = ["| log | message | standing | meaning |", "| --- | --- | --- | --- |"]
    rows += [f"| {message.log} | `{message.name}` | {message.certainty} | {message.sentence} |" for message in MESSAGES]
    return "\n".join(rows)


def commands_table() -> str:
    rows = ["| command | what it does |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{name}` | {command.sentence} |" for name, command in COMMANDS.items())])


@pytest.mark.parametrize(
    ("name", "table"), [("metrics", metrics_table()), ("messages", messages_table()), ("commands", commands_table())]
)
def test_the_readmes_tables_are_those_of_the_code(name: str, table: str) -> None:
    text = README.read_text("utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    found, _, after = rest.partition(end)
    if os.environ.get("UPDATE_README"):
        README.write_text(f"{before}{begin}\n{table}\n\n{end}{after}", "utf-8")
        return
    assert found.strip() == table


def test_the_readmes_yaml_examples_are_usable() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    configurations = [
        block
        for block in blocks
        if set(yaml.safe_load(block)) <= {"logs", "license", "probes", "messages", "qrs", "state", "web"}
    ]
    assert len(configurations) >= 2
    for block in configurations:
        block = re.sub(r".*key_password_file.*\n", "", block)  # a file of the reader's own
        parse(block, "README.md", {"LICENSE_PROXY": "http://u:p@proxy:3128", "PROXY": "http://u:p@proxy:3128"})


def test_the_readmes_links_lead_somewhere() -> None:
    text = README.read_text("utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (ROOT / target.partition("#")[0]).exists(), target


def test_no_registry_and_no_path_of_a_machine_is_named() -> None:
    text = README.read_text("utf-8")
    for forbidden in ("py" + "pi.org", "python" + "hosted", "/work" + "/", "registry.npm"):
        assert forbidden not in text
