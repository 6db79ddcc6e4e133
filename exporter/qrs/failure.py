"""Why the Repository API cannot be read, in words that say what to do. Names files, never hosts, people or keys."""

import ssl
from typing import Literal

from exporter.config import QrsConfig
from exporter.network_errors import OTHER_NAME, UNKNOWN_ISSUER, cause_of, openssl_word, system_word
from exporter.qrs.endpoint import Endpoint

Reason = Literal[
    "certificate", "forbidden", "dns", "refused", "timeout", "tls", "reset", "http", "json", "too_large", "other"
]


class QrsError(Exception):
    """A read failed. `reason` is one word of a closed set; `str()` is that word and a sentence that says what to do."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(f"{reason}: {sentence}")
        self.reason: Reason = reason


def unwanted_status(asked: Endpoint, status: int) -> QrsError:
    """403 is a fault in this exporter's set-up; no word here may be taken for the refusal of a Qlik user (case B8)."""
    if status in (401, 403):
        return QrsError(
            "forbidden",
            f"{asked} answered {status}: {asked.service} denies access. Check that qrs.user exists "
            "and has a role that can read this, and that qrs.certificate is the site's own client certificate",
        )
    if status in (301, 302, 303, 307, 308):
        return QrsError("http", f"{asked} answered {status}, a redirect: {_is_it(asked)}")
    if status == 404:
        return QrsError("http", f"{asked} answered 404: {_is_it(asked)}")
    return QrsError("http", f"{asked} answered {status}, expected 200")


def no_json(asked: Endpoint, found: str) -> QrsError:
    """An answer that this service would not give."""
    return QrsError("json", f"{asked} answered with {found}: {_is_it(asked)}")


def _is_it(asked: Endpoint) -> str:
    return f"is {asked.setting} the address of {asked.service} (port {asked.port})?"


def connection_failure(asked: Endpoint, error: Exception, settings: QrsConfig) -> QrsError:
    """aiohttp's failure in our words; its own text would name the host."""
    import aiohttp  # here, where it is loaded already: it takes longer to load than all the rest

    cause = cause_of(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _untrusted(cause, asked, settings)
    if isinstance(cause, ssl.SSLError):
        if "_ALERT_" in str(cause):
            return QrsError(
                "certificate",
                f"{asked.service} ({asked.setting}) does not accept the client certificate {settings.certificate}",
            )
        return QrsError("tls", f"no TLS connection for {asked}: {openssl_word(cause)}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return QrsError("dns", f"the host in {asked.setting} cannot be resolved")
    if isinstance(cause, ConnectionRefusedError):
        return QrsError(
            "refused", f"connection refused for {asked}: is {asked.service} running, and is the port right?"
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return QrsError("reset", f"the connection was closed before {asked} was answered completely")
    if isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(cause, ConnectionError):
        # TLS 1.3 often shows no more than this of a refused client certificate.
        return QrsError(
            "reset",
            f"the connection was closed before {asked} was answered: {asked.service} is not ready, or does not "
            f"accept the client certificate {settings.certificate}",
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return QrsError("http", f"{asked} was answered with something that is not HTTP")
    if isinstance(cause, TimeoutError):
        return QrsError("timeout", f"no connection for {asked}")
    return QrsError("other", f"{asked} failed: {system_word(cause)}")


def _untrusted(error: ssl.SSLCertVerificationError, asked: Endpoint, settings: QrsConfig) -> QrsError:
    """OpenSSL's error about the server's certificate, with the setting to check."""
    whose = f"the certificate of {asked.service} ({asked.setting})"
    if error.verify_code in OTHER_NAME:
        return QrsError(
            "tls",
            f"{whose} is for another host name: set qrs.server_name to the name in Qlik's certificate",
        )
    if error.verify_code in UNKNOWN_ISSUER:
        return QrsError("tls", f"{whose} was not issued by the CA in {settings.ca_file} (qrs.ca_file)")
    return QrsError("tls", f"{whose} cannot be verified: {error.verify_message}")
