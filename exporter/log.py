"""The exporter's own log: one line per event on standard error, as logfmt or JSON, without people, hosts and keys."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from exporter.printable import printable_lines

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("logfmt", "json")


def start_logging(level: str, form: str) -> None:
    """Send the log of this process to standard error, at `level` and above."""
    stream = sys.stderr
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a console's code page must never fail a log line
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a log that cannot be written is no reason to fail (hazard 135)
    for noisy in ("asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def redact_log(redact: Callable[[str], str]) -> None:
    """Have `redact` remove the secrets of the configuration from every later line."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Lines):
            handler.formatter.redact = redact


class _Lines(logging.Formatter):
    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"
        self.redact: Callable[[str], str] = str

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("exporter."),
            "msg": printable_lines(self.redact(record.getMessage())),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = printable_lines(self.redact(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"))
        if self._json:
            return json.dumps(line, ensure_ascii=False)
        return " ".join(f"{key}={_value(value)}" for key, value in line.items())


def _value(text: str) -> str:
    plain = text and not any(character in text for character in ' "=\n\r\t') and text.isprintable()
    return text if plain else json.dumps(text, ensure_ascii=False)
