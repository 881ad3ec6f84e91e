"""One real engine for tests: an OPT model with random weights behind transformers' own OpenAI server, on the CPU."""
