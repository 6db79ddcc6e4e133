"""Names and addresses: lookups that fail, hang or answer badly; both IP families; addresses that are dead."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from probe_peers import NOT_FOUND, PATIENCE, answering, black_hole, closed_port, listening, probed, silent, to

from exporter.config import Duration, ProbeConfig
from exporter.probes import Address, Resolver, probe
from exporter.probes.stream import connected_socket
from exporter.threads import MOST_ALIKE, under_way

UNREACHABLE = "224.0.0.1"
"""Linux refuses TCP to a multicast address with ENETUNREACH; nothing is sent."""
BROKEN_IPV6 = "ff02::1"
"""The same for IPv6."""


def address(host: str, port: int) -> Address:
    if ":" in host:
        return Address(socket.AF_INET6, (host, port, 0, 0))
    return Address(socket.AF_INET, (host, port))


def finding(*addresses: Address) -> Callable[[str, int, int], list[Address]]:
    """A resolver that knows one name, as getaddrinfo would answer for the wanted family."""

    def resolve(host: str, port: int, family: int) -> list[Address]:
        found = [each for each in addresses if family in (socket.AF_UNSPEC, each.family)]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    return resolve


# --- lookups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "the name does not exist"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "no name server"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), "Non-recoverable"),
        (UnicodeError("label empty or too long"), "host name"),
        (TimeoutError(), "could not be resolved"),
    ],
)
def test_hazard_126_a_name_that_cannot_be_looked_up_is_dns(error: Exception, words: str) -> None:
    def failing(host: str, port: int, family: int) -> list[Address]:
        raise error

    result = probed(to(443, target="license.example:443"), resolver=failing)
    assert result.reason == "dns"
    assert words in result.detail
    assert "license.example" in result.detail
    assert set(result.phases) == {"dns"}


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "bad host", "nul\0name", "ü" * 70])
def test_a_name_that_is_none_is_dns(name: str) -> None:
    assert probed(to(443, target=f"{name}:443")).reason == "dns"


def test_a_name_without_addresses_is_dns() -> None:
    assert probed(to(443), resolver=lambda host, port, family: []).reason == "dns"
    only_ipv4 = finding(address("127.0.0.1", 443))
    assert probed(to(443, ip_protocol="6"), resolver=only_ipv4).reason == "dns"


@contextlib.contextmanager
def hanging() -> Iterator[Callable[[str, int, int], list[Address]]]:
    """A resolver that does not come back before the test is over."""
    over = threading.Event()

    def resolve(host: str, port: int, family: int) -> list[Address]:
        over.wait(PATIENCE)
        return []

    try:
        yield resolve
    finally:
        over.set()


def test_hazard_125_a_lookup_that_hangs_is_dns_within_the_deadline() -> None:
    with hanging() as resolve:
        started = time.monotonic()
        result = probed(to(443), resolver=resolve, timeout=0.3)
    assert result.reason == "dns"
    assert set(result.phases) == {"dns"}
    assert time.monotonic() - started < 3


async def all_probed(probes: Iterable[ProbeConfig], resolver: Resolver) -> set[str | None]:
    """The reasons of these probes, run together."""
    return {result.reason for result in await asyncio.gather(*(probe(p, resolver=resolver, timeout=1) for p in probes))}


@pytest.mark.slow
def test_hazard_121_names_whose_lookups_hang_hinder_no_other_name() -> None:
    with hanging() as resolve, listening(answering(NOT_FOUND)) as port:
        dead = [to(443, target=f"dead{number}.example:443") for number in range(150)]
        assert asyncio.run(all_probed(dead, resolve)) == {"dns"}
        assert probed(to(port, protocol="http"), timeout=2.0).success


@pytest.mark.slow
def test_hazard_121_lookups_of_one_name_that_hang_are_limited_and_their_room_comes_back() -> None:
    started: list[str] = []
    with hanging() as resolve:

        def noted(host: str, port: int, family: int) -> list[Address]:
            started.append(host)
            return resolve(host, port, family)

        spelled = [to(443, target=f"{name}:{port}") for name in ("dead.example", "DEAD.example") for port in range(9)]
        assert asyncio.run(all_probed(spelled, noted)) == {"dns"}
        assert len(started) == under_way(("name", "dead.example")) == MOST_ALIKE
    deadline = time.monotonic() + PATIENCE
    while under_way(("name", "dead.example")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert under_way(("name", "dead.example")) == 0
    again = probed(to(443, target="dead.example:443"), resolver=finding(address("127.0.0.1", closed_port())))
    assert again.reason == "tcp_refused"


@pytest.mark.slow
def test_hazard_121_a_ca_file_that_hangs_hinders_no_other_probe(tmp_path: Path) -> None:
    """A FIFO that nobody writes stands for a file on a share that is gone."""
    hangs = tmp_path / "ca.pem"
    os.mkfifo(hangs)
    stuck = [to(443, str(hangs)) for _ in range(2 * MOST_ALIKE)]
    with listening(answering(NOT_FOUND)) as port:
        assert asyncio.run(all_probed(stuck, finding())) == {"other"}
        assert probed(to(port, protocol="http"), timeout=2.0).success
    os.close(os.open(hangs, os.O_WRONLY | os.O_NONBLOCK))  # frees those that wait


@pytest.mark.slow
def test_hazard_121_a_hanging_lookup_does_not_keep_the_process_from_ending() -> None:
    program = """
        import asyncio, time
        from exporter.config import ProbeConfig
        from exporter.probes import probe
        settings = ProbeConfig(target="license.example:443", proxy="none")
        print(asyncio.run(probe(settings, timeout=1, resolver=lambda *place: time.sleep(60))).reason)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout.strip() == "dns"


