"""What the state file holds: the state as named values, and how far each log file was read. No files, no clocks.

Fields that are missing from a state file take their defaults, and unknown fields are ignored, so that a state survives
upgrades.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from exporter import state_upgrade
from exporter.events import LogName
from exporter.license import LicenseState
from exporter.tail.batch import Batch
from exporter.tail.checkpoint import FileCheckpoint, LogCheckpoint
from exporter.tail.table import FileTable

_BOOK = "book:"
_FILE = "file:"
_STATE = "license."
_REFUSED = "license.refused."


log = logging.getLogger("exporter.store")


class Rows(NamedTuple):
    """What a save of the state has to change."""

    changed: dict[str, bytes]
    """Rows to write, by their keys."""
    forgotten: set[str]
    """Keys of rows to delete."""


class Checkpoints:
    """The checkpoints of all files and logs, and which of them are not saved yet."""

    def __init__(self) -> None:
        self._unsaved = Rows({}, set())
        self._files: dict[LogName, dict[str, FileCheckpoint]] = {}
        self._logs: dict[LogName, LogCheckpoint] = {}

    def table(self, log: LogName) -> FileTable:
        """A table of the known files of `log`, for its readers."""
        return FileTable(log, self._files.get(log, {}).values(), self._logs.get(log, LogCheckpoint()))

    def keep(self, batch: Batch) -> None:
        """Take over the checkpoints of `batch`."""
        name = batch.log
        changed, forgotten = self._unsaved
        files = self._files.setdefault(name, {})
        for key in batch.forgotten:
            files.pop(key, None)
            changed.pop(_FILE + key, None)
            forgotten.add(_FILE + key)
        for key, checkpoint in batch.checkpoints.items():
            files[key] = checkpoint
            changed[_FILE + key] = _encoded_with_names(checkpoint)
            forgotten.discard(_FILE + key)
        if batch.log_checkpoint is not None:
            self._logs[name] = self._logs.get(name, LogCheckpoint()).merged(batch.log_checkpoint)
            changed[_BOOK + name] = _encoded_with_names(self._logs[name])

    def restate(self, name: LogName) -> None:
        """Have everything already read of a log read again as history."""
        files = self._files.get(name, {})
        for key, checkpoint in files.items():
            files[key] = state_upgrade.to_restate(checkpoint)
            self._unsaved.changed[_FILE + key] = _encoded_with_names(files[key])

    def unsaved(self) -> Rows:
        """The rows that are not saved yet. From here on they count as saved, unless `not_saved` returns them."""
        unsaved, self._unsaved = self._unsaved, Rows({}, set())
        return unsaved

    def not_saved(self, rows: Rows) -> None:
        """Take back rows that could not be saved. Those that changed since are newer."""
        changed, forgotten = self._unsaved
        self._unsaved = Rows(
            {**{key: row for key, row in rows.changed.items() if key not in forgotten}, **changed},
            forgotten | (rows.forgotten - changed.keys()),
        )

    def restore(self, values: Mapping[str, bytes]) -> None:
        """Load the contents of a state file. Raises ValueError, which includes msgspec's errors."""
        for key, value in values.items():
            if key.startswith(_FILE):
                checkpoint = msgspec.convert(json.loads(value), FileCheckpoint)
                self._files.setdefault(checkpoint.log, {})[checkpoint.key] = checkpoint
            elif key.startswith(_BOOK):
                name = msgspec.convert(key.removeprefix(_BOOK), LogName)
                self._logs[name] = msgspec.convert(json.loads(value), LogCheckpoint)


def restored(values: Mapping[str, bytes], files: Mapping[str, bytes]) -> tuple[LicenseState, Checkpoints] | None:
    """The state and the checkpoints as they were saved; None if nothing was saved yet.

    Raises ValueError, which includes msgspec's errors, for what cannot be decoded.
    """
    checkpoints = Checkpoints()
    checkpoints.restore(files)
    fields: dict[str, Any] = {}
    refused: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name.startswith(_REFUSED):
            reason = name.removeprefix(_REFUSED).partition(".")[0]
            refused.setdefault(reason, {}).update(msgspec.json.decode(value))
        elif name.startswith(_STATE):
            fields[name.removeprefix(_STATE)] = msgspec.json.decode(value)
    if not fields:
        if files:
            raise ValueError("it contains what was read, but not what was counted")
        return None
    if state_upgrade.is_old(fields):
        fields = state_upgrade.upgraded(fields)
        checkpoints.restate("licenses")
        log.warning(
            "the state was saved by an older version: which syncs succeeded is worked out again from the Licenses log; "
            "counters are kept"
        )
    else:
        fields["sync"] = state_upgrade.renamed(fields["sync"])
    return msgspec.convert({**fields, "refused": refused}, LicenseState), checkpoints


def encoded(state: LicenseState, kept: Iterable[str] = ()) -> dict[str, bytes]:
    """The state as named values, split finely enough that a save writes little more than what changed.

    `kept`: the names that are saved already. Refused users are spread over 256 values for each reason; a value whose
    users are gone is saved as empty.
    """
    values = {
        _STATE + field: msgspec.json.encode(getattr(state, field))
        for field in state.__struct_fields__
        if field != "refused"
    }
    shards: dict[str, dict[str, Any]] = {name: {} for name in kept if name.startswith(_REFUSED)}
    for reason, users in state.refused.items():
        for digest, times in users.items():
            shards.setdefault(f"{_REFUSED}{reason}.{digest[:2]}", {})[digest] = times
    values.update((name, msgspec.json.encode(users)) for name, users in shards.items())
    return values


def _encoded_with_names(value: FileCheckpoint | LogCheckpoint) -> bytes:
    """As ASCII JSON: a file name need not be valid Unicode, and msgspec does not encode surrogates."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")
