"""The convolutional encoders of RAFT-Stereo (Lipson, Teed & Deng, 3DV 2021), which FMDP's paper form matches with.

Convention: a picture is (B, 3, H, W), H and W multiples of 16; maps are at 1/4, 1/8 and 1/16, finest first. Every
convolution has a bias, also in front of a norm that takes it off again: sizes are those that were published.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


class InstanceNorm(nn.Module):
    """Each channel of each picture to mean 0 and deviation 1; nothing is learnt: (B, C, H, W) -> the same.

    Exported, it is written out: ``F.instance_norm`` is not delegated, means over a map are.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        del channels  # as norms are asked for
        self._eps = 1e-5
        # a Python number would become a conversion between memory layouts in front of the delegate
        self.register_buffer("eps", torch.tensor(self._eps), persistent=False)

    eps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return self.delegated(x) if torch.compiler.is_exporting() else F.instance_norm(x, eps=self._eps)

    def delegated(self, x: Tensor) -> Tensor:
        """The form for phones."""
        centred = x - x.mean((2, 3), keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean((2, 3), keepdim=True) + self.eps)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a way around them, each followed by ReLU: (B, in, H, W) -> (B, out, H/s, W/s)."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        self.first = _conv_norm(in_channels, out_channels, 3, norm, stride)
        self.second = _conv_norm(out_channels, out_channels, 3, norm)
        changed = stride != 1 or in_channels != out_channels
        self.around = _conv_norm(in_channels, out_channels, 1, norm, stride)[:2] if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return F.relu(self.around(x) + self.second(self.first(x)))


def _conv_norm(in_channels: int, out_channels: int, kernel: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2), norm(out_channels), nn.ReLU()
    )


def _initialise(encoder: nn.Module) -> None:
    """As published: by the number of outputs (He et al., ICCV 2015)."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(in_channels: int, out_channels: int, norm: Norm, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(in_channels, out_channels, norm, stride), ResidualBlock(out_channels, out_channels, norm)
    )


def _trunk(norm: Norm) -> nn.Sequential:
    """(B, 3, H, W) -> (B, 128, H/4, W/4)."""
    return nn.Sequential(
        _conv_norm(3, 64, 7, norm), _stage(64, 64, norm, 1), _stage(64, 96, norm, 2), _stage(96, 128, norm, 2)
    )


class MatchingEncoder(nn.Module):
    """RAFT-Stereo's ``BasicEncoder`` with instance norm: (B, 3, H, W) -> (B, 256, H/4, W/4)."""

    def __init__(self, out_channels: int = 256) -> None:
        super().__init__()
        self.trunk = _trunk(InstanceNorm)
        self.project = nn.Conv2d(128, out_channels, 1)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Features to match."""
        y: Tensor = self.project(self.trunk(x))
        return y


class ContextEncoder(nn.Module):
    """RAFT-Stereo's ``MultiBasicEncoder`` with batch norm: (B, 3, H, W) -> hidden states and context at three levels.

    Args:
        channels: of a hidden state, and of a context.
        with_context: False where the context comes from elsewhere. Its heads are part of the published sizes all the
            same, and are not trained: a parameter that wants a gradient and gets none stops training in several
            processes.
    """

    def __init__(self, channels: int = 128, *, with_context: bool = True) -> None:
        super().__init__()
        norm = nn.BatchNorm2d
        self.trunk = _trunk(norm)
        self.to_eighth, self.to_sixteenth = _stage(128, 128, norm, 2), _stage(128, 128, norm, 2)
        self.hidden, self.context = (
            nn.ModuleList([_head(channels, norm), _head(channels, norm), nn.Conv2d(128, channels, 3, padding=1)])
            for _ in range(2)
        )
        self.with_context = with_context
        self.context.requires_grad_(with_context)
        _initialise(self)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states, -1 to 1, and contexts, >= 0 (none without ``with_context``); finest first."""
        quarter = self.trunk(x)
        eighth = self.to_eighth(quarter)
        levels = (quarter, eighth, self.to_sixteenth(eighth))
        hidden = [torch.tanh(head(level)) for head, level in zip(self.hidden, levels, strict=True)]
        if not self.with_context:
            return hidden, []
        return hidden, [F.relu(head(level)) for head, level in zip(self.context, levels, strict=True)]


def _head(channels: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(128, 128, norm), nn.Conv2d(128, channels, 3, padding=1))
