"""The process stops at every step between reading, folding, saving and exposing, at the first start too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STEPS = ("read", "folded", "saved", "exposed")
PROGRAM = Path(__file__).with_name("crash_program.py")


def _run(folder: Path, crash: str = "") -> tuple[int, list[int]]:
    """The exit code, and the durable counts that were exposed."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    result = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), *([crash] if crash else [])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert result.stderr == ""
    return result.returncode, [int(line) for line in result.stdout.split()]


def _write(folder: Path, name: str, first: int, count: int) -> None:
    with open(folder / name, "ab") as file:
        file.write(b"".join(b'{"n":%d}\n' % number for number in range(first, first + count)))


@pytest.mark.parametrize("crash", [f"{step}:{number}" for step in STEPS for number in (1, 2, 3)])
def test_a_crash_at_any_step_of_the_first_start_counts_each_new_record_once(folder: Path, crash: str) -> None:
    _write(folder, "app.txt", 0, 5)  # history: restated, never counted
    _write(folder, "more", 5, 7)  # written by the process itself once it has listed the log
    code, exposed = _run(folder, crash)
    assert code == 9 or crash.endswith(":3"), "it did not come to that step"
    again, after = _run(folder)
    assert again == 0
    counts = exposed + after
    assert counts == sorted(counts), "a durable counter fell"
    assert counts[-1] == 7


@pytest.mark.windows
def test_crashes_at_every_step_one_after_another_between_rolls(folder: Path) -> None:
    assert _run(folder)[0] == 0
    written = 0
    exposed: list[int] = []
    for number, crash in enumerate(f"{step}:{number}" for number in (1, 2) for step in STEPS):
        _write(folder, "app.txt", written, 10)
        os.rename(folder / "app.txt", folder / f"app_20240101T0000{number:02}Z.log")
        _write(folder, "app.txt", written + 10, 5)
        written += 15
        code, counts = _run(folder, crash)
        assert code in (0, 9)
        exposed += counts
    code, counts = _run(folder)
    exposed += counts
    assert code == 0
    assert exposed == sorted(exposed), "a durable counter fell"
    assert exposed[-1] == written
