"""Mutual TLS with the site's own certificates. The only reader of certificate, key and CA files."""

import base64
import binascii
import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from exporter.config import QrsConfig, local_path
from exporter.network_errors import openssl_word, system_word
from exporter.qrs.failure import QrsError

LARGEST_FILE = 1 << 20
"""Bytes of a certificate, key or CA file."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def server_name_of(settings: QrsConfig, url: str, environ: Mapping[str, str] = os.environ) -> str:
    """The name that the server's certificate must contain: `server_name`, else the host of `url`.

    Qlik's certificates contain the name with which the node was installed, not `localhost`; for a loopback address it
    is therefore the name in Qlik's `Host.cfg`, if there is one (seen in public scripts: base64 of the host name).
    """
    host = urlsplit(url).hostname or ""
    if settings.server_name:
        return settings.server_name
    if host not in _LOOPBACK:
        return host
    try:
        encoded = Path(local_path(r"%ProgramData%\Qlik\Sense\Host.cfg", environ)).read_bytes()[:1024]
        name = base64.b64decode(encoded, validate=False).decode("ascii").strip()
    except (OSError, binascii.Error, UnicodeDecodeError):
        return host
    return name if re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) else host


def tls_context(settings: QrsConfig) -> ssl.SSLContext:
    """Mutual TLS with the files of the settings; trusts the site's own CA only. Raises QrsError, naming the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks name and chain, and knows no other CA
    ca = _file(settings.ca_file)
    try:
        if _is_pem(ca):
            context.load_verify_locations(cafile=settings.ca_file)
        else:
            context.load_verify_locations(cadata=ca)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise QrsError("certificate", f"{settings.ca_file} (qrs.ca_file) contains no CA certificate") from None
    certificate = _file(settings.certificate)
    if _is_pem(certificate):
        _load_pem(context, certificate, settings)
    else:
        _load_pfx(context, certificate, settings)
    return context


def _is_pem(data: bytes) -> bool:
    return b"-----BEGIN " in data


def _file(name: str) -> bytes:
    try:
        with open(name, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise QrsError("certificate", f"{name} cannot be read: {system_word(error)}") from None
    except ValueError:  # a NUL in the path
        raise QrsError("certificate", "a file name among qrs.certificate, key, ca_file is not usable") from None
    if len(data) > LARGEST_FILE:
        raise QrsError("certificate", f"{name} is larger than {LARGEST_FILE} bytes: no certificate")
    return data


def _load_pem(context: ssl.SSLContext, certificate: bytes, settings: QrsConfig) -> None:
    """OpenSSL decides whether the files can be used; `cryptography` only explains why not."""
    key = _file(settings.key)
    try:
        # With a password function OpenSSL never asks at the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: settings.key_password)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise _unusable_pem(certificate, key, settings) from None
    try:
        own = x509.load_pem_x509_certificate(certificate)
    except ValueError:  # stricter than OpenSSL, which has accepted it
        return
    _check_dates(own, settings.certificate)


def _unusable_pem(certificate: bytes, key: bytes, settings: QrsConfig) -> QrsError:
    try:
        own = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return QrsError("certificate", f"{settings.certificate} (qrs.certificate) contains no certificate")
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError:  # protected by a password
        if not settings.key_password:
            return QrsError("certificate", f"{settings.key} is protected by a password: set qrs.key_password")
        try:
            private = serialization.load_pem_private_key(key, password=settings.key_password.encode())
        except (ValueError, UnsupportedAlgorithm):
            return QrsError("certificate", f"qrs.key_password does not decrypt {settings.key}")
    except (ValueError, UnsupportedAlgorithm):
        return QrsError("certificate", f"{settings.key} (qrs.key) contains no private key")
    if private.public_key() != own.public_key():
        return QrsError("certificate", f"the key in {settings.key} is not the key of {settings.certificate}")
    return QrsError("certificate", f"{settings.certificate} with {settings.key} cannot be used: key or hash too weak?")


def _load_pfx(context: ssl.SSLContext, certificate: bytes, settings: QrsConfig) -> None:
    """A PFX file contains its own key. Python's TLS reads keys from files only, so both are written to a temporary
    file, encrypted with a password that is never stored.
    """
    password = settings.key_password.encode() or None
    try:
        key, own, others = pkcs12.load_key_and_certificates(certificate, password)
    except (ValueError, UnsupportedAlgorithm):
        raise QrsError(
            "certificate", f"{settings.certificate} is neither PEM nor a PFX file that qrs.key_password decrypts"
        ) from None
    if key is None or own is None:
        raise QrsError("certificate", f"{settings.certificate} contains no private key that matches its certificate")
    _check_dates(own, settings.certificate)
    once = secrets.token_urlsafe(32)
    bundle = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(once.encode()),
    )
    bundle += b"".join(part.public_bytes(serialization.Encoding.PEM) for part in (own, *others))
    try:
        with tempfile.TemporaryDirectory(prefix="qlik-license-exporter-") as folder:
            file = Path(folder) / "client.pem"
            file.write_bytes(bundle)
            context.load_cert_chain(file, password=once)
    except ssl.SSLError as error:
        raise QrsError("certificate", f"{settings.certificate} cannot be used: {openssl_word(error)}") from None
    except OSError as error:
        raise QrsError(
            "certificate", f"a PFX file requires a folder for temporary files: {system_word(error)}"
        ) from None


def _check_dates(certificate: x509.Certificate, name: str) -> None:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        ended = certificate.not_valid_after_utc.date().isoformat()
        raise QrsError("certificate", f"{name} expired on {ended}: export a new one from the QMC")
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc.date().isoformat()
        raise QrsError("certificate", f"{name} is not valid before {begins}: check the clock of this machine")
