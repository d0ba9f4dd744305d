"""Operators of torch in the variants that users write: what a converter is most likely to get wrong is an attribute.

Each variant is a function of tensors with their shapes; :func:`variant` gives it as a module with its inputs, alone or
between two convolutions (where a backend keeps tensors in another order).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Function = Callable[..., Tensor]
_X = (1, 8, 12, 16)


@dataclass(frozen=True)
class Variant:
    function: Function
    shapes: tuple[tuple[int, ...], ...] = (_X,)


def _two(function: Function) -> Variant:
    return Variant(function, (_X, _X))


def _bins(x: Tensor) -> Tensor:
    return torch.searchsorted(torch.tensor([-0.5, 0.0, 0.5]), x).float()


def _assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2:4, 1:] = 0.3
    return y


def _in_place(x: Tensor) -> Tensor:
    return x.clone().mul_(2.0).add_(1.0).clamp_(-1.0, 2.0)


_ARITHMETIC: dict[str, Variant] = {
    "add alpha": _two(lambda x, y: torch.add(x, y, alpha=0.1)),
    "add alpha scalar": Variant(lambda x: torch.add(x, 3.0, alpha=0.1)),
    "sub alpha": _two(lambda x, y: torch.sub(x, y, alpha=0.3)),
    "sub alpha scalar": Variant(lambda x: torch.sub(x, 3.0, alpha=0.3)),
    "rsub": Variant(lambda x: 2.0 - x),
    "rsub alpha": _two(lambda x, y: torch.rsub(x, y, alpha=0.3)),
    "rsub alpha scalar": Variant(lambda x: torch.rsub(x, 2.0, alpha=0.3)),
    "addcmul": Variant(lambda x, y, z: torch.addcmul(x, y, z, value=0.3), (_X, _X, _X)),
    "addcdiv": Variant(lambda x, y, z: torch.addcdiv(x, y, z.abs() + 1, value=0.3), (_X, _X, _X)),
    "addmm": Variant(lambda x, y, z: torch.addmm(x, y, z, alpha=0.3, beta=0.7), ((6, 7), (6, 5), (5, 7))),
    "addmm plain": Variant(torch.addmm, ((7,), (6, 5), (5, 7))),
    "baddbmm": Variant(lambda x, y, z: torch.baddbmm(x, y, z, alpha=0.3, beta=0.7), ((2, 6, 7), (2, 6, 5), (2, 5, 7))),
    "addbmm": Variant(lambda x, y, z: torch.addbmm(x, y, z, alpha=0.3, beta=0.7), ((6, 7), (2, 6, 5), (2, 5, 7))),
    "addmv": Variant(lambda x, y, z: torch.addmv(x, y, z, alpha=0.3, beta=0.7), ((6,), (6, 5), (5,))),
    "lerp": _two(lambda x, y: torch.lerp(x, y, 0.3)),
    "lerp tensor": Variant(torch.lerp, (_X, _X, _X)),
    "div floor": _two(lambda x, y: torch.div(x, y.abs() + 0.1, rounding_mode="floor")),
    "div trunc": _two(lambda x, y: torch.div(x, y.abs() + 0.1, rounding_mode="trunc")),
    "remainder": Variant(lambda x: torch.remainder(x, 0.3)),
    "fmod": Variant(lambda x: torch.fmod(x, 0.3)),
    "reciprocal": Variant(lambda x: torch.reciprocal(x.abs() + 0.01)),
    "rsqrt": Variant(lambda x: torch.rsqrt(x.abs() + 1e-6)),
    "pow": Variant(lambda x: (x.abs() + 0.1) ** 1.7),
    "trunc": Variant(lambda x: torch.trunc(3 * x)),
    "hypot": _two(torch.hypot),
    "clamp min": Variant(lambda x: x.clamp(min=-0.3)),
    "clamp max": Variant(lambda x: x.clamp(max=0.3)),
    "clamp tensors": _two(lambda x, y: torch.clamp(x, -y.abs(), y.abs())),
    "clamp crossed": Variant(lambda x: x.clamp(0.4, -0.3)),
    "where scalar": Variant(lambda x: torch.where(x > 0.1, x, 0.5)),
    "masks": _two(lambda x, y: ((x > 0) & (y > 0)).float()),
    "in place": Variant(_in_place),
    "assigned": Variant(_assigned),
}

_ACTIVATIONS: dict[str, Variant] = {
    "gelu": Variant(F.gelu),
    "gelu tanh": Variant(lambda x: F.gelu(2 * x, approximate="tanh")),
    "leaky": Variant(lambda x: F.leaky_relu(x, 0.2)),
    "leaky negative": Variant(lambda x: F.leaky_relu(x, -0.2)),
    "elu": Variant(lambda x: F.elu(x, 0.7)),
    "celu": Variant(lambda x: F.celu(x, 0.7)),
    "hardtanh": Variant(lambda x: F.hardtanh(x, -0.5, 0.7)),
    "hardswish": Variant(lambda x: F.hardswish(4 * x)),
    "hardshrink": Variant(lambda x: F.hardshrink(x, 0.3)),
    "softplus beta": Variant(lambda x: F.softplus(x, beta=3.0)),
    "softplus threshold": Variant(lambda x: F.softplus(4 * x, threshold=1.0)),
    "logsigmoid": Variant(F.logsigmoid),
    "mish": Variant(F.mish),
    "threshold": Variant(lambda x: F.threshold(x, 0.1, -5.0)),
    "glu last": Variant(lambda x: F.glu(x, -1)),
    "softmax channels": Variant(lambda x: torch.softmax(4 * x, 1)),
    "softmax last": Variant(lambda x: torch.softmax(4 * x, -1)),
    "log_softmax last": Variant(lambda x: F.log_softmax(4 * x, -1)),
}

_POOLING: dict[str, Variant] = {
    "avg pool padded": Variant(lambda x: F.avg_pool2d(x, 3, 2, 1)),
    "avg pool uncounted": Variant(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "avg pool ceil": Variant(lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "avg pool divisor": Variant(lambda x: F.avg_pool2d(x, 2, divisor_override=3)),
    "avg pool divisor padded": Variant(lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=2)),
    "avg pool 1d": Variant(lambda x: F.avg_pool1d(x, 3, 2, 1), ((1, 8, 17),)),
    "max pool": Variant(lambda x: F.max_pool2d(x, 2)),
    "max pool padded": Variant(lambda x: F.max_pool2d(x - 5, 3, 2, 1)),
    "max pool ceil": Variant(lambda x: F.max_pool2d(x - 5, 3, 2, 0, ceil_mode=True)),
    "max pool ceil odd": Variant(lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), ((1, 8, 13, 15),)),
    "max pool dilated": Variant(lambda x: F.max_pool2d(x - 5, 3, 1, 1, 2)),
    "adaptive": Variant(lambda x: F.adaptive_avg_pool2d(x, 4)),
    "adaptive uneven": Variant(lambda x: F.adaptive_avg_pool2d(x, (5, 7))),
    "max along": Variant(lambda x: x.max(1)[0]),
    "min along": Variant(lambda x: x.min(2, keepdim=True)[0]),
    "amax": Variant(lambda x: x.amax((2, 3))),
}

_REDUCTIONS: dict[str, Variant] = {
    "mean channels": Variant(lambda x: x.mean(1)),
    "mean picture": Variant(lambda x: x.mean((2, 3))),
    "variance": Variant(lambda x: x.var(1)),
    "variance of all": Variant(lambda x: x.var()),
    "variance biased": Variant(lambda x: x.var((2, 3), unbiased=False, keepdim=True)),
    "deviation": Variant(lambda x: x.std((2, 3), keepdim=True)),
    "variance and mean": Variant(lambda x: sum(torch.var_mean(x, 1))),
    "sum times little": Variant(lambda x: x.sum((2, 3)) * 1e-7, ((1, 2, 1000, 1000),)),
    "normalize": Variant(lambda x: F.normalize(x, dim=1)),
    "normalize eps": Variant(lambda x: F.normalize(x, dim=1, eps=3.0)),
    "cosine": _two(lambda x, y: F.cosine_similarity(x, y, 1)),
    "batch statistics": Variant(lambda x: F.batch_norm(x, None, None, training=True)),
    "instance norm": Variant(F.instance_norm),
    "group norm": Variant(lambda x: F.group_norm(x, 4, eps=0.1)),
    "layer norm": Variant(lambda x: F.layer_norm(x, (12, 16), eps=0.1)),
    "rms norm": Variant(lambda x: F.rms_norm(x, (16,))),
}

_MOVEMENT: dict[str, Variant] = {
    "pad value": Variant(lambda x: F.pad(x, (1, 2, 3, 0), value=0.7)),
    "pad negative": Variant(lambda x: F.pad(x, (-1, 2, 3, -2))),
    "pad channels": Variant(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))),
    "pad reflect": Variant(lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect")),
    "pad replicate": Variant(lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate")),
    "permute": Variant(lambda x: x.permute(0, 2, 3, 1)),
    "channels last": Variant(lambda x: x.contiguous(memory_format=torch.channels_last) + 1),
    "slice steps": Variant(lambda x: x[:, :, ::2, 1::3]),
    "slice from end": Variant(lambda x: x[:, -5:, :-2]),
    "squeeze": Variant(lambda x: x[:, :1].squeeze(1)),
    "unsqueeze": Variant(lambda x: x.unsqueeze(2)),
    "cat of seven": Variant(lambda x: torch.cat([x * i for i in range(7)], 1)),
    "stack last": _two(lambda x, y: torch.stack([x, y], -1)),
    "flip": Variant(lambda x: x.flip(2, 3)),
    "roll": Variant(lambda x: x.roll((1, -2), (2, 3))),
    "pixel shuffle": Variant(lambda x: F.pixel_shuffle(x, 2)),
    "channel shuffle": Variant(lambda x: F.channel_shuffle(x, 4)),
    "unfold": Variant(lambda x: F.unfold(x, 3, padding=1)),
    "unfold dilated": Variant(lambda x: F.unfold(x, 3, dilation=2, stride=2)),
    "gather": Variant(lambda x: torch.gather(x, 1, (x.abs() * 7).long().clamp(0, 7))),
    "seven axes": Variant(lambda x: x.view(1, 2, 4, 3, 4, 4, 4).permute(0, 1, 4, 2, 5, 3, 6).reshape(1, 32, 4, 12)),
    "searchsorted": Variant(_bins),
}

_PRODUCTS: dict[str, Variant] = {
    "matmul": Variant(torch.matmul, ((2, 3, 5, 6), (6, 7))),
    "matmul vector": Variant(torch.matmul, ((5, 6), (6,))),
    "einsum": _two(lambda x, y: torch.einsum("bchw,bdhw->bcd", x, y)),
    "attention": Variant(lambda q: F.scaled_dot_product_attention(q, q * 2, q + 1, scale=0.1), ((1, 2, 7, 4),)),
    "attention causal": Variant(
        lambda q: F.scaled_dot_product_attention(q, q * 2, q + 1, is_causal=True), ((1, 2, 7, 4),)
    ),
}


def _resize(shape: tuple[int, ...] = _X, **options: Any) -> Variant:
    return Variant(lambda x: F.interpolate(x, **options), (shape,))


_RESIZING: dict[str, Variant] = {
    "bilinear 2": _resize(scale_factor=2, mode="bilinear"),
    "bilinear 2 aligned": _resize(scale_factor=2, mode="bilinear", align_corners=True),
    "bilinear 1.3": _resize(scale_factor=1.3, mode="bilinear"),
    "bilinear 1.3 aligned": _resize(scale_factor=1.3, mode="bilinear", align_corners=True),
    "bilinear 1.3 recomputed": _resize(scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
    "bilinear .7": _resize(scale_factor=0.7, mode="bilinear"),
    "bilinear 1.5 x .6": _resize(scale_factor=(1.5, 0.6), mode="bilinear"),
    "bilinear size": _resize(size=(17, 23), mode="bilinear"),
    "bilinear antialiased": _resize(size=(5, 7), mode="bilinear", antialias=True),
    "bicubic 1.3": _resize(scale_factor=1.3, mode="bicubic"),
    "bicubic size aligned": _resize(size=(17, 23), mode="bicubic", align_corners=True),
    "bicubic antialiased": _resize(scale_factor=0.45, mode="bicubic", antialias=True),
    "nearest 2": _resize(scale_factor=2),
    "nearest 1.3": _resize(scale_factor=1.3),
    "nearest .7": _resize(scale_factor=0.7),
    "nearest size": _resize(size=(17, 5)),
    "nearest exact": _resize(scale_factor=1.3, mode="nearest-exact"),
    "area": _resize(size=(5, 7), mode="area"),
    "linear 1.3": _resize((1, 4, 17), scale_factor=1.3, mode="linear"),
    "trilinear 1.3": _resize((1, 3, 4, 6, 5), scale_factor=1.3, mode="trilinear"),
}
for _mode in ("bilinear", "nearest"):
    for _padding in ("zeros", "border", "reflection"):
        for _aligned in (False, True):
            _RESIZING[f"grid {_mode} {_padding} {'aligned' if _aligned else ''}".rstrip()] = Variant(
                lambda x, g, m=_mode, p=_padding, a=_aligned: F.grid_sample(
                    x, g * 0.7, mode=m, padding_mode=p, align_corners=a
                ),
                (_X, (1, 9, 7, 2)),
            )

VARIANTS = {**_ARITHMETIC, **_ACTIVATIONS, **_POOLING, **_REDUCTIONS, **_MOVEMENT, **_PRODUCTS, **_RESIZING}


class _Alone(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class _Between(nn.Module):
    """Convolution, operator, and a convolution where there is still a picture."""

    def __init__(self, function: Function, channels: int, given: int | None) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = None if given is None else nn.Conv2d(given, 4, 1)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        y = self.function(self.first(x), *others)
        return y if self.last is None else self.last(y)


def variant(name: str, *, between: bool = False) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The variant as a module in eval mode with inputs."""
    found = VARIANTS[name]
    torch.manual_seed(0)
    inputs = tuple(torch.randn(shape) for shape in found.shapes)
    if not between:
        return _Alone(found.function).eval(), inputs
    with torch.no_grad():
        y = found.function(*inputs)
    torch.manual_seed(1)
    return _Between(found.function, inputs[0].shape[1], y.shape[1] if y.dim() == 4 else None).eval(), inputs
