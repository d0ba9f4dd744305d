"""What stands behind every simulated and test camera: a lens, a scene and a shutter that nobody is told of."""
