"""Requests of the Repository API: the setting that names each service, and the address that follows from it."""

from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit


class Endpoint(NamedTuple):
    """One request: failures name its setting, its service and its path."""

    url: str
    """The whole address, without a query."""
    setting: str
    """`qrs.url` or `qrs.sessions_url`."""
    service: str
    """The service that should answer there, as sentences name it."""
    port: int
    """Its usual port."""

    @property
    def path(self) -> str:
        """The path of the request."""
        return urlsplit(self.url).path

    def __str__(self) -> str:
        return f"GET {self.path} ({self.setting})"


def repository(url: str, path: str) -> Endpoint:
    """The Repository's `path`, such as `/qrs/license`; `url` may end in a slash, or contain `/qrs` and more."""
    return Endpoint(_joined(url, "qrs", path), "qrs.url", "the Repository", 4242)


def sessions(url: str) -> Endpoint:
    """The list of the Proxy service's sessions; `url` may contain `/qps`, a virtual proxy after it, and `/session`."""
    steps = [step for step in urlsplit(url).path.split("/") if step]
    cut = _place("qps", steps)
    virtual = [step for step in steps[cut + 1 :] if step.lower() != "session"]
    path = "/".join(["", "qps", *virtual, "session"])
    return Endpoint(_joined(url, "qps", path), "qrs.sessions_url", "the Proxy service", 4243)


def _joined(url: str, root: str, path: str) -> str:
    """`path`, which begins with `root`, appended to the part of `url` before `root`."""
    parts = urlsplit(url)
    steps = [step for step in parts.path.split("/") if step]
    before = "".join(f"/{step}" for step in steps[: _place(root, steps)])
    return urlunsplit((parts.scheme, parts.netloc, before + path, "", ""))


def _place(root: str, steps: list[str]) -> int:
    return next((place for place, step in enumerate(steps) if step.lower() == root), len(steps))
