"""Remote write step by step: a real queue on disk, a real receiver on loopback, and a clock that the test moves."""

import asyncio
import base64
import email.utils
import logging
import math
import random
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_peers import answering, header, listening, proxying
from push_receiver import Pushed, Receiver, decoded

from exporter.config import RemoteWriteConfig, parse
from exporter.remote_write.encoding import STALE as STALE_VALUE
from exporter.remote_write.encoding import write_request
from exporter.remote_write.queue import MOST_IN_MEMORY, Batch, BatchQueue, queue_file_of
from exporter.remote_write.receiver import LONGEST_RETRY_AFTER, look
from exporter.remote_write.series import SampleSets, series_of
from exporter.remote_write.writer import FIRST_PAUSE, LONGEST_PAUSE, RemoteWriter

pytestmark = pytest.mark.windows

NOON = 1_795_953_600.0
TARGET = {"job": "qlik-license", "instance": "node1:10188", "site": "production"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


class Pushing:
    """A writer whose time stands still between the steps of a test."""

    def __init__(self, folder: Path, settings: RemoteWriteConfig, limit: int = 1 << 20) -> None:
        self.now, self.samples = NOON, {"qlik_license_stale": 0.0}
        self.fails = False
        self.path = folder / "state-remote-write.db"
        self.queue = BatchQueue(self.path, limit, lambda: self.now)
        self.writer = RemoteWriter(
            settings, self._samples, self.queue, "node1:10188", lambda: self.now, lambda: self.now - NOON
        )

    def _samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        if self.fails:
            raise ValueError("hidden")
        for name, value in self.samples.items():
            yield name, {}, value

    def take(self, after: float = 0.0) -> None:
        self.now += after
        self.writer.take()

    def deliver(self, after: float = 0.0) -> float:
        self.now += after
        return asyncio.run(self.writer.deliver())

    def value(self, name: str) -> Any:
        return getattr(self.writer.figures, name)


def settings_for(receiver: Receiver, **more: Any) -> RemoteWriteConfig:
    return RemoteWriteConfig(**{"url": receiver.url, "labels": {"site": "production"}, **more})


@pytest.fixture
def pushing(tmp_path: Path, receiver: Receiver) -> Iterator[Pushing]:
    made = Pushing(tmp_path, settings_for(receiver))
    yield made
    made.queue.close()


def of_license(samples: list[Pushed]) -> list[tuple[int, float]]:
    return [(sample.at, sample.value) for sample in samples if sample.name == "qlik_license_stale"]


# --- series and encoding


def test_labels_are_those_of_a_scrape() -> None:
    assert series_of("a", {"z": "1", "job": "x", "empty": "", "exported_job": "y"}, {"job": "qlik-license"}) == (
        ("__name__", "a"),
        ("exported_exported_job", "x"),
        ("exported_job", "y"),
        ("job", "qlik-license"),
        ("z", "1"),
    )


def test_any_text_arrives_as_it_is() -> None:
    text = 'a"b\\n\n\té€\U0001f600{}='
    (sample,) = decoded(write_request([(series_of("m", {"l": text}, {}), -1.5)], 1_795_953_600_123))
    assert sample == Pushed({"__name__": "m", "l": text}, -1.5, 1_795_953_600_123, sample.raw)


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"]))),
    st.floats(allow_nan=False),
    st.integers(1, 2**43),
)
def test_any_series_arrives_with_its_labels_value_and_time(labels: dict[str, str], value: float, at: int) -> None:
    (sample,) = decoded(write_request([(series_of("m", labels, {}), value)], at))
    assert sample.labels == {"__name__": "m", **{name: text for name, text in labels.items() if text}}
    assert (sample.value, sample.at) == (value, at)


@pytest.mark.parametrize("value", [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1])
def test_every_number_arrives_exactly(value: float) -> None:
    (sample,) = decoded(write_request([(series_of("m", {}, {}), value)], 1))
    assert (sample.value, math.copysign(1, sample.value)) == (value, math.copysign(1, value))


