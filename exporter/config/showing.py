"""The settings as people may see them: without credentials, people and values of variables."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec
import yaml

from exporter.config.errors import MASK, masked_url, steps_of
from exporter.config.settings import Config, Duration
from exporter.config.variables import placeholders_of

SHORTEST_VALUE = 4
"""Values of at least this many characters are searched for in texts: shorter ones occur in many words."""
SHORTEST_IN_WORDS = 8
"""Values of at least this many characters are searched for within words, too."""
_OURS = frozenset(
    {"auto", "none", "http", "https", "localhost", "127.0.0.1", "true", "false", "offline", "signed_key", "licenses"}
    | {"backend", "proxy", "local", "repository", "other", "restate", "count", "ignore"}
)
"""Values that are keywords of the configuration."""


def masked(config: Config) -> dict[str, Any]:
    """The settings as plain data: without credentials and people, and with placeholders as they are written."""
    tree: dict[str, Any] = msgspec.to_builtins(config, enc_hook=str, builtin_types=())
    del tree["provenance"]
    tree = _plain(tree)
    for key, written in config.provenance.written.items():
        *way, last = steps_of(key)
        here: Any = tree
        for step in way:
            here = here[step]
        here[last] = written
    qrs = tree["qrs"]
    password = config.provenance.written.get("qrs.key_password", "")
    qrs["key_password"] = placeholders_of(password, MASK) or (MASK if qrs["key_password"] else "")
    qrs["user"] = placeholders_of(qrs["user"], MASK)
    remote = tree["remote_write"]
    for login, name in ((remote["basic_auth"], "username"), (remote["basic_auth"], "password"),
                        (remote["authorization"], "credentials")):  # fmt: skip
        login[name] = placeholders_of(login[name], MASK)
    remote["proxy_url"] = _masked_address(remote["proxy_url"])
    remote["headers"] = {name: placeholders_of(value, MASK) for name, value in remote["headers"].items()}
    for probe in tree["probes"] or []:
        probe["proxy"] = MASK if probe["proxy_file"] else _masked_address(probe["proxy"])
        for key in ("proxy_user", "proxy_password"):
            probe[key] = placeholders_of(probe[key], MASK)
    return tree


def masked_yaml(config: Config) -> str:
    """`masked` as YAML text, for `/config` and the support bundle."""
    return yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True)


def redaction_of(config: Config) -> Callable[[str], str]:
    """A function that replaces what the settings took from variables and files by placeholders in a text.

    For texts that name current settings, such as our own log and `check`.
    """
    shown: dict[str, str] = {}
    tree = msgspec.to_builtins(config, enc_hook=str, builtin_types=())
    for placeholder, value in config.provenance.values.items():
        for part in (value, *_parts(value)):
            shown.setdefault(part, placeholder)
    for key, written in config.provenance.written.items():
        here: Any = tree
        for step in steps_of(key):
            here = here[step]
        shown.setdefault(str(here), masked_url(written))
    logins = [
        part for probe in config.probes or () for part in (*_login(probe.proxy), probe.proxy_user, probe.proxy_password)
    ]
    remote = config.remote_write
    logins += [remote.basic_auth.username, remote.basic_auth.password, remote.authorization.credentials]
    logins += [*remote.headers.values(), *_login(remote.proxy_url)]
    for secret in (config.qrs.key_password, *logins):
        shown.setdefault(secret, MASK)
    spelled = {
        spelling: placeholder
        for value, placeholder in shown.items()
        if len(value) >= SHORTEST_VALUE and value.casefold() not in _OURS
        for spelling in (value, value.replace("\\", "/"), repr(value)[1:-1], quote(value, safe=""), quote(value))
    }
    if not spelled:
        return lambda text: text
    folded = {spelling.casefold(): placeholder for spelling, placeholder in spelled.items()}
    pattern = re.compile(
        "|".join(
            re.escape(spelling) if len(spelling) >= SHORTEST_IN_WORDS else rf"(?<!\w){re.escape(spelling)}(?!\w)"
            for spelling in sorted(spelled, key=len, reverse=True)
        ),
        re.IGNORECASE,
    )
    return lambda text: pattern.sub(lambda match: folded.get(match[0].casefold(), MASK), text)


def _parts(value: str) -> list[str]:
    """The parts of an address that may occur separately in texts."""
    try:
        parts = urlsplit(value if "://" in value else f"//{value}")
        if not parts.hostname or ("://" not in value and not re.fullmatch(r"[\w.-]+:\d+", value)):
            return []
        return [parts.hostname, parts.netloc.rpartition("@")[2], *_login(value)]
    except ValueError:
        return []


def _login(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    return [unquote(part) for part in (parts.username, parts.password) if part]


def _masked_address(url: str) -> str:
    """`url` without its user and password, unless they are placeholders."""
    scheme, separator, rest = url.rpartition("://")
    login, at, host = rest.rpartition("@")
    if not at or "${" not in login:
        return masked_url(url)
    return f"{scheme}{separator}{':'.join(placeholders_of(part, MASK) for part in login.split(':', 1))}@{host}"


def _plain(tree: Any) -> Any:
    """The tree with durations as they are written, and sequences as lists."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return str(tree) if isinstance(tree, Duration) else tree
