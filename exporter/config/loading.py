"""From a file to settings: YAML, `${VARIABLES}`, types, checks."""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.config.checks import Checks
from exporter.config.errors import ConfigError, explained, shown
from exporter.config.settings import Config, Duration, Keys, duration
from exporter.config.strict_yaml import text_of, yaml_tree
from exporter.config.variables import Variables


def load(file: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings in `file`, or the defaults where it is None. Raises ConfigError."""
    name = file or "defaults"
    return parse(text_of(file) if file else "", name, environ)


def parse(text: str, name: str, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings that the YAML `text` of the file called `name` spells. Raises ConfigError."""
    tree = yaml_tree(text, name)
    _checked_keys(tree, "", name)
    variables = Variables(name, environ)
    try:
        keys = msgspec.convert(variables.filled(tree), Keys, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise explained(error, tree, name, Keys) from None
    return Checks(tree, variables, name, environ).checked(keys)


def _checked_keys(node: Any, key: str, name: str) -> None:
    """Reject keys that are not text, and keys without a value, which may not have been written yet."""
    if isinstance(node, dict):
        for child, value in node.items():
            if not isinstance(child, str):
                raise ConfigError(name, f"{key}.{child}".lstrip("."), f"found {shown(child)} as a key, expected a name")
            _checked_keys(value, f"{key}.{child}".lstrip("."), name)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _checked_keys(value, f"{key}[{index}]", name)
    elif node is None:
        raise ConfigError(name, key, "found nothing, expected a value; omit the key for its default")


def _decode(type_: type, value: object) -> object:
    if type_ is Duration:
        return duration(value)
    raise NotImplementedError(type_)  # pragma: no cover - a type that no setting has
