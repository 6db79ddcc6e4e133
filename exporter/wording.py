"""Times, durations, counts and lists as text. Pure; always UTC, so that all readers see the same."""

import time
from collections.abc import Sequence

_LONG = 30 * 86400
"""Seconds from which on hours are not shown."""
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"))


def instant(at: float) -> str:
    """`2026-11-02 08:15:30 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def span(seconds: float) -> str:
    """The two largest units: `4 d 2 h`, `26 h`, `15 min`, `40 s`, `0.2 s`."""
    left = abs(seconds)
    if left < 1:
        return f"{left:.1f} s" if left else "0 s"
    if left < 120:
        return f"{left:.0f} s"
    left += 30  # round to whole minutes
    parts = []
    for size, unit in _SPANS:
        if size == 86400 and left < 2 * 86400:  # `26 h` says more than `1 d 2 h` where daily rhythms matter
            continue
        if left >= size:
            parts.append(f"{int(left // size)} {unit}")
            left %= size
        elif parts:
            break
        if len(parts) == 2 or abs(seconds) >= _LONG:
            break
    return " ".join(parts)


def brief(at: float, now: float) -> str:
    """An instant for a narrow column: `08:15:30 (5 min ago)` within a day, else `2026-11-02 08:15`."""
    if abs(now - at) < 86400:
        return f"{time.strftime('%H:%M:%S', time.gmtime(at))} ({ago(at, now)})"
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def ago(at: float, now: float) -> str:
    """`3 h 10 min ago`, `in 2 h`, `just now`."""
    if abs(now - at) < 1:
        return "just now"
    return f"{span(now - at)} ago" if now > at else f"in {span(at - now)}"


def size(length: float) -> str:
    """`12 bytes`, `3.4 kB`, `1,203.0 MB`."""
    if length < 1000:
        return f"{length:.0f} bytes"
    return f"{length / 1e3:,.1f} kB" if length < 1e6 else f"{length / 1e6:,.1f} MB"


def count(number: float, one: str, many: str = "") -> str:
    """`1 user`, `3 users`."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
