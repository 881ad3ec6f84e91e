"""Simulator, learners and evaluation: the only room with torch and numba."""
