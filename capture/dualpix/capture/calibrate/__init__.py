"""What a camera does to its two halves, measured once and kept as a small JSON profile: ``dualpix calibrate``."""
