"""Every log message that is understood, with one function each: the contract with Qlik's logs.

To add a message, write a function whose name is the value of the label `message` and whose docstring is the row in
docs/messages.md, and add a sample line to `tests/samples/`. A message that is only counted needs no body; one with a
meaning returns an event. Texts are in lower case and match, regardless of case, at the beginning of any word in the
texts of a record; a text that ends in a space must also end at the end of a word.
"""

import operator
import re
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, Literal, NamedTuple, cast

import msgspec

from exporter.config import Config, ConfigError, MessageConfig
from exporter.events import (
    LOG_NAMES,
    AccessDenied,
    AccessGranted,
    LicenseError,
    LicenseInUse,
    LicenseStale,
    LogEvent,
    LogName,
    ServiceStarted,
    SevereEntry,
    SevereLevel,
    SyncAttempted,
    SyncFailed,
    SyncSucceeded,
    SyncTrouble,
)
from exporter.logs import trouble
from exporter.logs.entries import deeper_texts, lines_with_errors
from exporter.logs.records import (
    LONGEST_TEXT,
    TEXT_FIELDS,
    AuditRecord,
    Columns,
    LicensesRecord,
    Record,
    TraceRecord,
    meaning_key,
    texts_of,
)
from exporter.logs.table import Table

UNKNOWN = "unknown"
CACHED_TEXTS = 16_384
"""Largest number of distinct texts of the Licenses log whose meaning is cached."""
CACHED_CHARACTERS = 1 << 22
"""Largest number of their characters, all together."""
LONGEST_NAME = 200
"""Characters of a logger or a place in the source; longer ones are not remembered."""

REFUSED = "denied"
"""What several texts of the audit log hold: rows are searched for it instead of for each of these texts."""
TEXTS_AT_ONCE = 64
"""Distinct texts of the audit log that are searched as one: few enough to search each where one of them matters."""

Certainty = Literal["seen", "inferred", "design"]


class Message(NamedTuple):
    """One message of the catalogue: `meaning` returns the event of a record, or None if it is only counted."""

    name: str
    log: LogName
    texts: tuple[str, ...]
    words: re.Pattern[str]
    pattern: re.Pattern[str] | None
    certainty: Certainty
    sentence: str
    meaning: Callable[[Any], LogEvent | None]


class Recognised(NamedTuple):
    """The meaning of a record: the name of its message, and its event, if any."""

    message: str
    event: LogEvent | None


class _Messages:
    """Messages in order of precedence, and the texts of all: most records contain none of them."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.all = tuple(messages)
        self.without_texts = tuple(message for message in self.all if not message.texts)
        self.texts = tuple(text for message in self.all for text in message.texts)


MESSAGES: list[Message] = []
"""The built-in catalogue, in order of precedence within its certainty."""


def _message(log: LogName, *texts: str, pattern: str = "", certainty: Certainty = "inferred") -> Callable[[Any], Any]:
    """Register a message: any of `texts` (in lower case; any case in the log), and `pattern` where there is one."""

    def register(function: Callable[..., LogEvent | None]) -> Callable[..., LogEvent | None]:
        sentence = " ".join((function.__doc__ or "").split())
        words = "|".join(re.escape(text.rstrip()) + (r"(?!\w)" if text.endswith(" ") else "") for text in texts)
        MESSAGES.append(
            Message(
                function.__name__,
                log,
                tuple(text.rstrip() for text in texts),
                re.compile(rf"(?<!\w)(?:{words})"),
                re.compile(pattern) if pattern else None,
                certainty,
                sentence,
                function,
            )
        )
        return function

    return register


# --- the Licenses service (qlik-facts 1) -----------------------------------------------------------------------------


@_message(
    "licenses",
    "licenses-outdatedlicense",
    "too much time has passed since the last license update",
    "lic is stale",
    certainty="seen",
)
def license_stale(record: LicensesRecord) -> LogEvent:
    """The license has not been verified for too long: everyone is refused."""
    return LicenseStale()


@_message(
    "licenses",
    pattern=r"(?im)^(?:(?:now|begin(?:ning)?|start(?:ing|ed)?|about to|going to|will be)\s+)?(?P<attempt>"
    r"re-syncing assignments with the backend)(?P<rest>[^\n]*)",
    certainty="seen",
)
def sync_attempted(record: LicensesRecord) -> LogEvent | None:
    """A sync with the backend was attempted. It may succeed or fail."""
    rest = next((match["rest"] for text in texts_of(record) if (match := _ATTEMPT.search(text))), "")
    if trouble.speaks_of_failure(rest) or trouble.speaks_of_end(rest):
        return None  # the words of an attempt together with its result are not an attempt
    return SyncAttempted(_source(record))


_ATTEMPT = MESSAGES[-1].pattern or re.compile("")
ATTEMPT = "re-syncing assignments with the backend"
"""The only published wording of an attempt."""


@_message("licenses", "proxyconnect", "proxy authentication required")
def proxy_failed(record: LicensesRecord) -> LogEvent:
    """The proxy between this node and the backend refused or failed."""
    return SyncFailed("proxy")


@_message(
    "licenses",
    "x509:",
    "tls:",
    "tls handshake timeout",
    "certificate signed by unknown authority",
    "certificate has expired",
)
def backend_untrusted(record: LicensesRecord) -> LogEvent:
    """No trusted TLS connection to the backend could be established."""
    return SyncFailed("tls")


@_message("licenses", "no such host", "getaddrinfow", "server misbehaving", "temporary failure in name resolution")
def backend_not_resolved(record: LicensesRecord) -> LogEvent:
    """The backend's name could not be resolved."""
    return SyncFailed("dns")


