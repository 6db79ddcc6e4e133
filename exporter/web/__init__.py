"""The HTTP side: routes, the status page, and who may ask what."""
