"""What outcomes amount to: figures per run, intervals, comparisons, reports. Never simulates by itself."""
