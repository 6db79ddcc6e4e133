"""The verdict: all evidence of one observation becomes one sentence, its proof and its cure. Pure."""

from exporter.verdict.finding import VERDICTS, WORST_FIRST, Finding, Judgement, Severity, VerdictName
from exporter.verdict.judging import judge
from exporter.verdict.limits import LIMITS, Limits, limits_of

__all__ = [
    "LIMITS",
    "VERDICTS",
    "WORST_FIRST",
    "Finding",
    "Judgement",
    "Limits",
    "Severity",
    "VerdictName",
    "judge",
    "limits_of",
]
