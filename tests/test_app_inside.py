"""The exporter inside this process: from the command line to the exit code, with what only the inside can show."""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from exporter import cli, signals
from exporter.commands import check as check_command
from exporter.commands import run
from exporter.textfile import FILE_NAME
from tests import qrs_server
from tests.exporting import Running, Site, append, append_rows, eventually, series, thread
from tests.live_programs import free_port
from tests.observed import ATTEMPT, STALE, licenses_line, refusal, stamp
from tests.probe_peers import closed_port, listening, silent


@pytest.fixture(autouse=True)
def _our_logging_stays() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).with_samples()


def test_run_follows_the_flags_until_it_is_stopped(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """As the Windows service runs it: without signals, in a thread."""
    port, stop, codes = free_port(), threading.Event(), []
    state = site.folder / "elsewhere" / "s.db"
    words = ["--config.file", str(site.configured()), "--state.file", str(state), "--log.format", "json", "run"]
    words += ["--web.listen-address", f"127.0.0.1:{port}"]
    service = threading.Thread(target=lambda: codes.append(cli.main(words, stop)))
    service.start()
    running = Running()
    running.url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return running.ask("/-/ready").status == 200
        except OSError:
            return False

    eventually("it is ready", ready)
    stop.set()
    service.join(30)
    assert codes == [0]
    assert state.exists()
    assert not site.state.exists()
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["msg"] == f"listening on 127.0.0.1:{port} without TLS, without users"


def test_what_hinders_the_start_is_one_sentence_and_code_1(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["--config.file", str(site.configured()), "--web.listen-address", address]
        assert cli.main(words, threading.Event()) == 1
    assert f"qlik-license-exporter: cannot listen on {address}: " in capfd.readouterr().err
    with thread(site):
        assert cli.main(["--config.file", str(site.config_file)], threading.Event()) == 1
    assert f"in use by process {os.getpid()}" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_hazard_115_signals_are_heeded_without_the_loops_own_handlers(number: int) -> None:
    """The event loop's own handlers do not exist on Windows."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    came: SimpleQueue[int] = SimpleQueue()
    try:
        signals.heed(came.put)
        signal.raise_signal(number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert came.get_nowait() == number
    assert signals.is_reload(number) == (number == signal.SIGHUP)


def test_hazard_121_the_process_ends_even_where_stopping_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(run, "LONGEST_STOP", 0.01)
    came: SimpleQueue[int] = SimpleQueue()
    stop, reload_asked = threading.Event(), threading.Event()
    came.put(signal.SIGHUP)
    came.put(signal.SIGTERM)
    run.obey(came, stop, reload_asked)
    assert (stop.is_set(), reload_asked.is_set(), codes) == (True, True, [0])


def test_everything_that_can_be_asked_is_answered_from_here_too(site: Site) -> None:
    target = f"127.0.0.1:{closed_port()}"
    site.settings["probes"] = [{"target": target, "protocol": "tcp", "proxy": "none"}]
    with thread(site) as exporter:
        exporter.await_ready()
        for path in ("/", "/api/v1/status", "/api/v1/events", "/config", f"/probe?target={target}"):
            assert exporter.ask(path).status == 200, path
        assert "tcp_refused" in exporter.ask(f"/probe?target={target}&debug=1").text


def test_the_repository_api_is_a_source_of_seats_and_where_trusted_of_the_last_sync(site: Site) -> None:
    node = qrs_server.Site(site.folder / "certificates")
    with qrs_server.FakeQrs(node) as fake:
        fake.answers[qrs_server.LICENSE]["updated"] = stamp(time.time() - 60)
        settings = node.settings(fake.url)
        site.settings["qrs"] = {
            "enabled": True,
            "url": settings.url,
            "certificate": settings.certificate,
            "key": settings.key,
            "ca_file": settings.ca_file,
            "server_name": settings.server_name,
            "trust_updated": True,
        }
        append(site.licenses, licenses_line(time.time(), ATTEMPT))
        with thread(site) as exporter:
            seen = exporter.await_value('qlik_license_sync_success_source{source="qrs"}', 1)
            assert seen["qlik_license_qrs_up"] == 1
            assert seen["qlik_license_expiry_timestamp_seconds"] > 0
            assert seen['qlik_license_access_licenses{access_type="professional"}'] > 0
            assert seen["qlik_license_sync_age_seconds"] >= 0
            everything = "".join(exporter.ask(path).text for path in ("/metrics", "/", "/api/v1/status", "/config"))
    for secret in qrs_server.SECRETS:
        assert secret not in everything


def test_a_restart_keeps_the_last_success_of_a_probe_and_begins_its_counters_anew(site: Site) -> None:
    site.settings["probes"] = [{"target": "127.0.0.1:0", "protocol": "tcp", "proxy": "none", "interval": "1s"}]
    with listening(silent) as port:
        target = f"127.0.0.1:{port}"
        labels = f'{{role="other",target="{target}"}}'
        site.settings["probes"][0]["target"] = target
        with thread(site) as exporter:
            exporter.await_value(f"qlik_license_probe_success{labels}", 1)
            before = exporter.metrics()
    with thread(site) as exporter:
        after = exporter.metrics()
        kept = "qlik_license_probe_last_success_timestamp_seconds"
        assert after[f"{kept}{labels}"] == pytest.approx(before[f"{kept}{labels}"], abs=2)
        exporter.await_value(f"qlik_license_probe_success{labels}", 0)
        assert exporter.metrics()[f"{kept}{labels}"] == after[f"{kept}{labels}"]


def test_the_textfile_holds_what_a_scrape_would_show(site: Site) -> None:
    folder = site.folder / "textfiles"
    folder.mkdir()
    with thread(site, textfile_directory=str(folder), listens=False) as exporter:
        eventually("it is written", (folder / FILE_NAME).exists)
        written = series((folder / FILE_NAME).read_text())
        assert exporter.exporter.bound == ()
    assert written["qlik_license_exporter_exposition_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    assert list(folder.iterdir()) == []


def test_a_message_that_raises_costs_its_record_and_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours in folding is counted in one place; what can be folded goes on."""
    append_rows(site.audit, refusal(time.time(), "user07"))
    with thread(site) as exporter:
        exporter.await_ready()
        recognise = exporter.exporter._catalogue.recognise
        ledger = exporter.exporter._ledger

        def faulty(log, records):  # type: ignore[no-untyped-def]
            if any(b"poison" in record.raw for record in records):
                raise ZeroDivisionError("fault")
            return recognise(log, records)

        monkeypatch.setattr(ledger, "_rules", ledger._rules._replace(recognise=faulty))
        append(site.licenses, licenses_line(time.time(), "poison"), licenses_line(time.time(), STALE))
        exporter.await_value('qlik_license_errors_total{error="stale"}', 1)
        assert (exporter.value('qlik_license_exporter_component_failures_total{component="store"}') or 0) >= 1
    assert "poison" not in caplog.text


def test_an_interruption_is_a_stop_and_a_failing_system_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], site: Site
) -> None:
    def interrupted(*arguments: object) -> int:
        raise KeyboardInterrupt

    def failing(*arguments: object) -> int:
        raise OSError(28, "No space left on device", "/somewhere")

    words = ["check", "--config.file", str(site.configured())]
    monkeypatch.setattr(check_command, "run", interrupted)
    assert cli.main(words) == 0
    monkeypatch.setattr(check_command, "run", failing)
    assert cli.main(words) == 1
    assert capsys.readouterr().err == "qlik-license-exporter: /somewhere: No space left on device\n"


def test_closed_standard_streams_are_no_failure(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """A Windows service has none."""
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert cli.main(["--once", "--config.file", str(site.configured())]) == 0
    assert cli.main(["--once", "--config.file", "/nowhere"]) == 2
    for stream in (cli.sys.stdout, cli.sys.stderr):
        stream.close()
