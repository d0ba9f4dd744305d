"""Blur of a render camera: its profile's aperture split, with the gain that the truth is stated with.

The profile's shape (edge, rim, offset of the split) is taken at a place; the gain is the camera's mean, times how the
profile's own varies over the field. So the disparity of a rendered view is ``gain * CoC`` wherever one looks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.profiles.blur import psf_at
from dualpix.capture.render import HalfKernels, PsfGrid, PsfModel
from dualpix.capture.synthesis.camera import RenderCamera
from dualpix.capture.types import FloatImage

FIELD_SHAPE = (3, 4)
"""Places (rows, columns) that the field is rendered at; blended in between."""
_REFERENCE_COC_PX = 40.0  # of kernels that are resampled to others: far above the pixel


def blur_of(camera: RenderCamera, field: bool) -> HalfKernels:
    """The aperture split at the centre of the picture, or over the ``field``."""
    if not field:
        return replace(psf_at(camera.profile), disparity_gain=min(camera.disparity_gain, IDEAL_DISPARITY_GAIN))
    models = _models(camera)
    coc_px = torch.tensor([_REFERENCE_COC_PX])
    size = max(model.kernel_size_px(_REFERENCE_COC_PX) for model in models)
    halves = [torch.cat(half) for half in zip(*(model.kernels(coc_px, size) for model in models), strict=True)]
    left, right = (half.reshape(*FIELD_SHAPE, size, size) for half in halves)
    return PsfGrid(left, right, _REFERENCE_COC_PX)


def gain_grid(camera: RenderCamera) -> FloatImage:
    """kappa at the places of ``FIELD_SHAPE``, the centres of equal tiles."""
    return np.array([model.disparity_gain for model in _models(camera)], np.float32).reshape(FIELD_SHAPE)


def _models(camera: RenderCamera) -> list[PsfModel]:
    rows, columns = FIELD_SHAPE
    places = [((row + 0.5) / rows, (column + 0.5) / columns) for row in range(rows) for column in range(columns)]
    models = [psf_at(camera.profile, place) for place in places]
    scale = camera.disparity_gain / float(np.mean([model.disparity_gain for model in models]))
    return [replace(model, disparity_gain=min(model.disparity_gain * scale, IDEAL_DISPARITY_GAIN)) for model in models]
