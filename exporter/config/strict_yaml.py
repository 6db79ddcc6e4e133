"""Strict YAML: the text of a file becomes a tree of bounded size in which no key stands twice."""

import re
import typing
from typing import Any

import yaml

from exporter.config.errors import ConfigError, shown

LARGEST_FILE = 1 << 20
"""Bytes of configuration or of a secret that are read at most."""
MOST_VALUES = 10_000
"""Values that a configuration holds at most, repeated aliases included: a few lines of them spell billions."""
DEEPEST = 20
"""Sections within sections at most; an alias within itself has no end."""

_QUOTED_NAME = re.compile(r"\b(alias|anchor|tag|tag handle) '")


class _Loader(yaml.SafeLoader):
    """YAML without the trap that the last of two equal keys silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable):
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key `{key}` stands here twice", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return typing.cast(dict[Any, Any], super().construct_mapping(node, deep=deep))


def text_of(file: str) -> str:
    """The text in a configuration file or a file with a secret. Raises ConfigError."""
    try:
        with open(file, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(file, "", f"cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(file, "", f"larger than {LARGEST_FILE} bytes, expected a configuration")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # what Notepad writes
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(file, "", f"byte {error.start} is no UTF-8, expected a text file") from None


def yaml_tree(text: str, name: str) -> dict[Any, Any]:
    """The keys of the YAML `text`, not yet checked; no text is no keys. Raises ConfigError."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader that also refuses double keys
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context or ""
        if kind := _QUOTED_NAME.search(problem):  # the name may be a password that begins with * or !
            problem = f"found an unknown {kind[1]}, expected quotes around a text that begins with *, & or !"
        raise ConfigError(name, where, f"not readable as YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(name, "", f"found brackets without end, expected at most {DEEPEST} levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(name, "", f"not readable as YAML: {str(error).splitlines()[0]}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(name, "", f"found {shown(tree)}, expected keys")
    if not _is_small(tree, 0, [MOST_VALUES]):
        raise ConfigError(
            name, "", f"found aliases without end, expected at most {MOST_VALUES:,} values, {DEEPEST} levels deep"
        )
    return tree


def _is_small(node: Any, depth: int, left: list[int]) -> bool:
    left[0] -= 1
    if depth > DEEPEST or left[0] < 0:
        return False
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return all(_is_small(child, depth + 1, left) for child in children)
