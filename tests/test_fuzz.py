"""Coverage-guided fuzzing, for a while that is always the same. `make fuzz` goes on where this ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]


@pytest.mark.parametrize(("target", "runs"), [("logs", 4_000), ("configuration", 8_000), ("answers", 20_000)])
def test_no_bytes_break_a_promise(target: str, runs: int, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, f"-runs={runs}", "-seed=1", "-max_len=2000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    assert f"Done {runs} runs" in ran.stderr


def test_an_unknown_target_is_a_sentence() -> None:
    ran = subprocess.run([sys.executable, "-m", "tests.fuzz"], cwd=PROJECT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("usage: python -m tests.fuzz logs|configuration|answers")
