"""FMDP in its paper form: dual-pixel disparity with the context of a frozen foundation model (Lee et al., MVA 2025).

QPDNet with two side views (Wu et al., BMVC 2024), which is RAFT-Stereo with a symmetric look-up and attention on what
is looked up, and in place of its context features those of a Depth Anything V2 encoder, through FA blocks (resize, 1x1,
ReLU). Written from the published descriptions; sizes agree with the published number of parameters: 11,493,099 of
QPDNet, 393,600 of the FA blocks and 304,368,640 of the encoder.

Different from the paper: left and right are one channel, as their task has them, and repeated; the view between them
that is matched is their mean in linear light, while colour goes to context and hidden states; what is outside the
paper's grid (multiples of 112 px) is resized for the foundation model instead of refused. The paper predicts half
disparities; see below.

Convention: inputs are prepared by :func:`dualpix.models.prepare.network_inputs`; the output is ``x_right - x_left`` in
pixels of the network's input grid, > 0 behind the focus plane: twice the paper's, whose disparity is the distance of
either half from the full-aperture view (:mod:`.symmetric_matching`). Lists of maps are finest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.channels import FrozenConv1x1
from dualpix.models.blocks.precision import in_full_precision
from dualpix.models.blocks.resize import ConvexUpsample
from dualpix.models.foundation import FoundationModel, foundation, foundation_spec
from dualpix.models.foundation.display import SrgbCurve
from dualpix.models.losses import exact, masked_mean
from dualpix.models.networks.raft_encoders import ContextEncoder, MatchingEncoder
from dualpix.models.networks.raft_update import HIDDEN, SimilarityAttention, UpdateBlock
from dualpix.models.networks.symmetric_matching import SymmetricMatching
from dualpix.models.prepare import BLACK

TAPS = {"vits": (5, 8, 11), "vitb": (5, 8, 11), "vitl": (11, 17, 23)}
"""Blocks whose outputs are the context at 1/4, 1/8 and 1/16. Published: 11, 17 and 23 of ViT-L's 24, at a half, three
quarters and all of its depth; the others at the same shares."""
MOST_HALF_PX = 700.0
"""True half disparities from here on are left out of the loss."""
_FINEST = 4
"""Stride of the matching."""
_MATCHED = 256
_MOST_ITERATIONS = 64


@dataclass(frozen=True)
class FMDPPaperConfig:
    """The defaults are the published network."""

    foundation: str | None = "depth-anything-v2-vitl"
    """Whose features are the context; None: those of the context encoder, which makes it QPDNet with two side views."""
    foundation_weights: str | None = None
    """What training starts from: a path, ``imagenet`` for efficientnet-lite0, or None for random ones. A trained
    network's file has them."""
    iterations: int = 8

    def __post_init__(self) -> None:
        if type(self.iterations) is not int or not 1 <= self.iterations <= _MOST_ITERATIONS:
            raise ValueError(f"iterations is {self.iterations!r:.40}, expected 1 to {_MOST_ITERATIONS}")
        weights = self.foundation_weights
        if self.foundation is None and weights is not None:
            raise ValueError("foundation_weights without a foundation, expected both or neither")
        if weights is not None and not isinstance(weights, str):
            raise ValueError(f"foundation_weights is a {type(weights).__name__}, expected a path")
        if self.foundation is not None:
            foundation_spec(str(self.foundation))


