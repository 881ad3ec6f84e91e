"""The operator behind an API server that fails in every way, and is killed at every call."""
