"""Depth Anything V2 (Yang et al., NeurIPS 2024): DINOv2 with a DPT head (Ranftl et al., ICCV 2021), published names.

Kinds of depth: the published relative models give an inverse depth up to scale and shift (larger is nearer, >= 0); the
metric ones, of the same names and shapes, a depth in m, at most what they were trained for (indoors 20, outdoors 80).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.foundation.vit import PATCH_PX, VIT, DinoViT, ViTConfig


@dataclass(frozen=True)
class DPTConfig:
    """Width of the decoder, and channels that the four tapped features are brought to."""

    channels: int
    reassembled: tuple[int, int, int, int]


DPT = {
    "vits": DPTConfig(64, (48, 96, 192, 384)),
    "vitb": DPTConfig(128, (96, 192, 384, 768)),
    "vitl": DPTConfig(256, (256, 512, 1024, 1024)),
}
DECODER_STRIDES = (1.75, 3.5, 7.0, 14.0)
_OUTPUT_CHANNELS = 32


class _ResidualUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(F.relu(self.conv1(F.relu(x))))
        return y


class _Fusion(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        self.resConfUnit1, self.resConfUnit2 = _ResidualUnit(channels), _ResidualUnit(channels)

    def forward(self, x: Tensor, skip: Tensor | None, size_hw: tuple[int, int]) -> Tensor:
        """Add a finer feature, refine, resize."""
        y = self.resConfUnit2(x if skip is None else x + self.resConfUnit1(skip))
        out: Tensor = self.out_conv(F.interpolate(y, size_hw, mode="bilinear", align_corners=True))
        return out


class DPTHead(nn.Module):
    """Four features (B, C, h, w) of one resolution -> four maps at 8, 4, 2 and 1 times it, and one depth map."""

    def __init__(self, in_channels: int, config: DPTConfig) -> None:
        super().__init__()
        width, parts = config.channels, config.reassembled
        self.projects = nn.ModuleList(nn.Conv2d(in_channels, part, 1) for part in parts)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(parts[0], parts[0], 4, 4),
                nn.ConvTranspose2d(parts[1], parts[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(parts[3], parts[3], 3, 2, 1),
            ]
        )
        self.scratch = nn.Module()
        for i, part in enumerate(parts, start=1):
            self.scratch.add_module(f"layer{i}_rn", nn.Conv2d(part, width, 3, padding=1, bias=False))
        for i in range(1, 5):
            self.scratch.add_module(f"refinenet{i}", _Fusion(width))
        # published, and without use in the coarsest: nothing is fused there
        self.scratch.get_submodule("refinenet4.resConfUnit1").requires_grad_(False)
        self.scratch.add_module("output_conv1", nn.Conv2d(width, width // 2, 3, padding=1))
        last = [nn.Conv2d(width // 2, _OUTPUT_CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(_OUTPUT_CHANNELS, 1, 1)]
        self.scratch.add_module("output_conv2", nn.Sequential(*last))

    def decode(self, features: list[Tensor]) -> list[Tensor]:
        """The fused maps, finest first: 8, 4, 2 and 1 times the size of the features."""
        layers = [
            self.scratch.get_submodule(f"layer{i}_rn")(resize(project(x)))
            for i, (x, project, resize) in enumerate(
                zip(features, self.projects, self.resize_layers, strict=True), start=1
            )
        ]
        fused: list[Tensor] = []
        for i in (4, 3, 2, 1):
            h, w = layers[i - 2].shape[2:] if i > 1 else (2 * side for side in layers[0].shape[2:])
            refine = cast(_Fusion, self.scratch.get_submodule(f"refinenet{i}"))
            fused.append(refine(fused[-1], layers[i - 1], (h, w)) if fused else refine(layers[3], None, (h, w)))
        return fused[::-1]

    def raw_depth(self, finest: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """The finest map -> (B, 1, H, W), before the last activation."""
        x = self.scratch.get_submodule("output_conv1")(finest)
        x = F.interpolate(x, size_hw, mode="bilinear", align_corners=True)
        y: Tensor = self.scratch.get_submodule("output_conv2")(x)
        return y


class DepthAnythingV2(nn.Module):
    """(B, 3, H, W), normalised, H and W multiples of 14 -> the decoder's maps and (B, 1, H, W) depth.

    ``max_depth_m`` None: relative inverse depth; else the metric form, depth = max_depth_m * sigmoid.
    """

    def __init__(self, config: ViTConfig, head: DPTConfig, max_depth_m: float | None = None) -> None:
        super().__init__()
        self.max_depth_m = max_depth_m
        self.pretrained = DinoViT(config)
        self.depth_head = DPTHead(config.channels, head)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The decoder's maps at strides 1.75, 3.5, 7 and 14."""
        return self.depth_head.decode(self.pretrained(x))

    def with_depth(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The decoder's maps and the depth, in one pass."""
        maps = self(x)
        h, w = (x.shape[i] // PATCH_PX * PATCH_PX for i in (2, 3))
        raw = self.depth_head.raw_depth(maps[0], (h, w))
        return maps, F.relu(raw) if self.max_depth_m is None else torch.sigmoid(raw) * self.max_depth_m


def depth_anything_v2(size: str, max_depth_m: float | None = None) -> DepthAnythingV2:
    """Variant "vits", "vitb" or "vitl", with random weights."""
    return DepthAnythingV2(VIT[size], DPT[size], max_depth_m)
