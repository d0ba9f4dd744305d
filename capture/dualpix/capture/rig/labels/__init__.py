"""Depth of camera a's own pixels: rectified, matched, judged for visibility, written as a data set."""
