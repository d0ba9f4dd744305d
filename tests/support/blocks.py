"""Each building block between two convolutions, as it stands in a network, in its export form and in its plain form.

Alone a block proves little: the known failures of the compilers come from layouts and scales that a neighbouring
convolution brings along. Both forms of a case have the same weights, so their outputs must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.attention import TokenAttention, WindowAttention, roll
from dualpix.models.blocks.channels import ChannelMean, LayerNorm2d, LayerNormTokens
from dualpix.models.blocks.correlation import (
    CentredCorrelation,
    CorrelationBand,
    CorrelationShifts,
    SoftArgmax,
    TentLookup,
    centred_correlation_plain,
    correlation_plain,
    look_up_plain,
    soft_argmax_plain,
)
from dualpix.models.blocks.recurrent import ConvGRU, LightConvGRU, SeparableConvGRU
from dualpix.models.blocks.resize import (
    AntialiasedShrink,
    ConvexUpsample,
    mean_pool,
    pixel_shuffle,
    pixel_unshuffle,
    upsample,
)

Inputs = tuple[Tensor, ...]
SizeHW = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A network of one block: ``build(plain, size_hw)`` with seeded weights, and how many images it takes."""

    build: Callable[[bool, SizeHW], nn.Module]
    images: int = 1

    def network(self, size_hw: SizeHW, *, plain: bool = False) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return self.build(plain, size_hw).eval().requires_grad_(False)

    def samples(self, size_hw: SizeHW, count: int, seed: int) -> list[Inputs]:
        """Smooth noise with texture, the second image a little shifted."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [self._sample(size_hw) for _ in range(count)]

    def _sample(self, size_hw: SizeHW) -> Inputs:
        coarse = torch.rand(1, 3, size_hw[0] // 4, size_hw[1] // 4)
        image = F.interpolate(coarse, size=size_hw, mode="bilinear") + 0.2 * torch.rand(1, 3, *size_hw)
        return (image, torch.roll(image, 2, 3))[: self.images]


class _Sandwich(nn.Module):
    """Convolution, block, convolution; the first serves every image."""

    def __init__(self, channels: int, block: Callable[..., Tensor], after: int | None = None, out: int = 4) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
        self.block = block
        self.after = nn.Conv2d(after or channels, out, 3, padding=1)

    def forward(self, *images: Tensor) -> Tensor:
        y: Tensor = self.after(self.block(*(self.before(image) for image in images)))
        return y


class _Plain(nn.Module):
    """The same parameters, another way to compute."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Tensor) -> Tensor:
        y: Tensor = self.block.plain(*inputs)  # type: ignore[operator]
        return y


def _with_plain(block: nn.Module, plain: bool) -> nn.Module:
    return _Plain(block) if plain else block


class _LookUp(nn.Module):
    """A volume of 17 shifts from one image, looked up at a disparity of -6 .. 6 px from the other."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.volume, self.disparity = nn.Conv2d(16, 17, 1), nn.Conv2d(16, 1, 1)
        self.register_buffer("range_px", torch.tensor(6.0))
        self.tent, self.use_plain = TentLookup(8, 3), plain

    range_px: Tensor

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        volume, disparity = self.volume(first), torch.tanh(self.disparity(second)) * self.range_px
        y: Tensor = look_up_plain(volume, disparity, 3) if self.use_plain else self.tent(volume, disparity)
        return y


class _SoftArgmax(nn.Module):
    """Scores of 17 shifts, sharpened as a trained network's are."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.scores, self.use_plain, self.argmax = nn.Conv2d(16, 17, 1), plain, SoftArgmax(8)
        nn.init.normal_(self.scores.weight, std=1.0)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(x)
        y: Tensor = soft_argmax_plain(scores) if self.use_plain else self.argmax(scores)
        return y


class _Tokens(nn.Module):
    """A block of tokens in an image network: (B, C, H, W) -> tokens -> linear -> (B, C, H, W)."""

    def __init__(self, channels: int, block: nn.Module) -> None:
        super().__init__()
        self.block, self.linear = block, nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.linear(self.block(x.flatten(2).transpose(1, 2)))
        y: Tensor = tokens.transpose(1, 2).reshape(x.shape)
        return y


