"""Compact FOSSA: metric depth of a focus stack of 2 or more frames on a phone (after FOSSA, arXiv 2603.26658).

Kept from the paper: one trunk for all frames, pretrained on pictures; attention between the frames at each pixel, told
by what they are focused at and zero at first; an early collapse, after which one frame is left; a light decoder;
canonical space. Changed, so that a phone runs it: EfficientNet-Lite0 in place of a ViT, attention at 1/8 and 1/16,
convex upsampling, the size of the picture itself in place of 518 px.

Added is what a small network does not find by itself in an hour.

*How well the blur of neighbouring frames agrees with each of 32 depths*, the lens being known
(:mod:`dualpix.models.blocks.blur_matching`): depth from defocus as it has always been, before anything is learnt.
Scores of the pairs are added, a softmax over the depths is the first estimate, and the decoder, which sees what
surrounds a pixel, adds scores of its own and then corrects.

*How sharp each frame is, against the others*: the logarithm of the local energy behind learned band-pass filters, at
four scales from the full resolution on, less that of the other frames: texture and its contrast cancel, what remains is
blur. A softmax over frames says which are sharp at a pixel, and each says how far beside itself it takes focus to be.
This needs no lens, and is what is left where nobody knows it (a blur of 0 px per diopter).

Convention: all of this happens in the *range* of the stack: 0 at the farthest focus, 1 at the nearest, even in
diopters, in which blur is. A stack of half the range through an aperture of twice the width has the same frames; so has
the network's estimate. Inputs are prepared by :func:`dualpix.models.prepare.stack_inputs`: focus rises in diopters.
Depth in m is 1 / diopters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks import ConvBNReLU, InvertedResidual
from dualpix.models.blocks.basic import UpsampleJoin
from dualpix.models.blocks.blur_matching import BlurMatching, Evidence, ExpectedPlace
from dualpix.models.blocks.channels import FrozenConv1x1
from dualpix.models.blocks.constants import constant
from dualpix.models.blocks.precision import in_full_precision
from dualpix.models.blocks.resize import ConvexUpsample, mean_pool, upsample
from dualpix.models.blocks.stack_attention import (
    LightStackAttention,
    frame_contrasts,
    frame_max,
    frame_mean,
    frame_softmax,
    frame_sum,
)
from dualpix.models.foundation import FoundationModel, foundation
from dualpix.models.losses import range_depth_loss
from dualpix.models.prepare import BLACK

_MOST_CHANNELS = 1024
_MOST_APART = 8
_SCALES, _FILTERS = 4, 4
_LUMA = (0.25, 0.5, 0.25)
_UNIT = 16.0
"""Light is filtered times this, so that energies near the floor's square, 1e-4, stay above what float16 holds where
small values are flushed to zero (6e-5; XNNPACK on ARM64)."""
_FLOOR = 0.01
"""Of the energy's root, at first: about the noise of a frame as networks see it."""
_ENERGY_POWER = 5.0
"""At first, by which a frame's mean log energy makes its weight."""
_BEYOND_FAR, _BEYOND_NEAR = (-0.08, -0.04), (1.06, 1.14, 1.25, 1.4, 1.6, 1.9)
_PLACES_INSIDE, _TOWARDS_FAR = 24, 1.3
"""Places that are tried in the range, and by which power they are denser far away, where diopters weigh more."""
_LEAST_RANGE_D = 1e-3
_SMOOTH_SHARE = 0.05
"""Of the range: where estimates bend, so that depth stays above 0."""
_LEAST_D, _MOST_D = 1e-4, 1e3
_USUAL_WIDTH_PX = 512.0
_NEAR_INFINITY_D = 0.05
CONFIDENT_WITHIN = 0.1
"""The confidence is the chance that depth is within so much of the truth, relative."""


