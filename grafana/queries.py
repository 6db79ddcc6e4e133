"""The PromQL that the boards share: selectors that follow the board's variables, and who is aggregated with whom."""

TARGET_LABELS = "job, site, instance"
SITE_LABELS = "job, site"


def selector(metric: str, **matchers: str) -> str:
    """A selector of `metric` that follows the board's variables; `matchers` are label="value", or label="~regex"."""
    own = {label: f'=~"{value[1:]}"' if value.startswith("~") else f'="{value}"' for label, value in matchers.items()}
    chosen = {"job": '=~"$job"', "site": '=~"$site"', "instance": '=~"$instance"'} | own
    return f"{metric}{{{', '.join(label + value for label, value in chosen.items())}}}"


def by_target(aggregation: str, expression: str) -> str:
    """One value for each exporter."""
    return f"{aggregation} by ({TARGET_LABELS}) ({expression})"


def by_site(aggregation: str, expression: str, *more: str) -> str:
    """One value for each site: for what belongs to the site, so that it does not count once a node."""
    return f"{aggregation} by ({', '.join((SITE_LABELS, *more))}) ({expression})"


def gone_up(metric: str, window: str = "$__rate_interval", **matchers: str) -> str:
    """By how much a counter went up within `window`."""
    return f"increase({selector(metric, **matchers)}[{window}])"


def syncing(expression: str) -> str:
    """`expression`, of exporters whose node is expected to sync: not of offline and LEF sites."""
    return f"({expression} and on ({TARGET_LABELS}) {last_known('qlik_license_sync_expected')} == 1)"


def last_known(metric: str) -> str:
    """A gauge, or for a day after its exporter went silent what it was: Qlik's clock runs on meanwhile."""
    return f"last_over_time({selector(metric)}[1d])"


SECONDS_UNTIL_LOCKOUT = f"{syncing(last_known('qlik_license_lockout_timestamp_seconds'))} - time()"
SECONDS_SINCE_SYNC = f"time() - {syncing(last_known('qlik_license_sync_last_success_timestamp_seconds'))}"
