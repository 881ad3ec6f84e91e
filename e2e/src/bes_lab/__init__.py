"""Everything that runs the whole without a GPU: emulated GPUs, trace replay, local run, demo and their records."""
