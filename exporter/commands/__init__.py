"""The one-shot commands: one file each, on the same core as the running exporter."""
