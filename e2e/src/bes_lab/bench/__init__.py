"""Benchmarks: what a request, a decision and a simulated decision cost here, and beside something people know."""
