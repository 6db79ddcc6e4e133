"""`probe [TARGET]`: the story for a person, the cure, the exit code."""

import base64
import json
from pathlib import Path

import msgspec
import pytest
from observed import NOON, result
from probe_peers import (
    AUTHORITY,
    CERTIFICATE,
    NOT_FOUND,
    answering,
    listening,
    proxying,
    secured,
    serving,
    silent,
    written,
)

from exporter.cli import main
from exporter.masking import masked

SECURE = serving(CERTIFICATE)


def ran(*arguments: str) -> int:
    return main(["probe", *arguments])


def configured(folder: Path, **probe: object) -> str:
    """The name of a configuration with this one probe."""
    return written(folder / "config.yml", json.dumps({"probes": [probe]}).encode())


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    return written(tmp_path / "ca.pem", AUTHORITY.cert_pem.bytes())


def test_a_good_probe_is_told_stage_by_stage_and_exits_0(ca_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(secured(SECURE, answering(NOT_FOUND))) as port:
        assert ran(f"localhost:{port}", "--ca-file", ca_file) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  {phase}: ") for phase in ("dns", "connect", "tls", "http")]
    assert places == sorted(places)
    assert out.count(" ms]") == 4
    assert "\nreached: " in out
    assert "404 Not Found" in out


def test_a_failed_probe_names_the_reason_and_the_likely_cure_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(secured(SECURE, answering(NOT_FOUND))) as port:
        assert ran(f"localhost:{port}") == 1
    out = capsys.readouterr().out
    assert "failed, tls_untrusted: " in out
    assert "likely cure: " in out
    assert "issued by Acme Root" in out


def test_a_probe_that_is_not_judged_says_why_and_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(proxying([], credentials=b"none", challenge=b"Proxy-Authenticate: Negotiate, NTLM\r\n")) as proxy:
        assert ran("--proxy", f"http://127.0.0.1:{proxy}") == 3
    out = capsys.readouterr().out
    assert "not judged: The proxy " in out
    assert "accepts only Negotiate and NTLM" in out
    assert "likely cure: " in out
    assert "failed" not in out


def test_without_any_configuration_the_license_backend_is_probed(capsys: pytest.CaptureFixture[str]) -> None:
    requests: list[bytes] = []
    with listening(proxying(requests, credentials=b"nobody's")) as proxy:
        assert ran("--proxy", f"http://127.0.0.1:{proxy}") == 1
    assert requests[0].startswith(b"CONNECT license.qlikcloud.com:443 ")
    assert "failed, proxy_auth: " in capsys.readouterr().out


def test_a_password_can_come_from_the_environment_and_is_not_told(
    ca_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "hidden")
    right = base64.b64encode(b"svc:hidden")
    with (
        listening(secured(SECURE, answering(NOT_FOUND))) as port,
        listening(proxying([], credentials=right)) as proxy,
    ):
        url = f"http://svc:${{PASSWORD}}@127.0.0.1:{proxy}"
        options = (f"localhost:{port}", "--ca-file", ca_file, "--proxy", url)
        assert ran(*options) == 0
    out = capsys.readouterr().out
    assert "hidden" not in out
    assert f"http://127.0.0.1:{proxy}" in out


def test_options_are_laid_over_the_configured_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        target = f"127.0.0.1:{port}"
        config = configured(tmp_path, target=target, protocol="http", expected_statuses=[204], proxy="none")
        assert ran(target, "--config.file", config) == 0
        assert ran("--config.file", config) == 0
        assert ran(target, "--config.file", config, "--status", "200") == 1
        assert ran(target, "--status", "200", "--status", "204", "--protocol", "http") == 0
        assert ran(target, "--protocol", "tcp") == 0
    assert "expected 200" in capsys.readouterr().out


def test_the_time_out_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(silent) as port:
        assert ran(f"127.0.0.1:{port}", "--timeout", "300ms") == 1
    assert "tls_timeout" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("license.example",), "expected host:port"),
        (("https://license.example/",), "expected host:port"),
        (("host:99999",), "expected host:port"),
        (("host:1", "--timeout", "soon"), "duration"),
        (("host:1", "--proxy", "socks5://user:secret@proxy:1"), "proxy"),
        (("host:1", "--proxy", "http://${NOT_SET}@proxy:1"), "NOT_SET"),
        (("host:1", "--status", "9"), "100 to 599"),
    ],
)
def test_an_unusable_target_or_option_exits_2_with_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert "secret" not in captured.err


def test_an_unexpected_issuer_is_noted(ca_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(secured(SECURE, answering(NOT_FOUND))) as port:
        target = f"localhost:{port}"
        config = configured(tmp_path, target=target, ca_file=ca_file, proxy="none", expected_issuers=["Amazon"])
        assert ran(target, "--config.file", config) == 0
    assert "(Acme Root) is not an expected one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("The response was 200 OK, expected 404 Not Found.", "The response was 200 OK, expected 404 Not Found."),
        ("No connection to port 443: 10.200.0.1: refused.", "No connection to port 443: <address>: refused."),
        ("A certificate has expired on 2026-11-01.", "A certificate has expired on 2026-11-01."),
        (
            "The certificate, issued by Contoso Proxy CA, is not trusted on this machine: unknown authority.",
            "The certificate, issued by Contoso Proxy CA, is not trusted on this machine: unknown authority.",
        ),
        (
            "The proxy proxy.contoso.example:3128 answered 403 Forbidden.",
            "The proxy <host> answered 403 Forbidden.",
        ),
        ("The certificate is not for a; it is for kowalska.", "The certificate is not for a; it is for <name>."),
    ],
)
def test_what_a_probe_says_to_everyone_keeps_its_own_figures_and_the_issuer(detail: str, shown: str) -> None:
    found = msgspec.structs.replace(result(NOON, "other", issuer="Contoso Proxy CA"), detail=detail)
    assert found.shown_detail(masked) == shown


def test_an_issuer_that_is_a_single_letter_unmasks_nothing() -> None:
    found = msgspec.structs.replace(result(NOON, "other", issuer="a"), detail="issued by a, it is for anna kowalska")
    assert "kowalska" not in found.shown_detail(masked)
