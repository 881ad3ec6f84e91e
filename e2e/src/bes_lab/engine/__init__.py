"""An emulated GPU: every engine replica placed on it, vLLM's API over real sockets, iterations in virtual time."""
