"""What a type cannot say: the checks of the settings beyond their types, and the values that only they can fill in."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from exporter.config.errors import ConfigError, shown
from exporter.config.settings import Config, LogConfig, LogsConfig, ProbeConfig, QrsConfig, StateConfig, local_path
from exporter.config.strict_yaml import text_of

SHORTEST_POLL = 0.1
"""Seconds: shorter intervals would only burn the Qlik node's processor (hazard 132)."""


def checked(config: Config, name: str, environ: Mapping[str, str]) -> Config:
    """`config` with what only these checks can fill in: expanded paths, secrets from files. Raises ConfigError."""

    def refuse(key: str, found: object, expected: str) -> ConfigError:
        return ConfigError(name, key, f"found {shown(found)}, expected {expected}")

    for key, value in (("poll_interval", config.poll_interval), ("discovery_interval", config.discovery_interval)):
        if value < SHORTEST_POLL:
            raise refuse(key, str(value), "at least 100ms")
    if not 0 < config.license.settle < config.license.grace:
        raise refuse("license.settle", str(config.license.settle), "more than 0 and less than license.grace")
    for index, message in enumerate(config.messages):
        key = f"messages[{index}]"
        if not re.fullmatch("[a-z_]+", message.name):
            raise refuse(f"{key}.name", message.name, "small letters and underscores, such as assignments_up_to_date")
        if message.name in {other.name for other in config.messages[:index]}:
            raise refuse(f"{key}.name", message.name, "a name that no other message has")
        try:
            pattern = re.compile(message.match)
        except (re.error, RecursionError, OverflowError) as error:
            raise refuse(f"{key}.match", message.match, f"a regular expression: {error}") from None
        if pattern.match(""):
            raise refuse(f"{key}.match", message.match, "a pattern that does not match everything")
        if _may_never_end(message.match):
            raise refuse(f"{key}.match", message.match, "no repeat of what itself repeats or has alternatives")
    seen: set[str] = set()
    probes = []
    for index, probe in enumerate(config.probes or ()):
        probes.append(_checked_probe(probe, f"probes[{index}]", name, environ))
        if probe.target in seen:
            raise refuse(f"probes[{index}].target", probe.target, "a target that no other probe has")
        seen.add(probe.target)
    for index, address in enumerate(config.web.listen_addresses):
        if not is_address(address):
            raise refuse(f"web.listen_addresses[{index}]", address, "host:port, :port or [IPv6]:port")
    if not config.web.listen_addresses:
        raise ConfigError(name, "web.listen_addresses", "found an empty list, expected at least one address")
    return msgspec.structs.replace(
        config,
        logs=_checked_logs(config.logs, name, environ),
        probes=tuple(probes) if config.probes is not None else None,
        qrs=_checked_qrs(config.qrs, name, environ),
        state=StateConfig(file=local_path(config.state.file, environ)),
    )


def _may_never_end(pattern: str) -> bool:
    """Whether a repeated group holds a repeat or alternatives: a line that nearly matches could then take years."""
    left = _ESCAPED.sub("x", pattern)
    while group := _INNERMOST_GROUP.search(left):
        inside, repeated = re.search(r"[*+|]|\{\d*,\d*\}", group[1]), group[2]
        if inside and repeated:
            return True
        left = f"{left[: group.start()]}x{'+' if inside or repeated else ''}{left[group.end() :]}"
    return False


