"""Parses certificates. The probes' only user of `cryptography`, and loaded only when a server has sent one."""

import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from exporter.printable import printable
from exporter.probes.certificate import LONGEST_ISSUER

LONGEST_NAMES = 200
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Certificate:
    """What is shown of one certificate; `starts` and `ends` in seconds since 1970."""

    der: bytes
    starts: float
    ends: float
    issuer: str
    names: str


def read_certificate(der: bytes) -> Certificate | None:
    """The certificate in `der`; None if it cannot be read."""
    # The library warns about what it will reject in future versions; that does not matter here.
    with warnings.catch_warnings(action="ignore", category=CryptographyDeprecationWarning):
        try:
            certificate = x509.load_der_x509_certificate(der)
            return Certificate(
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
