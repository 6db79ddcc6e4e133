"""The routes: requests and their responses. The only module that handles HTTP requests."""

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import math
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exporter.priority import answering
from exporter.web.callers import GUARDED_PATHS, Logins, RateLimit, group_of, is_from_elsewhere, is_local
from exporter.web.limits import Limits
from exporter.web.listener import Listener
from exporter.web.runbooks import RUNBOOKS, STYLE, pages
from exporter.web.security import Security
from exporter.web.webfile import DEFAULT_HEADERS, Rules

GZIP_LEVEL = 6
PROBE_MARGIN = 0.5
"""Seconds subtracted from Prometheus' timeout for network and processing (hazard 125)."""
RETRY_AFTER = 5
"""Seconds after which a refused client may try again (`Retry-After`)."""

_RELOAD = "/-/reload"
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_JSON = "application/json; charset=utf-8"
_YAML = "application/yaml; charset=utf-8"
_OFFERED = re.compile(
    r"\s*(?:application/openmetrics-text|text/plain)"
    r"(?:\s*;\s*(?:version=(?:0\.0\.1|0\.0\.4|1\.0\.0)|charset=utf-8|q=[0-9.]+|escaping=[a-z0-9-]+))*\s*",
    re.IGNORECASE,
)
"""The supported media types of an Accept header; others would confuse the client library (hazard 108)."""
_WEIGHT = re.compile(r";\s*q=(0(?:\.\d*)?|1(?:\.0*)?)\s*(?:;|$)")

DEFAULT_LIMITS = Limits()

_LOCAL_ONLY = "Without web users, only programs on this machine may request this, and not through a proxy."

_log = logging.getLogger(__name__)


class Application(Protocol):
    """What the server requires of the exporter.

    Every method is called in the server's thread and must return immediately, from memory; only `reload` is called in a
    separate thread and may read files. Texts are masked: no secrets, no people, no paths of this machine. They may show
    people only if `people` is true and the configuration allows it.
    """

    def registry(self) -> Collector:
        """The metrics; `Isolated` or prometheus_client's registry."""

    def ready(self) -> tuple[bool, str]:
        """Whether every log has been read to the end found at start; and what is wrong, ready or not, else nothing."""

    def config_yaml(self) -> str:
        """The current settings."""

    def reload(self) -> str | None:
        """Reload the configuration; returns what is wrong with it, in one line, or None."""

    def status(self, people: bool) -> dict[str, object]:
        """The content of `/api/v1/status`, as JSON data."""

    def events(self, people: bool) -> dict[str, object]:
        """The content of `/api/v1/events`, as JSON data."""

    def page(self, people: bool) -> str:
        """The status page, as HTML."""

    async def probe(self, target: str, seconds: float) -> Collector:
        """The metrics of one probe that ends within `seconds`.

        Awaited in the server's loop, and cancelled when the client goes away: shield what others share. Raises
        KeyError for a target that is not configured.
        """

    async def probe_story(self, target: str, seconds: float) -> str:
        """The same, described stage by stage for a person."""


class Isolated(Collector):
    """Several collectors as one, of which any may fail without the others (hazard 107)."""

    def __init__(self, collectors: Iterable[Collector], failed: Callable[[], None]) -> None:
        self._collectors, self._failed = tuple(collectors), failed

    def collect(self) -> Iterator[Metric]:
        """Every family of the collectors that do not fail."""
        for collector in self._collectors:
            try:
                families = list(collector.collect())
            except Exception as error:  # whatever the error, the other collectors must be shown
                _log.error("the metrics of %s failed: %s", type(collector).__name__, type(error).__name__)
                self._failed()
                continue
            yield from families

    def restricted_registry(self, names: Iterable[str]) -> "Collector":
        """Only the samples named, for `/metrics?name[]=…`."""
        wanted = frozenset(names)
        return _Restricted(self, wanted)


class _Restricted(Collector):
    def __init__(self, whole: Collector, wanted: frozenset[str]) -> None:
        self._whole, self._wanted = whole, wanted

    def collect(self) -> Iterator[Metric]:
        for family in self._whole.collect():
            kept = [sample for sample in family.samples if sample.name in self._wanted]
            if kept:
                shown = Metric(family.name, family.documentation, family.type, family.unit)
                shown.samples = kept
                yield shown


