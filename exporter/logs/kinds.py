"""Which log a file belongs to, by the name that Qlik gives it or by its first bytes. Pure."""

import re
from typing import NamedTuple

from exporter.events import LogName

_QLIK_NAME = re.compile(
    r"_(?P<kind>[A-Za-z]+)_(?P<service>Repository|Proxy|Engine|Scheduler|Printing|ServiceDispatcher|Deployment)"
    r"(?:_(?:\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d|\d{8}T\d{6})Z)?\.(?:txt|log)$",
    re.IGNORECASE,
)
_OURS: dict[tuple[str, str], LogName] = {
    ("auditsecurity", "repository"): "repository_audit",
    ("license", "repository"): "repository_trace",
    ("system", "repository"): "repository_trace",
}
"""The names of qlik-facts 2 and 3; no other file of Qlik is a license log."""
_LICENSING = re.compile(rb"licens|re-syncing assignments", re.IGNORECASE)
_LEVELS = {b"debug", b"info", b"warn", b"warning", b"error", b"fatal"}


class Named(NamedTuple):
    """The meaning of a file name that Qlik gives."""

    log: LogName | None
    """None: a log of Qlik that is unrelated to licensing."""


def log_of_name(name: str) -> Named | None:
    """Which log a file of this name belongs to; None for a name that Qlik does not give."""
    named = _QLIK_NAME.search(name)
    return Named(_OURS.get((named["kind"].lower(), named["service"].lower()))) if named else None


def log_of_content(head: bytes, trusting: bool = True) -> LogName | None:
    """Which log begins with `head`; None if it is none of ours. Other services write JSON, too: unless `trusting`, it
    must mention licenses.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", "replace").encode()
    head = head.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip()
    first = head.split(b"\n", 1)[0]
    if first.startswith(b"{"):
        return "licenses" if trusting or _LICENSING.search(head) else None
    columns = [name.strip().lower() for name in first.split(b"\t")]
    if columns[0].startswith(b"sequence"):
        if b"description" in columns or b"securityclass" in columns:
            return "repository_audit"
        return "repository_trace" if b"logger" in columns else None
    if columns[0].isdigit() and len(columns) > 9:
        if any(name.startswith(b"command=") for name in columns):
            return "repository_audit"
        return "repository_trace" if any(name in _LEVELS for name in columns[1:4]) else None
    return None
