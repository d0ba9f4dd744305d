"""A capture from the first pre-flight to the camera at rest."""
