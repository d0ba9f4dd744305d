"""Assets as they are written, run by Apple's runtime and looked after."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from tests.export.coreai.conftest import Asset, request_of, run_here, run_program, tiny_request
from tests.export.test_states import check_runs_on, exported
from tests.support.tiny_net import scene
from torch import Tensor, nn

from dualpix.capture.cli import main
from dualpix.capture.errors import UnknownNameError
from dualpix.export import coreai
from dualpix.export.artefact import ExportError, quiet
from dualpix.export.coreai import AssetProgram
from dualpix.export.coreai.check import check_numerics
from dualpix.export.coreai.convert import PRECISIONS, Prepared, prepare
from dualpix.export.coreai.rewrite import decomposed
from dualpix.export.coreai.runtime import check_asset
from dualpix.export.manifest import ManifestError, read_manifest
from dualpix.export.module import export_module
from dualpix.export.verify import verify
from dualpix.quantize.gate import Outcome
from dualpix.quantize.graph import float_graph
from dualpix.quantize.score import sqnr_db


def test_an_asset_is_run_by_apples_runtime_and_is_what_it_says(tiny_asset: Asset) -> None:
    request, artefact = tiny_asset.request, tiny_asset.artefact
    assert coreai.can_build() is None and coreai.can_run() is None
    assert artefact.predict and not artefact.emulated and artefact.details["runtime"].startswith("coreai-core 1.0")
    assert artefact.details["ran"]["sqnr_db"] > 100
    other = scene()
    with torch.no_grad():
        assert sqnr_db(request.module(*other), artefact.predict(other)) > 100, "not only on its own inputs"
    assert sorted(p.name for p in artefact.path.iterdir()) == ["main.hash", "main.mlirb", "metadata.json"]
    assert [p.name for p in artefact.path.parent.iterdir()] == ["tiny.aimodel"], "no scratch is left"


@pytest.mark.parametrize(
    ("precision", "least_db", "most_db"), [("fp16", 45, 80), ("w8", 36, 60), ("w4", 12, 45), ("w8a8", 18, 45)]
)
def test_every_precision_is_close_and_is_what_it_says(
    tmp_path: Path, precision: str, least_db: float, most_db: float
) -> None:
    request = tiny_request(precision, tmp_path / "a.aimodel")
    with torch.no_grad():
        assert least_db < sqnr_db(request.module(*request.inputs), run_here(request)) < most_db


def test_unknown_precisions_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="w8a8"):
        coreai.build(tiny_request("int2", tmp_path / "a.aimodel"))
    assert set(PRECISIONS) == {"fp32", "fp16", "w8", "w4", "w8a8"}


@pytest.fixture
def copied(tiny_asset: Asset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_asset.artefact.path, tmp_path / "copy.aimodel"))


def _as_written(asset: Path) -> None:
    """What ``main.hash`` says is made true again: the runtime would not mind, our digests come later."""
    (asset / "main.hash").write_bytes(hashlib.sha256((asset / "main.mlirb").read_bytes()).digest())


def test_a_truncated_asset_is_caught_before_the_runtime_sees_it(copied: Path, tiny_asset: Asset) -> None:
    data = (copied / "main.mlirb").read_bytes()
    (copied / "main.mlirb").write_bytes(data[: len(data) // 2])
    with pytest.raises(ExportError, match=r"'main\.mlirb' is not what 'main\.hash' says"):
        AssetProgram(copied, tiny_asset.request.input_names, tiny_asset.request.output_names)
    (copied / "main.mlirb").unlink()
    with pytest.raises(ExportError, match=r"lacks main\.mlirb"):
        check_asset(copied)


def test_a_corrupted_weight_is_caught(copied: Path, tiny_asset: Asset) -> None:
    """With its hash made right again: the numbers themselves tell."""
    request = tiny_asset.request
    with quiet(), torch.no_grad():
        prepared = prepare(request)
    weight = max((t for t in prepared.program.state_dict.values()), key=lambda t: t.numel()).detach()
    data, stored = bytearray((copied / "main.mlirb").read_bytes()), weight.contiguous().numpy().tobytes()
    start = bytes(data).find(stored)
    assert start > 0, "it lies in the file as it is in memory"
    data[start : start + len(stored)] = (-weight).contiguous().numpy().tobytes()
    (copied / "main.mlirb").write_bytes(data)
    _as_written(copied)
    output = AssetProgram(copied, request.input_names, request.output_names)(request.inputs)
    with pytest.raises(ExportError, match=r"computes something else: .*the asset is not what was converted"):
        check_numerics(copied, request, prepared, (output,))


class _Turned(nn.Module):
    """Square maps: an exchanged axis changes no shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        return self.last(torch.softmax(8 * y, 2) + y)  # type: ignore[no-any-return]


class _TurnedWrongly(_Turned):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        return self.last(torch.softmax(8 * y, 3) + y)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_swapped_axis_is_caught() -> None:
    """A program of another network stands for one that a converter has changed."""
    torch.manual_seed(2)
    request = request_of(_Turned(), (torch.rand(1, 3, 16, 16),))
    wrong = _TurnedWrongly()
    wrong.load_state_dict(request.module.state_dict())
    with quiet(), torch.no_grad():
        prepared = prepare(request)
    output = run_here(request_of(wrong, request.inputs))
    with pytest.raises(ExportError, match="computes something else"):
        check_numerics(Path("a.aimodel"), request, prepared, output)


