"""The data path: decides per request which model answers, relays the answer, and counts what it was worth."""