@dataclass(frozen=True)
class FOSSAConfig:
    """Sizes of the compact network; the defaults are those to be trained."""

    foundation_weights: str | None = "imagenet"
    """What training of the trunk starts from: a path, ``imagenet``, or None for random ones."""
    frozen: bool = True
    """Whether the trunk stays as it is."""
    collapse_stride: int = 16
    """Stride after whose attention one frame is left: 8 or 16."""
    pooling: str = "mean"
    """Of the frames' features there: ``mean`` or ``max``."""
    cue_channels: int = 32
    """Of what is known of each frame, at 1/4."""
    pair_channels: int = 32
    """Of what is known of each pair of neighbouring frames, there."""
    pairs_apart: tuple[int, ...] = (1, 2)
    """By how many places in the order of focus the frames differ whose blur is matched: 1, then rising. Neighbours in a
    long stack differ by little more than noise."""
    attention_widths: tuple[int, int] = (40, 80)
    """At 1/8 and 1/16; multiples of 4."""
    decoder_channels: tuple[int, int, int, int] = (16, 40, 64, 96)
    """At 1/2, 1/4, 1/8 and 1/16."""

    def __post_init__(self) -> None:
        channels = (self.cue_channels, self.pair_channels, *self.attention_widths, *self.decoder_channels)
        if any(type(c) is not int or not 1 <= c <= _MOST_CHANNELS for c in channels):
            raise ValueError(f"channels are {channels}, expected whole numbers of 1 to {_MOST_CHANNELS}")
        if len(self.attention_widths) != 2 or any(w % 4 for w in self.attention_widths):
            raise ValueError(f"attention_widths is {self.attention_widths}, expected two multiples of 4")
        if len(self.decoder_channels) != 4:
            raise ValueError(f"decoder_channels has {len(self.decoder_channels)} numbers, expected 4")
        if self.collapse_stride not in (8, 16):
            raise ValueError(f"collapse_stride is {self.collapse_stride!r:.40}, expected 8 or 16")
        if self.pooling not in ("mean", "max"):
            raise ValueError(f"pooling is {self.pooling!r:.40}, expected mean or max")
        apart = self.pairs_apart
        if not 1 <= len(apart) <= _MOST_APART or any(type(a) is not int for a in apart) or apart[0] != 1:
            raise ValueError(f"pairs_apart is {apart!r:.40}, expected 1 and up to {_MOST_APART - 1} whole numbers more")
        if any(not a < b <= _MOST_APART for a, b in pairwise(apart)):
            raise ValueError(f"pairs_apart is {apart!r:.40}, expected numbers that rise, to {_MOST_APART} at most")
        if type(self.frozen) is not bool:
            raise ValueError(f"frozen is {self.frozen!r:.40}, expected true or false")

    def apart(self, frames: int) -> tuple[int, ...]:
        """Those of ``pairs_apart`` that a stack of so many frames has."""
        return tuple(a for a in self.pairs_apart if a < frames)


