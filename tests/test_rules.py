"""The recording and alerting rules: accepted by promtool, proven alert by alert, true to the metrics, listed in docs/alerts.md."""

import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import promql_parser
import pytest
import yaml
from shipped import DEPLOY, REPOSITORY, RULES, alerts, output, parsed, rules

from exporter.demo.scaled_rules import scaled
from exporter.metrics import METRICS

RULE_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
PROMISED = """
Stale critical, StaleUnconfirmed warning, LockoutImminent critical, ContactLost warning, ContactLost critical,
SyncOverdue warning, SyncFailing warning, SyncNotAttempted warning, SyncUnknown info, BackendErrors warning,
BackendUnreachable warning, BackendFlapping warning, TlsIntercepted warning, CertificateExpiring warning,
ClockSkew warning, ProbeStalled warning, RepositoryDown critical, LocalServiceDown warning, AccessDenied warning, AccessDeniedMassive critical,
ParallelSessions info, AllocationRefused warning, Expired critical, ExpiringSoon info, ExpiringSoon warning,
ExpiringSoon critical, SeatsExhausted warning, SeatsNearlyExhausted info, CapacityBurningFast warning,
CapacityNearlyExhausted warning, UnknownErrors info, LogSilent warning, LogUnreadable warning, LogLagging warning,
QrsUnreachable warning, QrsIncomplete info, StateNotSaved warning, ConfigReloadFailed warning, ExporterRestarting warning,
ExporterDown warning, ExporterDown critical, ExporterAbsent warning, ExporterFrozen warning, Stale warning,
LockoutImminent warning, SyncUnclear warning, ProbeNeverSucceeded warning, ProbeNotJudged info,
TargetWithoutSite warning, ScrapedTooSeldom warning, StateLost warning, SeatsExceeded warning,
LogSeveralWriters info, SeatsRunningOut info, CapacityRunningOut info, SeatsQuarantined info,
ExporterPushStopped warning, ExporterPushStopped critical, RemoteWriteFailing warning
"""
TARGET_LABELS = {"job", "site", "instance"}
TABLE_START, TABLE_END = "<!-- alerts -->\n\n", "\n\n<!-- /alerts -->"


def selectors(expression: str) -> Iterator[Any]:
    """Every series selector in a PromQL expression."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from found


@cache
def groups() -> list[dict[str, Any]]:
    """Every group of every rule test."""
    return [group for file in RULE_TESTS for group in parsed(file)["tests"]]


def firing(expectation: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Name, severity and site of the alerts that are to fire at one instant of a rule test."""
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"])) for sample in expectation.get("exp_samples") or []]
    return {(label["alertname"], label["severity"], label.get("site", "")) for label in labels}


def test_promtool_accepts_the_rules_and_finds_nothing_to_improve() -> None:
    output("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.slow
@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.stem)
def test_the_rules_behave_as_their_tests_say(file: Any) -> None:
    output("promtool", "test", "rules", file)


def test_every_promised_alert_is_there() -> None:
    promised = {tuple(("QlikLicense" + each.strip()).split()) for each in PROMISED.split(",")}
    assert promised <= {(alert.name, alert.severity) for alert in alerts()}


def test_every_alert_has_a_case_that_fires_one_just_below_that_is_silent_and_one_that_resolves() -> None:
    fires: set[tuple[str, str]] = set()
    silent: set[tuple[str, str]] = set()
    resolves: set[tuple[str, str]] = set()
    for group in groups():
        before: set[tuple[str, str, str]] = set()
        sites = {site for series in group["input_series"] for site in re.findall('site="(.*?)"', series["series"])}
        for expectation in group["promql_expr_test"]:
            assert expectation["expr"] == 'ALERTS{alertstate="firing"}', "an expectation lists all that fires"
            now = firing(expectation)
            for name, severity, site in now:
                if group["name"].startswith(name):
                    fires.add((name, severity))
                    others = sites - {site}
                    if any((name, severity, other) not in now for other in others) or not site:
                        silent.add((name, severity))
            resolves |= {(name, severity) for name, severity, _ in before - now}
            before = now
    shipped = {(alert.name, alert.severity) for alert in alerts()}
    assert shipped - fires == set()
    assert shipped - silent == set()
    assert shipped - resolves == set()


