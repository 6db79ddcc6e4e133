"""The verdict: one judgement for each state that a site can be in, the worst first, contradictions said."""

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings, strategies
from observed import (
    ATTEMPT,
    DAY,
    HOUR,
    MINUTE,
    NO_SUCH_HOST,
    NOON,
    PROXY_407,
    STALE,
    UNTRUSTED,
    audit_row,
    board,
    history,
    licenses_line,
    observation,
    refusal,
    repository,
    result,
    syncs,
)
from shipped import RULES, conditions, parsed

from exporter.config import LicenseConfig, MessageConfig, ProbeConfig, duration
from exporter.observation import LogFigures
from exporter.probes import REASONS
from exporter.products import NPRINTING, QLIKVIEW
from exporter.qrs import AccessType, LicenseOverview, UnusedOverview, UnusedSeats
from exporter.status import License, Status
from exporter.verdict import LIMITS, VERDICTS, WORST_FIRST, Judgement, judge, limits_of, rules, sync, validity
from exporter.verdict import seats as seat_rules

GOOD = syncs(NOON - 2 * HOUR, NOON - 10 * MINUTE)
REACHED = [history([result(NOON - 30)])]


def unreachable(reason="tcp_timeout", **more):
    return [history([result(NOON - age * MINUTE, reason, **more) for age in range(30, 0, -1)])]


def said(judgement: Judgement) -> str:
    return " ".join((judgement.summary, judgement.users_see, *judgement.evidence, *judgement.cure))


def names(judgement: Judgement) -> list[str]:
    return [finding.verdict for finding in judgement.also]


def test_the_order_of_the_verdicts_names_each_once():
    assert sorted(WORST_FIRST) == sorted(VERDICTS)


# --- well ------------------------------------------------------------------------------------------------------------


def test_a_site_whose_syncs_nothing_contradicts_is_well_and_says_that_it_is_inferred():
    judgement = judge(observation(GOOD))
    assert (judgement.verdict, judgement.severity, judgement.alert, judgement.cure) == ("well", "ok", "", ())
    assert "inferred" in said(judgement)
    assert "upper bound" in said(judgement) or "at the latest" in said(judgement)


def test_a_success_told_by_a_taught_message_is_not_called_inferred():
    taught = (
        MessageConfig(name="up_to_date", log="licenses", match="assignments are up to date", means="sync_succeeded"),
    )
    lines = [licenses_line(NOON - HOUR, ATTEMPT), licenses_line(NOON - HOUR + 1, "assignments are up to date")]
    judgement = judge(observation(lines, messages=taught))
    assert judgement.verdict == "well"
    assert "inferred" not in said(judgement)


@pytest.mark.parametrize("kind", ["offline", "lef"])
def test_case_a8_an_offline_site_is_well_with_its_own_sentence(kind):
    judgement = judge(observation([], license=LicenseConfig(kind=kind), probes=unreachable()))
    assert (judgement.verdict, judgement.severity) == ("well", "ok")
    assert "never synchronises" in judgement.summary


def test_case_a4_a_burst_of_invalid_licenses_before_a_good_sync_is_a_repair_and_well():
    invalid = [
        licenses_line(
            NOON - HOUR + number,
            "invalid license error, license verification error: bad key",
            **{"res.errorType": "licenses.InvalidLicenseError"},
        )
        for number in range(5)
    ]
    judgement = judge(observation([*invalid, *syncs(NOON - HOUR + 60, NOON - 10 * MINUTE)]))
    assert judgement.verdict == "well"


def test_two_failed_syncs_after_a_good_one_are_mentioned_but_alarm_nobody():
    lines = [*GOOD, *syncs(NOON - 9 * MINUTE, NOON - 4 * MINUTE, 240, NO_SUCH_HOST)]
    judgement = judge(observation(lines))
    assert judgement.verdict == "well"
    assert "2 syncs failed since" in said(judgement)


# --- stale -----------------------------------------------------------------------------------------------------------


def test_case_a2_a_stale_license_is_critical_and_the_attempt_before_it_is_no_success():
    lines = [licenses_line(NOON - 60.04, ATTEMPT), licenses_line(NOON - 60, STALE)]
    judgement = judge(observation(lines))
    assert (judgement.verdict, judgement.severity, judgement.alert) == ("license_stale", "critical", "QlikLicenseStale")
    assert "an attempt is not a success" in said(judgement)
    assert "no access pass" in judgement.users_see


def test_the_cure_of_a_stale_license_opens_the_way_that_the_probe_finds_closed():
    judgement = judge(observation([licenses_line(NOON - 60, STALE)], probes=unreachable()))
    assert judgement.verdict == "license_stale"
    assert "firewall" in judgement.cure[0]


def test_case_a4_a_stale_license_with_a_good_probe_says_that_the_network_is_not_the_obstacle():
    judgement = judge(observation([licenses_line(NOON - 60, STALE)], probes=REACHED))
    assert "the network is not the problem now" in said(judgement)
    assert judgement.cure[0].startswith("Restart the Windows service Qlik Sense Service Dispatcher")


