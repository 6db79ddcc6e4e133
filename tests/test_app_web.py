"""What the running exporter shows: to a real Prometheus, to people, and never of people."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from exporter.metrics import METRICS
from exporter.textfile import FILE_NAME
from tests.exporting import (
    DEADLINE,
    TRACE_HEADER,
    ExporterProcess,
    Site,
    append,
    append_rows,
    asked,
    eventually,
    process,
    series,
    thread,
    trace_row,
)
from tests.live_programs import fetched, free_port, prometheus
from tests.observed import ATTEMPT, STALE, audit_row, licenses_line, refusal
from tests.probe_peers import closed_port
from tests.shipped import program

SECRETS = {
    "user": "jzimmermann",
    "other user": "kwachowski",
    "host": "berlin-qs-07",
    "address": "198.51.100.77",
    "key": "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.PLANTEDKEY",
    "license number": "9876123450987612",
    "session": "e3cd957b-dead-4bec-a3f8-d35170a73efa",
    "password": "sw0rdfish",
}
PATHS = ("/metrics", "/", "/config", "/api/v1/status", "/api/v1/events", "/-/ready", "/-/healthy", "/nowhere")
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def planted(site: Site) -> None:
    """Every log speaks of people, hosts and keys, in lines that are understood, unknown and broken."""
    now, hide = time.time(), SECRETS
    append(
        site.licenses,
        licenses_line(now - 3, ATTEMPT, licenseNumber=hide["license number"], hostname=hide["host"]),
        licenses_line(
            now - 2,
            f"sync for user {hide['user']} on {hide['host']} failed",
            errorMessage=f"dial tcp {hide['address']}:443: i/o timeout, key={hide['key']}",
        ),
        licenses_line(
            now - 1, f"welcome back {hide['user']} ({hide['other user']}@contoso.example)", user=hide["user"]
        ),
        '{"message":"broken ' + hide["user"] + " " + hide["host"],
        licenses_line(now, STALE, licenseNumber=hide["license number"]),
    )
    append_rows(
        site.audit,
        refusal(now, hide["user"], sessions=5).replace("10.0.0.21", hide["address"]),
        refusal(now, hide["other user"]).replace("QLIKNODE1", hide["host"]),
        audit_row(now, hide["user"], f"Command=Open app;Result=0;ResultText={hide['user']}", hide["session"]),
        f"5\ttorn {hide['user']} {hide['host']}",
        f"continued {hide['other user']}",
    )
    append_rows(
        site.trace,
        trace_row(now, "ERROR").replace("text", f"request of {hide['user']} to {hide['host']} failed"),
        header=TRACE_HEADER,
    )


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    """One process for all claims: its logs were planted twice, as history and live; it says all it ever says."""
    site = Site(tmp_path_factory.mktemp("site"))
    target = f"127.0.0.1:{closed_port()}"
    site.settings["probes"] = [
        {
            "target": target,
            "role": "other",
            "proxy": "http://" + SECRETS["user"] + ":" + SECRETS["password"] + "@127.0.0.1:1",
        }
    ]
    site.settings["qrs"] = {
        "enabled": True,
        "url": f"https://localhost:{closed_port()}",
        "key_password": SECRETS["password"],
        "user": f"UserDirectory=CONTOSO; UserId={SECRETS['user']}",
    }
    planted(site)
    with process(site, "--config.file", str(site.configured()), "--log.level", "debug") as running:
        running.await_ready()
        planted(site)
        seen = running.await_value('qlik_license_exporter_log_records_total{log="licenses"}', 5)
        assert seen['qlik_license_log_messages_total{log="licenses",message="unknown"}'] >= 1
        running.await_value('qlik_license_log_severe_entries_total{level="error",log="repository_trace"}', 1)
        running.await_value('qlik_license_access_denials_total{reason="parallel_sessions"}', 1)
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_nothing_personal_is_shown(exporter: ExporterProcess, path: str) -> None:
    shown = exporter.ask(path).text.casefold()
    assert shown
    for what, secret in SECRETS.items():
        assert secret.casefold() not in shown, f"{what} at {path}"


def test_nothing_personal_is_in_our_own_log_at_its_most_talkative(exporter: ExporterProcess) -> None:
    said = exporter.said.casefold()
    assert "listening on" in said
    for what, secret in SECRETS.items():
        assert secret.casefold() not in said, what
    assert "traceback" not in said


def test_events_tell_what_happened_and_to_whom_masked(exporter: ExporterProcess) -> None:
    answer = exporter.ask("/api/v1/events")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    events = json.loads(answer.text)["events"]
    assert {"sync_attempted", "license_stale", "access_denied"} <= {event["message"] for event in events}
    assert {event["user"] for event in events if event["message"] == "access_denied"} == {"<user>"}


def test_status_is_plain_data_of_the_same_truth(exporter: ExporterProcess) -> None:
    status = json.loads(exporter.ask("/api/v1/status").text)
    assert status["ready"] is True
    assert status["people_shown"] is False
    assert status["verdict"]["verdict"] == "license_stale"
    assert status["license"]["stale"] is True


def test_people_that_the_site_shows_are_shown_to_programs_of_this_machine_only(tmp_path: Path) -> None:
    site = Site(tmp_path)
    planted(site)
    site.settings["web"]["show_people"] = True
    site.settings["history"] = "count"
    with thread(site) as running:
        running.await_ready()
        user = SECRETS["user"]
        for path in ("/", "/api/v1/status", "/api/v1/events"):
            eventually(f"{path} shows people", lambda path=path: user in running.ask(path).text)
            for headers in ({"Host": "qlik.example"}, {"X_Real_IP": "192.0.2.7"}):
                assert user not in running.ask(path, **headers).text, path


def test_the_page_is_a_page(exporter: ExporterProcess) -> None:
    answer = exporter.ask("/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>" in answer.text


def test_config_is_the_settings_in_force_and_secrets_are_masked(exporter: ExporterProcess) -> None:
    shown = yaml.safe_load(exporter.ask("/config").text)
    assert shown["qrs"]["key_password"] == shown["qrs"]["user"] == "<secret>"
    assert shown["probes"][0]["proxy"] == "http://<secret>@127.0.0.1:1"
    assert shown["license"]["grace"] == "5d"
    assert shown["poll_interval"] == "100ms"


def test_only_this_machine_may_see_what_is_not_for_everyone(exporter: ExporterProcess) -> None:
    for path in ("/config", "/api/v1/events"):
        assert exporter.ask(path, X_Forwarded_For="192.0.2.7").status == 403
    for path in ("/metrics", "/", "/api/v1/status", "/-/healthy", "/-/ready"):
        assert exporter.ask(path, X_Forwarded_For="192.0.2.7").status == 200


def test_promtool_finds_nothing_to_say(exporter: ExporterProcess) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=exporter.ask("/metrics").text, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_text_and_openmetrics_are_negotiated(exporter: ExporterProcess) -> None:
    text = exporter.ask("/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# EOF" not in text.text
    openmetrics = exporter.ask("/metrics", Accept=f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5")
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    same = series(text.text).keys() ^ series(openmetrics.text).keys()
    assert not {name for name in same if not name.startswith(("qlik_license_probe", "qlik_license_qrs"))}
    for line in text.text.splitlines():
        assert line.startswith("#") or len(line.rpartition("}")[2].split()) <= 2, "no sample timestamps (hazard 104)"


def test_only_promised_metrics_are_shown_with_their_type_and_no_created_series(exporter: ExporterProcess) -> None:
    shown = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exporter.ask("/metrics").text, re.MULTILINE))
    ours = {name: kind for name, kind in shown.items() if name.startswith("qlik")}
    assert ours == {name: METRICS[name].kind for name in ours}
    assert not [name for name in shown if name.endswith("_created")]


def test_hazard_103_every_durable_counter_with_closed_labels_is_there_from_the_start(tmp_path: Path) -> None:
    with thread(Site(tmp_path)) as running:
        seen = running.metrics()
    for metric in (metric for metric in METRICS.values() if metric.durable):
        expected = 1
        for values in metric.labels.values():
            expected *= len(values or "x")
        born = [value for name, value in seen.items() if name.partition("{")[0] == metric.name]
        assert len(born) >= expected, metric.name
        assert set(born) == {0}, metric.name


@pytest.mark.slow
def test_one_probe_on_demand_shows_gauges_and_changes_nothing(exporter: ExporterProcess) -> None:
    def attempts() -> dict[str, float]:
        return {name: value for name, value in exporter.metrics().items() if "probe" in name and "_total" in name}

    target = yaml.safe_load(exporter.ask("/config").text)["probes"][0]["target"]
    eventually("the first probe has run", lambda: sum(attempts().values()) == 2)
    before = attempts()
    answer = exporter.ask(f"/probe?target={target}")
    assert answer.status == 200
    assert series(answer.text)[f'qlik_license_probe_success{{role="other",target="{target}"}}'] == 0
    assert "_total" not in answer.text
    assert attempts() == before
    assert "proxy" in exporter.ask(f"/probe?target={target}&debug=true").text
    assert exporter.ask("/probe").status == 400
    for other in ("license.qlikcloud.com:443", "localhost:22", target + "x", "nonsense"):
        assert exporter.ask(f"/probe?target={quote(other)}").status == 403, other


@pytest.mark.slow
def test_a_real_prometheus_scrapes_it_and_answers_what_the_log_said(exporter: ExporterProcess, tmp_path: Path) -> None:
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "qlik-license",
                "static_configs": [{"targets": [exporter.url.removeprefix("http://")], "labels": {"site": "berlin"}}],
            }
        ],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps(config))

    with prometheus(tmp_path, file, port) as url:

        def answered(query: str) -> list[tuple[str, float]]:
            body = fetched(f"{url}/api/v1/query?query={quote(query)}")
            found = json.loads(body)["data"]["result"] if body else []
            return [(row["metric"].get("reason", ""), float(row["value"][1])) for row in found]

        eventually("it is scraped", lambda: answered('up{site="berlin"} == 1'))
        assert answered("qlik_license_stale") == [("", 1)]
        assert sorted(answered("qlik_license_access_denials_total > 0")) == [
            ("no_access_pass", 1),
            ("parallel_sessions", 1),
        ]
        assert answered("time() - qlik_license_stale_last_verdict_timestamp_seconds < 300")


@pytest.mark.slow
def test_textfile_mode_opens_no_port_and_leaves_nothing_behind(tmp_path: Path) -> None:
    site, folder = Site(tmp_path).with_samples(), tmp_path / "textfiles"
    folder.mkdir()
    file = folder / FILE_NAME
    running = ExporterProcess(site, "--config.file", str(site.configured()), "--textfile.directory", str(folder))
    try:
        eventually("it writes", file.exists)
        names = {name.partition("{")[0] for name in series(file.read_text())}
        assert "qlik_license_exporter_build_info" in names
        assert not [name for name in names if not name.startswith("qlik_license_")], "the collector has its own"
        assert "listening on" not in running.said
        words = ["--config.file", str(site.config_file), "--state.file", str(tmp_path / "other" / "state.db")]
        second = ExporterProcess(site, *words, "--textfile.directory", str(folder))
        try:
            assert second.process.wait(DEADLINE) == 1
            assert f"folder {folder} is in use by process {running.process.pid}" in second.said
        finally:
            second.close()
        assert file.exists()
        assert running.stop() == 0
    finally:
        running.close()
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_textfile_mode_listens_where_it_is_asked_to(tmp_path: Path) -> None:
    site = Site(tmp_path)
    words = ["--config.file", str(site.configured()), "--textfile.directory", str(tmp_path)]
    with process(site, *words, "--web.listen-address", "127.0.0.1:0") as running:
        assert asked(running.url + "/-/healthy").status == 200
        eventually("it writes", (tmp_path / FILE_NAME).exists)
