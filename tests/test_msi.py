"""The MSI for Windows: built on Debian, nothing of Wine's in it, and installed, upgraded and removed by `wine msiexec`.

Wine proves the tables and that the installed program runs; it enforces no rights and knows no recovery.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shipped import REPOSITORY

from exporter import __version__
from exporter.commands import service

sys.path.insert(0, str(REPOSITORY / "deploy" / "windows"))
import msi

pytestmark = pytest.mark.slow
TOOLS = {
    "wixl": "wixl",
    "msibuild": "msitools",
    "msiinfo": "msitools",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32",
    "osslsigncode": "osslsigncode",
}
OF_WINDOWS = re.compile(
    r"(api-ms-win-|kernel32|advapi32|user32|ws2_32|ole32|oleaut32|shell32|crypt32|bcrypt\.|bcryptprimitives|msvcrt|rpcrt4|"
    r"version|shlwapi|secur32|userenv|netapi32|winmm|iphlpapi|ntdll|psapi|mswsock|sfc\.|ntdsapi|pdh\.|powrprof|wtsapi32)",
    re.IGNORECASE,
)
"""The DLLs that Windows has itself."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The MSI, and the folder with what it installs."""
    for tool, package in TOOLS.items():
        assert shutil.which(tool), f"needs {tool}: apt-get install {package}"
    folder = tmp_path_factory.mktemp("msi")
    (folder / "work").mkdir()
    return msi.make(folder, folder / "work"), folder / "work" / "tree"


def rows(made: Path, table: str) -> list[dict[str, str]]:
    text = subprocess.run(["msiinfo", "export", made, table], capture_output=True, text=True, check=True).stdout
    names, _, _, *lines = text.replace("\r", "").splitlines()
    return [dict(zip(names.split("\t"), line.split("\t"), strict=False)) for line in lines]


@pytest.mark.timeout(600)
def test_the_service_is_created_with_its_account_its_start_and_its_recovery(built: tuple[Path, Path]) -> None:
    (created,) = rows(built[0], "ServiceInstall")
    assert (created["Name"], created["StartName"]) == (service.SERVICE_NAME, service.ACCOUNT)
    assert (created["StartType"], created["Arguments"]) == ("2", service.HOST_ARGUMENT)
    assert created["DisplayName"] == service.DISPLAY_NAME
    assert created["Description"] == service.DESCRIPTION
    (restart,) = rows(built[0], "MsiServiceConfigFailureActions")
    assert restart["DelayActions"] == "[~]".join(str(seconds * 1000) for seconds in service.RESTART_DELAYS)
    assert restart["ResetPeriod"] == str(service.RESTARTS_FORGOTTEN)
    assert {row["ConfigType"]: row["Argument"] for row in rows(built[0], "MsiServiceConfig")} == {"3": "1", "4": "1"}
    sequence = {row["Action"]: int(row["Sequence"]) for row in rows(built[0], "InstallExecuteSequence")}
    order = ["InstallServices", "MsiConfigureServices", "ServiceRights", "RuleAdded", "StartServices"]
    assert sorted(order, key=sequence.__getitem__) == order


def test_the_firewall_is_opened_for_given_addresses_only(built: tuple[Path, Path]) -> None:
    actions = {row["Action"]: row["Target"] for row in rows(built[0], "CustomAction")}
    conditions = {row["Action"]: row["Condition"] for row in rows(built[0], "InstallExecuteSequence")}
    assert "remoteip=[ALLOW_FROM]" in actions["RuleAdded"]
    assert conditions["RuleAdded"].startswith("ALLOW_FROM AND ")
    assert conditions["RuleRemoved"] == 'REMOVE~="ALL" AND NOT UPGRADINGPRODUCTCODE'


def imported(file: Path) -> set[str]:
    text = subprocess.run(["x86_64-w64-mingw32-objdump", "-p", file], capture_output=True, text=True).stdout
    return {name.lower() for name in re.findall(r"DLL Name: (\S+)", text)}


def test_nothing_of_wine_is_in_it_and_nothing_is_missing(built: tuple[Path, Path]) -> None:
    tree = built[1]
    programs = [file for file in tree.rglob("*") if file.suffix.lower() in (".dll", ".pyd", ".exe")]
    assert len(programs) > 60
    assert [file.name for file in programs if re.search(rb"Wine (builtin|placeholder) DLL", file.read_bytes())] == []
    assert not list(tree.rglob("bcryptprimitives.dll"))
    own = {file.name.lower() for file in programs}
    wanted = {name for file in programs for name in imported(file)}
    assert {name for name in wanted - own if not OF_WINDOWS.match(name)} == set()


def test_python_looks_nowhere_but_in_its_folder(built: tuple[Path, Path]) -> None:
    lines = (built[1] / "python311._pth").read_text().split()
    assert lines == [".", "python311.zip", "packages", "packages\\win32", "packages\\win32\\lib"]
    assert not list((built[1] / "packages").glob("*.pth"))


def test_what_wixl_drops_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "qlik-license-exporter.exe").write_text("")
    text = msi.wxs(tmp_path / "tree", "1.2.3")
    (tmp_path / "good.wxs").write_text(text)
    msi.assemble(tmp_path / "good.wxs", tmp_path / "good.msi")
    (tmp_path / "bad.wxs").write_text(text.replace("Wait='yes'", "Wait='yes' Unheard='yes'"))
    with pytest.raises(msi.BrokenClaimError, match="has no property named 'Unheard'"):
        msi.assemble(tmp_path / "bad.wxs", tmp_path / "bad.msi")


def test_packing_again_gives_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    assert msi.pack(built[1], __version__, tmp_path).read_bytes() == built[0].read_bytes()


