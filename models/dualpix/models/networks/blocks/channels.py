"""Reductions over channels, and layer norm made of them.

Phones' delegates reduce over space, not over channels: ``x.mean(1)`` and ``LayerNorm`` fall back to plain loops, and
each fall-back cuts the delegated graph in two. A 1x1 convolution with frozen equal weights is the same sum, and every
backend has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenConv1x1(nn.Module):
    """Weighted sums over channels with fixed weights (out, in): (B, in, H, W) -> (B, out, H, W); nothing to train."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights[:, :, None, None].clone(), persistent=False)

    weights: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Apply the sums."""
        return F.conv2d(x, self.weights)


class ChannelMean(FrozenConv1x1):
    """``x.mean(1, keepdim=True)`` as a convolution: (B, C, H, W) -> (B, 1, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(torch.full((1, channels), 1.0 / channels))


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of an image (Ba et al., 2016), (B, C, H, W) -> the same.

    Int8: mean and variance are intermediate values of very unlike range; :func:`float_islands` names them so that a
    quantiser leaves them alone.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mean = ChannelMean(channels)
        # a Python number would become a conversion between memory layouts in front of the delegate
        self.register_buffer("eps", torch.tensor(eps), persistent=False)

    eps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel over its channels."""
        centred = x - self.mean(x)
        inverse = torch.rsqrt(self.mean(centred * centred) + self.eps)
        return centred * inverse * self.weight[:, None, None] + self.bias[:, None, None]

    def plain(self, x: Tensor) -> Tensor:
        """The usual form: ``F.layer_norm`` on a channels-last copy."""
        normal = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias, float(self.eps))
        return normal.permute(0, 3, 1, 2)


class LayerNormTokens(nn.Module):
    """Layer norm over the features of tokens, (B, N, C) -> the same, with sums as products by a frozen row of weights.

    State dict as ``nn.LayerNorm``'s, so that a pretrained transformer's weights load.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mean = TokenMean(channels)
        self.register_buffer("eps", torch.tensor(eps), persistent=False)

    eps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each token over its features."""
        centred = x - self.mean(x)
        return centred * torch.rsqrt(self.mean(centred * centred) + self.eps) * self.weight + self.bias

    def plain(self, x: Tensor) -> Tensor:
        """The usual form, ``F.layer_norm``."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, float(self.eps))


class TokenMean(nn.Module):
    """``x.mean(-1, keepdim=True)`` as a linear layer of equal frozen weights: (B, N, C) -> (B, N, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("row", torch.full((1, channels), 1.0 / channels), persistent=False)

    row: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Average over the features."""
        return F.linear(x, self.row)
