"""Captures of a rig of two cameras, with the depth that both see."""
