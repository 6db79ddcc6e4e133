"""`drill ALERT… | --all --alertmanager URL`: sends an alert as an exercise, and reports what Alertmanager did with it.

This relies on Alertmanager 0.25, as tests/test_drill.py shows: it reports receivers and state before `group_wait` is
over, removes an alert immediately once its end time has passed, and notifies immediately of one that began longer ago
than `group_wait`.
"""

import argparse
import difflib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from exporter.assets import asset
from exporter.commands.alertmanager import Alertmanager, AlertmanagerError, NotTakenError
from exporter.commands.routing import Route, Routing, RoutingError
from exporter.commands.terminal import Paint, complain
from exporter.config import Config
from exporter.printable import printable

DONE, FAILED, UNUSABLE = 0, 1, 2
RULES = "deploy/prometheus/qlik-license.rules.yml"
RULES_TESTS = "deploy/prometheus/tests"
INSTANCE = "localhost:10188"
"""The label `instance` of a drill, so that the runbook link leads to a node."""
TARGETS = {"backend": "license.qlikcloud.com:443", "repository": "localhost:4242"}
"""The label `target` of a drill, by its `role`."""
SITE = "drill"
"""The default site of a drill: not a real one, so that no real alert has the same labels."""
LASTS = timedelta(minutes=5)
"""After that time a drill ends by itself, even if this command is killed; later only if `group_wait` is longer."""
SHORTEST_WAIT = 3.0
"""Seconds of `group_wait` below which the withdrawal could come too late."""


class Drill(NamedTuple):
    """One alert to be sent."""

    labels: dict[str, str]
    annotations: dict[str, str]

    def __str__(self) -> str:
        return f"{self.labels['alertname']} ({self.labels['severity']})"


class DrillError(Exception):
    """A drill cannot be sent, or it failed: `str()` says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("alerts", nargs="*", metavar="ALERT", help="the alert's name, as in QlikLicenseStale")
    parser.add_argument("--all", action="store_true", help="every alert of the rules")
    parser.add_argument(
        "--alertmanager", metavar="URL", help="address of Alertmanager; https://user:password@host where it has a login"
    )
    parser.add_argument("--site", default=SITE, metavar="NAME", help=f"the label `site` (default: {SITE})")
    parser.add_argument("--page", action="store_true", help="do not withdraw it: the receivers are notified")
    parser.add_argument("--yes", action="store_true", help="send without asking")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Send, report, withdraw: 0. 1 if that failed, would do harm or was declined; 2 for invalid arguments, or if there
    is no terminal to ask at.
    """
    try:
        drills = _chosen(arguments)
        alertmanager = Alertmanager(arguments.alertmanager)
    except (DrillError, AlertmanagerError) as error:
        complain(f"drill: {error}")
        return UNUSABLE
    try:
        routing = alertmanager.routing()
        routes = {id(drill): routing.routes(drill.labels, alertmanager.now()) for drill in drills}
        _refuse_harm(drills, routes, routing, alertmanager, arguments.page)
    except RoutingError as error:
        complain(f"drill: the configuration that {alertmanager} serves is not understood: {error}. Nothing was sent")
        return FAILED
    except (DrillError, AlertmanagerError) as error:
        complain(f"drill: {error}. Nothing was sent")
        return FAILED
    if not arguments.yes:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            complain("drill: nothing was sent: without a terminal to ask at, --yes is needed")
            return UNUSABLE
        if not _consent(drills, routes, alertmanager, arguments.page):
            print("Nothing was sent.")
            return FAILED
    try:
        return _exercise(drills, routes, alertmanager, arguments.page)
    except (DrillError, AlertmanagerError) as error:
        complain(f"drill: {error}")
        return FAILED


# --- what is sent


def _chosen(arguments: argparse.Namespace) -> list[Drill]:
    if not arguments.alertmanager:
        raise DrillError("expected --alertmanager URL")
    if bool(arguments.alerts) == arguments.all:
        raise DrillError("expected the name of an ALERT or --all, and not both")
    if not arguments.site.strip():
        raise DrillError("--site: found nothing, expected a name")
    drills = shipped_drills(arguments.site)
    known = list(dict.fromkeys(drill.labels["alertname"] for drill in drills))
    for name in arguments.alerts:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), [one.lower() for one in known], 1, cutoff=0.5)
            meant = [one for one in known if one.lower() in near]
            hint = f"did you mean `{meant[0]}`?" if meant else "docs/alerts.md lists them"
            raise DrillError(f"unknown alert `{name}`; {hint}")
    return [drill for drill in drills if arguments.all or drill.labels["alertname"] in arguments.alerts]


