"""Logins at a proxy that take several steps: NTLM and Negotiate. The probes' only user of `pyspnego`.

A user name and a password are used with NTLM, on every platform by the same code. Without them a process can only
authenticate as itself: on Windows through SSPI, elsewhere with a Kerberos ticket if the libraries are installed.
"""

import base64
import getpass
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from exporter.printable import printable
from exporter.services_conf import Method

if TYPE_CHECKING:
    from spnego import ContextProxy

logging.getLogger("spnego").setLevel(logging.CRITICAL)  # at `debug` it logs messages that help to guess a password


class NoLoginError(Exception):
    """A login is not possible. The text says why, as the end of a sentence."""


@dataclass(frozen=True)
class Credentials:
    """The credentials that the probe may use at a proxy."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    method: Method = "any"
    """`basic` or `ntlm` if the Licenses service is set to use only that."""

    @property
    def complete(self) -> bool:
        """Whether there are a user and a password."""
        return bool(self.user and self.password)

    @property
    def with_domain(self) -> bool:
        r"""Whether the user is written as `DOMAIN\user` or `user@REALM`."""
        return "\\" in self.user or "@" in self.user

    @property
    def basic(self) -> str:
        """The value of Proxy-Authorization for Basic (RFC 7617); empty without credentials."""
        if not self.user or self.method == "ntlm":
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class Login:
    """One login in progress. Its calls can block: Windows and Kerberos contact a domain controller."""

    def __init__(self, scheme: str, context: "ContextProxy", whom: str) -> None:
        self.scheme = scheme
        """`NTLM` or `Negotiate`, as the header spells it."""
        self.whom = whom
        """The account of the process if it authenticates as itself; else empty."""
        self.proved = False
        """Whether a challenge was answered: a refusal is then about the credentials themselves."""
        self._context = context

    def answer(self, challenge: bytes | None) -> str:
        """The next value of Proxy-Authorization for the challenge of the proxy; None begins the login.

        Raises NoLoginError if the challenge cannot be used.
        """
        try:
            token = self._context.step(challenge)
        except Exception as error:  # SSPI, GSSAPI and a parser of untrusted bytes raise many kinds of errors
            how = "cannot be started here" if challenge is None else "did not go on"
            raise NoLoginError(f"{self.scheme} {how}: {_why(error)}") from None
        if not token:
            raise NoLoginError(f"{self.scheme} did not go on: the proxy sent another challenge after the last step")
        self.proved = challenge is not None
        return f"{self.scheme} {base64.b64encode(token).decode()}"


def begin_login(offered: Sequence[str], credentials: Credentials, host: str) -> Login:
    """A login with one of the schemes that the proxy `host` offered (in lower case). Can block.

    Raises NoLoginError.
    """
    if credentials.method == "basic" or not {"ntlm", "negotiate"} & {*offered}:
        raise NoLoginError(_BASIC_ONLY if credentials.method == "basic" else "which this probe does not support")
    if credentials.complete:
        scheme, whom = "ntlm" if "ntlm" in offered else "negotiate", ""
    else:
        scheme, whom = _own_account(offered)
    try:
        context = _context(scheme, credentials, host)
    except Exception as error:  # no ticket, an account without credentials, a package that SSPI does not have
        raise NoLoginError(f"and {_SPELLED[scheme]} cannot be started here: {_why(error)}") from None
    return Login(_SPELLED[scheme], context, whom)


_SPELLED = {"ntlm": "NTLM", "negotiate": "Negotiate"}
_BASIC_ONLY = "while the Licenses service is set to Basic authentication"


def _context(scheme: str, credentials: Credentials, host: str) -> "ContextProxy":
    import spnego  # takes 30 ms, and only sites with such a proxy need it
    from spnego.exceptions import NegotiateOptions

    if not credentials.complete:
        return spnego.client(hostname=host, service="HTTP", protocol=scheme)
    known = spnego.Password(credentials.user, credentials.password)
    options = NegotiateOptions.use_ntlm if scheme == "ntlm" else NegotiateOptions.none
    return spnego.client(known, hostname=host, service="HTTP", protocol=scheme, options=options)


def _own_account(offered: Sequence[str]) -> tuple[str, str]:
    """The scheme with which this process can authenticate as itself, and its account. Raises NoLoginError."""
    if sys.platform == "win32":
        return "negotiate" if "negotiate" in offered else "ntlm", own_account()
    kerberos = find_spec("gssapi") and find_spec("krb5")  # what `pyspnego[kerberos]` brings
    if "negotiate" not in offered or not kerberos:
        raise NoLoginError("and the probe has no user name and password for it")
    return "negotiate", own_account()


def own_account() -> str:
    r"""The account that this process runs as, on Windows as `DOMAIN\account`."""
    if sys.platform == "win32":
        import pywintypes
        import win32api
        import win32con

        try:
            return str(win32api.GetUserNameEx(win32con.NameSamCompatible))
        except pywintypes.error:
            return getpass.getuser()
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        return "its own account"


def _why(error: Exception) -> str:
    """An error of the library in words, without its input."""
    from spnego.exceptions import SpnegoError

    return printable(str(error.base_error or error), 200) if isinstance(error, SpnegoError) else type(error).__name__
