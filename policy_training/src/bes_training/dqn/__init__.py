"""The paper's learner: double DQN over models, on many compiled simulations side by side."""
