"""The verdict: all evidence of one observation becomes one sentence, its proof and its cure. Pure."""

from typing import TYPE_CHECKING

import msgspec

from exporter.verdict import rules, sync
from exporter.verdict.evidence import Evidence, were
from exporter.verdict.finding import WORST_FIRST, Finding, Judgement, VerdictName
from exporter.wording import count

if TYPE_CHECKING:
    from exporter.observation import Observation


def judge(seen: "Observation") -> Judgement:
    """The findings about `seen`, the worst first. Pure, and total: there is always a verdict."""
    evidence = Evidence(seen)
    findings = [finding for rule in (*sync.RULES, *rules.RULES) for finding in rule(evidence)]
    if not any(finding.severity == "critical" or finding.verdict in _SAY_ENOUGH for finding in findings):
        findings.extend(rules.doubt(evidence))
    if not findings:
        findings.append(rules.well(evidence))
    findings = [_as_users_see_it(finding, evidence) for finding in findings]
    first_of_each = {finding.verdict: finding for finding in reversed(findings)}
    worst, *also = sorted(
        first_of_each.values(),
        key=lambda finding: (finding.severity != "critical", WORST_FIRST.index(finding.verdict)),
    )
    return Judgement(**{name: getattr(worst, name) for name in Finding.__struct_fields__}, also=tuple(also))


def _as_users_see_it(finding: Finding, evidence: Evidence) -> Finding:
    """Nothing is said to be seen yet while users are refused, or should be locked out."""
    if not finding.users_see.startswith("Nothing yet"):
        return finding
    if evidence.refused:
        refused = count(evidence.refused, "user")
        users_see = f"{refused} {were(evidence.refused)} refused within the hour: {evidence.product.refusal}"
    elif evidence.overdue_lockout:
        users_see = f"By the lockout clock, everyone is refused by now: {evidence.product.refusal} Ask a user."
    else:
        return finding
    return msgspec.structs.replace(finding, users_see=users_see)


_SAY_ENOUGH: frozenset[VerdictName] = frozenset(
    {
        "sync_failing_network",
        "sync_failing_proxy",
        "sync_failing_interception",
        "sync_failing_service",
        "sync_unclear",
        "tail_blind",
        "service_silent",
        "license_stale",
    }
)
"""Findings next to which "not enough evidence" would only repeat that there is a problem with the sync."""
