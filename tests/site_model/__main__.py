"""Many histories by hand, and the figures of each kind: `python -m tests.site_model --histories 100`.

With `--rules` the first histories also go through `backfill` and the shipped alert rules, by Debian's promtool.
"""

import argparse
import sys
import time

from tests.site_model.judge import Figures, judged
from tests.site_model.paging import paged
from tests.site_model.world import KINDS, world_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.site_model", description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--histories", type=int, default=10, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="the number of the first history")
    parser.add_argument("--days", type=float, default=12)
    parser.add_argument("--rules", type=int, default=0, help="histories of each kind that go through the alert rules")
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        total, began = Figures(), time.monotonic()
        for number in range(arguments.first, arguments.first + arguments.histories):
            total += judged(world_of(kind, number, arguments.days))
        share = 100 / max(1, total.minutes)
        print(
            f"{kind:9} {total.minutes:9,} min  false {total.false * share:.3f} % (longest {total.longest_false} min)  "
            f"behind {total.behind * share:.3f} %  blips {total.blips}  late to clear {total.late_clear}  "
            f"unclear {total.unclear * share:.1f} %  false pages {total.false_page}  "
            f"unpaged {total.unpaged} of {total.lockouts}  miscounted {total.miscounted}  ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        for number in range(arguments.first, arguments.first + arguments.rules):
            print(f"  rules, history {number}: {paged(world_of(kind, number, arguments.days))}", flush=True)
    return 0


sys.exit(main())
