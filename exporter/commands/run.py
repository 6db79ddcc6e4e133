"""`run`: follow, probe and serve until stopped; with `--once` read everything, print the exposition, and end."""

import argparse
import os
import signal
import sys
import threading
import time
from types import FrameType

from exporter.commands.terminal import complain
from exporter.config import Config
from exporter.once import exposition_once

STOPPED, FAILED = 0, 1
LONGEST_STOP = 2.8
"""Seconds after a signal at which the process ends, whatever hangs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        action="append",
        metavar="ADDRESS",
        help="host:port, :port or [IPv6]:port; repeatable (default: :10188)",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config_file",
        metavar="FILE",
        help="TLS and users, in the format of Prometheus' exporter-toolkit",
    )
    parser.add_argument(
        "--textfile.directory",
        dest="textfile_directory",
        metavar="FOLDER",
        help="write qlik_license.prom to this folder; no port is opened then, unless --web.listen-address is given",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="read all logs from the beginning and count everything, probe once, print the metrics, and exit",
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """0 when stopped; 1 with a sentence when the state file is held, or an address is taken."""
    if arguments.once:
        sys.stdout.write(exposition_once(config, arguments.config_file or ""))
        sys.stdout.flush()
        return STOPPED
    stop: threading.Event = arguments.stop or threading.Event()
    reload_asked = threading.Event()
    if arguments.stop is None:  # first of all: a signal may come while the rest is still loaded
        _heed_signals(stop, reload_asked)
        threading.Thread(target=_end_at_last, args=(stop,), name="end", daemon=True).start()
    from exporter.app import Exporter, Options  # --once needs neither the web server nor the state file
    from exporter.store import StoreError, StoreLockedError
    from exporter.web.listener import ListenError

    options = Options(
        reread=arguments.reread,
        reload_asked=reload_asked,
        config_file=arguments.config_file or "",
        web_config_file=arguments.web_config_file,
        textfile_directory=arguments.textfile_directory,
        listens=bool(arguments.listen_addresses) or not arguments.textfile_directory,
    )
    try:
        Exporter(config, options).run(stop)
    except (StoreError, StoreLockedError, ListenError) as error:
        complain(arguments.redact(str(error)))
        return FAILED
    return STOPPED


def _end_at_last(stop: threading.Event) -> None:
    """End the process where stopping hangs: Python waits for threads that a dead file system may hold (hazard 121).

    What was counted is safe: nothing is counted before it is saved.
    """
    stop.wait()
    time.sleep(LONGEST_STOP)
    os._exit(STOPPED)


def _heed_signals(stop: threading.Event, reload_asked: threading.Event) -> None:
    """Stop on Ctrl-C, SIGTERM and, on Windows, Ctrl-Break; read the configuration again on SIGHUP elsewhere.

    By `signal.signal`: the loop's own handlers do not exist on Windows (hazard 115).
    """

    def stopping(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, stopping)
    signal.signal(signal.SIGTERM, stopping)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, stopping)
    else:
        signal.signal(signal.SIGHUP, lambda number, frame: reload_asked.set())
