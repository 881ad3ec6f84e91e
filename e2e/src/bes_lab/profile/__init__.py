"""`bes profile URL`: measure any OpenAI-compatible engine, fit the latency formula's constants, predict with them."""
