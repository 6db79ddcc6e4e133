"""`check`: what can be used and reached, in words for the administrator who has to grant what is missing."""

import errno
import getpass
import json
import os
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import main
from exporter.commands import check
from exporter.config import advice_on, load, parse
from tests.exporting import Site
from tests.probe_peers import AUTHORITY, closed_port, listening, saying
from tests.push_receiver import Receiver


def told(source: str, word: str, text: object) -> str:
    """One line of what is printed."""
    return f"{source:<18}{word:<9}{text}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def outcome(capsys: pytest.CaptureFixture[str], site: Site, *words: str) -> tuple[int, str]:
    code = main(["check", "--config.file", str(site.configured()), *words])
    return code, capsys.readouterr().out


def test_everything_that_is_there_can_be_used(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    site.with_samples()
    with listening(saying(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as port:
        site.settings["probes"] = [{"target": f"127.0.0.1:{port}", "protocol": "http", "proxy": "none"}]
        code, out = outcome(capsys, site)
    assert code == 0
    assert out.startswith(told("configuration", "ok", site.config_file))
    for log in ("licenses", "repository_audit", "repository_trace"):
        assert told(log, "ok", "1 file can be read") in out
    assert told("probe", "ok", f"127.0.0.1:{port}: reached, ").rstrip("\n") in out
    assert out.endswith("everything that was found can be used\n")
    assert not site.state.exists(), "only `run` opens the state file"


def test_a_log_that_is_not_there_yet_is_no_fault_and_nothing_is_called_usable(
    capsys: pytest.CaptureFixture[str], site: Site
) -> None:
    code, out = outcome(capsys, site)
    assert code == 0
    assert told("licenses", "nothing", f"no file matches {site.licenses.parent}/*.log (yet)") in out
    assert out.endswith("no log was found, so none can be read yet\n")


def test_the_default_paths_may_be_missing(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    del site.settings["logs"]
    code, out = outcome(capsys, site)
    assert code == 0
    assert "\nlicenses          nothing  no file matches " in out
    assert "can be used" not in out


def with_faults(site: Site) -> list[tuple[dict[str, Any], str]]:
    nowhere, here = str(site.folder / "nowhere"), str(site.folder)
    licenses = {"paths": [str(site.licenses)]}
    tcp = {"target": f"127.0.0.1:{closed_port()}", "protocol": "tcp", "proxy": "none"}
    (site.folder / "empty.pem").write_text("nothing")
    return [
        (
            {"logs": {"licenses": {"paths": [f"{nowhere}/*.log"]}}},
            f"missing  {nowhere}/*.log: the folder {nowhere} does",
        ),
        ({"logs": {"licenses": {"paths": [here]}}}, f"missing  {here} is a folder, expected a file pattern such as"),
        ({"logs": {"licenses": {"paths": [f"{nowhere}/a.log", str(site.licenses)]}}}, f"the folder {nowhere} does not"),
        ({"logs": {"licenses": {**licenses, "archive": nowhere}}}, f"missing  the archive {nowhere} does not exist"),
        ({"logs": {"licenses": {**licenses, "archive": f"{here}/no*"}}}, f"missing  the archive {here}/no* does not"),
        ({"logs": {"licenses": {**licenses, "archive": str(site.licenses)}}}, "does not exist, or is not a folder"),
        (
            {"probes": [{**tcp, "ca_file": f"{nowhere}.pem"}]},
            f"failed   probes[0].ca_file: {nowhere}.pem does not exist",
        ),
        ({"probes": [{**tcp, "ca_file": f"{here}/empty.pem"}]}, "contains no CA certificate in PEM"),
        (
            {"qrs": {"enabled": True, "ca_file": f"{nowhere}.pem"}},
            f"failed   certificate: {nowhere}.pem cannot be read",
        ),
        ({"state": {"file": here}}, f"failed   {here} is a folder, expected a file"),
        ({"state": {"file": f"{here}/empty.pem/s.db"}}, f"missing  no folder for {here}/empty.pem/s.db"),
    ]


@pytest.mark.parametrize("number", range(11))
def test_what_is_configured_and_missing_or_unusable_ends_with_1(
    capsys: pytest.CaptureFixture[str], site: Site, number: int
) -> None:
    site.with_samples()
    changes, said = with_faults(site)[number]
    for key, value in changes.items():
        site.settings[key] = site.settings.get(key, {}) | value if isinstance(value, dict) else value
    code, out = outcome(capsys, site)
    assert said in out
    assert code == 1
    assert out.endswith("not everything can be used: see above\n")


def test_a_missing_web_file_ends_with_1(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    site.with_samples()
    code, out = outcome(capsys, site, "--web.config.file", str(site.folder / "web.yml"))
    assert code == 1
    assert told("web file", "missing", f"{site.folder}/web.yml does not exist") in out
    (site.folder / "web.yml").write_text("tls_server_config: {cert_file: no.pem, key_file: no.key}")
    code, out = outcome(capsys, site, "--web.config.file", str(site.folder / "web.yml"))
    assert code == 1
    assert f"tls_server_config.cert_file: {site.folder}/no.pem: cannot be read" in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"license": {"grace": "2d"}}, "license.grace: 2d is short: Qlik tolerated 5 days"),
        ({"license": {"settle": "10m"}}, "license.settle: 10m is not shorter than the usual 10m between two syncs"),
        ({"logs": {"licenses": {"archive": "old"}}}, "logs.licenses.archive: old: a relative path"),
        ({"logs": {"licenses": {"paths": ["a/*.log"]}}}, "logs.licenses.paths[0]: a/*.log: a relative path"),
        (
            {"logs": {"licenses": {"paths": ["/a/**/x.log"]}}},
            "logs.licenses.paths[0]: /a/**/x.log: `**` means the same as `*`",
        ),
        (
            {"logs": {"licenses": {"paths": ["D:\\Logs\\*.log"]}}},
            "D:/Logs/*.log: a Windows path, but this is not Windows",
        ),
        ({"logs": {"licenses": {"archive": "%NOPE%/x"}}}, "%NOPE%/x: the variable %NOPE% is not set"),
        ({"state": {"file": "s.db"}}, "state.file: s.db: a relative path"),
        ({"probes": [{"target": "h:1", "interval": "5s"}]}, "probes[0].timeout: 10s is longer than the interval of 5s"),
    ],
)
def test_what_hardly_can_be_meant_is_a_warning(changes: dict[str, Any], said: str) -> None:
    found = [
        f"{key}: {text}" for key, text in advice_on(parse(json.dumps(changes), "c.yml", {}), load(None, {}), "linux")
    ]
    assert len(found) == 1
    assert said in found[0]


def test_the_defaults_raise_no_warning_and_windows_knows_its_own_paths() -> None:
    usual = load(None, {})
    assert list(advice_on(usual, usual, "linux")) == []
    assert list(advice_on(parse("qrs: {enabled: true}", "c.yml", {}), usual, "linux")) == []
    for path, warned in (
        ("D:\\x", 0),
        ("\\\\server\\share\\x", 0),
        ("//server/share/x", 0),
        ("D:x", 1),
        ("\\x", 1),
        ("x", 1),
    ):
        config = parse(json.dumps({"state": {"file": path}}), "c.yml", {})
        assert len(list(advice_on(config, usual, "win32"))) == warned, path


def test_warnings_are_printed_and_are_no_fault(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    site.with_samples()
    site.settings["license"] = {"grace": "1d"}
    code, out = outcome(capsys, site)
    assert code == 0
    assert "\nconfiguration     warning  license.grace: 1d is short" in out
    assert out.endswith("everything that was found can be used; 1 warning, see above\n")


def test_no_value_of_a_variable_is_printed(
    capsys: pytest.CaptureFixture[str], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "hunter4711")
    site.settings["logs"]["licenses"] = {"paths": [f"{site.folder}/${{WORD}}/*.log"], "archive": "/x/${WORD}"}
    site.settings["probes"] = [{"target": "${WORD}.invalid:443", "ca_file": "/x/${WORD}", "timeout": "2s"}]
    site.settings["qrs"] = {"enabled": True, "url": "https://${WORD}.invalid", "certificate": "/x/${WORD}.pem"}
    site.settings["state"]["file"] = "${WORD}/s.db"
    code, out = outcome(capsys, site)
    assert code == 1
    assert "4711" not in out
    assert out.count("${WORD}") >= 6


def test_a_ca_file_in_der_is_one(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    der = site.folder / "ca.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode()))
    site.settings["probes"] = [{"target": f"127.0.0.1:{closed_port()}", "proxy": "none", "ca_file": str(der)}]
    _, out = outcome(capsys, site)
    assert "probes[0].ca_file" not in out
    der.write_bytes(b"\x30\x82neither")
    code, out = outcome(capsys, site)
    assert code == 1
    assert f"probes[0].ca_file: {der} contains no CA certificate in PEM or DER" in out


@pytest.mark.slow
def test_a_probe_that_is_not_judged_is_told_with_its_cure_and_is_no_fault_of_the_setup(
    capsys: pytest.CaptureFixture[str], site: Site
) -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
    with listening(saying(answer)) as port:
        site.settings["probes"] = [{"target": "a.example:443", "proxy": f"http://127.0.0.1:{port}"}]
        code, out = outcome(capsys, site)
    assert code == 0
    assert told("probe", "unknown", "a.example:443: not judged, The proxy ").rstrip("\n") in out
    assert told("", "cure", "Give the probe credentials").rstrip("\n") in out


@pytest.mark.slow
def test_a_failed_probe_is_told_with_its_cure_and_is_no_fault_of_the_setup(
    capsys: pytest.CaptureFixture[str], site: Site
) -> None:
    target = f"127.0.0.1:{closed_port()}"
    site.settings["probes"] = [{"target": target, "protocol": "tcp", "proxy": "none"}]
    code, out = outcome(capsys, site)
    assert code == 0
    assert told("probe", "failed", f"{target}: tcp_refused, ").rstrip("\n") in out
    assert "\n                  cure     " in out


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that this account may not read: root ignores their modes, so the system's calls say so."""
    paths: list[str] = []

    def guarded(call: Any) -> Any:
        def asked(path: Any, *rest: Any, **more: Any) -> Any:
            if not isinstance(path, int) and os.fspath(path) in paths:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return call(path, *rest, **more)

        return asked

    monkeypatch.setattr(os, "open", guarded(os.open))
    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    return paths


def test_every_denied_read_names_account_and_path(
    capsys: pytest.CaptureFixture[str], site: Site, denied: list[str]
) -> None:
    site.with_samples()
    archive = site.folder / "archive"
    archive.mkdir()
    site.settings["logs"]["repository_trace"]["archive"] = str(archive)
    denied += [str(site.licenses), str(site.audit.parent), str(archive)]
    code, out = outcome(capsys, site)
    assert code == 1
    who = getpass.getuser()
    for log, path in (
        ("licenses", site.licenses),
        ("repository_audit", site.audit.parent),
        ("repository_trace", archive),
    ):
        assert told(log, "denied", f"the account {who} cannot read {path}: Permission denied") in out
    assert out.endswith("not everything can be used: see above\n")


def test_a_denied_folder_above_the_wildcard_is_named(
    capsys: pytest.CaptureFixture[str], site: Site, denied: list[str]
) -> None:
    site.settings["logs"]["licenses"]["paths"] = [str(site.folder / "nodes" / "*" / "licenses.log")]
    denied.append(str(site.folder / "nodes"))
    code, out = outcome(capsys, site)
    assert code == 1
    assert f"cannot read {site.folder}/nodes: Permission denied" in out


def test_an_account_without_a_name_is_told_by_its_number(
    capsys: pytest.CaptureFixture[str], site: Site, denied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    denied.append(str(site.audit.parent))
    assert f"the account {os.getuid()} cannot read" in outcome(capsys, site)[1]


def test_hazard_45_a_folder_that_never_answers_is_called_stuck(
    capsys: pytest.CaptureFixture[str], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, listed = threading.Event(), os.scandir

    def stuck(path: Any) -> Any:
        if str(path).startswith(str(site.folder / "dead")):
            release.wait()
        return listed(path)

    monkeypatch.setattr(os, "scandir", stuck)
    monkeypatch.setattr(check, "PATIENCE", 0.2)
    site.settings["logs"]["licenses"]["paths"] = [str(site.folder / "dead" / "*.log")]
    site.settings["logs"]["repository_audit"]["archive"] = str(site.folder / "dead")
    try:
        code, out = outcome(capsys, site)
    finally:
        release.set()
    assert code == 1
    assert told("licenses", "stuck", f"{site.folder}/dead/*.log: no answer within 0 s") in out
    assert told("repository_audit", "stuck", f"{site.folder}/dead: no answer within 0 s") in out


def test_a_pipe_or_a_folder_among_the_logs_is_no_fault(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    site.with_samples()
    os.mkfifo(site.licenses.parent / "pipe.log")
    (site.licenses.parent / "folder.log").mkdir()
    code, out = outcome(capsys, site)
    assert code == 0
    assert told("licenses", "ok", "1 file can be read") in out


@pytest.mark.slow
def test_a_repository_api_that_cannot_be_used_is_a_fault(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    site.settings["qrs"] = {"enabled": True, "url": f"https://localhost:{closed_port()}"}
    code, out = outcome(capsys, site)
    assert code == 1
    assert "\nqrs               failed   certificate: " in out


@pytest.mark.slow
def test_a_receiver_of_remote_write_is_asked_without_changing_anything(
    capsys: pytest.CaptureFixture[str], site: Site
) -> None:
    with Receiver() as receiver:
        site.settings["remote_write"] = {"url": receiver.url}
        code, out = outcome(capsys, site)
        assert code == 0
        assert told("remote write", "ok", f"{receiver.url}: answered 204 to a request without samples") in out
        assert "remote_write.labels: no label `site`, by which rules and dashboards group" in out
        assert receiver.samples == []
        receiver.always = 401
        code, out = outcome(capsys, site)
        assert code == 1
        assert (
            told("remote write", "failed", "the receiver (remote_write.url) answered 401: it does not accept")[:-1]
            in out
        )
    code, out = outcome(capsys, site)
    assert code == 1
    assert "the receiver (remote_write.url) refuses connections" in out


def test_a_bad_web_file_or_a_taken_message_name_is_unusable(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    web = site.folder / "web.yml"
    web.write_text("tls_server_confg: {cert_file: x}")
    assert main(["check", "--config.file", str(site.configured()), "--web.config.file", str(web)]) == 2
    assert "tls_server_confg: unknown key" in capsys.readouterr().err
    site.settings["messages"] = [{"name": "unknown", "log": "licenses", "match": "x", "means": "license_error"}]
    assert main(["check", "--config.file", str(site.configured())]) == 2
    assert "messages[0].name: found `unknown`" in capsys.readouterr().err
