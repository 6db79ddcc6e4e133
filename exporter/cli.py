"""The command line: arguments become a configuration and one command. Turns every error into a sentence and a code."""

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from exporter import __version__, signals
from exporter.commands.terminal import complain
from exporter.config import Config, ConfigError, StateConfig, is_address, load, local_path, redaction_of
from exporter.last_words import reason
from exporter.log import FORMATS, LEVELS, redact_log, start_logging

STOPPED, FAILED, UNUSABLE = 0, 1, 2
"""Exit codes: stopped as asked; failed; the configuration or the command line cannot be used."""


class _Command(NamedTuple):
    module: str
    """Where `add_arguments(parser)` and `run(arguments, config) -> exit code` are; imported only when needed."""
    sentence: str
    needs_config: bool = True


COMMANDS = {
    "run": _Command("exporter.commands.run", "follow the logs, probe, and serve the metrics (the default)"),
    "check": _Command(
        "exporter.commands.check",
        "check the configuration, and whether logs, probe targets and the Repository API can be reached",
    ),
    "explain": _Command("exporter.commands.explain", "explain what each log line means, and which series it changes"),
    "diagnose": _Command(
        "exporter.commands.diagnose", "diagnose this machine or copied logs: one verdict, with its cure"
    ),
    "probe": _Command("exporter.commands.probe", "test one connection, stage by stage"),
    "backfill": _Command("exporter.commands.backfill", "write the history in the logs as OpenMetrics for Prometheus"),
    "bundle": _Command("exporter.commands.bundle", "a clean zip for a support case"),
    "healthy": _Command(
        "exporter.commands.healthy", "ask whether an exporter answers, with TLS or without", needs_config=False
    ),
    "assets": _Command(
        "exporter.commands.assets",
        "write the rules, dashboards, runbooks and units of this version to a folder",
        needs_config=False,
    ),
    "demo": _Command("exporter.commands.demo", "play a license incident with artificial logs", needs_config=False),
    "service": _Command(
        "exporter.commands.service", "install, remove, start or stop the Windows service", needs_config=False
    ),
}
_VALUED = {
    "--config.file",
    "--log.level",
    "--log.format",
    "--state.file",
    "--web.listen-address",
    "--web.config.file",
    "--textfile.directory",
}
"""The flags that may stand before a command and are followed by a value."""


def main(argv: Sequence[str] | None = None, stop: threading.Event | None = None) -> int:
    """Run one command and return its exit code. Nothing it does ends in a traceback.

    `stop` ends `run` once it is set, for a caller without signals (the Windows service); else signals do.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, or a process without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process lives
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a Windows pipe speaks cp1252
    words = list(sys.argv[1:] if argv is None else argv)
    name = _command_in(words)
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    parser = _parser(name, command)
    module.add_arguments(parser)
    try:
        arguments = parser.parse_args(words)
    except SystemExit as ended:  # argparse has said what is wrong, or has shown the help
        return ended.code if isinstance(ended.code, int) else UNUSABLE
    arguments.stop = stop
    start_logging(arguments.log_level, arguments.log_format)
    arguments.redact = str
    try:
        if name != "run":
            signals.release()
        config = _config(arguments, command)
        arguments.reread = lambda: _config(arguments, command)
        return int(module.run(arguments, config))
    except ConfigError as error:
        complain(error)
        return UNUSABLE
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED
    except OSError as error:
        complain(arguments.redact(reason(error)))
        return FAILED


def _command_in(words: list[str]) -> str:
    """The command among `words`, which is taken out of them; flags may stand before it. `run` where there is none."""
    if words[:1] in (["-h"], ["--help"], ["help"]):
        words[:] = ["--help"]
        return "run"
    value_follows = False
    for place, word in enumerate(words):
        if value_follows:
            value_follows = False
        elif word.startswith("-"):
            value_follows = word in _VALUED
        elif word in COMMANDS:
            del words[place]
            return word
        else:
            return "run"  # whose parser says that it does not know this word
    return "run"


def _parser(name: str, command: _Command) -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<10}{command.sentence}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="qlik-license-exporter" if name == "run" else f"qlik-license-exporter {name}",
        description="Prometheus exporter for Qlik Sense licensing." if name == "run" else command.sentence,
        epilog=f"commands:\n{commands}\n\nRun `qlik-license-exporter COMMAND --help` for the options of a command."
        if name == "run"
        else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    parser.add_argument("--config.file", dest="config_file", metavar="FILE", help="the configuration file; optional")
    parser.add_argument("--log.level", dest="log_level", choices=LEVELS, default="info", help="default: info")
    parser.add_argument("--log.format", dest="log_format", choices=FORMATS, default="logfmt", help="default: logfmt")
    parser.add_argument("--state.file", dest="state_file", metavar="FILE", help="where offsets and counters are kept")
    parser.add_argument(
        "--show-people",
        action="store_true",
        help="do not mask users, hosts, keys and license numbers; on a terminal only",
    )
    parser.add_argument("--version", action="version", version=f"qlik-license-exporter {__version__}")
    return parser


def _config(arguments: argparse.Namespace, command: _Command) -> Config:
    """The configuration with what the flags override."""
    arguments.config_file = arguments.config_file or _default_file()
    config = load(arguments.config_file) if command.needs_config else Config()
    arguments.redact = redaction_of(config)
    redact_log(arguments.redact)
    if arguments.state_file:
        state, provenance = StateConfig(file=arguments.state_file), config.provenance.without("state")
        config = msgspec.structs.replace(config, state=state, provenance=provenance)
    if addresses := getattr(arguments, "listen_addresses", None):
        for address in addresses:
            if not is_address(address):
                raise ConfigError(
                    "--web.listen-address", "", f"found `{address}`, expected host:port, :port or [IPv6]:port"
                )
        web = msgspec.structs.replace(config.web, listen_addresses=tuple(addresses))
        provenance = config.provenance.without("web.listen_addresses")
        config = msgspec.structs.replace(config, web=web, provenance=provenance)
    if arguments.show_people and not sys.stdout.isatty():
        complain("--show-people works on a terminal only: users stay masked")
        arguments.show_people = False
    return config


def _default_file() -> str | None:
    """The configuration that the Windows service uses, where it is there: no flag then needs to name it."""
    if sys.platform != "win32":
        return None
    file = local_path(r"%ProgramData%\qlik-license-exporter\config.yml")
    return file if os.path.exists(file) else None
