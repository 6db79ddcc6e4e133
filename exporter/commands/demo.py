"""`demo`: plays a license incident, until stopped or for some rounds; see `exporter.demo`."""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from exporter.config import Config
from exporter.demo.play import Demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "--rounds", type=int, default=0, metavar="N", help="stop after N rounds (default: run until Ctrl-C)"
    )
    parser.add_argument("--pace", type=float, default=1.0, metavar="X", help="play X times faster (default: 1)")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Play until stopped; 0, or 1 if a chapter ended with an unexpected verdict."""
    if not 0 < arguments.pace <= 5:
        print("--pace: expected more than 0 and at most 5", file=sys.stderr)
        return 2
    with _stopped_by_signals(), contextlib.ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="qlik-license-demo-")))
        try:
            return 0 if Demo(folder, arguments.pace, ends).play(arguments.rounds) else 1
        except KeyboardInterrupt:
            print("\nStopped. Everything that the demo created has been removed.")
            return 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Treat a `kill` or a closed terminal like Ctrl-C, so that nothing is left behind."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = [(number, signal.signal(number, stop)) for number in wanted]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
