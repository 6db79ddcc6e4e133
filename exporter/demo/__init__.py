"""The demo: a license incident on a simulated site, with the real exporter and, where installed, the real alerting."""
