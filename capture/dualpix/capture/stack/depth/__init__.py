"""Depth from focus: peaks, the model of blur, tone, and its files."""
