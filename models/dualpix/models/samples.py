"""Samples and batches: tensors by name, and the names that losses and tasks both know."""

from __future__ import annotations

from torch import Tensor

Sample = dict[str, Tensor]
"""Without a batch axis."""
Batch = dict[str, Tensor]
"""With one in front."""

KNOWN = "known"
"""The mask of a sample: 1 where the truth is known, 0 at its holes."""
DISPARITY = "disparity_px"
"""The truth of a pair."""
SHARP = "sharp"
"""The picture in focus everywhere."""
DISPARITY_GAIN = "disparity_gain"
"""Of the camera: disparity over CoC diameter."""
