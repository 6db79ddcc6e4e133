"""`healthy [ADDRESS]`: whether an exporter answers there, with TLS or without; for containers and installers."""

import argparse
import http.client
import ssl
import sys

from exporter.config import Config, is_address

ANSWERS, SILENT, UNUSABLE = 0, 1, 2
DEFAULT = "127.0.0.1:10188"
SECONDS = 2.0
"""How long each of the two tries waits; both fit into the 5 s that health checks are usually given."""


class _RefusedAfterHandshakeError(Exception):
    """Closed after the handshake: so late does TLS 1.3 tell that a client certificate is missing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "address", nargs="?", default=DEFAULT, metavar="ADDRESS", help=f"host:port (default: {DEFAULT})"
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Ask `/-/healthy` and say what was answered: 0; 1 where nobody answers well; 2 for an unusable address.

    Neither certificate nor login is given or checked: that the exporter asks for one shows that it lives.
    """
    if not is_address(arguments.address):
        print(f"healthy: found `{arguments.address}`, expected host:port or [IPv6]:port", file=sys.stderr)
        return UNUSABLE
    host, _, port = arguments.address.rpartition(":")
    problem: Exception | str = "nobody answers"
    for secure in (False, True):
        try:
            status = _status(host.strip("[]") or "127.0.0.1", int(port), secure)
        except _RefusedAfterHandshakeError:
            print("healthy: it uses TLS and requires a client certificate")
            return ANSWERS
        except (OSError, http.client.HTTPException) as error:
            problem = error if not secure else problem
            continue
        if status in (200, 401):
            print(f"healthy: status {status}{', with TLS' if secure else ''}")
            return ANSWERS
        problem = f"status {status}"
    print(f"not healthy: {arguments.address}: {problem}")  # where health checks look: it is an answer, no error
    return SILENT


def _status(host: str, port: int, secure: bool) -> int:
    """The status of `/-/healthy`. OSError or HTTPException where there is none."""
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent but the question
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.connect()
        try:
            connection.request("GET", "/-/healthy")
            return connection.getresponse().status
        except (ssl.SSLError, ConnectionError) as error:  # http.client's "closed without response" is one, too
            if secure:
                raise _RefusedAfterHandshakeError from error
            raise
    finally:
        connection.close()
