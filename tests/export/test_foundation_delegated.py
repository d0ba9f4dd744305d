"""Foundation models in the real runtimes, normalisation included: delegated as a whole, and right."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from tests.support.foundation import tiny_depth_anything, tiny_vit
from tests.support.tiny_net import sqnr_db
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.export import coreml
from dualpix.export.artefact import BuildRequest, Delegation, quiet
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.models.foundation import FOUNDATIONS, IMAGENET, FoundationModel, foundation, merge_adapters
from dualpix.models.foundation.adapters import add_adapters
from dualpix.models.foundation.checkpoints import LITE0_PACKAGE
from dualpix.quantize.calibration import CalibrationSet
from dualpix.quantize.keep import keep_nothing
from dualpix.quantize.ptq import quantise_static

WEIGHTS = IMAGENET if importlib.util.find_spec(LITE0_PACKAGE) else None


def _image(h: int, w: int, seed: int = 0) -> Tensor:
    """A smooth picture with some texture, 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=generator)
    smooth = F.interpolate(coarse, (h, w), mode="bicubic").clamp(0, 1)
    return 0.9 * smooth + 0.1 * torch.rand(1, 3, h, w, generator=generator)


def _model(trunk: nn.Module, name: str) -> FoundationModel:
    return FoundationModel(FOUNDATIONS[name], trunk, frozen=True, source="random")


class _Depth(nn.Module):
    def __init__(self, model: FoundationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.with_depth(image)[1]


def _run(network: nn.Module, image: Tensor, path: Path) -> tuple[list[Tensor], Delegation]:
    with quiet(), torch.no_grad():
        content, delegation = lower(torch.export.export(network, (image,)))
    path.write_bytes(content)
    outputs = PteProgram(path)((image,))
    return [outputs] if isinstance(outputs, Tensor) else list(outputs), delegation


def _is_delegated_and_right(network: nn.Module, expected: list[Tensor], image: Tensor, path: Path) -> None:
    outputs, delegation = _run(network, image, path)
    assert not delegation.left_operators and delegation.compute_share == 1.0
    assert len(outputs) == len(expected)
    for seen, wanted in zip(outputs, expected, strict=True):
        assert sqnr_db(wanted, seen) > 100


@torch.no_grad()
def test_efficientnet_lite0_on_xnnpack(tmp_path: Path) -> None:
    model, image = foundation("efficientnet-lite0", WEIGHTS), _image(64, 96)
    _is_delegated_and_right(model, model(image), image, tmp_path / "lite0.pte")


@torch.no_grad()
def test_a_transformer_with_merged_adapters_on_xnnpack(tmp_path: Path) -> None:
    model, image = _model(tiny_vit(), "dinov2-vits14"), _image(56, 70)
    add_adapters(model.trunk, 2)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter, std=0.1)
    expected = model(image)  # eager, unmerged, any size
    model.fix_size((56, 70))
    merge_adapters(model)
    _is_delegated_and_right(model, expected, image, tmp_path / "vit.pte")


@pytest.mark.slow
@torch.no_grad()
def test_depth_anything_on_xnnpack(tmp_path: Path) -> None:
    model, image = _model(tiny_depth_anything(), "depth-anything-v2-vits"), _image(56, 70)
    expected = model.with_depth(image)[1]
    assert expected.std() > 0
    model.fix_size((56, 70))
    _is_delegated_and_right(_Depth(model), [expected], image, tmp_path / "depth.pte")


@pytest.mark.slow
@torch.no_grad()
def test_vit_small_on_xnnpack(tmp_path: Path) -> None:
    model, image = foundation("dinov2-vits14"), _image(112, 140)
    expected = model(image)
    model.fix_size((112, 140))
    _is_delegated_and_right(model, expected, image, tmp_path / "vits.pte")


@pytest.mark.slow
@pytest.mark.skipif(WEIGHTS is None, reason="int8 ranges of random weights tell nothing; install dualpix[pretrained]")
@torch.no_grad()
def test_lite0_in_int8_on_xnnpack(tmp_path: Path) -> None:
    """Seen: 20 to 24 dB; 8 dB before ranges were measured after ReLU6."""
    model, image = foundation("efficientnet-lite0", WEIGHTS), _image(96, 128)
    with quiet():
        graph = quantise_static(model, [(_image(96, 128, seed),) for seed in range(1, 7)], keep_nothing)
    outputs, delegation = _run(graph, image, tmp_path / "int8.pte")
    assert not delegation.left_operators
    for seen, wanted in zip(outputs, model(image), strict=True):
        assert 16 < sqnr_db(wanted, seen) < 60


@pytest.mark.slow
@torch.no_grad()
def test_a_transformer_whose_norms_share_a_mean_on_core_ml(tmp_path: Path) -> None:
    """The last norm of a tapped block and the first of the next read the same tokens: the converter joins the means."""
    model, image = _model(tiny_vit(), "dinov2-vits14"), _image(56, 70)
    expected = model(image)
    model.fix_size((56, 70))
    names = tuple(f"block{i}" for i in range(4))
    calibration = CalibrationSet(((image,),), "one")
    request = BuildRequest(model, "fp32", tmp_path / "vit.mlpackage", (image,), ("image",), names, calibration)
    predict = coreml.build(request).predict
    assert predict
    for seen, wanted in zip(predict((image,)), expected, strict=True):
        assert sqnr_db(wanted, seen) > 100
