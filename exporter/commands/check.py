"""`check`: whether the configuration is valid and the account that runs it can use every source."""

import argparse
import asyncio
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from exporter.account import account
from exporter.config import Config, ConfigError, LogConfig, ProbeConfig, advice_on, load, probes_of
from exporter.events import LogName
from exporter.logs.files import Listing, NotALogError, Pattern, open_shared, root_of
from exporter.logs.messages import catalogue_of
from exporter.printable import printable
from exporter.probes import ProbeResult, look_at_service, probe
from exporter.probes.stream import trust
from exporter.products import PRODUCTS, Product
from exporter.qrs import QrsError
from exporter.qrs.client import read_overview, read_unused
from exporter.remote_write.receiver import look
from exporter.services_conf import licenses_service_proxy
from exporter.web import webfile
from exporter.wording import count

Value = TypeVar("Value")

USABLE, FAULTY = 0, 1
PATIENCE = 15.0
"""Seconds that a folder may take to answer before it counts as stuck (hazard 45)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--web.config.file", dest="web_config_file", metavar="FILE", help="also check this web file")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Print what was found: 0; 1 if something configured is missing or cannot be used.

    Raises ConfigError if the configuration or the web file is invalid.
    """
    report = _Report(arguments.redact)
    usual = load(None)
    catalogue_of(config, arguments.config_file or "defaults")
    report.tell("configuration", "ok", arguments.config_file or "no configuration file: the defaults")
    for key, sentence in advice_on(config, usual):
        report.warn("configuration", f"{key}: {sentence}")
    unusable = _check_web_file(report, arguments.web_config_file)
    for name, log in config.logs.enabled():
        _check_log(report, name, log, getattr(usual.logs, name))
    _check_state(report, config)
    product = PRODUCTS[config.product]
    proxy = licenses_service_proxy(product=product)
    report.tell("proxy", _PROXY_WORDS.get(proxy.state, "found"), proxy.sentence)
    probes = probes_of(config)
    for index, settings in enumerate(config.probes or ()):
        _check_ca(report, f"probes[{index}].ca_file", settings.ca_file)
    for settings, result in asyncio.run(_probed(probes, product)):
        _tell_probe(report, settings, result)
    if config.licenses_service.enabled:
        _check_ca(report, "licenses_service.ca_file", config.licenses_service.ca_file)
        for sentence in asyncio.run(look_at_service(config.licenses_service)).sentences():
            report.tell("licenses service", "found", sentence)
    if config.qrs.enabled:
        _check_qrs(report, config)
    if config.remote_write.url:
        _check_remote_write(report, config)
    print(report.conclusion())
    if unusable:
        raise unusable
    return FAULTY if report.faults else USABLE


_PROXY_WORDS = {"missing": "none", "no setting": "none", "unreadable": "unknown", "not understood": "unknown"}
"""The word for each state of `services.conf`."""


