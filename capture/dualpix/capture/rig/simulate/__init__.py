"""Rigs of simulated cameras, with their truth."""
