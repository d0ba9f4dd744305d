"""Three networks that are not ours, as a user would bring them: seeded random weights, activations of order one.

None of them uses a block of ``dualpix.models``. Convention of the pair: a point at x in the first image is at x + d in
the second, d in px of the input grid; ``raft-like`` was never trained, so what it gives for d is arbitrary but smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Inputs = tuple[Tensor, ...]

_SIZE_HW = {"mobilenet-depth": (128, 160), "vit-s14": (126, 126), "raft-like": (96, 128)}
_LARGEST_SHIFT_PX = 6.0


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from ``seed`` inside, the caller's own sequence undisturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _smooth(channels: int, size_hw: tuple[int, int], octaves: tuple[int, ...]) -> Tensor:
    """(1, channels, H, W): noise with amplitude proportional to wavelength, as in photographs; about -1..1."""
    total = torch.zeros(1, channels, *size_hw)
    for cell in octaves:
        coarse = torch.randn(1, channels, size_hw[0] // cell + 2, size_hw[1] // cell + 2)
        total += cell * F.interpolate(coarse, size=size_hw, mode="bicubic", align_corners=False)
    return total / total.abs().amax()


def _photograph(size_hw: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) in 0..1: a grey texture, a little colour, a random exposure."""
    grey, colour = _smooth(1, size_hw, (32, 16, 8, 4, 2)), _smooth(3, size_hw, (32, 16))
    exposure, contrast = 0.35 + 0.3 * torch.rand(1), 0.3 + 0.2 * torch.rand(1)
    return (exposure + contrast * grey + 0.15 * colour).clamp(0.0, 1.0)


def _second_view(first: Tensor) -> Tensor:
    """``first`` seen with a smooth disparity of up to 6 px: second(x + d) is about first(x)."""
    _, _, h, w = first.shape
    shift_px = _LARGEST_SHIFT_PX * _smooth(1, (h, w), (32,))[:, 0]
    x = torch.arange(w).reshape(1, 1, w) - shift_px
    y = torch.arange(h).reshape(1, h, 1).expand(1, h, w)
    grid = torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], -1)
    return F.grid_sample(first, grid, padding_mode="border", align_corners=True)


def foreign_samples(name: str, count: int, seed: int) -> list[Inputs]:
    """``count`` inputs of network ``name``, each a tuple of (1, 3, H, W) images in 0..1, the same for the same seed."""
    with _seeded(seed), torch.no_grad():
        firsts = [_photograph(_SIZE_HW[name]) for _ in range(count)]
        return [(first, _second_view(first)) if name == "raft-like" else (first,) for first in firsts]


def _conv(inner: int, outer: int, kernel: int, act: nn.Module, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outer), act)


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(pooled))))