class _Report:
    """The printed lines, and the exit code that follows from them."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self.faults = self.warnings = self.files = self.failed_probes = 0

    def tell(self, source: str, word: str, text: str) -> None:
        print(f"{source:<18}{word:<9}{printable(self._redact(text))}")

    def fault(self, source: str, word: str, text: str) -> None:
        self.faults += 1
        self.tell(source, word, text)

    def warn(self, source: str, text: str) -> None:
        self.warnings += 1
        self.tell(source, "warning", text)

    def conclusion(self) -> str:
        """The last line. It claims no more than was found."""
        if self.faults:
            return "not everything can be used: see above"
        found = "everything that was found can be used" if self.files else "no log was found, so none can be read yet"
        more = [count(self.failed_probes, "failed probe")] if self.failed_probes else []
        more += [count(self.warnings, "warning")] if self.warnings else []
        return f"{found}; {' and '.join(more)}, see above" if more else found


def _check_web_file(report: _Report, file: str | None) -> ConfigError | None:
    """Check the web file. It is a fault if the file, or one that it names, is missing."""
    if file is None:
        return None
    if not _is_there(file):
        report.fault("web file", "missing", f"{file} does not exist")
        return None
    try:
        webfile.load(file)
    except ConfigError as error:
        report.fault("web file", "failed", str(error))
        return None if "cannot be read" in error.problem else error
    report.tell("web file", "ok", file)
    return None


# --- logs ------------------------------------------------------------------------------------------------------------


def _check_log(report: _Report, name: LogName, log: LogConfig, usual: LogConfig) -> None:
    faults, matched = report.faults, 0
    for text in log.paths:
        found: tuple[int, list[str]] | None = _patiently(lambda text=text: _readable(text))  # type: ignore[misc]  # binds the loop's value
        if found is None:
            report.fault(name, "stuck", f"{text}: no answer within {PATIENCE:.0f} s")
            continue
        matched += found[0]
        for problem in found[1]:
            report.fault(name, "denied", problem)
        if not found[0] and not found[1] and text not in usual.paths:
            _tell_missing(report, name, text)
    if log.archive:
        _check_archive(report, name, log.archive)
    report.files += matched
    if matched:
        report.tell(name, "ok", f"{count(matched, 'file')} can be read")
    elif faults == report.faults:
        report.tell(name, "nothing", f"no file matches {' or '.join(log.paths)} (yet)")


def _tell_missing(report: _Report, name: LogName, text: str) -> None:
    """A configured pattern that matches nothing: its folder is missing, or there is no file yet."""
    folder = Pattern(text).base
    if _patiently(lambda: os.path.isdir(text)):
        report.fault(name, "missing", f"{text} is a folder, expected a file pattern such as {os.path.join(text, '*')}")
    elif not _is_there(folder):
        report.fault(name, "missing", f"{text}: the folder {folder} does not exist")
    else:
        report.tell(name, "note", f"no file matches {text} (yet)")


def _check_archive(report: _Report, name: LogName, archive: str) -> None:
    hindrance = _patiently(lambda: _listed(archive))
    if hindrance is None:
        report.fault(name, "stuck", f"{archive}: no answer within {PATIENCE:.0f} s")
    elif hindrance:
        report.fault(name, "denied", hindrance)
    elif not _patiently(lambda: _folders(archive)):
        report.fault(name, "missing", f"the archive {archive} does not exist, or is not a folder")


def _folders(pattern: str) -> bool:
    listing = Listing()
    try:
        return any(os.path.isdir(folder) for folder in Pattern(os.path.join(pattern, "*")).folders(listing))
    except OSError:
        return False


def _readable(text: str) -> tuple[int, list[str]]:
    """How many files that match `text` can be read, and why others cannot."""
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
        return []  # not there yet is a normal state of the default paths (hazard 43)
    return [f"the account {account()} cannot read {path}: {error.strerror or error}"]


def _is_there(path: str) -> bool:
    return bool(_patiently(lambda: os.path.exists(path)))


def _patiently(ask: Callable[[], Value]) -> Value | None:
    """The result of `ask`, or None if it takes too long: a dead share must not hang the command."""
    answers: list[Value] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answers[0] if answers else None


# --- the rest --------------------------------------------------------------------------------------------------------


def _check_state(report: _Report, config: Config) -> None:
    """Whether a configured state file can be written. It is not opened: only `run` does that."""
    if not config.state.file:
        return
    file = Path(config.state.file)
    if _patiently(file.is_dir):
        report.fault("state", "failed", f"{file} is a folder, expected a file")
        return
    folder = next((folder for folder in file.parents if _is_there(str(folder))), None)
    if folder is None or not _patiently(folder.is_dir):
        report.fault("state", "missing", f"no folder for {file}")
    elif not os.access(folder, os.W_OK):
        report.fault("state", "denied", f"the account {account()} cannot write to {folder}")


def _check_ca(report: _Report, key: str, file: str) -> None:
    if not file:
        return

    def problem() -> str:
        try:
            trust(file)
        except FileNotFoundError:
            return f"{key}: {file} does not exist"
        except (ssl.SSLError, ValueError):
            return f"{key}: {file} contains no CA certificate in PEM or DER"
        except OSError as error:
            return f"{key}: the account {account()} cannot read {file}: {error.strerror or error}"
        return ""

    found = _patiently(problem)
    if found != "":
        report.fault("probe", "failed", found or f"{key}: {file}: no answer within {PATIENCE:.0f} s")


async def _probed(probes: tuple[ProbeConfig, ...], product: Product) -> list[tuple[ProbeConfig, ProbeResult]]:
    results = await asyncio.gather(*(probe(settings, product=product) for settings in probes))
    return list(zip(probes, results, strict=True))


def _tell_probe(report: _Report, settings: ProbeConfig, result: ProbeResult) -> None:
    word, outcome = {
        True: ("ok", "reached"),
        False: ("failed", str(result.reason)),
        None: ("unknown", "not judged"),
    }[result.success]
    report.failed_probes += result.success is False
    report.tell("probe", word, f"{settings.target}: {outcome}, {result.detail}")
    if result.cure:
        report.tell("", "cure", result.cure)


def _check_remote_write(report: _Report, config: Config) -> None:
    """Whether the receiver answers a request without samples as it should."""
    answer = asyncio.run(look(config.remote_write, time.time()))
    if answer.verdict == "taken":
        report.tell("remote write", "ok", f"{config.remote_write.url}: {answer.sentence} to a request without samples")
    else:
        report.fault("remote write", "failed", answer.sentence)


def _check_qrs(report: _Report, config: Config) -> None:
    try:
        overview = asyncio.run(read_overview(config.qrs))
    except QrsError as error:
        report.fault("qrs", "failed", str(error))
        return
    report.tell("qrs", "ok", config.qrs.url)
    for note in overview.notes:
        if note.startswith("sessions: "):
            report.fault("qrs", "failed", note)
        else:
            report.tell("", "note", note)
    if config.qrs.seats_interval:
        try:
            counted = asyncio.run(read_unused(config.qrs, overview))
        except QrsError as error:
            report.fault("qrs", "failed", f"seats: {error}")
            return
        for note in counted.notes:
            if note.startswith("holders: "):
                report.tell("", "note", note)
            else:
                report.fault("qrs", "failed", note)
