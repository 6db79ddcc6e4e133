"""Fixtures of several test modules."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from qrs_server import FakeQrs
from qrs_server import Site as QrsSite
from tailing import disk_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder on a disk."""
    with disk_folder() as path:
        yield path


@pytest.fixture
def qrs_site(tmp_path: Path) -> QrsSite:
    """The certificates of a site, as its Repository has them."""
    return QrsSite(tmp_path / "Local Certificates")


@pytest.fixture
def qrs(qrs_site: QrsSite) -> Iterator[FakeQrs]:
    """The Repository of that site, which has a license."""
    with FakeQrs(qrs_site) as server:
        yield server
