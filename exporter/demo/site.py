"""The Qlik site that the demo plays: a node's log folders, the license backend and the Repository, on loopback only."""

import contextlib
import ipaddress
import json
import socket
import ssl
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SEATS = 25
"""Professional seats that the site has bought."""
SEATS_FREE = 5
"""How many of them are free while all is well."""
SESSIONS_AT_MOST = 5
"""What Qlik grants one user."""
_LICENSED_FOR = timedelta(days=365)
"""A date, which the demo does not shorten: the expiry is not played."""
_AUDIT_HEADER = (
    "Sequence#\tProductVersion\tTimestamp\tHostName\tId\tDescription\tProxySessionId\tProxyPackageId\t"
    "RequestSequenceId\tUserDirectory\tUserId\tObjectId\tObjectName\tSecurityClass\tClientHostAddress\tService\t"
    "Origin\tContext\tCommand\tResult\tMessage\tChecksum\r\n"
)


class Node:
    """A Qlik node's log folders, with entries in the published formats (qlik-facts 1 and 2)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._licenses = folder / "Licenses" / "licenses.log"
        self._audit = folder / "Repository" / "Audit" / "QLIKNODE1_AuditSecurity_Repository.txt"
        self._rows = 0
        self._licenses.parent.mkdir(parents=True)
        self._audit.parent.mkdir(parents=True)
        self._append(self._audit, "\ufeff" + _AUDIT_HEADER)

    def sync_attempt(self) -> None:
        """The Licenses service begins to synchronise."""
        self._line(
            caller="sync.go:290",
            level="info",
            licenseNumber="XXXXXXXX",
            message="re-syncing assignments with the backend",
        )

    def backend_error(self) -> None:
        """It could not connect. The address is one for documentation: an error about this machine fails no sync."""
        error = "dial tcp 203.0.113.7:443: connect: connection refused"
        self._line(caller="sync.go:311", level="info", message=f"sync failed: {error}")

    def stale_verdict(self) -> None:
        """The grace time is over."""
        self._line(
            caller="handler.go:44",
            errorMessage="Too much time has passed since the last license update",
            errorType="LICENSES-OutdatedLicense",
            level="info",
            statusCode=403,
        )

    def refusal(self, user: str, *, sessions: int = 0) -> None:
        """`user` gets no access pass, or, with that many `sessions`, no further one."""
        self._rows += 1
        at = _now()
        message = "Login access denied for SessionID: 'x', Hostname: \"10.0.0.21\", OperationType: 'UsageDenied'"
        if sessions:
            message = (
                f"Access was denied for User: 'CONTOSO\\{user}', with AccessID 'x', SessionID: 'x', "
                f"SessionCount: '{sessions}', Hostname: '::1', OperationType: 'UsageDenied'"
            )
        self._row(at, user, 403, "Error: Access denied", message)

    def granted(self, user: str) -> None:
        """`user` is let in."""
        self._rows += 1
        message = f"Access was granted to User: 'CONTOSO\\{user}', SessionID: 'x', OperationType: 'UsageGranted'"
        self._row(_now(), user, 0, "Success", message)

    def _row(self, at: str, user: str, result: int, text: str, message: str) -> None:
        row = [str(self._rows), "14.54.7.0", at, "QLIKNODE1", "x"]
        row += [f"Command=License user access;Result={result};ResultText={text}", "0", "0", "0"]
        row += ["CONTOSO", user, "0", "Not available", "Security", "10.0.0.21", "Repository", "Not available"]
        row += ["/repository", "License user access", str(result), message, "x"]
        self._append(self._audit, "\t".join(row) + "\r\n")

    def _line(self, **pairs: object) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"
        self._append(self._licenses, json.dumps({**pairs, "timestamp": now}, separators=(",", ":")) + "\n")

    @staticmethod
    def _append(file: Path, text: str) -> None:
        with file.open("a", encoding="utf-8", newline="") as stream:
            stream.write(text)


def _now() -> str:
    """The instant as the Repository writes it."""
    now = datetime.now().astimezone()
    return now.strftime("%Y%m%dT%H%M%S.") + f"{now.microsecond // 1000:03}" + now.strftime("%z")


class Backend:
    """Answers 404, as license.qlikcloud.com does, until it is closed."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Answer from now on."""
        if self._server is None:
            self._server = serve(Silent, self.port)

    def close(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            close(self._server)
            self._server = None


class Repository:
    """The Repository API and the proxy's list of sessions, for clients with the site's certificate (qlik-facts 4).

    `seats_free` and `sessions` (of one user) may be set at any time.
    """

    def __init__(self, folder: Path) -> None:
        """Writes `client.pem` and `client_key.pem` into `folder`; the former is the site's CA as well."""
        self.seats_free, self.sessions = SEATS_FREE, 0
        certificate, key = folder / "client.pem", folder / "client_key.pem"
        _write_certificate(certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        site = self

        class Answers(Silent):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                self.answer(200 if path in site.answers() else 404, json.dumps(site.answers().get(path)).encode())

        self._server = serve(Answers, tls=context)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Answer no more."""
        close(self._server)

    def answers(self) -> dict[str, object]:
        """What is answered now, by path."""
        valid_to = datetime.now(UTC) + _LICENSED_FOR
        seats = {"enabled": True, "total": SEATS, "allocated": SEATS - self.seats_free, "used": SEATS - self.seats_free}
        license_answer = {
            "keyDetails": f"Product: Qlik Sense\nValid To: {valid_to:%Y-%m-%d}\n",
            "product": "Qlik Sense Enterprise",
            "key": "not shown",
            "lef": "",
            **dict.fromkeys(("isExpired", "isBlacklisted", "isInvalid"), False),
            "expiredReason": "",
            "isSubscription": True,
            "updated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}",
        }
        return {
            "/qrs/license": license_answer,
            "/qrs/license/accesstypeoverview": {
                "tokensEnabled": False,
                "professionalAccess": seats | {"available": self.seats_free, "quarantined": 0, "excess": 0},
                "analyzerAccess": {"enabled": False},
                "analyzerTimeAccess": {"enabled": False},
            },
            "/qps/session": [{"UserDirectory": "CONTOSO", "UserId": "user20"}] * self.sessions,
        }


def _write_certificate(certificate: Path, key: Path) -> None:
    """One certificate that is CA, server and client in one: enough for mutual TLS between two programs on loopback.

    Generated each time: a key in the package would be known to everyone, and Windows has no openssl.
    """
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "qlik-license-exporter demo")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


class Silent(BaseHTTPRequestHandler):
    """Answers 404 to everything, and logs nothing."""

    def do_GET(self) -> None:
        """404."""
        self.answer(404)

    def answer(self, status: int, body: bytes = b"") -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(
    handler: type[BaseHTTPRequestHandler], port: int = 0, tls: ssl.SSLContext | None = None
) -> ThreadingHTTPServer:
    """A server on loopback that answers in its own threads, until `close`."""
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def close(server: ThreadingHTTPServer) -> None:
    """Answer no more, and give the port back."""
    server.shutdown()
    server.server_close()


def free_port(*wanted: int) -> int:
    """The first of `wanted` that is free on loopback, else any."""
    for port in (*wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if sys.platform != "win32":  # there the option would let two programs share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")
