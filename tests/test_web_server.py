"""The routes of the contract, asked over real connections."""

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector
from web_stand_in import DEADLINE, TARGET, Site, StandIn, eventually, site, until_closed

from exporter.web import server
from exporter.web.limits import Limits
from exporter.web.server import Isolated, probe_timeout

pytestmark = pytest.mark.windows

PROMETHEUS_2_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
EVERY_PATH = (
    "/", "/metrics", "/config", "/api/v1/status", "/api/v1/events", "/-/healthy", "/-/ready", f"/probe?target={TARGET}"
)  # fmt: skip


def test_metrics_are_plain_text_unless_more_is_asked_for() -> None:
    with site() as running:
        status, headers, body = running.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nqlik_license_sync_age_seconds 42.0\n" in body
    assert not body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", [PROMETHEUS_2_ACCEPT, PROMETHEUS_3_ACCEPT])
def test_prometheus_gets_openmetrics_compressed(accept: str) -> None:
    with site() as running:
        status, headers, body = running.ask("/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;version=0.0.4;q=0.9", "text/plain"),
        ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text; q=0.8", "application/openmetrics-text"),
        ("application/openmetrics-text;version=1.0.0;q=0,*/*", "text/plain"),
        ("Application/OpenMetrics-Text; Version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_the_format_is_the_one_that_the_client_wants_most(accept: str, kind: str) -> None:
    with site() as running:
        assert running.ask("/metrics", headers={"Accept": accept})[1]["Content-Type"].startswith(f"{kind}; version=")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip;q=0, identity", None),
        ("xgzip", None),
        ("deflate", None),
        ("*;q=0", None),
        ("deflate, GZIP;q=0.5", "gzip"),
    ],
)
def test_an_answer_is_compressed_only_for_a_client_that_takes_gzip(accepted: str, coding: str | None) -> None:
    with site() as running:
        _, headers, body = running.ask("/metrics", headers={"Accept-Encoding": accepted})
    assert headers["Content-Encoding"] == coding
    assert b"qlik_license_sync_age_seconds 42.0" in (gzip.decompress(body) if coding else body)


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text;version=abc", "text/plain;version=é", "application/openmetrics-text;version=9.9.9",
     "text/plain;version=1.0.0.x", ",,;;=", "*/*", "text/html", "application/openmetrics-text;version=1;" + "x" * 999],
)  # fmt: skip
def test_hazard_108_whatever_a_client_accepts_the_content_type_is_one_that_prometheus_knows(accept: str) -> None:
    with site() as running:
        status, headers, _ = running.ask("/metrics", headers={"Accept": accept.encode("utf-8").decode("latin-1")})
    assert status == 200
    kind, _, parameters = headers["Content-Type"].partition("; ")
    assert kind in ("text/plain", "application/openmetrics-text")
    assert parameters.split("; ")[0] in ("version=0.0.4", "version=1.0.0")


def test_only_the_families_named_are_shown_when_some_are_named() -> None:
    with site(exporter=StandIn(metrics=Isolated([StandIn().metrics], lambda: None))) as running:
        _, _, body = running.ask("/metrics?name[]=qlik_license_sync_age_seconds")
    assert b"qlik_license_sync_age_seconds 42.0" in body
    assert b"attempts" not in body


class _Failing(Collector):
    def collect(self) -> Iterator[Metric]:
        raise RuntimeError("C:\\secret")


def test_hazard_107_a_failing_collector_leaves_the_others_visible_and_is_counted() -> None:
    failures: list[str] = []
    metrics = Isolated([_Failing(), StandIn().metrics], lambda: failures.append("metrics"))
    with site(exporter=StandIn(metrics=metrics)) as running:
        status, _, body = running.ask("/metrics")
    assert (status, failures) == (200, ["metrics"])
    assert b"qlik_license_sync_age_seconds 42.0" in body


def test_an_answer_that_fails_shows_neither_stack_trace_nor_path(caplog: pytest.LogCaptureFixture) -> None:
    with site(exporter=StandIn(metrics=_Failing())) as running:
        status, headers, body = running.ask("/metrics")
        assert running.ask("/-/healthy")[0] == 200
    assert (status, body) == (500, b"Internal Server Error.\n")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_hazard_109_twenty_scrapes_at_once_are_all_answered() -> None:
    statuses: list[int] = []
    with site() as running:
        scrapers = [threading.Thread(target=lambda: statuses.append(running.ask("/metrics")[0])) for _ in range(20)]
        for scraper in scrapers:
            scraper.start()
        for scraper in scrapers:
            scraper.join(DEADLINE)
    assert statuses == [200] * 20