@_message("licenses", "actively refused", "connection refused")
def backend_refused(record: LicensesRecord) -> LogEvent:
    """The connection to the backend was refused."""
    return SyncFailed("refused")


@_message(
    "licenses", "i/o timeout", "context deadline exceeded", "client.timeout exceeded", "a connection attempt failed"
)
def backend_timed_out(record: LicensesRecord) -> LogEvent:
    """The backend did not answer in time."""
    return SyncFailed("timeout")


@_message("licenses", "forcibly closed", "connection reset", "eof ", "broken pipe", "wsarecv:", "wsasend:")
def backend_reset(record: LicensesRecord) -> LogEvent:
    """The connection to the backend was closed unexpectedly."""
    return SyncFailed("reset")


@_message(
    "licenses", "network is unreachable", "no route to host", "unreachable network", "unreachable host", "dial tcp"
)
def backend_unreachable(record: LicensesRecord) -> LogEvent:
    """The backend could not be reached, for another reason, or for one in the language of the node."""
    return SyncFailed("other")


@_message(
    "licenses",
    "unexpected status code",
    "unexpected http status",
    "unexpected response status",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway time",
    "429 too many requests",
)
def backend_http_error(record: LicensesRecord) -> LogEvent:
    """The backend, or something else in its place, answered with an HTTP error."""
    return SyncFailed("http")


@_message("licenses", "looking for beginning of value", "<!doctype", "<html")
def answered_by_stranger(record: LicensesRecord) -> LogEvent:
    """Something other than the backend answered: with a page instead of data."""
    return SyncFailed("http")


@_message("licenses", pattern=r"(?im)\b(?:get|head|post|put|patch|delete)\s+\\*\"?https?://[^\s\"]*\\*\"?:")
def contact_failed(record: LicensesRecord) -> LogEvent:
    """A request to the backend failed with an unknown message."""
    return SyncFailed("other")


@_message("licenses", "licenses.invalidlicenseerror", certainty="seen")
def license_invalid(record: LicensesRecord) -> LogEvent:
    """The license failed verification for a reason other than its age."""
    # The text behind the last colon says why (qlik-facts 1): where that is the network, the backend was not reached.
    texts = texts_of(record)
    if any(_STALE.search(text) for text in texts):
        return LicenseStale()
    why = "\n".join(text.rpartition(": ")[2] for text in texts)
    cause = _first(_BACKEND_ERRORS, record, why)
    return cause.event if cause and cause.event else LicenseError("invalid", service=True)


_STALE = re.compile(r"\bstale\b", re.IGNORECASE)


