"""A whole service on this machine: one process per emulated GPU and the router, started and ended together."""
