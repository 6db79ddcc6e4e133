"""The outcome of a probe: the closed sets of reasons and phases, one result, and the history per target. Pure."""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Literal, get_args

import msgspec

from exporter.config import ProbeConfig
from exporter.events import ProbeFinished
from exporter.printable import printable

RESULTS_KEPT = 200
"""Results per target that are kept in memory for people."""

Phase = Literal["dns", "connect", "proxy", "tls", "http"]
PHASES: tuple[Phase, ...] = get_args(Phase)

Reason = Literal[
    "dns",
    "tcp_refused",
    "tcp_timeout",
    "tcp_unreachable",
    "proxy_connect",
    "proxy_auth",
    "tls_untrusted",
    "tls_expired",
    "tls_hostname",
    "tls_handshake",
    "tls_timeout",
    "http_status",
    "http_timeout",
    "http_protocol",
    "reset",
    "other",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

CURES: dict[Reason, str] = {
    "dns": "Look up the name on this machine (nslookup). Check the DNS servers of its network adapter, and whether the "
    "name is blocked. If a proxy is required, set `proxy`: the proxy then resolves the name.",
    "tcp_refused": "On the node itself, the service is probably not running. Further away, it is usually a firewall "
    "that rejects the connection: allow outgoing TCP to this port, or set the proxy.",
    "tcp_timeout": "Usually a firewall drops the connection: allow outgoing TCP to this port from this machine, or set "
    "the proxy that the Licenses service must use.",
    "tcp_unreachable": "There is no route to this address: check the network, default gateway and local firewall of "
    "this machine.",
    "proxy_connect": "Check the proxy's address, that it is running, and that it allows CONNECT to this host and port "
    "from this machine. Qlik upgrades overwrite the service's own proxy setting: check it, too.",
    "proxy_auth": "Check the user name and password for the proxy. They may have changed, or the proxy may have begun "
    "to require a login.",
    "tls_untrusted": "If the issuer is your own company, a proxy inspects TLS: exclude this host from inspection, or "
    "trust the company's CA on this machine (or name it in `ca_file`). If it is Amazon or another public CA, the root "
    "certificates of this machine are out of date.",
    "tls_expired": "Check the clock of this machine first. If it is right, whoever serves the certificate must renew "
    "it: often an inspecting proxy.",
    "tls_hostname": "Another server answered: check DNS, the hosts file, and whether there is a proxy or a captive "
    "portal in between.",
    "tls_handshake": "The TLS handshake failed: an outdated TLS version, a device that interferes with TLS, a required "
    "client certificate, or a port that does not use TLS. Check what is listening there.",
    "tls_timeout": "The connection was opened, but the TLS handshake got no answer: typical for a firewall or proxy "
    "that inspects TLS. Ask for an exception for this host.",
    "http_status": "Probably something else answered instead of the target, usually a filtering proxy or a login page: "
    "ask for an exception for this host. (Status 404 is the healthy answer of the license backend.)",
    "http_timeout": "The connection was established, but no response arrived: an overloaded or inspecting proxy, or a "
    "problem of the backend. If it persists, compare with a probe from another network.",
    "http_protocol": "The response is not HTTP: check the port and what is listening there.",
    "reset": "The connection was cut: typically by a firewall or inspecting device that blocks this host. Ask for an "
    "exception.",
    "other": "The message says what failed on this machine.",
}
"""The likely cure for each reason, shown to people."""

SERVER_ERROR_CURE = (
    "The target itself reports an error; the connection to it works. If it persists, check Qlik's status page and "
    "compare with a probe from another network: an inspecting proxy whose CA this machine trusts can answer instead."
)
"""What to do if the target answers that it is overloaded or failing, shown to people."""

INCONCLUSIVE_CURE = (
    "Give the probe credentials that the proxy accepts (`proxy` in the configuration), or let this machine through the "
    "proxy without a login. Without that, only the log shows whether syncs succeed."
)
"""How to get a result if a probe is not judged, shown to people."""


def is_server_error(status: int | None) -> bool:
    """Whether the status means an overloaded or failing server; 511 is a network that requires a login (RFC 6585)."""
    return status is not None and (status == 429 or 500 <= status < 600) and status != 511


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One completed probe. What was not reached or not seen is None or missing."""

    target: str
    role: str
    at: float
    """Wall clock at its start."""
    ended: float
    success: bool | None
    """None: not judged, because a proxy requires an authentication that the probe cannot provide. It says nothing
    about whether the Licenses service gets through."""
    reason: Reason | None
    """Why it failed; None if it succeeded or is not judged."""
    detail: str
    """One sentence for a person; no credentials."""
    phases: dict[Phase, float]
    """Seconds per stage reached, the failed one included."""
    status: int | None = None
    ip_protocol: int | None = None
    """4 or 6: the connection that was made (behind a proxy: to the proxy)."""
    cert_expiry: float | None = None
    """When the served leaf certificate expires. Known even if it does not verify."""
    chain_expiry: float | None = None
    """The earliest expiry in the served chain."""
    tls_version: str | None = None
    issuer: str | None = None
    """The organisation that issued the leaf, at most 64 printable characters; empty if it names none."""
    issuer_expected: bool | None = None
    """None without `expected_issuers`."""
    clock_skew: float | None = None
    """Local clock minus the answer's Date, in seconds, corrected by half the round-trip time."""
    proxied: bool = False
    tried: bool = True
    """False: a login that was refused repeatedly was not sent again, and the failure is that of earlier attempts."""
    story: tuple[str, ...] = ()
    """Stage by stage, for a person; no credentials."""

    @property
    def event(self) -> ProbeFinished | None:
        """The event for the sync clock; None if the failure is only known from earlier attempts."""
        return ProbeFinished(self.target, self.role, self.ended, self.success) if self.tried else None

    @property
    def server_error(self) -> bool:
        """Whether the target itself answered that it is overloaded or failing, as far as its certificate shows."""
        genuine = self.issuer is not None and self.issuer_expected is not False
        return self.reason == "http_status" and genuine and is_server_error(self.status)

    def shown_detail(self, shown: Callable[[str], str]) -> str:
        """`detail`, masked by `shown` except for statuses, ports, days and the issuer."""
        kept = _FIGURES if not self.issuer else f"{_FIGURES}|issued by {re.escape(self.issuer)}(?!\\w)"
        parts = re.split(f"({kept})", self.detail)
        return "".join(part if place % 2 else shown(part) for place, part in enumerate(parts))

    @property
    def cure(self) -> str:
        """The likely cure, for a person; empty after a success."""
        if self.success is None:
            return INCONCLUSIVE_CURE
        if self.server_error:
            return SERVER_ERROR_CURE
        return CURES[self.reason] if self.reason is not None else ""


_STATUSES = "|".join(re.escape(f"{status.value} {status.phrase}") for status in HTTPStatus)
_FIGURES = rf"(?<![\w.:/-])(?:port \d{{1,5}}|{_STATUSES}|[1-5]\d\d|\d{{4}}-\d\d-\d\d)(?![\w/-]|[.:]\d)"
"""Ports, statuses and days, none of which is part of an address or a name."""


@dataclass
class ProbeHistory:
    """The results of one target since the process started."""

    settings: ProbeConfig
    last: ProbeResult | None = None
    last_success: float | None = None
    """When the last successful probe ended; may be preset from the saved state."""
    attempts: int = 0
    failures: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    results: deque[ProbeResult] = field(default_factory=lambda: deque(maxlen=RESULTS_KEPT))

    def record(self, result: ProbeResult) -> None:
        """Count `result` and keep it. One that is not judged is an attempt, and neither a success nor a failure."""
        self.attempts += 1
        if result.reason is not None:
            self.failures[result.reason] += 1
        elif result.success:
            self.last_success = result.ended
        self.last = result
        self.results.append(result)


class ProbeBoard:
    """The histories of all configured targets."""

    def __init__(self, probes: tuple[ProbeConfig, ...] = ()) -> None:
        self.histories: dict[str, ProbeHistory] = {probe.target: ProbeHistory(probe) for probe in probes}

    def configure(self, probes: tuple[ProbeConfig, ...]) -> None:
        """Apply a new configuration: a target that stays keeps its counts, so that no counter decreases."""
        before = self.histories
        self.histories = {}
        for settings in probes:
            kept = before.get(settings.target)
            if kept is None or kept.settings.role != settings.role:
                kept = ProbeHistory(settings)
            self.histories[settings.target] = replace(kept, settings=settings)

    def record(self, result: ProbeResult) -> None:
        """Count `result` under its target. A target that is no longer configured is not counted."""
        if history := self.histories.get(result.target):
            history.record(result)


def story_of(result: ProbeResult) -> str:
    """The story, the outcome and, unless it succeeded, the likely cure."""
    lines = [f"  {printable(line)}" for line in result.story]
    if result.success is None:
        lines.append(f"not judged: {printable(result.detail)}")
    elif result.reason is None:
        lines.append(f"reached: {printable(result.detail)}")
    else:
        lines.append(f"failed, {result.reason}: {printable(result.detail)}")
    if result.cure:
        lines.append(f"likely cure: {result.cure}")
    if result.issuer_expected is False:
        lines.append(f"note: the certificate's issuer ({result.issuer or 'no organisation'}) is not an expected one.")
    return "\n".join(lines)
