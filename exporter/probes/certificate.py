"""The certificates that a server sent, even if they do not verify."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_ISSUER = 64


@dataclass(frozen=True)
class ServedChain:
    """The facts about a chain that are shown and exposed."""

    starts: float
    """When the leaf becomes valid."""
    expiry: float
    """When the leaf expires."""
    chain_expiry: float
    """The earliest expiry in the chain that was sent (hazard 128: separate from that of the leaf)."""
    issuer: str
    """The organisation that issued the leaf, at most 64 printable characters; empty if there is none."""
    names: str
    """The first few hosts that the leaf is for."""
    length: int

    @property
    def sentence(self) -> str:
        """The chain in words."""
        by = f"issued by {self.issuer}" if self.issuer else "issued by a CA without an organisation"
        chain = f"{self.length} served" + (
            f", the earliest ends {day(self.chain_expiry)}" if self.chain_expiry < self.expiry else ""
        )
        return f"certificate for {self.names or 'no host'}, {by}, valid until {day(self.expiry)}, {chain}"


def served_chain(certificates: Sequence[bytes]) -> ServedChain | None:
    """The facts about a chain (DER, the leaf first); None if the leaf cannot be read. Never raises."""
    # `cryptography` takes 8 MiB and time to load: only where a server has sent a certificate.
    from exporter.probes.der import read_certificate

    read = [found for found in map(read_certificate, certificates) if found is not None]
    if not certificates or not read or read[0].der != certificates[0]:
        return None
    return ServedChain(
        starts=read[0].starts,
        expiry=read[0].ends,
        chain_expiry=min(each.ends for each in read),
        issuer=read[0].issuer,
        names=read[0].names,
        length=len(certificates),
    )


def day(instant: float) -> str:
    """The UTC day of `instant`, for sentences."""
    return datetime.datetime.fromtimestamp(instant, datetime.UTC).strftime("%Y-%m-%d")
