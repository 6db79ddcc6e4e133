"""Qlik's log files: opening them harmlessly, tailing them exactly, framing their records, knowing their messages."""
