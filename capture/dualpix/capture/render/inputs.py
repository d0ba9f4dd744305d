"""What goes into a renderer, checked at the door: shapes, holes, units, and the memory it would take.

Nothing here changes a value. Errors say how many pixels are wrong and what to do; a doubt about units is a warning,
because a scene may be odd and right.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import check_lens
from dualpix.capture.types import LensModel

MEMORY_LIMIT_BYTES = 8 << 30

_FAR_M = 1000.0
_NEAR_M = 50.0
_SHORT_MM = 1.0
_FINE_UM = 0.1


class UnitsWarning(UserWarning):
    """A number is possible, but looks as if it were in another unit."""


def check_image(image: Tensor) -> Tensor:
    """Return ``image`` if it is (B, C, H, W), floating and finite.

    Raises:
        DualpixError: it is not.
    """
    if image.ndim != 4 or 0 in image.shape:
        raise DualpixError(f"image of shape {tuple(image.shape)}", expected="(batch, channels, height, width)")
    if image.dtype not in (torch.float32, torch.float64):
        raise DualpixError(
            f"image of {image.dtype}", expected="float32 or float64", hint="linear light, 1.0 = white, not coded values"
        )
    if broken := int((~torch.isfinite(image.detach())).sum()):
        raise DualpixError(f"image has {broken} NaN or infinite values", expected="finite linear light")
    return image


def check_map(values: Tensor, image: Tensor, name: str) -> Tensor:
    """Return a map (B or 1, N, H, W) that fits ``image``, in its dtype.

    Raises:
        DualpixError: its shape, size or device is another.
    """
    if values.ndim != 4 or not values.is_floating_point():
        raise DualpixError(
            f"{name} of shape {tuple(values.shape)} and {values.dtype}", expected="floats (batch, 1, height, width)"
        )
    if values.shape[-2:] != image.shape[-2:] or values.shape[0] not in (1, image.shape[0]):
        raise DualpixError(
            f"{name} is {_size(values)}, the image {_size(image)}",
            expected="one size",
            hint="resize one of them; the CoC in px goes with the width",
        )
    if values.device != image.device:
        raise DualpixError(f"{name} is on {values.device}, the image on {image.device}", expected="one device")
    return values.to(image.dtype)


def check_coc(coc_px: Tensor, image: Tensor) -> Tensor:
    """Return a signed CoC (B or 1, N, H, W) in px that can be rendered over ``image``.

    Raises:
        DualpixError: it does not fit the image, is not finite, or is larger than the image's shorter side.
    """
    coc_px = check_map(coc_px, image, "CoC")
    broken = int((~torch.isfinite(coc_px.detach())).sum())
    if broken:
        raise DualpixError(
            f"CoC has {broken} NaN or infinite of {coc_px.numel()} pixels",
            expected="finite px",
            hint="fill holes first",
        )
    largest, shorter = float(coc_px.detach().abs().amax()), min(image.shape[-2:])
    if largest > shorter:
        raise DualpixError(
            f"CoC of {largest:.0f} px in an image of {_size(image)}",
            expected=f"at most its shorter side, {shorter} px",
            hint="check the units of depth, focal length and pixel pitch (the pitch is that of the rendered pixel)",
        )
    return coc_px


def check_depth(depth_m: Tensor, image: Tensor, lenses: Sequence[LensModel]) -> Tensor:
    """Return a depth map (B or 1, 1, H, W) in m that can be seen through ``lenses``.

    Infinity is a depth; NaN, 0 and negative values are holes that have to be filled first.

    Raises:
        DualpixError: the map does not fit the image or has holes; a lens is not possible.

    Warns:
        UnitsWarning: depth, focus distance, focal length or pitch look as if they were in another unit.
    """
    depth_m = check_map(depth_m, image, "depth")
    if depth_m.shape[1] != 1:
        raise DualpixError(f"depth of shape {tuple(depth_m.shape)}", expected="one channel: (batch, 1, height, width)")
    _check_holes(depth_m.detach())
    if not lenses:
        raise DualpixError("no lens", expected="at least one focus distance")
    median_m = float(depth_m.detach().median())
    # before the check of the lens: a wrong unit is the likely cause of an impossible one, and both are then told
    for doubt in dict.fromkeys(text for lens in lenses for text in _doubts(median_m, lens)):
        warnings.warn(doubt, UnitsWarning, stacklevel=4)
    for lens in lenses:
        check_lens(lens)
    return depth_m


def check_memory(needed_bytes: float, limit_bytes: int, what: str) -> None:
    """Refuse what would not fit, before anything is allocated.

    Raises:
        DualpixError: ``needed_bytes`` is above ``limit_bytes``.
    """
    if needed_bytes > limit_bytes:
        raise DualpixError(
            f"{what} would take about {needed_bytes / 2**30:.1f} GiB",
            expected=f"at most {limit_bytes / 2**30:.1f} GiB",
            hint="render a smaller batch, fewer layers or focus distances, or raise memory_limit_bytes",
        )


def _check_holes(depth_m: Tensor) -> None:
    counts = {
        "NaN": int(depth_m.isnan().sum()),
        "zero": int((depth_m == 0).sum()),
        "negative": int((depth_m < 0).sum()),
    }
    if any(counts.values()):
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        raise DualpixError(
            f"depth has {found} of {depth_m.numel()} pixels",
            expected="distances in m, > 0, infinity allowed",
            hint="fill holes first: dualpix.capture.rgbd.fill_holes",
        )


def _doubts(median_depth_m: float, lens: LensModel) -> list[str]:
    """What looks like another unit."""
    found = []
    focus_m = lens.focus_distance_m
    if math.isfinite(median_depth_m) and median_depth_m > _FAR_M and focus_m < _NEAR_M:
        found.append(
            f"median depth is {median_depth_m:.0f} m with focus at {focus_m:g} m: looks like millimetres; "
            "divide depth by 1000"
        )
    if math.isfinite(focus_m) and focus_m > _FAR_M and median_depth_m < _NEAR_M:
        found.append(
            f"focus is at {focus_m:g} m with a median depth of {median_depth_m:.1f} m: looks like millimetres; "
            "divide the focus distance by 1000"
        )
    if 0 < lens.focal_length_mm < _SHORT_MM:
        found.append(f"focal length is {lens.focal_length_mm:g} mm: looks like metres; multiply it by 1000")
    if 0 < lens.pixel_pitch_um < _FINE_UM:
        found.append(f"pixel pitch is {lens.pixel_pitch_um:g} um: looks like millimetres; multiply it by 1000")
    return found


def _size(tensor: Tensor) -> str:
    return f"{tensor.shape[0]} x {tensor.shape[-1]}x{tensor.shape[-2]}"
