"""The web server: routes, the status page, and access control."""