def test_a_stale_marker_is_not_any_other_nan() -> None:
    marker, number = decoded(write_request([((("__name__", "m"),), STALE_VALUE), ((("__name__", "n"),), math.nan)], 1))
    assert marker.stale
    assert not number.stale
    assert math.isnan(number.value)


def test_a_sample_set_has_what_prometheus_adds_to_a_scrape() -> None:
    sets = SampleSets()
    first = sets.next([("a", {}, 1.0), ("b", {"l": "x"}, 2.0)], TARGET, 0.25)
    named = {dict(labels)["__name__"]: value for labels, value in first}
    assert named == {
        "a": 1,
        "b": 2,
        "up": 1,
        "scrape_duration_seconds": 0.25,
        "scrape_samples_scraped": 2,
        "scrape_samples_post_metric_relabeling": 2,
        "scrape_series_added": 2,
    }
    assert all(TARGET.items() <= dict(labels).items() for labels, _ in first)
    second = {dict(labels)["__name__"]: value for labels, value in sets.next([("a", {}, 1.0)], TARGET, 0.25)}
    assert second["scrape_series_added"] == 0
    assert second["scrape_samples_scraped"] == 1
    assert math.isnan(second["b"])


def test_a_series_that_ends_is_marked_once_and_may_come_back(pushing: Pushing, receiver: Receiver) -> None:
    pushing.samples["qlik_license_expired"] = 1.0
    pushing.take()
    del pushing.samples["qlik_license_expired"]
    pushing.take(30)
    pushing.take(30)
    pushing.samples["qlik_license_expired"] = 0.0
    pushing.take(30)
    pushing.deliver()
    seen = [(sample.at, sample.stale) for sample in receiver.samples if sample.name == "qlik_license_expired"]
    at = int(NOON * 1000)
    assert seen == [(at, False), (at + 30_000, True), (at + 90_000, False)]


