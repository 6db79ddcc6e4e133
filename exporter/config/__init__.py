"""The configuration: a YAML file becomes frozen, strict, typed settings.

Whatever is invalid raises `ConfigError`, one line that names the file, the key, what was found and what was expected.
Keys and defaults are the public contract; `deploy/qlik-license-exporter.yml` is the commented reference.
"""

from exporter.config.advice import advice_on
from exporter.config.checks import is_address, is_header_value
from exporter.config.errors import ConfigError, explained, masked_url
from exporter.config.loading import load, parse
from exporter.config.settings import (
    BACKEND_PROBE,
    REPOSITORY_PROBE,
    AuditLogConfig,
    Config,
    Duration,
    LicenseConfig,
    LicensesLogConfig,
    LicensesServiceConfig,
    LogConfig,
    LogsConfig,
    MessageConfig,
    ProbeConfig,
    QrsConfig,
    RemoteWriteConfig,
    Role,
    StateConfig,
    TraceLogConfig,
    WebConfig,
    duration,
    local_path,
    probes_of,
    state_file_of,
)
from exporter.config.showing import masked, masked_yaml, redaction_of
from exporter.config.strict_yaml import text_of, yaml_tree

__all__ = [
    "BACKEND_PROBE",
    "REPOSITORY_PROBE",
    "AuditLogConfig",
    "Config",
    "ConfigError",
    "Duration",
    "LicenseConfig",
    "LicensesLogConfig",
    "LicensesServiceConfig",
    "LogConfig",
    "LogsConfig",
    "MessageConfig",
    "ProbeConfig",
    "QrsConfig",
    "RemoteWriteConfig",
    "Role",
    "StateConfig",
    "TraceLogConfig",
    "WebConfig",
    "advice_on",
    "duration",
    "explained",
    "is_address",
    "is_header_value",
    "load",
    "local_path",
    "masked",
    "masked_url",
    "masked_yaml",
    "parse",
    "probes_of",
    "redaction_of",
    "state_file_of",
    "text_of",
    "yaml_tree",
]
