"""Many lines at once mean what each of them means by itself: records by columns against records one by one."""

import json
import random
from typing import Any

import pytest

from exporter.config import Config
from exporter.events import LogName
from exporter.examination import rules_of
from exporter.journal import Journal
from exporter.license import new_state
from exporter.logs import entries
from exporter.logs.formats import split
from exporter.logs.messages import Catalogue
from exporter.logs.records import Columns, joined
from tests.bench.logs import START, audit_lines
from tests.site_model.world import KINDS, world_of

NOW = START.timestamp() + 86400 * 400
TIMES = [f"2026-11-01T00:{n // 60:02}:{n % 60:02}.{n % 7}{'000000' * (n < 1500)}Z" for n in range(3000)]
"""The first half as Qlik's lines have them, the other without zeros at the end."""


def entry(number: int, chance: random.Random) -> bytes:
    """A line with the keys, values and failures that lines have, and some that none is known to have."""
    pairs: dict[str, Any] = {"caller": f"a.go:{number % 3}", "level": chance.choice(("info", "warn", "error"))}
    pairs["message"] = chance.choice(("request handled", "re-syncing assignments with the backend", "cache warmed"))
    odd = chance.randrange(150)
    if odd < 8:
        key = chance.choice(("errorMessage", "err", "lastError", "res.errorType", "failure", "info", "Exception"))
        pairs[key] = chance.choice(
            ("", None, "no such host", "LICENSES-OutdatedLicense", 0, False, {"code": "x509: bad"})
        )
    elif odd < 10:
        pairs["detail"] = chance.choice(({"error": {"message": "lic is stale"}}, ["EOF"], "LICENSES-Other", 10**30))
    elif odd < 11:
        pairs["statusCode"] = chance.choice((404, "404", 404.5, None, [1]))
    elif odd < 12:
        pairs |= {"message": "", "errorMessage": "EOF"}
    elif odd < 13:
        pairs["msg"] = pairs.pop("message")
    elif odd < 14:
        pairs = {key.upper(): value for key, value in pairs.items()}
    pairs["timestamp"] = TIMES[number]
    return json.dumps(pairs).encode()


def folded(log: LogName, parts: list[Any]) -> tuple[Any, Any]:
    """All that is known after `parts`."""
    rules, state, journal = rules_of(Config(), Catalogue()), new_state(b"k"), Journal()
    for records in parts:
        journal.note(log, records, state.fold_records(log, records, NOW, rules))
    return state, journal.unknown()


def same(log: LogName, lines: list[bytes], header: bytes | None = None, size: int = 500) -> int:
    """Compare both ways; how many records came by columns."""
    parts = [split(log, lines[at : at + size], header, True).records for at in range(0, len(lines), size)]
    assert folded(log, parts) == folded(log, [list(part) for part in parts])
    alone = [split(log, [line], header, True).records for line in lines]
    assert folded(log, parts) == folded(log, [[record for part in alone for record in part]])
    return sum(len(part) for part in parts if isinstance(part, Columns))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_entries_by_columns_say_what_they_say_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    lines = [entry(number, chance) for number in range(len(TIMES))]
    assert same("licenses", lines, size=chance.choice((7, 60, 1000))) > 300


def test_ordinary_entries_come_by_columns_whatever_their_unknown_keys_are() -> None:
    lines = [
        json.dumps({"a": n, "b": "x", "c": None, "message": "request", "timestamp": TIMES[n]}).encode()
        for n in range(1000)
    ]
    assert same("licenses", lines) == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_whole_sites_by_columns_are_what_they_are_one_by_one(kind: str) -> None:
    lines = [line for _, line in world_of(kind, 77, 1).written]
    same("licenses", lines, size=300)


def test_rows_by_columns_say_what_they_say_one_by_one() -> None:
    header, *lines = [line.rstrip("\r\n").encode() for line in audit_lines(3000)]
    assert same("repository_audit", lines, header) == 2999
    loggers = ("System.Repository.Core.Licensing.X", "System.Other", "Audit")
    trace = [
        f"{n}\t20261101T{n // 3600:02}{n // 60 % 60:02}{n % 60:02}.{n % 1000:03}+0100\t{('INFO', 'WARN')[n % 2]}\tH\t"
        f"{loggers[n % 3]}\t1\tid\tsvc\tinvalid license {n % 5}\tid2".encode()
        for n in range(3000)
    ]
    assert same("repository_trace", trace) == 3000


def test_parts_of_columns_and_columns_put_together_are_the_same_records() -> None:
    chance = random.Random(3)
    lines = [entry(number, chance) for number in range(100)]
    whole = split("licenses", lines, None, True).records
    assert isinstance(whole, Columns)
    for at in (0, 1, 40, 99, 100):
        assert list(joined(whole[:at], whole[at:])) == list(whole)
        part = whole[at:]
        assert [at + number for number in part.doubtful] == [number for number in whole.doubtful if number >= at]


def test_columns_with_times_of_different_lengths_are_put_together() -> None:
    """Where a service leaves out zeros at the end, its times sort like their texts only without the Z."""

    def columns(*fractions: str) -> Columns:
        lines = [b'{"message":"x","timestamp":"2026-11-01T00:00:00.%sZ"}' % one.encode() for one in fractions]
        records = split("licenses", lines, None, True).records
        assert isinstance(records, Columns)
        return records

    for first, second in (("1000000", "12"), ("12", "1200001"), ("2000000", "1"), ("12", "1"), ("1000000", "1000000")):
        both = joined(columns("1000000", first), columns(second, "3"))
        expected = [float(f"0.{one}") for one in ("1000000", first, second, "3")]
        start = both.times[0] - 0.1
        assert [at - start for at in both.times] == pytest.approx(expected, abs=1e-5)
        assert [both.times[number] - start for number in range(4)] == pytest.approx(expected, abs=1e-5)
        assert both.times.in_order == (expected == sorted(expected))


def test_what_is_remembered_of_long_texts_is_limited() -> None:
    catalogue = Catalogue()
    for number in range(200):
        lines = [
            b'{"caller":"%d.go","message":"%d-%d %s","timestamp":"2026-11-01T00:00:00.0000000Z"}'
            % (number, number, n, b"x" * 40_000)
            for n in range(3)
        ]
        records = split("licenses", lines, None, True).records
        catalogue.recognise("licenses", records)
    kept = [len(text) for known in (entries._keys._known, catalogue._cache) for key in known for text in key if text]
    assert 0 < sum(kept) < 4 * entries.MOST_BYTES
