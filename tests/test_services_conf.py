"""What `services.conf` says about the Licenses service's own proxy."""

from pathlib import Path

import pytest

from exporter.products import NPRINTING, QLIKVIEW
from exporter.services_conf import LARGEST_FILE, ServiceProxy, licenses_service_proxy


def found(folder: Path, content: bytes | None) -> ServiceProxy:
    """What is understood where Program Files hold that services.conf."""
    file = folder / "Qlik" / "Sense" / "ServiceDispatcher" / "services.conf"
    if content is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return licenses_service_proxy({"ProgramFiles": str(folder)})


REST = "[licenses]\nExePath=Licenses\\licenses.exe\n\n[licenses.parameters]\n-qsefw-mode=true\n"


@pytest.mark.parametrize(
    "lines",
    [
        "-proxy-uri=http://10.0.0.1:3128",
        "--proxy-uri=http://10.0.0.1:3128",
        "proxy-uri=http://10.0.0.1:3128",
        "-proxy-uri http://10.0.0.1:3128",
        '"-proxy-uri=http://10.0.0.1:3128"',
        '-proxy-uri="http://10.0.0.1:3128"',
        "  -PROXY-URI = http://10.0.0.1:3128  ",
        "-proxy-uri=10.0.0.1:3128",
        "-app-settings=a.json -proxy-uri=http://10.0.0.1:3128",
        "# -proxy-uri=http://old:1\n-proxy-uri=http://10.0.0.1:3128\n; -proxy-uri=http://older:1",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_proxy_is_understood_however_it_is_written(lines: str, encoding: str, tmp_path: Path) -> None:
    proxy = found(tmp_path, f"{REST}{lines}\n\n[other.parameters]\n; für\n-proxy-uri=http://else:1\n".encode(encoding))
    assert (proxy.state, proxy.url) == ("understood", "http://10.0.0.1:3128")
    assert "http://10.0.0.1:3128" in proxy.sentence


@pytest.mark.parametrize(
    ("lines", "method", "withheld", "words"),
    [
        (["-proxy-basic-authentication=true"], "basic", False, "a user name and a password."),
        ([], "any", True, "a user name and a password."),
        (["-proxy-basic-authentication=false"], "ntlm", True, "for another authentication than Basic"),
    ],
)
@pytest.mark.parametrize(
    "password", ['-proxy-password=p@ss: &"', "-proxy-password='p@ss: &\"'", "'-proxy-password=p@ss: &\"'"]
)
def test_credentials_are_used_for_connecting_and_never_told(
    password: str, lines: list[str], method: str, withheld: bool, words: str, tmp_path: Path
) -> None:
    given = ["-proxy-uri=https://proxy:8888", "-proxy-username=svc", password, *lines]
    proxy = found(tmp_path, (REST + "\r\n".join(given)).encode())
    assert (proxy.state, proxy.url) == ("understood", "https://proxy:8888")
    assert (proxy.user, proxy.password) == ("svc", 'p@ss: &"')
    assert (proxy.method, proxy.withheld) == (method, withheld)
    assert words in proxy.sentence
    for told in (proxy.sentence, repr(proxy)):
        assert "svc" not in told
        assert "p@ss" not in told


def test_credentials_within_the_address_are_masked(tmp_path: Path) -> None:
    proxy = found(tmp_path, f"{REST}-proxy-uri=http://CONTOSO%5Csvc:secret%40@proxy:3128".encode())
    assert proxy.url == "http://proxy:3128"
    assert (proxy.user, proxy.password, proxy.withheld) == (r"CONTOSO\svc", "secret@", False)
    assert "secret" not in proxy.sentence
    assert "svc" not in proxy.sentence


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-proxy-encrypted-password=AQAAANCMnd8B", "encrypted and cannot be used"),
        ("-proxy-realm=x", "user name without a password"),
    ],
)
def test_a_password_that_cannot_be_used_is_told(line: str, words: str, tmp_path: Path) -> None:
    proxy = found(tmp_path, f"{REST}-proxy-uri=http://proxy:3128\n-proxy-username=svc\n{line}\n".encode())
    assert (proxy.state, proxy.url) == ("understood", "http://proxy:3128")
    assert words in proxy.sentence
    assert "AQAAAN" not in proxy.sentence


