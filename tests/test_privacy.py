"""Nothing personal and no secret leaves by any command: planted in every input, looked for in every output."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from observed import AUDIT_HEADER, NOON, audit_row, history, licenses_line, observation, refusal, result, syncs

from exporter.cli import main
from exporter.status import events_of, status_of
from exporter.web.page import page_of

SECRETS = (
    "kowalska",  # people
    "Anna",
    "müller",
    "jzimmermann",
    "CONTOSO",  # their directory
    "qlikprod7",  # machines
    "10.20.30.40",
    "fileserver9",
    "1234567890123456",  # license numbers and keys
    "9876 5432",
    "eyJhbGciOiJSUzI1NiJ9",
    "hunter2",  # passwords
    "s3cr3tproxy",
    "26ab589a897f6e56",  # ids
    "264ff070",
    "Quarterly Salaries",  # names of apps
)
KEY = "eyJhbGciOiJSUzI1NiJ9.eyJsaWNlbnNlIjoiMTIzNDU2Nzg5MDEyMzQ1NiJ9.c2lnbmF0dXJl"


def licenses() -> list[str]:
    unknown = (
        "definition of CONTOSO refreshed on qlikprod7 for Anna Kowalska",
        "welcome back jzimmermann (10.20.30.40)",
        "assigned professional access to kowalska",
        "user müller released",
        f"the key {KEY} was taken for license 1234567890123456",
        "license 9876 5432 1098 7654 was taken",
        "password hunter2 was refused by http://kowalska:hunter2@qlikprod7.contoso.local:3128",
        "\\\\fileserver9\\share\\kowalska\\x.pem cannot be read",
        "opened 'Quarterly Salaries of Kowalska'",
    )
    errors = (
        'Get "https://kowalska:s3cr3tproxy@qlikprod7.contoso.local": proxyconnect tcp: Proxy Authentication Required',
        "dial tcp 10.20.30.40:443: i/o timeout",
        "license of CONTOSO\\kowalska: lic is stale",
    )
    secret = {"licenseNumber": "1234567890123456", "key": KEY, "userId": "kowalska", "corrId": "26ab589a897f6e56:0:1"}
    return [
        *syncs(NOON - 7200, NOON - 3600),
        *(licenses_line(NOON - 1000 + place, text, **secret) for place, text in enumerate(unknown)),
        *(
            licenses_line(NOON - 500 + place, "failed", errorMessage=text, **secret)
            for place, text in enumerate(errors)
        ),
        '{"message":"not valid, user kowalska, key ' + KEY + '","timestamp":xxx}',
    ]


def audit() -> list[str]:
    rows = [refusal(NOON - 100 + number, f"kowalska{number}", number=number) for number in range(12)]
    rows += [refusal(NOON - 50 + number, "jzimmermann", sessions=5, number=20 + number) for number in range(6)]
    rows.append(audit_row(NOON - 20, "müller", "Command=Open app;Result=200;ResultText=Success",
                          "App 'Quarterly Salaries' opened by CONTOSO\\müller from 10.20.30.40", 40))  # fmt: skip
    rows.append("41\t14.54.7.0\ttorn row of CONTOSO\tkowalska\tUsageDenied")
    return [AUDIT_HEADER, *(row.replace("QLIKNODE1", "qlikprod7") for row in rows)]


def trace() -> list[str]:
    header = "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2"
    row = "20261102T115900.000+0000\tERROR\tqlikprod7\tLicense.Repository.Core.Licensing.X\t1\t264ff070-6306-4f1b-85db-21a8"
    return [header, f"1\t{row}468939b5\tCONTOSO\\kowalska\tcould not refresh 1234567890123456 for Anna Kowalska\tid"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose logs, files and configuration are full of secrets; its configuration."""
    folder = tmp_path / "fileserver9"
    for name, lines in (
        ("Licenses/qlikprod7_licenses.log", licenses()),
        ("Repository/Audit/qlikprod7_AuditSecurity_Repository.txt", audit()),
        ("Repository/Trace/qlikprod7_License_Repository.txt", trace()),
    ):
        file = folder / name
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    config = tmp_path / "config.yml"
    config.write_text(
        f"""
logs:
  licenses: {{paths: ['{folder}/Licenses/*.log'], archive: '//fileserver9/kowalska/ArchivedLogs'}}
  repository_audit: {{paths: ['{folder}/Repository/Audit/*.txt']}}
  repository_trace: {{paths: ['{folder}/Repository/Trace/*.txt']}}
messages:
  - {{name: taught, log: licenses, match: 'definition of CONTOSO', means: license_error}}
probes:
  - {{target: 'qlikprod7.contoso.local:9', role: backend, proxy: 'http://kowalska:s3cr3tproxy@127.0.0.1:9', timeout: 2s}}
qrs: {{enabled: true, url: 'https://127.0.0.1:9', server_name: qlikprod7.contoso.local, key_password: hunter2,
       user: 'UserDirectory=CONTOSO; UserId=kowalska', certificate: '{folder}/client.pem'}}
remote_write: {{url: 'https://qlikprod7.contoso.local:9/write', basic_auth: {{username: kowalska, password: hunter2}},
       headers: {{X-Scope-OrgID: kowalska}}, labels: {{site: production, instance: 'qlikprod7.contoso.local:10188'}}}}
web: {{listen_addresses: ['127.0.0.1:9']}}
""",
        encoding="utf-8",
    )
    return config


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret.casefold() in text.casefold()]


