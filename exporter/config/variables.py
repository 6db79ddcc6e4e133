"""`${VARIABLES}`: a value from the environment is data. It is never parsed, and only its placeholder is shown.

Texts are parsed (as an address, a path, a pattern) as they are written; the values are inserted afterwards.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from exporter.config.errors import ConfigError, character_name, may_be_secret, unusable_character

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = re.compile(r"(?P<scheme>[^:/?#]*)://(?:(?P<userinfo>[^/?#]*)@)?(?P<host>[^/?#@]*)(?P<rest>.*)", re.DOTALL)
_NO_HOST = re.compile(r"[\s/@?#\\]")


@dataclass(frozen=True)
class Provenance:
    """The origin of the settings' texts, so that placeholders are shown instead of values."""

    written: Mapping[str, str] = field(default_factory=dict)
    """By key, such as `probes[0].proxy`: the text with its placeholders, as in the file."""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By placeholder, such as `${PROXY}`: the value."""

    def without(self, key: str) -> "Provenance":
        """The same for settings in which `key` and its children have been replaced."""
        written = {where: text for where, text in self.written.items() if not re.match(rf"{re.escape(key)}\b", where)}
        return Provenance(written, self.values)


class Variables:
    """The variables of one configuration, replaced by their values as each key requires."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        """`name`: the file that a ConfigError is to name."""
        self._name, self._environ = name, environ
        self.written: dict[str, str] = {}
        self.values: dict[str, str] = {}

    def filled(self, node: Any, key: str = "") -> Any:
        """The tree with plain values in place of the placeholders, to be converted to types. Raises ConfigError."""
        if isinstance(node, dict):
            return {child: self.filled(value, f"{key}.{child}".lstrip(".")) for child, value in node.items()}
        if isinstance(node, list):
            return [self.filled(value, f"{key}[{index}]") for index, value in enumerate(node)]
        if isinstance(node, str) and _VARIABLE.search(node):
            self.written[key] = node
            return self._fill(key, node)
        return node

    def regular_expression(self, key: str, text: str) -> str:
        """The setting `text` as a pattern; the values of variables are matched literally."""
        return self._fill(key, self.written[key], lambda _, value: re.escape(value)) if key in self.written else text

    def path(self, key: str, text: str, local: Callable[[str], str], *, pattern: bool = False) -> str:
        """The setting `text` converted by `local`; values are taken literally, and must not contain wildcards.

        Raises ConfigError.
        """

        def checked(placeholder: str, value: str) -> str:
            if pattern and (wild := re.search(r"[*?]", value)):
                raise ConfigError(
                    self._name,
                    key,
                    f"found `{wild[0]}` in the value of {placeholder}, expected wildcards in the configuration only",
                )
            return value

        return self._fill(key, local(self.written[key]), checked) if key in self.written else local(text)

    def address(self, key: str, text: str) -> str:
        """The setting `text` as a URL: a value that is part of it is percent-encoded.

        A variable that is the whole setting contains a whole URL. Raises ConfigError.
        """
        written = self.written.get(key)
        if written is None or _VARIABLE.fullmatch(written):
            return text
        parts = _ADDRESS.fullmatch(written)
        if parts is None:
            problem = (
                "found the beginning of an address in a variable, expected the whole address or parts behind `://`"
            )
            raise ConfigError(self._name, key, problem)

        def encoded(safe: str) -> Callable[[str, str], str]:
            return lambda _, value: quote(value, safe=safe)

        def host(placeholder: str, value: str) -> str:
            if _NO_HOST.search(value):
                problem = f"found other characters in the value of {placeholder}, expected a host or a port"
                raise ConfigError(self._name, key, problem)
            return value

        def fill(part: str, escape: Callable[[str, str], str]) -> str:
            return self._fill(key, parts[part], escape)

        userinfo = ""
        if parts["userinfo"] is not None:
            # One variable for both contains `user:password`: a user name of Basic authentication has no colon.
            userinfo = fill("userinfo", encoded(":" if ":" not in parts["userinfo"] else "")) + "@"
        scheme = self._fill(key, parts["scheme"], encoded(""))
        return f"{scheme}://{userinfo}{fill('host', host)}{fill('rest', encoded(''))}"

    def url_part(self, key: str, text: str) -> str:
        """The setting `text` as a part of a URL, in which values are encoded, unless a value is all of it."""
        written = self.written.get(key)
        if written is None or _VARIABLE.fullmatch(written):
            return text
        return self._fill(key, written, lambda _, value: quote(value, safe=""))

    def without_semicolon(self, key: str, text: str) -> str:
        """The setting `text`, in which semicolons separate fields: a value must not contain one.

        Raises ConfigError.
        """

        def checked(placeholder: str, value: str) -> str:
            if ";" in value:
                raise ConfigError(self._name, key, f"found `;` in the value of {placeholder}, expected a part without")
            return value

        written = self.written.get(key)
        return text if written is None or _VARIABLE.fullmatch(written) else self._fill(key, written, checked)

    def _fill(self, key: str, text: str, escape: Callable[[str, str], str] = lambda _, value: value) -> str:
        def value_of(match: re.Match[str]) -> str:
            placeholder, name = match[0], match[1]
            if name not in self._environ:
                raise ConfigError(self._name, key, f"the environment variable {name} is not set, expected a value")
            value = self.values[placeholder] = self._environ[name]
            secret = may_be_secret(key) and not key.endswith("_file")
            character = unusable_character(value)
            # A password may contain any character, but no bytes that are not text.
            if character and (not secret or "\ud800" <= character <= "\udfff"):
                raise ConfigError(
                    self._name,
                    key,
                    f"found {character_name(character)} in the value of {placeholder}, expected plain text",
                )
            return escape(placeholder, value)

        return _VARIABLE.sub(value_of, text)


def placeholders_of(text: str, mask: str) -> str:
    """`text` with `mask` for everything but placeholders, as it may be part of a secret."""
    return re.sub(rf"((?:{_VARIABLE.pattern})+)|[^$]+|\$", lambda found: found[1] or mask, text).replace(mask * 2, mask)
