"""Shortens the times in the shipped alerting rules, so that days pass in seconds. Pure."""

import re

SHORTEST_RANGE = 10.0
"""Seconds: a range must contain several scrapes, and the shortest scrape interval is one second."""
SHORTEST_STEP = 1.0
"""Seconds between the samples of a subquery, for the same reason."""
SHORTEST_WAIT = 2.0
"""Seconds: one bad scrape or probe must not be an alert."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WAIT = re.compile(r"^(\s+(?:for|keep_firing_for): )(\d+)(ms|s|m|h|d)$", re.MULTILINE)
_RANGE = re.compile(r"\[(\d+)(m|h|d)(?::(\d+)(m|h|d))?\]")
_OFFSET = re.compile(r"\b(offset )(\d+)(h|d)\b")
_SPAN = re.compile(r"\b(\d+) \* (3600|86400)\b")


def scaled(rules_yaml: str, factor: float) -> str:
    """`rules_yaml` with every `for:`, every range and step in minutes, hours or days, every offset in hours or days,
    and every `N * 3600` and `N * 86400` multiplied by `factor`.

    The rules in `deploy/prometheus/` write durations of Qlik's processes in these units. Durations in seconds are about
    the exporter itself, which does not become faster, and are kept. With a grace of 60 s instead of 5 days the factor
    is 60 / 432000. The texts of the alerts still name the real times.
    """

    def shortened(number: str, unit: str, shortest: float) -> str:
        seconds = int(number) * _UNITS[unit]
        return f"{round(max(seconds * factor, min(shortest, seconds)) * 1000)}ms"

    text = _WAIT.sub(lambda found: found[1] + shortened(found[2], found[3], SHORTEST_WAIT), rules_yaml)
    text = _RANGE.sub(
        lambda found: (
            f"[{shortened(found[1], found[2], SHORTEST_RANGE)}"
            f"{':' + shortened(found[3], found[4], SHORTEST_STEP) if found[3] else ''}]"
        ),
        text,
    )
    text = _OFFSET.sub(lambda found: found[1] + shortened(found[2], found[3], SHORTEST_RANGE), text)
    return _SPAN.sub(lambda found: f"{int(found[1]) * int(found[2]) * factor:g}", text)
