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
from pathlib import Path

import bcrypt
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from web_stand_in import DEADLINE, Site, StandIn, eventually, site

from exporter.config import ConfigError
from exporter.web import security
from exporter.web.security import RateLimit, Rules, Security, is_local, load
from exporter.web.server import WebServer

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
    """The file, replaced in one step as careful programs do it; its certificates lie beside it."""
    folder.joinpath("new").write_text(text)
    os.replace(folder / "new", folder / "web.yml")
    return str(folder / "web.yml")


def _with_certificates(folder: Path) -> Path:
    SERVER.cert_chain_pems[0].write_to_path(str(folder / "server.crt"))
    SERVER.private_key_pem.write_to_path(str(folder / "server.key"))
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.crt"))
    return folder


TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"


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


def test_only_so_many_logins_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "MOST_LOGINS_REMEMBERED", 1)
    text = f"basic_auth_users:\n  alice: {ALICE}\n  bob: {_hash('builder')}\n"
    with site(_web_file(tmp_path, text)) as running:
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


def test_guessing_delays_no_one_who_is_logged_in(tmp_path: Path) -> None:
    costly = bcrypt.hashpw(b"secret", bcrypt.gensalt(9)).decode()
    with site(_web_file(tmp_path, f"basic_auth_users:\n  alice: {costly}\n")) as running:
        assert running.ask("/metrics", headers=_login("alice", "secret"))[0] == 200
        statuses: list[int] = []
        guessers = [
            threading.Thread(
                target=lambda guess=guess: statuses.append(running.ask("/", headers=_login("alice", str(guess)))[0])
            )
            for guess in range(security.MOST_CHECKS_WAITING + 8)
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


@pytest.mark.windows
def test_users_change_without_a_restart(tmp_path: Path) -> None:
    file = _web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")
    with site(file) as running:
        assert running.ask("/metrics", headers=_login("alice", "wonder"))[0] == 200
        _web_file(tmp_path, f"basic_auth_users:\n  alice: {_hash('changed')}\n  bob: {_hash('builder')}\n")
        assert running.ask("/metrics", headers=_login("alice", "wonder"))[0] == 401
        assert running.ask("/metrics", headers=_login("alice", "changed"))[0] == 200
        assert running.ask("/metrics", headers=_login("bob", "builder"))[0] == 200
        _web_file(tmp_path, "")
        assert running.ask("/metrics")[0] == 200


def test_a_web_file_that_became_unusable_leaves_the_last_good_one_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = _web_file(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n")
    with site(file) as running:
        for text in ("basic_auth_users: [", "nonsense: true\n", "basic_auth_users:\n  alice: secret\n"):
            _web_file(tmp_path, text)
            for _ in range(3):
                assert running.ask("/metrics")[0] == 401
                assert running.ask("/metrics", headers=_login("alice", "wonder"))[0] == 200
        os.unlink(file)
        assert running.ask("/metrics")[0] == 401
    assert caplog.text.count("the last good version stays in force") == 4
    assert "secret" not in caplog.text


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
        assert serial() == first, "a certificate without its key changes nothing yet"
        renewed.private_key_pem.write_to_path(str(tmp_path / "server.key"))
        assert serial() != first


def test_tls_can_be_switched_on_without_a_restart(tmp_path: Path) -> None:
    file = _web_file(_with_certificates(tmp_path), "")
    with site(file) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read()
            _web_file(tmp_path, TLS)
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


def test_a_handshake_that_never_ends_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.listener.HEAD_TIMEOUT", 0.3)
    with (
        site(_web_file(_with_certificates(tmp_path), TLS)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as client,
    ):
        client.sendall(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


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
        "    Strict-Transport-Security: max-age=60\n    Content-Security-Policy: ''\n"
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
        ("tls_server_confg: {}", "did you mean `tls_server_config`?"),
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
        (TLS + "  min_version: TLS10", "tls_server_config.min_version: found `TLS10`, which is broken"),
        (TLS + "  max_version: TLS11", "tls_server_config.max_version: found `TLS11`, which is broken"),
        (TLS + "  min_version: SSL3", "tls_server_config.min_version: found `SSL3`, expected one of `TLS10`"),
        (TLS + "  min_version: TLS13\n  max_version: TLS12", "expected no more than max_version"),
        (TLS + "  cipher_suites: [RC4]", "tls_server_config.cipher_suites[0]: found `RC4`, expected a name such as"),
        (TLS + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]", "found only suites of TLS 1.3"),
        (TLS + "  curve_preferences: [P256]", "tls_server_config.curve_preferences[0]: found `P256`"),
        (TLS + "  curve_preferences: [X25519, CurveP256]", "expected one: Python can insist on one only"),
        (TLS + "  client_auth_type: RequireAnyClientCert", "which lets in certificates that nobody verified"),
        (TLS + "  client_auth_type: RequestClientCert", "which lets in certificates that nobody verified"),
        (TLS + "  client_auth_type: Sometimes", "tls_server_config.client_auth_type: found `Sometimes`, expected one"),
        (TLS + "  client_auth_type: RequireAndVerifyClientCert", "client_ca_file: not found, expected the CA"),
        (TLS + "  client_ca_file: ca.crt", "tls_server_config.client_ca_file: expected beside it client_auth_type"),
        (TLS + "  client_allowed_sans: [a]", "tls_server_config.client_allowed_sans: expected beside it"),
        (MUTUAL.replace("ca.crt", "gone.crt"), "gone.crt: cannot be read: No such file or directory"),
        (MUTUAL.replace("ca.crt", "web.yml"), "web.yml: expected certificates in PEM"),
        ("basic_auth_users: {alice: wonder}", "basic_auth_users.alice: found something else, expected a bcrypt hash"),
        ("basic_auth_users: {alice: 5}", "basic_auth_users"),
        ("basic_auth_users: {'': x}", "found a name that no login can carry"),
        ("basic_auth_users: {'a:b': x}", "found a name that no login can carry"),
        (
            f"basic_auth_users: {{alice: {ALICE.replace('$04$', '$31$')}}}",
            "found a bcrypt cost of 31, expected at most",
        ),
        (f"basic_auth_users: {{alice: {ALICE.replace('$04$', '$03$')}}}", "expected a bcrypt hash"),
        (f"basic_auth_users: {{alice: {ALICE}, alice: {ALICE}}}", "the key `alice` stands here twice"),
        ("auth_exclude_paths: [/config]", "auth_exclude_paths[0]: found `/config`, expected one of /, /-/healthy"),
        ("auth_exclude_paths: /-/healthy", "auth_exclude_paths: found `/-/healthy`, expected a list"),
        ("http_server_config: {headers: {X-Mine: a}}", "http_server_config.headers.X-Mine: unknown key"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "found `allow`, expected deny or sameorigin"),
        ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "found `sniff`, expected nosniff"),
        ('http_server_config: {headers: {Content-Security-Policy: "a\\nb"}}', "characters that no header may hold"),
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
    ["", "{}", "tls_server_config:\n", "tls_server_config: {}", "rate_limit: {interval: 0, burst: 0}",
     "basic_auth_users: {}", "http_server_config: {http2: false}"],
)  # fmt: skip
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
    for keys in (security._FileKeys, security._TlsKeys, security._HttpKeys, security._RateKeys):
        for key in set(keys.__struct_fields__) - inline:
            assert f"{key}:" in _example(), key


# --- pure rules


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_name_but_loopback_is_local(peer: str, host: str) -> None:
    assert not is_local(f"10.{peer}", [], {})
    if host not in ("localhost",) and not host.startswith(("127.", "localhost", "[::1]")):
        assert not is_local("127.0.0.1", [f"x{host}"], {})


def test_loopback_is_known_in_every_spelling() -> None:
    for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert is_local(peer, ["localhost:10188"], {}), peer
    for peer in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", None):
        assert not is_local(peer, ["localhost:10188"], {}), peer
    assert is_local("::1", [], {}), "HTTP/1.0 names no host, and no browser speaks it"
    assert not is_local("::1", ["localhost", "evil.example"], {})


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