def test_where_a_scrape_would_fail_up_is_0_and_the_series_end(
    pushing: Pushing, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    pushing.take()
    pushing.fails = True
    pushing.take(30)
    pushing.take(30)
    pushing.deliver()
    up = [sample.value for sample in receiver.samples if sample.name == "up"]
    assert up == [1, 0, 0]
    assert caplog.text.count("cannot be taken: ValueError") == 1
    assert [sample.stale for sample in receiver.taken[1] if sample.name == "qlik_license_stale"] == [True]
    assert "hidden" not in caplog.text


def test_an_orderly_end_marks_every_series(pushing: Pushing, receiver: Receiver) -> None:
    pushing.take()
    pushing.now += 1
    pushing.writer.end()
    pushing.writer.end()
    pushing.deliver()
    assert len(receiver.taken) == 2
    assert {sample.name for sample in receiver.taken[1]} == {sample.name for sample in receiver.taken[0]}
    assert all(sample.stale for sample in receiver.taken[1])


def test_changed_labels_end_the_old_series(pushing: Pushing, receiver: Receiver) -> None:
    pushing.take()
    pushing.writer.configure(settings_for(receiver, labels={"site": "test", "instance": "other"}))
    pushing.take(30)
    pushing.deliver()
    ended = [sample for sample in receiver.taken[1] if sample.stale]
    assert {sample.labels["site"] for sample in ended} == {"production"}
    assert {sample.name for sample in ended} == {sample.name for sample in receiver.taken[0]}
    assert {(s.labels["site"], s.labels["instance"]) for s in receiver.taken[1] if not s.stale} == {("test", "other")}


# --- delivery


def test_the_request_is_as_the_specification_wants_it(pushing: Pushing, receiver: Receiver) -> None:
    pushing.take()
    pushing.deliver()
    (headers,) = receiver.headers
    assert headers["content-encoding"] == "snappy"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["x-prometheus-remote-write-version"] == "0.1.0"
    assert headers["user-agent"].startswith("qlik-license-exporter/")
    assert "authorization" not in headers


def test_after_an_hour_without_the_receiver_everything_arrives_once_in_order_with_its_own_times(
    pushing: Pushing, receiver: Receiver
) -> None:
    receiver.always = 503
    for number in range(120):
        pushing.samples["qlik_license_stale"] = float(number)
        pushing.take(30)
        pushing.deliver()
    assert receiver.taken == []
    attempts = len(receiver.headers)
    assert 60 <= attempts <= 120, "one attempt every minute or half a minute"
    assert pushing.value("pending") == 120 * 6
    assert pushing.value("oldest_pending") == NOON + 30
    receiver.always = None
    pushing.take(30)
    pushing.deliver(LONGEST_PAUSE)
    numbers = [float(number) for number in range(120)]
    assert of_license(receiver.samples) == [
        (int((NOON + 30 + 30 * number) * 1000), value) for number, value in enumerate([*numbers, 119.0])
    ]
    assert (pushing.value("pending"), pushing.value("pending_bytes"), pushing.value("oldest_pending")) == (0, 0, None)
    assert pushing.value("sent") == 121 * 6
    assert pushing.value("retried") == attempts * 6
    assert pushing.value("highest_sent") == NOON + 121 * 30


def test_pauses_double_up_to_a_limit_and_are_spread(pushing: Pushing, receiver: Receiver) -> None:
    receiver.always = 500
    pushing.take()
    pauses = [pushing.deliver(LONGEST_PAUSE) for _ in range(12)]
    assert FIRST_PAUSE / 2 <= pauses[0] <= FIRST_PAUSE
    for number, pause in enumerate(pauses):
        longest = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses[7:])) == 5, "at the limit they differ, too"
    before = len(receiver.headers)
    assert pushing.deliver(0.1) > 0, "too early"
    assert len(receiver.headers) == before
    receiver.always = None
    pushing.deliver(LONGEST_PAUSE)
    receiver.always = 500
    pushing.take()
    assert pushing.deliver() <= FIRST_PAUSE, "after a success they begin anew"


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("120", 120, 132),
        (email.utils.formatdate(NOON + 90, usegmt=True), 90, 99),
        ("999999999999", LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER * 1.1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER * 1.1),
        (email.utils.formatdate(NOON - 90, usegmt=True), 0, FIRST_PAUSE),
        ("-5", 0, FIRST_PAUSE),
        ("soon", 0, FIRST_PAUSE),
        ("Mon, 99 Foo", 0, FIRST_PAUSE),
        ("", 0, FIRST_PAUSE),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_within_reason(
    status: int, header: str, least: float, most: float, pushing: Pushing, receiver: Receiver
) -> None:
    receiver.answers = [(status, {"Retry-After": header}, b"")]
    pushing.take()
    assert least <= pushing.deliver() <= most
    assert pushing.value("dropped") == {}
    pushing.deliver(most)
    assert len(receiver.taken) == 1


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b"", "bad_request"),
        (400, b"out of order sample", "too_old"),
        (400, b"Out of bounds", "too_old"),
        (409, b"duplicate sample for timestamp", "too_old"),
        (401, b"", "unauthorized"),
        (403, b"", "unauthorized"),
        (404, b"", "http"),
        (413, b"", "http"),
        (422, b"", "http"),
    ],
)
def test_what_the_receiver_refuses_is_dropped_counted_and_never_sent_again(
    status: int, body: bytes, reason: str, pushing: Pushing, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(status, {}, body + b" hidden words")] * 2
    for _ in range(3):
        pushing.take(30)
    pushing.deliver()
    assert len(receiver.headers) == 3
    assert of_license(receiver.samples) == [(int((NOON + 90) * 1000), 0.0)]
    assert pushing.value("dropped") == {reason: 12}
    assert pushing.value("pending") == 0
    assert caplog.text.count(f"answered {status}") == 1, "a change is logged, not each request"
    assert "hidden words" not in caplog.text
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_nothing_is_lost(status: int, pushing: Pushing, receiver: Receiver) -> None:
    receiver.answers = [(status, {"Location": receiver.url}, b"")]
    pushing.take()
    pushing.deliver()
    assert len(receiver.headers) == 1
    assert pushing.value("pending") == 6


