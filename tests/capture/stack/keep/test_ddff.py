"""DDFF-12 files: which of several stacks, what a damaged or hostile file may not do; and folders that we exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.stack_folders import shoot_stack

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.judge.aligned import align_folder
from dualpix.capture.stack.keep.ddff import ddff_distances_m, ddff_stacks
from dualpix.capture.stack.keep.export import LAYOUTS, export_stack
from dualpix.capture.stack.keep.importer import Given, import_stack, import_stacks
from dualpix.capture.stack.keep.layouts import read_layout
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import read_record

h5py = pytest.importorskip("h5py")


def codes(stacks: int, seed: int, slices: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (stacks, slices, 24, 32, 3)).astype(np.uint8)


@pytest.fixture
def trainval(tmp_path: Path) -> Path:
    path = tmp_path / "ddff-dataset-trainval.h5"
    with h5py.File(path, "w") as file:
        file["stack_val"] = codes(2, 1)
        file["stack_train"] = codes(3, 2)
        file["disp_train"] = np.zeros((3, 24, 32), np.float32)
    return path


def run(*arguments: str | Path) -> int:
    try:
        main(["capture", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def sources_of(folder: Path) -> set[str]:
    return {str(frame.details["original"]).split(",")[0] for frame in read_record(folder).frames}


def test_several_stacks_are_listed_and_none_is_taken(trainval: Path, tmp_path: Path) -> None:
    said = r"holds 5 stacks: 0 to 2 of stack_train, 3 to 4 of stack_val; expected one .*--index N, or --index all"
    for read in (read_layout, load_stack, lambda path: import_stack([path], tmp_path / "out")):
        with pytest.raises(DualpixError, match=said):
            read(trainval)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "key", "place"), [("0", "stack_train", 0), ("3", "stack_val", 0), ("stack_val:1", "stack_val", 1)]
)
def test_one_is_chosen_by_its_number_or_name(trainval: Path, tmp_path: Path, asked: str, key: str, place: int) -> None:
    assert run("import", trainval, "-o", tmp_path / "out", "--index", asked) == 0
    assert sources_of(tmp_path / "out") == {f"ddff-dataset-trainval.h5[{key}:{place}"}
    stack = load_stack(tmp_path / "out")
    assert stack.focus_distance_m == pytest.approx(ddff_distances_m(4)[::-1])
    with h5py.File(trainval) as file:
        nearest = file[key][place, 0]
    assert np.argmax(nearest.mean(axis=(0, 1))) == np.argmax(stack.frames[-1].mean(axis=(0, 1)))


@pytest.mark.parametrize("asked", ["5", "-1", "stack_val:2", "stack_test:0", "first", "1.0", "1e999", ""])
def test_a_stack_that_is_not_there(trainval: Path, tmp_path: Path, asked: str) -> None:
    with pytest.raises(
        DualpixError, match=r"no stack '.*' in .*expected 0 to 2 of stack_train, 3 to 4 of stack_val, or"
    ):
        import_stack([trainval], tmp_path / "out", Given(stack=asked))


def test_all_of_them(trainval: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", trainval, "-o", tmp_path / "out", "--index", "all", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 5
    names = ["stack_train_000", "stack_train_001", "stack_train_002", "stack_val_000", "stack_val_001"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert sources_of(tmp_path / "out" / "stack_val_001") == {"ddff-dataset-trainval.h5[stack_val:1"}
    with pytest.raises(DualpixError, match="no file of several stacks"):
        import_stacks([tmp_path / "out" / names[0]], tmp_path / "again", Given(stack="all"))


def test_a_file_of_one_stack_needs_no_choice(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["stack_val"] = codes(1, 1)
        file["stack_train"] = codes(0, 1)
    assert len(ddff_stacks(tmp_path / "a.h5")) == 1
    assert len(load_stack(tmp_path / "a.h5").frames) == 4
    assert len(load_stack(tmp_path).frames) == 4  # the folder with the file


def test_a_folder_of_two_files_is_asked_about(trainval: Path) -> None:
    trainval.with_name("other.hdf5").write_bytes(trainval.read_bytes())
    with pytest.raises(DualpixError, match=r"holds 2 HDF5 files: ddff-dataset-trainval.h5, other.hdf5"):
        read_layout(trainval.parent)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("aligned", [False, True])
def test_import_takes_the_folder_that_an_export_wrote(tmp_path: Path, layout: Any, aligned: bool) -> None:
    shot = shoot_stack(tmp_path / "stack", diopters=(0.5, 1.0, 1.5, 2.0))
    if aligned:
        align_folder(shot.folder)
    export_stack(shot.folder, tmp_path / "exported", layout)
    done = import_stack([tmp_path / "exported"], tmp_path / "again")
    assert [f.achieved_d for f in done.record.frames] == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=1e-3)
    stack, before = load_stack(tmp_path / "again"), load_stack(shot.folder)
    assert stack.frames.shape == before.frames.shape
    assert np.corrcoef(stack.frames.ravel(), before.frames.ravel())[0, 1] > 0.99
    if layout == "plain":
        assert stack.lens.focal_length_mm == pytest.approx(before.lens.focal_length_mm)


def hostile(path: Path, how: str) -> None:
    secret = path.with_name("secret.bin")
    secret.write_bytes(codes(1, 3).tobytes())
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["stack_val"] = codes(1, 3)
    with h5py.File(path, "w") as file:
        if how == "external storage":
            file.create_dataset("stack_val", (1, 4, 24, 32, 3), np.uint8, external=[(str(secret), 0, 4 * 24 * 32 * 3)])
        elif how == "external link":
            file["stack_val"] = h5py.ExternalLink(str(path.with_name("other.h5")), "stack_val")
        elif how == "virtual":
            layout = h5py.VirtualLayout((1, 4, 24, 32, 3), np.uint8)
            layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "stack_val", (1, 4, 24, 32, 3))
            file.create_virtual_dataset("stack_val", layout)
        elif how == "group":
            file.create_group("stack_val")
        elif how == "texts":
            file["stack_val"] = np.full((1, 4, 2, 2, 3), b"x", "S1")
        elif how == "distances of texts":
            file["stack_val"] = codes(1, 3)
            file["focus_distance_m_val"] = np.full((1, 4), b"1", "S1")
        elif how == "distances that are a group":
            file["stack_val"] = codes(1, 3)
            file.create_group("focus_distance_m_val")
        elif how == "white of texts":
            file["stack_val"] = codes(1, 3)
            file["stack_val"].attrs["white"] = "white"
        elif how == "huge":
            file.create_dataset("stack_val", (1, 4, 10**6, 10**6, 3), np.uint8, chunks=(1, 1, 8, 8, 3))


@pytest.mark.parametrize(
    "how",
    ["external storage", "external link", "virtual", "group", "texts", "distances of texts",
     "distances that are a group", "white of texts", "huge"],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    hostile(tmp_path / "in" / "ddff.h5", how)
    assert run("import", tmp_path / "in" / "ddff.h5", "-o", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("dualpix: error:") == 1 and "Traceback" not in said and not (tmp_path / "out").exists()
