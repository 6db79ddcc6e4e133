"""The frozen single folder: built from its recipe, it needs no Python, and is a service."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROGRAM_DATA

from exporter.commands.service import closed_to_services

pytestmark = pytest.mark.windows
RECIPE = Path(__file__).parents[2] / "deploy" / "windows"
BUILD_SECONDS = 300


@pytest.fixture
def installed() -> Iterator[Path]:
    """Where administrators install programs; not there before and after the test."""
    folder = Path(r"C:\Program Files\qlik-license-exporter-frozen")
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def refuse_one(proxy: socket.socket) -> None:
    """Answer one request as a proxy that wants NTLM."""
    connection, _ = proxy.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 407 X\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
        connection.recv(4096)


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_the_recipe_makes_a_program_that_is_a_service(site, home: Path, installed: Path, tmp_path: Path) -> None:
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
    # Not where it was built, which is in somebody's profile: the service's account could not run it there.
    shutil.copytree(tmp_path / "dist" / "qlik-license-exporter", installed)
    program = installed / "qlik-license-exporter.exe"
    version = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert version.stdout.startswith(b"qlik-license-exporter "), version.stderr
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=refuse_one, args=(proxy,), daemon=True).start()
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        told = subprocess.run(
            [program, "probe", "--proxy", url], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
    assert b"NTLM cannot be started here" in told.stdout, (
        "sspilib is part of it: the system itself was asked for a login"
    )

    def service(action: str) -> int:
        # No pipes: should the service inherit one, a wait for its end would never end.
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        environment = {**os.environ, "PROGRAMDATA": str(PROGRAM_DATA)}
        return subprocess.run([program, "service", action], env=environment, timeout=60, **silent).returncode

    if closed_to_services([str(tmp_path)], r"C:\users"):  # where the tests' folder is in a profile, as it is by default
        built_there = tmp_path / "dist" / "qlik-license-exporter" / "qlik-license-exporter.exe"
        refused = subprocess.run([built_there, "service", "install"], stdin=subprocess.DEVNULL, capture_output=True)
        assert refused.returncode == 1
        assert b"cannot run what is in" in refused.stderr
    assert service("install") == 0
    (home / "config.yml").write_text(site.configuration)
    assert service("start") == 0
    site.wait_for('qlik_license_exporter_log_records_total{log="licenses"}', 0)
    site.write(1, 2)
    site.wait_for('qlik_license_exporter_log_records_total{log="licenses"}', 2)
    assert service("remove") == 0