def _garbage(connection: socket.socket) -> None:
    connection.sendall(b"220 mail.example ESMTP\r\n")


def _nothing(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def _half(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    connection.shutdown(socket.SHUT_RDWR)


def _endless_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_garbage, "something that is not HTTP"),
        (_nothing, "closed the connection before it answered"),
        (_endless_header, "something that is not HTTP"),
    ],
)
def test_no_answer_or_one_that_is_none_is_tried_again(
    answer: Any, said: str, pushing: Pushing, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [answer]
    pushing.take()
    pushing.deliver()
    assert said in caplog.text
    assert "mail.example" not in caplog.text
    pushing.deliver(LONGEST_PAUSE)
    assert len(receiver.taken) == 1
    assert pushing.value("retried") == 6


def test_a_success_whose_body_breaks_off_is_one(pushing: Pushing, receiver: Receiver) -> None:
    receiver.answers = [_half]
    pushing.take()
    pushing.deliver()
    assert (pushing.value("sent"), pushing.value("pending"), pushing.value("retried")) == (6, 0, 0)


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".example", "ä" * 70, "[fe80::1%25none]"])
def test_a_host_that_is_none_is_told(host: str) -> None:
    answer = _answer(f"https://{host}/w")
    assert answer.verdict == "failed"
    assert "remote_write.url" in answer.sentence


def test_an_answer_without_end_is_not_read_to_its_end(pushing: Pushing, receiver: Receiver) -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10_000):
            try:
                connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            except OSError:
                return

    receiver.answers = [endless]
    pushing.take()
    pushing.deliver()
    assert pushing.value("dropped") == {"bad_request": 6}


