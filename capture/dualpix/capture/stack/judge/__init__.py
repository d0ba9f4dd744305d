"""Whether a stack is what its record says; breathing and motion measured and undone."""
