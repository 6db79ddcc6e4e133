"""`check`: whether the configuration can be used, and every source be reached, by the account that asks."""

import argparse
import asyncio
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from exporter.config import Config, LogConfig, ProbeConfig, probes_of
from exporter.events import LogName
from exporter.ledger import account
from exporter.logs.files import Listing, NotALogError, Pattern, open_shared, root_of
from exporter.logs.messages import catalogue_of
from exporter.printable import printable
from exporter.probes import ProbeResult, probe
from exporter.qrs import QrsError
from exporter.qrs.client import read_overview
from exporter.services_conf import licenses_service_proxy
from exporter.web import webfile

Value = TypeVar("Value")

USABLE, UNUSABLE = 0, 2
PATIENCE = 15.0
"""Seconds that a folder may take to answer, before it is called stuck (hazard 45)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--web.config.file", dest="web_config_file", metavar="FILE", help="also check this web file")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Print what was found about each source: 0, or 2 where one that is there cannot be used."""
    file = arguments.config_file or "no configuration file: the defaults"
    catalogue_of(config, arguments.config_file or "defaults")
    webfile.load(arguments.web_config_file)
    _tell("configuration", "ok", file)
    good = True
    for name, log in config.logs.enabled():
        good &= _check_log(name, log)
    _tell("proxy", "found", licenses_service_proxy().sentence)
    for settings, result in asyncio.run(_probed(probes_of(config))):
        _tell_probe(settings, result)
    if config.qrs.enabled:
        good &= _check_qrs(config)
    print("everything that was found can be used" if good else "not everything can be used: see above")
    return USABLE if good else UNUSABLE


def _tell(source: str, word: str, text: str) -> None:
    print(f"{source:<18}{word:<9}{printable(text)}")


def _check_log(name: LogName, log: LogConfig) -> bool:
    good = True
    matched = 0
    for text in log.paths:
        found: tuple[int, list[str]] | None = _patiently(lambda text=text: _readable(text))  # type: ignore[misc]  # binds the loop's value
        if found is None:
            good = False
            _tell(name, "stuck", f"{text}: no answer within {PATIENCE:.0f} s")
            continue
        matched += found[0]
        for problem in found[1]:
            good = False
            _tell(name, "denied", problem)
    if log.archive and (hindrance := _patiently(lambda: _listed(log.archive))) != "":
        good = False
        _tell(name, "denied", hindrance or f"{log.archive}: no answer within {PATIENCE:.0f} s")
    if matched:
        _tell(name, "ok", f"{matched} file{'s' if matched > 1 else ''} can be read")
    elif good:
        _tell(name, "nothing", f"no file matches {' or '.join(log.paths)} (yet)")
    return good


def _readable(text: str) -> tuple[int, list[str]]:
    """How many files that `text` means can be read, and what hinders reading others."""
    listing, readable, problems = Listing(), 0, []
    pattern = Pattern(text, caseless=root_of(text).caseless)
    try:
        folders = list(pattern.folders(listing))
    except OSError as error:
        return 0, _problem(error.filename or text, error)
    for folder in folders:
        try:
            names = listing.names(folder)
        except OSError as error:
            problems += _problem(folder, error)
            continue
        for path in (os.path.join(folder, name) for name in names if pattern.matches(name)):
            try:
                descriptor = open_shared(path)
                try:
                    os.read(descriptor, 1)
                finally:
                    os.close(descriptor)
                readable += 1
            except NotALogError:
                continue
            except OSError as error:
                problems += _problem(path, error)
    return readable, problems


def _listed(folder: str) -> str:
    try:
        Listing().names(folder)
    except OSError as error:
        return "".join(_problem(folder, error))
    return ""


def _problem(path: str, error: OSError) -> list[str]:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return []  # not there yet is a normal state (hazard 43)
    return [f"the account {account()} cannot read {path}: {error.strerror or error}"]


def _patiently(ask: Callable[[], Value]) -> Value | None:
    """What `ask` answers, or None if it takes too long: a dead share must not hang the command."""
    answers: list[Value] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answers[0] if answers else None


async def _probed(probes: tuple[ProbeConfig, ...]) -> list[tuple[ProbeConfig, ProbeResult]]:
    return list(zip(probes, await asyncio.gather(*(probe(settings) for settings in probes)), strict=True))


def _tell_probe(settings: ProbeConfig, result: ProbeResult) -> None:
    word, outcome = {
        True: ("ok", "reached"),
        False: ("failed", str(result.reason)),
        None: ("unknown", "inconclusive"),
    }[result.success]
    _tell("probe", word, f"{settings.target}: {outcome}, {result.detail}")
    if result.cure:
        _tell("", "cure", result.cure)


def _check_qrs(config: Config) -> bool:
    try:
        overview = asyncio.run(read_overview(config.qrs))
    except QrsError as error:
        _tell("qrs", "failed", str(error))
        return False
    _tell("qrs", "ok", config.qrs.url)
    for note in overview.notes:
        _tell("", "note", note)
    return True
