"""Weights that decompress: integers with scales, palettes, sparse masks, in the layouts of iOS 16 and of iOS 18.

Convention: ``scale * (stored - offset)``; a table of ``P`` palette entries of ``V`` values each ends in (P, V), and its
leading dimensions divide those of the indices: each block of indices has its own palette.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dualpix.export.coreml.operators.call import Call, operator
from dualpix.export.coreml.package import unpack_bits


@operator("const", "val")
def _const(call: Call) -> Tensor:
    return call.tensor("val")


@operator("constexpr_cast", "source_val output_dtype")
def _constexpr_cast(call: Call) -> Tensor:
    return call.tensor("source_val")


@operator("constexpr_affine_dequantize", "quantized_data zero_point scale axis")
def _affine_dequantize(call: Call) -> Tensor:
    data, scale, zero = call.tensor("quantized_data"), call.tensor("scale"), call.tensor("zero_point").float()
    shape = [1] * data.dim()
    shape[call.integer("axis")] = -1
    scale, zero = (v.reshape(shape) if v.dim() else v for v in (scale, zero))
    return (data.float() - zero) * scale


@operator("constexpr_blockwise_shift_scale", "data scale offset")
def _blockwise_shift_scale(call: Call) -> Tensor:
    return _blockwise(call, call.tensor("data"))


@operator("constexpr_sparse_blockwise_shift_scale", "data_mask nonzero_data scale offset")
def _sparse_blockwise_shift_scale(call: Call) -> list[Tensor]:
    mask = call.tensor("data_mask").bool()
    return [mask, _blockwise(call, _dense(call, mask, call.tensor("nonzero_data")))[mask]]


def _blockwise(call: Call, data: Tensor) -> Tensor:
    scale, offset = call.tensor("scale"), call.optional("offset")
    values = data.float() if offset is None else data.float() - _per_block(call, offset.float(), data.shape)
    return values * _per_block(call, scale, data.shape)


def _per_block(call: Call, values: Tensor, shape: Sequence[int]) -> Tensor:
    """Each block's value repeated over its elements."""
    if values.dim() != len(shape) or any(size % blocks for size, blocks in zip(shape, values.shape, strict=True)):
        call.fail(f"blocks {tuple(values.shape)} do not divide {tuple(shape)}")
    for axis, size in enumerate(shape):
        if values.shape[axis] not in (1, size):
            values = values.repeat_interleave(size // values.shape[axis], axis)
    return values


@operator("constexpr_lut_to_dense", "indices lut shape vector_axis")
def _lut_to_dense(call: Call) -> Tensor:
    indices, lut = call.tensor("indices"), call.tensor("lut")
    if lut.dim() > 1:
        return _look_up(call, indices, lut)
    shape = call.bounded(call.ints("shape"))
    bits, count = lut.numel().bit_length() - 1, math.prod(shape)
    if lut.numel() != 1 << bits or indices.numel() != math.ceil(count * bits / 8):
        call.fail(f"{indices.numel()} bytes of indices into {lut.numel()} values for the shape {tuple(shape)}")
    numbers = torch.from_numpy(unpack_bits(indices.numpy().tobytes(), bits, count))
    return lut[numbers.int()].reshape(shape)


@operator("constexpr_lut_to_sparse", "indices_mask indices_nonzero_data lut vector_axis")
def _lut_to_sparse(call: Call) -> list[Tensor]:
    mask, lut = call.tensor("indices_mask").bool(), call.tensor("lut")
    dense = _look_up(call, _dense(call, mask, call.tensor("indices_nonzero_data")), lut)
    mask = mask.repeat_interleave(lut.shape[-1], call.integer("vector_axis")) if lut.shape[-1] > 1 else mask
    return [mask, dense[mask]]


def _look_up(call: Call, indices: Tensor, lut: Tensor) -> Tensor:
    palettes, width = lut.shape[-2:]
    if int(indices.max()) >= palettes:
        call.fail(f"an index of {int(indices.max())} into a palette of {palettes}")
    blocks = torch.arange(math.prod(lut.shape[:-2]), dtype=torch.int32).reshape(lut.shape[:-2])
    values = lut.reshape(-1, width)[_per_block(call, blocks, indices.shape) * palettes + indices.int()]
    if width == 1:
        return values[..., 0]
    axis = call.integer("vector_axis") % indices.dim()
    return values.movedim(-1, axis + 1).flatten(axis, axis + 1)


@operator("constexpr_sparse_to_dense", "nonzero_data mask shape")
def _sparse_to_dense(call: Call) -> Tensor:
    mask = call.tensor("mask")
    if "shape" in call.operands:
        shape = call.bounded(call.ints("shape"))
        count = math.prod(shape)
        if mask.numel() != math.ceil(count / 8):
            call.fail(f"a mask of {mask.numel()} bytes for the shape {tuple(shape)}")
        mask = torch.from_numpy(unpack_bits(mask.numpy().tobytes(), 1, count)).reshape(shape)
    return _dense(call, mask.bool(), call.tensor("nonzero_data"))


def _dense(call: Call, mask: Tensor, values: Tensor) -> Tensor:
    if int(mask.sum()) != values.numel():
        call.fail(f"{values.numel()} values for {int(mask.sum())} places")
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[mask] = values
    return dense
