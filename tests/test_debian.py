"""The Debian package: built, installed over this machine's own system in an overlay, started, scraped, purged."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import __version__

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]


def test_the_changelog_of_the_package_begins_with_this_version() -> None:
    assert (PROJECT / "deploy/debian/changelog").read_text().startswith(f"qlik-license-exporter ({__version__}) ")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(400)  # it builds, compiles and compresses
def test_the_package_starts_is_scraped_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "needs root, for an overlay in a namespace of its own"
    for program in (
        "dpkg-deb",
        "dpkg-shlibdeps",
        "lintian",
        "strip",
        "unshare",
        "setpriv",
        "systemd-analyze",
        "/usr/bin/python3",
    ):
        assert shutil.which(program), (
            f"needs {program}: apt-get install dpkg-dev lintian binutils util-linux systemd python3"
        )
    (tmp_path / "SHA256SUMS").write_text("0  another file\n")
    built = subprocess.run(
        [PROJECT / "deploy" / "debian" / "build", tmp_path],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    package = built.stdout.strip()
    sums = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert sums == [
        "0  another file",
        f"{hashlib.sha256(Path(package).read_bytes()).hexdigest()}  {Path(package).name}",
    ]
    complaints = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True)
    assert complaints.stdout + complaints.stderr == ""
    done = subprocess.run(
        [PROJECT / "tests" / "debian_package.sh", package, str(free_port())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[:2] == ["installed: install ok installed", "units verified"]
    assert said[2:4] == [
        "copies of the configuration are readable: for the service alone",
        "configured without its configuration file",
    ]
    assert said[4].startswith("scraped: qlik_license_exporter_build_info{")
    assert said[5:] == [
        "stopped: 0",
        "state kept: qlik-license-exporter 700",
        "removed: configuration and state stay",
        "left:",
    ]
