from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import tiny_model
from torch import nn

from dualpix.export.flow import ExportResult, export_model
from dualpix.export.module import export_module
from dualpix.export.recipes import DEFAULT_RECIPES
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

SIZE_HW = (64, 96)


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The small siamese network through every recipe that is made unasked, in the real runtimes."""
    root: Path = tmp_path_factory.mktemp("tiny")
    model = tiny_model(root / "model")
    calibration, evaluation = rendered_calibration(4, SIZE_HW), rendered_evaluation(2, SIZE_HW)
    return export_model(model, root / "out", DEFAULT_RECIPES, calibration, evaluation, rounds=3)


@pytest.fixture(scope="session")
def foreign_export(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """A module that is not ours, as one float32 program."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    samples = [(torch.rand(1, 1, 16, 24),) for _ in range(3)]
    out: Path = tmp_path_factory.mktemp("foreign") / "out"
    return export_module(
        module, samples[:2], out, ["xnnpack-fp32"], evaluation_inputs=samples[2:], name="net", rounds=1, licence="MIT"
    )


@pytest.fixture
def foreign_copy(foreign_export: ExportResult, tmp_path: Path) -> Path:
    """Its folder, to be spoilt."""
    return Path(shutil.copytree(foreign_export.folder, tmp_path / "copy"))
