"""docs/design.md is true: the walk of a log line, the threads, the packages."""

import re
import threading
import time
from pathlib import Path
from types import FrameType

from tests.exporting import Site, append, eventually, thread
from tests.observed import licenses_line

ROOT = Path(__file__).parent.parent
DESIGN = (ROOT / "docs/design.md").read_text("utf-8")
LONGEST_WALK = 8


def section(title: str) -> str:
    return DESIGN.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_a_log_line_walks_through_the_functions_that_the_page_names_in_that_order(tmp_path: Path) -> None:
    steps = re.findall(r"^\d+\. `([\w.]+)`", section("The walk of a log line"), re.MULTILINE)
    assert 0 < len(steps) <= LONGEST_WALK
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            module = str(frame.f_globals.get("__name__", ""))
            name = f"{module.removeprefix('exporter.')}.{frame.f_code.co_qualname}"
            if name in wanted:
                calls.append(name)

    wanted = set(steps)
    site = Site(tmp_path)
    append(site.licenses, licenses_line(time.time() - 60, "the first"))
    threading.setprofile(note)
    try:
        with thread(site) as running:
            before = running.await_ready().metrics()
            calls.clear()
            append(site.licenses, licenses_line(time.time(), "the line"))
            name = 'qlik_license_exporter_log_records_total{log="licenses"}'
            eventually("the line is shown", lambda: running.metrics()[name] > before[name])
    finally:
        threading.setprofile(None)
    walk = iter(calls)
    assert [step for step in steps if step not in walk] == [], calls


def test_the_page_names_every_thread_of_a_running_exporter() -> None:
    named = set()
    for file in (ROOT / "exporter").rglob("*.py"):
        if "exporter/demo" not in str(file):
            named |= set(re.findall(r'Thread\(.*?name=f?"([\w -]+)', file.read_text("utf-8")))
    assert len(named) > 6
    table = section("Threads")
    assert [name for name in named - {"exporter"} if f"`{name.removesuffix(' {root')}" not in table] == []


def test_the_page_says_where_every_package_and_module_belongs() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section("Packages"), re.MULTILINE)
    placed = [name for row, _ in rows for name in re.findall(r"`(\w+)`", row)]
    there = {file.stem for file in (ROOT / "exporter").glob("*.py") if not file.stem.startswith("__")} | {
        folder.name for folder in (ROOT / "exporter").iterdir() if (folder / "__init__.py").exists()
    }
    assert sorted(placed) == sorted(there), "the table of packages in docs/design.md"
    for _, task in rows:
        for name in re.findall(r"`([\w.]+)`", task):
            assert list((ROOT / "exporter").rglob(name if "." in name else f"{name}.py")), name
