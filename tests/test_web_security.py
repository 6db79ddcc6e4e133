"""The web file and what follows from it: users, certificates, headers, rate; read again while running."""

import base64
import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from web_stand_in import DEADLINE, SETTLED, Site, StandIn, eventually, site, until_closed

from exporter.config import ConfigError
from exporter.filewatch import await_settled
from exporter.web import webfile
from exporter.web.callers import RateLimit, is_local, is_local_host
from exporter.web.limits import Limits
from exporter.web.security import Security
from exporter.web.server import WebServer
from exporter.web.webfile import Rules, load, weakened

AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost", "127.0.0.1")
EXAMPLE = Path(__file__).parent.parent / "deploy" / "web-config.example.yml"
SUITE = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"


def _hash(password: str) -> str:
    """As cheap as bcrypt gets, these tests are about whose password it is; always the same, as it is in tests' names."""
    return bcrypt.hashpw(password.encode(), b"$2y$04$abcdefghijklmnopqrstuu").decode()


ALICE = _hash("wonder")


def _login(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _web_file(folder: Path, text: str) -> str:
    """The file, replaced in one step as careful programs do it; its certificates lie beside it.

    Windows refuses to replace a file that is just being read: then such a program tries again.
    """
    folder.joinpath("new").write_text(text)
    for left in range(100, -1, -1):
        try:
            os.replace(folder / "new", folder / "web.yml")
            break
        except PermissionError:
            if not left:
                raise
            time.sleep(0.02)
    return str(folder / "web.yml")


def _with_certificates(folder: Path) -> Path:
    SERVER.cert_chain_pems[0].write_to_path(str(folder / "server.crt"))
    SERVER.private_key_pem.write_to_path(str(folder / "server.key"))
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.crt"))
    return folder


def _client_context(certificate: trustme.LeafCert | None = None, folder: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if certificate and folder:
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
        context.load_cert_chain(folder / "client.pem")
    return context


def _ask_tls(running: Site, context: ssl.SSLContext, path: str = "/metrics") -> int:
    connection = http.client.HTTPSConnection("localhost", running.port, timeout=DEADLINE, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


# --- users


@pytest.mark.windows
def test_with_users_every_path_asks_for_a_login(tmp_path: Path) -> None:
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")) as running:
        for path in ("/", "/metrics", "/config", "/api/v1/events", "/-/healthy", "/nothing-here"):
            status, headers, body = running.ask(path)
            assert (status, body) == (401, b"Unauthorized.\n"), path
            assert headers["WWW-Authenticate"].startswith("Basic ")
            assert running.ask(path, "OPTIONS")[::2] == (204, b""), "it tells nothing"
        assert running.ask("/metrics", headers=_login("alice", "wonder"))[0] == 200
        assert running.ask("/nothing-here", headers=_login("alice", "wonder"))[0] == 404
        for user, password in (("alice", "other"), ("bob", "wonder"), ("", ""), ("alice", ""), ("Alice", "wonder")):
            assert running.ask("/metrics", headers=_login(user, password))[0] == 401, user


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ", "Basic !!!", "Bearer abc", "Basic YWxpY2U=", "Basic /////w==", "basic\tx", "Digest a=b"],
)
def test_a_login_that_cannot_be_read_is_no_login(header: str, tmp_path: Path) -> None:
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")) as running:
        assert running.ask("/metrics", headers={"Authorization": header})[0] == 401


def test_with_users_what_is_private_is_answered_to_them_from_anywhere(tmp_path: Path) -> None:
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")) as running:
        elsewhere = {"Host": "qlik.example", "X-Forwarded-For": "10.1.2.3", **_login("alice", "wonder")}
        for path in ("/config", "/api/v1/events"):
            assert running.ask(path, headers=elsewhere)[0] == 200
        assert running.ask("/-/reload", "POST", elsewhere)[0] == 200


def test_with_users_people_are_shown_to_those_who_logged_in_only(tmp_path: Path) -> None:
    users = f"basic_auth_users:\n  alice: {ALICE}\n"
    elsewhere = {"Host": "qlik.example", "X-Forwarded-For": "10.1.2.3", **_login("alice", "wonder")}
    with site(_web_file(tmp_path, users)) as running:
        assert b"kowalska" in running.ask("/", headers=elsewhere)[2]
        for path in ("/api/v1/status", "/api/v1/events"):
            assert b'"people": true' in running.ask(path, headers=elsewhere)[2]
    with site(_web_file(tmp_path, users + "auth_exclude_paths: [/, /api/v1/status]\n")) as running:
        for path in ("/", "/api/v1/status"):
            status, _, body = running.ask(path)
            assert (status, b"kowalska" in body, b'"people": true' in body) == (200, False, False), path


def test_health_may_be_asked_without_a_login_where_the_file_says_so(tmp_path: Path) -> None:
    text = f"basic_auth_users:\n  alice: {ALICE}\nauth_exclude_paths: [/-/healthy, /-/ready]\n"
    with site(_web_file(tmp_path, text)) as running:
        assert running.ask("/-/healthy")[0] == 200
        assert running.ask("/-/ready")[0] == 200
        assert running.ask("/-/%68ealthy")[0] == 200
        for path in ("/metrics", "/-/healthy/", "/-/healthy/../../config", "//-/healthy", "/config"):
            assert running.ask(path)[0] == 401, path


def test_a_password_is_hashed_once_and_then_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    original = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *both: hashed.append(both[0]) or original(*both))
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")) as running:
        for _ in range(3):
            assert running.ask("/metrics", headers=_login("alice", "wonder"))[0] == 200
        assert hashed == [b"wonder"]
        for _ in range(2):
            assert running.ask("/metrics", headers=_login("alice", "wrong"))[0] == 401
            assert running.ask("/metrics", headers=_login("nobody", "wonder"))[0] == 401
        assert hashed == [b"wonder", *[b"wrong", b"wonder"] * 2]


def test_only_so_many_logins_are_remembered(tmp_path: Path) -> None:
    text = f"basic_auth_users:\n  alice: {ALICE}\n  bob: {_hash('builder')}\n"
    with site(_web_file(tmp_path, text), limits=Limits(logins_remembered=1)) as running:
        for _ in range(2):
            assert running.ask("/metrics", headers=_login("alice", "wonder"))[0] == 200
            assert running.ask("/metrics", headers=_login("bob", "builder"))[0] == 200
        assert len(running.server._logins._right) == 1


def test_an_unknown_user_costs_as_much_as_a_known_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[bytes] = []
    original = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *both: costs.append(both[1].split(b"$")[2]) or original(*both))
    costly = bcrypt.hashpw(b"secret", bcrypt.gensalt(6)).decode()
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {costly}\n")) as running:
        for user in ("alice", "nobody", ""):
            assert running.ask("/metrics", headers=_login(user, "wrong"))[0] == 401
    assert costs == [b"06"] * 3


