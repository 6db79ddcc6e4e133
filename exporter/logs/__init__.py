"""Qlik's log files: how they are opened and named, how their bytes become lines, and what a line says."""
