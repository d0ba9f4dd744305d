"""Depth networks, their data, training, evaluation and prediction."""