def outputs(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    folder = str(site.parent / "fileserver9")
    for words in (
        ("explain",),
        ("explain", "--json"),
        ("explain", "--unknown"),
        ("explain", "--unknown", "--json"),
        ("explain", "--show-people"),
        ("diagnose", "--json"),
        ("diagnose", "--show-people"),
        ("backfill", "-o", str(tmp_path / "out.om")),
        ("bundle", "-o", str(tmp_path / "given.zip")),
    ):
        main([words[0], "--config.file", str(site), *words[1:], folder])
        yield " ".join(word for word in words if not word.startswith(str(tmp_path))), capsys.readouterr().out
    main(["bundle", "--config.file", str(site), "-o", str(tmp_path / "machine.zip")])
    yield "bundle of this machine", capsys.readouterr().out
    yield "the history", (tmp_path / "out.om").read_text()
    for name in ("given.zip", "machine.zip"):
        with zipfile.ZipFile(tmp_path / name) as bundle:
            for member in bundle.namelist():
                yield f"{name}: {member}", bundle.read(member).decode()


def test_no_command_shows_a_person_a_machine_a_key_or_a_password(site, tmp_path, capsys):
    seen = dict(outputs(site, tmp_path, capsys))
    assert {name: found for name, text in seen.items() if (found := leaks(text))} == {}
    assert all(seen[name] for name in seen if not name.startswith(("backfill", "bundle")))
    assert "user refused: no_access_pass" in seen["explain"]
    assert "access_denied" in seen["explain --json"]


@pytest.mark.slow
def test_the_input_of_explain_is_masked_too():
    lines = "\n".join(licenses()).encode()
    command = [sys.executable, "-m", "exporter", "explain", "-", "--show-people"]
    done = subprocess.run(command, input=lines, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert leaks(done.stdout.decode()) == []
    assert b"--show-people works on a terminal only" in done.stderr


def test_the_page_and_the_api_show_none_of_it():
    seen = observation(licenses(), audit()[1:], probes=[history([result(NOON - 5, "dns")])])
    told = page_of(seen) + json.dumps(status_of(seen), ensure_ascii=False)
    told += json.dumps(events_of(seen.journal), ensure_ascii=False)
    assert leaks(told) == []


def test_the_bundle_is_complete_and_tells_what_is_in_it(site, tmp_path, capsys):
    assert main(["bundle", "--config.file", str(site), "-o", str(tmp_path / "b.zip")]) == 0
    assert "Review it before you send it" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        names = bundle.namelist()
        contents = bundle.read("CONTENTS.txt").decode()
        state = json.loads(bundle.read("state.json"))
        files = json.loads(bundle.read("files.json"))
        verdict = json.loads(bundle.read("verdict.json"))
        status = json.loads(bundle.read("status.json"))
        config = json.loads(bundle.read("config.json"))
    assert all(name in contents for name in names if name != "CONTENTS.txt")
    assert "key" not in state
    assert all(isinstance(users, int) for users in state["refused"].values())
    assert state["counters"]["denials"]["no_access_pass"] == 13
    assert [file["name"] for file in files["files"]][1:] == [
        "<host>_AuditSecurity_Repository.txt",
        "<host>_License_Repository.txt",
    ]
    assert verdict["verdict"]
    assert status["probes"][0]["results"][0]["reason"] == "proxy_connect"
    assert config["messages"][0]["name"] == "taught"
    assert config["probes"][0]["role"] == "backend"
    assert config["license"]["grace"] == "5d"
