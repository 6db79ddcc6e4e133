"""The web file: TLS, users, headers and rate, in the format of Prometheus' exporter-toolkit.

So one file can serve all exporters of a machine. What would weaken security if it were ignored is rejected with an
error: unknown keys, and keys without a value, which a template with an empty variable leaves.
"""

import logging
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from exporter.config import ConfigError, Duration, duration, explained, text_of, yaml_tree
from exporter.filewatch import Stamp, stamps

COSTLIEST_HASH = 16
"""bcrypt cost; each step doubles the time, 16 takes about 5 s."""

DEFAULT_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "qlik-license-exporter",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
}
"""Header fields of every response; the web file may override some of them."""

_OPENABLE_PATHS = frozenset({"/", "/-/healthy", "/-/ready", "/metrics", "/probe", "/api/v1/status"})
_OF_LINES = frozenset({"cert", "key", "client_ca"})
"""Keys that take PEM text in the toolkit's format."""
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_HEADER_VALUES: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_TLS13_SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Always on, here as in Go: TLS 1.3 has no weak ones to choose from."""
_SUITES = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}

_log = logging.getLogger(__name__)


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class _TlsKeys(_Keys, frozen=True):
    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: Literal[
        "",
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "RequireClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = ""
    client_ca_file: str = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()


class _HttpKeys(_Keys, frozen=True):
    http2: bool = False
    headers: dict[str, str] = {}


class _RateKeys(_Keys, frozen=True):
    burst: int = 0
    interval: Duration = Duration(0)


class _FileKeys(_Keys, frozen=True):
    tls_server_config: _TlsKeys = _TlsKeys()
    http_server_config: _HttpKeys = _HttpKeys()
    basic_auth_users: dict[str, str] = {}
    rate_limit: _RateKeys = _RateKeys()
    auth_exclude_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsRules:
    """How connections are encrypted, and which client certificates are accepted."""

    context: ssl.SSLContext
    allowed_names: frozenset[str] | None
    """Subject alternative names of which a client's certificate must have one; None: any."""
    curves: tuple[str, ...]
    """The only elliptic curves, if they are restricted."""
    made_from: object
    """The settings that it was made from: equal for equal rules."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The validated content of the web file. `Rules()` applies without one."""

    tls: TlsRules | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    """bcrypt hash by user name; empty: no login is required."""
    open_paths: frozenset[str] = frozenset()
    """Paths that need no login."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header fields for every response, which replace our own of the same name."""
    burst: int = 0
    interval: float = 0.0
    """Seconds until one more request is allowed, after a burst of `burst`; 0: no limit."""
    read_from: tuple[Stamp, ...] = ()
    """The stamps of the files before they were read."""

    def summary(self) -> str:
        """Who has access, in a few words for the log."""
        client = self.tls is not None and self.tls.context.verify_mode is ssl.CERT_REQUIRED
        tls = "with TLS and client certificates" if client else "with TLS" if self.tls else "without TLS"
        return f"{tls}, {'with' if self.users else 'without'} users"


