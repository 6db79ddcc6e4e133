"""A new configuration while the exporter runs: what takes effect, what is kept, and what a bad one does."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.config import ConfigError, parse
from exporter.filewatch import refuse_truncated
from tests.exporting import DEADLINE, ExporterProcess, ExporterThread, Site, append, eventually, process, thread
from tests.observed import ATTEMPT, STALE, licenses_line
from tests.probe_peers import closed_port

SUCCESSFUL = "qlik_license_exporter_config_last_reload_successful"
SUCCEEDED = "qlik_license_exporter_config_last_reload_success_timestamp_seconds"
STALE_ERRORS = 'qlik_license_errors_total{error="stale"}'
START = "qlik_license_exporter_start_timestamp_seconds"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def exporter(site: Site) -> Iterator[ExporterThread]:
    """Ready, with one stale verdict counted."""
    with thread(site) as running:
        running.await_ready()
        append(site.licenses, licenses_line(time.time(), STALE))
        running.await_value(STALE_ERRORS, 1)
        yield running


def reload(site: Site, exporter: ExporterThread) -> None:
    site.configured()
    answer = exporter.ask("/-/reload", "POST")
    assert (answer.status, answer.text) == (200, "Reloaded.\n")


@pytest.mark.slow
def test_a_good_configuration_is_in_force_once_the_reload_is_answered(site: Site, exporter: ExporterThread) -> None:
    before = exporter.metrics()
    site.settings["license"] = {"grace": "3d"}
    reload(site, exporter)
    after = exporter.metrics()
    assert after["qlik_license_grace_seconds"] == 3 * 86400
    assert after[SUCCEEDED] > before[SUCCEEDED]
    assert after[SUCCESSFUL] == 1
    assert (after[STALE_ERRORS], after["qlik_license_stale"], after[START]) == (1, 1, before[START])
    append(site.licenses, licenses_line(time.time(), STALE))
    exporter.await_value(STALE_ERRORS, 2)


@pytest.mark.slow
def test_a_bad_configuration_changes_nothing_and_is_told(site: Site, exporter: ExporterThread) -> None:
    before = exporter.metrics()
    site.settings["license"] = {"grace": "soon"}
    site.configured()
    answer = exporter.ask("/-/reload", "POST")
    assert answer.status == 500
    assert "license.grace: found `soon`" in answer.text
    assert str(site.folder) not in answer.text, "no path in error answers"
    after = exporter.metrics()
    assert (after[SUCCESSFUL], after[SUCCEEDED]) == (0, before[SUCCEEDED])
    assert (after["qlik_license_grace_seconds"], after[STALE_ERRORS]) == (5 * 86400, 1)
    append(site.licenses, licenses_line(time.time(), STALE))
    exporter.await_value(STALE_ERRORS, 2)
    del site.settings["license"]
    reload(site, exporter)
    assert exporter.value(SUCCESSFUL) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"qrs": {"key_password_file": "/srv/secret/word"}},
            "qrs.key_password_file: <path>: cannot be read: No such file",
        ),
        ({"logs": {"licenses": {"paths": "C:\\Qlik\\*.log"}}}, "logs.licenses.paths: found `<path>`, expected a list"),
        ({"qrs": {"url": "http://x"}}, "qrs.url: found `http://x`, expected https://host:port"),
    ],
)
def test_no_answer_tells_a_path_of_this_machine(
    site: Site, exporter: ExporterThread, settings: dict[str, object], said: str
) -> None:
    site.settings.update(settings)
    site.configured()
    assert said in exporter.ask("/-/reload", "POST").text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"license": {"grace": "${WORD}"}}, "license.grace: found `${WORD}`, expected a duration"),
        ({"probes": [{"target": "${WORD}"}]}, "probes[0].target: found `${WORD}`, expected host:port"),
        ({"web": {"listen_addresses": ["${WORD}"]}}, "web.listen_addresses[0]: found `${WORD}`"),
    ],
)
def test_no_answer_and_no_line_tells_what_a_variable_holds(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORD", "hunter4711")
    site.settings["qrs"] = {"enabled": True, "url": f"https://localhost:{closed_port()}", "ca_file": "/x/${WORD}.pem"}
    site.settings["logs"]["repository_trace"]["archive"] = "/nowhere/${WORD}"
    with process(site, "--config.file", str(site.configured())) as exporter:
        exporter.await_ready()
        eventually("the missing file is told", lambda: "/x/${WORD}.pem" in exporter.said)
        shown = exporter.ask("/config").text
        assert "/x/${WORD}.pem" in shown
        site.settings.update(settings)
        site.configured()
        answer = exporter.ask("/-/reload", "POST").text
        assert said in answer
        assert "4711" not in shown + answer + exporter.said
    assert main(["check", "--config.file", str(site.config_file)]) == 2
    told = "".join(capfd.readouterr())
    assert said in told
    assert "4711" not in told


def test_a_file_that_is_gone_changes_nothing_and_is_told(site: Site, exporter: ExporterThread) -> None:
    site.config_file.unlink()
    answer = exporter.ask("/-/reload", "POST")
    assert (answer.status, "cannot be read" in answer.text) == (500, True)
    assert exporter.value(SUCCESSFUL) == 0


WRITTEN = """\
# the settings of node 1
logs:
  licenses:
    paths: ['/var/log/qlik/*.log']
  repository_audit:
    enabled: false
