"""What stands behind simulated and test cameras: a lens, a scene and a shutter that nobody is told of, and faults."""
