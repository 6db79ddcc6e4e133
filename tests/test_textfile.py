"""Textfile mode: a reader sees a whole exposition or none, whatever happens to the disk."""

import logging
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from web_stand_in import DEADLINE, METRICS, eventually

from exporter import textfile
from exporter.textfile import FILE_NAME, TextfileHeldError, TextfileWriter, remove, write


def test_the_file_is_the_exposition_in_plain_text_without_timestamps(tmp_path: Path) -> None:
    exposition = generate_latest(METRICS)
    write(tmp_path, exposition)
    assert (tmp_path / FILE_NAME).read_bytes() == exposition
    samples = [line for line in exposition.decode().splitlines() if not line.startswith("#")]
    assert all(len(sample.split(" ")) == 2 for sample in samples)
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's package prometheus"
    subprocess.run([promtool, "check", "metrics"], input=exposition, check=True, timeout=DEADLINE)


def test_only_the_finished_file_is_one_that_collectors_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(set(os.listdir(tmp_path))) or original(descriptor))
    write(tmp_path, b"a 1\n")
    assert [{name for name in names if name.endswith(".prom")} for names in seen] == [set(), {FILE_NAME}]
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_the_collector_may_read_it_under_another_account_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write(tmp_path, b"a 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o644


def _content(folder: Path) -> bytes:
    file = folder / FILE_NAME
    return file.read_bytes() if file.exists() else b""


def _writer(folder: Path, exposition: bytes) -> TextfileWriter:
    return TextfileWriter(folder, lambda: exposition, lambda: None, interval=0.01)


def test_a_second_exporter_that_is_given_the_same_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    first = _writer(tmp_path, b"a 1\n")
    first.start()
    assert eventually(lambda: (tmp_path / FILE_NAME).exists())
    second = _writer(tmp_path, b"a 2\n")
    with pytest.raises(TextfileHeldError) as refusal:
        second.start()
    assert str(refusal.value) == (
        f"the textfile folder {tmp_path} is in use by process {os.getpid()}; "
        "give each exporter a --textfile.directory of its own"
    )
    second.stop()
    assert (tmp_path / FILE_NAME).read_bytes() == b"a 1\n"
    first.stop()
    third = _writer(tmp_path, b"a 3\n")
    third.start()
    assert eventually(lambda: _content(tmp_path) == b"a 3\n")
    third.stop()


def test_what_a_killed_exporter_left_in_its_folder_refuses_nobody(tmp_path: Path) -> None:
    (tmp_path / textfile.LOCK_NAME).write_text(
        "1                    0\n"
    )  # process 1 runs, and has nothing to do with it
    (tmp_path / FILE_NAME).write_bytes(b"a 0\n")
    writer = _writer(tmp_path, b"a 1\n")
    writer.start()
    assert eventually(lambda: _content(tmp_path) == b"a 1\n")
    writer.stop()


def test_a_lock_that_somebody_deletes_is_taken_again_and_never_had_by_two(tmp_path: Path) -> None:
    first = _writer(tmp_path, b"a 1\n")
    first.start()
    (tmp_path / textfile.LOCK_NAME).unlink()
    assert eventually(lambda: (tmp_path / textfile.LOCK_NAME).exists())
    with pytest.raises(TextfileHeldError):
        _writer(tmp_path, b"a 2\n").start()
    first.stop()


def test_what_a_killed_process_left_is_no_hindrance_and_no_link_is_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    (tmp_path / textfile.TEMPORARY_NAME).symlink_to(elsewhere)
    write(tmp_path, b"a 1\n")
    assert (tmp_path / FILE_NAME).read_bytes() == b"a 1\n"
    assert elsewhere.read_bytes() == b"untouched"


def test_hazard_88_a_file_held_for_a_moment_is_replaced_nevertheless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textfile, "REPLACE_PAUSE", 0)
    write(tmp_path, b"a 1\n")
    refusals = iter([True, True, True])
    original = os.replace

    def held(source: Path, target: Path) -> None:
        if next(refusals, False):
            raise PermissionError(13, "The process cannot access the file")
        original(source, target)

    monkeypatch.setattr(os, "replace", held)
    write(tmp_path, b"a 2\n")
    assert (tmp_path / FILE_NAME).read_bytes() == b"a 2\n"


def test_hazard_88_a_file_held_for_ever_stays_as_it_was_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textfile, "REPLACE_PAUSE", 0)
    write(tmp_path, b"a 1\n")

    def held(source: Path, target: Path) -> None:
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(PermissionError):
        write(tmp_path, b"a 2\n")
    assert (tmp_path / FILE_NAME).read_bytes() == b"a 1\n"
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, b"a 1\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, b"a 2\n")
    assert (tmp_path / FILE_NAME).read_bytes() == b"a 1\n"
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_the_writer_writes_again_and_again_and_takes_the_file_away_at_the_end(tmp_path: Path) -> None:
    numbers = iter(range(1_000_000))
    writer = TextfileWriter(tmp_path, lambda: b"a %d\n" % next(numbers), lambda: None, interval=0.01)
    writer.start()
    assert eventually(lambda: next(numbers) > 5)
    assert (tmp_path / FILE_NAME).exists()
    writer.stop()
    assert os.listdir(tmp_path) == []


def test_hazard_134_a_folder_that_is_missing_is_logged_once_counted_always_and_used_when_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "textfiles"
    failures: list[str] = []
    writer = TextfileWriter(folder, lambda: b"a 1\n", lambda: failures.append("textfile"), interval=0.01)
    writer.start()
    assert eventually(lambda: len(failures) >= 5)
    folder.mkdir()
    assert eventually(lambda: (folder / FILE_NAME).exists())
    assert eventually(lambda: len(caplog.messages) == 2)
    writer.stop()
    assert caplog.messages == [
        "the textfile cannot be written: No such file or directory",
        "the textfile can be written again",
    ]


def test_an_exposition_that_fails_is_counted_and_tried_again(tmp_path: Path) -> None:
    failures: list[str] = []
    trouble = iter([True, True])

    def exposition() -> bytes:
        if next(trouble, False):
            raise RuntimeError
        return b"a 1\n"

    writer = TextfileWriter(tmp_path, exposition, lambda: failures.append("textfile"), interval=0.01)
    writer.start()
    assert eventually(lambda: (tmp_path / FILE_NAME).exists())
    writer.stop()
    assert failures == ["textfile", "textfile"]


def test_hazard_121_a_write_that_hangs_does_not_hold_up_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textfile, "STOP_TIMEOUT", 0.1)
    release, begun = threading.Event(), threading.Event()

    def hanging() -> bytes:
        begun.set()
        release.wait(DEADLINE)
        return b"a 1\n"

    writer = TextfileWriter(tmp_path, hanging, lambda: None)
    writer.start()
    assert begun.wait(DEADLINE)
    writer.stop()
    assert not release.is_set()
    release.set()
    assert eventually(lambda: not writer._thread.is_alive())


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path)