class SharpnessCue(nn.Module):
    """How sharp frames are at each pixel against one another: (B * N, 3, H, W) -> (B * N, 48, H/4, W/4).

    Log energy behind four learned 3 x 3 filters at each of the scales 1, 1/2, 1/4 and 1/8, in contrast between frames.
    Energies that lack a neighbour at the border are 0 there in all frames, so that nothing is said of it.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("luma", "filters")
    channels: ClassVar[int] = 3 * _SCALES * _FILTERS

    def __init__(self) -> None:
        super().__init__()
        self.luma = FrozenConv1x1(torch.tensor([_LUMA]))
        self.filters = nn.ModuleList(nn.Conv2d(1, _FILTERS, 3, bias=False) for _ in range(_SCALES))
        for bank in self.filters:
            bank.weight = nn.Parameter(constant(_band_pass))
        self.floor = nn.Parameter(torch.full((_SCALES * _FILTERS, 1, 1), _FLOOR))
        self.register_buffer("least", torch.tensor(1e-6 * _UNIT**2), persistent=False)
        self.register_buffer("unit", torch.tensor(_UNIT), persistent=False)

    least: Tensor
    unit: Tensor

    def forward(self, frames: Tensor, count: int) -> Tensor:
        """Contrasts of log energy; its unit is none of them."""
        light, energies = self.luma(frames) * self.unit, []
        for scale, bank in enumerate(self.filters):
            if scale:
                light = mean_pool(light, 2)
            response = bank(light)
            energy = F.pad(response * response, (1, 1, 1, 1))
            energies.append(mean_pool(energy, 4 >> scale) if scale < 2 else upsample(energy, 2 ** (scale - 2)))
        near = F.avg_pool2d(torch.cat(energies, 1), 3, 1, 1, False, False)
        floor = self.floor * self.unit
        return frame_contrasts(torch.log(near + floor * floor + self.least), count)


def _band_pass() -> Tensor:
    """(4, 1, 3, 3): Laplacian, slope along x and along y, and the saddle; none sees a constant."""
    smooth, slope = torch.tensor([0.25, 0.5, 0.25]), torch.tensor([-0.5, 0.0, 0.5])
    spot = torch.zeros(3, 3)
    spot[1, 1] = 1.0
    bank = [spot - torch.outer(smooth, smooth), torch.outer(smooth, slope), torch.outer(slope, smooth)]
    return torch.stack([*bank, 2 * torch.outer(slope, slope)])[:, None]


class FocusEmbedding(nn.Module):
    """What each frame is focused at, within its stack and as it is, for several places: (B * N, c, 1, 1) each.

    Within: its place in the range and the steps to its neighbours. As it is: range and far end in canonical diopters,
    those of a picture of 512 px whose focal length is 512 px.
    """

    def __init__(self, widths: Sequence[int], hidden: int = 32) -> None:
        super().__init__()
        self.within, self.whole = nn.Linear(3, hidden), nn.Linear(2, hidden)
        self.places = nn.ModuleList(nn.Linear(hidden, width) for width in widths)
        self.register_buffer("near_infinity", torch.tensor([_NEAR_INFINITY_D]), persistent=False)

    near_infinity: Tensor

    def forward(self, place: Tensor, whole: Tensor) -> list[Tensor]:
        """Embed.

        Args:
            place: (B, N) in the range, rising from 0 to 1.
            whole: (B, 1, 2) range and far end, canonical diopters.
        """
        steps = place[:, 1:] - place[:, :-1]
        within = torch.stack([place, F.pad(steps, (1, 0)), F.pad(steps, (0, 1))], 2)
        both = torch.relu(self.within(within) + self.whole(torch.log(whole + self.near_infinity)))
        return [layer(both).reshape(place.numel(), -1, 1, 1) for layer in self.places]


class PairEmbedding(nn.Module):
    """What both frames of a pair are focused at, and how much blur the range makes: (B * (N - 1), C, 1, 1)."""

    def __init__(self, width: int, hidden: int = 32) -> None:
        super().__init__()
        self.told, self.out = nn.Linear(3, hidden), nn.Linear(hidden, width)

    def forward(self, place: Tensor, reach_px: Tensor) -> Tensor:
        """Embed (B, N) places and px of the whole range."""
        reach = torch.log1p(reach_px[:, :-1])
        told = torch.stack([place[:, :-1], place[:, 1:], reach], 2)
        y: Tensor = self.out(torch.relu(self.told(told)))
        return y.reshape(-1, y.shape[2], 1, 1)


class Estimate(nn.Module):
    """Each frame's weight and its own idea of the place of focus: features (B * N, C, H, W) -> two maps of N frames.

    Before it has learnt anything a frame's weight is its energy, to a power: depth from focus, as it has always been.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("head", "sharp")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.refine = InvertedResidual(channels, channels, expand=2)
        self.head = nn.Conv2d(channels, 2, 3, padding=1)
        self.sharp = nn.Conv2d(SharpnessCue.channels, 1, 1, bias=False)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        finest = 2 * _FILTERS  # of the first two scales, against the mean of the frames
        with torch.no_grad():
            self.sharp.weight.zero_()[:, :finest] = _ENERGY_POWER / finest

    def forward(self, x: Tensor, sharpness: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Weights (B * N, 1, H, W), summing to 1 over frames, and steps beside the frame's place, likewise.

        Args:
            x: (B * N, C, H, W) features.
            sharpness: (B * N, 48, H, W) of :class:`SharpnessCue`.
            frames: N.
        """
        y = self.head(self.refine(x))
        return frame_softmax(y[:, :1] + self.sharp(sharpness), frames), y[:, 1:]


class FOSSA(nn.Module):
    """``forward(frames, focus_diopters, width_per_focal, blur_px_per_diopter) -> (depth_m, confidence)``.

    Shapes: frames (B, N, 3, H, W) with N >= 2, H and W multiples of 32; focus (B, N), rising; width_per_focal (B,);
    blur (B, N), of these frames, 0 where it is not known; results (B, 1, H, W), depth from 1 mm to 10 km.
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("matching",)  # what nearly equal pictures differ by

    def __init__(self, config: FOSSAConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FOSSAConfig()
        self.model: FoundationModel = foundation("efficientnet-lite0", frozen=config.frozen)
        c2, c4, c8, c16, c32 = self.model.spec.channels
        cue, (w8, w16) = config.cue_channels, config.attention_widths
        d2, d4, d8, d16 = config.decoder_channels
        late = config.collapse_stride == 16
        self.sharpness = SharpnessCue()
        self.focus = FocusEmbedding((cue, w8, w16) if late else (cue, w8))
        self.cue_in = nn.Conv2d(SharpnessCue.channels + c4, cue, 1)
        self.cue = InvertedResidual(cue, cue, expand=2)
        self.beside8 = ConvBNReLU(cue, w8, stride=2)
        self.attend8 = LightStackAttention(c8, w8)
        self.beside16 = ConvBNReLU(w8, w16, stride=2) if late else None
        self.attend16 = LightStackAttention(c16, w16) if late else None
        self.back8 = nn.Conv2d(c8, cue, 1)
        self.back16 = nn.Conv2d(c16, cue, 1) if late else None
        self.estimate = Estimate(cue)
        pairs, tried = config.pair_channels, constant(places_tried)
        self.matching = BlurMatching(tried)
        self.pair = PairEmbedding(pairs)
        self.evidence = Evidence(len(tried), pairs, InvertedResidual(pairs, pairs, expand=2))
        self.expected = ExpectedPlace(tried)
        self.up16 = UpsampleJoin(c32, c16, d16)
        self.up8 = UpsampleJoin(d16, c8, d8)
        self.up4 = UpsampleJoin(d8, cue + pairs + 4, d4)
        self.choose = nn.Conv2d(d4, len(tried), 1)
        self.correct4 = nn.Conv2d(d4, 1, 3, padding=1)
        self.up2 = UpsampleJoin(d4, c2 + 1, d2)
        self.correct2 = nn.Conv2d(d2, 1, 3, padding=1)
        self.spread = nn.Conv2d(d2, 1, 3, padding=1)
        self.mask = nn.Conv2d(d2, 9 * 4, 1)
        self.convex = ConvexUpsample(2)
        for head in (
            self.choose,
            self.correct4,
            self.correct2,
            self.spread,
        ):  # the first estimate is the result, at first
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        constants = {"black": BLACK, "one": 1.0, "least": _LEAST_D, "most": _MOST_D, "one_half": 0.5}
        constants |= {"smooth": _SMOOTH_SHARE, "least_range": _LEAST_RANGE_D, "within": CONFIDENT_WITHIN}
        for name, value in constants.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)
        # frames that lie wider apart say again what those between have said
        shares = torch.tensor([1 / a for a in config.pairs_apart[1:]])
        self.register_buffer("wide_shares", shares, persistent=False)

    wide_shares: Tensor
    black: Tensor
    one: Tensor
    least: Tensor
    most: Tensor
    one_half: Tensor
    smooth: Tensor
    least_range: Tensor
    within: Tensor

    def start(self) -> str | None:
        """Put the trunk's published weights in, before training; where they are from, None of random ones.

        Raises:
            DualpixError: they are not there, or of another model.
        """
        if self.config.foundation_weights is None:
            return None
        given = foundation("efficientnet-lite0", self.config.foundation_weights)
        self.model.load_state_dict(given.state_dict())
        return given.source

    def _pooled(self, x: Tensor, frames: int) -> Tensor:
        return frame_max(x, frames) if self.config.pooling == "max" else frame_mean(x, frames)

    def _trunk(self, x: Tensor, level: int) -> Tensor:
        y: Tensor = self.model.trunk.level(x, level)  # type: ignore[operator]
        return y

    def _light(self, x: Tensor) -> Tensor:
        """(B * N, 1, H/2, W/2) linear light of frames as networks see them."""
        with in_full_precision(x):
            root = (x + self.black).clamp_min(0.0)
            return mean_pool(self.sharpness.luma(root * root), 2)

    def _places(
        self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Far end and range (B, 1) in diopters, place of each frame (B, N), and both ends canonical (B, 1, 2)."""
        far = focus_diopters[:, :1]
        span = (focus_diopters[:, -1:] - far).clamp_min(_LEAST_RANGE_D)
        to_canonical = frames.shape[-1] / _USUAL_WIDTH_PX / width_per_focal.reshape(-1, 1)
        whole = torch.stack([span * to_canonical, far * to_canonical], 2)
        return far, span, (focus_diopters - far) / span, whole

    def _estimates(
        self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor, blur_px_per_diopter: Tensor
    ) -> tuple[list[Tensor], Tensor, tuple[Tensor, Tensor]]:
        """Place in the range at 1/2, corrected at 1/4 and at first; fine features at 1/2; far end and range."""
        count = frames.shape[1]
        far, span, place, whole = self._places(frames, focus_diopters, width_per_focal)
        focus = self.focus(place, whole)
        x = frames.reshape(-1, *frames.shape[2:])
        # the root of light that networks are shown is within a tenth of the encoding of the pictures it was trained on
        f2 = self._trunk(self.model.normalise((x + self.black).clamp(0.0, 1.0)), 0)
        f4 = self._trunk(f2, 1)
        sharpness = self.sharpness(x, count)
        cue = torch.relu(self.cue_in(torch.cat([sharpness, f4], 1)) + focus[0])
        cue = self.cue(cue)
        beside8 = self.beside8(cue)
        f8 = self.attend8(self._trunk(f4, 2), focus[1], beside8, count)
        seen = cue + upsample(self.back8(f8), 2)
        if self.attend16 is not None and self.beside16 is not None and self.back16 is not None:
            f16 = self.attend16(self._trunk(f8, 3), focus[2], self.beside16(beside8), count)
            seen = seen + upsample(self.back16(f16), 4)
            one8, one16 = self._pooled(f8, count), self._pooled(f16, count)
        else:
            one8 = self._pooled(f8, count)
            one16 = self._trunk(one8, 3)
        weights, beside = self.estimate(torch.relu(seen), sharpness, count)
        steps = beside * (self.one / (count - 1)) + place.reshape(-1, 1, 1, 1)
        sharpest = [frame_sum(weights * steps, count), frame_sum(weights * weights, count)]
        reach_px = blur_px_per_diopter * span
        matches, *wide = self.matching(self._light(x), place, reach_px * self.one_half, self.config.apart(count))
        scores, said = self.evidence(matches, self.pair(place, reach_px))
        score = frame_sum(scores, count - 1)
        for match, share in zip(wide, self.wide_shares, strict=False):
            score = score + frame_sum(self.evidence.plain(match) * share, match.shape[0] // frames.shape[0])
        first, sure = self.expected(score)
        in_focus4 = frame_sum(weights * cue, count)
        in_focus2 = frame_sum(upsample(weights, 2) * f2, count)
        y = self.up8(self.up16(self._trunk(one16, 4), one16), one8)
        y = self.up4(y, torch.cat([in_focus4, frame_mean(said, count - 1), first, sure, *sharpest], 1))
        chosen, _ = self.expected(score + self.choose(y))
        corrected = chosen + self.correct4(y)
        coarse = upsample(corrected, 2)
        fine = self.up2(y, torch.cat([in_focus2, coarse], 1))
        return [coarse + self.correct2(fine), corrected, first], fine, (far, span)

    def _diopters(self, place: Tensor, far: Tensor, span: Tensor) -> Tensor:
        """Of a place in the range, above 0: bent to stay so ("squareplus", Barron, arXiv 2112.11687)."""
        span = span.reshape(-1, 1, 1, 1)
        linear, width = far.reshape(-1, 1, 1, 1) + span * place, span * self.smooth
        bent = (linear + torch.sqrt(linear * linear + width * width)) * self.one_half
        return torch.minimum(torch.maximum(bent, self.least), self.most)

    def _full(self, half: Tensor, fine: Tensor) -> Tensor:
        """Convex upsampling of a place in the range, which is no length in px."""
        upsampling = self.convex.plain if self.training else self.convex  # equal; their gradients cost 1 to 3
        return upsampling(half * self.one_half, self.mask(fine))

    def forward_scales(
        self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor, blur_px_per_diopter: Tensor
    ) -> list[Tensor]:
        """For the loss: (B, 3, H, W) diopters, range in diopters and log scale of the error; then the same at 1/4."""
        estimates, fine, (far, span) = self._estimates(frames, focus_diopters, width_per_focal, blur_px_per_diopter)
        finest = self._diopters(self._full(estimates[0], fine), far, span)
        shown = [finest, *(self._diopters(estimate, far, span) for estimate in estimates[1:])]
        spans = span.reshape(-1, 1, 1, 1)
        scales = [upsample(self.spread(fine), 2), *(torch.zeros_like(d) for d in shown[1:])]
        return [torch.cat([d, spans.expand_as(d), s], 1) for d, s in zip(shown, scales, strict=True)]

    def forward(
        self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor, blur_px_per_diopter: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Depth (B, 1, H, W) in m, and the chance that it is within ``CONFIDENT_WITHIN``."""
        (half, *_), fine, (far, span) = self._estimates(frames, focus_diopters, width_per_focal, blur_px_per_diopter)
        depth_m = self.one / self._diopters(self._full(half, fine), far, span)
        inverse_scale = torch.exp(-upsample(self.spread(fine), 2))
        return depth_m, self.one - torch.exp(-self.within * inverse_scale)


def places_tried() -> Tensor:
    """(32,) places in the range of a stack, and a little beyond: to where diopters end, and to half as near again."""
    inside = torch.linspace(0.0, 1.0, _PLACES_INSIDE) ** _TOWARDS_FAR
    return torch.cat([torch.tensor(_BEYOND_FAR), inside, torch.tensor(_BEYOND_NEAR)])


def loss(predictions: Sequence[Any], batch: Mapping[str, Tensor]) -> Tensor:
    """See :func:`dualpix.models.losses.range_depth_loss`."""
    return range_depth_loss(predictions, batch["depth_m"], batch.get("known"))
