"""What the tests on Windows share: a configured log, a scrape. Elsewhere nothing in this folder is collected."""

import sys

if sys.platform != "win32":
    collect_ignore_glob = ["test_*.py"]
else:
    import contextlib
    import socket
    import time
    import urllib.request
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest
    import pywintypes
    import win32serviceutil

    from exporter.commands import service

    PROGRAM_DATA = Path(r"C:\users\Public")
    """What %ProgramData% is in Wine's services; the commands get the same, so that both mean one folder."""
    SECONDS = 60
    """How long a test waits for what must come: Wine on a busy machine is slow."""
    ATTEMPT = (
        '{"caller":"sync.go:290","level":"info","message":"re-syncing assignments with the backend",'
        '"timestamp":"2026-11-25T03:00:0%dZ"}\n'
    )

    class Site:
        """One Qlik node's folder with a configuration for it, listening on a port of its own."""

        def __init__(self, folder: Path) -> None:
            self.log = folder / "Licenses" / "NODE1_Licenses.log"
            self.log.parent.mkdir(parents=True)
            self.take_a_port()

        def take_a_port(self) -> None:
            """Listen on a free port from the next start on."""
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = int(probe.getsockname()[1])

        @property
        def configuration(self) -> str:
            """What the exporter is to be started with."""
            return (
                f"logs:\n  licenses: {{paths: ['{self.log.parent}\\*.log']}}\n"
                "  repository_audit: {enabled: false}\n  repository_trace: {enabled: false}\n"
                "poll_interval: 200ms\ndiscovery_interval: 500ms\nprobes: []\n"
                f"web: {{listen_addresses: ['127.0.0.1:{self.port}']}}\n"
            )

        def write(self, *numbers: int) -> None:
            """Append one attempted sync for each number, as Qlik's own process would."""
            with self.log.open("a", encoding="utf-8", newline="\r\n") as file:
                file.writelines(ATTEMPT % number for number in numbers)

        def scrape(self) -> str:
            """The metrics, now. URLError where nobody listens."""
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())

        def value(self, series: str) -> float | None:
            """The value of `series`, written as in the exposition; None where it is not exposed or nobody listens."""
            try:
                lines = self.scrape().splitlines()
            except OSError:  # nobody listens, or not yet
                return None
            found = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == series]
            return float(found[0]) if found else None

        def wait_for(self, series: str, expected: float, alive: Callable[[], bool] = lambda: True) -> None:
            """Wait until `series` has the value; AssertionError with the last value when it does not come."""
            deadline = time.monotonic() + SECONDS
            while (seen := self.value(series)) != expected:
                assert time.monotonic() < deadline, f"{series} is {seen}, expected {expected}"
                assert alive(), "the exporter has ended"
                time.sleep(0.1)

    @pytest.fixture
    def site(tmp_path: Path) -> Site:
        """A node's folder whose log holds nothing yet."""
        return Site(tmp_path / "Qlik")

    @pytest.fixture
    def home() -> Iterator[Path]:
        """The service's folder: not there before the test, and gone after it, like the service."""
        folder = PROGRAM_DATA / service.SERVICE_NAME
        assert not folder.exists(), f"{folder} is left of another run"
        yield folder
        with contextlib.suppress(pywintypes.error):
            win32serviceutil.StopService(service.SERVICE_NAME)
        with contextlib.suppress(pywintypes.error):
            win32serviceutil.RemoveService(service.SERVICE_NAME)
        deadline = time.monotonic() + SECONDS
        while folder.exists() and time.monotonic() < deadline:
            for file in sorted(folder.rglob("*"), reverse=True):
                with contextlib.suppress(OSError):  # a service that is still ending
                    file.rmdir() if file.is_dir() else file.unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
        assert not folder.exists()
