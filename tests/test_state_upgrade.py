"""State files of older versions: counters are kept, successes that would not be inferred now go, names are translated."""

import json
import sqlite3
from pathlib import Path

import pytest

from exporter.codec import encoded, restored
from tests.exporting import Site, append, process
from tests.observed import ATTEMPT, licenses_line

DATA = Path(__file__).parent / "data"
FALSE_SUCCESS = 1_790_017_400.0
"""The old version took an attempt whose proxy answered `Forbidden` for a success."""
TRUE_SUCCESS = 1_790_006_600.0


def old_state(site: Site, folder: Path) -> None:
    """The state file as the old version saved it, of a log in `folder`."""
    saved = json.loads((DATA / "state_before_sync_clock.json").read_text().replace("{folder}", folder.as_posix()))
    site.state.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(site.state)
    for statement in saved["schema"]:
        database.execute(statement)
    for table, rows in saved["tables"].items():
        for row in rows:
            values = [value.encode() if isinstance(value, str) and place else value for place, value in enumerate(row)]
            database.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", values)
    database.execute(f"PRAGMA user_version = {saved['user_version']}")
    database.execute(f"PRAGMA application_id = {saved['application_id']}")
    database.commit()
    database.close()


@pytest.mark.slow
def test_successes_that_the_new_rules_would_not_infer_are_restated_and_counters_are_kept(tmp_path: Path) -> None:
    site = Site(tmp_path)
    folder = tmp_path / "Licenses"
    folder.mkdir()
    log = folder / "l.log"
    log.write_text((DATA / "state_before_sync_clock.log").read_text())
    site.settings["logs"] = {
        "licenses": {"paths": [str(folder / "*.log")]},
        "repository_audit": {"enabled": False},
        "repository_trace": {"enabled": False},
    }
    old_state(site, tmp_path)
    for _ in range(2):  # the second start finds the new state, and does nothing of the kind
        with process(site) as exporter:
            seen = exporter.await_ready().metrics()
            assert seen["qlik_license_sync_last_success_timestamp_seconds"] == TRUE_SUCCESS
            assert seen["qlik_license_sync_consecutive_failures"] == 18
            assert seen["qlik_license_sync_attempts_total"] == 18, "the old version's 12 first attempts were history"
            assert seen['qlik_license_exporter_log_records_total{log="licenses"}'] == 36
            exporter.stop()
    with process(site) as exporter:
        exporter.await_ready()
        append(log, licenses_line(FALSE_SUCCESS + 600, ATTEMPT))
        exporter.await_value("qlik_license_sync_attempts_total", 19)
        assert exporter.metrics()['qlik_license_exporter_log_records_total{log="licenses"}'] == 37


def test_a_state_with_the_earlier_names_of_the_sync_clock_is_read_whole() -> None:
    saved = json.loads((DATA / "state_before_renaming.json").read_text())
    found = restored({name: json.dumps(value).encode() for name, value in saved.items()}, {})
    assert found is not None
    clock, before = found[0].sync, saved["license.sync"]
    assert (clock.entries, clock.outlived_from) == (before["heard"], before["hear_from"])
    assert [attempt.outlived for attempt in clock.attempts] == [attempt["heard"] for attempt in before["attempts"]]
    assert (clock.verdicts.newest, clock.verdicts.count) == (before["verdict"], before["verdicts"])
    assert (clock.marks[-1].kind, clock.ends[-1].outcome) == ("reported", "reported")
    assert restored(encoded(found[0]), {}) is not None
