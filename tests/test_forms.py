"""One source, every form: what `assets --format` writes says what the shipped rules say, and the programs take it."""

import json
import re
from pathlib import Path
from typing import Any

import _gojsonnet
import pytest
import yaml
from others import asked
from shipped import DEPLOY, REPOSITORY, RULES, alerts, output, parsed, rules

from exporter.cli import main

pytestmark = pytest.mark.slow

SOURCE = parsed(RULES)


def written(folder: Path, form: str, *more: str) -> Path:
    """The folder with the files of a form."""
    assert main(["assets", str(folder), "--format", form, *more]) == 0
    return folder


# --- jsonnet


def test_the_mixin_evaluates_to_the_rules_and_the_boards(tmp_path: Path) -> None:
    folder = written(tmp_path, "jsonnet")
    text = f"(import '{folder}/mixin.libsonnet') {{ all:: [self.prometheusAlerts, self.prometheusRules, self.grafanaDashboards] }}"
    alerting, recording, boards = json.loads(_gojsonnet.evaluate_snippet("mixin", f"({text}).all"))
    assert alerting == SOURCE
    assert recording == {"groups": []}
    shipped = sorted((REPOSITORY / "grafana/dashboards").glob("*.json"))
    assert boards == {path.name: json.loads(path.read_text("utf-8")) for path in shipped}


def test_a_mixin_can_be_added_to_another(tmp_path: Path) -> None:
    folder = written(tmp_path, "jsonnet")
    other = "{ prometheusAlerts+:: { groups+: [{ name: 'other', rules: [] }] } }"
    text = f"((import '{folder}/mixin.libsonnet') + {other}).prometheusAlerts"
    groups = json.loads(_gojsonnet.evaluate_snippet("mixin", text))["groups"]
    assert [group["name"] for group in groups] == ["qlik-license", "other"]


# --- Grafana


def managed(folder: Path) -> list[dict[str, Any]]:
    file = folder / "provisioning/alerting/qlik-license.yml"
    whole = yaml.safe_load(file.read_text("utf-8"))
    assert whole["apiVersion"] == 1
    (group,) = whole["groups"]
    assert group.keys() == {"orgId", "name", "folder", "interval", "rules"}
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_grafana_manages_every_alert_with_its_expression_wait_and_severity(tmp_path: Path) -> None:
    found = managed(written(tmp_path, "grafana"))
    expected = [(alert.expression, alert.waits or "0s", alert.severity) for alert in alerts()]
    assert [(r["data"][0]["model"]["expr"], r["for"], r["labels"]["severity"]) for r in found] == expected
    titles = [rule["title"] for rule in found]
    assert len(set(titles)) == len(titles)
    for rule, alert in zip(found, alerts(), strict=True):
        assert rule["title"] in (alert.name, f"{alert.name} ({alert.severity})")


def test_a_grafana_rule_has_the_documented_keys_and_is_quiet_where_nothing_is_found(tmp_path: Path) -> None:
    found = managed(written(tmp_path, "grafana"))
    for rule in found:
        assert rule.keys() == {
            "uid", "title", "condition", "data", "for", "noDataState", "execErrState", "annotations", "labels"
        }  # fmt: skip
        assert re.fullmatch(r"[\w-]{1,40}", rule["uid"])
        assert (rule["noDataState"], rule["execErrState"]) == ("OK", "Error")
        asked_of, condition = rule["data"]
        assert rule["condition"] == condition["refId"]
        for query in rule["data"]:
            assert query.keys() == {"refId", "relativeTimeRange", "datasourceUid", "model"}
            assert query["model"]["refId"] == query["refId"]
        assert condition["datasourceUid"] == "__expr__"
        assert f"${asked_of['refId']}" in condition["model"]["expression"]
    assert len({rule["uid"] for rule in found}) == len(found)


