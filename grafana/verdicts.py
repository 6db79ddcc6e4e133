"""How the boards show a verdict: its words, its colour, its rank.

Which verdict is worse is the exporter's own order (`exporter.verdict.WORST_FIRST`). Each text answers the question of
the first panel, "can users work?", so that the colour is never the only thing that says it.
"""

from exporter import metrics
from exporter.verdict import WORST_FIRST
from grafana.queries import UP, by_target, selector

OK, INFO, WARNING, CRITICAL, UNKNOWN = "green", "blue", "orange", "red", "purple"

EXPORTER_DOWN = "exporter_down"
"""Not a verdict of the exporter: what a board shows in its place when the exporter cannot be scraped."""

TEXTS = {
    "license_stale": ("No: the license is stale", CRITICAL),
    "license_expired": ("No: the license has expired", CRITICAL),
    "everyone_refused": ("No: everyone is refused", CRITICAL),
    "repository_down": ("No: the Repository does not answer", CRITICAL),
    "lockout_coming": ("Yes, but a lockout is coming", CRITICAL),
    "sync_failing_network": ("Yes, but syncs fail: network", WARNING),
    "sync_failing_proxy": ("Yes, but syncs fail: proxy", WARNING),
    "sync_failing_interception": ("Yes, but syncs fail: TLS intercepted", WARNING),
    "sync_failing_service": ("Yes, but syncs fail: Licenses service", WARNING),
    "sync_unclear": ("Yes, but syncs are unclear", WARNING),
    EXPORTER_DOWN: ("Not known: the exporter is down", UNKNOWN),
    "tail_blind": ("Not known: the log cannot be read", UNKNOWN),
    "service_silent": ("Yes, but the Licenses service is silent", WARNING),
    "capacity_exhausted": ("Analyzer minutes are used up", WARNING),
    "seats_exhausted": ("Yes, but no seat is left for new users", WARNING),
    "backend_flapping": ("Yes, but the backend comes and goes", WARNING),
    "users_refused": ("Some users are refused", WARNING),
    "license_expiring": ("Yes, but the license expires soon", WARNING),
    "parallel_sessions": ("Yes, but some hold too many sessions", INFO),
    "not_enough_evidence": ("Not known yet", UNKNOWN),
    "well": ("Yes: all is well", OK),
}
_AS_BAD_AS_BLIND = WORST_FIRST.index("tail_blind")
_ORDER = (*WORST_FIRST[:_AS_BAD_AS_BLIND], EXPORTER_DOWN, *WORST_FIRST[_AS_BAD_AS_BLIND:])
RANKS = {verdict: rank for rank, verdict in enumerate(reversed(_ORDER), start=1)}
"""The worse, the higher. From 1, because a verdict that is not the current one counts as 0."""
FIRST_CRITICAL_RANK = min(RANKS[verdict] for verdict, (_, colour) in TEXTS.items() if colour == CRITICAL)

RANK_BY_TARGET = by_target(
    "max",
    " or ".join(
        f"{rank} * {selector(metrics.VERDICT, verdict=verdict)}"
        for verdict, rank in RANKS.items()
        if verdict != EXPORTER_DOWN
    ),
)
"""The rank of each exporter's current verdict."""

_DOWN = by_target("max", f"{selector(UP)} == 0")
RANK_OR_DOWN = f"{RANK_BY_TARGET} or {_DOWN} + {RANKS[EXPORTER_DOWN]}"
"""As RANK_BY_TARGET, with the rank of EXPORTER_DOWN for those that cannot be scraped."""

WORST_RANK = f"max({RANK_BY_TARGET}) or max({RANK_OR_DOWN})"
"""The rank of the worst verdict of all chosen exporters; EXPORTER_DOWN only where none of them answers."""

WORDS = {RANKS[verdict]: shown for verdict, shown in TEXTS.items()}
"""The text and the colour of each rank."""