def test_an_old_stale_verdict_is_unconfirmed_until_users_are_refused():
    lines = [licenses_line(NOON - 80 * HOUR, STALE)]
    judgement = judge(observation(lines))
    assert (judgement.verdict, judgement.severity) == ("license_stale", "warning")
    assert judgement.alert == "QlikLicenseStaleUnconfirmed"
    refused = [refusal(NOON - 60 * number, f"user{number}", number=number) for number in range(1, 4)]
    assert judge(observation(lines, refused)).severity == "critical"


def test_refusals_under_a_stale_license_are_its_evidence_and_no_finding_of_their_own():
    refused = [refusal(NOON - 60 * number, f"user{number:02}", number=number) for number in range(1, 15)]
    judgement = judge(observation([licenses_line(NOON - 60, STALE)], refused))
    assert judgement.verdict == "license_stale"
    assert "14 distinct users were refused" in said(judgement)
    assert "everyone_refused" not in names(judgement)


def test_a_good_sync_after_the_stale_verdict_makes_all_well_again():
    lines = [licenses_line(NOON - 3 * HOUR, STALE), *GOOD]
    assert judge(observation(lines)).verdict == "well"


# --- failing syncs and their causes ----------------------------------------------------------------------------------

FAILING = [*syncs(NOON - 5 * HOUR, NOON - 4 * HOUR)]


def failing(error: str) -> list[str]:
    return [*FAILING, *syncs(NOON - 2 * HOUR, NOON - 10 * MINUTE, error=error)]


def test_syncs_that_fail_for_want_of_a_network_are_the_networks_fault():
    judgement = judge(observation(failing(NO_SUCH_HOST)))
    assert (judgement.verdict, judgement.severity) == ("sync_failing_network", "warning")
    assert judgement.alert == "QlikLicenseSyncFailing"
    assert "cannot be resolved" in judgement.summary


def test_a_failing_probe_names_the_reason_and_its_cure():
    judgement = judge(observation(failing(NO_SUCH_HOST), probes=unreachable("dns")))
    assert judgement.verdict == "sync_failing_network"
    assert "with dns" in said(judgement)
    assert "nslookup" in judgement.cure[0]


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("proxy_auth", "sync_failing_proxy"),
        ("proxy_connect", "sync_failing_proxy"),
        ("tls_untrusted", "sync_failing_interception"),
        ("tcp_refused", "sync_failing_network"),
        ("http_timeout", "sync_failing_network"),
    ],
)
def test_the_probes_reason_decides_where_the_log_says_nothing(reason, verdict):
    overdue = syncs(NOON - 40 * HOUR, NOON - 30 * HOUR)
    other = [licenses_line(NOON - HOUR, "something else")]
    judgement = judge(observation([*overdue, *other], probes=unreachable(reason)))
    assert judgement.verdict == verdict


def test_an_error_of_the_backend_itself_is_no_fault_of_the_way_to_it():
    for proxied in (False, True):
        failed = msgspec.structs.replace(result(NOON - 30, "http_status", issuer="Amazon", proxied=proxied), status=503)
        judgement = judge(observation(failing(NO_SUCH_HOST), probes=[history([failed])]))
        assert judgement.verdict == "sync_failing_network"
        assert "the backend itself answers with an error (503)" in judgement.summary
        assert "the connection to it works" in said(judgement)


def test_a_proxy_that_the_service_reports_is_the_proxys_fault_and_a_direct_way_that_works_is_said():
    judgement = judge(observation(failing(PROXY_407), probes=REACHED))
    assert judgement.verdict == "sync_failing_proxy"
    assert "the direct connection works, and the proxy that the service uses does not" in said(judgement)


def test_a_proxy_that_works_while_the_service_tries_the_direct_way_is_the_proxy_settings_fault():
    judgement = judge(observation(failing(NO_SUCH_HOST), probes=[history([result(NOON - 30, proxied=True)])]))
    assert judgement.verdict == "sync_failing_proxy"
    assert "services.conf" in said(judgement)


def test_a_direct_probe_that_works_beside_a_proxied_one_that_does_not_is_the_proxys_fault():
    probes = [
        history([result(NOON - 30)]),
        history([result(NOON - age * MINUTE, "proxy_connect", proxied=True) for age in range(30, 0, -1)]),
    ]
    judgement = judge(observation(failing("unexpected status code: 500"), probes=probes))
    assert judgement.verdict == "sync_failing_proxy"
    assert "the direct connection works and the one through the proxy does not" in said(judgement)


def test_an_inspecting_proxy_is_named_where_the_service_does_not_trust_its_certificate():
    judgement = judge(observation(failing(UNTRUSTED)))
    assert judgement.verdict == "sync_failing_interception"
    assert "TLS inspection" in said(judgement)


def test_syncs_that_fail_although_the_network_is_fine_are_the_services_fault_and_the_contradiction_is_said():
    judgement = judge(observation(failing(NO_SUCH_HOST), probes=REACHED))
    assert judgement.verdict == "sync_failing_service"
    assert "contradict" in said(judgement)
    assert "Service Dispatcher" in judgement.cure[0]


def test_syncs_that_end_in_unknown_words_are_unclear_and_the_words_are_asked_for():
    before = syncs(NOON - 5 * HOUR, NOON - 2 * HOUR)
    unclear = [
        licenses_line(NOON - age * MINUTE + later, message, caller=caller)
        for age in (80, 60, 40, 20)
        for later, message, caller in (
            (0, ATTEMPT, "sync.go:290"),
            (5, "assignment update failed: quota", "quota.go:7"),
        )
    ]
    judgement = judge(observation([*before, *unclear]))
    assert (judgement.verdict, judgement.alert) == ("sync_unclear", "QlikLicenseSyncUnclear")
    assert "explain --unknown" in judgement.cure[0]


