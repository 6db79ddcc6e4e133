"""A state that was saved under older rules: what those rules inferred is forgotten, and restated from the logs. Pure.

Rules that took silence, and words they did not know, for success left successes behind that the sync clock of now would
not infer. Counters are kept; what the live logs still hold is read once more as history, which states and never counts.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.tail.checkpoint import FileCheckpoint

_LAST_ENTRY = "last_entry"


def is_old(fields: Mapping[str, Any]) -> bool:
    """Whether the state's `fields` were saved before there was a sync clock of its own."""
    return "sync" not in fields


def upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without what the old rules inferred; when the service first showed itself is kept, as far as known."""
    kept = dict(fields)
    signs = [success["at"] for success in kept.get("inferred", ())]
    signs += [at for name in ("last_attempt", "last_failure", "stale_verdict") if (at := kept.get(name)) is not None]
    if kept.get("service_seen"):
        kept["first_sign"] = min(signs, default=None)
    kept[_LAST_ENTRY] = {log: at for log, at in kept.get(_LAST_ENTRY, {}).items() if log != "licenses"}
    return kept


def to_restate(file: FileCheckpoint) -> FileCheckpoint:
    """A checkpoint by which a file of the Licenses log is read from its beginning: what was read of it, as history."""
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
