"""Entries of the Licenses log: one JSON object per line (qlik-facts 1). Every line becomes a record; nothing raises.

Nearly all lines of a log have the same few keys. `Shape` decodes lines that have only these; a line with another key,
or with a value of an unusual type, is parsed individually.
"""

import operator
import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Annotated, Any

import msgspec

from exporter.logs.lines import Lines
from exporter.logs.records import KEY_FIELDS, LONGEST_TEXT, TEXT_FIELDS, Columns, LicensesRecord, meaning_key, texts_of
from exporter.logs.times import Times, stamped

MOST_KEYS = 64
"""Largest number of unpublished keys in a shape."""
FEW = 8
"""If more than one line in this many must be parsed individually, all lines of the read are."""


def entries_of(found: Lines) -> tuple[Sequence[Any], Sequence[int]]:
    """The records of the lines that were `found`, and for each the number of its line."""
    lines = found.divided
    if (columns := _by_columns(lines, found.text)) is not None:
        return columns, range(len(lines))
    starts: Sequence[int] = range(len(lines))
    try:
        records = list(map(_decode_typed, lines))
    except _NO_ENTRY:
        starts = [place for place, line in enumerate(lines) if line.strip()]
        lines = [lines[place] for place in starts]
        records = list(map(_entry, lines))
    for place in [place for place, record in enumerate(records) if record.timestamp is None or not record.message]:
        records[place] = _entry(lines[place])
    for record, line, at in zip(records, lines, stamped([record.timestamp for record in records]), strict=True):
        record.raw, record.at = line, at
        if at is None:
            record.malformed, record.dated = True, False
    return records, starts


def _entry(line: bytes) -> LicensesRecord:
    """The record of a line, without its time."""
    try:
        record = _decode_typed(line)
    except _NO_ENTRY:
        return _odd_record(line)
    if record.timestamp is None or not any(texts_of(record)):  # its keys may be in another case
        return _odd_record(line)
    return record


_NO_ENTRY = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


# --- many lines at once ----------------------------------------------------------------------------------------------


class Shape:
    """A set of keys, and a decoder for entries that have no others. Never modified, only replaced.

    `fields`: the fields of `LicensesRecord` that occur; their values form the key by which the meaning of an entry is
    looked up. `others`: unpublished keys whose names do not suggest an error, with a string, number, boolean or null.
    """

    def __init__(self, fields: frozenset[str], others: frozenset[str]) -> None:
        self.fields, self.others = fields, others
        kept = [field for field in KEY_FIELDS if field in fields]
        known = [
            (field.name, field.type, msgspec.field(name=field.encode_name, default=field.default))
            for field in msgspec.structs.fields(LicensesRecord)
            if field.name in fields - {"message"}
        ]
        known.append(("message", Annotated[str, msgspec.Meta(min_length=1)], msgspec.field()))
        unknown = [
            (f"other{number}", _Plain, msgspec.field(name=key, default=None)) for number, key in enumerate(others)
        ]
        # The published lines have their keys in this order (qlik-facts 1): msgspec is fastest in the same.
        of_all = sorted([*known, *unknown, ("timestamp", str, msgspec.field())], key=lambda one: one[2].name or one[0])
        entry = msgspec.defstruct("Entry", of_all, kw_only=True, gc=False, forbid_unknown_fields=True)
        self.decode = msgspec.json.Decoder(entry).decode
        self.key: Callable[[Any], tuple[Any, ...]] = operator.attrgetter(*kept)

    def with_keys_of(self, line: bytes) -> "Shape":
        """The shape that also has the keys of a line, or this one if that is not possible."""
        tree = _tree(line)
        if not isinstance(tree, dict) or "timestamp" not in tree:
            return self
        fields = {_BY_KEY[key] for key in tree if key in _BY_KEY}
        others = tree.keys() - _BY_KEY.keys() - {"timestamp"}
        if any(_ERROR_NAME.search(key) or len(key) > LONGEST_KEY for key in others):
            return self
        if len(self.others | others) > MOST_KEYS or (fields <= self.fields and others <= self.others):
            return self
        return Shape(self.fields | fields, self.others | others)


