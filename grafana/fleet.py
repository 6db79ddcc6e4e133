"""The board "Fleet": many sites and nodes on one page, the worst first, each a link to its own health board."""

from grafana_foundation_sdk.builders import common, dashboard, table

from exporter import metrics
from grafana import license_health, limits, style
from grafana.queries import SECONDS_SINCE_SYNC, SECONDS_UNTIL_LOCKOUT, SITE_LABELS, UP, by_site, by_target, selector
from grafana.style import About, query, query_rows
from grafana.verdicts import FIRST_CRITICAL_RANK, RANK_OR_DOWN, RANKS, WORDS

UID = "qlik-license-fleet"
NO_EXPORTER = "No exporter is scraped"
SITE_RANK = f"max by ({SITE_LABELS}) ({RANK_OR_DOWN})"

HEALTH = f"/d/{license_health.UID}?${{datasource:queryparam}}&${{job:queryparam}}&${{__url_time_range}}"
VERDICT = style.Column("Can users work?", width=310, words=WORDS, ground=True)
CLOCKS = {
    "Value #Lockout": style.Column("Until lockout", 0, "s", 1, steps=limits.LOCKOUT_STEPS, below_zero="Time is up"),
    "Value #Sync": style.Column("Since last sync", 0, "s", 1, steps=limits.SYNC_AGE_STEPS),
    "Value #Refused": style.Column("Users refused, 1 h", 0, "none", 0, steps=limits.USERS_REFUSED_STEPS),
    "Value #Backend": style.Column("Good probes, 6 h", 0, "percentunit", 0, steps=limits.BACKEND_STEPS),
}


def fleet() -> dashboard.Dashboard:
    """The board."""
    board = style.board(UID, "Qlik license: fleet", "All sites and nodes on one page, the worst first.", "24h")
    _add_summary(board)
    board.with_panel(_sites())
    board.with_panel(style.firing_alerts(7, many_sites=True))
    board.with_panel(_nodes())
    board.with_panel(
        style.states(
            About(
                "Verdicts over time",
                "The worst verdict of the nodes of each site at each moment.",
                "none",
                NO_EXPORTER,
            ),
            24,
            8,
            query(SITE_RANK, "{{site}}"),
        ).mappings(style.words(WORDS))
    )
    return board


def _add_summary(board: dashboard.Dashboard) -> None:
    counts = (
        ("Sites", "Sites with at least one exporter.", f"count({SITE_RANK})", style.NO_LIMIT, ()),
        (
            "Critical sites",
            "Sites where users cannot work, or soon will not be able to.",
            f"count({SITE_RANK} >= {FIRST_CRITICAL_RANK}) or 0 * count({SITE_RANK})",
            ((None, "green"), (1, "red")),
            ("QlikLicenseStale", "QlikLicenseLockoutImminent"),
        ),
        (
            "Sites with a warning",
            "Sites whose worst verdict is neither ok nor critical.",
            f"count({SITE_RANK} > {RANKS['well']} < {FIRST_CRITICAL_RANK}) or 0 * count({SITE_RANK})",
            ((None, "green"), (1, "orange")),
            (),
        ),
        (
            "Exporters down",
            "Exporters that Prometheus cannot scrape.",
            f"count({selector(UP)} == 0) or 0 * count({selector(UP)})",
            ((None, "green"), (1, "red")),
            ("QlikLicenseExporterDown",),
        ),
    )
    for title, description, expression, thresholds, alerts in counts:
        board.with_panel(
            style.number(
                About(title, description, "none", NO_EXPORTER, alerts),
                5,
                4,
                query(expression, title),
                thresholds=thresholds,
            )
        )
    board.with_panel(
        style.number(
            About(
                "First lockout in",
                "The shortest time until lockout of all sites that sync.",
                "s",
                "No sync is known",
                ("QlikLicenseLockoutImminent",),
            ),
            4,
            4,
            query(f"min({SECONDS_UNTIL_LOCKOUT})", "Left"),
            thresholds=limits.LOCKOUT_STEPS,
        )
        .decimals(1)
        .mappings(style.words_below(0, "Time is up", "red"))
    )


def _linked(panel: table.Panel, field: str, title: str, where: str) -> table.Panel:
    """The cells of `field` lead to the health board of their site."""
    panel.override_by_name(field, style.properties(links=[{"title": title, "url": f"{HEALTH}&{where}"}]))
    return panel.sort_by([common.TableSortByFieldState().display_name(VERDICT.title).desc(True)])


def _sites() -> table.Panel:
    refused = selector(metrics.ACCESS_DENIED_USERS, reason="no_access_pass")
    backend = selector(metrics.PROBE_SUCCESS, role="backend")
    panel = style.rows(
        About(
            "Sites, worst first",
            "One row for each site: verdict and times of its worst node, and its users. Click a site for details.",
            "none",
            NO_EXPORTER,
            ("QlikLicenseStale", "QlikLicenseLockoutImminent", "QlikLicenseExpiringSoon"),
        ),
        24,
        13,
        query_rows(SITE_RANK, name="Verdict"),
        query_rows(by_site("min", SECONDS_UNTIL_LOCKOUT), name="Lockout"),
        query_rows(by_site("max", SECONDS_SINCE_SYNC), name="Sync"),
        query_rows(by_site("sum", refused), name="Refused"),
        query_rows(by_site("min", f"avg_over_time({backend}[6h])"), name="Backend"),
        query_rows(by_site("min", selector(metrics.EXPIRY)) + " - time()", name="Ends"),
        query_rows(by_site("count", selector(UP)), name="Nodes"),
    )
    style.columns(
        panel,
        {
            "site": style.Column("Site", width=140),
            "Value #Verdict": VERDICT,
            **CLOCKS,
            "Value #Ends": style.Column("License ends in", 0, "s", 1, steps=limits.EXPIRY_STEPS, below_zero="Expired"),
            "Value #Nodes": style.Column("Nodes", width=70),
        },
    )
    return _linked(panel, "Site", "Health of this site", "var-site=${__value.raw}")


def _nodes() -> table.Panel:
    refused = selector(metrics.ACCESS_DENIED_USERS, reason="no_access_pass")
    backend = selector(metrics.PROBE_SUCCESS, role="backend")
    panel = style.rows(
        About(
            "Nodes, worst first",
            "One row for each exporter. A node whose exporter is down keeps its row.",
            "none",
            NO_EXPORTER,
            ("QlikLicenseExporterDown",),
        ),
        24,
        13,
        query_rows(RANK_OR_DOWN, name="Verdict"),
        query_rows(by_target("min", SECONDS_UNTIL_LOCKOUT), name="Lockout"),
        query_rows(by_target("max", SECONDS_SINCE_SYNC), name="Sync"),
        query_rows(by_target("sum", refused), name="Refused"),
        query_rows(by_target("min", f"avg_over_time({backend}[6h])"), name="Backend"),
    )
    style.columns(
        panel,
        {
            "site": style.Column("Site", width=140),
            "Value #Verdict": VERDICT,
            "instance": style.Column("Node", width=210),
            **CLOCKS,
        },
    )
    return _linked(panel, "Node", "Health of this node", "var-site=${__data.fields[0]}&var-instance=${__value.raw}")
