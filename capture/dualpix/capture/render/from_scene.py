"""Procedural scenes through a dual-pixel lens. Convention: see :mod:`dualpix.capture.render`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.render.layered import Cells, render_layers, render_surfaces, render_surfaces_whole
from dualpix.capture.render.psf import HalfKernels
from dualpix.capture.scenes import Scene, SceneLayer
from dualpix.capture.types import Quality

_COC_STEP_PX = 1.5
_MAX_SLABS = 10


@dataclass(frozen=True)
class RenderedPair:
    """A noise-free capture with its truth; all (C, H, W) float32."""

    left: Tensor
    right: Tensor
    coc_px: Tensor
    """(1, H, W) signed CoC of the visible surface."""

    @property
    def combined(self) -> Tensor:
        """(3, H, W) the full-aperture view."""
        return self.left + self.right


def scene_margin_px(max_coc_px: float, psf: HalfKernels) -> int:
    """Border a scene needs around the rendered view."""
    return psf.kernel_size_px(max_coc_px) // 2 + 1


def render_scene(
    scene: Scene,
    coc_far_px: float,
    coc_near_px: float,
    psf: HalfKernels,
    margin_px: int,
    *,
    dtype: torch.dtype = torch.float32,
    quality: Quality = "standard",
    cells: Cells | None = None,
) -> RenderedPair:
    """Render a scene whose CoC runs from ``coc_far_px`` at proximity 0 to ``coc_near_px`` at proximity 1.

    Args:
        scene: canvas of (H + 2 margin, W + 2 margin).
        coc_far_px: signed CoC of the farthest plane; larger than ``coc_near_px``.
        coc_near_px: signed CoC of the nearest plane.
        psf: aperture split of the camera.
        margin_px: border given up on each side, see :func:`scene_margin_px`.
        dtype: of the computation; float64 to check float32.
        quality: ``standard`` cuts objects into slabs and lays these over one another, what networks up to version 0.1
            were trained on; ``exact`` keeps objects whole, see :func:`~dualpix.capture.render.layered.render_surfaces`.
        cells: of ``exact``: parts of the aperture in which visibility is judged.
    """
    slope = coc_near_px - coc_far_px
    if quality == "exact":
        left, right = _render_objects(scene, coc_far_px, slope, psf, margin_px, dtype, cells)
    else:
        left, right = _render_slabs(scene, coc_far_px, slope, psf, margin_px, dtype)
    m = margin_px
    proximity = torch.from_numpy(scene.proximity())[m:-m, m:-m].to(dtype)
    return RenderedPair(left[0], right[0], (coc_far_px + slope * proximity)[None])


def _render_objects(
    scene: Scene,
    coc_far_px: float,
    slope: float,
    psf: HalfKernels,
    margin_px: int,
    dtype: torch.dtype,
    cells: Cells | None,
) -> tuple[Tensor, Tensor]:
    colour, alpha, proximity = _objects(scene, dtype)
    coc = coc_far_px + slope * proximity
    return render_surfaces(colour[None], alpha[None], coc[None], psf, margin_px, cells=cells)


def render_scene_stack(
    scene: Scene,
    coc_ends_px: Sequence[tuple[float, float]],
    psf: HalfKernels,
    margin_px: int,
    *,
    cells: Cells | None = None,
) -> Tensor:
    """A scene through the whole aperture, focused at several distances, its objects whole.

    Args:
        scene: canvas of (H + 2 margin, W + 2 margin).
        coc_ends_px: of each frame, signed CoC of the farthest and of the nearest plane.
        psf: of the camera; its split has no effect.
        margin_px: border given up on each side, see :func:`scene_margin_px`.
        cells: parts of the aperture in which visibility is judged.

    Returns:
        (N, 3, H, W) float32.
    """
    colour, alpha, proximity = _objects(scene, torch.float32)
    frames = []
    for far, near in coc_ends_px:
        coc = far + (near - far) * proximity
        frames.append(render_surfaces_whole(colour[None], alpha[None], coc[None], psf, margin_px, cells=cells)[0])
    return torch.stack(frames)


def _objects(scene: Scene, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Colour (K, 3, H, W), coverage and proximity (K, H, W)."""
    colour, alpha, proximity = (
        torch.from_numpy(np.stack([getattr(layer, name) for layer in scene.layers])).to(dtype)
        for name in ("colour", "alpha", "proximity")
    )
    return colour.permute(0, 3, 1, 2), alpha, proximity


def _render_slabs(
    scene: Scene, coc_far_px: float, slope: float, psf: HalfKernels, margin_px: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    colours, alphas, centres = [], [], []
    for layer in scene.layers:
        colour = torch.from_numpy(layer.colour).permute(2, 0, 1).to(dtype)
        for alpha, centre in _slabs(layer, coc_far_px, slope):
            colours.append(colour)
            alphas.append(torch.from_numpy(alpha).to(dtype))
            centres.append(centre)
    return render_layers(
        torch.stack(colours)[None], torch.stack(alphas)[None], torch.tensor([centres], dtype=dtype), psf, margin_px
    )


def _slabs(layer: SceneLayer, coc_far_px: float, slope: float) -> list[tuple[np.ndarray, float]]:
    """Cut one object into opacities of constant CoC, back to front; neighbours blend, so a slope has no steps."""
    covered = layer.alpha > 0.004
    if not covered.any():
        return []
    coc = coc_far_px + slope * layer.proximity
    far, near = float(coc[covered].max()), float(coc[covered].min())
    count = min(_MAX_SLABS, 1 + round((far - near) / _COC_STEP_PX))
    if count == 1:
        return [(layer.alpha, (far + near) / 2)]
    step = (far - near) / (count - 1)
    position = (far - coc) / step
    slabs = [(layer.alpha, far)]
    for k in range(1, count):
        reach = np.clip(position - (k - 1), 0.0, 1.0).astype(np.float32)
        slabs.append((layer.alpha * reach, far - k * step))
    return slabs
