"""The journal: recent notable log entries and unknown wordings, kept in memory. Masks what it shows.

Written while the ledger folds; read by the status page, the verdict and the support bundle. Hence the lock.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from exporter.events import (
    USER_DENIAL_REASONS,
    AccessDenied,
    AccessGranted,
    DenialReason,
    LicenseError,
    LicenseStale,
    LogEvent,
    LogName,
    ServiceStarted,
    SevereEntry,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
    SyncTrouble,
)
from exporter.license import FUTURE, Recognised, RecordLike, meaningful
from exporter.logs.messages import UNKNOWN
from exporter.logs.records import AuditRecord, Columns, LicensesRecord, Record, TraceRecord, texts_of, times_of
from exporter.logs.times import Times
from exporter.masking import Templates, masked, without_logins
from exporter.printable import printable

KEPT_PER_MESSAGE = 200
"""Entries kept of each message, so that frequent messages do not displace rare ones."""
SHOWN = 200
"""Entries shown at once."""
SyncWord = Literal["attempted", "succeeded", "failed", "stale"]
LONGEST_TEXT = 300
"""Characters of an entry's text that are shown."""


class Entry(msgspec.Struct, frozen=True):
    """One notable entry as it is shown. `at` is the entry's own time in seconds since 1970."""

    at: float | None
    log: LogName
    message: str
    meaning: str
    user: str
    text: str


class _Note(NamedTuple):
    number: int
    at: float | None
    log: LogName
    message: str
    event: LogEvent
    user: str
    text: str


class Journal:
    """Shows users, hosts and texts as they were logged to callers with `people`; masks them for all others.

    While `show_people` is off, they are masked for everyone.
    """

    def __init__(self, show_people: bool = False) -> None:
        self.show_people = show_people
        self._lock = threading.Lock()
        self._notes: dict[tuple[LogName, str], deque[_Note]] = {}
        self._noted = 0
        self._unknown = {people: Templates(people) for people in (False, show_people)}

    def note(self, log: LogName, records: Sequence[RecordLike], recognised: Recognised) -> None:
        """Keep the notable entries: those with a meaning, and unknown wordings of the Licenses log.

        `recognised`: the meaning of each record.
        """
        found: dict[str, list[int]] = {}
        for index in meaningful(recognised):
            message, event = recognised[index]
            if not isinstance(event, AccessGranted):
                found.setdefault(message, []).append(index)
        newest = sorted(index for indices in found.values() for index in indices[-KEPT_PER_MESSAGE:])
        with self._lock:
            for index in newest:
                record, (message, event) = records[index], recognised[index]
                if event is not None and isinstance(record, Record):
                    user = printable(event.user) if isinstance(event, AccessDenied) else ""
                    self._noted += 1
                    note = _Note(self._noted, record.at, log, message, event, user, text_of(record)[:LONGEST_TEXT])
                    self._notes.setdefault((log, message), deque(maxlen=KEPT_PER_MESSAGE)).append(note)
        # Most rows of the audit log are unrelated to licenses; only those of the Licenses log are of interest.
        if log == "licenses":
            self._note_unknown(records, recognised)

    def _note_unknown(self, records: Sequence[RecordLike], recognised: Recognised) -> None:
        """Count unknown wordings. Each distinct one is masked once per batch, not for every record."""
        places: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        if isinstance(records, Columns):
            keys = list(records.keys)
            for index in records.doubtful:  # their meaning may depend on more than their key
                keys[index] = (index,)
            for index, key in enumerate(keys):
                places[key].append(index)
        else:
            for index, record in enumerate(records):
                if recognised[index][0] == UNKNOWN and isinstance(record, LicensesRecord):
                    places[texts_of(record)].append(index)
        times = times_of(records)
        in_order = isinstance(times, Times) and times.in_order
        with self._lock:
            for indices in places.values():
                first = indices[0]
                record = records[first]
                if recognised[first][0] == UNKNOWN and isinstance(record, Record):
                    ends = (first, indices[-1]) if in_order else indices
                    known = [at for index in ends if (at := times[index]) is not None]
                    text = text_of(record)
                    for templates in self._unknown.values():
                        templates.add("licenses", text, len(indices), known)

    def clear(self) -> None:
        """Discard everything, as the logs are read again."""
        with self._lock:
            self._notes.clear()
            self._unknown = {people: Templates(people) for people in self._unknown}

    def entries(self, most: int = SHOWN, people: bool = False) -> list[Entry]:
        """The newest entries, newest first."""
        with self._lock:
            notes = [note for kept in self._notes.values() for note in kept]
        notes.sort(key=lambda note: (note.at or 0.0, note.number), reverse=True)
        return [self._entry(note, people and self.show_people) for note in notes[:most]]

    def unknown(self, people: bool = False) -> list[dict[str, object]]:
        """The distinct unknown wordings, the most frequent first."""
        with self._lock:
            return self._unknown[people and self.show_people].rows()

    def refusals(self, reason: DenialReason, since: float, now: float) -> int:
        """How many of the kept refusals in this period have `reason`: a lower bound."""
        with self._lock:
            return sum(
                1
                for kept in self._notes.values()
                for note in kept
                if isinstance(note.event, AccessDenied)
                and note.event.reason == reason
                and note.at is not None
                and since < note.at <= now
            )

    def syncs(self, since: float, now: float) -> list[tuple[float, SyncWord]]:
        """The times of sync attempts, successes, failures and stale verdicts in this period."""
        with self._lock:
            notes = [note for (log, _), kept in self._notes.items() if log == "licenses" for note in kept]
        return sorted(
            (note.at, word)
            for note in notes
            if note.at is not None and since <= note.at <= now + FUTURE and (word := _SYNC_WORDS.get(type(note.event)))
        )

    def _entry(self, note: _Note, people: bool) -> Entry:
        user, text = note.user, note.text
        if not people:
            user, text = "<user>" if user else "", masked(text)
        return Entry(note.at, note.log, note.message, meaning_of(note.event), user, text)


