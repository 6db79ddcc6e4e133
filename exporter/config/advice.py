"""Settings that are valid but probably unintended: warnings of `check`. Pure."""

import ntpath
import re
import sys
from collections.abc import Iterator

import msgspec

from exporter.config.settings import Config, Duration, LogsConfig

SHORTEST_GRACE = Duration(2 * 86400)
USUAL_RHYTHM = Duration(600)
"""Between two syncs of the Licenses service (seen in its logs)."""

LONGEST_INTERVAL = Duration(120)
"""The alerts need a sample every two minutes or more often."""


def advice_on(config: Config, usual: Config, platform: str = sys.platform) -> Iterator[tuple[str, str]]:
    """Keys, each with a sentence. Settings equal to `usual`, the defaults, are not checked."""
    license_ = config.license
    if license_.grace <= SHORTEST_GRACE:
        yield (
            "license.grace",
            f"{license_.grace} is short: Qlik tolerated 5 days without contact in 2022, so lockouts are predicted too "
            "early",
        )
    if license_.settle >= USUAL_RHYTHM:
        yield (
            "license.settle",
            f"{license_.settle} is not shorter than the usual {USUAL_RHYTHM} between two syncs: a success may never be "
            "inferred",
        )
    for index, probe in enumerate(config.probes or ()):
        if probe.timeout > probe.interval:
            yield f"probes[{index}].timeout", f"{probe.timeout} is longer than the interval of {probe.interval}"
    remote = config.remote_write
    if remote.url and "site" not in remote.labels:
        yield "remote_write.labels", "no label `site`, by which rules and dashboards group the nodes of a site"
    if remote.url and remote.interval > LONGEST_INTERVAL:
        yield (
            "remote_write.interval",
            f"{remote.interval} is longer than {LONGEST_INTERVAL}: alerts come late or never",
        )
    usual_paths = set(_paths(usual, with_qrs=True))
    for key, path in _paths(config, with_qrs=config.qrs.enabled):
        if (key, path) not in usual_paths:
            yield from ((key, sentence) for sentence in _on_path(path, platform))


def _paths(config: Config, with_qrs: bool) -> Iterator[tuple[str, str]]:
    for log in msgspec.structs.fields(LogsConfig):
        settings = getattr(config.logs, log.name)
        if settings.enabled:
            yield from ((f"logs.{log.name}.paths[{place}]", path) for place, path in enumerate(settings.paths))
            yield f"logs.{log.name}.archive", settings.archive
    for index, probe in enumerate(config.probes or ()):
        yield f"probes[{index}].ca_file", probe.ca_file
        yield f"probes[{index}].proxy_file", probe.proxy_file
    if with_qrs:
        for name in ("certificate", "key", "key_password_file", "ca_file"):
            yield f"qrs.{name}", getattr(config.qrs, name)
    remote = config.remote_write
    yield "remote_write.basic_auth.password_file", remote.basic_auth.password_file
    yield "remote_write.authorization.credentials_file", remote.authorization.credentials_file
    for name in ("ca_file", "cert_file", "key_file"):
        yield f"remote_write.tls_config.{name}", getattr(remote.tls_config, name)
    yield "state.file", config.state.file


def _on_path(path: str, platform: str) -> Iterator[str]:
    if not path:
        return
    if unset := re.search(r"%[A-Za-z_][A-Za-z0-9_()]*%", path):
        yield f"{path}: the variable {unset[0]} is not set"
    elif platform != "win32" and ntpath.splitdrive(path)[0] and not path.startswith("//"):
        yield f"{path}: a Windows path, but this is not Windows"
    elif not (path.startswith("/") if platform != "win32" else _is_absolute_on_windows(path)):
        yield f"{path}: a relative path, which depends on the folder that the exporter is started in"
    if "**" in path:
        yield f"{path}: `**` means the same as `*`, which matches one folder level"


def _is_absolute_on_windows(path: str) -> bool:
    drive, rest = ntpath.splitdrive(path)
    return bool(drive) and (rest[:1] in ("\\", "/") or drive.startswith(("\\\\", "//")))
