"""`process_*`: what is told of the process itself, by the same names on both platforms."""

import os
import sys
import time

import pytest
from prometheus_client import ProcessCollector

from exporter.metrics import WindowsProcessCollector, process_collectors

pytestmark = pytest.mark.windows


def test_windows_tells_of_the_process_what_prometheus_own_clients_tell() -> None:
    with open(os.devnull) as _:
        told = {family.name: family.samples[0].value for family in WindowsProcessCollector().collect()}
    assert set(told) == {
        "process_cpu_seconds",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
    }
    assert told["process_start_time_seconds"] == pytest.approx(time.time(), abs=86400)
    assert told["process_cpu_seconds"] > 0
    assert told["process_resident_memory_bytes"] > 10 << 20
    assert told["process_virtual_memory_bytes"] > 10 << 20
    assert told["process_open_fds"] > 3 or sys.platform == "win32"  # Wine says 0


def test_each_platform_has_one_collector_of_the_same_names() -> None:
    (collector,) = process_collectors()
    assert isinstance(collector, ProcessCollector if sys.platform == "linux" else WindowsProcessCollector)
    names = {family.name: (family.type, family.documentation) for family in collector.collect()}
    for family in WindowsProcessCollector().collect():
        assert family.name in names
        if family.name != "process_open_fds":
            assert names[family.name] == (family.type, family.documentation)
