"""The whole exporter pushes: to Debian's Prometheus, and to a receiver that is down while the exporter is killed."""

import asyncio
import json
import resource
import signal
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.config import RemoteWriteConfig
from exporter.remote_write.encoding import write_request
from exporter.remote_write.queue import BatchQueue
from exporter.remote_write.receiver import Answer, receiver
from exporter.remote_write.series import series_of
from exporter.remote_write.writer import RemoteWriter
from tests.exporting import Site, ended, process, thread
from tests.live_programs import eventually, fetched, free_port, running
from tests.push_receiver import Receiver

pytestmark = pytest.mark.slow


@contextmanager
def receiving_prometheus(folder: Path, config: str = "global: {}\n", port: int = 0) -> Iterator[str]:
    """A Prometheus that scrapes nothing and takes what is pushed; gives its address."""
    (folder / "prometheus.yml").write_text(config)
    url = f"http://127.0.0.1:{port or free_port()}"
    arguments = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'prometheus'}"]
    arguments += ["--web.enable-remote-write-receiver", f"--web.listen-address={url[7:]}"]
    with running(folder / "prometheus.log", "prometheus", *arguments):
        eventually("Prometheus is ready", lambda: fetched(f"{url}/-/ready"))
        yield url


def query(url: str, expression: str) -> dict[str, Any]:
    """The instant vector, by series."""
    answer = urllib.request.urlopen(f"{url}/api/v1/query?query={urllib.parse.quote(expression)}", timeout=10)
    with answer:
        result = json.load(answer)["data"]["result"]
    return {json.dumps(one["metric"], sort_keys=True): one["value"] for one in result}


def pushing(site: Site, url: str, **more: Any) -> Site:
    site.settings["remote_write"] = {"url": url, "interval": "1s", "labels": {"site": "production"}, **more}
    return site


