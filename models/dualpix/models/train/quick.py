"""The same network with gradients that a CPU computes sooner, and fewer maps kept for them.

Convention: states, names and outputs stay; gradients are the same up to rounding. What is exchanged, measured with
PyTorch 2.13 (oneDNN) on one core with AVX-512 BF16, for the default network's step of 8 x 128 x 160:

- *depthwise convolutions*, whose gradients in bfloat16 have no kernel of their own in oneDNN: 49 ms of 290, up to 60
  times what float32 takes where they stride. Taken in float32 but for the input's where nothing strides, which is
  itself a depthwise convolution, and so has a kernel: 8 ms. (3 x 3 without a stride is fast as it is.)
- *convolutions to one channel*, of gates and weight maps, which leave all but one lane of the kernel for wide outputs
  idle: 20 ms (48 of 520 in float32 on AVX2). As a product with all taps at once, whose maps are then shifted and
  summed, they are one matrix product forward and two backward: 6 ms (15).
- *ReLU after batch norm*, which works in place: neither needs the values in between for its gradient.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

_QUICK_KERNEL = 3
"""Depthwise kernels up to this that do not stride are fast as they are."""
_LEAST_CHANNELS = 8
"""Of convolutions to one channel that gain."""


class _DepthwiseGradients(torch.autograd.Function):
    """(B, C, H, W) by (C, 1, k, l); see the module."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        channels, size, form = weight.shape[0], list(x.shape), (ctx.stride, ctx.padding, 1, weight.shape[0])
        wide = gradient.float()
        of_weight = conv2d_weight(x.float(), list(weight.shape), wide, *form).to(weight.dtype)  # type: ignore[no-untyped-call]
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None, None
        if ctx.stride == (1, 1):  # itself such a convolution, by the kernel turned by half a turn
            inverse = [k - 1 - p for k, p in zip(weight.shape[2:], ctx.padding, strict=True)]
            return F.conv2d(gradient, weight.flip(2, 3), None, 1, inverse, 1, channels), of_weight, None, None
        of_x = conv2d_input(size, weight.float(), wide, *form)  # type: ignore[no-untyped-call]
        return of_x.to(gradient.dtype), of_weight, None, None


class _OneChannel(torch.autograd.Function):
    """(B, C, H, W) by (1, C, k, l), odd k and l, padded to the same size; see the module."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch, _, height, width = x.shape
        rows, columns = weight.shape[2:]
        taps = (_taps(weight) @ _pixels(x).t()).view(rows, columns, batch, height, width)
        maps = F.pad(taps, _border(rows, columns))
        total = torch.zeros((batch, height, width), dtype=torch.float32, device=x.device)
        for dy in range(rows):
            for dx in range(columns):
                total += maps[dy, dx, :, dy : dy + height, dx : dx + width]
        return total.to(x.dtype).unsqueeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        batch, channels, height, width = x.shape
        rows, columns = weight.shape[2:]
        padded = F.pad(gradient[:, 0], _border(rows, columns))
        # a tap that looked down and right is reached from up and left
        shifted = torch.stack(
            [
                padded[:, rows - 1 - dy : rows - 1 - dy + height, columns - 1 - dx : columns - 1 - dx + width]
                for dy in range(rows)
                for dx in range(columns)
            ]
        ).view(rows * columns, -1)
        of_x = (shifted.t() @ _taps(weight)).view(batch, height, width, channels).permute(0, 3, 1, 2)
        of_weight = (shifted @ _pixels(x)).t().reshape(weight.shape)
        return of_x, of_weight


def _pixels(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B*H*W, C): no copy of a map that lies channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _taps(weight: Tensor) -> Tensor:
    """(1, C, rows, columns) of a kernel -> (rows * columns, C)."""
    return weight.flatten(2)[0].t().contiguous()


def _border(rows: int, columns: int) -> tuple[int, int, int, int]:
    return (columns // 2, columns // 2, rows // 2, rows // 2)


def _number_type(x: Tensor) -> torch.dtype:
    """What a convolution of it is computed in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class DepthwiseConv2d(nn.Conv2d):
    """As its parent, with gradients that are computed sooner in bfloat16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        dtype = _number_type(x)
        if x.device.type != "cpu" or dtype != torch.bfloat16 or not torch.is_grad_enabled():
            return super().forward(x)
        y: Tensor = _DepthwiseGradients.apply(x.to(dtype), self.weight.to(dtype), self.stride, self.padding)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(dtype).view(1, -1, 1, 1)


class OneChannelConv2d(nn.Conv2d):
    """As its parent, as products of matrices while it learns on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        dtype = _number_type(x)
        if x.device.type != "cpu" or dtype == torch.float64 or not torch.is_grad_enabled():
            return super().forward(x)
        y: Tensor = _OneChannel.apply(x.to(dtype), self.weight.to(dtype))  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(dtype)


def quicken(network: nn.Module) -> nn.Module:
    """Exchange what the module names, in place; only PyTorch's own layers, no subclass of a user's.

    Args:
        network: to be trained; on a CPU, elsewhere its convolutions stay what they are.

    Returns:
        The same network.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d:
            if _is_depthwise(module):
                module.__class__ = DepthwiseConv2d
            elif _is_one_channel(module):
                module.__class__ = OneChannelConv2d
        if isinstance(module, nn.Sequential):
            for first, second in pairwise(module):
                if isinstance(first, nn.BatchNorm2d) and type(second) is nn.ReLU:
                    second.inplace = True
    return network


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and not isinstance(conv.padding, str)
        and all(p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True))
        and (conv.stride != (1, 1) or max(conv.kernel_size) > _QUICK_KERNEL)
    )


def _is_one_channel(conv: nn.Conv2d) -> bool:
    rows, columns = conv.kernel_size
    return (
        conv.out_channels == 1
        and conv.groups == 1
        and conv.in_channels >= _LEAST_CHANNELS
        and conv.padding_mode == "zeros"
        and conv.dilation == conv.stride == (1, 1)
        and rows % 2 == columns % 2 == 1
        and conv.padding == (rows // 2, columns // 2)
    )