# A text that is nothing but a code is one in any case; within a sentence `licenses-service` is none.
@_message("licenses", pattern=r"\bLICENSES-\w|(?im:^licenses-[\w.-]+$)", certainty="design")
def license_refused(record: LicensesRecord) -> LogEvent:
    """Any other `LICENSES-…` code."""
    return LicenseError("other", service=True, trouble=_trouble(record))


@_message("licenses", pattern=r"(?i)\blicenses\.\w*error\b", certainty="design")
def license_error(record: LicensesRecord) -> LogEvent:
    """Any other `licenses.…Error`."""
    return LicenseError("other", service=True, trouble=_trouble(record))


_BACKEND_ERRORS = _Messages(
    message for message in MESSAGES if message.log == "licenses" and message.certainty == "inferred"
)
_CODES = {"license_invalid", "license_refused", "license_error"}


@_message("licenses", pattern=r"(?!)")
def other_service_failed(record: LicensesRecord) -> None:
    """A connection within this node, or to another Qlik service, failed. Not related to the sync."""


@_message("licenses", pattern=r"(?!)")
def service_started(record: LicensesRecord) -> LogEvent:
    """The Licenses service was started."""
    return ServiceStarted()


def _source(record: LicensesRecord) -> str:
    return record.caller.partition(":")[0]


def _trouble(record: LicensesRecord, text: str = "", *, tied: bool = False) -> SyncTrouble:
    """The event of an entry of trouble; none if it is about a user's request and not tied to a sync."""
    text = text or "\n".join(texts_of(record))
    return SyncTrouble(
        trouble.wording_of(text),
        _source(record),
        trouble.hash_of(f"{record.level} {record.caller}") if record.caller else "",
        tied or _is_clients_fault(record) or trouble.is_incoming(text),
    )


def _is_clients_fault(record: LicensesRecord) -> bool:
    """Whether the entry has a status 4xx: it is about an invalid request of a client."""
    return any(str(status)[:1] == "4" and len(str(status)) == 3 for status in
               (record.status_code, record.response_status_code) if status is not None)  # fmt: skip


_ABOVE_INFO = frozenset({"warn", "warning", "error", "err", "fatal", "crit", "critical", "panic", "alert", "emerg"})


# --- the Repository's security audit log (qlik-facts 2) --------------------------------------------------------------


@_message("repository_audit", "your account is inactive", certainty="seen")
def account_inactive(record: AuditRecord) -> None:
    """A user whose account is inactive. Not related to licenses; never counted as a denial."""


@_message("repository_audit", "usagedenied", certainty="seen")
def access_denied(record: AuditRecord) -> LogEvent:
    """A user was refused: `parallel_sessions` if the row counts five sessions or more, else `no_access_pass`."""
    sessions = _SESSION_COUNT.search(record.message) or _SESSION_COUNT.search(record.description)
    parallel = sessions is not None and int(sessions[1]) >= PARALLEL_SESSIONS
    return AccessDenied("parallel_sessions" if parallel else "no_access_pass", _refused_user(record))


@_message(
    "repository_audit",
    "add user access",
    pattern=r"(?i)\bcommand\s*=\s*['\"]?add user access(?: from license)?['\"]?\s*;\s*result\s*=\s*['\"]?400\b",
    certainty="seen",
)
def allocation_refused(record: AuditRecord) -> LogEvent:
    """A license could not be allocated: expired, deny-listed, or none left."""
    return AccessDenied("allocation_refused")


@_message("repository_audit", "usagegranted")
def access_granted(record: AuditRecord) -> LogEvent:
    """A user was granted access. Expected as the counterpart of `access_denied`, but never seen."""
    return AccessGranted()


@_message("repository_audit", "access is denied", "access denied", certainty="seen")
def security_denied(record: AuditRecord) -> None:
    """Access was refused by a security rule or section access. Not related to licenses."""


