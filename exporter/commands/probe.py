"""`probe [TARGET]`: one probe, shown stage by stage, with the likely cure. Works before anything else is set up."""

import argparse
import asyncio
import json
import os
from collections.abc import Mapping

import msgspec

from exporter.config import BACKEND_PROBE, Config, ProbeConfig, parse, probes_of
from exporter.probes import probe, story_of
from exporter.products import PRODUCTS

_REACHED, _NOT_REACHED, _INCONCLUSIVE = 0, 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "target", nargs="?", metavar="TARGET", help="host:port (default: the license backend, or as configured)"
    )
    parser.add_argument("--protocol", choices=("https", "http", "tls", "tcp"), help="protocol to test (default: https)")
    parser.add_argument("--proxy", metavar="URL", help="auto, none, or http://user:${VARIABLE}@proxy:3128")
    parser.add_argument("--ca-file", metavar="FILE", help="a CA to trust in addition to the system's")
    parser.add_argument("--timeout", metavar="DURATION", help="timeout for all stages together (default: 10s)")
    parser.add_argument(
        "--status", type=int, action="append", metavar="CODE", help="expected HTTP status (default: 404; repeatable)"
    )


def run(arguments: argparse.Namespace, config: Config, environ: Mapping[str, str] = os.environ) -> int:
    """Probe once and print what happened: 0 reached, 1 not, 3 not judged. Raises ConfigError for bad options."""
    settings = _settings(arguments, config, environ)
    redact = arguments.redact
    print(redact(f"{settings.target} by {settings.protocol}, within {settings.timeout}"), flush=True)
    result = asyncio.run(probe(settings, environ=environ, product=PRODUCTS[config.product]))
    print(redact(story_of(result)))
    return {True: _REACHED, False: _NOT_REACHED, None: _INCONCLUSIVE}[result.success]


def _settings(arguments: argparse.Namespace, config: Config, environ: Mapping[str, str]) -> ProbeConfig:
    """The configured probe of that target, or a new one, with the options applied. Raises ConfigError."""
    configured = {probe.target: probe for probe in probes_of(config, environ)}
    if arguments.target is None:
        backends = [probe for probe in configured.values() if probe.role == "backend"]
        known = next(iter(backends or configured.values()), BACKEND_PROBE)
    else:
        known = configured.get(arguments.target, ProbeConfig(target=arguments.target))
    options = {
        "protocol": arguments.protocol,
        "proxy": arguments.proxy,
        "ca_file": arguments.ca_file,
        "timeout": arguments.timeout,
        "expected_statuses": arguments.status,
    }
    written = {key: value for key, value in options.items() if value is not None}
    # Checked by the same rules as a configuration file: JSON is valid YAML.
    checked = parse(json.dumps({"probes": [{"target": known.target, **written}]}), "command line", environ)
    (laid_over,) = checked.probes or ()
    return msgspec.structs.replace(known, **{key: getattr(laid_over, key) for key in written})
