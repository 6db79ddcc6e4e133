"""The settings: frozen, typed, with the defaults of a Qlik node. Keys and defaults are the public contract."""

import os
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from exporter.config.variables import Provenance
from exporter.events import LogName
from exporter.products import ProductName

LONGEST_DURATION = 100 * 365 * 86400
"""Seconds: a time further away cannot be displayed."""

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|w|d|h|m|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|w|d|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WINDOWS_VARIABLE = re.compile(r"%([A-Za-z_][A-Za-z0-9_()]*)%")


class Duration(float):
    """Seconds; written `500ms`, `30s`, `5m`, `26h`, `5d`, `1h30m`."""

    def __str__(self) -> str:
        if not self:
            return "0s"
        for unit in ("w", "d", "h", "m", "s"):
            if self >= _UNITS[unit] and self % _UNITS[unit] == 0:
                return f"{int(self // _UNITS[unit])}{unit}"
        return f"{round(self * 1000)}ms"


def duration(text: object) -> Duration:
    """`text` in seconds; 0 needs no unit. Raises ValueError with the expectation."""
    if text == "0" or (isinstance(text, int) and not isinstance(text, bool) and text == 0):
        return Duration(0)
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
    """One log: where its live files are, and where rotated ones go."""

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
    """The Repository's trace logs: problems reported by its license loggers (qlik-facts 3)."""

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
    """A message of this site's Qlik release that the built-in catalogue does not contain."""

    name: str
    log: LogName
    match: str
    means: MessageMeaning


class LicenseConfig(_Settings, frozen=True, kw_only=True):
    """What kind of license the site has, and how long Qlik tolerates missing contact with the backend."""

    kind: Literal["auto", "signed_key", "offline", "lef"] = "auto"
    grace: Duration = Duration(5 * 86400)
    settle: Duration = Duration(90)


Role = Literal["backend", "proxy", "repository", "local", "other"]


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
    proxy_user: str = ""
    proxy_password: str = ""
    proxy_password_file: str = ""
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
REPOSITORY_PROBE = ProbeConfig(target="localhost:4242", role="repository", protocol="tcp", proxy="none")


class QrsConfig(_Settings, frozen=True, kw_only=True):
    """The Repository API: seats, minutes, expiry. Off by default, and for the central node only."""

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
    seats_interval: Duration = Duration(0)
    """Between two counts of the seats that nobody uses; 0: they are not counted."""
    trust_updated: bool = False


class LicensesServiceConfig(_Settings, frozen=True, kw_only=True):
    """The Licenses service's own pages about its health. Documented for Kubernetes; on Windows unknown, so off."""

    enabled: bool = False
    url: str = "http://localhost:9200"
    ca_file: str = ""
    interval: Duration = Duration(60)
    timeout: Duration = Duration(5)


class BasicAuthConfig(_Settings, frozen=True, kw_only=True):
    """A user at the receiver of remote write."""

    username: str = ""
    password: str = ""
    password_file: str = ""


class AuthorizationConfig(_Settings, frozen=True, kw_only=True):
    """A token at the receiver of remote write: the `Authorization` header."""

    type: str = "Bearer"
    credentials: str = ""
    credentials_file: str = ""


class TlsConfig(_Settings, frozen=True, kw_only=True):
    """How the receiver of remote write is verified, and the certificate shown to it."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False
    """Always false: true is refused."""


class RemoteWriteConfig(_Settings, frozen=True, kw_only=True):
    """Push instead of scrapes: Prometheus' remote write, with its own names for the keys. Off without a `url`."""

    url: str = ""
    interval: Duration = Duration(30)
    """As in the shipped Prometheus configurations, with which the rules are tested."""
    basic_auth: BasicAuthConfig = BasicAuthConfig()
    authorization: AuthorizationConfig = AuthorizationConfig()
    tls_config: TlsConfig = TlsConfig()
    proxy_url: str = ""
    """The HTTP proxy on the way to the receiver; empty: none."""
    headers: dict[str, str] = {}  # msgspec copies an empty one for each instance
    labels: dict[str, str] = {}


class StateConfig(_Settings, frozen=True, kw_only=True):
    """Where offsets and durable counters are kept."""

    file: str = ""


class WebConfig(_Settings, frozen=True, kw_only=True):
    """Where the exporter answers, and whether its pages may show people."""

    listen_addresses: tuple[str, ...] = (":10188",)
    show_people: bool = False


class Keys(_Settings, frozen=True, kw_only=True):
    """All settings: the keys of the configuration file."""

    product: ProductName = "sense"
    logs: LogsConfig = LogsConfig()
    poll_interval: Duration = Duration(1)
    discovery_interval: Duration = Duration(10)
    history: Literal["restate", "count", "ignore"] = "restate"
    messages: tuple[MessageConfig, ...] = ()
    license: LicenseConfig = LicenseConfig()
    probes: tuple[ProbeConfig, ...] | None = None
    """None: the built-in ones, see `probes_of`."""
    qrs: QrsConfig = QrsConfig()
    licenses_service: LicensesServiceConfig = LicensesServiceConfig()
    remote_write: RemoteWriteConfig = RemoteWriteConfig()
    state: StateConfig = StateConfig()
    web: WebConfig = WebConfig()


class Config(Keys, frozen=True, kw_only=True):
    """The current settings, and which of them came from variables."""

    provenance: Provenance = Provenance()


def probes_of(config: Config, environ: Mapping[str, str] = os.environ) -> tuple[ProbeConfig, ...]:
    """The probes to run: those configured, else the backend, and the local Repository if its folder exists."""
    if config.probes is not None:
        return config.probes
    if config.product != "sense":
        return (BACKEND_PROBE,)
    sense = Path(local_path(r"%ProgramData%\Qlik\Sense", environ))
    if (sense / "Repository").is_dir() or (sense / "Log" / "Repository").is_dir():
        return (BACKEND_PROBE, REPOSITORY_PROBE)
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
