"""Reading once: the logs from the beginning, as metrics. Uses no saved state."""

from prometheus_client import CollectorRegistry, generate_latest

from exporter.config import Config
from exporter.examination import examine
from exporter.logs.messages import catalogue_of
from exporter.metrics import LicenseCollector
from exporter.sources import configured_sources


def exposition_once(config: Config, file: str) -> str:
    """The metrics after reading every log from the beginning, with everything counted, and one round of probes.

    Raises ConfigError, naming `file`, if the catalogue of messages cannot be built.
    """
    seen = examine(configured_sources(config), config, catalogue_of(config, file or "defaults"), probing=True)
    registry = CollectorRegistry()
    registry.register(LicenseCollector(lambda: seen))
    return generate_latest(registry).decode()
