"""The state file: what it keeps, who may have it, and what becomes of one that cannot be used."""

import errno
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tailing import disk_folder

from exporter import store as store_module
from exporter.store import APPLICATION_ID, MIGRATIONS, Store, StoreError, StoreLockedError

pytestmark = pytest.mark.windows


@pytest.fixture
def path() -> Iterator[Path]:
    with disk_folder() as folder:
        yield folder / "made" / "state.db"


def _kept(path: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    store = Store(path)
    store.close()
    return {name: value for name, value in store.state.items() if "." in name}, store.files


def test_what_is_saved_is_there_after_a_restart_and_what_is_forgotten_is_not(path: Path) -> None:
    store = Store(path, wall=lambda: 1000.0)
    assert (store.first_start, store.reset, store.files) == (1000.0, None, {})
    store.save({"a.b": b"1"}, {"x": b"row", "y": b"row"}, ())
    store.save({"a.b": b"2"}, {"x": b"moved"}, ["y", "never"])
    store.close()
    again = Store(path, wall=lambda: 2000.0)
    again.close()
    assert (again.first_start, again.reset) == (1000.0, None)
    assert _kept(path) == ({"a.b": b"2"}, {"x": b"moved"})


def test_only_changes_are_written(path: Path) -> None:
    store = Store(path)
    statements: list[str] = []
    store.save({"a.b": b"1", "a.c": b"1"}, {"x": b"1"}, ())
    assert store._database is not None
    store._database.set_trace_callback(statements.append)
    store.save({"a.b": b"1", "a.c": b"2"}, {"x": b"1"}, ())
    store.close()
    assert len([statement for statement in statements if "INSERT" in statement]) == 1


def test_a_second_process_is_told_who_has_the_file_and_touches_nothing(path: Path) -> None:
    program = (
        "import sys, pathlib; from exporter.store import Store;"
        "store = Store(pathlib.Path(sys.argv[1])); print('have it', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline().strip() == "have it"
        before = {name: (path.parent / name).stat().st_mtime_ns for name in os.listdir(path.parent)}
        with pytest.raises(StoreLockedError) as refusal:
            Store(path)
        assert refusal.value.holder > 0
        assert f"process {refusal.value.holder}" in str(refusal.value)
        if sys.platform != "win32":  # where a launcher stands between us and it
            assert refusal.value.holder == holder.pid
        assert {name: (path.parent / name).stat().st_mtime_ns for name in os.listdir(path.parent)} == before
        holder.stdin.close()
    Store(path).close()


def _torn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()


def _altered(sql: str):  # type: ignore[no-untyped-def]  # a function of a path
    def alter(path: Path) -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(sql)
        database.close()

    return alter


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _with_companions_of_another(path: Path) -> None:
    other = path.parent / "other.db"
    database = sqlite3.connect(other)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE theirs (x)")
    (path.parent / "state.db-wal").write_bytes((path.parent / "other.db-wal").read_bytes())
    (path.parent / "state.db-shm").write_bytes(b"theirs")
    database.close()
    other.unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b"\0" * 200), "is damaged"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b'{"offsets": ['), "is damaged"),
        (_torn, "is damaged"),
        (_folder, "is not a file"),
        (_foreign, "another program"),
        (_altered(f"PRAGMA user_version = {len(MIGRATIONS) + 1}"), "newer release"),
        (_altered("PRAGMA user_version = 0"), "is damaged"),
        (_altered("DROP TABLE files"), "is damaged"),
        (_altered("DELETE FROM saves"), "is damaged"),
        (_altered("UPDATE saves SET digest = NULL"), "does not match its digest"),
        (_altered("UPDATE saves SET number = number + 1"), "does not match its digest"),
        (_altered("UPDATE state SET value = CAST('2' AS BLOB) WHERE name = 'a.b'"), "does not match its digest"),
        (_altered("UPDATE files SET key = 'y'"), "does not match its digest"),
        (_altered("DELETE FROM files"), "does not match its digest"),
        (_altered("INSERT INTO files VALUES ('y', CAST('1' AS BLOB))"), "does not match its digest"),
        (_altered("ALTER TABLE files RENAME COLUMN value TO content"), "is damaged"),
        (_altered("UPDATE saves SET number = 'x'"), "is damaged"),
        (_altered("UPDATE state SET value = 5"), "is damaged"),
        (_altered("UPDATE state SET value = CAST('x' AS BLOB)"), "is damaged"),
        (_altered("DELETE FROM state"), "is damaged"),
        (_half, "is damaged"),
        (_with_companions_of_another, "another program"),
        (_altered("UPDATE files SET key = CAST(x'ff' AS TEXT)"), "is damaged"),
        (_altered("PRAGMA application_id = 5"), "another program"),
    ],
    ids=[
        "nuls",
        "empty",
        "text",
        "torn",
        "folder",
        "foreign",
        "newer",
        "0",
        "table",
        "saves",
        "no digest",
        "number",
        "value",
        "key",
        "row gone",
        "row more",
        "column",
        "x",
        "type",
        "at",
        "gone",
        "half",
        "companions",
        "no text",
        "id",
    ],
)
def test_hazard_87_a_file_that_cannot_be_used_is_set_aside(  # type: ignore[no-untyped-def]  # a function of a path
    path: Path, damage, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(path)
    store.save({"a.b": b"1"}, {"x": b"1"}, ())
    store.close()
    damage(path)
    store = Store(path, wall=lambda: 1_700_000_000.0)
    assert reason in caplog.text
    assert (store.reset, store.first_start, store.files) == (1_700_000_000.0, 1_700_000_000.0, {})
    assert any(name.startswith("state.db.bad-20231114T") for name in os.listdir(path.parent))
    store.save({"a.b": b"2"}, {}, ())
    store.close()
    caplog.clear()
    store = Store(path)
    store.close()
    assert store.reset == 1_700_000_000.0
    assert _kept(path) == ({"a.b": b"2"}, {})
    assert not caplog.records, "said once"


@pytest.fixture
def path_in_memory() -> Iterator[Path]:
    """For thousands of saves, whose durability is not what is tested."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state.db"


@pytest.mark.slow
def test_no_changed_byte_of_a_saved_file_is_taken_for_what_was_saved(path_in_memory: Path) -> None:
    """One bit of each byte of the header and of each digit that was saved, and of every 9th other byte that is used.

    Each is set aside, or changes nothing: what is read is what was saved, and saving goes on. Wine is slow: a tenth.
    """
    path = path_in_memory
    digits = re.compile(rb"[0-9a-f]{32}")
    store = Store(path)
    store.save(
        {f"license.{number}": b'{"count":%032x}' % (number << 100 | 7**30) for number in range(4)},
        {f"file:{number:032x}": b'{"offset":%032x}' % (number << 99 | 5**40) for number in range(4)},
        (),
    )
    store.save({"license.3": b'{"count":%032x}' % 3**60}, {}, ["file:" + "0" * 31 + "3"])
    store.close()
    saved = (store.state, store.files)
    good, lock = path.read_bytes(), Path(f"{path}.lock").read_bytes()
    places = {*range(100), *(place for match in digits.finditer(good) for place in range(*match.span()))}
    places |= set([place for place, byte in enumerate(good) if byte][::9])
    set_aside = 0
    tried = sorted(places)[:: 10 if sys.platform == "win32" else 1]
    for place in tried:
        for name in os.listdir(path.parent):
            (path.parent / name).unlink()
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        Path(f"{path}.lock").write_bytes(lock)
        store = Store(path)
        if store.reset is not None:
            set_aside += 1
            assert any(".bad-" in name for name in os.listdir(path.parent))
        else:
            assert (store.state, store.files) == saved, f"byte {place}"
            store.save({"license.3": b"{}"}, {}, ())
        store.close()
    assert set_aside > len(tried) // 2


def test_no_changed_byte_of_the_write_ahead_log_of_a_killed_process_is_taken_for_what_was_saved(path: Path) -> None:
    """SQLite takes a damaged end of that log for one that was never written: an older state, which must be told."""
    store = Store(path)
    store.save({"a.b": b"1" * 50}, {"x": b"1" * 30}, ())
    store.save({"a.b": b"2" * 50}, {"y": b"2" * 30}, ())
    names = [path, Path(f"{path}-wal"), Path(f"{path}.lock")]
    left = {name: name.read_bytes() for name in names}
    store.close()
    saved = (store.state, store.files)
    good = left[names[1]]
    for place in [place for place, byte in enumerate(good) if byte][::13]:
        for name in os.listdir(path.parent):
            (path.parent / name).unlink()
        for name, data in left.items():
            name.write_bytes(data)
        names[1].write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        store = Store(path)
        store.close()
        assert store.reset is not None or (store.state, store.files) == saved, f"byte {place}"


def test_where_no_new_file_can_be_made_an_unusable_one_stays_where_it_is(path: Path) -> None:
    """Nothing is set aside, and no reset is forgotten, by trying again and again on a full disk."""
    Store(path).close()
    path.write_bytes(b"damaged")
    (path.parent / "state.db.new").mkdir()  # stands in the way of the draft
    for _ in range(2):
        with pytest.raises(StoreError, match=r"is damaged: .*, and a new one cannot be created: "):
            Store(path)
        assert path.read_bytes() == b"damaged"
    (path.parent / "state.db.new").rmdir()
    store = Store(path)
    store.close()
    assert store.reset is not None


def test_hazard_44_a_folder_that_cannot_be_asked_is_no_missing_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that answers with an error for a moment must not lead to a new state."""
    store = Store(path)
    store.save({"a.b": b"1"}, {}, ())
    store.close()
    store = Store(path)
    real = os.lstat

    def stale(asked: object, *rest: Any, **more: Any) -> os.stat_result:
        if str(asked) == str(path):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(asked, *rest, **more)  # type: ignore[arg-type]  # as it was asked

    with monkeypatch.context() as broken:
        broken.setattr(os, "lstat", stale)
        with pytest.raises(StoreError, match="Stale"):
            store.save({"a.b": b"2"}, {}, ())
        store.close()
        with pytest.raises(StoreError, match="Stale"):
            Store(path)
    assert _kept(path) == ({"a.b": b"1"}, {})
    assert not [name for name in os.listdir(path.parent) if ".bad-" in name]


def test_a_file_that_is_gone_is_a_reset_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(path)
    store.save({}, {}, ())
    store.close()
    path.unlink()
    store = Store(path, wall=lambda: 5.0)
    store.close()
    assert store.reset == 5.0
    assert "is missing" in caplog.text


def test_a_restored_older_copy_is_noticed_and_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(path)
    store.save({"a.b": b"old"}, {}, ())
    store.close()
    copy = path.read_bytes()
    store = Store(path)
    store.save({"a.b": b"new"}, {}, ())
    store.save({"a.b": b"newer"}, {}, ())
    store.close()
    path.write_bytes(copy)
    store = Store(path, wall=lambda: 7.0)
    store.close()
    assert store.reset == 7.0
    assert "is an older copy" in caplog.text
    assert store.state["a.b"] == b"old"
    caplog.clear()
    Store(path).close()
    assert not caplog.records, "said once"


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_version_migrates_and_keeps_what_it_held(path: Path, version: int) -> None:
    """Version 2 is that of the first releases, without a digest: it is taken once, and has one from then on."""
    path.parent.mkdir()
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("".join(MIGRATIONS[:version]))
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {version}")
    database.execute("INSERT INTO state VALUES ('first start', CAST('12.5' AS BLOB)), ('a.b', CAST('1' AS BLOB))")
    database.close()
    store = Store(path)
    assert (store.first_start, store.reset) == (12.5, None)
    store.close()
    store = Store(path)
    store.save({}, {"x": b"1"}, ())
    store.close()
    assert _kept(path) == ({"a.b": b"1"}, {"x": b"1"})
    _altered("UPDATE state SET value = CAST('2' AS BLOB) WHERE name = 'a.b'")(path)
    store = Store(path)
    store.close()
    assert store.reset is not None


def test_a_busy_file_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    store = Store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.save({"a.b": b"1"}, {}, ())
    other.execute("COMMIT")
    store.save({"a.b": b"1"}, {}, ())
    other.execute("BEGIN EXCLUSIVE")
    other.execute("COMMIT")
    other.close()
    store.close()
    assert _kept(path) == ({"a.b": b"1"}, {})


def test_a_failed_save_keeps_nothing_of_itself_and_the_next_one_succeeds(path: Path) -> None:
    store = Store(path)
    store.save({"a.b": b"1"}, {"x": b"1"}, ())
    assert store._database is not None
    store._database.execute("PRAGMA max_page_count = 1")  # a full disk
    with pytest.raises(StoreError, match="full"):
        store.save({"a.b": b"2"}, {"x": b"2" * 100_000}, ())
    store.save({"a.c": b"3"}, {}, ())
    store.close()
    assert _kept(path) == ({"a.b": b"1", "a.c": b"3"}, {"x": b"1"})


def test_a_folder_that_cannot_be_made_is_said_in_words(path: Path) -> None:
    path.parent.write_text("in the way")
    with pytest.raises(StoreError, match=re.escape(f"{path} cannot be locked: {path.parent}: ")):
        Store(path)


def test_a_killed_writer_loses_nothing_that_was_announced(path: Path) -> None:
    program = (
        "import sys, pathlib; from exporter.store import Store; store = Store(pathlib.Path(sys.argv[1]))\n"
        "for number in range(10**9):\n"
        "    store.save({'a.b': b'%d' % number}, {'x': b'%d' % number}, ())\n"
        "    print(number, flush=True)"
    )
    announced = -1
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(20):
                announced = int(writer.stdout.readline())
            writer.kill()
            announced = max([announced, *map(int, writer.stdout.read().split())])
        state, files = _kept(path)
        assert int(state["a.b"]) >= announced
        assert files["x"] == state["a.b"]


def _deleted(path: Path) -> None:
    for name in os.listdir(path.parent):
        (path.parent / name).unlink()
    path.parent.rmdir()


def _replaced(path: Path) -> None:
    (path.parent / "other").write_bytes(b"other")
    os.replace(path.parent / "other", path)


def test_an_older_copy_that_is_put_in_place_while_the_file_is_in_use_is_set_aside(path: Path) -> None:
    store = Store(path)
    store.save({"a.b": b"1"}, {"x": b"1"}, ())
    store.close()
    copy = path.read_bytes()
    store = Store(path)
    store.save({"a.b": b"2"}, {"x": b"2", "y": b"2"}, ())
    store._disconnect()  # as after a save that failed
    path.write_bytes(copy)
    store.save({"a.b": b"3"}, {}, ())
    store.close()
    assert _kept(path) == ({"a.b": b"3"}, {"x": b"2", "y": b"2"})


def _cut(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("lose", [_deleted, _replaced, _cut])
@pytest.mark.parametrize("failed_first", [False, True], ids=["connected", "after a failure"])
def test_a_file_that_is_taken_away_while_it_is_in_use_is_written_anew(  # type: ignore[no-untyped-def]  # a function
    path: Path, lose, failed_first: bool
) -> None:
    store = Store(path, wall=lambda: 5.0)
    store.save({"a.b": b"1", "a.c": b"1"}, {"x": b"1", "y": b"1"}, ())
    if failed_first:
        store._disconnect()
    if sys.platform == "win32":
        store._disconnect()  # else nobody can take it away
        store._lock.release()
    lose(path)
    store.save({"a.b": b"2"}, {"z": b"1"}, ["y"])
    with pytest.raises(StoreLockedError):
        Store(path)
    assert store.first_start == 5.0
    store.close()
    again = Store(path, wall=lambda: 6.0)
    again.close()
    assert (again.first_start, again.reset) == (5.0, None)
    assert _kept(path) == ({"a.b": b"2", "a.c": b"1"}, {"x": b"1", "z": b"1"})
