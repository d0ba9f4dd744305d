"""DDDNet as published (Pan et al., "Dual Pixel Exploration: Simultaneous Depth Estimation and Image Restoration", CVPR
2021, arXiv 2012.00301): what the compact form (:mod:`.dddnet`) is measured against. Its 3-D convolutions at full size
are no work for a phone: 61 GMAC for the coarse map of 192 x 256 px alone.

*DepthNet*: features of either half at full size, a volume of their concatenation at four shifts, a 3-D hourglass, and
the expected shift under a softmin over three planes per shift. *DeblurNet* (DMPHN 1-2-4): both halves and the coarse
map through three levels, on four patches, two, and the whole; each level adds to the input of the next, the last one
has a decoder for the picture and one for the map. Attention over channels, of the difference of the halves, is added to
its features.

Parameters as counted of the published weights: features 418,720 and each encoder 869,440, exactly; the picture's half
6.40 M. Of the 3-D hourglass only the layers of its two upper levels are known, which have 0.59 M of its 3,723,898
parameters; what is left fits one more level, at 1/8, of 128 channels and three residual blocks. With it the hourglass
has 3,690,872 and DepthNet 60.8 GMAC at 192 x 256 px; the published one has 61.3.

Deviations: halves here are green, so each is repeated over the three channels that the network takes, and the restored
picture is a residual of the full-aperture one, which brings the colour. The map is disparity in pixels instead of
inverse depth of one set of lenses: the volume's own shifts, refined by a residual. ``two_sided`` adds the shifts of the
other sign: the published volume has none for what is nearer than focus.

Convention: as :mod:`.dddnet`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.precision import in_full_precision
from dualpix.models.losses import exact, masked_mean
from dualpix.models.losses.image import image_loss, reblur_loss
from dualpix.models.networks.dddnet import DDDNetEstimate, check_weight
from dualpix.models.samples import DISPARITY, DISPARITY_GAIN
from dualpix.models.tasks.task import KNOWN, Batch

_SHIFTS = 4
"""0 to 3 px."""
_PLANES_PER_SHIFT = 3
_POOLS_PX = (64, 16)


@dataclass(frozen=True)
class DDDNetPaperConfig:
    """What can be chosen of the published network."""

    two_sided: bool = False
    """Shifts of -3 to 3 px instead of 0 to 3."""
    image_weight: float = 1.0
    reblur_weight: float = 1.0

    def __post_init__(self) -> None:
        if type(self.two_sided) is not bool:
            raise ValueError(f"two_sided is {self.two_sided!r}, expected true or false")
        for name in ("image_weight", "reblur_weight"):
            check_weight(name, getattr(self, name))

    @property
    def shifts_px(self) -> range:
        """Of the volume; what lies ``d`` px further right in the right half is found at the shift ``d``."""
        return range(1 - _SHIFTS if self.two_sided else 0, _SHIFTS)


def _conv(given: int, out: int, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(given, out, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class FullSizeFeatures(nn.Module):
    """(B, 3, H, W) -> (B, 32, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(3, 32), _conv(32, 64), _conv(64, 128, dilation=4), _conv(128, 128, dilation=8))
        self.pyramid = nn.ModuleList([_conv(128, 32, 1) for _ in _POOLS_PX])
        self.join = nn.Sequential(_conv(192, 96), nn.Conv2d(96, 32, 1, bias=False), nn.BatchNorm2d(32))

    def forward(self, x: Tensor) -> Tensor:
        """Features of one half."""
        y: Tensor = self.body(x)
        size = (y.shape[2], y.shape[3])
        parts = [y]
        for side, conv in zip(_POOLS_PX, self.pyramid, strict=True):
            pooled = conv(F.avg_pool2d(y, (min(side, size[0]), min(side, size[1]))))
            parts.append(F.interpolate(pooled, size, mode="bilinear", align_corners=False))
        out: Tensor = self.join(torch.cat(parts, 1))
        return out


