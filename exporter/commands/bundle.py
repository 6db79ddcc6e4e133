"""`bundle [FILE|DIR…]`: a zip file for a support case, without people, machines and keys."""

import argparse
import getpass
import importlib.metadata
import io
import json
import os
import platform
import re
import socket
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from exporter import __version__
from exporter.commands.diagnose import as_json, report_of
from exporter.commands.terminal import Paint, ProgressBar
from exporter.config import Config, load, probes_of, state_file_of
from exporter.config import masked as masked_config
from exporter.examination import examine
from exporter.journal import Journal
from exporter.license import LicenseState
from exporter.logs.messages import catalogue_of
from exporter.masking import PUBLIC_HOST, masked, masked_name
from exporter.printable import printable, printable_tree
from exporter.sources import Given, Source, configured_sources, given_sources
from exporter.status import events_of, status_of
from exporter.verdict import judge

ANSWER_SECONDS = 3.0
"""Seconds to wait for the exporter that runs on this machine."""
LARGEST_ANSWER = 4 << 20
SHORTEST_SECRET = 3
"""Configured names of at least this many characters are searched for in all texts."""

CONTENTS = """What is in this bundle, made by qlik-license-exporter {version}:

config.json   the configuration; secrets, users, hosts and your own paths are masked
verdict.txt   what is wrong, why, and what to do
verdict.json  the same as data
state.json    counters and timestamps; no users, not even as hashes, and no key
status.json   everything that the status page shows
running.json  the probe results of the exporter running on this machine, if it answers
events.json   the newest notable log entries and the unknown messages, masked
files.json    the log files: log, size, last change
versions.json software versions on this machine

Users, hosts, keys, license numbers and ids are masked. Review the bundle before you send it.
"""