class _Bottleneck(nn.Module):
    """MobileNetV3's (Howard et al., ICCV 2019): expand, depthwise, squeeze-excite, project."""

    def __init__(self, inner: int, outer: int, expand: int, kernel: int, stride: int, excite: bool) -> None:
        super().__init__()
        hidden = inner * expand
        self.expand = _conv(inner, hidden, 1, nn.Hardswish())
        self.depthwise = _conv(hidden, hidden, kernel, nn.Hardswish(), stride, hidden)
        self.excite: nn.Module = _SqueezeExcite(hidden) if excite else nn.Identity()
        self.project = _conv(hidden, outer, 1, nn.Identity())
        self.residual = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class MobileNetDepth(nn.Module):
    """(1, 3, H, W) -> (1, 1, H, W); H and W multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 16, 3, nn.Hardswish(), 2)
        self.quarter = nn.Sequential(_Bottleneck(16, 24, 4, 3, 2, False), _Bottleneck(24, 24, 3, 3, 1, False))
        self.eighth = nn.Sequential(_Bottleneck(24, 40, 4, 5, 2, True), _Bottleneck(40, 40, 3, 5, 1, True))
        self.sixteenth = nn.Sequential(_Bottleneck(40, 80, 6, 3, 2, True), _Bottleneck(80, 80, 3, 3, 1, True))
        self.thirty_second = nn.Sequential(_Bottleneck(80, 112, 6, 5, 2, True), _Bottleneck(112, 112, 3, 5, 1, True))
        self.lateral = nn.ModuleList([nn.Conv2d(c, 48, 1) for c in (112, 80, 40, 24, 16)])
        self.smooth = nn.ModuleList(
            [nn.Sequential(_conv(48, 48, 3, nn.Identity(), groups=48), _conv(48, 48, 1, nn.ReLU())) for _ in range(5)]
        )
        self.head = nn.Conv2d(48, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        half = self.stem(image)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        features = (self.thirty_second(sixteenth), sixteenth, eighth, quarter, half)
        y = self.smooth[0](self.lateral[0](features[0]))
        for lateral, smooth, feature in zip(self.lateral[1:], self.smooth[1:], features[1:], strict=True):
            up = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = smooth(up + lateral(feature))
        return F.interpolate(self.head(y), scale_factor=2.0, mode="bilinear", align_corners=False)


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(channels, channels) for _ in range(3))
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("scale", torch.tensor((channels // heads) ** -0.5))

    scale: Tensor

    def _split(self, x: Tensor) -> Tensor:
        """(1, N, C) -> (heads, N, C / heads)."""
        return x.reshape(x.shape[1], self.heads, -1).permute(1, 0, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.bmm(self._split(self.q(x)) * self.scale, self._split(self.k(x)).transpose(1, 2))
        attended = torch.bmm(torch.softmax(scores, -1), self._split(self.v(x)))
        y: Tensor = self.proj(attended.permute(1, 0, 2).reshape(x.shape))
        return y


class _LayerScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels).uniform_(0.1, 0.6))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _TransformerBlock(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = _Attention(channels, heads)
        self.ls1, self.ls2 = _LayerScale(channels), _LayerScale(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class ViTSmall14(nn.Module):
    """DINOv2's ViT-S/14 encoder (Oquab et al., 2023): (1, 3, 14 m, 14 n) -> (1, 1 + m n, 384) tokens, class first."""

    def __init__(self, size_hw: tuple[int, int], channels: int = 384, depth: int = 12, heads: int = 6) -> None:
        super().__init__()
        patches = (size_hw[0] // 14) * (size_hw[1] // 14)
        self.patch_embed = nn.Conv2d(3, channels, 14, 14)
        self.cls_token = nn.Parameter(torch.randn(1, 1, channels))
        self.pos_embed = nn.Parameter(0.1 * torch.randn(1, 1 + patches, channels))
        self.blocks = nn.Sequential(*[_TransformerBlock(channels, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens: Tensor = self.norm(self.blocks(torch.cat([self.cls_token, patches], 1) + self.pos_embed))
        return tokens


class _ConvGRU(nn.Module):
    def __init__(self, hidden: int, given: int) -> None:
        super().__init__()
        self.update, self.reset, self.candidate = (nn.Conv2d(hidden + given, hidden, 3, padding=1) for _ in range(3))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([h, x], 1)
        z, r = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
        return h + z * (torch.tanh(self.candidate(torch.cat([r * h, x], 1))) - h)


class RaftLike(nn.Module):
    """RAFT-Stereo's scheme (Lipson et al., 3DV 2021) in small: two (1, 3, H, W) images -> disparity (1, 1, H, W) in px.

    One encoder for both images, correlation at 9 fixed shifts of 1/4 resolution, 4 iterations that look it up around
    the present disparity (linear interpolation by tent weights) and correct that with a GRU, bilinear upsampling.
    """

    largest_shift, look_up_radius, iterations = 4, 2, 4

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_conv(3, channels // 2, 5, nn.ReLU(), 2),
            *_conv(channels // 2, channels, 3, nn.ReLU(), 2),
            *_conv(channels, channels, 3, nn.ReLU()),
            nn.Conv2d(channels, channels, 1),
        )
        self.context = nn.Sequential(
            *_conv(3, channels // 2, 3, nn.ReLU(), 2), *_conv(channels // 2, channels, 3, nn.ReLU(), 2)
        )
        samples = 2 * self.look_up_radius + 1
        self.motion = nn.Sequential(nn.Conv2d(samples + 1, channels, 3, padding=1), nn.ReLU())
        self.gru = _ConvGRU(channels, 2 * channels)
        self.head = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 1, 1))
        shifts = torch.arange(-self.largest_shift, self.largest_shift + 1.0)
        offsets = torch.arange(-self.look_up_radius, self.look_up_radius + 1.0)
        # what sample k needs of shift s while the disparity is d: 1 - |s - k - d|
        self.register_buffer("shift_minus_offset", (shifts[None] - offsets[:, None])[None])
        self.register_buffer("one", torch.tensor(1.0))
        self.register_buffer("scale", torch.tensor(4.0))

    shift_minus_offset: Tensor
    one: Tensor
    scale: Tensor

    def correlate(self, first: Tensor, second: Tensor) -> Tensor:
        """(1, C, H, W) twice -> (1, 9, H, W): first(x) . second(x + s) / C for s = -4..4."""
        reach, width = self.largest_shift, first.shape[3]
        padded = F.pad(second, (reach, reach))
        shifted = [padded[:, :, :, i : i + width] for i in range(2 * reach + 1)]
        return torch.cat([(first * other).mean(1, keepdim=True) for other in shifted], 1)

    def look_up(self, volume: Tensor, disparity: Tensor) -> Tensor:
        """(1, 9, H, W) sampled at disparity + (-2..2) -> (1, 5, H, W)."""
        _, shifts, h, w = volume.shape
        position = disparity.reshape(h * w, 1, 1)
        weights = F.relu(self.one - (self.shift_minus_offset - position).abs())
        columns = volume.reshape(shifts, h * w).transpose(0, 1).reshape(h * w, shifts, 1)
        return torch.bmm(weights, columns).reshape(h * w, -1).transpose(0, 1).reshape(1, -1, h, w)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        volume = self.correlate(self.encoder(first), self.encoder(second))
        context = self.context(first)
        h, disparity = torch.tanh(context), torch.zeros_like(volume[:, :1])
        for _ in range(self.iterations):
            seen = self.motion(torch.cat([self.look_up(volume, disparity), disparity], 1))
            h = self.gru(h, torch.cat([context, seen], 1))
            disparity = disparity + self.head(h)
        return F.interpolate(disparity * self.scale, scale_factor=4.0, mode="bilinear", align_corners=False)


def _trained_looking(module: nn.Module, name: str) -> nn.Module:
    """Batch norms with affine parameters unlike the identity and statistics of real inputs; eval mode."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.3)
        nn.init.uniform_(norm.bias, -0.2, 0.4)
        norm.momentum = None  # the plain mean over what follows
    module.train()
    with torch.no_grad():
        for sample in foreign_samples(name, 12, 90) if norms else []:
            module(*sample)
    for norm in norms:
        norm.momentum = 0.1
    return module.eval().requires_grad_(False)


def _mobilenet_depth() -> tuple[nn.Module, Inputs]:
    with _seeded(11):
        net = MobileNetDepth()
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(net.head.weight, std=0.12)
        return _trained_looking(net, "mobilenet-depth"), foreign_samples("mobilenet-depth", 1, 0)[0]


def _vit_s14() -> tuple[nn.Module, Inputs]:
    with _seeded(12):
        net = ViTSmall14(_SIZE_HW["vit-s14"])
        nn.init.normal_(net.patch_embed.weight, std=3.0 * (3 * 14 * 14) ** -0.5)
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=1.2 * layer.in_features**-0.5)
                nn.init.normal_(layer.bias, std=0.1)
        return _trained_looking(net, "vit-s14"), foreign_samples("vit-s14", 1, 0)[0]


def _raft_like() -> tuple[nn.Module, Inputs]:
    with _seeded(13):
        return _trained_looking(RaftLike(), "raft-like"), foreign_samples("raft-like", 1, 0)[0]


def foreign_modules() -> dict[str, Callable[[], tuple[nn.Module, Inputs]]]:
    """Name -> factory of (module in eval mode, example inputs)."""
    return {"mobilenet-depth": _mobilenet_depth, "vit-s14": _vit_s14, "raft-like": _raft_like}