def test_a_day_without_a_success_is_overdue_though_an_attempt_was_made():
    before = syncs(NOON - 40 * HOUR, NOON - 30 * HOUR)
    since = syncs(NOON - 20 * MINUTE, NOON - 20 * MINUTE, error="assignments were not updated: quota")
    judgement = judge(observation([*before, *since]))
    assert judgement.alert == "QlikLicenseSyncOverdue"
    assert "No sync is known to have succeeded for 30 h" in judgement.summary


def test_a_service_that_no_longer_tries_is_at_fault_itself():
    lines = [*syncs(NOON - 60 * HOUR, NOON - 30 * HOUR), licenses_line(NOON - HOUR, "something else")]
    judgement = judge(observation(lines))
    assert (judgement.verdict, judgement.alert) == ("sync_failing_service", "QlikLicenseSyncNotAttempted")
    assert "No sync has been attempted since" in said(judgement)


def test_a_clock_that_is_wrong_is_part_of_the_cure():
    judgement = judge(observation(failing(UNTRUSTED), probes=unreachable("tls_expired", clock_skew=-90 * MINUTE)))
    assert "clock of this machine differs by 1 h 30 min" in said(judgement)
    assert "w32tm" in " ".join(judgement.cure)


def test_an_unreachable_backend_counts_at_once_in_a_single_run_and_after_a_quarter_of_an_hour_in_a_long_one():
    once = [history([result(NOON - 1, "dns")])]
    assert judge(observation(GOOD, probes=once)).verdict == "sync_failing_network"
    assert judge(observation(GOOD, probes=once, started=NOON - DAY)).verdict == "well"
    judgement = judge(observation(GOOD, probes=unreachable(), started=NOON - DAY))
    assert (judgement.verdict, judgement.alert) == ("sync_failing_network", "QlikLicenseBackendUnreachable")
    assert "The log shows no failed sync yet" in said(judgement)


def test_nothing_is_concluded_from_a_probe_that_is_not_judged_and_it_is_said():
    unjudged = [history([result(NOON - age * MINUTE, judged=False, proxied=True) for age in range(30, 0, -1)])]
    for started in (None, NOON - DAY):
        judgement = judge(observation(GOOD, probes=unjudged, started=started))
        assert judgement.verdict == "well"
        assert "is not judged" in said(judgement)
        failing_too = judge(observation(failing(NO_SUCH_HOST), probes=unjudged, started=started))
        assert failing_too.verdict == "sync_failing_network"
        assert "direct way works" not in said(failing_too)


def test_a_failing_probe_that_was_not_judged_meanwhile_needs_its_patience_anew():
    results = [result(NOON - 60 * MINUTE), result(NOON - 5 * MINUTE, judged=False), result(NOON - MINUTE, "dns")]
    assert judge(observation(GOOD, probes=[history(results)], started=NOON - DAY)).verdict == "well"
    kept = [results[0], results[2]]
    assert judge(observation(GOOD, probes=[history(kept)], started=NOON - DAY)).verdict == "sync_failing_network"


def test_probes_that_are_not_judged_are_no_change_between_good_and_bad():
    results = [result(NOON - age * MINUTE, judged=age % 15 != 0) for age in range(180, 0, -1)]
    assert judge(observation(GOOD, probes=[history(results)], started=NOON - DAY)).verdict == "well"


def test_no_probe_of_a_site_without_the_licenses_service_is_a_finding():
    judgement = judge(observation(None, [], probes=unreachable()))
    assert judgement.verdict == "not_enough_evidence"


def test_a_certificate_of_an_unexpected_issuer_is_told_though_all_works():
    probes = [history([result(NOON - 30, issuer_expected=False, issuer="Contoso Proxy CA")])]
    judgement = judge(observation(GOOD, probes=probes))
    assert (judgement.verdict, judgement.alert) == ("sync_failing_interception", "QlikLicenseTlsIntercepted")


def test_a_backend_that_comes_and_goes_is_flapping_and_not_averaged_away():
    results = [result(NOON - age * MINUTE, "tcp_timeout" if age % 15 == 0 else None) for age in range(180, 0, -1)]
    judgement = judge(observation(GOOD, probes=[history(results)], started=NOON - DAY))
    assert (judgement.verdict, judgement.alert) == ("backend_flapping", "QlikLicenseBackendFlapping")
    steady = [result(NOON - age * MINUTE, "tcp_timeout" if age == 100 else None) for age in range(180, 0, -1)]
    assert judge(observation(GOOD, probes=[history(steady)], started=NOON - DAY)).verdict == "well"


