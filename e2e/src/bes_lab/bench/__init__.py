"""Benchmarks: what a request, a decision and a simulated decision cost here, and beside something people know.

A benchmark is a module whose ``measure`` returns records, and its line in ``command.BENCHMARKS``.
"""
