"""Every metric, declared once with its closed label values, and the collector that renders them. The only user of
prometheus_client's types.

The declarations are the contract with dashboards and alerts: a rename needs a changelog entry and a reason. Samples
are built fresh at each scrape from one `Observation`; what is not known is not exposed.
"""

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.config import ProbeConfig, Role
from exporter.events import DENIAL_REASONS, ERROR_CLASSES, LOG_NAMES, SEVERE_LEVELS, USER_DENIAL_REASONS, LogName
from exporter.license import SUCCESS_SOURCES, LicenseState, LogCounters
from exporter.observation import Observation
from exporter.probes import PHASES, REASONS, ProbeHistory, ProbeResult
from exporter.qrs import LicenseOverview, QrsBoard
from exporter.remote_write.figures import DROPPED_REASONS, RemoteWriteFigures
from exporter.revision import REVISION
from exporter.verdict import VERDICTS

COMPONENTS = ("tail", "probe", "qrs", "store", "web")
"""The components of the exporter that are restarted when they fail."""
ACCESS_TYPES = ("professional", "analyzer")


@dataclass(frozen=True)
class Metric:
    """One metric. `labels` maps each label to its closed set of values, or to None if the site determines them."""

    name: str
    kind: Literal["gauge", "counter"]
    meaning: str
    labels: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    durable: bool = False

    @property
    def unit(self) -> str:
        """Its base unit, which is the last word of its name; empty if it has none."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


METRICS: dict[str, Metric] = {}
"""Every metric by its name, in the order of the table in docs/metrics.md."""


def _gauge(name: str, meaning: str, **labels: tuple[str, ...] | None) -> Metric:
    return METRICS.setdefault(name, Metric(name, "gauge", meaning, labels))


def _counter(name: str, meaning: str, **labels: tuple[str, ...] | None) -> Metric:
    return METRICS.setdefault(name, Metric(name, "counter", meaning, labels))


def _durable(name: str, meaning: str, **labels: tuple[str, ...] | None) -> Metric:
    return METRICS.setdefault(name, Metric(name, "counter", meaning, labels, durable=True))


# --- the license ------------------------------------------------------------------------------------------------------

SYNC_AGE = _gauge(
    "qlik_license_sync_age_seconds",
    "Seconds since the last successful license sync. Absent until one is known, and where none is expected.",
)
SYNC_LAST_SUCCESS = _gauge(
    "qlik_license_sync_last_success_timestamp_seconds", "Time of the last successful license sync."
)
SYNC_SUCCESS_SOURCE = _gauge(
    "qlik_license_sync_success_source",
    "How the last success is known: from a log message, from the Repository API, or inferred. 1 for the source used.",
    source=SUCCESS_SOURCES,
)
SYNC_LAST_ATTEMPT = _gauge(
    "qlik_license_sync_last_attempt_timestamp_seconds",
    "Time of the last sync attempt of the Licenses service, whether it succeeded or not.",
)
SYNC_LAST_FAILURE = _gauge("qlik_license_sync_last_failure_timestamp_seconds", "Time of the last failed license sync.")
SYNC_ATTEMPTS = _durable("qlik_license_sync_attempts_total", "License syncs that were attempted.")
SYNC_FAILURES = _durable("qlik_license_sync_failures_total", "License syncs that failed.")
SYNC_UNCLEAR = _gauge(
    "qlik_license_sync_unclear_attempts",
    "Attempts since the last success whose end is neither silence nor a failure that is understood.",
)
SYNC_CONSECUTIVE_FAILURES = _gauge(
    "qlik_license_sync_consecutive_failures", "License syncs that failed since the last successful one."
)
SYNC_EXPECTED = _gauge(
    "qlik_license_sync_expected",
    "1 if the license is synchronised with the backend; 0 on offline and LEF sites, and until the Licenses service has "
    "logged a sync or a license error.",
)
STALE = _gauge(
    "qlik_license_stale",
    "1 if the license was reported stale after the last successful sync: every user is refused.",
)
STALE_LAST_VERDICT = _gauge(
    "qlik_license_stale_last_verdict_timestamp_seconds",
    "Time at which the Licenses service last reported the license as stale.",
)
GRACE = _gauge(
    "qlik_license_grace_seconds", "How long Qlik tolerates missing contact with the license backend, as configured."
)
LOCKOUT = _gauge(
    "qlik_license_lockout_timestamp_seconds",
    "Time at which users will be locked out: last successful sync + grace. An upper bound, since it is unknown which "
    "of Qlik's two schedules counts.",
)
ERRORS = _durable("qlik_license_errors_total", "Errors in the Licenses log, by class.", error=ERROR_CLASSES)
ACCESS_DENIALS = _durable(
    "qlik_license_access_denials_total",
    "Refused users in the Repository's audit log, by reason.",
    reason=DENIAL_REASONS,
)
ACCESS_DENIED_USERS = _gauge(
    "qlik_license_access_denied_users",
    "Distinct users refused within the last hour, by the time in the log.",
    reason=USER_DENIAL_REASONS,
)
LOG_MESSAGES = _durable(
    "qlik_license_log_messages_total",
    "Log records, by recognised message.",
    log=LOG_NAMES,
    message=None,
)
LOG_SEVERE = _durable(
    "qlik_license_log_severe_entries_total",
    "Entries of the license loggers in the trace logs at warn or above, by level.",
    log=("repository_trace",),
    level=SEVERE_LEVELS,
)
VERDICT = _gauge(
    "qlik_license_verdict",
    "1 for the current verdict, 0 for all others.",
    verdict=VERDICTS,
)

# --- the connection ---------------------------------------------------------------------------------------------------


def _probe_gauge(name: str, meaning: str, **labels: tuple[str, ...] | None) -> Metric:
    return _gauge(name, meaning, target=None, role=ROLES, **labels)


ROLES = ("backend", "proxy", "repository", "local", "other")
PROBE_SUCCESS = _probe_gauge(
    "qlik_license_probe_success", "1 if the last probe succeeded, 0 if it failed. Absent if the probe is not judged."
)
PROBE_ATTEMPTS = _counter(
    "qlik_license_probe_attempts_total", "Probes that were run, whatever the result.", target=None, role=ROLES
)
PROBE_FAILURES = _counter(
    "qlik_license_probe_failures_total",
    "Probes that failed, by reason.",
    target=None,
    role=ROLES,
    reason=REASONS,
)
PROBE_DURATION = _probe_gauge(
    "qlik_license_probe_duration_seconds",
    "Duration of each stage of the last probe. Stages that were not reached are absent.",
    phase=PHASES,
)
PROBE_LAST_SUCCESS = _probe_gauge(
    "qlik_license_probe_last_success_timestamp_seconds", "Time of the last successful probe. Kept across restarts."
)
PROBE_LAST_RUN = _probe_gauge("qlik_license_probe_last_run_timestamp_seconds", "Time of the last probe.")
PROBE_STATUS = _probe_gauge("qlik_license_probe_http_status_code", "HTTP status code of the last probe.")
PROBE_IP = _probe_gauge("qlik_license_probe_ip_protocol", "IP version used by the last probe: 4 or 6.")
PROBE_CERTIFICATE = _probe_gauge(
    "qlik_license_probe_tls_cert_expiry_timestamp_seconds",
    "Expiry of the server certificate, even if it cannot be verified.",
)
PROBE_CHAIN = _probe_gauge(
    "qlik_license_probe_tls_chain_expiry_timestamp_seconds",
    "Earliest expiry in the certificate chain that the server sent.",
)
PROBE_TLS_INFO = _probe_gauge(
    "qlik_license_probe_tls_info",
    "Always 1: TLS version, and organisation that issued the server certificate.",
    version=None,
    issuer=None,
)
PROBE_ISSUER_EXPECTED = _probe_gauge(
    "qlik_license_probe_tls_issuer_expected",
    "1 if the certificate's issuer is one of `expected_issuers`; 0 indicates TLS inspection.",
)
PROBE_SKEW = _probe_gauge(
    "qlik_license_probe_clock_skew_seconds",
    "Local clock minus the Date header of the response, corrected by half the round-trip time.",
)

# --- seats, minutes, expiry -------------------------------------------------------------------------------------------

QRS_UP = _gauge("qlik_license_qrs_up", "1 if the last request to the Repository API succeeded.")
QRS_DURATION = _gauge("qlik_license_qrs_duration_seconds", "Duration of the last request to the Repository API.")
QRS_LAST_SUCCESS = _gauge(
    "qlik_license_qrs_last_success_timestamp_seconds", "Time of the last successful request to the Repository API."
)
QRS_PROBLEMS = _counter(
    "qlik_license_qrs_problems_total",
    "Fields in responses of the Repository API that were missing or could not be parsed.",
)
EXPIRY = _gauge(
    "qlik_license_expiry_timestamp_seconds",
    "End of the earliest `Valid To` day of the license. Absent for a perpetual license.",
)
EXPIRED = _gauge("qlik_license_expired", "1 if Qlik reports the license as expired.")
VALID = _gauge("qlik_license_valid", "0 if Qlik reports the license as invalid or deny-listed.")
INFO = _gauge(
    "qlik_license_info",
    "Always 1: kind and product of the license, and whether it is a subscription.",
    kind=("signed_key", "lef"),
    product=None,
    subscription=("true", "false"),
)
ACCESS = {
    part: _gauge(f"qlik_license_access_{part}", meaning, access_type=ACCESS_TYPES)
    for part, meaning in {
        "licenses": "Licenses owned, by access type.",
        "allocated": "Licenses allocated to users.",
        "used": "Allocated licenses that have been used.",
        "available": "Licenses that can still be allocated.",
        "quarantined": "Licenses that were taken from users and cannot be allocated again yet (7 days).",
        "excess": "Licenses allocated beyond what is owned.",
    }.items()
}
ACCESS_UNUSED = _gauge(
    "qlik_license_access_unused",
    "Allocated licenses not used for 30, 60 or 90 days (each includes the longer ones), and those never used.",
    access_type=ACCESS_TYPES,
    unused=("30d", "60d", "90d", "never"),
)
ACCESS_HELD_BY = _gauge(
    "qlik_license_access_held_by",
    "Allocated licenses held by users who were removed from their directory, are inactive, or are blocked.",
    access_type=ACCESS_TYPES,
    holder=("removed", "inactive", "blocked"),
)
CAPACITY = {
    part: _gauge(f"qlik_license_analyzer_capacity_{part}_seconds", meaning)
    for part, meaning in {
        "allocated": "Analyzer capacity of this calendar month.",
        "used": "Analyzer capacity used in this calendar month.",
        "unavailable": "Analyzer capacity of this calendar month that cannot be used.",
    }.items()
}
TOKENS = _gauge("qlik_license_tokens", "Tokens of a token-based license.")
TOKENS_AVAILABLE = _gauge("qlik_license_tokens_available", "Tokens that can still be allocated.")
SESSIONS_PER_USER = _gauge(
    "qlik_license_sessions_per_user_max",
    "Highest number of sessions of any one user at this proxy: a lower bound. Qlik's limit is 5.",
)

# --- the exporter itself ----------------------------------------------------------------------------------------------

BUILD_INFO = _gauge(
    "qlik_license_exporter_build_info",
    "Always 1: version and revision of the exporter, and version of Python. The revision is unknown in a checkout.",
    version=None,
    python_version=None,
    revision=None,
)
START = _gauge("qlik_license_exporter_start_timestamp_seconds", "Start time of this process.")
FIRST_START = _gauge(
    "qlik_license_exporter_first_start_timestamp_seconds", "Time at which the state file was first used."
)
EXPOSITION = _gauge(
    "qlik_license_exporter_exposition_timestamp_seconds",
    "Time at which this exposition was made. Reveals a textfile that is no longer updated.",
)
LOG_FILES = _gauge("qlik_license_exporter_log_files", "Files that match the configured paths.", log=LOG_NAMES)
LOG_GROWING = _gauge(
    "qlik_license_exporter_log_growing_files",
    "Files with records appended within the last 15 minutes. More than one over a long time: several programs write.",
    log=LOG_NAMES,
)
LOG_RECORDS = _durable("qlik_license_exporter_log_records_total", "Log records read.", log=LOG_NAMES)
LOG_READ_BYTES = _durable("qlik_license_exporter_log_read_bytes_total", "Bytes read from log files.", log=LOG_NAMES)
LOG_MALFORMED = _durable(
    "qlik_license_exporter_log_malformed_records_total", "Log records with an invalid format.", log=LOG_NAMES
)
LOG_FUTURE = _durable(
    "qlik_license_exporter_log_future_records_total",
    "Log records with a time more than 5 minutes in the future.",
    log=LOG_NAMES,
)
LOG_ROTATIONS = _durable(
    "qlik_license_exporter_log_rotations_total", "Log files that were rotated or replaced.", log=LOG_NAMES
)
LOG_LOST = _durable(
    "qlik_license_exporter_log_lost_generations_total",
    "Log files that disappeared before they were read to the end.",
    log=LOG_NAMES,
)
LOG_READ_ERRORS = _counter(
    "qlik_license_exporter_log_read_errors_total", "Failed attempts to list or read log files.", log=LOG_NAMES
)
LOG_UNREAD = _gauge(
    "qlik_license_exporter_log_unread_bytes", "Bytes in log files that have not been read yet.", log=LOG_NAMES
)
LOG_LAST_ENTRY = _gauge(
    "qlik_license_exporter_log_last_entry_timestamp_seconds", "Time of the newest log entry.", log=LOG_NAMES
)
LOG_LAST_READ = _gauge(
    "qlik_license_exporter_log_last_read_timestamp_seconds",
    "Time at which the log was last read without an error.",
    log=LOG_NAMES,
)
COMPONENT_FAILURES = _counter(
    "qlik_license_exporter_component_failures_total", "Components that failed and were restarted.", component=COMPONENTS
)
STATE_LAST_SAVE = _gauge(
    "qlik_license_exporter_state_last_save_timestamp_seconds",
    "Time at which the state was last saved; at least every 5 minutes.",
)
STATE_RESET = _gauge(
    "qlik_license_exporter_state_reset_timestamp_seconds",
    "Time at which an unusable state file was set aside and counters restarted at 0.",
)
STATE_SAVE_FAILURES = _counter("qlik_license_exporter_state_save_failures_total", "Failed attempts to save the state.")
RELOAD_SUCCESSFUL = _gauge(
    "qlik_license_exporter_config_last_reload_successful", "1 if the last configuration reload succeeded."
)
RELOAD_SUCCESS = _gauge(
    "qlik_license_exporter_config_last_reload_success_timestamp_seconds",
    "Time of the last successful configuration reload.",
)

# --- remote write -----------------------------------------------------------------------------------------------------

REMOTE_WRITE_SAMPLES = _counter(
    "qlik_license_exporter_remote_write_samples_total", "Samples that the receiver of remote write has taken."
)
REMOTE_WRITE_DROPPED = _counter(
    "qlik_license_exporter_remote_write_samples_dropped_total",
    "Samples that were dropped: refused by the receiver, or no longer kept by the queue.",
    reason=DROPPED_REASONS,
)
REMOTE_WRITE_RETRIED = _counter(
    "qlik_license_exporter_remote_write_samples_retried_total",
    "Samples in requests that failed and are sent again, counted each time.",
)
REMOTE_WRITE_PENDING = _gauge("qlik_license_exporter_remote_write_samples_pending", "Samples that wait in the queue.")
REMOTE_WRITE_BYTES = _gauge(
    "qlik_license_exporter_remote_write_pending_bytes", "Size of the requests that wait in the queue, compressed."
)
REMOTE_WRITE_OLDEST = _gauge(
    "qlik_license_exporter_remote_write_oldest_pending_timestamp_seconds",
    "Time of the oldest samples that wait in the queue. Absent if none does.",
)
REMOTE_WRITE_SENT = _gauge(
    "qlik_license_exporter_remote_write_highest_sent_timestamp_seconds",
    "Time of the newest samples that the receiver has taken.",
)


# --- rendering --------------------------------------------------------------------------------------------------------


class LicenseCollector(Collector):
    """Renders a fresh `Observation` at each scrape."""

    def __init__(self, observe: Callable[[], Observation]) -> None:
        self._observe = observe

    def collect(self) -> Iterable[Family]:
        """The families of one scrape. Reads memory only."""
        return families(self._observe())


class ProbeCollector(Collector):
    """The gauges of one result, for `/probe`."""

    def __init__(self, result: ProbeResult) -> None:
        settings = ProbeConfig(target=result.target, role=cast(Role, result.role))
        self._history = ProbeHistory(settings, last=result, last_success=result.ended if result.success else None)

    def collect(self) -> Iterable[Family]:
        """The families of the result."""
        return probe_gauges([self._history], {})


def process_collectors() -> tuple[Collector, ...]:
    """The collectors of `process_*`, with the same names on every platform."""
    return (ProcessCollector(registry=None),) if sys.platform == "linux" else (WindowsProcessCollector(),)


class WindowsProcessCollector(Collector):
    """`process_*` on Windows, where prometheus_client has none; names and meanings as in Prometheus' own clients."""

    def collect(self) -> Iterable[Family]:
        """The families; none if the system denies access."""
        import psutil  # on Windows only; elsewhere in tests

        process = psutil.Process()
        try:
            with process.oneshot():
                memory, times, start = process.memory_info(), process.cpu_times(), process.create_time()
                handles = process.num_handles() if sys.platform == "win32" else process.num_fds()
        except psutil.Error:
            return
        cpu = CounterMetricFamily(
            "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", unit="seconds"
        )
        cpu.add_metric((), times.user + times.system)
        yield cpu
        for name, meaning, unit, value in (
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", "bytes", memory.vms),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", "bytes", memory.rss),
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "seconds", start),
            ("process_open_fds", "Number of open file descriptors; on Windows, of handles.", "", handles),
        ):
            yield GaugeMetricFamily(name, meaning, value=float(value), unit=unit)


