from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import TinySiamese, scene, sqnr_db, tiny_model, tiny_net
from torch import nn

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.export.artefact import Artefact, BuildRequest, ExportError
from dualpix.export.executorch.probe import run_apart
from dualpix.export.executorch.xnnpack import build, lower
from dualpix.export.flow import ExportResult, RecipeResult, export_model
from dualpix.export.module import export_module
from dualpix.export.recipes import Recipe
from dualpix.models.blocks import WindowedParallaxAttention
from dualpix.models.blocks.basic import rows_as_map
from dualpix.quantize.calibration import CalibrationSet, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import Candidate, Outcome, judge
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import arrays_of, score
from dualpix.quantize.search.assignment import Assignment
from dualpix.quantize.task_metrics import task_metrics


def _of(result: ExportResult, recipe: str) -> RecipeResult:
    return next(r for r in result.results if r.recipe == recipe)


def test_float_and_int8_programs_compute_what_the_network_does(tiny_export: ExportResult) -> None:
    exact, int8 = _of(tiny_export, "xnnpack-fp32"), _of(tiny_export, "xnnpack-int8")
    assert exact.accuracy and int8.accuracy and exact.artefact and int8.artefact
    assert exact.accuracy.from_float.sqnr_db > 100
    assert 20 < int8.accuracy.from_float.sqnr_db < 60, "int8 is close, and is really int8"
    assert int8.artefact.size_bytes < exact.artefact.size_bytes
    for result in (exact, int8):
        assert result.artefact and result.artefact.delegation
        assert result.artefact.delegation.compute_share == 1.0


def test_the_written_file_is_what_was_scored(tiny_export: ExportResult) -> None:
    int8 = _of(tiny_export, "xnnpack-int8").artefact
    assert int8 and int8.predict
    inputs = rendered_evaluation(1, (64, 96)).samples[0].inputs
    again = run_apart(int8.path, inputs)
    assert torch.equal(again, int8.predict(inputs))
    with torch.no_grad():
        assert sqnr_db(tiny_net()(*inputs), again) > 15


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_is_right_when_interpreted_and_is_not_timed(tiny_export: ExportResult) -> None:
    half = _of(tiny_export, "coreml-fp16")
    assert half.verdict.outcome is Outcome.EMULATED and half.verdict.passed
    assert half.accuracy and 40 < half.accuracy.from_float.sqnr_db < 90
    assert half.artefact and half.artefact.emulated
    assert half.recipe not in tiny_export.benchmark.latencies
    assert not list(tiny_export.folder.glob(".*")), "no scratch is left"


def test_multiply_accumulates_are_counted(tiny_export: ExportResult) -> None:
    artefact = _of(tiny_export, "xnnpack-fp32").artefact
    pixels = 32 * 48
    per_pixel = 3 * 8 * 9 + 2 * (8 * 9 + 8 * 8) + 24 * 16 * 9 + 16 * 9
    assert artefact and artefact.delegation
    assert artefact.delegation.total_macs == pixels * per_pixel


class _Volume(nn.Module):
    """A 3-D convolution, which XNNPACK does not take, after a 2-D one, which it does."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.deep(self.flat(x)[None])[0]


def test_compute_outside_the_delegate_is_seen() -> None:
    exported = torch.export.export(_Volume().eval(), (torch.rand(1, 1, 16, 16),))
    _, delegation = lower(exported)
    assert delegation.left_operators["convolution"] == 1
    assert delegation.delegated_macs == 256 * 4 * 9
    assert delegation.compute_share == pytest.approx(4 * 9 / (4 * 9 + 4 * 27))


def test_a_program_of_other_weights_fails_the_gate(tmp_path: Path) -> None:
    """Sabotage after training: the file loads and runs, its numbers are not the network's."""
    evaluation = rendered_evaluation(2, (64, 96))
    net, broken = tiny_net(), tiny_net()
    with torch.no_grad():
        broken.encode[3].weight.copy_(broken.encode[3].weight.flip(0))
    inputs = evaluation.samples[0].inputs
    names = ("image", "left", "right")
    artefact = build(
        BuildRequest(broken, "fp32", tmp_path / "a.pte", inputs, names, ("d",), rendered_calibration(1, (64, 96)))
    )
    assert artefact.predict and artefact.delegation
    with torch.no_grad():
        references = [arrays_of(net(*s.inputs)) for s in evaluation.samples]
    metrics = task_metrics(evaluation)
    accuracy = score([arrays_of(artefact.predict(s.inputs)) for s in evaluation.samples], references, metrics)
    reference = score(references, references, metrics)
    candidate = Candidate("a", accuracy, artefact.delegation.compute_share, artefact.size_bytes)
    verdict = judge(candidate, reference, Limits(sqnr_db=20.0, delegated_compute=0.95))
    assert verdict.outcome is Outcome.WRONG
    assert "sqnr_db" in verdict.reason


