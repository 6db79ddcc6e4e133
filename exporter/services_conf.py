"""The proxy that the Licenses service itself uses: `services.conf` of Qlik Sense, and similar files of other products.

The only reader of these files. In `services.conf` the section `[licenses.parameters]` is known from Qlik's help; the
names of its parameters are inferred from NPrinting's `license.config`, where they are known (qlik-facts 5). So what was
found is always described in a sentence, for `check` and the status page.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from exporter.config import local_path
from exporter.printable import printable
from exporter.products import SENSE, Product

SERVICES_KEY = r"SYSTEM\CurrentControlSet\Services"
"""The registry key of the services, with the program of each."""
LARGEST_FILE = 1 << 20
"""Largest number of bytes read; the real file has a few thousand."""

_SECTION = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")
_PARAMETER = re.compile(r"(?:^|(?<=[\s=]))([\"']?)-{0,2}(proxy-[a-z-]+)(?:\s*=\s*|\s+|$)", re.IGNORECASE)
Method = Literal["any", "basic", "ntlm"]
"""How the Licenses service authenticates at its proxy, according to its settings."""

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
    """Whether the service has credentials that the probe cannot use, or may use differently: then a proxy that refuses
    the probe's login proves nothing about the service."""


def licenses_service_proxy(environ: Mapping[str, str] = os.environ, product: Product = SENSE) -> ServiceProxy:
    """The proxy that the Licenses service on this machine is set to use. Reads a file; never raises for it."""
    beside = _beside_the_service(product)
    files = [file for file in beside if os.path.exists(file)]
    files += [local_path(file, environ) for file in product.proxy_files if "\\" in file]
    for file in files:
        try:
            with open(file, "rb") as stream:
                data = stream.read(LARGEST_FILE)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not a path"
            sentence = f"{file} could not be read ({why}), so no proxy is taken from it."
            return ServiceProxy(file, "unreadable", "", sentence)
        return _understood(file, _text(data), product)
    if files or beside:
        missing = (files or beside)[0]
        return ServiceProxy(missing, "missing", "", f"{missing} does not exist, so no proxy is taken from it.")
    sentence = f"It is unknown where {product.title} keeps its {product.proxy_file}, so no proxy is taken from it."
    return ServiceProxy(product.proxy_file, "missing", "", sentence)


def _beside_the_service(product: Product) -> list[str]:
    """The files next to the installed service's program, for sites with Qlik on another drive."""
    if sys.platform == "win32" and product.proxy_service:
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, rf"{SERVICES_KEY}\{product.proxy_service}") as key:
                command = os.path.expandvars(str(winreg.QueryValueEx(key, "ImagePath")[0]))
        except OSError:
            return []
        program = command.split('"')[1] if command.startswith('"') else command.partition(".exe")[0]
        if os.path.isabs(program):
            names = [file.rpartition("\\")[2] for file in product.proxy_files]
            return [os.path.join(os.path.dirname(program), name) for name in names]
    return []


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _parameters(text: str, product: Product) -> dict[str, str]:
    """The proxy parameters in the text of a file, by their names in lower case. Raises ElementTree.ParseError."""
    return _of_xml(text) if text.lstrip().startswith("<") else _of_lines(text, any_section=product is not SENSE)


def _of_xml(text: str) -> dict[str, str]:
    """Those of NPrinting: `<add key="proxy-uri" value="…"/>`, anywhere in the file."""
    root = ElementTree.fromstring(text.lstrip())  # noqa: S314  # an administrator's file, of a limited size
    elements = [element.attrib for element in root.iter() if element.tag.rpartition("}")[2].casefold() == "add"]
    pairs = [(each.get("key", "").strip().casefold(), each.get("value", "").strip()) for each in elements]
    return {key: value for key, value in pairs if key.startswith("proxy-")}


def _of_lines(text: str, *, any_section: bool) -> dict[str, str]:
    """Those of `[licenses.parameters]`: with or without dashes, with `=` or a space, with or without quotes."""
    found: dict[str, str] = {}
    wanted = any_section
    for line in text.splitlines():
        if line.lstrip().startswith(_COMMENT):
            continue
        if header := _SECTION.match(line):
            section = header[1].casefold()
            wanted = section == "licenses.parameters" or (any_section and "license" in section)
        elif wanted:
            pieces = _PARAMETER.split(line.strip())
            for quote_before, name, value in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
                found[name.casefold()] = _unquoted(quote_before + value.strip())
    return found


def _unquoted(value: str) -> str:
    """`value` without the quotes around it, or around its whole parameter."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _understood(file: str, text: str, product: Product) -> ServiceProxy:
    try:
        parameters = _parameters(text, product)
    except ElementTree.ParseError as error:
        line, column = error.position
        sentence = f"{file} is not valid XML (line {line}, column {column + 1}), so no proxy is taken from it."
        return ServiceProxy(file, "not understood", "", sentence)
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
            file,
            "not understood",
            "",
            f"{file} sets a proxy-uri that is not an http:// or https:// address; it is not used.",
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
        sentence += f"; {', '.join(unknown)}: meaning not known, ignored"
    return ServiceProxy(file, "understood", url, f"{sentence}.", user, password, method, withheld)
