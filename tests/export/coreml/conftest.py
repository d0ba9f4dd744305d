from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import scene, tiny_net

from dualpix.export.artefact import Artefact, BuildRequest
from dualpix.export.coreml import build
from dualpix.quantize.calibration import CalibrationSet

Built = tuple[BuildRequest, Artefact]


def tiny_request(precision: str, path: Path) -> BuildRequest:
    torch.manual_seed(1)
    calibration = CalibrationSet((scene(), scene()), "two scenes")
    return BuildRequest(
        tiny_net(), precision, path, scene(), ("image", "left", "right"), ("disparity_px",), calibration
    )


@pytest.fixture(scope="session")
def tiny_packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """The small siamese network at every precision."""
    folder = tmp_path_factory.mktemp("coreml")
    requests = {
        name: tiny_request(name, folder / f"{name}.mlpackage")
        for name in ("fp32", "fp16", "w8", "w4-palettized", "w8a8")
    }
    return {name: (request, build(request)) for name, request in requests.items()}
