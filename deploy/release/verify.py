"""Verifies a folder of release files: `python deploy/release/verify.py [FOLDER] [--signers FILE] [--image]`.

Every line it prints is a claim that was just checked; the first that does not hold ends it with code 1. It checks that
SHA256SUMS names exactly the files that are there, its signature, the bill of materials, and that each file is what
this source gives: wheel, sdist, Windows folder, MSI and Debian package are built anew and compared, byte for byte.
"""
# ruff: noqa: S603 - it runs the tools of the developer who called it

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import sums
from dist import PROJECT, BrokenClaimError, build, canonical, claim, project_files
from lock import pins

IDENTITY, NAMESPACE = "release", "qlik-license-exporter"
"""Whom the file of allowed signers names, and what the signature is for (`ssh-keygen -Y`)."""
SIGNATURE = f"{sums.NAME}.sig"
BUILDERS = {
    "-windows.zip": [sys.executable, PROJECT / "deploy/release/windows.py"],
    "-x64.msi": [sys.executable, PROJECT / "deploy/windows/msi.py"],
    ".deb": [PROJECT / "deploy/debian/build"],
}
"""What builds the files that end so; each takes the folder to build into."""


def main() -> int:
    """Verify the folder (default `dist`): 0, or 1 with the claim that does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=PROJECT / "dist")
    parser.add_argument("--signers", type=Path, help=f"public keys, as ssh-keygen takes them, for `{IDENTITY}`")
    parser.add_argument("--image", action="store_true", help="build the image twice, by podman or docker, and compare")
    parser.add_argument("--no-rebuild", action="store_true", help="do not build anew")
    arguments = parser.parse_args()
    try:
        verify(arguments.folder.resolve(), arguments.signers, not arguments.no_rebuild)
        if arguments.image:
            check_image()
        else:
            print("not checked: the image; --image builds it twice")
    except (BrokenClaimError, subprocess.CalledProcessError, OSError) as problem:
        print(f"verify: {problem}", file=sys.stderr)
        return 1
    return 0


def verify(folder: Path, signers: Path | None, rebuild: bool) -> None:
    """All claims, the cheapest first."""
    names = checked_sums(folder)
    check_signature(folder, signers)
    check_bill(folder, names)
    if rebuild:
        with tempfile.TemporaryDirectory() as work:
            check_builds(folder, names, Path(work))


def checked_sums(folder: Path) -> list[str]:
    """The names in SHA256SUMS, which are those of the files that are there, with their digests."""
    claim((folder / sums.NAME).is_file(), f"{sums.NAME} is there")
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / sums.NAME).read_text().splitlines())
    there = {path.name for path in folder.iterdir()} - {sums.NAME, SIGNATURE}
    claim(set(listed) == there, f"{sums.NAME} names the files that are there (odd: {odd(set(listed), there)})")
    changed = [name for name, digest in listed.items() if sums.digest(folder / name) != digest]
    claim(not changed, f"{len(listed)} digests are right (wrong: {', '.join(changed) or 'none'})")
    return sorted(listed)


def check_signature(folder: Path, signers: Path | None) -> None:
    """The signature of SHA256SUMS: neither left unchecked where there is one, nor missed where keys are given."""
    signature = folder / SIGNATURE
    if signers is None:
        claim(not signature.exists(), f"no {SIGNATURE}, so nothing says who built it (if there is one: --signers FILE)")
        return
    claim(signature.is_file(), f"{SIGNATURE} is there")
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", IDENTITY, "-n", NAMESPACE, "-s", signature]
    with (folder / sums.NAME).open("rb") as signed:
        done = subprocess.run(command, stdin=signed, capture_output=True, text=True)
    claim(done.returncode == 0, f"signed by a key of {signers}: {(done.stdout + done.stderr).strip()}")


def check_bill(folder: Path, names: list[str]) -> None:
    """The bill of materials names the pinned versions, and nothing else."""
    bills = [name for name in names if name.endswith(".cdx.json")]
    claim(len(bills) == 1, f"one bill of materials (found: {', '.join(bills) or 'none'})")
    parts = json.loads((folder / bills[0]).read_text())["components"]
    listed = {f"{canonical(part['name'])}=={part['version']}" for part in parts}
    pinned = {canonical(name) + "==" + version for name, _, version in (pin.partition("==") for pin in linux_pins())}
    claim(listed == pinned, f"it names the {len(pinned)} pinned versions (odd: {odd(listed, pinned)})")


def linux_pins() -> list[str]:
    """The pins of what the bill is made from: a clean environment on Linux."""
    return [pin for pin, marker in pins().items() if "win32" not in marker]


def check_builds(folder: Path, names: list[str], work: Path) -> None:
    """Each file is built anew, from this source, and is the same."""
    again = {path.name: path for path in build(project_files(), work / "source", umask=0o022)}
    for ending, command in BUILDERS.items():
        for name in names:
            if name.endswith(ending):
                environment = {**os.environ, "PYTHON": sys.executable}
                done = subprocess.run([*command, work], capture_output=True, text=True, env=environment)
                claim(done.returncode == 0, f"{name} can be built anew{done.stderr if done.returncode else ''}")
                again[name] = work / name
    for name in names:
        if not name.endswith(".cdx.json"):
            claim(name in again, f"{name} is a file that this source gives")
            claim(sums.digest(again[name]) == sums.digest(folder / name), f"{name}: built anew, the same bytes")


def check_image() -> None:
    """The image is built twice and holds the same files. It needs a network, to the registry of the base image."""
    program = shutil.which("podman") or "docker"
    digests = set()
    for number in (1, 2):
        tag = f"qlik-license-exporter:verify-{number}"
        options = ["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=0", "-f", PROJECT / "deploy/docker/Dockerfile"]
        subprocess.run([program, "build", "-q", *options, "-t", tag, PROJECT], check=True, capture_output=True)
        listing = "cd /opt/exporter; find . -type f ! -name '*.pyc' -exec sha256sum {} + | sort | sha256sum"
        show = [program, "run", "--rm", "--entrypoint", "sh", tag, "-c", listing]
        shown = subprocess.run(show, check=True, capture_output=True, text=True)
        digests.add(shown.stdout)
    claim(len(digests) == 1, "the image: built twice, the same files")


def odd(one: set[str], other: set[str]) -> str:
    """What only one of both holds."""
    return ", ".join(sorted(one ^ other)) or "none"


if __name__ == "__main__":
    sys.exit(main())
