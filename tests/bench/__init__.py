"""`make bench`: how fast logs are read, as a ratio against Debian's mtail in the same run."""
