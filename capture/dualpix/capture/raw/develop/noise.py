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

from dualpix.capture.raw.develop.planes import CELL, Plane
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
    step = 2 if plane.mosaic else 1
    side = _PATCH * step
    per_row, per_column = plane.size_hw[1] // side, plane.size_hw[0] // side
    if not per_row or not per_column:  # smaller than a patch
        return np.zeros(0), np.zeros(0)
    bands = max(min(per_column, round(_MAX_PATCHES / (per_row * step**2))), 1)
    means, variances = [], []
    for top in (np.arange(bands) * per_column // bands * side).tolist():
        rows = slice(top, min(top + side, per_column * side))
        light = plane.light(rows)[:, : per_row * side]
        light = light[..., 1] if light.ndim == 3 else light
        clear = ~saturated[rows, : per_row * side].reshape(-1, per_row, side).any(axis=(0, 2))
        for row, column in CELL if plane.mosaic else ((0, 0),):
            patches = light[row::step, column::step].reshape(-1, per_row, _PATCH).astype(np.float64)
            means.append(patches.mean(axis=(0, 2))[clear])
            variances.append(_mixed_variance(patches.swapaxes(0, 1))[clear])
    return np.concatenate(means), np.concatenate(variances)


def _mixed_variance(patches: Floats) -> Floats:
    """Of patches (..., h, w)."""
    mixed = np.diff(np.diff(patches, axis=-1), axis=-2)
    return np.asarray((mixed**2).mean(axis=(-2, -1)) / 4)
