"""Sockets, limits and the watchdog: what keeps scrapes answered whatever clients do."""

import asyncio
import contextlib
import errno
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.registry import Collector
from web_stand_in import DEADLINE, TARGET, Site, StandIn, eventually, site, until_closed

from exporter.web import listener, sockets
from exporter.web.callers import group_of
from exporter.web.connection import Heads
from exporter.web.limits import Limits
from exporter.web.listener import Listener
from exporter.web.security import Security
from exporter.web.server import WebServer
from exporter.web.sockets import ListenError, listening_sockets

LIMITS = Limits()

FLOOD = """
import resource, socket, sys
port, wanted, opening = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000) if hard > 0 else 20000, hard))
held = []
try:
    while len(held) < wanted:
        held.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        try:
            held[-1].sendall(opening)
        except ConnectionError:
            pass  # closed at once to make room
except OSError:
    pass  # no more descriptors here
print(len(held), flush=True)
sys.stdin.read()
"""


def _connect(running: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE)


def _is_healthy(client: socket.socket) -> bool:
    """Whether the answer to /-/healthy comes, on a connection that stays open."""
    answer = b""
    while not answer.endswith(b"Healthy.\n"):
        answer += client.recv(65536) or b"closed Healthy.\n"
    return answer.startswith(b"HTTP/1.1 200")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _reset(client: socket.socket) -> None:
    """Close so rudely that the other side gets a reset."""
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.close()


# --- addresses


@pytest.mark.windows
def test_hazard_123_a_port_alone_is_served_in_both_ip_families() -> None:
    with site(address=":0") as running:
        assert running.server.bound == (f"0.0.0.0:{running.port}", f"[::]:{running.port}")
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, running.port), timeout=DEADLINE) as client:
                client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert until_closed(client).startswith(b"HTTP/1.1 200")


def _sockets_that_refuse(refused: dict[int, int], on: str = "bind") -> type[socket.socket]:
    """Sockets of which those of some families fail with an errno, on being made or bound: a machine unlike this one."""

    class Refusing(socket.socket):
        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            if on == "make" and family in refused and fileno is None:
                raise OSError(refused[family], os.strerror(refused[family]))
            super().__init__(family, type, proto, fileno)

        def bind(self, place: object) -> None:
            if self.family in refused:
                raise OSError(refused[self.family], os.strerror(refused[self.family]))
            super().bind(place)  # type: ignore[arg-type]

    return Refusing


