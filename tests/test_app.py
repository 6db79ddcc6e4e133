"""The running exporter on real files, in a process of its own: from the license logs to the numbers at /metrics."""

import os
import signal
import socket
import statistics
import time
from pathlib import Path

import pytest
from observed import ATTEMPT, STALE, licenses_line, refusal

from exporter.metrics import METRICS
from tests.exporting import (
    TRACE_HEADER,
    ExporterProcess,
    Site,
    append,
    append_rows,
    dead_while,
    ended,
    process,
    trace_row,
)

STALE_ERRORS = 'qlik_license_errors_total{error="stale"}'
READ_BYTES = 'qlik_license_exporter_log_read_bytes_total{log="licenses"}'
RECORDS = 'qlik_license_exporter_log_records_total{log="licenses"}'
ATTEMPTS = "qlik_license_sync_attempts_total"


def counters(samples: dict[str, float]) -> dict[str, float]:
    """The durable counters among `samples`."""
    return {
        name: value
        for name, value in samples.items()
        if (metric := METRICS.get(name.partition("{")[0])) and metric.durable
    }


@pytest.mark.slow
def test_without_configuration_on_a_node_it_finds_reads_and_probes_everything(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    environment = {**os.environ, "ProgramData": str(tmp_path)}
    words = ("--state.file", str(site.state), "--web.listen-address", "127.0.0.1:0")
    with process(site, *words, environment=environment) as exporter:
        seen = exporter.await_ready().metrics()
        assert [name for name in seen if name.startswith("qlik_license_exporter_log_files")] == [
            f'qlik_license_exporter_log_files{{log="{log}"}}'
            for log in ("licenses", "repository_audit", "repository_trace")
        ]
        assert all(seen[name] == 1 for name in seen if name.startswith("qlik_license_exporter_log_files"))
        assert 'qlik_license_probe_attempts_total{role="backend",target="license.qlikcloud.com:443"}' in seen
        assert 'qlik_license_probe_attempts_total{role="repository",target="localhost:4242"}' in seen

        # What was there before is history: it restates, and never counts.
        assert seen["qlik_license_stale"] == 1
        assert "qlik_license_sync_age_seconds" not in seen
        assert not {name: value for name, value in counters(seen).items() if value}

        # What comes is counted within 2 s, with the intervals as they are.
        took = []
        for number in range(1, 4):
            append(site.licenses, licenses_line(time.time(), STALE))
            began = time.monotonic()
            exporter.await_value(STALE_ERRORS, number)
            took.append(time.monotonic() - began)
        assert statistics.median(took) < 2


@pytest.mark.slow
def test_history_that_is_counted_on_demand_has_the_published_numbers(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    site.settings["history"] = "count"
    with process(site) as exporter:
        seen = exporter.await_ready().metrics()
        assert seen[STALE_ERRORS] == 2
        assert seen[ATTEMPTS] == seen["qlik_license_sync_failures_total"] == 1
        assert seen[RECORDS] == 3
        assert seen['qlik_license_log_messages_total{log="licenses",message="license_stale"}'] == 2
        for reason in ("no_access_pass", "parallel_sessions", "allocation_refused"):
            assert seen[f'qlik_license_access_denials_total{{reason="{reason}"}}'] == 1, reason
        for level, number in (("warn", 1), ("error", 1), ("fatal", 0)):
            name = f'qlik_license_log_severe_entries_total{{level="{level}",log="repository_trace"}}'
            assert seen[name] == number


@pytest.mark.slow
def test_a_restart_keeps_durable_counters_exactly_and_gauges_hold(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    now = time.time()
    with process(site) as exporter:
        exporter.await_ready()
        append(site.licenses, licenses_line(now - 1, ATTEMPT), licenses_line(now, STALE))
        append(site.audit, refusal(now, "user07"))
        append_rows(site.trace, trace_row(now, "FATAL"), header=TRACE_HEADER)
        exporter.await_value('qlik_license_access_denials_total{reason="no_access_pass"}', 1)
        exporter.await_value('qlik_license_log_severe_entries_total{level="fatal",log="repository_trace"}', 1)
        before = exporter.await_value(STALE_ERRORS, 1)
        assert exporter.stop() == 0
    append(site.licenses, licenses_line(now + 1, STALE))  # written while it is down
    with process(site) as exporter:
        first = exporter.metrics()  # the very first scrape, before the logs are read again
        assert {name: first[name] for name in ("qlik_license_stale", "qlik_license_sync_expected")} == {
            "qlik_license_stale": 1,
            "qlik_license_sync_expected": 1,
        }
        assert first['qlik_license_access_denied_users{reason="no_access_pass"}'] == 1
        after = exporter.await_value(STALE_ERRORS, 2)
        for name, value in counters(before).items():
            if name not in (STALE_ERRORS, RECORDS, READ_BYTES) and "license_stale" not in name:
                assert after[name] == value, name
        assert after[RECORDS] == before[RECORDS] + 1
        assert (
            after["qlik_license_exporter_first_start_timestamp_seconds"]
            == (before["qlik_license_exporter_first_start_timestamp_seconds"])
        )
        assert (
            after["qlik_license_exporter_start_timestamp_seconds"]
            > (before["qlik_license_exporter_start_timestamp_seconds"])
        )


@pytest.mark.slow
def test_hazard_117_a_kill_at_any_moment_neither_loses_nor_doubles_a_record(tmp_path: Path) -> None:
    """Correctness does not depend on a clean stop."""
    site = Site(tmp_path)
    append(site.licenses, licenses_line(time.time(), "hello"))
    written = 0
    for _ in range(3):
        with process(site) as exporter:
            exporter.await_ready()
            for _ in range(20):
                append(site.licenses, licenses_line(time.time(), STALE))
                written += 1
            exporter.stop(signal.SIGKILL)
    with process(site) as exporter:
        exporter.await_value(STALE_ERRORS, written)


@pytest.mark.slow
def test_state_gauges_are_absent_until_the_logs_were_read_and_scrapes_answer_meanwhile(tmp_path: Path) -> None:
    site, slow = Site(tmp_path), tmp_path / "the disk is slow"
    append(site.licenses, licenses_line(time.time(), STALE))
    slow.touch()
    with process(site, prelude=dead_while(slow, site.licenses)) as exporter:
        ready = exporter.ask("/-/ready")
        assert (ready.status, "licenses" in ready.text) == (503, True)
        seen = exporter.metrics()
        assert "qlik_license_stale" not in seen
        assert "qlik_license_sync_expected" not in seen
        assert seen[STALE_ERRORS] == 0
        slow.unlink()
        assert exporter.await_ready().value("qlik_license_stale") == 1


@pytest.mark.slow
def test_a_stop_does_not_wait_for_the_catching_up(tmp_path: Path) -> None:
    site = Site(tmp_path)
    line = licenses_line(time.time(), ATTEMPT) + "\n"
    site.licenses.write_text(line * 300_000)
    with process(site) as exporter:
        began = time.monotonic()
        assert exporter.stop() == 0
        assert time.monotonic() - began < 3


@pytest.mark.slow
def test_a_missing_folder_counts_as_listed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.settings["logs"]["licenses"]["paths"] = [str(tmp_path / "nowhere" / "*.log")]
    with process(site) as exporter:
        seen = exporter.await_ready().metrics()
        assert seen["qlik_license_sync_expected"] == 0
        assert seen['qlik_license_exporter_log_files{log="licenses"}'] == 0
        later = tmp_path / "nowhere" / "licenses.log"
        later.parent.mkdir()
        append(later, licenses_line(time.time(), STALE))
        exporter.await_value(STALE_ERRORS, 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_3_s_with_a_scraper_connected(tmp_path: Path, number: int) -> None:
    site = Site(tmp_path)
    with process(site) as exporter, socket.create_connection(address_of(exporter)) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert scraper.recv(9) == b"HTTP/1.1 "
        began = time.monotonic()
        assert exporter.stop(number) == 0
        assert time.monotonic() - began < 3
        assert "Traceback" not in exporter.said


def address_of(exporter: ExporterProcess) -> tuple[str, int]:
    host, _, port = exporter.url.rpartition("/")[2].rpartition(":")
    return host, int(port)


@pytest.mark.slow
def test_a_taken_port_is_a_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        site = Site(tmp_path)
        code, said = ended(site, "--config.file", str(site.configured()), "--web.listen-address", address)
    assert code == 1
    assert f"qlik-license-exporter: cannot listen on {address}: " in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_second_process_on_the_same_state_file_names_the_first_and_touches_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with process(site) as exporter:
        exporter.await_ready()
        code, said = ended(site, "--config.file", str(site.config_file))
        assert code == 1
        assert f"in use by process {exporter.process.pid};" in said
        assert "Traceback" not in said
        append(site.licenses, licenses_line(time.time(), STALE))
        exporter.await_value(STALE_ERRORS, 1)


@pytest.mark.slow
def test_hazard_123_both_ip_families_answer(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.settings["web"]["listen_addresses"] = [":0"]
    with process(site) as exporter:
        port = address_of(exporter)[1]
        for host in ("127.0.0.1", "[::1]"):
            exporter.url = f"http://{host}:{port}"
            assert exporter.ask("/-/healthy").status == 200, host


def test_an_unusable_configuration_ends_with_2_and_one_line(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.settings["license"] = {"grace": "five days"}
    code, said = ended(site, "--config.file", str(site.configured()))
    assert code == 2
    assert said == (
        f"qlik-license-exporter: {site.config_file}: license.grace: found `five days`, expected a duration with its "
        "unit, such as 30s, 5m, 26h or 5d\n"
    )
    assert not site.state.exists()
