"""Many captures: what was named, processes and clusters, resuming, and the files of each result."""
