"""`run`: follow, probe and serve until stopped; with `--once` read everything, print the exposition, and end."""

import argparse
import os
import sys
import threading
import time
from queue import SimpleQueue

from exporter import signals
from exporter.commands.terminal import complain
from exporter.config import Config
from exporter.last_words import too_few_open_files
from exporter.once import exposition_once

STOPPED, FAILED = 0, 1
LONGEST_STOP = 2.8
"""Seconds after a signal after which the process ends, even if something hangs."""


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
    """0 after a stop; 1 with a message if the state file or an address is in use."""
    if few := too_few_open_files():
        complain(few)
        return FAILED
    if arguments.once:
        signals.release()
        sys.stdout.write(exposition_once(config, arguments.config_file or ""))
        sys.stdout.flush()
        return STOPPED
    stop: threading.Event = arguments.stop or threading.Event()
    reload_asked = threading.Event()
    if arguments.stop is None:  # first of all: a signal may come while the rest is still loaded
        came: SimpleQueue[int] = SimpleQueue()
        signals.heed(came.put)
        threading.Thread(target=obey, args=(came, stop, reload_asked), name="signals", daemon=True).start()
    from exporter.app import Exporter, Options  # --once needs neither the web server nor the state file
    from exporter.store import StoreError, StoreLockedError
    from exporter.textfile import TextfileHeldError
    from exporter.web.sockets import ListenError

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
    except (StoreError, StoreLockedError, TextfileHeldError, ListenError) as error:
        complain(arguments.redact(str(error)))
        return FAILED
    finally:
        if arguments.stop is None:
            signals.ignore()
    return STOPPED


def obey(came: "SimpleQueue[int]", stop: threading.Event, reload_asked: threading.Event) -> None:
    """Handle signals. After a stop was requested, end the process after `LONGEST_STOP` if stopping hangs.

    Python would wait for threads that hang in a dead file system (hazard 121). What was counted is safe: nothing is
    counted before it is saved.
    """
    while signals.is_reload(came.get()):
        reload_asked.set()
    stop.set()
    time.sleep(LONGEST_STOP)
    os._exit(STOPPED)
