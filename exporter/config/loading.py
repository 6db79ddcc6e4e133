"""From a file to settings: YAML, `${VARIABLES}`, types, checks."""

import os
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.config.checks import checked
from exporter.config.errors import ConfigError, explained, shown
from exporter.config.settings import Config, Duration, duration
from exporter.config.strict_yaml import text_of, yaml_tree

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WINDOWS_VARIABLE = re.compile(r"%([A-Za-z_][A-Za-z0-9_()]*)%")


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
        raise explained(error, tree, name, Config) from None
    return checked(config, name, environ)


def _filled(node: Any, key: str, name: str, environ: Mapping[str, str]) -> Any:
    """The tree with `${VARIABLES}` replaced; a key with nothing behind it, which may not be written yet, is refused."""
    if isinstance(node, dict):
        filled: dict[str, Any] = {}
        for child, value in node.items():
            if not isinstance(child, str):
                raise ConfigError(name, f"{key}.{child}".lstrip("."), f"found {shown(child)} as a key, expected a name")
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
    if node is None:
        raise ConfigError(name, key, "found nothing, expected a value, or no such key for its default")
    return node


def _decode(type_: type, value: object) -> object:
    if type_ is Duration:
        return duration(value)
    raise NotImplementedError(type_)  # pragma: no cover - a type that no setting has
