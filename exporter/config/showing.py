"""The settings as people may see them: no credential, no person."""

from typing import Any

import msgspec
import yaml

from exporter.config.errors import MASK, masked_url
from exporter.config.settings import Config, Duration


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


def _durations_as_text(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _durations_as_text(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_durations_as_text(value) for value in tree]
    return str(tree) if isinstance(tree, Duration) else tree
