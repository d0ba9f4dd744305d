from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.export.own.called import Called
from dualpix.export.own.examples import own_examples, read_examples
from dualpix.export.own.factory import Foreign


class _Net(nn.Module):
    def forward(self, image: Tensor, camera: Tensor) -> dict[str, Tensor]:
        return {"depth": image * camera, "near": image > 0.5}


def _example(k: int) -> dict[str, Tensor]:
    return {"image": torch.full((1, 1, 4, 6), 0.1 * k), "camera": torch.tensor([k + 1])}


FOREIGN = Foreign("net", _Net(), tuple(_example(k) for k in range(5)))


@pytest.fixture(scope="module")
def run() -> Called:
    return FOREIGN.called()


def _save(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)


def _arrays(k: int, **more: Any) -> dict[str, Any]:
    return {"image": np.full((1, 1, 4, 6), k, np.float32), "camera": np.array([k], np.int64), **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in (1, 2, 10):
        truth = np.full((4, 6), k, np.float64)
        _save(tmp_path / "data" / f"s{k}.npz", **_arrays(k, truth=truth, **{"truth.near": truth > 1}))
    return tmp_path / "data"


def test_half_of_the_factorys_list_calibrates_and_the_other_judges(run: Called) -> None:
    calibration, evaluation = own_examples(run, FOREIGN, "nets:net", [], [])
    assert [int(s[1]) for s in calibration.inputs] == [1, 2, 3] and [int(s[1]) for s in evaluation.inputs] == [4, 5]
    assert calibration.description == "inputs 1 to 3 of the 5 that nets:net gives"
    assert evaluation.description == "inputs 4 to 5 of the 5 that nets:net gives"
    one = Foreign("net", _Net(), (_example(3),))
    first, last = own_examples(run, one, "nets:net", [], [])
    assert first.digest() == last.digest() and last.description == "the one input that nets:net gives"
    two = own_examples(run, Foreign("net", _Net(), (_example(3), _example(4))), "nets:net", [], [])
    assert [part.description for part in two] == [
        "input 1 of the 2 that nets:net gives",
        "input 2 of the 2 that nets:net gives",
    ]


def test_what_is_named_takes_the_place_of_the_list(run: Called, folder: Path) -> None:
    calibration, evaluation = own_examples(run, FOREIGN, "nets:net", [str(folder)], [])
    assert calibration.description == "3 files of 'data'"
    assert evaluation.description == "all 5 inputs that nets:net gives" and len(evaluation.inputs) == 5
    calibration, evaluation = own_examples(run, FOREIGN, "nets:net", [], [str(folder)])
    assert len(calibration.inputs) == 5 and len(evaluation.inputs) == 3


def test_files_are_taken_in_natural_order_with_their_truth(run: Called, folder: Path) -> None:
    found = read_examples(run, str(folder))
    assert [int(camera) for _, camera in found.inputs] == [1, 2, 10]
    assert [t["depth"].mean() for t in found.truths] == [1, 2, 10]
    assert [t["near"].mean() for t in found.truths] == [0, 1, 1]
    digest = found.digest()
    _save(folder / "s2.npz", **_arrays(2, truth=np.zeros((4, 6)), **{"truth.near": np.ones((4, 6))}))
    assert read_examples(run, str(folder)).digest() != digest, "the truth is part of it"


def test_other_widths_of_a_type_are_the_same_values(run: Called, tmp_path: Path) -> None:
    image = np.asfortranarray(np.arange(24, dtype=">f8").reshape(1, 1, 4, 6))
    _save(tmp_path / "d" / "a.npz", image=image, camera=np.array([3], np.int16))
    (sample,) = read_examples(run, str(tmp_path / "d")).inputs
    assert [t.dtype for t in sample] == [torch.float32, torch.int64]
    assert torch.equal(sample[0].flatten(), torch.arange(24.0)) and sample[0].is_contiguous()


def test_a_function_gives_samples_with_truth(run: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"data_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "def one(k, **more):\n"
        "    return {'image': torch.full((1, 1, 4, 6), float(k)), 'camera': torch.tensor([k]), **more}\n"
        "def full(): return [one(k, truth=torch.full((4, 6), 2.0 * k)) for k in (1, 2)]\n"
        "def bare(): return [one(k) for k in (1, 2)]\n"
        "def some(): return [one(1), one(2, truth=torch.ones(1))]\n"
        "def text(): return [one(1, truth='two')]\n"
        "def other(): return [one(1, **{'truth.normal': torch.ones(1)})]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    full = read_examples(run, f"{name}:full")
    assert [t["depth"].mean() for t in full.truths] == [2.0, 4.0] and len(full.inputs) == 2
    assert read_examples(run, f"{name}:bare").truths == ()
    for function, message in (
        ("some", "only some samples of .* hold a truth"),
        ("text", "'truth' in sample 1 of .* is a str; expected an array"),
        ("other", r"holds 'truth.normal'; expected truth or truth.NAME of depth, near"),
    ):
        with pytest.raises(DualpixError, match=message):
            read_examples(run, f"{name}:{function}")


def _npy(shape: tuple[int, ...], kind: str = "<f4", data: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
    return out.getvalue() + data


def _zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((1, 1, 4, 6), np.float32)}, "'a.npz' holds image; expected the arrays image, camera"),
        (_arrays(1, extra=np.zeros(3)), "'a.npz' holds camera, extra, image"),
        (_arrays(1) | {"image": np.zeros((1, 1, 4, 8), np.float32)}, r"'image' is float32 \(1, 1, 4, 8\); expected"),
        (_arrays(1) | {"image": np.zeros((1, 1, 4, 6), np.uint8)}, r"'image' is uint8 .* like the factory's"),
        (_arrays(1) | {"image": np.full((1, 1, 4, 6), np.nan, np.float32)}, "'image' holds values that are not finite"),
        (_arrays(1) | {"camera": np.array([2**63], np.uint64)}, "'camera' has values beyond int64"),
        (_arrays(1) | {"camera": np.array([None])}, "'camera' is object"),
        (_arrays(1, truth=np.array(["x"])), "'truth' is <U1"),
    ],
)
def test_arrays_that_do_not_fit_are_told(run: Called, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    _save(tmp_path / "d" / "a.npz", **arrays)
    with pytest.raises(DualpixError, match=message):
        read_examples(run, str(tmp_path / "d"))


def test_nothing_is_allocated_for_what_a_header_claims(run: Called, tmp_path: Path) -> None:
    good = _npy((1,), "<i8", b"\0" * 8)
    cases: dict[str, tuple[dict[str, bytes], int, str]] = {
        "claims": (
            {"image": _npy((1 << 40,)), "camera": good},
            zipfile.ZIP_DEFLATED,
            r"'image' is float32 \(1099511627776,",
        ),
        "cut": (
            {"image": _npy((1, 1, 4, 6), data=b"\0" * 9), "camera": good},
            zipfile.ZIP_DEFLATED,
            "9 bytes of samples",
        ),
        "truth": (
            {"image": _npy((1, 1, 4, 6), data=b"\0" * 96), "camera": good, "truth": _npy((1 << 40,))},
            zipfile.ZIP_DEFLATED,
            "'truth' has 4398046511104 bytes; expected at most 4 GiB",
        ),
        "bomb": ({"image": b"\x93NUMPY" + b"\0" * 9999, "camera": good}, zipfile.ZIP_DEFLATED, "broken .npy header"),
        "lzma": ({"image": _npy((1, 1, 4, 6), data=b"\0" * 96), "camera": good}, zipfile.ZIP_LZMA, "by method 14"),
    }
    for name, (members, method, message) in cases.items():
        _zip(tmp_path / name / "a.npz", members, method)
        with pytest.raises(DualpixError, match=message):
            read_examples(run, str(tmp_path / name))


def test_what_is_no_data_is_told(run: Called, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.npz").write_text("no archive")
    for source, message in (
        ("gone", "is no folder; expected a folder of .npz files, or package.module:function"),
        ("empty", "holds 0 .npz files"),
        ("text", "'a.npz' does not read: File is not a zip file"),
    ):
        with pytest.raises(DualpixError, match=message):
            read_examples(run, str(tmp_path / source))


def test_truth_for_some_samples_alone_is_told(run: Called, folder: Path, tmp_path: Path) -> None:
    _save(folder / "s3.npz", **_arrays(3))
    with pytest.raises(DualpixError, match="only some samples"):
        read_examples(run, str(folder))
    _save(tmp_path / "bare" / "a.npz", **_arrays(3))
    (folder / "s3.npz").unlink()
    with pytest.raises(DualpixError, match="3 of 4 samples have a truth"):
        own_examples(run, FOREIGN, "nets:net", [], [str(folder), str(tmp_path / "bare")])


def test_a_factory_may_say_more(tmp_path: Path) -> None:
    facts = {"input_names": ["picture", "id"], "output_names": ["z", "mask"], "unit": {"z": "m"}}
    run = Foreign("net", _Net(), (_example(1),), facts).called()
    assert run.input_names == ("picture", "id") and [(o.name, o.unit, o.dtype) for o in run.outputs] == [
        ("z", "m", "float32"),
        ("mask", "", "bool"),
    ]
    _save(tmp_path / "d" / "a.npz", picture=np.zeros((1, 1, 4, 6)), id=np.array([1]))
    assert len(read_examples(run, str(tmp_path / "d")).inputs) == 1
    assert json.dumps(facts)
