"""What an Alertmanager configuration does with an alert: routes, inhibitions, mute times. Pure: it is computed here,
not requested from Alertmanager. Syntax: Alertmanager's configuration page, versions 0.22 and newer.
"""

import calendar
import re
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

Labels = Mapping[str, str]

GROUP_WAIT = 30.0
"""Seconds, if no route sets it (Alertmanager's default)."""
_UNITS = {"y": 31536000, "w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_MATCHER = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"=!~,{}]+))\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",{}]*))\s*(?:,|$)"""
)
_MONTHS = [name.lower() for name in calendar.month_name]
_WEEKDAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]


class RoutingError(Exception):
    """Part of the configuration is not understood, so nothing can be computed from it."""


class Matcher(NamedTuple):
    """One condition on a label; a missing label is an empty one."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Labels) -> bool:
        """Whether the labels match. Raises RoutingError for an expression that Python cannot parse."""
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) == (self.operator == "=")
        try:
            return (re.fullmatch(self.value, found) is not None) == (self.operator == "=~")
        except re.error as error:
            raise RoutingError(f"matcher {self}: {error}") from None

    def __str__(self) -> str:
        return f'{self.label}{self.operator}"{self.value}"'


class Route(NamedTuple):
    """One route that matches the alert."""

    receiver: str
    group_wait: float
    """Seconds until the first message of a group."""
    group_by: tuple[str, ...]
    """`...` means every label."""
    muted: tuple[str, ...]
    """The names of the time intervals that mute it now."""
    path: str
    """The matchers of the routes from the root to this one, as text."""

    def same_group(self, one: Labels, other: Labels) -> bool:
        """Whether both alerts would be in one message."""
        if "..." in self.group_by:
            return dict(one) == dict(other)
        return all(one.get(label, "") == other.get(label, "") for label in self.group_by)


class Routing:
    """A configuration of Alertmanager. Every method raises RoutingError for what it does not understand."""

    def __init__(self, config: object) -> None:
        if not isinstance(config, dict) or not isinstance(config.get("route"), dict):
            raise RoutingError("found no `route`")
        self._root: dict[str, Any] = config["route"]
        self._inhibitions = [rule for rule in config.get("inhibit_rules") or [] if isinstance(rule, dict)]
        self._intervals: dict[str, Any] = {
            str(one["name"]): one.get("time_intervals") or []
            for key in ("time_intervals", "mute_time_intervals")
            for one in config.get(key) or []
        }

    def routes(self, labels: Labels, now: datetime) -> list[Route]:
        """Every route that matches the alert, as with `amtool config routes test`."""
        return list(self._below(self._root, {}, (), labels, now))

    def _below(
        self, node: dict[str, Any], inherited: dict[str, Any], path: tuple[str, ...], labels: Labels, now: datetime
    ) -> Iterator[Route]:
        kept = {key: node[key] for key in ("receiver", "group_wait", "group_by") if node.get(key) is not None}
        if node.get("group_by_all"):
            kept["group_by"] = ["..."]
        settings = {**inherited, **kept}
        found = False
        for child in node.get("routes") or []:
            matchers = _matchers(child, "matchers", "match", "match_re")
            if all(matcher.matches(labels) for matcher in matchers):
                found = True
                step = ", ".join(map(str, matchers)) or "(any)"
                yield from self._below(child, settings, (*path, step), labels, now)
                if not child.get("continue"):
                    break
        if not found:
            wait = settings.get("group_wait")
            yield Route(
                str(settings.get("receiver", "")),
                GROUP_WAIT if wait is None else _seconds(wait),
                tuple(map(str, settings.get("group_by") or ())),
                tuple(self._muting(node, now)),
                " > ".join(path) or "the root route",
            )

    def _muting(self, node: dict[str, Any], now: datetime) -> Iterator[str]:
        for name in node.get("mute_time_intervals") or []:
            if self._within(name, now):
                yield str(name)
        active = node.get("active_time_intervals") or []
        if active and not any(self._within(name, now) for name in active):
            yield f"outside {', '.join(map(str, active))}"

    def _within(self, name: object, now: datetime) -> bool:
        if str(name) not in self._intervals:
            raise RoutingError(f"the time interval `{name}` is not defined")
        return any(_contains(interval, now) for interval in self._intervals[str(name)])

    def inhibitions_from(self, labels: Labels) -> list[str]:
        """The inhibition rules of which the alert would be a source, each as its source matchers."""
        sources = [_matchers(rule, "source_matchers", "source_match", "source_match_re") for rule in self._inhibitions]
        return [", ".join(map(str, source)) for source in sources if all(matcher.matches(labels) for matcher in source)]


def _matchers(node: dict[str, Any], new: str, equal: str, expression: str) -> list[Matcher]:
    found = [matcher for text in node.get(new) or [] for matcher in parse_matchers(str(text))]
    found += [Matcher(str(label), "=", str(value)) for label, value in (node.get(equal) or {}).items()]
    return found + [Matcher(str(label), "=~", str(value)) for label, value in (node.get(expression) or {}).items()]


def parse_matchers(text: str) -> list[Matcher]:
    """The conditions in one entry of `matchers`, as in `{a="b", c=~"d|e"}`. Raises RoutingError."""
    inside = text.strip()
    if inside.startswith("{") and inside.endswith("}"):
        inside = inside[1:-1].strip()
    found, place = [], 0
    while place < len(inside):
        part = _MATCHER.match(inside, place)
        if not part:
            raise RoutingError(f'found the matcher `{text}`, expected label="value"')
        quoted_name, name, operator, quoted, bare = part.groups()
        label = _unquoted(quoted_name) if quoted_name is not None else name
        found.append(Matcher(label, operator, _unquoted(quoted) if quoted is not None else bare))
        place = part.end()
    return found


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def _seconds(text: object) -> float:
    parts = re.findall(r"(\d+)(ms|[ywdhms])", str(text))
    if "".join(number + unit for number, unit in parts) != str(text) and str(text) != "0":
        raise RoutingError(f"found the duration `{text}`, expected one such as 30s")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


# --- time intervals


def _contains(interval: dict[str, Any], now: datetime) -> bool:
    try:
        local = now.astimezone(_zone(interval.get("location")))
        minutes = local.hour * 60 + local.minute
        last = calendar.monthrange(local.year, local.month)[1]
        times = [(_minutes(one["start_time"]), _minutes(one["end_time"])) for one in interval.get("times") or []]
        return (
            (not times or any(start <= minutes < end for start, end in times))
            and _in_ranges(interval.get("weekdays"), local.isoweekday() % 7, _WEEKDAYS)
            and _in_ranges(interval.get("days_of_month"), local.day, (), last)
            and _in_ranges(interval.get("months"), local.month, _MONTHS)
            and _in_ranges(interval.get("years"), local.year)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoutingError(f"a time interval cannot be computed: {error}") from None


def _zone(name: object) -> tzinfo:
    if name in (None, "", "UTC"):
        return UTC
    if name == "Local":
        raise ValueError("`Local` is the time zone of Alertmanager's machine, which it does not tell")
    return zoneinfo.ZoneInfo(str(name))  # ZoneInfoNotFoundError is a KeyError


def _minutes(text: object) -> int:
    if isinstance(text, int):  # YAML 1.1 reads 17:00 as sixties
        return text
    hours, minutes = str(text).split(":")
    return int(hours) * 60 + int(minutes)


def _in_ranges(ranges: object, value: int, names: Sequence[str] = (), last: int = 0) -> bool:
    """Whether `value` is in one of the ranges such as `1:5`, `monday:friday`, `-1`; no range means any."""
    if not ranges:
        return True
    for text in ranges if isinstance(ranges, list) else [ranges]:
        start, _, end = str(text).lower().partition(":")
        low, high = (
            names.index(one) if one in names else int(one) + (last + 1 if int(one) < 0 else 0)
            for one in (start, end or start)
        )
        if low <= value <= high:
            return True
    return False
