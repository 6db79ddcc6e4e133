"""The Grafana dashboards of qlik-license-exporter, as code; `python -m grafana.build` writes the JSON beside it."""
