"""The checks of the settings that types cannot express, and the values that are filled in during these checks."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from exporter.config.errors import ConfigError, found_at, shown
from exporter.config.settings import (
    AuthorizationConfig,
    BasicAuthConfig,
    Config,
    Keys,
    LicensesServiceConfig,
    LogConfig,
    LogsConfig,
    MessageConfig,
    ProbeConfig,
    QrsConfig,
    RemoteWriteConfig,
    StateConfig,
    TlsConfig,
    local_path,
)
from exporter.config.strict_yaml import text_of
from exporter.config.variables import Provenance, Variables
from exporter.products import PRODUCTS

SHORTEST_POLL = 0.1
"""Seconds: shorter intervals would only waste the Qlik node's processor (hazard 132)."""


class Checks:
    """The checks of one configuration. Errors show a setting as it is written, never the value of a variable."""

    def __init__(self, tree: Any, variables: Variables, name: str, environ: Mapping[str, str]) -> None:
        """`tree`: the content of the file called `name`, with its placeholders."""
        self._tree, self._variables, self._name, self._environ = tree, variables, name, environ

    def checked(self, keys: Keys) -> Config:
        """`keys` with what only these checks can fill in: expanded paths, secrets from files. Raises ConfigError."""
        for key, value in (("poll_interval", keys.poll_interval), ("discovery_interval", keys.discovery_interval)):
            if value < SHORTEST_POLL:
                raise self._refused(key, str(value), "at least 100ms")
        settle, grace = keys.license.settle, keys.license.grace
        if settle <= 0:
            raise self._refused("license.settle", str(settle), "more than 0")
        if settle >= grace and self._is_written("license.settle"):
            raise self._refused(
                "license.settle",
                str(settle),
                f"less than license.grace, which is {self._written('license.grace', grace)}",
            )
        if settle >= grace:
            raise self._refused(
                "license.grace",
                str(grace),
                f"more than license.settle, which is {self._written('license.settle', settle)}",
            )
        probes = self._probes(keys.probes) if keys.probes is not None else None
        for index, address in enumerate(keys.web.listen_addresses):
            if not is_address(address):
                raise self._refused(f"web.listen_addresses[{index}]", address, "host:port, :port or [IPv6]:port")
        if not keys.web.listen_addresses:
            raise self._error("web.listen_addresses", "found an empty list, expected at least one address")
        settings = msgspec.structs.asdict(keys) | {
            "messages": self._messages(keys.messages),
            "logs": self._logs(self._product_logs(keys)),
            "probes": probes,
            "qrs": self._qrs(self._product_qrs(keys)),
            "licenses_service": self._licenses_service(keys.licenses_service),
            "remote_write": self._remote_write(keys.remote_write),
            "state": StateConfig(file=self._path("state.file", keys.state.file)),
        }
        return Config(**settings, provenance=Provenance(self._variables.written, self._variables.values))

    def _error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(self._name, key, problem)

    def _refused(self, key: str, value: object, expected: str) -> ConfigError:
        """The error for the setting at `key`, or for `value` if that is the default."""
        written = found_at(self._tree, key)
        return self._error(key, f"found {shown(value if written is None else written)}, expected {expected}")

    def _is_written(self, key: str) -> bool:
        """Whether the configuration sets `key`: a default is not to blame."""
        return found_at(self._tree, key) is not None

    def _written(self, key: str, value: object) -> object:
        return found_at(self._tree, key) or value

    def _path(self, key: str, text: str, *, pattern: bool = False) -> str:
        return self._variables.path(key, text, lambda path: local_path(path, self._environ), pattern=pattern)

    def _messages(self, messages: tuple[MessageConfig, ...]) -> tuple[MessageConfig, ...]:
        names: set[str] = set()
        checked = []
        for index, message in enumerate(messages):
            key = f"messages[{index}]"
            if not re.fullmatch("[a-z_]+", message.name):
                expected = "lower-case letters and underscores, such as assignments_up_to_date"
                raise self._refused(f"{key}.name", message.name, expected)
            if message.name in names:
                raise self._refused(f"{key}.name", message.name, "a name that no other message has")
            names.add(message.name)
            match = self._variables.regular_expression(f"{key}.match", message.match)
            try:
                pattern = re.compile(match)
            except (re.error, RecursionError, OverflowError) as error:
                # The value of a variable is escaped: the error is about the text in the file.
                raise self._refused(f"{key}.match", match, f"a regular expression: {error}") from None
            if pattern.match(""):
                raise self._refused(f"{key}.match", match, "a pattern that does not match everything")
            if _may_never_end(match):
                raise self._refused(f"{key}.match", match, "no repeat of what itself repeats or has alternatives")
            checked.append(msgspec.structs.replace(message, match=match))
        return tuple(checked)

    def _product_logs(self, keys: Keys) -> LogsConfig:
        """The logs of the product. If their folders are unknown, only configured ones are read."""
        product, logs = PRODUCTS[keys.product], keys.logs
        if product.has_repository:
            return logs
        if logs.licenses.enabled and found_at(self._tree, "logs.licenses.paths") is None:
            problem = (
                f"not found, expected the files of the Licenses log of {product.title}: Qlik does not document them"
            )
            raise self._error("logs.licenses.paths", problem)
        absent = {
            name: msgspec.structs.replace(getattr(logs, name), enabled=False)
            for name in ("repository_audit", "repository_trace")
            if found_at(self._tree, f"logs.{name}") is None
        }
        return msgspec.structs.replace(logs, **absent)

    def _product_qrs(self, keys: Keys) -> QrsConfig:
        if keys.qrs.enabled and not PRODUCTS[keys.product].has_repository:
            problem = f"found true, expected false: {PRODUCTS[keys.product].title} has no Repository"
            raise self._error("qrs.enabled", problem)
        return keys.qrs

    def _logs(self, logs: LogsConfig) -> LogsConfig:
        checked = {}
        for log in msgspec.structs.fields(LogsConfig):
            key = f"logs.{log.name}"
            settings: LogConfig = getattr(logs, log.name)
            if settings.enabled and not any(path.strip() for path in settings.paths):
                raise self._error(f"{key}.paths", "found no path, expected at least one, or `enabled: false`")
            for index, path in enumerate(settings.paths):
                if not path.strip():
                    raise self._error(f"{key}.paths[{index}]", "found an empty path, expected a file pattern")
            checked[log.name] = msgspec.structs.replace(
                settings,
                paths=tuple(
                    self._path(f"{key}.paths[{index}]", path, pattern=True) for index, path in enumerate(settings.paths)
                ),
                archive=self._path(f"{key}.archive", settings.archive),
            )
        return msgspec.structs.replace(logs, **checked)

    def _probes(self, probes: tuple[ProbeConfig, ...]) -> tuple[ProbeConfig, ...]:
        targets: set[str] = set()
        checked = []
        for index, probe in enumerate(probes):
            checked.append(self._probe(probe, f"probes[{index}]"))
            if probe.target in targets:
                raise self._refused(f"probes[{index}].target", probe.target, "a target that no other probe has")
            targets.add(probe.target)
        return tuple(checked)

    def _probe(self, probe: ProbeConfig, key: str) -> ProbeConfig:
        if not is_address(probe.target) or not probe.host or not 0 < probe.port < 65536:
            raise self._refused(f"{key}.target", probe.target, "host:port")
        path = self._variables.url_part(f"{key}.path", probe.path)
        if not path.startswith("/") or _BLANK.search(path):
            raise self._refused(f"{key}.path", path, "a path that begins with /")
        for index, status in enumerate(probe.expected_statuses):
            if not 100 <= status <= 599:
                raise self._refused(f"{key}.expected_statuses[{index}]", status, "100 to 599")
        if probe.interval < 1:
            raise self._refused(f"{key}.interval", str(probe.interval), "at least 1s")
        if probe.timeout <= 0:
            raise self._refused(f"{key}.timeout", str(probe.timeout), "more than 0")
        proxy = self._variables.address(f"{key}.proxy", probe.proxy)
        if probe.proxy_file:
            if proxy != "auto":
                raise self._error(f"{key}.proxy_file", "found beside `proxy`, expected only one of the two")
            proxy = self._secret(f"{key}.proxy_file", probe.proxy_file)
        if proxy not in ("auto", "none") and not _is_url(proxy, "http", "https"):
            expected = "auto, none or http://host:port"
            if "@" in proxy:
                expected += (
                    ", with a percent-encoded password (%23 for #), or one from a variable: http://user:${NAME}@…"
                )
            raise self._error(f"{key}.proxy", f"found something else, expected {expected}")
        return msgspec.structs.replace(
            probe,
            path=path,
            proxy=proxy,
            proxy_password=self._proxy_password(probe, proxy, key),
            ca_file=self._path(f"{key}.ca_file", probe.ca_file),
        )

    def _proxy_password(self, probe: ProbeConfig, proxy: str, key: str) -> str:
        password = probe.proxy_password
        if probe.proxy_password_file:
            if password:
                problem = "found beside `proxy_password`, expected only one of the two"
                raise self._error(f"{key}.proxy_password_file", problem)
            password = self._secret(f"{key}.proxy_password_file", probe.proxy_password_file)
        if bool(probe.proxy_user) != bool(password):
            there, lacking = ("proxy_user", "proxy_password") if probe.proxy_user else ("proxy_password", "proxy_user")
            raise self._error(f"{key}.{lacking}", f"not found beside `{there}`, expected both or neither")
        if probe.proxy_user and proxy == "none":
            raise self._error(f"{key}.proxy_user", "found beside `proxy: none`, expected a proxy")
        if probe.proxy_user and urlsplit(proxy).username is not None:
            raise self._error(f"{key}.proxy_user", "found beside a user in `proxy`, expected only one of the two")
        return password

    def _qrs(self, qrs: QrsConfig) -> QrsConfig:
        url = self._variables.address("qrs.url", qrs.url)
        sessions_url = self._variables.address("qrs.sessions_url", qrs.sessions_url)
        for key, value in (("qrs.url", url), ("qrs.sessions_url", sessions_url)):
            if not value and key == "qrs.sessions_url":
                continue
            if not _is_url(value, "https") or urlsplit(value).username is not None or re.search(r"[?#]", value):
                raise self._refused(key, value, "https://host:port")
        user = self._variables.without_semicolon("qrs.user", qrs.user)
        if not re.fullmatch(r"\s*UserDirectory=[^;\r\n]+;\s*UserId=[^;\r\n]+", user):
            raise self._error("qrs.user", "found something else, expected UserDirectory=INTERNAL; UserId=sa_api")
        if qrs.interval < 1:
            raise self._refused("qrs.interval", str(qrs.interval), "at least 1s")
        if qrs.max_age < qrs.interval and self._is_written("qrs.max_age"):
            raise self._refused(
                "qrs.max_age",
                str(qrs.max_age),
                f"at least qrs.interval, which is {self._written('qrs.interval', qrs.interval)}",
            )
        if qrs.max_age < qrs.interval:
            raise self._refused(
                "qrs.interval",
                str(qrs.interval),
                f"at most qrs.max_age, which is {self._written('qrs.max_age', qrs.max_age)}",
            )
        if 0 < qrs.seats_interval < qrs.interval:
            raise self._refused(
                "qrs.seats_interval",
                str(qrs.seats_interval),
                f"0 (off), or at least qrs.interval, which is {self._written('qrs.interval', qrs.interval)}",
            )
        password = qrs.key_password
        if qrs.key_password_file:
            if password:
                raise self._error("qrs.key_password_file", "found beside `key_password`, expected only one of the two")
            password = self._secret("qrs.key_password_file", qrs.key_password_file)
        return msgspec.structs.replace(
            qrs,
            url=url,
            sessions_url=sessions_url,
            user=user,
            key_password=password,
            certificate=self._path("qrs.certificate", qrs.certificate),
            key=self._path("qrs.key", qrs.key),
            ca_file=self._path("qrs.ca_file", qrs.ca_file),
        )

    def _licenses_service(self, service: LicensesServiceConfig) -> LicensesServiceConfig:
        url = self._variables.address("licenses_service.url", service.url)
        parts = urlsplit(url) if _is_url(url, "http", "https") else None
        if parts is None or parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise self._refused("licenses_service.url", url, "http://host:port or https://host:port")
        if service.interval < 1:
            raise self._refused("licenses_service.interval", str(service.interval), "at least 1s")
        if service.timeout <= 0:
            raise self._refused("licenses_service.timeout", str(service.timeout), "more than 0")
        ca_file = self._path("licenses_service.ca_file", service.ca_file)
        return msgspec.structs.replace(service, url=url, ca_file=ca_file)

    def _remote_write(self, remote: RemoteWriteConfig) -> RemoteWriteConfig:
        url = self._variables.address("remote_write.url", remote.url)
        if not url:
            if remote != RemoteWriteConfig():
                raise self._error("remote_write.url", "not found, expected the address of a receiver")
            return remote
        parts = urlsplit(url) if _is_url(url, "http", "https") else None
        if parts is None:
            raise self._refused("remote_write.url", url, "https://host:port/path")
        if re.search(r"[?#]", url):  # may hold a token, which would be shown
            raise self._error("remote_write.url", "found ? or #, expected https://host:port/path")
        if parts.username is not None:
            raise self._error("remote_write.url", "found a user in the address, expected it in remote_write.basic_auth")
        if remote.interval < 1:
            raise self._refused("remote_write.interval", str(remote.interval), "at least 1s")
        proxy = self._variables.address("remote_write.proxy_url", remote.proxy_url)
        if proxy and not (
            _is_url(proxy, "http") and urlsplit(proxy).path in ("", "/") and not re.search("[?#]", proxy)
        ):
            expected = "http://host:port, or http://user:${NAME}@host:port with a percent-encoded password"
            raise self._error("remote_write.proxy_url", f"found something else, expected {expected}")
        remote = msgspec.structs.replace(
            remote,
            url=url,
            proxy_url=proxy,
            basic_auth=self._basic_auth(remote.basic_auth),
            authorization=self._authorization(remote.authorization),
            tls_config=self._tls(remote.tls_config, encrypted=parts.scheme == "https"),
        )
        self._remote_headers(remote)
        secrets = {
            "basic_auth": remote.basic_auth.username,
            "authorization": remote.authorization.credentials,
            "headers": remote.headers,
        }
        given = [name for name, value in secrets.items() if value]
        if "basic_auth" in given and "authorization" in given:
            raise self._error("remote_write.authorization", "found beside `basic_auth`, expected only one of the two")
        if given and parts.scheme == "http" and (proxy or not _is_loopback(parts.hostname or "")):
            problem = f"found http:// beside `{given[0]}`, expected https://: it would be sent unencrypted"
            raise self._error("remote_write.url", problem)
        for name, value in remote.labels.items():
            key = f"remote_write.labels.{name}"
            if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) or name.startswith("__"):
                expected = "expected letters, digits and underscores, and not two underscores first"
                raise self._error("remote_write.labels", f"found the label {shown(name)}, {expected}")
            if not value:
                raise self._error(key, "found an empty text, expected a value")
        return remote

    def _basic_auth(self, basic: BasicAuthConfig) -> BasicAuthConfig:
        key, password = "remote_write.basic_auth", basic.password
        if basic.password_file:
            if password:
                raise self._error(f"{key}.password_file", "found beside `password`, expected only one of the two")
            password = self._secret(f"{key}.password_file", basic.password_file)
        if ":" in basic.username:
            raise self._error(f"{key}.username", "found a colon, expected a user name without one")
        if password and not basic.username:
            raise self._error(f"{key}.username", "not found beside `password`, expected a user name")
        file = self._path(f"{key}.password_file", basic.password_file)
        return msgspec.structs.replace(basic, password=password, password_file=file)

    def _authorization(self, token: AuthorizationConfig) -> AuthorizationConfig:
        key, credentials = "remote_write.authorization", token.credentials
        if token.credentials_file:
            if credentials:
                raise self._error(f"{key}.credentials_file", "found beside `credentials`, expected only one of the two")
            credentials = self._secret(f"{key}.credentials_file", token.credentials_file)
            if not credentials:
                raise self._error(f"{key}.credentials_file", "found an empty file, expected a token")
        if token.type.lower() == "basic" or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", token.type):
            raise self._refused(
                f"{key}.type", token.type, "one word such as Bearer; for a user: remote_write.basic_auth"
            )
        if self._is_written(key) and not credentials:
            raise self._error(f"{key}.credentials", "not found, expected a token, or a file in `credentials_file`")
        if not is_header_value(credentials):
            raise self._error(f"{key}.credentials", "found a character that no header may contain, expected a token")
        file = self._path(f"{key}.credentials_file", token.credentials_file)
        return msgspec.structs.replace(token, credentials=credentials, credentials_file=file)

    def _tls(self, tls: TlsConfig, encrypted: bool) -> TlsConfig:
        key = "remote_write.tls_config"
        if tls.insecure_skip_verify:
            expected = (
                "false: trust the receiver's CA by `ca_file`, or set `server_name` to the name in its certificate"
            )
            raise self._refused(f"{key}.insecure_skip_verify", True, expected)
        if bool(tls.cert_file) != bool(tls.key_file):
            there, lacking = ("cert_file", "key_file") if tls.cert_file else ("key_file", "cert_file")
            raise self._error(f"{key}.{lacking}", f"not found beside `{there}`, expected both or neither")
        if not encrypted and (tls.ca_file or tls.cert_file or tls.server_name):
            raise self._error(key, "found beside a url with http://, expected https://")
        names = ("ca_file", "cert_file", "key_file")
        files = {name: self._path(f"{key}.{name}", getattr(tls, name)) for name in names}
        return msgspec.structs.replace(tls, **files)

    def _remote_headers(self, remote: RemoteWriteConfig) -> None:
        for name, value in remote.headers.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name) or name.lower() in _OUR_HEADERS:
                expected = "the name of a header that the exporter does not set itself"
                raise self._error("remote_write.headers", f"found {shown(name)}, expected {expected}")
            if not is_header_value(value):
                problem = "found a character that no header may contain, expected plain text"
                raise self._error(f"remote_write.headers.{name}", problem)

    def _secret(self, key: str, file: str) -> str:
        """The text in the file that `key` names."""
        path = self._path(key, file)
        try:
            return text_of(path).rstrip("\r\n")
        except ConfigError as error:
            raise self._error(key, f"{self._variables.written.get(key, path)}: {error.problem}") from None


