"""A small siamese network with everything that makes export hard: shared layers, batch norm, cat, residual."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.networks import NetworkSpec
from dualpix.models.zoo import LoadedModel


class TinySiamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU()
        )
        self.image = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.join = nn.Sequential(nn.Conv2d(24, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Conv2d(16, 1, 3, 1, 1)

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> Tensor:
        # the views in different ranges: scales measured on one must not be used for the other
        x = torch.cat([self.image(image), self.encode(left), self.encode(3.0 * right)], 1)
        return F.interpolate(self.head(self.join(x)), scale_factor=2.0, mode="bilinear", align_corners=False)


def scene(size_hw: tuple[int, int] = (64, 96), batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    h, w = size_hw
    image = F.interpolate(torch.rand(batch, 3, h // 8, w // 8), size=(h, w), mode="bicubic")
    left = image.mean(1, keepdim=True)
    return image, left, torch.roll(left, 1, 3)


def tiny_net() -> TinySiamese:
    """With batch-norm statistics and affine parameters as unlike the identity as a trained network's."""
    torch.manual_seed(5)
    net = TinySiamese().train()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.bias, -0.5, 1.0)
    with torch.no_grad():
        for _ in range(30):
            net(*scene(batch=2))
    return net.eval()


def tiny_model(folder: Path) -> LoadedModel:
    spec = NetworkSpec(lambda options: tiny_net(), (("image", 3), ("left", 1), ("right", 1)), "disparity_px", 2, "none")
    return LoadedModel("tiny", tiny_net(), spec, {"network": "tiny"}, folder)


def sqnr_db(reference: Tensor, output: Tensor) -> float:
    return float(10 * torch.log10(reference.pow(2).mean() / (reference - output).pow(2).mean().clamp_min(1e-20)))
