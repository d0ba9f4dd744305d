"""FOSSA in its paper form: metric depth of a focus stack by a transformer that compares frames (arXiv 2603.26658).

Depth Anything V2, ViT-S or ViT-B, whose first blocks see all frames of the stack, each followed by attention over the
frames at each patch, told by focus distance; then one block more, the mean over frames, and from there on one frame.
Written from the published description; 42,539,721 and 168,369,481 parameters, as published. Names are those of the
published weights, which load as they are.

Canonical space: focus distances times ``width_per_focal`` go in, and what comes out is divided by it (Metric3D's way,
with the width of the picture as the canonical focal length).

Different from the paper: frames come as networks see them here, a square root of light at one gain for the stack, and
are encoded as sRGB for the transformer; the paper blurs and shows sRGB. Focus farther than ``FARTHEST_FOCUS_M``
canonical metres counts as that far: it goes in raw, training went to 15 m, and a lens at infinity would drown the rest.

Convention: inputs are prepared by :func:`dualpix.models.prepare.stack_inputs`; the output is depth in m.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.files import sha256_of_file
from dualpix.models.blocks.stack_attention import StackAttention, frame_max, frame_mean
from dualpix.models.foundation import names
from dualpix.models.foundation.checkpoints import load_strictly, read_state
from dualpix.models.foundation.depth_anything import DPT, DPTConfig, DPTHead
from dualpix.models.foundation.display import SrgbCurve
from dualpix.models.foundation.vit import PATCH_PX, VIT, DinoViT, ViTConfig
from dualpix.models.losses import silog_gradient_loss
from dualpix.models.prepare import BLACK

FARTHEST_FOCUS_M = 100.0
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VARIANTS = ("vits", "vitb")
_LEAST_D = 1e-4
_MOST_SIDE_PX = 4096
_MOST_SCALES = 8
LOSS_OPTIONS = ("silog_weight", "gradient_weight", "gradient_scales", "farthest_m")


@dataclass(frozen=True)
class FOSSAPaperConfig:
    """The defaults are the published network of the smaller size."""

    variant: str = "vits"
    """``vits`` or ``vitb``."""
    foundation_weights: str | None = None
    """What training starts from: a path of Depth Anything V2's weights or of FOSSA's own; None: random."""
    stack_blocks: int = 4
    """Blocks behind which frames are compared; the block after them is the last that sees them all."""
    pooling: str = "mean"
    """Over frames: ``mean`` or ``max``."""
    short_side_px: int | None = 518
    """To which frames are resized inside, both sides rounded up to a multiple of 14; None: as they are."""
    silog_weight: float = 0.1
    """Of the loss: as in the published code, which made the weights; the text has 1."""
    gradient_weight: float = 1.0
    """Likewise; the text has 0.1."""
    gradient_scales: int = 2
    farthest_m: float = 200.0
    """Truth beyond counts for nothing."""

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS:
            raise ValueError(f"variant is {self.variant!r:.40}, expected vits or vitb")
        blocks = VIT[self.variant].blocks
        if type(self.stack_blocks) is not int or not 1 <= self.stack_blocks < blocks:
            raise ValueError(f"stack_blocks is {self.stack_blocks!r:.40}, expected 1 to {blocks - 1}")
        if self.pooling not in ("mean", "max"):
            raise ValueError(f"pooling is {self.pooling!r:.40}, expected mean or max")
        side = self.short_side_px
        if side is not None and (type(side) is not int or not PATCH_PX <= side <= _MOST_SIDE_PX):
            raise ValueError(f"short_side_px is {side!r:.40}, expected {PATCH_PX} to {_MOST_SIDE_PX}, or null")
        if self.foundation_weights is not None and not isinstance(self.foundation_weights, str):
            raise ValueError(f"foundation_weights is a {type(self.foundation_weights).__name__}, expected a path")
        if type(self.gradient_scales) is not int or not 1 <= self.gradient_scales <= _MOST_SCALES:
            raise ValueError(f"gradient_scales is {self.gradient_scales!r:.40}, expected 1 to {_MOST_SCALES}")
        for name in ("silog_weight", "gradient_weight", "farthest_m"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value!r:.40}, expected a number from 0 on")


class StackViT(DinoViT):
    """DINOv2 on the frames of a stack: (B * N, 3, H, W), normalised, and focus (B, N) -> features of B pictures."""

    def __init__(self, config: ViTConfig, stack_blocks: int, pooling: str) -> None:
        super().__init__(config)
        self.pool = frame_max if pooling == "max" else frame_mean
        self.motion_modules = nn.ModuleList(StackAttention(config.channels) for _ in range(stack_blocks))

    def stack_features(self, x: Tensor, focus: Tensor) -> list[Tensor]:
        """Of the tapped blocks after the final layer norm, each (B, C, H/14, W/14)."""
        rows, columns = x.shape[2] // PATCH_PX, x.shape[3] // PATCH_PX
        tokens, outputs, frames = self.embed(x), [], focus.shape[1]
        compared = len(self.motion_modules)
        for i, block in enumerate(self.blocks[: max(self.config.taps[-1], compared) + 1]):
            tokens = block(tokens)
            if i < compared:
                patches = self.motion_modules[i](tokens[:, 1:], focus)
                tokens = torch.cat([tokens[:, :1], patches], 1)
            elif i == compared:
                tokens = self._one_frame(tokens, frames)
            if i in self.config.taps:
                outputs.append(self.norm(self._one_frame(tokens, frames) if i < compared else tokens))
        return [y[:, 1:].permute(0, 2, 1).reshape(y.shape[0], -1, rows, columns) for y in outputs]

    def _one_frame(self, tokens: Tensor, frames: int) -> Tensor:
        """(B * N, T, C) -> (B, T, C)."""
        return self.pool(tokens[:, None], frames)[:, 0]


class FOSSAPaper(nn.Module):
    """``forward(frames, focus_diopters, width_per_focal) -> depth_m``.

    Shapes: frames (B, N, 3, H, W), focus (B, N), width_per_focal (B,); result (B, 1, H, W). Any H and W, or without
    the resize multiples of 14.
    """

    def __init__(
        self, config: FOSSAPaperConfig | None = None, *, sizes: tuple[ViTConfig, DPTConfig] | None = None
    ) -> None:
        """``sizes`` are others than the variant's: for tests."""
        super().__init__()
        self.config = config = config or FOSSAPaperConfig()
        vit, head = sizes or (VIT[config.variant], DPT[config.variant])
        self.pretrained = StackViT(vit, config.stack_blocks, config.pooling)
        self.depth_head = DPTHead(vit.channels, head)
        self.curve = SrgbCurve()
        for name, values in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        numbers = {"offset": BLACK, "one": 1.0, "least_focus": 1 / FARTHEST_FOCUS_M, "least": _LEAST_D}
        for name, value in numbers.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    mean: Tensor
    std: Tensor
    offset: Tensor
    one: Tensor
    least_focus: Tensor
    least: Tensor

    def start(self) -> str | None:
        """Put published weights in, before training; where they are from, None of random ones.

        Raises:
            DualpixError: they are not there, or of another network.
        """
        return None if self.config.foundation_weights is None else self.load_published(self.config.foundation_weights)

    def load_published(self, weights: str | Path) -> str:
        """Load FOSSA's weights, or Depth Anything V2's, whose stack attention stays as it is; where they are from.

        Args:
            weights: ``.pth`` or ``.safetensors``, of the published names.

        Raises:
            DualpixError: it cannot be read, or a name or shape does not fit: the first is told.
        """
        path = Path(weights)
        own = self.state_dict()
        state = official_names(names.depth_anything(read_state(path, sum(v.numel() for v in own.values()))))
        if not any(_STACK in key for key in state):
            state |= {key: value for key, value in own.items() if _STACK in key}
        load_strictly(self, state, path.name)
        return f"{path.name}, SHA-256 {sha256_of_file(path)}"

    def grid(self, size_hw: Sequence[int]) -> tuple[int, int]:
        """Size (px) at which the transformer sees frames."""
        h, w = (int(side) for side in size_hw)
        short = self.config.short_side_px
        if short is None:
            return h, w
        # whole px first, towards zero, as the published code: 518 x 700.x becomes 518 x 700
        sides = (short, int(w * (short / h))) if h < w else (int(h * (short / w)), short)
        rows, columns = (-(-side // PATCH_PX) * PATCH_PX for side in sides)
        return rows, columns

    def fix_size(self, size_hw: Sequence[int] | None) -> None:
        """Keep what depends on the size (px) of the frames alone for ``torch.export``; None: any size again."""
        self.pretrained.fix_size(None if size_hw is None else self.grid(size_hw))

    def _shown(self, frames: Tensor) -> Tensor:
        """(B, N, 3, H, W) as networks see them -> (B * N, 3, h, w) as the transformer was taught."""
        root = F.relu(frames.reshape(-1, *frames.shape[2:]) + self.offset)
        picture: Tensor = self.curve(torch.minimum(root * root, self.one))
        grid = self.grid(picture.shape[-2:])
        if grid != tuple(picture.shape[-2:]):
            picture = F.interpolate(picture, grid, mode="bilinear", align_corners=True)
        return (picture - self.mean) / self.std

    def canonical_depth(self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor) -> Tensor:
        """Depth (B, 1, H, W) in canonical m, above 0."""
        shown = self._shown(frames)
        canonical_d = focus_diopters / width_per_focal[:, None]
        features = self.pretrained.stack_features(shown, self.one / torch.maximum(canonical_d, self.least_focus))
        raw = self.depth_head.raw_depth(self.depth_head.decode(features)[0], (shown.shape[2], shown.shape[3]))
        depth = F.relu(raw) + torch.log(self.one + torch.exp(-raw.abs()))  # softplus, in operators of every delegate
        size = (frames.shape[-2], frames.shape[-1])
        if size != tuple(depth.shape[-2:]):
            depth = F.interpolate(depth, size, mode="bilinear", align_corners=True)
        return torch.maximum(depth, self.least)

    def forward_scales(self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor) -> list[Tensor]:
        """For the loss: (B, 2, H, W), canonical depth and what it is divided by for depth in m."""
        depth = self.canonical_depth(frames, focus_diopters, width_per_focal)
        return [torch.cat([depth, width_per_focal.reshape(-1, 1, 1, 1).expand_as(depth)], 1)]

    def forward(self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor) -> Tensor:
        """Depth (B, 1, H, W) in m."""
        return self.canonical_depth(frames, focus_diopters, width_per_focal) / width_per_focal.reshape(-1, 1, 1, 1)


_STACK = ".motion_modules."
_ATTENTION = ".attention_blocks."
_KNOWN_PARTS = ("to_q.", "to_k.", "to_v.", "to_out.")


def official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict under the names used here: the same, but for the perceptron of focus distance.

    What that is called inside an attention block is not told by the description. It has two linear layers and one gain,
    which their shapes tell: (4C, 1), (4C), (C, 4C), (C) and a single number.
    """
    found = dict(state)
    blocks: dict[str, list[str]] = {}
    for key in state:
        head, middle, tail = key.partition(_ATTENTION)
        place, _, rest = tail.partition(".")
        if middle and not rest.startswith(_KNOWN_PARTS):
            blocks.setdefault(f"{head}{middle}{place}.", []).append(key)
    for prefix, keys in blocks.items():
        channels = int(state[f"{prefix}to_q.weight"].shape[0]) if f"{prefix}to_q.weight" in state else 0
        shapes: dict[tuple[int, ...], str] = {(4 * channels, 1): "mlp.0.weight", (4 * channels,): "mlp.0.bias"}
        shapes |= {(channels, 4 * channels): "mlp.2.weight", (channels,): "mlp.2.bias", (): "scale", (1,): "scale"}
        ours = {key: shapes.get(tuple(state[key].shape)) for key in keys}
        if sorted(filter(None, ours.values())) != sorted(set(shapes.values())) or len(keys) != len(set(ours.values())):
            continue  # what is missing or too many is told by name
        for key, name in ours.items():
            value = found.pop(key)
            found[f"{prefix}pos_encoder.{name}"] = value.reshape(1) if name == "scale" else value
    return found


Loss: TypeAlias = Callable[[Sequence[Any], Mapping[str, Tensor]], Tensor]


def loss_of_options(options: Mapping[str, Any], config: type[FOSSAPaperConfig] = FOSSAPaperConfig) -> Loss:
    """SiLog and gradients of canonical depth, see :func:`dualpix.models.losses.silog_gradient_loss`."""
    defaults = {field.name: field.default for field in fields(config)}
    weights = {name: options.get(name, defaults[name]) for name in LOSS_OPTIONS}
    farthest_m = weights.pop("farthest_m")

    def loss(predictions: Sequence[Any], batch: Mapping[str, Tensor]) -> Tensor:
        canonical, factor = predictions[0][:, :1], predictions[0][:, 1:]
        truth = batch["depth_m"]
        known = ((truth > 0) & (truth <= farthest_m)).to(truth.dtype)
        if "known" in batch:
            known = known * batch["known"]
        return silog_gradient_loss(canonical, torch.where(known > 0, truth, 1.0) * factor, known, **weights)

    return loss
