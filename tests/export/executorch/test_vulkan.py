from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import scene, tiny_net
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.executorch import vulkan
from dualpix.export.executorch.program import read_structure
from dualpix.quantize.calibration import CalibrationSet, Inputs


def _request(module: nn.Module, inputs: Inputs, path: Path, precision: str = "fp16") -> BuildRequest:
    names = tuple(f"x{i}" for i in range(len(inputs)))
    return BuildRequest(module, precision, path, inputs, names, ("y",), CalibrationSet((inputs,), ""))


class _Resized(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode, self.convolution = mode, nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(x)
        return torch.roll(y, 1, 3) if self.mode == "roll" else F.interpolate(y, scale_factor=2.0, mode=self.mode)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("bicubic", "bicubic resize"), ("nearest-exact", "nearest-exact resize"), ("roll", "torch.roll")],
)
def test_what_crashes_the_compiler_is_refused_by_name(tmp_path: Path, mode: str, message: str) -> None:
    with pytest.raises(ExportError, match=f"Vulkan does not take {message} in the network's forward; .*delegated"):
        vulkan.build(_request(_Resized(mode), (torch.rand(1, 3, 16, 16),), tmp_path / "a.pte"))
    assert not list(tmp_path.iterdir())


def test_batches_are_refused_with_the_layer(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"convolution in 'image.0' has batch 2; expected batch 1"):
        vulkan.build(_request(tiny_net(), scene((32, 48), batch=2), tmp_path / "a.pte"))
    with pytest.raises(ExportError, match="no precision 'int8'"):
        vulkan.build(_request(tiny_net(), scene((32, 48)), tmp_path / "a.pte", "int8"))


def test_it_says_that_and_why_nothing_runs_here() -> None:
    assert vulkan.can_build() is None
    assert "built without VulkanBackend" in str(vulkan.can_run())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_is_delegated_as_a_whole(tmp_path: Path, precision: str) -> None:
    path = tmp_path / "a.pte"
    artefact = vulkan.build(_request(tiny_net(), scene((32, 48)), path, precision))
    assert artefact.predict is None and artefact.delegation
    assert artefact.delegation.compute_share == 1.0, artefact.delegation.left_operators
    structure = read_structure(path)
    assert {d.backend for d in structure.delegates} == {vulkan.BACKEND}
    assert structure.outputs[0].shape == (1, 1, 32, 48)
    assert vulkan.load(path, (), "") is None
