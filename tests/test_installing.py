"""Installing as the pages say: from files, never by the project's name from an index, and with the commands as written."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shipped import REPOSITORY

from exporter import __version__

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
OUR_NAME = re.compile(r"(?<![\w./\\-])qlik[-_.]license[-_.]exporter(\[[\w,]*\])?(?=$|[\s'\"`,;)<>=~!])", re.IGNORECASE)
INSTALLS = re.compile(
    r"\b(pip3?|pipx|uv|uvx|conda|poetry|pdm)\b.*?\b(install|download|wheel|add|run|upgrade|inject)\b(.*)"
)


def tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "-C", REPOSITORY, "ls-files", "-z"], capture_output=True, text=True).stdout
    names = [name for name in listed.split("\0") if name] or [
        str(path.relative_to(REPOSITORY)) for path in REPOSITORY.rglob("*") if path.is_file()
    ]
    for name in names:
        if not name.endswith((".png", ".db")) and (REPOSITORY / name).is_file():
            yield REPOSITORY / name


def asks_an_index(line: str) -> bool:
    found = INSTALLS.search(line)
    return bool(found and OUR_NAME.search(found[3]) and "--no-index" not in line)


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("python -m pip install qlik-license-exporter", True),
        ("`pip install --upgrade qlik_license_exporter==0.1.0`", True),
        ("py -3.11 -m pip download --only-binary :all: --dest wheels qlik-license-exporter", True),
        ("uv tool install 'qlik-license-exporter[x]'", True),
        ("uvx run qlik-license-exporter", True),
        ("pip install dist/qlik_license_exporter-0.1.0-py3-none-any.whl", False),
        ("pipx install ./qlik-license-exporter-0.1.0.tar.gz", False),
        ("/opt/qlik-license-exporter/bin/pip install --requirement requirements.txt", False),
    ],
)
def test_a_command_that_asks_an_index_for_the_project_is_told(line: str, asks: bool) -> None:
    assert asks_an_index(line) is asks


def test_nothing_asks_an_index_for_the_project_which_is_not_published() -> None:
    asking = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__)
        for line in path.read_text("utf-8", "replace").splitlines()
        if asks_an_index(line)
    ]
    assert asking == []


def test_the_projects_address_is_in_one_place() -> None:
    (address,) = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["urls"].values()
    holders = {
        path.relative_to(REPOSITORY).as_posix() for path in tracked() if address in path.read_text("utf-8", "replace")
    }
    assert holders == {"pyproject.toml"}


def test_the_pages_name_the_files_of_this_version() -> None:
    for page in PAGES:
        for version in re.findall(r"qlik[-_]license[-_]exporter[-_](\d+\.\d+\.\d+)", page.read_text("utf-8")):
            assert version == __version__, page


# --- the commands, as written


def blocks(language: str) -> list[tuple[str, str]]:
    """Each block of a page that installs by pip, pipx or uv: the page's name, and the commands."""
    return [
        (page.name, block)
        for page in PAGES
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        if INSTALLS.search(block) and not block.startswith("docker ")
    ]


SHELL = blocks("sh")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built wheel in `dist`, and with its dependencies, by digest, in `dependencies`."""
    folder = tmp_path_factory.mktemp("release")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "dist", REPOSITORY]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    download = [sys.executable, "-m", "pip", "download", "-qq", "--require-hashes", "--only-binary", ":all:"]
    locked = REPOSITORY / "deploy" / "release" / "requirements.txt"
    subprocess.run([*download, "--dest", folder / "dependencies", "--requirement", locked], check=True)
    return folder


def test_every_way_to_install_is_shown() -> None:
    shown = "".join(block for _, block in SHELL)
    assert "bin/pip install dist/" in shown
    assert "pipx install dist/" in shown
    assert "uv tool install dist/" in shown
    assert len(blocks("powershell")) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("page", "block"), SHELL, ids=[f"{page}-{number}" for number, (page, _) in enumerate(SHELL)])
def test_the_commands_of_a_page_install_what_was_built_without_an_index(
    page: str, block: str, files: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copytree(files / "dist", project / "dist")
    root = tmp_path / "root"  # what the commands put into the system goes here
    for name in ("usr/bin", "opt", "etc/systemd/system", "etc/sysusers.d"):
        (root / name).mkdir(parents=True)
    commands = re.sub(r"(?<=\s)/(opt|etc|usr)/", rf"{root}/\1/", "\n" + block)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{root}/usr/bin:{tmp_path}/.local/bin:{tmp_path}/tools:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(files / "dependencies"),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": str(files / "dependencies"),
        "UV_NO_CONFIG": "1",
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "UV_PYTHON": sys.executable,
    }
    (tmp_path / "tools").mkdir()
    for tool in ("pipx", "uv"):
        assert (BIN / tool).exists(), f"needs {tool}: pip install {tool}"
        (tmp_path / "tools" / tool).symlink_to(BIN / tool)
    (tmp_path / "tools" / "python3").symlink_to(sys.executable)
    environment["PATH"] = f"{tmp_path}/tools:{environment['PATH']}"
    commands = commands.replace("qlik-license-exporter check\n", "qlik-license-exporter --version\n")  # it would probe
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    version = subprocess.run(
        ["qlik-license-exporter", "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert version.stdout == f"qlik-license-exporter {__version__}\n", version.stderr


# --- the folder for Windows


@pytest.fixture(scope="module")
def windows_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as unpacked on a node."""
    folder = tmp_path_factory.mktemp("windows")
    done = subprocess.run(
        [sys.executable, REPOSITORY / "deploy" / "release" / "windows.py", folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(done.stdout.strip()) as archive:
        archive.extractall(folder)
    return folder / f"qlik-license-exporter-{__version__}-windows"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_windows_folder_is_all_that_each_python_needs(python: str, windows_folder: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"& \$python -I -m pip --isolated (install .*)", blocks("powershell")[0][1])
    platform = ["--platform", "win_amd64", "--implementation", "cp", "--python-version", python, "--target", tmp_path]
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "--isolated", *command.split(), "--only-binary", ":all:", *platform],
        cwd=windows_folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "win32" / "win32service.pyd").exists(), "pywin32 is in it, though it was built on Linux"
    assert (tmp_path / "exporter" / "assets" / "deploy" / "prometheus").is_dir()
    tag = f"cp{python.replace('.', '')}-win_amd64.pyd"
    assert list((tmp_path / "aiohttp").glob(f"*.{tag}"))


def test_a_wheel_that_was_exchanged_is_not_installed(windows_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(windows_folder, folder)
    wheel = next((folder / "wheels").glob("h11-*.whl"))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("h11/extra.py", "")
    command = [sys.executable, "-I", "-m", "pip", "--isolated", "install", "--no-index", "--find-links", "wheels"]
    options = ["--require-hashes", "--only-binary", ":all:", "--platform", "win_amd64", "--python-version", "3.11"]
    done = subprocess.run(
        [*command, *options, "--target", tmp_path / "out", "--requirement", "requirements.txt"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "h11" in done.stderr
    assert "HASH" in done.stderr.upper()


def test_the_locked_digests_are_of_the_pins() -> None:
    def pins(name: str) -> set[str]:
        text = (REPOSITORY / "deploy" / "release" / name).read_text()
        return {line.partition(";")[0].strip(" \\") for line in text.splitlines() if line[:1] not in ("#", " ", "")}

    assert pins("requirements.txt") == pins("constraints.txt"), "python deploy/release/lock.py renews it"
