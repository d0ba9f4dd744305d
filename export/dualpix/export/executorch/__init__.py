"""ExecuTorch backends: one flow each, from the float network to a ``.pte`` that has run."""
