"""A faithful fake of Qlik's Repository API (qlik-facts 4), and the certificates of a site, for tests and for looking.

Like the real one it wants a client certificate of the site's own CA, the same 16 characters as `X-Qlik-Xrfkey` and as
`xrfkey`, and a user in `X-Qlik-User` who exists and may read the license. It answers with the fields of the facts page
and with everything that must never get out: serial number, key, owner, users. `answers` sets what it says, `behaviours`
how it misbehaves. `requests` records all it was asked.
"""

import contextlib
import datetime
import ipaddress
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exporter.config import Duration, QrsConfig

SERIAL = "9999 8888 7777 6666"
KEY = "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.c2VjcmV0LWxpY2Vuc2Uta2V5.c2lnbmF0dXJl"
OWNER, ORGANISATION = "Olive Owner", "Example Holdings Ltd"
SECRETS = (SERIAL, KEY, OWNER, ORGANISATION, "sa_api", "ANNA", "hidden-password")
"""What no note, log line or label may ever hold."""

PROFESSIONALS, ANALYZERS = "/qrs/license/professionalaccesstype/count", "/qrs/license/analyzeraccesstype/count"
LICENSE, ACCESS, SESSIONS = "/qrs/license", "/qrs/license/accesstypeoverview", "/qps/session"


# --- answers ---------------------------------------------------------------------------------------------------------


def license_answer(**changes: Any) -> dict[str, Any]:
    """`GET /qrs/license` of a site with a signed key."""
    return {
        "id": "2d0a1f0e-0c4b-4f6c-9d55-0d6c2e6a7f10",
        "createdDate": "2021-03-01T08:00:00.000Z",
        "modifiedDate": "2026-11-24T09:17:16.366Z",
        "modifiedByUserName": "INTERNAL\\sa_repository",
        "lef": "",
        "serial": SERIAL,
        "check": "",
        "key": KEY,
        "keyDetails": f"License: {SERIAL}\nProduct: Qlik Sense\nValid From: 2024-01-01\nValid To: 2027-03-31\n",
        "name": OWNER,
        "organization": ORGANISATION,
        "product": "Qlik Sense Enterprise",
        "numberOfCores": -1,
        "isExpired": False,
        "expiredReason": "",
        "isBlacklisted": False,
        "isInvalid": False,
        "isSubscription": True,
        "updated": "2026-11-24T09:17:16.366Z",
        "privileges": None,
        "schemaPath": "License",
    } | changes


def seats(total: Any, allocated: Any, used: Any = 0, quarantined: Any = 0, excess: Any = 0) -> dict[str, Any]:
    """An enabled kind of seat."""
    return {
        "enabled": True,
        "total": total,
        "allocated": allocated,
        "used": used,
        "quarantined": quarantined,
        "excess": excess,
        "available": total - allocated,
        "schemaPath": "AccessTypeOverview.Details",
    }


SEATS_OFF = seats(0, 0) | {"enabled": False}
MINUTES_OFF = {"enabled": False, "allocatedMinutes": 0, "usedMinutes": 0, "unavailableMinutes": 0}


def access_answer(**changes: Any) -> dict[str, Any]:
    """`GET /qrs/license/accesstypeoverview` of a site with professional and analyzer seats."""
    return {
        "totalTokens": 0,
        "availableTokens": 0,
        "tokensEnabled": False,
        "userAccess": {"enabled": False, "tokenCost": 1, "allocatedTokens": 0, "usedTokens": 0, "quarantinedTokens": 0},
        "loginAccess": {
            "enabled": False,
            "tokenCost": 0.1,
            "allocatedTokens": 0,
            "usedTokens": 0,
            "unavailableTokens": 0,
        },
        "professionalAccess": seats(25, 20, 12, 2),
        "analyzerAccess": seats(100, 97, 80),
        "analyzerTimeAccess": MINUTES_OFF,
        "schemaPath": "AccessTypeOverview",
    } | changes


