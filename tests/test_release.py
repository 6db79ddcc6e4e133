"""`make verify-release`: what is right is accepted, and each way to be wrong is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shipped import REPOSITORY

pytestmark = pytest.mark.slow

RELEASE = REPOSITORY / "deploy" / "release"
NAMESPACE = "qlik-license-exporter"


def key_pair(folder: Path) -> tuple[Path, Path]:
    """A key of this test's own, and the file of allowed signers that names it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    (folder / "signers").write_text(f"release {(folder / 'key.pub').read_text()}")
    return folder / "key", folder / "signers"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder as `make dist` makes it, signed; and the allowed signers."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run([sys.executable, RELEASE / "dist.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    key, signers = key_pair(tmp_path_factory.mktemp("keys"))
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", NAMESPACE, folder / "SHA256SUMS"]
    subprocess.run(sign, check=True, capture_output=True)
    return folder, signers


@pytest.fixture
def copy(signed: tuple[Path, Path], tmp_path: Path) -> Path:
    shutil.copytree(signed[0], tmp_path / "dist")
    return tmp_path / "dist"


def verified(folder: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, RELEASE / "verify.py", folder, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.timeout(400)
def test_a_signed_release_is_accepted_and_its_files_are_built_anew(signed: tuple[Path, Path]) -> None:
    done = verified(signed[0], "--signers", signed[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 digests are right (wrong: none)" in done.stdout
    assert 'Good "qlik-license-exporter" signature for release' in done.stdout
    assert done.stdout.count("built anew, the same bytes") == 2


def test_a_changed_file_is_told(copy: Path, signed: tuple[Path, Path]) -> None:
    wheel = next(copy.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    done = verified(copy, "--signers", signed[1], "--no-rebuild")
    assert (done.returncode, f"wrong: {wheel.name}" in done.stderr) == (1, True)


def test_a_file_that_nobody_listed_is_told(copy: Path, signed: tuple[Path, Path]) -> None:
    (copy / "extra.whl").write_text("")
    done = verified(copy, "--signers", signed[1], "--no-rebuild")
    assert (done.returncode, "odd: extra.whl" in done.stderr) == (1, True)


def test_sums_that_were_made_anew_are_told_by_their_signature(copy: Path, signed: tuple[Path, Path]) -> None:
    wheel = next(copy.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    subprocess.run([sys.executable, RELEASE / "sums.py", copy, wheel.name], check=True)
    done = verified(copy, "--signers", signed[1], "--no-rebuild")
    assert (done.returncode, "does not hold: signed by a key of" in done.stderr) == (1, True)


def test_another_key_is_not_accepted(copy: Path, tmp_path: Path) -> None:
    _, signers = key_pair(tmp_path)
    done = verified(copy, "--signers", signers, "--no-rebuild")
    assert (done.returncode, "does not hold: signed by a key of" in done.stderr) == (1, True)


def test_a_signature_is_neither_left_unchecked_nor_missed(copy: Path, signed: tuple[Path, Path]) -> None:
    assert "does not hold: no SHA256SUMS.sig" in verified(copy, "--no-rebuild").stderr
    (copy / "SHA256SUMS.sig").unlink()
    assert verified(copy, "--no-rebuild").returncode == 0
    assert "SHA256SUMS.sig is there" in verified(copy, "--signers", signed[1], "--no-rebuild").stderr


def test_a_bill_with_another_version_is_told(copy: Path) -> None:
    bill = next(copy.glob("*.cdx.json"))
    bill.write_text(bill.read_text().replace('"0.16.0"', '"0.16.1"'))
    subprocess.run([sys.executable, RELEASE / "sums.py", copy, bill.name], check=True)
    (copy / "SHA256SUMS.sig").unlink()
    done = verified(copy, "--no-rebuild")
    assert (done.returncode, "h11==0.16.0, h11==0.16.1" in done.stderr) == (1, True)


@pytest.mark.timeout(400)
def test_a_wheel_that_this_source_does_not_give_is_told(copy: Path) -> None:
    wheel = next(copy.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    subprocess.run([sys.executable, RELEASE / "sums.py", copy, wheel.name], check=True)
    (copy / "SHA256SUMS.sig").unlink()
    done = verified(copy)
    assert done.returncode == 1
    assert f"does not hold: {wheel.name}: built anew, the same bytes" in done.stderr


def test_registries_would_find_nothing_to_complain_of(signed: tuple[Path, Path]) -> None:
    archives = [*signed[0].glob("*.whl"), *signed[0].glob("*.tar.gz")]
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *archives], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rated = subprocess.run(
        [sys.executable, "-m", "pyroma", "-n", "10", "--file", archives[1]],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_NO_INDEX": "0"},
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_the_license_of_every_file_is_stated() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reuse", "--root", REPOSITORY, "lint", "--quiet"], capture_output=True, text=True
    )
    assert done.returncode == 0, subprocess.run(
        [sys.executable, "-m", "reuse", "--root", REPOSITORY, "lint"], capture_output=True, text=True
    ).stdout
    assert (REPOSITORY / "LICENSES" / "Apache-2.0.txt").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
