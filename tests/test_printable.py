"""Characters that a terminal, a browser or a log reader obeys: planted in every input, looked for in every output."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cli import main
from exporter.log import start_logging
from exporter.masking import masked, masked_name
from exporter.printable import REPLACEMENT, printable, printable_lines, printable_tree
from exporter.probes import ProbeResult
from exporter.qrs.answers import overview_of
from exporter.services_conf import licenses_service_proxy
from exporter.status import events_of, status_of
from exporter.web.page import page_of
from tests.exporting import TRACE_HEADER
from tests.observed import AUDIT_HEADER, NOON, audit_row, board, history, licenses_line, observation, refusal, syncs
from tests.probe_peers import answering, listening
from tests.qrs_server import access_answer, license_answer

PLANTED = (
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x1b[31m",
    "\x9b2J",
    "\x00",
    "\x08",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u200b",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\U000e0041",
)
ALL = "".join(f"x{each}y" for each in PLANTED)
SURROGATE = "\\ud800"
"""As JSON writes it: half of a character."""


def obeyed(text: str) -> set[str]:
    """The characters of `text` that are more than a shape, but for line feeds."""
    return {
        f"U+{ord(each):04X}"
        for each in text
        if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") and each != "\n"
    }


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec=None)))
def test_whatever_the_text_only_shapes_are_left(text: str) -> None:
    shown = printable(text)
    assert not obeyed(shown)
    assert "\n" not in shown
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown
    assert printable(text, 20) == shown[:20].strip()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("zażółć gęślą jaźń, 日本語, مرحبا, 🚀", "zażółć gęślą jaźń, 日本語, مرحبا, 🚀"),
        ("a\tb\r\nc\u2028d\u00a0e\u3000f", "a b  c d e f"),
        ("\x1b[31mred\x9b0m", f"{REPLACEMENT}[31mred{REPLACEMENT}0m"),
        ("user\u200b\u202ename\ufe0f", "username"),
        ("half \ud800", f"half {REPLACEMENT}"),
    ],
)
def test_what_is_a_shape_stays(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable_lines(f"{text}\n{text}").count("\n") == 1 + text.count("\n") * 2
    assert printable_tree({text: [text, 1, None, {"a": (text,)}]})[shown][0] == printable_lines(text)


@pytest.mark.parametrize("planted", ["pass\u200bword=hunter2", "us\u202eer kowalska", "user\u00adname: kowalska"])
def test_a_character_that_is_not_seen_hides_nothing_from_the_masking(planted: str) -> None:
    assert "hunter2" not in masked(planted)
    assert "kowalska" not in masked(planted)


# --- every input, every output ---------------------------------------------------------------------------------------


def licenses() -> list[str]:
    lines = [*syncs(NOON - 7200, NOON - 3600)]
    lines.append(licenses_line(NOON - 900, f"unknown {ALL} wording"))
    lines.append(licenses_line(NOON - 800, "failed", errorMessage=f"dial tcp {ALL}: i/o timeout", user=ALL))
    lines.append(licenses_line(NOON - 700, "failed", errorMessage=f"lic is stale {ALL}"))
    lines.append(f'{{"message":"surrogate {SURROGATE} x","timestamp":"2026-11-02T11:59:00Z"}}')
    lines.append(f'{{"message":"lic is stale {SURROGATE}","level":"error","timestamp":"2026-11-02T11:59:10Z"}}')
    return [*lines, *(json.dumps(json.loads(line), ensure_ascii=False) for line in lines[-5:-2])]


def audit() -> list[str]:
    safe = re.sub("[\r\n\t\v\f\x1c-\x1e\x85\u2028\u2029]", "", ALL)
    rows = [refusal(NOON - 100 + number, f"kow{safe}{number}", number=number) for number in range(3)]
    return [*rows, audit_row(NOON - 20, safe, f"License {safe}", f"allocation {safe} refused", 40)]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    named = "lic\x1b]0;x\x07\u202e\x85" if sys.platform != "win32" else "lic\u202e"
    row = (
        f"1\t20261102T115900.000+0000\tERROR\tNODE\tLicense.X\t1\tid\tsvc\tlicense {ALL.replace(chr(9), '')} failed\tid"
    )
    for name, lines in (
        (f"Licenses/{named}.log", licenses()),
        (f"Repository/Audit/{named}_AuditSecurity_Repository.txt", [AUDIT_HEADER, *audit()]),
        (f"Repository/Trace/{named}_License_Repository.txt", [TRACE_HEADER, row]),
    ):
        file = folder / name
        file.parent.mkdir(parents=True)
        file.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    (tmp_path / "config.yml").write_text(
        json.dumps(
            {
                "logs": {
                    "licenses": {"paths": [f"{folder}/Licenses/*.log"]},
                    "repository_audit": {"paths": [f"{folder}/Repository/Audit/*.txt"]},
                    "repository_trace": {"paths": [f"{folder}/Repository/Trace/*.txt"]},
                },
                "probes": [],
                "web": {"listen_addresses": ["127.0.0.1:9"]},
            }
        )
    )
    return tmp_path / "config.yml"


def outputs(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    folder = str(site.parent / "logs")
    for words in (
        ("explain",),
        ("explain", "--json"),
        ("explain", "--unknown"),
        ("explain", "--unknown", "--json"),
        ("diagnose",),
        ("diagnose", "--json"),
        ("backfill", "-o", str(tmp_path / "out.om")),
        ("bundle", "-o", str(tmp_path / "given.zip")),
    ):
        main([words[0], "--config.file", str(site), *words[1:], folder])
        yield " ".join(words[:2]), "".join(capsys.readouterr())
    word = ALL.replace("\0", "")  # which no command line can hold
    for words in (("check",), ("explain", f"/nowhere/{word}"), ("diagnose", "--now", word, folder), ("probe", word)):
        main([words[0], "--config.file", str(site), *words[1:]])
        yield f"{words[0]} of bad words", "".join(capsys.readouterr())
    with zipfile.ZipFile(tmp_path / "given.zip") as bundle:
        for member in bundle.namelist():
            yield member, bundle.read(member).decode()


def test_no_command_shows_what_a_terminal_obeys(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = dict(outputs(site, tmp_path, capsys))
    assert {name: found for name, text in seen.items() if (found := obeyed(text))} == {}
    assert "unknown" in seen["explain"]
    assert seen["explain --json"].count("\n") == len(licenses()) + len(audit()) + 1, "no line is forged"


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.slow
def test_people_are_shown_at_a_terminal_without_what_it_obeys(site: Path) -> None:
    import pty
    import tty

    for words in (["explain"], ["explain", "--json"], ["explain", "--unknown"], ["diagnose"]):
        ours, theirs = pty.openpty()
        tty.setraw(theirs)  # no carriage returns of its own
        command = [sys.executable, "-m", "exporter", words[0], "--config.file", str(site), "--show-people", *words[1:]]
        process = subprocess.Popen([*command, str(site.parent / "logs")], stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while data := os.read(ours, 65536):
                shown += data
        os.close(ours)
        process.wait(60)
        text = re.sub(r"\x1b\[(?:0|1|2|3[1-6])m|\r\[[#.]*\][^\r]*|\r *\r", "", shown.decode())
        assert obeyed(text) == set(), words
        assert len(text) > 300


def test_the_page_and_the_api_hold_nothing_that_a_browser_obeys() -> None:
    license_read = license_answer(product=ALL, keyDetails=f"Valid To: {ALL}", **{ALL: 1})
    del license_read["isSubscription"]
    overview = overview_of(license_read, access_answer(), read_at=NOON - 5)
    failed = ProbeResult(
        target="h:1",
        role="backend",
        at=NOON - 6,
        ended=NOON - 5,
        success=False,
        reason="proxy_connect",
        phases={},
        detail=f"The proxy answered {ALL}.",
        issuer=printable(ALL, 64),
        issuer_expected=False,
    )
    for show_people in (False, True):
        rows = [row.replace("\0", "") for row in audit()]  # which the framing takes out
        seen = observation(licenses(), rows, probes=[history([failed])], qrs=board(overview), show_people=show_people)
        assert obeyed(page_of(seen)) == set()
        for answer in (status_of(seen), events_of(seen.journal)):  # type: ignore[arg-type]
            text = json.dumps(answer, ensure_ascii=False)
            assert obeyed(text) == set()
            assert obeyed(json.loads(text).__repr__()) == set()
            text.encode()


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_our_own_log_is_one_line_an_event_whatever_is_logged(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        start_logging("info", form)
        try:
            raise OSError(2, ALL, ALL)
        except OSError:
            logging.getLogger("exporter.x").exception("cannot read %s %s", ALL, "\ud800\n")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert obeyed(said) == set()


Answer = Callable[[], Iterator[int]]


@pytest.mark.parametrize("part", ["reason", "server", "location", "authenticate"])
def test_what_a_proxy_answers_reaches_the_terminal_as_text(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = "\x1b]0;t\x07\x9b2J\x7f".encode("latin-1")
    reason, extra = b"Forbidden", b""
    status = b"407" if part == "authenticate" else b"403"
    if part == "reason":
        reason = b"For\x9bbidden"
    elif part == "server":
        extra = b"Server: squid\x9b2J\xad\r\n"
    elif part == "location":
        extra = b"Location: http://portal\x9b.example/" + said + b"\r\n"
    else:
        extra = b"Proxy-Authenticate: Bas\x9bic realm=x\r\n"
    answer = b"HTTP/1.1 %s %s\r\n%sContent-Length: 0\r\n\r\n" % (status, reason, extra)
    with listening(answering(answer)) as port:
        main(["probe", "backend.example:443", "--proxy", f"http://127.0.0.1:{port}", "--timeout", "5s"])
    out = "".join(capsys.readouterr())
    assert obeyed(out) == set()
    assert "failed" in out or "not judged" in out


def test_a_proxy_in_services_conf_with_such_characters_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "Qlik" / "Sense" / "ServiceDispatcher" / "services.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[licenses.parameters]\n-proxy-uri=http://pro\x1b]0;x\x07xy\u202e:3128\n", encoding="utf-8")
    found = licenses_service_proxy({"ProgramFiles": str(tmp_path)})
    assert found.state == "not understood"
    assert obeyed(found.sentence) == set()


def test_names_of_files_are_text() -> None:
    assert obeyed(masked_name(f"/logs/{ALL}_License_Repository.txt")) == set()
    assert obeyed(masked_name(f"C:\\logs\\{ALL}.log")) == set()
