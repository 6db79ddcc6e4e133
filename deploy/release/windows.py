"""Builds the folder for Windows as a zip: installer, wheels for each supported Python, and their digests.

`python deploy/release/windows.py [FOLDER]`, into `dist` by default. No network is needed on the node: `install.ps1`
installs from the folder alone, and only wheels whose digests `requirements.txt` in it names. Needs the development
requirements and a package registry for the dependencies, whose digests are those of `deploy/release/requirements.txt`.
"""

import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import sums
from dist import PROJECT, BrokenClaimError, build, project_files, source_date
from lock import PLATFORMS, download, pins

SCRIPTS = ("install.ps1", "uninstall.ps1", "protocol.md")
OLDEST_TIME = 315532800
"""Seconds since 1970 of 1980-01-01, the oldest time that a zip can hold."""


def main() -> int:
    """Build it, and say where it is: 0, or 1 with what failed."""
    folder = Path(sys.argv[1] if sys.argv[1:] else PROJECT / "dist").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as work:
            wheel = build(project_files(), Path(work) / "source", umask=0o022)[0]
            made = make(folder, wheel, Path(work) / "wheels")
    except (BrokenClaimError, subprocess.CalledProcessError, OSError) as problem:
        print(f"windows: {problem}", file=sys.stderr)
        return 1
    sums.note(folder, [made.name])
    print(made)
    return 0


def make(folder: Path, wheel: Path, work: Path) -> Path:
    """The zip with `wheel` and its dependencies; `work` is a folder of ours for the latter."""
    known = locked()
    for platform, version in PLATFORMS:
        if platform.startswith("win"):
            download(work, platform, version, list(pins()))
    for file in work.iterdir():
        if sums.digest(file) not in known:
            raise BrokenClaimError(f"{file.name} is not in deploy/release/requirements.txt; see lock.py")
    name = f"qlik-license-exporter-{wheel.name.split('-')[1]}-windows"
    content = {f"wheels/{file.name}": file.read_bytes() for file in [wheel, *work.iterdir()]}
    content["requirements.txt"] = requirements(wheel).encode()
    content["LICENSE.txt"] = (PROJECT / "LICENSE").read_bytes()
    for script in SCRIPTS:
        content[script] = (PROJECT / "deploy" / "windows" / script).read_bytes()
    made = folder / f"{name}.zip"
    stamp = time.gmtime(max(OLDEST_TIME, int(source_date())))[:6]
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in sorted(content.items()):
            entry = zipfile.ZipInfo(f"{name}/{path}", stamp)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".whl") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return made


def locked() -> set[str]:
    """The digests that `deploy/release/requirements.txt` allows."""
    return set(re.findall(r"sha256:([0-9a-f]{64})", (PROJECT / "deploy" / "release" / "requirements.txt").read_text()))


def requirements(wheel: Path) -> str:
    """What pip installs on Windows, by digest: the locked dependencies and `wheel`. No marker: all of it is needed."""
    text = (PROJECT / "deploy" / "release" / "requirements.txt").read_text()
    lines = [re.sub(r"; [^\\]*", " ", line) for line in text.splitlines() if not line.startswith("#")]
    name, version = wheel.name.split("-")[:2]
    lines += [f"{name.replace('_', '-')}=={version} \\", f"    --hash=sha256:{sums.digest(wheel)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
