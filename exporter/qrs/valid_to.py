"""When a license ends: every `Valid To` in the details of a key, the earliest taken. Pure; guesses nothing."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

FIRST_YEAR, LAST_YEAR, PERPETUAL_YEAR = 2000, 2199, 9999
"""Years in which a license can end; 9999 is how .NET writes "never"."""

_VALID_TO = re.compile(r"valid[ \t]*to[ \t]*[:=]([^\r\n;|\\]*)", re.IGNORECASE)
_OTHER_ENDING = re.compile(r"\b(valid[ \t]+(?:until|till|through|thru)|expir\w{1,12}|end[ \t]*date)\b", re.IGNORECASE)
_PERPETUAL_WORDS = ("never", "perpetual", "unlimited")


class Ending(NamedTuple):
    """What the details of a key say about its end."""

    at: float | None
    """The last second of the earliest `Valid To` day; None if perpetual or not understood.

    In which time zone Qlik ends the day is unknown; UTC is our choice, at most 14 hours off.
    """
    not_understood: tuple[str, ...]
    """Every `Valid To` that names no unambiguous day."""
    named: bool
    """Whether there is a `Valid To` at all."""
    other_name: str
    """Without a `Valid To`: the words that may mean the same, such as `Expires`."""


def ending_of(details: str) -> Ending:
    """The end that `keyDetails` names."""
    spelled = [found[1].strip(" \t'\"") for found in _VALID_TO.finditer(details)]
    days, not_understood = [], []
    for text in spelled:
        day = day_of(text)
        if text.lower() in _PERPETUAL_WORDS or (day and day.year == PERPETUAL_YEAR):
            continue
        if day and FIRST_YEAR <= day.year <= LAST_YEAR:
            days.append(day)
        else:
            not_understood.append(text)
    other = None if spelled else _OTHER_ENDING.search(details)
    return Ending(
        at=_last_second(min(days)) if days else None,
        not_understood=tuple(not_understood),
        named=bool(spelled),
        other_name=other[1] if other else "",
    )


def _last_second(day: date) -> float:
    return (datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1, seconds=-1)).timestamp()


# --- days as people write them ---------------------------------------------------------------------------------------

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TIME = (
    r"(?:(?:\s*T|,?\s+)\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:\s*[ap]\.?m\.?)?)?"
    r"(?:\s*(?:Z|UTC|GMT))?(?:\s*[+-]\d{2}:?\d{2})?(?:\s*\([^)]*\))?"
)
_SPELLINGS = tuple(
    re.compile(spelling + _TIME, re.IGNORECASE | re.ASCII)
    for spelling in (
        r"(?P<year>\d{4})(?P<separator>[-/.])(?P<month>\d{1,2})(?P=separator)(?P<day>\d{1,2})",  # 2026-12-31
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",  # 20261231
        r"(?P<first>\d{1,2})(?P<separator>[-/.])(?P<second>\d{1,2})(?P=separator)(?P<year>\d{4})",  # 31/12/2026
        _WEEKDAY + _DAY + r"[-/.,\s]+" + _MONTH + r"[-/.,\s]+(?P<year>\d{4})",  # 31 December 2026, 31-Dec-2026
        _WEEKDAY + _MONTH + r"\s*" + _DAY + r",?\s+(?P<year>\d{4})",  # December 31, 2026
    )
)


def day_of(text: str) -> date | None:
    """The day in `text`, as written (ignoring a time or zone after it); None if it is ambiguous.

    `31/12/2026` and `12/31/2026` have only one meaning; `05/06/2026` can be May or June and is not accepted.
    """
    for spelling in _SPELLINGS:
        if found := spelling.fullmatch(text.strip()):
            parts = found.groupdict()
            if "first" in parts:
                days = {
                    _date(parts["year"], parts["second"], parts["first"]),
                    _date(parts["year"], parts["first"], parts["second"]),
                } - {None}
                return days.pop() if len(days) == 1 else None
            month = parts["month"][:3].lower()
            return _date(parts["year"], str(_MONTHS.index(month) + 1) if month in _MONTHS else month, parts["day"])
    return None


def _date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
