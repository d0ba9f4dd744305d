from __future__ import annotations

import json
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from safetensors.torch import load_file
from tests.support.foreign_factory import SOURCE
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.export.bound import own_path
from dualpix.export.command.limits import read_limits
from dualpix.export.flow import ExportResult
from dualpix.export.module import export_module
from dualpix.export.own.called import called
from dualpix.export.own.factory import load_factory
from dualpix.models.blocks.correlation import SoftArgmax
from dualpix.models.named import is_named
from dualpix.quantize.gate import Outcome
from dualpix.quantize.limits import Limits


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's file in the working folder, under a name that no other test imported."""
    name = f"nets_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return name


def test_a_foreign_module_is_judged_by_its_difference(foreign_export: ExportResult) -> None:
    result = foreign_export.results[0]
    assert result.verdict.outcome is Outcome.VERIFIED and foreign_export.reference.metric is None
    assert result.accuracy and result.accuracy.from_float.sqnr_db > 100
    gate = json.loads((foreign_export.folder / "gate.json").read_text())
    assert gate["float"]["metrics"] == {} and gate["recipes"][0]["relative_rms"] < 1e-5
    assert [c["name"] for c in gate["recipes"][0]["checks"]] == ["delegated_compute", "sqnr_db", "structure_db"]
    assert result.artefact and result.artefact.path.is_file(), "the path is where the file ended up"


def test_manifest_card_and_reference_tell_what_was_exported(foreign_export: ExportResult) -> None:
    folder = foreign_export.folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"]["licence"] == "MIT" and manifest["model"]["class"].endswith("Sequential")
    assert manifest["model"]["parameters"] == 4 * 9 + 4 + 2 * 4 * 9 + 2
    assert manifest["input"]["tensors"] == [{"name": "input", "shape": [1, 1, 16, 24], "dtype": "float32"}]
    (output,) = manifest["outputs"]
    assert (output["name"], output["shape"], output["dtype"]) == ("output", [1, 2, 16, 24], "float32")
    assert manifest["model"]["weights_origin"] is None and output["unit"] == "not stated"
    listed = {e["file"] for e in (*manifest["artefacts"], *manifest["files"])}
    assert listed | {"manifest.json"} == {p.name for p in folder.iterdir()}
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n')
    for text in (manifest["model"]["weights_sha256"], manifest["commit"], "`net-xnnpack-fp32.pte`", "1 x 1 x 16 x 24"):
        assert text in card
    stored = load_file(folder / "reference.safetensors")
    assert set(stored) == {"input.input", "output.float", "output.xnnpack-fp32"}
    torch.testing.assert_close(stored["output.float"], stored["output.xnnpack-fp32"], rtol=1e-4, atol=1e-5)


def test_a_factory_gives_module_and_inputs(factories: str) -> None:
    found = load_factory(f"{factories}:small")
    assert found.name == "small" and isinstance(found.module, nn.Module) and len(found.inputs) == 4


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nothing", "gives a NoneType; expected (module, inputs)"),
        ("no_inputs", "gives no inputs"),
        ("text_inputs", "gives a str as inputs"),
        ("raises", "fails: RuntimeError: no such checkpoint; --debug"),
        ("absent", "has no function 'absent'"),
        ("value", "has no function 'value'"),
    ],
)
def test_what_is_no_factory_is_told(factories: str, factory: str, message: str) -> None:
    with pytest.raises(DualpixError) as raised:
        load_factory(f"{factories}:{factory}")
    assert message in str(raised.value)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(DualpixError, match="'no_such_package' cannot be imported: ModuleNotFoundError"):
        load_factory("no_such_package:net")
    for text in ("a/b:c", "a:b:c", "a", "a.:b", "1a:b"):
        assert not is_named(text)


def test_limits_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"format": 1, "recipes": {"xnnpack-int8": {"sqnr_db": 20, "size_bytes": 9}}}))
    limits, source = read_limits(path, has_metric=False)
    assert limits == {"xnnpack-int8": Limits(sqnr_db=20, size_bytes=9)} and source == "limits.json"
    path.write_text(json.dumps({"format": 1, "recipes": {"xnnpack-int8": {"ai1_increase": 0.01}}}))
    assert read_limits(path, has_metric=True)
    with pytest.raises(DualpixError, match=r"and there is no metric; .*--metric"):
        read_limits(path, has_metric=False)
    for content in ("[]", "{", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(DualpixError, match=r"limits\.json"):
            read_limits(path, has_metric=False)
    with pytest.raises(DualpixError, match="cannot read"):
        read_limits(tmp_path / "gone.json", has_metric=False)


def test_names_that_are_no_file_names_are_refused(tmp_path: Path) -> None:
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(DualpixError, match="to be part of a file name"):
            export_module(nn.Identity(), [(torch.rand(1, 1, 4, 4),)], tmp_path / "out", ["xnnpack-fp32"], name=name)
    assert not (tmp_path / "out").exists()


def test_small_sums_that_blocks_name_stay_float_in_int8() -> None:
    """Whatever the caller says; the paths are those within what is exported."""
    network = nn.Sequential(nn.Conv2d(3, 9, 3, padding=1), SoftArgmax(4))
    run = called(network, torch.rand(1, 3, 8, 8), name="small")
    kept = run.kept(lambda path: path.endswith("0"))
    inside = {own_path(run.module, name): name for name, _ in run.module.named_modules()}
    assert [own for own, path in sorted(inside.items()) if kept(path)] == ["0", "1.expected"]