_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""What stands for one character of a regular expression."""
_INNERMOST_GROUP = re.compile(r"\(([^()]*)\)([*+]|\{[\d,]+\})?")


def _checked_logs(logs: LogsConfig, name: str, environ: Mapping[str, str]) -> LogsConfig:
    checked = {}
    for log in msgspec.structs.fields(LogsConfig):
        settings: LogConfig = getattr(logs, log.name)
        if settings.enabled and not any(path.strip() for path in settings.paths):
            raise ConfigError(
                name, f"logs.{log.name}.paths", "found no path, expected at least one, or `enabled: false`"
            )
        for index, path in enumerate(settings.paths):
            if not path.strip() or "\0" in path:
                raise ConfigError(
                    name, f"logs.{log.name}.paths[{index}]", "found an empty path, expected a file pattern"
                )
        checked[log.name] = msgspec.structs.replace(
            settings,
            paths=tuple(local_path(path, environ) for path in settings.paths),
            archive=local_path(settings.archive, environ),
        )
    return msgspec.structs.replace(logs, **checked)


def _checked_probe(probe: ProbeConfig, key: str, name: str, environ: Mapping[str, str]) -> ProbeConfig:
    if not is_address(probe.target) or not probe.host or not 0 < probe.port < 65536:
        raise ConfigError(name, f"{key}.target", f"found {shown(probe.target)}, expected host:port")
    if not probe.path.startswith("/") or re.search(r"[\x00-\x20\x7f]", probe.path):
        raise ConfigError(name, f"{key}.path", f"found {shown(probe.path)}, expected a path that begins with /")
    for index, status in enumerate(probe.expected_statuses):
        if not 100 <= status <= 599:
            raise ConfigError(name, f"{key}.expected_statuses[{index}]", f"found {shown(status)}, expected 100 to 599")
    if probe.interval < 1:
        raise ConfigError(name, f"{key}.interval", f"found `{probe.interval}`, expected at least 1s")
    if probe.timeout <= 0:
        raise ConfigError(name, f"{key}.timeout", f"found `{probe.timeout}`, expected more than 0")
    if probe.proxy_file:
        if probe.proxy != "auto":
            raise ConfigError(name, f"{key}.proxy_file", "found beside `proxy`, expected only one of the two")
        probe = msgspec.structs.replace(probe, proxy=_secret(probe.proxy_file, f"{key}.proxy_file", name, environ))
    if probe.proxy not in ("auto", "none"):
        try:
            url = urlsplit(probe.proxy)
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ConfigError(name, f"{key}.proxy", "found something else, expected auto, none or http://host:port")
    return msgspec.structs.replace(probe, ca_file=local_path(probe.ca_file, environ))


def _checked_qrs(qrs: QrsConfig, name: str, environ: Mapping[str, str]) -> QrsConfig:
    for key, url in (("qrs.url", qrs.url), ("qrs.sessions_url", qrs.sessions_url)):
        if not url and key == "qrs.sessions_url":
            continue
        try:
            parts = urlsplit(url)
            usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0 and not parts.username
        except ValueError:
            usable = False
        if not usable:
            raise ConfigError(name, key, f"found {shown(url)}, expected https://host:port")
    if not re.fullmatch(r"\s*UserDirectory=[^;\r\n]+;\s*UserId=[^;\r\n]+", qrs.user):
        raise ConfigError(name, "qrs.user", "found something else, expected UserDirectory=INTERNAL; UserId=sa_api")
    if qrs.interval < 1 or qrs.max_age < qrs.interval:
        raise ConfigError(
            name, "qrs.max_age", f"found `{qrs.max_age}`, expected at least qrs.interval, and that 1s or more"
        )
    password = qrs.key_password
    if qrs.key_password_file:
        if password:
            raise ConfigError(
                name, "qrs.key_password_file", "found beside `key_password`, expected only one of the two"
            )
        password = _secret(qrs.key_password_file, "qrs.key_password_file", name, environ)
    return msgspec.structs.replace(
        qrs,
        key_password=password,
        certificate=local_path(qrs.certificate, environ),
        key=local_path(qrs.key, environ),
        ca_file=local_path(qrs.ca_file, environ),
    )


def _secret(file: str, key: str, name: str, environ: Mapping[str, str]) -> str:
    try:
        return text_of(local_path(file, environ)).rstrip("\r\n")
    except ConfigError as error:
        raise ConfigError(name, key, f"{error.file}: {error.problem}") from None


def is_address(text: str) -> bool:
    """Whether `text` is host:port, :port or [IPv6]:port."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
        return False
    if host.startswith("["):
        try:
            return host.endswith("]") and bool(ipaddress.IPv6Address(host[1:-1].partition("%")[0]))
        except ValueError:
            return False
    return bool(re.fullmatch(r"[^\s:/@\[\]]*", host))
