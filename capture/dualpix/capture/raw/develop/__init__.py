"""From samples to views: planes, levels, naming, shading, layout, noise, rotation."""