@pytest.mark.parametrize(
    "content",
    [
        b"",
        REST.encode(),
        b"[licenses.parameters]\n-proxy-uri=\n",
        b"-proxy-uri=http://10.0.0.1:3128\n",
        b"[licenses.parameters]\n# -proxy-uri=http://10.0.0.1:3128\n",
        b"[licenses.parameters]\n-noproxy-uri=http://10.0.0.1:3128\n",
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"[licenses.parameters]\n" + b"x" * LARGEST_FILE + b"\n-proxy-uri=http://beyond-the-limit:1",
    ],
)
def test_without_a_setting_there_is_no_proxy(content: bytes, tmp_path: Path) -> None:
    proxy = found(tmp_path, content)
    assert (proxy.state, proxy.url) == ("no setting", "")


@pytest.mark.parametrize("uri", ["socks5://proxy:1080", "http://", "http://proxy:many", "http://[::1", "http://p:0"])
def test_a_proxy_that_cannot_be_used_is_not_understood_and_says_so(uri: str, tmp_path: Path) -> None:
    proxy = found(tmp_path, f"{REST}-proxy-uri={uri}".encode())
    assert (proxy.state, proxy.url) == ("not understood", "")
    assert "not used" in proxy.sentence


def test_a_missing_and_an_unreadable_file_are_told_apart(tmp_path: Path) -> None:
    missing = found(tmp_path / "a", None)
    (tmp_path / "b" / "Qlik" / "Sense" / "ServiceDispatcher" / "services.conf").mkdir(parents=True)
    unreadable = found(tmp_path / "b", None)
    assert (missing.state, missing.url) == ("missing", "")
    assert (unreadable.state, unreadable.url) == ("unreadable", "")
    for proxy in (missing, unreadable):
        assert "services.conf" in proxy.file
        assert proxy.file in proxy.sentence


# --- other products ---------------------------------------------------------------------------------------------------

NPRINTING_FILE = """<?xml version="1.0" encoding="utf-8"?>
<!-- <add key="proxy-uri" value="http://old:1"/> -->
<configuration><appSettings>
  <add key="port" value="4747"/>
  <add value="http://proxy.example:3128" key="Proxy-Uri" />
  <add key="proxy-username" value="svc &amp; co"></add>
  <add key='proxy-password' value='p"&lt;'/>
</appSettings></configuration>
"""
LICENSE = ("NPrintingServer", "NPrinting", "License")


def of_nprinting(folder: Path, content: bytes, name: str = "license.config") -> ServiceProxy:
    file = folder.joinpath(*LICENSE, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return licenses_service_proxy({"ProgramFiles": str(folder)}, NPRINTING)


@pytest.mark.parametrize("name", ["license.config", "service.conf"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_nprintings_own_file_is_understood_under_both_its_names(name: str, encoding: str, tmp_path: Path) -> None:
    proxy = of_nprinting(tmp_path, NPRINTING_FILE.encode(encoding), name)
    assert (proxy.state, proxy.url) == ("understood", "http://proxy.example:3128")
    assert (proxy.user, proxy.password) == ("svc & co", 'p"<')
    assert proxy.file.endswith(name)
    assert "svc" not in proxy.sentence


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [
        (b"<configuration><add key='proxy-uri' value=''/></configuration>", "no setting", "sets no proxy"),
        (b"<configuration/>", "no setting", "sets no proxy"),
        (
            b"<configuration><add key='proxy-uri' value='http://p:1'",
            "not understood",
            "is not valid XML (line 1, column",
        ),
        (b"<a><add key='proxy-uri' value='http://p:1'/>\n<b></a>", "not understood", "line 2"),
        (b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a><add key='proxy-uri' value='&x;'/></a>", "", ""),
        (b"proxy-uri=http://p:1\n", "understood", "http://p:1"),
    ],
)
def test_what_is_no_setting_of_nprinting_is_said(content: bytes, state: str, words: str, tmp_path: Path) -> None:
    proxy = of_nprinting(tmp_path, content)
    assert proxy.state == state or (not state and proxy.state in ("not understood", "no setting"))
    assert words in proxy.sentence
    assert "root:" not in proxy.sentence


def test_each_product_reads_its_own_file_only(tmp_path: Path) -> None:
    found(tmp_path, f"{REST}-proxy-uri=http://sense:1".encode())
    environ = {"ProgramFiles": str(tmp_path)}
    assert licenses_service_proxy(environ).url == "http://sense:1"
    nprinting = licenses_service_proxy(environ, NPRINTING)
    assert (nprinting.state, nprinting.url) == ("missing", "")
    assert "license.config does not exist" in nprinting.sentence
    qlikview = licenses_service_proxy(environ, QLIKVIEW)
    assert (qlikview.state, qlikview.url) == ("missing", "")
    assert qlikview.sentence == "It is unknown where QlikView keeps its service.conf, so no proxy is taken from it."
