"""Programs of compressed weights are as good in kilometres as in metres, although float16 is coarse near zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dualpix.export.artefact import BuildRequest
from dualpix.export.coreml import build
from dualpix.quantize.calibration import CalibrationSet
from dualpix.quantize.score import sqnr_db


def head(kind: str, per_unit: Tensor) -> nn.Module:
    """A network whose last layer gives its channels in units of so many."""
    torch.manual_seed(0)
    layers: dict[str, list[nn.Module]] = {
        "conv": [nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1)],
        "linear": [nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2, bias=False)],
    }
    module = nn.Sequential(*layers[kind]).eval()
    last = module[-1]
    with torch.no_grad():
        last.weight /= per_unit.reshape([-1] + [1] * (last.weight.dim() - 1))
        if last.bias is not None:
            last.bias /= per_unit
    return module


def structure_of_channels(kind: str, per_unit: Tensor, path: Path) -> tuple[list[float], int]:
    """Of the interpreted program against the float network, and how often it multiplies."""
    generator = torch.Generator().manual_seed(1)
    shape = (1, 2, 32, 48) if kind == "conv" else (1, 32, 2)
    samples = tuple((torch.rand(*shape, generator=generator),) for _ in range(3))
    module = head(kind, per_unit)
    artefact = build(BuildRequest(module, "w8a8", path, samples[0], ("x",), ("y",), CalibrationSet(samples, "three")))
    assert artefact.predict
    with torch.no_grad():
        pairs = [(module(*inputs), artefact.predict(inputs)) for inputs in samples]
    expected, found = (torch.cat(part).movedim(1 if kind == "conv" else -1, 0) for part in zip(*pairs, strict=True))
    figures = [sqnr_db(e - e.mean(), f - e.mean()) for e, f in zip(expected, found, strict=True)]
    return figures, artefact.details["operators"].get("mul", 0)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_units_of_each_channel_do_not_matter(kind: str, tmp_path: Path) -> None:
    """Kilometres beside metres: float16 would round the scales of their weights, 1e-6, by up to 3 %."""
    metres, products = structure_of_channels(kind, torch.tensor([1.0, 1.0]), tmp_path / "m.mlpackage")
    assert min(metres) > 25 and products == 0, "nothing is lifted without need"
    both, products = structure_of_channels(kind, torch.tensor([1000.0, 1.0]), tmp_path / "km.mlpackage")
    assert both == pytest.approx(metres, abs=1.0) and products == 1


@pytest.mark.parametrize(("precision", "limit_db"), [("w8", 40.0), ("w4-palettized", 20.0)])
def test_compressed_weights_do_not_depend_on_the_unit(precision: str, limit_db: float, tmp_path: Path) -> None:
    """A layer large enough to be compressed; coremltools' fusions must not undo it, before or after compressing."""
    torch.manual_seed(0)
    samples = tuple((torch.rand(1, 2, 16, 24),) for _ in range(2))
    found = []
    for unit in (1.0, 1000.0):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(2, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1)).eval()
        with torch.no_grad():
            module[2].weight /= unit
            module[2].bias /= unit  # type: ignore[operator]
        path, calibration = tmp_path / f"{unit:g}.mlpackage", CalibrationSet(samples, "two")
        artefact = build(BuildRequest(module, precision, path, samples[0], ("x",), ("y",), calibration))
        assert artefact.predict and not artefact.note
        with torch.no_grad():
            found.append(sqnr_db(module(*samples[1]), artefact.predict(samples[1])))
    assert found[0] > limit_db and found[1] == pytest.approx(found[0], abs=2.0), "15 and 1 dB apart without"