SIGNED_KEY = (license_answer(), access_answer())
CAPACITY = (
    license_answer(),
    access_answer(
        analyzerAccess=SEATS_OFF,
        analyzerTimeAccess={
            "enabled": True,
            "allocatedMinutes": 60000,
            "usedMinutes": 1234.5,
            "unavailableMinutes": 6,
        },
    ),
)
TOKENS = (
    license_answer(lef=f"{SERIAL}\nTOKENS;10;;\n", key="", keyDetails="", isSubscription=False),
    access_answer(
        totalTokens=10,
        availableTokens=3.5,
        tokensEnabled=True,
        userAccess={"enabled": True, "tokenCost": 1, "allocatedTokens": 5, "usedTokens": 5, "quarantinedTokens": 1},
        professionalAccess=SEATS_OFF,
        analyzerAccess=SEATS_OFF,
    ),
)
LEF = (
    license_answer(lef=f"{SERIAL}\nTIMELIMIT;;;2027-03-31\n", check="12345", key=None, keyDetails=None, product=2),
    access_answer(),
)
EXPIRED = (
    license_answer(
        isExpired=True, expiredReason="License has expired", keyDetails="Valid From: 2023-01-01\r\nValid To: 2024-12-31"
    ),
    access_answer(),
)
BLACKLISTED = (license_answer(isBlacklisted=True), access_answer())
EMPTY = (None, access_answer(professionalAccess=SEATS_OFF, analyzerAccess=SEATS_OFF))


def session(user: str, number: int, directory: str = "EXAMPLE") -> dict[str, Any]:
    """One open session as the proxy lists it."""
    return {"UserDirectory": directory, "UserId": user, "Attributes": [], "SessionId": f"{user}-{number}"}


# --- certificates ----------------------------------------------------------------------------------------------------

Key = ec.EllipticCurvePrivateKey


class Site:
    """A site's CA and the files it exports: root.pem, server.pem, client.pem, client_key.pem, as Qlik names them."""

    def __init__(self, folder: Path, names: Iterable[str] = ("localhost",), ca_name: str = "QLIKNODE1-CA") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = _certificate(ca_name, self.key.public_key(), None, self.key, ca=True)
        (folder / "root.pem").write_bytes(_pem(self.root))
        self.write_server(names)
        self.write_client()

    def write_server(self, names: Iterable[str], *, days: float = 365, common_name: str = "QLIKNODE1") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        server = _certificate(common_name, key.public_key(), self.root, self.key, names=tuple(names), days=days)
        (self.folder / "server.pem").write_bytes(_pem(server) + _pem_key(key))

    def client(self, *, days: float = 365, starts_in_days: float = -1) -> tuple[x509.Certificate, Key]:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        return _certificate("QlikClient", public, self.root, self.key, days=days, starts_in_days=starts_in_days), key

    def write_client(self, *, password: str = "", **validity: float) -> None:
        certificate, key = self.client(**validity)
        (self.folder / "client.pem").write_bytes(_pem(certificate))
        (self.folder / "client_key.pem").write_bytes(_pem_key(key, password))

    def write_weak_client(self, *, pfx: bool) -> None:
        """A client certificate with an RSA key that OpenSSL calls too small."""
        key = rsa.generate_private_key(65537, 1024)
        certificate = _certificate("QlikClient", key.public_key(), self.root, self.key)
        (self.folder / "client.pem").write_bytes(_pem(certificate))
        (self.folder / "client_key.pem").write_bytes(_pem_key(key))
        if pfx:
            encryption = serialization.NoEncryption()
            bundle = pkcs12.serialize_key_and_certificates(b"QlikClient", key, certificate, None, encryption)
            (self.folder / "client.pfx").write_bytes(bundle)

    def write_pfx(self, password: str = "", *, old_encryption: bool = False) -> Path:
        certificate, key = self.client()
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if old_encryption:  # as older Windows versions export it
            encryption = (
                PrivateFormat.PKCS12.encryption_builder()
                .kdf_rounds(2000)
                .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
                .hmac_hash(hashes.SHA1())
                .build(password.encode())
            )
        elif password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        file = self.folder / "client.pfx"
        file.write_bytes(
            pkcs12.serialize_key_and_certificates(b"QlikClient", key, certificate, [self.root], encryption)
        )
        return file

    def settings(self, url: str, **changes: Any) -> QrsConfig:
        """The `qrs:` section that fits this site."""
        values: dict[str, Any] = {
            "enabled": True,
            "url": url,
            "certificate": str(self.folder / "client.pem"),
            "key": str(self.folder / "client_key.pem"),
            "ca_file": str(self.folder / "root.pem"),
            "server_name": "localhost",
            "interval": Duration(0.05),
            "max_age": Duration(60),
        }
        return QrsConfig(**(values | changes))


