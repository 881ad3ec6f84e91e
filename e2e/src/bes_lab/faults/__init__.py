"""Faults on purpose: what is broken, what clients saw of it, and whether everything is as before afterwards."""
