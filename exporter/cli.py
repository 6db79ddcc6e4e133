"""The command line: from arguments to a configuration and one command. Every error ends as a message and a code."""

import argparse
import difflib
import gc
import importlib
import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

import msgspec

from exporter import __version__, signals
from exporter.commands.terminal import NO_JUDGEMENT, complain
from exporter.config import Config, ConfigError, StateConfig, is_address, load, local_path, redaction_of
from exporter.last_words import reason
from exporter.log import FORMATS, LEVELS, redact_log, start_logging

STOPPED, FAILED, UNUSABLE = 0, 1, 2
"""Exit codes: stopped normally; failed; the configuration or the command line is invalid."""
_CODES = (STOPPED, FAILED, UNUSABLE)


class _Command(NamedTuple):
    module: str
    """The module with `add_arguments(parser)` and `run(arguments, config) -> exit code`; imported only when needed."""
    sentence: str
    flags: tuple[str, ...] = ("config", "log")
    """The common options that the command uses; others are not offered."""
    no_result: int | None = None
    """The exit code for errors, if the codes above are results of the command."""


COMMANDS = {
    "run": _Command(
        "exporter.commands.run",
        "follow the logs, probe, and serve the metrics (the default)",
        flags=("config", "log", "state"),
    ),
    "check": _Command(
        "exporter.commands.check",
        "check the configuration, and whether logs, probe targets and the Repository API can be reached",
    ),
    "explain": _Command(
        "exporter.commands.explain",
        "explain what each log line means, and which series it changes",
        flags=("config", "log", "people"),
    ),
    "diagnose": _Command(
        "exporter.commands.diagnose",
        "diagnose this machine or copied logs: one verdict, with its cure",
        flags=("config", "log", "people"),
        no_result=NO_JUDGEMENT,
    ),
    "probe": _Command("exporter.commands.probe", "test one connection, stage by stage", flags=("config",)),
    "backfill": _Command("exporter.commands.backfill", "write the history in the logs as OpenMetrics for Prometheus"),
    "bundle": _Command(
        "exporter.commands.bundle", "write a masked zip file for a support case", flags=("config", "log", "state")
    ),
    "healthy": _Command(
        "exporter.commands.healthy", "check whether an exporter answers, with or without TLS", flags=()
    ),
    "assets": _Command(
        "exporter.commands.assets",
        "write the rules, dashboards, runbooks and units of this version to a folder",
        flags=(),
    ),
    "drill": _Command(
        "exporter.commands.drill",
        "send alerts to Alertmanager as an exercise, report what it does with them, and withdraw them",
        flags=(),
    ),
    "demo": _Command("exporter.commands.demo", "play a license incident with artificial logs", flags=()),
    "service": _Command("exporter.commands.service", "install, remove, start or stop the Windows service", flags=()),
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
"""The flags that may come before a command and take a value."""


GARBAGE = (50_000, 20, 50)
"""Thresholds of the garbage collector: a batch is thousands of small objects without cycles, and each pass costs."""

SWITCH_SECONDS = 0.0002
"""After how long a thread that catches up lets another one run: a scrape needs several such turns. With 1 ms instead,
the slowest scrapes took twice as long, and catching up took a fifteenth less."""


def main(argv: Sequence[str] | None = None, stop: threading.Event | None = None) -> int:
    """Run one command and return its exit code. It never ends with a traceback.

    `stop` ends `run` once it is set, for a caller without signals (the Windows service); otherwise signals do.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, or a process without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process lives
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a Windows pipe speaks cp1252
    sys.setswitchinterval(SWITCH_SECONDS)
    words = list(sys.argv[1:] if argv is None else argv)
    name, named = _command_in(words)
    command = COMMANDS[name]
    stopped, failed, unusable = [code if command.no_result is None else command.no_result for code in _CODES]
    module = importlib.import_module(command.module)
    if not gc.isenabled():  # a process of its own: nothing that was loaded is garbage
        gc.freeze()
    gc.set_threshold(*GARBAGE)
    gc.enable()
    parser = _parser(name, named)
    try:
        arguments, left = parser.parse_known_args(words)
        if left:
            parser.error(_not_known(left[0], name, named, parser))
        for flag in sorted(_VALUED):  # an empty variable must not mean: no configuration, no TLS, an open port
            value = getattr(arguments, flag[2:].replace(".", "_"), None)
            if isinstance(value, str) and not value.strip():
                parser.error(f"{flag}: found nothing, expected a value")
    except SystemExit as ended:  # the error or the help has been printed
        return ended.code if isinstance(ended.code, int) else unusable
    arguments.stop = stop
    start_logging(getattr(arguments, "log_level", "info"), getattr(arguments, "log_format", "logfmt"))
    arguments.redact = str
    try:
        if name != "run":
            signals.release()
        config = _config(arguments, command)
        arguments.reread = lambda: _config(arguments, command)
        return int(module.run(arguments, config))
    except ConfigError as error:
        complain(error)
        return unusable
    except KeyboardInterrupt:
        return stopped
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return stopped
    except OSError as error:
        complain(arguments.redact(reason(error)))
        return failed


def _command_in(words: list[str]) -> tuple[str, bool]:
    """The command among `words`, or `run` if there is none; and whether there is one. The command is removed from them.

    Flags may come before it.
    """
    if words[:1] == ["help"]:
        words[:] = [*words[1:], "--help"]
    value_follows = False
    for place, word in enumerate(words):
        if value_follows:
            value_follows = False
        elif word.startswith("-"):
            value_follows = word in _VALUED
        elif word in COMMANDS:
            del words[place]
            return word, True
        else:
            break  # the parser of `run` says that it does not know this word
    return "run", False


class _Parser(argparse.ArgumentParser):
    unusable = UNUSABLE

    def error(self, message: str) -> NoReturn:
        """Print in one line what is wrong and where the options are listed, then exit."""
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += _hint(choice[1], re.findall(r"[\w.-]+", choice[2]))
        complain(f"{message.rstrip('.')}{'' if message.endswith('?') else '.'} See `{self.prog} --help`")
        raise SystemExit(self.unusable)


def _parser(name: str, named: bool = True) -> _Parser:
    """The parser of a command; if none was given, that of `run`, which lists the others, too."""
    command = COMMANDS[name]
    commands = "\n".join(f"  {name:<10}{command.sentence}" for name, command in COMMANDS.items())
    parser = _Parser(
        prog=f"qlik-license-exporter {name}" if named else "qlik-license-exporter",
        usage=None if named else "%(prog)s [COMMAND] [OPTIONS]",
        description=f"{command.sentence[0].upper()}{command.sentence[1:]}."
        if named
        else f"Prometheus exporter for Qlik Sense licensing.\n\ncommands:\n{commands}\n\n"
        "Run `qlik-license-exporter COMMAND --help` for the options of a command; these are the options of `run`:",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.unusable = UNUSABLE if command.no_result is None else command.no_result
    parser.set_defaults(command=name)
    add = parser.add_argument
    if "config" in command.flags:
        add("--config.file", dest="config_file", metavar="FILE", help="the configuration file; optional")
    if "log" in command.flags:
        add("--log.level", dest="log_level", choices=LEVELS, default="info", help="default: info")
        add("--log.format", dest="log_format", choices=FORMATS, default="logfmt", help="default: logfmt")
    if "state" in command.flags:
        add("--state.file", dest="state_file", metavar="FILE", help="the state file, for read offsets and counters")
    if "people" in command.flags:
        text = "do not mask users, hosts, keys and license numbers; on a terminal only"
        add("--show-people", action="store_true", help=text)
    add("--version", action="version", version=f"qlik-license-exporter {__version__}")
    importlib.import_module(command.module).add_arguments(parser)
    return parser


def _not_known(word: str, name: str, named: bool, parser: argparse.ArgumentParser) -> str:
    """The error message for a word that the command does not accept."""
    if not word.startswith("-"):
        if named:
            return f"`{name}` takes no `{word}`"
        return f"unknown command `{word}`" + (_hint(word, COMMANDS) or f"; expected one of {', '.join(COMMANDS)}")
    option = word.partition("=")[0]
    owners = [other for other in COMMANDS if other != name and option in _options(_parser(other))]
    if owners:
        return f"`{name}` has no option `{option}`; it is an option of {' and '.join(f'`{one}`' for one in owners)}"
    return f"unknown option `{option}`{_hint(option, _options(parser))}"


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word.lower(), list(known), 1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _config(arguments: argparse.Namespace, command: _Command) -> Config:
    """The configuration, with the settings that flags override."""
    if "config" not in command.flags:
        return Config()
    arguments.config_file = arguments.config_file or _default_file()
    config = load(arguments.config_file)
    arguments.redact = redaction_of(config)
    redact_log(arguments.redact)
    if getattr(arguments, "state_file", None):
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
    if getattr(arguments, "show_people", False) and not sys.stdout.isatty():
        complain("--show-people works on a terminal only: users stay masked")
        arguments.show_people = False
    return config


def _default_file() -> str | None:
    """The configuration file of the Windows service if it exists, so that no flag needs to name it."""
    if sys.platform != "win32":
        return None
    file = local_path(r"%ProgramData%\qlik-license-exporter\config.yml")
    return file if os.path.exists(file) else None
