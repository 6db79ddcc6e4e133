"""Writes the boards' JSON: `python -m grafana.build` after a change to a board; a test fails while they differ."""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.connectivity import connectivity
from grafana.exporter_health import exporter_health
from grafana.fleet import fleet
from grafana.license_health import license_health

FOLDER = Path(__file__).parent / "dashboards"
HIDDEN = 2
"""Grafana's number for a variable that is not shown."""
BOARDS = (license_health, connectivity, exporter_health, fleet)


def boards() -> dict[str, str]:
    """The JSON text of every board, by file name."""
    texts = {}
    for make in BOARDS:
        board: dict[str, Any] = json.loads(json.dumps(make().build(), cls=JSONEncoder))
        for number, panel in enumerate(board["panels"], start=1):
            panel["id"] = number  # the SDK leaves it to Grafana, and then links to a panel would not last
        for variable in board["templating"]["list"]:
            for key in ("auto", "auto_count", "auto_min"):  # of intervals only; the SDK writes them everywhere
                variable.pop(key, None)
            if variable.get("hide") == HIDDEN:
                variable["skipUrlSync"] = True  # nobody's to choose, nor a link's to change
        texts[f"{board['uid']}.json"] = json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return texts


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in boards().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
