"""Load figures: read from the engines themselves or from a Prometheus, beside the data path.

A figure that could not be read, makes no sense or is older than the configuration allows is unknown, never 0. Nothing
on the way of a request waits for anything here.
"""
