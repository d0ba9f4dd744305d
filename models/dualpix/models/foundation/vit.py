"""DINOv2's vision transformer, patch 14, without registers (Oquab et al., TMLR 2024), under its published names.

Tokens are (B, 1 + N, C): the class token, then the N = H/14 * W/14 patches row by row. Two forms of the same
computation: in eager mode torch's fused attention and layer norm (which stay in float32 under autocast), while
``torch.export`` runs the forms of ``blocks`` that phones delegate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.attention import fold_heads, unfold_heads
from dualpix.models.blocks.channels import EagerLayerNormTokens

PATCH_PX = 14
_TRAINED_GRID = 37  # 518 px


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a variant, which blocks' outputs are features, and how its position embedding is resized."""

    channels: int
    blocks: int
    heads: int
    taps: tuple[int, ...]
    """Indices of blocks, from 0, ascending."""
    position_offset: float = 0.1
    """Added to the grid's sides before the scale is computed, as in the published models without registers, DINOv2's
    and Depth Anything V2's alike; 0: resized to the grid itself, as transformers and timm do."""
    position_antialias: bool = False
    """Published: False. timm: True."""


VIT = {
    "vits": ViTConfig(384, 12, 6, (2, 5, 8, 11)),
    "vitb": ViTConfig(768, 12, 12, (2, 5, 8, 11)),
    "vitl": ViTConfig(1024, 24, 16, (4, 11, 17, 23)),
}
"""Taps as Depth Anything V2 takes them."""


class SelfAttention(nn.Module):
    """Multi-head self-attention with one ``qkv`` layer: (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.register_buffer("scale", torch.tensor((channels // heads) ** -0.5), persistent=False)

    scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        c = x.shape[2]
        qkv = self.qkv(x)
        q, k, v = (qkv[:, :, i * c : (i + 1) * c] for i in range(3))
        y: Tensor = self.proj(self._delegated(q, k, v) if torch.compiler.is_exporting() else self._fused(q, k, v))
        return y

    def _delegated(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (fold_heads(part, self.heads) for part in (q, k, v))
        weights = torch.softmax(torch.bmm(q * self.scale, k.transpose(1, 2)), -1)
        return unfold_heads(torch.bmm(weights, v), self.heads)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (part.reshape(b, n, self.heads, c // self.heads).transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)


class LayerScale(nn.Module):
    """A learned gain per channel (Touvron et al., ICCV 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * self.gamma


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and scaled before it is added."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = EagerLayerNormTokens(channels), EagerLayerNormTokens(channels)
        self.attn = SelfAttention(channels, heads)
        self.ls1, self.ls2 = LayerScale(channels), LayerScale(channels)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(channels, 4 * channels), act=nn.GELU(), fc2=nn.Linear(4 * channels, channels))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the same."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return y


class DinoViT(nn.Module):
    """(B, 3, H, W), normalised, H and W multiples of 14 -> patch features (B, C, H/14, W/14) of the tapped blocks.

    ``mask_token`` is part of the published state and has no use here. It and blocks behind the last tap are not
    trained: a parameter that wants a gradient and gets none stops training in several processes.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _TRAINED_GRID**2, c))
        self.mask_token = nn.Parameter(torch.zeros(1, c))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, c, PATCH_PX, PATCH_PX)})
        self.blocks = nn.ModuleList(TransformerBlock(c, config.heads) for _ in range(config.blocks))
        self.norm = EagerLayerNormTokens(c)
        self.register_buffer("fixed_first", None, persistent=False)
        self.register_buffer("fixed_positions", None, persistent=False)
        self._fixed_grid: tuple[int, int] | None = None
        self._initialise()
        self.mask_token.requires_grad_(False)
        self.blocks[config.taps[-1] + 1 :].requires_grad_(False)

    fixed_first: Tensor | None
    fixed_positions: Tensor | None

    def _initialise(self) -> None:
        """As published: truncated normal of 0.02."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the tapped blocks after the final layer norm, class token left out; the first block's first."""
        rows, columns = x.shape[2] // PATCH_PX, x.shape[3] // PATCH_PX
        return [
            tokens[:, 1:].permute(0, 2, 1).reshape(x.shape[0], -1, rows, columns) for tokens in self.tapped_tokens(x)
        ]

    def tapped_tokens(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, 1 + N, C) of each tapped block, class token first, after the final layer norm."""
        tokens, outputs = self.embed(x), []
        for i, block in enumerate(self.blocks[: self.config.taps[-1] + 1]):
            tokens = block(tokens)
            if i in self.config.taps:
                outputs.append(self.norm(tokens))
        return outputs

    def embed(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + N, C): class token and patches with their positions, before the first block."""
        rows, columns = x.shape[2] // PATCH_PX, x.shape[3] // PATCH_PX
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        if self.fixed_first is not None and self.fixed_positions is not None and torch.compiler.is_exporting():
            if self._fixed_grid != (rows, columns):
                raise ValueError(f"a grid of {rows} x {columns} patches, fixed at {self._fixed_grid}")
            first, positions = self.fixed_first, self.fixed_positions
        else:
            first, positions = self.cls_token + self.pos_embed[:, :1], self.patch_positions(rows, columns)
        if x.shape[0] > 1:  # of one picture it would stay outside the delegate
            first = first.expand(x.shape[0], -1, -1)
        return torch.cat([first, patches + positions], 1)

    def patch_positions(self, rows: int, columns: int) -> Tensor:
        """(1, rows * columns, C): the position embedding of the patches, bicubic from the 37 x 37 it was trained at."""
        c, config = self.config.channels, self.config
        if (rows, columns) == (_TRAINED_GRID, _TRAINED_GRID):
            return self.pos_embed[:, 1:]
        grid = self.pos_embed[:, 1:].float().reshape(1, _TRAINED_GRID, _TRAINED_GRID, c).permute(0, 3, 1, 2)
        if config.position_offset:
            # torch samples by the scale it is given, not by the ratio of sizes: the offset moves every sample
            scale = tuple((side + config.position_offset) / _TRAINED_GRID for side in (rows, columns))
            resized = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=config.position_antialias)
        else:
            resized = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=config.position_antialias)
        return resized.permute(0, 2, 3, 1).reshape(1, rows * columns, c).to(self.pos_embed.dtype)

    def fix_size(self, size_hw: Sequence[int] | None) -> None:
        """Keep the position embedding for pictures of one size (px), for ``torch.export``; None: any size again.

        Bicubic resize is a cloud of index look-ups in an exported graph. What is kept follows a state dict that is
        loaded, but not training. Eager mode never reads it.
        """
        if size_hw is None:
            self.fixed_first = self.fixed_positions = self._fixed_grid = None
            return
        rows, columns = (int(side) // PATCH_PX for side in size_hw)
        with torch.no_grad():
            self.fixed_positions = self.patch_positions(rows, columns).clone()
            self.fixed_first = self.cls_token + self.pos_embed[:, :1]
        self._fixed_grid = (rows, columns)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if self._fixed_grid is not None:
            self.fix_size([side * PATCH_PX for side in self._fixed_grid])
