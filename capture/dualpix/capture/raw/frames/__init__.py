"""Sensor frames within raw files: which there are, their levels, their samples."""
