"""Traffic for training and evaluation: generators, recorded traces and the committed suites. Never simulates."""
