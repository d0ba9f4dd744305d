"""Compact DiFuse-Net: depth from a dual-pixel pair and the full-aperture image (arXiv 2506.14709, Samsung, IROS 2025).

Kept from the paper: EfficientNet-Lite-like image branch to 1/32, shallow siamese dual-pixel branch at 1/2 and 1/4,
windowed bidirectional parallax attention after each of its stages, feature-wise fusion at these two scales, U-Net
decoder with deep supervision. Changed, so that one network serves phones and cameras: signed disparity in pixels
instead of an affine-invariant inverse depth (linear head, no sigmoid), ReLU instead of PReLU, about a quarter of the
parameters.

Convention: inputs are prepared by :func:`dualpix.models.prepare.network_inputs`; the output is ``x_right - x_left`` in
pixels of the network's input grid, > 0 behind the focus plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks import (
    ConvBNReLU,
    FusedInvertedResidual,
    InvertedResidual,
    ViewFusion,
    WindowedParallaxAttention,
)

_DIFFERENCE_GAIN = 6.0
_MOST_CHANNELS = 2048


@dataclass(frozen=True)
class DiFuseNetConfig:
    """Sizes of the compact network; the defaults are the shipped one."""

    dp_channels: tuple[int, int] = (16, 32)
    image_channels: tuple[int, int, int, int, int] = (16, 24, 40, 80, 128)
    decoder_channels: tuple[int, int, int, int, int] = (24, 40, 48, 64, 80)
    """At 1/2, 1/4, 1/8, 1/16, 1/32."""
    window: int = 8
    """Of the attention, in feature pixels: 2, 4 or 8, because inputs are multiples of 32 and it runs at 1/4."""
    attended: str = "other"

    def __post_init__(self) -> None:
        channels = (*self.dp_channels, *self.image_channels, *self.decoder_channels)
        if any(type(c) is not int or not 1 <= c <= _MOST_CHANNELS for c in channels):
            raise ValueError(f"channels are {channels}, expected whole numbers of 1 to {_MOST_CHANNELS}")
        if type(self.window) is not int or self.window not in (2, 4, 8):
            raise ValueError(f"window is {self.window}, expected 2, 4 or 8")


class DualPixelEncoder(nn.Module):
    """Siamese branch with attention: two (B, 1, H, W) views -> pairs of features at 1/2 and 1/4.

    Each view comes with its difference to the other one, amplified: at a disparity of a fraction of a pixel that is
    all the signal there is, a few per cent of the view itself, and to first order disparity is difference over slope.
    """

    def __init__(self, config: DiFuseNetConfig) -> None:
        super().__init__()
        c2, c4 = config.dp_channels
        self.to_half = nn.Sequential(ConvBNReLU(2, c2, 5, stride=2), FusedInvertedResidual(c2, c2))
        self.half_attention = WindowedParallaxAttention(c2, config.window, config.attended)
        self.to_quarter = nn.Sequential(FusedInvertedResidual(c2, c4, stride=2), FusedInvertedResidual(c4, c4))
        self.register_buffer("difference_gain", torch.tensor(_DIFFERENCE_GAIN), persistent=False)
        self.quarter_attention = WindowedParallaxAttention(c4, config.window, config.attended)

    difference_gain: Tensor

    def forward(self, left: Tensor, right: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Features ((left, right) at 1/2, (left, right) at 1/4)."""
        # Two calls rather than one stacked batch: Vulkan delegates convolutions at batch 1 only.
        difference = (left - right) * self.difference_gain
        half = self.half_attention(
            self.to_half(torch.cat([left, difference], 1)), self.to_half(torch.cat([right, -difference], 1))
        )
        quarter = self.quarter_attention(self.to_quarter(half[0]), self.to_quarter(half[1]))
        return half, quarter