# --- other products -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", [NPRINTING, QLIKVIEW])
def test_the_verdict_speaks_of_the_product_that_is_there(product):
    def of(lines):
        return judge(replace(observation(lines), product=product))

    stale = [licenses_line(NOON - 60, STALE)]
    silent = syncs(NOON - 60 * HOUR, NOON - 50 * HOUR)
    old = [licenses_line(NOON - 80 * HOUR, STALE)]
    locked = syncs(NOON - 130 * HOUR, NOON - 100 * HOUR) + syncs(NOON - 99 * HOUR, NOON - MINUTE, error=NO_SUCH_HOST)
    for lines, verdict in (
        (stale, "license_stale"),
        (old, "license_stale"),
        (failing(NO_SUCH_HOST), "sync_failing_network"),
        (failing(PROXY_407), "sync_failing_proxy"),
        (locked, "lockout_coming"),
        (silent, "service_silent"),
    ):
        judgement = of(lines)
        findings = (judgement, *judgement.also)
        assert verdict in [each.verdict for each in findings]
        told = " ".join(said(each) for each in findings)
        for word in ("Sense", "QMC", "hub", "services.conf", "Service Dispatcher, which"):
            assert word not in told, (verdict, word, told)
    assert of(stale).users_see == product.everyone_sees
    assert product.restart in of(stale).cure


def test_nprinting_stops_when_its_service_does_not_answer_and_the_verdict_says_so():
    silent = syncs(NOON - 60 * HOUR, NOON - 50 * HOUR)
    judgement = judge(replace(observation(silent), product=NPRINTING))
    found = next(each for each in (judgement, *judgement.also) if each.verdict == "service_silent")
    assert "Qlik NPrinting stops as with an expired license" in found.users_see


# --- the lockout -----------------------------------------------------------------------------------------------------


def test_a_lockout_within_two_days_is_critical_and_brings_the_cure_of_its_cause():
    lines = [
        *syncs(NOON - 76 * HOUR, NOON - 75 * HOUR),
        *syncs(NOON - 75 * HOUR + 600, NOON - MINUTE, error=NO_SUCH_HOST),
    ]
    judgement = judge(observation(lines, probes=unreachable("dns")))
    assert (judgement.verdict, judgement.severity) == ("lockout_coming", "critical")
    assert judgement.alert == "QlikLicenseLockoutImminent"
    assert "45 h" in judgement.summary
    assert "nslookup" in " ".join(judgement.cure)
    assert names(judgement) == ["sync_failing_network"]


def test_a_lockout_farther_away_than_two_days_is_not_said_yet():
    lines = [*syncs(NOON - 71 * HOUR, NOON - 70 * HOUR), *syncs(NOON - 69 * HOUR, NOON - MINUTE, error=NO_SUCH_HOST)]
    assert judge(observation(lines)).verdict == "sync_failing_network"


def test_days_of_nothing_but_failures_make_a_lockout_come_though_no_success_is_known():
    judgement = judge(observation(syncs(NOON - 80 * HOUR, NOON - MINUTE, error=NO_SUCH_HOST)))
    assert (judgement.verdict, judgement.alert) == ("lockout_coming", "QlikLicenseLockoutImminent")
    assert "first logged something" in said(judgement)
    assert judge(observation(syncs(NOON - 20 * HOUR, NOON, error=NO_SUCH_HOST))).verdict == "sync_failing_network"


def test_a_lockout_that_is_past_says_that_it_was_due():
    lines = [*syncs(NOON - 130 * HOUR, NOON - 125 * HOUR), *syncs(NOON - 120 * HOUR, NOON, error=NO_SUCH_HOST)]
    assert "should have been locked out" in judge(observation(lines)).summary


# --- silence and blindness -------------------------------------------------------------------------------------------


def test_a_licenses_log_that_stands_still_while_others_go_on_is_a_silent_service():
    rows = [audit_row(NOON - 60, "user01", "Command=Open app;Result=200", "opened")]
    judgement = judge(observation(syncs(NOON - 40 * HOUR, NOON - 30 * HOUR), rows))
    assert (judgement.verdict, judgement.severity) == ("service_silent", "warning")
    assert "repository_audit" in said(judgement)
    assert judgement.alert == "QlikLicenseLogSilent"


def test_logs_that_cannot_be_found_make_us_blind_and_not_the_service_silent():
    judgement = judge(observation(None, logs={"licenses": LogFigures(listed=True)}))
    assert (judgement.verdict, judgement.severity) == ("tail_blind", "unknown")
    judgement = judge(
        observation(GOOD, logs={"licenses": LogFigures(files=1, listed=True, problem="C:\\x: access denied")})
    )
    assert judgement.verdict == "tail_blind"
    assert "C:\\x" not in said(judgement)


def test_a_blind_spot_beside_a_good_license_is_a_warning():
    figures = {
        "licenses": LogFigures(files=1, listed=True, last_read=NOON),
        "repository_audit": LogFigures(listed=True),
    }
    judgement = judge(observation(GOOD, logs=figures))
    assert (judgement.verdict, judgement.severity) == ("tail_blind", "warning")


def test_a_log_that_was_not_read_for_five_minutes_makes_a_running_exporter_blind():
    figures = {"licenses": LogFigures(files=1, listed=True, last_read=NOON - 400)}
    assert judge(observation(GOOD, logs=figures, started=NOON - DAY)).verdict == "tail_blind"
    assert judge(observation(GOOD, logs=figures)).verdict == "well"


# --- refused users ---------------------------------------------------------------------------------------------------


def test_ten_refused_users_with_a_good_license_are_everyone():
    refused = [refusal(NOON - 60 * number, f"user{number:02}", number=number) for number in range(1, 11)]
    judgement = judge(observation(GOOD, refused))
    assert (judgement.verdict, judgement.severity) == ("everyone_refused", "critical")
    assert judgement.alert == "QlikLicenseAccessDeniedMassive"
    assert "conversion date" in said(judgement)


