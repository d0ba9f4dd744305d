"""The picture in focus everywhere, of a capture: what a network adds to its input, on the capture's own pixels.

Convention: networks see pictures encoded (:mod:`dualpix.models.prepare`), at a working size; there the network's
picture is its input plus a *residual*. The residual alone is enlarged and added to the capture's full-aperture view,
encoded with the same gain. So the view keeps its own detail and colours where it is in focus, at its full size, and
what is restored has the detail of the working size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from dualpix.capture.types import DualPixelImage, FloatImage
from dualpix.models.prepare import image_gain
from dualpix.models.tasks.task import Batch

_ROWS = 256
"""Of a view that are worked on at a time: it may have 50 megapixels."""


@dataclass(frozen=True)
class SharpResidual:
    """What a network adds to the picture that it sees."""

    added: FloatImage
    """(h, w, 3) encoded, at the working size, baseline along x."""
    gain: float
    """Of the encoding."""


def residual_of(sharp: Tensor, image: Tensor, batch: Batch, size_hw: tuple[int, int]) -> SharpResidual:
    """Of a network that was run on one capture.

    Args:
        sharp: (1, 3, H, W), its output.
        image: (1, 3, H, W), its input.
        batch: that the input was made of.
        size_hw: of the working views; what lies beyond is padding.
    """
    height, width = size_hw
    added = (sharp - image)[0, :, :height, :width].permute(1, 2, 0).float().contiguous().numpy()
    return SharpResidual(added, float(image_gain(batch["combined"])[0, 0, 0, 0]))


def sharpened(image: DualPixelImage, residual: SharpResidual) -> FloatImage:
    """The full-aperture view (H, W) or (H, W, 3) of a capture, linear light >= 0, with the residual added.

    Of a view with one channel the mean of the residual's is taken.
    """
    view = image.combined
    added = residual.added if view.ndim == 3 else residual.added.mean(axis=2)
    height, width = image.size_hw
    size = (width, height) if image.baseline == "x" else (height, width)
    enlarged = cv2.resize(np.ascontiguousarray(added, np.float32), size, interpolation=cv2.INTER_CUBIC)
    upright = enlarged if image.baseline == "x" else enlarged.swapaxes(0, 1)
    out = np.empty_like(view, np.float32)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        # unlike encode(), nothing is cut off at the top: what is bright stays so
        root = np.sqrt(np.maximum(view[rows] * np.float32(residual.gain), 0)) + upright[rows]
        out[rows] = np.square(np.maximum(root, 0)) / np.float32(residual.gain)
    return out