def families(seen: Observation) -> Iterator[Family]:
    """The metric families of one observation, in the order of the catalogue."""
    for family in (
        *license_families(seen),
        *probe_gauges(seen.probes, seen.state.probe_success),
        *_probe_counters(seen.probes),
        *_qrs_families(seen.qrs, seen.now),
        *_exporter_families(seen),
        *_remote_write_families(seen.remote_write),
    ):
        if seen.counted is not None or family.name not in _DURABLE:
            yield family


def history_families(seen: Observation) -> Iterator[Family]:
    """The families that log records alone determine: what `backfill` writes."""
    yield from license_families(seen)
    yield from (family for family in _exporter_families(seen) if family.name in _OF_RECORDS)


_DURABLE = {metric.name.removesuffix("_total") for metric in METRICS.values() if metric.durable}
"""The families that are unknown until the state file is open."""
_OF_RECORDS = {
    metric.name.removesuffix("_total") for metric in (LOG_RECORDS, LOG_MALFORMED, LOG_FUTURE, LOG_LAST_ENTRY)
}
"""The families about the exporter itself that log records determine."""


def _family(metric: Metric, *samples: tuple[Sequence[str], float | None]) -> Iterator[Family]:
    """The family of `metric` with its known samples; nothing if none is known (hazard 110)."""
    known = [(labels, float(value)) for labels, value in samples if value is not None]
    if not known:
        return
    names = tuple(metric.labels)
    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind == "counter":
        family = CounterMetricFamily(metric.name, metric.meaning, labels=names, unit=metric.unit)
    else:
        family = GaugeMetricFamily(metric.name, metric.meaning, labels=names, unit=metric.unit)
    for labels, value in known:
        family.add_metric(labels, value)
    yield family


