"""Median absolute error, in px of dual-pixel disparity, of `dualpix depth` results on labelled captures.

usage: python examples/rig_scores.py LABELS RESULTS...   (LABELS of `dualpix rig label`, RESULTS of `dualpix depth`)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile


def score(labels: Path, results: Path) -> tuple[float, float]:
    """(median absolute error, share within 0.2 px + 10 %) over all labelled pixels."""
    errors, allowed = [], []
    for path in sorted(labels.glob("*_disparity_px.npy")):
        truth = np.load(path)
        found = tifffile.imread(results / path.name.removesuffix("_disparity_px.npy") / "disparity_px.tiff")
        known = np.isfinite(truth)
        errors.append(np.abs(found - truth)[known])
        allowed.append(0.2 + 0.1 * np.abs(truth[known]))
    error = np.concatenate(errors)
    return float(np.median(error)), float(np.mean(error <= np.concatenate(allowed)))


if __name__ == "__main__":
    for folder in sys.argv[2:]:
        median_px, within = score(Path(sys.argv[1]), Path(folder))
        print(f"{folder}: median error {median_px:.3f} px, {100 * within:.0f} % within 0.2 px + 10 %")
