"""Hazards 13 to 23 and 48 to 66: what happens to the bytes of a file, and what they can hold."""

import gzip
import os
import sys
from pathlib import Path

import pytest
from tailing import Driven

from exporter.logs import files
from exporter.logs.files import Root
from exporter.tail.tail import LOOK_SECONDS

SAMPLE = Path(__file__).parent / "samples"
NETWORK = Root("share", network=True, caseless=False)


# --- B: truncation, copies, rewriting, NULs --------------------------------------------------------------------------


@pytest.mark.windows
def test_hazard_13_truncated_to_smaller_begins_anew_and_stays_so(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n2\n3\n")
    driven.tick()
    os.truncate(driven.path("app.txt"), 0)
    driven.append("app.txt", "4\n")
    driven.tick()
    driven.stop()
    driven.start()
    driven.tick()
    assert driven.texts == ["1", "2", "3", "4"]


@pytest.mark.windows
def test_hazard_14_rewritten_to_the_same_size(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "aaa\nbbb\n")
    driven.tick()
    driven.write("app.txt", "ccc\nddd\n")
    driven.tick()
    assert driven.texts == ["aaa", "bbb", "ccc", "ddd"]


def test_hazard_14_rewritten_to_the_same_size_with_the_same_end(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "aaa\n" + "b" * 2000 + "\n")
    driven.tick()
    driven.write("app.txt", "ccc\n" + "b" * 2000 + "\n")
    driven.tick()
    assert driven.count == 4


@pytest.mark.windows
def test_hazard_15_truncated_and_grown_past_the_offset(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "a1\na2\na3\n")
    driven.tick()
    driven.write("app.txt", "".join(f"b{number}\n" for number in range(10)))
    driven.tick()
    assert driven.count == 13
    assert driven.rotations == 1


@pytest.mark.parametrize("seen", [False, True], ids=["between polls", "seen as a copy first"])
def test_hazard_18_the_copy_of_a_copytruncate_is_not_counted_twice(folder: Path, seen: bool) -> None:
    driven = Driven(folder, "app*").start()
    driven.write("app.txt", "a1\na2\na3\n")
    driven.tick()
    driven.append("app.txt", "x\n")
    driven.copy("app.txt", "app.txt.1")
    if seen:
        driven.tick()
    os.truncate(driven.path("app.txt"), 0)
    driven.append("app.txt", "4\n")
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["4", "a1", "a2", "a3", "x"]
    assert driven.lost == 0


def test_hazard_18_a_copy_that_stays_while_its_original_grows_is_not_counted(folder: Path) -> None:
    driven = Driven(folder, "app*").start()
    driven.write("app.txt", "a1\na2\na3\n")
    driven.tick()
    driven.copy("app.txt", "app.txt.1")
    driven.tick()
    driven.wait_out()
    driven.append("app.txt", "4\n")
    driven.tick()
    driven.wait_out()
    assert driven.texts == ["a1", "a2", "a3", "4"]


def test_hazard_19_lines_between_copy_and_truncate_are_gone_and_nothing_else(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.tick()
    driven.copy("app.txt", "elsewhere.bak")
    driven.append("app.txt", "lost\n")
    os.truncate(driven.path("app.txt"), 0)
    driven.append("app.txt", "n\n")
    driven.tick()
    assert driven.texts == ["1", "n"]
    assert driven.lost == 0, "nothing tells of them"


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_hazard_13_truncations_of_a_file_that_was_read_to_its_end_lose_nothing(folder: Path, closed: bool) -> None:
    driven = Driven(folder).start()
    for number in range(47):
        driven.append("app.txt", f"{number} {'x' * number}\n")
        driven.tick(polls=5, seconds=10 if closed else 1)
        os.truncate(driven.path("app.txt"), 0)
    driven.append("app.txt", "last" * 20 + "\n")
    driven.tick(polls=6, seconds=10)
    assert driven.count == 48
    assert (driven.rotations, driven.lost) == (47, 0)


def test_hazard_13_what_was_seen_and_not_read_when_a_file_is_truncated_is_lost(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\nhal")
    driven.tick()
    os.truncate(driven.path("app.txt"), 0)
    driven.tick(polls=6)
    assert (driven.count, driven.lost) == (1, 1)


@pytest.mark.windows
def test_hazard_21_nuls_inside_and_instead_of_lines(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", b"a\0b\n")
    driven.append("app.txt", b"\0" * 4096 + b"c\n")
    driven.append("app.txt", b"d\n")
    driven.tick()
    assert driven.texts == ["ab", "c", "d"]


def test_hazard_22_a_sparse_file_is_one_hole_and_its_line(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "")
    os.truncate(driven.path("app.txt"), 64 << 20)
    driven.append("app.txt", "ok\n")
    driven.tick()
    assert driven.texts == ["ok"]


def test_hazard_22_a_file_without_newline_is_one_record_at_flat_memory(folder: Path) -> None:
    import resource  # not on Windows

    driven = Driven(folder).start()
    with open(driven.path("app.txt"), "wb") as writer:
        for _ in range(96):
            writer.write(b"x" * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    driven.tick()
    driven.stop()
    driven.start()
    driven.append("app.txt", "y\nok\n")
    driven.tick()
    assert [len(record.raw) for record in driven.records] == [1 << 20, 2]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB


@pytest.mark.parametrize("told", [True, False], ids=["holes told", "holes read"])
@pytest.mark.parametrize("huge", ["hole", "line"])
def test_hazard_22_the_other_files_of_a_log_do_not_wait_for_a_huge_one(
    folder: Path, huge: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not told:
        monkeypatch.setattr(files, "next_data", lambda descriptor, offset: offset)
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.write("huge.txt", "" if huge == "hole" else b"x" * (64 << 20))
    if huge == "hole":
        os.truncate(driven.path("huge.txt"), 20 << 30)
    driven.discover()
    assert driven.tail is not None
    for number in range(2, 6):
        driven.now += LOOK_SECONDS
        driven.commit(driven.tail.poll())
        assert f"{number - 1}" in driven.texts
        driven.append("app.txt", f"{number}\n")
    assert driven.tail.behind == (huge == "line" or not told)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where the holes of a file are")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_hazard_22_a_hole_of_20_gb_is_skipped_and_the_lines_around_it_are_read(folder: Path, encoding: str) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "before\n".encode(encoding))
    os.truncate(driven.path("app.txt"), 20 << 30)
    driven.append("app.txt", "b\nlast\n".encode("utf-16-le" if encoding == "utf-16" else encoding))
    driven.tick(polls=1)
    driven.stop()
    driven.append("app.txt", "more\n".encode("utf-16-le" if encoding == "utf-16" else encoding))
    driven.start()
    driven.tick(polls=1)
    assert driven.texts == ["before", "b", "last", "more"]
    assert len(driven.batches) < 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where the holes of a file are")
def test_hazard_22_history_that_ends_in_a_hole_ends_there(folder: Path) -> None:
    driven = Driven(folder, history="restate")
    driven.write("app.txt", "old\n")
    os.truncate(driven.path("app.txt"), 1 << 30)
    driven.start()
    driven.discover()
    os.truncate(driven.path("app.txt"), 20 << 30)
    driven.append("app.txt", "new\n")
    driven.tick()
    assert driven.texts == ["new"]


@pytest.mark.parametrize("lie", [0, -1])
def test_hazard_23_and_hazard_78_a_stale_size_is_no_truncation(
    folder: Path, lie: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(folder, root=NETWORK).start()
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[6] = 0 if lie == 0 else max(0, status[6] - 1)
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", fstat)
    driven.append("app.txt", "1\n")
    driven.tick()
    driven.append("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]


def test_hazard_23_on_a_network_one_wrong_read_is_no_truncation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder, root=NETWORK).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    real, wrong = files.read_at, iter([True])

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        return b"" if next(wrong, False) else real(descriptor, offset, size)

    monkeypatch.setattr(files, "read_at", read_at)
    driven.append("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]
    assert driven.rotations == 0


def test_hazard_48_nuls_read_once_from_a_share_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder, root=NETWORK).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    real, wrong = files.read_at, iter([True])

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        data = real(descriptor, offset, size)
        return data[:2] + b"\0" * (len(data) - 2) if len(data) > 2 and next(wrong, False) else data

    monkeypatch.setattr(files, "read_at", read_at)
    driven.append("app.txt", "22222\n")
    driven.tick()
    assert driven.texts == ["1", "22222"]


# --- E: records, bytes and encodings ---------------------------------------------------------------------------------


@pytest.mark.windows
def test_hazard_49_and_hazard_53_half_a_line_is_no_record_however_long_it_takes(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "hel")
    driven.tick()
    driven.tick(seconds=100)
    assert driven.count == 0
    driven.append("app.txt", "lo\nwor")
    driven.tick()
    assert driven.texts == ["hello"]
    driven.append("app.txt", "ld\n")
    driven.tick()
    assert driven.texts == ["hello", "world"]


@pytest.mark.windows
def test_hazard_51_the_unterminated_tail_of_a_final_file_counts_once(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n2")
    driven.tick()
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "3\n")
    driven.tick()
    assert sorted(driven.texts) == ["1", "3"]
    driven.wait_out()
    driven.stop()
    driven.start()
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3"]


@pytest.mark.windows
def test_hazard_52_a_whole_line_counts_in_the_next_poll(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\r\n")
    driven.tick(polls=1)
    driven.append("app.txt", "x\r\n")
    driven.poll()
    assert driven.texts == ["1", "x"]


@pytest.mark.parametrize("pad", [0, 1, 2, 4093, 4094, 4095, 4096, 65533, 65534, 65535, 65536])
def test_hazard_54_cr_and_lf_on_both_sides_of_every_buffer(folder: Path, pad: int) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", b"p" * pad + b"\r\n" + b"a\r")
    driven.tick()
    driven.append("app.txt", b"\nb\r\n")
    driven.tick()
    assert driven.texts == (["p" * pad] if pad else []) + ["a", "b"]


@pytest.mark.windows
def test_hazard_55_a_lone_cr_is_no_line_end(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", b"a\rb\nc\n")
    driven.tick()
    assert driven.texts == ["a\rb", "c"]


def test_hazard_57_a_character_split_over_two_writes(folder: Path) -> None:
    driven = Driven(folder).start()
    for byte in "å\n".encode():
        driven.append("app.txt", bytes([byte]))
        driven.tick()
    assert driven.texts == ["å"]


def test_hazard_58_invalid_utf8_stops_nothing(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", b"ok1\n\xff\xfebad\x96\nok2\n")
    driven.tick()
    assert driven.count == 3


@pytest.mark.windows
def test_hazard_59_a_utf8_mark_is_no_part_of_the_first_line(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", b"\xef")
    driven.tick()
    driven.write("app.txt", b'\xef\xbb\xbf{"message":"a"}\n{"message":"b"}\n')
    driven.tick()
    driven.stop()
    driven.start()
    driven.tick()
    assert [record.message for record in driven.records] == ["a", "b"]


@pytest.mark.windows
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_hazard_60_utf16_files(folder: Path, encoding: str, step: int) -> None:
    driven = Driven(folder).start()
    data = "\ufeffa\u0a00\u000bb\r\nå\r\n\U0001f600\r\n".encode(encoding)
    for start in range(0, len(data), step):
        driven.append("app.txt", data[start : start + step])
        driven.tick(polls=1)
    driven.stop()
    driven.start()
    driven.tick()
    assert driven.texts == ["a\u0a00\u000bb", "å", "\U0001f600"]


@pytest.mark.windows
def test_hazard_63_lines_that_mean_nothing_are_read_once(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "nothing\n" * 10)
    driven.tick()
    driven.stop()
    driven.start()
    driven.tick()
    assert driven.count == 10
    assert sum(batch.read_bytes for batch in driven.batches) == 80


@pytest.mark.windows
def test_hazard_64_a_compressed_file_is_left_alone_and_said_once(folder: Path) -> None:
    errors: list[int] = []
    driven = Driven(folder, failed=lambda: errors.append(1)).start()
    driven.write("x.txt", gzip.compress(b"zip\n" * 100))
    driven.append("app.txt", "1\n")
    driven.tick(polls=6)
    assert driven.texts == ["1"]
    assert len(errors) == 1
    assert driven.tail is not None
    assert [trouble.problem for trouble in driven.tail.status.unreadable] == [
        "is compressed, and only plain text is read"
    ]


def test_hazard_66_header_rows_anywhere_are_no_records_and_may_change_the_columns(folder: Path) -> None:
    driven = Driven(folder, log="repository_trace").start()
    row = "{}\t20240101T00000{}.000+0000\tINFO\tnode\tRepository.Core.Licensing\t1\tid\tqlik\tm{}\tsum"
    header = "Sequence#\tTimestamp\tLevel\tHostname\tLogger\tThread\tId\tServiceUser\tMessage\tId2"
    wide = header.replace("Message", "New\tMessage")
    lines = [header, row.format(1, 1, 1), header, row.format(2, 2, 2), wide, row.format(3, 3, "X\tm3")]
    for line in lines:
        driven.append("app.txt", line + "\r\n")
        driven.tick()
        driven.stop()
        driven.start()
    driven.tick()
    assert [record.message for record in driven.records] == ["m1", "m2", "m3"]
    assert not any(record.malformed for record in driven.records)


def test_a_row_over_several_lines_stays_open_until_it_is_whole(folder: Path) -> None:
    driven = Driven(folder, log="repository_trace").start()
    start = "1\t20240101T000001.000+0000\tERROR\tnode\tRepository.Core.Licensing\t1\tid\tqlik\tfirst"
    driven.append("app.txt", start + "\r\n")
    driven.tick(seconds=1)
    assert driven.count == 0
    driven.append("app.txt", "second\tsum\r\n")
    driven.tick(seconds=1)
    assert [record.message for record in driven.records] == ["first\nsecond"]
    driven.append("app.txt", start.replace("1\t", "2\t", 1) + "\r\n")
    driven.tick(seconds=2)
    assert driven.count == 1
    driven.tick(seconds=5)  # five quiet seconds
    assert [record.malformed for record in driven.records] == [False, True]
    driven.append("app.txt", start + "\r\n" + "more\r\n" * 20_000)
    driven.tick()
    assert driven.count >= 3  # 64 KiB of an open row are enough
    assert sum(not record.orphan for record in driven.records) == 3


@pytest.mark.parametrize(
    "poison",
    [
        b"[" * 100_000,
        b'{"message":' + b"9" * 5000 + b"}",
        b'{"message":NaN}',
        b"[1,2]",
        b'"text"',
        b"null",
        b'{"message":"\\ud800"}',
        b'{"message":"\x01\x1b[31m"}',
        b'{"timestamp":1e999}',
        b'{"timestamp":"0001-01-01T00:00:00Z"}',
        '{"message":"a\u2028b\u0085c"}'.encode(),
    ],
    ids=range(11),
)
def test_poison_lines_are_one_record_each(folder: Path, poison: bytes) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", b"1\n" + poison + b"\n2\n")
    driven.tick()
    assert driven.count == 3


def test_the_published_samples_are_read_whole(folder: Path) -> None:
    for log, name in (
        ("licenses", "licenses-published.log"),
        ("repository_audit", "QLIKNODE1_AuditSecurity_Repository.txt"),
    ):
        found = next(SAMPLE.rglob(name))
        data = found.read_bytes()
        driven = Driven(folder, f"{log}.txt", log=log).start()  # type: ignore[arg-type]  # both are names of logs
        for start in range(0, len(data), 97):
            driven.append(f"{log}.txt", data[start : start + 97])
            driven.tick(polls=1, seconds=0.1)
        whole = Driven(folder, f"{log}.txt", log=log).start()  # type: ignore[arg-type]  # as above
        whole.tick()
        assert driven.texts == whole.texts
        assert driven.texts
        driven.stop()
