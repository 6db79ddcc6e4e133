"""The look at the Licenses service itself: what its pages on port 9200 say, and what nothing but a port can say."""

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from observed import NOON, observation, syncs
from probe_peers import (
    AUTHORITY,
    CERTIFICATE,
    Handler,
    closed_port,
    listening,
    request_head,
    resetting,
    saying,
    secured,
    serving,
    silent,
    written,
)

from exporter.config import Config, ConfigError, Duration, LicensesServiceConfig, parse
from exporter.probes import PATHS, ServiceBoard, ServiceLook, look_at_service, run_service
from exporter.status import status_of
from exporter.verdict import judge
from exporter.web.page import page_of

GOOD = syncs(NOON - 7200, NOON - 600)
METRICS = b"""# HELP licenses_assignments Assignments
# TYPE licenses_assignments gauge
licenses_assignments{user="CONTOSO\\\\kowalska",key="a b"} 7
licenses_assignments{user="other"} 1
backend_sync_seconds_bucket{le="+Inf"} 12 1700000000
go_goroutines 12
not a sample
"""


def pages(**statuses: tuple[int, bytes]) -> Handler:
    """A service that answers each path so; 404 what it does not know."""

    def handle(connection: socket.socket) -> None:
        path = request_head(connection).split(b" ")[1].decode().lstrip("/")
        status, body = statuses.get(path, (404, b""))
        connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return handle


def looked(port: int, **settings: object) -> ServiceLook:
    values = {"enabled": True, "url": f"http://127.0.0.1:{port}", "timeout": Duration(2), **settings}
    return asyncio.run(look_at_service(LicensesServiceConfig(**values)))  # type: ignore[arg-type]


def test_a_service_that_has_the_pages_says_that_it_is_ready_and_what_it_measures() -> None:
    with listening(pages(health=(200, b"ok"), ready=(200, b""), metrics=(200, METRICS))) as port:
        look = looked(port)
    assert [(page.path, page.status) for page in look.pages] == [(path, 200) for path in PATHS]
    assert (look.series, look.names) == (4, ("backend_sync_seconds_bucket", "licenses_assignments"))
    told = " ".join(look.sentences())
    assert "/health 200 OK, /ready 200 OK, /metrics 200 OK" in told
    assert "It says that it is ready." in told
    assert "4 series, among them backend_sync_seconds_bucket, licenses_assignments" in told
    assert "kowalska" not in str(look)


@pytest.mark.parametrize(
    ("statuses", "said", "not_said"),
    [
        ({"ready": (503, b"")}, "It does not say that it is ready.", "It says that it is ready"),
        ({"health": (200, b"")}, "/health 200 OK, /ready 404 Not Found", "ready."),
        ({}, "has none of these pages", "ready."),
        ({"metrics": (200, b"<html>log in</html>")}, "0 series, none of them named after licenses", "among"),
    ],
)
def test_what_a_page_does_not_say_is_not_claimed(
    statuses: dict[str, tuple[int, bytes]], said: str, not_said: str
) -> None:
    with listening(pages(**statuses)) as port:
        told = " ".join(looked(port).sentences())
    assert said in told
    assert not_said not in told


@pytest.mark.parametrize("handler", [silent, resetting, saying(b"SSH-2.0\r\n"), secured(serving(CERTIFICATE), silent)])
def test_what_answers_otherwise_is_asked_once_and_said(handler: Handler) -> None:
    with listening(handler) as port:
        look = looked(port, timeout=Duration(0.5))
    assert len(look.pages) == 1
    assert look.pages[0].status is None
    assert f"No answer from 127.0.0.1:{port}, where the Licenses service may listen: " in look.sentences()[0]


def test_a_port_where_nothing_listens_is_said() -> None:
    assert "refused" in looked(closed_port()).sentences()[0]


def test_tls_with_a_private_ca_is_spoken(tmp_path: Path) -> None:
    ca_file = written(tmp_path / "ca.pem", AUTHORITY.cert_pem.bytes())
    with listening(secured(serving(CERTIFICATE), pages(ready=(200, b"")))) as port:
        assert looked(port, url=f"https://localhost:{port}", ca_file=ca_file).status("/ready") == 200
        assert "not trusted" in looked(port, url=f"https://localhost:{port}").sentences()[0]


def test_a_body_without_end_and_a_line_without_end_cost_no_more_than_what_is_read() -> None:
    for body in (b"licenses{" + b"}" * 1_000_000, b"a" * 1_000_000, b"sync 1\n" * 200_000):
        with listening(pages(metrics=(200, body))) as port:
            assert looked(port).series <= 64 << 10


def test_it_is_evidence_in_the_verdict_on_the_page_and_in_the_status_and_concludes_nothing() -> None:
    with listening(pages(ready=(503, b""), metrics=(200, METRICS))) as port:
        board = ServiceBoard(LicensesServiceConfig(enabled=True), looked(port))
    seen = replace(observation(GOOD), service=board)
    judgement = judge(seen)
    assert judgement.verdict == judge(observation(GOOD)).verdict == "well"
    assert "It does not say that it is ready." in judgement.evidence
    status = status_of(seen)
    assert [page["status"] for page in status["service"]["pages"]] == [404, 503, 200]
    assert "The Licenses service itself" in page_of(seen)
    assert "licenses_assignments" in page_of(seen)
    assert status_of(observation(GOOD))["service"] is None
    unreached = replace(seen, service=ServiceBoard(LicensesServiceConfig(), looked(closed_port())))
    assert "no answer: " in page_of(unreached)
    assert page_of(replace(seen, service=ServiceBoard(LicensesServiceConfig())))


@pytest.mark.slow
def test_it_looks_again_on_its_interval() -> None:
    asked = []

    def counting(connection: socket.socket) -> None:
        asked.append(request_head(connection))
        connection.sendall(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")

    async def run(board: ServiceBoard) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run_service(board), 3)

    with listening(counting) as port:
        settings = LicensesServiceConfig(enabled=True, url=f"http://127.0.0.1:{port}", interval=Duration(0.05))
        board = ServiceBoard(settings)
        asyncio.run(run(board))
    assert len(asked) >= 6
    assert board.last is not None


def test_it_is_off_unless_switched_on_and_its_settings_are_checked() -> None:
    assert not Config().licenses_service.enabled
    for keys, said in (
        (
            "url: 'ftp://localhost:9200'",
            "licenses_service.url: found `ftp://localhost:9200`, expected http://host:port",
        ),
        ("url: 'http://localhost:9200/ready'", "expected http://host:port or https://host:port"),
        ("url: 'http://u:p@localhost:9200'", "licenses_service.url"),
        ("interval: 500ms", "licenses_service.interval: found `500ms`, expected at least 1s"),
        ("timeout: 0s", "licenses_service.timeout"),
    ):
        with pytest.raises(ConfigError) as refused:
            parse(f"licenses_service: {{{keys}}}", "f.yml", {})
        assert said in str(refused.value)
        assert "u:p" not in str(refused.value)
