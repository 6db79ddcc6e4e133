"""The board "Connectivity": why the license backend can or cannot be reached, stage by stage."""

from grafana_foundation_sdk.builders import dashboard

from exporter import metrics
from exporter.verdict import LIMITS
from grafana import limits, style
from grafana.queries import TARGET_LABELS, by_site, by_target, gone_up, selector
from grafana.style import About, query, query_now, query_rows

UID = "qlik-license-connectivity"
NO_PROBE = "No probe is configured"
PROBE = f"{TARGET_LABELS}, target, role"
SUCCESS = selector(metrics.PROBE_SUCCESS)
LEAF = selector(metrics.PROBE_CERTIFICATE)
CHAIN = selector(metrics.PROBE_CHAIN)
SKEW = selector(metrics.PROBE_SKEW)
PHASES = {"dns": "Name", "connect": "Connect", "proxy": "Proxy", "tls": "TLS", "http": "HTTP"}


def by_probe(aggregation: str, expression: str, *more: str) -> str:
    """One value for each probe of each exporter."""
    return f"{aggregation} by ({', '.join((PROBE, *more))}) ({expression})"


def connectivity() -> dashboard.Dashboard:
    """The board."""
    board = style.board(
        UID,
        "Qlik license: connectivity",
        "Can the license backend be reached, and if not, at which stage does it fail and why?",
        "24h",
    )
    _add_summary(board)
    board.with_panel(style.firing_alerts(6))
    _add_history(board)
    board.with_row(dashboard.Row("Certificates and clocks"))
    _add_certificates(board)
    return board


def _add_summary(board: dashboard.Dashboard) -> None:
    backend = selector(metrics.PROBE_SUCCESS, role="backend")
    board.with_panel(
        style.number(
            About(
                "Nodes cut off",
                "Number of nodes on which the last probe of the license backend failed.",
                "none",
                NO_PROBE,
                ("QlikLicenseBackendUnreachable",),
            ),
            5,
            5,
            query(f"count({backend} == 0) or 0 * count({backend})", "Nodes"),
            thresholds=((None, "green"), (1, "red")),
        )
    )
    board.with_panel(
        style.meters(
            About(
                "Good backend probes in the last 6 hours",
                "The share of successful probes. Below 95 % the connection is unreliable, which Qlik names as a cause "
                "of stale licenses.",
                "percentunit",
                NO_PROBE,
                ("QlikLicenseBackendFlapping",),
            ),
            9,
            5,
            query_now(f"sort({by_probe('min', f'avg_over_time({backend}[6h])')})", "{{instance}}"),
            thresholds=limits.BACKEND_STEPS,
        ).decimals(1)
    )
    board.with_panel(
        style.number(
            About(
                "Earliest certificate end",
                "Time until the first certificate in any server's chain expires, even if it cannot be verified.",
                "s",
                "No certificate seen",
                ("QlikLicenseCertificateExpiring",),
            ),
            5,
            5,
            query(f"min({CHAIN} or {LEAF}) - time()", "Left"),
            thresholds=limits.CERTIFICATE_STEPS,
        )
        .decimals(1)
        .mappings(style.words_below(0, "Ended", "red"))
    )
    board.with_panel(
        style.number(
            About(
                "Largest clock error",
                "Difference between the clock of the node and the backend's `Date`, the largest of all nodes. "
                "Licenses depend on the time: from two minutes on it is a fault.",
                "s",
                "No backend answered",
                ("QlikLicenseClockSkew",),
            ),
            5,
            5,
            query(f"max(abs({SKEW}))", "Error"),
            thresholds=((None, "green"), (LIMITS.clock_skew, "red")),
        ).decimals(1)
    )