def test_nine_refused_users_are_users_and_none_is_named():
    refused = [refusal(NOON - 60 * number, f"user{number:02}", number=number) for number in range(1, 10)]
    judgement = judge(observation(GOOD, refused))
    assert (judgement.verdict, judgement.severity) == ("users_refused", "warning")
    assert judgement.alert == "QlikLicenseAccessDenied"
    assert "user01" not in said(judgement)


def test_case_a5_a_single_refused_user_is_told_to_log_out_and_in_and_raises_no_alert():
    judgement = judge(observation(GOOD, [refusal(NOON - 60, "user01")]))
    assert (judgement.verdict, judgement.alert) == ("users_refused", "")
    assert "logging out and in is enough" in said(judgement)


def test_refusals_of_more_than_an_hour_ago_are_past():
    rows = [refusal(NOON - 2 * HOUR, f"user{number:02}", number=number) for number in range(1, 15)]
    assert judge(observation(GOOD, rows)).verdict == "well"


def test_a_refused_allocation_is_told():
    row = audit_row(
        NOON - 60, "sa_repository", "Command=Add user access from license;Result=400;ResultText=Error", "<BrokenRules>"
    )
    judgement = judge(observation(GOOD, [row]))
    assert (judgement.verdict, judgement.alert) == ("users_refused", "QlikLicenseAllocationRefused")


def test_case_b1_parallel_sessions_are_told_without_names():
    rows = [refusal(NOON - number, "burster", sessions=5, number=number) for number in range(1, 8)]
    judgement = judge(observation(GOOD, rows))
    assert (judgement.verdict, judgement.alert) == ("parallel_sessions", "QlikLicenseParallelSessions")
    assert "1 user held five sessions" in judgement.summary
    assert "burster" not in said(judgement)


def test_a_repository_that_is_down_is_told_as_the_cause_of_refusals():
    probes = [*REACHED, repository([result(NOON - age * MINUTE, "tcp_refused") for age in range(10, 0, -1)])]
    judgement = judge(observation(GOOD, probes=probes, started=NOON - DAY))
    assert (judgement.verdict, judgement.severity) == ("repository_down", "critical")
    assert "whatever the state of the license" in judgement.summary


def test_another_service_of_the_node_that_is_down_is_not_called_the_repository():
    settings = ProbeConfig(target="localhost:9200", role="local", protocol="tcp", proxy="none")
    down = history([result(NOON - age * MINUTE, "tcp_refused") for age in range(10, 0, -1)], settings)
    judgement = judge(observation(GOOD, probes=[*REACHED, down], started=NOON - DAY))
    assert "repository_down" not in names(judgement)
    assert "Repository does not answer" not in said(judgement)


# --- what was bought -------------------------------------------------------------------------------------------------


def overview(**known) -> LicenseOverview:
    return LicenseOverview(read_at=NOON - 60, **known)


def seats(available: float, licenses: float = 10) -> dict:
    return {"professional": AccessType(licenses, licenses - available, 5, available, 0, 0)}


def test_an_expired_license_is_critical():
    judgement = judge(observation(GOOD, qrs=board(overview(expired=True, expiry=NOON - DAY))))
    assert (judgement.verdict, judgement.severity, judgement.alert) == (
        "license_expired",
        "critical",
        "QlikLicenseExpired",
    )


def test_a_license_that_qlik_calls_invalid_is_critical_too():
    judgement = judge(observation(GOOD, qrs=board(overview(expired=False, valid=False, expiry=NOON + 99 * DAY))))
    assert (judgement.verdict, judgement.severity, judgement.alert) == (
        "license_expired",
        "critical",
        "QlikLicenseInvalid",
    )
    assert judgement.summary == "Qlik reports the license as invalid."


def test_an_expiry_that_the_repository_does_not_admit_is_called_a_contradiction():
    judgement = judge(observation(GOOD, qrs=board(overview(expired=False, expiry=NOON - DAY))))
    assert judgement.verdict == "license_expired"
    assert "contradict" in said(judgement)


@pytest.mark.parametrize(("days", "severity"), [(59, "warning"), (29, "warning"), (6, "critical")])
def test_an_expiry_to_come_grows_more_urgent(days, severity):
    judgement = judge(observation(GOOD, qrs=board(overview(expired=False, expiry=NOON + days * DAY))))
    assert (judgement.verdict, judgement.severity) == ("license_expiring", severity)


def test_an_expiry_farther_away_than_sixty_days_is_well_and_said():
    judgement = judge(observation(GOOD, qrs=board(overview(expired=False, expiry=NOON + 61 * DAY))))
    assert judgement.verdict == "well"
    assert "valid until 2027-01-02" in said(judgement)


def test_seats_that_are_gone_matter_only_when_users_are_refused():
    gone = board(overview(access=seats(0)))
    assert judge(observation(GOOD, qrs=gone)).verdict == "well"
    judgement = judge(observation(GOOD, [refusal(NOON - 60, "user01")], qrs=gone))
    assert (judgement.verdict, judgement.alert) == ("seats_exhausted", "QlikLicenseSeatsExhausted")
    assert names(judgement) == ["users_refused"]