def license_families(seen: Observation) -> Iterator[Family]:
    """The families about the license: syncs, refusals, errors, messages and the verdict."""
    state, rules, counted = seen.state, seen.rules, seen.counted or seen.state
    counters = counted.counters
    yield from _family(GRACE, ((), rules.grace))
    if "licenses" in state.caught_up:
        expected = state.sync_expected(rules)
        success = state.last_success() if expected else None
        if success:
            yield from _family(SYNC_AGE, ((), max(0.0, seen.now - success[0])))
            yield from _family(SYNC_LAST_SUCCESS, ((), success[0]))
        yield from _family(
            SYNC_SUCCESS_SOURCE,
            *(((source,), success is not None and success[1] == source) for source in SUCCESS_SOURCES),
        )
        yield from _family(SYNC_LAST_ATTEMPT, ((), state.last_attempt))
        yield from _family(SYNC_LAST_FAILURE, ((), state.last_failure))
        yield from _family(SYNC_CONSECUTIVE_FAILURES, ((), state.consecutive_failures))
        yield from _family(SYNC_UNCLEAR, ((), state.unclear_attempts))
        yield from _family(SYNC_EXPECTED, ((), expected))
        yield from _family(STALE, ((), state.stale()))
        yield from _family(STALE_LAST_VERDICT, ((), state.stale_verdict))
        yield from _family(LOCKOUT, ((), state.lockout(rules)))
    yield from _family(SYNC_ATTEMPTS, ((), counters.sync_attempts))
    yield from _family(SYNC_FAILURES, ((), counters.sync_failures))
    yield from _family(ERRORS, *(((error,), counters.errors.get(error, 0)) for error in ERROR_CLASSES))
    yield from _family(ACCESS_DENIALS, *(((reason,), counters.denials.get(reason, 0)) for reason in DENIAL_REASONS))
    if "repository_audit" in state.caught_up:
        yield from _family(
            ACCESS_DENIED_USERS,
            *(((reason,), state.refused_users(reason, seen.now)) for reason in USER_DENIAL_REASONS),
        )
    yield from _family(
        LOG_MESSAGES,
        *(
            ((log, message), _log(counted, log).messages.get(message, 0))
            for log in LOG_NAMES
            for message in seen.messages[log]
        ),
    )
    trace = _log(counted, "repository_trace").severe
    yield from _family(LOG_SEVERE, *((("repository_trace", level), trace.get(level, 0)) for level in SEVERE_LEVELS))
    if seen.judgement:
        yield from _family(VERDICT, *(((verdict,), verdict == seen.judgement.verdict) for verdict in VERDICTS))


