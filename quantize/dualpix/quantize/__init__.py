"""Quantisation of exported networks and the gate that limits its loss."""
