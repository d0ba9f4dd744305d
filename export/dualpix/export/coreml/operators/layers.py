"""Operators with weights, pooling, matrix products and normalisation.

Convention: spatial padding is (before, after) per dimension, outermost first: ``[top, bottom, left, right]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.export.coreml.operators.call import Call, operator

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_AVERAGES = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_MAXIMA = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


def torch_padding(pads: Sequence[int]) -> list[int]:
    """The order that ``F.pad`` takes: innermost dimension first."""
    return [v for k in range(len(pads) - 2, -1, -2) for v in pads[k : k + 2]]


def _padding(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: list[int], dilations: list[int]
) -> list[int]:
    kind = call.text("pad_type", "valid")
    if kind == "valid":
        return [0] * (2 * len(kernel))
    if kind == "custom":
        return call.ints("pad", [0] * (2 * len(kernel)))
    if kind not in ("same", "same_lower"):
        call.fail(f"pad_type '{kind}'")
    pads: list[int] = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        less, more = total // 2, total - total // 2
        pads += [less, more] if kind == "same" else [more, less]
    return pads


def _spatial(call: Call, x: Tensor) -> tuple[int, list[int], list[int]]:
    """Number of spatial dimensions, strides, dilations."""
    n = x.dim() - 2
    if n not in (1, 2, 3):
        call.fail(f"an input of {x.dim()} dimensions")
    return n, call.ints("strides", [1] * n), call.ints("dilations", [1] * n)


@operator("conv", "x weight bias strides pad_type pad dilations groups")
def _conv(call: Call) -> Tensor:
    x, weight = call.tensor("x"), call.tensor("weight")
    n, strides, dilations = _spatial(call, x)
    pads = _padding(call, x.shape[2:], weight.shape[2:], strides, dilations)
    padded = F.pad(x, torch_padding(pads)) if any(pads) else x
    groups = call.integer("groups", 1)
    return _CONVOLUTIONS[n - 1](padded, weight, call.optional("bias"), strides, 0, dilations, groups)


@operator("conv_transpose", "x weight bias pad output_shape pad_type strides dilations groups")
def _conv_transpose(call: Call) -> Tensor:
    x, weight = call.tensor("x"), call.tensor("weight")
    n, strides, dilations = _spatial(call, x)
    kind = call.text("pad_type", "valid")
    if kind not in ("valid", "custom"):
        call.fail(f"pad_type '{kind}'")
    pads = call.ints("pad", [0] * 2 * n) if kind == "custom" else [0] * 2 * n
    whole = _TRANSPOSED[n - 1](x, weight, call.optional("bias"), strides, 0, 0, call.integer("groups", 1), dilations)
    wanted = call.ints("output_shape", [])[2:]
    if wanted:  # rows past the last that the padding leaves belong to the output: torch's output_padding
        pads = list(pads)
        for k, size in enumerate(wanted):
            pads[2 * k + 1] = whole.shape[2 + k] - pads[2 * k] - size
    return F.pad(whole, torch_padding([-p for p in pads]))


@operator("linear", "x weight bias")
def _linear(call: Call) -> Tensor:
    return F.linear(call.tensor("x"), call.tensor("weight"), call.optional("bias"))


@operator("matmul", "x y transpose_x transpose_y")
def _matmul(call: Call) -> Tensor:
    x, y = call.tensor("x"), call.tensor("y")
    x = x.transpose(-1, -2) if call.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if call.flag("transpose_y") else y)


@operator("einsum", "values equation")
def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.text("equation"), *call.tensors("values"))


@operator("scaled_dot_product_attention", "query key value attn_mask")
def _attention(call: Call) -> Tensor:
    query, key, value = (call.tensor(name) for name in ("query", "key", "value"))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=call.optional("attn_mask"))


@operator("max_pool avg_pool", "x kernel_sizes strides pad_type pad ceil_mode exclude_padding_from_average")
def _pool(call: Call) -> Tensor:
    x, kernel = call.tensor("x"), call.ints("kernel_sizes")
    n, strides, _ = _spatial(call, x)
    pads = _padding(call, x.shape[2:], kernel, strides, [1] * n)
    ceil, exclude = call.flag("ceil_mode"), call.flag("exclude_padding_from_average")
    if pads[::2] == pads[1::2] and all(2 * p <= k for p, k in zip(pads[::2], kernel, strict=True)):
        if call.kind == "max_pool":
            return _MAXIMA[n - 1](x, kernel, strides, pads[::2], 1, ceil)
        return _AVERAGES[n - 1](x, kernel, strides, pads[::2], ceil, not exclude)
    if ceil:
        call.fail("ceil_mode with uneven padding")
    if call.kind == "max_pool":
        return _MAXIMA[n - 1](F.pad(x, torch_padding(pads), value=float("-inf")), kernel, strides)
    mean = _AVERAGES[n - 1](F.pad(x, torch_padding(pads)), kernel, strides)
    return mean / _AVERAGES[n - 1](F.pad(torch.ones_like(x), torch_padding(pads)), kernel, strides) if exclude else mean


@operator("batch_norm", "x mean variance gamma beta epsilon")
def _batch_norm(call: Call) -> Tensor:
    mean, variance = call.tensor("mean"), call.tensor("variance")
    gamma, beta = call.optional("gamma"), call.optional("beta")
    return F.batch_norm(call.tensor("x"), mean, variance, gamma, beta, eps=call.number("epsilon", 1e-5))


@operator("instance_norm", "x gamma beta epsilon")
def _instance_norm(call: Call) -> Tensor:
    gamma, beta = call.optional("gamma"), call.optional("beta")
    return F.instance_norm(call.tensor("x"), weight=gamma, bias=beta, eps=call.number("epsilon", 1e-5))


@operator("layer_norm", "x axes gamma beta epsilon")
def _layer_norm(call: Call) -> Tensor:
    x = call.tensor("x")
    axes = [axis % x.dim() for axis in call.ints("axes", range(x.dim()))]
    centred = x - x.mean(axes, keepdim=True)
    scaled = centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + call.number("epsilon", 1e-5))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    gamma, beta = call.optional("gamma"), call.optional("beta")
    scaled = scaled if gamma is None else scaled * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


@operator("l2_norm", "x epsilon")
def _l2_norm(call: Call) -> Tensor:
    x = call.tensor("x")
    return x * torch.rsqrt(x.square().sum((-3, -2, -1), keepdim=True) + call.number("epsilon", 1e-6))