@pytest.mark.slow
def test_a_refusal_takes_the_same_work_whatever_a_users_hash_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[int] = []
    original = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *both: work.append(2 ** int(both[1][4:6])) or original(*both))
    hashes = {
        user: bcrypt.hashpw(b"right", bcrypt.gensalt(cost)).decode()
        for user, cost in zip("abc", (4, 7, 9), strict=True)
    }
    lines = "".join(f"  {user}: {password_hash}\n" for user, password_hash in hashes.items())
    with site(_web_file(tmp_path, f"basic_auth_users:\n{lines}")) as running:
        for user in ("a", "b", "c", "nobody"):
            work.clear()
            assert running.ask("/metrics", headers=_login(user, "wrong"))[0] == 401
            assert sum(work) == 2**9, user
        work.clear()
        assert running.ask("/metrics", headers=_login("a", "right"))[0] == 200
        assert work == [2**4], "who is let in need not wait"


@pytest.mark.slow
def test_a_login_flood_from_one_address_turns_nobody_else_away(tmp_path: Path) -> None:
    costly = bcrypt.hashpw(b"secret", bcrypt.gensalt(9)).decode()
    limits = Limits(logins_waiting_each=2)
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {costly}\n"), limits=limits) as running:
        request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n"

        def asked_from(address: str, password: str) -> socket.socket:
            place = ("127.0.0.1", running.port)
            client = socket.create_connection(place, timeout=DEADLINE, source_address=(address, 0))
            client.sendall(request.format(_login("alice", password)["Authorization"]).encode())
            return client

        flood = [asked_from("127.0.0.2", str(guess)) for guess in range(60)]
        with asked_from("127.0.0.3", "secret") as honest:
            assert until_closed(honest).startswith(b"HTTP/1.1 200")
        answers = [until_closed(client)[9:12] for client in flood]
        for client in flood:
            client.close()
    assert set(answers) == {b"401", b"429"}


def test_a_login_whose_client_goes_away_leaves_its_turn_to_the_next(tmp_path: Path) -> None:
    costly = bcrypt.hashpw(b"secret", bcrypt.gensalt(8)).decode()
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {costly}\n")) as running:
        login = _login("alice", "wrong")["Authorization"]
        for _ in range(3):
            clients = [socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) for _ in range(10)]
            for client in clients:
                client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\n\r\n".encode())
            for client in clients:
                client.close()
        assert eventually(lambda: _status(running, "alice", "secret") == 200)
        logins = running.server._logins
        assert eventually(lambda: not logins._waiting and logins._checking == 0)


@pytest.mark.slow
def test_guessing_delays_no_one_who_is_logged_in(tmp_path: Path) -> None:
    costly = bcrypt.hashpw(b"secret", bcrypt.gensalt(9)).decode()
    with site(
        _web_file(tmp_path, f"basic_auth_users:\n  alice: {costly}\n"), limits=Limits(logins_waiting_each=2)
    ) as running:
        assert running.ask("/metrics", headers=_login("alice", "secret"))[0] == 200
        statuses: list[int] = []
        guessers = [
            threading.Thread(
                target=lambda guess=guess: statuses.append(running.ask("/", headers=_login("alice", str(guess)))[0])
            )
            for guess in range(24)
        ]
        for guesser in guessers:
            guesser.start()
        while any(guesser.is_alive() for guesser in guessers):
            assert running.ask("/metrics", headers=_login("alice", "secret"))[0] == 200
    assert set(statuses) == {401, 429}


@pytest.mark.parametrize("password", ["ümlaut: colon", "x" * 72, "nul\0byte"])
def test_odd_passwords_are_those_of_other_exporters(password: str, tmp_path: Path) -> None:
    password_hash = _hash(password.replace("\0", "")[:72])
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {password_hash}\n")) as running:
        assert running.ask("/metrics", headers=_login("alice", password))[0] == (401 if "\0" in password else 200)
        assert running.ask("/metrics", headers=_login("alice", password[:-1]))[0] == 401


def _status(running: Site, user: str = "", password: str = "") -> int:
    return running.ask("/metrics", headers=_login(user, password) if user else {})[0]


@pytest.mark.windows
def test_users_change_without_a_restart(tmp_path: Path) -> None:
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")) as running:
        assert _status(running, "alice", "wonder") == 200
        _web_file(tmp_path, f"basic_auth_users:\n  alice: {_hash('changed')}\n  bob: {_hash('builder')}\n")
        assert eventually(lambda: _status(running, "alice", "wonder") == 401)
        assert _status(running, "alice", "changed") == 200
        assert _status(running, "bob", "builder") == 200


def _refused(running: Site) -> str:
    """Why the newest web file is not in force, once that is so."""
    security = running.security
    assert eventually(lambda: bool(security.refused))
    return security.refused


