"""`drill`, on the real Alertmanager with the shipped routes: what it shows is true, and nobody is notified unasked."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_programs import Webhook, alertmanager, eventually, fetched, free_port, posted
from shipped import ALERTMANAGER, DEPLOY, alerts, output

from exporter.cli import main
from exporter.commands.drill import shipped_drills
from exporter.commands.routing import Routing, RoutingError, parse_matchers

pytestmark = pytest.mark.slow

WAIT = 4
"""Seconds of `group_wait`: longer than a drill takes, short enough to wait for."""


@contextlib.contextmanager
def site(folder: Path, old: str = "", new: str = "") -> Iterator[tuple[str, Webhook]]:
    """An Alertmanager with the shipped routes, whose receivers post to loopback."""
    with Webhook() as hook:
        text = ALERTMANAGER.read_text().replace("http://127.0.0.1:9096", hook.url)
        text = text.replace("templates/", f"{ALERTMANAGER.parent}/templates/")
        text = re.sub(r"group_wait: \d+s", f"group_wait: {WAIT}s", text)
        text = re.sub(r"group_interval: 5m", "group_interval: 1s", text)
        config = folder / "alertmanager.yml"
        config.write_text(text.replace(old, new) if old else text)
        with alertmanager(folder, config) as url:
            yield url, hook


def drill(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["drill", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def held(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(fetched(f"{url}/api/v2/alerts"))
    return found


def fires(url: str, name: str, **labels: str) -> None:
    posted(f"{url}/api/v2/alerts", [{"labels": {"alertname": name, "job": "qlik-license", **labels}}])


def test_a_drill_is_reported_and_withdrawn_and_nobody_is_notified_until_page_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(tmp_path) as (url, hook):
        code, out, err = drill(capsys, "QlikLicenseExpired", "--alertmanager", url, "--yes")
        assert (code, err) == (0, "")
        assert "receivers: pager\n" in out
        assert "state: active\n" in out
        assert f'route (computed): severity="critical" -> pager, group_wait {WAIT}s, no mute time now' in out
        assert "nobody was notified" in out
        assert held(url) == []

        # A second drill with --page, of another alert: when its message has come, the first's would have come, too.
        code, out, err = drill(capsys, "QlikLicenseInvalid", "--alertmanager", f"{url}/", "--yes", "--page")
        assert (code, err) == (0, "")
        assert "the receivers are notified. It ends by itself at" in out
        (alert,) = held(url)
        ends = datetime.fromisoformat(alert["endsAt"].replace("Z", "+00:00"))
        assert timedelta(minutes=4) < ends - datetime.now(UTC) <= timedelta(minutes=5, seconds=1)
        paged = eventually("a page", lambda: hook.alerts("/pager", "QlikLicenseInvalid", "firing"))[0]
        assert paged["labels"]["drill"] == "true"
        assert paged["labels"]["site"] == "drill"
        assert paged["annotations"]["summary"] == "DRILL: Qlik reports the license of drill as invalid"
        assert paged["annotations"]["description"].startswith("This is a drill: nothing is wrong")
        assert paged["annotations"]["runbook_url"] == "http://localhost:10188/runbooks/QlikLicenseInvalid"
        assert [one for one in hook.received if "QlikLicenseExpired" in str(one)] == []


def test_all_goes_through_every_alert_and_mutes_no_real_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with site(tmp_path) as (url, hook):
        fires(url, "QlikLicenseSyncFailing", severity="warning", site="Lyon")
        eventually("a ticket", lambda: hook.alerts("/ticket", "QlikLicenseSyncFailing", "firing"))
        notified = len(hook.received)
        code, out, err = drill(capsys, "--all", "--site", "Lyon", "--alertmanager", url, "--yes")
        assert (code, err) == (0, "")
        for alert in alerts():
            assert f"{alert.name} ({alert.severity})\n" in out
        (real,) = held(url)
        assert real["status"]["state"] == "active"
        # Once a later real alert was sent, a message about the drill would have been sent, too.
        fires(url, "QlikLicenseClockSkew", severity="warning", site="Lyon", instance="n")
        eventually("a later ticket", lambda: hook.alerts("/ticket", "QlikLicenseClockSkew", "firing"))
        assert len(hook.received) == notified + 1


def test_a_drill_says_which_silence_or_real_alert_mutes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with site(tmp_path) as (url, _):
        fires(url, "QlikLicenseStale", severity="critical", site="Lyon")
        silence = {
            "matchers": [{"name": "site", "value": "Lyon", "isRegex": False, "isEqual": True}],
            "startsAt": datetime.now(UTC).isoformat(),
            "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "createdBy": "test",
            "comment": "test",
        }
        (stale,) = held(url)
        words = ["QlikLicenseSyncFailing", "--site", "Lyon", "--alertmanager", url, "--yes"]
        code, out, _ = drill(capsys, *words)
        assert code == 0
        assert "state: suppressed" in out
        assert f"inhibited by: {stale['fingerprint']}" in out
        posted(f"{url}/api/v2/silences", silence)
        code, out, _ = drill(capsys, "QlikLicenseClockSkew", *words[1:])
        (found,) = json.loads(fetched(f"{url}/api/v2/silences"))
        assert f"silenced by: {found['id']}" in out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (', drill=""]', "]", "would mute real alerts by the inhibition rule"),
        (f"group_wait: {WAIT}s", "group_wait: 0s", "could not be withdrawn in time: group_wait of its route is 0s"),
        ("[alertname, job, site, drill]", "[alertname]", "would be in one message with a firing QlikLicenseExpired"),
    ],
)
def test_a_drill_that_would_do_harm_is_not_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    with site(tmp_path, old, new) as (url, _):
        fires(url, "QlikLicenseExpired", severity="critical", site="Lyon")
        code, out, err = drill(capsys, "QlikLicenseExpired", "--alertmanager", url, "--yes")
        assert (code, out) == (1, "")
        assert said in err
        assert "Nothing was sent" in err
        assert len(held(url)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@pytest.mark.parametrize(("answer", "code", "said"), [("n", 1, "Nothing was sent."), ("", 1, ""), ("y", 0, "active")])
def test_at_a_terminal_it_asks_first(tmp_path: Path, answer: str, code: int, said: str) -> None:
    with site(tmp_path) as (url, _):
        ours, theirs = os.openpty()
        words = [sys.executable, "-m", "exporter", "drill", "QlikLicenseExpired", "--alertmanager", url]
        with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            os.write(ours, f"{answer}\n".encode())
            shown = b""
            with contextlib.suppress(OSError):  # the end of a terminal
                while part := os.read(ours, 4096):
                    shown += part
        os.close(ours)
        assert process.returncode == code
        assert b"Withdrawn at once: nobody is notified." in shown
        assert b"Send 1 alert? [y/N]" in shown
        assert said.encode() in shown
        assert held(url) == []


def test_an_alert_that_began_long_ago_is_sent_at_once_so_a_drill_begins_on_alertmanagers_clock(tmp_path: Path) -> None:
    with site(tmp_path, f"group_wait: {WAIT}s", "group_wait: 1h") as (url, hook):
        began = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        labels = {"alertname": "QlikLicenseStale", "severity": "critical"}
        posted(f"{url}/api/v2/alerts", [{"labels": labels, "startsAt": began}])
        eventually("a page", lambda: hook.alerts("/pager", "QlikLicenseStale", "firing"))


def test_nothing_is_sent_without_a_terminal_or_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with site(tmp_path) as (url, _):
        code, out, err = drill(capsys, "--all", "--alertmanager", url, "--page")
        assert (code, out) == (2, "")
        assert "--yes is needed" in err
        assert held(url) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["QlikLicenseStal", "--alertmanager", "http://h:1"], "did you mean `QlikLicenseStale`?"),
        (["qliklicensestale", "--alertmanager", "http://h:1"], "did you mean `QlikLicenseStale`?"),
        (["zzz", "--alertmanager", "http://h:1"], "unknown alert `zzz`; docs/alerts.md lists them"),
        (["QlikLicenseStale"], "expected --alertmanager URL"),
        (["--alertmanager", "http://h:1"], "expected the name of an ALERT or --all"),
        (["--all", "QlikLicenseStale", "--alertmanager", "http://h:1"], "and not both"),
        (["--all", "--alertmanager", "h:9093"], "found `h:9093`, expected http://"),
        (["--all", "--alertmanager", "ftp://u:secret@h"], "found `ftp://h`"),
        (["--all", "--alertmanager", "http://h:x"], "cannot be read"),
        (["--all", "--alertmanager", "http://h:1", "--site", ""], "--site: found nothing"),
    ],
)
def test_unusable_arguments_are_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, out, err = drill(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "", "wants a login: status 401"),
        (404, "", "is not an Alertmanager with API version 2: status 404"),
        (500, "broken\x1b[2J", "answered with status 500: broken"),
        (302, "", "redirects to `http://h/x`"),
        (200, "<html>", "its answer is not JSON"),
        (200, "[]", "its status has no configuration"),
        (200, '{"config": {"original": "a: ["}}', "is not understood"),
        (200, '{"config": {"original": "a: b"}}', "found no `route`"),
        (200, '{"config": {"original": "route: {routes: [{matchers: [x]}]}"}}', "found the matcher `x`"),
    ],
)
def test_what_is_no_alertmanager_or_wants_a_login_is_one_line(
    capsys: pytest.CaptureFixture[str], status: int, body: str, said: str
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://u:p@h/x")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://user:secret@127.0.0.1:{server.server_address[1]}"
        code, out, err = drill(capsys, "QlikLicenseStale", "--alertmanager", url, "--yes")
        server.shutdown()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert "Nothing was sent" in err
    assert "secret" not in err
    assert "\x1b" not in err


def test_nobody_who_answers_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = drill(capsys, "--all", "--alertmanager", f"http://127.0.0.1:{free_port()}", "--yes")
    assert code == 1
    assert "cannot be reached: " in err


def test_no_text_of_a_drill_holds_a_template() -> None:
    drills = shipped_drills("Lyon")
    assert len(drills) == len(alerts())
    for one in drills:
        assert not re.search(r"[{}]|\$labels|b:443", " ".join(one.annotations.values()))
        assert one.labels["drill"] == "true"


# --- what is computed


def test_the_computed_receivers_are_those_of_amtool(tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "route": {
                    "receiver": "root",
                    "group_wait": "1m30s",
                    "routes": [
                        {"matchers": ['{a="1", b=~"x|y"}'], "receiver": "one", "continue": True},
                        {"matchers": ['a="1"', "c!=z"], "routes": [{"match_re": {"b": "x.*"}, "receiver": "two"}]},
                        {"match": {"d": "1"}, "receiver": "three", "group_wait": "5s"},
                    ],
                },
                "receivers": [{"name": name} for name in ("root", "one", "two", "three")],
            }
        )
    )
    routing = Routing(yaml.safe_load(config.read_text()))
    for labels in ({}, {"a": "1"}, {"a": "1", "b": "x"}, {"a": "1", "b": "xx"}, {"a": "1", "c": "z"}, {"d": "1"}):
        found = routing.routes(labels, datetime.now(UTC))
        told = output(
            "amtool", "config", "routes", "test", f"--config.file={config}", *(f"{k}={v}" for k, v in labels.items())
        )
        assert ",".join(route.receiver for route in found) == told.splitlines()[0], labels
    assert [route.group_wait for route in routing.routes({"d": "1"}, datetime.now(UTC))] == [5]
    assert [route.group_wait for route in routing.routes({}, datetime.now(UTC))] == [90]


@pytest.mark.parametrize(
    ("interval", "muted"),
    [
        ({}, True),
        ({"times": [{"start_time": "09:00", "end_time": "17:00"}]}, True),
        ({"times": [{"start_time": "09:00", "end_time": "12:30"}]}, False),
        ({"times": [{"start_time": "14:00", "end_time": "15:00"}], "location": "Europe/Berlin"}, False),
        ({"times": [{"start_time": "13:00", "end_time": "14:00"}], "location": "Europe/Berlin"}, True),
        ({"weekdays": ["monday:friday"]}, True),
        ({"weekdays": ["saturday", "sunday"]}, False),
        ({"days_of_month": ["-2:-1"]}, True),
        ({"days_of_month": ["1:5"]}, False),
        ({"months": ["november"], "years": ["2025:2026"]}, True),
        ({"months": ["1:3"]}, False),
    ],
)
def test_a_mute_time_is_computed(interval: dict[str, Any], muted: bool) -> None:
    route = {"receiver": "r", "routes": [{"mute_time_intervals": ["m"]}, {"active_time_intervals": ["m"]}]}
    routing = Routing({"route": route, "time_intervals": [{"name": "m", "time_intervals": [interval]}]})
    (found,) = routing.routes({}, datetime(2026, 11, 30, 12, 30, tzinfo=UTC))  # a Monday, the last day of its month
    assert found.muted == (("m",) if muted else ())


@pytest.mark.parametrize("text", ["x", "a=", 'a="1" b="2"', "=1", 'a=~"("'])
def test_a_matcher_that_is_not_understood_is_an_error_or_empty(text: str) -> None:
    with contextlib.suppress(RoutingError):
        for matcher in parse_matchers(text):
            matcher.matches({"a": "1"})


# --- the routes and the heartbeat


def test_no_shipped_inhibition_has_a_drill_as_its_source() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text())
    assert all('drill=""' in rule["source_matchers"] for rule in config["inhibit_rules"])
    assert [Routing(config).inhibitions_from(one.labels) for one in shipped_drills("Lyon")] == [[]] * len(alerts())


def test_the_heartbeat_is_off_and_can_be_switched_on(tmp_path: Path) -> None:
    heartbeat = DEPLOY / "prometheus" / "qlik-license-heartbeat.yml"
    output("promtool", "check", "rules", "--lint=all", "--lint-fatal", heartbeat)
    for file in DEPLOY.rglob("*prometheus*.yml"):
        assert "heartbeat" not in file.read_text()
    assert not heartbeat.match("*.rules.yml")  # the fleet's examples load those
    text = ALERTMANAGER.read_text()
    commented = r"^( *)# - (?:matchers: .*Heartbeat.*|name: heartbeat)\n(?:\1#   .*\n)+"
    assert len(re.findall(commented, text, re.MULTILINE)) == 2
    switched = re.sub(commented, lambda found: found[0].replace("# ", ""), text, flags=re.MULTILINE)
    config = tmp_path / "alertmanager.yml"
    config.write_text(switched)
    arguments = [f"--config.file={config}", "--verify.receivers=heartbeat", "alertname=QlikLicenseHeartbeat"]
    output("amtool", "config", "routes", "test", *arguments, "severity=info")
