"""The configuration: a YAML file becomes frozen, strict, typed settings. The only user of `yaml`.

Whatever cannot be used raises `ConfigError`, one line that names the file, the key, what was found and what was
expected. Keys and defaults are the public contract; `deploy/qlik-license-exporter.yml` is the commented reference.
"""

import difflib
import ipaddress
import os
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from exporter.events import LogName

LARGEST_FILE = 1 << 20
"""Bytes of configuration or of a secret that are read at most."""
MOST_VALUES = 10_000
"""Values that a configuration holds at most, repeated aliases included: a few lines of them spell billions."""
DEEPEST = 20
"""Sections within sections at most; an alias within itself has no end."""
LONGEST_DURATION = 100 * 365 * 86400
"""Seconds: what lies beyond is no instant that could be shown."""
SHORTEST_POLL = 0.1
"""Seconds: shorter intervals would only burn the Qlik node's processor (hazard 132)."""

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|w|d|h|m|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|w|d|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WINDOWS_VARIABLE = re.compile(r"%([A-Za-z_][A-Za-z0-9_()]*)%")

_QUOTED_NAME = re.compile(r"\b(alias|anchor|tag|tag handle) '")

MASK = "<secret>"


class ConfigError(Exception):
    """The configuration cannot be used: `str()` is one line for a person."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        text = f"{file}: {key}: {problem}" if key else f"{file}: {problem}"
        super().__init__("".join(character if character.isprintable() else repr(character)[1:-1] for character in text))
        self.file, self.key, self.problem = file, key, problem


class Duration(float):
    """Seconds; written `500ms`, `30s`, `5m`, `26h`, `5d`, `1h30m`."""

    def __str__(self) -> str:
        for unit in ("w", "d", "h", "m", "s"):
            if self >= _UNITS[unit] and self % _UNITS[unit] == 0:
                return f"{int(self // _UNITS[unit])}{unit}"
        return f"{round(self * 1000)}ms"


def duration(text: object) -> Duration:
    """The seconds that `text` names. Raises ValueError with the expectation."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text.strip()):
        raise ValueError("a duration with its unit, such as 30s, 5m, 26h or 5d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > LONGEST_DURATION:
        raise ValueError("a duration of at most 100 years")
    return Duration(seconds)


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


_LOG = r"%ProgramData%\Qlik\Sense\Log"
_CERTIFICATES = r"%ProgramData%\Qlik\Sense\Repository\Exported Certificates\.Local Certificates"


class LogConfig(_Settings, frozen=True, kw_only=True):
    """One log: where its live files are, and where rolled ones go."""

    enabled: bool = True
    paths: tuple[str, ...] = ()
    archive: str = ""


class LicensesLogConfig(LogConfig, frozen=True, kw_only=True):
    """The Licenses service's JSON log (qlik-facts 1; file names unknown, hence both endings)."""

    paths: tuple[str, ...] = (rf"{_LOG}\Licenses\*.log", rf"{_LOG}\Licenses\*.txt")


class AuditLogConfig(LogConfig, frozen=True, kw_only=True):
    """The Repository's security audit log: who was refused (qlik-facts 2)."""

    paths: tuple[str, ...] = (rf"{_LOG}\Repository\Audit\*_AuditSecurity_Repository.txt",)


class TraceLogConfig(LogConfig, frozen=True, kw_only=True):
    """The Repository's trace logs: what its license loggers complain of (qlik-facts 3)."""

    paths: tuple[str, ...] = (
        rf"{_LOG}\Repository\Trace\*_License_Repository.txt",
        rf"{_LOG}\Repository\Trace\*_System_Repository.txt",
    )


class LogsConfig(_Settings, frozen=True, kw_only=True):
    """The three logs; the key is the value of the label `log`."""

    licenses: LicensesLogConfig = LicensesLogConfig()
    repository_audit: AuditLogConfig = AuditLogConfig()
    repository_trace: TraceLogConfig = TraceLogConfig()

    def enabled(self) -> Iterator[tuple[LogName, LogConfig]]:
        """The logs to read, by name."""
        for name, log in (
            ("licenses", self.licenses),
            ("repository_audit", self.repository_audit),
            ("repository_trace", self.repository_trace),
        ):
            if log.enabled:
                yield typing.cast(LogName, name), log


MessageMeaning = Literal["sync_attempted", "sync_succeeded", "sync_failed", "license_stale", "license_error"]


class MessageConfig(_Settings, frozen=True, kw_only=True):
    """A wording of this site's Qlik release that the built-in catalogue does not know."""

    name: str
    log: LogName
    match: str
    means: MessageMeaning


class LicenseConfig(_Settings, frozen=True, kw_only=True):
    """What kind of license the site has, and how long Qlik tolerates missing contact with the backend."""

    kind: Literal["auto", "signed_key", "offline", "lef"] = "auto"
    grace: Duration = Duration(5 * 86400)
    settle: Duration = Duration(90)


Role = Literal["backend", "proxy", "local", "other"]


class ProbeConfig(_Settings, frozen=True, kw_only=True):
    """One connection to try, stage by stage, on its own interval."""

    target: str
    role: Role = "other"
    protocol: Literal["https", "http", "tls", "tcp"] = "https"
    path: str = "/"
    expected_statuses: tuple[int, ...] = (404,)
    expected_issuers: tuple[str, ...] = ()
    interval: Duration = Duration(60)
    timeout: Duration = Duration(10)
    proxy: str = "auto"
    proxy_file: str = ""
    ca_file: str = ""
    ip_protocol: Literal["", "4", "6"] = ""

    @property
    def host(self) -> str:
        """The host part of the target, without brackets."""
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of the target."""
        return int(self.target.rpartition(":")[2])


BACKEND_PROBE = ProbeConfig(target="license.qlikcloud.com:443", role="backend")
LOCAL_PROBE = ProbeConfig(target="localhost:4242", role="local", protocol="tcp", proxy="none")


class QrsConfig(_Settings, frozen=True, kw_only=True):
    """The Repository API: seats, minutes, expiry. Off unless switched on, on the central node only."""

    enabled: bool = False
    url: str = "https://localhost:4242"
    sessions_url: str = ""
    certificate: str = rf"{_CERTIFICATES}\client.pem"
    key: str = rf"{_CERTIFICATES}\client_key.pem"
    key_password: str = ""
    key_password_file: str = ""
    ca_file: str = rf"{_CERTIFICATES}\root.pem"
    server_name: str = ""
    user: str = "UserDirectory=INTERNAL; UserId=sa_api"
    interval: Duration = Duration(300)
    max_age: Duration = Duration(1800)
    trust_updated: bool = False


class StateConfig(_Settings, frozen=True, kw_only=True):
    """Where offsets and durable counters are kept."""

    file: str = ""


class WebConfig(_Settings, frozen=True, kw_only=True):
    """Where the exporter answers, and whether its pages may show people."""

    listen_addresses: tuple[str, ...] = (":10188",)
    show_people: bool = False


class Config(_Settings, frozen=True, kw_only=True):
    """Everything that can be set. `Config()` is what runs on a Qlik node without any file, once `expanded`."""

    logs: LogsConfig = LogsConfig()
    poll_interval: Duration = Duration(1)
    discovery_interval: Duration = Duration(10)
    history: Literal["restate", "count", "ignore"] = "restate"
    messages: tuple[MessageConfig, ...] = ()
    license: LicenseConfig = LicenseConfig()
    probes: tuple[ProbeConfig, ...] | None = None
    """None: the built-in ones, see `probes_of`."""
    qrs: QrsConfig = QrsConfig()
    state: StateConfig = StateConfig()
    web: WebConfig = WebConfig()


def load(file: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings in `file`, or the defaults where it is None. Raises ConfigError."""
    name = file or "defaults"
    return parse(text_of(file) if file else "", name, environ)


def parse(text: str, name: str, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings that the YAML `text` of the file called `name` spells. Raises ConfigError."""
    tree = yaml_tree(text, name)
    tree = _filled(tree, "", name, environ)
    try:
        config = msgspec.convert(tree, Config, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise explained(error, tree, name) from None
    return _checked(config, name, environ)


def yaml_tree(text: str, name: str) -> dict[Any, Any]:
    """The keys of the YAML `text`, not yet checked; no text is no keys. Raises ConfigError."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader that also refuses double keys
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context or ""
        if kind := _QUOTED_NAME.search(problem):  # the name may be a password that begins with * or !
            problem = f"found an unknown {kind[1]}, expected quotes around a text that begins with *, & or !"
        raise ConfigError(name, where, f"not readable as YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(name, "", f"found brackets without end, expected at most {DEEPEST} levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(name, "", f"not readable as YAML: {str(error).splitlines()[0]}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(name, "", f"found {_shown(tree)}, expected keys")
    if not _is_small(tree, 0, [MOST_VALUES]):
        raise ConfigError(
            name, "", f"found aliases without end, expected at most {MOST_VALUES:,} values, {DEEPEST} levels deep"
        )
    return tree


def _is_small(node: Any, depth: int, left: list[int]) -> bool:
    left[0] -= 1
    if depth > DEEPEST or left[0] < 0:
        return False
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return all(_is_small(child, depth + 1, left) for child in children)


def probes_of(config: Config, environ: Mapping[str, str] = os.environ) -> tuple[ProbeConfig, ...]:
    """The probes to run: those configured, else the backend, and the local Repository where its folder exists."""
    if config.probes is not None:
        return config.probes
    sense = Path(local_path(r"%ProgramData%\Qlik\Sense", environ))
    if (sense / "Repository").is_dir() or (sense / "Log" / "Repository").is_dir():
        return (BACKEND_PROBE, LOCAL_PROBE)
    return (BACKEND_PROBE,)


def local_path(path: str, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    r"""`path` with its `%VARIABLES%` expanded and, off Windows, with `/` for `\` (hazard 39)."""
    names = {key.casefold(): value for key, value in environ.items()}
    names.setdefault("programdata", r"C:\ProgramData")
    names.setdefault("programfiles", r"C:\Program Files")
    expanded = _WINDOWS_VARIABLE.sub(lambda match: names.get(match[1].casefold(), match[0]), path)
    return expanded if platform == "win32" else expanded.replace("\\", "/")


def state_file_of(config: Config, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The state file: as configured, else in ProgramData (Windows) or in the system's or user's state folder."""
    if config.state.file:
        return Path(config.state.file)
    if platform == "win32":
        return Path(local_path(r"%ProgramData%\qlik-license-exporter\state.db", environ, platform))
    if folder := environ.get("STATE_DIRECTORY"):  # set by systemd for StateDirectory=
        return Path(folder.split(":")[0]) / "state.db"
    if folder := environ.get("XDG_STATE_HOME"):
        return Path(folder) / "qlik-license-exporter" / "state.db"
    home = environ.get("HOME", "")
    if home and (not hasattr(os, "geteuid") or os.geteuid() != 0):
        return Path(home) / ".local" / "state" / "qlik-license-exporter" / "state.db"
    return Path("/var/lib/qlik-license-exporter/state.db")


def masked(config: Config) -> dict[str, Any]:
    """The settings as plain data for people to see: no credential, no person."""
    tree: dict[str, Any] = msgspec.to_builtins(config, enc_hook=str, builtin_types=())
    tree = _durations_as_text(tree)
    if tree["qrs"]["key_password"]:
        tree["qrs"]["key_password"] = MASK
    tree["qrs"]["user"] = MASK
    for probe in tree["probes"] or []:
        probe["proxy"] = masked_url(probe["proxy"])
    return tree


def masked_yaml(config: Config) -> str:
    """`masked` as YAML text, for `/config` and the support bundle."""
    return yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True)


def masked_url(url: str) -> str:
    """`url` without its user and password."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{MASK}@{rest.rpartition('@')[2]}" if "@" in rest else url


# --- from text to a tree ---------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without the trap that the last of two equal keys silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable):
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key `{key}` stands here twice", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return typing.cast(dict[Any, Any], super().construct_mapping(node, deep=deep))


def text_of(file: str) -> str:
    """The text in a configuration file or a file with a secret. Raises ConfigError."""
    try:
        with open(file, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(file, "", f"cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(file, "", f"larger than {LARGEST_FILE} bytes, expected a configuration")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # what Notepad writes
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(file, "", f"byte {error.start} is no UTF-8, expected a text file") from None


def _filled(node: Any, key: str, name: str, environ: Mapping[str, str]) -> Any:
    """The tree with `${VARIABLES}` replaced and empty sections (`license:` with nothing behind it) left out."""
    if isinstance(node, dict):
        filled: dict[str, Any] = {}
        for child, value in node.items():
            if not isinstance(child, str):
                raise ConfigError(
                    name, f"{key}.{child}".lstrip("."), f"found {_shown(child)} as a key, expected a name"
                )
            if value is not None:
                filled[child] = _filled(value, f"{key}.{child}".lstrip("."), name, environ)
        return filled
    if isinstance(node, list):
        return [_filled(value, f"{key}[{index}]", name, environ) for index, value in enumerate(node)]
    if isinstance(node, str):

        def value_of(match: re.Match[str]) -> str:
            if match[1] not in environ:
                raise ConfigError(name, key, f"the environment variable {match[1]} is not set, expected a value")
            return environ[match[1]]

        return _VARIABLE.sub(value_of, node)
    return node


# --- from a tree to settings -----------------------------------------------------------------------------------------


def _decode(type_: type, value: object) -> object:
    if type_ is Duration:
        return duration(value)
    raise NotImplementedError(type_)  # pragma: no cover - a type that no setting has


def explained(error: msgspec.ValidationError, tree: Any, name: str, root: type = Config) -> ConfigError:
    """msgspec's finding about the tree of a `root`, in the words of this product."""
    text, _, path = str(error).partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    found: object = _found(tree, key)
    if "password" in key or "proxy" in key:  # whatever stands there may be a secret
        found = "something else"
    if unknown := re.search(r"unknown field `(.*)`", text):
        full = f"{key}.{unknown[1]}".lstrip(".")
        known = _fields(root, key)
        near = difflib.get_close_matches(unknown[1].lower(), known, 1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"expected one of {', '.join(known)}"
        return ConfigError(name, full, f"unknown key; {hint}")
    if missing := re.search(r"missing required field `(.*)`", text):
        return ConfigError(name, f"{key}.{missing[1]}".lstrip("."), "not found, expected a value")
    if expected := re.match(r"Expected `(.*?)`", text):
        plain = {
            "str": "text",
            "int": "a whole number",
            "bool": "true or false",
            "array": "a list",
            "object": "a section with keys",
            "array | null": "a list",
        }.get(expected[1], expected[1])
        return ConfigError(name, key, f"found {_shown(found)}, expected {plain}")
    if text.startswith("Invalid enum value"):
        return ConfigError(name, key, f"found {_shown(found)}, expected one of {', '.join(_choices(root, key))}")
    return ConfigError(name, key, f"found {_shown(found)}, expected {text}")


def _shown(value: object) -> str:
    """A found value for an error text: its kind and, where it can be no secret, itself."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"the number `{value}`"
    if isinstance(value, str):
        return f"`{masked_url(value)[:80]}`"
    if isinstance(value, list):
        return "a list"
    return "a section with keys" if isinstance(value, dict) else f"`{value}`"


def _steps(key: str) -> list[str | int]:
    return [int(index) if index else word for word, index in re.findall(r"([A-Za-z_]\w*)|\[(\d+)\]", key)]


def _found(tree: Any, key: str) -> object:
    for step in _steps(key):
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return typing.cast(object, tree)


def _type_at(root: type, key: str) -> Any:
    here: Any = root
    for step in _steps(re.sub(r"\[\.\.\.\]", "[0]", key)):
        here = _item(here) if isinstance(step, int) else typing.get_type_hints(_struct(here))[step]
    return here


def _item(type_: Any) -> Any:
    for option in (type_, *typing.get_args(type_)):
        if typing.get_origin(option) is tuple:
            return typing.get_args(option)[0]
    return type_


def _struct(type_: Any) -> Any:
    if isinstance(type_, types.UnionType):
        return next(option for option in typing.get_args(type_) if option is not type(None))
    return type_


def _fields(root: type, key: str) -> list[str]:
    return list(typing.get_type_hints(_struct(_type_at(root, key))))


def _choices(root: type, key: str) -> list[str]:
    return [f"`{choice}`" for choice in typing.get_args(_type_at(root, key))]


# --- what a type cannot say ------------------------------------------------------------------------------------------


def _checked(config: Config, name: str, environ: Mapping[str, str]) -> Config:
    def refuse(key: str, found: object, expected: str) -> ConfigError:
        return ConfigError(name, key, f"found {_shown(found)}, expected {expected}")

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
        raise ConfigError(name, f"{key}.target", f"found {_shown(probe.target)}, expected host:port")
    if not probe.path.startswith("/") or re.search(r"[\x00-\x20\x7f]", probe.path):
        raise ConfigError(name, f"{key}.path", f"found {_shown(probe.path)}, expected a path that begins with /")
    for index, status in enumerate(probe.expected_statuses):
        if not 100 <= status <= 599:
            raise ConfigError(name, f"{key}.expected_statuses[{index}]", f"found {_shown(status)}, expected 100 to 599")
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
            raise ConfigError(name, key, f"found {_shown(url)}, expected https://host:port")
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


def _durations_as_text(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _durations_as_text(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_durations_as_text(value) for value in tree]
    return str(tree) if isinstance(tree, Duration) else tree