def _log(state: LicenseState, log: LogName) -> LogCounters:
    return state.counters.logs.get(log) or LogCounters()


def probe_gauges(probes: Sequence[ProbeHistory], kept: Mapping[str, float]) -> Iterator[Family]:
    """The gauges of the last probe of each target; also what `/probe` shows. `kept`: last successes by target."""
    last = [
        (history.settings.target, history.settings.role, history.last) for history in probes if history.last is not None
    ]
    yield from _family(PROBE_SUCCESS, *(((target, role), result.success) for target, role, result in last))
    yield from _family(
        PROBE_DURATION,
        *(((target, role, phase), took) for target, role, result in last for phase, took in result.phases.items()),
    )
    yield from _family(
        PROBE_LAST_SUCCESS,
        *(((h.settings.target, h.settings.role), h.last_success or kept.get(h.settings.target)) for h in probes),
    )
    yield from _family(PROBE_LAST_RUN, *(((target, role), result.ended) for target, role, result in last))
    for metric, part in (
        (PROBE_STATUS, "status"),
        (PROBE_IP, "ip_protocol"),
        (PROBE_CERTIFICATE, "cert_expiry"),
        (PROBE_CHAIN, "chain_expiry"),
        (PROBE_ISSUER_EXPECTED, "issuer_expected"),
        (PROBE_SKEW, "clock_skew"),
    ):
        yield from _family(metric, *(((target, role), getattr(result, part)) for target, role, result in last))
    yield from _family(
        PROBE_TLS_INFO,
        *(
            ((target, role, result.tls_version or "", result.issuer or ""), 1)
            for target, role, result in last
            if result.tls_version or result.issuer
        ),
    )


