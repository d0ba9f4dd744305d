"""The operators' reference: small torch functions to be converted, and MIL operators that no conversion gives, each
beside what torch says it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

X_SHAPE, T_SHAPE = (1, 8, 12, 10), (2, 20, 16)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y (1, 8, 12, 10), positive p of that shape, tokens t (2, 20, 16); all exact in float16."""
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(X_SHAPE, generator=generator) for _ in range(2))
    p, t = torch.rand(X_SHAPE, generator=generator) + 0.25, torch.randn(T_SHAPE, generator=generator)
    return tuple(v.half().float() for v in (x, y, p, t))  # type: ignore[return-value]


Function = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _grid(x: Tensor, aligned: bool, padding: str, mode: str = "bilinear") -> Tensor:
    rows, columns = torch.meshgrid(torch.linspace(-1.2, 1.1, 9), torch.linspace(-0.9, 1.3, 7), indexing="ij")
    grid = torch.stack([columns, rows], -1)[None]
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=aligned)


def _placed(x: Tensor, y: Tensor) -> Tensor:
    placed = x.clone()
    placed[:, 2:5] = y[:, :3]
    return placed


def _standing(x: Tensor) -> Tensor:
    return x.reshape(8, 12, 10)


TORCH_CASES: dict[str, Function] = {
    "add": lambda x, y, p, t: x + y,
    "subtract": lambda x, y, p, t: x - 2.0 * y,
    "divide": lambda x, y, p, t: x / p,
    "floor divide": lambda x, y, p, t: torch.floor_divide(x, p),
    "remainder": lambda x, y, p, t: torch.remainder(x, 0.75),
    "power": lambda x, y, p, t: p**1.5,
    "maximum": lambda x, y, p, t: torch.maximum(x, y),
    "minimum": lambda x, y, p, t: torch.minimum(x, y),
    "where": lambda x, y, p, t: torch.where(x > y, x, y * 0.5),
    "compared": lambda x, y, p, t: (
        torch.logical_or(torch.logical_and(x >= 0, y < 0.5), x <= -1).float() + (x != y).float()
    ),
    "xor": lambda x, y, p, t: torch.logical_xor(x > 0, torch.logical_not(y == 0)).float(),
    "masked fill": lambda x, y, p, t: x.masked_fill(y > 0, -2.0),
    "absolute": lambda x, y, p, t: x.abs(),
    "exponential": lambda x, y, p, t: x.exp(),
    "logarithm": lambda x, y, p, t: p.log(),
    "square root": lambda x, y, p, t: p.sqrt() + p.rsqrt(),
    "square": lambda x, y, p, t: x.square(),
    "rounding": lambda x, y, p, t: x.round() + 8 * x.floor() + 64 * x.ceil(),
    "sign": lambda x, y, p, t: x.sign(),
    "circular": lambda x, y, p, t: x.sin() + 2 * x.cos() + x.atan(),
    "error function": lambda x, y, p, t: torch.erf(x),
    "hyperbolic tangent": lambda x, y, p, t: x.tanh(),
    "clamp": lambda x, y, p, t: x.clamp(-0.5, 0.75),
    "relu": lambda x, y, p, t: F.relu(x),
    "relu6": lambda x, y, p, t: F.relu6(4 * x),
    "leaky relu": lambda x, y, p, t: F.leaky_relu(x, 0.1),
    "elu": lambda x, y, p, t: F.elu(x, 0.7),
    "gelu": lambda x, y, p, t: F.gelu(x),
    "silu": lambda x, y, p, t: F.silu(x),
    "hardswish": lambda x, y, p, t: F.hardswish(2 * x),
    "hardsigmoid": lambda x, y, p, t: F.hardsigmoid(3 * x),
    "mish": lambda x, y, p, t: F.mish(x),
    "softplus": lambda x, y, p, t: F.softplus(x),
    "softsign": lambda x, y, p, t: F.softsign(x),
    "sigmoid": lambda x, y, p, t: torch.sigmoid(x),
    "softmax": lambda x, y, p, t: torch.softmax(x, -1),
    "softmax over channels": lambda x, y, p, t: torch.softmax(x, 1),
    "log softmax": lambda x, y, p, t: F.log_softmax(x, 1),
    "mean": lambda x, y, p, t: x.mean(1, keepdim=True),
    "mean over space": lambda x, y, p, t: x.mean((2, 3)),
    "sum": lambda x, y, p, t: x.sum(2),
    "largest": lambda x, y, p, t: x.amax(1, keepdim=True) - x.amin(3, keepdim=True),
    "variance": lambda x, y, p, t: x.var(1),
    "norm": lambda x, y, p, t: F.normalize(x, dim=1),
    "log sum exp": lambda x, y, p, t: torch.logsumexp(x, 1),
    "which is largest": lambda x, y, p, t: x.argmax(1).float() + 16 * y.argmin(1).float(),
    "running sum": lambda x, y, p, t: x.cumsum(3),
    "matrix product": lambda x, y, p, t: x @ y.transpose(2, 3),
    "batched product": lambda x, y, p, t: torch.bmm(t, t.transpose(1, 2)),
    "einsum": lambda x, y, p, t: torch.einsum("bchw,bchv->bhwv", x, y),
    "attention": lambda x, y, p, t: F.scaled_dot_product_attention(t[:, None], t[:, None], t[:, None]),
    "permute": lambda x, y, p, t: x.permute(0, 2, 3, 1),
    "reshape": lambda x, y, p, t: x.reshape(4, 2, 12, 10).flatten(1),
    "unsqueeze": lambda x, y, p, t: _standing(x)[:, None] - 2.0 * y[0][:, None],
    "squeeze": lambda x, y, p, t: x.squeeze(0),
    "concatenate": lambda x, y, p, t: torch.cat([x, y[:, :3]], 1),
    "stack": lambda x, y, p, t: torch.stack([x, y], 1),
    "split": lambda x, y, p, t: x.chunk(2, 1)[0] * x.split([3, 1, 4], 1)[2],
    "strided slice": lambda x, y, p, t: x[:, 1:7:2, ::3, -4:],
    "select": lambda x, y, p, t: x[:, 2] + x[:, -1],
    "flip": lambda x, y, p, t: x.flip(3),
    "roll": lambda x, y, p, t: torch.roll(x, (2, -1), (2, 3)),
    "repeat": lambda x, y, p, t: x.repeat(1, 2, 1, 3),
    "expand": lambda x, y, p, t: x[:, :1].expand(1, 4, 12, 10) * y[:, :4],
    "pad": lambda x, y, p, t: F.pad(x, (1, 2, 0, 3), value=0.5),
    "pad by reflection": lambda x, y, p, t: F.pad(x, (2, 1, 3, 0), mode="reflect"),
    "pad by repetition": lambda x, y, p, t: F.pad(x, (2, 1, 0, 3), mode="replicate"),
    "gather": lambda x, y, p, t: x.gather(3, (torch.arange(6).expand(1, 8, 12, 6) * 3) % 10),
    "index select": lambda x, y, p, t: x.index_select(2, torch.tensor([3, 0, 7, 7])),
    "assign a slice": lambda x, y, p, t: _placed(x, y),
    "largest values": lambda x, y, p, t: x.topk(3, 1)[0] + x.topk(3, 1)[1].float(),
    "sort": lambda x, y, p, t: x.sort(-1)[0],
    "pixel shuffle": lambda x, y, p, t: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x, y, p, t: F.pixel_unshuffle(x, 2),
    "triangle": lambda x, y, p, t: x.triu(1) + y.tril(-1),
    "unfold": lambda x, y, p, t: F.unfold(x, 3, padding=1),
    "bilinear": lambda x, y, p, t: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False),
    "bilinear, aligned": lambda x, y, p, t: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True),
    "bilinear, smaller": lambda x, y, p, t: F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=False),
    "bilinear, odd": lambda x, y, p, t: F.interpolate(x, size=(31, 17), mode="bilinear", align_corners=False),
    "nearest": lambda x, y, p, t: F.interpolate(x, scale_factor=3.0, mode="nearest"),
    "nearest, smaller": lambda x, y, p, t: F.interpolate(x, size=(5, 5), mode="nearest"),
    "sampled": lambda x, y, p, t: _grid(x, True, "zeros"),
    "sampled, border": lambda x, y, p, t: _grid(x, False, "border"),
    "sampled, mirrored": lambda x, y, p, t: _grid(x, True, "reflection"),
    "sampled, mirrored at edges": lambda x, y, p, t: _grid(x, False, "reflection"),
    "sampled, nearest": lambda x, y, p, t: _grid(x, True, "zeros", "nearest"),
    "average pool": lambda x, y, p, t: F.avg_pool2d(x, 2),
    "average pool, padded": lambda x, y, p, t: F.avg_pool2d(x, 3, 2, 1),
    "average pool, own count": lambda x, y, p, t: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average pool, ceiling": lambda x, y, p, t: F.avg_pool2d(x, 5, 3, ceil_mode=True),
    "maximum pool": lambda x, y, p, t: F.max_pool2d(x, 3, 2, 1),
    "maximum pool, ceiling": lambda x, y, p, t: F.max_pool2d(x, 4, 3, ceil_mode=True),
    "pool to one": lambda x, y, p, t: F.adaptive_avg_pool2d(x, 1),
    "distance norms": lambda x, y, p, t: x.abs().sum(1) + torch.linalg.vector_norm(y, ord=2, dim=1),
    "ramp": lambda x, y, p, t: x + torch.arange(10.0),
    "same everywhere": lambda x, y, p, t: x + torch.full_like(x, 0.25),
}

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": partial(nn.Conv2d, 8, 12, 3, padding=1),
    "conv, strided": partial(nn.Conv2d, 8, 12, (3, 5), (2, 1), (0, 2), bias=False),
    "conv, grouped": partial(nn.Conv2d, 8, 12, 3, groups=4),
    "conv, dilated": partial(nn.Conv2d, 8, 6, 3, dilation=2, padding=2),
    "conv, depthwise": partial(nn.Conv2d, 8, 8, 5, padding=2, groups=8),
    "conv, mirrored": partial(nn.Conv2d, 8, 4, 3, padding=1, padding_mode="reflect"),
    "conv transposed": partial(nn.ConvTranspose2d, 8, 6, 4, 2, 1),
    "conv transposed, uneven": partial(nn.ConvTranspose2d, 8, 6, 3, 2, 1, output_padding=1),
    "conv transposed, grouped": partial(nn.ConvTranspose2d, 8, 8, 2, 2, groups=8),
    "batch norm": partial(nn.BatchNorm2d, 8),
    "instance norm": partial(nn.InstanceNorm2d, 8, affine=True),
    "group norm": partial(nn.GroupNorm, 4, 8),
    "prelu": partial(nn.PReLU, 8),
    "linear": partial(nn.Linear, 10, 7),
    "layer norm": partial(nn.LayerNorm, 10),
    "layer norm of images": partial(nn.LayerNorm, (12, 10)),
}


