"""Why a configuration cannot be used: one line that names the file, the key, what was found and what was expected."""

import difflib
import re
import types
import typing
import unicodedata
from typing import Any

import msgspec

from exporter.printable import printable

MASK = "<secret>"
"""Replaces a credential or a person."""


class ConfigError(Exception):
    """The configuration is invalid: `str()` is one line for a person."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        text = f"{file}: {key}: {problem}" if key else f"{file}: {problem}"
        super().__init__(printable(text))
        self.file, self.key, self.problem = file, key, problem


_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff")
_NAMES = {"\0": "NUL", "\a": "bell", "\b": "backspace", "\t": "tab", "\n": "line feed", "\v": "vertical tab",
          "\f": "form feed", "\r": "carriage return", "\x1b": "escape", "\x85": "next line"}  # fmt: skip


def unusable_character(text: str) -> str:
    """The first character of `text` that is not allowed in a setting (control, line end, invisible), or none."""
    if text.isascii() and text.isprintable():
        return ""
    return next(
        (
            each
            for each in text
            if each in _BIDI or each in _INVISIBLE or unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")
        ),
        "",
    )


def character_name(character: str) -> str:
    """`U+2028 (line separator)`."""
    name = _NAMES.get(character) or unicodedata.name(character, "control character").lower()
    return f"U+{ord(character):04X} ({name})"


def may_be_secret(key: str) -> bool:
    """Whether the setting at `key` may be or contain a password."""
    return any(word in key for word in ("password", "proxy", "credentials", "headers"))


def explained(error: msgspec.ValidationError, tree: Any, name: str, root: type) -> ConfigError:
    """An error of msgspec about the tree of a `root`, as a ConfigError."""
    text, _, path = str(error).partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    if key.endswith("[...]"):  # a value of a section whose keys are free
        section, key = found_at(tree, key.removesuffix("[...]")), key.removesuffix("[...]")
        wrong = (
            [name for name, value in section.items() if not isinstance(value, str)] if isinstance(section, dict) else []
        )
        key += "".join(f".{name}" for name in wrong[:1])
    found = found_at(tree, key)
    if unknown := re.search(r"unknown field `(.*)`", text):
        full = f"{key}.{unknown[1]}".lstrip(".")
        known = _fields(root, key)
        wanted = unknown[1].lower().replace("-", "_")
        near = difflib.get_close_matches(wanted, known, 1, cutoff=0.5)
        if not difflib.get_close_matches(wanted, known, 1, cutoff=0.75):  # rather a key of another section
            near = [place for place in _places(root) if place.rpartition(".")[2] == wanted][:1] or near
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
    """A found value for an error text: its kind and, if it cannot be a secret, the value itself."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"the number `{value}`"
    if isinstance(value, str):
        return f"`{masked_url(value)[:80]}`"
    if isinstance(value, list):
        return "a list"
    return "a section with keys" if isinstance(value, dict) else f"`{value}`"


def found_at(tree: Any, key: str) -> object:
    """The setting at `key` as it is written, for an error text; never a secret."""
    return "something else" if may_be_secret(key) or key == "qrs.user" else _found(tree, key)


def steps_of(key: str) -> list[str | int]:
    """The path to `key`: names of sections and indexes of lists."""
    return [int(index) if index else word for word, index in re.findall(r"([A-Za-z_][\w-]*)|\[(\d+)\]", key)]


def _found(tree: Any, key: str) -> object:
    for step in steps_of(key):
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return typing.cast(object, tree)


def _type_at(root: type, key: str) -> Any:
    here: Any = root
    for step in steps_of(re.sub(r"\[\.\.\.\]", "[0]", key)):
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


def _places(type_: Any, key: str = "") -> list[str]:
    """Every key of a section and of those within it, as errors name them."""
    found = []
    for name, inner in typing.get_type_hints(type_).items():
        place = f"{key}.{name}".lstrip(".")
        item = _struct(_item(inner))
        found.append(place)
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            found += _places(item, place if item is inner else f"{place}[…]")
    return found


def _choices(root: type, key: str) -> list[str]:
    return [f"`{choice}`" for choice in typing.get_args(_type_at(root, key))]
