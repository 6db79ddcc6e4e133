"""The public contract, word for word: names that dashboards, alerts and people's habits hang on."""

import re

import pytest

from exporter.cli import COMMANDS
from exporter.metrics import METRICS

# One line a metric: its name, its type (D: a durable counter), and its labels with their closed values; a label alone
# has values that the site or the catalogue decides. P stands for `target` and `role`, which all probe metrics carry.
CONTRACT = """
sync_age_seconds gauge
sync_last_success_timestamp_seconds gauge
sync_success_source gauge source=message,qrs,inferred
sync_last_attempt_timestamp_seconds gauge
sync_last_failure_timestamp_seconds gauge
sync_attempts_total D
sync_failures_total D
sync_consecutive_failures gauge
sync_expected gauge
stale gauge
stale_last_verdict_timestamp_seconds gauge
grace_seconds gauge
lockout_timestamp_seconds gauge
errors_total D error=stale,invalid,dns,refused,timeout,tls,proxy,reset,http,other
access_denials_total D reason=no_access_pass,parallel_sessions,allocation_refused
access_denied_users gauge reason=no_access_pass,parallel_sessions
log_messages_total D log=LOGS message
log_severe_entries_total D log=repository_trace level=warn,error,fatal
probe_success gauge P
probe_attempts_total counter P
probe_failures_total counter P reason=dns,tcp_refused,tcp_timeout,tcp_unreachable,proxy_connect,proxy_auth,tls_untrusted,tls_expired,tls_hostname,tls_handshake,tls_timeout,http_status,http_timeout,http_protocol,reset,other
probe_duration_seconds gauge P phase=dns,connect,proxy,tls,http
probe_last_success_timestamp_seconds gauge P
probe_last_run_timestamp_seconds gauge P
probe_http_status_code gauge P
probe_ip_protocol gauge P
probe_tls_cert_expiry_timestamp_seconds gauge P
probe_tls_chain_expiry_timestamp_seconds gauge P
probe_tls_info gauge P version issuer
probe_tls_issuer_expected gauge P
probe_clock_skew_seconds gauge P
qrs_up gauge
qrs_duration_seconds gauge
qrs_last_success_timestamp_seconds gauge
expiry_timestamp_seconds gauge
expired gauge
valid gauge
info gauge kind=signed_key,lef product subscription=true,false
access_licenses gauge access_type=professional,analyzer
access_allocated gauge access_type=professional,analyzer
access_used gauge access_type=professional,analyzer
access_available gauge access_type=professional,analyzer
access_quarantined gauge access_type=professional,analyzer
access_excess gauge access_type=professional,analyzer
access_unused gauge access_type=professional,analyzer unused=30d,60d,90d,never
access_held_by gauge access_type=professional,analyzer holder=removed,inactive,blocked
analyzer_capacity_allocated_seconds gauge
analyzer_capacity_used_seconds gauge
analyzer_capacity_unavailable_seconds gauge
tokens gauge
tokens_available gauge
sessions_per_user_max gauge
exporter_build_info gauge version python_version revision
exporter_start_timestamp_seconds gauge
exporter_first_start_timestamp_seconds gauge
exporter_exposition_timestamp_seconds gauge
exporter_log_files gauge log=LOGS
exporter_log_records_total D log=LOGS
exporter_log_read_bytes_total D log=LOGS
exporter_log_malformed_records_total D log=LOGS
exporter_log_future_records_total D log=LOGS
exporter_log_rotations_total D log=LOGS
exporter_log_lost_generations_total D log=LOGS
exporter_log_read_errors_total counter log=LOGS
exporter_log_unread_bytes gauge log=LOGS
exporter_log_last_entry_timestamp_seconds gauge log=LOGS
exporter_log_last_read_timestamp_seconds gauge log=LOGS
exporter_component_failures_total counter component=tail,probe,qrs,store,web
exporter_state_last_save_timestamp_seconds gauge
exporter_state_reset_timestamp_seconds gauge
exporter_state_save_failures_total counter
exporter_config_last_reload_successful gauge
exporter_config_last_reload_success_timestamp_seconds gauge
exporter_remote_write_samples_total counter
exporter_remote_write_samples_dropped_total counter reason=too_old,bad_request,unauthorized,http,queue_full,queue_unavailable
exporter_remote_write_samples_retried_total counter
exporter_remote_write_samples_pending gauge
exporter_remote_write_pending_bytes gauge
exporter_remote_write_oldest_pending_timestamp_seconds gauge
exporter_remote_write_highest_sent_timestamp_seconds gauge
""".replace("LOGS", "licenses,repository_audit,repository_trace").replace(
    " P", " target role=backend,proxy,repository,local,other"
)

PROMISES = [line.split() for line in CONTRACT.strip().splitlines()]


@pytest.mark.parametrize(("name", "kind", "labels"), [(name, kind, labels) for name, kind, *labels in PROMISES])
def test_every_promised_metric_exists_with_its_type_and_labels(name: str, kind: str, labels: list[str]) -> None:
    metric = METRICS[f"qlik_license_{name}"]
    assert metric.kind == ("counter" if kind == "D" else kind)
    assert metric.durable == (kind == "D")
    promised = {
        label: set(values.split(",")) if values else None for label, _, values in (x.partition("=") for x in labels)
    }
    assert {label: None if values is None else set(values) for label, values in metric.labels.items()} == promised


def test_hazard_101_names_follow_the_rules_of_prometheus() -> None:
    """Counters end in `_total`, gauges never do; no name or label is reserved."""
    for metric in METRICS.values():
        assert re.fullmatch(r"qlik_license_[a-z_]+", metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not metric.name.endswith(("_created", "_count", "_sum", "_bucket")), metric.name
        assert not {"instance", "job", "site", "le", "quantile"} & set(metric.labels), metric.name
        assert metric.meaning.endswith("."), metric.name


def test_hazard_100_no_label_can_hold_a_person_a_host_or_a_path() -> None:
    """Only the values that the configuration or a server's certificate decides are not closed."""
    open_labels = {label for metric in METRICS.values() for label, values in metric.labels.items() if values is None}
    assert open_labels == {"message", "target", "version", "issuer", "product", "python_version", "revision"}


def test_every_promised_command_exists() -> None:
    promised = {"run", "check", "explain", "diagnose", "probe", "backfill", "bundle", "demo", "service"}
    assert promised <= set(COMMANDS)
