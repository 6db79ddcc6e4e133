"""The status page: complete, masked, and as good in a real browser as on paper."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from browser import Tab, chromium
from observed import (
    ATTEMPT,
    DAY,
    HOUR,
    MINUTE,
    NO_SUCH_HOST,
    NOON,
    STALE,
    board,
    history,
    licenses_line,
    observation,
    refusal,
    repository,
    result,
    syncs,
)

from exporter.config import LicenseConfig
from exporter.events import LOG_NAMES
from exporter.observation import LogFigures, Observation
from exporter.qrs import AccessType, LicenseOverview, UnusedOverview, UnusedSeats
from exporter.remote_write.figures import RemoteWriteFigures
from exporter.status import Status, events_of, status, status_of
from exporter.web.page import REFRESH, SCRIPT, STYLE, page_of


def incident(show_people: bool = False) -> Observation:
    """A site in trouble: the way closed, the license stale, users refused, an unknown wording."""
    licenses = [
        *syncs(NOON - 10 * HOUR, NOON - 6 * HOUR),
        *syncs(NOON - 5 * HOUR, NOON - 5 * MINUTE, error=NO_SUCH_HOST),
        licenses_line(NOON - 4 * MINUTE, STALE),
        *(licenses_line(NOON - 30 * MINUTE + age, f"cache of node QLIKNODE{age} rebuilt") for age in range(3)),
    ]
    audit = [refusal(NOON - 10 * age, f"kowalska{age}", number=age) for age in range(1, 13)]
    audit += [refusal(NOON - 5 * age, "<b>burster", sessions=5, number=50 + age) for age in range(1, 6)]
    probes = [
        history([result(NOON - age * MINUTE, "dns" if age < 90 else None) for age in range(200, 0, -1)]),
        repository([result(NOON - 20)]),
    ]
    seats = {"professional": AccessType(10, 10, 7, 0, 1, 0), "analyzer": AccessType(50, 12, 9, 38, 0, 0)}
    overview = LicenseOverview(read_at=NOON - MINUTE, expiry=NOON + 200 * DAY, expired=False, valid=True,
                               kind="signed_key", product="Qlik Sense", access=seats, capacity_allocated=60_000.0,
                               capacity_used=30_000.0, tokens=100.0, tokens_available=7.0,
                               sessions_per_user_max=5.0)  # fmt: skip
    idle = {"professional": UnusedSeats(10, {"30d": 4, "60d": 3, "90d": 2, "never": 1})}
    unused = UnusedOverview(read_at=NOON - HOUR, access=idle)
    return observation(
        licenses, audit, probes=probes, qrs=board(overview, unused), started=NOON - 2 * DAY, show_people=show_people
    )


def healthy() -> Observation:
    probes = [history([result(NOON - age * MINUTE) for age in range(200, 0, -1)])]
    return observation(syncs(NOON - 23 * HOUR, NOON - 5 * MINUTE), [], probes=probes, started=NOON - 9 * DAY)


class Outline(HTMLParser):
    """What a screen reader finds: landmarks, headings, tables; and whether every element is closed."""

    VOID = {"meta", "link", "br", "img", "rect"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.inline_styles = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href") and value and value.startswith(("/", "http:", "https:")):
                self.outside.append(value)
            self.inline_styles += name == "style"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("seen", [incident(), healthy(), observation()])
def test_the_page_is_well_formed_and_has_its_landmarks(seen):
    outline = Outline(page_of(seen))
    assert outline.open == []
    assert {"header", "main", "footer", "nav", "h1", "h2", "caption"} <= set(outline.seen)
    assert outline.seen.count("h1") == 1
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.outside == []
    assert outline.inline_styles == 0
    assert outline.seen.count("script") == 1


def test_the_page_tells_what_the_verdict_says_and_what_was_observed():
    text = page_of(incident())
    for told in (
        "The license is stale",
        "no access pass",
        "nslookup",
        "Locked out",
        "license.qlikcloud.com:443",
        "localhost:4242",
        "No access pass",
        "Qlik Sense",
        'href="metrics"',
        "cache of node &lt;id&gt; rebuilt",
    ):
        assert told in text, told


def test_people_are_masked_on_the_page_and_in_the_json_unless_the_site_shows_them():
    seen = incident()
    everything = page_of(seen) + json.dumps(status_of(seen)) + json.dumps(events_of(seen.journal))
    for secret in ("kowalska", "burster", "QLIKNODE", "CONTOSO"):
        assert secret.casefold() not in everything.casefold()
    shown = incident(show_people=True)
    everything = page_of(shown) + json.dumps(status_of(shown)) + json.dumps(events_of(shown.journal))
    for secret in ("kowalska", "burster", "QLIKNODE", "CONTOSO"):
        assert secret.casefold() not in everything.casefold(), "for somebody who may not see them"
    assert not status(shown).people_shown
    text = page_of(shown, people=True)
    assert "kowalska1" in text
    assert "&lt;b&gt;burster" in text
    assert "<b>burster" not in text


def test_the_api_says_the_same_as_the_page_and_can_be_read_back():
    seen = incident()
    data = json.loads(json.dumps(status_of(seen)))
    assert msgspec.convert(data, Status) == status(seen)
    assert data["verdict"]["verdict"] == "license_stale"
    assert data["license"]["stale"] is True
    assert data["refusals"][0] == {"reason": "no_access_pass", "users_last_hour": 12, "last": NOON - 10, "total": 12}
    assert len(data["timeline"]["slots"]) == 48
    assert data["probes"][0]["results"][0]["reason"] == "dns"
    assert data["qrs"]["seats"][0]["available"] == 0
    (idle,) = data["qrs"]["unused"]
    assert idle == {
        "access_type": "professional",
        "allocated": 10,
        "unused": {"30d": 4, "60d": 3, "90d": 2, "never": 1},
    }
    events = events_of(incident().journal)
    assert data["events"][0]["count"] == 5
    assert events["events"][0]["meaning"].startswith("user refused")
    assert events["unknown"][0]["count"] == 3


def test_a_probes_certificate_clock_and_stages_and_what_was_bought_are_shown():
    probed = msgspec.structs.replace(
        result(NOON - 5, issuer_expected=False, issuer="Contoso <Proxy> CA", clock_skew=-300.0, proxied=True),
        tls_version="TLSv1.3",
        cert_expiry=NOON + 3 * DAY,
        phases={"dns": 0.01, "connect": 0.02, "proxy": 0.03, "tls": 0.04, "http": 0.05},
    )
    seen = replace(
        incident(), probes=[history([probed])], component_failures={"tail": 2, "web": 0}, state_last_save=NOON - 9
    )
    text = page_of(seen)
    for told in (
        "Reached</span> through the proxy",
        "TLSv1.3, Contoso &lt;Proxy&gt; CA, NOT expected",
        "2026-11-05 12:00:00 UTC, in 3 d",
        "differs by 5 min",
        "dns 10 ms, connect 20 ms, proxy 30 ms, tls 40 ms, http 50 ms",
        "500 of 1,000 used this month",
        "7 of 100 available",
        "5 of 5",
        "Allocated licenses that nobody uses",
        "counted 1 h ago",
        "restarted: tail 2 times",
        "state saved 9 s ago",
    ):
        assert told in text, told


def test_the_timeline_shows_failures_in_words_that_no_message_has():
    lines = [*syncs(NOON - 3 * HOUR, NOON - 2 * HOUR)]
    for at in (NOON - 90 * MINUTE, NOON - HOUR):
        lines += [licenses_line(at, ATTEMPT), licenses_line(at + 2, "the moon stood before the sun", level="error")]
    seen = observation([*lines, licenses_line(NOON - MINUTE, "GET /health 200")])
    assert seen.state.counters.sync_failures == 2
    marks = [slot["sync"] for slot in status_of(seen)["timeline"]["slots"]]
    assert marks.count("failed") == 2
    assert "with a failed one: 2" in page_of(seen)


def test_what_is_pushed_and_what_waits_is_shown():
    assert status_of(healthy())["remote_write"] is None
    pushes = RemoteWriteFigures(pending=150, oldest_pending=NOON - 400, highest_sent=NOON - 430)
    text = page_of(replace(healthy(), remote_write=pushes))
    assert "samples of 7 min ago were pushed" in text
    assert "samples since 7 min ago wait to be pushed; the log and <code>check</code> say why" in text
    data = status_of(replace(healthy(), remote_write=pushes))["remote_write"]
    assert data == {"highest_sent": NOON - 430, "pending": 150, "oldest_pending": NOON - 400}
    well = page_of(replace(healthy(), remote_write=replace(pushes, oldest_pending=NOON - 1)))
    assert "wait to be pushed" not in well


def test_a_probe_that_is_not_judged_is_shown_as_such_with_the_reason_and_the_last_success_of_before():
    unjudged = msgspec.structs.replace(
        result(NOON - 5, judged=False, proxied=True), detail="The proxy (407) accepts only NTLM."
    )
    seen = replace(healthy(), probes=[history([unjudged])])
    seen.state.probe_success = {unjudged.target: NOON - DAY}
    text, data = page_of(seen), status_of(seen)
    assert "? Not judged</span>, 5 s ago: The proxy (407) accepts only NTLM" in text
    assert "? not judged" in text
    assert "1; failed: none" in text
    (probe,) = data["probes"]
    assert (probe["attempts"], probe["failures"], probe["last_success"]) == (1, {}, NOON - DAY)
    assert (probe["results"][0]["success"], probe["results"][0]["reason"]) == (None, None)
    assert "accepts only NTLM" in probe["results"][0]["detail"]
    assert "credentials that the proxy accepts" in probe["cure"]
    assert sum(slot["probes_good"] + slot["probes_bad"] for slot in data["timeline"]["slots"]) == 0


def test_a_lockout_that_is_due_and_a_backend_never_probed_are_said():
    late = observation([*syncs(NOON - 7 * DAY, NOON - 6 * DAY), *syncs(NOON - DAY, NOON, error=NO_SUCH_HOST)],
                       probes=[history([])])  # fmt: skip
    text = page_of(late)
    assert 'href="runbooks/QlikLicenseLockoutImminent"' in text
    assert "Due 24 h 10 min ago" in text
    assert "Not probed yet." in text


def test_attempts_of_unknown_end_are_shown_with_the_first_of_them():
    lines = syncs(NOON - 5 * HOUR, NOON - 90 * MINUTE)
    for age in (80, 60, 40, 20):
        lines.append(licenses_line(NOON - age * MINUTE, ATTEMPT))
        lines.append(licenses_line(NOON - age * MINUTE + 5, "assignment update failed: quota", caller="quota.go:7"))
    seen = observation(lines)
    license = status(seen).license
    assert license.unclear_attempts == seen.state.unclear_attempts >= 4
    assert license.unclear_since == NOON - 80 * MINUTE
    assert f"{license.unclear_attempts}, since 2026-11-02 10:40:00 UTC, 1 h 20 min ago" in page_of(seen)
    good = status(observation(syncs(NOON - 5 * HOUR, NOON - 10 * MINUTE))).license
    assert (good.unclear_attempts, good.unclear_since, good.silence_doubted) == (0, None, "")


def test_doubt_of_silence_is_shown_with_its_reason():
    seen = observation([*syncs(NOON - 30 * HOUR, NOON - 40 * MINUTE), licenses_line(NOON - 60, STALE)])
    license = status(seen).license
    assert license.silence_doubted.startswith(
        "The Licenses service reported its license as stale at 2026-11-02 11:59:00"
    )
    assert "Silence is not taken for a success" in page_of(seen)
    assert "Silence is not" not in page_of(healthy())


def test_an_old_report_of_staleness_that_nothing_confirms_is_not_called_a_lockout():
    old = page_of(observation([licenses_line(NOON - 80 * HOUR, STALE)]))
    assert "Locked out" not in old
    assert "Reported stale" in old
    assert "Locked out" in page_of(observation([licenses_line(NOON - 60, STALE)]))


def test_an_observation_of_nothing_makes_a_page_that_says_so():
    text = page_of(observation(logs={log: LogFigures() for log in LOG_NAMES}, started=NOON))
    assert "still reading the logs" in text
    assert "Not known" in text
    offline = page_of(observation([], license=LicenseConfig(kind="offline")))
    assert "No sync clock" in offline


# --- in a real browser -----------------------------------------------------------------------------------------------


def policy(*, style: str, script: str) -> str:
    """The policy that the server sends with the page: this style, this script, and nothing else."""

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src {digest(style)}; script-src {digest(script)}; connect-src 'self'"
    )


def hasty(page: str) -> str:
    """The page, which renews itself soon."""
    return page.replace(f'data-refresh="{REFRESH}"', 'data-refresh="0.3"')


@contextlib.asynccontextmanager
async def served(*texts: str, at: str = "/", login: bool = False) -> AsyncIterator[str]:
    """Pages `at` a path, one after the other and then none, under the server's policy; elsewhere is another site."""
    left = list(texts)
    headers = {"Content-Security-Policy": policy(style=STYLE, script=SCRIPT)}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if login and request.headers.get("Authorization") != "Basic YWxpY2U6d29uZGVy":
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        if request.path != at:
            elsewhere = "<title>Elsewhere</title><header>x</header><main>x</main><footer>x</footer>"
            return web.Response(text=elsewhere, content_type="text/html")
        if not left:
            return web.Response(status=503)
        text = left[0] if len(texts) == 1 else left.pop(0)
        return web.Response(text=text, content_type="text/html", headers=headers)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://{'alice:wonder@' if login else ''}127.0.0.1:{runner.addresses[0][1]}{at}"
    finally:
        await runner.cleanup()