@pytest.mark.slow
def test_a_web_file_that_became_unusable_leaves_the_last_good_one_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = f"basic_auth_users:\n  alice: {ALICE}\n"
    with site(_web_file(tmp_path, good)) as running:
        for text in ("basic_auth_users: [", "nonsense: true\n", "basic_auth_users:\n  alice: secret\n", None):
            if text is None:
                os.unlink(tmp_path / "web.yml")
            else:
                _web_file(tmp_path, text)
            _refused(running)
            for _ in range(3):
                assert (_status(running), _status(running, "alice", "wonder")) == (401, 200)
            _web_file(tmp_path, good)
            assert eventually(lambda: not running.security.refused)
    assert caplog.text.count("the last valid version stays in force") == 4
    assert "secret" not in caplog.text


# --- a version that protects less

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
USERS = f"basic_auth_users:\n  alice: {ALICE}\n  'bob': {ALICE}\n"
SANS = "  client_allowed_sans: [prometheus.example.com, other]\n"
RATE = "rate_limit:\n  interval: 1m30s\n  burst: 50\n"
HEADERS = "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=31536000\n"
WHOLE = (
    f"# who may ask\n{MUTUAL}  client_allowed_sans:\n    - prometheus.example.com\n  min_version: TLS13\n{HEADERS}"
    f"{USERS}{RATE}auth_exclude_paths:\n  - /-/healthy\n  - /-/ready\n"
)


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users:", "basic_auth_users: {}", "basic_auth_users: ''", "basic_auth_users: ~",
        "basic_auth_users:\n  prom:", "basic_auth_users:\n  prom: ''", "basic_auth_users:\n  prom: ' '",
        f"basic_auth_users:\n  prom:\n  alice: {ALICE}", "tls_server_config:", "tls_server_config: {}",
        TLS + "  client_auth_type:", TLS + "  client_auth_type: ''", MUTUAL + "  client_allowed_sans:",
        MUTUAL + "  client_allowed_sans: []", MUTUAL + "  client_allowed_sans: [a, '']", MUTUAL + "  client_allowed_sans: [~]",
        MUTUAL.replace("ca.crt", ""), TLS + "  min_version:", TLS + "  cipher_suites: []", TLS + "  curve_preferences:",
        TLS + "  prefer_server_cipher_suites:", "tls_server_config:\n  cert_file:\n  key_file:", "rate_limit:",
        "rate_limit: {}", "rate_limit:\n  interval:", "rate_limit:\n  burst:\n  interval: 1s", "http_server_config:",
        "http_server_config:\n  headers:", "http_server_config: {headers: {Strict-Transport-Security: }}",
        "http_server_config: {headers: {Strict-Transport-Security: ''}}", "auth_exclude_paths:", "auth_exclude_paths: []",
        "", "\n", "# nothing but a comment", "---", "{}",
    ],
)  # fmt: skip
def test_an_empty_value_is_an_error_wherever_it_stands(text: str, tmp_path: Path) -> None:
    file = _web_file(_with_certificates(tmp_path), f"{text}\n")
    with pytest.raises(ConfigError, match="found nothing, expected") as failure:
        load(file)
    assert failure.value.key or not text.strip("\n-{}") or text.startswith("#"), "it names the key"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (USERS, HEADERS, "no user is left"),
        (TLS + USERS, TLS, "no user is left"),
        (TLS + USERS, USERS, "TLS is gone"),
        (MUTUAL, TLS, "client_auth_type requires less"),
        (MUTUAL, TLS + "  client_auth_type: NoClientCert\n", "client_auth_type requires less"),
        (MUTUAL, MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"), "requires less"),
        (MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"), TLS, "requires less"),
        (MUTUAL + SANS, MUTUAL, "client_allowed_sans accepts more"),
        (MUTUAL + SANS, MUTUAL + SANS.replace(".com", ".co"), "client_allowed_sans accepts more"),
        (TLS + "  min_version: TLS13\n", TLS, "min_version is lower"),
        (TLS, TLS + "  max_version: TLS12\n", "max_version is lower"),
        (TLS + f"  cipher_suites: [{SUITE}]\n", TLS, "cipher_suites allows more"),
        (TLS, TLS + "  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n", "cipher_suites allows more"),
        (TLS + "  curve_preferences: [CurveP521]\n", TLS, "curve_preferences was removed"),
        (TLS, TLS + "  prefer_server_cipher_suites: false\n", "prefer_server_cipher_suites is off"),
        (USERS, USERS + "auth_exclude_paths: [/metrics]\n", "no login is required any more for /metrics"),
        (RATE, HEADERS, "rate_limit allows more"),
        (RATE, RATE.replace("1m30s", "1m"), "rate_limit allows more"),
        (RATE, RATE.replace("50", "51"), "rate_limit allows more"),
        (RATE, RATE.replace("1m30s", "0"), "rate_limit allows more"),
        (HEADERS, USERS, "changed header fields: Strict-Transport-Security"),
        (HEADERS, HEADERS.replace("31536000", "3"), "changed header fields: Strict-Transport-Security"),
    ],
)
@pytest.mark.slow
def test_a_version_that_protects_less_is_refused_until_a_restart(
    before: str, after: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    security = Security(_web_file(_with_certificates(tmp_path), before), SETTLED)
    in_force = security.current()
    security.start()
    _web_file(tmp_path, after)
    assert eventually(lambda: bool(security.refused))
    assert "protects less than the current one" in security.refused
    assert said in security.refused
    assert security.current() is in_force
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    security.stop()
    assert Security(str(tmp_path / "web.yml"), SETTLED).current() != in_force, "a restart takes it"


def test_a_version_that_names_a_file_which_comes_later_is_taken_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    security = Security(_web_file(_with_certificates(tmp_path), TLS), SETTLED, tried_again=0.1)
    security.start()
    _web_file(tmp_path, MUTUAL.replace("ca.crt", "clients.crt"))
    assert eventually(lambda: "clients.crt: cannot be read" in security.refused)
    first = security._tried
    assert eventually(lambda: security._tried > first), "it was read again"
    assert len(caplog.records) == 1, "and said once"
    shutil.copy(tmp_path / "ca.crt", tmp_path / "clients.crt")
    assert eventually(lambda: not security.refused)
    rules = security.current().tls
    assert rules
    assert rules.context.verify_mode is ssl.CERT_REQUIRED
    security.stop()


def test_a_version_that_protects_as_much_or_more_is_no_weaker(tmp_path: Path) -> None:
    _with_certificates(tmp_path)

    def rules(text: str) -> Rules:
        return load(_web_file(tmp_path, text))

    for before, after in (
        (HEADERS, HEADERS + USERS), (USERS, TLS + USERS), (TLS, MUTUAL), (MUTUAL, MUTUAL + SANS), (TLS, TLS + RATE),
        (MUTUAL + SANS, MUTUAL + SANS.replace(", other", "")), (USERS, USERS.replace("alice", "carol")),
        (USERS + "auth_exclude_paths: [/metrics]\n", USERS), (TLS, TLS + f"  cipher_suites: [{SUITE}]\n"),
        (RATE, RATE.replace("1m30s", "2m").replace("50", "5")), (TLS, TLS + "  min_version: TLS13\n"), (WHOLE, WHOLE),
    ):  # fmt: skip
        assert weakened(rules(before), rules(after)) == [], (before, after)
    assert weakened(Rules(), rules(WHOLE)) == []


@pytest.mark.slow
def test_every_beginning_of_a_web_file_is_refused_or_protects_as_much(tmp_path: Path) -> None:
    in_force = load(_web_file(_with_certificates(tmp_path), WHOLE))
    taken = []
    for end in range(len(WHOLE)):
        file = _web_file(tmp_path, WHOLE[:end])
        try:
            rules = load(file, in_force)
        except ConfigError:
            continue
        if not weakened(in_force, rules):
            taken.append(WHOLE[:end])
    assert all("  burst: 5" in text for text in taken), "all of it but the paths that need no login"
    assert len(taken) < 10


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (HEADERS, "without TLS, without users"),
        (USERS, "without TLS, with users"),
        (TLS, "with TLS, without users"),
        (MUTUAL + USERS, "with TLS and client certificates, with users"),
    ],
)
def test_the_log_says_who_gets_in(text: str, summary: str, tmp_path: Path) -> None:
    assert load(_web_file(_with_certificates(tmp_path), text)).summary() == summary


