"""Phone artefacts: ExecuTorch and Core ML, verified, measured and reported."""
