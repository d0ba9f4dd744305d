"""Reductions over channels, and layer norm made of them.

Phones' delegates reduce over space, not over channels: ``x.mean(1)`` and ``LayerNorm`` fall back to plain loops, and
each fall-back cuts the delegated graph in two. A 1x1 convolution with frozen equal weights is the same sum, and every
backend has it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def float_islands(network: nn.Module) -> tuple[str, ...]:
    """Paths of the submodules of ``network`` whose values lose too much in int8, for a quantiser to leave in float.

    They are named by the blocks, as ``FLOAT_IN_INT8``: paths inside the block. All are small sums that stay in the
    delegate, so a network pays next to nothing for them.
    """
    found = [
        f"{path}.{inner}" if path else inner
        for path, block in network.named_modules()
        for inner in getattr(block, "FLOAT_IN_INT8", ())
    ]
    return tuple(sorted(found))


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

    Int8: a variance that is rounded to zero ends as a division by ``eps``; :func:`float_islands` names the two means,
    so that a quantiser leaves them alone.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("mean",)

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mean, self._eps = ChannelMean(channels), eps
        # a Python number would become a conversion between memory layouts in front of the delegate
        self.register_buffer("eps", torch.tensor(eps), persistent=False)

    eps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel over its channels."""
        centred = x - self.mean(x)
        inverse = torch.rsqrt(self.mean(centred * centred) + self.eps)
        y: Tensor = centred * inverse * self.weight[:, None, None] + self.bias[:, None, None]
        return y

    def plain(self, x: Tensor) -> Tensor:
        """The usual form: ``F.layer_norm`` on a channels-last copy."""
        normal = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias, self._eps)
        return normal.permute(0, 3, 1, 2)


class LayerNormTokens(nn.Module):
    """Layer norm over the features of tokens, (B, N, C) -> the same, with sums as products by a frozen row of weights.

    State dict as ``nn.LayerNorm``'s, so that a pretrained transformer's weights load.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("mean",)

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mean, self._eps = TokenMean(channels), eps
        # one axis, not none: Core ML's converter joins a sum after a linear to its bias, and a scalar makes it fail
        self.register_buffer("eps", torch.tensor([eps]), persistent=False)

    eps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each token over its features."""
        centred = x - self.mean(x)
        y: Tensor = centred * torch.rsqrt(self.mean(centred * centred) + self.eps) * self.weight + self.bias
        return y

    def plain(self, x: Tensor) -> Tensor:
        """The usual form, ``F.layer_norm``."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self._eps)


class EagerLayerNormTokens(LayerNormTokens):
    """:class:`LayerNormTokens` that is torch's own in eager mode: autocast would run its sums in half precision."""

    def forward(self, x: Tensor) -> Tensor:
        """The delegated form only where it is needed."""
        return super().forward(x) if torch.compiler.is_exporting() else self.plain(x)


class TokenMean(nn.Module):
    """``x.mean(-1, keepdim=True)`` as a linear layer of equal frozen weights: (B, N, C) -> (B, N, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("row", torch.full((1, channels), 1.0 / channels), persistent=False)

    row: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Average over the features."""
        return F.linear(x, self.row)
