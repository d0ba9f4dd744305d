"""Small foundation networks with weights that show mistakes: no gain is one, no bias zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from dualpix.models.foundation.depth_anything import DepthAnythingV2, DPTConfig
from dualpix.models.foundation.vit import DinoViT, ViTConfig

N = TypeVar("N", bound=nn.Module)

TINY_VIT = ViTConfig(channels=32, blocks=4, heads=4, taps=(0, 1, 2, 3))
TINY_DPT = DPTConfig(channels=16, reassembled=(8, 16, 24, 32))


def stirred(build: Callable[[], N]) -> N:
    """Built with every parameter moved away from its plain start, in eval mode; the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def tiny_vit() -> DinoViT:
    return stirred(lambda: DinoViT(TINY_VIT))


def tiny_depth_anything(max_depth_m: float | None = None) -> DepthAnythingV2:
    return stirred(lambda: DepthAnythingV2(TINY_VIT, TINY_DPT, max_depth_m))
