"""How close a rendered view is to the truth, overall and where it is hard.

Convention: PSNR in dB over all given views, channels and pixels at once. A half-aperture view of a white wall is 0.5
bright (left + right = the full view), so 0.5 is the peak unless told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

BAND_PX = 8
"""How far, in px on either side, the band around depth edges reaches."""


@dataclass(frozen=True)
class Comparison:
    """Peak signal to noise ratios in dB; inf where equal, NaN where there is nothing to compare."""

    psnr_db: float
    band_psnr_db: float
    """Within the band around depth edges."""


def depth_edges(coc_px: Tensor, jump_px: float = 1.0) -> Tensor:
    """Pixels (H, W) bool whose signed CoC, (H, W), differs from that of a right or lower neighbour by > ``jump_px``."""
    edges = torch.zeros_like(coc_px, dtype=torch.bool)
    for axis in (0, 1):
        length = coc_px.shape[axis] - 1
        jump = coc_px.diff(dim=axis).abs() > jump_px
        edges.narrow(axis, 0, length).logical_or_(jump)
        edges.narrow(axis, 1, length).logical_or_(jump)
    return edges


def band_around(edges: Tensor, reach_px: float = BAND_PX) -> Tensor:
    """Pixels (H, W) bool at most ``reach_px`` from one of ``edges`` (H, W)."""
    if not bool(edges.any()):
        return torch.zeros_like(edges)
    distance = cv2.distanceTransform((~edges).cpu().numpy().astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return torch.from_numpy(distance <= reach_px).to(edges.device)


def compare(
    candidate: Tensor, reference: Tensor, edges: Tensor, *, peak: float = 0.5, reach_px: float = BAND_PX
) -> Comparison:
    """Compare views.

    Args:
        candidate: (..., H, W), linear light; stack left and right to judge a pair.
        reference: of the same shape.
        edges: (H, W) bool, see :func:`depth_edges`.
        peak: brightness of white.
        reach_px: half-width of the band.

    Raises:
        ValueError: shapes differ.
    """
    if candidate.shape != reference.shape or candidate.shape[-2:] != edges.shape:
        raise ValueError(f"shapes differ: {[tuple(t.shape) for t in (candidate, reference, edges)]}")
    squared = (candidate.double() - reference.double()).square()
    return Comparison(_psnr_db(squared.mean(), peak), _psnr_db(squared[..., band_around(edges, reach_px)].mean(), peak))


def _psnr_db(mean_squared: Tensor, peak: float) -> float:
    return float(10 * torch.log10(peak**2 / mean_squared))
