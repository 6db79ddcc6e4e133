"""The revision that a package was built from, and that `build_info` tells."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporter.revision import REVISION, UNKNOWN

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]


def _built(project: Path, out: Path, **environment: str) -> str:
    """What the wheel that is built of `project` says; empty where it says nothing."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=project, check=True, capture_output=True, env={**os.environ, **environment})
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = "exporter/revision.txt"
        return archive.read(name).decode() if name in archive.namelist() else ""


def test_a_wheel_knows_the_commit_it_was_built_from_or_says_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(
        PROJECT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "*_cache", "__pycache__", "dist", "node_modules")
    )
    assert _built(copy, tmp_path / "none") == ""
    assert _built(copy, tmp_path / "told", SOURCE_REVISION="a" * 40) == "a" * 40 + "\n"
    assert _built(copy, tmp_path / "odd", SOURCE_REVISION="v1; rm") == ""
    git = ["git", "-C", str(copy), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert _built(copy, tmp_path / "clean") == commit
    (copy / "README.md").write_text("changed")
    assert _built(copy, tmp_path / "dirty") == commit.strip() + "-dirty\n"


def test_a_checkout_says_that_it_does_not_know() -> None:
    assert REVISION == UNKNOWN or re.fullmatch("[0-9a-f]{40,64}(-dirty)?", REVISION)