@pytest.mark.slow
def test_a_file_is_taken_only_once_nobody_writes_it(tmp_path: Path) -> None:
    settled = 1.0
    file = _web_file(tmp_path, USERS)
    begun = time.monotonic()
    security = Security(file, settled)
    assert time.monotonic() - begun >= settled, "it was just written"
    os.utime(file, (0, 0))  # as a program does that copies a file
    time_of_change = time.monotonic()
    security.start()
    more = f"  carol: {ALICE}\n"
    with open(file, "w") as stream:
        for piece in (USERS, *more):
            stream.write(piece)
            stream.flush()
            assert security.current().users.keys() == {"alice", "bob"}
    assert eventually(lambda: "carol" in security.current().users)
    assert time.monotonic() - time_of_change >= settled
    assert security.refused == ""
    security.stop()


def test_a_file_that_never_rests_is_an_error_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text("x")

    def write_on(_: float) -> None:
        file.write_text(file.read_text() + "x")

    with pytest.raises(ConfigError, match=r"web\.yml: is being written, expected no change for 0\.05 s"):
        await_settled([str(file)], SETTLED, patience=0.2, wait=write_on)


@pytest.mark.windows
def test_hazard_122_a_share_that_hangs_under_the_web_file_delays_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _web_file(tmp_path, USERS)
    hangs, released, real = threading.Event(), threading.Event(), os.stat

    def hanging(path: object, *rest: object, **more: object) -> os.stat_result:
        if path == file:
            hangs.set()
            released.wait(DEADLINE)
        return real(path, *rest, **more)  # type: ignore[arg-type]

    with site(file) as running:
        monkeypatch.setattr(os, "stat", hanging)
        assert hangs.wait(DEADLINE)
        begun = time.monotonic()
        assert _status(running, "alice", "wonder") == 200
        running.server.stop()
        assert time.monotonic() - begun < 5
        released.set()


# --- TLS


@pytest.mark.windows
def test_with_a_certificate_the_server_speaks_tls_only(tmp_path: Path) -> None:
    with site(_web_file(_with_certificates(tmp_path), TLS)) as running:
        assert _ask_tls(running, _client_context()) == 200
        with pytest.raises(OSError):  # noqa: PT011  # reset or closed: both say that plain HTTP is not served
            running.ask("/metrics")
        assert _ask_tls(running, _client_context(), "/-/healthy") == 200
        assert running.failures == []


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    with site(_web_file(_with_certificates(tmp_path), TLS)) as running:

        def serial() -> str:
            with (
                socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as plain,
                _client_context().wrap_socket(plain, server_hostname="localhost") as wrapped,
            ):
                return str((wrapped.getpeercert() or {})["serialNumber"])

        first = serial()
        renewed = AUTHORITY.issue_cert("localhost")
        renewed.cert_chain_pems[0].write_to_path(str(tmp_path / "server.crt"))
        assert "key of another certificate" in _refused(running)
        assert serial() == first, "a certificate without its key changes nothing yet"
        renewed.private_key_pem.write_to_path(str(tmp_path / "server.key"))
        assert eventually(lambda: serial() != first)


def test_tls_can_be_switched_on_without_a_restart(tmp_path: Path) -> None:
    file = _web_file(_with_certificates(tmp_path), HEADERS)
    with site(file) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read()
            _web_file(tmp_path, TLS + HEADERS)
            assert eventually(lambda: running.security.current().tls is not None)
            connection.request("GET", "/metrics")
            with pytest.raises(OSError):  # noqa: PT011  # an open plain connection ends, unanswered
                connection.getresponse()
        assert _ask_tls(running, _client_context()) == 200


