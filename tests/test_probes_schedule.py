"""When probes run, what is counted, and that nothing is left behind."""

import asyncio
import gc
import itertools
import os
import threading
import time

import msgspec
import psutil
import pytest
from probe_peers import (
    AUTHORITY,
    CERTIFICATE,
    NOT_FOUND,
    PATIENCE,
    answering,
    closed_port,
    listening,
    proxying,
    resetting,
    saying,
    secured,
    serving,
    silent,
    to,
    written,
)

from exporter.config import Duration, ProbeConfig
from exporter.probes import CURES, PHASES, REASONS, ProbeBoard, Prober, ProbeResult, Reason, probe, run_probe
from exporter.probes.result import RESULTS_KEPT


def rounds(settings: ProbeConfig, count: int) -> list[ProbeResult]:
    """The first `count` results of `run_probe`."""
    results: list[ProbeResult] = []

    async def run() -> None:
        enough = asyncio.Event()

        def on_result(result: ProbeResult) -> None:
            results.append(result)
            if len(results) >= count:
                enough.set()

        task = asyncio.create_task(run_probe(settings, on_result))
        async with asyncio.timeout(PATIENCE):
            await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return results


def test_a_probe_runs_at_once_and_then_on_its_interval() -> None:
    started = time.time()
    first, second, third = rounds(to(closed_port(), interval=Duration(0.3), protocol="tcp"), 3)
    assert first.at - started < 2
    assert second.at - first.at > 0.2
    assert third.at - first.at > 0.5


@pytest.mark.slow
def test_a_probe_never_overlaps_with_itself_and_leaves_out_what_it_missed() -> None:
    with listening(silent) as port:
        results = rounds(to(port, interval=Duration(0.1), timeout=Duration(0.25)), 3)
    assert [result.reason for result in results] == ["tls_timeout"] * 3
    for one, next_one in itertools.pairwise(results):
        assert next_one.at >= one.ended


@pytest.mark.slow
def test_probes_do_not_all_start_at_the_same_instant() -> None:
    async def first_starts() -> list[float]:
        settings = to(closed_port(), interval=Duration(10), protocol="tcp")
        starts: list[float] = []
        all_started = asyncio.Event()

        def on_result(result: ProbeResult) -> None:
            starts.append(result.at)
            if len(starts) == 8:
                all_started.set()

        tasks = [asyncio.create_task(run_probe(settings, on_result)) for _ in range(8)]
        async with asyncio.timeout(PATIENCE):
            await all_started.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return starts

    starts = asyncio.run(first_starts())
    assert max(starts) - min(starts) > 0.05


def test_a_probe_does_not_hold_up_the_loop() -> None:
    async def longest_pause(port: int) -> float:
        settings = to(port)
        await probe(settings)  # the trusted certificates are read once
        probing = asyncio.create_task(probe(settings))
        longest, before = 0.0, time.monotonic()
        while not probing.done():
            await asyncio.sleep(0)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        return longest

    with listening(secured(serving(CERTIFICATE), answering(NOT_FOUND))) as port:
        assert asyncio.run(longest_pause(port)) < 1


# --- on demand --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_probe_is_in_flight_and_others_share_its_result() -> None:
    connections = []

    def counting(connection) -> None:
        connections.append(1)
        silent(connection)

    async def ask(port: int) -> list[ProbeResult]:
        prober = Prober()
        settings = to(port, timeout=Duration(0.7))
        shared = await asyncio.gather(*(prober.probe(settings) for _ in range(20)))
        assert len(connections) == 1
        again = await prober.probe(settings)
        return [*shared, again]

    with listening(counting) as port:
        *shared, again = asyncio.run(ask(port))
    assert len({id(result) for result in shared}) == 1
    assert again is not shared[0]
    assert len(connections) == 2
    assert {result.reason for result in (*shared, again)} == {"tls_timeout"}


@pytest.mark.slow
def test_hazard_125_whoever_has_less_time_gets_what_is_known_by_then() -> None:
    async def ask(port: int) -> tuple[ProbeResult, float, ProbeResult]:
        prober = Prober()
        settings = to(port, timeout=Duration(1.5))
        patient = asyncio.create_task(prober.probe(settings, 10))
        started = time.monotonic()
        hasty = await prober.probe(settings, 0.4)
        took = time.monotonic() - started
        return hasty, took, await patient

    with listening(silent) as port:
        hasty, took, patient = asyncio.run(ask(port))
    assert took < 1.4
    for result in (hasty, patient):
        assert (result.success, result.reason) == (False, "tls_timeout")
        assert set(result.phases) == {"dns", "connect", "tls"}
    assert 0 < hasty.phases["tls"] < patient.phases["tls"]


def test_a_waiter_that_goes_away_takes_the_result_from_nobody() -> None:
    async def ask(port: int) -> ProbeResult:
        prober = Prober()
        settings = to(port, timeout=Duration(0.6))
        gone = asyncio.create_task(prober.probe(settings))
        stays = asyncio.create_task(prober.probe(settings))
        await asyncio.sleep(0)
        gone.cancel()
        result = await stays
        assert gone.cancelled()
        return result

    with listening(silent) as port:
        assert asyncio.run(ask(port)).reason == "tls_timeout"


# --- what is counted --------------------------------------------------------------------------------------------------


