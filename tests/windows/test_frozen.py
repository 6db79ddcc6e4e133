"""The frozen single folder: built from its recipe, it needs no Python, and is scraped."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.windows
RECIPE = Path(__file__).parents[2] / "deploy" / "windows"
BUILD_SECONDS = 300


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_the_recipe_makes_a_program_that_is_scraped(site, tmp_path: Path) -> None:
    for name in ("frozen.py", "frozen.spec"):
        shutil.copy(RECIPE / name, tmp_path)
    with (tmp_path / "build.log").open("wb") as log:
        built = subprocess.run(
            [sys.executable, "-I", "-m", "PyInstaller", "--noconfirm", "frozen.spec"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=BUILD_SECONDS,
        )
    assert built.returncode == 0, (tmp_path / "build.log").read_text()[-2000:]
    program = tmp_path / "dist" / "qlik-license-exporter" / "qlik-license-exporter.exe"
    version = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert version.stdout.startswith(b"qlik-license-exporter "), version.stderr

    (tmp_path / "config.yml").write_text(site.configuration)
    site.write(1, 2)
    process = subprocess.Popen(
        [program, "run", "--config.file", tmp_path / "config.yml", "--state.file", tmp_path / "state.db"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        site.wait_for('qlik_license_exporter_log_files{log="licenses"}', 1, alive=lambda: process.poll() is None)
        assert "qlik_license_exporter_build_info{" in site.scrape()
    finally:
        process.kill()
        process.wait(60)