_SYNC_WORDS: dict[type, SyncWord] = {
    SyncAttempted: "attempted",
    SyncSucceeded: "succeeded",
    SyncFailed: "failed",
    LicenseStale: "stale",
}


def meaning_of(event: LogEvent) -> str:
    """The meaning of `event` in a few words."""
    if isinstance(event, SyncAttempted):
        return "sync attempted"
    if isinstance(event, SyncSucceeded):
        return "sync succeeded"
    if isinstance(event, SyncFailed):
        return f"sync failed: {event.error}"
    if isinstance(event, LicenseStale):
        return "license stale"
    if isinstance(event, LicenseError):
        return f"license error: {event.error}"
    if isinstance(event, SevereEntry):
        return f"license logger at {event.level.upper()}"
    if isinstance(event, SyncTrouble):
        return "unknown message of trouble"
    if isinstance(event, ServiceStarted):
        return "the service started"
    if isinstance(event, AccessGranted):
        return "user granted access"
    if event.reason in USER_DENIAL_REASONS:
        return f"user refused: {event.reason}"
    return f"refused: {event.reason}"


def text_of(record: Record) -> str:
    """The text of a record on one line, to be masked before it is shown; without other columns and credentials."""
    return without_logins(printable(_words_of(record)))


def _words_of(record: Record) -> str:
    if isinstance(record, LicensesRecord):
        return " | ".join(dict.fromkeys(text for text in texts_of(record) if text))
    if isinstance(record, AuditRecord):
        # The message of a torn row is the whole row, including its user columns.
        message = "" if record.malformed else record.message
        return " | ".join(text for text in (record.description, message) if text)
    if isinstance(record, TraceRecord):
        return f"{record.level} {record.logger.rpartition('.')[2]}: {record.field(record.places.message)}"
    return ""