class ImageEncoder(nn.Module):
    """EfficientNet-Lite-like branch: (B, 3, H, W) -> features at 1/2; the later stages take the fused features."""

    def __init__(self, config: DiFuseNetConfig) -> None:
        super().__init__()
        c2, c4, c8, c16, c32 = config.image_channels
        d2, d4 = config.decoder_channels[:2]
        self.to_half = nn.Sequential(ConvBNReLU(3, c2, 3, stride=2), InvertedResidual(c2, c2, expand=2))
        self.to_quarter = nn.Sequential(FusedInvertedResidual(d2, c4, stride=2), InvertedResidual(c4, c4))
        self.to_eighth = nn.Sequential(FusedInvertedResidual(d4, c8, stride=2), InvertedResidual(c8, c8, kernel=5))
        self.to_sixteenth = nn.Sequential(
            InvertedResidual(c8, c16, stride=2), InvertedResidual(c16, c16), InvertedResidual(c16, c16, kernel=5)
        )
        self.to_thirty_second = nn.Sequential(
            InvertedResidual(c16, c32, kernel=5, stride=2),
            InvertedResidual(c32, c32, kernel=5),
            InvertedResidual(c32, c32),
        )


class DecoderStage(nn.Module):
    """Upsample by 2, join the skip, convolve: (B, below, H/2, W/2) + (B, skip, H, W) -> (B, out, H, W)."""

    def __init__(self, below: int, skip: int, out_channels: int, *, dense: bool) -> None:
        super().__init__()
        self.reduce = ConvBNReLU(below, out_channels, 1)  # before the upsampling: a quarter of the work
        self.join = ConvBNReLU(out_channels + skip, out_channels, 1 if not dense else 3)
        self.refine: nn.Module = (
            FusedInvertedResidual(out_channels, out_channels)
            if dense
            else InvertedResidual(out_channels, out_channels, kernel=5, expand=2)
        )

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decode one scale."""
        up = F.interpolate(self.reduce(below), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.refine(self.join(torch.cat([up, skip], 1)))
        return out


class DiFuseNet(nn.Module):
    """``forward(image, left, right) -> disparity_px``; see the module text for the convention.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 32; result (B, 1, H, W).
    """

    def __init__(self, config: DiFuseNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiFuseNetConfig()
        i2, i4, i8, i16, i32 = config.image_channels
        d2, d4, d8, d16, d32 = config.decoder_channels
        self.dual_pixel = DualPixelEncoder(config)
        self.image = ImageEncoder(config)
        self.fuse_half = ViewFusion(config.dp_channels[0], i2, d2)
        self.fuse_quarter = ViewFusion(config.dp_channels[1], i4, d4)
        self.bottom = ConvBNReLU(i32, d32, 1)
        self.decode16 = DecoderStage(d32, i16, d16, dense=False)
        self.decode8 = DecoderStage(d16, i8, d8, dense=False)
        self.decode4 = DecoderStage(d8, d4, d4, dense=True)
        self.decode2 = DecoderStage(d4, d2, d2, dense=True)
        self.heads = nn.ModuleList([nn.Conv2d(c, 1, 3, padding=1) for c in (d2, d4, d8, d16)])

    def _decode(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """Decoder features at 1/2, 1/4, 1/8, 1/16."""
        half, quarter = self.dual_pixel(left, right)
        fused2 = self.fuse_half(*half, self.image.to_half(image))
        fused4 = self.fuse_quarter(*quarter, self.image.to_quarter(fused2))
        at8 = self.image.to_eighth(fused4)
        at16 = self.image.to_sixteenth(at8)
        at32 = self.bottom(self.image.to_thirty_second(at16))
        out16 = self.decode16(at32, at16)
        out8 = self.decode8(out16, at8)
        out4 = self.decode4(out8, fused4)
        return [self.decode2(out4, fused2), out4, out8, out16]

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """Disparity in input pixels at 1/2, 1/4, 1/8, 1/16 of the input, for deep supervision."""
        return [head(x) for head, x in zip(self.heads, self._decode(image, left, right), strict=True)]

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Disparity (B, 1, H, W) in px of the input grid."""
        finest = self.heads[0](self._decode(image, left, right)[0])
        return F.interpolate(finest, scale_factor=2.0, mode="bilinear", align_corners=False)
