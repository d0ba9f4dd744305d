"""Integral-image rendering of dual-pixel pairs, the model of DDDNet (Pan et al., CVPR 2021, eq. 1-7): O(n) at any blur.

Convention: see :mod:`dualpix.capture.render`. Through the point ``C`` of the lens plane, at distance ``F`` from the
sensor, the light of a scene point that images at ``d'`` lands ``(d' - F) / d' C`` from its pinhole image. Each half of
the aperture is taken for a rectangle, one half of a square of the aperture's side ``A``; its blur is that rectangle
scaled by ``(d' - F) / d'``: ``|c|`` high and ``|c| / 2`` wide, turned over where the sign changes, which is where
focus is passed. Each source pixel ``I`` spreads evenly over its rectangle ``R``: ``+I / |R|`` at the top left and
bottom right corners of a differential image, ``-I / |R|`` at the other two, then a 2-D cumulative sum.

On the pixel grid a rectangle holds the pixels from its first to its last, so it is one pixel wider and higher than its
corners are apart, and a point in focus keeps exactly its own pixel. Corners between pixels are shared bilinearly by the
four around them. That is not an approximation: the cumulative sum of a bilinear corner is the area of each pixel that
the rectangle covers. It makes the views piecewise smooth in the CoC; for corners on the grid they are the published
ones.

The centroids of the halves lie ``c / 2`` apart, so the gain is 0.5 (corners between pixels add at most
``0.25 / (|c| / 2 + 1)`` px, as a pixel covered in part counts at its centre). Each view holds half the light, so that
left + right is the full-aperture view (the paper leaves each view as bright as the scene). There is no occlusion: the
light of what is behind is not blocked, the price of O(n); see :mod:`dualpix.capture.render.layered` for the one with
it. Light that leaves the image is gone, and none comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

RECTANGLE_GAIN = 0.5

Splat: TypeAlias = tuple[Tensor, Tensor]
"""Index along an axis and weight, each broadcasting to (B, 1, H, W)."""


def render_integral(image: Tensor, coc_px: Tensor) -> tuple[Tensor, Tensor]:
    """Render with rectangular half apertures.

    Differentiable in both arguments; in the CoC except where a corner lies on the pixel grid, as at 0.

    Args:
        image: (B, C, H, W) all-in-focus, linear.
        coc_px: (B, 1, H, W) or (1, 1, H, W) signed CoC in px, > 0 behind the focus plane.

    Returns:
        left, right: (B, C, H, W), summing to the full-aperture view; computed in float64 (a float32 cumulative sum over
        a megapixel loses three digits), returned in the dtype of ``image``.
    """
    h = image.shape[-2]
    coc = coc_px.double()
    half = coc.abs() / 2
    yy = torch.arange(h, device=image.device, dtype=torch.float64).reshape(1, 1, h, 1)
    density = 0.5 * image.double() / ((2 * half + 1) * (half + 1))
    rows = [*edge_splats(yy - half, 1.0, h), *edge_splats(yy + half + 1, -1.0, h)]
    left, right = (sum_of_boxes(density, rows, _columns(side * coc)) for side in (-1.0, 1.0))
    return left.to(image.dtype), right.to(image.dtype)


def _columns(reach: Tensor) -> list[Splat]:
    """Left and right edges of boxes that reach from their own pixel by ``reach / 2`` to the right, or left if < 0."""
    w = reach.shape[-1]
    xx = torch.arange(w, device=reach.device).reshape(1, 1, 1, w)
    leftward = reach < 0
    sign = torch.where(leftward, 1.0, -1.0).double()
    # the edge at the pixel itself lies on the grid: one splat instead of two
    return [*edge_splats(xx + reach / 2 + ~leftward, sign, w), (xx + leftward, -sign)]


def edge_splats(position: Tensor, sign: Tensor | float, size: int) -> tuple[Splat, Splat]:
    """Where along one axis a differential image holds an edge, and with which weights."""
    inside = position.clamp(0, size)
    below = inside.detach().floor()
    after = sign * (inside - below)
    return (below.long(), sign - after), (below.long() + 1, after)


def sum_of_boxes(density: Tensor, rows: Sequence[Splat], columns: Sequence[Splat]) -> Tensor:
    """Sum the boxes of all pixels, each ``density`` high."""
    b, c, h, w = density.shape
    width = w + 2  # an edge at the very end has its second splat, of weight 0, beyond it
    canvas = torch.zeros(b, c, (h + 2) * width, dtype=density.dtype, device=density.device)
    for y, weight_y in rows:
        for x, weight_x in columns:
            index = (y * width + x).reshape(-1, 1, h * w).expand(b, c, h * w)
            canvas.scatter_add_(2, index, (density * (weight_y * weight_x)).reshape(b, c, h * w))
    return canvas.reshape(b, c, h + 2, width).cumsum(2).cumsum(3)[:, :, :h, :w]
