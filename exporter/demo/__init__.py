"""The demo: a license incident on a made-up site, with the real exporter and, where installed, the real alerting."""