def test_a_receiver_that_does_not_answer_is_given_up(
    pushing: Pushing, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("exporter.remote_write.receiver.SEND_TIMEOUT", 0.1)
    over = threading.Event()
    receiver.answers = [lambda connection: over.wait(20)]
    pushing.take()
    pushing.deliver()
    over.set()
    assert "did not answer within 0.1 s" in caplog.text
    assert pushing.value("pending") == 6


def test_nobody_listens_and_later_somebody_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Receiver() as gone:
        settings = settings_for(gone)
    pushing = Pushing(tmp_path, settings)
    pushing.take()
    pushing.deliver()
    assert "refuses connections" in caplog.text
    with Receiver() as receiver:
        pushing.writer.configure(settings_for(receiver))
        pushing.deliver()
        assert len(receiver.taken) == 1, "a corrected address is tried at once"
    assert "remote write works again" in caplog.text
    pushing.queue.close()


# --- login and TLS


def test_a_user_or_a_token_is_sent_and_renewed_files_are_read(tmp_path: Path, receiver: Receiver) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    texts = [
        "basic_auth: {username: qlik, password: 'p:ß'}",
        f"authorization: {{credentials_file: '{file}'}}",
        "authorization: {type: Token, credentials: abc}",
        f"basic_auth: {{username: qlik, password_file: '{file}'}}",
    ]
    sent = []
    for text in texts:
        config = parse(f"remote_write: {{url: '{receiver.url}', {text}, headers: {{X-Scope-OrgID: qlik}}}}", "f", {})
        file.write_text("second\n")
        pushing = Pushing(tmp_path, config.remote_write)
        pushing.take()
        pushing.deliver()
        pushing.queue.close()
        sent.append(receiver.headers[-1]["authorization"])
        assert receiver.headers[-1]["x-scope-orgid"] == "qlik"
        file.write_text("first\n")
    assert sent == ["Basic cWxpazpwOsOf", "Bearer second", "Token abc", "Basic cWxpazpzZWNvbmQ="]


def test_a_file_that_is_gone_is_named_and_nothing_is_lost(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    settings = msgspec.convert(
        {"url": receiver.url, "authorization": {"credentials_file": str(file)}}, RemoteWriteConfig
    )
    pushing = Pushing(tmp_path, settings)
    pushing.take()
    pushing.deliver()
    assert "(remote_write.authorization.credentials_file): cannot be read" in caplog.text
    file.write_text("there again")
    pushing.deliver(LONGEST_PAUSE)
    assert len(receiver.taken) == 1
    pushing.queue.close()


AUTHORITY = trustme.CA()


def _served(*names: str, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(context)
    return context


def _answer(url: str, **tls: str) -> Any:
    settings = msgspec.convert({"url": url, "tls_config": tls}, RemoteWriteConfig)
    return asyncio.run(look(settings, NOON))


def test_the_certificate_must_be_trusted_and_carry_the_name(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(ca))
    with Receiver(_served("metrics.example")) as receiver:
        assert "is not issued by a trusted CA" in _answer(receiver.url).sentence
        wrong = _answer(receiver.url, ca_file=str(ca))
        assert wrong.verdict == "failed"
        assert "is for another host name: set remote_write.tls_config.server_name" in wrong.sentence
        assert _answer(receiver.url, ca_file=str(ca), server_name="metrics.example").verdict == "taken"
        assert "contains no CA certificate" in _answer(receiver.url, ca_file=__file__).sentence
        assert "cannot be read" in _answer(receiver.url, ca_file=str(tmp_path / "none")).sentence
        plain = receiver.url.replace("https", "http")
        assert _answer(plain).verdict == "failed"
        assert receiver.headers == [receiver.headers[0]]


def test_an_issuing_ca_alone_can_be_trusted(tmp_path: Path) -> None:
    issuing = AUTHORITY.create_child_ca()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuing.issue_cert("127.0.0.1").configure_cert(context)
    issuing.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Receiver(context) as receiver:
        assert _answer(receiver.url, ca_file=str(tmp_path / "ca.pem")).verdict == "taken"


def test_a_proxy_of_the_environment_is_not_used(
    pushing: Pushing, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    with listening(proxying(asked)) as port:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        pushing.take()
        pushing.deliver()
    assert (len(receiver.taken), asked) == (1, [])


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    ca, both, other = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "other.pem"
    AUTHORITY.cert_pem.write_to_path(str(ca))
    AUTHORITY.issue_cert("node1").private_key_and_cert_chain_pem.write_to_path(str(both))
    AUTHORITY.issue_cert("node2").private_key_and_cert_chain_pem.write_to_path(str(other))
    with Receiver(_served("127.0.0.1", clients=True)) as receiver:
        assert _answer(receiver.url, ca_file=str(ca)).verdict == "failed"
        files = {"ca_file": str(ca), "cert_file": str(both), "key_file": str(both)}
        assert _answer(receiver.url, **files).verdict == "taken"
        mixed = _answer(receiver.url, **{**files, "key_file": str(other)})
        assert "are not a certificate and its unencrypted key in PEM" in mixed.sentence


def test_a_proxy_is_used_with_its_login_and_hides_nothing_of_the_receivers_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(ca))
    asked: list[bytes] = []
    right = base64.b64encode("qlik:p@ß".encode())
    with Receiver(_served("metrics.example")) as receiver:
        way = {"metrics.example": receiver.port}
        with listening(proxying(asked, credentials=right, ways=way)) as port:
            url = "https://metrics.example/api/v1/write"

            def answer(login: str, **tls: str) -> Any:
                text = {"url": url, "proxy_url": f"http://{login}127.0.0.1:{port}", "tls_config": tls}
                return asyncio.run(look(msgspec.convert(text, RemoteWriteConfig), NOON))

            assert answer("qlik:p%40%C3%9F@", ca_file=str(ca)).verdict == "taken"
            assert "is not issued by a trusted CA" in answer("qlik:p%40%C3%9F@").sentence
            for login in ("", "qlik:wrong@"):
                refused = answer(login, ca_file=str(ca))
                assert (refused.verdict, "a proxy answered 407" in refused.sentence) == ("failed", True)
        gone = answer("", ca_file=str(ca))
        assert gone.sentence == "the proxy (remote_write.proxy_url) refuses connections"
    assert all(b"p@" not in head for head in asked)
    assert all("proxy-authorization" not in headers for headers in receiver.headers)
    assert [head.split(b" ")[:2] for head in asked] == [[b"CONNECT", b"metrics.example:443"]] * 4


def test_without_tls_the_proxy_gets_the_whole_address_and_its_login() -> None:
    asked: list[bytes] = []
    with listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n", asked)) as port:
        settings = RemoteWriteConfig(url="http://metrics.example/w", proxy_url=f"http://a:b@127.0.0.1:{port}")
        assert asyncio.run(look(settings, NOON)).verdict == "taken"
        settings = msgspec.structs.replace(settings, proxy_url=f"http://127.0.0.1:{port}")
        assert asyncio.run(look(settings, NOON)).verdict == "taken"
    assert [head.split(b" ")[1] for head in asked] == [b"http://metrics.example/w"] * 2
    assert [header(head, b"proxy-authorization") for head in asked] == [b"Basic YTpi", None]


@pytest.mark.parametrize("status", [403, 502, 407])
def test_what_a_proxy_answers_itself_drops_nothing(status: int) -> None:
    said = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    with listening(answering(said)) as port:
        settings = RemoteWriteConfig(url="https://metrics.example/w", proxy_url=f"http://127.0.0.1:{port}")
        answer = asyncio.run(look(settings, NOON))
    assert answer.verdict == "failed"
    assert f"answered {status}" in answer.sentence


# --- the queue


def test_what_waits_is_there_after_the_next_start(tmp_path: Path) -> None:
    file = queue_file_of(tmp_path / "state.db")
    assert file.name == "state-remote-write.db"
    first = BatchQueue(file)
    for number in range(3):
        first.add(Batch(number, 2, bytes([number])))
    first.close()
    second = BatchQueue(file)
    seen = []
    while batch := second.oldest():
        seen.append((batch.at, batch.samples, batch.body))
        second.remove(batch)
    assert seen == [(number, 2, bytes([number])) for number in range(3)]
    second.close()


STEPS = st.lists(st.one_of(st.integers(1, 400), st.sampled_from(["remove", "reopen"])), max_size=30)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_any_sequence_of_steps_leaves_what_a_plain_list_would_hold(steps: list[Any]) -> None:
    """Of a queue of 1000 bytes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        queue, plain, dropped = BatchQueue(Path(folder) / "q.db", limit=1000), [], 0
        for number, step in enumerate(steps):
            if step == "remove":
                batch = queue.oldest()
                assert (batch.at if batch else None) == (plain[0][0] if plain else None)
                if batch:
                    queue.remove(batch)
                    plain.pop(0)
            elif step == "reopen":
                queue.close()
                assert queue.dropped["queue_full"] == dropped
                queue, dropped = BatchQueue(Path(folder) / "q.db", limit=1000), 0
                queue.oldest()
            else:
                queue.add(Batch(number, 3, bytes(step)))
                plain.append((number, step))
                while sum(size for _, size in plain) > 1000:
                    plain.pop(0)
                    dropped += 3
            waiting = queue.waiting
            assert waiting.samples == 3 * len(plain)
            assert waiting.bytes == sum(size for _, size in plain)
            assert waiting.oldest == (plain[0][0] if plain else None)
        queue.close()


def test_a_full_queue_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    queue = BatchQueue(tmp_path / "q.db", limit=1000)
    for number in range(20):
        queue.add(Batch(number, 5, bytes(100)))
    assert queue.waiting.bytes == 1000
    assert queue.dropped == {"queue_full": 50}
    first = queue.oldest()
    assert first is not None
    assert first.at == 10 == queue.waiting.oldest
    queue.close()


KILLED = """
import os, pathlib, sys
from exporter.remote_write.queue import Batch, BatchQueue
queue = BatchQueue(pathlib.Path(sys.argv[1]))
for number in range(10**6):
    queue.add(Batch(number, 1, b"x" * 3000))
    print(number, flush=True)
    if number % 3 == 2:
        batch = queue.oldest()
        queue.remove(batch)
        print("removed", batch.at, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_that_was_queued_and_brings_back_nothing_removed(tmp_path: Path) -> None:
    for attempt in range(8):
        file = tmp_path / f"{attempt}.db"
        lines: list[str] = []
        with subprocess.Popen([sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                lines.append(line.strip())
                if len(lines) > random.Random(attempt).randrange(4, 40):
                    process.kill()
                    lines += [rest.strip() for rest in process.stdout if rest.endswith("\n")]
        queue = BatchQueue(file)
        removed = max((int(line.split()[1]) for line in lines if line.startswith("removed")), default=-1)
        added = max(int(line) for line in lines if line.isdigit())
        there = []
        while batch := queue.oldest():
            there.append(batch.at)
            queue.remove(batch)
        assert there == list(range(there[0], there[-1] + 1))
        assert there[0] in (removed + 1, removed + 2)
        assert there[-1] in (added, added + 1)
        assert queue.dropped == {}
        queue.close()


def _flipped(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE batches SET body = CAST('abd' AS BLOB)")
    database.close()


def _garbled(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)


def _overwritten(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100:2000] = b"\xff" * 1900
    file.write_bytes(data)


def _foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE other (x)")
    database.close()


def _newer(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def _retyped(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE batches SET body = 5, at = 'x'")
    database.close()


@pytest.mark.parametrize("harm", [_flipped, _garbled, _overwritten, _foreign, _newer, _retyped])
def test_a_damaged_or_foreign_file_is_set_aside_and_that_is_said(
    harm: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "q.db"
    queue = BatchQueue(file)
    queue.add(Batch(1, 5, b"abc"))
    queue.close()
    harm(file)
    queue = BatchQueue(file, wall=lambda: NOON)
    assert queue.oldest() is None
    queue.add(Batch(2, 5, b"new"))
    found = queue.oldest()
    assert found is not None
    assert found.body == b"new"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "it was set aside as" in caplog.text
    assert len(list(tmp_path.glob("q.db.bad-*Z"))) == 1
    queue.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_a_file_that_is_deleted_while_it_is_in_use_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = BatchQueue(tmp_path / "q.db")
    queue.add(Batch(1, 5, b"abc"))
    first = queue.oldest()
    assert first is not None
    queue.remove(first)
    queue.add(Batch(2, 5, b"abc"))
    for file in tmp_path.glob("q.db*"):
        file.unlink()
    queue.add(Batch(3, 5, b"new"))
    found = queue.oldest()
    assert found is not None
    assert found.body == b"new"
    assert queue.dropped == {"queue_unavailable": 5}
    assert "was deleted or replaced while it was in use: at least 5 samples are lost" in caplog.text
    queue.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_a_file_that_is_deleted_while_it_cannot_be_used_is_begun_anew(tmp_path: Path) -> None:
    queue = BatchQueue(tmp_path / "q.db")
    for number in range(3):
        queue.add(Batch(number, 5, b"abc"))
        first = queue.oldest()
        assert first is not None
        queue.remove(first)
    assert queue._database is not None
    queue._database.execute("PRAGMA query_only = 1")
    queue.add(Batch(7, 5, b"in memory"))  # cannot be stored, and the connection is given up
    for file in tmp_path.glob("q.db*"):
        file.unlink()
    queue.add(Batch(8, 5, b"new"))
    seen = []
    while batch := queue.oldest():
        seen.append(batch.at)
        queue.remove(batch)
    assert seen == [7, 8]
    queue.close()


def test_without_the_file_the_newest_batches_wait_in_memory_and_move_to_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "q.db"
    file.mkdir()  # cannot be opened
    queue = BatchQueue(file)
    for number in range(MOST_IN_MEMORY + 5):
        queue.add(Batch(number, 2, b"abc"))
    assert queue.dropped == {"queue_unavailable": 10}
    assert queue.waiting.samples == 2 * MOST_IN_MEMORY
    assert caplog.text.count("cannot be used") == 1
    first = queue.oldest()
    assert first is not None
    assert first.at == 5 == queue.waiting.oldest
    queue.remove(first)
    file.rmdir()
    queue.add(Batch(99, 2, b"abc"))
    assert "can be used again" in caplog.text
    queue.close()
    again = BatchQueue(file)
    seen = []
    while batch := again.oldest():
        seen.append(batch.at)
        again.remove(batch)
    assert seen == [*range(6, MOST_IN_MEMORY + 5), 99]
    again.close()


def test_on_a_full_disk_what_is_stored_is_sent_before_what_waits_in_memory(tmp_path: Path) -> None:
    queue = BatchQueue(tmp_path / "q.db")
    for number in range(2):
        queue.add(Batch(number, 5, b"abc"))
    database = queue._database
    assert database is not None
    database.execute("PRAGMA max_page_count = 1")  # it cannot grow any more: a full disk
    for number in range(2, 5):
        queue.add(Batch(number, 5, bytes(10_000)))
    assert queue.waiting.samples == 25
    seen = []
    for _ in range(3):
        batch = queue.oldest()
        assert batch is not None
        seen.append(batch.at)
        queue.remove(batch)
    database.execute("PRAGMA max_page_count = 1000000")
    queue.close()  # there is room again
    again = BatchQueue(tmp_path / "q.db")
    while batch := again.oldest():
        seen.append(batch.at)
        again.remove(batch)
    assert seen == [0, 1, 2, 3, 4]
    again.close()


def test_a_disk_that_is_full_at_a_delivery_sends_nothing_twice(pushing: Pushing, receiver: Receiver) -> None:
    pushing.take()
    pushing.take(30)
    database = pushing.queue._database
    assert database is not None
    database.execute("PRAGMA query_only = 1")  # writing fails until the connection is made anew
    pushing.deliver()
    assert [at for at, _ in of_license(receiver.samples)] == [int(NOON * 1000), int((NOON + 30) * 1000)]
    assert pushing.value("pending") == 0


def test_another_exporter_with_the_same_file_uses_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = BatchQueue(tmp_path / "q.db"), BatchQueue(tmp_path / "q.db")
    first.add(Batch(1, 5, b"abc"))
    second.add(Batch(2, 5, b"def"))
    assert "is in use by process" in caplog.text
    found = second.oldest()
    assert found is not None
    assert found.at == 2
    first.close()
    second.close()


def test_the_disk_gets_back_what_was_removed(tmp_path: Path) -> None:
    queue = BatchQueue(tmp_path / "q.db")
    for number in range(50):
        queue.add(Batch(number, 1, bytes(40_000)))
    while batch := queue.oldest():
        queue.remove(batch)
    queue.close()
    assert (tmp_path / "q.db").stat().st_size < 100_000


@pytest.mark.slow
def test_libraries_are_loaded_only_where_they_are_needed() -> None:
    """Those of remote write if it is configured, `cryptography` for a certificate, Markdown for the runbooks."""
    names = ("google.protobuf", "cramjam", "cryptography", "markdown_it")
    program = f"import sys, exporter.app; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