def load(file: str | None, previous: Rules | None = None) -> Rules:
    """The rules in the web file, which replace `previous`. Raises ConfigError."""
    if file is None:
        return Rules()
    seen = stamps([file])
    tree = _texts_as_keys(yaml_tree(text_of(file), file, _OF_LINES))
    _refuse_gaps(tree, "", file)
    try:
        keys = msgspec.convert(tree, _FileKeys, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise explained(error, tree, file, _FileKeys) from None
    folder = os.path.dirname(os.path.abspath(file))  # as in the toolkit, paths are relative to the file
    tls_keys = msgspec.structs.replace(
        keys.tls_server_config,
        **{
            name: os.path.join(folder, path)
            for name in ("cert_file", "key_file", "client_ca_file")
            if (path := getattr(keys.tls_server_config, name))
        },
    )
    tls_files = [path for path in (tls_keys.cert_file, tls_keys.key_file, tls_keys.client_ca_file) if path]
    seen += stamps(tls_files)
    made_from = (tls_keys, seen[1:])
    tls = previous.tls if previous else None
    if tls is None or tls.made_from != made_from:
        tls = _tls_rules(tls_keys, made_from, file) if tls_keys != _TlsKeys() else None
    _check_users(keys, file)
    _check_http(keys, file)
    if keys.rate_limit.interval > 0 and keys.rate_limit.burst < 1:
        raise ConfigError(file, "rate_limit.burst", f"found `{keys.rate_limit.burst}`, expected at least 1")
    return Rules(
        tls=tls,
        users=keys.basic_auth_users,
        open_paths=frozenset(keys.auth_exclude_paths),
        headers={name: value for name, value in keys.http_server_config.headers.items() if value},
        burst=keys.rate_limit.burst,
        interval=keys.rate_limit.interval,
        read_from=seen,
    )


def _texts_as_keys(node: Any) -> Any:
    """The tree with all keys as text: a user may be called 007."""
    return {str(key): _texts_as_keys(value) for key, value in node.items()} if isinstance(node, dict) else node


def _refuse_gaps(node: Any, key: str, file: str) -> None:
    """Reject every key without a value, and a file without any key."""
    if node is None or node in ("", [], {}) or (isinstance(node, str) and not node.strip()):
        expected = "a value; omit the key for its default" if key else "tls_server_config, basic_auth_users or both"
        raise ConfigError(file, key, f"found nothing, expected {expected}")
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for child, value in children:
        _refuse_gaps(value, f"{key}[{child}]" if isinstance(child, int) else f"{key}.{child}".lstrip("."), file)


def _decode(type_: type, value: object) -> object:
    if type_ is Duration:
        return Duration(0) if value == 0 else duration(value)
    raise NotImplementedError(type_)  # pragma: no cover - a type that no key has


def _check_users(keys: _FileKeys, file: str) -> None:
    for name, password_hash in keys.basic_auth_users.items():
        key = f"basic_auth_users.{name}"
        if not name or ":" in name:
            raise ConfigError(file, key, "found a name that cannot be used for a login, expected one without a colon")
        match = _HASH.fullmatch(password_hash)
        if not match or int(match[1]) < 4:
            raise ConfigError(file, key, "found something else, expected a bcrypt hash such as $2y$10$…")
        if int(match[1]) > COSTLIEST_HASH:
            raise ConfigError(file, key, f"found a bcrypt cost of {match[1]}, expected at most {COSTLIEST_HASH}")
    for index, path in enumerate(keys.auth_exclude_paths):
        if path not in _OPENABLE_PATHS:
            expected = f"one of {', '.join(sorted(_OPENABLE_PATHS))}"
            raise ConfigError(file, f"auth_exclude_paths[{index}]", f"found `{path[:80]}`, expected {expected}")


def _check_http(keys: _FileKeys, file: str) -> None:
    for name, value in keys.http_server_config.headers.items():
        key = f"http_server_config.headers.{name}"
        if name not in _HEADER_VALUES:
            raise ConfigError(file, key, f"unknown key; expected one of {', '.join(_HEADER_VALUES)}")
        if not value.isprintable() or not value.isascii():
            raise ConfigError(
                file, key, "found characters that are not allowed in a header, expected one line of ASCII"
            )
        if value and _HEADER_VALUES[name] and value.lower() not in _HEADER_VALUES[name]:
            raise ConfigError(file, key, f"found `{value[:80]}`, expected {' or '.join(_HEADER_VALUES[name])}")
    if keys.http_server_config.http2:
        _log.warning("%s: http_server_config.http2: this exporter offers HTTP/1.1 only, which every client takes", file)


def _tls_rules(keys: _TlsKeys, made_from: object, file: str) -> TlsRules:
    def refuse(key: str, problem: str) -> ConfigError:
        return ConfigError(file, f"tls_server_config.{key}", problem)

    for inline in ("cert", "key", "client_ca"):
        if getattr(keys, inline):
            raise refuse(inline, f"found PEM text, expected a file named by `{inline}_file`")
    for wanted in ("cert_file", "key_file"):
        if not getattr(keys, wanted):
            raise refuse(wanted, "not found, expected a file")
    for bound in ("min_version", "max_version"):
        if getattr(keys, bound) not in _VERSIONS:
            raise refuse(bound, f"found `{getattr(keys, bound)}`, which is insecure, expected TLS12 or TLS13")
    if keys.min_version > keys.max_version:
        raise refuse("min_version", f"found `{keys.min_version}`, expected no more than max_version")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[keys.min_version], _VERSIONS[keys.max_version]
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(keys.cert_file, keys.key_file, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise refuse(*_unusable_pair(keys, error)) from None
    _choose_ciphers(context, keys, refuse)
    _choose_clients(context, keys, refuse)
    names = keys.client_allowed_sans
    return TlsRules(context, frozenset(names) if names is not None else None, keys.curve_preferences, made_from)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _unusable_pair(keys: _TlsKeys, error: Exception) -> tuple[str, str]:
    for key, path in (("cert_file", keys.cert_file), ("key_file", keys.key_file)):
        try:
            with open(path, "rb"):
                pass
        except OSError as unreadable:
            return key, f"{path}: cannot be read: {unreadable.strerror or unreadable}"
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "key_file", f"{keys.key_file}: found the key of another certificate, expected that of cert_file"
        return "cert_file", f"{keys.cert_file} and key_file: expected a certificate chain and its key in PEM"
    return "key_file", f"{keys.key_file}: {error}, expected a key without a password"


def _choose_ciphers(context: ssl.SSLContext, keys: _TlsKeys, refuse: Any) -> None:
    for index, suite in enumerate(keys.cipher_suites):
        if suite not in _SUITES and suite not in _TLS13_SUITES:
            raise refuse(
                f"cipher_suites[{index}]", f"found `{suite[:80]}`, expected a name such as {next(iter(_SUITES))}"
            )
    old_suites = [_SUITES[suite] for suite in keys.cipher_suites if suite in _SUITES]
    if old_suites:
        try:
            context.set_ciphers(":".join(old_suites))
        except ssl.SSLError:
            raise refuse(
                "cipher_suites", "found none that this machine's OpenSSL offers, expected one at least"
            ) from None
    elif keys.cipher_suites:
        if keys.max_version != "TLS13":
            raise refuse("cipher_suites", "found only suites of TLS 1.3, expected some that max_version can use")
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if keys.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for index, curve in enumerate(keys.curve_preferences):
        if curve not in _CURVES:
            raise refuse(f"curve_preferences[{index}]", f"found `{curve[:80]}`, expected one of {', '.join(_CURVES)}")
    if len(keys.curve_preferences) > 1:
        raise refuse("curve_preferences", "found several curves, expected one: Python can insist on one only")
    for curve in keys.curve_preferences:
        try:
            context.set_ecdh_curve(_CURVES[curve])
        except (ValueError, ssl.SSLError):
            raise refuse("curve_preferences", f"found `{curve}`, which this machine's OpenSSL does not offer") from None


def _choose_clients(context: ssl.SSLContext, keys: _TlsKeys, refuse: Any) -> None:
    kind = keys.client_auth_type
    if kind in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        sentence = "which accepts certificates that are not verified; expected RequireAndVerifyClientCert"
        raise refuse("client_auth_type", f"found `{kind}`, {sentence}")
    verifying = kind in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
    if keys.client_allowed_sans is not None and kind != "RequireAndVerifyClientCert":
        raise refuse("client_allowed_sans", "expected client_auth_type: RequireAndVerifyClientCert with it")
    if keys.client_ca_file and not verifying:
        raise refuse("client_ca_file", "expected client_auth_type: RequireAndVerifyClientCert with it")
    if not verifying:
        return
    if not keys.client_ca_file:
        raise refuse("client_ca_file", f"not found, expected the CA that {kind} verifies against")
    context.verify_mode = ssl.CERT_REQUIRED if kind == "RequireAndVerifyClientCert" else ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(keys.client_ca_file)
    except ssl.SSLError:
        raise refuse("client_ca_file", f"{keys.client_ca_file}: expected certificates in PEM") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refuse("client_ca_file", f"{keys.client_ca_file}: cannot be read: {reason}") from None


def weakened(before: Rules, after: Rules) -> list[str]:
    """What protects less in `after` than in `before`, in words; empty if nothing does."""
    found = [] if not before.tls else _weakened_tls(before.tls, after.tls) if after.tls else ["TLS is gone"]
    if before.users and not after.users:
        found.append("no user is left")
    if before.users and (opened := sorted(after.open_paths - before.open_paths)):
        found.append(f"no login is required any more for {', '.join(opened)}")
    if changed := [name for name, value in before.headers.items() if after.headers.get(name) != value]:
        found.append(f"changed header fields: {', '.join(changed)}")
    if before.interval > 0 and (after.interval < before.interval or after.burst > before.burst):
        found.append("rate_limit allows more")
    return found


def _weakened_tls(before: TlsRules, after: TlsRules) -> list[str]:
    found = []
    if after.context.verify_mode < before.context.verify_mode:
        found.append("client_auth_type requires less")
    if before.allowed_names is not None and (after.allowed_names is None or after.allowed_names - before.allowed_names):
        found.append("client_allowed_sans accepts more")
    if after.context.minimum_version < before.context.minimum_version:
        found.append("min_version is lower")
    if after.context.maximum_version < before.context.maximum_version:
        found.append("max_version is lower")
    if _ciphers(after) - _ciphers(before):
        found.append("cipher_suites allows more")
    if before.curves and not after.curves:
        found.append("curve_preferences was removed")
    if before.context.options & ~after.context.options & ssl.OP_CIPHER_SERVER_PREFERENCE:
        found.append("prefer_server_cipher_suites is off")
    return found


def _ciphers(rules: TlsRules) -> set[str]:
    return {str(cipher["name"]) for cipher in rules.context.get_ciphers()}
