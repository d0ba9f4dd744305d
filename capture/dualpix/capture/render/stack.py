"""Focus stacks: one view through one lens, focused at many distances.

Convention: see :mod:`dualpix.capture.render`. All frames show the same field of view: focus breathing is not part of
the model, as if it had been calibrated away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import circle_of_confusion_px
from dualpix.capture.render.gather import LADDER_STEP, GatherPsf, gather
from dualpix.capture.render.inputs import MEMORY_LIMIT_BYTES, check_coc, check_depth, check_image
from dualpix.capture.render.psf import HalfKernels
from dualpix.capture.render.views import Method, check_gather_memory, gather_psf, pair_psf, render_pair
from dualpix.capture.types import LensModel, Quality

FocusDistances = Tensor | Sequence[float]
"""(N,) for the whole batch or (B, N) for each view, in m from the lens, infinity allowed."""


def stack_coc_px(image: Tensor, depth_m: Tensor, focus_distance_m: FocusDistances, lens: LensModel) -> Tensor:
    """Signed CoC of each focus distance, > 0 behind it; differentiable in depth.

    Args:
        image: (B, C, H, W), which the stack will be rendered of.
        depth_m: (B or 1, 1, H, W) in m, > 0, infinity allowed.
        focus_distance_m: where to focus.
        lens: whose own focus distance is not used; its pitch is that of a pixel of ``image``.

    Returns:
        (B, N, H, W) in px, or (1, N, H, W) where neither depth nor focus distance differ within the batch.

    Raises:
        DualpixError: see :func:`~dualpix.capture.render.views.render`.

    Warns:
        UnitsWarning: depth or lens look as if they were in another unit.
    """
    check_image(image)
    focus = torch.as_tensor(focus_distance_m, dtype=torch.float64)
    if focus.ndim not in (1, 2) or focus.numel() == 0 or (focus.ndim == 2 and focus.shape[0] != image.shape[0]):
        raise DualpixError(
            f"focus distances of shape {tuple(focus.shape)} for {image.shape[0]} views",
            expected="(N,), or (B, N) with B the size of the batch",
        )
    rows = [[replace(lens, focus_distance_m=d) for d in row] for row in focus.reshape(-1, focus.shape[-1]).tolist()]
    depth_m = check_depth(depth_m, image, [lens for row in rows for lens in row])
    if len(rows) > 1:
        depth_m = depth_m.expand(len(rows), -1, -1, -1)
    else:
        rows *= depth_m.shape[0]
    views = [
        torch.cat([circle_of_confusion_px(view, lens) for lens in row])  # (N, H, W)
        for view, row in zip(depth_m, rows, strict=True)
    ]
    return check_coc(torch.stack(views), image)


def render_stack(
    image: Tensor,
    depth_m: Tensor,
    focus_distance_m: FocusDistances,
    lens: LensModel,
    psf: HalfKernels | GatherPsf | None = None,
    *,
    method: Method = "gather",
    step: float = LADDER_STEP,
    layers: int | None = None,
    quality: Quality = "standard",
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Tensor:
    """Render the full aperture at each focus distance; differentiable in image and depth.

    Args:
        image: (B, C, H, W) all-in-focus, linear, float32 or float64.
        depth_m: (B or 1, 1, H, W) in m, > 0, infinity allowed.
        focus_distance_m: where to focus.
        lens: whose own focus distance is not used; its pitch is that of a pixel of ``image``.
        psf: kernel of the method, see :func:`~dualpix.capture.render.views.render`.
        method: ``gather`` blurs once for all distances; the others render a pair for each, and add its halves.
        step: of ``gather``, between the radii it blends.
        layers: of ``layered``, for each focus distance.
        quality: of ``layered``.
        memory_limit_bytes: what a call may take at most.

    Returns:
        (B, N, C, H, W).

    Raises:
        DualpixError: see :func:`~dualpix.capture.render.views.render`.

    Warns:
        UnitsWarning: depth or lens look as if they were in another unit.
    """
    if method != "gather":
        left, right = render_dual_pixel_stack(
            image, depth_m, focus_distance_m, lens, psf, method=method, layers=layers, quality=quality,
            memory_limit_bytes=memory_limit_bytes,
        )  # fmt: skip
        return left + right
    kernel = gather_psf(psf)
    coc_px = stack_coc_px(image, depth_m, focus_distance_m, lens)
    check_gather_memory(image, coc_px, memory_limit_bytes)
    return gather(image, coc_px, kernel, step=step)


def render_dual_pixel_stack(
    image: Tensor,
    depth_m: Tensor,
    focus_distance_m: FocusDistances,
    lens: LensModel,
    psf: HalfKernels | GatherPsf | None = None,
    *,
    method: Method = "layered",
    layers: int | None = None,
    quality: Quality = "standard",
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> tuple[Tensor, Tensor]:
    """Render a dual-pixel pair at each focus distance: :func:`render_stack` for both halves.

    Returns:
        left, right: (B, N, C, H, W); left + right is the full-aperture stack.
    """
    kernels = pair_psf(method, psf, lens)
    coc_px = stack_coc_px(image, depth_m, focus_distance_m, lens)
    pairs = [
        render_pair(image, coc_px[:, n : n + 1], method, kernels, layers, quality, memory_limit_bytes)
        for n in range(coc_px.shape[1])
    ]
    return torch.stack([left for left, _ in pairs], 1), torch.stack([right for _, right in pairs], 1)