def test_healthy_while_the_process_runs_and_ready_once_the_logs_are_read() -> None:
    exporter = StandIn(readiness=(False, "licenses is being read"))
    with site(exporter=exporter) as running:
        assert running.ask("/-/healthy")[0] == 200
        assert running.ask("/-/ready")[::2] == (503, b"Not ready: licenses is being read\n")
        exporter.readiness = (True, "")
        assert running.ask("/-/ready")[0] == 200


def test_the_status_is_json_and_the_page_is_html() -> None:
    with site() as running:
        _, headers, body = running.ask("/api/v1/status")
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert json.loads(body)["summary"] == "Überall grün"
        _, headers, body = running.ask("/")
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert body.startswith(b"<!doctype html>")


def test_the_page_may_use_its_own_style_and_nothing_else() -> None:
    with site(styles=("p { color: red }",)) as running:
        policy = running.ask("/")[1]["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "style-src 'sha256-" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert "connect-src" not in policy
        assert "style-src" not in running.ask("/metrics")[1]["Content-Security-Policy"]


def test_a_page_with_a_script_may_ask_this_server_only() -> None:
    with site(scripts=("location.reload()",)) as running:
        policy = running.ask("/")[1]["Content-Security-Policy"]
    assert "script-src 'sha256-" in policy
    assert "connect-src 'self'" in policy


def test_every_answer_carries_the_security_headers() -> None:
    with site() as running:
        for path in (*EVERY_PATH, "/nothing-here"):
            _, headers, _ = running.ask(path)
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["X-Frame-Options"] == "deny", path
            assert headers["Cache-Control"] == "no-store", path
            assert headers["Referrer-Policy"] == "no-referrer", path
            assert "default-src 'none'" in headers["Content-Security-Policy"], path
            assert "aiohttp" not in headers["Server"], path


def test_head_answers_like_get_without_a_body() -> None:
    with site() as running:
        for path in EVERY_PATH:
            status, headers, body = running.ask(path, "HEAD")
            assert (status, body) == (200, b""), path
            assert headers["Content-Type"] == running.ask(path)[1]["Content-Type"], path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(method: str) -> None:
    with site() as running:
        for path in (*EVERY_PATH, "/nothing-here"):
            status, headers, _ = running.ask(path, method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS"), path


@pytest.mark.parametrize("head", ["OPTIONS / HTTP/1.0\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"])
@pytest.mark.parametrize("body", ["", "Content-Length: 0\r\n"])
def test_a_load_balancers_question_what_is_allowed_is_answered(head: str, body: str) -> None:
    with site() as running:
        answer = running.raw(f"{head}{body}\r\n".encode())
        assert answer.split(b" ", 1)[1].startswith(b"204 ")
        assert b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in answer
        assert b"Access-Control" not in answer
        assert running.ask("/-/reload", "OPTIONS")[1]["Allow"] == "POST, PUT, OPTIONS"


def test_what_was_asked_for_is_never_repeated() -> None:
    with site() as running:
        for path in ("/<script>", "/C:/secret", "/probe?target=<script>", "/metrics/../secret", "/%00secret"):
            status, _, body = running.ask(path)
            assert status in (400, 403, 404), path
            assert b"script" not in body
            assert b"secret" not in body
        assert b"secret" not in running.raw(b"GET /secret HTTP/9.9\r\nsecret\r\n\r\n")


def test_reload_is_done_by_post_or_put_and_says_what_was_wrong() -> None:
    problem: str | None = None
    with site(exporter=StandIn(reload_problem=lambda: problem)) as running:
        assert running.ask("/-/reload", "POST")[::2] == (200, b"Reloaded.\n")
        assert running.ask("/-/reload", "PUT", body=b"x" * 100)[0] == 200
        problem = "license.grace: found `5`, expected a duration"
        status, _, body = running.ask("/-/reload", "POST")
        assert (status, body.decode()) == (500, f"Not reloaded; the current settings stay in force: {problem}\n")
        status, headers, _ = running.ask("/-/reload")
        assert (status, headers["Allow"]) == (405, "POST, PUT, OPTIONS")


def test_hazard_122_a_reload_that_hangs_delays_no_scrape_and_runs_once() -> None:
    release, begun = threading.Event(), threading.Event()

    def hanging() -> None:
        begun.set()
        release.wait(DEADLINE)

    statuses: list[int] = []
    with site(exporter=StandIn(reload_problem=hanging)) as running:
        first = threading.Thread(target=lambda: statuses.append(running.ask("/-/reload", "POST")[0]))
        first.start()
        assert begun.wait(DEADLINE)
        assert running.ask("/metrics")[0] == 200
        assert running.ask("/-/reload", "POST")[0] == 409
        release.set()
        first.join(DEADLINE)
        assert statuses == [200]


def test_a_reload_that_takes_too_long_is_said_to_go_on() -> None:
    release = threading.Event()
    with site(
        exporter=StandIn(reload_problem=lambda: str(release.wait(DEADLINE))), limits=Limits(reload=0.05)
    ) as running:
        assert running.ask("/-/reload", "POST")[0] == 504
        release.set()


def test_a_reload_that_fails_is_an_answer_without_details() -> None:
    def failing() -> None:
        raise OSError("/etc/secret")

    with site(exporter=StandIn(reload_problem=failing)) as running:
        status, _, body = running.ask("/-/reload", "POST")
    assert status == 500
    assert b"secret" not in body


def test_probe_asks_for_configured_targets_only() -> None:
    with site() as running:
        status, headers, body = running.ask(f"/probe?target={TARGET}")
        assert status == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"qlik_license" in body
        assert running.ask("/probe?target=169.254.169.254:80")[0] == 403
        assert running.ask("/probe?target=other:1&debug=true")[0] == 403
        assert running.ask("/probe")[0] == 400
        assert running.ask("/probe?target=")[0] == 400


def test_probe_answers_in_the_format_that_the_client_wants_most() -> None:
    with site() as running:
        headers = {"Accept": PROMETHEUS_3_ACCEPT, "Accept-Encoding": "gzip"}
        _, headers, body = running.ask(f"/probe?target={TARGET}", headers=headers)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert gzip.decompress(body).endswith(b"# EOF\n")


def _pending(running: Site) -> server._Pending:
    assert running.server._pending
    return running.server._pending


def test_only_so_many_requests_of_one_address_wait_for_a_probe() -> None:
    asked, release = threading.Semaphore(0), asyncio.Event()

    class Waiting(StandIn):
        async def probe(self, target: str, seconds: float) -> Collector:
            asked.release()
            await release.wait()
            return self.metrics

    ask = f"GET /probe?target={TARGET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    with site(exporter=Waiting()) as running:

        def waiting(number: int, address: str) -> list[socket.socket]:
            clients = []
            for _ in range(number):
                place = ("127.0.0.1", running.port)
                clients.append(socket.create_connection(place, DEADLINE, source_address=(address, 0)))
                clients[-1].sendall(ask)
                assert asked.acquire(timeout=DEADLINE)
            return clients

        clients = waiting(Limits().probes_each, "127.0.0.1")
        status, headers, _ = running.ask(f"/probe?target={TARGET}")
        assert (status, headers["Retry-After"]) == (429, "5")
        clients += waiting(Limits().probes - Limits().probes_each, "127.0.0.2")
        with socket.create_connection(("127.0.0.1", running.port), DEADLINE, source_address=("127.0.0.3", 0)) as third:
            third.sendall(ask)
            assert until_closed(third).startswith(b"HTTP/1.1 429")
        clients.pop().close()  # whoever goes away makes room
        assert eventually(lambda: _pending(running).probes.total() < Limits().probes)
        clients += waiting(1, "127.0.0.3")
        running.loop.call_soon_threadsafe(release.set)
        for client in clients:
            assert until_closed(client).startswith(b"HTTP/1.1 200")
            client.close()


def test_probe_tells_its_story_when_asked_to() -> None:
    with site() as running:
        status, headers, body = running.ask(f"/probe?target={TARGET}&debug=true")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert b"connect: refused" in body


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("10", 9.5), ("2.5", 2.0), ("0.5", 0.25), ("1e3", 120.0), ("", 120.0), ("soon", 120.0), ("nan", 120.0),
     ("inf", 120.0), ("-3", 120.0), ("0", 120.0)],
)  # fmt: skip
def test_hazard_125_a_probe_ends_half_a_second_before_prometheus_gives_up(header: str, seconds: float) -> None:
    assert probe_timeout({"X-Prometheus-Scrape-Timeout-Seconds": header}, 120.0) == seconds
    with site() as running:
        running.ask(f"/probe?target={TARGET}", headers={"X-Prometheus-Scrape-Timeout-Seconds": header})
        assert running.exporter.asked == [(TARGET, seconds)]


