"""The runbooks as web pages: `/runbooks/` lists them, `/runbooks/NAME` is an alert's. Reads package data only.

They contain nothing about this node or site, so everyone who may see the status page may read them. Raw HTML in a page
is shown as text.
"""

import html
import re
from functools import cache
from importlib.resources import files

from exporter.assets import asset

RUNBOOKS = "/runbooks/"
"""The path of the list, and the prefix of each page's path."""

STYLE = files("exporter.web").joinpath("runbooks.css").read_text("utf-8")
"""The whole of the pages' `<style>`; they have no script."""

_LINK_TO_PAGE = re.compile(r'href="(\w+)\.md"')
_INTRODUCTION = "README"


@cache
def pages() -> dict[str, str]:
    """The HTML of every page by its path. Reads the files once; without them the list is empty."""
    from markdown_it import MarkdownIt  # 1 MiB, which most exporters never need

    markdown = MarkdownIt("commonmark", {"html": False})
    folder = asset("deploy/runbooks")
    texts = {file.stem: file.read_text("utf-8") for file in sorted(folder.glob("*.md"))}
    introduction = texts.pop(_INTRODUCTION, "# Runbooks\n")
    found = {RUNBOOKS + name: _document(name, markdown.render(text)) for name, text in texts.items()}
    links = "".join(f'<li><a href="{name}">{name}</a></li>' for name in texts)
    found[RUNBOOKS] = _document("Runbooks", f"{markdown.render(introduction)}<ul>{links}</ul>")
    return found


def _document(title: str, body: str) -> str:
    body = _LINK_TO_PAGE.sub(r'href="\1"', body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><nav><a href="../">Status</a> · <a href="./">All runbooks</a></nav>\n'
        f"<main>{body}</main></body></html>\n"
    )
