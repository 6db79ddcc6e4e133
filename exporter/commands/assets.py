"""`assets FOLDER`: writes the rules, dashboards, routes, runbooks, units and examples of the package to a folder."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from exporter.assets import SHIPPED, asset, forms
from exporter.config import Config

DONE, FAILED, UNUSABLE = 0, 1, 2


class Links(NamedTuple):
    """Replacements for the links in alerts and dashboards; None keeps the shipped ones."""

    runbook_url: str | None = None
    """The base address of the runbooks; the alert's name is appended."""
    dashboard_url: str | None = None
    """The address of the site's Grafana."""


class Format(NamedTuple):
    """One form in which the assets can be written."""

    sentence: str
    files: Callable[[Links], Iterator[tuple[str, bytes]]]
    """Each file's path below the folder, with `/`, and its content."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="the folder to write to; created if missing"
    )
    parser.add_argument("--list", action="store_true", help="only list what would be written")
    forms = "; ".join(f"{name}: {form.sentence}" for name, form in FORMATS.items())
    parser.add_argument("--format", choices=FORMATS, default="prometheus", help=f"{forms} (default: prometheus)")
    parser.add_argument(
        "--runbook-url", metavar="URL", help="address of your runbooks: alerts and dashboards link to URL/ALERTNAME"
    )
    parser.add_argument("--dashboard-url", metavar="URL", help="address of your Grafana, for links in alerts")
    parser.add_argument("--force", action="store_true", help="replace files that exist with different content")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Write or list the files: 0; 1 if a file with different content exists; 2 for invalid arguments."""
    for flag in ("runbook_url", "dashboard_url"):
        value = getattr(arguments, flag)
        if value is not None and not _is_address(value):
            print(
                f"assets: --{flag.replace('_', '-')}: found `{value}`, expected http://… or https://…", file=sys.stderr
            )
            return UNUSABLE
    links = Links(arguments.runbook_url, arguments.dashboard_url)
    files = sorted(FORMATS[arguments.format].files(links))
    if arguments.list:
        print("\n".join(name for name, _ in files))
        return DONE
    if arguments.folder is None:
        print("assets: expected a FOLDER to write to, or --list", file=sys.stderr)
        return UNUSABLE
    return _write(arguments.folder, files, arguments.force)


def _write(folder: Path, files: list[tuple[str, bytes]], force: bool) -> int:
    """Write all files, or none if one of them exists with different content."""
    new = [(name, content) for name, content in files if not _holds(folder / name, content)]
    in_the_way = [name for name, _ in new if (folder / name).exists() or (folder / name).is_symlink()]
    if in_the_way and not force:
        for name in in_the_way:
            print(f"assets: {folder / name} exists with different content", file=sys.stderr)
        print("assets: nothing was written; use --force to replace these files", file=sys.stderr)
        return FAILED
    for name, content in new:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in in_the_way:
            path.unlink()
        with path.open("xb") as file:  # never through a link, never over a file created in the meantime
            file.write(content)
    print(f"{folder}: {len(new)} files written, {len(in_the_way)} of them replaced; {len(files) - len(new)} unchanged")
    return DONE


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes() == content


def _is_address(text: str) -> bool:
    """Whether a link can begin with `text`. A quote or a space would end the YAML string that it is put into."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s'\"\\{}]", text)


# --- the formats


def _prometheus(links: Links) -> Iterator[tuple[str, bytes]]:
    """Everything as it is in the repository, without `deploy/` in the paths."""
    for name in SHIPPED:
        top = asset(name)
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                inside = path.relative_to(top).as_posix() if path != top else ""
                whole = f"{name}/{inside}".rstrip("/")
                yield whole.removeprefix("deploy/"), _linked(whole, path.read_bytes(), links)


def _linked(name: str, content: bytes, links: Links) -> bytes:
    if name.endswith(".rules.yml"):
        return linked_rules(content.decode(), links).encode()
    if name.startswith("grafana/dashboards/"):
        return linked_board(content.decode(), links).encode()
    return content


def linked_rules(rules_yaml: str, links: Links) -> str:
    """The text of a rules file with its `runbook_url` and `dashboard_url` annotations moved to `links`."""
    if links.runbook_url:
        base = links.runbook_url.rstrip("/")
        rules_yaml = re.sub(
            r"^(\s+runbook_url: ).*/(\w+?)(?:\.md)?['\"]?$",
            lambda found: f"{found[1]}'{base}/{found[2]}'",
            rules_yaml,
            flags=re.MULTILINE,
        )
    if links.dashboard_url:
        base = links.dashboard_url.rstrip("/")
        rules_yaml = re.sub(
            r"^(\s+dashboard_url: )['\"]?.*?(/d/.*?)['\"]?$",
            lambda found: f"{found[1]}'{base}{found[2]}'",
            rules_yaml,
            flags=re.MULTILINE,
        )
    return rules_yaml


def linked_board(board_json: str, links: Links) -> str:
    """The JSON of a dashboard whose hidden variable `runbooks` is the address of the site's runbooks."""
    if not links.runbook_url:
        return board_json
    base = links.runbook_url.rstrip("/")
    board = json.loads(board_json)
    for variable in board["templating"]["list"]:
        if variable["name"] == "runbooks":
            kept = {key: variable[key] for key in ("name", "label", "hide", "skipUrlSync")}
            variable.clear()
            variable |= {**kept, "type": "constant", "query": base}
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _rules_as(form: Callable[[str], Iterator[tuple[str, str]]]) -> Callable[[Links], Iterator[tuple[str, bytes]]]:
    """The files of a form that is made from the rules alone."""

    def files(links: Links) -> Iterator[tuple[str, bytes]]:
        for name, text in form(linked_rules(asset(RULES).read_text("utf-8"), links)):
            yield name, text.encode()

    return files


def _jsonnet(links: Links) -> Iterator[tuple[str, bytes]]:
    boards = {
        path.name: linked_board(path.read_text("utf-8"), links)
        for path in sorted(asset("grafana/dashboards").glob("*.json"))
    }
    for name, text in forms.jsonnet(linked_rules(asset(RULES).read_text("utf-8"), links), boards):
        yield name, text.encode()


RULES = "deploy/prometheus/qlik-license.rules.yml"
FORMATS: dict[str, Format] = {
    "prometheus": Format(
        "rules, Alertmanager routes, dashboards, runbooks, units and examples, as provided", _prometheus
    ),
    "grafana": Format("alert rules that Grafana manages, and the recordings that they read", _rules_as(forms.grafana)),
    "operator": Format("PrometheusRule, ServiceMonitor and ScrapeConfig", _rules_as(forms.operator)),
    "jsonnet": Format("a monitoring mixin", _jsonnet),
}
"""By the name that `--format` takes."""
