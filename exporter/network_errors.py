"""What is inside the errors of the HTTP client, TLS and the operating system, in words without hosts and paths."""

import os
import re

UNKNOWN_ISSUER = (7, 18, 19, 20, 21)
"""OpenSSL's error numbers for an issuer that is not in the CA file; 7 is a CA of the same name with another key."""
OTHER_NAME = (62, 64)
"""OpenSSL's error numbers for a certificate with another host name or address."""


def cause_of(error: Exception) -> BaseException:
    """The error of TLS or of the operating system inside aiohttp's, which keeps it in one of three places."""
    return getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__ or error


def openssl_word(error: BaseException) -> str:
    """OpenSSL's fixed text alone, for example `WRONG_VERSION_NUMBER`: never a host, never a path."""
    found = re.search(r"\[SSL: (\w+)\]", str(error))
    return found[1].lower().replace("_", " ") if found else "the handshake failed"


def system_word(error: BaseException) -> str:
    """The operating system's text for an error number, without the host that aiohttp adds."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(error).__name__
