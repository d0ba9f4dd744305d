"""Decoders of dual-pixel raw files."""
