"""The board "License health": one glance tells whether the users of one site can work, and for how long."""

from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.models import common as common_models

from exporter import metrics
from exporter.logs.messages import PARALLEL_SESSIONS
from exporter.verdict import LIMITS
from exporter.verdict.limits import DAY
from grafana import limits, style
from grafana.queries import (
    MINUTES_RUN_OUT,
    SEATS_RUN_OUT,
    SECONDS_SINCE_SYNC,
    SECONDS_UNTIL_LOCKOUT,
    SITE_LABELS,
    by_site,
    by_target,
    gone_up,
    recorded,
    selector,
    syncing,
)
from grafana.style import About, query, query_now
from grafana.verdicts import WORDS, WORST_RANK

UID = "qlik-license-health"
NO_SYNC = "No sync seen yet, or none expected"
NO_REPOSITORY_API = "The Repository API is not read"

DENIALS = {
    "no_access_pass": ("No access pass", "red"),
    "parallel_sessions": ("Too many parallel sessions", "yellow"),
    "allocation_refused": ("Allocation refused", "blue"),
}
SEATS = selector(metrics.ACCESS["licenses"])
GIVEN = selector(metrics.ACCESS["allocated"])
USED = selector(metrics.ACCESS["used"])
TOKENS = selector(metrics.TOKENS)
MINUTES = selector(metrics.CAPACITY["allocated"])
MINUTES_USED = selector(metrics.CAPACITY["used"])
FAILURES = selector(metrics.SYNC_CONSECUTIVE_FAILURES)
FIRST_FAILURE = f"{by_site('sum', FAILURES)} > 0 unless {by_site('sum', f'{FAILURES} offset $__interval')} > 0"
"""The first failed sync of a row: marking each of them would paint the whole graph."""
UNUSED_COLUMNS = {"Month": "30d", "Two": "60d", "Three": "90d", "Never": "never"}
HOLDER_COLUMNS = {"Removed": "removed", "Inactive": "inactive", "Blocked": "blocked"}
SHARE_OF_MONTH_GONE = "(day_of_month() - 1 + hour() / 24) / days_in_month()"


def license_health() -> dashboard.Dashboard:
    """The board."""
    board = style.board(
        UID,
        "Qlik license: health",
        "Can the users of this site work, for how long, and if not, why?",
        "7d",
        one_site=True,
        marks=(
            style.Mark("Stale license", "red", f"max by ({SITE_LABELS}) ({selector(metrics.STALE)}) == 1"),
            style.Mark("Sync failed", "orange", FIRST_FAILURE),
        ),
    )
    _add_summary(board)
    board.with_panel(style.firing_alerts(7))
    _add_history(board)
    board.with_row(dashboard.Row("Syncs with the backend"))
    _add_syncs(board)
    board.with_row(dashboard.Row("Seats, minutes and expiry, from the Repository API"))
    _add_seats(board)
    return board


