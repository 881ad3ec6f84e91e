"""Observation, rules, placement, network and artifact: everything that decides, and nothing that does I/O."""