def _probe_counters(probes: Sequence[ProbeHistory]) -> Iterator[Family]:
    yield from _family(PROBE_ATTEMPTS, *(((h.settings.target, h.settings.role), h.attempts) for h in probes))
    yield from _family(
        PROBE_FAILURES,
        *(
            ((h.settings.target, h.settings.role, reason), h.failures.get(reason, 0))
            for h in probes
            for reason in REASONS
        ),
    )


def _qrs_families(board: QrsBoard | None, now: float) -> Iterator[Family]:
    if board is None:
        return
    yield from _family(QRS_UP, ((), board.up))
    yield from _family(QRS_DURATION, ((), board.duration))
    yield from _family(QRS_LAST_SUCCESS, ((), board.last_success))
    yield from _family(QRS_PROBLEMS, ((), board.problems))
    if overview := board.overview(now):
        yield from _overview_families(overview)
    if found := board.unused(now):
        yield from _family(
            ACCESS_UNUSED,
            *(((name, unused), n) for name, seats in found.access.items() for unused, n in seats.unused.items()),
        )
        yield from _family(
            ACCESS_HELD_BY,
            *(((name, holder), n) for name, holders in found.holders.items() for holder, n in holders.items()),
        )


def _overview_families(overview: LicenseOverview) -> Iterator[Family]:
    yield from _family(EXPIRY, ((), overview.expiry))
    yield from _family(EXPIRED, ((), overview.expired))
    yield from _family(VALID, ((), overview.valid))
    if overview.kind:
        subscription = "" if overview.subscription is None else str(overview.subscription).lower()
        yield from _family(INFO, ((overview.kind, overview.product or "", subscription), 1))
    for part, metric in ACCESS.items():
        yield from _family(metric, *(((access,), getattr(seats, part)) for access, seats in overview.access.items()))
    for part, metric in CAPACITY.items():
        yield from _family(metric, ((), getattr(overview, f"capacity_{part}")))
    yield from _family(TOKENS, ((), overview.tokens))
    yield from _family(TOKENS_AVAILABLE, ((), overview.tokens_available))
    yield from _family(SESSIONS_PER_USER, ((), overview.sessions_per_user_max))


