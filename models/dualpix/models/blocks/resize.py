"""Changing resolution: forms that are delegated and mean the same on every backend.

Bilinear resize to a static size is delegated as it is, in float and between int8 layers, with either ``align_corners``.
Not so: ``antialias=True`` (XNNPACK leaves it out, Core ML drops the flag without a word: another picture), bicubic and
nearest-exact (an explosion of index look-ups), ``area`` and ``avg_pool2d`` without an explicit
``count_include_pad=False`` and stride, and depthwise transposed convolutions (delegated, and slower than eager).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.constants import constant


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear, pixel centres aligned: (B, C, H, W) -> (B, C, factor H, factor W); delegated as it is."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def mean_pool(x: Tensor, factor: int) -> Tensor:
    """Mean of factor x factor pixels, (B, C, H, W) -> (B, C, H/factor, W/factor): ``area`` resize for whole factors."""
    return F.avg_pool2d(x, factor, factor, 0, False, False)


class AntialiasedShrink(nn.Module):
    """Bilinear shrinking with antialias by a whole factor, for maps of one size: (B, C, H, W) -> (B, C, H/f, W/f).

    Equal to ``F.interpolate(..., mode="bilinear", antialias=True)``: a tent of 2 f pixels as a frozen depthwise
    convolution, and a constant map that makes up for the part of the tent outside the image. (Equal where the result
    has two columns or more; of a single column torch 2.13 itself computes something else on the CPU.)
    """

    def __init__(self, channels: int, factor: int, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor
        taps = 2 * factor - factor % 2
        tent = 1 - (torch.arange(taps, dtype=torch.float32) - (taps - 1) / 2).abs() / factor
        tent = tent / tent.sum()
        kernel = (tent[:, None] * tent[None])[None, None].repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)
        inside = F.conv2d(torch.ones(1, 1, *size_hw), kernel[:1], stride=factor, padding=factor // 2)
        self.register_buffer("border_gain", 1 / inside, persistent=False)

    kernel: Tensor
    border_gain: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Shrink."""
        y = F.conv2d(x, self.kernel, stride=self.factor, padding=self.factor // 2, groups=x.shape[1])
        return y * self.border_gain

    def plain(self, x: Tensor) -> Tensor:
        """The usual form."""
        size = (x.shape[2] // self.factor, x.shape[3] // self.factor)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """``F.pixel_shuffle`` by two 4-D permutations: (B, C f f, H, W) -> (B, C, f H, f W)."""
    b, c, h, w = x.shape
    planes = c // factor**2
    wide = x.reshape(b * planes * factor, factor, h, w).permute(0, 2, 3, 1).reshape(b * planes, factor, h, w * factor)
    return wide.permute(0, 2, 1, 3).reshape(b, planes, h * factor, w * factor)


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """``F.pixel_unshuffle`` by two 4-D permutations: (B, C, f H, f W) -> (B, C f f, H, W)."""
    b, c, h, w = x.shape
    rows = x.reshape(b * c, h // factor, factor, w).permute(0, 2, 1, 3)
    columns = rows.reshape(b * c * factor, h // factor, w // factor, factor).permute(0, 3, 1, 2)
    return columns.reshape(b, c * factor**2, h // factor, w // factor)


class ConvexUpsample(nn.Module):
    """RAFT's upsampling (Teed & Deng, ECCV 2020): each fine pixel a convex mean of 3 x 3 coarse ones.

    (B, 1, H, W) disparity in px of the coarse map and (B, 9 f f, H, W) scores, neighbour first as RAFT's ->
    (B, 1, f H, f W) in px of the fine map, so f times as large. No tensor has more than 4 axes; RAFT's form has 7.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        # each neighbour as one channel; the gain from coarse to fine px rides along
        neighbours = constant(lambda: factor * torch.eye(9).reshape(9, 1, 3, 3))
        self.register_buffer("neighbours", neighbours, persistent=False)

    neighbours: Tensor

    def forward(self, disparity_px: Tensor, scores: Tensor) -> Tensor:
        """Upsample."""
        fine = self.factor**2
        near = F.conv2d(disparity_px, self.neighbours, padding=1)
        parts = [scores[:, i * fine : (i + 1) * fine] for i in range(9)]
        highest = parts[0]
        for part in parts[1:]:
            highest = torch.maximum(highest, part)
        weights = [torch.exp(part - highest) for part in parts]
        mean, total = weights[0] * near[:, :1], weights[0]
        for i, weight in enumerate(weights[1:], start=1):
            mean, total = mean + weight * near[:, i : i + 1], total + weight
        return pixel_shuffle(mean / total, self.factor)

    def plain(self, disparity_px: Tensor, scores: Tensor) -> Tensor:
        """The usual form: ``F.unfold`` and 7-D views."""
        b, _, h, w = disparity_px.shape
        f = self.factor
        weights = torch.softmax(scores.reshape(b, 1, 9, f, f, h, w), 2)
        near = F.unfold(f * disparity_px, 3, padding=1).reshape(b, 1, 9, 1, 1, h, w)
        return (weights * near).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(b, 1, f * h, f * w)
