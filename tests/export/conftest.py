from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tiny_net import tiny_model

from dualpix.export.flow import ExportResult, export_model
from dualpix.export.recipes import RECIPES
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

SIZE_HW = (64, 96)


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The small siamese network through every recipe, in the real runtimes."""
    root: Path = tmp_path_factory.mktemp("tiny")
    model = tiny_model(root / "model")
    calibration, evaluation = rendered_calibration(4, SIZE_HW), rendered_evaluation(2, SIZE_HW)
    return export_model(model, root / "out", tuple(RECIPES), calibration, evaluation, rounds=3)
