"""From pictures of a board to a calibrated rig, and to the skew of its cameras."""
