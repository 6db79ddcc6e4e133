"""Bounded memory: what 30 hours of the demo write (a round of two minutes: some 100 entries), in seconds, through a real
process, with everything distinct that can be.
"""

import random
import time
from pathlib import Path

import pytest

from tests.exporting import Site, append, append_rows, process
from tests.observed import ATTEMPT, STALE, licenses_line, refusal

pytestmark = pytest.mark.slow

ROUNDS = 6
ENTRIES = 12_000
"""Entries of the Licenses log in a round; a fifth of them has a wording of its own."""
REFUSALS = 3_000
"""Refusals in a round, each of a user of its own: all rounds together are far beyond what is remembered."""
GROWTH = 10 << 20
"""Bytes that the process may gain after its warm-up. (Over 50 rounds of 25,000 entries it stayed at 96 MiB.)"""


def test_hazard_100_memory_stays_flat_whatever_and_however_much_is_logged(tmp_path: Path) -> None:
    site = Site(tmp_path)
    chance = random.Random(7)
    append(site.licenses, licenses_line(time.time(), ATTEMPT))
    append_rows(site.audit, refusal(time.time() - 7200, "user"))

    def letters(length: int) -> str:
        return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=length))

    sizes, shown = [], []
    with process(site) as exporter:
        exporter.await_ready()
        for number in range(1, ROUNDS + 1):
            now = time.time()
            pattern = [
                licenses_line(now, ATTEMPT, corrId="@"),
                licenses_line(now, STALE, licenseNumber="@"),
                licenses_line(now, "dial tcp: i/o timeout", corrId="@"),
                licenses_line(now, "cache refreshed in @ ms"),
                licenses_line(now, "the @ing of @tion is @ed"),
            ]
            append(
                site.licenses,
                *(pattern[entry % 5].replace("@", letters(12)) for entry in range(ENTRIES)),
            )
            append(site.audit, *(refusal(now, letters(16)) for _ in range(REFUSALS)))
            exporter.await_value('qlik_license_exporter_log_records_total{log="licenses"}', ENTRIES * number)
            seen = exporter.await_value('qlik_license_access_denials_total{reason="no_access_pass"}', REFUSALS * number)
            assert exporter.ask("/").status == 200
            sizes.append(seen["process_resident_memory_bytes"])
            shown.append(len(seen))
        assert seen['qlik_license_access_denied_users{reason="no_access_pass"}'] == 10_000
        assert seen['qlik_license_log_messages_total{log="licenses",message="unknown"}'] == ENTRIES * ROUNDS * 2 / 5
    assert max(shown[1:]) == min(shown[1:]), "the number of series is constant"
    warm = max(sizes[: ROUNDS // 2])
    assert sizes[-1] - warm < GROWTH, [f"{size / 2**20:.0f} MiB" for size in sizes]
