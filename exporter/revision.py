"""Of which revision this program was built: what the build wrote beside this module (`hatch_build.py`)."""

from pathlib import Path

UNKNOWN = "unknown"


def _revision() -> str:
    try:
        return Path(__file__).with_name("revision.txt").read_text("ascii").strip() or UNKNOWN
    except (OSError, ValueError):  # a checkout that is run where it is
        return UNKNOWN


REVISION = _revision()
"""The commit, with `-dirty` behind it where files had been changed; `unknown` in a checkout."""
