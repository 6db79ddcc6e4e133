"""Upgrades a state that an older version saved. Pure.

The oldest rules took silence and unknown messages for success where the present sync clock would not. Counters are
kept; the live logs are read again as history, which sets gauges but no counters.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.tail.checkpoint import FileCheckpoint

_LAST_ENTRY = "last_entry"


def is_old(fields: Mapping[str, Any]) -> bool:
    """Whether the state's `fields` were saved before the sync clock existed."""
    return "sync" not in fields


def upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without what the old rules inferred; the first sign of the service is kept, if known."""
    kept = dict(fields)
    signs = [success["at"] for success in kept.get("inferred", ())]
    signs += [at for name in ("last_attempt", "last_failure", "stale_verdict") if (at := kept.get(name)) is not None]
    if kept.get("service_seen"):
        kept["first_sign"] = min(signs, default=None)
    kept[_LAST_ENTRY] = {log: at for log, at in kept.get(_LAST_ENTRY, {}).items() if log != "licenses"}
    return kept


def renamed(sync: Mapping[str, Any]) -> dict[str, Any]:
    """The sync clock's fields under their present names."""
    if "heard" not in sync:
        return dict(sync)
    fields = {_NAMES.get(name, name): value for name, value in sync.items()}
    fields["attempts"] = [
        {_NAMES_OF_ATTEMPTS.get(name, name): value for name, value in attempt.items()} for attempt in sync["attempts"]
    ]
    fields["marks"] = [{**mark, "kind": _REPORTED.get(mark["kind"], mark["kind"])} for mark in sync["marks"]]
    fields["ends"] = [{**end, "outcome": _REPORTED.get(end["outcome"], end["outcome"])} for end in sync["ends"]]
    fields["verdicts"] = {
        "oldest": sync["verdict"],
        "newest": sync["verdict"],
        "count": sync["verdicts"],
        "gap": sync["verdict_gap"],
        "used": sync["used"],
        "people": sync["people"],
        "answered": sync["answered"],
    }
    return fields


_NAMES = {"hear_from": "outlived_from", "heard": "entries"}
_NAMES_OF_ATTEMPTS = {"heard": "outlived"}
_REPORTED = {"told": "reported"}


def to_restate(file: FileCheckpoint) -> FileCheckpoint:
    """A checkpoint to read a file of the Licenses log again from its beginning, up to the old offset as history."""
    if file.final or file.lost:
        return file
    return msgspec.structs.replace(
        file,
        mark=max(file.mark, file.offset),
        offset=0,
        anchor="",
        anchor_length=0,
        encoding="",
        header=None,
        last_at=None,
        skipping=False,
    )
