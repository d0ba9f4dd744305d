"""A network with every kind of input and several outputs, all the way: artefacts, manifest, verify, profile, report."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.export.android.bench import make_cases
from dualpix.export.executorch.probe import run_apart
from dualpix.export.flow import ExportResult
from dualpix.export.module import export_module
from dualpix.export.profile.cli import command as profile_command
from dualpix.export.report.exported import write_report
from dualpix.export.verify import verify
from dualpix.quantize.gate import Outcome

SIZE = (16, 24)
INPUTS = {"image": "uint8", "camera": "int64", "valid": "bool", "focus": "float32", "guide": "float32"}


class Forms(nn.Module):
    """Depth with its confidence and what is near, of a picture, a camera's number, a mask and a focus distance."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.cameras = nn.Conv2d(3, 8, 3, padding=1), nn.Embedding(5, 8)
        self.head, self.certainty = nn.Conv2d(9, 1, 3, padding=1), nn.Conv2d(8, 1, 1)
        with torch.no_grad():
            self.certainty.weight *= 4

    def forward(
        self, image: Tensor, camera: Tensor, valid: Tensor, focus: Tensor, *, guide: Tensor, gain: float = 1.0
    ) -> dict[str, Tensor]:
        features = F.relu(self.stem(image.float() / 255) + self.cameras(camera)[:, :, None, None])
        depth = gain * focus * self.head(torch.cat([features, guide], 1))
        confidence = torch.sigmoid(self.certainty(features))
        return {"depth": depth * valid, "confidence": confidence, "near": depth > -0.5}


def example(seed: int) -> dict[str, Tensor | float]:
    g = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (1, 3, *SIZE), generator=g, dtype=torch.uint8),
        "camera": torch.randint(0, 5, (1,), generator=g),
        "valid": torch.rand(1, 1, *SIZE, generator=g) > 0.1,
        "focus": 1.0 + torch.rand((), generator=g),
        "guide": torch.rand(1, 1, *SIZE, generator=g).to(memory_format=torch.channels_last),
        "gain": 2.0,
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    samples = [example(k) for k in range(8)]
    out = tmp_path_factory.mktemp("forms") / "out"
    recipes = ["xnnpack-fp32", "xnnpack-int8", "coreml-fp16"]
    return export_module(
        Forms(), samples[:6], out, recipes, evaluation_inputs=samples[6:], name="forms", rounds=1, unit={"depth": "m"}
    )


def test_every_recipe_is_right(exported: ExportResult) -> None:
    assert exported.passed, [r.verdict.reason for r in exported.results]
    assert exported.notes[0] == "gain=2.0 is part of the programs"
    for result, least_db in zip(exported.results, (100, 20, 40), strict=True):
        assert result.accuracy and list(result.accuracy.outputs) == ["depth", "confidence", "near"]
        assert result.accuracy.from_float.sqnr_db > least_db
        assert result.accuracy.outputs["near"].steps and not result.accuracy.from_float.steps
    checks = {(c.name, c.of) for c in exported.results[0].verdict.checks}
    assert ("sqnr_db", "near") in checks, "a mask is judged by itself"


def test_the_manifest_describes_all_of_them(exported: ExportResult) -> None:
    manifest = json.loads((exported.folder / "manifest.json").read_text())
    assert {t["name"]: t["dtype"] for t in manifest["input"]["tensors"]} == INPUTS
    assert [t["shape"] for t in manifest["input"]["tensors"]] == [[1, 3, *SIZE], [1], [1, 1, *SIZE], [], [1, 1, *SIZE]]
    assert [(o["name"], o["dtype"], o["unit"]) for o in manifest["outputs"]] == [
        ("depth", "float32", "m"),
        ("confidence", "float32", "not stated"),
        ("near", "bool", "not stated"),
    ]
    stored = load_file(exported.folder / "reference.safetensors")
    made = {"float", "xnnpack-fp32", "xnnpack-int8", "coreml-fp16"}
    outputs = {f"output.{of}.{name}" for of in made for name in ("depth", "confidence", "near")}
    assert set(stored) == outputs | {f"input.{name}" for name in INPUTS}
    assert {str(stored[f"input.{n}"].dtype).removeprefix("torch.") for n in INPUTS} == set(INPUTS.values())
    pictures = {p.name for p in exported.folder.glob("compare-*.png")}
    assert "compare-xnnpack-fp32-depth.png" in pictures and not any("near" in name for name in pictures)


def test_the_written_program_takes_and_gives_them(exported: ExportResult) -> None:
    inputs = tuple(v.contiguous() for v in example(9).values() if isinstance(v, Tensor))
    depth, confidence, near = run_apart(exported.folder / "forms-xnnpack-fp32.pte", inputs)
    with torch.no_grad():
        expected = Forms().eval()(**example(9))
    torch.testing.assert_close(depth, expected["depth"])
    torch.testing.assert_close(confidence, expected["confidence"])
    assert near.dtype == torch.bool and torch.equal(near, expected["near"])


def test_the_folder_verifies(exported: ExportResult) -> None:
    found = verify(exported.folder)
    assert [a.recipe for a in found.artefacts] == ["xnnpack-fp32", "xnnpack-int8", "coreml-fp16"]
    assert all(a.sqnr_db is not None and a.sqnr_db >= (a.limit_db or 0) for a in found.artefacts)


def test_report_and_card_name_all_outputs_and_their_units(exported: ExportResult, tmp_path: Path) -> None:
    page = write_report(exported.folder, tmp_path / "report.html").read_text()
    card = (exported.folder / "MODEL_CARD.md").read_text()
    for text in (
        "depth 1×1×16×24 float32, unit m",
        "near 1×1×16×24 bool",
        "SQNR of confidence",
        "focus a scalar float32",
    ):
        assert text in page, text
    for text in ("- input `focus`: a scalar, float32", "- output `near`: 1 x 1 x 16 x 24, bool; unit: not stated"):
        assert text in card, text
    for shown in (re.sub(r"data:[^\"]+", "", page), card):
        assert " px" not in shown and "AI(1)" not in shown and "disparity" not in shown


def test_its_program_can_be_profiled_and_the_app_says_what_it_lacks(exported: ExportResult) -> None:
    program = exported.folder / "forms-xnnpack-fp32.pte"
    done = CliRunner().invoke(profile_command, [str(program), "--runs", "2", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["profiles"][0]["p50_s"] > 0
    with pytest.raises(DualpixError, match=r"'forms-xnnpack-fp32.pte' takes \(1, 3, 16, 24\) uint8, .*float32 inputs"):
        make_cases([program])


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_has_two_types_and_no_scalars(exported: ExportResult) -> None:
    from dualpix.export.coreml.package import read_spec

    package = exported.folder / "forms-coreml-fp16.mlpackage"
    spec, _ = read_spec(package)
    found = {
        i.name: (list(i.type.multiArrayType.shape), i.type.multiArrayType.dataType) for i in spec.description.input
    }
    int32, float32 = 131104, 65568
    assert found["camera"] == ([1], int32) and found["focus"] == ([1], float32)
    assert found["image"] == ([1, 3, *SIZE], int32) and found["valid"] == ([1, 1, *SIZE], int32)
    assert exported.results[2].verdict.outcome is Outcome.EMULATED