class Table(nn.Module):
    """Every case as one output of one network: a single conversion for all."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(11)
            self.layers = nn.ModuleList([make() for make in LAYERS.values()])
            self.line = nn.Conv1d(16, 5, 3, padding=1)
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=0.4)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.linspace(-1, 1, 8)
                module.running_var = torch.linspace(0.5, 2, 8)

    def forward(self, x: Tensor, y: Tensor, p: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        functions = [function(x, y, p, t) for function in TORCH_CASES.values()]
        return (*functions, *(layer(x) for layer in self.layers), self.line(t.transpose(1, 2)))


CASES = (*TORCH_CASES, *LAYERS, "conv of a line")


def convert(module: nn.Module, given: tuple[Tensor, ...], names: list[str], outputs: list[str], **options: Any) -> Any:
    """A coremltools model of ``module``; ``options`` as ``coremltools.convert`` takes them."""
    import coremltools as ct

    exported = torch.export.export(module.eval(), given).run_decompositions({})
    settings: dict[str, Any] = {"minimum_deployment_target": ct.target.iOS17, "convert_to": "mlprogram"} | options
    return ct.convert(
        exported,
        inputs=[ct.TensorType(name=n, shape=v.shape) for n, v in zip(names, given, strict=True)],
        outputs=[ct.TensorType(name=name) for name in outputs],
        skip_model_load=True,
        **settings,
    )


def save(model: Any, path: Path) -> Path:
    model.save(str(path))
    return path


@dataclass(frozen=True)
class MilCase:
    """An operator as the MIL builder makes it, and what it is in torch; both of x and p."""

    build: Callable[[Any, Any, Any], Any]
    """(builder, x, p) -> variable."""
    expected: Callable[[Tensor, Tensor], Tensor]


def _column(first: float, last: float) -> Tensor:
    """One value per channel."""
    return torch.linspace(first, last, 8)[:, None, None]


def _channels(mb: Any, p: Any, which: list[int]) -> Any:
    return mb.gather(x=mb.squeeze(x=p, axes=[0]), indices=which, axis=0)


def _not_constant(mb: Any, p: Any, value: float) -> Any:
    """``value``, in a way that the converter cannot compute beforehand; p is positive."""
    return mb.reduce_max(x=mb.mul(x=mb.sign(x=p), y=value), axes=[0, 1, 2, 3])


def _linear_at(x: Tensor, axis: int, positions: Tensor) -> Tensor:
    """Linear interpolation along an axis at given positions: numpy's, as a second opinion."""
    known = np.arange(x.shape[axis])
    return torch.from_numpy(np.apply_along_axis(lambda v: np.interp(positions, known, v), axis, x.numpy())).float()