def result(reason: Reason | None, at: float, target: str = "a:1") -> ProbeResult:
    return ProbeResult(
        target=target, role="backend", at=at, ended=at + 1, success=reason is None, reason=reason, detail=".", phases={}
    )


def test_attempts_and_failures_are_counted_by_reason_and_born_at_0() -> None:
    board = ProbeBoard((ProbeConfig(target="a:1"), ProbeConfig(target="b:1")))
    history = board.histories["a:1"]
    assert history.failures == dict.fromkeys(REASONS, 0)
    assert (history.attempts, history.last, history.last_success) == (0, None, None)
    board.record(result(None, 10))
    board.record(result("dns", 20))
    board.record(result("dns", 30))
    board.record(result("reset", 40, target="no longer configured:1"))
    assert history.attempts == 3
    assert history.failures == {**dict.fromkeys(REASONS, 0), "dns": 2}
    assert history.last_success == 11
    assert history.last is not None
    assert history.last.at == 30
    assert board.histories["b:1"].attempts == 0


def test_an_inconclusive_probe_is_an_attempt_and_neither_a_success_nor_a_failure() -> None:
    board = ProbeBoard((ProbeConfig(target="a:1"),))
    history = board.histories["a:1"]
    board.record(result(None, 10))
    board.record(msgspec.structs.replace(result(None, 20), success=None))
    assert history.attempts == 2
    assert history.failures == dict.fromkeys(REASONS, 0)
    assert history.last_success == 11
    assert history.last is not None
    assert history.last.success is None


def test_a_reload_keeps_the_counts_of_a_target_that_stays() -> None:
    board = ProbeBoard((ProbeConfig(target="a:1", role="backend"), ProbeConfig(target="b:1")))
    board.record(result("dns", 10))
    board.configure((ProbeConfig(target="a:1", role="backend", interval=Duration(5)), ProbeConfig(target="c:1")))
    assert list(board.histories) == ["a:1", "c:1"]
    kept = board.histories["a:1"]
    assert (kept.attempts, kept.failures["dns"], len(kept.results)) == (1, 1, 1)
    assert kept.settings.interval == 5
    board.configure((ProbeConfig(target="a:1", role="other"),))  # another series, since the role is a label
    assert board.histories["a:1"].attempts == 0


def test_the_last_200_results_are_kept() -> None:
    board = ProbeBoard((ProbeConfig(target="a:1"),))
    for at in range(500):
        board.record(result(None, at))
    kept = board.histories["a:1"].results
    assert (len(kept), RESULTS_KEPT) == (200, 200)
    assert (kept[0].at, kept[-1].at) == (300, 499)


def test_reasons_and_phases_are_the_contracts_and_every_reason_has_a_cure() -> None:
    assert (
        *("dns", "tcp_refused", "tcp_timeout", "tcp_unreachable", "proxy_connect", "proxy_auth", "tls_untrusted"),
        *("tls_expired", "tls_hostname", "tls_handshake", "tls_timeout", "http_status", "http_timeout"),
        *("http_protocol", "reset", "other"),
    ) == REASONS
    assert PHASES == ("dns", "connect", "proxy", "tls", "http")
    assert set(CURES) == set(REASONS)


# --- nothing is left behind -------------------------------------------------------------------------------------------


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads_left(most: int) -> int:
    """The number of threads once it is at most `most` (the peers' own need a moment), or what it is in the end."""
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > most and time.monotonic() < deadline:
        time.sleep(0.01)
    return threading.active_count()


@pytest.mark.slow
def test_a_thousand_probes_leave_no_socket_task_thread_or_memory_behind(tmp_path) -> None:
    ca_file = written(tmp_path / "ca.pem", AUTHORITY.cert_pem.bytes())
    context = serving(CERTIFICATE)

    async def all_kinds(targets: list[ProbeConfig], times: int) -> set[str | None]:
        reasons: set[str | None] = set()
        for _ in range(times):
            results = await asyncio.gather(*(probe(settings) for settings in targets))
            reasons |= {result.reason for result in results}
        assert len(asyncio.all_tasks()) == 1
        return reasons

    with (
        listening(secured(context, answering(NOT_FOUND))) as good,
        listening(answering(NOT_FOUND)) as plain,
        listening(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as no_tls,
        listening(resetting) as resets,
        listening(silent) as says_nothing,
        listening(proxying([])) as proxy,
    ):
        quick = Duration(0.02)
        targets = [
            to(good, ca_file),
            to(good),
            to(good, ca_file, proxy=f"http://127.0.0.1:{proxy}"),
            to(plain, protocol="http"),
            to(no_tls),
            to(resets),
            to(closed_port()),
            to(closed_port(), proxy=f"http://127.0.0.1:{closed_port()}"),
            to(says_nothing, timeout=quick),
            to(says_nothing, protocol="tcp"),
        ]
        expected = {None, "tls_untrusted", "tls_handshake", "reset", "tcp_refused", "proxy_connect", "tls_timeout"}
        process = psutil.Process()

        asyncio.run(all_kinds(targets, 10))
        gc.collect()
        files, threads, memory = open_files(), threading.active_count(), process.memory_info().rss
        reasons = asyncio.run(all_kinds(targets, 100))
        gc.collect()
        assert threads_left(threads) <= threads
        assert open_files() <= files
        assert process.memory_info().rss - memory < 10 << 20
    assert expected <= reasons
