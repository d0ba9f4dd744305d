"""Views as files: TIFF, PNG, NPZ, DNG, their metadata, and previews."""
