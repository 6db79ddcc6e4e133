"""Writes `requirements.txt` beside it: the pins of `constraints.txt` with the digest of each wheel that is shipped.

`python deploy/release/lock.py`, after each change of a pin. What is built for others (Windows folder, MSI, Debian
package, image) installs its dependencies by this file alone, so that a changed wheel is an error.
"""
# ruff: noqa: S603 - it runs the pip of the Python that runs it

import hashlib
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLATFORMS = (
    *(("win_amd64", version) for version in ("3.11", "3.12", "3.13")),
    *((machine, "3.11") for machine in ("x86_64", "aarch64")),
)
"""Each platform and Python version that something is built for: Windows; Debian 12 and the image on two processors."""
GLIBC = range(36, 4, -1)
"""The minor versions of glibc 2 that a wheel for Debian 12 may ask for, the newest first, as pip prefers them."""
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Minor versions of glibc that have another name, too. Some wheels carry only that one."""
HEAD = """\
# The pins of constraints.txt with the digests of their wheels, written by lock.py; do not edit.
# pip install --require-hashes --only-binary :all: -r requirements.txt
"""


def pins(file: Path = HERE / "constraints.txt") -> dict[str, str]:
    """Each pin without its marker, as `name==version`, and the marker."""
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    return {pin.strip(): marker.strip() for pin, _, marker in (line.partition(";") for line in lines if line)}


def download(folder: Path, platform: str, version: str, wanted: list[str]) -> None:
    """The wheels of `wanted` for one platform and Python version, from the index that pip is set up for."""
    # pip takes a platform literally: all that fit must be named.
    platforms = (
        [platform]
        if platform.startswith("win")
        else [
            name
            for minor in GLIBC
            for name in (
                f"manylinux_2_{minor}_{platform}",
                *([f"{OLD_NAMES[minor]}_{platform}"] if minor in OLD_NAMES else []),
            )
        ]
    )
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
    where = [word for name in platforms for word in ("--platform", name)]
    target = ["--python-version", version, "--implementation", "cp", "--only-binary", ":all:"]
    subprocess.run([*command, *where, *target, "--dest", folder, *wanted], check=True)


def main() -> int:
    """Download every wheel once, and write the file."""
    digests = defaultdict(set)
    with tempfile.TemporaryDirectory() as work:
        for platform, version in PLATFORMS:
            folder = Path(work) / f"{platform}-{version}"
            windows = platform.startswith("win")
            wanted = [pin for pin, marker in pins().items() if not marker or windows]
            download(folder, platform, version, wanted)
            for wheel in folder.iterdir():
                name, release = wheel.name.split("-")[:2]
                digests[key(f"{name}=={release}")].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    text = HEAD
    for pin, marker in pins().items():
        text += pin + (f"; {marker}" if marker else "")
        text += "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(digests[key(pin)])) + "\n"
    (HERE / "requirements.txt").write_text(text)
    return 0


def key(pin: str) -> str:
    """The pin as wheels and registries compare names."""
    return pin.lower().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    sys.exit(main())
