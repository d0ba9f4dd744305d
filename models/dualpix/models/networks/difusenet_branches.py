"""The branches of compact DiFuse-Net, each with a decoder of its own: what is trained before the whole network is.

The encoders are those of :mod:`.difusenet`, under the same names, so that the whole network takes their weights as they
are. Where it has fused features, a branch has a convolution of its own; the dual-pixel branch, which ends at 1/4, has
averages below that.

Convention: as :mod:`.difusenet`; the image branch gives inverse depth up to scale and offset, larger nearer, without
bounds.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks import ConvBNReLU
from dualpix.models.networks.difusenet import DecoderStage, DiFuseNetConfig, DualPixelEncoder, ImageEncoder


class Decoder(nn.Module):
    """Features at 1/2 to 1/32, finest first -> maps at 1/2 to 1/16, finest first."""

    def __init__(self, config: DiFuseNetConfig) -> None:
        super().__init__()
        _, _, i8, i16, i32 = config.image_channels
        d2, d4, d8, d16, d32 = config.decoder_channels
        self.bottom = ConvBNReLU(i32, d32, 1)
        sizes = ((d4, d2, d2, True), (d8, d4, d4, True), (d16, i8, d8, False), (d32, i16, d16, False))
        self.stages = nn.ModuleList(DecoderStage(*channels, dense=dense) for *channels, dense in sizes)
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 3, padding=1) for c in (d2, d4, d8, d16))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """See the class."""
        *skips, deepest = features
        below, maps = self.bottom(deepest), []
        for stage, head, skip in zip(reversed(self.stages), reversed(self.heads), reversed(skips), strict=True):
            below = stage(below, skip)
            maps.append(head(below))
        return maps[::-1]


class ImageBranch(nn.Module):
    """``forward(image) -> inverse_depth_affine``: (B, 3, H, W) -> (B, 1, H, W), H and W multiples of 32."""

    def __init__(self, config: DiFuseNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiFuseNetConfig()
        self.image = ImageEncoder(config)
        channels = zip(config.image_channels[:2], config.decoder_channels[:2], strict=True)
        self.instead_of_fusion = nn.ModuleList(ConvBNReLU(i, d, 1) for i, d in channels)
        self.decoder = Decoder(config)

    def forward_scales(self, image: Tensor) -> list[Tensor]:
        """Maps at 1/2, 1/4, 1/8, 1/16."""
        encoder = self.image
        half = self.instead_of_fusion[0](encoder.to_half(image))
        quarter = self.instead_of_fusion[1](encoder.to_quarter(half))
        eighth = encoder.to_eighth(quarter)
        sixteenth = encoder.to_sixteenth(eighth)
        maps: list[Tensor] = self.decoder([half, quarter, eighth, sixteenth, encoder.to_thirty_second(sixteenth)])
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return _enlarged(self.forward_scales(image)[0])


class DualPixelBranch(nn.Module):
    """``forward(left, right) -> disparity_px``: (B, 1, H, W) twice -> the same shape, H and W multiples of 32."""

    def __init__(self, config: DiFuseNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiFuseNetConfig()
        self.dual_pixel = DualPixelEncoder(config)
        channels = zip(config.dp_channels, config.decoder_channels[:2], strict=True)
        self.instead_of_fusion = nn.ModuleList(ConvBNReLU(2 * c, d, 3) for c, d in channels)
        coarse = (config.decoder_channels[1], *config.image_channels[2:])
        self.widen = nn.ModuleList(ConvBNReLU(a, b, 1) for a, b in pairwise(coarse))
        self.decoder = Decoder(config)

    def forward_scales(self, left: Tensor, right: Tensor) -> list[Tensor]:
        """Disparity in input pixels at 1/2, 1/4, 1/8, 1/16."""
        pairs = self.dual_pixel(left, right)
        features = [join(torch.cat(pair, 1)) for join, pair in zip(self.instead_of_fusion, pairs, strict=True)]
        for widen in self.widen:
            features.append(widen(F.avg_pool2d(features[-1], 2)))
        maps: list[Tensor] = self.decoder(features)
        return maps

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """See the class."""
        return _enlarged(self.forward_scales(left, right)[0])


def _enlarged(finest: Tensor) -> Tensor:
    return F.interpolate(finest, scale_factor=2.0, mode="bilinear", align_corners=False)
