"""The state file where links lead to it, or nothing can be locked: what Windows does not have, or not so."""

import errno
import os
from pathlib import Path

import pytest

from exporter.store import Store, StoreError, StoreLockedError


def test_a_link_leads_to_the_file_even_before_there_is_one_and_to_its_lock(tmp_path: Path) -> None:
    path, link = tmp_path / "made" / "state.db", tmp_path / "link.db"
    link.symlink_to(path)
    store = Store(link)
    store.save({"a.b": b"1"}, {}, ())
    with pytest.raises(StoreLockedError):
        Store(path)
    store.close()
    assert link.is_symlink()
    again = Store(path)
    again.close()
    assert again.state["a.b"] == b"1"


def test_a_link_that_leads_nowhere_is_said_in_words_and_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "state.db"
    link.symlink_to(link)
    for _ in range(3):
        with pytest.raises(StoreError, match="cannot be used: Too many levels"):
            Store(link)
    assert sorted(os.listdir(tmp_path)) == ["state.db", "state.db.lock"]


def test_a_lock_that_cannot_be_had_costs_no_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refusing)
    handles = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StoreError, match="No locks available"):
            Store(tmp_path / "state.db")
    assert len(os.listdir("/proc/self/fd")) == handles


def test_a_lock_file_that_somebody_deletes_is_taken_again_and_never_had_by_two(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    store.save({"a.b": b"1"}, {}, ())
    (tmp_path / "state.db.lock").unlink()
    store.save({"a.b": b"2"}, {}, ())
    with pytest.raises(StoreLockedError):
        Store(path)
    (tmp_path / "state.db.lock").unlink()
    other = Store(path)
    with pytest.raises(StoreLockedError, match=f"process {os.getpid()}"):
        store.save({"a.b": b"3"}, {}, ())
    assert other.state["a.b"] == b"2"
    other.save({"a.b": b"4"}, {}, ())
    other.close()
    store.close()