def test_a_client_certificate_can_be_demanded(tmp_path: Path) -> None:
    with site(_web_file(_with_certificates(tmp_path), MUTUAL)) as running:
        assert _ask_tls(running, _client_context(AUTHORITY.issue_cert("prometheus"), tmp_path)) == 200
        for context in (_client_context(), _client_context(trustme.CA().issue_cert("prometheus"), tmp_path)):
            with pytest.raises(OSError):  # noqa: PT011  # alert or reset, as the handshake goes
                _ask_tls(running, context)


@pytest.mark.parametrize("name", ["prometheus.example", "::1", "scraper@example.com", "192.0.2.7"])
def test_only_client_certificates_with_an_allowed_name_are_let_in(name: str, tmp_path: Path) -> None:
    text = MUTUAL + f"  client_allowed_sans: ['{name}']\n"
    with site(_web_file(_with_certificates(tmp_path), text)) as running:
        assert _ask_tls(running, _client_context(AUTHORITY.issue_cert(name, "also.example"), tmp_path)) == 200
        other = AUTHORITY.issue_cert(f"other.{name}".replace("::", "x"))
        with pytest.raises(OSError):  # noqa: PT011  # alert or reset, as the handshake goes
            _ask_tls(running, _client_context(other, tmp_path))


@pytest.mark.parametrize(
    ("keys", "version", "works"),
    [
        ("", ssl.TLSVersion.TLSv1_2, True),
        ("  min_version: TLS13\n", ssl.TLSVersion.TLSv1_2, False),
        ("  max_version: TLS12\n", ssl.TLSVersion.TLSv1_3, False),
        (f"  cipher_suites: [{SUITE}]\n", ssl.TLSVersion.TLSv1_2, True),
        ("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", ssl.TLSVersion.TLSv1_2, False),
        ("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", ssl.TLSVersion.TLSv1_3, True),
        ("  curve_preferences: [CurveP256]\n  prefer_server_cipher_suites: false\n", ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_versions_and_ciphers_are_those_of_the_file(
    keys: str, version: ssl.TLSVersion, works: bool, tmp_path: Path
) -> None:
    with site(_web_file(_with_certificates(tmp_path), TLS + keys)) as running:
        context = _client_context()
        context.minimum_version = context.maximum_version = version
        if works:
            assert _ask_tls(running, context) == 200
        else:
            with pytest.raises(ssl.SSLError):
                _ask_tls(running, context)


def test_a_handshake_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with (
        site(_web_file(_with_certificates(tmp_path), TLS), limits=Limits(head=0.3)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as client,
    ):
        client.sendall(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_handshakes_that_never_end_count_and_make_room_for_others(tmp_path: Path) -> None:
    with site(_web_file(_with_certificates(tmp_path), TLS), limits=Limits(connections=16)) as running:
        clients = [socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) for _ in range(40)]
        for client in clients[::2]:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"\x16\x03\x01")
        assert _ask_tls(running, _client_context()) == 200
        assert len(running.connections) <= 8
        for client in clients:
            client.close()
        assert eventually(lambda: len(running.connections) == 0)


def test_what_comes_with_the_end_of_a_handshake_is_answered(tmp_path: Path) -> None:
    with site(_web_file(_with_certificates(tmp_path), TLS)) as running:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = _client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as wire:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    wire.sendall(outgoing.read())
                    incoming.write(wire.recv(65536))
            client.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            wire.sendall(outgoing.read())  # the last of the handshake, and the request
            said = b""
            while b"Healthy." not in said:
                incoming.write(wire.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    said += client.read(65536)


def test_stops_within_three_seconds_with_tls_clients_connected(tmp_path: Path) -> None:
    with site(_web_file(_with_certificates(tmp_path), TLS)) as running:
        idle = http.client.HTTPSConnection("localhost", running.port, timeout=DEADLINE, context=_client_context())
        half = socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE)
        with contextlib.closing(idle), half:
            idle.request("GET", "/metrics")
            assert idle.getresponse().read()
            begun = time.monotonic()
            running.server.stop()
            assert time.monotonic() - begun < 3


# --- headers, rate


def test_headers_of_the_file_take_the_place_of_our_own(tmp_path: Path) -> None:
    text = (
        "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    X-XSS-Protection: '1; mode=block'\n"
        "    Strict-Transport-Security: max-age=60\n"
    )
    with site(_web_file(tmp_path, text)) as running:
        for path in ("/", "/metrics", "/nothing-here"):
            headers = running.ask(path)[1]
            assert headers["X-Frame-Options"] == "sameorigin"
            assert headers["X-XSS-Protection"] == "1; mode=block"
            assert headers["Strict-Transport-Security"] == "max-age=60"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_requests_beyond_the_rate_are_refused(tmp_path: Path) -> None:
    with site(_web_file(tmp_path, "rate_limit:\n  interval: 1h\n  burst: 3\n")) as running:
        assert [running.ask("/metrics")[0] for _ in range(4)] == [200, 200, 200, 429]
        assert running.ask("/metrics")[1]["Retry-After"] == "3600"


def test_the_rate_allows_bursts_and_fills_up_again() -> None:
    rules, rate = Rules(burst=2, interval=10.0), RateLimit()
    asked_at = [0.0, 0.0, 0.0, 9.0, 10.5, 10.6, 100.0, 100.0, 100.0]
    assert [rate.admits(rules, now) for now in asked_at] == [
        True, True, False, False, True, False, True, True, False
    ]  # fmt: skip
    assert all(rate.admits(Rules(), 100.0) for _ in range(100))


# --- the file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nonsense: 1", "nonsense: unknown key; expected one of tls_server_config"),
        ("tls_server_confg: {a: b}", "did you mean `tls_server_config`?"),
        ("tls_server_config: {cert_fil: x}", "tls_server_config.cert_fil: unknown key; did you mean `cert_file`?"),
        ("tls_server_config: {cert_file: server.crt}", "tls_server_config.key_file: not found"),
        ("tls_server_config: {key_file: server.key}", "tls_server_config.cert_file: not found"),
        (TLS + "  cert: 'PEM'", "tls_server_config.cert: found PEM text, expected a file named by `cert_file`"),
        (TLS + "  key: 'PEM'", "tls_server_config.key: found PEM text"),
        (TLS + "  client_ca: 'PEM'", "tls_server_config.client_ca: found PEM text"),
        (TLS.replace("server.crt", "gone.crt"), "gone.crt: cannot be read: No such file or directory"),
        (TLS.replace("server.key", "gone.key"), "gone.key: cannot be read: No such file or directory"),
        (TLS.replace("server.crt", "web.yml"), "expected a certificate chain and its key in PEM"),
        (TLS.replace("server.key", "other.key"), "found the key of another certificate"),
        (TLS.replace("server.key", "locked.key"), "expected a key without a password"),
        (TLS + "  min_version: TLS10", "tls_server_config.min_version: found `TLS10`, which is insecure"),
        (TLS + "  max_version: TLS11", "tls_server_config.max_version: found `TLS11`, which is insecure"),
        (TLS + "  min_version: SSL3", "tls_server_config.min_version: found `SSL3`, expected one of `TLS10`"),
        (TLS + "  min_version: TLS13\n  max_version: TLS12", "expected no more than max_version"),
        (TLS + "  cipher_suites: [RC4]", "tls_server_config.cipher_suites[0]: found `RC4`, expected a name such as"),
        (TLS + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]", "found only suites of TLS 1.3"),
        (TLS + "  curve_preferences: [P256]", "tls_server_config.curve_preferences[0]: found `P256`"),
        (TLS + "  curve_preferences: [X25519, CurveP256]", "expected one: Python can insist on one only"),
        (TLS + "  client_auth_type: RequireAnyClientCert", "which accepts certificates that are not verified"),
        (TLS + "  client_auth_type: RequestClientCert", "which accepts certificates that are not verified"),
        (TLS + "  client_auth_type: Sometimes", "tls_server_config.client_auth_type: found `Sometimes`, expected one"),
        (TLS + "  client_auth_type: RequireAndVerifyClientCert", "client_ca_file: not found, expected the CA"),
        (TLS + "  client_ca_file: ca.crt", "tls_server_config.client_ca_file: expected client_auth_type"),
        (TLS + "  client_allowed_sans: [a]", "tls_server_config.client_allowed_sans: expected client_auth_type"),
        (MUTUAL.replace("ca.crt", "gone.crt"), "gone.crt: cannot be read: No such file or directory"),
        (MUTUAL.replace("ca.crt", "web.yml"), "web.yml: expected certificates in PEM"),
        (MUTUAL.replace("ca.crt", "."), "client_ca_file: "),
        ("basic_auth_users: {alice: wonder}", "basic_auth_users.alice: found something else, expected a bcrypt hash"),
        ("basic_auth_users: {alice: 5}", "basic_auth_users"),
        ("basic_auth_users: {'': x}", "found a name that cannot be used for a login"),
        ("basic_auth_users: {'a:b': x}", "found a name that cannot be used for a login"),
        (
            f"basic_auth_users: {{alice: {ALICE.replace('$04$', '$31$')}}}",
            "found a bcrypt cost of 31, expected at most",
        ),
        (f"basic_auth_users: {{alice: {ALICE.replace('$04$', '$03$')}}}", "expected a bcrypt hash"),
        (f"basic_auth_users: {{alice: {ALICE}, alice: {ALICE}}}", "the key `alice` occurs twice"),
        ("auth_exclude_paths: [/config]", "auth_exclude_paths[0]: found `/config`, expected one of /, /-/healthy"),
        ("auth_exclude_paths: /-/healthy", "auth_exclude_paths: found `/-/healthy`, expected a list"),
        ("http_server_config: {headers: {X-Mine: a}}", "http_server_config.headers.X-Mine: unknown key"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "found `allow`, expected deny or sameorigin"),
        ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "found `sniff`, expected nosniff"),
        ('http_server_config: {headers: {Content-Security-Policy: "a\\nb"}}', "found U+000A (line feed)"),
        ("http_server_config: {headers: {Content-Security-Policy: ü}}", "characters that are not allowed in a header"),
        ('tls_server_config: {cert_file: "C:\\new.pem"}', "tls_server_config.cert_file: found U+000A (line feed)"),
        ("rate_limit: {interval: 1s}", "rate_limit.burst: found `0`, expected at least 1"),
        ("rate_limit: {interval: 5, burst: 1}", "rate_limit.interval: found the number `5`, expected a duration"),
        ("[1, 2]", "found a list, expected keys"),
        ("basic_auth_users: [", "not readable as YAML"),
    ],
)
def test_what_cannot_be_honoured_is_one_line_that_names_file_and_key(text: str, found: str, tmp_path: Path) -> None:
    _with_certificates(tmp_path)
    AUTHORITY.issue_cert("other").private_key_pem.write_to_path(str(tmp_path / "other.key"))
    locked = ["openssl", "ec", "-in", "server.key", "-out", "locked.key", "-aes256", "-passout", "pass:x"]
    if "locked" in text:
        subprocess.run(locked, cwd=tmp_path, check=True, capture_output=True, timeout=DEADLINE)
    file = _web_file(tmp_path, text + "\n")
    with pytest.raises(ConfigError) as failure:
        load(file)
    assert str(failure.value).startswith(file)
    assert found in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "wonder" not in str(failure.value)


