"""Small logs that went wrong in the field, each for its kind, through the command `diagnose --json`."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import main
from tests.observed import ATTEMPT

EIGHT = 1_795_161_600.0
"""2026-11-20 08:00 UTC."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
POST = 'Post "https://license.qlikcloud.com/v1/assignments": '


def entry(after: float, message: str = "", caller: str = "sync.go:310", **more: Any) -> str:
    at = EIGHT + after
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f"{at % 1:.7f}Z"[1:]
    pairs = {"caller": caller, "level": "info", **({"message": message} if message else {}), **more}
    return json.dumps({**pairs, "timestamp": stamp})


def attempt(after: float) -> str:
    return entry(after, ATTEMPT, "sync.go:290")


def judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: float, *lines: str, config: str = ""
) -> dict[str, Any]:
    log = tmp_path / "Log" / "Licenses" / "l.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(lines) + "\n")
    words = ["diagnose", "--json", "--now", str(EIGHT + after), str(tmp_path / "Log")]
    if config:
        (tmp_path / "config.yml").write_text(config)
        words = ["--config.file", str(tmp_path / "config.yml"), *words]
    main(words)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def text(judgement: dict[str, Any]) -> str:
    return " ".join((judgement["summary"], *judgement["evidence"]))


NO_SUCCESS = "No successful sync is known."


@pytest.mark.parametrize("reason", ["Forbidden", "Bad Gateway", "", "unknown status code", "Internal Server Error"])
def test_a_connect_that_the_proxy_refuses_is_a_failed_sync(tmp_path, capsys, reason):
    found = judged(tmp_path, capsys, 300, attempt(0), entry(1, f"failed to sync: {POST}{reason}".rstrip()))
    assert (found["verdict"], NO_SUCCESS in text(found)) == ("sync_failing_proxy", True)


def test_a_failure_worded_like_the_attempt_is_none(tmp_path, capsys):
    found = judged(tmp_path, capsys, 300, attempt(0), entry(1, f"{ATTEMPT} failed"))
    assert (found["severity"], NO_SUCCESS in text(found)) == ("warning", True)


def test_a_code_an_error_key_and_a_page_are_no_successes(tmp_path, capsys):
    lines = [
        attempt(0),
        entry(
            1,
            caller="h.go:1",
            errorMessage="Could not reach it",
            errorType="LICENSES-BackendUnreachable",
            statusCode=503,
        ),
        attempt(600),
        entry(601, "sync", error="backend unavailable"),
        attempt(1200),
        entry(1201, "sync failed: invalid character '<' looking for beginning of value"),
    ]
    found = judged(tmp_path, capsys, 1500, *lines)
    assert (found["verdict"], NO_SUCCESS in text(found)) == ("sync_failing_interception", True)


@pytest.mark.parametrize("kept", [30, 58, 66, 76, 85])
def test_the_end_of_a_sync_on_a_torn_line_is_not_known(tmp_path, capsys, kept):
    found = judged(tmp_path, capsys, 300, attempt(0), entry(1, POST + "Forbidden")[:kept])
    assert (found["verdict"], NO_SUCCESS in text(found)) == ("sync_unclear", True)


def test_a_failure_that_stands_before_its_attempt_fails_it(tmp_path, capsys):
    found = judged(tmp_path, capsys, 900, attempt(0), entry(600.2, "sync failed: EOF"), attempt(600.1))
    assert "1 sync failed since" in text(found)
    assert "08:00:00" in text(found)


def test_a_chain_of_retries_is_one_sync_that_ends_with_the_last(tmp_path, capsys):
    chain = [attempt(0), attempt(60), attempt(95), entry(97, "sync failed: EOF")]
    found = judged(tmp_path, capsys, 300, *chain)
    assert (found["verdict"], NO_SUCCESS in text(found)) == ("sync_failing_network", True)


def test_slow_failures_make_no_success_flip_twice(tmp_path, capsys):
    lines = [attempt(0)]
    for number in (1, 2, 3):
        lines += [attempt(number * 600), entry(number * 600 + 95, "sync failed: context deadline exceeded")]
    assert "08:10:00" in text(judged(tmp_path, capsys, 11 * MINUTE + 33, *lines)), "nothing can tell that before"
    found = judged(tmp_path, capsys, 31 * MINUTE + 33, *lines)
    assert "2 syncs failed since" in text(found)
    assert "The last successful sync was at 2026-11-20 08:00:00" in text(found)


def test_after_a_stale_verdict_that_disproved_silence_silence_proves_nothing(tmp_path, capsys):
    stale = entry(5 * DAY + 1, caller="handler.go:44", errorMessage="Too much time has passed since the last license update",
                  errorType="LICENSES-OutdatedLicense", statusCode=403)  # fmt: skip
    attempts = [attempt(600 * number) for number in range(720)]
    found = judged(tmp_path, capsys, 5 * DAY + 720, *attempts, stale, attempt(5 * DAY + 600))
    assert (found["verdict"], found["severity"]) == ("license_stale", "critical")


def test_attempts_in_unknown_words_show_the_service_by_their_failures(tmp_path, capsys):
    lines = [
        entry(600 * number, POST + "dial tcp: lookup license.qlikcloud.com: no such host") for number in range(700)
    ]
    found = judged(tmp_path, capsys, 420_000, *lines)
    assert (found["verdict"], found["severity"]) == ("lockout_coming", "critical")


def test_network_errors_in_other_words_are_the_networks(tmp_path, capsys):
    lines = []
    for number in range(20):
        lines += [attempt(600 * number), entry(600 * number + 1, POST + "dial tcp 203.0.113.7:443: connectex: A socket "
                  "operation was attempted to an unreachable network.")]  # fmt: skip
    assert judged(tmp_path, capsys, 20 * 600, *lines)["verdict"] == "sync_failing_network"


def test_a_wording_that_the_site_taught_goes_before_the_built_in_attempt(tmp_path, capsys):
    lines = []
    for number in range(30):
        lines += [attempt(600 * number), entry(600 * number + 3, f"finished {ATTEMPT}")]
    taught = "messages: [{name: resync_done, log: licenses, match: 'finished re-syncing', means: sync_succeeded}]"
    found = judged(tmp_path, capsys, 30 * 600, *lines, config=taught)
    assert found["verdict"] == "well"
    assert "inferred" not in text(found)
