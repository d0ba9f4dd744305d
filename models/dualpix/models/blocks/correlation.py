"""Matching along the baseline within a small signed range, and looking the result up at a disparity.

Convention: disparity d = x_right - x_left in px of the feature map; channel i of a volume of reach R belongs to the
shift s = i - R, so ``volume[:, i](x) = left(x) . right(x + s) / C``, zero where x + s lies outside the image. The shift
of the largest value is the disparity of the left view's pixel.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.channels import FrozenConv1x1
from dualpix.models.blocks.constants import constant

BAND_WIDTH_PX = 128
"""Up to this feature width :class:`CorrelationBand` is taken to be the faster form on XNNPACK: between two convolutions
it was 1.8 times as fast at 64 px, and only its work per pixel grows with the width."""


def correlation_plain(left: Tensor, right: Tensor, reach_px: int) -> Tensor:
    """The usual form, (B, C, H, W) twice -> (B, 2 reach + 1, H, W): shifted products, mean over channels."""
    width = left.shape[3]
    padded = F.pad(right, (reach_px, reach_px))
    shifted = [padded[..., i : i + width] for i in range(2 * reach_px + 1)]
    return torch.stack([(left * other).mean(1) for other in shifted], 1)


class CorrelationBand(nn.Module):
    """All pairs of a row by one matrix product, then the band of 2 reach + 1 diagonals: for narrow feature maps.

    The band is cut by padding each row so that reading the same memory one column longer makes diagonals columns
    (Huang et al., Music Transformer, ICLR 2019, "skewing"). Work grows with H W^2 C instead of H W (2 reach + 1) C, but
    it is one dense product, the operation phones are best at.
    """

    def __init__(self, channels: int, reach_px: int) -> None:
        super().__init__()
        self.reach_px = reach_px
        self.register_buffer("scale", torch.tensor(1.0 / channels), persistent=False)

    scale: Tensor

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B, 2 reach + 1, H, W)."""
        b, c, h, w = left.shape
        taps = 2 * self.reach_px + 1
        rows = (left * self.scale).permute(0, 2, 3, 1).reshape(b * h, w, c)
        columns = right.permute(0, 2, 1, 3).reshape(b * h, c, w)
        pairs = F.pad(torch.bmm(rows, columns), (self.reach_px, self.reach_px))
        skewed = F.pad(pairs.reshape(b * h, w * (w + taps - 1)), (0, w)).reshape(b * h, w, w + taps)
        return skewed[:, :, :taps].reshape(b, h, w, taps).permute(0, 3, 1, 2)


class CorrelationShifts(nn.Module):
    """Shifted products, each summed by a 1x1 convolution: for wide feature maps."""

    def __init__(self, channels: int, reach_px: int) -> None:
        super().__init__()
        self.reach_px = reach_px
        self.register_buffer("scale", torch.tensor(1.0 / channels), persistent=False)
        self.sum = FrozenConv1x1(torch.ones(1, channels))

    scale: Tensor

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B, 2 reach + 1, H, W)."""
        width = left.shape[3]
        # scaled before it is padded: padding straight after an int8 layer makes a file that XNNPACK does not load
        padded = F.pad(right * self.scale, (self.reach_px, self.reach_px))
        return torch.cat([self.sum(left * padded[..., i : i + width]) for i in range(2 * self.reach_px + 1)], 1)


def centred_correlation_plain(left: Tensor, right: Tensor, reach_px: int) -> Tensor:
    """The usual form of :class:`CentredCorrelation`."""
    width = left.shape[3]
    padded = [F.pad(view, (reach_px, reach_px)) for view in (left, right)]
    planes = []
    for shift in range(-reach_px, reach_px + 1):
        before, after = reach_px - shift // 2, reach_px + shift - shift // 2
        planes.append((padded[0][..., before : before + width] * padded[1][..., after : after + width]).mean(1))
    return torch.stack(planes, 1)


class CentredCorrelation(nn.Module):
    """Both views shifted, each by half: ``volume[:, i](x) = left(x - floor(s / 2)) . right(x + s - floor(s / 2)) / C``.

    So a volume belongs to the pixels of the full-aperture view, which lies between the halves, to half a pixel at odd
    shifts; that of one view lies off by half of the disparity.
    """

    def __init__(self, channels: int, reach_px: int) -> None:
        super().__init__()
        self.reach_px = reach_px
        self.register_buffer("root_scale", torch.tensor(channels**-0.5), persistent=False)
        self.sum = FrozenConv1x1(torch.ones(1, channels))

    root_scale: Tensor

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B, 2 reach + 1, H, W)."""
        width, reach = left.shape[3], self.reach_px
        # scaled before it is padded: padding straight after an int8 layer makes a file that XNNPACK does not load
        first, second = (F.pad(view * self.root_scale, (reach, reach)) for view in (left, right))
        planes = []
        for shift in range(-reach, reach + 1):
            before, after = reach - shift // 2, reach + shift - shift // 2
            planes.append(self.sum(first[..., before : before + width] * second[..., after : after + width]))
        return torch.cat(planes, 1)


