"""The runbooks over HTTP: a page for each alert, as it is in the repository, and nothing that a page could smuggle in."""

import re
from pathlib import Path

import bcrypt
import pytest
from shipped import RUNBOOKS, alerts
from web_stand_in import site

from exporter.web.runbooks import pages

pytestmark = pytest.mark.windows

NAMES = sorted({alert.name for alert in alerts()})


def test_the_list_links_to_the_page_of_every_alert() -> None:
    with site() as running:
        status, headers, body = running.ask("/runbooks/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert re.findall(r'<li><a href="(\w+)">', body.decode()) == NAMES


def test_every_alert_has_its_page_and_every_link_of_a_page_leads_somewhere() -> None:
    with site() as running:
        for name in NAMES:
            status, headers, body = running.ask(f"/runbooks/{name}")
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            text = body.decode()
            assert f"<h1>{name}</h1>" in text
            for link in re.findall(r'href="([^"]*)"', text):
                assert link in ("../", "./", *NAMES) or link.startswith("https://"), (name, link)


def test_a_page_may_use_its_own_style_and_nothing_else() -> None:
    with site() as running:
        _, headers, body = running.ask("/runbooks/QlikLicenseStale")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    )
    assert "unsafe" not in policy
    assert "script" not in policy
    assert not re.search(rb"<script|<img|<iframe|\son\w+=|style=", body)


@pytest.mark.parametrize("path", ["/runbooks", "/runbooks/Nothing", "/runbooks/../config", "/runbooks/%2e%2e/config"])
def test_what_is_no_runbook_is_not_found(path: str) -> None:
    with site() as running:
        status, _, body = running.ask(path)
    assert (status, body) == (404, b"Not Found.\n")


def test_html_in_a_page_is_shown_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "QlikLicenseNew.md").write_text(
        "# New\n\n<script>alert(1)</script> [x](javascript:alert(1))\n", "utf-8"
    )
    monkeypatch.setattr("exporter.web.runbooks.asset", lambda _: tmp_path)
    text = pages.__wrapped__()["/runbooks/QlikLicenseNew"]
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert 'href="javascript' not in text


def test_runbooks_need_a_login_only_where_the_status_page_does(tmp_path: Path) -> None:
    users = f"basic_auth_users:\n  prometheus: {bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n"
    web = tmp_path / "web.yml"
    web.write_text(users)
    with site(str(web)) as running:
        assert running.ask("/runbooks/")[0] == running.ask("/")[0] == 401
    web.write_text(users + "auth_exclude_paths: [/]\n")
    with site(str(web)) as running:
        assert running.ask("/runbooks/QlikLicenseStale")[0] == running.ask("/")[0] == 200
        assert running.ask("/config")[0] == 401


def test_the_pages_are_those_of_the_repository() -> None:
    assert {path.removeprefix("/runbooks/") for path in pages()} - {""} == {
        page.stem for page in RUNBOOKS.glob("*.md")
    } - {"README"}
