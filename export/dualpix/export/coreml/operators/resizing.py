"""Resizing and sampling of images.

Convention: an image is (..., H, W); positions are in pixels of the input, 0 the centre of the first pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.export.coreml.operators.call import Call, operator


def _positions(call: Call, mode: str, size: int, wanted: int) -> Tensor:
    """Where ``wanted`` outputs sample an axis of ``size`` pixels in each mode of the format: float64 (wanted,)."""
    steps = torch.arange(wanted, dtype=torch.float64)
    last = max(wanted - 1, 1)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        middle = (size - 1) / 2 if mode == "ALIGN_CORNERS" and wanted == 1 else 0.0
        positions = middle + steps * (size - 1) / last
    elif mode == "UNALIGN_CORNERS":
        positions = (steps + 0.5) * size / wanted - 0.5
    elif mode == "DEFAULT":
        positions = steps * size / wanted
    elif mode == "OFFSET_CORNERS":
        positions = (steps + 0.5) * max(1, size - 1) / wanted
    else:
        call.fail(f"sampling mode '{mode}'")
    return positions.clamp(0, size - 1)


def _linear(call: Call, x: Tensor, axis: int, wanted: int, mode: str) -> Tensor:
    """Resample one axis linearly."""
    positions = _positions(call, mode, x.shape[axis], wanted)
    low = positions.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    shape = [-1 if k == axis % x.dim() else 1 for k in range(x.dim())]
    part = (positions - low).float().reshape(shape)
    return x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part


def _bilinear(call: Call, x: Tensor, size_hw: tuple[int, int], mode: str) -> Tensor:
    call.bounded([*x.shape[:-2], *size_hw])
    return _linear(call, _linear(call, x, -2, size_hw[0], mode), -1, size_hw[1], mode)


def _nearest(call: Call, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    call.bounded([*x.shape[:-2], *size_hw])
    rows, columns = ((torch.arange(n) * x.shape[axis]) // n for n, axis in zip(size_hw, (-2, -1), strict=True))
    return x.index_select(-2, rows).index_select(-1, columns)


def _scaled_size(call: Call, x: Tensor) -> tuple[int, int]:
    """Output size by scale factors; a factor such as 5/3 is stored in float32 and must not lose a pixel by that."""
    height, width = call.number("scale_factor_height", 1.0), call.number("scale_factor_width", 1.0)
    return int(x.shape[-2] * height + 1e-4), int(x.shape[-1] * width + 1e-4)


@operator("upsample_bilinear", "x scale_factor_height scale_factor_width align_corners half_pixel_centers")
def _upsample_bilinear(call: Call) -> Tensor:
    aligned = call.flag("align_corners", True)
    centres = call.flag("half_pixel_centers", not aligned)
    mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS" if centres else "DEFAULT"
    return _bilinear(call, call.tensor("x"), _scaled_size(call, call.tensor("x")), mode)


@operator("resize_bilinear", "x target_size_height target_size_width sampling_mode")
def _resize_bilinear(call: Call) -> Tensor:
    size = call.integer("target_size_height", 1), call.integer("target_size_width", 1)
    return _bilinear(call, call.tensor("x"), size, call.text("sampling_mode", "DEFAULT"))


@operator("upsample_nearest_neighbor", "x scale_factor_height scale_factor_width")
def _upsample_nearest(call: Call) -> Tensor:
    return _nearest(call, call.tensor("x"), _scaled_size(call, call.tensor("x")))


@operator("resize_nearest_neighbor", "x target_size_height target_size_width")
def _resize_nearest(call: Call) -> Tensor:
    return _nearest(
        call, call.tensor("x"), (call.integer("target_size_height", 1), call.integer("target_size_width", 1))
    )


@operator("resize", "x shape resized_dims interpolation_mode sampling_mode")
def _resize(call: Call) -> Tensor:
    x, shape, count = call.tensor("x"), call.ints("shape"), call.integer("resized_dims")
    if count != 2:
        call.fail(f"{count} resized dimensions")
    height, width = (size or x.shape[axis] for size, axis in zip(shape[-2:], (-2, -1), strict=True))
    mode = call.text("sampling_mode", "DEFAULT")
    if call.text("interpolation_mode", "LINEAR") == "LINEAR":
        return _bilinear(call, x, (height, width), mode)
    if mode != "DEFAULT":
        call.fail(f"nearest neighbours with sampling mode '{mode}'")
    return _nearest(call, x, (height, width))


_PADDINGS = {
    ("constant", True): "zeros", ("constant", False): "zeros", ("border", True): "border",
    ("border", False): "border", ("reflection", True): "reflection", ("symmetric", False): "reflection",
}  # fmt: skip
"""torch's name by padding mode and ``align_corners``: torch mirrors at pixel centres where corners are aligned, at
pixel edges otherwise."""


@operator("resample", "x coordinates sampling_mode padding_mode padding_value coordinates_mode align_corners")
def _resample(call: Call) -> Tensor:
    x, aligned = call.tensor("x"), call.flag("align_corners", True)
    padding = _PADDINGS.get((call.text("padding_mode"), aligned))
    if padding is None:
        call.fail(f"padding '{call.text('padding_mode')}' with align_corners {aligned}")
    grid, units = call.tensor("coordinates").float(), call.text("coordinates_mode")
    if units == "normalized_zero_to_one":
        grid = 2 * grid - 1
    elif units != "normalized_minus_one_to_one":
        call.fail(f"coordinates '{units}'")
    outside = call.number("padding_value", 0.0) if padding == "zeros" else 0.0
    mode = call.text("sampling_mode")
    return F.grid_sample(x - outside, grid, mode=mode, padding_mode=padding, align_corners=aligned) + outside