NAME_SERVER = """
    import asyncio, fcntl, json, socket, struct, subprocess, sys, tempfile, threading
    from exporter.config import ProbeConfig
    from exporter.probes import probe

    control = socket.socket()
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: loopback up
    with tempfile.NamedTemporaryFile("w") as conf:
        conf.write("nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n")
        conf.flush()
        subprocess.run(["mount", "--bind", conf.name, "/etc/resolv.conf"], check=True)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))

        def serve():
            while True:
                query, client = server.recvfrom(512)
                end = query.index(b"\\0", 12)
                name = query[13 : 13 + query[12]].decode()
                kind = struct.unpack_from(">H", query, end + 1)[0]
                code = {"nxdomain": 3, "servfail": 2, "refused": 5}.get(name, 0)
                if name == "silent":
                    continue
                answer = b""
                if name == "good" and kind == 1:
                    answer = b"\\xc0\\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 127, 0, 0, 1)
                head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 1 if answer else 0, 0, 0)
                server.sendto(head + query[12 : end + 5] + answer, client)

        threading.Thread(target=serve, daemon=True).start()
        found = {}
        for name in ("nxdomain", "servfail", "refused", "empty", "silent", "good"):
            settings = ProbeConfig(target=f"{name}.example.:1", proxy="none", protocol="tcp")
            result = asyncio.run(probe(settings, timeout=0.5 if name == "silent" else 20))
            found[name] = [result.reason, sorted(result.phases), result.detail]
        print(json.dumps(found))
"""


@pytest.mark.slow
def test_what_a_real_name_server_answers_is_told() -> None:
    assert shutil.which("unshare"), "install unshare (Debian package `util-linux`)"
    # In namespaces of its own: a loopback with nothing else on it, and another resolv.conf.
    ran = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "--net", sys.executable, "-c", textwrap.dedent(NAME_SERVER)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for name in ("nxdomain", "servfail", "refused", "empty", "silent"):
        reason, phases, detail = found[name]
        assert (reason, phases) == ("dns", ["dns"]), detail
    assert "the name does not exist" in found["nxdomain"][2]
    assert "no name server" in found["servfail"][2]
    assert "in time" in found["silent"][2]
    assert found["good"][:2] == ["tcp_refused", ["connect", "dns"]]


# --- families and dead addresses --------------------------------------------------------------------------------------