def idle(**unused: float) -> UnusedOverview:
    counts = {"30d": 0, "60d": 0, "90d": 0, "never": 0} | {name.strip("_"): n for name, n in unused.items()}
    return UnusedOverview(read_at=NOON - 60, access={"professional": UnusedSeats(50, counts)})


def test_seats_held_by_people_who_are_gone_are_told():
    seen = UnusedOverview(
        read_at=NOON - 60,
        access=idle().access,
        holders={"professional": {"removed": 3, "inactive": 0, "blocked": 1}},
    )
    told = judge(observation(GOOD, qrs=board(overview(access=seats(3)), seen)))
    sentence = (
        "Of 50 professional seats, some are held by people who are gone: "
        "3 by users removed from their directory and 1 by blocked users."
    )
    assert sentence in told.evidence


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"_30d": 20, "_60d": 15, "_90d": 11, "never": 3},
         "11 of 50 professional seats were not used for 90 days, 3 were never used."),
        ({"_30d": 20, "_60d": 1}, "1 of 50 professional seats was not used for 60 days."),
        ({"_30d": 20}, "20 of 50 professional seats were not used for 30 days."),
        ({"never": 1}, "1 of 50 professional seats was never used."),
        ({}, ""),
    ],
)  # fmt: skip
def test_seats_that_nobody_uses_are_told_in_a_sentence_to_act_on(counts, sentence):
    told = judge(observation(GOOD, qrs=board(overview(access=seats(3)), idle(**counts))))
    assert told.verdict == "well"
    assert [line for line in told.evidence if "used" in line and "seat" in line] == [sentence][: bool(sentence)]
    gone = board(overview(access=seats(0)), idle(**counts))
    told = judge(observation(GOOD, [refusal(NOON - 60, "user01")], qrs=gone))
    assert (told.verdict, sentence in " ".join(told.evidence)) == ("seats_exhausted", True)


def test_used_up_minutes_are_told():
    judgement = judge(observation(GOOD, qrs=board(overview(capacity_allocated=6000.0, capacity_used=6000.0))))
    assert judgement.verdict == "capacity_exhausted"
    assert "used up" in judgement.summary
    judgement = judge(observation(GOOD, qrs=board(overview(capacity_allocated=6000.0, capacity_used=5000.0))))
    assert judgement.verdict == "well"


# --- not enough evidence ---------------------------------------------------------------------------------------------


def test_without_any_log_the_evidence_is_not_enough_and_what_is_missing_is_said():
    judgement = judge(observation())
    assert (judgement.verdict, judgement.severity) == ("not_enough_evidence", "unknown")
    assert "There is no Licenses log" in said(judgement)
    assert judgement.cure


def test_a_single_attempt_that_is_not_settled_is_not_enough():
    judgement = judge(observation([licenses_line(NOON, ATTEMPT)]))
    assert (judgement.verdict, judgement.alert) == ("not_enough_evidence", "QlikLicenseSyncUnknown")
    assert "it is not known yet how it ended" in said(judgement)


def test_a_log_that_is_still_being_read_says_so():
    seen = observation(None, logs={"licenses": LogFigures(files=3, listed=False)}, started=NOON - 1)
    judgement = judge(seen)
    assert judgement.verdict == "not_enough_evidence"
    assert "still being read" in said(judgement)


# --- the whole -------------------------------------------------------------------------------------------------------


def test_the_worst_finding_comes_first_and_the_others_follow():
    probes = [*unreachable("dns"), repository([result(NOON - 60, "tcp_refused")])]
    judgement = judge(observation([*GOOD, licenses_line(NOON - 60, STALE)], probes=probes))
    assert judgement.verdict == "license_stale"
    assert names(judgement) == ["repository_down"]


def test_a_demonstrations_short_grace_shrinks_all_spans_of_qliks_clock():
    assert limits_of(5 * DAY) is LIMITS
    assert limits_of(3 * DAY) is LIMITS
    limits = limits_of(60)
    assert limits.lockout_near == pytest.approx(24)
    assert limits.overdue == pytest.approx(13)
    assert limits.massive_users == LIMITS.massive_users
    lines = syncs(NOON - 60, NOON - 5, 5)
    short = LicenseConfig(grace=msgspec.convert(60.0, float), settle=2.0)
    assert judge(observation(lines, license=short)).verdict == "well"
    assert judge(observation(lines, license=short, now=NOON + 2)).verdict == "well"
    assert judge(observation(lines, license=short, now=NOON + 32)).verdict == "lockout_coming"


@pytest.mark.parametrize(
    "seen",
    [
        observation(GOOD),
        observation([licenses_line(NOON - 60, STALE)]),
        observation(failing(NO_SUCH_HOST), [refusal(NOON - 1, "a")], probes=unreachable()),
        observation(),
    ],
)
def test_every_finding_is_complete_and_readable(seen):
    judgement = judge(seen)
    for finding in (judgement, *judgement.also):
        assert finding.verdict in VERDICTS
        assert finding.severity in ("ok", "warning", "critical", "unknown")
        assert finding.summary.endswith(".")
        assert "\n" not in finding.summary
        assert finding.users_see
        assert finding.evidence
        assert bool(finding.cure) == (finding.verdict != "well")
        assert finding.alert == "" or finding.alert.startswith("QlikLicense")
        assert all(sentence.endswith((".", ":", ")")) for sentence in finding.evidence)


