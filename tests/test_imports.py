"""Imports run one way: events, then license, then metrics; sources do not import each other; only app imports all."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "exporter"

ALLOWED: dict[str, set[str]] = {
    "account": set(),
    "events": set(),
    "filewatch": {"config"},
    "journal": {"events", "license", "logs.messages", "logs.records", "logs.times", "masking", "printable"},
    "connections": {"threads"},
    "databases": set(),
    "dated_log": set(),
    "last_words": set(),
    "masking": {"printable", "vocabulary"},
    "metrics": {
        "config",
        "events",
        "license",
        "observation",
        "probes",
        "qrs",
        "remote_write.figures",
        "revision",
        "verdict",
    },
    "network_errors": set(),
    "observation": {"events", "journal", "license", "probes", "products", "qrs", "remote_write.figures", "verdict"},
    "revision": set(),
    "signals": set(),
    "sources": {"config", "events", "logs.files", "logs.framing", "logs.kinds", "tail.batch", "tail.tail"},
    "state_upgrade": {"tail.checkpoint"},
    "status": {
        "events",
        "journal",
        "license",
        "masking",
        "observation",
        "printable",
        "probes",
        "qrs",
        "verdict",
        "verdict.phrases",
        "wording",
    },
    "vocabulary": set(),
    "wording": set(),
    "config.errors": {"printable"},
    "config.strict_yaml": {"config.errors"},
    "config.variables": {"config.errors"},
    "config.settings": {"config.variables", "events", "products"},
    "license": {"events", "logs.records", "logs.times", "sync_clock"},
    "stale_verdicts": set(),
    "sync_clock": {"stale_verdicts"},
    "log": {"printable"},
    "printable": set(),
    "logs.times": set(),
    "logs.lines": set(),
    "logs.table": {"logs.lines"},
    "logs.records": {"logs.table", "logs.times"},
    "logs.entries": {"logs.lines", "logs.records", "logs.times"},
    "logs.rows": {"logs.lines", "logs.records", "logs.table", "logs.times"},
    "logs.formats": {"events", "logs.entries", "logs.lines", "logs.records", "logs.rows"},
    "logs.messages": {"config", "events", "logs", "logs.entries", "logs.records", "logs.table", "logs.trouble"},
    "logs.trouble": {"events"},
    "logs.files": set(),
    "logs.kinds": {"events"},
    "logs.numbered": {"events", "logs.formats", "logs.framing", "logs.kinds", "logs.records"},
    "logs.framing": {"logs.lines"},
    "tail.fingerprint": {"logs", "logs.files"},
    "tail.checkpoint": {"events", "logs", "logs.files", "logs.framing", "tail.fingerprint"},
    "tail.batch": {"events", "logs.records", "tail.checkpoint"},
    "tail.cursor": {
        "logs",
        "logs.files",
        "logs.formats",
        "logs.framing",
        "logs.records",
        "logs.times",
        "tail.checkpoint",
        "tail.fingerprint",
    },
    "tail.logfile": {"logs.files", "tail.checkpoint", "tail.cursor"},
    "tail.merge": {"logs.records", "tail.cursor", "tail.logfile"},
    "tail.table": {"events", "logs.files", "tail.batch", "tail.checkpoint", "tail.logfile"},
    "tail.unreadable": {"masking", "tail.batch"},
    "tail.tracker": {
        "logs",
        "logs.files",
        "tail.batch",
        "tail.checkpoint",
        "tail.cursor",
        "tail.logfile",
        "tail.table",
        "tail.unreadable",
    },
    "tail.copies": {"logs", "logs.files", "tail.batch", "tail.fingerprint"},
    "tail.rotation": {
        "logs",
        "logs.files",
        "masking",
        "tail.batch",
        "tail.checkpoint",
        "tail.copies",
        "tail.fingerprint",
        "tail.listing",
        "tail.logfile",
        "tail.table",
        "tail.tracker",
    },
    "tail.discovery": {
        "logs",
        "logs.files",
        "tail.batch",
        "tail.copies",
        "tail.fingerprint",
        "tail.listing",
        "tail.logfile",
        "tail.rotation",
        "tail.tracker",
    },
    "tail.tail": {
        "events",
        "logs",
        "logs.files",
        "logs.records",
        "tail.batch",
        "tail.copies",
        "tail.cursor",
        "tail.discovery",
        "tail.listing",
        "tail.logfile",
        "tail.merge",
        "tail.table",
        "tail.tracker",
        "tail.unreadable",
    },
    "tail.reader": {"logs.files", "masking", "priority", "tail.batch", "tail.tail"},
    "tail.listing": {"logs", "logs.files", "tail.batch", "tail.checkpoint", "tail.logfile", "tail.tracker"},
    "codec": {"events", "license", "state_upgrade", "tail.batch", "tail.checkpoint", "tail.table"},
    "placement": {
        "account",
        "codec",
        "config",
        "events",
        "logs.files",
        "observation",
        "tail.batch",
        "tail.reader",
        "tail.table",
        "tail.tail",
    },
    "ledger": {"codec", "config", "events", "license", "observation", "placement", "saving", "store", "tail.batch"},
    "saving": {"codec", "license", "store", "tail.batch"},
    "locks": set(),
    "store": {"databases", "locks"},
    "priority": set(),
    "products": set(),
    "threads": set(),
    "services_conf": {"config", "printable", "products"},
    "textfile": {"locks"},
}
"""What each module may import of the product. The purer it is, the less."""

PACKAGES: dict[str, set[str]] = {
    "assets": {"assets"},
    "config": {"config", "events", "printable", "products"},
    "demo": {"assets", "demo"},
    "probes": {"printable", "products", "threads", "events", "config", "services_conf", "probes"},
    "qrs": {"printable", "config", "connections", "events", "network_errors", "qrs", "threads"},
    "remote_write": {"config", "connections", "databases", "locks", "network_errors", "remote_write", "threads"},
    "verdict": {"config", "events", "license", "observation", "probes", "qrs", "verdict", "wording", "masking"},
    "web": {
        "assets",
        "config",
        "filewatch",
        "license",
        "observation",
        "printable",
        "priority",
        "probes",
        "status",
        "verdict",
        "web",
        "wording",
    },
}
"""The same for all modules of a package."""
JOINS_ALL = {"__init__", "__main__", "app", "cli", "commands", "examination", "logs", "once", "tail"}
"""Modules that join sources with the core, the commands among them, and packages whose modules have rules of their own."""
ONLY_USERS = {
    "yaml": {"assets.forms", "commands.alertmanager", "commands.drill", "config.showing", "config.strict_yaml"},
    "prometheus_client": {"app", "metrics", "once", "web.server"},
    # A file each: what was counted must not wait for, or be lost with, what was not sent yet.
    "sqlite3": {"databases", "remote_write.queue", "store"},
    "google": {"remote_write.encoding"},
    "cramjam": {"remote_write.encoding"},
}


def _is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return name.startswith("exporter") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def modules() -> dict[str, set[str]]:
    found = {}
    for file in ROOT.rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        imported = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                modules_inside = {each for each in inside if _is_module(each)}
                imported |= modules_inside
                imported |= {node.module} if modules_inside != inside or node.module == "exporter.logs" else set()
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = imported
    return found


MODULES = modules()


def product_imports(name: str) -> set[str]:
    return {imported.removeprefix("exporter.") for imported in MODULES[name] if imported.startswith("exporter.")}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_core_module_imports_only_what_lies_below_it(name: str) -> None:
    assert product_imports(name) <= ALLOWED[name]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    for name in MODULES:
        if name == package or name.startswith(f"{package}."):
            tops = {imported.partition(".")[0] for imported in product_imports(name)}
            assert tops <= PACKAGES[package], name


def test_every_module_has_a_rule() -> None:
    packages = {*PACKAGES, "commands"}
    assert [
        name
        for name in MODULES
        if name not in ALLOWED and name not in JOINS_ALL and name.partition(".")[0] not in packages
    ] == []


def test_nothing_imports_the_composition_root_but_the_commands() -> None:
    users = {name for name in MODULES if "app" in product_imports(name)}
    assert all(name.startswith("commands.") for name in users)


def test_nothing_imports_a_command_but_the_command_line_and_other_commands() -> None:
    users = {name for name in MODULES if any(each.startswith("commands") for each in product_imports(name))}
    assert {name for name in users if not name.startswith("commands.")} <= {"cli"}


@pytest.mark.parametrize("library", ONLY_USERS)
def test_a_library_has_only_its_own_users(library: str) -> None:
    users = {
        name for name, imported in MODULES.items() if any(i == library or i.startswith(f"{library}.") for i in imported)
    }
    assert users <= ONLY_USERS[library]
