"""The timeline of the status page: syncs and backend probes of the last hours as a drawing. Pure."""

from exporter.status import Timeline
from exporter.web.markup import escape
from exporter.wording import instant, span

_MARKS = {
    "succeeded": "sync succeeded",
    "attempted": "sync attempted",
    "failed": "sync failed",
    "stale": "license stale",
}
_SLOT, _ROW = 20, 40
"""Width and height of one slot in the drawing's own units."""


def timeline_section(timeline: Timeline, now: float) -> str:
    """The section of the page, with the same figures in words."""
    syncs = [slot.sync for slot in timeline.slots]
    good, bad = sum(slot.probes_good for slot in timeline.slots), sum(slot.probes_bad for slot in timeline.slots)
    summary = (
        f"Intervals with a successful sync: {syncs.count('succeeded')}; with a failed one: {syncs.count('failed')}; "
        f"with a stale license: {syncs.count('stale')}. Successful backend probes: {good} of {good + bad}."
    )
    width = _SLOT * len(timeline.slots)
    sync_marks, probe_marks = [], []
    for place, slot in enumerate(timeline.slots):
        x = place * _SLOT + 2
        title = f"<title>{instant(slot.since)}: {_MARKS.get(slot.sync, '')}</title>"
        if slot.sync in ("failed", "stale"):
            sync_marks.append(f'<g>{title}<rect class="bad" x="{x}" y="2" width="16" height="36"/></g>')
            if slot.sync == "failed":  # a gap distinguishes it from stale without colour
                sync_marks.append(f'<rect class="gap" x="{x}" y="17" width="16" height="6"/>')
        elif slot.sync == "succeeded":
            sync_marks.append(f'<g>{title}<rect class="good" x="{x}" y="24" width="16" height="14"/></g>')
        elif slot.sync == "attempted":
            sync_marks.append(f'<g>{title}<rect class="open" x="{x}" y="26" width="15" height="11"/></g>')
        if slot.probes_good or slot.probes_bad:
            title = f"<title>{instant(slot.since)}: {slot.probes_good} successful, {slot.probes_bad} failed</title>"
            share = slot.probes_bad / (slot.probes_good + slot.probes_bad)
            if slot.probes_good:
                probe_marks.append(f'<g>{title}<rect class="good" x="{x}" y="24" width="16" height="14"/></g>')
            if slot.probes_bad:
                tall = round(14 + 22 * share)
                probe_marks.append(f'<g>{title}<rect class="bad" x="{x}" y="2" width="16" height="{tall}"/></g>')
    rows = "".join(
        f"<h3>{name}</h3>"
        f'<svg viewBox="0 0 {width} {_ROW}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f"{''.join(marks)}</svg>"
        for name, label, marks in (
            ("Sync", f"Syncs over time. {summary}", sync_marks),
            ("Backend probes", f"Probes over time. {summary}", probe_marks),
        )
    )
    return (
        '<section class="wide" aria-labelledby="timeline"><h2 id="timeline">'
        f"The last {span(timeline.until - timeline.since)}</h2>{rows}"
        f'<p class="axis"><span>{instant(timeline.since)}</span><span>now</span></p>'
        f'<p class="soft">{summary} Low: successful. Outlined: attempted, result unknown. High with a gap: failed. '
        "High and full: stale. Hanging from the top: failed probes.</p></section>"
    )
