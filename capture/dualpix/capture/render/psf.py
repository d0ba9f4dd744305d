"""Point spread functions of the two half apertures.

Convention: see :mod:`dualpix.capture.render`. The full kernel is a disc of the CoC's diameter with a soft edge. Each
half is the disc times ``1 -/+ g(x)``, with ``g`` a ramp clipped to +-1: a straight ramp is what a microlens with
crosstalk does (gain <= 0.25; Pixel 4 measures 0.21), a steep one tends to the ideal half disc (``4 / (3 pi)`` =
0.424). The slope is solved for, so that the distance of the two centroids is ``gain * CoC`` whatever the softness,
rim and offset. A ramp across the disc is also the model of Abuolaim et al. (ICCV 2021); bright rims and, away from
the image centre, an off-centre split are what the Pixel 4 kernels of Xin et al. (ICCV 2021) show. Both halves carry
the same light: views are flat-fielded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import torch
from torch import Tensor

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN

_SUBSAMPLES = 3
_BISECTIONS = 20


@dataclass(frozen=True)
class PsfModel:
    """How a camera splits its aperture."""

    disparity_gain: float = 0.21
    """Distance of the half kernels' centroids over the CoC diameter, in (0, 0.424)."""
    edge_px: float = 0.35
    """Gaussian sigma of the disc's edge at focus: diffraction, aberrations and the pixel's own aperture."""
    edge_relative: float = 0.06
    """Further sigma of the edge, as a share of the CoC radius."""
    rim: float = 0.0
    """Weight at the edge of the disc over that at its centre, minus 1 (spherical aberration); > -1."""
    split_offset: float = 0.0
    """Where the ramp crosses zero, as a share of the CoC radius: 0 on axis, towards +-1 at the side of the field."""

    def __post_init__(self) -> None:
        if not 0.0 < self.disparity_gain <= IDEAL_DISPARITY_GAIN:
            raise ValueError(f"disparity gain {self.disparity_gain}, expected in (0, {IDEAL_DISPARITY_GAIN:.3f}]")

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side that holds a disc of ``max_coc_px`` with three sigma of edge."""
        radius = max_coc_px / 2
        return 2 * ceil(radius + 3.0 * self._edge_sigma_px(radius)) + 1

    def _edge_sigma_px(self, radius_px: float) -> float:
        return sqrt(self.edge_px**2 + (self.edge_relative * radius_px) ** 2)


def half_kernels(coc_px: Tensor, psf: PsfModel, size_px: int) -> tuple[Tensor, Tensor]:
    """Left and right kernels for signed CoCs.

    Args:
        coc_px: (K,) signed CoC diameters in px.
        psf: the camera's aperture split.
        size_px: odd kernel side, at least ``psf.kernel_size_px(max |coc|)``.

    Returns:
        left, right: (K, size, size), each summing to 0.5, so their sum is the full kernel.
    """
    n = size_px * _SUBSAMPLES
    axis = (torch.arange(n, dtype=coc_px.dtype, device=coc_px.device) - (n - 1) / 2) / _SUBSAMPLES
    x = axis.reshape(1, 1, n)
    rho = torch.sqrt(axis.reshape(1, n, 1) ** 2 + x**2)
    radius = (coc_px.abs() / 2).reshape(-1, 1, 1)
    sigma = torch.sqrt(psf.edge_px**2 + (psf.edge_relative * radius) ** 2)
    profile = 1 + psf.rim * (rho / radius.clamp_min(0.5)).clamp_max(1.0) ** 2
    disc = profile * torch.erfc((rho - radius) / (sqrt(2.0) * sigma))  # (K, n, n)
    columns = disc.sum(1)  # (K, n): the split depends on x only
    ramp = _ramp(columns, axis - psf.split_offset * coc_px[:, None].abs() / 2, axis, psf.disparity_gain * coc_px.abs())
    # behind the focus plane the right half's light lands right of the centre, in front the rays have crossed
    behind = (coc_px >= 0)[:, None]
    ramp = torch.where(behind, ramp, -ramp)
    left, right = (disc * (1 + side * ramp)[:, None] for side in (-1.0, 1.0))
    return _sample(left, axis, size_px), _sample(right, axis, size_px)


def _ramp(columns: Tensor, from_split: Tensor, axis: Tensor, separation: Tensor) -> Tensor:
    """Clipped ramps g (K, n) that put the centroids of ``1 + g`` and ``1 - g`` ``separation`` apart, by bisection."""
    low = torch.full_like(separation, -14.0)
    high = torch.full_like(separation, 6.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        ramp = (torch.exp(middle)[:, None] * from_split).clamp(-1.0, 1.0)
        plus, minus = columns * (1 + ramp), columns * (1 - ramp)
        apart = _centroid(plus, axis) - _centroid(minus, axis)
        low, high = torch.where(apart < separation, middle, low), torch.where(apart < separation, high, middle)
    slope = torch.where(separation > 0, torch.exp((low + high) / 2), torch.zeros_like(separation))
    return (slope[:, None] * from_split).clamp(-1.0, 1.0)


def _centroid(columns: Tensor, axis: Tensor) -> Tensor:
    return (columns * axis).sum(1) / columns.sum(1).clamp_min(1e-9)


def _sample(fine: Tensor, axis: Tensor, size_px: int) -> Tensor:
    """Fine kernels (K, n, n) onto the pixel grid (K, size, size), summing to 0.5; the weights keep the centroid."""
    pixels = torch.arange(size_px, dtype=axis.dtype, device=axis.device) - size_px // 2
    weights = (1 - (pixels[:, None] - axis[None, :]).abs()).clamp_min(0)
    weights = weights / weights.sum(0, keepdim=True)  # the outermost sub-samples have one neighbour only
    kernel = weights @ fine @ weights.T
    return 0.5 * kernel / kernel.sum((1, 2), keepdim=True)