def _offset_corners(size: int, wanted: int) -> Tensor:
    delta = max(1, size - 1) / wanted
    return (0.5 * delta + torch.arange(wanted) * delta).clamp(0, size - 1)


def _left_default(size: int, wanted: int) -> Tensor:
    spacing = (size - size / wanted) / (wanted - 1)
    return (torch.arange(wanted) * spacing).clamp(0, size - 1)


def _resized(x: Tensor, positions: Callable[[int, int], Tensor]) -> Tensor:
    return _linear_at(_linear_at(x, 2, positions(12, 18)), 3, positions(10, 7))


MIL_CASES: Mapping[str, MilCase] = {
    "acos": MilCase(lambda mb, x, p: mb.acos(x=mb.tanh(x=x)), lambda x, p: x.tanh().acos()),
    "asin": MilCase(lambda mb, x, p: mb.asin(x=mb.tanh(x=x)), lambda x, p: x.tanh().asin()),
    "atanh": MilCase(lambda mb, x, p: mb.atanh(x=mb.mul(x=p, y=0.5)), lambda x, p: (p * 0.5).atanh()),
    "cosh": MilCase(lambda mb, x, p: mb.cosh(x=x), lambda x, p: x.cosh()),
    "sinh": MilCase(lambda mb, x, p: mb.sinh(x=x), lambda x, p: x.sinh()),
    "tan": MilCase(lambda mb, x, p: mb.tan(x=p), lambda x, p: p.tan()),
    "exp2": MilCase(lambda mb, x, p: mb.exp2(x=x), lambda x, p: x.exp2()),
    "square": MilCase(lambda mb, x, p: mb.square(x=x), lambda x, p: x * x),
    "identity": MilCase(lambda mb, x, p: mb.mul(x=mb.identity(x=x), y=2.0), lambda x, p: 2 * x),
    "log of a sum": MilCase(lambda mb, x, p: mb.log(x=p, epsilon=0.5), lambda x, p: (p + 0.5).log()),
    "inverse of a sum": MilCase(lambda mb, x, p: mb.inverse(x=p, epsilon=0.25), lambda x, p: 1 / (p + 0.25)),
    "rsqrt of a sum": MilCase(lambda mb, x, p: mb.rsqrt(x=p, epsilon=0.5), lambda x, p: (p + 0.5).rsqrt()),
    "threshold": MilCase(lambda mb, x, p: mb.threshold(x=x, alpha=0.25), lambda x, p: x.clamp(min=0.25)),
    "thresholded relu": MilCase(
        lambda mb, x, p: mb.thresholded_relu(x=x, alpha=0.5), lambda x, p: F.threshold(x, 0.5 - 1e-4, 0.0)
    ),
    "clamped relu": MilCase(
        lambda mb, x, p: mb.clamped_relu(x=x, alpha=0.25, beta=1.0), lambda x, p: F.leaky_relu(x, 0.25).clamp(max=1.0)
    ),
    "linear activation": MilCase(
        lambda mb, x, p: mb.linear_activation(x=x, alpha=1.5, beta=-0.5), lambda x, p: 1.5 * x - 0.5
    ),
    "scaled tanh": MilCase(
        lambda mb, x, p: mb.scaled_tanh(x=x, alpha=1.5, beta=0.5), lambda x, p: 1.5 * (0.5 * x).tanh()
    ),
    "gelu, tanh": MilCase(
        lambda mb, x, p: mb.gelu(x=x, mode="TANH_APPROXIMATION"), lambda x, p: F.gelu(x, approximate="tanh")
    ),
    "gelu, sigmoid": MilCase(
        lambda mb, x, p: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), lambda x, p: x * torch.sigmoid(1.702 * x)
    ),
    "softplus, parametric": MilCase(
        lambda mb, x, p: mb.softplus_parametric(
            x=x, alpha=np.linspace(0.5, 2, 8, dtype=np.float32), beta=np.linspace(1, 3, 8, dtype=np.float32)
        ),
        lambda x, p: _column(0.5, 2) * torch.log1p(torch.exp(_column(1, 3) * x)),
    ),
    "l1 norm": MilCase(lambda mb, x, p: mb.reduce_l1_norm(x=x, axes=[1]), lambda x, p: x.abs().sum(1)),
    "sum of squares": MilCase(
        lambda mb, x, p: mb.reduce_sum_square(x=x, axes=[-1], keep_dims=True),
        lambda x, p: (x * x).sum(-1, keepdim=True),
    ),
    "log of the sum": MilCase(lambda mb, x, p: mb.reduce_log_sum(x=p, axes=[2]), lambda x, p: p.sum(2).log()),
    "l2 norm of an image": MilCase(
        lambda mb, x, p: mb.l2_norm(x=x, epsilon=1e-3), lambda x, p: x / torch.sqrt((x * x).sum() + 1e-3)
    ),
    "running sum, reversed": MilCase(
        lambda mb, x, p: mb.cumsum(x=x, axis=1, exclusive=True, reverse=True),
        lambda x, p: x.flip(1).cumsum(1).flip(1) - x,
    ),
    "conv, padded alike": MilCase(
        lambda mb, x, p: mb.conv(x=x, weight=_WEIGHT, strides=[2, 3], pad_type="same"),
        lambda x, p: F.conv2d(F.pad(x, (1, 2, 0, 1)), torch.from_numpy(_WEIGHT), stride=(2, 3)),
    ),
    "conv, padded low": MilCase(
        lambda mb, x, p: mb.conv(x=x, weight=_WEIGHT, strides=[2, 3], pad_type="same_lower"),
        lambda x, p: F.conv2d(F.pad(x, (2, 1, 1, 0)), torch.from_numpy(_WEIGHT), stride=(2, 3)),
    ),
    "average pool, alike": MilCase(
        lambda mb, x, p: mb.avg_pool(
            x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="same", exclude_padding_from_average=True
        ),
        lambda x, p: (
            F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2) / F.avg_pool2d(F.pad(torch.ones_like(x), (0, 1, 0, 1)), 3, 2)
        ),
    ),
    "maximum pool, alike": MilCase(
        lambda mb, x, p: mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="same"),
        lambda x, p: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 3, 2),
    ),
    "resized, offset corners": MilCase(
        lambda mb, x, p: mb.resize_bilinear(
            x=x, target_size_height=18, target_size_width=7, sampling_mode="OFFSET_CORNERS"
        ),
        lambda x, p: _resized(x, _offset_corners),
    ),
    "resized, default": MilCase(
        lambda mb, x, p: mb.resize_bilinear(x=x, target_size_height=18, target_size_width=7, sampling_mode="DEFAULT"),
        lambda x, p: _resized(x, _left_default),
    ),
    "resized, aligned": MilCase(
        lambda mb, x, p: mb.resize(
            x=x, shape=[18, 7], resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode="ALIGN_CORNERS"
        ),
        lambda x, p: F.interpolate(x, size=(18, 7), mode="bilinear", align_corners=True),
    ),
    "resized, nearest": MilCase(
        lambda mb, x, p: mb.resize_nearest_neighbor(x=x, target_size_height=18, target_size_width=7),
        lambda x, p: F.interpolate(x, size=(18, 7), mode="nearest"),
    ),
    "sampled, unit range": MilCase(
        lambda mb, x, p: mb.resample(
            x=x, coordinates=_UNIT_GRID, sampling_mode="bilinear", padding_mode="constant", padding_value=0.75,
            coordinates_mode="normalized_zero_to_one", align_corners=True,
        ),
        lambda x, p: F.grid_sample(x - 0.75, 2 * torch.from_numpy(_UNIT_GRID) - 1, align_corners=True) + 0.75,
    ),
    "modulo": MilCase(lambda mb, x, p: mb.mod(x=x, y=0.75), lambda x, p: torch.remainder(x, 0.75)),
    "softsign": MilCase(lambda mb, x, p: mb.softsign(x=x), lambda x, p: x / (1 + x.abs())),
    "einsum": MilCase(
        lambda mb, x, p: mb.einsum(values=(x, mb.transpose(x=p, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        lambda x, p: torch.einsum("nchw,nuhw->nchu", x, p),
    ),
    "crop": MilCase(
        lambda mb, x, p: mb.crop(x=x, crop_height=[1, 3], crop_width=[2, 0]), lambda x, p: x[:, :, 1:9, 2:]
    ),
    "slice by size": MilCase(
        lambda mb, x, p: mb.slice_by_size(x=x, begin=[0, 2, 1, 0], size=[1, 3, -1, 4]), lambda x, p: x[:, 2:5, 1:, :4]
    ),
    "slice backwards": MilCase(
        lambda mb, x, p: mb.slice_by_index(
            x=x, begin=[0, 0, 10, 0], end=[1, 8, 2, 10], stride=[1, 1, -3, 1], squeeze_mask=[True, False, False, False]
        ),
        lambda x, p: x[0][:, [10, 7, 4]],
    ),
    "slice update": MilCase(
        lambda mb, x, p: mb.slice_update(x=x, update=mb.slice_by_size(x=p, begin=[0, 0, 0, 0], size=[1, 2, 12, 10]),
                                         begin=[0, 3, 0, 0], end=[1, 5, 12, 10]),
        lambda x, p: torch.cat([x[:, :3], p[:, :2], x[:, 5:]], 1),
    ),
    "gather by coordinates": MilCase(
        lambda mb, x, p: mb.gather_nd(x=x, indices=np.int32([[0, 3], [0, 1]])), lambda x, p: x[[0, 0], [3, 1]]
    ),
    "scatter by coordinates": MilCase(
        lambda mb, x, p: mb.scatter_nd(
            data=x, indices=np.int32([[0, 3], [0, 1]]), updates=_channels(mb, p, [5, 6]), mode="update",
        ),
        lambda x, p: torch.cat([x[:, :1], p[:, 6:7], x[:, 2:3], p[:, 5:6], x[:, 4:]], 1),
    ),
    "scatter and add": MilCase(
        lambda mb, x, p: mb.scatter_nd(
            data=x, indices=np.int32([[0, 2]]), updates=_channels(mb, p, [5]), mode="add",
        ),
        lambda x, p: torch.cat([x[:, :2], x[:, 2:3] + p[:, 5:6], x[:, 3:]], 1),
    ),
    "scatter along an axis": MilCase(
        lambda mb, x, p: mb.scatter(
            data=x, indices=[4, 1], updates=mb.expand_dims(x=_channels(mb, p, [0, 0]), axes=[0]), axis=1, mode="add",
        ),
        lambda x, p: torch.cat([x[:, :1], x[:, 1:2] + p[:, :1], x[:, 2:4], x[:, 4:5] + p[:, :1], x[:, 5:]], 1),
    ),
    "one hot": MilCase(
        lambda mb, x, p: mb.one_hot(
            indices=mb.cast(x=mb.mul(x=p, y=4.0), dtype="int32"), one_hot_vector_size=6, on_value=2.0, off_value=-1.0
        ),
        lambda x, p: 3.0 * F.one_hot((p * 4).long(), 6) - 1.0,
    ),
    "ramp": MilCase(
        lambda mb, x, p: mb.add(x=x, y=mb.range_1d(start=0.5, end=_not_constant(mb, p, 5.5), step=0.5)),
        lambda x, p: x + torch.arange(0.5, 5.5, 0.5),
    ),
    "filled alike": MilCase(
        lambda mb, x, p: mb.add(x=x, y=mb.fill_like(ref_tensor=x, value=0.5)), lambda x, p: x + 0.5
    ),
    "band": MilCase(lambda mb, x, p: mb.band_part(x=x, lower=2, upper=1), lambda x, p: x.triu(-2).tril(1)),
    "attention": MilCase(
        lambda mb, x, p: mb.scaled_dot_product_attention(query=x, key=p, value=x, attn_mask=_MASK),
        lambda x, p: F.scaled_dot_product_attention(x, p, x, attn_mask=torch.from_numpy(_MASK)),
    ),
    "quantised": MilCase(
        lambda mb, x, p: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.0625), zero_point=np.int8(-7), output_dtype="int8"),
            scale=np.float32(0.0625), zero_point=np.int8(-7),
        ),
        lambda x, p: torch.fake_quantize_per_tensor_affine(x, 0.0625, -7, -128, 127),
    ),
    "quantised by channel": MilCase(
        lambda mb, x, p: mb.dequantize(
            input=mb.quantize(input=x, scale=_SCALES, output_dtype="uint8", axis=1, zero_point=_MIDDLE),
            scale=_SCALES, axis=1, zero_point=_MIDDLE,
        ),
        lambda x, p: torch.fake_quantize_per_channel_affine(
            x, torch.from_numpy(_SCALES), torch.full((8,), 128, dtype=torch.int32), 1, 0, 255
        ),
    ),
    "narrow integers": MilCase(
        lambda mb, x, p: mb.cast(x=mb.cast(x=mb.mul(x=x, y=4.0), dtype="int8"), dtype="fp32"),
        lambda x, p: (4 * x).trunc(),
    ),
}  # fmt: skip

_WEIGHT = np.random.default_rng(2).normal(size=(4, 8, 3, 4)).astype(np.float16).astype(np.float32)
_UNIT_GRID = np.random.default_rng(3).uniform(-0.25, 1.25, (1, 6, 5, 2)).astype(np.float16).astype(np.float32)
_MASK = np.random.default_rng(4).normal(size=(1, 1, 12, 12)).astype(np.float16).astype(np.float32)
_MIDDLE = np.full(8, 128, np.uint8)
_SCALES = np.float32([2.0 ** -(3 + k % 3) for k in range(8)])


def mil_program(precision: str) -> Any:
    """All of :data:`MIL_CASES` as one program of inputs x and p; outputs ``case_0``, ``case_1``, ..."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - its usual name

    def program(x: Any, p: Any) -> Any:
        results = [case.build(mb, x, p) for case in MIL_CASES.values()]
        return tuple(mb.identity(x=r, name=f"case_{k}") for k, r in enumerate(results))

    specs = [mb.TensorSpec(shape=X_SHAPE) for _ in range(2)]
    built = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(program)
    return ct.convert(
        built,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=getattr(ct.precision, precision),
        skip_model_load=True,
    )
