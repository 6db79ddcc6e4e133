"""The alerting rules in the formats of other programs, generated from the shipped rules file. Pure.

Each generated file says what its format cannot express.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

GROUP = "qlik-license"
_GRAFANA_HEAD = """\
# Grafana-managed alert rules, made from the Prometheus rules by `assets --format grafana`. Provision this file below
# `provisioning/alerting`, and load `recordings.rules.yml` into the Prometheus that Grafana asks: the alerts read it.
# What does not carry over:
# - Recordings that read themselves (a figure that outlives its exporter) are Prometheus' own: hence that file.
# - Inhibition: where Alertmanager would mute the effects of a known cause, Grafana sends them all. Group by `site`.
# - `ALERTS`: the panel "Alerts firing now" of the boards stays empty. Use Grafana's own alert list.
# - Texts that ask Prometheus for more (`query`) are left out. `runbook_url` leads to the alert's own exporter, and is
#   empty for an alert of a whole site; give `--runbook-url`.
# - The data source is the one with the UID `prometheus`; change it here if yours has another.
# Not tried on a Grafana server: its keys are those that Grafana documents.
"""
_RECORDINGS_HEAD = """\
# The recordings that the Grafana-managed alert rules read, for Prometheus.
"""
_OPERATOR_HEAD = """\
# For the Prometheus operator: the rules, a ServiceMonitor for deploy/kubernetes, and a ScrapeConfig for the exporters
# on Windows nodes outside the cluster. Set their addresses and sites, and the labels by which your Prometheus finds
# these objects (`release: …`, for the charts that select by it).
"""
_MIXIN_HEAD = """\
// A monitoring mixin, made from the shipped rules and boards by `assets --format jsonnet`. The recordings stand in the
// same group as the alerts, so that every alert sees those of the same instant; so `prometheusRules` is empty.
"""


def jsonnet(rules_yaml: str, boards: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A monitoring mixin: its files. `boards`: the JSON of each by file name."""
    groups = json.dumps({"groups": yaml.safe_load(rules_yaml)["groups"]}, indent=2, ensure_ascii=False)
    imports = "".join(f"    '{name}': import 'dashboards/{name}',\n" for name in boards)
    yield (
        "mixin.libsonnet",
        f"{_MIXIN_HEAD}{{\n  prometheusAlerts+:: {groups},\n  prometheusRules+:: {{ groups: [] }},\n"
        f"  grafanaDashboards+:: {{\n{imports}  }},\n}}\n",
    )
    for name, text in boards.items():
        yield f"dashboards/{name}", text


def grafana(rules_yaml: str) -> Iterator[tuple[str, str]]:
    """Provisioning of Grafana-managed alert rules, and the recordings that they read."""
    (group,) = yaml.safe_load(rules_yaml)["groups"]
    recordings = [rule for rule in group["rules"] if "record" in rule]
    kept = {"groups": [{"name": GROUP, "rules": recordings}]}
    yield "recordings.rules.yml", _RECORDINGS_HEAD + _dumped(kept)
    alerts = [rule for rule in group["rules"] if "alert" in rule]
    names = Counter(rule["alert"] for rule in alerts)
    rules = [_grafana_rule(rule, alone=names[rule["alert"]] == 1) for rule in alerts]
    managed = {"orgId": 1, "name": GROUP, "folder": "Qlik license", "interval": "1m", "rules": rules}
    yield "provisioning/alerting/qlik-license.yml", _GRAFANA_HEAD + _dumped({"apiVersion": 1, "groups": [managed]})


def _grafana_rule(rule: dict[str, Any], alone: bool) -> dict[str, Any]:
    """One rule. Its title, which Grafana uses as `alertname`, names the severity if the alert has several."""
    name, severity = rule["alert"], rule["labels"]["severity"]
    annotations = {key: _grafana_text(key, name, text) for key, text in rule["annotations"].items()}
    board = re.search(r"/d/([\w-]+)", rule["annotations"].get("dashboard_url", ""))
    if board:
        annotations["__dashboardUid__"] = board[1]
    identity = hashlib.sha256(f"{name} {severity}".encode()).hexdigest()[:16]
    # An alert is whatever the expression returns, also a 0; the condition of Grafana is a number that is not 0.
    found = {"refId": "B", "type": "math", "expression": "is_number($A) || is_inf($A)"}
    return {
        "uid": f"qlik-{identity}",
        "title": name if alone else f"{name} ({severity})",
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": "prometheus",
                "model": {"refId": "A", "expr": str(rule["expr"]), "instant": True, "range": False},
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": "__expr__",
                "model": {**found, "datasource": {"type": "__expr__", "uid": "__expr__"}},
            },
        ],
        "for": rule.get("for", "0s"),
        "noDataState": "OK",
        "execErrState": "Error",
        "annotations": annotations,
        "labels": {"severity": severity},
    }


def _grafana_text(key: str, name: str, text: str) -> str:
    """The text without what only Prometheus can do; Grafana's `$value` is a string, its figure `$values.A.Value`."""
    if key == "runbook_url":
        text = re.sub(
            r"^http://\{\{ with printf .*$",
            f"{{{{ with $labels.instance }}}}http://{{{{ . }}}}/runbooks/{name}{{{{ end }}}}",
            text,
        )
    text = re.sub(r"\s*\{\{-? with printf .*?\| query \}\}.*\{\{ end \}\}", "", text, flags=re.DOTALL)
    return re.sub(r"\$value\b", "$values.A.Value", text)


def operator(rules_yaml: str) -> Iterator[tuple[str, str]]:
    """Objects of the Prometheus operator."""
    labels = {"app.kubernetes.io/name": "qlik-license-exporter"}
    meta = {"name": "qlik-license-exporter", "namespace": "monitoring", "labels": labels}
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": meta,
        "spec": {"groups": yaml.safe_load(rules_yaml)["groups"]},
    }
    job = {"targetLabel": "job", "replacement": "qlik-license"}
    site = {"sourceLabels": ["__meta_kubernetes_pod_label_qlik_site"], "targetLabel": "site"}
    node = {"sourceLabels": ["__meta_kubernetes_pod_label_qlik_node"], "targetLabel": "instance"}
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": labels},
            "endpoints": [{"port": "metrics", "interval": "30s", "relabelings": [job, site, node]}],
        },
    }
    outside = {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "ScrapeConfig",
        "metadata": {**meta, "name": "qlik-license-windows"},
        "spec": {
            "jobName": "qlik-license",
            "scrapeInterval": "30s",
            "staticConfigs": [
                {"targets": ["node1.example:10188", "node2.example:10188"], "labels": {"site": "production"}}
            ],
            "relabelings": [job],
        },
    }
    yield "qlik-license-operator.yml", _OPERATOR_HEAD + "---\n".join(_dumped(each) for each in (rule, monitor, outside))


class _Dumper(yaml.SafeDumper):
    """YAML as a person would write it: texts of several lines as blocks, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dumped(tree: object) -> str:
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000)
