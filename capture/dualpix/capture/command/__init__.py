"""What every command line shares: lazy groups, the terminal, options that were given, those of a lens."""
