"""Signals at any instant, and limits that leave no room: the process ends with a code and a line, never a traceback."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.last_words import OPEN_FILES, reason
from tests.exporting import REPOSITORY, ExporterProcess, Site, eventually

LOADING = """
import sys
class Held:
    def find_spec(self, name, path=None, target=None):
        if name == "exporter.cli":
            print("loading", flush=True)
            sys.stdin.readline()
sys.meta_path.insert(0, Held())
from exporter.__main__ import main
sys.exit(main())
"""
"""The exporter, held while most of it is still to be loaded, until a line comes."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).with_samples()


@pytest.fixture
def held(site: Site, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    words = getattr(request, "param", ["run"])
    with (
        (site.folder / "said").open("w") as said,
        subprocess.Popen(
            [sys.executable, "-c", LOADING, *words, "--config.file", str(site.configured())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            cwd=REPOSITORY,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_program_is_loaded_is_a_clean_one(
    held: subprocess.Popen[str], site: Site, number: signal.Signals
) -> None:
    held.send_signal(number)
    assert held.wait(10) == 0
    assert (site.folder / "said").read_text() == ""
    assert not site.state.exists()


@pytest.mark.slow
def test_a_reload_while_the_program_is_loaded_is_done_once_it_runs(held: subprocess.Popen[str], site: Site) -> None:
    assert held.stdin is not None
    held.send_signal(signal.SIGHUP)
    held.stdin.write("\n")
    held.stdin.flush()
    eventually("reloaded", lambda: "the new configuration has been applied" in (site.folder / "said").read_text())
    held.send_signal(signal.SIGTERM)
    assert held.wait(10) == 0


@pytest.mark.parametrize("held", [["check"]], indirect=True)
def test_a_terminal_that_is_closed_ends_every_other_command(held: subprocess.Popen[str]) -> None:
    assert held.stdin is not None
    held.send_signal(signal.SIGHUP)
    held.stdin.write("\n")
    held.stdin.flush()
    assert held.wait(10) == -signal.SIGHUP


@pytest.mark.slow
def test_signals_that_come_while_others_are_handled_hold_up_no_stop(site: Site) -> None:
    """A handler runs between any two steps, also of another handler: one that takes a lock waits for itself."""
    process = ExporterProcess(site, "run", "--config.file", str(site.configured())).await_listening().process
    for _ in range(2000):
        process.send_signal(signal.SIGHUP)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < began + 10:
        process.send_signal(signal.SIGTERM)
    assert process.wait(1) == 0
    assert time.monotonic() - began < 4


def _limited(site: Site, limit: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh", sys.executable, "-m", "exporter", *words]
        + ["--config.file", str(site.configured())],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_too_few_open_files_are_said_in_one_line(site: Site) -> None:
    ended = _limited(site, "-n 12")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "qlik-license-exporter: only 12 open files are allowed, at least 64 are needed (ulimit -n, LimitNOFILE=)\n"
    )


def test_a_limit_of_open_files_that_may_be_raised_is_raised(site: Site) -> None:
    ended = _limited(site, "-S -n 12", "--once")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("kilobytes", [24_000, 30_000, 40_000, 50_000, 60_000])
def test_too_little_memory_ends_in_one_line(site: Site, kilobytes: int) -> None:
    """Less than the threads' stacks need: where it fails depends on the machine, but not whether it is said.

    With some 20,000, one start in twenty never ends: CPython 3.11 needs memory to handle its own MemoryError, and retries.
    """
    ended = _limited(site, f"-v {kilobytes}")
    assert ended.returncode == 1
    last = [line for line in ended.stderr.splitlines() if not line.startswith("ts=")]
    assert len(last) == 1, ended.stderr
    assert last[0].startswith("qlik-license-exporter: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/x"), f"too many open files: at least {OPEN_FILES} must be"),
        (MemoryError(), "there is not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory"),
        (RuntimeError("can't start new thread"), "no thread can be started"),
        (ImportError("cannot load\nit"), "the installation is damaged, or there is not enough memory: cannot load it"),
        (OSError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError(errno.EPIPE, os.strerror(errno.EPIPE)), "Broken pipe"),
        (KeyError("a fault\nof ours"), "KeyError: 'a fault\\nof ours' (at an unknown place); please report this"),
    ],
)
def test_what_ends_a_process_is_said_for_a_person(error: Exception, words: str) -> None:
    assert reason(error).startswith(words)
    assert "\n" not in reason(error)


def test_a_fault_of_ours_names_its_place() -> None:
    try:
        reason(None)  # type: ignore[arg-type]  # a fault, for a change
    except AttributeError as fault:
        assert "(at exporter/last_words.py:" in reason(fault)
