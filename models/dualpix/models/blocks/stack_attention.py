"""Comparing the frames of a stack, pixel by pixel: attention, contrasts and sums over frames.

Convention: the N frames of B stacks are folded into the batch, stack by stack: (B * N, C, H, W). No tensor has more
than four axes, as phones want it: what goes over frames is a 1x1 convolution whose channels are the frames, or a
softmax and products of matrices on 3-D tensors. In eager mode the same is computed in the usual form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.attention import TokenAttention, fold_heads, unfold_heads
from dualpix.models.blocks.basic import ConvBNReLU, InvertedResidual
from dualpix.models.blocks.channels import EagerLayerNormTokens, LayerNormTokens


def frame_tokens(x: Tensor, frames: int) -> Tensor:
    """(B * N, C, H, W) -> (B * H * W, N, C): at each pixel the frames as tokens."""
    _, c, h, w = x.shape
    return x.reshape(-1, frames, c, h * w).permute(0, 3, 1, 2).reshape(-1, frames, c)


def tokens_as_frames(tokens: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Undo :func:`frame_tokens`: (B * H * W, N, C) -> (B * N, C, H, W)."""
    (h, w), (_, n, c) = size_hw, tokens.shape
    return tokens.reshape(-1, h * w, n, c).permute(0, 2, 3, 1).reshape(-1, c, h, w)


def _mixed(x: Tensor, weights: list[list[float]]) -> Tensor:
    """Sums over frames, (B * N, C, H, W) and weights (M, N) -> (B * M, C, H, W), by one convolution."""
    frames, (_, c, h, w) = len(weights[0]), x.shape
    kernel = torch.tensor(weights, dtype=x.dtype, device=x.device)[:, :, None, None]
    return F.conv2d(x.reshape(-1, frames, c * h, w), kernel).reshape(-1, c, h, w)


def frame_sum(x: Tensor, frames: int) -> Tensor:
    """(B * N, C, H, W) -> (B, C, H, W)."""
    if torch.compiler.is_exporting():
        return _mixed(x, [[1.0] * frames])
    return x.reshape(-1, frames, *x.shape[1:]).sum(1)


def frame_mean(x: Tensor, frames: int) -> Tensor:
    """(B * N, C, H, W) -> (B, C, H, W)."""
    if torch.compiler.is_exporting():
        return _mixed(x, [[1.0 / frames] * frames])
    return x.reshape(-1, frames, *x.shape[1:]).mean(1)


def frame_max(x: Tensor, frames: int) -> Tensor:
    """(B * N, C, H, W) -> (B, C, H, W)."""
    if not torch.compiler.is_exporting():
        return x.reshape(-1, frames, *x.shape[1:]).amax(1)
    _, c, h, w = x.shape
    folded = x.reshape(-1, frames, c * h, w)
    highest = folded[:, :1]
    for i in range(1, frames):
        highest = torch.maximum(highest, folded[:, i : i + 1])
    return highest.reshape(-1, c, h, w)


def frame_contrasts(x: Tensor, frames: int) -> Tensor:
    """Each frame less the mean of all, less the one before it, and the one after it less it; 0 beyond the ends.

    (B * N, C, H, W) -> (B * N, 3 C, H, W).
    """
    _, c, h, w = x.shape
    if torch.compiler.is_exporting():
        return _mixed(x, _contrast_weights(frames)).reshape(-1, 3 * c, h, w)
    stacks = x.reshape(-1, frames, c, h, w)
    steps = stacks.diff(dim=1)
    before, after = (F.pad(steps, (0, 0, 0, 0, 0, 0, *ends)) for ends in ((1, 0), (0, 1)))
    return torch.cat([stacks - stacks.mean(1, keepdim=True), before, after], 2).reshape(-1, 3 * c, h, w)


def _contrast_weights(frames: int) -> list[list[float]]:
    """(3 N, N): three rows for each frame, as :func:`frame_contrasts` has them."""
    rows = []
    for n in range(frames):
        rows.append([(i == n) - 1 / frames for i in range(frames)])
        rows.append([float((i == n) - (i == n - 1)) if n else 0.0 for i in range(frames)])
        rows.append([float((i == n + 1) - (i == n)) if n + 1 < frames else 0.0 for i in range(frames)])
    return rows


def frame_softmax(scores: Tensor, frames: int) -> Tensor:
    """Weights of the frames at each pixel: (B * N, 1, H, W) -> the same, summing to 1 over the frames of a stack."""
    _, _, h, w = scores.shape
    over = scores.reshape(-1, frames, h * w).permute(0, 2, 1)
    return torch.softmax(over, -1).permute(0, 2, 1).reshape(-1, 1, h, w)