class _Unrolled(nn.Module):
    """Four iterations of a GRU; half of its input changes with the state, half stays."""

    def __init__(self, cell: ConvGRU | SeparableConvGRU, plain: bool, iterations: int = 4) -> None:
        super().__init__()
        self.cell, self.use_plain, self.iterations = cell, plain, iterations
        self.motion = nn.Conv2d(16, 16, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        h = torch.tanh(first)
        constant = None if self.use_plain else self.cell.look(second)
        for _ in range(self.iterations):
            h = self.cell.plain(h, second) if constant is None else self.cell(h, constant)
        y: Tensor = self.motion(h)
        return y


class _Light(nn.Module):
    """Two iterations of the light GRU."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.cell, self.use_plain = LightConvGRU(16, 16), plain
        self.motion = nn.Conv2d(16, 16, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        h = torch.tanh(first)
        for _ in range(2):
            h = self.cell.plain(h, second) if self.use_plain else self.cell(h, second)
        y: Tensor = self.motion(h)
        return y


class _Convex(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.disparity, self.scores = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 9 * 16, 1)
        nn.init.normal_(self.scores.weight, std=0.7)
        self.up = _with_plain(ConvexUpsample(4), plain)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.disparity(x), self.scores(x))
        return y


def _norm(plain: bool) -> nn.Module:
    norm = LayerNorm2d(16)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, std=0.3)
    return _with_plain(norm, plain)


def _token_norm(plain: bool) -> nn.Module:
    norm = LayerNormTokens(16)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    return _with_plain(norm, plain)


def _window(shift_px: int) -> Callable[[bool, SizeHW], nn.Module]:
    return lambda plain, size: _Sandwich(
        16, _with_plain(WindowAttention(16, 2, 8, shift_px=shift_px, size_hw=size), plain)
    )


CASES: dict[str, Case] = {
    "channel-mean": Case(
        lambda plain, _: _Sandwich(16, (lambda x: x.mean(1, keepdim=True)) if plain else ChannelMean(16), 1)
    ),
    "layer-norm-2d": Case(lambda plain, _: _Sandwich(16, _norm(plain))),
    "layer-norm-tokens": Case(lambda plain, _: _Sandwich(16, _Tokens(16, _token_norm(plain)))),
    "correlation-band": Case(
        lambda plain, _: _Sandwich(
            16, (lambda a, b: correlation_plain(a, b, 8)) if plain else CorrelationBand(16, 8), 17
        ),
        2,
    ),
    "correlation-shifts": Case(
        lambda plain, _: _Sandwich(
            16, (lambda a, b: correlation_plain(a, b, 8)) if plain else CorrelationShifts(16, 8), 17
        ),
        2,
    ),
    "centred-correlation": Case(
        lambda plain, _: _Sandwich(
            16, (lambda a, b: centred_correlation_plain(a, b, 8)) if plain else CentredCorrelation(16, 8), 17
        ),
        2,
    ),
    "tent-look-up": Case(lambda plain, _: _Sandwich(16, _LookUp(plain), 7), 2),
    "soft-argmax": Case(lambda plain, _: _Sandwich(16, _SoftArgmax(plain), 1)),
    "token-attention": Case(lambda plain, _: _Sandwich(16, _Tokens(16, _with_plain(TokenAttention(16, 2), plain)))),
    "window-attention": Case(_window(0)),
    "shifted-window-attention": Case(_window(4)),
    "roll": Case(
        lambda plain, _: _Sandwich(16, (lambda x: torch.roll(x, (3, -2), (2, 3)) if plain else roll(x, 3, -2)))
    ),
    "upsample": Case(
        lambda plain, _: _Sandwich(
            16,
            (lambda x: F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear"))
            if plain
            else (lambda x: upsample(x, 2)),
        )
    ),
    "mean-pool": Case(
        lambda plain, _: _Sandwich(
            16, (lambda x: F.interpolate(x, scale_factor=0.5, mode="area")) if plain else (lambda x: mean_pool(x, 2))
        )
    ),
    "antialiased-shrink": Case(
        lambda plain, size: _Sandwich(16, _with_plain(AntialiasedShrink(16, 2, size), plain)),
    ),
    "pixel-shuffle": Case(
        lambda plain, _: _Sandwich(16, (lambda x: F.pixel_shuffle(x, 2) if plain else pixel_shuffle(x, 2)), 4)
    ),
    "pixel-unshuffle": Case(
        lambda plain, _: _Sandwich(16, (lambda x: F.pixel_unshuffle(x, 2) if plain else pixel_unshuffle(x, 2)), 64)
    ),
    "convex-upsample": Case(lambda plain, _: _Sandwich(16, _Convex(plain), 1)),
    "conv-gru": Case(lambda plain, _: _Sandwich(16, _Unrolled(ConvGRU(16, 16), plain)), 2),
    "light-conv-gru": Case(lambda plain, _: _Sandwich(16, _Light(plain)), 2),
    "separable-conv-gru": Case(lambda plain, _: _Sandwich(16, _Unrolled(SeparableConvGRU(16, 16), plain)), 2),
}
