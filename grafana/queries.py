"""The PromQL that the boards share: selectors that follow the board's variables, and who is aggregated with whom."""

from exporter import metrics
from exporter.metrics import Metric

UP = Metric("up", "gauge", "Prometheus's own: 1 if the last scrape succeeded.")
SCRAPE_DURATION = Metric("scrape_duration_seconds", "gauge", "Prometheus's own: how long the last scrape took.")
MEMORY = Metric("process_resident_memory_bytes", "gauge", "Of the process, where the system tells of it.")
ALERTS = Metric("ALERTS", "gauge", "Prometheus's own: 1 for each alert that is pending or firing.")
SEATS_RUN_OUT = Metric(
    "job_site:qlik_license_access_exhausted_timestamp_seconds:forecast14d",
    "gauge",
    "A recording of the shipped rules: when no seat is left, at the pace of the last 14 days.",
    {"access_type": None},
)
MINUTES_RUN_OUT = Metric(
    "job_site:qlik_license_analyzer_capacity_exhausted_timestamp_seconds:forecast7d",
    "gauge",
    "A recording of the shipped rules: when this month's minutes are used up, at the pace of the last 7 days.",
)
PROCESSOR = Metric("process_cpu_seconds_total", "counter", "Of the process, where the system tells of it.")

TARGET_LABELS = "job, site, instance"
SITE_LABELS = "job, site"


def selector(metric: Metric, **matchers: str) -> str:
    """A selector of `metric` that follows the board's variables and matches its own labels exactly.

    Raises KeyError and ValueError for a label, and a value, that the metric never has.
    """
    for label, value in matchers.items():
        values = metric.labels[label]
        if values is not None and value not in values:
            raise ValueError(f"{metric.name} never has {label}={value}")
    chosen = {"job": '=~"$job"', "site": '=~"$site"', "instance": '=~"$instance"'}
    own = {label: f'="{value}"' for label, value in matchers.items()}
    return f"{metric.name}{{{', '.join(label + value for label, value in (chosen | own).items())}}}"


def firing(severity: str) -> str:
    """The firing alerts of a severity: of the chosen nodes, and of their whole site, which have no `instance`."""
    chosen = 'job=~"$job", site=~"$site", instance=~"$instance|"'
    return f'{ALERTS.name}{{alertname=~"QlikLicense.+", alertstate="firing", severity="{severity}", {chosen}}}'


def recorded(metric: Metric) -> str:
    """A recording of a whole site, which has no `instance` if its targets have the label `site`."""
    return f'{metric.name}{{job=~"$job", site=~"$site", instance=~"$instance|"}}'


def by_target(aggregation: str, expression: str) -> str:
    """One value for each exporter."""
    return f"{aggregation} by ({TARGET_LABELS}) ({expression})"


def by_site(aggregation: str, expression: str, *more: str) -> str:
    """One value for each site: for what belongs to the site, so that it does not count once a node."""
    return f"{aggregation} by ({', '.join((SITE_LABELS, *more))}) ({expression})"


def gone_up(metric: Metric, window: str = "$__rate_interval", **matchers: str) -> str:
    """By how much a counter went up within `window`."""
    return f"increase({selector(metric, **matchers)}[{window}])"


def syncing(expression: str) -> str:
    """`expression`, of exporters whose node is expected to sync: not of offline and LEF sites."""
    return f"({expression} and on ({TARGET_LABELS}) {last_known(metrics.SYNC_EXPECTED)} == 1)"


def last_known(metric: Metric) -> str:
    """A gauge, or for a day after its exporter went silent what it was: Qlik's clock runs on meanwhile."""
    return f"last_over_time({selector(metric)}[1d])"


SECONDS_UNTIL_LOCKOUT = f"{syncing(last_known(metrics.LOCKOUT))} - time()"
SECONDS_SINCE_SYNC = f"time() - {syncing(last_known(metrics.SYNC_LAST_SUCCESS))}"
