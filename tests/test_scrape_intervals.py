"""The longest scrape interval that every alert bears, two minutes, and samples that lie beside the evaluations.

Each group of the rule tests is played again with fewer samples. What was to fire must fire then, too, at most three
minutes earlier or later. Beside the evaluations a range holds the same samples whether it is closed on the left, as in
Prometheus 2, or open, as in Prometheus 3.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from shipped import DEPLOY, RULES, output

pytestmark = pytest.mark.slow

LONGEST = 2
"""Minutes between two scrapes; `deploy/prometheus/qlik-license.rules.yml` and docs/alerts.md name it."""
TOLERANCE = 3
"""Minutes that an alert may come earlier or later."""
FILES = ["access", "connectivity", "contract", "exporter", "license", "sites", "unknown"]
ABOUT_THE_INTERVAL = "QlikLicenseScrapedTooSeldom"


def minutes(values: str) -> Iterator[str]:
    """The values of a rule test, one for each minute, as promtool reads them."""
    for token in values.split():
        run = re.fullmatch(r"(-?[\d.]+)([+-][\d.]+)x(\d+)", token)
        same = re.fullmatch(r"(_|-?[\d.]+)x(\d+)", token)
        if run:
            yield from (f"{float(run[1]) + number * float(run[2]):.10g}" for number in range(int(run[3]) + 1))
        elif same:
            yield from [same[1]] * (int(same[2]) + (same[1] != "_"))
        else:
            yield token


def scraped(values: str, first: int, beside: bool) -> str:
    """The same, as a Prometheus sees it that scrapes every two minutes from minute `first` on, one value each 30 s."""
    seen: list[str] = []
    last = "_"
    gone = False
    for minute, value in enumerate(minutes(values)):
        gone |= value == "stale"
        sample = "_"
        if minute % LONGEST == first:
            if value not in ("_", "stale"):
                sample = last = value
            elif gone and last != "_":
                sample, last = "stale", "_"
            gone = False
        seen += ["_", sample] if beside else [sample, "_"]
    return " ".join(seen)


def wanted(expectation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """For each alert that is to fire, that it fires around that time."""
    if not expectation["eval_time"].endswith("m"):  # hours and days take long, and bear any interval
        return
    at = int(expectation["eval_time"].removesuffix("m"))
    for sample in expectation["exp_samples"]:
        labels = sample["labels"].removeprefix("ALERTS")
        expression = f"max_over_time(ALERTS{labels}[{2 * TOLERANCE}m])"
        yield {
            "expr": f"count({expression})",
            "eval_time": f"{at + TOLERANCE}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }


@pytest.mark.parametrize(("first", "beside"), [(0, False), (1, True)], ids=["on the evaluations", "beside them"])
@pytest.mark.parametrize("name", FILES)
def test_every_alert_bears_a_scrape_every_two_minutes(name: str, first: int, beside: bool, tmp_path: Path) -> None:
    tests = []
    # BaseLoader: `0x200` is no number here.
    text = (DEPLOY / "prometheus" / "tests" / f"{name}.yml").read_text()
    for group in yaml.load(text, yaml.BaseLoader)["tests"]:
        expected = [each for expectation in group["promql_expr_test"] for each in wanted(expectation)]
        if group["name"].startswith(ABOUT_THE_INTERVAL) or not expected:
            continue
        assert group["interval"] == "1m", group["name"]
        series = [{**one, "values": scraped(one["values"], first, beside)} for one in group["input_series"]]
        tests.append({"name": group["name"], "interval": "30s", "input_series": series, "promql_expr_test": expected})
    assert tests
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    output("promtool", "test", "rules", file)


def test_the_longest_interval_is_stated_where_people_look() -> None:
    assert "Scrape every two minutes or more often" in RULES.read_text()
    assert "Scrape every two minutes or more often" in (DEPLOY.parent / "docs/alerts.md").read_text("utf-8")


@pytest.mark.parametrize(
    "file",
    ["prometheus.yml", *[f"../fleet/prometheus-{kind}.yml" for kind in ("static", "files", "http", "kubernetes")]],
)
def test_every_scrape_configuration_that_we_ship_keeps_it(file: str) -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())
    for job in settings["scrape_configs"]:
        interval = job.get("scrape_interval", settings["global"]["scrape_interval"])
        seconds = {"s": 1, "m": 60}[interval[-1]] * int(interval[:-1])
        assert seconds <= LONGEST * 60