class LightStackAttention(nn.Module):
    """Frames attend to one another at each pixel, told by what they are focused at: (B * N, C, H, W) -> the same.

    FOSSA's stack attention (ECCV 2026, arXiv 2603.26658) made light: one layer of attention in place of two, a narrow
    width, an inverted residual, which sees neighbours, in place of the gated perceptron. Zero at first, as there: a
    pretrained trunk around it begins as it was.
    """

    def __init__(self, channels: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.reduce = ConvBNReLU(channels, width, 1)
        self.norm = LayerNormTokens(width)
        self.attend = TokenAttention(width, heads)
        self.mix = InvertedResidual(width, width, expand=2)
        self.expand = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, focus: Tensor, beside: Tensor, frames: int) -> Tensor:
        """Compare.

        Args:
            x: (B * N, C, H, W) features.
            focus: (B * N, width, 1, 1) what each frame is focused at, embedded.
            beside: (B * N, width, H, W) what else is known of each pixel.
            frames: N.
        """
        y = self.reduce(x) + focus + beside
        tokens = frame_tokens(y, frames)
        y = y + tokens_as_frames(self.attend(self.norm(tokens)), (x.shape[2], x.shape[3]))
        out: Tensor = x + self.expand(self.mix(y))
        return out


_HEADS, _LAYERS = 8, 2
_GROUPS, _GROUP_EPS = 32, 1e-6
_LAYER_EPS = 1e-5


class StackAttention(nn.Module):
    """FOSSA's stack attention (ECCV 2026, arXiv 2603.26658) on patch tokens, (B * N, P, C) -> the same.

    GroupNorm, a linear layer, twice {layer norm, what the frame is focused at, attention over the N tokens of one
    patch}, a gated perceptron, a linear layer that is zero at first; AnimateDiff's motion module (Guo et al., ICLR
    2024), as Video Depth Anything has it, with focus in place of time. Names as in its published weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temporal_transformer = _StackTransformer(channels)

    def forward(self, tokens: Tensor, focus: Tensor) -> Tensor:
        """Compare.

        Args:
            tokens: (B * N, P, C), no class token.
            focus: (B, N) what frames are focused at, as the network is told.
        """
        y: Tensor = self.temporal_transformer(tokens, focus)
        return y


class _StackTransformer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _TokenGroupNorm(channels)
        self.proj_in, self.proj_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([_StackBlock(channels)])
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, tokens: Tensor, focus: Tensor) -> Tensor:
        y = self.proj_in(self.norm(tokens))
        for block in self.transformer_blocks:
            y = block(y, focus)
        out: Tensor = tokens + self.proj_out(y)
        return out


class _TokenGroupNorm(nn.GroupNorm):
    """Of each frame over its patches and a group of channels: (B * N, P, C) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(_GROUPS, channels, _GROUP_EPS)
        # a Python number would become a conversion between memory layouts in front of the delegate
        self.register_buffer("least", torch.tensor(_GROUP_EPS), persistent=False)

    least: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        maps = tokens.permute(0, 2, 1)
        if not torch.compiler.is_exporting():
            return super().forward(maps).permute(0, 2, 1)
        groups = maps.reshape(maps.shape[0], _GROUPS, -1, maps.shape[2])
        centred = groups - groups.mean((2, 3), keepdim=True)
        normal = centred * torch.rsqrt((centred * centred).mean((2, 3), keepdim=True) + self.least)
        return normal.reshape(maps.shape).permute(0, 2, 1) * self.weight + self.bias


class _StackBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(_FrameAttention(channels) for _ in range(_LAYERS))
        self.norms = nn.ModuleList(EagerLayerNormTokens(channels, _LAYER_EPS) for _ in range(_LAYERS))
        self.ff = _GatedPerceptron(channels)
        self.ff_norm = EagerLayerNormTokens(channels, _LAYER_EPS)

    def forward(self, x: Tensor, focus: Tensor) -> Tensor:
        for attend, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attend(norm(x), focus)
        y: Tensor = x + self.ff(self.ff_norm(x))
        return y


class _FrameAttention(nn.Module):
    """Multi-head attention over the N tokens of each patch, which know what their frames are focused at."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.pos_encoder = FocusPerceptron(channels)
        self.register_buffer("scale", torch.tensor((channels // _HEADS) ** -0.5), persistent=False)

    scale: Tensor

    def forward(self, x: Tensor, focus: Tensor) -> Tensor:
        (b, n), (_, patches, c) = focus.shape, x.shape
        tokens = x.reshape(b, n, patches, c).permute(0, 2, 1, 3) + self.pos_encoder(focus)[:, None]
        tokens = tokens.reshape(b * patches, n, c)
        q, k, v = (fold_heads(layer(tokens), _HEADS) for layer in (self.to_q, self.to_k, self.to_v))
        if torch.compiler.is_exporting():
            y = torch.bmm(torch.softmax(torch.bmm(q * self.scale, k.transpose(1, 2)), -1), v)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out[0](unfold_heads(y, _HEADS))
        return out.reshape(b, patches, n, c).permute(0, 2, 1, 3).reshape(b * n, patches, c)


class FocusPerceptron(nn.Module):
    """A number for each frame, (B, N) -> (B, N, C): a perceptron of one hidden layer, times a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, focus: Tensor) -> Tensor:
        """Embed."""
        y: Tensor = self.mlp(focus[:, :, None]) * self.scale
        return y


class _GatedPerceptron(nn.Module):
    """GEGLU (Shazeer, arXiv 2002.05202), four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Gated(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class _Gated(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.proj = hidden, nn.Linear(channels, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        both: Tensor = self.proj(x)
        return both[:, :, : self.hidden] * F.gelu(both[:, :, self.hidden :])
