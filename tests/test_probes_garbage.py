"""Whatever a peer sends, a probe ends with one reason of the closed set, and nothing is raised."""

import itertools
import random
import socket

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_peers import AUTHORITY, CERTIFICATE, CERTIFICATE_ENDS, NOT_FOUND, closing, listening, probed, to

from exporter.config import Duration
from exporter.printable import printable
from exporter.probes import REASONS
from exporter.probes.certificate import served_chain
from exporter.probes.stream import _served

SEED = 20261125
ROUNDS = 40


def der(certificate: trustme.LeafCert | trustme.CA) -> bytes:
    pem = certificate.cert_chain_pems[0] if isinstance(certificate, trustme.LeafCert) else certificate.cert_pem
    return load_pem_x509_certificate(pem.bytes()).public_bytes(Encoding.DER)


LEAF, ROOT = der(CERTIFICATE), der(AUTHORITY)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few bytes changed, doubled or left out."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        changed[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
    return bytes(changed)


@pytest.mark.parametrize("way", ["http", "https", "proxy"])
def test_damaged_answers_end_in_a_reason_or_in_success(way: str) -> None:
    chance = random.Random(SEED)
    hello = bytes.fromhex("160303004a020000460303") + bytes(70)
    whole = {"http": NOT_FOUND, "https": hello, "proxy": b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"}[way]
    answers = iter([damaged(whole, chance) for _ in range(ROUNDS)])

    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(next(answers))
        closing(connection)

    with listening(handle) as port:
        url = f"http://127.0.0.1:{port}" if way == "proxy" else "none"
        for _ in range(ROUNDS):
            result = probed(to(port, protocol="http" if way == "http" else "https", proxy=url, timeout=Duration(5)))
            assert result.success or result.reason in REASONS
            assert result.reason not in ("http_timeout", "tls_timeout", "other"), result.story


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_a_certificate_message_of_any_bytes_can_be_taken_apart(message: bytes, newer: bool) -> None:
    assert all(piece in message for piece in _served(message, newer))


def test_a_certificate_message_gives_the_chain_in_both_forms() -> None:
    def sized(data: bytes) -> bytes:
        return len(data).to_bytes(3, "big") + data

    older = b"\x0b\0\0\0" + sized(sized(LEAF) + sized(ROOT))
    newer = b"\x0b\0\0\0" + b"\x02ab" + sized(sized(LEAF) + b"\0\x03xyz" + sized(ROOT) + b"\0\0")
    assert _served(older, newer=False) == _served(newer, newer=True) == (LEAF, ROOT)


def test_a_chain_that_cannot_be_read_tells_nothing_and_a_partly_read_one_what_it_can() -> None:
    assert served_chain([]) is None
    assert served_chain([b""]) is None
    assert served_chain([b"garbage", ROOT]) is None
    partly = served_chain([LEAF, b"garbage", ROOT])
    assert partly is not None
    assert partly.length == 3
    assert partly.expiry == CERTIFICATE_ENDS
    assert partly.names == "localhost, 127.0.0.1, ::1"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LEAF) - 1), st.integers(0, 255))
def test_a_damaged_certificate_never_raises(place: int, value: int) -> None:
    chain = served_chain([LEAF[:place] + bytes([value]) + LEAF[place + 1 :]])
    assert chain is None or len(chain.issuer) <= 64


@settings(deadline=None)
@given(st.text())
def test_text_from_outside_becomes_one_short_printable_line(text: str) -> None:
    shown = printable(text, 64)
    assert shown.isprintable()
    assert len(shown) <= 64
    assert not any(one in shown for one in itertools.chain("\r\n\t\0"))