@pytest.mark.parametrize("path", ["/config", "/api/v1/events"])
@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "localhost.evil.example:10188"}, {"Host": "127.0.0.1.evil.example"},
     {"Host": "[::ffff:10.1.2.3]:80"}, {"Host": "evil@10.1.2.3"}, {"X-Forwarded-For": "10.1.2.3"},
     {"Forwarded": "for=10.1.2.3"}, {"Via": "1.1 proxy"}],
)  # fmt: skip
def test_without_users_what_is_private_is_for_programs_of_this_machine(path: str, headers: dict[str, str]) -> None:
    with site() as running:
        assert running.ask(path)[0] == 200
        for host in ("localhost", f"LOCALHOST:{running.port}", "[::1]:80", "127.8.9.1"):
            assert running.ask(path, headers={"Host": host})[0] == 200, host
        assert running.ask(path, headers=headers)[0] == 403
        assert running.ask("/metrics", headers=headers)[0] == 200


def test_without_users_people_are_shown_to_programs_of_this_machine_only() -> None:
    with site() as running:
        for path in ("/", "/api/v1/status"):
            for headers in ({"Host": "qlik.example"}, {"X-Real-IP": "192.0.2.7"}):
                assert running.ask(path, headers=headers)[0] == 200
                assert _shows_people(running.ask(path, headers=headers)[2]) is False
            assert _shows_people(running.ask(path)[2]) is True
        assert _shows_people(running.ask("/api/v1/events")[2]) is True