_PUBLIC = frozenset({PUBLIC_HOST, "localhost", "127.0.0.1", "::1", "internal", "sa_api", "root", "system"})
_TOLD = ("version", "now", "started", "first_started", "timeline", "probes", "component_failures")
_PACKAGES = (
    "prometheus-client",
    "aiohttp",
    "PyYAML",
    "msgspec",
    "h11",
    "cryptography",
    "bcrypt",
    "protobuf",
    "cramjam",
    "pywin32",
)
_CLOSED_KEYS = frozenset({"history", "kind", "role", "protocol", "ip_protocol", "log", "means", "name"})
"""Settings whose values are keywords or label values."""
_PATH_KEYS = frozenset({"paths", "archive", "certificate", "key", "ca_file", "file", "key_password_file", "proxy_file"})
_HARMLESS = re.compile(r"|\$\{\w+\}|auto|none|<secret>|(?:\d+(?:\.\d+)?(?:ms|[wdhms]))+|:\d{1,5}|/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "paths", nargs="*", metavar="FILE|DIR", help="copied logs (default: the logs of this machine, and a probe)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the zip file to write (default: a name with the current time)"
    )
    parser.add_argument(
        "--probe", action="store_true", help="also probe the backend from this machine when diagnosing copied logs"
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Write the zip file and print its name: 0. Raises ConfigError, OSError."""
    given = given_sources(arguments.paths) if arguments.paths else Given(configured_sources(config))
    bar = ProgressBar(sum(source.size for source in given.sources))
    journal = Journal()
    try:
        seen = examine(
            given.sources,
            config,
            catalogue_of(config, arguments.config_file or "defaults"),
            as_of_newest=bool(arguments.paths),
            probing=arguments.probe or not arguments.paths,
            journal=journal,
            progress=bar,
        )
    finally:
        bar.close()
    judgement = judge(seen)
    files = {
        "CONTENTS.txt": CONTENTS.format(version=__version__),
        "config.json": _json(_settings(config)),
        "verdict.txt": report_of(judgement, seen, given, Paint(io.StringIO())) + "\n",
        "verdict.json": _json(as_json(judgement)),
        "state.json": _json(_state(seen.state)),
        "status.json": _json(status_of(seen)),
        "running.json": _json(_running(config) if not arguments.paths else None),
        "events.json": _json(events_of(journal)),
        "files.json": _json({"files": list(_inventory(given.sources)), "left_out": given.skipped}),
        "versions.json": _json(_versions(config)),
    }
    output = Path(arguments.output or time.strftime("qlik-license-bundle-%Y%m%d-%H%M%S.zip"))
    names = _names_of(config)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in files.items():
            bundle.writestr(name, _without(names, text))
    written = f"{len(files)} files, {output.stat().st_size:,} bytes"
    print(f"{printable(str(output))}: {written}. Review it before you send it.", file=sys.stderr)
    return 0


def _json(tree: object) -> str:
    return json.dumps(printable_tree(tree), ensure_ascii=False, indent=2, default=str) + "\n"


# --- the configuration -----------------------------------------------------------------------------------------------


def _settings(config: Config) -> Any:
    """The configuration, with all free texts of the site masked."""
    return _masked_tree(masked_config(config), masked_config(load(None)), "")


def _masked_tree(tree: Any, usual: Any, key: str) -> Any:
    if tree == usual:
        return tree
    if isinstance(tree, dict):
        known = usual if isinstance(usual, dict) else {}
        return {name: _masked_tree(value, known.get(name), name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_masked_tree(value, None, key) for value in tree]
    if not isinstance(tree, str) or key in _CLOSED_KEYS or _HARMLESS.fullmatch(tree):
        return tree
    if key in _PATH_KEYS:
        return f"<path>/{masked_name(tree)}"
    return masked(tree)


def _names_of(config: Config) -> list[str]:
    """The hosts, paths and people that configuration and machine name: they occur in our own texts, too."""
    urls = [config.qrs.url, config.qrs.sessions_url, *(probe.proxy for probe in probes_of(config))]
    names = {probe.host for probe in probes_of(config)} | {config.qrs.server_name}
    for url in urls:
        with suppress(ValueError):
            parts = urlsplit(url)
            names |= {parts.hostname or "", parts.username or "", parts.password or ""}
    names |= set(re.findall(r"UserId=([^;]+)", config.qrs.user)) | {config.qrs.key_password}
    names |= set(config.provenance.values.values())
    usual = load(None)
    for log in ("licenses", "repository_audit", "repository_trace"):
        settings = getattr(config.logs, log)
        names |= {settings.archive, *(set(settings.paths) - set(getattr(usual.logs, log).paths))}
    for one, other in ((config.qrs.certificate, usual.qrs.certificate), (config.qrs.key, usual.qrs.key)):
        names |= {one} - {other}
    names |= {config.qrs.ca_file} - {usual.qrs.ca_file}
    names |= {socket.gethostname(), socket.gethostname().partition(".")[0], str(Path.home())}
    with suppress(OSError, KeyError, ImportError):
        names.add(getpass.getuser())
    found = {name.strip() for name in names}
    return sorted((name for name in found if _is_telling(name)), key=lambda name: (-len(name), name))


def _is_telling(name: str) -> bool:
    return len(name) >= SHORTEST_SECRET and name.casefold() not in _PUBLIC and name not in (os.sep, "/root")


def _without(names: Sequence[str], text: str) -> str:
    """`text` without `names`, each also as JSON writes it."""
    for name in names:
        for spelled in {name, json.dumps(name, ensure_ascii=False)[1:-1]}:
            text = re.sub(rf"(?<!\w){re.escape(spelled)}(?!\w)", "<masked>", text, flags=re.IGNORECASE)
    return text


# --- the rest --------------------------------------------------------------------------------------------------------


def _state(state: LicenseState) -> dict[str, Any]:
    """The state without the key and the hashes of people."""
    tree: dict[str, Any] = msgspec.to_builtins(state)
    del tree["key"]
    tree["refused"] = {reason: len(users) for reason, users in state.refused.items()}
    tree["sync"] = {"inferred": state.sync.inferred_successes(), "doubted": state.sync.doubted}
    return tree


def _running(config: Config) -> dict[str, Any] | None:
    """Probe results of the exporter running on this machine; None if none answers, or if it shows people."""
    for address in config.web.listen_addresses:
        host, _, port = address.rpartition(":")
        host = "127.0.0.1" if host in ("", "0.0.0.0", "[::]") else host
        with suppress(OSError, ValueError, urllib.error.URLError):
            url = f"http://{host}:{port}/api/v1/status"
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # http, to ourselves
                status = json.loads(answer.read(LARGEST_ANSWER))
            if isinstance(status, dict) and status.get("people_shown") is False:
                return {name: status.get(name) for name in _TOLD}
    return None


def _inventory(sources: Sequence[Source]) -> Iterator[dict[str, object]]:
    for source in sources:
        for path in source.files:
            try:
                status = os.stat(path)
            except OSError:
                continue
            yield {
                "log": source.log,
                "name": masked_name(path),
                "bytes": status.st_size,
                "changed": status.st_mtime,
            }


def _versions(config: Config) -> dict[str, object]:
    packages = {}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            packages[package] = importlib.metadata.version(package)
    return {
        "qlik-license-exporter": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "packages": packages,
        "state_file_exists": state_file_of(config).exists(),
    }
