"""A real Chromium, driven over the DevTools protocol: load, look, click, press keys. For tests only."""

import asyncio
import base64
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

SECONDS = 60.0
"""How long the browser may take for anything."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-default-apps",
    "--metrics-recording-only",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "about:blank",
)


class Tab:
    """One page of the browser, and what it complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []
        """Console errors, exceptions, and violations of the page's own policy."""
        self.requests: list[str] = []
        """Every address that was asked for."""

    async def listen(self) -> None:
        """Take what the browser says, until it closes."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif told["method"] == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            elif told["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                entry = told["params"].get("entry", told["params"])
                if entry.get("level", "error") in ("error", "warning"):
                    self.complaints.append(str(entry))

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        told = await asyncio.wait_for(self._answers[number], SECONDS)
        assert "error" not in told, told
        return told["result"]

    async def open(self, address: str, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Load a page in a window of this size, in the light or the dark theme."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[theme])
        self._loaded.clear()
        await self.ask("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), SECONDS)

    async def value(self, expression: str) -> Any:
        """What a piece of script in the page results in."""
        told = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def comes_true(self, expression: str) -> None:
        """Wait until a piece of script in the page results in true."""
        async with asyncio.timeout(SECONDS):
            while not await self.value(expression):  # noqa: ASYNC110  # the page sends no event for it
                await asyncio.sleep(0.05)

    async def click(self, selector: str) -> None:
        """A real click of the mouse in the middle of the element."""
        await self.value(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        x, y = await self.value(
            f"(() => {{const r = document.querySelector({selector!r}).getBoundingClientRect();"
            "return [r.x + Math.min(r.width / 2, 60), r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """One key."""
        for kind in ("keyDown", "keyUp"):
            await self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )

    async def picture(self, file: Path) -> None:
        """A picture of the whole page."""
        told = await self.ask("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        await asyncio.to_thread(file.write_bytes, base64.b64decode(told["data"]))


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A fresh browser with one tab; it and its profile are gone afterwards."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "the tests of the status page need Chromium: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--user-data-dir={profile}",
            *FLAGS,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
                async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    tab = Tab(socket)
                    listening = asyncio.create_task(tab.listen())
                    yield tab
                    listening.cancel()
        finally:
            process.terminate()
            await process.wait()


async def _port(file: Path) -> int:
    """The port that the browser chose, once it has written it."""
    async with asyncio.timeout(SECONDS):
        while True:
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int((await asyncio.to_thread(file.read_text)).splitlines()[0])
            await asyncio.sleep(0.05)