PARALLEL_SESSIONS = 5
"""Sessions that one user may hold; cannot be changed in Qlik (qlik-facts 2 and 6)."""
_SESSION_COUNT = re.compile(r"Session\s?Count\s*[:=]\s*['\"]?\s*(\d{1,6})", re.IGNORECASE)
_USER = re.compile(r"\bUser\s*:\s*(?:'(.*?)'|\"(.*?)\")\s*(?:,|$)", re.IGNORECASE)
"""The quoted user, whose name may itself contain a quote."""
_NOBODY = {"", "0", "-", "not available", "unknown", "null"}


def _refused_user(record: AuditRecord) -> str:
    if named := _USER.search(record.message):
        user = (named[1] or named[2] or "").strip()
        if user.casefold() not in _NOBODY:
            return user
    directory, user = record.user
    return "" if record.malformed or user.casefold() in _NOBODY else f"{directory}\\{user}"


# --- the Repository's trace logs (qlik-facts 3) ----------------------------------------------------------------------


@_message(
    "repository_trace",
    "core.licensing",
    pattern=r"(?i)\A[^\n]*core\.licensing[^\n]*\n.*\binvalid license\b",
    certainty="seen",
)
def license_invalid_in_repository(record: TraceRecord) -> LogEvent | None:
    """The Repository's license maintenance stopped because the license is invalid. Repeated hourly."""
    return _severe(record)


@_message("repository_trace", "core.licensing", pattern=r"(?i)\A[^\n]*core\.licensing", certainty="seen")
def licensing_entry(record: TraceRecord) -> LogEvent | None:
    """An entry of a license logger. At WARN, ERROR or FATAL it counts as severe."""
    return _severe(record)


def _severe(record: TraceRecord) -> LogEvent | None:
    level = _SEVERE.get(record.level.strip().casefold())
    return SevereEntry(level) if level else None


@_message("repository_trace", "", certainty="design")
def other_logger(record: TraceRecord) -> None:
    """An entry of a logger that is not related to licenses."""


_SEVERE: dict[str, SevereLevel] = {"warn": "warn", "warning": "warn", "error": "error", "fatal": "fatal"}


# --- recognising -----------------------------------------------------------------------------------------------------

_MEANINGS: dict[str, Callable[[], LogEvent]] = {
    "sync_attempted": SyncAttempted,
    "sync_succeeded": SyncSucceeded,
    "sync_failed": lambda: SyncFailed("other"),
    "license_stale": LicenseStale,
    "license_error": lambda: LicenseError("other"),
}


class _Taught(NamedTuple):
    name: str
    pattern: re.Pattern[str]
    event: LogEvent


