"""A client of Alertmanager's API, version 2."""

import base64
import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import yaml

from exporter.commands.routing import Labels, Routing, RoutingError
from exporter.last_words import reason

REQUEST_SECONDS = 5.0
LARGEST_ANSWER = 16 << 20
"""Bytes of one answer."""


class AlertmanagerError(Exception):
    """A request failed, or cannot be made: `str()` says why."""


class NotTakenError(AlertmanagerError):
    """The request was certainly not executed."""


class Alertmanager:
    """One Alertmanager. Every method raises AlertmanagerError."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise AlertmanagerError(f"--alertmanager: found an address that cannot be read ({error})") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise AlertmanagerError(
                f"--alertmanager: found `{_without_login(url)}`, expected http://host:9093 or https://…"
            )
        if re.search(r"[\s\x00-\x1f]", url):
            raise AlertmanagerError("--alertmanager: found a space or control character in the address")
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._headers = {"Accept": "application/json"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
        self._ahead = timedelta()

    def __str__(self) -> str:
        return self._base

    def now(self) -> datetime:
        """The time on its clock, at most a second late: an alert that began long ago is notified immediately."""
        return datetime.now(UTC) + self._ahead

    def routing(self) -> Routing:
        """The configuration that it uses now. Raises RoutingError, too."""
        answer = self._answer("status")
        config = answer.get("config") if isinstance(answer, dict) else None
        original = config.get("original") if isinstance(config, dict) else None
        if not isinstance(original, str):
            raise self._is_none("its status has no configuration")
        try:
            return Routing(yaml.safe_load(original))
        except (yaml.YAMLError, RecursionError) as error:
            raise RoutingError(str(error).replace("\n", " ")) from None

    def alerts(self, *filters: str) -> list[dict[str, Any]]:
        """Its current alerts that match the matchers, with receivers and status."""
        query = "&".join(f"filter={quote(one, safe='')}" for one in filters)
        answer = self._answer(f"alerts?{query}")
        if not isinstance(answer, list) or not all(isinstance(one, dict) and "labels" in one for one in answer):
            raise self._is_none("found no list of alerts")
        return answer

    def send(self, alerts: Iterable[tuple[Labels, Labels]], starts: datetime, ends: datetime) -> None:
        """Send these alerts, each with its labels and annotations."""
        times = {"startsAt": starts.isoformat(), "endsAt": ends.isoformat()}
        body = [{"labels": labels, "annotations": annotations, **times} for labels, annotations in alerts]
        self._answer("alerts", json.dumps(body).encode())

    def _answer(self, path: str, body: bytes | None = None) -> object:
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        request = urllib.request.Request(f"{self._base}/api/v2/{path}", body, headers)  # noqa: S310  # http and https only
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as response:
                content = response.read(LARGEST_ANSWER + 1)
                with contextlib.suppress(TypeError, ValueError):  # no Date: then this machine's clock
                    date = parsedate_to_datetime(response.headers["Date"])
                    self._ahead = date - datetime.now(UTC)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            said = reason(cause) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
            kind = NotTakenError if isinstance(cause, ConnectionRefusedError) else AlertmanagerError
            raise kind(f"{self} cannot be reached: {said}") from None
        if body:
            return None
        if len(content) > LARGEST_ANSWER:
            raise AlertmanagerError(f"{self} answered with more than {LARGEST_ANSWER} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self._is_none("its answer is not JSON") from None

    def _is_none(self, found: str) -> AlertmanagerError:
        return AlertmanagerError(f"{self} is not an Alertmanager with API version 2: {found}")

    def _refusal(self, error: urllib.error.HTTPError) -> AlertmanagerError:
        text = ""
        with error, contextlib.suppress(OSError, http.client.HTTPException):
            text = error.read(300).decode("utf-8", "replace").strip()
        if error.code in (401, 403):
            return NotTakenError(f"{self} wants a login: status {error.code}. Give it as https://user:password@host")
        if error.code in (404, 405):
            return NotTakenError(f"{self} is not an Alertmanager with API version 2: status {error.code} for /api/v2/")
        if 300 <= error.code < 400:
            place = _without_login(error.headers.get("Location", ""))
            return NotTakenError(f"{self} redirects to `{place}`: give the address that it leads to")
        return AlertmanagerError(f"{self} answered with status {error.code}: {text}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and a login would go elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""


def _without_login(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url)
