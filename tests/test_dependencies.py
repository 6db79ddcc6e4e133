"""The audit of what the exporter stands on: no version that is pinned, allowed or installed has a known vulnerability."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
FIXED = tomllib.loads((PROJECT / "deploy/release/advisories.toml").read_text("utf-8"))["fixed"]
PINNED = [
    Requirement(line)
    for line in (PROJECT / "deploy/release/constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
ALLOWED = [
    Requirement(line)
    for line in tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
]


def _lowest(requirement: Requirement) -> Version:
    (bound,) = [part.version for part in requirement.specifier if part.operator in ("==", ">=")]
    return Version(bound)


@pytest.mark.parametrize("name", FIXED)
def test_no_known_vulnerability_is_pinned_allowed_or_installed(name: str) -> None:
    fixed, advisory = Version(FIXED[name]["version"]), FIXED[name]["advisory"]
    pins = [pin for pin in PINNED if canonicalize_name(pin.name) == canonicalize_name(name)]
    assert pins, f"{name} is no dependency any more: take it out of advisories.toml"
    for requirement in pins + [one for one in ALLOWED if canonicalize_name(one.name) == canonicalize_name(name)]:
        assert _lowest(requirement) >= fixed, f"{requirement}: {advisory} is fixed in {fixed}"
    if name != "pywin32":
        assert Version(importlib.metadata.version(name)) >= fixed, advisory


def test_what_is_pinned_is_what_the_tests_run_with() -> None:
    for pin in PINNED:
        if pin.marker is None or pin.marker.evaluate():
            assert pin.specifier.contains(importlib.metadata.version(pin.name)), pin


@pytest.mark.slow
def test_what_is_installed_fits_together() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
