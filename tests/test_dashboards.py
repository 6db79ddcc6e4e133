"""The Grafana boards: fresh, well-formed, true to the metrics and the alerts, and alive on a real Prometheus."""

import io
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import believable_site
import promql_parser
import pytest
import yaml
from shipped import conditions, parsed, rules

from exporter.metrics import METRICS
from exporter.verdict import LIMITS, VERDICTS
from exporter.verdict.limits import DAY, HOUR, USUAL_GRACE
from grafana import build, limits, queries, style, verdicts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
GRAFANA = ROOT / "grafana"
BOARDS = {name: json.loads(text) for name, text in build.boards().items()}
SCHEMA = json.loads((Path(__file__).parent / "grafana_dashboard_schema.json").read_text(encoding="utf-8"))
LARGEST_PICTURE = 200 * 1024
SCREEN_COLUMNS = 24


def shipped_alerts() -> dict[str, list[dict[str, Any]]]:
    """The alerting rules by name; a name can have several severities."""
    alerts: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "deploy/prometheus").glob("*.rules.yml")):
        for group in parsed(path)["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    alerts.setdefault(rule["alert"], []).append(rule)
    return alerts


ALERTS = shipped_alerts()
KNOWN_UNITS = {"none", "short", "percentunit", "s", "d", "bytes", "string", style.DAY_UNIT}
"""Those of Grafana's unit names that the boards use: a misspelt one would show as text."""

every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(board: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in panels(board) for target in panel["targets"]]


def variable(board: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in board["templating"]["list"] if each["name"] == name)


def filled_in(expression: str, rate_interval: str = "5m", interval: str = "1m", all_sites: str = ".*") -> str:
    """The expression as Grafana sends it."""
    texts = {
        "$__rate_interval": rate_interval,
        "$__interval": interval,
        "$job": believable_site.JOB,
        "$site": all_sites,
        "$instance": ".+",
    }
    for name, text in texts.items():
        expression = expression.replace(name, text)
    assert "$" not in expression, f"an unknown variable in {expression}"
    return expression


def expressions(board: dict[str, Any]) -> list[tuple[str, str]]:
    marks = [(mark["name"], mark["expr"]) for mark in board["annotations"]["list"]]
    return [(title, target["expr"]) for title, target in targets(board)] + marks


def walk(node: Any, parents: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node of a PromQL expression, with those above it."""
    yield node, parents
    below = (*parents, node)
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield from walk(child, below)
    for child in getattr(node, "args", None) or ():
        yield from walk(child, below)


def selectors(expression: str) -> list[tuple[Any, tuple[Any, ...]]]:
    tree = promql_parser.parse(filled_in(expression))
    return [(node, above) for node, above in walk(tree) if isinstance(node, promql_parser.VectorSelector)]


def colours(value: Any) -> Iterator[dict[str, Any]]:
    """Every value mapping's result within a panel."""
    if isinstance(value, dict):
        if "color" in value and "index" in value:
            yield value
        for each in value.values():
            yield from colours(each)
    elif isinstance(value, list):
        for each in value:
            yield from colours(each)


def test_the_committed_json_is_what_the_sources_generate() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (GRAFANA / "dashboards").glob("*.json")}
    assert committed == build.boards(), "run: python -m grafana.build"


@every_board
def test_a_board_has_no_key_that_grafana_does_not_know(board: dict[str, Any]) -> None:
    import jsonschema  # here, as it takes two seconds of every run that only collects this module

    copy = json.loads(json.dumps(board))
    for mark in copy["annotations"]["list"]:
        del mark["expr"]  # the Prometheus data source's own key, which Grafana's schema leaves to it
    jsonschema.validate(copy, SCHEMA)
    assert board["schemaVersion"] == 41


@every_board
def test_a_board_is_read_only_and_chooses_its_data_source(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    source = variable(board, "datasource")
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")


@every_board
@pytest.mark.parametrize("name", ["job", "site", "instance"])
def test_a_board_chooses_jobs_sites_and_nodes(board: dict[str, Any], name: str) -> None:
    chosen = variable(board, name)
    assert chosen["type"] == "query"
    assert chosen["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert chosen["label"] == name.title()
    assert chosen["refresh"] == 2, "2: when the time range changes"
    query = re.fullmatch(r"label_values\((.+), \w+\)", chosen["query"]["query"])
    assert query is not None
    promql_parser.parse(filled_in(query[1]))
    if name != "site":  # the health board is about one site
        assert (chosen["multi"], chosen["allValue"]) == (True, ".+")


@every_board
def test_every_panel_says_what_it_shows_in_which_unit_and_what_no_data_means(board: dict[str, Any]) -> None:
    for panel in panels(board):
        title, defaults = panel["title"], panel["fieldConfig"]["defaults"]
        assert len(panel["description"]) > 20, title
        assert panel["description"].endswith("."), title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title
        assert defaults["noValue"], title
        units = [defaults["unit"]] + [
            each["value"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "unit"
        ]
        assert set(units) <= KNOWN_UNITS, title
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in panels(board)}) == len(panels(board))


@every_board
def test_panels_fill_the_grid_and_do_not_overlap(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= SCREEN_COLUMNS, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == SCREEN_COLUMNS * height, "a hole between panels"


@every_board
def test_a_colour_never_stands_alone(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for result in colours(panel["fieldConfig"]):
            assert result["text"], panel["title"]


@every_board
def test_every_selector_follows_job_site_and_instance(board: dict[str, Any]) -> None:
    for title, expression in expressions(board):
        for selector, _ in selectors(expression):
            matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert matchers.get("job") == believable_site.JOB, f"{title}: {selector}"
            assert matchers.get("site") == ".*", f"{title}: {selector}"
            of_a_site = selector.name == "ALERTS" or selector.name.startswith("job_site:")  # these have no instance
            everyone = ".+|" if of_a_site else ".+"
            assert matchers.get("instance") == everyone, f"{title}: {selector}"


@every_board
def test_a_counter_is_only_read_by_its_increase_and_rates_use_the_rate_interval(board: dict[str, Any]) -> None:
    for title, expression in expressions(board):
        assert not re.search(r"\bi?rate\((?![^\[]*\[\$__rate_interval\])", expression), title
        for selector, above in selectors(expression):
            if selector.name.endswith("_total"):
                assert isinstance(above[-1], promql_parser.MatrixSelector), f"{title}: {selector}"
                assert above[-2].func.name in {"rate", "increase"}, f"{title}: {selector}"


@every_board
def test_the_boards_link_to_each_other_and_to_the_runbooks(board: dict[str, Any]) -> None:
    assert style.TAG in board["tags"]
    boards, runbooks = board["links"]
    assert (boards["type"], boards["tags"], boards["includeVars"], boards["keepTime"]) == (
        "dashboards",
        ["qlik-license"],
        True,
        True,
    )
    assert runbooks["url"] == "${runbooks}/"
    address = variable(board, "runbooks")
    assert (address["query"]["query"], address["hide"], address["skipUrlSync"]) == (style.RUNBOOKS, 2, True)


def test_the_runbooks_of_a_board_are_those_that_an_exporter_of_its_sites_serves(prometheus: str) -> None:
    """As Grafana reads the variable: the samples of the query as text, of which the first match is taken."""
    address = variable(BOARDS["qlik-license-health.json"], "runbooks")
    query = re.fullmatch(r"query_result\((.*)\)", address["query"]["query"])
    assert query is not None
    found = ask(
        prometheus,
        "query",
        query=filled_in(query[1].replace("$1", "€1")).replace("€1", "$1"),
        time=str(believable_site.NOW),
    )["result"]
    assert found
    for sample in found:
        text = "{" + ",".join(f'{name}="{value}"' for name, value in sample["metric"].items()) + "}"
        match = re.search(address["regex"].strip("/"), text)
        assert match is not None
        assert match[1] == f"http://{sample['metric']['instance']}/runbooks"


def test_the_rows_of_the_fleet_board_lead_to_their_health_boards() -> None:
    links = [
        link["url"]
        for panel in panels(BOARDS["qlik-license-fleet.json"])
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
        if not link["url"].startswith("${runbooks}")
    ]
    assert len(links) == 2, "one of the sites, one of the nodes"
    for link in links:
        assert link.startswith(f"/d/{BOARDS['qlik-license-health.json']['uid']}?")
        assert "var-site=${__" in link


@every_board
def test_every_runbook_that_a_panel_links_to_is_that_of_a_shipped_alert(board: dict[str, Any]) -> None:
    links = [link["url"] for panel in panels(board) for link in panel["links"]]
    assert links
    for link in links:
        page = re.fullmatch(r"\$\{runbooks\}/(\w+)", link)
        assert page is not None, link
        assert page[1] in ALERTS, link
        assert (ROOT / "deploy/runbooks" / f"{page[1]}.md").is_file(), link


@every_board
def test_a_board_shows_the_firing_alerts_of_its_sites_the_worst_first_each_with_its_runbook(
    prometheus: str, board: dict[str, Any]
) -> None:
    (panel,) = [panel for panel in panels(board) if panel["title"] == "Alerts firing now"]
    found = answer(prometheus, panel["targets"][0]["expr"], instant=True)
    ranks = [float(sample["value"][1]) for sample in found]
    assert set(ranks) == {1, 2, 3}, "info is shown, too"
    assert ranks == sorted(ranks, reverse=True)
    links = [
        link["url"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
    ]
    assert links == ["${runbooks}/${__value.text}"]


UNUSED: dict[str, str] = {}
"""Metrics that neither a rule nor a board nor a runbook uses, with the reason."""


def test_every_metric_is_used_by_a_rule_a_board_or_a_runbook_or_has_a_reason() -> None:
    places = [*(ROOT / "deploy/prometheus").glob("*.rules.yml"), *(GRAFANA / "dashboards").glob("*.json")]
    places += (ROOT / "deploy/runbooks").glob("*.md")
    text = "".join(place.read_text(encoding="utf-8") for place in places)
    unused = {name for name in METRICS if not re.search(rf"(?<![\w:]){name}(?!\w)", text)}
    assert unused == set(UNUSED)


def test_every_alert_leads_to_a_board_that_tells_of_it() -> None:
    uids = {board["uid"]: board for board in BOARDS.values()}
    for name, same in ALERTS.items():
        for rule in same:
            path = urllib.parse.urlsplit(rule["annotations"]["dashboard_url"].partition("?")[0]).path
            board = uids[path.removeprefix("/d/")]
            links = {link["url"] for panel in panels(board) for link in panel["links"]}
            assert f"${{runbooks}}/{name}" in links, f"{name}: no panel of {board['uid']} links to its runbook"


@pytest.mark.parametrize(
    ("alert", "comparison"),
    [
        ("QlikLicenseLockoutImminent", f"< {LIMITS.lockout_near / HOUR:.0f} * 3600"),
        ("QlikLicenseSyncOverdue", f"> {LIMITS.overdue / HOUR:.0f} * 3600"),
        ("QlikLicenseContactLost", f"> {LIMITS.overdue / HOUR:.0f} * 3600"),
        ("QlikLicenseLogSilent", f"> {LIMITS.overdue / HOUR:.0f} * 3600"),
        ("QlikLicenseBackendFlapping", f"[6h]) < {LIMITS.flapping_share}"),
        ("QlikLicenseAccessDenied", f">= {LIMITS.denied_users}"),
        ("QlikLicenseClockSkew", f"> {LIMITS.clock_skew:.0f}"),
        ("QlikLicenseExpiringSoon", f"< {LIMITS.expiring[0] / DAY:.0f} * 86400"),
        ("QlikLicenseExpiringSoon", f"< {LIMITS.expiring[1] / DAY:.0f} * 86400"),
        ("QlikLicenseExpiringSoon", f"< {LIMITS.expiring[2] / DAY:.0f} * 86400"),
        ("QlikLicenseCapacityNearlyExhausted", f"> {LIMITS.capacity_share}"),
        ("QlikLicenseLogUnreadable", f"> {LIMITS.unread:.0f}"),
        ("QlikLicenseCertificateExpiring", f"< {limits.CERTIFICATE_EXPIRING_SECONDS / DAY:.0f} * 86400"),
        ("QlikLicenseSeatsNearlyExhausted", f"< {1 - limits.SEATS_NEARLY_EXHAUSTED_RATIO:.1f}"),
        ("QlikLicenseLogLagging", f"> {limits.LOG_UNREAD_BYTES:.0f}"),
        ("QlikLicenseStateNotSaved", f"> {limits.STATE_NOT_SAVED_SECONDS:.0f}"),
        ("QlikLicenseRemoteWriteFailing", f"> {limits.REMOTE_WRITE_WAITING_SECONDS:.0f}"),
    ],
)
def test_a_limit_that_is_drawn_is_that_of_the_alert(alert: str, comparison: str) -> None:
    assert any(comparison in condition for condition in conditions(alert))


def test_the_health_board_marks_stale_verdicts_and_failed_syncs() -> None:
    marks = {mark["name"] for mark in BOARDS["qlik-license-health.json"]["annotations"]["list"]}
    assert marks == {"Stale license", "Sync failed"}


def test_every_verdict_has_a_rank_a_text_and_a_colour() -> None:
    assert set(verdicts.TEXTS) == set(verdicts.RANKS) == {*VERDICTS, verdicts.EXPORTER_DOWN}
    assert len({text for text, _ in verdicts.TEXTS.values()}) == len(verdicts.TEXTS)
    assert len(verdicts.WORDS) == len(verdicts.TEXTS)
    assert verdicts.RANKS["well"] == 1
    assert max(verdicts.RANKS, key=verdicts.RANKS.__getitem__) == "license_stale"


def test_grafana_finds_the_boards_and_its_data_source_where_it_is_provisioned() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    scraping = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (prometheus,) = source["datasources"]
    assert (prometheus["type"], prometheus["isDefault"]) == ("prometheus", True)
    assert prometheus["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"], "of which rates take four"
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/qlik-license.yml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((ROOT / "deploy/compose.yml").read_text(encoding="utf-8"))
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["../grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    assert urllib.parse.urlsplit(prometheus["url"]).hostname in compose["services"]


def test_the_pictures_are_small_and_shown_in_the_documentation() -> None:
    pictures = list((GRAFANA / "pictures").iterdir())
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), GRAFANA / "README.md"]
    shown = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size <= LARGEST_PICTURE, picture.name
        assert f"pictures/{picture.name}" in shown, picture.name


PROMETHEUS_OWN = {
    metric.name
    for metric in (
        queries.UP,
        queries.ALERTS,
        queries.SCRAPE_DURATION,
        queries.MEMORY,
        queries.PROCESSOR,
        queries.SEATS_RUN_OUT,
        queries.MINUTES_RUN_OUT,
    )
}


@every_board
def test_every_metric_and_label_of_a_board_is_one_that_the_exporter_promises(board: dict[str, Any]) -> None:
    for title, expression in expressions(board):
        for selector, _ in selectors(expression):
            if selector.name in PROMETHEUS_OWN:
                continue
            labels = METRICS[selector.name].labels
            for matcher in selector.matchers.matchers:
                if matcher.name not in {"job", "site", "instance"}:
                    values = labels[matcher.name]
                    assert values is None or matcher.value in values, f"{title}: {selector}"


def test_every_recording_of_a_board_is_one_of_the_shipped_rules() -> None:
    used = {
        name
        for board in BOARDS.values()
        for _, text in expressions(board)
        for name in re.findall(r"job_site:[\w:]+", text)
    }
    assert used
    assert used <= {rule.get("record") for rule in rules()}


def test_a_selector_of_what_never_exists_is_refused() -> None:
    with pytest.raises(ValueError, match="never has role=back-end"):
        queries.selector(METRICS["qlik_license_probe_success"], role="back-end")
    with pytest.raises(KeyError):
        queries.selector(METRICS["qlik_license_stale"], role="backend")


def test_the_story_tells_only_what_the_exporter_can_say() -> None:
    told = set()
    for node in believable_site.estate():
        for name, labels, _ in believable_site.samples(node, believable_site.NOW - 30 * believable_site.MINUTE):
            told.add(name)
            if name in PROMETHEUS_OWN:
                continue
            promised = METRICS[name].labels
            assert set(labels) == set(promised), name
            for label, value in labels.items():
                values = promised[label]
                assert values is None or value in values, f"{name}: {label}={value}"
    assert told == {*METRICS, *PROMETHEUS_OWN}


# --- on a real Prometheus ----------------------------------------------------------------------------------------------

STORY_HOURS = 16
STORY_STEP = 120
READY_WITHIN = 30.0


def installed(program: str) -> str:
    path = shutil.which(program)
    assert path, f"{program} is missing: install Debian's package prometheus"
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(base: str, path: str, **parameters: str) -> Any:
    body = urllib.parse.urlencode(parameters).encode()
    with urllib.request.urlopen(f"{base}/api/v1/{path}", body, timeout=30) as answer:
        return json.load(answer)["data"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that holds the last hours of the story; gives its address."""
    folder = tmp_path_factory.mktemp("prometheus")
    story = io.StringIO()
    believable_site.write_openmetrics(story, STORY_HOURS * believable_site.HOUR, STORY_STEP)
    (folder / "story.om").write_text(story.getvalue(), encoding="utf-8", newline="\n")
    backfill = [installed("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=54h"]
    subprocess.run([*backfill, folder / "story.om", folder / "data"], check=True, capture_output=True, timeout=100)
    (folder / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
    base = f"http://127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [
            installed("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=20y",
            f"--web.listen-address={base.removeprefix('http://')}",
            "--log.level=error",
        ]
    )
    try:
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                urllib.request.urlopen(f"{base}/-/ready", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "Prometheus ended"
                assert time.monotonic() < deadline, "Prometheus was not ready in time"
                time.sleep(0.05)
        yield base
    finally:
        server.terminate()
        server.wait(20)


def answer(base: str, expression: str, *, instant: bool) -> list[Any]:
    """The series that an expression gives at the end of the story, or over its last hours."""
    query = filled_in(expression, rate_interval=f"{4 * STORY_STEP}s", interval="600s")
    if instant:
        result = ask(base, "query", query=query, time=str(believable_site.NOW))["result"]
    else:
        start = believable_site.NOW - STORY_HOURS * believable_site.HOUR
        window = {"start": str(start), "end": str(believable_site.NOW), "step": "600"}
        result = ask(base, "query_range", query=query, **window)["result"]
    assert isinstance(result, list)
    return result


@every_board
def test_every_query_of_every_panel_finds_data_in_an_incident(prometheus: str, board: dict[str, Any]) -> None:
    empty = [
        (title, target["refId"])
        for title, target in targets(board)
        if not answer(prometheus, target["expr"], instant=target.get("instant", False))
    ]
    assert empty == []


@every_board
def test_every_mark_of_a_board_is_found_in_an_incident(prometheus: str, board: dict[str, Any]) -> None:
    for mark in board["annotations"]["list"]:
        assert answer(prometheus, mark["expr"], instant=False), mark["name"]


@every_board
def test_every_choice_of_a_board_offers_something(prometheus: str, board: dict[str, Any]) -> None:
    for name in ("job", "site", "instance"):
        query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable(board, name)["query"]["query"])
        assert query is not None
        found = ask(prometheus, "series", **{"match[]": filled_in(query[1])})
        assert {series[query[2]] for series in found}, name


def test_the_fleet_board_ranks_a_stale_site_above_one_that_flaps_and_shows_a_node_whose_exporter_is_down(
    prometheus: str,
) -> None:
    series = answer(prometheus, verdicts.RANK_OR_DOWN, instant=True)
    ranks = {each["metric"]["instance"].removesuffix(":10188"): int(each["value"][1]) for each in series}
    assert ranks == {
        "qlik-central": verdicts.RANKS["license_stale"],
        "qlik-rim1": verdicts.RANKS["license_stale"],
        "qlik-rim2": verdicts.RANKS[verdicts.EXPORTER_DOWN],
        "qlik-lyon": verdicts.RANKS["backend_flapping"],
        "qlik-plant": verdicts.RANKS["license_expiring"],
    }


def number(base: str, board: str, title: str, site: str, instance: str = ".+") -> float | None:
    """What a panel with one number shows, or None where it shows its no-data text."""
    (expression,) = (target["expr"] for panel, target in targets(BOARDS[board]) if panel == title)
    expression = expression.replace("$site", site).replace("$instance", instance)
    series = answer(base, expression, instant=True)
    assert len(series) <= 1
    return float(series[0]["value"][1]) if series else None


HEALTH = "qlik-license-health.json"


def test_an_offline_site_has_no_countdown(prometheus: str) -> None:
    assert number(prometheus, HEALTH, "Time until lockout", "zurich") is not None
    assert number(prometheus, HEALTH, "Time until lockout", "plant") is None
    assert number(prometheus, HEALTH, "Since last sync", "plant") is None


def test_the_countdown_counts_from_the_last_good_sync_and_the_grace(prometheus: str) -> None:
    left = number(prometheus, HEALTH, "Time until lockout", "zurich")
    contact_lost = believable_site.PROXY_PASSWORD_CHANGED - believable_site.NOW
    assert left == pytest.approx(contact_lost + USUAL_GRACE, abs=15 * believable_site.MINUTE)


def test_one_silent_exporter_does_not_hide_the_verdict_of_the_others(prometheus: str) -> None:
    assert number(prometheus, HEALTH, "Can users work?", "zurich") == verdicts.RANKS["license_stale"]


def test_a_site_with_silent_exporters_only_is_not_known_but_its_countdown_runs_on(prometheus: str) -> None:
    silent = "qlik-rim2:10188"
    down = verdicts.RANKS[verdicts.EXPORTER_DOWN]
    assert number(prometheus, HEALTH, "Can users work?", "zurich", silent) == down
    assert number(prometheus, HEALTH, "Users refused, 1 h", "zurich", silent) is None
    assert number(prometheus, HEALTH, "Time until lockout", "zurich", silent) == pytest.approx(
        number(prometheus, HEALTH, "Time until lockout", "zurich"), abs=15 * believable_site.MINUTE
    )


def test_a_site_that_nobody_watches_has_no_verdict(prometheus: str) -> None:
    assert number(prometheus, HEALTH, "Can users work?", "nowhere") is None