def _shows_people(body: bytes) -> bool:
    return b'"people": true' in body or b"kowalska" in body


def test_without_users_another_machine_is_refused_what_is_private() -> None:
    address = _own_address()
    with site(address=":0") as running, socket.create_connection((address, running.port), timeout=DEADLINE) as client:
        client.sendall(b"GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert until_closed(client).startswith(b"HTTP/1.1 403")


def _own_address() -> str:
    """An address of this machine that is not loopback: a connection to it has that address at both ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(("192.0.2.1", 9))  # sends nothing: only a route is chosen
        return str(asked.getsockname()[0])


def test_an_ipv4_client_of_an_ipv6_socket_counts_as_what_it_is() -> None:
    with site(address="[::]:0") as running:
        assert running.ask("/config")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_no_other_sites_page_can_trigger_a_reload(headers: dict[str, str]) -> None:
    with site() as running:
        assert running.ask("/-/reload", "POST", headers)[0] == 403
        own = {"Origin": f"http://127.0.0.1:{running.port}", "Sec-Fetch-Site": "same-origin"}
        assert running.ask("/-/reload", "POST", own)[0] == 200


def test_a_request_meant_for_a_proxy_is_refused() -> None:
    with site() as running:
        answer = running.raw(b"GET http://127.0.0.1/config HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        answer = running.raw(b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405")


def test_several_requests_on_one_connection_are_answered_in_order() -> None:
    with site() as running:
        one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as client:
            client.sendall(one * 3 + last)
            answers = until_closed(client)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.endswith(b"Ready.\n")


def test_bodies_beyond_the_limit_are_refused_and_never_unpacked() -> None:
    with site() as running:
        assert running.ask("/-/reload", "POST", body=b"x" * 70_000)[0] == 413
        bomb = gzip.compress(b"\0" * 10_000_000)
        assert running.ask("/-/reload", "POST", {"Content-Encoding": "gzip"}, bomb)[0] == 200
        assert running.ask("/metrics", body=b"x" * 10)[0] == 200


@pytest.mark.slow
def test_stops_within_three_seconds_with_clients_connected() -> None:
    release = threading.Event()
    with site(exporter=StandIn(reload_problem=lambda: str(release.wait(DEADLINE)))) as running:
        idle = socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE)
        half = socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE)
        busy = socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE)
        with idle, half, busy:
            half.sendall(b"GET /metrics HTTP/1.1\r\n")
            busy.sendall(b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            assert running.ask("/metrics")[0] == 200
            begun = time.monotonic()
            running.server.stop()
            assert time.monotonic() - begun < 3
            assert [until_closed(client) for client in (idle, half, busy)] == [b"", b"", b""]
        release.set()


def test_an_answer_under_way_is_finished_before_the_server_stops() -> None:
    begun = threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.3)

    statuses: list[int] = []
    with site(exporter=StandIn(reload_problem=slow)) as running:
        client = threading.Thread(target=lambda: statuses.append(running.ask("/-/reload", "POST")[0]))
        client.start()
        assert begun.wait(DEADLINE)
        running.server.stop()
        client.join(DEADLINE)
    assert statuses == [200]


def test_a_client_that_goes_away_ends_its_probe() -> None:
    with site() as running:
        begun, ended = threading.Event(), threading.Event()

        async def endless(target: str, seconds: float) -> tuple[bytes, str]:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise KeyError(target)

        running.exporter.probe = endless  # type: ignore[method-assign]
        with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as client:
            client.sendall(f"GET /probe?target={TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert begun.wait(DEADLINE)
        assert ended.wait(DEADLINE)