def test_ipv4_comes_first_and_the_family_used_is_told() -> None:
    with listening(answering(NOT_FOUND)) as four, listening(answering(NOT_FOUND), "::1") as six:
        both = finding(address("::1", six), address("127.0.0.1", four))
        for wanted, used in (("", 4), ("4", 4), ("6", 6)):
            result = probed(to(0, target="x:1", protocol="http", ip_protocol=wanted), resolver=both)
            assert (result.success, result.ip_protocol) == (True, used)


def test_a_host_with_ipv6_only_is_reached() -> None:
    with listening(answering(NOT_FOUND), "::1") as six:
        result = probed(to(0, target=f"[::1]:{six}", protocol="http", ip_protocol=""))
    assert (result.success, result.ip_protocol) == (True, 6)


def test_hazard_124_broken_ipv6_does_not_fail_a_reachable_host() -> None:
    with listening(answering(NOT_FOUND)) as port:
        found = finding(address(BROKEN_IPV6, port), address("127.0.0.1", port))
        result = probed(to(0, target="x:1", protocol="http", ip_protocol=""), resolver=found)
    assert (result.success, result.ip_protocol) == (True, 4)
    assert result.phases["connect"] < 1


def test_broken_ipv4_does_not_fail_a_host_reachable_by_ipv6() -> None:
    with black_hole() as hole, listening(answering(NOT_FOUND), "::1") as six:
        found = finding(address("127.0.0.1", hole), address("::1", six))
        result = probed(to(0, target="x:1", protocol="http", ip_protocol=""), resolver=found)
    assert (result.success, result.ip_protocol) == (True, 6)


def test_black_holed_addresses_do_not_fail_a_host_that_another_address_reaches() -> None:
    with black_hole() as hole, listening(answering(NOT_FOUND)) as port:
        dead = [Address(socket.AF_INET, ("127.0.0.1", hole)), address(UNREACHABLE, 1), address("127.0.0.1", 1)]
        one = probed(to(0, target="x:1", protocol="http"), resolver=finding(*dead, address("127.0.0.1", port)))
        # Even where the deadline is short and the dead are many, every address has its turn.
        holes = [Address(socket.AF_INET, (f"127.0.0.{last}", hole)) for last in range(2, 2)] or dead[:1]
        many = probed(
            to(0, target="x:1", protocol="http", timeout=Duration(2)),
            resolver=finding(*holes, *dead, address("127.0.0.1", port)),
        )
    assert one.success, one.story
    assert many.success, many.story


@pytest.mark.slow
def test_the_reason_is_the_first_that_says_more_than_no_way_there() -> None:
    refused = closed_port()
    with black_hole() as hole:
        for found, reason in (
            ([address(UNREACHABLE, 1), address("127.0.0.1", refused)], "tcp_refused"),
            ([address("127.0.0.1", refused), address(BROKEN_IPV6, 1)], "tcp_refused"),
            ([address("127.0.0.1", refused), address("127.0.0.1", hole)], "tcp_refused"),
            ([address("127.0.0.1", hole), address("127.0.0.1", refused)], "tcp_timeout"),
            ([address(UNREACHABLE, 1), address(BROKEN_IPV6, 1)], "tcp_unreachable"),
            ([address("127.0.0.1", hole), address(BROKEN_IPV6, 1)], "tcp_timeout"),
        ):
            result = probed(
                to(0, target="x:1", ip_protocol="", timeout=Duration(0.5)),
                resolver=finding(*found),
            )
            assert result.reason == reason, result.story
            assert result.ip_protocol is None


def test_of_connections_that_open_at_the_same_time_only_one_stays() -> None:
    with contextlib.ExitStack() as listeners:
        places = [address("127.0.0.1", listeners.enter_context(listening(silent))) for _ in range(8)]
        before = len(os.listdir("/proc/self/fd"))

        async def connect() -> None:
            found = await connected_socket(places, 0, {})
            assert found is not None
            found[0].close()

        asyncio.run(connect())
        deadline = time.monotonic() + PATIENCE
        while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:  # the peers close theirs, too
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before