def _add_summary(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.number(
            About(
                "Can users work?",
                "The verdict of the exporter from logs, probes and the Repository API. If there are several nodes, the "
                "worst one. `qlik-license-exporter diagnose` on the node shows the evidence and the cure.",
                "none",
                "No verdict: no exporter of this site answers",
                ("QlikLicenseStale", "QlikLicenseAccessDeniedMassive", "QlikLicenseExporterDown"),
            ),
            9,
            5,
            query(WORST_RANK, "Verdict"),
            thresholds=style.NO_LIMIT,
            area=True,
        )
        .mappings(style.words(WORDS))
        .text_mode(common_models.BigValueTextMode.VALUE)
    )
    board.with_panel(
        style.number(
            About(
                "Time until lockout",
                "The last successful sync plus the grace time (5 days unless configured otherwise). An upper "
                "bound: it is unknown which of Qlik's two schedules counts. If the exporter is down, the time keeps "
                "running for a day. Orange after a missed day, red below 48 hours.",
                "s",
                NO_SYNC,
                ("QlikLicenseLockoutImminent",),
            ),
            4,
            5,
            query(f"min({SECONDS_UNTIL_LOCKOUT})", "Left"),
            thresholds=limits.LOCKOUT_STEPS,
        )
        .decimals(1)
        .mappings(style.words_below(0, "Time is up", "red"))
    )
    board.with_panel(
        style.number(
            About(
                "Since last sync",
                "Time since the last successful sync, on the node where it is longest.",
                "s",
                NO_SYNC,
                ("QlikLicenseSyncOverdue", "QlikLicenseContactLost"),
            ),
            4,
            5,
            query(f"max({SECONDS_SINCE_SYNC})", "Ago"),
            thresholds=limits.SYNC_AGE_STEPS,
        ).decimals(1)
    )
    board.with_panel(
        style.number(
            About(
                "Users refused, 1 h",
                "Distinct users refused without an access pass within an hour. From ten on, probably everyone is "
                "affected. A user refused on two nodes counts twice.",
                "none",
                "No audit log read",
                ("QlikLicenseAccessDenied", "QlikLicenseAccessDeniedMassive"),
            ),
            4,
            5,
            query(f"sum({selector(metrics.ACCESS_DENIED_USERS, reason='no_access_pass')})", "Users"),
            thresholds=limits.USERS_REFUSED_STEPS,
        )
    )
    board.with_panel(
        style.number(
            About(
                "Backend",
                "Whether the last probe of the license backend succeeded, on the worst node.",
                "none",
                "No probe of the backend",
                ("QlikLicenseBackendUnreachable",),
            ),
            3,
            5,
            query(f"min({selector(metrics.PROBE_SUCCESS, role='backend')})", "Backend"),
            thresholds=style.NO_LIMIT,
        ).mappings(style.words(style.REACHED))
    )


def _add_history(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.states(
            About(
                "What happened",
                "Verdict, license and backend over time; the worst node at each moment.",
                "none",
                "No exporter of this site answered",
                (
                    "QlikLicenseStale",
                    "QlikLicenseStaleUnconfirmed",
                    "QlikLicenseBackendUnreachable",
                    "QlikLicenseBackendFlapping",
                ),
            ),
            24,
            7,
            query(WORST_RANK, "Can users work?", name="A"),
            query(f"max(max_over_time({selector(metrics.STALE)}[$__rate_interval]))", "License", name="B"),
            query(
                f"min(min_over_time({selector(metrics.PROBE_SUCCESS, role='backend')}[$__rate_interval]))",
                "Backend",
                name="C",
            ),
        )
        .mappings(style.words(WORDS))
        .override_by_query("B", style.properties(mappings=style.words({0: ("Valid", "green"), 1: ("STALE", "red")})))
        .override_by_query("C", style.properties(mappings=style.words(style.REACHED)))
    )
    board.with_panel(
        style.lines(
            About(
                "Days since the last good sync, by node",
                "Rises while no sync succeeds, and returns to 0 with the next successful one. Dashed: a day was missed "
                "(26 hours), 48 hours are left, the default grace is over (5 days).",
                "d",
                NO_SYNC,
                ("QlikLicenseSyncOverdue", "QlikLicenseLockoutImminent"),
            ),
            12,
            8,
            query(
                f"{by_target('max', syncing(selector(metrics.SYNC_AGE)))} / {DAY:.0f}",
                "{{instance}}",
            ),
            limits=limits.SYNC_AGE_LINES_DAYS,
        )
        .min(0)
        .axis_soft_max(limits.USUAL_GRACE_DAYS)
    )
    denials = style.bars(
        About(
            "Refusals by reason",
            "Refusals in the audit log, in each interval. A short burst of parallel sessions is normal; many "
            "`no access pass` in a short time indicate an outage.",
            "none",
            "No audit log read",
            ("QlikLicenseAccessDenied", "QlikLicenseParallelSessions", "QlikLicenseAllocationRefused"),
        ),
        12,
        8,
        query(by_site("sum", gone_up(metrics.ACCESS_DENIALS), "reason"), "{{reason}}"),
    ).decimals(0)
    for reason, (text, colour) in DENIALS.items():
        denials.override_by_name(reason, style.properties(displayName=text, color=style.fixed(colour)))
    board.with_panel(denials)
    board.with_panel(
        style.bars(
            About(
                "Errors of the Licenses service by class",
                "Errors in the Licenses log, in each interval: what the service itself reports.",
                "none",
                "No errors in this time",
                ("QlikLicenseSyncFailing", "QlikLicenseBackendErrors", "QlikLicenseUnknownErrors"),
            ),
            12,
            7,
            query(by_site("sum", gone_up(metrics.ERRORS), "error") + " > 0", "{{error}}"),
        ).decimals(0)
    )
    users = style.lines(
        About(
            "Different users refused within an hour",
            "Distinct users: several attempts of one user count once. Dashed: three and ten.",
            "none",
            "No audit log read",
            ("QlikLicenseAccessDenied", "QlikLicenseAccessDeniedMassive"),
        ),
        12,
        7,
        query(by_site("sum", selector(metrics.ACCESS_DENIED_USERS), "reason"), "{{reason}}"),
        limits=((None, "transparent"), *limits.USERS_REFUSED_STEPS[1:]),
    ).min(0)
    for reason in ("no_access_pass", "parallel_sessions"):
        text, colour = DENIALS[reason]
        users.override_by_name(reason, style.properties(displayName=text, color=style.fixed(colour)))
    board.with_panel(users.decimals(0))


