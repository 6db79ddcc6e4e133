"""`make dist`: wheel and sdist are the same for everybody, hold what they should, and run with what they ask for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]


@pytest.mark.timeout(400)  # it builds twice and installs from a registry
def test_what_is_released_is_reproducible_complete_and_works_in_a_clean_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "deploy" / "release" / "dist.py", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bytes" in done.stdout
    assert "\nscraped: " in done.stdout
    assert len(list(tmp_path.glob("*.whl"))) == len(list(tmp_path.glob("*.tar.gz"))) == 1
    bill = json.loads(next(tmp_path.glob("*.cdx.json")).read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {part["name"].lower().replace("_", "-") for part in bill["components"]}
    assert listed >= {
        "aiohttp",
        "prometheus-client",
        "pyyaml",
        "msgspec",
        "h11",
        "cryptography",
        "bcrypt",
        "protobuf",
        "cramjam",
    }
    assert not listed & {"pip", "pytest", "mypy", "ruff"}
