"""The commands, one module each, on the same core as the running exporter."""
