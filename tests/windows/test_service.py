"""The real Windows service, through the service manager: installed, started, scraped, stopped, upgraded, removed."""

import os
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest
import pywintypes
import win32service
import win32serviceutil
import winerror
from conftest import PROGRAM_DATA

from exporter.commands import service

pytestmark = pytest.mark.windows
RECORDS = 'qlik_license_exporter_log_records_total{log="licenses"}'
SECONDS = 60


def command(action: str) -> int:
    # No pipes: should the service inherit one, a wait for its end would never end.
    return subprocess.run(
        [sys.executable, "-I", "-m", "exporter", "service", action],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PROGRAMDATA": str(PROGRAM_DATA)},
        timeout=SECONDS,
    ).returncode


def said(action: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "exporter", "service", action],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PROGRAMDATA": str(PROGRAM_DATA)},
        timeout=SECONDS,
    )
    assert "Traceback" not in done.stderr
    return done.stderr if done.returncode else done.stdout


def state() -> int:
    return int(win32serviceutil.QueryServiceStatus(service.SERVICE_NAME)[1])


def configuration() -> tuple[int, str, str]:
    """Start type, command line and account, as the service manager has them."""
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
    handle = win32service.OpenService(manager, service.SERVICE_NAME, win32service.SERVICE_QUERY_CONFIG)
    try:
        found = win32service.QueryServiceConfig(handle)
        return int(found[1]), str(found[3]), str(found[7])
    finally:
        win32service.CloseServiceHandle(handle)
        win32service.CloseServiceHandle(manager)


def test_a_service_lives_and_keeps_its_state_over_stop_upgrade_and_removal(site, home: Path) -> None:
    assert command("install") == 0
    assert (home / "config.yml").read_text(encoding="utf-8") == service.FIRST_CONFIGURATION
    start_type, line, account = configuration()
    assert start_type == win32service.SERVICE_AUTO_START
    assert line.endswith("-I -m exporter.commands.service")
    assert account == service.ACCOUNT

    (home / "config.yml").write_text(site.configuration)
    assert command("start") == 0
    assert state() == win32service.SERVICE_RUNNING
    site.wait_for(RECORDS, 0)
    site.write(1, 2, 3)
    site.wait_for(RECORDS, 3)
    assert command("stop") == 0
    assert state() == win32service.SERVICE_STOPPED
    with pytest.raises(urllib.error.URLError):
        site.scrape()

    assert command("install") == 0  # an upgrade
    assert (home / "config.yml").read_text() == site.configuration
    site.write(4)
    assert command("start") == 0
    site.wait_for(RECORDS, 4)

    assert command("remove") == 0  # while it runs
    with pytest.raises(pywintypes.error) as caught:
        state()
    assert caught.value.winerror == winerror.ERROR_SERVICE_DOES_NOT_EXIST
    assert (home / "state.db").exists()
    assert (home / "config.yml").exists()
    assert list((home / "log").glob("qlik-license-exporter-????-??-??.log"))


def test_a_service_that_cannot_use_its_configuration_ends_and_says_why(home: Path) -> None:
    assert command("install") == 0
    (home / "config.yml").write_text("polling: 1s\n")
    command("start")  # the manager may or may not see it running for a moment
    deadline = time.monotonic() + SECONDS
    text = ""
    while "polling" not in text:  # Wine's manager does not notice the end of a process: the log is asked
        assert time.monotonic() < deadline, text
        text = "".join(file.read_text(encoding="utf-8") for file in (home / "log").glob("*.log"))
        time.sleep(0.1)
    assert "Traceback" not in text


def test_each_command_says_what_is_wrong_in_one_line(home: Path) -> None:
    for action in ("start", "stop", "remove"):
        assert "it is not installed" in said(action), action
    assert command("install") == 0
    assert "it is not running" in said("stop")
    assert "is up to date" in said("install")


def chown(path: Path, user: str) -> None:
    """By Linux: to Windows, what another Linux user owns belongs to a stranger."""
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    change = ["start", "/wait", "/unix", "/bin/chown", user, unix_name(path)]
    subprocess.run(change, check=True, timeout=SECONDS, **silent)


def unix_name(path: Path) -> str:
    return os.environ["WINEPREFIX"] + "/drive_c" + path.as_posix().removeprefix("C:")


@pytest.mark.parametrize("stranger_owns", ["the folder", "the configuration", "a file below it"])
def test_a_folder_that_a_stranger_prepared_is_refused_and_nothing_is_installed(home: Path, stranger_owns: str) -> None:
    (home / "log").mkdir(parents=True)
    (home / "config.yml").write_text("logs: {licenses: {paths: ['C:\\secret\\*']}}\n")
    (home / "log" / "old.log").write_text("")
    owned = {"the folder": home, "the configuration": home / "config.yml", "a file below it": home / "log" / "old.log"}
    chown(owned[stranger_owns], "nobody")
    try:
        message = said("install")
        assert f"{owned[stranger_owns]} belongs to" in message
        assert "takeown" in message
        with pytest.raises(pywintypes.error):
            state()
    finally:
        chown(owned[stranger_owns], "root")
    assert "is installed" in said("install")


def test_rights_that_cannot_be_set_are_an_error(home: Path) -> None:
    assert command("install") == 0
    code = "import os, sys; from exporter import cli; os.environ['SYSTEMROOT'] = 'C:/nowhere'; sys.exit(cli.main(['service', 'install']))"
    environment = {**os.environ, "PROGRAMDATA": str(PROGRAM_DATA)}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert (
        f"cannot install the service {service.SERVICE_NAME}: the permissions on {home} could not be set" in done.stderr
    )


def test_the_service_manager_has_its_answer_before_anything_large_is_loaded() -> None:
    code = "import sys, exporter.commands.service as s; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "exporter" in loaded
    assert not loaded & {"aiohttp", "asyncio", "yaml", "msgspec", "cryptography", "prometheus_client", "sqlite3"}