class Catalogue:
    """The built-in messages and those of the site's configuration.

    The site's messages take precedence over the built-in ones, except that none can hide a stale license. Raises
    ValueError if a name is already in use.
    """

    def __init__(self, taught: tuple[MessageConfig, ...] = (), here: frozenset[str] = frozenset()) -> None:
        """`here`: names of this node, in lower case, as its services may write them."""
        self._here = here
        builtin = {message.name for message in MESSAGES} | {UNKNOWN}
        for number, message in enumerate(taught):
            if message.name in builtin:
                raise ValueError(
                    f"messages[{number}].name: found `{message.name}`, expected a name that is not built in"
                )
        self._taught: dict[LogName, list[_Taught]] = {}
        for message in taught:
            pattern = re.compile(message.match, re.IGNORECASE | re.MULTILINE)
            self._taught.setdefault(message.log, []).append(_Taught(message.name, pattern, _MEANINGS[message.means]()))
        self._known = {log: _by_certainty(log, "seen") for log in LOG_NAMES}
        self._guessed = {log: _by_certainty(log, "inferred", "design") for log in LOG_NAMES}
        texts = {text for message in MESSAGES if message.log == "repository_audit" for text in message.texts}
        texts = {REFUSED if REFUSED in text else text for text in texts}
        self._wanted = [text.encode() for text in texts if not any(other in text for other in texts - {text})]
        self._cache: dict[tuple[Any, ...], Recognised] = {}
        self._cached = 0
        """How many characters the texts in it have."""
        self._callers: dict[str, bool] = {}
        """For each place in the source: whether nothing that it logged so far was about the sync."""
        self._other_logger = Recognised(other_logger.__name__, None)
        self._loggers: dict[bytes, Recognised] = {}
        """The meaning of all rows of a logger that is unrelated to licenses."""
        self.infers = not any(message.means == "sync_succeeded" for message in taught)
        """Whether successes must be inferred, since no message reports them."""

    def names(self, log: LogName) -> tuple[str, ...]:
        """Every value that the label `message` can have for `log`."""
        builtin = (message.name for message in MESSAGES if message.log == log)
        return (*builtin, *(taught.name for taught in self._taught.get(log, ())), UNKNOWN)

    def recognise(self, log: LogName, records: Sequence[Record]) -> list[Recognised]:
        """The meaning of each record. Never raises."""
        if log == "licenses":
            return self._recognise_entries(records)
        if log == "repository_audit":
            return self._recognise_audit_rows(records)
        return self._recognise_trace_rows(records)

    def _recognise_trace_rows(self, records: Sequence[Record]) -> list[Recognised]:
        """Few loggers are about licenses; for rows of the others only the logger is read."""
        if not isinstance(records, Columns) or not records.keys or self._taught.get("repository_trace"):
            return [self._trace_row(record) if type(record) is TraceRecord else _NOTHING for record in records]
        loggers, lines = records.keys, records.lines
        meanings = {logger: self._logger(logger, records) for logger in set(loggers)}
        if telling := {logger for logger, meaning in meanings.items() if meaning is None}:
            for part in lines.parts if isinstance(lines, Table) else ():
                part.rows_with(telling)
        return [
            meanings[logger] or self._trace_row(cast("TraceRecord", records[index]))
            for index, logger in enumerate(loggers)
        ]

    def _logger(self, logger: bytes, records: Columns) -> Recognised | None:
        """The meaning of all rows of a logger that is among those of `records`; None if it is not known."""
        known = self._loggers.get(logger)
        if known is None and len(logger) <= LONGEST_NAME and b"licens" not in logger.lower():
            known = self._trace_row(cast("TraceRecord", records[records.keys.index(logger)]))
            if known == self._other_logger:
                known = self._other_logger  # the same one, so that rows which mean nothing are passed over together
            if len(self._loggers) >= CACHED_TEXTS:
                self._loggers.clear()
            self._loggers[logger] = known
        return known

    def _trace_row(self, record: TraceRecord) -> Recognised:
        """The meaning of a row, by its logger and the text of a license logger."""
        logger = record.logger
        text = f"{logger}\n{record.message}" if "licens" in logger.lower() else logger
        return self._search("repository_trace", record, text)

    def _recognise_entries(self, records: Sequence[Any]) -> list[Recognised]:
        """Entries repeat their texts, so each text is searched once. Other parts are searched in all at once."""
        if isinstance(records, Columns) and not self._taught.get("licenses"):
            return self._recognise_columns(records)
        keys = list(map(meaning_key, records))
        known = list(map(self._cache.get, keys))
        found = [one or _NOTHING for one in known] if None in known else cast("list[Recognised]", known)
        torn: set[int] = set()
        if True in map(_is_malformed, records):
            torn = {index for index, record in enumerate(records) if record.malformed and _is_torn(record.raw)}
        if None in known:
            for index in [index for index, one in enumerate(known) if one is None and index not in torn]:
                found[index] = self._meaning(keys[index], records[index])
        for index in torn:
            found[index] = self._torn(records[index])
        deeper: Iterable[int] = range(len(records))
        if not self._taught.get("licenses"):  # a site's pattern may match anything
            deeper = lines_with_errors([record.raw for record in records])
        for index in deeper:
            if found[index] is _NOTHING:
                found[index] = self._elsewhere(records[index])
        return found

    def _recognise_columns(self, records: Columns) -> list[Recognised]:
        """Only distinct keys are looked up, and the records whose meaning may depend on other parts."""
        keys = records.keys
        try:
            found = list(map(self._cache.__getitem__, keys))
        except KeyError:
            found = []
            for index, key in enumerate(keys):
                found.append(self._cache.get(key) or self._meaning(key, records[index]))  # type: ignore[arg-type]  # keys have only those of the Licenses log
        for index in records.doubtful:
            if found[index] is _NOTHING:
                found[index] = self._elsewhere(records[index])
        return found

    def _meaning(self, key: tuple[Any, ...], record: LicensesRecord) -> Recognised:
        """The meaning of an entry with `key`, cached."""
        known = self._cache.get(key)
        if known is None:
            known = self._entry(record)
            self._cached += sum(map(len, texts_of(record)))
            if len(self._cache) >= CACHED_TEXTS or self._cached > CACHED_CHARACTERS:
                self._cache.clear()
                self._cached = 0
            self._cache[key] = known
            self._note_caller(record.caller, known)
        return known

    # --- an entry of the Licenses log

    def _entry(self, record: LicensesRecord) -> Recognised:
        """The meaning of an entry by its texts. The site's messages take precedence over all but the stale verdict."""
        if max(map(len, texts_of(record))) > LONGEST_TEXT:
            record = msgspec.structs.replace(
                record, **{field: getattr(record, field)[:LONGEST_TEXT] for field in TEXT_FIELDS}
            )
        text = "\n".join(texts_of(record))
        if stale := _first(_STALE_MESSAGES, record, text):
            return stale
        for taught in self._taught.get("licenses", ()):
            if taught.pattern.search(text):
                return Recognised(taught.name, taught.event)
        return self._built_in(record, text) or self._unrecognised(record, text)

    def _built_in(self, record: LicensesRecord, text: str) -> Recognised | None:
        """The meaning of `text` by the built-in catalogue; None if no message matches."""
        reason = trouble.failed_contact(text)
        if reason is None and (found := _first(self._known["licenses"], record, text)):
            return found if found.event is not None else None
        found = _first(self._guessed["licenses"], record, text)
        if found is None:
            return None
        error = found.event.error if isinstance(found.event, SyncFailed) else None
        if error is None:
            return found
        if found.message not in _CODES and trouble.is_elsewhere(text, self._here):
            return Recognised(other_service_failed.__name__, None)
        if reason is not None and (known := trouble.class_of_reason(reason)):
            name = proxy_failed if known == "proxy" else answered_by_stranger
            return Recognised(name.__name__, SyncFailed(known))
        if reason is None and found.message != "license_invalid" and not _names_the_way(text):
            if trouble.is_incoming(text):
                return Recognised(found.message, _trouble(record, text))
            return Recognised(found.message, SyncFailed(error, trouble.contact_of(text), _source(record)))
        return found

    def _unrecognised(self, record: LicensesRecord, text: str) -> Recognised:
        """The meaning of an entry that no message matches: trouble or nothing, never a success or a failure."""
        errors = (record.error_message, record.error_type, record.response_error_type, record.error, record.err,
                  record.response_error_message)  # fmt: skip
        filled = any(error and not trouble.says_nothing(error) for error in errors)
        if not filled:
            text = f"{record.message}\n{record.msg}"
        loud = filled or record.level.casefold() in _ABOVE_INFO
        failure = trouble.speaks_of_failure(text)
        if (loud or failure) and trouble.is_elsewhere(text, self._here):
            return _NOTHING
        if filled:
            return Recognised(UNKNOWN, LicenseError("other", trouble=_trouble(record, text)))
        if loud or (failure and trouble.speaks_of_sync(text)):
            return Recognised(UNKNOWN, _trouble(record, text))
        if failure or not text.isascii():
            return Recognised(UNKNOWN, _trouble(record, text, tied=True))
        if trouble.speaks_of_start(text):
            return Recognised(service_started.__name__, ServiceStarted())
        return _NOTHING

    def _elsewhere(self, record: Record) -> Recognised:
        """The meaning of a record by parts that are not known to carry a message."""
        if self._taught.get("licenses"):
            raw = record.raw.decode("utf-8", "replace")
            for taught in self._taught["licenses"]:
                if taught.pattern.search(raw):
                    return Recognised(taught.name, taught.event)
        if type(record) is not LicensesRecord:
            return _NOTHING
        found = self._deeper(record)
        self._note_caller(record.caller, found)
        return found

    def _deeper(self, record: LicensesRecord) -> Recognised:
        """The meaning of an entry by its unpublished keys."""
        deeper, errors = deeper_texts(record)
        if deeper and (found := _first(_STALE_MESSAGES, record, deeper) or self._built_in(record, deeper)):
            return found
        if any(not trouble.says_nothing(error) for error in errors) and not trouble.is_elsewhere(deeper, self._here):
            return Recognised(UNKNOWN, LicenseError("other", trouble=_trouble(record, deeper)))
        return _NOTHING

    def _torn(self, record: LicensesRecord) -> Recognised:
        """The meaning of a truncated line. If it is not known, it is trouble: it may have been the end of a sync."""
        found = self._entry(record)
        message = record.message
        if isinstance(found.event, SyncFailed | SyncSucceeded | LicenseStale):
            return found
        if isinstance(found.event, LicenseError):
            return Recognised(found.message, LicenseError(found.event.error, found.event.service, SyncTrouble("")))
        begun = len(message) > SHORTEST_BEGINNING and ATTEMPT.startswith(message.casefold())
        _, attempted, rest = message.casefold().partition(ATTEMPT)
        if begun or (attempted and not rest.strip()[:1].isalnum()):  # a following word may be the result
            return Recognised(sync_attempted.__name__, SyncAttempted(_source(record)))
        if found.message == other_service_failed.__name__ or self._is_harmless(record.raw):
            return _NOTHING
        return Recognised(UNKNOWN, SyncTrouble(""))

    def _note_caller(self, caller: str, found: Recognised) -> None:
        if 0 < len(caller) <= LONGEST_NAME:
            if len(self._callers) >= CACHED_TEXTS:
                self._callers.clear()
            self._callers[caller] = self._callers.get(caller, True) and found.event is None

    def _is_harmless(self, raw: bytes) -> bool:
        """Whether every rest of a torn line comes from a place in the source that never logged about a sync."""
        callers = _CALLER.findall(raw)
        return len(callers) == raw.count(b'{"') > 0 and all(
            self._callers.get(caller.decode("utf-8", "replace")) for caller in callers
        )

    def uses(self, log: LogName, records: Sequence[Record]) -> list[tuple[float, LicenseInUse]]:
        """Evidence in `records` that somebody used the service or the hub and was not refused, with times.

        These are successful requests other than health checks, and rows of users in the audit log other than refusals.
        """
        found = []
        for record, (_, event) in zip(records, self.recognise(log, records), strict=True):
            if record.at is None or record.malformed or (event is not None and not isinstance(event, AccessGranted)):
                continue
            kind = _request_answered(record) if isinstance(record, LicensesRecord) else _row_of_a_person(record)
            if kind:
                found.append((record.at, LicenseInUse(kind)))
        return found

    def _recognise_audit_rows(self, records: Sequence[Record]) -> list[Recognised]:
        """Few rows matter: the distinct texts of many are searched at once for those that may contain a message."""
        if self._taught.get("repository_audit"):  # a site's pattern may match anything
            return [self._audit_row(record) for record in records]
        found = [_NOTHING] * len(records)
        if isinstance(records, Columns) and isinstance(records.lines, Table):
            done = 0
            for part in records.lines.parts:
                for place in part.rows_with(self._telling(part.texts)):
                    found[done + place] = self._audit_row(records[done + place])
                done += part.count
        else:
            telling = self._telling({record.raw for record in records})
            for index, record in enumerate(records):
                if record.raw in telling:
                    found[index] = self._audit_row(record)
        return found

    def _telling(self, texts: Set[bytes]) -> set[bytes]:
        """Those of the `texts` of the audit log that may contain a message."""
        every = list(texts)
        groups = (every[begin : begin + TEXTS_AT_ONCE] for begin in range(0, len(every), TEXTS_AT_ONCE))
        return {text for group in groups if self._may_tell(group) for text in group if self._may_tell([text])}

    def _may_tell(self, texts: Iterable[bytes]) -> bool:
        """Whether any of these texts of the audit log may contain a message; those that are searched for are ASCII."""
        text = b"\0".join(texts).lower()
        return any(wanted in text for wanted in self._wanted)

    def _audit_row(self, record: Record) -> Recognised:
        if type(record) is not AuditRecord:
            return _NOTHING
        # Only fields that Qlik itself writes: the name of an app, for example, must not be taken for a message.
        found = self._search("repository_audit", record, f"{record.description}\n{record.message}")
        if found is _NOTHING and self._taught.get("repository_audit"):
            raw = record.raw.decode("utf-8", "replace")
            for taught in self._taught["repository_audit"]:
                if taught.pattern.search(raw):
                    return Recognised(taught.name, taught.event)
        return found

    def _search(self, log: LogName, record: Record, text: str) -> Recognised:
        if found := _first(self._known[log], record, text):
            return found
        for taught in self._taught.get(log, ()):
            if taught.pattern.search(text):
                return Recognised(taught.name, taught.event)
        return _first(self._guessed[log], record, text) or _NOTHING


