"""Pieces of HTML from plain texts, each of which is escaped. Pure."""

import html
import re
from collections.abc import Iterable, Sequence

from exporter.printable import printable

_TYPED = re.compile("`([^`]*)`")


def escape(text: str) -> str:
    """`text` as HTML, without control characters."""
    return html.escape(printable(text))


def item_list(kind: str, items: Iterable[str]) -> str:
    """A list of sentences; `kind`: its element, `ol` or `ul`."""
    return f"<{kind}>{''.join(f'<li>{prose(item)}</li>' for item in items)}</{kind}>"


def prose(text: str) -> str:
    """A sentence in which `backticks` mark code."""
    return _TYPED.sub(r"<code>\1</code>", escape(text))


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A list of names and values."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in rows)}</dl>"


def table_of(caption: str, heads: Sequence[str], body: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of plain texts, which scrolls by itself where the page is too narrow."""
    right = set(numbers)

    def kind(place: int) -> str:
        return ' class="number"' if place in right else ""

    # The roles keep the table a table where a narrow window shows its rows as blocks.
    head = "".join(
        f'<th role="columnheader" scope="col"{kind(place)}>{escape(text)}</th>' for place, text in enumerate(heads)
    )
    rows = "".join(
        '<tr role="row">'
        + "".join(
            f'<td role="cell" data-head="{escape(heads[place])}"{kind(place)}>{escape(text)}</td>'
            for place, text in enumerate(row)
        )
        + "</tr>"
        for row in body
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table role="table">'
        f'<caption>{escape(caption)}</caption><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table></div>'
    )