@pytest.mark.parametrize(
    ("method", "error", "keys", "found"),
    [
        ("set_ciphers", ssl.SSLError, f"  cipher_suites: [{SUITE}]\n", "cipher_suites: found none that this machine's"),
        (
            "set_ecdh_curve",
            ValueError,
            "  curve_preferences: [X25519]\n",
            "found `X25519`, which this machine's OpenSSL",
        ),
    ],
)
def test_what_this_machines_openssl_lacks_is_said(
    method: str, error: type[Exception], keys: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(context: ssl.SSLContext, name: str) -> None:
        raise error

    monkeypatch.setattr(ssl.SSLContext, method, lacking)
    with pytest.raises(ConfigError, match=found):
        load(_web_file(_with_certificates(tmp_path), TLS + keys))


def test_a_missing_web_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web\.yml: cannot be read"):
        Security(str(tmp_path / "web.yml"))


@pytest.mark.parametrize(
    "text",
    ["rate_limit: {interval: 0, burst: 0}", "http_server_config: {http2: false}"],
)
def test_a_web_file_that_asks_for_nothing_changes_nothing(text: str, tmp_path: Path) -> None:
    rules = load(_web_file(tmp_path, text))
    assert (rules.tls, dict(rules.users), dict(rules.headers), rules.interval) == (None, {}, {}, 0)


def test_a_user_may_be_called_by_a_number(tmp_path: Path) -> None:
    assert set(load(_web_file(tmp_path, f"basic_auth_users: {{007: {ALICE}}}")).users) == {"7"}
    assert set(load(_web_file(tmp_path, f"basic_auth_users: {{'007': {ALICE}}}")).users) == {"007"}


def test_http2_is_noted_and_not_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(_web_file(tmp_path, "http_server_config: {http2: true}"))
    assert "offers HTTP/1.1 only" in caplog.text


def _example(every_key: bool = False) -> str:
    text = EXAMPLE.read_text(encoding="utf-8")
    return re.sub(r"^(\s*)#(?=[A-Za-z0-9]\S*:)|^#(?=  )", r"\1", text, flags=re.MULTILINE) if every_key else text


def test_promtool_and_we_agree_on_the_shipped_example(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's package prometheus"
    _with_certificates(tmp_path)
    rules = load(_web_file(tmp_path, _example()))
    assert rules.open_paths == {"/-/healthy", "/-/ready"}
    theirs = "\n".join(line for line in _example().splitlines() if "auth_exclude_paths" not in line)
    file = _web_file(tmp_path, theirs)
    subprocess.run([promtool, "check", "web-config", file], check=True, timeout=DEADLINE)
    assert load(file).users == rules.users


def test_the_example_holds_every_key_and_every_one_works(tmp_path: Path) -> None:
    shutil.copy(_with_certificates(tmp_path) / "ca.crt", tmp_path / "prometheus-ca.crt")
    rules = load(_web_file(tmp_path, _example(every_key=True)))
    assert (rules.burst, rules.interval) == (50, 0.1)
    assert rules.headers == {"Strict-Transport-Security": "max-age=31536000"}
    assert rules.tls
    assert rules.tls.allowed_names == {"prometheus.example.com"}
    inline = {"cert", "key", "client_ca"}  # the toolkit's other way, which is refused
    for keys in (webfile._FileKeys, webfile._TlsKeys, webfile._HttpKeys, webfile._RateKeys):
        for key in set(keys.__struct_fields__) - inline:
            assert f"{key}:" in _example(), key


# --- behind a proxy


@contextlib.contextmanager
def _nginx(folder: Path, port: int, location: str) -> Iterator[int]:
    """The port of a real nginx that passes everything on to `port`."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        own = int(chosen.getsockname()[1])
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in names)
    folder.joinpath("nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; "
        f"{temporary} server {{ listen 127.0.0.1:{own}; location / {{ "
        f"proxy_pass http://127.0.0.1:{port}; {location} }} }} }}"
    )
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is missing: install Debian's package nginx-light"
    with subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL) as nginx:
        try:
            assert eventually(lambda: nginx.poll() is not None or _accepts(own))
            assert nginx.poll() is None
            yield own
        finally:
            nginx.terminate()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    "location",
    [
        "",
        "proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr;",
        "proxy_http_version 1.1; proxy_set_header X-Request-Id $request_id;",
        "proxy_http_version 1.1; proxy_set_header Host $host:$server_port.example;",
    ],
)
def test_behind_a_plain_nginx_nobody_is_local(location: str, tmp_path: Path) -> None:
    with site() as running, _nginx(tmp_path, running.port, location) as port:
        through = Site(running.server, running.exporter, [], proxy_port=port)
        assert through.ask("/metrics")[0] == 200
        for path in ("/config", "/api/v1/events"):
            assert through.ask(path)[0] == 403
            assert running.ask(path)[0] == 200
        assert through.ask("/-/reload", "POST")[0] == 403


# --- who is local

LOCAL = ("127.0.0.1", (1, 1), ["localhost"], ["Host"])


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:10188", "127.0.0.1", "127.0.0.1:1", "127.255.0.9:65535", "[::1]", "[::1]:80"]
)
def test_a_loopback_host_is_local(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", ":80", "localhost:", "localhost:0", "localhost:65536", "localhost:80:80", "localhost:x", "localhost.", "localhost ",
        "localhost.evil.com", "xlocalhost", "localhost%2eevil.com", "localhost/", "localhost#", "localhost?", "localhost\\",
        "localhost@evil.com", "evil.com@localhost", "x@127.0.0.1", "localhost,evil.com", "localhost;evil.com", "localhost\0",
        "localhost\n", "localhost\r\nX: y", "\tlocalhost", "l\u043ecalhost", "localho\u017ft", "ip6-localhost", "127.0.0.1.",
        "127.0.0.1.evil.com", "127.0.0.1%.evil.com", "127.0.0.1%25evil", "127.0.0.1 evil", "127.0.0.1x", "127.1", "127",
        "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.01", "127.00.0.1",
        "127.0.0.256", "127.0.0.1.1", "127.0.0.-1", "127.0.0.\u0661", "\u0661\u0662\u0667.0.0.1", "127\u30020.0.1", "0.0.0.0",
        "0", "[::]", "::1", "[::1", "::1]", "[::1]x", "[::1]:", "[::1%lo]", "[::1%25lo]", "[0:0:0:0:0:0:0:1]", "[::0001]",
        "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[127.0.0.1]", "[localhost]", "[::2]", "10.0.0.1", "128.0.0.1", "localhost.localdomain",
        "*", "null", "http://localhost", "//localhost",
    ],
)  # fmt: skip
def test_any_other_host_is_not(host: str) -> None:
    assert not is_local_host(host)
    assert not is_local("127.0.0.1", (1, 1), [host], ["Host"])


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_a_connection_from_loopback_is_local_in_every_spelling(peer: str) -> None:
    assert is_local(peer, *LOCAL[1:])


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "127.0.0.1%x", "", None, "localhost", "0.0.0.0", "::", "@x"]
)
def test_a_connection_from_elsewhere_is_not(peer: str | None) -> None:
    assert not is_local(peer, *LOCAL[1:])


def test_only_http_1_1_with_one_host_is_local() -> None:
    assert is_local(*LOCAL)
    for version in ((0, 9), (1, 0), (1, 2), (2, 0)):
        assert not is_local("::1", version, ["localhost"], ["Host"])
    for hosts in ([], ["localhost", "evil.example"], ["localhost", "localhost"]):
        assert not is_local("::1", (1, 1), hosts, ["Host"])


BY_PROXIES = (
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
    "X-Forwarded-By", "X-Forwarded", "X-Forwarded-Prefix", "X-Forwarded-Client-Cert", "Forwarded", "Forwarded-For",
    "Via", "X-Real-IP", "X-Original-For", "X-Original-Host", "X-Original-URL", "X-Original-Forwarded-For",
    "X-Rewrite-URL", "CF-Connecting-IP", "CF-Ray", "CF-Visitor", "CF-IPCountry", "CDN-Loop", "True-Client-IP",
    "X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-Azure-Ref",
    "X-FD-HealthProbe", "Max-Forwards", "X-ProxyUser-Ip", "Proxy-Connection", "Proxy-Authorization", "Fly-Client-IP",
    "Fly-Forwarded-Port", "Fastly-Client-IP", "X-Envoy-External-Address", "X-Envoy-Expected-Rq-Timeout-Ms",
    "X-Amzn-Trace-Id", "X-Amz-Cf-Id", "X-Cloud-Trace-Context", "X-Request-Id", "X-Correlation-Id", "X-B3-TraceId",
    "b3", "traceparent", "tracestate", "uber-trace-id", "X-ARR-LOG-ID", "X-ARR-SSL", "DISGUISED-HOST",
    "X-Appengine-User-IP", "X-Varnish", "X-Forwarded-User", "X-Remote-User", "Remote-User", "X-Auth-Request-User",
    "X-Scheme", "X-Host", "X-Akamai-Config-Log-Detail", "Akamai-Origin-Hop", "X-Edge-Location", "Incap-Client-IP",
    "X-Sucuri-ClientIP", "WL-Proxy-Client-IP", "X-Vercel-Id", "X-NF-Client-Connection-IP", "Front-End-Https",
    "Surrogate-Capability", "SSL-Client-Cert", "X-SSL-Client-S-DN", "X-BlueCoat-Via", "X-Coming-From", "X-Iinfo",
    "X-Anything-New",
)  # fmt: skip


@pytest.mark.parametrize("field", BY_PROXIES)
def test_no_request_with_a_field_that_a_proxy_adds_is_local(field: str) -> None:
    for spelling in (field, field.lower(), field.upper()):
        assert not is_local(*LOCAL[:3], ["Host", "Accept", spelling])


@pytest.mark.slow
@given(st.text(max_size=40), st.text(max_size=40))
def test_no_peer_and_no_host_with_something_around_them_is_local(peer: str, host: str) -> None:
    assert not is_local(f"10.{peer}", *LOCAL[1:])
    for trusted in ("localhost", "127.0.0.1", "[::1]"):
        assert not is_local_host(f"x{host}{trusted}")
        assert not is_local_host(f"{trusted}{host}.com")


@pytest.mark.parametrize(
    "fields",
    [
        ("User-Agent", "Accept"),  # curl, PowerShell
        ("Accept-Encoding", "User-Agent", "Connection"),  # Python, Go
        ("Content-Type", "Content-Length", "Expect"),  # PowerShell 5, POST
        ("Accept", "User-Agent", "X-Prometheus-Scrape-Timeout-Seconds", "Accept-Encoding"),  # Prometheus
        ("User-Agent", "Accept", "Accept-Language", "Accept-Encoding", "Connection", "Cookie", "Upgrade-Insecure-Requests",
         "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "sec-ch-ua", "sec-ch-ua-mobile",
         "sec-ch-ua-platform", "Sec-GPC", "Priority", "Cache-Control", "Pragma", "DNT", "Referer", "TE"),  # browsers
    ],
)  # fmt: skip
def test_programs_of_this_machine_are_local(fields: tuple[str, ...]) -> None:
    assert is_local(*LOCAL[:3], ["Host", *fields])


@pytest.mark.slow
def test_the_server_is_usable_again_after_a_login_flood(tmp_path: Path) -> None:
    server = WebServer(StandIn(), Security(_web_file(tmp_path, f"basic_auth_users:\n  a: {ALICE}\n")), lambda: None)
    server.start(["127.0.0.1:0"])
    try:
        running = Site(server, StandIn(), [])
        for guess in range(40):
            assert running.ask("/", headers=_login("a", str(guess)))[0] == 401
        assert eventually(lambda: running.ask("/", headers=_login("a", "wonder"))[0] == 200)
    finally:
        server.stop()
