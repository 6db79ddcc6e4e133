"""Whatever bytes a client sends, the server answers properly or hangs up, and stays alive."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from web_stand_in import DEADLINE, Site, eventually, site, until_closed

from exporter.config import ConfigError
from exporter.web.callers import Logins
from exporter.web.limits import Limits
from exporter.web.webfile import Rules, load

pytestmark = pytest.mark.slow

ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}) [A-Za-z ]+\r\n")
PATHS = ("/", "/metrics", "/config", "/probe", "/-/reload", "/-/healthy", "/api/v1/status", "/api/v1/events", "//", "*")
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "CONNECT", "PRI", "get", "")
NAMES = (
    "Host", "Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Length", "Transfer-Encoding",
    "Upgrade",
    "Expect", "Origin", "X-Prometheus-Scrape-Timeout-Seconds", "X-Forwarded-For", "Cookie", "Range", "If-None-Match",
)  # fmt: skip
VALUES = (
    "localhost", "close", "keep-alive", "upgrade", "h2c", "websocket", "chunked", "gzip, chunked", "0", "-1", "5",
    "9" * 30,
    "100-continue", "bytes=0-1", "application/openmetrics-text;version=0..1", "text/plain;version=1.0.0;escaping=x",
    "gzip;q=0",
    "1e999", "Basic Og==", "http://[", "::", "null",
)  # fmt: skip

LAST = b"\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

few_bytes = st.binary(max_size=300)
field_value = st.sampled_from(VALUES) | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
fields = st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=20), field_value), max_size=6)
query = st.text(max_size=40) | st.sampled_from(["?target=%", "?name[]=%00&name[]=a", "?target=a:1&debug=true", "?&&=&"])


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    """A server that soon tires of clients who owe it the rest of a request."""
    with site(limits=Limits(head=0.2, idle=0.2, lingering=0.2, sweep=0.2)) as started:
        yield started


@pytest.fixture(scope="module")
def patient() -> Iterator[Site]:
    with site() as started:
        yield started


@pytest.fixture(scope="module")
def complaints() -> Iterator[list[str]]:
    """What our own log says of the web server while it is being fuzzed."""
    found: list[str] = []

    class Collected(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collected()
    logging.getLogger("exporter.web").addHandler(handler)
    yield found
    logging.getLogger("exporter.web").removeHandler(handler)


def _said_to(running: Site, data: bytes) -> bytes:
    """The answers to these bytes, and to a last request where they leave room for one."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(data + LAST)
        return until_closed(client)


def _is_proper(answers: bytes) -> bool:
    return (
        (not answers or bool(ANSWER.match(answers))) and b"Traceback" not in answers and b"HTTP/1.1 500" not in answers
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=few_bytes)
@example(data=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
@example(data=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@example(data=b"\r\n\r\n\r\n")
@example(data=b"CONNECT  HTTP/1.1\r\nHost: x\r\n\r\n")
@example(data=b"GET /\r\n\r\n")
@example(data=b"GET / HTTP/2.0\r\nHost: x\r\n\r\n")
@example(data=b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
@example(data=b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
@example(data=b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + b"\xff" * 200)
def test_any_bytes_are_answered_properly_or_not_at_all(running: Site, complaints: list[str], data: bytes) -> None:
    assert _is_proper(_said_to(running, data))
    assert complaints == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS) | st.text(max_size=8),
    path=st.sampled_from(PATHS) | st.text(max_size=20),
    query=query,
    fields=fields,
    body=few_bytes,
)
def test_any_request_is_answered_properly_or_not_at_all(
    running: Site, complaints: list[str], method: str, path: str, query: str, fields: list[tuple[str, str]], body: bytes
) -> None:
    head = f"{method} {path}{query} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
    assert _is_proper(_said_to(running, head.encode("utf-8", "replace") + b"\r\n" + body))
    assert complaints == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/", "/metrics", "/probe", "/-/ready", "/config"]),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30),
    values=st.dictionaries(
        st.sampled_from(
            ["Accept", "Accept-Encoding", "Authorization", "X-Prometheus-Scrape-Timeout-Seconds", "Origin"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    ),
)
def test_a_well_formed_request_always_gets_an_answer(
    patient: Site, complaints: list[str], path: str, query: str, values: dict[str, str]
) -> None:
    status, headers, _ = patient.ask(f"{path}?{query}", headers={"Host": "localhost", **values})
    assert status in (200, 400, 403)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert complaints == []


def test_after_all_that_the_servers_are_as_they_were(running: Site, patient: Site) -> None:
    assert eventually(lambda: running.ask("/metrics")[0] == 200)
    assert patient.ask("/metrics")[0] == 200
    assert running.failures == patient.failures == []


@settings(max_examples=200, deadline=None)
@given(header=st.text(max_size=60) | st.binary(max_size=60).map(lambda data: "Basic " + data.decode("latin-1")))
def test_any_authorization_header_is_no_login(header: str) -> None:
    rules = Rules(users={"alice": bcrypt.hashpw(b"wonder", bcrypt.gensalt(4)).decode()})
    logins = Logins(Limits())
    try:
        assert asyncio.run(logins.admitted(rules, header)) is False
    finally:
        logins.stop()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
keys = st.sampled_from(
    ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "auth_exclude_paths", "headers",
     "burst",
     "interval", "cert_file", "key_file", "min_version", "cipher_suites", "http2"]
) | st.text(max_size=10)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | scalars, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees, text=st.text(max_size=100), as_text=st.booleans())
def test_any_web_file_is_used_or_refused_in_one_line(tmp_path: Path, tree: object, text: str, as_text: bool) -> None:
    file = tmp_path / "web.yml"
    file.write_bytes((text if as_text else yaml.safe_dump(tree)).encode("utf-8", "surrogatepass"))
    assert len(_outcome(str(file)).splitlines()) == 1


def _outcome(file: str) -> str:
    try:
        return repr(load(file))
    except ConfigError as error:
        return str(error)