class FoundationContext(nn.Module):
    """A frozen foundation model and the FA blocks: picture (B, 3, H, W) -> (B, 128, ...) at 1/4, 1/8 and 1/16.

    Of a transformer three blocks' outputs (``TAPS``), of EfficientNet-Lite the features at strides 8, 16 and 32: there
    as with a transformer's 14 the finest is enlarged most, and is no shallow one.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.model = _encoder(name)
        self.project = nn.ModuleList(nn.Conv2d(c, HIDDEN, 1) for c in self.model.spec.channels[-3:])
        self.curve = SrgbCurve()
        self.register_buffer("offset", torch.tensor(BLACK), persistent=False)

    offset: Tensor

    def start(self, weights: str) -> str:
        """Put published weights in; where they are from.

        Raises:
            DualpixError: they are not there, or of another model.
        """
        # of a metric model, which its name alone tells, the encoder is as good: its depth is not asked for
        metric = 1.0 if "depth_anything_v2_metric" in Path(weights).name else None
        trunk = self.model.trunk
        if self.name.startswith("depth-anything"):
            given = foundation(self.name, weights, max_depth_m=metric)
            trunk.load_state_dict(given.trunk.get_submodule("pretrained").state_dict())
        else:
            given = foundation(self.name, weights)
            trunk.load_state_dict(given.trunk.state_dict())
        self.model.source = given.source
        return given.source

    def grid(self, size_hw: Sequence[int]) -> tuple[int, int]:
        """Size (px) at which the model sees a picture: its own if a multiple of the patch, else the nearest."""
        multiple = self.model.spec.size_multiple
        h, w = (max(1, int(side / multiple + 0.5)) * multiple for side in size_hw)
        return h, w

    def display(self, image: Tensor) -> Tensor:
        """A network's input as a picture: sRGB encoded, its brightest value at 1.

        The paper divides 8-bit pictures by the largest value of a batch. A batch is no picture, so each has its own.
        """
        root = F.relu(image + self.offset)
        light = root * root
        brightest = F.max_pool2d(light, (image.shape[2], image.shape[3]))
        white = torch.maximum(torch.maximum(brightest[:, :1], brightest[:, 1:2]), brightest[:, 2:])
        encoded: Tensor = self.curve(light / torch.maximum(white, self.curve.knee))
        return encoded

    def forward(self, image: Tensor) -> list[Tensor]:
        """Context."""
        h, w = image.shape[2], image.shape[3]
        picture, grid = self.display(image), self.grid((h, w))
        if grid != (h, w):
            picture = F.interpolate(picture, size=grid, mode="bilinear", align_corners=False)
        context = []
        for i, (project, feature) in enumerate(zip(self.project, self.model(picture)[-3:], strict=True)):
            stride = _FINEST << i
            # a 1x1 and a bilinear resize may change places: at 1/4 this order is 12 times less work
            resized = F.interpolate(
                project(feature), size=(h // stride, w // stride), mode="bilinear", align_corners=False
            )
            context.append(F.relu(resized))
        return context


def _encoder(name: str) -> FoundationModel:
    """A frozen model with random weights; of Depth Anything V2 the DINOv2 encoder alone."""
    spec = foundation_spec(name)
    if spec.family == "efficientnet-lite":
        return foundation(name)
    model = foundation(f"dinov2-{spec.variant}14", taps=TAPS[spec.variant])
    model.spec = replace(model.spec, name=spec.name, licence=spec.licence, paper=spec.paper)
    return model


class FMDPPaper(nn.Module):
    """``forward(image, left, right) -> disparity_px``; see the module text for the convention.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 16; result (B, 1, H, W).
    """

    def __init__(self, config: FMDPPaperConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FMDPPaperConfig()
        self.match = MatchingEncoder(_MATCHED)
        self.encode = ContextEncoder(HIDDEN, with_context=config.foundation is None)
        self.known = None if config.foundation is None else FoundationContext(config.foundation)
        self.matching = SymmetricMatching(_MATCHED)
        self.attention = SimilarityAttention(SymmetricMatching.similarities)
        self.update = UpdateBlock(SymmetricMatching.similarities)
        self.enlarge = ConvexUpsample(_FINEST)
        # not cat([x, x, x]): XNNPACK's partitioner (executorch 1.5.1) counts distinct inputs, and takes two or more
        self.repeated = FrozenConv1x1(torch.ones(3, 1))
        for name, value in (("offset", BLACK), ("one_half", 0.5), ("two", 2.0)):
            self.register_buffer(name, torch.tensor(value), persistent=False)
        self.register_buffer("fixed_start", None, persistent=False)

    offset: Tensor
    one_half: Tensor
    two: Tensor
    fixed_start: Tensor | None

    def start(self) -> str | None:
        """Put the foundation model's published weights in, before training; where they are from, None of random ones.

        Raises:
            DualpixError: they are not there, or of another model.
        """
        if self.known is None or self.config.foundation_weights is None:
            return None
        return self.known.start(self.config.foundation_weights)

    def fix_size(self, size_hw: Sequence[int] | None) -> None:
        """Keep what depends on the size (px) of the picture alone for ``torch.export``; None: any size again.

        Eager mode never reads it. See :meth:`dualpix.models.foundation.FoundationModel.fix_size`.
        """
        self.matching.fix_width(None if size_hw is None else size_hw[1] // _FINEST)
        self.fixed_start = None if size_hw is None else torch.zeros(1, 1, *(side // _FINEST for side in size_hw))
        if self.known is not None:
            self.known.model.fix_size(None if size_hw is None else self.known.grid(size_hw))

    def _nothing(self, image: Tensor) -> Tensor:
        """A half disparity of 0."""
        b, _, h, w = image.shape
        if self.fixed_start is not None and torch.compiler.is_exporting():
            return self.fixed_start.expand(b, -1, -1, -1) if b > 1 else self.fixed_start
        return image.new_zeros(b, 1, h // _FINEST, w // _FINEST)

    def _between(self, left: Tensor, right: Tensor) -> Tensor:
        """The full-aperture view of two halves as networks see them: the mean of their light."""
        roots = (F.relu(left + self.offset), F.relu(right + self.offset))
        return torch.sqrt((roots[0] * roots[0] + roots[1] * roots[1]) * self.one_half) - self.offset

    def _features(self, left: Tensor, right: Tensor) -> list[Tensor]:
        """Of C, L and R."""
        views = (self._between(left, right), left, right)
        return [self.match(self.repeated(view)) for view in views]

    def _estimates(self, image: Tensor, left: Tensor, right: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Half disparity in px at 1/4 and the finest hidden state after each iteration."""
        features = self._features(left, right)
        with in_full_precision(image):
            volumes = self.matching.volumes(*features)
        hidden, own = self.encode(image)
        gates = self.update.gates(own if self.known is None else self.known(image))
        half_px = self._nothing(image)
        found = []
        for _ in range(self.config.iterations):
            if torch.is_grad_enabled() and not torch.compiler.is_exporting():
                half_px = half_px.detach()
            similarity = self.attention(self.matching(volumes, half_px))
            hidden, correction = self.update(hidden, gates, similarity, half_px)
            half_px = half_px + correction
            found.append((half_px, hidden[0]))
        return found

    def _full(self, half_px: Tensor, fine: Tensor) -> Tensor:
        """Disparity at the input's size: the whole of it."""
        scores = self.update.upsampling_scores(fine)
        with in_full_precision(half_px):
            disparity_px: Tensor = self.enlarge(half_px * self.two, exact(scores))
        return disparity_px

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """Disparity (B, 1, H, W) in px of the input grid after each iteration, the last one first."""
        return [self._full(*estimate) for estimate in reversed(self._estimates(image, left, right))]

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Disparity (B, 1, H, W) in px of the input grid."""
        return self._full(*self._estimates(image, left, right)[-1])


def sequence_loss(predictions: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """RAFT-Stereo's loss on half disparities: ``sum_i g^(n - 1 - i) mean |h_i - h|`` with ``g = 0.9^(15 / (n - 1))``.

    So the first of n iterations counts as much as that of 16 would, whatever n is.

    Args:
        predictions: (B, 1, H, W) disparity in px after each of n iterations, the last one first.
        batch: of the task ``dual_pixel``; what is not known does not count, nor do halves from ``MOST_HALF_PX`` on.
    """
    half_px = 0.5 * batch["disparity_px"]
    valid = half_px.abs() < MOST_HALF_PX  # not so where a hole holds NaN
    if "known" in batch:
        valid = valid & (batch["known"] > 0)
    truth, mask = torch.where(valid, half_px, 0.0), valid.to(half_px.dtype)
    gamma = 0.9 ** (15 / max(1, len(predictions) - 1))
    errors = [masked_mean((0.5 * exact(prediction) - truth).abs(), mask) for prediction in predictions]
    return torch.stack([gamma**i * error for i, error in enumerate(errors)]).sum()
