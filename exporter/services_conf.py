"""The Service Dispatcher's `services.conf`: which proxy the Licenses service itself uses. It alone reads that file.

The section `[licenses.parameters]` is known from Qlik's help; the parameter names are inferred from NPrinting's names
for the same service (qlik-facts 5). So what was found is always told in a sentence, for `check` and the status page.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from exporter.config import local_path
from exporter.printable import printable

SERVICES_CONF = r"%ProgramFiles%\Qlik\Sense\ServiceDispatcher\services.conf"
SERVICE_KEY = r"SYSTEM\CurrentControlSet\Services\QlikSenseServiceDispatcher"
"""Where Windows keeps the Service Dispatcher's program (the service's name: qlik-facts 1)."""
LARGEST_FILE = 1 << 20
"""Bytes that are read at most; the real file has a few thousand."""

_SECTION = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")
_PARAMETER = re.compile(r"(?:^|(?<=[\s=]))([\"']?)-{0,2}(proxy-[a-z-]+)(?:\s*=\s*|\s+|$)", re.IGNORECASE)
Method = Literal["any", "basic", "ntlm"]
"""How the Licenses service authenticates at its proxy, as far as its setting says."""

_KNOWN = {
    "proxy-uri",
    "proxy-username",
    "proxy-password",
    "proxy-encrypted-password",
    "proxy-basic-authentication",
}
_COMMENT = (";", "#", "//", "<!--")


@dataclass(frozen=True)
class ServiceProxy:
    """What `services.conf` says about the Licenses service's proxy."""

    file: str
    state: Literal["missing", "unreadable", "no setting", "not understood", "understood"]
    url: str
    """The proxy, without credentials; empty unless understood."""
    sentence: str
    """For a person; without credentials."""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    """For connecting only, both or neither."""
    method: Method = "any"
    withheld: bool = False
    """Whether the service has credentials that cannot be used from here, or may use them otherwise: then a proxy that
    refuses the probe's login does not speak against the service."""


def licenses_service_proxy(environ: Mapping[str, str] = os.environ) -> ServiceProxy:
    """The proxy that the Licenses service on this machine is set to use. Reads a file; never raises for it."""
    file = _beside_the_service() or local_path(SERVICES_CONF, environ)
    try:
        with open(file, "rb") as stream:
            data = stream.read(LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return ServiceProxy(file, "missing", "", f"{file} does not exist, so no proxy is taken from it.")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no path"
        return ServiceProxy(file, "unreadable", "", f"{file} could not be read ({why}), so no proxy is taken from it.")
    return _understood(file, _parameters(_text(data)))


def _beside_the_service() -> str | None:
    """The file beside the installed Service Dispatcher's program, for sites that put Qlik on another drive."""
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, SERVICE_KEY) as key:
                command = os.path.expandvars(str(winreg.QueryValueEx(key, "ImagePath")[0]))
        except OSError:
            return None
        program = command.split('"')[1] if command.startswith('"') else command.partition(".exe")[0]
        file = os.path.join(os.path.dirname(program), "services.conf")
        return file if os.path.isabs(file) and os.path.exists(file) else None
    return None


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _parameters(text: str) -> dict[str, str]:
    """The proxy parameters of `[licenses.parameters]`: with or without dashes, `=` or a space, quotes or none."""
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.lstrip().startswith(_COMMENT):
            continue
        if header := _SECTION.match(line):
            section = header[1].casefold()
        elif section == "licenses.parameters":
            pieces = _PARAMETER.split(line.strip())
            for quote_before, name, value in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
                found[name.casefold()] = _unquoted(quote_before + value.strip())
    return found


def _unquoted(value: str) -> str:
    """`value` without the quotes around it, or around its whole parameter."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _understood(file: str, parameters: Mapping[str, str]) -> ServiceProxy:
    uri = parameters.get("proxy-uri", "")
    if not uri:
        return ServiceProxy(file, "no setting", "", f"{file} sets no proxy for the Licenses service.")
    try:
        parts = urlsplit(uri if "://" in uri else f"http://{uri}")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or printable(uri) != uri:
        return ServiceProxy(
            file, "not understood", "", f"{file} sets a proxy-uri that is no http:// or https:// address: not used."
        )
    address = parts.netloc.rpartition("@")[2]
    url = f"{parts.scheme}://{address}"
    sentence = f"{file} sets the proxy {url} for the Licenses service"
    user = parameters.get("proxy-username", "") or unquote(parts.username or "")
    password = parameters.get("proxy-password", "") or unquote(parts.password or "")
    basic = parameters.get("proxy-basic-authentication", "").casefold()
    method: Method = "ntlm" if basic in ("false", "0", "no") else "basic" if basic in ("true", "1", "yes") else "any"
    unknown = sorted(parameters.keys() - _KNOWN)
    withheld = bool(unknown)
    if user and password:
        sentence += ", with a user name and a password"
        if method == "ntlm":
            sentence += ", for another authentication than Basic"
        if "\\" not in user and "@" not in user:
            withheld |= method != "basic"  # for NTLM the service may add a domain that is not known here
    elif "proxy-encrypted-password" in parameters:
        withheld = True
        sentence += "; its password is encrypted and cannot be used from here, so the probe sends no credentials"
    elif user:
        withheld = True
        sentence += "; a user name without a password, so the probe sends no credentials"
    if not (user and password):
        user = password = ""
    if unknown:
        sentence += f"; what {', '.join(unknown)} means there is not known, and is left out"
    return ServiceProxy(file, "understood", url, f"{sentence}.", user, password, method, withheld)
