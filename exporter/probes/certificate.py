"""Reading the certificates that were served, also those that do not verify. The probes' only user of `cryptography`."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

LONGEST_ISSUER = 64
NAMES_SHOWN = 3


@dataclass(frozen=True)
class ServedChain:
    """What people and alerts want to know of a chain."""

    starts: float
    """When the leaf becomes valid."""
    expiry: float
    """When the leaf ends."""
    chain_expiry: float
    """The earliest end of all that were served (hazard 128: an alarm of its own, not the leaf's)."""
    issuer: str
    """The organisation that issued the leaf; empty where its name has none. At most 64 printable characters."""
    names: str
    """The hosts the leaf is for, the first few."""
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
    """What the chain (DER, the leaf first) says; None where the leaf cannot be read."""
    read = list(map(_read, certificates))
    if not read or (leaf := read[0]) is None:
        return None
    ends = [certificate.not_valid_after_utc.timestamp() for certificate in read if certificate is not None]
    return ServedChain(
        starts=leaf.not_valid_before_utc.timestamp(),
        expiry=ends[0],
        chain_expiry=min(ends),
        issuer=_organisation(leaf),
        names=_names(leaf),
        length=len(read),
    )


def day(instant: float) -> str:
    """The UTC day of `instant`, for sentences."""
    return datetime.datetime.fromtimestamp(instant, datetime.UTC).strftime("%Y-%m-%d")


def printable(text: str, longest: int = LONGEST_ISSUER) -> str:
    """`text` from outside, fit for one line: printable characters only, cropped."""
    return "".join(character for character in text if character.isprintable())[:longest].strip()


def _read(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def _organisation(leaf: x509.Certificate) -> str:
    try:
        found = leaf.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except ValueError:  # a name in an encoding that no standard allows
        return ""
    return printable(str(found[0].value)) if found else ""


def _names(leaf: x509.Certificate) -> str:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(name.value) for name in alternative if isinstance(name, x509.DNSName | x509.IPAddress)]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ""
    more = " and more" if len(names) > NAMES_SHOWN else ""
    return printable(", ".join(names[:NAMES_SHOWN]), 200) + more