_NOTHING = Recognised(UNKNOWN, None)
_is_malformed = operator.attrgetter("malformed")
_STALE_MESSAGES = _Messages(message for message in MESSAGES if message.name == license_stale.__name__)
SHORTEST_BEGINNING = 5
"""Characters from which a torn text is recognised as the beginning of a known wording."""
_CALLER = re.compile(rb'\{"caller":\s*"([^"]{1,200})"')
_THE_WAY = re.compile(r"https?://|proxyconnect|\blookup |license\.qlik|qlikcloud", re.IGNORECASE)


_ANSWERED = re.compile(r"(?<![\w.:/-])2\d\d(?![\w.:/-])")
_PATH = re.compile(r"(?:[A-Z]+[ \"']+)?(?:/[\w.@%~-]+){1,4}")
_HEALTH = re.compile(r"/(?:health\w*|ready|readiness|live\w*|metrics|ping|status|version|about)\b", re.IGNORECASE)
_MACHINE_USERS = frozenset({"", "internal", "none", "not available", "0", "-"})


def _request_answered(record: LicensesRecord) -> str:
    """A hash of the path of a successful request; empty for other entries."""
    text = "\n".join(texts_of(record))
    path = _PATH.search(text)
    status = record.status_code if record.status_code is not None else record.response_status_code
    well = str(status)[:1] == "2" if status is not None else _ANSWERED.search(text) is not None
    if path is None or not well or _HEALTH.search(text) or not trouble.is_incoming(text):
        return ""
    return trouble.wording_of(f"request {path[0].replace('/', ' ')}")


