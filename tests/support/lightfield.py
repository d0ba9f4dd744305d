"""A 9x9 light field as the truth of a lens: its views, weighted and summed, are a dual-pixel pair with real occlusion.

Convention of the HCI benchmark: ``cam{9 v + u}.jpg``, the centre at u = v = 4; a point at X in the centre view with
disparity d (> 0 nearer than the plane of the sum) lies at ``X - (u - 4, v - 4) d`` in view (u, v). The lens's aperture
is the square of views, +-1 radius wide: the view at (u - 4) / 4 sees X at ``X + position c / 2``, so ``c = -8 d``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dualpix.capture.render.raytrace import ApertureSamples

_SIDE = 9
_COC_PER_DISPARITY = -(_SIDE - 1.0)


@dataclass(frozen=True)
class LightField:
    views: Tensor
    """(81, 3, H, W) linear light, v-major."""
    coc_px: Tensor
    """(H, W) of the centre view; the whole square aperture is one CoC wide."""

    @property
    def centre(self) -> Tensor:
        return self.views[_SIDE * _SIDE // 2]

    def pair(self, aperture: ApertureSamples) -> Tensor:
        """(2, 3, H, W): what the halves of ``aperture``, from :func:`view_aperture`, record."""
        weights = torch.stack([aperture.left, aperture.right]).to(self.views)
        return torch.einsum("sn,nchw->schw", weights, self.views)


def load_light_field(folder: Path, rows: slice = slice(None), columns: slice = slice(None)) -> LightField:
    files = [folder / f"cam{k:03d}.jpg" for k in range(_SIDE**2)]
    views = np.stack([_linear(cv2.imread(str(file)))[rows, columns] for file in files])
    disparity = np.load(folder / "gt_disp_lowres.npy").astype(np.float32)[rows, columns]
    return LightField(torch.from_numpy(views).permute(0, 3, 1, 2), _COC_PER_DISPARITY * torch.from_numpy(disparity))


def view_aperture(right: Tensor | None = None, transmission: Tensor | None = None) -> ApertureSamples:
    """The 81 views as aperture points.

    Args:
        right: (81,) share in [0, 1] of each view's light that the right half records; by default a hard split, the
            middle column going to both.
        transmission: (81,) of the aperture; by default an open square.
    """
    v, u = torch.meshgrid(torch.linspace(-1, 1, _SIDE), torch.linspace(-1, 1, _SIDE), indexing="ij")
    position = torch.stack([u.flatten(), v.flatten()], 1).double()
    right = (1 + position[:, 0].sign()) / 2 if right is None else right.double()
    light = torch.ones_like(right) if transmission is None else transmission.double()
    left, right = light * (1 - right), light * right
    return ApertureSamples(position, 0.5 * left / left.sum(), 0.5 * right / right.sum(), torch.zeros_like(position))


def _linear(bgr: np.ndarray) -> np.ndarray:
    """8-bit sRGB BGR to linear RGB."""
    encoded = bgr[..., ::-1].astype(np.float32) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)
