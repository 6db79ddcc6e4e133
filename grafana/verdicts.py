"""How the boards show a verdict: its words, its colour, its rank; the only place that knows which verdict is worse.

The names are the closed set of `qlik_license_verdict{verdict}`. Each text answers the question of the first panel, "can
users work?", so that the colour is never the only thing that says it.
"""

from dataclasses import dataclass

from grafana.queries import by_target, selector

OK, UNKNOWN, WARNING, CRITICAL = "green", "purple", "orange", "red"


@dataclass(frozen=True)
class Shown:
    """One verdict as the boards show it."""

    verdict: str
    text: str
    colour: str


EXPORTER_DOWN = "exporter_down"
"""Not a verdict of the exporter: what a board shows in its place when the exporter cannot be scraped."""

FROM_BEST_TO_WORST = (
    Shown("well", "Yes: all is well", OK),
    Shown("parallel_sessions", "Yes, but some hold too many sessions", OK),
    Shown("license_expiring", "Yes, but the license expires soon", WARNING),
    Shown("not_enough_evidence", "Not known yet", UNKNOWN),
    Shown("seats_exhausted", "Yes, but no seat is left for new users", WARNING),
    Shown("users_refused", "Some users are refused", WARNING),
    Shown("backend_flapping", "Yes, but the backend comes and goes", WARNING),
    Shown("capacity_exhausted", "Analyzer minutes are used up", WARNING),
    Shown("service_silent", "Yes, but the Licenses service is silent", WARNING),
    Shown("tail_blind", "Not known: the log cannot be read", UNKNOWN),
    Shown(EXPORTER_DOWN, "Not known: the exporter is down", UNKNOWN),
    Shown("sync_failing_service", "Yes, but syncs fail: Licenses service", WARNING),
    Shown("sync_failing_proxy", "Yes, but syncs fail: proxy", WARNING),
    Shown("sync_failing_interception", "Yes, but syncs fail: TLS intercepted", WARNING),
    Shown("sync_failing_network", "Yes, but syncs fail: network", WARNING),
    Shown("lockout_coming", "Yes, but a lockout is coming", CRITICAL),
    Shown("repository_down", "No: the Repository is down", CRITICAL),
    Shown("everyone_refused", "No: everyone is refused", CRITICAL),
    Shown("license_expired", "No: the license has expired", CRITICAL),
    Shown("license_stale", "No: the license is stale", CRITICAL),
)
RANKS = {shown.verdict: rank for rank, shown in enumerate(FROM_BEST_TO_WORST, start=1)}
"""From 1, because a verdict that is not the current one counts as 0."""

RANK_BY_TARGET = by_target(
    "max",
    " or ".join(
        f"{rank} * {selector('qlik_license_verdict', verdict=verdict)}"
        for verdict, rank in RANKS.items()
        if verdict != EXPORTER_DOWN
    ),
)
"""The rank of each exporter's current verdict."""

_DOWN = by_target("max", f"{selector('up')} == 0")
RANK_OR_DOWN = f"{RANK_BY_TARGET} or {_DOWN} + {RANKS[EXPORTER_DOWN]}"
"""As RANK_BY_TARGET, with the rank of EXPORTER_DOWN for those that cannot be scraped."""

WORDS = {RANKS[shown.verdict]: (shown.text, shown.colour) for shown in FROM_BEST_TO_WORST}
"""The text and the colour of each rank."""
