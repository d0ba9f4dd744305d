"""Depth of focus stacks: by what is sharp where, by networks, and what is to be said of it."""