def _row_of_a_person(record: Record) -> str:
    """A hash of a user's action in the audit log; empty for rows of machines and for refusals."""
    if not isinstance(record, AuditRecord):
        return ""
    directory, user = record.user
    result = record.field(record.places.result)
    if directory.casefold() in _MACHINE_USERS or not user or result[:1] in ("4", "5"):
        return ""
    return trouble.wording_of(f"row {record.field(record.places.command)}")


def _names_the_way(text: str) -> bool:
    """Whether a network error mentions the backend, the connection to it, or the sync, and so is about nothing else."""
    return _THE_WAY.search(text) is not None or trouble.speaks_of_sync(text)


def _is_torn(raw: bytes) -> bool:
    """Whether a malformed line is part of an entry, or parts of two."""
    return not raw.rstrip().endswith(b"}") or raw.count(b'{"caller"') > 1


def catalogue_of(config: Config, file: str) -> Catalogue:
    """The catalogue with the messages of `config`. Raises ConfigError with the name `file` if a name is in use."""
    try:
        return Catalogue(config.messages)
    except ValueError as error:
        key, _, problem = str(error).partition(": ")
        raise ConfigError(file, key, problem) from None


def _by_certainty(log: LogName, *certainties: Certainty) -> _Messages:
    return _Messages(message for message in MESSAGES if message.log == log and message.certainty in certainties)


def _first(messages: _Messages, record: Record, text: str) -> Recognised | None:
    lowered = text.lower()
    for message in messages.all if any(map(lowered.__contains__, messages.texts)) else messages.without_texts:
        if message.texts and not (any(map(lowered.__contains__, message.texts)) and message.words.search(lowered)):
            continue
        if message.pattern is None or message.pattern.search(text):
            return Recognised(message.name, message.meaning(record))
    return None
