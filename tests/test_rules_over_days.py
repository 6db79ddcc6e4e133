"""The alerts over a day and more of a site that comes and goes: how often each begins to fire, by promtool over simulated series."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from shipped import RULES, output

pytestmark = pytest.mark.slow

HOUR = 60
STEP = 2
"""Minutes between two scrapes, and two evaluations."""
END = 30 * HOUR
GRACE = 5 * 86400
TARGET = 'job="qlik-license",site="Lyon",instance="n1"'
BACKEND = f'{TARGET},target="license.qlikcloud.com:443",role="backend"'
FIRING = """
  count by (alertname, severity) (ALERTS{alertstate="firing"})
  or 0 * count by (alertname, severity) (ALERTS)
  or 0 * last_over_time(test:firing[1h])
"""
"""0 before an alert fires and after it has fired: promtool may not hold a subquery over so long a time."""
STARTS = f"ceil(changes(test:firing[{END}m]) / 2) > 0"
"""How many times each alert began to fire."""

Failing = Callable[[int], bool]
"""Whether what begins in that minute fails."""


def simulated(fails: Failing, probe_fails: Failing, rhythm: int) -> dict[str, list[float]]:
    """The series of a node that tries to sync every `rhythm` minutes, sample by minute."""
    series: dict[str, list[float]] = {}
    attempts = failures = in_a_row = 0
    success, reached = -5, -1
    for minute in range(0, END + 1, STEP):
        if minute % rhythm < STEP:
            attempts += 1
            if fails(minute):
                failures, in_a_row = failures + 1, in_a_row + 1
            else:
                success, in_a_row = minute, 0
        if not probe_fails(minute):
            reached = minute
        now = {
            f"up{{{TARGET}}}": 1,
            f"qlik_license_sync_expected{{{TARGET}}}": 1,
            f"qlik_license_stale{{{TARGET}}}": 0,
            f"qlik_license_grace_seconds{{{TARGET}}}": GRACE,
            f"qlik_license_exporter_exposition_timestamp_seconds{{{TARGET}}}": minute * 60,
            f"qlik_license_exporter_first_start_timestamp_seconds{{{TARGET}}}": -900000,
            f"qlik_license_sync_attempts_total{{{TARGET}}}": attempts,
            f"qlik_license_sync_failures_total{{{TARGET}}}": failures,
            f"qlik_license_sync_consecutive_failures{{{TARGET}}}": in_a_row,
            f"qlik_license_sync_unclear_attempts{{{TARGET}}}": 0,
            f"qlik_license_sync_age_seconds{{{TARGET}}}": (minute - success) * 60,
            f"qlik_license_sync_last_success_timestamp_seconds{{{TARGET}}}": success * 60,
            f"qlik_license_sync_last_attempt_timestamp_seconds{{{TARGET}}}": minute // rhythm * rhythm * 60,
            f"qlik_license_lockout_timestamp_seconds{{{TARGET}}}": success * 60 + GRACE,
            f'qlik_license_exporter_log_last_read_timestamp_seconds{{{TARGET},log="licenses"}}': minute * 60,
            f'qlik_license_exporter_log_last_entry_timestamp_seconds{{{TARGET},log="licenses"}}': minute * 60,
            f'qlik_license_exporter_log_files{{{TARGET},log="licenses"}}': 1,
            f'qlik_license_errors_total{{{TARGET},error="timeout"}}': failures,
            f"qlik_license_probe_success{{{BACKEND}}}": not probe_fails(minute),
            f"qlik_license_probe_attempts_total{{{BACKEND}}}": minute + 1,
            f"qlik_license_probe_last_success_timestamp_seconds{{{BACKEND}}}": reached * 60,
            f"qlik_license_probe_last_run_timestamp_seconds{{{BACKEND}}}": minute * 60,
        }
        for name, value in now.items():
            series.setdefault(name, []).append(float(value))
    return series


def starts(folder: Path, series: dict[str, list[float]], expected: dict[tuple[str, str], int]) -> None:
    """Has promtool compare how often each alert, with its severity, began to fire within `series`."""
    group: dict[str, Any] = {
        "interval": f"{STEP}m",
        "input_series": [
            {"series": name, "values": " ".join(f"{value:.0f}" for value in values)} for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": STARTS,
                "eval_time": f"{END}m",
                "exp_samples": [
                    {"labels": f'{{alertname="QlikLicense{name}",severity="{severity}"}}', "value": times}
                    for (name, severity), times in expected.items()
                ],
            }
        ],
    }
    counting = folder / "counting.yml"
    rule = {"record": "test:firing", "expr": FIRING}
    counting.write_text(yaml.safe_dump({"groups": [{"name": "counting", "rules": [rule]}]}))
    file = folder / "test.yml"
    test = {"rule_files": [str(RULES), str(counting)], "evaluation_interval": f"{STEP}m", "tests": [group]}
    file.write_text(yaml.safe_dump(test))
    output("promtool", "test", "rules", file)


def never(minute: int) -> bool:
    """Nothing fails."""
    return False


def two_of_three(minute: int) -> bool:
    """Of the syncs every 10 minutes, two of three fail."""
    return minute // 10 % 3 != 0


def two_of_three_hourly(minute: int) -> bool:
    """Of syncs every hour, two of three fail."""
    return minute // HOUR % 3 != 0


def part_of_each_hour(minute: int) -> bool:
    """The backend is away for 40 minutes of each hour, from the fourth on."""
    return minute > 4 * HOUR and 10 <= minute % HOUR < 50


def part_of_each_morning(minute: int) -> bool:
    """The backend is away for an hour, every five hours."""
    return minute % (5 * HOUR) >= 4 * HOUR


def test_a_site_that_is_well_for_a_day_has_no_alert(tmp_path: Path) -> None:
    starts(tmp_path, simulated(never, never, 10), {})


def test_two_of_three_syncs_that_fail_in_the_log_alone_are_one_warning(tmp_path: Path) -> None:
    starts(tmp_path, simulated(two_of_three, never, 10), {("BackendFlapping", "warning"): 1})


def test_two_of_three_hourly_syncs_that_fail_in_the_log_alone_are_one_warning(tmp_path: Path) -> None:
    starts(tmp_path, simulated(two_of_three_hourly, never, 60), {("BackendFlapping", "warning"): 1})


def test_where_the_probe_flaps_too_it_is_the_same_warning_after_the_first_outage(tmp_path: Path) -> None:
    expected = {("BackendUnreachable", "warning"): 1, ("BackendFlapping", "warning"): 1}
    starts(tmp_path, simulated(two_of_three, two_of_three, 10), expected)


@pytest.mark.parametrize(
    ("probe_fails", "first_hour"),
    [(never, ["SyncFailing"]), (part_of_each_hour, ["SyncFailing", "BackendUnreachable"])],
    ids=["log alone", "log and probe"],
)
def test_an_hourly_rhythm_is_told_as_an_outage_once_and_then_as_one_warning(
    tmp_path: Path, probe_fails: Failing, first_hour: list[str]
) -> None:
    """In the first hour nobody can know that the backend will come back."""
    expected = dict.fromkeys([(name, "warning") for name in [*first_hour, "BackendFlapping"]], 1)
    starts(tmp_path, simulated(part_of_each_hour, probe_fails, 10), expected)


def test_outages_hours_apart_are_told_once_each_until_they_are_a_rhythm(tmp_path: Path) -> None:
    expected = {("SyncFailing", "warning"): 1, ("BackendUnreachable", "warning"): 1, ("BackendFlapping", "warning"): 1}
    starts(tmp_path, simulated(part_of_each_morning, part_of_each_morning, 10), expected)