def shipped_drills(site: str) -> list[Drill]:
    """Every alert of the shipped rules as a drill, in their order."""
    rules = [rule for group in yaml.safe_load(asset(RULES).read_text("utf-8"))["groups"] for rule in group["rules"]]
    labels = _labels_in_tests()
    return [_drill(rule, labels[rule["alert"], rule["labels"]["severity"]], site) for rule in rules if "alert" in rule]


def _labels_in_tests() -> dict[tuple[str, str], dict[str, str]]:
    """The labels of each alert, by name and severity, as the rule tests expect them."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for file in sorted(asset(RULES_TESTS).glob("*.yml")):
        for text in re.findall(r"labels: '?ALERTS\{(.*)\}", file.read_text("utf-8")):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
            del labels["alertstate"]
            if "site" in labels or labels["alertname"] == "QlikLicenseTargetWithoutSite":
                found.setdefault((labels["alertname"], labels["severity"]), labels)
    return found


def _drill(rule: dict[str, Any], labels: dict[str, str], site: str) -> Drill:
    labels = {**labels, "site": site, "drill": "true"}
    if "instance" in labels:
        labels["instance"] = INSTANCE
    if "target" in labels:
        labels["target"] = TARGETS.get(labels.get("role", ""), labels["target"])
    annotations = {name: rendered(text, labels) for name, text in rule["annotations"].items()}
    annotations["summary"] = f"DRILL: {annotations['summary']}"
    annotations["description"] = (
        "This is a drill: nothing is wrong, and nothing needs to be done. "
        f"A real alert would say: {annotations['description']}"
    )
    return Drill(labels, annotations)


def rendered(text: str, labels: Mapping[str, str]) -> str:
    """An annotation of the shipped rules as Prometheus would render it, except for what only Prometheus knows: a figure
    is shown as `(figure)`, and a query has no result.
    """
    parts = iter(re.split(r"(\s*\{\{- .*?\}\}|\{\{.*?\}\})", text, flags=re.DOTALL))
    return _block(parts, labels, "", shown=True)[0]


def _block(parts: Iterator[str], labels: Mapping[str, str], dot: str, shown: bool) -> tuple[str, str]:
    """The text up to the `else` or `end` of this block, and which of them ended it."""
    written: list[str] = []
    for part in parts:
        if "{{" not in part:
            written.append(part)
            continue
        action = part.strip(" \n{}-")
        if action in ("else", "end"):
            return "".join(written), action
        word, _, rest = action.partition(" ")
        if word in ("with", "if"):
            value = _value(rest, labels, dot)
            chosen, ended = _block(parts, labels, value if word == "with" else dot, shown)
            other = _block(parts, labels, dot, shown)[0] if ended == "else" else ""
            written.append(chosen if value else other)
        else:
            written.append(_value(action, labels, dot))
    return "".join(written), ""


def _value(expression: str, labels: Mapping[str, str], dot: str) -> str:
    """The value of a template expression; an empty text is false."""
    if "query" in expression.split() or expression.startswith("lt $value"):
        return ""
    if "$value" in expression or "|" in expression:
        return "(figure)"
    word, _, rest = expression.partition(" ")
    if word == "urlquery":
        return quote(_value(rest, labels, dot), safe="")
    if word == "or":
        return next(filter(None, (_value(one, labels, dot) for one in rest.split())), "")
    if word.startswith("$labels."):
        return labels.get(word.removeprefix("$labels."), "")
    return dot if word == "." else word.strip('"')


# --- sent, seen, withdrawn

Routes = Mapping[int, Sequence[Route]]
"""By the `id` of the drill."""


def _refuse_harm(
    drills: Sequence[Drill], routes: Routes, routing: Routing, alertmanager: Alertmanager, page: bool
) -> None:
    """Raises DrillError if a drill would mute a real alert or cause an unwanted notification."""
    for drill in drills:
        if sources := routing.inhibitions_from(drill.labels):
            raise DrillError(
                f"{drill} would mute real alerts by the inhibition rule with the source {sources[0]}: "
                'add drill="" to the source_matchers of this rule'
            )
    if page:
        return
    for drill in drills:
        for route in routes[id(drill)]:
            if route.group_wait < SHORTEST_WAIT:
                raise DrillError(
                    f"{drill} could not be withdrawn in time: group_wait of its route is {route.group_wait:g}s. "
                    "With --page it is sent and its receivers are notified"
                )
    others = [(one["labels"], routing.routes(one["labels"], alertmanager.now())) for one in alertmanager.alerts()]
    for drill in drills:
        for route in routes[id(drill)]:
            for labels, its_routes in others:
                if any(one.path == route.path for one in its_routes) and route.same_group(drill.labels, labels):
                    raise DrillError(
                        f"{drill} would be in one message with a firing {labels.get('alertname', 'alert')}, whose "
                        "receivers would be notified again: add `drill` to group_by of the route, or use another --site"
                    )


def _consent(drills: Sequence[Drill], routes: Routes, alertmanager: Alertmanager, page: bool) -> bool:
    """Whether the person at the terminal agrees."""
    print(f"To {alertmanager}, site {printable(drills[0].labels['site'])}:")
    for drill in drills:
        print(f"  {drill}: {_routes_in_words(routes[id(drill)])}")
    print("The receivers WILL be notified." if page else "Withdrawn at once: nobody is notified.")
    question = f"Send {len(drills)} alert{'s' * (len(drills) > 1)}? [y/N] "
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _exercise(drills: Sequence[Drill], routes: Routes, alertmanager: Alertmanager, page: bool) -> int:
    longest = max((route.group_wait for each in drills for route in routes[id(each)]), default=0.0)
    starts = alertmanager.now()
    ends = starts + max(LASTS, timedelta(seconds=2 * longest))
    sent = time.monotonic()
    taken = True
    try:
        try:
            alertmanager.send(drills, starts, ends)
        except NotTakenError:
            taken = False
            raise
        seen = alertmanager.alerts('drill="true"')
    finally:  # also after Ctrl-C, and where the answer to the first was lost
        if taken and not page:
            _withdraw(drills, routes, alertmanager, starts, ends, sent)
    held = {tuple(sorted(one["labels"].items())): one for one in seen}
    missing = 0
    paint = Paint(sys.stdout)
    for drill in drills:
        alert = held.get(tuple(sorted(drill.labels.items())))
        print(paint(str(drill), "bold"))
        print(printable(f"  labels: {', '.join(f'{name}={value}' for name, value in drill.labels.items())}"))
        if alert is None:
            missing += 1
            print("  Alertmanager does not show it")
            continue
        for line in _found(alert, routes[id(drill)]):
            print(f"  {printable(line)}")
    if page:
        print(f"Not withdrawn: the receivers are notified. It ends by itself at {ends:%H:%M:%S} UTC.")
    else:
        print(f"Withdrawn after {time.monotonic() - sent:.1f} s, before group_wait was over: nobody was notified.")
    print("Routes and mute times are computed from the configuration that Alertmanager serves. Delivery is not shown.")
    return FAILED if missing else DONE


def _withdraw(
    drills: Sequence[Drill], routes: Routes, alertmanager: Alertmanager, starts: datetime, ends: datetime, sent: float
) -> None:
    shortest = min((route.group_wait for each in drills for route in routes[id(each)]), default=0.0)
    try:
        for attempt in range(2):
            try:
                alertmanager.send(drills, starts, starts)
                break
            except AlertmanagerError:
                if attempt:
                    raise
    except AlertmanagerError as error:
        raise DrillError(
            f"NOT withdrawn, somebody may be notified: {error}. It ends by itself at {ends:%H:%M:%S} UTC"
        ) from None
    if time.monotonic() - sent >= shortest - 1:
        raise DrillError(f"withdrawn late, group_wait is {shortest:g}s: somebody may have been notified")


def _found(alert: dict[str, Any], routes: Sequence[Route]) -> Iterator[str]:
    """What Alertmanager shows of a drill, and what is computed."""
    status = alert.get("status") or {}
    names = [str(one.get("name")) for one in alert.get("receivers") or []]
    yield f"receivers: {', '.join(names) or 'none'}"
    yield f"state: {status.get('state', 'not shown')}"
    if status.get("silencedBy"):
        yield f"silenced by: {', '.join(map(str, status['silencedBy']))}"
    if status.get("inhibitedBy"):
        yield f"inhibited by: {', '.join(map(str, status['inhibitedBy']))} (the fingerprint of a firing alert)"
    if status.get("mutedBy"):
        yield f"muted by: {', '.join(map(str, status['mutedBy']))}"
    yield f"route (computed): {_routes_in_words(routes)}"
    if sorted(names) != sorted({route.receiver for route in routes}):
        yield "the computed route disagrees with the receivers: do not trust it"


def _routes_in_words(routes: Sequence[Route]) -> str:
    return "; ".join(
        printable(f"{route.path} -> {route.receiver}, group_wait {route.group_wait:g}s, ")
        + (f"MUTED NOW by {printable(', '.join(route.muted))}" if route.muted else "no mute time now")
        for route in routes
    )