def _exporter_families(seen: Observation) -> Iterator[Family]:
    counted = seen.counted or seen.state
    yield from _family(BUILD_INFO, ((__version__, platform.python_version(), REVISION), 1))
    yield from _family(START, ((), seen.started))
    yield from _family(FIRST_START, ((), seen.first_started))
    yield from _family(EXPOSITION, ((), seen.now))
    yield from _family(LOG_FILES, *(((log,), figures.files) for log, figures in seen.logs.items()))
    yield from _family(LOG_GROWING, *(((log,), figures.growing) for log, figures in seen.logs.items()))
    yield from _family(LOG_RECORDS, *(((log,), _log(counted, log).records) for log in LOG_NAMES))
    yield from _family(LOG_READ_BYTES, *(((log,), _log(counted, log).read_bytes) for log in LOG_NAMES))
    yield from _family(LOG_MALFORMED, *(((log,), _log(counted, log).malformed) for log in LOG_NAMES))
    yield from _family(LOG_FUTURE, *(((log,), _log(counted, log).future) for log in LOG_NAMES))
    yield from _family(LOG_ROTATIONS, *(((log,), _log(counted, log).rotations) for log in LOG_NAMES))
    yield from _family(LOG_LOST, *(((log,), _log(counted, log).lost_generations) for log in LOG_NAMES))
    yield from _family(
        LOG_READ_ERRORS,
        *(((log,), seen.logs[log].read_errors if log in seen.logs else 0) for log in LOG_NAMES),
    )
    yield from _family(LOG_UNREAD, *(((log,), figures.unread_bytes) for log, figures in seen.logs.items()))
    yield from _family(LOG_LAST_ENTRY, *(((log,), seen.state.last_entry.get(log)) for log in seen.logs))
    yield from _family(LOG_LAST_READ, *(((log,), figures.last_read) for log, figures in seen.logs.items()))
    yield from _family(
        COMPONENT_FAILURES,
        *(((component,), seen.component_failures.get(component, 0)) for component in COMPONENTS),
    )
    yield from _family(STATE_LAST_SAVE, ((), seen.state_last_save))
    yield from _family(STATE_RESET, ((), seen.state_reset))
    yield from _family(STATE_SAVE_FAILURES, ((), seen.state_save_failures))
    yield from _family(RELOAD_SUCCESSFUL, ((), seen.reload_successful))
    yield from _family(RELOAD_SUCCESS, ((), seen.reload_success))


def _remote_write_families(figures: RemoteWriteFigures | None) -> Iterator[Family]:
    if figures is None:
        return
    yield from _family(REMOTE_WRITE_SAMPLES, ((), figures.sent))
    yield from _family(
        REMOTE_WRITE_DROPPED, *(((reason,), figures.dropped.get(reason, 0)) for reason in DROPPED_REASONS)
    )
    yield from _family(REMOTE_WRITE_RETRIED, ((), figures.retried))
    yield from _family(REMOTE_WRITE_PENDING, ((), figures.pending))
    yield from _family(REMOTE_WRITE_BYTES, ((), figures.pending_bytes))
    yield from _family(REMOTE_WRITE_OLDEST, ((), figures.oldest_pending))
    yield from _family(REMOTE_WRITE_SENT, ((), figures.highest_sent))
