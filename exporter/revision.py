"""The revision that this program was built from, which the build writes next to this module (`hatch_build.py`)."""

from pathlib import Path

UNKNOWN = "unknown"


def _revision() -> str:
    try:
        return Path(__file__).with_name("revision.txt").read_text("ascii").strip() or UNKNOWN
    except (OSError, ValueError):  # an unbuilt checkout
        return UNKNOWN


REVISION = _revision()
"""The commit, followed by `-dirty` if files had been changed; `unknown` in a checkout."""
