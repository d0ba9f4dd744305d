"""Noise of a half, measured on the picture itself.

Convention: variance of light at light L is ``read**2 + shot * max(L, 0)``, light in the unit of the views (1.0 = white
level), of a single sample (before any binning or demosaicing). A photon-transfer estimate: over small patches of one
mosaic channel, the mean, and the variance of mixed second differences

    d = s[i, j] - s[i + 1, j] - s[i, j + 1] + s[i + 1, j + 1],    var(d) = 4 var(s),

which gradients and straight upright edges leave at zero. Among patches of equal brightness the plain ones have the
least variance: a low quantile is taken, divided by what that quantile is for noise alone, and the line is fitted
through the brightness bins. A picture without plain patches gives too much: read it as an upper bound. Where masked
samples told the read noise, only the slope is fitted.

A derived half is the difference of two readings, so its read noise is that of both; its shot noise is its own light's,
since the photoelectrons of the stored half cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.planes import CELL, Plane
from dualpix.capture.types import Mask

Floats = npt.NDArray[np.float64]

_PATCH = 12  # samples of one channel along a side
_MAX_PATCHES = 2500
_MIN_PATCHES = 120
_BINS = 12
_QUANTILE = 0.2
# The 20 % quantile over the mean of the patch variance of pure Gaussian noise; a test draws it again.
_QUANTILE_OF_NOISE = 0.842


@dataclass(frozen=True)
class NoiseModel:
    """variance of light = read**2 + shot * light, per sample."""

    read: float
    shot: float

    def sigma(self, light: float) -> float:
        """Standard deviation at ``light``."""
        return float(np.sqrt(self.read**2 + self.shot * max(light, 0.0)))


def measure_noise(plane: Plane, saturated: Mask) -> NoiseModel | None:
    """The noise of a plane, or None where it has too few unsaturated patches to tell."""
    means, variances = _patches(plane, saturated)
    if means.size < _MIN_PATCHES:
        return None
    order = np.argsort(means)
    light, floor = [], []
    for part in np.array_split(order, _BINS):
        light.append(float(means[part].mean()))
        floor.append(float(np.quantile(variances[part], _QUANTILE)) / _QUANTILE_OF_NOISE)
    read = None if plane.read_noise_dn is None else plane.read_noise_dn * plane.scale
    return _line(np.maximum(np.asarray(light), 0.0), np.asarray(floor), read)


def _line(light: Floats, variance: Floats, read: float | None) -> NoiseModel:
    """Least squares with both coefficients >= 0; relative errors count, as a variance is known to a part of itself."""
    weight = 1.0 / np.maximum(variance, 1e-12)
    if read is None:
        rows = np.stack([np.ones_like(light), light], axis=1) * weight[:, None]
        read2, shot = np.linalg.lstsq(rows, variance * weight, rcond=None)[0]
        if shot < 0:
            return NoiseModel(float(np.sqrt(np.average(variance, weights=weight**2))), 0.0)
        read = float(np.sqrt(max(read2, 0.0)))
    part, rest = light * weight, (variance - read**2) * weight
    return NoiseModel(read, max(float(part @ rest) / max(float(part @ part), 1e-24), 0.0))


def _patches(plane: Plane, saturated: Mask) -> tuple[Floats, Floats]:
    """Mean and variance of patches spread over the picture; those with a saturated sample are left out."""
    cells = CELL if plane.mosaic else ((0, 0),)
    step = 2 if plane.mosaic else 1
    side = _PATCH * step
    height, width = plane.size_hw
    per_row, per_column = width // side, height // side
    every = max(round(per_row * per_column * len(cells) / _MAX_PATCHES), 1)
    means, variances = [], []
    for index in range(0, per_row * per_column, every):
        top, left = index // per_row * side, index % per_row * side
        rows, columns = slice(top, top + side), slice(left, left + side)
        if saturated[rows, columns].any():
            continue
        light = Plane(plane.samples[rows, columns], plane.black, plane.scale, plane.mosaic).light()
        light = light[..., 1] if light.ndim == 3 else light
        for row, column in cells:
            patch = light[row::step, column::step].astype(np.float64)
            means.append(patch.mean())
            variances.append(_mixed_variance(patch))
    return np.asarray(means), np.asarray(variances)


def _mixed_variance(patch: Floats) -> float:
    mixed = patch[1:, 1:] - patch[:-1, 1:] - patch[1:, :-1] + patch[:-1, :-1]
    return float((mixed**2).mean() / 4)
