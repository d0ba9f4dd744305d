"""The commands of ``dualpix rig``."""
