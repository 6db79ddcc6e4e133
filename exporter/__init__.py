"""qlik-license-exporter: turns Qlik Sense's license evidence (logs, probes, Repository API) into Prometheus metrics."""

__version__ = "0.1.0"
