"""Hazards 41 to 47 and 67 to 86: files, folders and shares that vanish, hang or refuse; Windows' rules for open files."""

import errno
import itertools
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tailing import Driven

from exporter.logs import files
from exporter.logs.files import Root

NETWORK = Root("share", network=True, caseless=False)


# --- D: vanishing files, shares, limits ------------------------------------------------------------------------------


def test_hazard_41_a_deleted_file_is_read_to_its_end_and_let_go(folder: Path) -> None:
    driven = Driven(folder).start()
    with open(driven.path("app.txt"), "wb", 0) as writer:
        writer.write(b"1\n")
        driven.tick()
        writer.write(b"2\n")
        driven.remove("app.txt")
        driven.tick()
        writer.write(b"3\n")
        driven.tick()
    driven.wait_out()
    assert driven.texts == ["1", "2", "3"]
    assert driven.handles == 0
    assert driven.lost == 0


@pytest.mark.windows
def test_hazard_43_a_folder_that_comes_later(folder: Path) -> None:
    driven = Driven(folder, "late/*.txt").start()
    driven.tick()
    (folder / "late").mkdir()
    driven.write("late/a.txt", "1\n")
    driven.tick()
    assert driven.texts == ["1"]


@pytest.mark.windows
def test_hazard_43_a_folder_that_is_new_holds_no_history(folder: Path) -> None:
    driven = Driven(folder, "late/*.txt", history="restate")
    driven.now = os.stat(folder).st_mtime
    driven.start()
    driven.tick(seconds=0)
    (folder / "late").mkdir()
    driven.write("late/a.txt", "1\n")
    driven.tick()
    assert driven.texts == ["1"]


@pytest.mark.windows
def test_a_share_that_was_down_at_the_first_start_brings_history(folder: Path) -> None:
    driven = Driven(folder, "share/*.txt", history="restate")
    (folder / "down").mkdir()
    driven.write("down/a.txt", "old\n")
    driven.now = os.stat(driven.path("down/a.txt")).st_mtime + 3600
    driven.start()
    driven.tick()
    os.rename(folder / "down", folder / "share")
    driven.tick()
    driven.append("share/a.txt", "new\n")
    driven.tick()
    assert driven.texts == ["new"]
    assert [record.raw for record in driven.records if not record.counts] == [b"old"]


@pytest.mark.parametrize("hot", [True, False], ids=["open", "closed"])
def test_a_share_that_goes_and_comes_back_is_read_on_where_it_was(folder: Path, hot: bool) -> None:
    driven = Driven(folder, "share/*.txt")
    (folder / "share").mkdir()
    driven.write("share/a.txt", "1\n")
    driven.start()
    driven.tick(polls=2 if hot else 5, seconds=1 if hot else 10)
    os.rename(folder / "share", folder / "gone")
    driven.tick()
    driven.wait_out()
    driven.append("gone/a.txt", "2\n")
    os.rename(folder / "gone", folder / "share")
    driven.tick()
    driven.append("share/a.txt", "3\n")
    driven.tick()
    assert driven.texts == ["1", "2", "3"]
    assert driven.lost == 0


