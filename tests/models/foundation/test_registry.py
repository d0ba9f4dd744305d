"""Foundation models by name: what each says of itself is so, frozen means frozen, options that do not fit are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.foundation import FOUNDATIONS, foundation, foundation_spec
from dualpix.models.foundation.adapters import adapter_state
from dualpix.models.foundation.registry import build_trunk


@pytest.mark.parametrize("name", FOUNDATIONS)
def test_parameters_channels_and_strides_are_as_described(name: str) -> None:
    spec = FOUNDATIONS[name]
    side = 2 * spec.size_multiple * (7 if spec.size_multiple == 32 else 16)  # 448 px are multiples of both
    assert side == 448
    with torch.device("meta"):
        trunk = build_trunk(spec)
        features = trunk(torch.empty(1, 3, side, side))
    assert sum(p.numel() for p in trunk.parameters()) == spec.parameters
    assert [(f.shape[1], side / f.shape[2]) for f in features] == list(zip(spec.channels, spec.strides, strict=True))
    assert spec.name == name and spec.licence and spec.paper


def test_every_family_and_size_is_there() -> None:
    sizes = ("vits", "vitb", "vitl")
    expected = {f"efficientnet-lite{i}" for i in range(5)}
    assert set(FOUNDATIONS) == expected | {f"dinov2-{s}14" for s in sizes} | {f"depth-anything-v2-{s}" for s in sizes}
    assert (
        "NC" in FOUNDATIONS["depth-anything-v2-vitb"].licence and "NC" in FOUNDATIONS["depth-anything-v2-vitl"].licence
    )


def test_normalisation_is_the_published_one() -> None:
    image = torch.rand(1, 3, 448, 448)
    lite = foundation("efficientnet-lite0").normalise(image)
    torch.testing.assert_close(lite, (255 * image - 127) / 128)
    vit = foundation("dinov2-vits14").normalise(image)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for i in range(3):
        torch.testing.assert_close(vit[:, i], (image[:, i] - mean[i]) / std[i])


@pytest.mark.parametrize("shape", [(1, 3, 32, 33), (1, 3, 30, 32), (1, 1, 32, 32), (3, 32, 32)])
def test_images_it_cannot_take_are_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \(B, 3, H, W\), H and W multiples of 32: got"):
        foundation("efficientnet-lite0")(torch.rand(shape))


def test_frozen_keeps_statistics_and_wants_no_gradients_under_train() -> None:
    model = foundation("efficientnet-lite0")
    network = nn.Sequential(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    network.train()
    assert network.training and not any(module.training for module in model.modules())
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    network(image)[-1].sum().backward()
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert image.grad is not None and image.grad.abs().sum() > 0, "a gradient passes to what makes the image"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_tuned_trains_weights_and_statistics() -> None:
    model = foundation("efficientnet-lite0", frozen=False)
    before = {key: value.clone() for key, value in model.state_dict().items() if "running_mean" in key}
    nn.Sequential(model).train()
    assert all(module.training for module in model.modules())
    model(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(not torch.equal(model.state_dict()[key], value) for key, value in before.items())
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(("name", "taps"), [("dinov2-vits14", (0, 3)), ("depth-anything-v2-vits", None)])
def test_every_parameter_that_wants_a_gradient_gets_one(name: str, taps: tuple[int, ...] | None) -> None:
    """One that does not stops training in several processes."""
    model = foundation(name, frozen=False, taps=taps)
    image = torch.rand(1, 3, 56, 56)
    features = model(image) if taps else [model.with_depth(image)[1]]
    torch.stack([feature.square().sum() for feature in features]).sum().backward()
    wanting = {key for key, p in model.named_parameters() if p.requires_grad}
    given = {key for key, p in model.named_parameters() if p.grad is not None}
    assert wanting == given and len(given) > 30


def test_adapters_are_all_that_trains_in_a_frozen_transformer() -> None:
    model = foundation("dinov2-vits14", lora_rank=2, lora_alpha=4.0)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"trunk.{name}" for name in adapter_state(model.trunk)} and len(trained) == 2 * 4 * 12
    model.train()
    model(torch.rand(1, 3, 28, 28))[-1].sum().backward()
    grads = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grads == trained and not model.trunk.training


def test_taps_choose_the_features() -> None:
    model, image = foundation("dinov2-vits14", taps=(0, 11)), torch.rand(1, 3, 28, 42)
    assert model.spec.channels == (384, 384) and model.spec.strides == (14.0, 14.0)
    features = model(image)
    assert [tuple(f.shape) for f in features] == [(1, 384, 2, 3)] * 2
    other = foundation("dinov2-vits14")
    other.load_state_dict(model.state_dict())
    assert torch.equal(features[1], other(image)[-1]) and not torch.equal(features[0], other(image)[0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dinov2-vits14", {"taps": (3, 12)}, r"taps \[3, 12\] .*ascending indices from 0 to 11"),
        ("dinov2-vits14", {"taps": (5, 2)}, "ascending"),
        ("dinov2-vits14", {"taps": ()}, "ascending"),
        ("efficientnet-lite0", {"taps": (1,)}, "they belong to dinov2 models"),
        ("efficientnet-lite0", {"lora_rank": 4}, "no layers for low-rank adapters"),
        ("dinov2-vits14", {"lora_rank": 4, "frozen": False}, "low-rank adapters in a model that is tuned as a whole"),
        ("dinov2-vits14", {"lora_rank": -1}, "adapters of rank -1"),
        ("dinov2-vits14", {"max_depth_m": 20.0}, "max_depth_m 20 for 'dinov2-vits14'"),
        ("depth-anything-v2-vits", {"max_depth_m": float("nan")}, "max_depth_m nan"),
        ("efficientnet-lite3", {"weights": "imagenet"}, "no package holds ImageNet weights of 'efficientnet-lite3'"),
        ("dinov2-vits14", {"weights": "imagenet"}, "no package holds"),
        ("dinov2-vits14", {"weights": "none.pth"}, "cannot read weights 'none.pth'"),
    ],
)
def test_options_that_do_not_go_together_are_told(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        foundation(name, **options)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown foundation model 'resnet50'; expected one of: .*efficientnet-lite0"
    ):
        foundation_spec("resnet50")


TIMM_FIRST = {"depthwise.conv": "conv_dw", "depthwise.norm": "bn1", "project.conv": "conv_pw", "project.norm": "bn2"}
TIMM_PARTS = {
    "expand.conv": "conv_pw", "expand.norm": "bn1", "depthwise.conv": "conv_dw", "depthwise.norm": "bn2",
    "project.conv": "conv_pwl", "project.norm": "bn3",
}  # fmt: skip


def test_lite3_loads_under_the_names_of_timm(tmp_path: Path) -> None:
    model = foundation("efficientnet-lite3", frozen=False)
    stages = [(stage, i) for stage, repeats in enumerate((1, 3, 3, 5, 5, 6, 1)) for i in range(repeats)]
    theirs = {"conv_head.weight": torch.zeros(1280, 384, 1, 1), "bn2.bias": torch.zeros(1280)}
    for key, value in model.trunk.state_dict().items():
        parts = key.split(".")
        if parts[0] == "stem":
            theirs[f"{'conv_stem' if parts[1] == 'conv' else 'bn1'}.{parts[-1]}"] = value
        else:
            stage, i = stages[int(parts[1])]
            table = TIMM_FIRST if stage == 0 else TIMM_PARTS
            theirs[f"blocks.{stage}.{i}.{table['.'.join(parts[2:4])]}.{parts[-1]}"] = value
    torch.save(theirs, tmp_path / "lite3.pth")
    loaded = foundation("efficientnet-lite3", tmp_path / "lite3.pth").trunk.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.trunk.state_dict().items())
