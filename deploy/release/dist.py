"""Builds wheel and sdist, the same bytes for everybody, and shows that they work: `python deploy/release/dist.py`.

Every line it prints is a claim that was just checked; the first that does not hold ends it with code 1. It needs the
development requirements (build, hatchling, cyclonedx-bom) and a package registry for the runtime dependencies.
"""
# ruff: noqa: S310, S603, S607 - it runs the tools of the developer who called it, and asks its own loopback port

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from pathlib import Path

import sums

from exporter.assets import SHIPPED

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hatch_build import revision  # found only by the line above

PROJECT = Path(__file__).resolve().parents[2]
REVISION = "exporter/revision.txt"
"""Written by `hatch_build.py`."""
SCRAPE_SECONDS = 60
FORBIDDEN = (".pyc", ".pyo", ".db", ".log", ".pem", ".key", "__pycache__", ".venv", ".git/")
"""What no archive may carry; log samples of the tests are in the sdist under `tests/` and excepted there."""


def main() -> int:
    """Build into the folder given (default `dist`). Returns 0, or 1 with the claim that does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=PROJECT / "dist")
    folder = parser.parse_args().folder.resolve()
    try:
        with tempfile.TemporaryDirectory() as work:
            make(folder, Path(work))
    except (BrokenClaimError, subprocess.CalledProcessError, OSError) as problem:
        print(f"dist: {problem}", file=sys.stderr)
        return 1
    return 0


class BrokenClaimError(Exception):
    """A claim does not hold."""


def claim(holds: bool, text: str) -> None:
    """Print `text`, or raise BrokenClaimError with it."""
    if not holds:
        raise BrokenClaimError(f"does not hold: {text}")
    print(text, flush=True)


def make(folder: Path, work: Path) -> None:
    """Build, compare, look inside, install, scrape, list what is inside."""
    files = project_files()
    first = build(files, work / "one", umask=0o022)
    second = build(files, work / "somewhere" / "else", umask=0o077)
    claim(
        [sums.digest(path) for path in first] == [sums.digest(path) for path in second],
        "built twice, in two places: the same bytes",
    )
    wheel, sdist = first
    check_wheel(wheel, files)
    check_sdist(sdist, files)
    python = install(wheel, work / "clean")
    scrape(python, work)
    folder.mkdir(parents=True, exist_ok=True)
    bill = write_bill_of_materials(python, folder / f"{wheel.name.split('-py3')[0]}.cdx.json")
    made = [bill, *(Path(shutil.copy2(path, folder)) for path in first)]
    sums.note(folder, sorted(path.name for path in made))
    print(f"in {folder}: {', '.join(sorted(path.name for path in made))}, SHA256SUMS")


def project_files() -> list[str]:
    """The project's files, relative to it: those under version control, or all of an unpacked sdist."""
    listed = subprocess.run(["git", "-C", PROJECT, "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return sorted(name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file())
    if not (PROJECT / "PKG-INFO").is_file():
        raise BrokenClaimError("this is neither a repository nor an unpacked sdist")
    return sorted(str(path.relative_to(PROJECT)) for path in PROJECT.rglob("*") if path.is_file())


def build(files: list[str], place: Path, umask: int) -> list[Path]:
    """Wheel and sdist, built from a copy of `files` in `place`."""
    for name in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, place / name)
    out = place.parent / f"{place.name}-out"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", out, place],
        env={**os.environ, "SOURCE_DATE_EPOCH": source_date(), "SOURCE_REVISION": revision(str(PROJECT))},
        umask=umask,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    return sorted(out.iterdir(), key=lambda path: path.suffix != ".whl")


def source_date() -> str:
    """Seconds since 1970 that all archives bear: those of the last commit, or of the sdist."""
    done = subprocess.run(
        ["bash", "-c", '. "$project/deploy/release/source-date"; echo "$SOURCE_DATE_EPOCH"'],
        env={**os.environ, "project": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def check_wheel(wheel: Path, files: list[str]) -> None:
    """The wheel holds the package, what `exporter.assets` lists, its license, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        license_there = any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    code = [name for name in files if name.startswith("exporter/")]
    assets = [f"exporter/assets/{name}" for name in files if f"{name}/".startswith(tuple(f"{top}/" for top in SHIPPED))]
    claim(
        sorted(set(names) - {REVISION}) == sorted(code + assets),
        f"the wheel holds the {len(code)} files of exporter/ and {len(assets)} assets",
    )
    claim(license_there, "the wheel holds the license")
    claim(REVISION in names, "the wheel holds its revision")


def check_sdist(sdist: Path, files: list[str]) -> None:
    """The sdist holds what a packager needs, and no leftovers."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("exporter/", "deploy/", "grafana/", "tests/")
    missing = [name for name in files if name.startswith(folders) and name not in names]
    claim(
        not missing, f"the sdist holds code, tests, deploy and dashboards (missing: {', '.join(missing) or 'nothing'})"
    )
    extra = [name for name in names - set(files) - {"PKG-INFO", REVISION} if name]
    claim(not extra, f"the sdist holds nothing else (extra: {', '.join(extra) or 'nothing'})")
    leftovers = [name for name in names if any(word in name for word in FORBIDDEN) and not name.startswith("tests/")]
    claim(not leftovers, f"no leftovers, states or keys (found: {', '.join(leftovers) or 'nothing'})")


def install(wheel: Path, place: Path) -> Path:
    """A clean environment with the wheel and its runtime dependencies only; its Python."""
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(python)]
    constraints = PROJECT / "deploy" / "release" / "constraints.txt"
    subprocess.run(
        [*pip, "install", "--only-binary", ":all:", "--constraint", constraints, wheel],
        check=True,
        stderr=subprocess.PIPE,
    )
    consistent = subprocess.run([*pip, "check"], capture_output=True, text=True)
    claim(consistent.returncode == 0, f"installed with runtime dependencies only {consistent.stdout.strip()}".strip())
    return python


def scrape(python: Path, work: Path) -> None:
    """Start what was installed, as a person would, and scrape it once."""
    (work / "config.yml").write_text("probes: []\nweb: {listen_addresses: ['127.0.0.1:0']}\n")
    script = str(python.parent / "qlik-license-exporter")
    version = subprocess.run([script, "--version"], capture_output=True, text=True, cwd=work, check=True).stdout
    claim("qlik" in version, f"runs: {version.strip().splitlines()[0]}")
    port = free_port()
    listen = ("--web.listen-address", f"127.0.0.1:{port}")
    log = work / "exporter.log"
    with log.open("wb") as stream:
        exporter = subprocess.Popen(
            [script, "run", *("--config.file", "config.yml"), *("--state.file", "state.db"), *listen],
            cwd=work,
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        text = scraped(f"http://127.0.0.1:{port}/metrics", exporter, log)
    finally:
        exporter.terminate()
        code = exporter.wait(30)
    claim("\nqlik_license_exporter_build_info{" in text, f"scraped: {len(text)} bytes")
    claim(code == 0, "stopped with code 0")


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(url: str, exporter: subprocess.Popen[bytes], log: Path) -> str:
    """What `url` answers, as soon as it does."""
    deadline = time.monotonic() + SCRAPE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            if exporter.poll() is not None or time.monotonic() > deadline:
                raise BrokenClaimError(f"no scrape; the exporter said:\n{log.read_text()}") from None
            time.sleep(0.05)


def write_bill_of_materials(python: Path, path: Path) -> Path:
    """The software bill of materials (CycloneDX JSON) of the clean environment."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", str(python)]
    options = ["--pyproject", str(PROJECT / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "-o", str(path)]
    subprocess.run([*command, *options], check=True, stderr=subprocess.PIPE)
    listed = {canonical(part["name"]) for part in json.loads(path.read_text())["components"]}
    pins = (PROJECT / "deploy" / "release" / "constraints.txt").read_text().splitlines()
    pinned = {canonical(pin.partition("==")[0]) for pin in pins if "==" in pin and "win32" not in pin}
    odd = ", ".join(sorted(listed ^ pinned)) or "none"
    claim(listed == pinned, f"a bill of {len(listed)} materials, the pinned ones (in one list only: {odd})")
    return path


def canonical(name: str) -> str:
    """The name of a package as registries compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main())
