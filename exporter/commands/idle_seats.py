"""The list of `diagnose --show-people`: who holds a seat that was not used for long, or seats of both kinds."""

import asyncio
import time
from datetime import UTC, datetime

from exporter.config import QrsConfig
from exporter.printable import printable
from exporter.qrs import LicenseOverview, QrsError
from exporter.qrs.people import Holder
from exporter.wording import count

IDLE_DAYS = 30
LONGEST_USER = 200
"""Characters of a name that are shown."""


def print_idle_seats(settings: QrsConfig, overview: LicenseOverview) -> None:
    """Print the list, each seat as it arrives. What cannot be read is said, never left out."""
    professionals: set[int] = set()  # hashes, so that 50,000 users take a few megabytes
    for name, seats in overview.access.items():
        beside = name == "analyzer" and bool(professionals)
        print(f"\n{name} seats not used for {IDLE_DAYS} days{', or held beside a professional one' if beside else ''}:")
        listing = _Listing(professionals, learning=name == "professional")
        try:
            # Here, since its HTTP client takes longer to load than all the rest.
            from exporter.qrs.client import read_holders

            number = asyncio.run(read_holders(settings, name, listing.add))
        except QrsError as error:
            print(f"  The list could not be read: {printable(str(error))}")
            continue
        print(f"  {listing.listed:,} of {count(number, 'seat')} listed.")
        if seats.allocated is not None and number < seats.allocated:
            print(
                f"  The list is not complete: {seats.allocated:,.0f} are allocated. "
                "qrs.user has no right to read the others."
            )


class _Listing:
    """Prints the seats that are worth a look."""

    def __init__(self, professionals: set[int], *, learning: bool) -> None:
        self._professionals, self._learning = professionals, learning
        self._idle_before = time.time() - IDLE_DAYS * 86400
        self.listed = 0

    def add(self, holder: Holder) -> None:
        both = False
        if holder.user:
            key = hash(holder.user.casefold())
            both = not self._learning and key in self._professionals
            if self._learning:
                self._professionals.add(key)
        idle = holder.last_used is None or holder.last_used < self._idle_before
        if not idle and not both:
            return
        self.listed += 1
        used = "never used" if holder.last_used is None else f"{datetime.fromtimestamp(holder.last_used, UTC):%Y-%m-%d}"
        who = printable(holder.user, LONGEST_USER) or "a user who is not named"
        name = f" ({printable(holder.name, LONGEST_USER)})" if holder.name else ""
        print(f"  {used:<10}  {who}{name}{', also holds a professional seat' if both else ''}")
