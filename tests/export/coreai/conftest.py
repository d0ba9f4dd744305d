from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import scene, tiny_net
from torch import Tensor, nn
from torch.export import ExportedProgram

from dualpix.export import coreai
from dualpix.export.artefact import Artefact, BuildRequest, quiet
from dualpix.quantize.calibration import CalibrationSet, Inputs
from dualpix.quantize.score import tensors_of

Built = tuple[BuildRequest, Artefact]


@pytest.fixture(scope="session", autouse=True)
def _has_core_ai() -> None:
    if (missing := coreai.can_build()) is not None:
        pytest.skip(missing)


def tiny_request(precision: str, path: Path) -> BuildRequest:
    torch.manual_seed(1)
    calibration = CalibrationSet((scene(), scene()), "two scenes")
    return BuildRequest(
        tiny_net(), precision, path, scene(), ("image", "left", "right"), ("disparity_px",), calibration
    )


def request_of(module: nn.Module, inputs: Inputs, precision: str = "fp32", outputs: int = 1) -> BuildRequest:
    """Not to be built: :func:`run_here` converts it in this process."""
    names = tuple(f"x{i}" for i in range(len(inputs))), tuple(f"y{i}" for i in range(outputs))
    return BuildRequest(
        module.eval(), precision, Path("a.aimodel"), inputs, *names, CalibrationSet((inputs,), "its input")
    )


def run_program(program: ExportedProgram, request: BuildRequest) -> tuple[Tensor, ...]:
    """What Apple's runtime makes of a program, in this process: seconds less than in one of its own."""
    from dualpix.export.coreai.child import convert

    with tempfile.TemporaryDirectory() as folder, quiet():
        asset = Path(folder) / request.path.name
        convert(program, asset, request.input_names, request.output_names)
        return tensors_of(coreai.AssetProgram(asset, request.input_names, request.output_names)(request.inputs))


def run_here(request: BuildRequest) -> tuple[Tensor, ...]:
    """What the program of ``request`` gives, with all rewrites."""
    from dualpix.export.coreai.convert import prepare

    with quiet(), torch.no_grad():
        return run_program(prepare(request).program, request)


def run_plain(request: BuildRequest) -> tuple[Tensor, ...]:
    """The same by the converter's own way, without ours."""
    import coreai_torch

    with quiet(), torch.no_grad():
        exported = torch.export.export(request.module, request.inputs)
        return run_program(exported.run_decompositions(coreai_torch.get_decomp_table()), request)


class Half(nn.Module):
    """float16 as a user would make it: everything cast."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x.half())
        return y.float()


@dataclass(frozen=True)
class Asset:
    """One asset, written and run by the whole of ``build``, in a child process."""

    request: BuildRequest
    artefact: Artefact


@pytest.fixture(scope="session")
def tiny_asset(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    request = tiny_request("fp32", tmp_path_factory.mktemp("coreai") / "tiny.aimodel")
    return Asset(request, coreai.build(request))
