"""The issue templates: well-formed, and asking for what the exporter itself can tell."""

import re

import pytest
import yaml
from shipped import REPOSITORY

from exporter.cli import COMMANDS

TEMPLATES = sorted(path for path in (REPOSITORY / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
TYPES = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_has_the_shape_that_forms_have(template) -> None:
    form = yaml.safe_load(template.read_text())
    assert {"name", "description", "body"} <= set(form)
    assert {part["type"] for part in form["body"]} <= TYPES
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields)
    assert all(part["attributes"]["label"] for part in fields)


def test_they_ask_for_unknown_messages_and_for_the_bundle_by_commands_that_exist() -> None:
    text = "".join(template.read_text() for template in TEMPLATES)
    commands = set(re.findall(r"qlik-license-exporter (\w+)", text))
    assert {"explain", "bundle"} <= commands <= set(COMMANDS)
    assert "explain --unknown" in text


def test_no_contact_is_named_that_does_not_exist() -> None:
    for page in (REPOSITORY / "SECURITY.md", *TEMPLATES):
        assert not re.search(r"[\w.]+@[\w-]+\.\w+|https?://", page.read_text())
