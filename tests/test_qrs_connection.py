"""The connection to the Repository API: certificates, names, failures that say why, nothing but GET (issue 7, 3 and 4).

Against the fake of `qrs_server`, over real mutual TLS on loopback.
"""

import asyncio
import base64
import contextlib
import errno
import os
import socket
import ssl
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import qrs_server
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from qrs_server import ACCESS, LICENSE, SECRETS, SESSIONS, Answer, FakeQrs, Site, license_answer, session

from exporter.config import QrsConfig
from exporter.qrs import LicenseOverview, QrsError, client
from exporter.qrs.certificates import server_name_of
from exporter.qrs.client import read_overview
from exporter.qrs.endpoint import Endpoint, repository, sessions
from exporter.qrs.failure import connection_failure, no_json, unwanted_status

pytestmark = pytest.mark.windows


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "Local Certificates")


@pytest.fixture
def stranger(tmp_path: Path) -> Site:
    """Another site."""
    return Site(tmp_path / "Other Certificates", ca_name="OTHERNODE-CA")


@pytest.fixture
def qrs(site: Site, stranger: Site) -> Iterator[FakeQrs]:
    with FakeQrs(site, strangers=[stranger]) as server:
        yield server


def read(settings: QrsConfig, **changes: Any) -> LicenseOverview:
    """One read, on the kind of loop that the exporter runs on everywhere."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(read_overview(settings, **changes))


def failure(settings: QrsConfig, **changes: Any) -> QrsError:
    with pytest.raises(QrsError) as caught:
        read(settings, **changes)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert str(caught.value).startswith(caught.value.reason + ": ")
    return caught.value


# --- what is sent ---


def test_a_read_sends_two_gets_with_the_same_key_twice_and_the_user(qrs: FakeQrs, site: Site) -> None:
    assert read(site.settings(qrs.url)).expired is False
    assert [(request.method, request.path) for request in qrs.requests] == [("GET", LICENSE), ("GET", ACCESS)]
    for request in qrs.requests:
        key = request.headers["x-qlik-xrfkey"]
        assert len(key) == 16
        assert request.query == {"xrfkey": key}
        assert request.headers["x-qlik-user"] == "UserDirectory=INTERNAL; UserId=sa_api"
        assert "content-length" not in request.headers


def test_each_read_has_a_key_of_its_own(qrs: FakeQrs, site: Site) -> None:
    read(site.settings(qrs.url))
    read(site.settings(qrs.url))
    assert len({request.headers["x-qlik-xrfkey"] for request in qrs.requests}) == 2


@pytest.mark.slow
def test_nothing_but_get_is_ever_sent_whatever_the_answer(qrs: FakeQrs, site: Site) -> None:
    settings = site.settings(qrs.url, sessions_url=qrs.url)
    answers: list[Any] = [
        Answer(status, b"{}", {"Location": "/qrs/other"}) for status in (301, 307, 400, 401, 403, 405)
    ]
    answers += [Answer(status, b"") for status in (404, 409, 500, 503)] + [None, [], "x", license_answer()]
    for answer in answers:
        qrs.answers[LICENSE] = answer
        with pytest.raises(QrsError) if isinstance(answer, Answer | list | str) else nothing_raised():
            read(settings)
    for behaviour in (qrs_server.closes, qrs_server.closes_halfway, qrs_server.speaks_no_http):
        qrs.behaviours[LICENSE] = behaviour
        failure(settings)
    assert {request.method for request in qrs.requests} == {"GET"}
    assert {request.path for request in qrs.requests} == {LICENSE, ACCESS, SESSIONS}


class nothing_raised:  # noqa: N801  # reads as a phrase beside pytest.raises
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("end", ["", "/", "//", "/qrs", "/qrs/", "//qrs", "/QRS", "/qrs/license", "/qrs/about/"])
def test_an_url_that_ends_in_qrs_or_a_slash_means_the_same(qrs: FakeQrs, site: Site, end: str) -> None:
    assert read(site.settings(qrs.url + end)).kind == "signed_key"
    assert [request.path for request in qrs.requests] == [LICENSE, ACCESS]


@pytest.mark.parametrize("end", ["", "/", "/qps", "/qps/", "/QPS", "/qps/session", "/qps/session/", "//qps//session"])
def test_an_url_of_the_proxy_that_ends_in_qps_or_session_means_the_same(qrs: FakeQrs, site: Site, end: str) -> None:
    assert read(site.settings(qrs.url, sessions_url=qrs.url + end)).sessions_per_user_max == 0
    assert [request.path for request in qrs.requests] == [LICENSE, ACCESS, SESSIONS]


def test_what_an_url_holds_in_front_and_a_virtual_proxy_stay() -> None:
    assert repository("https://h/vp/qrs/", LICENSE).path == "/vp/qrs/license"
    assert repository("https://h/vp", LICENSE).path == "/vp/qrs/license"
    assert repository("https://[::1]:4242", LICENSE).url == "https://[::1]:4242/qrs/license"
    assert sessions("https://h:4243/qps/hub").path == "/qps/hub/session"
    assert sessions("https://h:4243/qps/hub/session").path == "/qps/hub/session"
    assert sessions("https://h:4243/front").path == "/front/qps/session"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (repository("https://h", LICENSE), ("qrs.url", "the Repository", "/qrs/license", "4242")),
        (sessions("https://h/vp/qps"), ("qrs.sessions_url", "the Proxy service", "/vp/qps/session", "4243")),
    ],
)
def test_every_refusal_names_the_setting_the_service_and_the_path(asked: Endpoint, named: tuple[str, ...]) -> None:
    setting, service, path, port = named
    for status in (401, 403, 301, 404, 500):
        said = str(unwanted_status(asked, status))
        assert f"GET {path} ({setting}) answered {status}" in said
        assert service in said or status == 500
        assert port in said or status in (401, 403, 500)
    assert f"{setting} the address of {service} (port {port})?" in str(no_json(asked, "no JSON"))
    other = {"the Repository", "the Proxy service"} - {service}
    settings = QrsConfig(url="https://h", sessions_url="https://h")
    for error in (
        ConnectionRefusedError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError(5, "x"),
        ssl.SSLError("[SSL: WRONG_VERSION_NUMBER]"),
        ssl.SSLError("[SSL: TLSV1_ALERT_X]"),
        aiohttp.ClientPayloadError(),
        aiohttp.ServerDisconnectedError(),
    ):
        said = str(connection_failure(asked, error, settings))
        assert setting in said
        assert not other & {word for word in ("the Repository", "the Proxy service") if word in said}


def test_a_proxy_service_that_does_not_answer_is_named_and_hides_nothing_else(qrs: FakeQrs, site: Site) -> None:
    qrs.behaviours[SESSIONS] = qrs_server.stalls
    overview = read(site.settings(qrs.url, sessions_url=qrs.url), timeout=0.5)
    assert (overview.kind, overview.sessions_per_user_max) == ("signed_key", None)
    assert overview.notes == (
        "sessions: timeout: the Proxy service (qrs.sessions_url) did not answer completely within 0.5 s",
    )


def test_proxies_of_the_environment_are_not_used(qrs: FakeQrs, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert read(site.settings(qrs.url)).kind == "signed_key"


def test_hazard_120_a_resolver_that_aiohttp_would_pick_by_itself_is_not_used(
    qrs: FakeQrs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, *_: object, **__: object) -> None:
            raise RuntimeError("aiodns needs a SelectorEventLoop")

    monkeypatch.setitem(sys.modules, "aiodns", types.SimpleNamespace(DNSResolver=Broken))
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", Broken)
    assert read(site.settings(qrs.url.replace("127.0.0.1", "localhost"))).kind == "signed_key"


# --- sessions ---


def test_sessions_are_read_where_an_url_is_given(qrs: FakeQrs, site: Site) -> None:
    qrs.answers[SESSIONS] = [session("ANNA", number) for number in range(4)] + [session("ben", 1)]
    assert read(site.settings(qrs.url)).sessions_per_user_max is None
    for url in (qrs.url, qrs.url + SESSIONS):
        assert read(site.settings(qrs.url, sessions_url=url)).sessions_per_user_max == 4


def test_sessions_that_cannot_be_read_hide_nothing_else_and_are_counted(qrs: FakeQrs, site: Site) -> None:
    qrs.answers[SESSIONS] = Answer(403, b"Forbidden")
    overview = read(site.settings(qrs.url, sessions_url=qrs.url))
    assert (overview.kind, overview.sessions_per_user_max, overview.problems) == ("signed_key", None, 1)
    assert overview.notes[0].startswith(
        "sessions: forbidden: GET /qps/session (qrs.sessions_url) answered 403: the Proxy service denies access"
    )


# --- who may read ---


def test_case_b8_403_is_a_fault_of_this_exporters_set_up_and_never_reads_as_a_refused_user(
    qrs: FakeQrs, site: Site, stranger: Site
) -> None:
    without_role = failure(site.settings(qrs.url, user="UserDirectory=EXAMPLE; UserId=nobody"))
    unknown = failure(site.settings(qrs.url, user="UserDirectory=EXAMPLE; UserId=unheard-of"))
    foreign = failure(
        site.settings(
            qrs.url,
            certificate=str(stranger.folder / "client.pem"),
            key=str(stranger.folder / "client_key.pem"),
        )
    )
    for error in (without_role, unknown, foreign):
        assert error.reason == "forbidden"
        for hint in ("qrs.user", "role", "qrs.certificate"):
            assert hint in str(error)
        assert "denied" not in str(error)
        assert "access pass" not in str(error)


def test_a_user_of_another_alphabet_is_sent_as_written(qrs: FakeQrs, site: Site) -> None:
    failure(site.settings(qrs.url, user="UserDirectory=BÜRO; UserId=jürgen"))
    sent = qrs.requests[0].headers["x-qlik-user"].encode("latin-1").decode()
    assert sent == "UserDirectory=BÜRO; UserId=jürgen"


# --- the server's certificate ---


def test_only_the_sites_own_ca_is_trusted(qrs: FakeQrs, site: Site, stranger: Site) -> None:
    error = failure(site.settings(qrs.url, ca_file=str(stranger.folder / "root.pem")))
    assert error.reason == "tls"
    assert f"not issued by the CA in {stranger.folder / 'root.pem'}" in str(error)


def test_a_ca_of_the_same_name_with_another_key_is_refused_alike(qrs: FakeQrs, site: Site, tmp_path: Path) -> None:
    """What is left in place when a site is installed again on the same machine."""
    other = Site(tmp_path / "earlier")
    assert "not issued by the CA in" in str(failure(site.settings(qrs.url, ca_file=str(other.folder / "root.pem"))))


def test_no_ca_of_the_system_is_ever_trusted(
    qrs: FakeQrs, site: Site, stranger: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.folder / "root.pem"))
    assert failure(site.settings(qrs.url, ca_file=str(stranger.folder / "root.pem"))).reason == "tls"


def test_a_ca_file_may_be_der(qrs: FakeQrs, site: Site) -> None:
    text = (site.folder / "root.pem").read_text()
    file = site.folder / "root.cer"
    file.write_bytes(ssl.PEM_cert_to_DER_cert(text))
    assert read(site.settings(qrs.url, ca_file=str(file))).kind == "signed_key"


@pytest.mark.parametrize("name", ["", "qliknode2.example.com", "127.0.0.2"])
def test_another_host_name_is_refused_with_the_setting_to_change(qrs: FakeQrs, site: Site, name: str) -> None:
    error = failure(site.settings(qrs.url, server_name=name))
    assert error.reason == "tls"
    assert "set qrs.server_name" in str(error)
    assert "127.0.0" not in str(error)


def test_server_name_names_what_the_certificate_carries(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", names=["qliknode1.example.com"])
    with FakeQrs(site) as qrs:
        assert read(site.settings(qrs.url, server_name="qliknode1.example.com")).kind == "signed_key"


def test_a_certificate_with_a_common_name_only_is_checked_against_that(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.write_server([], common_name="qliknode1.example.com")
    with FakeQrs(site) as qrs:
        assert read(site.settings(qrs.url, server_name="qliknode1.example.com")).kind == "signed_key"
        assert failure(site.settings(qrs.url, server_name="qliknode2.example.com")).reason == "tls"


def test_an_address_in_the_certificate_is_enough(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", names=["127.0.0.1"])
    with FakeQrs(site) as qrs:
        assert read(site.settings(qrs.url, server_name="")).kind == "signed_key"


def test_an_expired_server_certificate_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.write_server(["localhost"], days=-1)
    with FakeQrs(site) as qrs:
        error = failure(site.settings(qrs.url))
    assert (error.reason, "certificate has expired" in str(error)) == ("tls", True)


def test_a_loopback_url_means_the_name_in_qliks_own_host_cfg(tmp_path: Path) -> None:
    folder = tmp_path / "Qlik" / "Sense"
    folder.mkdir(parents=True)
    environ = {"ProgramData": str(tmp_path)}
    settings = QrsConfig()
    assert server_name_of(settings, settings.url, environ) == "localhost"
    host_cfg = folder / "Host.cfg"
    host_cfg.write_bytes(base64.b64encode(b"qliknode1.example.com") + b"\r\n")
    assert server_name_of(settings, settings.url, environ) == "qliknode1.example.com"
    assert server_name_of(settings, "https://other.example.com:4242", environ) == "other.example.com"
    assert server_name_of(QrsConfig(server_name="mine"), settings.url, environ) == "mine"
    for content in (b"", b"***", base64.b64encode(b"\xff\xfe"), base64.b64encode(b"two words"), b"A" * 5000):
        host_cfg.write_bytes(content)
        assert server_name_of(settings, settings.url, environ) in ("localhost", "\0")


# --- our own certificate ---


def test_a_key_with_a_password_is_opened_with_it(qrs: FakeQrs, site: Site) -> None:
    site.write_client(password="hidden-password")
    assert read(site.settings(qrs.url, key_password="hidden-password")).kind == "signed_key"
    missing = failure(site.settings(qrs.url))
    assert str(missing) == (
        f"certificate: {site.folder / 'client_key.pem'} is protected by a password: set qrs.key_password"
    )
    wrong = failure(site.settings(qrs.url, key_password="hidden-passwor"))
    assert str(wrong) == f"certificate: qrs.key_password does not decrypt {site.folder / 'client_key.pem'}"


def test_a_password_beside_a_key_without_one_does_no_harm(qrs: FakeQrs, site: Site) -> None:
    assert read(site.settings(qrs.url, key_password="hidden-password")).kind == "signed_key"


@pytest.mark.parametrize("old_encryption", [False, True])
def test_a_pfx_file_stands_for_certificate_and_key(
    qrs: FakeQrs, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_encryption: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    file = site.write_pfx("hidden-password", old_encryption=old_encryption)
    settings = site.settings(qrs.url, certificate=str(file), key="", key_password="hidden-password")
    assert read(settings).kind == "signed_key"
    assert list(scratch.iterdir()) == []
    wrong = failure(site.settings(qrs.url, certificate=str(file), key="", key_password="other"))
    assert str(wrong) == f"certificate: {file} is neither PEM nor a PFX file that qrs.key_password decrypts"


def test_a_pfx_file_without_a_password_is_read(qrs: FakeQrs, site: Site) -> None:
    assert read(site.settings(qrs.url, certificate=str(site.write_pfx()), key="")).kind == "signed_key"


def test_a_pfx_key_touches_the_disk_encrypted_only(
    qrs: FakeQrs, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = Path.write_bytes

    def recorded(self: Path, data: bytes) -> int:
        written.append(data)
        return write(self, data)

    file = site.write_pfx()
    monkeypatch.setattr(Path, "write_bytes", recorded)
    read(site.settings(qrs.url, certificate=str(file), key=""))
    assert len(written) == 1
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in written[0]
    assert b"BEGIN PRIVATE KEY" not in written[0]


def spoilt(site: Site, name: str, content: bytes) -> Path:
    file = site.folder / name
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("setting", "name", "content", "sentence"),
    [
        ("ca_file", "root.pem", b"", "{} (qrs.ca_file) contains no CA certificate"),
        ("ca_file", "root.pem", b"-----BEGIN CERTIFICATE-----\nxx\n", "{} (qrs.ca_file) contains no CA certificate"),
        ("certificate", "client.pem", b"-----BEGIN NOTHING-----\n", "{} (qrs.certificate) contains no certificate"),
        ("certificate", "client.pem", b"", "{} is neither PEM nor a PFX file that qrs.key_password decrypts"),
        ("key", "client_key.pem", b"not a key", "{} (qrs.key) contains no private key"),
        ("key", "client_key.pem", b"x" * ((1 << 20) + 1), "{} is larger than 1048576 bytes: no certificate"),
    ],
)
def test_a_spoilt_file_is_named_with_what_is_wrong(
    qrs: FakeQrs, site: Site, setting: str, name: str, content: bytes, sentence: str
) -> None:
    file = spoilt(site, name, content)
    assert str(failure(site.settings(qrs.url))) == "certificate: " + sentence.format(file)
    assert qrs.requests == []


@pytest.mark.parametrize("setting", ["ca_file", "certificate", "key"])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(
    qrs: FakeQrs, site: Site, tmp_path: Path, setting: str
) -> None:
    gone, folder = str(tmp_path / "gone.pem"), str(tmp_path)
    assert str(failure(site.settings(qrs.url, **{setting: gone}))) == (
        f"certificate: {gone} cannot be read: no such file or directory"
    )
    assert str(failure(site.settings(qrs.url, **{setting: folder}))).startswith(
        f"certificate: {folder} cannot be read: "
    )
    assert failure(site.settings(qrs.url, **{setting: "a\0b"})).reason == "certificate"


def test_a_key_of_another_certificate_is_named(qrs: FakeQrs, site: Site, stranger: Site) -> None:
    key = stranger.folder / "client_key.pem"
    assert str(failure(site.settings(qrs.url, key=str(key)))) == (
        f"certificate: the key in {key} is not the key of {site.folder / 'client.pem'}"
    )


def test_an_expired_client_certificate_is_named_with_its_day(qrs: FakeQrs, site: Site) -> None:
    site.write_client(days=-1)
    error = failure(site.settings(qrs.url))
    assert str(error).startswith(f"certificate: {site.folder / 'client.pem'} expired on 20")
    assert qrs.requests == []


def test_a_client_certificate_of_the_future_points_at_the_clock(qrs: FakeQrs, site: Site) -> None:
    site.write_client(starts_in_days=2)
    error = failure(site.settings(qrs.url))
    assert str(error).startswith(f"certificate: {site.folder / 'client.pem'} is not valid before 20")
    assert "clock" in str(error)


def test_a_pfx_file_without_a_key_is_named(qrs: FakeQrs, site: Site) -> None:
    file = site.folder / "root.pfx"
    encryption = serialization.NoEncryption()
    file.write_bytes(pkcs12.serialize_key_and_certificates(b"root", None, None, [site.root], encryption))
    assert str(failure(site.settings(qrs.url, certificate=str(file)))) == (
        f"certificate: {file} contains no private key that matches its certificate"
    )


def test_a_pfx_file_needs_a_folder_for_temporary_files_and_says_so(
    qrs: FakeQrs, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    error = failure(site.settings(qrs.url, certificate=str(site.write_pfx())))
    assert str(error) == "certificate: a PFX file requires a folder for temporary files: no such file or directory"


@pytest.mark.parametrize("pfx", [False, True])
def test_a_key_too_weak_for_tls_is_named(qrs: FakeQrs, site: Site, pfx: bool) -> None:
    """As sites have that were installed long ago."""
    site.write_weak_client(pfx=pfx)
    file = str(site.folder / ("client.pfx" if pfx else "client.pem"))
    error = failure(site.settings(qrs.url, certificate=file))
    assert error.reason == "certificate"
    assert str(error).startswith(f"certificate: {file} ")
    assert "cannot be used: " in str(error)


def test_renewed_files_are_taken_up_without_a_restart(site: Site, stranger: Site) -> None:
    """Qlik's certificates are exchanged on disk, the CA with them; the same settings go on working."""
    with FakeQrs(site) as qrs:
        settings = site.settings(qrs.url)
        read(settings)
        site.write_client()
        assert read(settings).kind == "signed_key"
    for name in ("root.pem", "client.pem", "client_key.pem", "server.pem"):
        os.replace(stranger.folder / name, site.folder / name)
    stranger.folder = site.folder
    with FakeQrs(stranger, port=qrs.port):
        assert read(settings).kind == "signed_key"


