"""What of the Windows service can be shown anywhere; its life in the service manager: tests/windows/test_service.py."""

import argparse
import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import dated_log
from exporter.commands import service
from exporter.config import Config
from exporter.dated_log import DatedLog

FIRST = datetime.date(2026, 11, 25)


def test_the_service_runs_with_the_files_of_its_folder(tmp_path: Path) -> None:
    assert service.run_arguments(tmp_path) == ["run"]
    (tmp_path / "config.yml").touch()
    (tmp_path / "web.yml").touch()
    assert service.run_arguments(tmp_path) == [
        *("run", "--config.file", str(tmp_path / "config.yml")),
        *("--web.config.file", str(tmp_path / "web.yml")),
    ]


def test_rights_are_asked_for_on_the_folders_of_the_logs_only() -> None:
    local, remote = service.log_folders(
        [
            r"C:\ProgramData\Qlik\Sense\Log\Licenses\*.log",
            r"C:\ProgramData\Qlik\Sense\Log\Licenses\*.txt",
            r"\\filer\QlikShare\Logs\*_License_Repository.txt",
        ],
        [r"D:\Qlik.Archive", "", "\\\\filer\\QlikShare\\ArchivedLogs\\"],
    )
    assert local == [r"C:\ProgramData\Qlik\Sense\Log\Licenses", r"D:\Qlik.Archive"]
    assert remote == [r"\\filer\QlikShare\ArchivedLogs", r"\\filer\QlikShare\Logs"]


def test_hazard_135_the_log_has_one_file_a_day_and_renames_none(tmp_path: Path) -> None:
    days = iter([FIRST, FIRST, FIRST + datetime.timedelta(days=1)])
    log = DatedLog(tmp_path / "log", service.SERVICE_NAME, today=lambda: next(days))
    for line in ("one\n", "two\n", "three\n"):
        log.write(line)
    assert {file.name: file.read_text() for file in (tmp_path / "log").iterdir()} == {
        "qlik-license-exporter-2026-11-25.log": "one\ntwo\n",
        "qlik-license-exporter-2026-11-26.log": "three\n",
    }
    assert log.last_line == "three"


def test_the_log_forgets_old_days_and_nothing_else(tmp_path: Path) -> None:
    day = FIRST
    log = DatedLog(tmp_path, service.SERVICE_NAME, today=lambda: day)
    (tmp_path / "qlik-license-exporter-notes.log").touch()
    for _ in range(dated_log.LOG_DAYS + 5):
        log.write("line\n")
        day += datetime.timedelta(days=1)
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert len(kept) == dated_log.LOG_DAYS + 1 + 1
    assert "qlik-license-exporter-notes.log" in kept
    assert "qlik-license-exporter-2026-11-25.log" not in kept


def test_a_day_of_the_log_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dated_log, "LOG_BYTES_PER_DAY", 1000)
    log = DatedLog(tmp_path, service.SERVICE_NAME, today=lambda: FIRST)
    for _ in range(100):
        log.write("x" * 99 + "\n")
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [1000]


def test_a_log_that_cannot_be_written_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = DatedLog(tmp_path / "file" / "log", service.SERVICE_NAME, today=lambda: FIRST)
    assert log.write("reason\n") == 7
    assert log.last_line == "reason"


def test_the_service_manager_has_its_answer_before_anything_large_is_loaded() -> None:
    code = "import sys, exporter.commands.service; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "exporter" in loaded
    assert not loaded & {"aiohttp", "asyncio", "yaml", "msgspec", "cryptography", "prometheus_client", "sqlite3"}


def test_the_four_actions_are_the_contracts() -> None:
    parser = argparse.ArgumentParser()
    service.add_arguments(parser)
    for action in ("install", "remove", "start", "stop"):
        assert parser.parse_args([action]).action == action


def test_elsewhere_the_command_says_what_to_use_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert service.run(argparse.Namespace(action="install"), Config()) == 1
    assert "systemd" in capsys.readouterr().err


def test_the_services_sid_is_the_one_that_windows_makes_of_a_name() -> None:
    trusted_installer = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"  # published by Microsoft
    assert service.service_sid("TrustedInstaller") == trusted_installer


@pytest.mark.parametrize(
    ("folder", "closed"),
    [
        (r"C:\Program Files\Python311", False),
        (r"C:\Python313", False),
        (r"C:\Users\anna\AppData\Local\Programs\Python\Python312", True),
        (r"c:\users\ANNA\venv\Scripts", True),
        (r"C:\Users\..\Users\Public\Python", True),
        (r"C:\Users2\Python", False),
        (r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.12_x64", True),
        (r"D:\Users\anna\Python", False),
    ],
)
def test_a_python_that_the_services_account_cannot_run_is_told(folder: str, closed: bool) -> None:
    found = service.closed_to_services([r"C:\Windows", folder], r"C:\Users")
    assert found == (folder if closed else None)