def test_an_old_stale_verdict_hides_neither_the_silence_of_the_service_nor_a_refused_user():
    judgement = judge(observation([licenses_line(NOON - 100 * DAY, STALE)], [refusal(NOON - 60, "user01")]))
    assert judgement.verdict == "license_stale"
    assert names(judgement) == ["service_silent", "users_refused"]


def test_refusals_before_the_license_became_good_again_are_explained_by_it():
    licenses = [
        *(licenses_line(NOON - 40 * MINUTE + age, STALE) for age in range(5)),
        *syncs(NOON - 20 * MINUTE, NOON - 5 * MINUTE),
    ]
    before = [refusal(NOON - 30 * MINUTE + number, f"user{number:02}", number=number) for number in range(1, 15)]
    judgement = judge(observation(licenses, before))
    assert (judgement.verdict, judgement.also) == ("well", ())
    assert "14 users were refused before the license became good" in said(judgement)
    after = [refusal(NOON - number, f"user{number:02}", number=50 + number) for number in range(1, 3)]
    judgement = judge(observation(licenses, [*before, *after]))
    assert judgement.verdict == "users_refused"
    assert "2 distinct users were refused" in said(judgement)


PAGE = (Path(__file__).parent.parent / "docs/verdict.md").read_text(encoding="utf-8")


def test_the_documentation_lists_every_verdict_in_the_order_of_the_code():
    assert tuple(re.findall(r"^\| `(\w+)` \| (?:ok|warning|critical|unknown) \|", PAGE, re.MULTILINE)) == WORST_FIRST


def test_the_documentation_covers_every_field_of_the_status():
    section = PAGE.partition("`/api/v1/status`")[2].partition("`/api/v1/events`")[0]
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert documented == set(Status.__struct_fields__)


def test_the_documentation_covers_every_field_of_the_sync_clock():
    section = PAGE.partition("### The field `license`")[2]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(License.__struct_fields__)


def shipped_alerts() -> dict[str, list[dict]]:
    rules = parsed(RULES)
    alerts: dict[str, list[dict]] = {}
    for group in rules["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert", rule.get("record"))
            alerts.setdefault(name, []).append(rule)
    return alerts


@pytest.mark.parametrize(
    ("alert", "limit"),
    [
        ("QlikLicenseStale", f"< {LIMITS.stale_recent / HOUR:g} * 3600"),
        ("QlikLicenseLockoutImminent", f"< {LIMITS.lockout_near / HOUR:g} * 3600"),
        ("QlikLicenseSyncOverdue", f"> {LIMITS.overdue / HOUR:g} * 3600"),
        ("QlikLicenseLogSilent", f"> {LIMITS.overdue / HOUR:g} * 3600"),
        ("QlikLicenseSyncNotAttempted", f"> {LIMITS.overdue / HOUR:g} * 3600"),
        ("QlikLicenseContactLost", f"> {LIMITS.overdue / HOUR:g} * 3600"),
        ("QlikLicenseSyncFailing", f">= {LIMITS.failures}"),
        ("QlikLicenseBackendFlapping", f"< {LIMITS.flapping_share:g}"),
        ("QlikLicenseBackendFlapping", f">= {LIMITS.flapping_changes}"),
        ("QlikLicenseAccessDenied", f">= {LIMITS.denied_users}"),
        ("QlikLicenseAccessDenied", f">= {LIMITS.denials}"),
        ("qlik_license:access_denied_users:massive", f"vector({LIMITS.massive_users})"),
        ("QlikLicenseParallelSessions", f">= {LIMITS.parallel_denials}"),
        ("QlikLicenseLogUnreadable", f"> {LIMITS.unread:g}"),
        ("QlikLicenseExpiringSoon", f"< {LIMITS.expiring[0] / DAY:g} * 86400"),
        ("QlikLicenseExpiringSoon", f"< {LIMITS.expiring[2] / DAY:g} * 86400"),
        ("QlikLicenseCapacityNearlyExhausted", f"> {LIMITS.capacity_share:g}"),
        ("QlikLicenseClockSkew", f"> {LIMITS.clock_skew:g}"),
    ],
)
def test_the_limits_are_those_of_the_shipped_alerts(alert, limit):
    assert any(limit in condition for condition in conditions(alert))


@pytest.mark.parametrize(
    ("alert", "seconds"),
    [("QlikLicenseBackendUnreachable", LIMITS.unreachable), ("QlikLicenseRepositoryDown", LIMITS.repository_down)],
)
def test_the_patience_is_that_of_the_shipped_alerts(alert, seconds):
    assert any(float(duration(rule["for"])) == seconds for rule in shipped_alerts()[alert])


def test_every_alert_that_a_finding_names_is_shipped():
    named = set()
    for module in (sync, rules, seat_rules, validity):
        named |= set(re.findall(r'"(QlikLicense\w+)"', Path(module.__file__).read_text(encoding="utf-8")))
    assert len(named) > 15
    assert named <= set(shipped_alerts())


REASONS_OR_NONE = (None, *REASONS)
WORDS = (ATTEMPT, STALE, NO_SUCH_HOST, PROXY_407, UNTRUSTED, "something unheard of")