def test_a_damaged_program_is_an_error_not_a_crash(tiny_export: ExportResult, tmp_path: Path) -> None:
    artefact = _of(tiny_export, "xnnpack-fp32").artefact
    assert artefact
    data = artefact.path.read_bytes()
    for name, content in (("short.pte", data[:200]), ("noise.pte", b"\x00" * 5000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExportError, match=name):
            run_apart(tmp_path / name, scene())


class _CrashingAttention(WindowedParallaxAttention):
    """Offsets by a matrix product with a constant column: lowers cleanly, then the runtime dies of SIGSEGV."""

    column: torch.Tensor

    def _attend(
        self, scores: torch.Tensor, values: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights = torch.softmax(scores, -1)
        offset = torch.matmul(weights, self.column) - self.column
        return rows_as_map(torch.bmm(weights, values), like), rows_as_map(offset, like)


class _Crashing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.encode, self.head = _CrashingAttention(8), nn.Conv2d(1, 8, 1), nn.Conv2d(8, 1, 1)
        self.attention.register_buffer("column", torch.arange(8.0).reshape(8, 1), persistent=False)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        a, b = self.attention(self.encode(left), self.encode(right))
        return self.head(a) - self.head(b)


def test_a_program_that_kills_the_runtime_is_an_error_and_no_file(tmp_path: Path) -> None:
    inputs = (torch.rand(1, 1, 16, 32), torch.rand(1, 1, 16, 32))
    path = tmp_path / "crash.pte"
    calibration = CalibrationSet((inputs,), "one")
    request = BuildRequest(_Crashing().eval(), "fp32", path, inputs, ("left", "right"), ("y",), calibration)
    with pytest.raises(ExportError, match=r"'crash\.pte' brings the runtime down: SIGSEGV"):
        build(request)
    assert not list(tmp_path.iterdir())


def test_gate_and_manifest_are_json_that_says_the_same(tiny_export: ExportResult) -> None:
    gate = json.loads((tiny_export.folder / "gate.json").read_text())
    manifest = json.loads((tiny_export.folder / "manifest.json").read_text())
    assert manifest["gate"] == gate
    assert gate["passed"] == tiny_export.passed
    assert [t["name"] for t in manifest["input"]["tensors"]] == ["image", "left", "right"]
    assert manifest["calibration"]["sha256"] != manifest["evaluation"]["sha256"]
    assert manifest["versions"]["executorch"] != "not installed"
    assert "no limits.json" in gate["limits"]


def test_limits_beside_the_weights_decide(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    impossible = {"format": 1, "recipes": {"xnnpack-fp32": {"size_bytes": 10}}}
    (tmp_path / "limits.json").write_text(json.dumps(impossible))
    samples = rendered_calibration(1, (64, 96)), rendered_evaluation(1, (64, 96))
    result = export_model(model, tmp_path / "out", ["xnnpack-fp32"], *samples, rounds=1)
    assert not result.passed
    assert result.results[0].verdict.outcome is Outcome.OVER_BUDGET
    (tmp_path / "limits.json").write_text("{")
    with pytest.raises(DualpixError, match=r"limits\.json"):
        export_model(model, tmp_path / "out", ["xnnpack-fp32"], *samples, rounds=1)


def test_unknown_recipes_and_mixed_sizes_are_user_errors(tmp_path: Path) -> None:
    model, evaluation = tiny_model(tmp_path), rendered_evaluation(1, (64, 96))
    with pytest.raises(UnknownNameError, match="unknown recipe 'tflite'; expected one of: coreai-fp16"):
        export_model(model, tmp_path, ["tflite"], rendered_calibration(1, (64, 96)), evaluation)
    with pytest.raises(DualpixError, match="2 sizes"):
        export_model(model, tmp_path, ["xnnpack-fp32"], rendered_calibration(1, (32, 96)), evaluation)


def test_the_tiny_network_is_siamese() -> None:
    """The tests above mean what they say only while one encoder serves both views."""
    assert isinstance(tiny_net(), TinySiamese)
    graph = torch.export.export(tiny_net(), scene()).graph
    assert sum(str(n.target) == "aten.conv2d.default" for n in graph.nodes) == 7


def test_a_program_that_fails_on_a_later_input_is_no_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(recipe: Recipe, request: BuildRequest) -> Artefact:
        request.path.write_bytes(b"program")
        answers = iter([torch.zeros(1, 1, 4, 4)])

        def predict(inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
            try:
                return next(answers)
            except StopIteration:
                raise ExportError("the runtime gave up") from None

        return Artefact(request.path, 7, predict)

    monkeypatch.setattr(Recipe, "build", build)
    samples = [(torch.rand(1, 1, 4, 4),) for _ in range(2)]
    assignment = Assignment(("a",), 0.01, 1.0, 2.0, 1.0, None, None, None, 0.5, 10, (), ())
    result = export_module(nn.ReLU(), samples, tmp_path / "out", ["xnnpack-fp32"], rounds=1, assignment=assignment)
    kept = json.loads((tmp_path / "out" / "assignment.json").read_text())
    assert Assignment.from_json(kept) == assignment
    assert result.results[0].verdict.outcome is Outcome.NOT_WRITTEN
    assert result.results[0].verdict.reason == "the runtime gave up"
    assert not list((tmp_path / "out").glob("*.pte")) and list(result.benchmark.latencies) == ["eager"]