class _Pending:
    """The requests in progress in one event loop; after a listener was replaced, the new loop starts empty."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.made: dict[Hashable, asyncio.Task[bytes]] = {}
        """Response bodies in progress."""
        self.probes: Counter[str] = Counter()
        """Requests waiting for a probe, by group of addresses."""


class WebServer:
    """The exporter's HTTP server. `failed` is called whenever it had to be restarted."""

    def __init__(
        self,
        application: Application,
        security: Security,
        failed: Callable[[], None],
        styles: Sequence[str] = (),
        scripts: Sequence[str] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`styles` and `scripts`: the contents of the page's `<style>` and `<script>` elements, all that it may use."""
        self._application, self._security, self._limits = application, security, limits
        self._listener = Listener(self._answer, security, failed, limits)
        self._logins, self._rate = Logins(limits), RateLimit()
        self._page_policy = _page_policy(styles, scripts)
        self._runbook_policy = _page_policy((STYLE,), ())
        self._reloading: threading.Thread | None = None
        self._pending: _Pending | None = None
        self._routes: dict[str, Callable[[web.BaseRequest, bool], Awaitable[web.StreamResponse]]] = {
            "/": self._page,
            "/metrics": self._metrics,
            "/probe": self._probe,
            "/config": self._config,
            "/api/v1/status": self._status,
            "/api/v1/events": self._events,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
            _RELOAD: self._reload,
        }

    @property
    def bound(self) -> tuple[str, ...]:
        """The addresses listened on, with their real ports."""
        return self._listener.bound

    def start(self, addresses: Sequence[str]) -> None:
        """Listen on every address, and answer requests. Raises ListenError."""
        self._listener.start(addresses)
        self._security.start()

    def stop(self) -> None:
        """Stop within 3 s, also with clients connected."""
        self._security.stop()
        self._listener.stop()
        self._logins.stop()

    # --- one request

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        rules = self._security.current()
        try:
            answer = await self._permitted(request, rules)
        except Exception as error:  # the one place where a failing answer is handled
            _log.error("the answer for %s failed: %s", _known(request.path, self._routes), type(error).__name__)
            answer = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        for name, value in {**DEFAULT_HEADERS, **rules.headers}.items():
            if name not in answer.headers or name in rules.headers:
                answer.headers[name] = value
        if request.can_read_body:
            answer.force_close()
        return answer

    async def _permitted(self, request: web.BaseRequest, rules: Rules) -> web.StreamResponse:
        path, method = request.path, request.method
        allowed = ("POST", "PUT", "OPTIONS") if path == _RELOAD else ("GET", "HEAD", "OPTIONS")
        if not self._rate.admits(rules, asyncio.get_running_loop().time()):
            seconds = max(1, math.ceil(rules.interval))
            return _refusal(HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": str(seconds)})
        if method == "OPTIONS":  # HAProxy's default health check; a browser's preflight request is granted nothing
            return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(allowed)})
        guarded_as = "/" if path.startswith(RUNBOOKS) else path
        if rules.users and guarded_as not in rules.open_paths:
            admitted = await self._logins.admitted(
                rules, request.headers.get("Authorization"), group_of(_peer(request))
            )
            if admitted is None:
                return _refusal(HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": str(RETRY_AFTER)})
            if not admitted:
                return _refusal(HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": 'Basic realm="metrics"'})
        if method not in allowed:
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(allowed)})
        if not request.raw_path.startswith("/"):  # meant for a proxy; the host in it would count instead of Host
            return _refusal(HTTPStatus.BAD_REQUEST)
        if (request.content_length or 0) > self._limits.body_bytes:
            return _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        route = self._runbook if path.startswith(RUNBOOKS) else self._routes.get(path)
        if route is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        # One rule for everything private: users who logged in or, without users, programs on this machine.
        trusted = path not in rules.open_paths if rules.users else _asked_locally(request)
        if path in GUARDED_PATHS and not trusted:
            return _refusal(HTTPStatus.FORBIDDEN, _LOCAL_ONLY)
        if path == _RELOAD and is_from_elsewhere(request.headers):
            return _refusal(HTTPStatus.FORBIDDEN)
        return await route(request, trusted)

    def _under_way(self) -> _Pending:
        loop = asyncio.get_running_loop()
        if self._pending is None or self._pending.loop is not loop:
            self._pending = _Pending(loop)
        return self._pending

    async def _made(self, what: Hashable, make: Callable[[], bytes]) -> bytes:
        """What `make` returns, called once for all requests that arrive in the same cycle of the loop."""
        pending = self._under_way()

        async def make_once() -> bytes:
            await asyncio.sleep(0)  # requests that arrive at the same time join here
            del pending.made[what]
            with answering():
                return make()

        if what not in pending.made:
            pending.made[what] = pending.loop.create_task(make_once())
        return await asyncio.shield(pending.made[what])

    # --- the routes

    async def _page(self, _: web.BaseRequest, trusted: bool) -> web.StreamResponse:
        body = await self._made(("page", trusted), lambda: _encoded(self._application.page(trusted)))
        answer = web.Response(body=body, headers={"Content-Type": _HTML})
        answer.headers["Content-Security-Policy"] = self._page_policy
        return answer

    async def _runbook(self, request: web.BaseRequest, _: bool) -> web.StreamResponse:
        page = (await asyncio.to_thread(pages)).get(request.path)
        if page is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        answer = _plain(page, _HTML)
        answer.headers["Content-Security-Policy"] = self._runbook_policy
        return answer

    async def _metrics(self, request: web.BaseRequest, _: bool) -> web.StreamResponse:
        return await self._exposed(request, "metrics", self._application.registry)

    async def _exposed(
        self, request: web.BaseRequest, what: Hashable, metrics: Callable[[], Collector]
    ) -> web.StreamResponse:
        """Metrics in the format and encoding that the client prefers; only these are passed to the client library."""
        kind = next((kind for kind in _wanted(request, "Accept") if _OFFERED.fullmatch(kind)), "")
        codings = [coding.partition(";")[0].strip() for coding in _wanted(request, "Accept-Encoding")]
        zipped = "gzip" in codings
        names = tuple(request.query.getall("name[]", ()))
        encode, content_type = choose_encoder(kind)

        def made() -> bytes:
            body = encode(_restricted(metrics(), names))
            return gzip.compress(body, GZIP_LEVEL) if zipped else body

        body = await self._made((what, kind, zipped, names), made)
        answer = web.Response(body=body, headers={"Content-Type": content_type})
        if zipped:
            answer.headers["Content-Encoding"] = "gzip"
        return answer

    async def _probe(self, request: web.BaseRequest, _: bool) -> web.StreamResponse:
        target = request.query.get("target", "")
        if not target:
            return _refusal(HTTPStatus.BAD_REQUEST, "No target given: use /probe?target=host:port.")
        waiting, group = self._under_way().probes, group_of(_peer(request))
        if waiting.total() >= self._limits.probes or waiting[group] >= self._limits.probes_each:
            refusal = "Too many requests are waiting for a probe."
            return _refusal(HTTPStatus.TOO_MANY_REQUESTS, refusal, {"Retry-After": str(RETRY_AFTER)})
        waiting[group] += 1
        try:
            return await self._probed(request, target)
        except KeyError:
            return _refusal(HTTPStatus.FORBIDDEN, "Only configured targets can be probed.")
        finally:
            waiting -= Counter((group,))  # this also removes counts of 0

    async def _probed(self, request: web.BaseRequest, target: str) -> web.StreamResponse:
        timeout = probe_timeout(request.headers, self._limits.probe)
        if request.query.get("debug", "").lower() in ("true", "1"):
            return _plain(await self._application.probe_story(target, timeout), _TEXT)
        metrics = await self._application.probe(target, timeout)
        return await self._exposed(request, id(metrics), lambda: metrics)

    async def _config(self, *_: object) -> web.StreamResponse:
        body = await self._made("config", lambda: _encoded(self._application.config_yaml()))
        return web.Response(body=body, headers={"Content-Type": _YAML})

    async def _status(self, _: web.BaseRequest, trusted: bool) -> web.StreamResponse:
        body = await self._made(("status", trusted), lambda: _encoded(_json(self._application.status(trusted))))
        return web.Response(body=body, headers={"Content-Type": _JSON})

    async def _events(self, _: web.BaseRequest, trusted: bool) -> web.StreamResponse:
        body = await self._made(("events", trusted), lambda: _encoded(_json(self._application.events(trusted))))
        return web.Response(body=body, headers={"Content-Type": _JSON})

    async def _healthy(self, *_: object) -> web.StreamResponse:
        return _plain("Healthy.\n", _TEXT)

    async def _ready(self, *_: object) -> web.StreamResponse:
        ready, amiss = self._application.ready()
        if not ready:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"Not ready: {amiss}")
        return _plain(f"Ready: {amiss}\n" if amiss else "Ready.\n", _TEXT)

    async def _reload(self, *_: object) -> web.StreamResponse:
        if self._reloading and self._reloading.is_alive():
            return _refusal(HTTPStatus.CONFLICT, "A reload is in progress.")
        outcome: Future[str | None] = Future()
        outcome.set_running_or_notify_cancel()  # a client that goes away does not undo it
        # A thread that hangs on a dead share must block neither the loop nor the end of the process (hazard 121).
        self._reloading = threading.Thread(target=_settle, args=(outcome, self._application.reload), daemon=True)
        self._reloading.start()
        try:
            problem = await asyncio.wait_for(asyncio.wrap_future(outcome), self._limits.reload)
        except TimeoutError:
            return _refusal(HTTPStatus.GATEWAY_TIMEOUT, "The reload is taking long and continues in the background.")
        if problem is None:
            return _plain("Reloaded.\n", _TEXT)
        return _refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR, f"Not reloaded; the current settings stay in force: {problem}"
        )


