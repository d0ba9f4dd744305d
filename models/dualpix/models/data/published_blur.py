"""Blur as the public generators of focus stacks make it: FOSSA's kernel, and with it DfDNet's.

Convention: blur is a *radius* c in px, half the circle of confusion. A pixel gathers from the pixels around it within a
square window with the weight ``exp(-2 (r / c)^p) / c^2``, c being the *neighbour's* radius and r its distance; a pixel
of a radius of 1 px or less stays as it is and gives nothing to others (princeton-vl/FOSSA dd7758d,
power_exp_psf_cuda_kernel.cu). Nothing sharp bleeds, blur ends with the window, and values are display-referred: no
model of light, but what published networks were trained on. For p = 2 it is
:func:`dualpix.models.evaluate.gaussian_stack.gather_gaussian`, which the tests hold it against.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW_PX = 15
_SHARP_PX = 1.0
_NOTHING = 1e-12


def neighbour_gather(image: Tensor, radius_px: Tensor, power: float, window_px: int = WINDOW_PX) -> Tensor:
    """Blur one picture by several maps of radii.

    Args:
        image: (C, H, W) display-referred.
        radius_px: (N, H, W) >= 0.
        power: p.
        window_px: odd side of the window.

    Returns:
        (N, C, H, W).
    """
    reach = window_px // 2
    blurred = radius_px > _SHARP_PX
    inverse = torch.where(blurred, 1 / radius_px.clamp_min(_SHARP_PX), 0.0)
    falloff, density = inverse**power, inverse**2
    counted = torch.cat([image, torch.ones_like(image[:1])])[None]  # (1, C + 1, H, W): light and weight together
    total = torch.zeros(len(radius_px), *counted.shape[1:], dtype=image.dtype, device=image.device)
    for squared, offsets in _rings(reach).items():
        weight = density * torch.exp(-2 * squared ** (power / 2) * falloff)
        if float(weight.max()) < _NOTHING:
            continue
        given = F.pad(weight[:, None] * counted, (reach,) * 4)
        height, width = image.shape[-2:]
        for y, x in offsets:
            total += given[..., reach + y : reach + y + height, reach + x : reach + x + width]
    mean = total[:, :-1] / total[:, -1:].clamp_min(1e-20)
    return torch.where(blurred[:, None], mean, image)


def _rings(reach: int) -> dict[int, list[tuple[int, int]]]:
    """Offsets (y, x) of the window by their squared distance: one weight serves all of a ring."""
    rings: dict[int, list[tuple[int, int]]] = {}
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            rings.setdefault(y * y + x * x, []).append((y, x))
    return rings