def concatenation_volume(left: Tensor, right: Tensor, shifts_px: Sequence[int]) -> Tensor:
    """(B, C, H, W) twice -> (B, 2 C, shifts, H, W): left(x) beside right(x + shift), both 0 where that lies outside."""
    b, c, h, w = left.shape
    volume = left.new_zeros(b, 2 * c, len(shifts_px), h, w)
    for place, shift in enumerate(shifts_px):
        here = slice(max(0, -shift), w - max(0, shift))
        there = slice(max(0, shift), w - max(0, -shift))
        volume[:, :c, place, :, here] = left[..., here]
        volume[:, c:, place, :, here] = right[..., there]
    return volume


def _conv3d(given: int, out: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv3d(given, out, 3, stride, 1, bias=False), nn.BatchNorm3d(out)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Up3d(nn.Module):
    """Transposed convolution to the size of another volume."""

    def __init__(self, given: int, out: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose3d(given, out, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm3d(out)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Enlarge to the planes, height and width of ``like``."""
        return F.relu(self.norm(self.deconv(x, output_size=list(like.shape[2:]))))


class Residual3d(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv3d(channels, channels), _conv3d(channels, channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return F.relu(x + self.body(x))


class Hourglass(nn.Module):
    """(B, 64, shifts, H, W) -> costs (B, planes, H, W), three planes per shift."""

    def __init__(self) -> None:
        super().__init__()
        self.start = _conv3d(64, 32)
        self.to_half = nn.Sequential(_conv3d(32, 48, 2), _conv3d(48, 48))
        self.to_quarter = nn.Sequential(_conv3d(48, 64, 2), _conv3d(64, 64))
        self.to_eighth = nn.Sequential(_conv3d(64, 128, 2), *(Residual3d(128) for _ in range(3)))
        self.up_quarter, self.up_half = Up3d(128, 64), Up3d(64, 48)
        self.join_half = _conv3d(96, 48)
        self.up_full = Up3d(48, 24)
        self.cost = nn.Conv3d(24, 1, 3, padding=1, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Costs: the lower, the likelier."""
        full = self.start(volume)
        half = self.to_half(full)
        quarter = self.to_quarter(half)
        quarter = quarter + self.up_quarter(self.to_eighth(quarter), quarter)
        half = self.join_half(torch.cat([self.up_half(quarter, half), half], 1))
        cost: Tensor = self.cost(self.up_full(half, full))
        planes, height, width = cost.shape[2] * _PLANES_PER_SHIFT, cost.shape[3], cost.shape[4]
        return F.interpolate(cost, (planes, height, width), mode="trilinear", align_corners=False)[:, 0]


class DepthNet(nn.Module):
    """Both halves (B, 3, H, W) to a coarse disparity (B, 1, H, W) in px; H and W multiples of 8."""

    def __init__(self, shifts_px: range) -> None:
        super().__init__()
        self.shifts_px = shifts_px
        self.features, self.matching = FullSizeFeatures(), Hourglass()
        planes = torch.arange(len(shifts_px) * _PLANES_PER_SHIFT, dtype=torch.float32)
        # where the planes between two shifts lie after interpolation
        at = (planes + 0.5) / _PLANES_PER_SHIFT - 0.5 + shifts_px[0]
        self.register_buffer("plane_px", at.reshape(1, -1, 1, 1), persistent=False)

    plane_px: Tensor

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Expected shift."""
        volume = concatenation_volume(self.features(left), self.features(right), self.shifts_px)
        weights = torch.softmax(-self._costs(volume), 1)
        return (weights * self.plane_px).sum(1, keepdim=True)

    def _costs(self, volume: Tensor) -> Tensor:
        """In float32: torch 2.13 on CPUs gives wrong bfloat16 gradients, up to 1e36, of 3-D convolutions over two
        planes."""
        with in_full_precision(volume):
            costs: Tensor = self.matching(exact(volume))
        return costs


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))  # type: ignore[no-any-return]


def _blocks(channels: int) -> list[nn.Module]:
    return [_ResidualBlock(channels), _ResidualBlock(channels)]


class PatchEncoder(nn.Sequential):
    """(B, 7, H, W) -> (B, 128, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(7, 32, 3, padding=1), *_blocks(32),
            nn.Conv2d(32, 64, 3, 2, 1), *_blocks(64),
            nn.Conv2d(64, 128, 3, 2, 1), *_blocks(128),
        )  # fmt: skip


class PatchDecoder(nn.Sequential):
    """(B, 128, H/4, W/4) -> (B, out, H, W)."""

    def __init__(self, out_channels: int) -> None:
        super().__init__(
            *_blocks(128), nn.ConvTranspose2d(128, 64, 4, 2, 1),
            *_blocks(64), nn.ConvTranspose2d(64, 32, 4, 2, 1),
            *_blocks(32), nn.Conv2d(32, out_channels, 3, padding=1),
        )  # fmt: skip


class ChannelAttention(nn.Module):
    """Features re-weighted by how alike channels are, times a learned number that starts at 0 (Fu et al., DANet)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        flat = x.flatten(2)
        energy = torch.bmm(flat, flat.transpose(1, 2))
        weights = torch.softmax(energy.amax(2, keepdim=True) - energy, 2)
        return self.gamma * torch.bmm(weights, flat).reshape(x.shape) + x


class DeblurNet(nn.Module):
    """Both halves and the coarse map, (B, 7, H, W) -> what to add to picture (B, 3, H, W) and map (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([PatchEncoder() for _ in range(3)])
        """Of the whole, of two patches, of four."""
        self.four, self.two = PatchDecoder(7), PatchDecoder(7)
        self.picture, self.map = PatchDecoder(3), PatchDecoder(1)
        self.side = nn.Conv2d(4, 128, 8, 4, 2)
        self.attention = ChannelAttention()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals."""
        whole, two, four = self.encoders
        halves = torch.chunk(x, 2, 2)
        quarters = [quarter for half in halves for quarter in torch.chunk(half, 2, 3)]
        at4 = [four(quarter) for quarter in quarters]
        at2 = [torch.cat(at4[:2], 3), torch.cat(at4[2:], 3)]
        at2 = [two(half + self.four(below)) + below for half, below in zip(halves, at2, strict=True)]
        below = torch.cat(at2, 2)
        features = whole(x + torch.cat([self.two(half) for half in at2], 2)) + below
        difference = torch.cat([x[:, :3] - x[:, 3:6], x[:, 6:]], 1)
        features = features + self.attention(torch.sigmoid(self.side(difference)))
        return self.picture(features), self.map(features)


class DDDNetPaper(nn.Module):
    """``forward(image, left, right) -> (disparity_px, sharp)``.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 8; gives (B, 1, H, W), (B, 3, H, W).
    """

    def __init__(self, config: DDDNetPaperConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DDDNetPaperConfig()
        self.depth, self.deblur = DepthNet(config.shifts_px), DeblurNet()

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[DDDNetEstimate]:
        """Refined and coarse disparity, both at full size, and the picture."""
        left, right = left.expand(-1, 3, -1, -1), right.expand(-1, 3, -1, -1)
        coarse = self.depth(left, right)
        picture, refined = self.deblur(torch.cat([left, right, coarse], 1))
        return [DDDNetEstimate([coarse + refined, coarse], image + picture)]

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity (B, 1, H, W) in px of the input grid, and the picture (B, 3, H, W)."""
        [estimate] = self.forward_scales(image, left, right)
        return estimate.disparities_px[0], estimate.sharp


def loss_of_options(options: Mapping[str, Any]) -> Callable[[Sequence[Any], Batch], Tensor]:
    """``L_d + L_res + L_reb``: smooth L1 of both maps, mean squares of picture and re-blurred halves (weights 1)."""
    names = {field.name for field in fields(DDDNetPaperConfig)}
    weights = DDDNetPaperConfig(**{k: v for k, v in options.items() if k in names and k.endswith("_weight")})

    def loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
        estimate: DDDNetEstimate = predictions[0]
        total = batch[DISPARITY].new_zeros(())
        for disparity in estimate.disparities_px:
            gap = F.smooth_l1_loss(exact(disparity), batch[DISPARITY], reduction="none")
            total = total + masked_mean(gap, batch.get(KNOWN))
        if weights.image_weight:
            total = total + weights.image_weight * image_loss(estimate.sharp, batch, squared=True)
        if weights.reblur_weight and DISPARITY_GAIN in batch:
            again = reblur_loss(estimate.sharp, estimate.disparities_px[0], batch, batch[DISPARITY_GAIN], squared=True)
            total = total + weights.reblur_weight * again
        return total

    return loss