def test_an_empty_mount_point_makes_no_file_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder, "share/*.txt")
    (folder / "share").mkdir()
    driven.write("share/a.txt", "1\n")
    driven.start()
    driven.tick()
    driven.stop()
    os.rename(folder / "share", folder / "gone")
    (folder / "share").mkdir()
    real = os.stat

    def other_device(path: str | int, **options: object) -> os.stat_result:
        status = real(path, **options)  # type: ignore[arg-type]  # passed on as they came
        if str(path) != str(folder / "share"):
            return status
        values = list(status)
        values[2] += 1
        return os.stat_result(values)

    monkeypatch.setattr(os, "stat", other_device)
    driven.start()
    driven.tick(polls=6)
    monkeypatch.undo()
    (folder / "share").rmdir()
    os.rename(folder / "gone", folder / "share")
    driven.append("share/a.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]
    assert driven.lost == 0


def test_a_replaced_folder(folder: Path) -> None:
    driven = Driven(folder, "logs/*.txt")
    (folder / "logs").mkdir()
    driven.write("logs/a.txt", "1\n")
    driven.start()
    driven.tick()
    driven.append("logs/a.txt", "2\n")
    os.rename(folder / "logs", folder / "before")
    (folder / "logs").mkdir()
    driven.write("logs/a.txt", "3\n")
    driven.tick()
    driven.wait_out()
    shutil.rmtree(folder / "before")
    driven.append("logs/a.txt", "4\n")
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3", "4"]
    assert driven.handles <= 1


def test_a_folder_that_a_copy_of_it_replaces_goes_on(folder: Path) -> None:
    (folder / "logs").mkdir()
    driven = Driven(folder, "logs/*.txt").start()
    driven.append("logs/a.txt", "1\n")
    driven.tick()
    driven.append("logs/a.txt", "2\n")
    os.rename(folder / "logs", folder / "before")
    shutil.copytree(folder / "before", folder / "logs")
    driven.tick()
    driven.append("logs/a.txt", "3\n")
    driven.tick()
    driven.wait_out()
    assert driven.texts == ["1", "2", "3"]
    assert driven.lost == 0


@pytest.mark.parametrize("problem", [errno.ESTALE, errno.EIO])
def test_hazard_44_a_stale_handle_is_opened_anew_after_a_pause(
    folder: Path, problem: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    real, fail, opened = files.read_at, [2], []

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        if fail[0]:
            fail[0] -= 1
            raise OSError(problem, os.strerror(problem))
        return real(descriptor, offset, size)

    real_open = files.open_shared
    monkeypatch.setattr(files, "read_at", read_at)
    monkeypatch.setattr(files, "open_shared", lambda path: opened.append(driven.now) or real_open(path))
    driven.append("app.txt", "2\n")
    driven.tick(polls=40, seconds=0.25)
    assert driven.texts == ["1", "2"]
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(opened))


def test_hazard_46_more_files_than_handles(folder: Path) -> None:
    resource = pytest.importorskip("resource")
    driven = Driven(folder)
    for number in range(500):
        driven.write(f"{number}.txt", f"{number}\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 24, hard))
    try:
        driven.start()
        driven.tick()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sorted(driven.texts, key=int) == [str(number) for number in range(500)]


@pytest.mark.windows
def test_names_that_are_no_files_hinder_nothing(folder: Path) -> None:
    driven = Driven(folder).start()
    (folder / "folder.txt").mkdir()
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.txt")
    driven.write("app.txt", "1\n")
    driven.tick()
    assert driven.texts == ["1"]
    assert driven.tail is not None
    assert driven.tail.status.unreadable == ()
    assert driven.batches[-1].drained
    assert driven.batches[-1].caught_up


# --- F: Windows, NTFS and SMB ----------------------------------------------------------------------------------------


@pytest.mark.windows
def test_hazard_67_another_process_can_rename_remove_and_clear_the_folder(folder: Path) -> None:
    (folder / "logs").mkdir()
    driven = Driven(folder, "logs/*.txt").start()
    driven.write("logs/app.txt", "1\n")
    driven.write("logs/other.txt", "2\n")
    driven.tick()
    program = (
        "import os, sys; os.chdir(sys.argv[1]); os.rename('app.txt', 'r.log'); open('app.txt', 'w').write('3\\n');"
        "os.remove('r.log'); os.remove('other.txt')"
    )
    subprocess.run([sys.executable, "-c", program, str(folder / "logs")], check=True, timeout=60)
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts) == ["1", "2", "3"]
    subprocess.run(
        [sys.executable, "-c", "import os, sys; os.chdir(sys.argv[1]); os.remove('app.txt')", str(folder / "logs")],
        check=True,
        timeout=60,
    )
    driven.tick()
    driven.wait_out()
    (folder / "logs").rmdir()  # hazard 73: no folder is held


@pytest.mark.windows
def test_hazard_68_a_writer_that_holds_its_file_open_is_read(folder: Path) -> None:
    driven = Driven(folder).start()
    with open(driven.path("app.txt"), "ab", 0) as writer:
        for number in range(3):
            writer.write(b"%d\n" % number)
            driven.tick(polls=1)
            assert driven.count == number + 1


@pytest.mark.windows
def test_hazard_69_a_deleted_name_is_free_within_two_polls(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.tick()
    driven.remove("app.txt")
    driven.poll()
    driven.poll()
    driven.write("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]


@pytest.mark.windows
def test_hazard_70_a_rolled_file_can_be_replaced_once_it_is_quiet(folder: Path) -> None:
    driven = Driven(folder, "app*").start()
    driven.write("app.txt.1", "1\n")
    driven.write("app.txt", "2\n")
    driven.tick()
    driven.tick(polls=4, seconds=11)
    os.replace(driven.path("app.txt"), driven.path("app.txt.1"))
    driven.write("app.txt", "3\n")
    driven.tick()
    assert sorted(driven.texts) == ["1", "2", "3"]


@pytest.mark.windows
@pytest.mark.slow
def test_hazard_71_500_rolls_beside_the_tail_never_fail(folder: Path) -> None:
    driven = Driven(folder).start()
    for number in range(500):
        driven.append("app.txt", f"{number}\n")
        if number % 3 == 0:
            driven.poll()
        driven.move("app.txt", f"app_20240101T{number // 60:04}{number % 60:02}Z.log")
        if number % 5 == 0:
            driven.tick(polls=1, seconds=7)
    driven.tick()
    driven.wait_out()
    assert sorted(driven.texts, key=int) == [str(number) for number in range(500)]
    assert driven.rotations == 500


@pytest.mark.windows
def test_hazard_72_what_is_rolled_between_two_far_polls_is_not_lost(folder: Path) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n2\n")
    driven.tick(seconds=10)
    driven.append("app.txt", "3\n")
    driven.move("app.txt", "app_2024-01-01T00.00.00Z.log")
    driven.write("app.txt", "4\n")
    driven.tick(seconds=10)
    assert sorted(driven.texts) == ["1", "2", "3", "4"]


def test_hazard_76_and_hazard_77_listings_and_times_that_stand_still_hide_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(folder, root=NETWORK).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    old = os.stat(driven.path("app.txt"))
    monkeypatch.setattr(os, "stat", lambda path, **options: old)
    driven.append("app.txt", "2\n")
    driven.tick()
    assert driven.texts == ["1", "2"]


@pytest.mark.parametrize("problem", [errno.EACCES, errno.EPERM])
def test_hazard_80_and_hazard_81_a_locked_or_shared_out_file_is_read_later(
    folder: Path, problem: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driven = Driven(folder).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    real, fail = files.read_at, [3]

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        if fail[0]:
            fail[0] -= 1
            raise PermissionError(problem, "another process has locked a portion of the file")
        return real(descriptor, offset, size)

    monkeypatch.setattr(files, "read_at", read_at)
    driven.append("app.txt", "2\n")
    driven.tick(polls=6)
    assert driven.texts == ["1", "2"]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_hazard_85_a_listing_that_lags_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder, root=NETWORK).start()
    driven.append("app.txt", "1\n")
    driven.tick()
    real, shown = os.scandir, []

    class Lagging:
        def __enter__(self) -> "Lagging":
            return self

        def __exit__(self, *error: object) -> None:
            return None

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(shown[-3] if len(shown) > 2 else shown[0])

    def scandir(path: str) -> Lagging:
        with real(path) as entries:
            shown.append(list(entries))
        return Lagging()

    monkeypatch.setattr(files.os, "scandir", scandir)
    driven.append("app.txt", "2\n")
    driven.move("app.txt", "r.log")
    driven.write("app.txt", "3\n")
    driven.tick(polls=6)
    assert sorted(driven.texts) == ["1", "2", "3"]
    assert driven.lost == 0


def test_hazard_86_a_folder_that_may_not_be_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[int] = []
    real, denied = os.scandir, [True]

    def scandir(path: str):  # type: ignore[no-untyped-def]  # as os.scandir
        if denied[0]:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(files.os, "scandir", scandir)
    driven = Driven(folder, failed=lambda: errors.append(1)).start()
    driven.write("app.txt", "1\n")
    driven.tick(polls=3)
    assert (driven.count, len(errors)) == (0, 3)
    assert driven.tail is not None
    assert driven.tail.status.unreadable[0].denied
    assert not driven.batches[-1].caught_up
    denied[0] = False
    driven.tick()
    assert driven.texts == ["1"]
    assert driven.tail.status.unreadable == ()
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


def test_hazard_134_an_hour_of_trouble_is_two_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors: list[int] = []
    driven = Driven(folder, failed=lambda: errors.append(1)).start()
    driven.write("app.txt", "1\n")
    real = files.open_shared

    def refuse(path: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(files, "open_shared", refuse)
    driven.tick(polls=360, seconds=10)
    monkeypatch.setattr(files, "open_shared", real)
    driven.tick()
    assert driven.texts == ["1"]
    assert len(errors) == 360
    assert caplog.messages == ["cannot read app.txt: Permission denied", "can read app.txt again"]


def test_hazard_134_a_failure_that_comes_and_goes_is_two_lines_in_ten_minutes_and_in_the_end_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors: list[int] = []
    driven = Driven(folder, failed=lambda: errors.append(1)).start()
    real, locked = files.read_at, [False]

    def read_at(descriptor: int, offset: int, size: int) -> bytes:
        if locked[0]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(descriptor, offset, size)

    monkeypatch.setattr(files, "read_at", read_at)
    for number in range(60):
        driven.append("app.txt", f"{number}\n")
        locked[0] = True
        driven.tick(polls=1, seconds=10)
        locked[0] = False
        driven.tick(polls=1, seconds=10)
    pair = ["cannot read app.txt: Permission denied", "can read app.txt again"]
    assert driven.texts == [str(number) for number in range(60)]
    assert len(errors) >= 60
    assert caplog.messages == pair * 2, "in 20 minutes"
    driven.append("app.txt", "more\n")
    locked[0] = True
    driven.tick(polls=100, seconds=10)
    assert caplog.messages == [*pair * 2, pair[0]]


def test_hazard_133_unrelated_files_cost_no_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    for number in range(2_000):
        driven.write(f"unrelated{number}.dat", "")
    driven.tick()
    looked: list[str] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(str(path)) or real(path, **options))
    driven.tick(polls=3)
    assert not [path for path in looked if "unrelated" in path]


def test_nothing_runs_beside_the_caller(folder: Path) -> None:
    before = threading.active_count()
    driven = Driven(folder).start()
    driven.write("app.txt", "1\n")
    driven.tick()
    assert threading.active_count() == before


def test_our_log_names_a_file_without_the_machine_that_qlik_named_it_after(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(files, "open_shared", refuse)
    driven = Driven(folder).start()
    driven.write("QLIKNODE1_AuditSecurity_Repository.txt", "1\n")
    driven.tick()
    assert caplog.messages == ["cannot read <host>_AuditSecurity_Repository.txt: Permission denied"]
