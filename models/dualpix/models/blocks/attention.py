"""Attention that phones delegate: heads folded into the batch, matrix products and softmax on 3-D tensors.

``F.scaled_dot_product_attention`` and ``nn.MultiheadAttention`` decompose into masks, ``expand`` and ``select`` that no
delegate takes (2x the time of a ViT), Swin's window partition is a 6-D permutation that Core ML refuses, ``torch.roll``
an index look-up that Vulkan's compiler does not survive, and a 4-D softmax beside convolutions comes out wrong on
XNNPACK.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MASKED = -30000.0
"""Added to the score of a pair that must not attend: exp is zero, and float16 still holds it."""


def roll(x: Tensor, shift_y_px: int, shift_x_px: int) -> Tensor:
    """``torch.roll(x, (shift_y_px, shift_x_px), (2, 3))`` by slices and ``cat``; (B, C, H, W) -> the same."""
    y, s = shift_y_px % x.shape[2], shift_x_px % x.shape[3]
    if y:
        x = torch.cat([x[:, :, -y:], x[:, :, :-y]], 2)
    if s:
        x = torch.cat([x[:, :, :, -s:], x[:, :, :, :-s]], 3)
    return x


def to_windows(x: Tensor, window_px: int) -> Tensor:
    """(B, C, H, W) -> (B * H/w * W/w, w * w, C), rows of windows first, by a 4-D permutation."""
    b, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(b * h // window_px, window_px, w // window_px, window_px * c)
    return rows.permute(0, 2, 1, 3).reshape(-1, window_px * window_px, c)


def from_windows(tokens: Tensor, size_bhw: tuple[int, int, int], window_px: int) -> Tensor:
    """Undo :func:`to_windows`: (B * H/w * W/w, w * w, C) -> (B, C, H, W)."""
    b, h, w = size_bhw
    c = tokens.shape[2]
    rows = tokens.reshape(b * h // window_px, w // window_px, window_px, window_px * c)
    return rows.permute(0, 2, 1, 3).reshape(b, h, w, c).permute(0, 3, 1, 2)


def fold_heads(tokens: Tensor, heads: int) -> Tensor:
    """(P, N, C) -> (P * heads, N, C / heads)."""
    p, n, c = tokens.shape
    return tokens.reshape(p, n, heads, c // heads).permute(0, 2, 1, 3).reshape(p * heads, n, c // heads)


def unfold_heads(tokens: Tensor, heads: int) -> Tensor:
    """(P * heads, N, C / heads) -> (P, N, C)."""
    p, n, c = tokens.shape[0] // heads, tokens.shape[1], tokens.shape[2] * heads
    return tokens.reshape(p, heads, n, c // heads).permute(0, 2, 1, 3).reshape(p, n, c)


class TokenAttention(nn.Module):
    """Multi-head self-attention of a ViT (Dosovitskiy et al., ICLR 2021): (B, N, C) -> (B, N, C).

    Three linears instead of one ``qkv``: taking that apart again (``unbind``, ``chunk``) is not delegated. For weights
    that come as one: ``q.weight, k.weight, v.weight = qkv.weight.chunk(3)``.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(channels, channels) for _ in range(4))
        self.register_buffer("scale", torch.tensor((channels // heads) ** -0.5), persistent=False)

    scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        q, k, v = (fold_heads(layer(x), self.heads) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.bmm(q * self.scale, k.transpose(1, 2)), -1)
        y: Tensor = self.proj(unfold_heads(torch.bmm(weights, v), self.heads))
        return y

    def plain(self, x: Tensor) -> Tensor:
        """The usual form, ``F.scaled_dot_product_attention`` on 4-D tensors."""
        b, n, c = x.shape
        q, k, v = (f(x).reshape(b, n, self.heads, c // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        y: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        return y


class WindowAttention(nn.Module):
    """Attention inside w x w windows, shifted or not (Swin, Liu et al., ICCV 2021): (B, C, H, W) -> the same.

    Queries, keys and values are 1x1 convolutions, with a learned bias per head and relative position. A shift needs
    the size of the map, for the mask that keeps pixels apart which the shift brought together across the border.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window_px: int = 8,
        *,
        shift_px: int = 0,
        size_hw: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if shift_px and size_hw is None:
            raise ValueError("a shifted window attention needs size_hw")
        self.heads, self.window_px, self.shift_px = heads, window_px, shift_px
        self.q, self.k, self.v, self.proj = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.position_bias = nn.Parameter(0.02 * torch.randn(heads, (2 * window_px - 1) ** 2))
        self.register_buffer("scale", torch.tensor((channels // heads) ** -0.5), persistent=False)
        if shift_px and size_hw is not None:
            for name, length in zip(("mask_y", "mask_x"), size_hw, strict=True):
                self.register_buffer(name, _shift_mask(length, window_px, shift_px, name == "mask_y"), persistent=False)

    scale: Tensor
    mask_y: Tensor
    mask_x: Tensor

    def _bias(self) -> Tensor:
        """(1, heads * N, N), by slices of the table; an index by :func:`_relative_positions` is not delegated."""
        size = self.window_px
        starts = [slice(size - 1 - i, 2 * size - 1 - i) for i in range(size)]
        table = self.position_bias.reshape(self.heads, 2 * size - 1, 2 * size - 1)
        rows = torch.stack([table[:, cut] for cut in starts], 1).reshape(-1, 2 * size - 1)  # (heads * y1 * y2, x)
        both = torch.stack([rows[:, cut] for cut in starts], 1)  # (heads * y1 * y2, x1, x2)
        return both.reshape(-1, size, size, size).permute(0, 2, 1, 3).reshape(1, -1, size * size)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; H and W must be multiples of the window."""
        b, _, h, w = x.shape
        n, s = self.window_px**2, self.shift_px
        moved = roll(x, -s, -s)
        q, k, v = (fold_heads(to_windows(f(moved), self.window_px), self.heads) for f in (self.q, self.k, self.v))
        scores = torch.bmm(q * self.scale, k.transpose(1, 2))  # (P * heads, N, N)
        scores = scores.reshape(-1, self.heads * n, n) + self._bias()
        if s:  # one mask per axis: per window they would be megabytes
            rows, columns = h // self.window_px, w // self.window_px
            scores = scores.reshape(b, rows, columns * self.heads, n * n) + self.mask_y
            scores = scores.reshape(b * rows, columns, self.heads, n * n) + self.mask_x
        weights = torch.softmax(scores.reshape(-1, n, n), -1)
        tokens = unfold_heads(torch.bmm(weights, v), self.heads)
        return roll(self.proj(from_windows(tokens, (b, h, w), self.window_px)), s, s)

    def plain(self, x: Tensor) -> Tensor:
        """The usual form: ``torch.roll``, 6-D window partition, 4-D softmax."""
        b, c, h, w = x.shape
        size, n, s = self.window_px, self.window_px**2, self.shift_px

        def windows(y: Tensor) -> Tensor:  # (B, windows, heads, N, C / heads)
            y = y.reshape(b, self.heads, c // self.heads, h // size, size, w // size, size)
            return y.permute(0, 3, 5, 1, 4, 6, 2).reshape(b, -1, self.heads, n, c // self.heads)

        moved = torch.roll(x, (-s, -s), (2, 3))
        q, k, v = (windows(f(moved)) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5 + self.position_bias[:, _relative_positions(size)]
        if s:
            region = torch.zeros(h, w)
            cuts = (slice(-size), slice(-size, -s), slice(-s, None))
            for i, (vertical, horizontal) in enumerate(itertools.product(cuts, cuts)):
                region[vertical, horizontal] = i
            labels = region.reshape(h // size, size, w // size, size).permute(0, 2, 1, 3).reshape(-1, 1, n)
            scores = scores.masked_fill(labels[..., None] != labels[..., None, :], -torch.inf)
        y = (torch.softmax(scores, -1) @ v).reshape(b, h // size, w // size, self.heads, size, size, c // self.heads)
        y = y.permute(0, 3, 6, 1, 4, 2, 5).reshape(b, c, h, w)
        return torch.roll(self.proj(y), (s, s), (2, 3))


def _relative_positions(window_px: int) -> Tensor:
    """(N, N), N = window^2: where in the table stands the bias of query pixel n (row) for key pixel m (column).

    The table is (y, x) of the offset key - query, each from -(window - 1). (Swin's has query - key: flip it.)
    """
    y, x = torch.meshgrid(torch.arange(window_px), torch.arange(window_px), indexing="ij")
    y, x = y.flatten(), x.flatten()
    reach = window_px - 1
    return (y[None] - y[:, None] + reach) * (2 * reach + 1) + x[None] - x[:, None] + reach


def _shift_mask(length_px: int, window_px: int, shift_px: int, vertical: bool) -> Tensor:
    """(1, windows along an axis, 1, N * N): what to add to the scores of a window so that no pair spans the border."""
    wrapped = torch.zeros(length_px // window_px, window_px)
    wrapped[-1, -shift_px:] = 1  # came from the other end
    axes = (-1, window_px, 1) if vertical else (-1, 1, window_px)
    labels = wrapped.reshape(axes).expand(-1, window_px, window_px).flatten(1)
    mask = (labels[:, :, None] != labels[:, None]).float() * _MASKED
    return mask.flatten(1)[None, :, None]
