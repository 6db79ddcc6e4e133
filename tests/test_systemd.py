"""The systemd units: valid, hardened, and one like the other."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[1] / "deploy" / "systemd"
SINGLE = UNITS / "qlik-license-exporter.service"
TEMPLATE = UNITS / "qlik-license-exporter@.service"
HIGHEST_EXPOSURE = 15
"""systemd's own score times ten: 0 to 100. A network service that listens and probes cannot go below about 10."""


def systemd_analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    assert shutil.which("systemd-analyze"), "needs systemd-analyze: apt-get install systemd"
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("unit", [SINGLE, TEMPLATE], ids=lambda unit: unit.name)
def test_the_unit_is_hardened_well_beyond_the_threshold(unit: Path) -> None:
    done = systemd_analyze("security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", str(unit))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_the_threshold_tells_a_unit_that_is_not_hardened(tmp_path: Path) -> None:
    soft = tmp_path / "soft.service"
    soft.write_text("[Service]\nExecStart=/bin/true\n")
    assert systemd_analyze("security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", str(soft)).returncode != 0


@pytest.mark.parametrize("unit", ["qlik-license-exporter.service", "qlik-license-exporter@node1.service"])
def test_systemd_finds_nothing_to_say_about_the_unit(unit: str, tmp_path: Path) -> None:
    for source in (SINGLE, TEMPLATE):
        # The command is not installed on the machine that tests; test_debian.py verifies the units where it is.
        (tmp_path / source.name).write_text(source.read_text().replace("/usr/bin/qlik-license-exporter", "/bin/true"))
    done = systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_template_differs_from_the_single_unit_only_in_its_instance() -> None:
    def settings(unit: Path) -> list[str]:
        return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]

    def without_instance(line: str) -> str:
        return re.sub(r"/%i(?=$)|, node %i$", "", line.replace("/%i.yml", "/config.yml"))

    assert [without_instance(line) for line in settings(TEMPLATE)] == settings(SINGLE)
    assert sum("%i" in line for line in settings(TEMPLATE)) == 3  # description, configuration, state


def test_hazard_45_a_share_that_is_down_does_not_keep_the_exporter_from_starting() -> None:
    for unit in (SINGLE, TEMPLATE):
        lines = unit.read_text().splitlines()
        assert not [line for line in lines if line.startswith(("RequiresMountsFor=", "Requires=", "BindsTo="))]
        assert "Restart=always" in lines
        assert "StartLimitIntervalSec=0" in lines