def refuse_handshakes(context: ssl.SSLContext, listener: socket.socket) -> None:
    """Until the listener is closed; a client may try twice."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_refuses_the_client_certificate_is_told_with_the_file(
    site: Site, stranger: Site, version: ssl.TLSVersion
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.folder / "server.pem")
    context.load_verify_locations(site.folder / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    file = str(stranger.folder / "client.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse_handshakes, args=(context, listener), daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        error = failure(site.settings(url, certificate=file, key=str(stranger.folder / "client_key.pem")))
        with contextlib.suppress(OSError):  # wakes the thread on Linux; closing does on Windows
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert error.reason in (("certificate",) if version == ssl.TLSVersion.TLSv1_2 else ("certificate", "reset"))
    assert f"accept the client certificate {file}" in str(error)


# --- a server that does not behave ---


@pytest.mark.parametrize("path", [LICENSE, ACCESS])
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (qrs_server.stalls, "timeout"),
        (qrs_server.drips, "timeout"),
        (qrs_server.closes, "reset"),
        (qrs_server.closes_halfway, "reset"),
        (qrs_server.half_closes, "reset"),
        (qrs_server.resets_halfway, "reset"),
        (qrs_server.speaks_no_http, "http"),
        (qrs_server.floods, "too_large"),
    ],
)
@pytest.mark.slow
def test_every_misbehaviour_ends_in_time_with_its_reason(
    qrs: FakeQrs, site: Site, path: str, behaviour: qrs_server.Behaviour, reason: str
) -> None:
    qrs.behaviours[path] = behaviour
    error = failure(site.settings(qrs.url), timeout=0.5 if reason == "timeout" else 10.0)
    assert error.reason == reason
    assert reason == "timeout" or f"GET {path} " in str(error)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, b"<html>Qlik is starting</html>"), "json"),
        (Answer(200, b""), "json"),
        (Answer(200, b'{"isExpired": fal'), "json"),
        (Answer(200, b"\xff\xfe{"), "json"),
        (Answer(200, b"[" * 100_000), "json"),
        (Answer(200, b"\x1f\x8b not asked for", {"Content-Encoding": "gzip"}), "json"),
        (Answer(200, b"[]"), "json"),
        (Answer(401, b""), "forbidden"),
        (Answer(302, b"", {"Location": "https://127.0.0.1:1/login"}), "http"),
        (Answer(404, b""), "http"),
        (Answer(503, b"Service Unavailable"), "http"),
        (Answer(200, b" " * ((4 << 20) + 1)), "too_large"),
    ],
)
def test_every_unusable_answer_has_its_reason(qrs: FakeQrs, site: Site, answer: Answer, reason: str) -> None:
    qrs.answers[LICENSE] = answer
    assert failure(site.settings(qrs.url)).reason == reason


def test_a_byte_order_mark_and_numbers_that_are_none_do_not_spoil_an_answer(qrs: FakeQrs, site: Site) -> None:
    qrs.answers[ACCESS] = Answer(
        200,
        b'\xef\xbb\xbf{"totalTokens": NaN, "availableTokens": Infinity, "tokensEnabled": true, "professionalAccess":'
        b' null, "analyzerAccess": null, "analyzerTimeAccess": null}',
    )
    overview = read(site.settings(qrs.url))
    assert (overview.kind, overview.tokens, overview.problems) == ("signed_key", None, 2)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_there_no_such_host_and_no_tls_are_told_apart(site: Site) -> None:
    assert failure(site.settings(f"https://127.0.0.1:{unused_port()}")).reason == "refused"
    assert failure(site.settings("https://repository.invalid:4242")).reason == "dns"

    def plain(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=plain, args=(listener,), daemon=True)
        thread.start()
        error = failure(site.settings(f"https://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join(5)
    assert (error.reason, "no TLS connection" in str(error)) == ("tls", True)


def test_what_loopback_cannot_show_is_told_without_a_host(site: Site) -> None:
    settings = site.settings("https://qliknode1.example.com:4242")
    unreachable = aiohttp.ClientOSError(errno.EHOSTUNREACH, "Cannot connect to host qliknode1.example.com")
    assert str(connection_failure(repository(settings.url, LICENSE), unreachable, settings)) == (
        f"other: GET {LICENSE} (qrs.url) failed: {os.strerror(errno.EHOSTUNREACH).lower()}"
    )
    late = aiohttp.ClientOSError(errno.ETIMEDOUT, "Cannot connect to host qliknode1.example.com")
    late.__cause__ = TimeoutError()
    assert (
        str(connection_failure(repository(settings.url, LICENSE), late, settings))
        == f"timeout: no connection for GET {LICENSE} (qrs.url)"
    )


@pytest.mark.slow
def test_hazard_121_names_that_hang_hold_up_no_other_read_and_no_end(
    qrs: FakeQrs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    look_up = socket.getaddrinfo

    def hanging(host: object, *place: object, **options: object) -> object:
        if str(host).endswith(".hangs"):
            released.wait(30)
        return look_up(host, *place, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    started = time.monotonic()
    try:
        for number in range(40):  # more than any shared pool of threads has
            assert failure(site.settings(f"https://repository{number}.hangs:4242"), timeout=0.02).reason == "timeout"
        assert read(site.settings(qrs.url.replace("127.0.0.1", "localhost"))).kind == "signed_key"
        assert time.monotonic() - started < 20, "a read's loop does not wait for the threads of its lookups"
    finally:
        released.set()


def test_hazard_121_a_certificate_file_that_hangs_does_not_hang_the_read(
    qrs: FakeQrs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    load: Callable[[QrsConfig], ssl.SSLContext] = client.tls_context

    def hanging(settings: QrsConfig) -> ssl.SSLContext:
        released.wait(30)
        return load(settings)

    monkeypatch.setattr(client, "tls_context", hanging)
    try:
        assert failure(site.settings(qrs.url), timeout=0.2).reason == "timeout"
    finally:
        released.set()