def test_a_grafana_rule_asks_the_data_source_that_is_provisioned(tmp_path: Path) -> None:
    sources = yaml.safe_load((REPOSITORY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    (uid,) = [source["uid"] for source in sources["datasources"]]
    assert {rule["data"][0]["datasourceUid"] for rule in managed(written(tmp_path, "grafana"))} == {uid}


def test_the_texts_for_grafana_use_nothing_that_only_prometheus_has(tmp_path: Path) -> None:
    for rule in managed(written(tmp_path, "grafana")):
        for key, text in rule["annotations"].items():
            assert not re.search(r"\| query\b|\$value\b(?!s)", text), text
            assert text.count("{{") == text.count("}}"), text
            assert key.startswith("__") or text.strip()
        assert rule["annotations"]["__dashboardUid__"].startswith("qlik-license-")


def test_the_links_of_grafana_rules_move_too(tmp_path: Path) -> None:
    links = ["--runbook-url", "https://wiki.example/qlik", "--dashboard-url", "https://grafana.example"]
    for rule in managed(written(tmp_path, "grafana", *links)):
        name = rule["title"].partition(" ")[0]
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/qlik/{name}"
        assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example/d/qlik-license-")


def test_prometheus_gets_the_recordings_that_grafana_reads(tmp_path: Path) -> None:
    file = written(tmp_path, "grafana") / "recordings.rules.yml"
    output("promtool", "check", "rules", file)
    (group,) = yaml.safe_load(file.read_text("utf-8"))["groups"]
    assert group["rules"] == [rule for rule in rules() if "record" in rule]


# --- the Prometheus operator


def objects(folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((folder / "qlik-license-operator.yml").read_text("utf-8")))


def test_the_operators_schemas_accept_its_objects(tmp_path: Path) -> None:
    found = objects(written(tmp_path, "operator"))
    assert [each["kind"] for each in found] == ["PrometheusRule", "ServiceMonitor", "ScrapeConfig"]
    assert asked("operator.mjs", found) == []


def test_the_schemas_refuse_what_is_wrong() -> None:
    wrong = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}}
    (sentence,) = asked("operator.mjs", [{**wrong, "spec": {"selector": {}, "endpoints": [{"interval": "30x"}]}}])
    assert "interval" in sentence


def test_the_operators_rules_are_those_of_prometheus(tmp_path: Path) -> None:
    assert objects(written(tmp_path, "operator"))[0]["spec"] == SOURCE


def test_the_service_monitor_finds_the_service_of_the_manifests_and_gives_site_and_node(tmp_path: Path) -> None:
    manifests = list(yaml.safe_load_all((DEPLOY / "kubernetes/qlik-license-exporter.yml").read_text()))
    (service,) = [each for each in manifests if each["kind"] == "Service"]
    (pods,) = [each["spec"]["template"]["metadata"] for each in manifests if each["kind"] == "StatefulSet"]
    monitor = objects(written(tmp_path, "operator"))[1]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    for relabeling in endpoint["relabelings"][1:]:
        (source,) = relabeling["sourceLabels"]
        labels = {"__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", name) for name in pods["labels"]}
        assert source in labels
    assert [each["targetLabel"] for each in endpoint["relabelings"]] == ["job", "site", "instance"]


@pytest.mark.parametrize("kind", [1, 2], ids=["ServiceMonitor", "ScrapeConfig"])
def test_scraped_by_the_operator_the_job_is_the_one_that_the_rules_know(tmp_path: Path, kind: int) -> None:
    spec = objects(written(tmp_path, "operator"))[kind]["spec"]
    relabelings = spec["relabelings"] if "relabelings" in spec else spec["endpoints"][0]["relabelings"]
    assert {"targetLabel": "job", "replacement": "qlik-license"} in relabelings
    assert 'expr: up{job="qlik-license"}' in RULES.read_text()


# --- Kustomize


def test_the_kustomize_base_takes_every_plain_manifest() -> None:
    folder = DEPLOY / "kubernetes"
    base = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert (base["apiVersion"], base["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    assert base["resources"] == sorted(path.name for path in folder.glob("*.yml"))


# --- Prometheus 3


def test_prometheus_newest_grammar_parses_every_expression_of_rules_and_boards() -> None:
    expressions = [str(rule["expr"]) for rule in rules()]
    for path in (REPOSITORY / "grafana/dashboards").glob("*.json"):
        board = json.loads(path.read_text("utf-8"))
        expressions += [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
        expressions += [mark["expr"] for mark in board["annotations"]["list"]]
    filled = [re.sub(r"\$__(rate_)?interval", "5m", each) for each in expressions]
    assert asked("promql.mjs", filled) == []


def test_the_grammar_refuses_what_is_no_promql() -> None:
    assert asked("promql.mjs", ["up{", "sum by (a) (up"]) != []
