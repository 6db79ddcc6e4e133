"""The examples for fleets and Kubernetes: accepted by the tools that read them, and every target has its site."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
FLEET = DEPLOY / "fleet"
MANIFESTS = DEPLOY / "kubernetes" / "qlik-license-exporter.yml"
EXAMPLES = sorted(FLEET.glob("prometheus-*.yml"))


def check_config(file: Path) -> str:
    assert shutil.which("promtool"), "needs promtool: apt-get install prometheus"
    done = subprocess.run(["promtool", "check", "config", "--syntax-only", file], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_prometheus_accepts_the_example(example: Path, tmp_path: Path) -> None:
    # Debian's Prometheus is built without Kubernetes: there the rest of the example is checked.
    text = example.read_text().replace("kubernetes_sd_configs:", "http_sd_configs:")
    text = text.replace("- role: pod", "- url: http://localhost/").replace("namespaces: {names: [monitoring]}", "")
    (tmp_path / example.name).write_text(text)
    assert check_config(tmp_path / example.name) == ""


def sites(example: Path) -> list[str | None]:
    """The site of every group of targets that the example names or finds."""
    found: list[str | None] = []
    for job in yaml.safe_load(example.read_text())["scrape_configs"]:
        found += [group.get("labels", {}).get("site") for group in job.get("static_configs", [])]
        for files in job.get("file_sd_configs", []):
            for pattern in files["files"]:
                groups = [group for file in FLEET.glob(pattern) for group in yaml.safe_load(file.read_text())]
                found += [group.get("labels", {}).get("site") for group in groups]
        if "http_sd_configs" in job:
            groups = json.loads((FLEET / "http-targets.json").read_text())
            found += [group.get("labels", {}).get("site") for group in groups]
        if "kubernetes_sd_configs" in job:
            found += [rule.get("target_label") for rule in job["relabel_configs"] if rule.get("target_label") == "site"]
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_every_target_of_the_example_has_a_site(example: Path) -> None:
    assert sites(example)
    assert None not in sites(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_the_example_loads_the_rules_that_we_ship(example: Path) -> None:
    patterns = yaml.safe_load(example.read_text())["rule_files"]
    assert [file for pattern in patterns for file in FLEET.glob(pattern)]


@pytest.mark.slow
def test_kubernetes_accepts_the_manifests() -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    assert program.exists(), "needs kubernetes-validate: pip install kubernetes-validate"
    done = subprocess.run([program, "--strict", MANIFESTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("passed for resource") + done.stdout.count("passed for resource") == 5


def test_the_pod_is_as_restricted_as_kubernetes_asks_for_and_has_one_owner_of_its_state() -> None:
    kinds = {part["kind"]: part for part in yaml.safe_load_all(MANIFESTS.read_text())}
    pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert kinds["StatefulSet"]["spec"]["replicas"] == 1
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["state"]