poll_interval: 10s
license:
  kind: signed_key
  grace: 1h30m
probes:
  - target: license.qlikcloud.com:443
    role: backend
    expected_statuses:
      - 404
    proxy: http://proxy.example:3128
  - target: localhost:4242
    protocol: tcp
web:
  listen_addresses:
    - ':10188'
    - '[::1]:10189'
  show_people: true
"""


@pytest.mark.slow
def test_no_beginning_of_a_configuration_takes_its_place() -> None:
    in_force = parse(WRITTEN, "config.yml", {})
    for end in range(len(WRITTEN)):
        try:
            if parse(WRITTEN[:end], "config.yml", {}) == in_force:
                continue
        except ConfigError:
            continue
        with pytest.raises(ConfigError, match="only the beginning of the current settings"):
            refuse_truncated("config.yml", WRITTEN, WRITTEN[:end])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found only the beginning of the current settings"),
        ("{", "not readable as YAML"),
        ("# to be written\n", "found no settings, expected at least one"),
        ("{}\n", "found no settings, expected at least one"),
        ("probes:\n", "probes: found nothing"),
        ("license:\n  kind: offline\n", "probes: no longer found"),
    ],
)
def test_what_is_left_of_a_file_is_not_taken(text: str, said: str, site: Site, exporter: ExporterThread) -> None:
    site.config_file.write_text(text)
    exporter.await_value(SUCCESSFUL, 0)
    assert said in exporter.ask("/-/reload", "POST").text
    assert "probes: []" in exporter.ask("/config").text
    site.configured()
    exporter.await_value(SUCCESSFUL, 1)


def test_a_web_file_that_is_refused_shows_as_a_failed_reload(site: Site) -> None:
    web_file = site.folder / "web.yml"
    web_file.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}")
    with thread(site, web_config_file=str(web_file)) as exporter:
        assert exporter.value(SUCCESSFUL) == 1
        web_file.write_text("")
        exporter.await_value(SUCCESSFUL, 0)
        web_file.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}")
        exporter.await_value(SUCCESSFUL, 1)


@pytest.mark.slow
def test_a_configuration_is_taken_only_once_nobody_writes_it(site: Site) -> None:
    with thread(site, settled=1.0) as exporter:
        text = site.config_file.read_text()
        begun = time.monotonic()
        with site.config_file.open("w") as stream:
            for piece in (text[:-1], ', "lic', 'ense": {"gr', 'ace": "3d"}', "}"):
                stream.write(piece)
                stream.flush()
                assert exporter.value(SUCCESSFUL) == 1
        exporter.await_value("qlik_license_grace_seconds", 3 * 86400)
        assert time.monotonic() - begun >= 1
        assert exporter.value(SUCCESSFUL) == 1


def test_a_touch_of_the_file_starts_nothing_anew(
    site: Site, exporter: ExporterThread, caplog: pytest.LogCaptureFixture
) -> None:
    before = exporter.value(SUCCEEDED)
    site.configured()
    assert exporter.exporter.reload(asked=False) is None
    assert exporter.value(SUCCEEDED) == before
    assert "the new configuration has been applied" not in caplog.text


def test_only_post_from_this_machine_reloads(site: Site, exporter: ExporterThread) -> None:
    assert exporter.ask("/-/reload").status == 405
    assert exporter.ask("/-/reload", "POST", X_Forwarded_For="192.0.2.7").status == 403
    assert exporter.ask("/-/reload", "POST", Host="monitoring.example").status == 403


@pytest.mark.slow
def test_a_message_that_is_taught_is_recognised_from_then_on(site: Site, exporter: ExporterThread) -> None:
    name = 'qlik_license_log_messages_total{log="licenses",message="assignments_up_to_date"}'
    assert exporter.value(name) is None
    taught = {"name": "assignments_up_to_date", "log": "licenses", "match": "are up to date", "means": "sync_succeeded"}
    site.settings["messages"] = [taught]
    reload(site, exporter)
    assert exporter.value(name) == 0
    at = time.time()
    append(site.licenses, licenses_line(at, ATTEMPT), licenses_line(at + 1, "assignments are up to date"))
    seen = exporter.await_value(name, 1)
    assert seen['qlik_license_sync_success_source{source="message"}'] == 1
    assert seen["qlik_license_sync_age_seconds"] < 60
    assert seen["qlik_license_stale"] == 0
    site.settings["messages"].append({**taught, "name": "sync_attempted"})
    site.configured()
    refused = exporter.ask("/-/reload", "POST")
    assert (refused.status, "messages[1].name: found `sync_attempted`" in refused.text) == (500, True)


@pytest.mark.slow
def test_files_that_a_reload_adds_are_history_first_and_then_count(site: Site, exporter: ExporterThread) -> None:
    elsewhere = site.folder / "elsewhere"
    elsewhere.mkdir()
    append(elsewhere / "old.log", licenses_line(time.time(), STALE))
    site.settings["logs"]["licenses"]["paths"].append(str(elsewhere / "*.log"))
    reload(site, exporter)
    exporter.await_value('qlik_license_exporter_log_files{log="licenses"}', 2)
    exporter.await_ready()
    append(elsewhere / "old.log", licenses_line(time.time(), STALE))
    exporter.await_value(STALE_ERRORS, 2)


@pytest.mark.slow
def test_a_log_can_be_switched_off_and_on_again(site: Site, exporter: ExporterThread) -> None:
    files = 'qlik_license_exporter_log_files{log="licenses"}'
    site.settings["logs"]["licenses"]["enabled"] = False
    reload(site, exporter)
    seen = exporter.await_ready().metrics()
    assert files not in seen
    assert seen[STALE_ERRORS] == 1, "a durable counter never goes away"
    assert seen["qlik_license_stale"] == 1, "what was known of the license holds"
    assert seen["qlik_license_stale_last_verdict_timestamp_seconds"] > 0
    assert seen["qlik_license_sync_expected"] == 1
    append(site.licenses, licenses_line(time.time(), STALE))
    site.settings["logs"]["licenses"]["enabled"] = True
    reload(site, exporter)
    assert exporter.await_value(files, 1)[STALE_ERRORS] <= 2
    exporter.await_value(STALE_ERRORS, 2)


@pytest.mark.slow
def test_probes_come_and_go_and_those_that_stay_keep_their_counts(site: Site, exporter: ExporterThread) -> None:
    staying, leaving = f"localhost:{closed_port()}", f"127.0.0.1:{closed_port()}"
    probe = {"role": "other", "protocol": "tcp", "proxy": "none", "interval": "1s"}

    def attempts(target: str) -> float | None:
        return exporter.value(f'qlik_license_probe_attempts_total{{role="other",target="{target}"}}')

    site.settings["probes"] = [{"target": target, **probe} for target in (staying, leaving)]
    reload(site, exporter)
    eventually("both are probed", lambda: attempts(staying) and attempts(leaving))
    site.settings["probes"] = [{"target": staying, **probe}]
    reload(site, exporter)
    assert attempts(leaving) is None
    assert (attempts(staying) or 0) >= 1
    assert exporter.ask(f"/probe?target={leaving}").status == 403
    assert exporter.ask(f"/probe?target={staying}").status == 200


@pytest.mark.slow
def test_qrs_can_be_switched_on_and_off(site: Site, exporter: ExporterThread) -> None:
    for enabled in (True, False):
        site.settings["qrs"] = {"enabled": enabled, "url": f"https://localhost:{closed_port()}"}
        reload(site, exporter)
        eventually("it shows", lambda enabled=enabled: (exporter.value("qlik_license_qrs_up") == 0) == enabled)


@pytest.mark.slow
def test_a_changed_file_is_read_again_by_itself(site: Site, exporter: ExporterThread) -> None:
    site.settings["license"] = {"grace": "4d"}
    site.configured()
    exporter.await_value("qlik_license_grace_seconds", 4 * 86400)
    site.config_file.write_text("license: {grace")
    exporter.await_value(SUCCESSFUL, 0)
    assert exporter.value("qlik_license_grace_seconds") == 4 * 86400


@pytest.mark.slow
def test_what_cannot_change_while_running_is_said_and_does_no_harm(
    site: Site, exporter: ExporterThread, caplog: pytest.LogCaptureFixture
) -> None:
    site.settings["state"] = {"file": str(site.folder / "other" / "state.db")}
    site.settings["web"] = {"listen_addresses": ["127.0.0.1:1"]}
    reload(site, exporter)
    assert exporter.value(STALE_ERRORS) == 1
    assert "state.file: takes effect at the next start" in caplog.text
    assert "web: takes effect at the next start" in caplog.text
    assert not (site.folder / "other").exists()


@pytest.mark.slow
def test_sighup_reloads_and_what_flags_say_stays(site: Site) -> None:
    with process(site, "--config.file", str(site.configured()), "--state.file", str(site.folder / "s.db")) as exporter:
        exporter.await_ready()
        site.settings["license"] = {"grace": "2d"}
        site.configured()
        exporter.process.send_signal(signal.SIGHUP)
        exporter.await_value("qlik_license_grace_seconds", 2 * 86400)
        assert (site.folder / "s.db").exists()
        assert "state.file: takes effect" not in exporter.said, "the flag still overrides the file"
        exporter.process.send_signal(signal.SIGHUP)
        eventually("the same once more", lambda: exporter.said.count("the new configuration has been applied") == 2)
        assert not site.state.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "lives"), [(signal.SIGHUP, True), (signal.SIGTERM, False)])
def test_a_signal_that_comes_while_the_program_is_loaded_is_heeded(
    site: Site, number: signal.Signals, lives: bool
) -> None:
    exporter = ExporterProcess(site, "--config.file", str(site.configured()))
    try:
        eventually("the signals are heeded", lambda: _catches(exporter.process.pid, number))
        assert "listening" not in exporter.said
        exporter.process.send_signal(number)
        if lives:
            exporter.await_listening().await_ready()
        else:
            assert exporter.process.wait(DEADLINE) == 0
        assert "Traceback" not in exporter.said
    finally:
        exporter.close()


def _catches(pid: int, number: signal.Signals) -> bool:
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (number - 1) & 1)
