"""The runbooks: one page for each alert, complete, and linked from it."""

import re
from typing import Any

import pytest
from shipped import COMING, REPOSITORY, RULES, RUNBOOKS, alerts

from exporter.metrics import METRICS

SECTIONS = ["Meaning", "What users see", "Check", "Fix", "Verify", "Escalate"]
BASE = "https://github.com/qlik-license-exporter/qlik-license-exporter/blob/main/deploy/runbooks"
PAGES = sorted(page for page in RUNBOOKS.glob("*.md") if page.stem != "README")


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {page.stem for page in PAGES} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_the_alert_links_to_its_page(alert: Any) -> None:
    assert alert.annotations["runbook_url"] == f"{BASE}/{alert.name}.md"
    assert (REPOSITORY / "deploy" / "runbooks" / f"{alert.name}.md").is_file()


def test_one_command_at_the_top_of_the_rules_moves_every_link() -> None:
    (command,) = re.findall(
        r"^#   sed -i 's#(.*?)#https://YOUR\.WIKI#' qlik-license\.rules\.yml$", RULES.read_text(), re.MULTILINE
    )
    assert command == BASE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_has_every_section_and_something_in_it(page: Any) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert all(len(section.strip()) > 3 for section in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_names_only_metrics_and_pages_that_exist(page: Any) -> None:
    text = page.read_text()
    for name in re.findall(r"`(qlik_license_\w+)", text):
        assert name in METRICS or name in COMING, name
    for link in re.findall(r"\]\((\w+\.md)\)", text):
        assert (RUNBOOKS / link).is_file(), link
