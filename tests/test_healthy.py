"""`healthy`: an exporter that answers is healthy, with TLS, a login or a client certificate asked for; nothing else is."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from exporter.cli import main

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def server(status: int, tls: str = "") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/-/healthy" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # clients that speak no TLS, or have no certificate

    listening = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("node1.example").configure_cert(context)
        if tls == "with client certificates":
            authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@pytest.mark.parametrize(
    ("status", "tls", "says"),
    [
        (200, "", "status 200"),
        (401, "", "status 401"),
        (200, "yes", "status 200, with TLS"),
        (401, "yes", "status 401, with TLS"),
        (200, "with client certificates", "a client certificate"),
    ],
)
def test_an_exporter_that_answers_is_healthy_however_it_is_protected(
    status: int, tls: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(status, tls) as address:
        assert main(["healthy", address]) == 0
    assert says in capsys.readouterr().out


def test_an_exporter_that_fails_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with server(503) as address:
        assert main(["healthy", address]) == 1
    assert "not healthy: " in (told := capsys.readouterr().out)
    assert "status 503" in told


def test_where_nobody_answers_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert main(["healthy", address]) == 1
        assert "refused" in capsys.readouterr().out
        unused.listen()  # now it is there, and silent
        assert main(["healthy", address]) == 1
        assert "timed out" in capsys.readouterr().out


def test_what_is_no_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["healthy", "nowhere"]) == 2
    assert "expected host:port" in capsys.readouterr().err
