"""The simulator: engines and GPUs (plain functions that the emulated GPUs run too), compiled into whole runs."""