def _settle(outcome: "Future[str | None]", function: Callable[[], str | None]) -> None:
    try:
        outcome.set_result(function())
    except Exception as error:  # handed on to where all failing answers are handled
        outcome.set_exception(error)


def probe_timeout(headers: Mapping[str, str], longest: float) -> float:
    """Seconds that a probe may take for Prometheus to still get its result (hazard 125)."""
    try:
        given = float(headers.get("X-Prometheus-Scrape-Timeout-Seconds", ""))
    except ValueError:
        return longest
    if not math.isfinite(given) or given <= 0:
        return longest
    return min(longest, max(given - PROBE_MARGIN, given / 2))


def _peer(request: web.BaseRequest) -> Any:
    return request.transport.get_extra_info("peername") if request.transport else None


def _restricted(metrics: Collector, names: tuple[str, ...]) -> Collector:
    """Only the samples named, where some are."""
    restrict: Callable[[tuple[str, ...]], Collector] | None = getattr(metrics, "restricted_registry", None)
    return restrict(names) if names and restrict else metrics


def _asked_locally(request: web.BaseRequest) -> bool:
    peer = _peer(request)
    return is_local(peer[0] if peer else None, request.version[:2], request.headers.getall("Host", []), request.headers)


def _wanted(request: web.BaseRequest, field: str) -> list[str]:
    """What the client accepts, in lower case, by preference; a weight of 0 is a refusal (RFC 9110, 12.4.2)."""
    weighed = []
    for choice in ",".join(request.headers.getall(field, [])).lower().split(","):
        weight = _WEIGHT.search(choice)
        weighed.append((float(weight[1]) if weight else 1.0, choice))
    return [choice for weight, choice in sorted(weighed, key=lambda one: -one[0]) if weight]


def _plain(text: str, content_type: str, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=_encoded(text), status=status, headers={"Content-Type": content_type})


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _refusal(status: HTTPStatus, text: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal as plain text, without anything from the request."""
    answer = _plain(f"{text or status.phrase + '.'}\n", _TEXT, status)
    answer.headers.update(headers or {})
    return answer


def _json(tree: dict[str, Any]) -> str:
    return json.dumps(tree, default=str, ensure_ascii=False, indent=2) + "\n"


def _known(path: str, routes: Mapping[str, object]) -> str:
    """The path for our log, if it is one of ours: text of clients must not appear there."""
    return path if path in routes else "an unknown path"


def _page_policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    policy = DEFAULT_HEADERS["Content-Security-Policy"]
    if styles:
        policy += f"; style-src {_hashes(styles)}"
    if scripts:
        policy += f"; script-src {_hashes(scripts)}; connect-src 'self'"
    return policy


def _hashes(texts: Sequence[str]) -> str:
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)