@settings(deadline=None)
@given(
    entries=strategies.lists(
        strategies.tuples(strategies.integers(0, 10 * 86400), strategies.sampled_from(WORDS)), max_size=25
    ),
    refusals=strategies.lists(
        strategies.tuples(strategies.integers(0, 7200), strategies.sampled_from([None, 5])), max_size=15
    ),
    probed=strategies.lists(
        strategies.tuples(strategies.integers(0, 30000), strategies.sampled_from(REASONS_OR_NONE)), max_size=12
    ),
    long_run=strategies.booleans(),
)
def test_whatever_was_observed_there_is_one_complete_verdict(entries, refusals, probed, long_run):
    lines = [licenses_line(NOON - age, text) for age, text in sorted(entries, reverse=True)]
    rows = [refusal(NOON - age, f"u{place}", sessions=sessions) for place, (age, sessions) in enumerate(refusals)]
    results = [result(NOON - age, reason) for age, reason in sorted(probed, key=lambda one: -one[0])]
    seen = observation(lines, rows, probes=[history(results)], started=NOON - 11 * DAY if long_run else None)
    judgement = judge(seen)
    findings = (judgement, *judgement.also)
    assert len({finding.verdict for finding in findings}) == len(findings)
    assert all(finding.summary and finding.evidence and finding.users_see for finding in findings)
    assert (judgement.verdict == "well") == (judgement.severity == "ok")
    criticals = [finding.severity == "critical" for finding in findings]
    assert criticals == sorted(criticals, reverse=True)
    if seen.state.stale() and NOON - seen.state.stale_verdict < LIMITS.stale_recent:
        assert judgement.verdict == "license_stale"


# --- contradictions, long-lasting reports, order ---------------------------------------------------------------------

INVALID = {"res.errorType": "licenses.InvalidLicenseError"}
BAD_KEY = "invalid license error, license verification error: bad key"


def invalid_lines(hours: float, every: float = 600.0) -> list[str]:
    return [licenses_line(NOON - at, BAD_KEY, **INVALID) for at in range(int(hours * HOUR), 0, -int(every))]


@pytest.mark.parametrize("kind", ["offline", "lef"])
@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([licenses_line(NOON - 60, STALE)], "license_stale"),
        (invalid_lines(3), "license_expired"),
        (GOOD, "not_enough_evidence"),
    ],
)
def test_what_contradicts_the_configured_kind_of_license_is_the_finding(kind, lines, verdict):
    judgement = judge(observation(lines, license=LicenseConfig(kind=kind)))
    assert (judgement.verdict, judgement.severity) == (verdict, "warning")
    assert f"`license.kind: {kind}`" in judgement.summary
    assert "no problem is known" not in said(judgement)


def test_a_stale_offline_license_that_refuses_users_is_critical():
    refusals = [refusal(NOON - number, f"u{number}") for number in range(1, 5)]
    offline = LicenseConfig(kind="offline")
    judgement = judge(observation([licenses_line(NOON - 60, STALE)], refusals, license=offline))
    assert (judgement.verdict, judgement.severity) == ("license_stale", "critical")


def test_a_license_that_is_called_invalid_for_a_day_is_no_side_effect_of_a_forced_sync():
    for hours, verdict in ((0.2, "well"), (23, "well"), (25, "license_expired")):
        lines = sorted([*GOOD, *invalid_lines(hours)], key=lambda line: line[line.index("timestamp") :])
        judgement = judge(observation(lines))
        assert judgement.verdict == verdict, hours
        assert ("side effect" in said(judgement)) == (hours < 1)


def test_a_lockout_that_is_due_goes_before_refused_users_and_nothing_yet_is_not_said_beside_them():
    lines = [*syncs(NOON - 130 * HOUR, NOON - 125 * HOUR), *syncs(NOON - 124 * HOUR, NOON, error=NO_SUCH_HOST)]
    refusals = [refusal(NOON - number, f"u{number}") for number in range(1, 15)]
    for rows in (refusals, []):
        judgement = judge(observation(lines, rows))
        assert judgement.verdict == "lockout_coming"
        assert "everyone_refused" not in names(judgement)
        assert not any(f.users_see.startswith("Nothing yet") for f in (judgement, *judgement.also))


def test_syncs_that_succeed_and_fail_by_turns_are_one_finding():
    lines, at = [], NOON - 20 * HOUR
    for number in range(120):
        lines += syncs(at, at, error="" if number % 3 == 0 else NO_SUCH_HOST)
        at += 600
    judgement = judge(observation(lines))
    assert (judgement.verdict, judgement.alert) == ("backend_flapping", "QlikLicenseBackendFlapping")
    assert not [name for name in names(judgement) if name.startswith("sync_")]


def test_the_license_logger_of_an_unlicensed_server_is_evidence():
    row = "{n}\t20261102T{h:02}0000.000+0000\tWARN\tN\tLicense.Repository.Repository.Core.Licensing.X\t1\ti\ts\tInvalid license, aborting license maintenance\t0\tx"
    rows = [row.format(n=hour, h=hour) for hour in range(1, 12)]
    judgement = judge(observation(trace=rows))
    assert "The Repository's license logger wrote 11 warnings, the last at 2026-11-02 11:00:00 UTC" in said(judgement)
    assert "it aborted license maintenance 11 times" in said(judgement)