def test_every_alert_that_the_exporter_names_is_shipped() -> None:
    shipped = {alert.name for alert in alerts()}
    for source in sorted((REPOSITORY / "exporter").rglob("*.py")):
        for name in re.findall(r'"(QlikLicense[A-Z]\w*)"', source.read_text("utf-8")):
            assert name in shipped, f"{source.name}: {name}"


@pytest.mark.parametrize("letter", "ABC")
def test_the_cases_of_each_kind_are_told_as_scenarios(letter: str) -> None:
    assert [group["name"] for group in groups() if re.search(rf"Case.* {letter}\d", group["name"])]


def labels_of(name: str) -> dict[str, Any]:
    """The labels of a metric, or of the metrics that a recording is made of, with their closed values."""
    for rule in rules():
        if rule.get("record") == name:
            parts = {selector.name for selector in selectors(rule["expr"])} - {"up", name}  # it may read itself
            return {label: values for part in parts for label, values in labels_of(part).items()}
    assert name in METRICS, f"{name} is no metric"
    return dict(METRICS[name].labels)


def test_every_metric_and_label_value_in_the_rules_exists_in_the_code() -> None:
    for rule in rules():
        for selector in selectors(rule["expr"]):
            if selector.name == "up":
                continue
            labels = labels_of(selector.name)
            for matcher in selector.matchers.matchers:
                if matcher.name == "site":
                    assert matcher.value == "", "a site is asked for, or none; no name of one"
                    continue
                assert matcher.name in labels, f"{selector.name} has no label {matcher.name}"
                for value in matcher.value.split("|"):
                    assert value in labels[matcher.name], f"{selector.name} never has {matcher.name}={value}"


def test_every_series_in_the_rule_tests_exists_in_the_code() -> None:
    for group in groups():
        for series in group["input_series"]:
            (selector,) = selectors(series["series"])
            if selector.name == "up":
                continue
            labels = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert selector.name in METRICS, f"{selector.name} is no metric"
            assert labels.keys() - TARGET_LABELS == METRICS[selector.name].labels.keys(), series["series"]
            for label, values in METRICS[selector.name].labels.items():
                assert values is None or labels[label] in values, series["series"]


def test_the_job_name_and_the_massive_number_stand_in_one_place_each() -> None:
    expressions = [str(rule["expr"]) for rule in rules()]
    assert len([each for each in expressions if "job=" in each]) == 1
    assert len([each for each in expressions if "vector(10)" in each]) == 1
    assert not [each for each in expressions if re.search(r">= ?10\b", each)]


def aggregations(expression: str) -> Iterator[tuple[set[str], Any]]:
    """Every aggregation in a PromQL expression: the labels that it keeps, and what it aggregates."""
    found: list[tuple[set[str], Any]] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.append((set(node.modifier.labels), node.expr))

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from found


def test_targets_without_a_site_are_never_aggregated_with_each_other() -> None:
    """What drops `instance` takes only series that have a site."""
    for rule in rules():
        for kept, inner in aggregations(rule["expr"]):
            if {"site", "instance"} <= kept:
                continue
            for selector in selectors(inner.prettify()):
                sited = [m for m in selector.matchers.matchers if m.name == "site" and m.value == ""]
                recorded = selector.name.startswith("job_site:")  # told apart there
                assert recorded or sited or "site!=" in inner.prettify(), rule


def test_no_text_needs_a_site() -> None:
    for alert in alerts():
        if (
            "by (job, site)" in alert.expression
            or "and on (job, site)" in alert.expression
            or 'site!=""' in alert.expression
        ):
            continue
        for text in alert.annotations.values():
            assert not re.search(r"\{\{ \$labels\.site \}\}", text), (alert.name, text)


def test_alerts_on_durable_counters_leave_out_a_counter_that_was_set_back() -> None:
    durable = {name for name, metric in METRICS.items() if metric.durable}
    for rule in rules():
        counters = {selector.name for selector in selectors(rule["expr"])} & durable
        counters.discard("qlik_license_sync_attempts_total")  # there it only silences
        for counter in counters:
            assert re.search(rf"unless resets\({counter}\b", rule["expr"]), rule


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_the_texts_say_what_is_wrong_what_users_see_and_what_to_do_first(alert: Any) -> None:
    assert alert.annotations.keys() == {
        "summary",
        "description",
        "users_see",
        "first_step",
        "runbook_url",
        "dashboard_url",
    }
    assert len(alert.annotations["summary"]) < 110, "a phone shows one or two lines"


