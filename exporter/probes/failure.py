"""Why a stage failed: maps every network error to one reason of the closed set and one sentence."""

import errno
import socket
import ssl
from collections.abc import Mapping, Sequence

import h11

from exporter.printable import printable
from exporter.probes.certificate import ServedChain, day
from exporter.probes.result import Phase, Reason
from exporter.probes.stream import Address

ADDRESSES_SHOWN = 4
"""Addresses that a sentence lists at most."""

_TIMED_OUT: dict[Phase, tuple[Reason, str]] = {
    "dns": ("dns", "The name server did not answer in time."),
    "connect": ("tcp_timeout", "The connection attempt got no answer in time."),
    "proxy": ("proxy_connect", "The proxy did not answer in time."),
    "tls": ("tls_timeout", "The connection was opened, but the TLS handshake did not complete in time."),
    "http": ("http_timeout", "The response did not arrive, or was not complete, in time."),
}
_UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EACCES,  # what a firewall on this machine answers, on Windows and on Linux
    errno.EPERM,
}
_WINDOWS_UNREACHABLE = {10013, 10047, 10049, 10050, 10051, 10064, 10065, 1231, 1232}
_WINDOWS_TIMED_OUT = {10060, 121, 1460}
_WINDOWS_REFUSED = {10061, 1225}
_WINDOWS_RESET = {10052, 10053, 10054, 64, 1236}
_UNCONNECTED: dict[Reason, str] = {
    "tcp_refused": "refused",
    "tcp_timeout": "no answer",
    "tcp_unreachable": "no route, or blocked on this machine",
    "reset": "reset",
}
_EXPIRED, _NOT_YET_VALID, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64
"""OpenSSL's X509_V_ERR_ numbers."""


class Failure(Exception):  # noqa: N818  # not an error of this program: what a probe is there to find
    """A stage failed: why, as a label and as a sentence."""

    def __init__(self, reason: Reason, detail: str, *, tried: bool = True) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
        self.tried = tried
        """Whether this attempt showed it; otherwise it is known from earlier attempts."""


class Inconclusive(Exception):  # noqa: N818  # not an error either: the third outcome of a probe
    """A proxy requires an authentication that the probe cannot provide: nothing is known about what is behind it."""


def stage_failure(phase: Phase, error: Exception, host: str, chain: ServedChain | None) -> Failure:
    """What `error` means for a connection to `host` that has got as far as TLS or HTTP, with `chain` served there."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_failure(error, host, chain)
    if isinstance(error, ssl.SSLError):
        return Failure("tls_handshake", f"TLS failed: {error_text(error)}.")
    if isinstance(error, h11.RemoteProtocolError):
        return Failure("http_protocol", f"The response is not HTTP: {error_text(error)}.")
    if isinstance(error, OSError):
        reason = reason_of(error)
        if reason == "tcp_timeout":  # the system's own time-out, before ours
            return time_out(phase)
        return Failure(reason, f"The connection was lost: {error_text(error)}.")
    return Failure("other", f"The probe cannot be run with these settings: {error_text(error)}.")


def time_out(phase: Phase) -> Failure:
    """The deadline came during `phase`."""
    return Failure(*_TIMED_OUT[phase])


def connect_failure(addresses: Sequence[Address], errors: Mapping[Address, OSError], port: int) -> Failure:
    """No address could be connected to. Those without an error did not answer in time.

    The failure of the first address counts, unless that is "no route" and another address failed differently.
    """
    whys = [errors.get(address, TimeoutError()) for address in addresses]
    reasons = [reason_of(why) for why in whys]
    reason = next((each for each in reasons if each != "tcp_unreachable"), reasons[0])
    problems = [
        f"{address.place[0]}: {_UNCONNECTED.get(each) or error_text(why)}"
        for address, each, why in zip(addresses, reasons, whys, strict=True)
    ]
    return Failure(reason, f"No connection to port {port}: {'; '.join(problems[:ADDRESSES_SHOWN])}.")


def reason_of(error: OSError) -> Reason:
    """The reason for a socket error, by the error numbers of Linux and Windows."""
    number = getattr(error, "winerror", None)
    if isinstance(error, ConnectionRefusedError) or number in _WINDOWS_REFUSED:
        return "tcp_refused"
    if isinstance(error, TimeoutError) or number in _WINDOWS_TIMED_OUT:
        return "tcp_timeout"
    if isinstance(error, ConnectionError) or number in _WINDOWS_RESET:
        return "reset"
    if error.errno in _UNREACHABLE or number in _WINDOWS_UNREACHABLE:
        return "tcp_unreachable"
    return "other"


def error_text(error: Exception) -> str:
    """An error as text of the system, OpenSSL or this package only: nothing that the peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown").replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.rstrip(".")
    if isinstance(error, UnicodeError):
        return "the host name cannot be encoded"
    return printable(str(error), 200) or type(error).__name__


def lookup_text(error: Exception) -> str:
    """Why a name could not be looked up, in words."""
    if not isinstance(error, socket.gaierror):
        return error_text(error)
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return "the name does not exist, or has no address"
    if error.errno == socket.EAI_AGAIN:
        return "no name server answered"
    return error_text(error)


def _verification_failure(error: ssl.SSLCertVerificationError, host: str, chain: ServedChain | None) -> Failure:
    text = error_text(error)
    if error.verify_code == _EXPIRED:
        when = f" on {day(chain.chain_expiry)}" if chain else ""
        return Failure("tls_expired", f"A certificate has expired{when}.")
    if error.verify_code == _NOT_YET_VALID:
        when = f" before {day(chain.starts)}" if chain else " yet"
        return Failure("tls_expired", f"The certificate is not valid{when}: check this machine's clock.")
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        names = f"; it is for {chain.names or 'no host'}" if chain else ""
        return Failure("tls_hostname", f"The certificate is not for {host}{names}.")
    issuer = f" by {chain.issuer}" if chain and chain.issuer else ""
    return Failure("tls_untrusted", f"The certificate, issued{issuer}, is not trusted on this machine: {text}.")
