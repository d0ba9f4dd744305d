"""What one iteration of FMDP's paper form computes: looked-up similarities to a corrected disparity.

The recurrent unit is RAFT-Stereo's (Lipson, Teed & Deng, 3DV 2021), the attention in front of it QPDNet's (Wu et al.,
BMVC 2024), whose parts are those of FFA-Net (Qin et al., AAAI 2020).

Convention: lists of maps are finest first, at 1/4, 1/8 and 1/16 of the picture; a half disparity is in px at 1/4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.recurrent import ConvGRU

HIDDEN = 128
_MASK_GAIN = 0.25
"""Of the upsampling scores: RAFT's, to balance gradients."""


class _Attention(nn.Module):
    """Channel and pixel attention, each a gate of two 1x1 convolutions. Their inner width is the full one: with it the
    parameters come out at the published number."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel, self.pixel = (
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, out, 1), nn.Sigmoid())
            for out in (channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh channels, then pixels."""
        x = x * self.channel(x.mean((2, 3), keepdim=True))
        y: Tensor = x * self.pixel(x)
        return y


class _AttentionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.attention = _Attention(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.attention(self.second(x + F.relu(self.first(x))))
        return y


class SimilarityAttention(nn.Module):
    """QPDNet's CAPA, a group of FFA-Net on the looked-up similarities: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_AttentionBlock(channels) for _ in range(blocks)))
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the group."""
        y: Tensor = x + self.last(self.blocks(x))
        return y


class MotionEncoder(nn.Module):
    """Similarities (B, C, H, W) and half disparity (B, 1, H, W) -> (B, 128, H, W), whose last two are the flow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.similarity = nn.Sequential(
            nn.Conv2d(channels, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()
        )
        self.flow = nn.Sequential(nn.Conv2d(2, 64, 7, padding=3), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())
        self.join = nn.Sequential(nn.Conv2d(128, HIDDEN - 2, 3, padding=1), nn.ReLU())

    def forward(self, similarity: Tensor, half_px: Tensor) -> Tensor:
        """Encode."""
        flow = torch.cat([half_px, half_px - half_px], 1)  # nothing moves along y; zeros that stay in the delegate
        both = torch.cat([self.similarity(similarity), self.flow(flow)], 1)
        return torch.cat([self.join(both), flow.to(both.dtype)], 1)


class UpdateBlock(nn.Module):
    """Three recurrent units, coarse to fine, that see their neighbours' states; then the correction.

    Args:
        channels: of the similarities.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.motion = MotionEncoder(channels)
        self.context_gates = nn.ModuleList(nn.Conv2d(HIDDEN, 3 * HIDDEN, 3, padding=1) for _ in range(3))
        self.units = nn.ModuleList(ConvGRU(HIDDEN, given) for given in (2 * HIDDEN, 2 * HIDDEN, HIDDEN))
        self.correction = nn.Sequential(
            nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 2, 3, padding=1)
        )
        self.scores = nn.Sequential(nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * 16, 1))
        self.register_buffer("mask_gain", torch.tensor(_MASK_GAIN), persistent=False)

    mask_gain: Tensor

    def gates(self, context: list[Tensor]) -> list[tuple[Tensor, ...]]:
        """What the context adds to the gates z and r and to the candidate of each unit; it does not change."""
        convolved = (conv(x) for conv, x in zip(self.context_gates, context, strict=True))
        return [tuple(x[:, i * HIDDEN : (i + 1) * HIDDEN] for i in range(3)) for x in convolved]

    def forward(
        self, hidden: list[Tensor], gates: list[tuple[Tensor, ...]], similarity: Tensor, half_px: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """New hidden states, and what is to be added to the half disparity (B, 1, H, W)."""
        fine, middle, coarse = hidden
        coarse = self._step(2, coarse, gates, [_shrunk(middle)])
        middle = self._step(1, middle, gates, [_shrunk(fine), _enlarged(coarse, middle)])
        fine = self._step(0, fine, gates, [self.motion(similarity, half_px), _enlarged(middle, fine)])
        return [fine, middle, coarse], self.correction(fine)[:, :1]  # the second channel is along y: none

    def _step(self, level: int, state: Tensor, gates: list[tuple[Tensor, ...]], given: list[Tensor]) -> Tensor:
        unit = self.units[level]
        assert isinstance(unit, ConvGRU)  # noqa: S101 - for type checkers
        looks = unit.look(torch.cat(given, 1) if len(given) > 1 else given[0])
        z, r, q = (look + gate for look, gate in zip(looks, gates[level], strict=True))
        new: Tensor = unit(state, (z, r, q))
        return new

    def upsampling_scores(self, fine: Tensor) -> Tensor:
        """(B, 9 * 16, H, W) for :class:`~dualpix.models.blocks.resize.ConvexUpsample` of factor 4."""
        y: Tensor = self.scores(fine) * self.mask_gain
        return y


def _shrunk(x: Tensor) -> Tensor:
    """Mean of 3x3 at every second pixel, zeros around, for even sides: padded outside, since padding is not delegated
    inside."""
    return F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), 3, 2, 0, False, False)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