def _certificate(
    common_name: str,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    *,
    names: tuple[str, ...] = (),
    days: float = 365,
    starts_in_days: float = -1,
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now + datetime.timedelta(days=starts_in_days), end - datetime.timedelta(days=1)))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names:
        general: list[x509.GeneralName] = []
        for name in names:
            try:
                general.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                general.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: Key | rsa.RSAPrivateKey, password: str = "") -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, PrivateFormat.PKCS8, encryption)


# --- the server ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw_query: str = ""


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Seats:
    """The allocated seats of one kind by their `lastUsed`; counts those that a filter selects, as a database does.

    A seat that was never used has the date of year 1753, or none at all: which of them is unknown, so both are played.
    """

    def __init__(
        self,
        last_used: Iterable[float | str | None],
        *,
        visible: bool = True,
        gone: dict[str, int] | None = None,
        deleted: int = 0,
    ) -> None:
        """`gone`: how many holders have a field of the user set; `deleted`: seats whose user was deleted."""
        self._gone, self._deleted = {"removedExternally": 0, "inactive": 0, "blacklisted": 0} | (gone or {}), deleted
        self._dates = [_iso(at) if isinstance(at, float | int) else at for at in last_used] if visible else []

    def count(self, wanted: str) -> Answer:
        """`{"value": N}`, or 400 for a filter that is none."""
        selected = len(self._dates)
        if by_user := re.fullmatch(r"user\.(removedExternally|inactive|blacklisted) eq (true|false)", wanted):
            yes = self._gone[by_user[1]]
            selected = yes if by_user[2] == "true" else selected - yes - self._deleted
        elif wanted:
            found = re.fullmatch(r"lastUsed le '(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)'", wanted)
            if not found:
                return Answer(400, b"Bad Request")
            selected = sum(date is not None and date <= found[1] for date in self._dates)
        return Answer(200, json.dumps({"value": selected}).encode(), {"Content-Type": "application/json"})


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


NEVER = "1753-01-01T00:00:00.000Z"
"""How Qlik writes "no date"."""

Behaviour = Callable[[ssl.SSLSocket, threading.Event], None]
"""Gets the connection after the request has been read, and what is set when the server is to stop."""


