"""One training from scenario to artifact: opponents tuned, scorers evolved, the DQN beside them, the best kept."""
