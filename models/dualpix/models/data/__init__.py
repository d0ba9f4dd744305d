"""Data sets behind one sample type."""