class _Near(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log1p(x)


class _Logarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.near, self.last = nn.Conv2d(3, 4, 3), _Near(), nn.Conv2d(4, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(1e7 * self.near(1e-7 * self.first(x).abs()))
        return y


def test_the_first_wrong_operator_is_named() -> None:
    """Without the rewrites, so that the runtime really computes one of them wrongly."""
    torch.manual_seed(2)
    request = request_of(_Logarithm(), (torch.rand(1, 3, 16, 16),))
    with quiet(), torch.no_grad():
        graph = float_graph(request.module, request.inputs)
        prepared = Prepared(graph, decomposed(graph, request.inputs), {})
        output = run_program(prepared.program, request)
        with pytest.raises(ExportError, match=r"first far off at 'log1p' \(log1p in 'near'\), -?\d+\.\d dB"):
            check_numerics(Path("a.aimodel"), request, prepared, output)


def test_an_export_is_verified_by_running_the_asset_again(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    samples = [(torch.rand(1, 1, 16, 24),) for _ in range(3)]
    result = export_module(
        net, samples[:2], tmp_path / "out", ["coreai-fp32"], evaluation_inputs=samples[2:], name="net", rounds=1
    )
    (recipe,) = result.results
    assert recipe.verdict.passed and recipe.verdict.outcome is Outcome.VERIFIED
    assert recipe.accuracy and recipe.accuracy.from_float.sqnr_db > 100
    assert "coreai-core: 1.0.0b3" in json.dumps(read_manifest(result.folder)["versions"]).replace('"', "")
    (check,) = verify(result.folder).artefacts
    assert check.sqnr_db and check.sqnr_db > 100 and not check.note
    (result.folder / "net-coreai-fp32.aimodel" / "main.hash").write_bytes(bytes(32))
    with pytest.raises(ManifestError, match=r"'net-coreai-fp32\.aimodel' is not the file that was measured"):
        verify(result.folder)


def test_other_inputs_are_refused(tiny_asset: Asset) -> None:
    predict = tiny_asset.artefact.predict
    assert predict
    image, left, right = tiny_asset.request.inputs
    with pytest.raises(ExportError, match=r"was given \(1, 3, 64, 96\) float64 for 'image'"):
        predict((image.double(), left, right))
    with pytest.raises(ExportError, match=r"was given \(1, 3, 32, 96\) float32 for 'image'"):
        predict((image[:, :, :32], left, right))


class _Forms(nn.Module):
    def forward(self, x: Tensor, count: Tensor, mask: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(mask, x * gain, x) + count.float(), count + 1


def test_integers_masks_and_scalars_are_taken_and_given() -> None:
    """int64 becomes int32 on either side, which is all that the runtime has."""
    x = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
    request = request_of(_Forms(), (x, torch.tensor([[[2]]]), x > 0, torch.tensor(0.5)), outputs=2)
    found, count = run_here(request)
    expected, _ = request.module(*request.inputs)
    assert torch.allclose(found, expected) and count.reshape(-1).tolist() == [3] and count.dtype is torch.int32


def test_the_compiled_form_does_not_outlive_the_program(tiny_asset: Asset, tmp_path: Path) -> None:
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path)
    try:
        program = AssetProgram(
            tiny_asset.artefact.path, tiny_asset.request.input_names, tiny_asset.request.output_names
        )
        assert list(tmp_path.glob("*.aimodelx"))
        del program
        gc.collect()
        assert not list(tmp_path.iterdir())
    finally:
        tempfile.tempdir = before


def test_without_the_wheels_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(coreai, "find_spec", lambda name: None)
    assert coreai.can_build() == "coreai-torch is missing: pip install 'dualpix[coreai]'"
    with pytest.raises(ExportError, match="coreai-torch is missing"):
        coreai.build(tiny_request("fp32", tmp_path / "a.aimodel"))
    monkeypatch.setattr(coreai.platform, "machine", lambda: "riscv64")
    assert (coreai.can_build() or "").startswith("there is no wheel of coreai-core 1.0.0b3 for linux riscv64")


@pytest.mark.slow
def test_states_of_a_foreign_module_are_handed_over_with_what_they_begin_with(tmp_path: Path) -> None:
    """Core AI's own states begin with what the caller gives, so nothing is lost by taking them as inputs."""
    check_runs_on(*exported(tmp_path / "out", "coreai-fp32"))


def test_recipes_that_cannot_be_made_here_end_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no wheel: one line and exit code 2, before anything is rendered or written."""
    monkeypatch.setattr(coreai, "find_spec", lambda name: None)
    monkeypatch.setattr(coreai.platform, "machine", lambda: "aarch64")
    asked = ["--recipe", "coreai-fp16", "--recipe", "coreai-w8"]
    with pytest.raises(SystemExit) as ended:
        main(["export", "difusenet-compact", "-o", str(tmp_path / "out"), *asked])
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert said.splitlines()[-1] == (
        "dualpix: error: coreai-fp16, coreai-w8 cannot be made on this machine: there is no wheel of coreai-core "
        "1.0.0b3 for linux aarch64: export on Linux x86_64"
    )


def test_the_child_imports_nothing_that_quantises() -> None:
    """It is started for every asset that is made or verified, and would wait seconds for what it does not use."""
    script = "import sys, dualpix.export.coreai.child as c, dualpix.export.coreai.runtime as r; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"executorch", "torchao", "coremltools", "cv2", "coreai_torch"} & set(loaded)
