"""Strict YAML: parses a text into a tree of bounded size without duplicate keys."""

import re
import typing
from typing import Any

import yaml

from exporter.config.errors import ConfigError, character_name, may_be_secret, shown, unusable_character

LARGEST_FILE = 1 << 20
"""Largest size of a configuration file or a file with a secret, in bytes."""
MOST_VALUES = 10_000
"""Largest number of values in a configuration, expanded aliases included: a few lines can expand to billions."""
DEEPEST = 20
"""Largest depth of nested sections; an alias within itself is endless."""

_QUOTED_NAME = re.compile(r"\b(alias|anchor|tag|tag handle) '")


class _Loader(yaml.SafeLoader):
    """YAML that rejects duplicate keys, of which the last would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable):
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key `{key}` occurs twice", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return typing.cast(dict[Any, Any], super().construct_mapping(node, deep=deep))


def text_of(file: str) -> str:
    """The text in a configuration file or a file with a secret. Raises ConfigError."""
    try:
        with open(file, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(file, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(file, "", f"larger than {LARGEST_FILE} bytes, expected a configuration")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # what Notepad writes
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(file, "", f"byte {error.start} is not UTF-8, expected a text file") from None


def yaml_tree(text: str, name: str, of_lines: frozenset[str] = frozenset()) -> dict[Any, Any]:
    """The keys of the YAML `text`, not yet checked; an empty text has no keys. Raises ConfigError.

    `of_lines`: keys whose text may have several lines.
    """
    if (place := text.find("\x85")) >= 0:  # YAML takes it for the end of a line, and within a text for a space
        where = f"line {text.count(chr(10), 0, place) + 1}"
        raise ConfigError(name, where, f"found {character_name(text[place])}, expected text without it")
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is not None:
                _check_texts(root, name, of_lines)
            tree = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _no_yaml(error, text, name) from None
    except yaml.reader.ReaderError as error:
        where = f"line {text.count(chr(10), 0, error.position) + 1}"
        problem = f"not readable as YAML: found {character_name(chr(int(error.character)))}, expected text"
        raise ConfigError(name, where, problem) from None
    except RecursionError:
        raise ConfigError(name, "", f"found too many nested brackets, expected at most {DEEPEST} levels") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(name, "", f"not readable as YAML: {str(error).splitlines()[0]}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(name, "", f"found {shown(tree)}, expected keys")
    if not _is_small(tree, 0, [MOST_VALUES]):
        raise ConfigError(
            name, "", f"found too many aliases, expected at most {MOST_VALUES:,} values, {DEEPEST} levels deep"
        )
    return tree


def _no_yaml(error: yaml.MarkedYAMLError, text: str, name: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = error.problem or error.context or ""
    if kind := _QUOTED_NAME.search(problem):  # the name may be a password that begins with * or !
        problem = f"found an unknown {kind[1]}, expected quotes around a text that begins with *, & or !"
    elif error.context_mark and (escape := _wrong_escape(error, text)):
        keys = _KEY.findall(text, 0, error.context_mark.index)
        key = keys[-1] if keys else ""
        found = "a backslash" if may_be_secret(key) else f"the escape `{escape}`"
        problem = f"found {found}{f' in the text of `{key}`' if key else ''}, {IN_SINGLE_QUOTES}"
    return ConfigError(name, where, f"not readable as YAML: {problem}")


def _wrong_escape(error: yaml.MarkedYAMLError, text: str) -> str:
    """The escape that causes an error in a double-quoted text: `"C:\\Users"`, `"D:\\Logs\\"`; or nothing."""
    if error.context_mark is None or error.problem_mark is None or not _BAD_ESCAPE.search(error.problem or ""):
        return ""
    scanned = text[error.context_mark.index : error.problem_mark.index + 1]
    escapes = _ESCAPE.findall(scanned) if scanned.startswith('"') else []
    return f"\\{escapes[-1]}" if escapes else ""


IN_SINGLE_QUOTES = r"expected single quotes, such as 'D:\Logs': between double quotes a backslash begins an escape"
_BAD_ESCAPE = re.compile(r"unknown escape character|expected escape sequence|unexpected end of stream")
_KEY = re.compile(r"([A-Za-z_]\w*)[\"']?\s*:(?=\s)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PATH_KEYS = frozenset({"paths", "archive", "certificate", "key", "ca_file", "file", "match"})
"""Keys whose texts may contain backslashes, besides those that end in `_file`."""


def _check_texts(root: yaml.Node, name: str, of_lines: frozenset[str]) -> None:
    """Reject invalid characters and unintended escapes: `"D:\\new"` contains a line feed. Raises ConfigError."""
    waiting: list[tuple[yaml.Node, str, str]] = [(root, "", "")]
    seen: set[int] = set()
    while waiting:
        node, key, last = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for child, value in node.value:
                word = str(child.value) if isinstance(child, yaml.ScalarNode) else "?"
                waiting += [(child, f"{key}.{word}".lstrip("."), ""), (value, f"{key}.{word}".lstrip("."), word)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, f"{key}[{index}]", last) for index, value in enumerate(node.value)]
        elif isinstance(node, yaml.ScalarNode):
            _check_text(node, key, last, name, of_lines)


def _check_text(node: yaml.ScalarNode, key: str, last: str, name: str, of_lines: frozenset[str]) -> None:
    text = re.sub(r"[\r\n\t]", "", node.value) if last in of_lines else node.value
    is_path = last not in of_lines and (last in _PATH_KEYS or last.endswith("_file"))
    character = unusable_character(text) or ("\xa0" if is_path and "\xa0" in text else "")
    source = (node.start_mark.buffer or "")[node.start_mark.index : node.end_mark.index] if node.style == '"' else ""
    # `\u00fc` is how JSON, which is valid YAML, writes a letter: no path looks like that by accident.
    escapes = [f"\\{found}" for found in _ESCAPE.findall(source) if found not in '\\"/\r\nuU']
    if character:
        expected = IN_SINGLE_QUOTES if "\\" in source else "expected text without it"
        raise ConfigError(name, key, f"found {character_name(character)}, {expected}")
    if escapes and is_path:
        raise ConfigError(name, key, f"found the escape `{escapes[0]}`, {IN_SINGLE_QUOTES}")


def _is_small(node: Any, depth: int, left: list[int]) -> bool:
    left[0] -= 1
    if depth > DEEPEST or left[0] < 0:
        return False
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return all(_is_small(child, depth + 1, left) for child in children)