_OUR_HEADERS = frozenset(
    {"host", "content-encoding", "content-length", "content-type", "transfer-encoding", "connection", "user-agent"}
    | {
        "authorization",
        "proxy-authorization",
        "x-prometheus-remote-write-version",
        "expect",
        "te",
        "upgrade",
        "trailer",
    }
)
"""Headers of a remote write request that cannot be set, in lower case. Credentials have keys of their own."""
_BLANK = re.compile(r"[\x00-\x20\x7f]")


def is_header_value(text: str) -> bool:
    """Whether `text` can be the value of an HTTP header: printable ASCII."""
    return text.isascii() and text.isprintable()


def _is_loopback(host: str) -> bool:
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_url(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and not _BLANK.search(text)  # `urlsplit` silently removes some of them


def _may_never_end(pattern: str) -> bool:
    """Whether a repeated group contains a repeat or alternatives: a line that nearly matches could then take years."""
    left = _ESCAPED.sub("x", pattern)
    while group := _INNERMOST_GROUP.search(left):
        inside, repeated = re.search(r"[*+|]|\{\d*,\d*\}", group[1]), group[2]
        if inside and repeated:
            return True
        left = f"{left[: group.start()]}x{'+' if inside or repeated else ''}{left[group.end() :]}"
    return False


_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""One character of a regular expression, possibly escaped, or a character class."""
_INNERMOST_GROUP = re.compile(r"\(([^()]*)\)([*+]|\{[\d,]+\})?")


def is_address(text: str) -> bool:
    """Whether `text` is host:port, :port or [IPv6]:port."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        return False
    if host.startswith("["):
        try:
            return host.endswith("]") and bool(ipaddress.IPv6Address(host[1:-1].partition("%")[0]))
        except ValueError:
            return False
    return bool(re.fullmatch(r"[^\s:/@\[\]]*", host))
