"""EfficientNet-Lite as a feature extractor: ReLU6, no squeeze-and-excite, operators that every backend delegates.

Tan & Le, ICML 2019, in the "lite" form of the TensorFlow TPU repository: widths and depths are scaled but for the stem,
the head and the repeats of the first and last stage. The published weights were trained in TensorFlow, so batch norm
has an epsilon of 1e-3, and padding is TensorFlow's "SAME": at stride 2 and an even size one pixel more at the bottom
and on the right. Padding with zeros means padding with the mean: it comes after normalisation.

No drop-connect and no dropout: a trunk to be tuned at a small learning rate, not one to be trained from nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (2, 4, 8, 16, 32)
_EPS, _MOMENTUM = 1e-3, 0.01  # TensorFlow's momentum of 0.99 is the share that is kept
_STEM_CHANNELS, _HEAD_CHANNELS, _CLASSES = 32, 1280, 1000


@dataclass(frozen=True)
class LiteScaling:
    """Width and depth multipliers of a variant, and the side in px of the pictures it was trained on."""

    width: float
    depth: float
    trained_px: int


@dataclass(frozen=True)
class _Stage:
    """Of EfficientNet-B0, which everything is scaled from."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


LITE = {
    "efficientnet-lite0": LiteScaling(1.0, 1.0, 224),
    "efficientnet-lite1": LiteScaling(1.0, 1.1, 240),
    "efficientnet-lite2": LiteScaling(1.1, 1.2, 260),
    "efficientnet-lite3": LiteScaling(1.2, 1.4, 280),
    "efficientnet-lite4": LiteScaling(1.4, 1.8, 300),
}
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_LAST_OF_STRIDE = (0, 1, 2, 4, 6)
"""Stages after which the resolution drops, or that are the last."""


def scaled_channels(channels: int, width: float) -> int:
    """Channels at a width multiplier: the nearest multiple of 8 that loses at most a tenth."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def feature_channels(scaling: LiteScaling) -> tuple[int, ...]:
    """Channels of the features at ``STRIDES``."""
    return tuple(scaled_channels(_STAGES[i].channels, scaling.width) for i in _LAST_OF_STRIDE)


def stage_repeats(scaling: LiteScaling) -> tuple[int, ...]:
    """Blocks of each of the seven stages."""
    ends = (0, len(_STAGES) - 1)
    return tuple(s.repeats if i in ends else math.ceil(s.repeats * scaling.depth) for i, s in enumerate(_STAGES))


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": the result has ceil(size / stride) pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        if self.stride == (1, 1):
            return F.conv2d(x, self.weight, self.bias, 1, self.kernel_size[0] // 2, 1, self.groups)
        top, bottom = _same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
        left, right = _same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _same_padding(length_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after; what is odd goes after."""
    total = max((math.ceil(length_px / stride) - 1) * stride + kernel - length_px, 0)
    return total // 2, total - total // 2


def _layer(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = [
        ("conv", SameConv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=False)),
        ("norm", nn.BatchNorm2d(out_channels, _EPS, _MOMENTUM)),
    ]
    return nn.Sequential(OrderedDict([*layers, ("act", nn.ReLU6())] if act else layers))


class LiteBlock(nn.Module):
    """Inverted residual: expand (not where the factor is 1), depthwise, project."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand: nn.Module = _layer(in_channels, hidden, 1) if expand != 1 else nn.Identity()
        self.depthwise = _layer(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = _layer(hidden, out_channels, 1, act=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The trunk: (B, 3, H, W), normalised -> five feature maps at strides 2 to 32, the last block of each stride."""

    def __init__(self, scaling: LiteScaling) -> None:
        super().__init__()
        self.stem = _layer(3, _STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        taps, channels = [], _STEM_CHANNELS
        for index, (stage, repeats) in enumerate(zip(_STAGES, stage_repeats(scaling), strict=True)):
            width = scaled_channels(stage.channels, scaling.width)
            for i in range(repeats):
                blocks.append(LiteBlock(channels, width, stage.kernel, stage.stride if i == 0 else 1, stage.expand))
                channels = width
            if index in _LAST_OF_STRIDE:
                taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.taps = tuple(taps)

    def cut(self, features: int) -> None:
        """Drop what comes after feature map number ``features``, counted from 1."""
        self.taps = self.taps[:features]
        self.blocks = self.blocks[: self.taps[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features, finest first."""
        features: list[Tensor] = []
        for level in range(len(self.taps)):
            x = self.level(x, level)
            features.append(x)
        return features

    def level(self, x: Tensor, level: int) -> Tensor:
        """Feature map number ``level``, from 0, of the one before it; of the picture, normalised, for the first."""
        if level == 0:
            x = self.stem(x)
        first = self.taps[level - 1] + 1 if level else 0
        for block in self.blocks[first : self.taps[level] + 1]:
            x = block(x)
        return x


class EfficientNetLiteClassifier(nn.Module):
    """Trunk with the published head: (B, 3, H, W), normalised -> (B, 1000) logits of the ImageNet classes.

    No depth network has a use for classes. They are the proof that weights, padding and normalisation belong together:
    a picture gets its right name, or not.
    """

    def __init__(self, scaling: LiteScaling) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(scaling)
        self.head = _layer(feature_channels(scaling)[-1], _HEAD_CHANNELS, 1)
        self.classifier = nn.Linear(_HEAD_CHANNELS, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.classifier(self.head(self.trunk(x)[-1]).mean((2, 3)))
        return logits
