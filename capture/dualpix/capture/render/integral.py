"""Integral-image rendering of dual-pixel pairs, the model of DDDNet (Pan et al., CVPR 2021, eq. 1-7): O(n) at any blur.

Convention: see :mod:`dualpix.capture.render`. Each half aperture is a rectangle (left half, right half of a square of
the CoC's side), each source pixel spreads its light evenly over its own rectangle: four corner impulses in a
differential image, then a 2-D cumulative sum. The centroids of the halves lie CoC/2 apart, so the gain is 0.5. There
is no occlusion: light of what is behind is not blocked, the price of O(n); see :mod:`dualpix.capture.render.layered`
for the one with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

RECTANGLE_GAIN = 0.5


def render_integral(image: Tensor, coc_px: Tensor) -> tuple[Tensor, Tensor]:
    """Render with rectangular half apertures.

    Args:
        image: (B, C, H, W) all-in-focus, linear.
        coc_px: (B, 1, H, W) signed CoC in px, > 0 behind the focus plane.

    Returns:
        left, right: (B, C, H, W), summing to the full-aperture view; computed in float64 (a float32 cumulative sum over
        a megapixel loses three digits), returned in the dtype of ``image``.
    """
    # behind the focus plane the right view's light lands right of the centre; in front the halves change sides
    left_from, left_to = -coc_px.clamp_min(0) / 2, -coc_px.clamp_max(0) / 2
    return _spread(image, coc_px, left_from, left_to), _spread(image, coc_px, -left_to, -left_from)


def _spread(image: Tensor, coc_px: Tensor, x_from: Tensor, x_to: Tensor) -> Tensor:
    """Spread each pixel over [x_from, x_to] x [-|c|/2, |c|/2] about it, widened by the pixel's own square."""
    b, c, h, w = image.shape
    half = coc_px.abs().double() / 2
    yy = torch.arange(h, device=image.device, dtype=torch.float64).reshape(1, 1, h, 1)
    xx = torch.arange(w, device=image.device, dtype=torch.float64).reshape(1, 1, 1, w)
    # edges in the differential image: a box [a, b) of pixels has +1 at a and -1 at b
    top, bottom = yy - half, yy + half + 1
    start, stop = xx + x_from.double(), xx + x_to.double() + 1
    density = 0.5 * image.double() / ((bottom - top) * (stop - start))
    canvas = torch.zeros(b, c, (h + 2) * (w + 2), dtype=torch.float64, device=image.device)
    for y, sign_y in ((top, 1.0), (bottom, -1.0)):
        for x, sign_x in ((start, 1.0), (stop, -1.0)):
            _splat(canvas, sign_y * sign_x * density, y, x, h, w)
    summed = canvas.reshape(b, c, h + 2, w + 2).cumsum(2).cumsum(3)
    return summed[:, :, :h, :w].to(image.dtype)


def _splat(canvas: Tensor, value: Tensor, y: Tensor, x: Tensor, h: int, w: int) -> None:
    """Add ``value`` at fractional (y, x), shared bilinearly: the box edge then lies at the fraction, to first order."""
    b, c = value.shape[:2]
    y, x = y.expand(b, 1, h, w).clamp(0, h), x.expand(b, 1, h, w).clamp(0, w)
    y0, x0 = y.floor(), x.floor()
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - (y - (y0 + dy)).abs()) * (1 - (x - (x0 + dx)).abs())
            index = ((y0 + dy) * (w + 2) + x0 + dx).long().expand(b, c, h, w)
            canvas.scatter_add_(2, index.reshape(b, c, -1), (value * weight).reshape(b, c, -1))
