"""Finds the files that are shipped with the code: rules, dashboards, routes, runbooks, units, examples."""

from pathlib import Path

SHIPPED = (
    "deploy/prometheus",
    "deploy/alertmanager",
    "deploy/runbooks",
    "deploy/fleet",
    "deploy/kubernetes",
    "deploy/systemd",
    "deploy/qlik-license-exporter.yml",
    "deploy/web-config.example.yml",
    "grafana/dashboards",
    "grafana/provisioning",
)
"""The contents of an installed package by their paths in the repository, as in `pyproject.toml` (`force-include`)."""

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE if (_PACKAGE / "deploy").is_dir() else _PACKAGE.parents[1]
"""An installed package has them in this folder; an editable checkout in its own `deploy/` and `grafana/`."""


def asset(path: str) -> Path:
    """The file or folder that is `path` in the repository, as in `deploy/runbooks`; installed or not."""
    return _ROOT / path
