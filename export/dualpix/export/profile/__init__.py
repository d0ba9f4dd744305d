"""What an exported network costs: time, memory, and each operator's part, on this host, a phone or a Mac."""