class FakeQrs:
    """The Repository (and the proxy's session list) on a loopback port, one thread a connection."""

    def __init__(self, site: Site, *, strangers: Iterable[Site] = (), port: int = 0) -> None:
        self.site = site
        self.answers: dict[str, Any] = {}
        """JSON by path; an `Answer` is sent as it is, and `Seats` are counted."""
        self.says(SIGNED_KEY)
        self.behaviours: dict[str, Behaviour] = {}
        self.users = {("INTERNAL", "sa_api"): "LicenseReader", ("EXAMPLE", "nobody"): ""}
        """Users and their role; only those with one may read the license."""
        self.requests: list[Request] = []
        self.port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(site.folder / "server.pem")
        self._context.verify_mode = ssl.CERT_REQUIRED
        for known in (site, *strangers):  # a stranger's certificate passes TLS and then gets 403, as Windows does it
            self._context.load_verify_locations(known.folder / "root.pem")
        self._stop = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}

    def says(self, site: tuple[Any, Any], sessions: Any = None) -> None:
        self.answers[LICENSE], self.answers[ACCESS] = site
        self.answers[SESSIONS] = [] if sessions is None else sessions

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="fake-qrs", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):  # wakes the acceptor on Linux; closing does on Windows
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        for thread, connection in list(self._connections.items()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive(), "a connection of the fake Repository did not end"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(
                target=self._converse, args=(connection,), name="fake-qrs-connection", daemon=True
            )
            self._connections[thread] = connection
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(connection, server_side=True) as stream:
            self._connections[threading.current_thread()] = stream
            with stream.makefile("rb") as incoming:
                while self._answer_one(stream, incoming):
                    pass
        connection.close()
        self._connections.pop(threading.current_thread(), None)

    def _answer_one(self, stream: ssl.SSLSocket, incoming: BinaryIO) -> bool:
        """Whether the connection stays open for another request."""
        lines: list[str] = []
        while (line := incoming.readline().decode("latin-1")) not in ("\r\n", ""):
            lines.append(line.rstrip("\r\n"))
        if not line:
            return False
        method, target, _ = lines[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        incoming.read(int(headers.get("content-length", "0")))
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        request = Request(method, parts.path, query, headers, parts.query)
        self.requests.append(request)
        if behaviour := self.behaviours.get(request.path):
            behaviour(stream, self._stop)
            return False
        answer = self._answer(request, stream.getpeercert(binary_form=True) or b"")
        head = [f"HTTP/1.1 {answer.status} Said", f"Content-Length: {len(answer.body)}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        stream.sendall("\r\n".join([*head, "", ""]).encode() + answer.body)
        return True

    def _answer(self, request: Request, certificate: bytes) -> Answer:
        issued = x509.load_der_x509_certificate(certificate)
        try:
            issued.verify_directly_issued_by(self.site.root)
        except Exception:  # whatever is wrong with it, it is not ours
            return Answer(403, b"Forbidden")
        key = request.headers.get("x-qlik-xrfkey", "")
        if len(key) != 16 or not key.isalnum() or request.query.get("xrfkey") != key:
            return Answer(400, b"XSRF prevention check failed. Possible XSRF discovered.")
        user = {
            name.strip(): value.strip()
            for name, _, value in (part.partition("=") for part in request.headers.get("x-qlik-user", "").split(";"))
        }
        if not self.users.get((user.get("UserDirectory", ""), user.get("UserId", ""))):
            return Answer(403, b"Forbidden")
        if request.path not in self.answers:
            return Answer(404, b"Not Found")
        answer = self.answers[request.path]
        if isinstance(answer, Seats):
            return answer.count(request.query.get("filter", ""))
        if isinstance(answer, Answer):
            return answer
        return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json; charset=utf-8"})


# --- misbehaviour ----------------------------------------------------------------------------------------------------


def stalls(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Takes the request and never answers; ends when the client has left."""
    stream.settimeout(0.05)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            if not stream.recv(1):
                return


def drips(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Answers one byte at a time, for ever."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not stop.wait(0.02):
        stream.sendall(b" ")


def closes(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Takes the request and closes the connection."""


def closes_halfway(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Promises more than it sends."""
    stream.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"isExpired": fa')


def half_closes(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Sends half an answer, says that no more will come, and keeps listening."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2,\r\n")
    stream.shutdown(socket.SHUT_WR)
    stop.wait(1)


def resets_halfway(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Sends half an answer, then drops the connection without a word."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2,\r\n")
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def speaks_no_http(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    stream.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def floods(stream: ssl.SSLSocket, stop: threading.Event) -> None:
    """Sends until nobody listens any more."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stop.is_set():
        stream.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
