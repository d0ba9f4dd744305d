"""Layered rendering with occlusion: each layer is blurred by the half-aperture kernel of its CoC and laid over what
is behind.

Convention: see :mod:`dualpix.capture.render`. Layers are ordered back to front. A layer's opacity reaches under
everything in front of it, so a slanted surface cut into layers shows no cracks where its blurred cuts meet: the
composite has an edge only where the scene has one. Cost: 4 FFTs forward and 8 back per layer, whatever the blur.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.render.psf import PsfModel, half_kernels


def render_layers(
    colour: Tensor, alpha: Tensor, coc_px: Tensor, psf: PsfModel, margin_px: int
) -> tuple[Tensor, Tensor]:
    """Composite blurred layers into a dual-pixel pair.

    Args:
        colour: (B, K, C, H, W) linear radiance, back to front, defined wherever ``alpha`` > 0.
        alpha: (B, K, H, W) opacity in [0, 1].
        coc_px: (B, K) signed CoC of each layer in px.
        psf: aperture split of the camera.
        margin_px: border that the result loses on each side; at least half the kernel size, because the convolution is
            cyclic.

    Returns:
        left, right: (B, C, H - 2 margin, W - 2 margin); left + right is the full-aperture view.

    Raises:
        ValueError: the margin is too small for the largest CoC.
    """
    b, k, c, h, w = colour.shape
    size = psf.kernel_size_px(float(coc_px.detach().abs().max()))
    if margin_px < size // 2:
        raise ValueError(
            f"margin is {margin_px} px, a CoC of {float(coc_px.detach().abs().max()):.1f} px needs {size // 2}"
        )
    premultiplied = torch.cat([colour * alpha[:, :, None], alpha[:, :, None]], 2)  # (B, K, C+1, H, W)
    spectrum = torch.fft.rfft2(premultiplied)
    views = []
    for kernel in half_kernels(coc_px.reshape(-1), psf, size):
        transfer = torch.fft.rfft2(_centred(2 * kernel, h, w)).reshape(b, k, 1, h, w // 2 + 1)
        blurred = torch.fft.irfft2(spectrum * transfer, s=(h, w))
        view = blurred[:, 0, :c]
        for layer in range(1, k):
            view = blurred[:, layer, :c] + view * (1 - blurred[:, layer, c:])
        views.append(0.5 * view[:, :, margin_px : h - margin_px, margin_px : w - margin_px])
    return views[0], views[1]


def _centred(kernel: Tensor, h: int, w: int) -> Tensor:
    """(K, s, s) -> (K, h, w) with the kernel's centre at the origin of a cyclic image."""
    s = kernel.shape[-1]
    padded = F.pad(kernel, (0, w - s, 0, h - s))
    return torch.roll(padded, (-(s // 2), -(s // 2)), (1, 2))


def layers_from_depth(image: Tensor, coc_px: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut an RGB-D image into layers of equal CoC step, with in-painted background.

    Args:
        image: (B, C, H, W) all-in-focus, linear.
        coc_px: (B, 1, H, W) signed CoC in px; larger is farther.
        count: number of layers K >= 2.

    Returns:
        colour (B, K, C, H, W), alpha (B, K, H, W), coc (B, K): back to front, for :func:`render_layers`.
    """
    far = coc_px.amax((1, 2, 3))
    near = coc_px.amin((1, 2, 3))
    step = ((far - near) / (count - 1)).clamp_min(1e-6)
    centres = far[:, None] - step[:, None] * torch.arange(count, device=image.device)  # (B, K)
    position = (far.reshape(-1, 1, 1, 1) - coc_px) / step.reshape(-1, 1, 1, 1)  # 0 = farthest layer
    colours, alphas = [], []
    for k in range(count):
        # Opaque from this layer on forward; the fraction in between blends two layers, so slopes have no steps.
        alphas.append((position - (k - 1)).clamp(0.0, 1.0) if k else torch.ones_like(position))
        # A surface that goes on into the next layers keeps its own colour there; what lies well in front is an
        # occluder, and the colour behind it is filled from the farther side.
        own = position < k + 1.5
        colours.append(torch.where(own, image, _fill(image, own)))
    return torch.stack(colours, 1), torch.stack(alphas, 1)[:, :, 0], centres


def _fill(image: Tensor, known: Tensor) -> Tensor:
    """Push-pull in-painting (Gortler et al. 1996): average the known pixels down a pyramid, read the holes back up."""
    weight = known.to(image.dtype)
    if min(image.shape[-2:]) <= 2 or bool(known.all()):
        total = (image * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-6)
        return torch.where(known, image, total)
    summed = F.avg_pool2d(image * weight, 2, ceil_mode=True)
    weights = F.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = _fill(summed / weights.clamp_min(1e-6), weights > 0)
    up = F.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known, image, up)


def render_dual_pixel(image: Tensor, coc_px: Tensor, psf: PsfModel, *, layers: int = 24) -> tuple[Tensor, Tensor]:
    """All-in-focus image and signed CoC to a dual-pixel pair of the same size.

    Args:
        image: (B, C, H, W) linear.
        coc_px: (B, 1, H, W) signed CoC diameter in px, > 0 behind the focus plane.
        psf: aperture split of the camera.
        layers: how many depth layers; the CoC step between them should stay near 1 px.

    Returns:
        left, right: (B, C, H, W); left + right is the full-aperture view.
    """
    margin = psf.kernel_size_px(float(coc_px.detach().abs().max())) // 2 + 1
    pad = (margin, margin, margin, margin)
    colour, alpha, centres = layers_from_depth(
        F.pad(image, pad, mode="replicate"), F.pad(coc_px, pad, mode="replicate"), layers
    )
    return render_layers(colour, alpha, centres, psf, margin)