@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("on", ["make", "bind"])
def test_hazard_123_a_missing_ip_family_is_a_warning(
    missing: int, on: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code = errno.EAFNOSUPPORT if on == "make" else errno.EADDRNOTAVAIL
    monkeypatch.setattr(sockets.socket, "socket", _sockets_that_refuse({missing: code}, on))
    (opened,) = listening_sockets(":0", LIMITS)
    with opened:
        assert {opened.family, missing} == {socket.AF_INET, socket.AF_INET6}
    assert "not listening on" in caplog.text


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (dict.fromkeys((socket.AF_INET, socket.AF_INET6), errno.EAFNOSUPPORT), "0.0.0.0: address family not supported"),
        ({socket.AF_INET6: errno.EADDRINUSE}, "no port is free for both IPv4 and IPv6"),
        ({socket.AF_INET: errno.EACCES}, "this account may not use the port"),
    ],
)
def test_what_cannot_be_bound_at_all_is_one_line(
    refused: dict[int, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets.socket, "socket", _sockets_that_refuse(refused))
    with pytest.raises(ListenError, match=f"^cannot listen on :0: {reason}"):
        listening_sockets(":0", LIMITS)


def test_a_host_name_is_served_at_every_address_it_has() -> None:
    with site(address="localhost:0") as running:
        assert f"127.0.0.1:{running.port}" in running.server.bound
        assert running.ask("/-/healthy")[0] == 200


@pytest.mark.windows
@pytest.mark.parametrize("host", ["", "127.0.0.1", "[::1]", "localhost"])
def test_a_taken_port_is_an_error_that_names_the_address(host: str) -> None:
    taken = socket.socket(socket.AF_INET6 if host == "[::1]" else socket.AF_INET)
    with taken:
        taken.bind((host.strip("[]").replace("localhost", "127.0.0.1"), 0))
        taken.listen()
        address = f"{host}:{taken.getsockname()[1]}"
        server = WebServer(StandIn(), Security(None), lambda: None, limits=Limits(taken_pause=0.01))
        with pytest.raises(ListenError) as failure:
            server.start(["127.0.0.1:0", address])
        server.stop()
    assert str(failure.value) == f"cannot listen on {address}: another program is using the port"


@pytest.mark.parametrize("address", ["no-such-host.invalid:80", "192.0.2.1:0", "a" * 70 + ":1"])
def test_an_address_that_is_not_ours_is_an_error_that_names_it(address: str) -> None:
    with pytest.raises(ListenError, match=address):
        listening_sockets(address, LIMITS)


def test_after_a_failed_start_nothing_is_left_open() -> None:
    before = _descriptors()
    for _ in range(3):
        server = WebServer(StandIn(), Security(None), lambda: None)
        with pytest.raises(ListenError):
            server.start([":0", "192.0.2.1:0"])
        server.stop()
    assert _descriptors() == before


# --- clients that are slow, many or rude


@pytest.mark.slow
@pytest.mark.parametrize("opening", ["", r"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_thousands_of_clients_that_never_finish_leave_scrapes_working(opening: str) -> None:
    with site() as running:
        arguments = [sys.executable, "-c", FLOOD, str(running.port), "2000", opening]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flood:
            assert flood.stdin
            assert flood.stdout
            while flood.poll() is None and not _readable(flood.stdout.fileno()):
                assert running.ask("/metrics")[0] == 200
            held = int(flood.stdout.readline())
            assert held > LIMITS.connections
            for _ in range(5):
                assert running.ask("/metrics")[0] == 200
            assert len(running.connections) <= LIMITS.connections
            flood.stdin.close()
        assert running.failures == []


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.02)[0])


@pytest.mark.windows
def test_the_client_that_has_waited_longest_makes_room_for_a_new_one() -> None:
    with site(limits=Limits(connections=16)) as running:  # 8 of one address
        waiting = [_connect(running) for _ in range(8)]
        waiting[0].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _is_healthy(waiting[0])  # has been touched last
        assert running.ask("/metrics")[0] == 200
        assert waiting[1].recv(1) == b""
        waiting[0].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _is_healthy(waiting[0])
        for client in waiting:
            client.close()


def test_a_connection_that_has_to_make_room_before_it_is_open_is_closed() -> None:
    released = threading.Event()
    with site(limits=Limits(connections=1)) as running:
        loop = running.loop
        loop.call_soon_threadsafe(released.wait, DEADLINE)
        clients = [_connect(running) for _ in range(6)]  # all of them are accepted in one turn
        released.set()
        for client in clients[:-1]:
            assert until_closed(client) == b""
        for client in clients:
            client.close()
        assert eventually(lambda: not running.connections and len(asyncio.all_tasks(loop)) == 0)


class _Waiting(StandIn):
    """Whose probes never end."""

    async def probe(self, target: str, seconds: float) -> Collector:
        await asyncio.Event().wait()
        raise KeyError(target)


PROBE = f"GET /probe?target={TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
HEALTH = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


def _from(address: str, running: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE, source_address=(address, 0))


def test_a_newcomer_takes_the_place_of_the_longest_waiting_whatever_that_waits_for() -> None:
    with site(exporter=_Waiting(), limits=Limits(connections=8)) as running:  # 4 of one address
        probing = [_connect(running) for _ in range(4)]
        for client in probing:
            client.sendall(PROBE)
        assert eventually(lambda: sum(one.answering for one in running.connections) == 4)
        assert running.ask("/metrics")[0] == 200
        assert until_closed(probing[0]) == b""
        assert running.ask("/metrics")[0] == 200
        for client in probing:
            client.close()


def test_an_address_with_many_connections_costs_another_address_none() -> None:
    with site(limits=Limits(connections=8)) as running:
        kept = _from("127.0.0.2", running)
        crowd = [_from("127.0.0.3", running) for _ in range(20)]
        others = [_from(f"127.0.1.{number}", running) for number in range(1, 6)]
        assert running.ask("/-/healthy")[0] == 200
        assert len(running.connections) <= 8
        for client in (kept, *others):
            client.sendall(HEALTH)
            assert _is_healthy(client)
        for client in (kept, *crowd, *others):
            client.close()


@pytest.mark.parametrize(
    ("peers", "same"),
    [
        ([("10.0.0.1", 1), ("10.0.0.1", 2), ("::ffff:10.0.0.1", 3, 0, 0)], True),
        ([("2001:db8::1", 1, 0, 0), ("2001:db8::ffff:1", 2, 0, 0), ("2001:db8:0:0:9::", 2, 0, 0)], True),
        ([("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 1, 0, 2)], True),
        ([("10.0.0.1", 1), ("10.0.0.2", 1), ("2001:db8::1", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0)], False),
        ([None, "", ("",), ("no address", 1), ()], True),
    ],
)
def test_limits_are_shared_by_an_ipv4_address_or_an_ipv6_network(peers: list[object], same: bool) -> None:
    assert len({group_of(peer) for peer in peers}) == (1 if same else len(peers))


@pytest.mark.slow
def test_scrapes_are_answered_while_hundreds_wait_for_a_probe() -> None:
    with site(exporter=_Waiting()) as running:
        waiting = []
        for _ in range(530):
            waiting.append(_connect(running))
            waiting[-1].sendall(PROBE)
        statuses = [running.ask("/metrics")[0] for _ in range(60)]
        assert statuses == [200] * 60
        assert running.ask(f"/probe?target={TARGET}")[::2] == (429, b"Too many requests are waiting for a probe.\n")
        for client in waiting:
            client.close()
        assert running.failures == []


@pytest.mark.slow
def test_scrapes_are_answered_while_hundreds_pipeline_and_never_read() -> None:
    big = CollectorRegistry()
    for number in range(200):
        Gauge(f"qlik_license_number_{number}", "One of many that make the answer large.", registry=big)
    with site(exporter=StandIn(metrics=big)) as running:
        clients = []
        for _ in range(400):
            clients.append(_connect(running))
            clients[-1].setblocking(False)
            with contextlib.suppress(OSError):
                clients[-1].send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        took = []
        for _ in range(20):
            begun = time.monotonic()
            assert running.ask("/metrics")[0] == 200
            took.append(time.monotonic() - begun)
        for client in clients:
            client.close()
    assert sorted(took)[10] < 1.0, took


def test_answers_that_are_asked_for_at_once_are_made_once() -> None:
    made, released = [], threading.Event()

    class Counting(StandIn):
        def registry(self) -> Collector:
            made.append(1)
            return super().registry()

    with site(exporter=Counting()) as running:
        loop = running.loop
        clients = [_connect(running) for _ in range(20)]
        assert eventually(lambda: len(running.connections) == 20)
        loop.call_soon_threadsafe(released.wait, DEADLINE)
        for client in clients:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        released.set()
        for client in clients:
            with client:
                assert b"qlik_license_sync_age_seconds 42.0" in until_closed(client)
    assert len(made) == 1


@pytest.mark.windows
def test_a_client_gets_only_so_long_to_send_a_request() -> None:
    with site(limits=Limits(head=0.3)) as running, _connect(running) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        begun = time.monotonic()
        assert until_closed(client) == b""
        assert time.monotonic() - begun < DEADLINE / 2


def test_a_client_that_drips_its_second_request_is_cut_off_as_well() -> None:
    with site(limits=Limits(head=0.3)) as running, _connect(running) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _is_healthy(client)
        client.sendall(b"GET ")
        assert until_closed(client) == b""


@pytest.mark.parametrize("more", [b"GET", b"\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\n", b"GET /"])
def test_half_a_head_that_came_with_the_request_before_it_is_cut_off_as_well(more: bytes) -> None:
    with site(limits=Limits(head=0.3)) as running, _connect(running) as client:
        client.sendall(HEALTH * 2 + more)
        begun = time.monotonic()
        assert until_closed(client).count(b"Healthy.") == 2
        assert time.monotonic() - begun < DEADLINE / 2


@pytest.mark.slow
@given(st.lists(st.sampled_from([HEALTH, b"GET / HTTP/1.1\r\n\r\n", b"\r\n"]), max_size=5), st.data())
def test_heads_are_counted_however_they_are_cut(heads: list[bytes], data: st.DataObject) -> None:
    sent, counted = b"".join(heads), Heads()
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        counted.take(sent[:size])
        sent = sent[size:]
    assert (counted.complete, counted.begun) == (sum(len(head) > 2 for head in heads), 0)
    counted.take(b"\r\nGE")
    counted.take(b"T /")
    assert counted.begun == len(b"GET /")


def test_counting_heads_takes_time_in_proportion_to_what_was_sent() -> None:
    def seconds(sent: bytes) -> float:
        begun = time.process_time()
        counted = Heads()
        counted.take(sent)
        assert counted.complete == len(sent) // 5
        return time.process_time() - begun

    short, long = (min(seconds(b"x\r\n\r\n" * heads) for _ in range(3)) for heads in (5_000, 50_000))
    assert long < 40 * short


@pytest.mark.slow
def test_a_connection_may_rest_between_two_scrapes_but_not_for_ever() -> None:
    with site(limits=Limits(head=0.1, idle=2.0)) as running, _connect(running) as client:
        begun = time.monotonic()
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _is_healthy(client)
        assert until_closed(client) == b""
        assert time.monotonic() - begun >= 2.0


@pytest.mark.windows
def test_a_client_that_does_not_take_its_answer_is_cut_off() -> None:
    with (
        site(exporter=StandIn(html="x" * 30_000_000), limits=Limits(write=0.3)) as running,
        _connect(running) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(1)  # the answer has begun
        assert eventually(lambda: not running.connections)
        assert len(until_closed(client)) < 30_000_000


def test_heads_beyond_the_limit_are_refused() -> None:
    with site() as running:
        assert running.raw(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.0 400")
        long_field = b"X-Long: " + b"x" * 9000 + b"\r\n"
        assert running.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + long_field).startswith(b"HTTP/1.0 400")
        many_fields = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(100))
        assert b"200" not in running.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + many_fields)
        assert running.ask("/metrics")[0] == 200


@pytest.mark.windows
def test_hazard_118_clients_that_reset_at_once_do_not_kill_the_listener() -> None:
    with site() as running:
        for _ in range(500):
            _reset(_connect(running))
        assert running.ask("/metrics")[0] == 200
        assert running.failures == []


def test_hazard_119_clients_that_abort_mid_answer_leave_no_traceback_and_no_descriptor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with site(exporter=StandIn(html="x" * 2_000_000)) as running:
        running.ask("/-/healthy")
        before = _descriptors()
        for _ in range(100):
            client = _connect(running)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1000)
            _reset(client)
        assert running.ask("/metrics")[0] == 200
        assert eventually(lambda: _descriptors() <= before)
    assert caplog.text == ""


def test_when_descriptors_run_out_waiting_clients_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted(socket.socket):
        refusals = 3

        def accept(self) -> tuple[socket.socket, object]:
            if Exhausted.refusals and threading.current_thread().name == "web":
                Exhausted.refusals -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(sockets.socket, "socket", Exhausted)
    with site() as running:
        assert running.ask("/metrics")[0] == 200
        assert Exhausted.refusals == 0
        assert running.failures == []


def test_the_documentation_states_the_limits_in_force() -> None:
    page = (Path(__file__).parent.parent / "docs/security.md").read_text(encoding="utf-8")
    assert LIMITS.connections == 512
    for row in (
        "| concurrent connections | 512 (Windows: 200), half of them from one address; a further one is always "
        "accepted, and closes the one that has waited longest: of the same address, or of the address with the most "
        "connections |",
        f"| requests waiting for `/probe` | {LIMITS.probes}, of which {LIMITS.probes_each} from one address; beyond it, status "
        "429 with `Retry-After` |",
        f"| request header | {round(LIMITS.line_bytes / 1024)} KiB per line, "
        f"{LIMITS.head_bytes // 1024} KiB in total, complete within {LIMITS.head:.0f} s of its first byte |",
        f"| TLS handshake | {LIMITS.head:.0f} s |",
        f"| idle connection | {LIMITS.idle / 60:.0f} min |",
        f"| request body | {LIMITS.body_bytes // 1024} KiB; no request needs one |",
        f"| reading the response | {LIMITS.write:.0f} s |",
        f"| shutdown | {LIMITS.stop:.0f} s, even with clients connected |",
    ):
        assert row in page


# --- the watchdog


@pytest.mark.windows
def test_hazard_118_a_listener_closed_behind_its_back_is_opened_again_and_counted() -> None:
    with site(limits=Limits(watch=0.05)) as running:
        bound = running.server.bound
        running.close_ports()
        assert eventually(lambda: running.failures[:1] == ["web"])
        assert eventually(lambda: _answers(running))
        assert running.server.bound == bound


@pytest.mark.windows
def test_a_loop_that_ended_is_started_anew_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with site(limits=Limits(watch=0.05)) as running:
        assert eventually(lambda: _answers(running))  # else the loop may be about to stop and to go on by itself
        loop = running.loop
        loop.call_soon_threadsafe(loop.stop)
        assert eventually(lambda: running.failures[:1] == ["web"])
        assert eventually(lambda: _answers(running))
    assert "the web server does not answer" in caplog.text


@pytest.mark.slow
@pytest.mark.windows
def test_a_loop_that_hangs_is_replaced() -> None:
    release = threading.Event()
    exporter = StandIn()
    with site(exporter=exporter, limits=Limits(watch=0.05, knock=0.3)) as running:
        loop = running.loop
        loop.call_soon_threadsafe(release.wait, DEADLINE)
        assert eventually(lambda: running.failures[:1] == ["web"])
        assert eventually(lambda: _answers(running))
        release.set()


def test_a_port_that_another_program_took_meanwhile_is_opened_once_it_is_free() -> None:
    with site(limits=Limits(watch=0.05, knock=0.1)) as running:
        port = running.port
        running.close_ports()
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.1", port))
            squatter.listen()
            assert eventually(lambda: running.failures[:1] == ["web"])
            assert running.replaced
        assert eventually(lambda: _answers(running))
        assert running.failures == ["web"]


@pytest.mark.windows
def test_the_watchdog_leaves_a_healthy_server_alone() -> None:
    with site(address=":0", limits=Limits(watch=0.01)) as running:
        serving = running.serving
        assert eventually(lambda: min(serving.accepted) >= 20)
        assert running.ask("/metrics")[0] == 200
        assert running.failures == []
        assert running.serving is serving


def test_a_knock_that_fails_on_this_side_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    knocks = 0

    def without_descriptors(*_: object, **__: object) -> socket.socket:
        nonlocal knocks
        knocks += 1
        raise OSError(errno.EMFILE, "Too many open files")

    with site(limits=Limits(watch=0.01)) as running:
        monkeypatch.setattr(listener.socket, "create_connection", without_descriptors)
        assert eventually(lambda: knocks > 5)
        assert running.failures == []


@pytest.mark.windows
def test_whatever_fails_inside_is_one_line_of_log_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Unsendable(web.Response):
        async def prepare(self, request: web.BaseRequest) -> None:
            raise ZeroDivisionError(request.path)

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/unsendable":
            return Unsendable()
        raise ZeroDivisionError(request.path)

    alone = Listener(failing, Security(None), lambda: None, LIMITS)
    alone.start(["127.0.0.1:0"])
    try:
        port = int(alone.bound[0].rpartition(":")[2])
        for path, answer in (("/secret", b"HTTP/1.1 500 Internal Server Error\r\n"), ("/unsendable", b"")):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                assert until_closed(client)[:36] == answer
        loop = alone._loop
        assert loop
        loop._loop.call_soon_threadsafe(lambda: 1 / 0)
        loop._loop.call_soon_threadsafe(loop._loop.call_exception_handler, {"exception": ConnectionResetError()})
        assert eventually(lambda: len(caplog.messages) == 3)
    finally:
        alone.stop()
    assert caplog.messages == [
        "a web answer failed: ZeroDivisionError",
        "a web connection failed: ZeroDivisionError",
        "web loop: ZeroDivisionError",
    ]
    assert "Traceback" not in caplog.text


def test_a_loop_that_is_stopped_before_it_listens_ends_without_a_word(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    async def serve(self: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(listener._LoopThread, "_serve", serve)
    with site(limits=Limits(watch=60)) as running:
        assert begun.wait(20)
        running.server.stop()
        assert not [thread for thread in threading.enumerate() if thread.name == "web"]
    assert not caplog.text


def _answers(running: Site) -> bool:
    try:
        return running.ask("/metrics")[0] == 200
    except OSError:
        return False


@pytest.mark.slow
def test_a_process_with_a_server_that_nobody_stops_still_ends(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from web_stand_in import StandIn, Security, WebServer\n"
        "server = WebServer(StandIn(), Security(None), lambda: None)\n"
        "server.start(['127.0.0.1:0'])\n"
        "print(server.bound[0])\n"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; exec(open({str(program)!r}).read())"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_port_that_a_killed_program_still_holds_is_waited_for() -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{holder.getsockname()[1]}"
    threading.Timer(0.3, holder.close).start()
    for opened in listening_sockets(address, Limits(taken_tries=100, taken_pause=0.05)):
        opened.close()


def test_a_port_that_stays_taken_is_an_error_in_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(ListenError, match="another program is using the port"):
            listening_sockets(address, Limits(taken_tries=3, taken_pause=0.01))
