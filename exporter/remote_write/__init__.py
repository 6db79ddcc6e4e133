"""Push instead of scrapes: Prometheus' remote write 1.0, for nodes on which no port may be opened.

`writer` runs it: `series` makes what a scrape would store, `encoding` a request body, `queue` keeps it on disk until
`receiver` has sent it.
"""
