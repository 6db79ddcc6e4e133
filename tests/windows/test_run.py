"""On Windows: the installed exporter starts, is scraped, is stopped by a console event, and keeps its state."""

import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import console_event

pytestmark = pytest.mark.windows
RECORDS = 'qlik_license_exporter_log_records_total{log="licenses"}'

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(site, tmp_path: Path) -> Iterator[Start]:
    """Starts the exporter on the site; ends what is left of it."""
    started = []

    def start() -> "subprocess.Popen[bytes]":
        (tmp_path / "config.yml").write_text(site.configuration)
        files = ("--config.file", str(tmp_path / "config.yml"), "--state.file", str(tmp_path / "state.db"))
        with (tmp_path / "exporter.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "exporter", "run", *files],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(30)
    print((tmp_path / "exporter.log").read_text(errors="replace"))  # for a test that failed


def test_a_console_event_stops_it_and_its_counters_go_on_at_the_next_start(site, start: Start) -> None:
    process = start()
    site.wait_for(RECORDS, 0, alive=lambda: process.poll() is None)
    site.write(1, 2, 3)
    site.wait_for(RECORDS, 3)
    console_event.send(process.pid, "ctrl-c")
    assert process.wait(30) == 0
    with pytest.raises(urllib.error.URLError):
        site.scrape()

    site.write(4)  # while it is down
    process = start()
    site.wait_for(RECORDS, 4, alive=lambda: process.poll() is None)
    assert site.value("qlik_license_sync_attempts_total") == 4


def test_hazard_117_a_killed_exporter_goes_on_where_it_was(site, start: Start) -> None:
    process = start()
    site.wait_for(RECORDS, 0, alive=lambda: process.poll() is None)
    site.write(1, 2)
    site.wait_for(RECORDS, 2)
    process.kill()
    process.wait(30)
    site.write(3)
    site.take_a_port()  # on a busy machine Wine's server goes on listening for a program that was killed
    process = start()
    site.wait_for(RECORDS, 3, alive=lambda: process.poll() is None)


def test_hazard_67_another_process_rolls_the_log_while_it_is_read(site, start: Start) -> None:
    process = start()
    site.wait_for(RECORDS, 0, alive=lambda: process.poll() is None)
    site.write(1, 2)
    site.wait_for(RECORDS, 2)
    roll = "import os, sys; os.rename(sys.argv[1], sys.argv[2])"
    rolled = site.log.with_name("NODE1_Licenses_2026-11-25T03.00.00Z.log")
    subprocess.run(
        [sys.executable, "-I", "-c", roll, str(site.log), str(rolled)], stdin=subprocess.DEVNULL, check=True, timeout=60
    )
    site.write(3)
    site.wait_for(RECORDS, 3)