def _add_syncs(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.bars(
            About(
                "Sync attempts and failures",
                "From the Licenses log. An attempt alone is not a success: in Qlik's own sample the refusal follows "
                "40 ms later.",
                "none",
                "No Licenses log read",
                ("QlikLicenseSyncNotAttempted", "QlikLicenseSyncFailing", "QlikLicenseSyncUnknown"),
            ),
            10,
            7,
            query(by_site("sum", gone_up(metrics.SYNC_ATTEMPTS)), "Attempts", name="A"),
            query(by_site("sum", gone_up(metrics.SYNC_FAILURES)), "Failures", name="B"),
        )
        .decimals(0)
        .stacking(common.StackingConfig().mode(common_models.StackingMode.NONE))
        .override_by_name("Attempts", style.properties(color=style.fixed("blue")))
        .override_by_name("Failures", style.properties(color=style.fixed("red")))
    )
    board.with_panel(
        style.lines(
            About(
                "Failures in a row",
                "Failed syncs since the last successful one, by node.",
                "none",
                "No Licenses log read",
                ("QlikLicenseSyncFailing",),
            ),
            8,
            7,
            query(by_target("max", selector(metrics.SYNC_CONSECUTIVE_FAILURES)), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.number(
            About(
                "How the last success is known",
                "`message`: from a configured log message. `qrs`: from the Repository API. `inferred`: from an attempt "
                "without a failure; less certain.",
                "string",
                NO_SYNC,
                ("QlikLicenseSyncUnknown",),
            ),
            6,
            7,
            query_now(by_site("max", selector(metrics.SYNC_SUCCESS_SOURCE) + " == 1", "source"), "{{source}}"),
            thresholds=style.NO_LIMIT,
        ).text_mode(common_models.BigValueTextMode.NAME)
    )
    board.with_panel(
        style.columns(
            style.rows(
                About(
                    "Syncs by node",
                    "How long ago each node last succeeded, tried and failed, and how many syncs in a row failed or "
                    "are unclear. A sync is unclear if the log then contains something that the exporter does not "
                    "know: it counts neither as successful nor as failed, so the time until lockout keeps running.",
                    "none",
                    "No Licenses log read",
                    ("QlikLicenseSyncUnclear", "QlikLicenseSyncFailing", "QlikLicenseSyncNotAttempted"),
                ),
                24,
                6,
                style.query_rows(f"time() - {by_target('max', selector(metrics.SYNC_LAST_SUCCESS))}", name="Success"),
                style.query_rows(f"time() - {by_target('max', selector(metrics.SYNC_LAST_ATTEMPT))}", name="Attempt"),
                style.query_rows(f"time() - {by_target('max', selector(metrics.SYNC_LAST_FAILURE))}", name="Failure"),
                style.query_rows(by_target("max", selector(metrics.SYNC_CONSECUTIVE_FAILURES)), name="Failed"),
                style.query_rows(by_target("max", selector(metrics.SYNC_UNCLEAR)), name="Unclear"),
            ),
            {
                "instance": style.Column("Node", width=210),
                "Value #Success": style.Column("Last success", unit="s", decimals=1, steps=limits.SYNC_AGE_STEPS),
                "Value #Attempt": style.Column("Last attempt", unit="s", decimals=1),
                "Value #Failure": style.Column("Last failure", unit="s", decimals=1),
                "Value #Failed": style.Column("Failed in a row", steps=limits.IN_A_ROW_STEPS),
                "Value #Unclear": style.Column("Unclear in a row", steps=limits.IN_A_ROW_STEPS),
            },
            hidden=("site",),
        )
    )


def _add_seats(board: dashboard.Dashboard) -> None:
    nearly, minutes = limits.SEATS_NEARLY_EXHAUSTED_RATIO, LIMITS.capacity_share
    board.with_panel(
        style.number(
            About(
                "License ends in",
                "Time until the end of the earliest `Valid To` day. Nothing is shown for a perpetual license.",
                "s",
                "No end date known",
                ("QlikLicenseExpiringSoon", "QlikLicenseExpired", "QlikLicenseInvalid"),
            ),
            4,
            6,
            query(f"min({selector(metrics.EXPIRY)}) - time()", "Left"),
            thresholds=limits.EXPIRY_STEPS,
        )
        .decimals(1)
        .mappings(style.words_below(0, "Expired", "red"))
    )
    board.with_panel(
        style.meters(
            About(
                "Seats given away",
                "Allocated and used seats as a share of those owned, by access type; for tokens, those allocated. "
                "100 % is not a fault: it affects only users who have no seat yet.",
                "percentunit",
                NO_REPOSITORY_API,
                ("QlikLicenseSeatsExhausted", "QlikLicenseSeatsNearlyExhausted"),
            ),
            6,
            6,
            query(
                f"{by_site('max', GIVEN, 'access_type')} / ({by_site('max', SEATS, 'access_type')} > 0)",
                "{{access_type}}",
                name="A",
            ),
            query(
                f"1 - {by_site('max', selector(metrics.TOKENS_AVAILABLE))} / ({by_site('max', TOKENS)} > 0)",
                "tokens",
                name="B",
            ),
            query(
                f"{by_site('max', USED, 'access_type')} / ({by_site('max', SEATS, 'access_type')} > 0)",
                "{{access_type}} used",
                name="C",
            ),
            thresholds=((None, "green"), (nearly, "orange"), (1, "red")),
        ).decimals(0)
    )
    board.with_panel(
        style.meters(
            About(
                "Analyzer minutes used this month",
                "Used minutes as a share of this month's, and the elapsed share of the month.",
                "percentunit",
                NO_REPOSITORY_API,
                ("QlikLicenseCapacityNearlyExhausted", "QlikLicenseCapacityBurningFast"),
            ),
            7,
            6,
            query(f"{by_site('max', MINUTES_USED)} / ({by_site('max', MINUTES)} > 0)", "Minutes used", name="A"),
            query(f"{SHARE_OF_MONTH_GONE} and on () ({by_site('max', MINUTES)} > 0)", "Month gone", name="B"),
            thresholds=((None, "green"), (minutes, "red")),
        )
        .decimals(0)
        .override_by_name("Month gone", style.properties(color=style.fixed("blue")))
    )
    board.with_panel(
        style.columns(
            style.rows(
                About(
                    "License in force",
                    "What the Repository reports about the license; never its serial number, key or owner.",
                    "none",
                    NO_REPOSITORY_API,
                    ("QlikLicenseQrsUnreachable", "QlikLicenseQrsIncomplete"),
                ),
                7,
                6,
                style.query_rows(by_site("max", selector(metrics.INFO), "kind", "product", "subscription")),
            ),
            {
                "product": style.Column("Product"),
                "kind": style.Column("Kind", width=90),
                "subscription": style.Column("Subscription", width=100),
            },
            hidden=("Value", "site"),
        )
    )
    board.with_panel(
        style.lines(
            About(
                "Seats left",
                "Seats, or tokens, that can still be allocated. Quarantined ones are available again after seven days.",
                "none",
                NO_REPOSITORY_API,
                ("QlikLicenseSeatsExhausted", "QlikLicenseSeatsExceeded", "QlikLicenseSeatsRunningOut"),
            ),
            10,
            7,
            query(
                by_site("max", selector(metrics.ACCESS["available"]), "access_type"),
                "{{access_type}} left",
                name="A",
            ),
            query(
                by_site("max", selector(metrics.ACCESS["quarantined"]), "access_type"),
                "{{access_type}} in quarantine",
                name="B",
            ),
            query(by_site("max", selector(metrics.TOKENS_AVAILABLE)), "tokens left", name="C"),
            query(
                by_site("max", selector(metrics.ACCESS["excess"]), "access_type"),
                "{{access_type}} allocated beyond what is owned",
                name="D",
            ),
        )
        .min(0)
        .decimals(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Analyzer minutes against the month",
                "When the used line runs above the month's, the minutes end before the month does. Minutes that cannot "
                "be used are reported by the Repository.",
                "percentunit",
                NO_REPOSITORY_API,
                ("QlikLicenseCapacityBurningFast", "QlikLicenseCapacityRunningOut"),
            ),
            10,
            7,
            query(f"{by_site('max', MINUTES_USED)} / ({by_site('max', MINUTES)} > 0)", "Minutes used", name="A"),
            query(f"{SHARE_OF_MONTH_GONE} and on () ({by_site('max', MINUTES)} > 0)", "Month gone", name="B"),
            query(
                f"{by_site('max', selector(metrics.CAPACITY['unavailable']))} / ({by_site('max', MINUTES)} > 0)",
                "Cannot be used",
                name="C",
            ),
            limits=limits.line_at(minutes),
        )
        .min(0)
        .override_by_name("Month gone", style.properties(color=style.fixed("blue")))
    )
    board.with_panel(
        style.number(
            About(
                "Most sessions",
                "The most sessions that any one user holds at this proxy: a lower bound. Qlik refuses the sixth.",
                "none",
                "Sessions are not read",
                ("QlikLicenseParallelSessions",),
            ),
            4,
            7,
            query(f"max({selector(metrics.SESSIONS_PER_USER)})", "Sessions"),
            thresholds=((None, "green"), (PARALLEL_SESSIONS, "orange")),
        )
    )
    _add_days_and_idle_seats(board)


def _add_days_and_idle_seats(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.number(
            About(
                "Runs out on",
                "The day (UTC) on which no seat, token or analyzer minute is left, at the pace of the last 14 days "
                "(minutes: 7 days), and the day on which the license ends, as the Repository reports it. A forecast "
                "needs the recordings of the shipped rules, nearly two weeks of data and a steady pace.",
                style.DAY_UNIT,
                "No end date, and no forecast",
                ("QlikLicenseSeatsRunningOut", "QlikLicenseCapacityRunningOut", "QlikLicenseExpiringSoon"),
            ),
            12,
            7,
            query(f"1000 * {by_site('max', recorded(SEATS_RUN_OUT), 'access_type')}", "{{access_type}}", name="A"),
            query(f"1000 * {by_site('max', recorded(MINUTES_RUN_OUT))}", "analyzer minutes", name="B"),
            query(f"1000 * {by_site('min', selector(metrics.EXPIRY))}", "license", name="C"),
            thresholds=style.NO_LIMIT,
        )
    )
    board.with_panel(
        style.columns(
            style.rows(
                About(
                    "Seats that nobody uses",
                    "Allocated seats by the time since their last use, counted with `qrs.seats_interval`. One not used "
                    "for 90 days is among those of 60 and 30 days, too.",
                    "none",
                    "Not counted: `qrs.seats_interval` is off, or the user has no right to read seats",
                    ("QlikLicenseSeatsNearlyExhausted", "QlikLicenseSeatsQuarantined"),
                ),
                12,
                7,
                *(
                    style.query_rows(
                        by_site("max", selector(metrics.ACCESS_UNUSED, unused=unused), "access_type"), name=name
                    )
                    for name, unused in UNUSED_COLUMNS.items()
                ),
                *(
                    style.query_rows(
                        by_site("max", selector(metrics.ACCESS_HELD_BY, holder=holder), "access_type"), name=name
                    )
                    for name, holder in HOLDER_COLUMNS.items()
                ),
            ),
            {
                "access_type": style.Column("Seats", width=140),
                "Value #Month": style.Column("Not for 30 days"),
                "Value #Two": style.Column("60 days"),
                "Value #Three": style.Column("90 days"),
                "Value #Never": style.Column("Never used"),
                "Value #Removed": style.Column("Removed users"),
                "Value #Inactive": style.Column("Inactive users"),
                "Value #Blocked": style.Column("Blocked users"),
            },
            hidden=("site",),
        )
    )
