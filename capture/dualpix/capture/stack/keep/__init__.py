"""The record of a stack and its frames: read, decoded, imported, exported."""