def correlation(channels: int, reach_px: int, width_px: int) -> nn.Module:
    """The faster form for feature maps of ``width_px``: a module (left, right) -> volume."""
    form = CorrelationBand if width_px <= BAND_WIDTH_PX else CorrelationShifts
    return form(channels, reach_px)


def look_up_plain(volume: Tensor, disparity_px: Tensor, radius_px: int) -> Tensor:
    """The usual form: ``grid_sample`` along the shift axis, zero outside the volume.

    (B, 2 R + 1, H, W) at disparity (B, 1, H, W) + (-radius .. radius) -> (B, 2 radius + 1, H, W).
    """
    b, taps, h, w = volume.shape
    reach = (taps - 1) / 2
    lines = volume.permute(0, 2, 3, 1).reshape(b * h * w, 1, 1, taps)
    offsets = torch.arange(-radius_px, radius_px + 1, dtype=volume.dtype, device=volume.device)
    at = disparity_px.permute(0, 2, 3, 1).reshape(b * h * w, 1, 1) + offsets
    grid = torch.stack([at / reach, torch.zeros_like(at)], -1)
    sampled = F.grid_sample(lines, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.reshape(b, h, w, 2 * radius_px + 1).permute(0, 3, 1, 2)


class TentLookup(nn.Module):
    """Linear interpolation in a volume without ``grid_sample``: each shift s weighs max(0, 1 - |s - d - k|).

    Positions stay in pixels. ``grid_sample`` wants them normalised to the width, which costs up to 0.5 px where they
    are float16 (Core ML, Vulkan). The weights of sample k are those of sample 0 moved by k channels, so they are
    computed once over a range longer by the radius, and sliced.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("sum",)

    def __init__(self, reach_px: int, radius_px: int) -> None:
        super().__init__()
        self.taps, self.radius_px = 2 * reach_px + 1, radius_px
        outer = reach_px + radius_px
        shifts = constant(lambda: torch.arange(-outer, outer + 1, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("shifts", shifts, persistent=False)
        self.register_buffer("one", torch.tensor(1.0), persistent=False)
        self.sum = FrozenConv1x1(torch.ones(1, self.taps))

    shifts: Tensor
    one: Tensor

    def forward(self, volume: Tensor, disparity_px: Tensor) -> Tensor:
        """(B, 2 reach + 1, H, W) and (B, 1, H, W) -> (B, 2 radius + 1, H, W)."""
        tent = F.relu(self.one - (self.shifts - disparity_px).abs())
        starts = range(2 * self.radius_px, -1, -1)
        return torch.cat([self.sum(volume * tent[:, i : i + self.taps]) for i in starts], 1)


def softmax_over_channels(scores: Tensor) -> Tensor:
    """``softmax(scores, 1)`` of (B, C, H, W), on a 3-D tensor.

    Over dim 1 it is not delegated, and over the last axis of a 4-D tensor beside convolutions XNNPACK computes it over
    the wrong axis.
    """
    b, channels, h, w = scores.shape
    weights = torch.softmax(scores.permute(0, 2, 3, 1).reshape(b * h, w, channels), -1)
    return weights.reshape(b, h, w, channels).permute(0, 3, 1, 2)


class SoftArgmax(nn.Module):
    """Expected shift of a volume of scores, (B, 2 reach + 1, H, W) -> disparity (B, 1, H, W) in px.

    The soft arg-min of GC-Net (Kendall et al., ICCV 2017) on scores instead of costs.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("expected",)

    def __init__(self, reach_px: int) -> None:
        super().__init__()
        self.expected = FrozenConv1x1(torch.arange(-reach_px, reach_px + 1, dtype=torch.float32)[None])

    def forward(self, scores: Tensor) -> Tensor:
        """Softmax over shifts, then the mean shift."""
        disparity: Tensor = self.expected(softmax_over_channels(scores))
        return disparity


def soft_argmax_plain(scores: Tensor) -> Tensor:
    """The usual form: softmax over dim 1, weighted sum."""
    reach = (scores.shape[1] - 1) // 2
    shifts = torch.arange(-reach, reach + 1, dtype=scores.dtype, device=scores.device).reshape(1, -1, 1, 1)
    return (torch.softmax(scores, 1) * shifts).sum(1, keepdim=True)
