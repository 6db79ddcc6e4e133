"""The runbooks: one page for each alert, complete, and linked from it."""

import re
from typing import Any

import pytest
from shipped import RUNBOOKS, alerts

from exporter.metrics import METRICS

SECTIONS = ["Meaning", "What users see", "Check", "Fix", "Verify", "Escalate"]
RUNBOOK_URL = (
    'http://{{ with printf "instance:qlik_license_exporter_up{instance=%q} == 1 or '
    'job_site:qlik_license_exporter_answering{site=%q} or job_site:qlik_license_exporter_answering" '
    '$labels.instance $labels.site | query }}{{ . | first | label "instance" }}'
    '{{ else }}{{ or $labels.instance "localhost:10188" }}{{ end }}/runbooks/'
)
"""The own exporter if it answers, else one of the site, else any; they all serve the same pages."""
SITE_QUERY = "?var-site={{ urlquery $labels.site }}{{ with $labels.instance }}&var-instance={{ urlquery . }}{{ end }}"
PAGES = sorted(page for page in RUNBOOKS.glob("*.md") if page.stem != "README")


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {page.stem for page in PAGES} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_the_alert_links_to_its_page_and_to_its_board(alert: Any) -> None:
    assert alert.annotations["runbook_url"] == RUNBOOK_URL + alert.name
    assert re.fullmatch(
        re.escape("http://localhost:3000/d/") + r"qlik-license-\w+" + re.escape(SITE_QUERY),
        alert.annotations["dashboard_url"],
    )


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
        assert name in METRICS, name
    for link in re.findall(r"\]\((\w+\.md)\)", text):
        assert (RUNBOOKS / link).is_file(), link
