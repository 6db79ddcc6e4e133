"""Makes text from outside (log entries, file names, certificates, answers) safe to show.

Terminals interpret control characters, browsers the writing direction, log readers line ends, and UTF-8 has no
surrogates. So such characters never reach a terminal, a page, JSON or the exporter's own log.
"""

import re
import unicodedata
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Replaces a character that must not be shown, such as the escape of a terminal sequence."""
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters without a shape of their own (Unicode's Default_Ignorable_Code_Point and the rest of its Cf)."""


class _Shown(dict[int, str]):
    """What is shown for each character, by its code."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Zs", "Zl", "Zp") or character in "\t\n\v\f\r\x85":
            shown = " "
        elif category == "Cf" or _UNSEEN.match(character):
            shown = ""
        else:
            shown = character if character.isprintable() else REPLACEMENT
        if len(self) < 10_000:
            self[code] = shown
        return shown


_SHOWN = _Shown()


def printable(text: str, longest: int | None = None) -> str:
    """`text` as one line of visible characters, at most `longest`.

    White space and line ends become a space, invisible and bidirectional characters are removed, and other control
    characters and lone surrogates become a replacement character.
    """
    if not (text.isascii() and text.isprintable()):
        text = text.translate(_SHOWN)
    return text if longest is None else text[:longest].strip()


def printable_lines(text: str) -> str:
    """The same for a text of several lines, whose line feeds are kept."""
    return "\n".join(map(printable, text.split("\n")))


def printable_tree(tree: Any) -> Any:
    """The same for every text in JSON data."""
    if isinstance(tree, str):
        return printable_lines(tree)
    if isinstance(tree, dict):
        return {printable(key) if isinstance(key, str) else key: printable_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [printable_tree(value) for value in tree]
    return tree