def _add_history(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.states(
            About(
                "Every probe",
                "One row for each probe of each node. An interval is red if any probe in it failed.",
                "none",
                NO_PROBE,
                (
                    "QlikLicenseBackendUnreachable",
                    "QlikLicenseRepositoryDown",
                    "QlikLicenseLocalServiceDown",
                    "QlikLicenseProbeStalled",
                ),
            ),
            24,
            10,
            query(by_probe("min", f"min_over_time({SUCCESS}[$__rate_interval])"), "{{instance}} → {{target}}"),
        ).mappings(style.words(style.REACHED))
    )
    stages = style.columns(
        style.rows(
            About(
                "Every probe by stage",
                "The last probe of each target: how long each stage took (empty: not reached), and the response. "
                "404 is the healthy answer of the license backend. No result: the probe is not judged.",
                "none",
                NO_PROBE,
                (
                    "QlikLicenseBackendUnreachable",
                    "QlikLicenseTlsIntercepted",
                    "QlikLicenseProbeNeverSucceeded",
                    "QlikLicenseProbeNotJudged",
                ),
            ),
            24,
            8,
            query_rows(by_probe("min", SUCCESS), name="Result"),
            *(
                query_rows(by_probe("max", selector(metrics.PROBE_DURATION, phase=phase)), name=title)
                for phase, title in PHASES.items()
            ),
            query_rows(by_probe("max", selector(metrics.PROBE_STATUS)), name="Status"),
            query_rows(by_probe("max", selector(metrics.PROBE_IP)), name="IP"),
            query_rows(
                f"time() - {by_probe('max', selector(metrics.PROBE_LAST_SUCCESS))}",
                name="Good",
            ),
            query_rows(by_probe("max", selector(metrics.PROBE_TLS_INFO), "issuer", "version"), name="Issuer"),
        ),
        {
            "site": style.Column("Site", width=80),
            "instance": style.Column("Node", width=140),
            "target": style.Column("Target", width=200),
            "role": style.Column("Role", width=75),
            "Value #Result": style.Column("Result", width=90, words=style.REACHED),
            **{f"Value #{title}": style.Column(title, unit="s", width=75) for title in PHASES.values()},
            "Value #Status": style.Column("Status", width=65),
            "Value #IP": style.Column("IP", width=40),
            "issuer": style.Column("Certificate by", width=110),
            "version": style.Column("TLS version", width=95),
            "Value #Good": style.Column("Last good", width=80, unit="s", decimals=1),
        },
        hidden=("Value #Issuer",),
    )
    board.with_panel(stages)
    board.with_panel(
        style.bars(
            About(
                "Failed probes by reason",
                "Failed probes, in each interval. The reason names the stage: dns, tcp, proxy, tls, http.",
                "none",
                "No probe failed in this time",
                ("QlikLicenseBackendUnreachable",),
            ),
            12,
            8,
            query(by_site("sum", gone_up(metrics.PROBE_FAILURES), "reason") + " > 0", "{{site}}: {{reason}}"),
        ).decimals(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Good backend probes over 6 hours",
                "The share of successful probes within the six hours before each moment. Dashed: 95 %.",
                "percentunit",
                NO_PROBE,
                ("QlikLicenseBackendFlapping",),
            ),
            12,
            8,
            query(
                by_probe("min", f"avg_over_time({selector(metrics.PROBE_SUCCESS, role='backend')}[6h])"),
                "{{instance}}",
            ),
            limits=limits.line_at(LIMITS.flapping_share),
        )
        .min(0)
        .max(1)
    )
    board.with_panel(
        style.layers(
            About(
                "Where the time goes",
                "Average duration of each stage of the backend probes. Stages that were not reached have none.",
                "s",
                NO_PROBE,
            ),
            12,
            8,
            query(f"avg by (phase) ({selector(metrics.PROBE_DURATION, role='backend')})", "{{phase}}"),
        )
    )
    board.with_panel(
        style.lines(
            About(
                "Whole time of a backend probe, by node",
                "All stages of a probe together. A slow connection often precedes a failing one.",
                "s",
                NO_PROBE,
            ),
            12,
            8,
            query(by_target("sum", selector(metrics.PROBE_DURATION, role="backend")), "{{instance}}"),
        ).min(0)
    )


def _add_certificates(board: dashboard.Dashboard) -> None:
    certificates = style.columns(
        style.rows(
            About(
                "Certificates served",
                "Issuer and expiry of the server certificate. A proxy that inspects TLS shows its own name.",
                "none",
                "No certificate seen",
                ("QlikLicenseTlsIntercepted", "QlikLicenseCertificateExpiring"),
            ),
            12,
            7,
            query_rows(by_probe("max", selector(metrics.PROBE_TLS_INFO), "issuer", "version"), name="Issuer"),
            query_rows(by_probe("min", LEAF) + " - time()", name="Leaf"),
            query_rows(by_probe("min", CHAIN) + " - time()", name="Chain"),
            query_rows(by_probe("min", selector(metrics.PROBE_ISSUER_EXPECTED)), name="Expected"),
        ),
        {
            "instance": style.Column("Node", width=150),
            "target": style.Column("Target"),
            "issuer": style.Column("Issued by", width=90),
            "Value #Expected": style.Column("Expected", width=80, words={0: ("NO", "red"), 1: ("Yes", "green")}),
            "Value #Leaf": style.Column("Own ends in", 95, "s", 1, steps=limits.CERTIFICATE_STEPS, below_zero="Ended"),
            "Value #Chain": style.Column("Chain's in", 90, "s", 1, steps=limits.CERTIFICATE_STEPS, below_zero="Ended"),
        },
        hidden=("Value #Issuer", "site", "role", "version"),
    )
    board.with_panel(certificates)
    board.with_panel(
        style.lines(
            About(
                "Clock error by node",
                "The node's clock minus the backend's. Dashed: two minutes either way.",
                "s",
                "No backend answered",
                ("QlikLicenseClockSkew",),
            ),
            12,
            7,
            query(by_probe("max", SKEW), "{{instance}}"),
            limits=(
                (None, "red"),
                (-LIMITS.clock_skew, "transparent"),
                (LIMITS.clock_skew, "red"),
            ),
        )
        .axis_soft_min(-15)
        .axis_soft_max(15)
    )