WIDER_THAN_WINDOW = "document.documentElement.scrollWidth - window.innerWidth"
CONTRASTS = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3) };
  const light = colour => rgb(colour).map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ground = element => { for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(colour)) return colour } return 'Canvas' };
  let worst = 99;
  for (const element of document.querySelectorAll('p,h1,h2,h3,li,td,th,dt,dd,a,span,summary,caption,code')) {
    if (!element.offsetParent || element.classList.contains('skip')) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
    worst = Math.min(worst, (a + .05) / (b + .05));
  }
  return worst;
})()
"""


def pictures() -> Path | None:
    """Where to keep the pictures, if somebody wants to look at them."""
    folder = os.environ.get("PAGE_PICTURES")
    return Path(folder) if folder else None


async def looked_at(tab: Tab, address: str, name: str, *, dark: bool, width: int) -> None:
    await tab.open(address, dark=dark, width=width)
    assert await tab.value(WIDER_THAN_WINDOW) <= 0, f"{name}: wider than its window"
    assert await tab.value(CONTRASTS) >= 4.5, f"{name}: too little contrast"
    if (folder := pictures()) is not None:
        await tab.picture(folder / f"{name}.png")


@pytest.mark.slow
def test_a_real_browser_shows_the_page_in_both_themes_wide_and_narrow_without_a_complaint():
    async def browse() -> None:
        async with chromium() as tab:
            for state, seen in (("incident", incident()), ("healthy", healthy())):
                async with served(page_of(seen)) as address:
                    for dark in (False, True):
                        for width in (1280, 360):
                            name = f"{state}-{'dark' if dark else 'light'}-{width}"
                            await looked_at(tab, address, name, dark=dark, width=width)
                    assert await tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"
                    outside = [url for url in tab.requests if not url.startswith((address, "about:", "data:"))]
                    assert outside == []
                    tab.requests.clear()
            assert tab.complaints == []

    asyncio.run(browse())


@pytest.mark.slow
def test_the_page_can_be_clicked_and_walked_by_keyboard():
    async def browse() -> None:
        async with chromium() as tab, served(page_of(incident())) as address:
            await tab.open(address)
            await tab.press("Tab", 9)
            assert await tab.value("document.activeElement.className") == "skip"
            await tab.press("Enter", 13, "\r")
            assert await tab.value("location.hash") == "#content"
            history = "section[aria-labelledby='probe-license.qlikcloud.com:443'] details"
            assert await tab.value(f'document.querySelector("{history}").open') is False
            await tab.click(f"{history} summary")
            assert await tab.value(f'document.querySelector("{history}").open') is True
            await tab.press("Enter", 13, "\r")
            assert await tab.value(f'document.querySelector("{history}").open') is False
            await tab.value("document.querySelector('footer a').focus()")
            await tab.press("Enter", 13, "\r")
            await tab.comes_true("location.pathname == '/metrics'")
            assert tab.complaints == []

    asyncio.run(browse())


@pytest.mark.slow
def test_the_page_renews_itself_without_closing_what_is_open_and_says_when_it_cannot():

    async def browse() -> None:
        pages = (hasty(page_of(incident())), page_of(incident()).replace("The license is stale", "Renewed"))
        async with chromium() as tab, served(*pages) as address:
            await tab.open(address)
            await tab.value("document.querySelector('#seats_exhausted-head').click()")
            await tab.value("document.querySelector('#seats_exhausted-head').focus()")
            await tab.comes_true("document.querySelector('h1').textContent.startsWith('Renewed')")
            assert await tab.value("document.querySelector('#seats_exhausted').open") is True
            assert await tab.value("document.activeElement.id") == "seats_exhausted-head"
            await tab.comes_true("!document.querySelector('#away').hidden")
            assert all("503" in complaint for complaint in tab.complaints)

    asyncio.run(browse())


LOGIN_PAGE = (
    "<!DOCTYPE html><html><title>Log in</title><header></header><main><form></form></main><footer></footer></html>"
)


@pytest.mark.parametrize("login", [False, True])
@pytest.mark.slow
def test_below_a_path_and_behind_a_login_the_page_renews_itself_and_its_links_lead_there(login: bool):

    async def browse() -> None:
        pages = (hasty(page_of(incident())), page_of(incident()).replace("The license is stale", "Renewed"))
        async with chromium() as tab, served(*pages, at="/exporters/qlik/", login=login) as address:
            await tab.open(address)
            await tab.comes_true("document.querySelector('h1').textContent.startsWith('Renewed')")
            links = "[...document.querySelectorAll('footer a')].map(link => new URL(link.href).pathname).join()"
            paths = ("metrics", "api/v1/status", "api/v1/events", "config", "runbooks/", "-/ready")
            assert await tab.value(links) == ",".join(f"/exporters/qlik/{path}" for path in paths)

    asyncio.run(browse())


@pytest.mark.parametrize("other", [LOGIN_PAGE, "", "<p>maintenance</p>", '{"page": 1}'])
@pytest.mark.slow
def test_an_answer_that_is_not_this_page_is_said_and_never_shown(other: str):

    async def browse() -> None:
        async with chromium() as tab, served(hasty(page_of(incident())), other) as address:
            await tab.open(address)
            await tab.comes_true("!document.querySelector('#away').hidden")
            assert (await tab.value("document.querySelector('h1').textContent")).startswith("The license is stale")
            assert "could not be updated" in await tab.value("document.querySelector('#away').textContent")
            assert "null" not in await tab.value("document.body.textContent")

    asyncio.run(browse())
