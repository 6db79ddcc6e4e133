"""The compose file: of the right shape, with every mounted file in place, and each mounted configuration accepted by its program."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from shipped import DEPLOY, REPOSITORY, output

from exporter import config

COMPOSE = DEPLOY / "compose.yml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
PROBLEM = "check-jsonschema: pip install check-jsonschema"


def mounts(service: str) -> dict[str, Path]:
    """The files and folders of this repository that a service sees, by the path where it sees them."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        source, _, target = volume.partition(":/")
        if source.startswith("."):
            found["/" + target.removesuffix(":ro")] = (COMPOSE.parent / source).resolve()
    return found


def as_seen_by(service: str, root: Path) -> Path:
    """The mounts of a service, laid out below `root` as in its container."""
    for target, source in mounts(service).items():
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copy(source, place)
    return root


@pytest.mark.slow
def test_the_compose_file_has_the_shape_that_compose_expects() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n(needs {PROBLEM})"


@pytest.mark.parametrize("service", SERVICES)
def test_every_mounted_file_exists_and_is_read_only(service: str) -> None:
    assert mounts(service)
    assert [str(path) for path in mounts(service).values() if not path.exists()] == []
    named = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for volume in SERVICES[service]["volumes"]:
        assert ":ro" in volume or volume.partition(":")[0] in named, volume


def test_prometheus_accepts_what_it_sees_and_scrapes_the_exporter_with_its_site(tmp_path: Path) -> None:
    file = as_seen_by("prometheus", tmp_path) / "etc/prometheus/prometheus.yml"
    assert "1 rule files found" in output("promtool", "check", "config", file)
    (job,) = yaml.safe_load(file.read_text())["scrape_configs"]
    (group,) = job["static_configs"]
    assert group["targets"] == ["exporter:10188"]
    assert group["labels"]["site"]


def test_alertmanager_accepts_what_it_sees(tmp_path: Path) -> None:
    file = as_seen_by("alertmanager", tmp_path) / "etc/alertmanager/alertmanager.yml"
    assert "1 templates" in output("amtool", "check-config", file)


def test_the_exporter_accepts_what_it_sees_and_reads_from_where_the_logs_are_mounted(tmp_path: Path) -> None:
    file = as_seen_by("exporter", tmp_path) / "etc/qlik-license-exporter/config.yml"
    settings = config.parse(file.read_text(), file.name, {})
    assert all(path.startswith("/qlik/") for _, log in settings.logs.enabled() for path in log.paths)
    assert [volume for volume in SERVICES["exporter"]["volumes"] if ":/qlik:ro" in volume]
    assert (
        REPOSITORY / "deploy" / SERVICES["exporter"]["build"]["context"] / SERVICES["exporter"]["build"]["dockerfile"]
    ).is_file()


def test_grafana_finds_its_boards_and_the_prometheus_beside_it(tmp_path: Path) -> None:
    root = as_seen_by("grafana", tmp_path)
    (provider,) = yaml.safe_load(next((root / "etc/grafana/provisioning/dashboards").glob("*.yml")).read_text())[
        "providers"
    ]
    assert list((root / provider["options"]["path"].lstrip("/")).glob("*.json"))
    (source,) = yaml.safe_load(next((root / "etc/grafana/provisioning/datasources").glob("*.yml")).read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    scrape = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


@pytest.mark.parametrize("service", SERVICES)
def test_every_port_is_published_on_loopback_only(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service]["ports"])


def test_the_example_for_prometheus_alone_is_accepted_and_names_the_site_of_every_target() -> None:
    file = DEPLOY / "prometheus" / "prometheus.yml"
    output("promtool", "check", "config", file)
    jobs = yaml.safe_load(file.read_text())["scrape_configs"]
    assert all(group["labels"]["site"] for job in jobs for group in job["static_configs"])
