"""Finding and opening files: patterns, rotated names, roots, and what others may do to a file that we read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.logs.files import (
    Listing,
    NotALogError,
    Pattern,
    Root,
    Rotated,
    archived,
    mounted_root,
    open_shared,
    read_at,
    root_of,
    rotated_name,
)

MOUNTS = """\
22 1 0:21 / / rw - ext4 /dev/sda1 rw
23 22 0:22 / /mnt/qlik rw - cifs //server/share rw
24 22 0:23 / /mnt/qlik\\040two rw - nfs4 server:/export rw
25 22 0:24 / /mnt/q rw - ext4 /dev/sdb1 rw
26 23 0:25 / /mnt/qlik/inner rw - ext4 /dev/sdc1 rw
a line of another form
"""


@pytest.mark.windows
@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "a.txt.1", False),
        ("?_x.txt", "a_x.txt", True),
        ("?_x.txt", "ab_x.txt", False),
        ("[ab].txt", "a.txt", False),
        ("[ab].txt", "[ab].txt", True),
        ("a{1}+(2)^$.txt", "a{1}+(2)^$.txt", True),
        ("*_Audit_*.txt", "node\n1_Audit_x.txt", True),
    ],
)
def test_only_star_and_question_mark_are_wildcards(pattern: str, name: str, matches: bool) -> None:
    assert Pattern("logs/" + pattern).matches(name) is matches


@pytest.mark.windows
def test_hazard_38_names_are_compared_without_case_where_the_file_system_does() -> None:
    assert Pattern("logs/A*.TXT", caseless=True).matches("app.txt")
    assert not Pattern("logs/A*.TXT", caseless=False).matches("app.txt")


@pytest.mark.windows
@pytest.mark.parametrize(
    ("name", "rotated"),
    [
        (
            "N1_AuditSecurity_Repository_2024-01-31T23.59.58Z.log",
            Rotated("N1_AuditSecurity_Repository", "20240131T235958"),
        ),
        ("N1_AuditSecurity_Repository_20240131T235958Z.log", Rotated("N1_AuditSecurity_Repository", "20240131T235958")),
        ("n1_20240131t235958z.LOG", Rotated("n1", "20240131T235958")),
        ("N1_AuditSecurity_Repository.txt", None),
        ("_20240131T235958Z.log", None),
        ("N1_2024-01-31.log", None),
        ("N1_20240131T235958Z.log.gz", None),
    ],
)
def test_both_spellings_of_a_rotated_name_make_one_generation(name: str, rotated: Rotated | None) -> None:
    assert rotated_name(name) == rotated


@pytest.mark.windows
def test_a_rotated_name_belongs_to_a_pattern_if_its_live_file_would() -> None:
    pattern = Pattern("logs/*_AuditSecurity_Repository.txt")
    assert pattern.rotated("N1_AuditSecurity_Repository_20240131T235958Z.log")
    assert not pattern.rotated("N1_System_Repository_20240131T235958Z.log")
    assert not Pattern("logs/*").rotated("N1_20240131T235958Z.log")


@pytest.mark.windows
def test_an_archive_is_searched_in_its_folders(folder: Path) -> None:
    for name in ("one_20240101T000000Z.log", "N1/Repository/two_20240101T000000Z.log", "N1/three.txt", "N1/no.dat"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    found = archived(str(folder), [Pattern("logs/*.txt")], Listing())
    assert sorted(os.path.relpath(path, folder).replace("\\", "/") for path in found) == [
        "N1/Repository/two_20240101T000000Z.log",
        "N1/three.txt",
        "one_20240101T000000Z.log",
    ]


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/var/log", Root("/", False, False)),
        ("/mnt/qlik/Log", Root("/mnt/qlik", True, True)),
        ("/mnt/qlikother", Root("/", False, False)),
        ("/mnt/qlik two/Log", Root("/mnt/qlik two", True, False)),
        ("/mnt/qlik/inner/x", Root("/mnt/qlik/inner", False, False)),
        ("/mnt/q", Root("/mnt/q", False, False)),
    ],
)
def test_the_root_of_a_path_is_its_mount(folder: Path, path: str, root: Root) -> None:
    (folder / "mounts").write_text(MOUNTS)
    assert mounted_root(path, str(folder / "mounts")) == root


def test_the_root_is_found_without_touching_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*arguments: object, **options: object) -> None:
        raise AssertionError("the path was touched")

    for name in ("stat", "lstat", "readlink", "scandir", "listdir", "open"):
        monkeypatch.setattr(os, name, touched)
    assert root_of("/nowhere/at/all").name == "/"
    assert mounted_root("/x", "/no/such/table") == Root("/", False, False)


@pytest.mark.windows
def test_what_is_read_can_be_appended_to_renamed_and_deleted_by_others(folder: Path) -> None:
    path = folder / "app.txt"
    path.write_bytes(b"one")
    descriptor = open_shared(str(path))
    try:
        program = (
            "import os, sys; os.chdir(sys.argv[1]); open('app.txt', 'ab').write(b'two');"
            "os.rename('app.txt', 'rolled.log'); open('app.txt', 'wb').close(); os.remove('rolled.log')"
        )
        subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=60)
        assert read_at(descriptor, 0, 100) == b"onetwo"
        assert read_at(descriptor, 3, 2) == b"tw"
        assert read_at(descriptor, 50, 2) == b""
    finally:
        os.close(descriptor)


@pytest.mark.windows
def test_what_is_open_cannot_be_written_through(folder: Path) -> None:
    (folder / "app.txt").write_bytes(b"one")
    descriptor = open_shared(str(folder / "app.txt"))
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


@pytest.mark.windows
def test_a_folder_is_no_log(folder: Path) -> None:
    with pytest.raises(NotALogError):
        open_shared(str(folder))
    with pytest.raises(FileNotFoundError):
        open_shared(str(folder / "missing"))


def test_a_pipe_is_no_log_and_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(NotALogError):
        open_shared(str(folder / "pipe"))


@pytest.mark.parametrize("short", [1, 7])
def test_hazard_48_a_short_read_is_not_the_end(folder: Path, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "app.txt").write_bytes(bytes(range(100)))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: real(descriptor, min(size, short), offset))
    descriptor = open_shared(str(folder / "app.txt"))
    try:
        assert read_at(descriptor, 10, 50) == bytes(range(10, 60))
    finally:
        os.close(descriptor)