_Plain = str | int | float | bool | None
LONGEST_KEY = 100
_BY_KEY = {
    field.encode_name: field.name for field in msgspec.structs.fields(LicensesRecord) if field.name in KEY_FIELDS
}
"""The fields that determine a meaning, by their keys."""


class _Newest:
    """The shape that all readers share. It only grows, so that keys of different shapes are never equal."""

    def __init__(self) -> None:
        self.shape = Shape(frozenset({"message", "level", "caller"}), frozenset({"corrId"}))
        self._growing = threading.Lock()

    def learn(self, line: bytes) -> Shape:
        """The shape extended by the keys of a line that did not fit."""
        with self._growing:
            self.shape = self.shape.with_keys_of(line)
            return self.shape


_newest = _Newest()


class _Keys:
    """Keys that occurred. Equal ones are replaced by the same one: their texts are freed, and hashed only once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._bytes = 0
        """Of the reads with a new key: at least as many as its texts have."""

    def replaced(self, keys: list[tuple[Any, ...]], text: bytes) -> list[tuple[Any, ...]]:
        """`keys`, which are those of the lines in `text`, each replaced by the first that was equal."""
        known = self._known
        before = len(known)
        keys = list(map(known.setdefault, keys, keys))
        if len(known) > before:
            self._bytes += len(text)
            if len(known) > MOST_KEPT or self._bytes > MOST_BYTES:
                self._known, self._bytes = {}, 0
        return keys


MOST_KEPT = 4096
MOST_BYTES = 1 << 22
_keys = _Keys()


def _by_columns(lines: list[bytes], text: bytes) -> Columns | None:
    """The entries as columns if all are complete and dated; None otherwise, or if too many do not fit the shape."""
    shape = _newest.shape
    found: list[Any] = []
    odd: dict[int, LicensesRecord] = {}
    decoded = map(shape.decode, lines)
    while len(found) < len(lines):
        try:
            found.extend(decoded)
        except _NO_ENTRY:
            line = lines[len(found)]
            if _newest.learn(line) is not shape:
                return _by_columns(lines, text)  # all lines again, with the new shape
            odd[len(found)] = record = _entry(line)
            if len(odd) * FEW > len(lines) + FEW:
                return None
            found.append(record)
    keys = _keys.replaced(list(map(shape.key, found)), text)
    for place, record in odd.items():
        if record.malformed or not any(texts_of(record)):
            return None
        keys[place] = meaning_key(record)
    times = stamped([entry.timestamp for entry in found])
    if not isinstance(times, Times):
        return None
    coded = [place for place, line in enumerate(lines) if b"LICENSES-" in line] if b"LICENSES-" in text else ()
    return Columns(lines, times, _entry, keys, sorted({*odd, *coded}))


# --- one line --------------------------------------------------------------------------------------------------------

_decode_typed = msgspec.json.Decoder(LicensesRecord, strict=True).decode
_decode_any = msgspec.json.Decoder(strict=True).decode
_PAIR = re.compile(rb'"((?:[^"\\]|\\.){1,64})"\s*:\s*(?:"((?:[^"\\]|\\.)*)(?:"|\Z)|([^\s",{}\[\]]+))')
"""A key and its value in a JSON object; at the end of a truncated line the closing quote is missing."""
_FIELDS = {
    field.encode_name.casefold(): field.name
    for field in msgspec.structs.fields(LicensesRecord)
    if field.encode_name[0] != " "
}
"""The fields, by their keys in lower case."""
_TEXTS = frozenset(
    field.encode_name.casefold() for field in msgspec.structs.fields(LicensesRecord) if field.name in TEXT_FIELDS
)
_TELLING = re.compile(r"err|message|msg|reason|cause|detail|code", re.IGNORECASE)
"""Names of JSON keys whose value may describe an error, at any depth."""


ERROR_KEY = re.compile(
    rb'"[^"\\:]{0,40}(?:err|xception|fail|fault|panic)[^"\\:]{0,40}"\s*:\s*(?!null\b|""|false\b|0[,}\s])|LICENSES-',
    re.IGNORECASE,
)
"""An error key with a meaningful value. Only lines with one are searched at all depths."""


_MARKS = (b'"err', b"rror", b"xception", b'"fail', b"ailure", b'"fault', b'"panic', b"LICENSES-")
"""Texts that nearly every line with an error key contains: searched first, in many lines at once."""


def lines_with_errors(lines: Sequence[bytes]) -> list[int]:
    """The numbers of the lines that contain an error key with a meaningful value, or a code."""
    text = b"\n".join(lines)
    ends = list(accumulate([len(line) + 1 for line in lines]))
    found = set()
    for mark in _MARKS:
        at = text.find(mark)
        while at >= 0:
            line = bisect_right(ends, at)
            found.add(line)
            at = text.find(mark, ends[line]) if line < len(ends) else -1
    return [line for line in sorted(found) if ERROR_KEY.search(lines[line])]


def deeper_texts(record: LicensesRecord) -> tuple[str, tuple[str, ...]]:
    """The texts of a record under unpublished keys, such as `"error": {"message": …}`.

    Returns all meaningful texts, joined, and the values of error keys. Both are empty if there is none.
    """
    if not ERROR_KEY.search(record.raw):
        return "", ()
    tree = _tree(record.raw)
    errors = tuple(value for key, value in _leaves(tree, "", 8) if _ERROR_NAME.search(key))
    return "\n".join(_telling_texts(tree))[:LONGEST_TEXT], errors


_ERROR_NAME = re.compile(r"err|exception|fail|fault|panic", re.IGNORECASE)


def _leaves(value: object, key: str, depth: int) -> list[tuple[str, str]]:
    """Every value, with the path of keys that leads to it."""
    if isinstance(value, dict) and depth:
        return [pair for name, child in value.items() for pair in _leaves(child, f"{key}.{name}", depth - 1)]
    if isinstance(value, list) and depth:
        return [pair for child in value for pair in _leaves(child, key, depth - 1)]
    return [(key, str(value))] if isinstance(value, str | int | float | bool) else []


def _telling_texts(tree: object) -> list[str]:
    return [text for key, text in _strings(tree, "", 8) if _TELLING.search(key)]


def _tree(line: bytes) -> object:
    try:
        return _decode_any(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _strings(value: object, key: str, depth: int) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(key, value)]
    if isinstance(value, dict) and depth:
        return [pair for name, child in value.items() for pair in _strings(child, f"{key}.{name}", depth - 1)]
    if isinstance(value, list) and depth:
        return [pair for child in value for pair in _strings(child, key, depth - 1)]
    return []


def _odd_record(line: bytes) -> LicensesRecord:
    """The record of a line that is not a JSON object with the known types, as far as it can be read."""
    tree = _tree(line)
    if isinstance(tree, dict):  # JSON with an unexpected type: `"message": 5`
        pairs = {name.casefold(): value for name, value in tree.items() if isinstance(value, str | int | float)}
        pairs["err"] = "\n".join(_telling_texts(tree))
        malformed = False
    else:  # the first published line is not valid JSON (qlik-facts 1, trap 2)
        pairs = {}
        for name, text, bare in _PAIR.findall(line[:LONGEST_TEXT]):
            key, said = _unescaped(name).casefold(), _unescaped(text or bare)
            # Two objects on one line after a torn write: both are taken into account.
            if key not in pairs:
                pairs[key] = said
            elif key in _TEXTS:
                pairs[key] = f"{pairs[key]}\n{said}"
        if not pairs.keys() & _TEXTS:
            pairs["message"] = line[:LONGEST_TEXT].decode("utf-8", "replace")  # not JSON at all
        malformed = True
    record = LicensesRecord(malformed=malformed)
    for key, field in _FIELDS.items():
        if key in pairs:
            value = pairs[key]
            kept = key == "timestamp" or key.endswith("statuscode")
            setattr(record, field, value if kept else str(value)[:LONGEST_TEXT])
    return record


def _unescaped(text: bytes) -> str:
    try:
        return str(_decode_any(b'"' + text + b'"'))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return text.decode("utf-8", "replace")
