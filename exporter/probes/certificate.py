"""Reads the certificates that a server sent, even if they do not verify. The probes' only user of `cryptography`."""

import datetime
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from exporter.printable import printable

LONGEST_ISSUER = 64
LONGEST_NAMES = 200
NAMES_SHOWN = 3


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
    read = [found for found in map(_read, certificates) if found is not None]
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


@dataclass(frozen=True)
class _Certificate:
    der: bytes
    starts: float
    ends: float
    issuer: str
    names: str


def _read(der: bytes) -> _Certificate | None:
    # The library warns about what it will reject in future versions; that does not matter here.
    with warnings.catch_warnings(action="ignore", category=CryptographyDeprecationWarning):
        try:
            certificate = x509.load_der_x509_certificate(der)
            return _Certificate(
                der,
                starts=certificate.not_valid_before_utc.timestamp(),
                ends=certificate.not_valid_after_utc.timestamp(),
                issuer=_organisation(certificate),
                names=_names(certificate),
            )
        except (ValueError, x509.InvalidVersion):  # it is stricter than OpenSSL
            return None


def _organisation(certificate: x509.Certificate) -> str:
    found = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return printable(str(found[0].value), LONGEST_ISSUER) if found else ""


def _names(certificate: x509.Certificate) -> str:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ""
    names = [str(name.value) for name in alternative if isinstance(name, x509.DNSName | x509.IPAddress)]
    more = " and more" if len(names) > NAMES_SHOWN else ""
    return printable(", ".join(names[:NAMES_SHOWN]), LONGEST_NAMES) + more