def test_what_is_compiled_is_the_same_in_another_folder(built: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    shutil.copy(built[1] / "python311.dll", tmp_path / "tree")
    msi.compile_programs(tmp_path / "tree", tmp_path)
    for name in ("python3.dll", "qlik-license-exporter.exe"):
        assert (tmp_path / "tree" / name).read_bytes() == (built[1] / name).read_bytes(), name


def test_it_is_signed_where_a_key_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "qlik-license-exporter.exe").write_text("")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    use = ["-addext", "extendedKeyUsage=codeSigning", "-keyout", tmp_path / "key", "-out", tmp_path / "certificate"]
    subprocess.run([*command, *use], check=True, capture_output=True)
    monkeypatch.setenv("MSI_KEY", str(tmp_path / "key"))
    monkeypatch.setenv("MSI_CERTIFICATE", str(tmp_path / "certificate"))
    made = msi.pack(tmp_path / "tree", "1.2.3", tmp_path)
    verify = ["osslsigncode", "verify", "-CAfile", tmp_path / "certificate", "-in", made]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert "Signature verification: ok" in done.stdout, done.stdout + done.stderr


# --- under Wine


class Machine:
    """A Windows of Wine's own, with nothing in it; ended and removed after the test."""

    def __init__(self, folder: Path) -> None:
        self.drive = folder / "drive_c"
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")},
            "WINEPREFIX": str(folder),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "LC_ALL": "C.UTF-8",
            "WINEDLLOVERRIDES": "mscoree,mshtml=;explorer.exe=d",
        }
        self.silently("wineboot", "-i")
        self.silently("wineserver", "-k")
        self.silently("wineserver", "-p300")
        self.silently("wine", "reg", "add", "HKCU\\Software\\Wine", "/v", "Version", "/d", "win10", "/f")
        self.silently("wine", "reg", "add", "HKCU\\Software\\Wine\\Drivers", "/v", "Graphics", "/d", "null", "/f")
        # What Wine 8 lacks of Windows, for what is written in Rust.
        gcc = ["x86_64-w64-mingw32-gcc", "-shared", "-O2", "-s", REPOSITORY / "tests/windows/bcryptprimitives.c"]
        target = self.drive / "windows/system32/bcryptprimitives.dll"
        subprocess.run([*gcc, "-o", target, "-ladvapi32"], check=True)

    def silently(self, *command: Any) -> int:
        """Run it without pipes, which services would keep open. Its code."""
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        return subprocess.run(command, env=self._environment, timeout=180, start_new_session=True, **silent).returncode

    def msiexec(self, action: str, file: Path, *properties: str) -> int:
        shutil.copy(file, self.drive / file.name)
        return self.silently("wine", "msiexec", action, f"C:\\{file.name}", "/qn", *properties)

    def service_key(self) -> dict[str, str]:
        key = f"HKLM\\System\\CurrentControlSet\\Services\\{service.SERVICE_NAME}"
        out = self.drive / "key.reg"
        out.unlink(missing_ok=True)
        self.silently("wine", "reg", "export", key, "C:\\key.reg", "/y")
        text = out.read_text("utf-16") if out.exists() else ""
        return {
            name: value.replace('\\"', '"') for name, value in re.findall(r'^"(\w+)"="?(.*?)"?$', text, re.MULTILINE)
        }

    def end(self) -> None:
        self.silently("wineserver", "-k")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    assert shutil.which("wine"), "needs wine: apt-get install wine wine64"
    made = Machine(tmp_path / "wine")
    yield made
    made.end()


def scraped(port: int, series: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                found = re.findall(rf"^{re.escape(series)}.* (\S+)$", answer.read().decode(), re.MULTILINE)
            if found:
                return str(found[0])
        except OSError:
            pass
        assert time.monotonic() < deadline, f"no {series} on port {port}"
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_it_is_installed_scraped_upgraded_with_its_state_and_removed(
    built: tuple[Path, Path], machine: Machine, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = machine.drive / "Program Files" / service.SERVICE_NAME
    # Wine's services have another %ProgramData% than its programs.
    homes = [machine.drive / place / service.SERVICE_NAME for place in ("ProgramData", "users/Public")]
    for home in homes:
        home.mkdir()
        (home / "config.yml").write_text(f"probes: []\nweb: {{listen_addresses: ['127.0.0.1:{port}']}}\n")

    assert machine.msiexec("/i", built[0], "ALLOW_FROM=192.0.2.10") == 0
    key = machine.service_key()
    assert key["ImagePath"].replace("\\\\", "\\") == (
        rf'"C:\Program Files\{service.SERVICE_NAME}\{service.SERVICE_NAME}.exe" {service.HOST_ARGUMENT}'
    )
    assert key["ObjectName"].replace("\\\\", "\\") == service.ACCOUNT
    assert key["Start"] == "dword:00000002"
    assert scraped(port, "qlik_license_exporter_build_info") == "1.0"
    begun = scraped(port, "qlik_license_exporter_first_start_timestamp_seconds")
    assert (homes[0] / "log").is_dir(), "`service install` has run"

    newer = msi.pack(built[1], "0.9.9", tmp_path)
    assert machine.msiexec("/i", newer) == 0
    assert scraped(port, "qlik_license_exporter_first_start_timestamp_seconds") == begun, "the state is kept"

    assert machine.msiexec("/x", newer) == 0
    assert machine.service_key() == {}
    assert [file for file in program.rglob("*") if file.is_file()] == []
    assert (homes[1] / "state.db").exists()
    assert (homes[1] / "config.yml").exists()