def scraped(exposition: str, job: str, instance: str) -> set[str]:
    """The series of an exposition, as Prometheus would store them, read by prometheus_client's own parser."""
    from prometheus_client.parser import text_string_to_metric_families

    target = {"job": job, "instance": instance, "site": "production"}
    return {
        json.dumps({**sample.labels, **target, "__name__": sample.name}, sort_keys=True)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def test_a_real_prometheus_has_the_series_of_a_scrape_their_values_and_their_end(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    with receiving_prometheus(tmp_path) as prometheus:
        pushing(site, f"{prometheus}/api/v1/write", labels={"site": "production", "instance": "node1:10188"})
        code, said = ended(site, "check", "--config.file", str(site.configured()))
        assert (code, "answered 204 to a request without samples" in said) == (0, True), said
        with process(site) as exporter:
            exporter.await_ready()
            eventually("it is up there", lambda: query(prometheus, 'up{job="qlik-license"} == 1'))
            pushed = "qlik_license_exporter_remote_write_samples_total > 0"
            eventually(
                "two intervals have passed", lambda: query(prometheus, f"count_over_time({pushed[:-4]}[1m]) > 2")
            )
            expected = scraped(exporter.ask("/metrics").text, "qlik-license", "node1:10188")
            there = query(prometheus, '{job="qlik-license"}')
            of_scrape = {
                json.dumps(
                    {"__name__": name, "job": "qlik-license", "instance": "node1:10188", "site": "production"},
                    sort_keys=True,
                )
                for name in (
                    "up",
                    "scrape_duration_seconds",
                    "scrape_samples_scraped",
                    "scrape_samples_post_metric_relabeling",
                    "scrape_series_added",
                )
            }
            assert set(there) == expected | of_scrape
            (number,) = query(prometheus, "scrape_samples_scraped").values()
            assert float(number[1]) == len(expected)
            shown = exporter.metrics()
            for name in ("qlik_license_grace_seconds", "qlik_license_exporter_start_timestamp_seconds"):
                (value,) = query(prometheus, name).values()
                assert float(value[1]) == pytest.approx(shown[name], rel=1e-9)
            (value,) = query(prometheus, 'qlik_license_exporter_log_records_total{log="licenses"}').values()
            assert float(value[1]) == shown['qlik_license_exporter_log_records_total{log="licenses"}']
            assert exporter.stop(within=10) == 0
        assert query(prometheus, '{job="qlik-license"}') == {}
        assert query(prometheus, 'last_over_time(up{job="qlik-license"}[5m])')


def test_what_waits_is_sent_once_and_in_order_after_a_kill(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    with Receiver() as receiver:
        receiver.always = 503
        pushing(site, receiver.url)
        with process(site) as exporter:
            waiting = "qlik_license_exporter_remote_write_samples_pending"
            eventually("three batches wait", lambda: exporter.metrics()[waiting] > 300)
            exporter.stop(signal.SIGKILL)
        assert receiver.taken == []
        receiver.always = None
        with process(site) as exporter:
            eventually("all of it has arrived", lambda: len(receiver.taken) > 4 and exporter.metrics()[waiting] == 0)
            exporter.stop()
    times = [{sample.at for sample in request} for request in receiver.taken]
    assert all(len(at) == 1 for at in times)
    order = [at.pop() for at in times]
    assert order == sorted(set(order))
    assert {sample.stale for sample in receiver.taken[-1]} == {True}
    assert all(sample.value == 1 for sample in receiver.samples if sample.name == "up" and not sample.stale)


def test_an_hour_that_a_real_prometheus_was_away_is_there_afterwards_with_its_own_times(tmp_path: Path) -> None:
    """The writer's clock is set back by that hour, and moves in steps of 30 s; Prometheus comes at its end."""
    port, now = free_port(), [float(int(time.time()) - 3600)]
    began = now[0]
    settings = RemoteWriteConfig(url=f"http://127.0.0.1:{port}/api/v1/write", labels={"site": "a"})
    queue = BatchQueue(tmp_path / "q.db")

    def samples() -> list[tuple[str, dict[str, str], float]]:
        return [("qlik_license_sync_age_seconds", {}, now[0] - began)]

    writer = RemoteWriter(settings, samples, queue, "n1", lambda: now[0], lambda: now[0])
    for _ in range(120):
        writer.take()
        asyncio.run(writer.deliver())
        now[0] += 30
    assert writer.figures.pending == 120 * 6
    with receiving_prometheus(tmp_path, port=port) as prometheus:
        now[0] += 60
        asyncio.run(writer.deliver())
        assert writer.figures.pending == 0
        assert writer.figures.sent == 120 * 6
        window = f"start={began}&end={began + 3570}&step=30"
        answer = fetched(f"{prometheus}/api/v1/query_range?query=qlik_license_sync_age_seconds&{window}")
        (series,) = json.loads(answer)["data"]["result"]
    assert series["metric"] == {
        "__name__": "qlik_license_sync_age_seconds", "job": "qlik-license", "instance": "n1", "site": "a"
    }  # fmt: skip
    assert [(at, float(value)) for at, value in series["values"]] == [
        (began + 30 * number, 30.0 * number) for number in range(120)
    ]
    queue.close()


@pytest.mark.parametrize(
    ("config", "verdict"), [("global: {}\n", "refused"), ("storage: {tsdb: {out_of_order_time_window: 1d}}\n", "taken")]
)
def test_prometheus_takes_what_is_hours_old_only_with_its_setting_for_it(
    config: str, verdict: str, tmp_path: Path
) -> None:
    """As docs/remote-write.md says. The same request twice is taken both times."""

    async def sent(url: str, *ages: float) -> list[Answer]:
        async with receiver(RemoteWriteConfig(url=url), time.time) as post:
            return [await post(write_request([(series_of("m", {}, {}), 1.0)], int((now - age) * 1000))) for age in ages]

    now = time.time()
    with receiving_prometheus(tmp_path, config) as prometheus:
        answers = asyncio.run(sent(f"{prometheus}/api/v1/write", 0, 0, 3 * 3600))
    assert [answer.verdict for answer in answers] == ["taken", "taken", verdict]
    assert answers[2].reason == ("too_old" if verdict == "refused" else "http")


def test_on_a_full_disk_it_is_still_pushed_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    with Receiver() as receiver, process(pushing(site, receiver.url)) as exporter:
        eventually("it is pushed", lambda: receiver.taken)
        resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        before = len(receiver.taken)
        eventually("it goes on", lambda: len(receiver.taken) > before + 3)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE, unlimited)
        before = len(receiver.taken)
        eventually("and on", lambda: len(receiver.taken) > before + 3)
        dropped = "qlik_license_exporter_remote_write_samples_dropped_total"
        assert sum(value for name, value in exporter.metrics().items() if name.startswith(dropped)) == 0
        exporter.stop()
        assert exporter.said.count("state-remote-write.db can be used again") == 1  # its log was as full
    times = [request[0].at for request in receiver.taken]
    assert times == sorted(set(times))


def test_a_receiver_that_hangs_delays_no_scrape_and_no_stop(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    over = threading.Event()
    with Receiver() as receiver:
        receiver.answers = [lambda connection: over.wait(60)] * 100
        with process(pushing(site, receiver.url)) as exporter:
            exporter.await_ready()
            eventually("a request hangs", lambda: receiver.headers)
            began = time.monotonic()
            assert exporter.stop(within=10) == 0
            assert time.monotonic() - began < 3
        over.set()


def test_a_reload_changes_labels_and_address_and_says_what_needs_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    with Receiver() as first, Receiver() as second, thread(pushing(site, first.url)) as exporter:
        eventually("it is pushed", lambda: first.taken)
        (up,) = (sample for sample in first.taken[0] if sample.name == "up")
        port = exporter.url.rpartition(":")[2]
        assert port != "0"
        assert up.labels["instance"] == f"{socket.gethostname()}:0", "as it is configured"
        pushing(site, second.url, labels={"site": "test"}).configured()
        assert exporter.ask("/-/reload", "POST").status == 200
        eventually("the new labels arrive", lambda: {s.labels["site"] for s in second.samples if not s.stale})
        assert {s.labels["site"] for s in second.samples if not s.stale} == {"test"}
        assert {s.labels["site"] for s in second.samples if s.stale} == {"production"}
        del site.settings["remote_write"]
        site.configured()
        assert exporter.ask("/-/reload", "POST").status == 200
        assert "remote_write.url: takes effect at the next start" in caplog.text
        assert "remote_write" in exporter.ask("/config").text
