"""The demo plays its incident on the real programs, and each chapter ends with the verdict that it should have."""

import contextlib
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from exporter.cli import main
from exporter.demo import play
from exporter.demo.site import Repository

pytestmark = pytest.mark.slow

PACE = 3.0
"""Times as fast as people see it: 20 s stand for the five days."""


@pytest.mark.timeout(180)
def test_the_demo_tells_its_story_with_the_right_verdicts_and_notifications(capsys: pytest.CaptureFixture[str]) -> None:
    assert shutil.which("prometheus"), "install Debian's prometheus"
    assert shutil.which("prometheus-alertmanager"), "install Debian's prometheus-alertmanager"
    code = main(["demo", "--rounds", "1", "--pace", str(PACE)])
    told = capsys.readouterr().out
    assert code == 0, told
    assert re.findall(r"verdict: (\w+), as it should be", told) == [chapter.verdict for chapter in play.CHAPTERS]
    lockout, stale = (
        told.index("FIRING critical QlikLicenseLockoutImminent"),
        told.index("FIRING critical QlikLicenseStale"),
    )
    assert lockout < told.index("the license is stale, and users are refused") < stale
    assert "RESOLVED critical QlikLicenseStale" in told[stale:]
    assert "Few professional seats are left at demo" in told[told.index("The last free seat is assigned") :]
    assert re.search(r"verdict: license_stale.* 5 of 25 seats free", told), "not for want of seats"
    assert re.search(r"verdict: seats_exhausted.* 0 of 25 seats free", told)
    assert re.search(r"[1-9]\d* no_access_pass, [1-9]\d* parallel_sessions", told)
    folder = re.search(r"log files +(\S+)", told)
    assert folder
    assert not Path(folder[1]).exists(), "it removes what it made"


def test_without_the_programs_it_plays_logs_metrics_and_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with contextlib.ExitStack() as ends:
        player = play.Demo(tmp_path, 5.0, ends)
        player._say_where(player._start_monitoring())
    told = capsys.readouterr().out
    assert "prometheus and alertmanager not found on PATH: only logs, metrics and status page" in told
    assert "/metrics" in told


@pytest.mark.parametrize("pace", ["0", "-1", "6"])
def test_a_pace_that_cannot_be_played_is_refused(capsys: pytest.CaptureFixture[str], pace: str) -> None:
    assert main(["demo", "--pace", pace]) == 2
    assert "--pace" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_it_ends_it_at_once_and_leaves_nothing_behind(number: signal.Signals) -> None:
    player = subprocess.Popen(
        [sys.executable, "-m", "exporter", "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    folder = ""
    assert player.stdout is not None
    for line in player.stdout:
        if found := re.search(r"log files +(\S+)", line):
            folder = found[1]
        if "All is well" in line:
            break
    player.send_signal(number)
    begun = time.monotonic()
    rest = player.communicate(timeout=30)[0]
    assert player.returncode == 0
    assert "Stopped" in rest
    assert "Traceback" not in rest
    assert time.monotonic() - begun < 15
    assert folder
    assert not Path(folder).exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if folder in " ".join(one.info["cmdline"] or ())]


def test_the_repository_of_the_demo_answers_only_who_holds_the_certificate(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    try:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "client.pem"))
        with (
            pytest.raises((ssl.SSLError, ConnectionError, urllib.error.URLError)),
            urllib.request.urlopen(repository.url, context=trusting, timeout=10),
        ):
            pass
        trusting.load_cert_chain(tmp_path / "client.pem", tmp_path / "client_key.pem")
        with urllib.request.urlopen(f"{repository.url}/qrs/license", context=trusting, timeout=10) as answer:
            assert json.load(answer)["isExpired"] is False
    finally:
        repository.close()
