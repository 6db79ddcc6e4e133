"""The exposition: every promised metric, closed labels, nothing personal; golden for each sample log."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.config import ProbeConfig, QrsConfig
from exporter.events import LOG_NAMES
from exporter.license import LicenseState, Rules, new_state
from exporter.logs.formats import split
from exporter.logs.messages import Catalogue
from exporter.metrics import METRICS, LicenseCollector
from exporter.observation import LogFigures, Observation
from exporter.probes import ProbeHistory, ProbeResult
from exporter.qrs import AccessType, LicenseOverview, QrsBoard, UnusedOverview, UnusedSeats
from exporter.remote_write.figures import RemoteWriteFigures
from exporter.verdict import Judgement

HERE = Path(__file__).parent
NOW = 1_793_608_200.0  # some minutes after the newest sample row
WELL = Judgement(verdict="well", severity="ok", summary="", users_see="", evidence=(), cure=(), alert="")
CATALOGUE = Catalogue()
RULES = Rules(CATALOGUE.recognise, CATALOGUE.infers)
SAMPLES = {
    "licenses-published.log": "licenses",
    "QLIKNODE1_AuditSecurity_Repository.txt": "repository_audit",
    "QLIKNODE1_License_Repository.txt": "repository_trace",
}


def observation(state: LicenseState | None = None, **more: object) -> Observation:
    state = state or new_state(b"k")
    seen = Observation(
        now=NOW,
        rules=RULES,
        state=state,
        counted=state,
        messages={log: CATALOGUE.names(log) for log in LOG_NAMES},
        logs={log: LogFigures(files=1, growing=1, last_read=NOW - 1, listed=True) for log in LOG_NAMES},
        started=NOW - 60,
        first_started=NOW - 600,
        state_last_save=NOW - 2,
        reload_success=NOW - 60,
        judgement=WELL,
    )
    return replace(seen, **more)


def sample_state(sample: str) -> LicenseState:
    log = SAMPLES[sample]
    data = (HERE / "samples" / sample).read_bytes().removeprefix(b"\xef\xbb\xbf")
    state = new_state(b"k")
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")]
    state.fold_records(log, split(log, lines, None, True).records, NOW, RULES)
    state.count_reading(log, read_bytes=len(data))
    state.caught_up |= set(LOG_NAMES)
    return state


def registry(seen: Observation) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(LicenseCollector(lambda: seen))
    return made


def exposition(seen: Observation) -> str:
    return re.sub(
        r'python_version="[^"]*",revision="[^"]*",version="[^"]*"',
        'python_version="X",revision="R",version="Y"',
        generate_latest(registry(seen)).decode(),
    )


def test_openmetrics_tells_units_and_prometheus_own_parser_takes_them(tmp_path: Path) -> None:
    """promtool parses as strictly as a scrape; what it makes blocks of must have times."""
    state = sample_state("licenses-published.log")
    text = generate_openmetrics(registry(observation(state, probes=(probed(),)))).decode()
    units = dict(re.findall("^# UNIT (\\S+) (\\S+)$", text, re.MULTILINE))
    names = re.findall("^# TYPE (\\S+)", text, re.MULTILINE)
    assert units == {name: name.rpartition("_")[2] for name in names if name.endswith(("_seconds", "_bytes"))}
    assert units["qlik_license_grace_seconds"] == "seconds"
    assert units["qlik_license_exporter_log_read_bytes"] == "bytes"
    timed = re.sub("^([^#].*)$", f"\\1 {NOW}", text, flags=re.MULTILINE)
    (tmp_path / "timed.om").write_text(timed)
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's package prometheus"
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "timed.om", "blocks"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert made.returncode == 0, made.stderr


def samples(text: str) -> dict[str, float]:
    return {
        sample.name
        + (
            ("{" + ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items())) + "}") if sample.labels else ""
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def probed() -> ProbeHistory:
    history = ProbeHistory(ProbeConfig(target="license.qlikcloud.com:443", role="backend"))
    common = {"target": "license.qlikcloud.com:443", "role": "backend", "detail": "x"}
    history.record(
        ProbeResult(
            **common,
            at=NOW - 70,
            ended=NOW - 69,
            success=False,
            reason="tcp_timeout",
            phases={"dns": 0.01, "connect": 10.0},
        )
    )
    history.record(
        ProbeResult(
            **common, at=NOW - 10, ended=NOW - 9, success=True, reason=None, phases={"dns": 0.01, "connect": 0.02, "tls": 0.03, "http": 0.04},
            status=404, ip_protocol=4, cert_expiry=NOW + 86400, chain_expiry=NOW + 3600, tls_version="TLSv1.3", issuer="Amazon",
            issuer_expected=True, clock_skew=0.25,
        )
    )  # fmt: skip
    return history


def unused(read_at: float) -> UnusedOverview:
    seats = UnusedSeats(40, {"30d": 12, "60d": 11, "90d": 8, "never": 3})
    return UnusedOverview(
        read_at=read_at, access={"professional": seats}, holders={"professional": {"removed": 2, "inactive": 1}}
    )


def overview(**more: object) -> QrsBoard:
    board = QrsBoard(QrsConfig(enabled=True))
    board.up, board.duration, board.last_success = True, 0.2, NOW - 5
    seats = AccessType(licenses=50, allocated=40, used=30, available=10, quarantined=2, excess=0)
    values = {
        "read_at": NOW - 5, "expiry": NOW + 86400 * 40, "expired": False, "valid": True, "kind": "signed_key",
        "product": "Qlik Sense", "subscription": True, "access": {"professional": seats, "analyzer": seats},
        "capacity_allocated": 60000, "capacity_used": 30000, "capacity_unavailable": 0, "tokens": 10,
        "tokens_available": 4, "sessions_per_user_max": 3, "updated": None,
    }  # fmt: skip
    shown = LicenseOverview(**{**values, **more})
    board.overview = lambda now: shown  # type: ignore[method-assign]
    board._counted(unused(NOW - 5))
    return board


PUSHES = RemoteWriteFigures(sent=900, pending=140, pending_bytes=2700, oldest_pending=NOW - 30, highest_sent=NOW - 60)


def everything() -> Observation:
    state = sample_state("licenses-published.log")
    state.message_success = NOW - 3600
    return observation(state, probes=[probed()], qrs=overview(), state_reset=NOW - 1000, remote_write=PUSHES)


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_exposition_of_each_sample_log_is_the_golden_one_and_lints(sample: str, tmp_path: Path) -> None:
    """`UPDATE_GOLDEN=1` rewrites the files; then review the difference."""
    text = exposition(observation(sample_state(sample)))
    golden = HERE / "golden" / f"{sample}.prom"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


def test_everything_promised_is_exposed_once_it_is_known_and_lints() -> None:
    text = exposition(everything())
    exposed = {re.sub(r"[ {].*", "", line) for line in text.splitlines() if not line.startswith("#")}
    assert exposed == set(METRICS)
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


def test_seats_held_by_people_who_are_gone_are_exposed_and_a_count_that_is_not_known_is_absent() -> None:
    exposed = samples(exposition(everything()))
    assert {name: value for name, value in exposed.items() if "access_held_by" in name} == {
        'qlik_license_access_held_by{access_type="professional",holder="removed"}': 2,
        'qlik_license_access_held_by{access_type="professional",holder="inactive"}': 1,
    }


def test_seats_that_nobody_uses_are_exposed_by_time_since_use_and_a_kind_not_counted_is_absent() -> None:
    exposed = samples(exposition(everything()))
    assert {name: value for name, value in exposed.items() if "access_unused" in name} == {
        'qlik_license_access_unused{access_type="professional",unused="30d"}': 12,
        'qlik_license_access_unused{access_type="professional",unused="60d"}': 11,
        'qlik_license_access_unused{access_type="professional",unused="90d"}': 8,
        'qlik_license_access_unused{access_type="professional",unused="never"}': 3,
    }


def contract_names() -> Iterator[str]:
    yield from re.findall(
        r"^\| `(qlik_license_[a-z_]+)` \|", (HERE.parent / "docs/metrics.md").read_text("utf-8"), re.MULTILINE
    )


def test_the_expected_numbers_of_the_samples() -> None:
    audit = samples(exposition(observation(sample_state("QLIKNODE1_AuditSecurity_Repository.txt"))))
    assert audit['qlik_license_access_denials_total{reason="no_access_pass"}'] == 1
    assert audit['qlik_license_access_denials_total{reason="parallel_sessions"}'] == 1
    assert audit['qlik_license_access_denials_total{reason="allocation_refused"}'] == 1
    trace = samples(exposition(observation(sample_state("QLIKNODE1_License_Repository.txt"))))
    assert trace['qlik_license_log_severe_entries_total{level="warn",log="repository_trace"}'] == 1
    assert trace['qlik_license_log_severe_entries_total{level="error",log="repository_trace"}'] == 1
    licenses = samples(exposition(observation(sample_state("licenses-published.log"))))
    assert licenses['qlik_license_errors_total{error="stale"}'] == 2
    assert licenses["qlik_license_sync_attempts_total"] == licenses["qlik_license_sync_failures_total"] == 1
    assert licenses["qlik_license_stale"] == 1
    assert "qlik_license_sync_age_seconds" not in licenses


def test_hazard_103_every_counter_with_closed_labels_is_born_at_zero() -> None:
    fresh = samples(exposition(observation(remote_write=RemoteWriteFigures())))
    for metric in METRICS.values():
        if (
            metric.kind == "counter"
            and "target" not in metric.labels
            and metric.name != "qlik_license_qrs_problems_total"
        ):
            series = [value for name, value in fresh.items() if re.sub(r"\{.*", "", name) == metric.name]
            wanted = 1
            for label, values in metric.labels.items():
                wanted *= (
                    len(values)
                    if values
                    else (sum(len(CATALOGUE.names(log)) for log in LOG_NAMES) / 3 if label == "message" else 1)
                )
            assert len(series) == wanted, metric.name
            assert set(series) == {0}


def test_hazard_110_what_is_not_known_is_absent() -> None:
    fresh = samples(exposition(observation()))
    for name in (
        "sync_age_seconds",
        "stale",
        "sync_expected",
        "lockout_timestamp_seconds",
        "sync_consecutive_failures",
    ):
        assert f"qlik_license_{name}" not in fresh
    assert not any(
        name.startswith(("qlik_license_probe", "qlik_license_qrs", "qlik_license_access_licenses")) for name in fresh
    )
    assert not any("access_denied_users" in name for name in fresh)


def test_state_gauges_appear_log_by_log_once_each_was_read() -> None:
    state = new_state(b"k")
    state.caught_up = {"repository_audit"}
    seen = samples(exposition(observation(state)))
    assert seen['qlik_license_access_denied_users{reason="no_access_pass"}'] == 0
    assert "qlik_license_stale" not in seen
    state.caught_up = {"licenses"}
    seen = samples(exposition(observation(state)))
    assert (
        seen["qlik_license_stale"],
        seen["qlik_license_sync_expected"],
        seen["qlik_license_sync_consecutive_failures"],
    ) == (0, 0, 0)


def test_an_age_is_never_negative_and_absent_where_no_sync_is_expected() -> None:
    state = sample_state("licenses-published.log")
    state.message_success = NOW + 200
    assert samples(exposition(observation(state)))["qlik_license_sync_age_seconds"] == 0
    for kind in ("offline", "lef"):
        seen = samples(exposition(observation(state, rules=RULES._replace(kind=kind))))
        assert seen["qlik_license_sync_expected"] == 0
        assert not {"qlik_license_sync_age_seconds", "qlik_license_lockout_timestamp_seconds"} & set(seen)
        assert not any(value for name, value in seen.items() if "sync_success_source" in name)


def test_the_success_source_says_how_it_is_known() -> None:
    state = sample_state("licenses-published.log")
    state.qrs_success = NOW - 5
    seen = samples(exposition(observation(state)))
    assert [
        seen[f'qlik_license_sync_success_source{{source="{source}"}}'] for source in ("message", "qrs", "inferred")
    ] == [0, 1, 0]


def test_durable_counters_come_from_what_is_saved_and_gauges_from_what_is_seen() -> None:
    seen = samples(exposition(observation(sample_state("licenses-published.log"), counted=new_state(b"k"))))
    assert (seen["qlik_license_stale"], seen["qlik_license_sync_attempts_total"]) == (1, 0)


def test_a_perpetual_license_lacks_only_its_expiry_and_blocks_that_are_off_export_nothing() -> None:
    seen = samples(exposition(observation(qrs=overview(expiry=None, access={}, tokens=None, capacity_used=None))))
    assert "qlik_license_expiry_timestamp_seconds" not in seen
    assert seen["qlik_license_expired"] == 0
    assert not any(name.startswith(("qlik_license_access_licenses", "qlik_license_tokens{")) for name in seen)
    assert "qlik_license_analyzer_capacity_used_seconds" not in seen


def test_the_last_good_probe_is_kept_over_restarts() -> None:
    state = new_state(b"k")
    state.probe_success = {"license.qlikcloud.com:443": NOW - 999}
    fresh = ProbeHistory(ProbeConfig(target="license.qlikcloud.com:443", role="backend"))
    seen = samples(exposition(observation(state, probes=[fresh])))
    name = 'qlik_license_probe_last_success_timestamp_seconds{role="backend",target="license.qlikcloud.com:443"}'
    assert seen[name] == NOW - 999
    assert not any(name.startswith("qlik_license_probe_success") for name in seen)


def test_an_inconclusive_probe_is_an_attempt_without_a_success_sample() -> None:
    target = '{role="backend",target="license.qlikcloud.com:443"}'
    history = probed()
    history.record(
        ProbeResult(target="license.qlikcloud.com:443", role="backend", detail="x", at=NOW - 2, ended=NOW - 1,
                    success=None, reason=None, phases={"connect": 0.01, "proxy": 0.02}, ip_protocol=4)
    )  # fmt: skip
    seen = samples(exposition(observation(new_state(b"k"), probes=[history])))
    assert f"qlik_license_probe_success{target}" not in seen
    assert seen[f"qlik_license_probe_attempts_total{target}"] == 3
    assert sum(value for name, value in seen.items() if name.startswith("qlik_license_probe_failures_total")) == 1
    assert seen[f"qlik_license_probe_last_run_timestamp_seconds{target}"] == NOW - 1
    assert seen[f"qlik_license_probe_last_success_timestamp_seconds{target}"] == NOW - 9
    assert seen[f"qlik_license_probe_ip_protocol{target}"] == 4
    assert sum(name.startswith("qlik_license_probe_duration_seconds") for name in seen) == 2


def test_hazard_102_no_created_series_and_hazard_104_no_time_stamps() -> None:
    text = generate_openmetrics(registry(everything())).decode()
    assert "_created" not in text
    assert text.endswith("# EOF\n")
    assert all(re.fullmatch(r"[a-z_]+(\{.*\})? \S+", line) for line in text.splitlines() if not line.startswith("#"))


def test_hazard_101_counters_end_in_total_and_gauges_never_do() -> None:
    for metric in METRICS.values():
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.meaning.endswith(".")


def test_nothing_personal_is_in_any_exposition() -> None:
    for sample in SAMPLES:
        text = exposition(observation(sample_state(sample)))
        for secret in ("user01", "user02", "CONTOSO", "QLIKNODE1", "XXXXXXXX", "26ab589a", "264ff070", "10.0.0.21"):
            assert secret not in text
