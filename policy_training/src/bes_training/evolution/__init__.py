"""Direct policy search: tunes every rule and finds the shared scorer, all on the same traces, by CMA-ES."""
