"""Why a configuration cannot be used: one line that names the file, the key, what was found and what was expected."""

import difflib
import re
import types
import typing
from typing import Any

import msgspec

MASK = "<secret>"
"""Stands in for a credential or a person."""


class ConfigError(Exception):
    """The configuration cannot be used: `str()` is one line for a person."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        text = f"{file}: {key}: {problem}" if key else f"{file}: {problem}"
        super().__init__("".join(character if character.isprintable() else repr(character)[1:-1] for character in text))
        self.file, self.key, self.problem = file, key, problem


def explained(error: msgspec.ValidationError, tree: Any, name: str, root: type) -> ConfigError:
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
        return ConfigError(name, key, f"found {shown(found)}, expected {plain}")
    if text.startswith("Invalid enum value"):
        return ConfigError(name, key, f"found {shown(found)}, expected one of {', '.join(_choices(root, key))}")
    return ConfigError(name, key, f"found {shown(found)}, expected {text}")


def masked_url(url: str) -> str:
    """`url` without its user and password."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{MASK}@{rest.rpartition('@')[2]}" if "@" in rest else url


def shown(value: object) -> str:
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
