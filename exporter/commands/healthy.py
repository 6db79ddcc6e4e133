"""`healthy [ADDRESS]`: whether an exporter answers there, with TLS or without; for containers and installers."""

import argparse
import http.client
import ssl
import sys

from exporter.config import Config, is_address

ANSWERS, SILENT, UNUSABLE = 0, 1, 2
DEFAULT = "127.0.0.1:10188"
SECONDS = 2.0
"""Seconds for each of the two attempts; together they fit into the usual 5 s of a health check."""


class _RefusedAfterHandshakeError(Exception):
    """Closed after the handshake: only then does TLS 1.3 report that a client certificate is missing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "address", nargs="?", default=DEFAULT, metavar="ADDRESS", help=f"host:port (default: {DEFAULT})"
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Request `/-/healthy` and print the result: 0; 1 without a good answer; 2 for an invalid address.

    No certificate or login is sent or verified: that the exporter requires one shows that it is running.
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
    print(
        f"not healthy: {arguments.address}: {problem}"
    )  # standard output, where health checks look: this is a result, not an error
    return SILENT


def _status(host: str, port: int, secure: bool) -> int:
    """The status of `/-/healthy`. Raises OSError or HTTPException without one."""
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only the request is sent
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