def alerts_table() -> str:
    """The table of docs/alerts.md, from the rules."""
    rows = ["| alert | severity | for | meaning |", "| --- | --- | --- | --- |"]
    seen: dict[str, list[Any]] = {}
    for alert in alerts():
        seen.setdefault(alert.name, []).append(alert)
    for name, same in seen.items():
        severities = ", ".join(alert.severity for alert in same)
        summary = re.sub(r"\s+", " ", re.sub(r"\{\{ with .*?end \}\}", "", same[0].annotations["summary"]))
        summary = re.sub(r"\{\{ (?:or )?\$labels\.(\w+)(?: \$labels\.instance)? \}\}", r"*\1*", summary)
        rows.append(f"| [{name}](../deploy/runbooks/{name}.md) | {severities} | {same[0].waits or '-'} | {summary} |")
    return "\n".join(rows)


def test_the_documentation_lists_the_alerts_as_shipped() -> None:
    page = REPOSITORY / "docs/alerts.md"
    before, _, rest = page.read_text("utf-8").partition(TABLE_START)
    found, _, after = rest.partition(TABLE_END)
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(before + TABLE_START + alerts_table() + TABLE_END + after, "utf-8")
        return
    assert found == alerts_table(), "UPDATE_DOCS=1 renews it"


def test_scaled_rules_shorten_waits_ranges_and_spans_and_leave_the_exporters_own_pace() -> None:
    text = """
        expr: last_over_time(a[3d]) - time() < 48 * 3600 and b[6h] > 300 and c[3600s]
              and d[14d:6h] offset 7d and e[2h:30m]
        for: 15m
"""
    assert (
        scaled(text, 1 / 7200)
        == """
        expr: last_over_time(a[36000ms]) - time() < 24 and b[10000ms] > 300 and c[3600s]
              and d[168000ms:3000ms] offset 84000ms and e[10000ms:1000ms]
        for: 2000ms
"""
    )


def test_scaled_rules_are_rules_still(tmp_path: Any) -> None:
    file = tmp_path / "scaled.yml"
    file.write_text(scaled(RULES.read_text(), 60 / 432000))
    output("promtool", "check", "rules", "--lint=all", "--lint-fatal", file)
    left = re.sub(r"^ *#.*$", "", file.read_text(), flags=re.MULTILINE)
    assert not re.search(
        r"\[\d+[mhd][]:]|:\d+[mhd]\]|offset \d+[hd]|for: \d+[mhd]$|\* (3600|86400)\b", left, re.MULTILINE
    ), "a span was left as it was"


def said(tmp_path: Any, group: dict[str, Any], time: str, alert: str) -> str:
    """What an alert of a rule test says at one instant."""
    file = tmp_path / "said.yml"
    check = {"eval_time": time, "alertname": alert, "exp_alerts": []}
    test = {key: value for key, value in group.items() if key != "promql_expr_test"} | {"alert_rule_test": [check]}
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1h", "tests": [test]}))
    told = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    return re.sub(r"\s+", " ", told.stdout + told.stderr)


@pytest.mark.slow
def test_a_forecast_says_the_day(tmp_path: Any) -> None:
    group = next(group for group in groups() if group["name"] == "QlikLicenseSeatsRunningOut")
    assert "is given away around 1970-02-11 (UTC)" in said(tmp_path, group, "14d", group["name"])
    group = next(group for group in groups() if group["name"] == "QlikLicenseCapacityRunningOut")
    assert "are used up around 1970-01-2" in said(tmp_path, group, "10d", group["name"])


@pytest.mark.slow
def test_a_license_that_expires_soon_says_the_day(tmp_path: Any) -> None:
    target = 'job="qlik-license",site="Lyon",instance="n1"'
    expiry = {"series": f"qlik_license_expiry_timestamp_seconds{{{target}}}", "values": "1814399x24"}
    group = {"interval": "1h", "input_series": [expiry]}
    assert "it ends on 1970-01-21 (UTC)." in said(tmp_path, group, "10h", "QlikLicenseExpiringSoon")
