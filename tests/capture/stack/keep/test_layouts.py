"""Layouts of others: broken ones are named, none is taken for what it is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.ddff import ddff_distances_m
from dualpix.capture.stack.keep.layouts import from_distances, read_layout, with_assumed_uncertainty
from dualpix.capture.stack.keep.load import load_stack

GRAY = np.random.default_rng(0).integers(20, 230, (24, 32, 3)).astype(np.uint8)


def pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), GRAY)


def test_a_minimal_csv(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "b.png"])
    (tmp_path / "focus.csv").write_text("file,distance_m\na.png,inf\nb.png,0.8\n")
    found = read_layout(tmp_path)
    assert found is not None
    assert [frame.diopters for frame in found.frames] == [0.0, 1.25]
    assert [frame.role for frame in found.frames] == ["focus", "focus"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,distance_m\n", "0 frames"),
        ("file,distance_m\na.png,near\n", "distance_m is 'near'"),
        ("file,distance_m\na.png,nan\n", "distance_m is 'nan'"),
        ("file,distance_m\na.png,-1\n", "no focus for frame 1"),
        ("file\na.png\n", "no focus for frame 1"),
        ("file,diopters\n,1\n", "plain file name"),
        ("file,diopters\n/etc/passwd,1\n", "plain file name"),
        ("file,diopters,iso\na.png,1,inf\n", "iso is 'inf'"),
    ],
)
def test_a_broken_csv_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "focus.csv").write_text(text)
    with pytest.raises(DualpixError, match=message):
        read_layout(tmp_path)


def zedd(root: Path) -> Path:
    (root / "val" / "val_0001" / "gt").mkdir(parents=True)
    scene = root / "val" / "val_0001"
    runs = {1: ("6D3E", 0.82), 2: ("4EA8", 1.21), 3: ("3B39", 1.69)}
    lines = ["# run\tmotor\tdistance", *(f"run_{run}\t{code}\t{metres}" for run, (code, metres) in runs.items())]
    (root / "metadata.txt").write_text("\n".join(lines) + "\n")
    names = [f"img_run_{r}_motor_{c}_aperture_F{n:.1f}.jpg" for r, (c, _) in runs.items() for n in (1.4, 2.8)]
    pictures(scene / "focus_stack", [*names, "img_run_2_motor_4EA8_aperture_F16.0.jpg"])
    (scene / "gt" / "K.txt").write_text("2644.70 0 938.13\n0 2649.63 597.19\n0 0 1\n")
    return scene


def test_a_scene_of_zedd(tmp_path: Path) -> None:
    scene = zedd(tmp_path)
    for place in (scene, scene / "focus_stack", tmp_path):
        stack = load_stack(place, 2.8)
        assert stack.focus_distance_m == pytest.approx([1.69, 1.21, 0.82])
        assert stack.all_in_focus is not None
        # the ratio of focal length and pitch is what a camera matrix tells
        assert stack.lens.focal_length_mm / stack.lens.pixel_pitch_um * 1000 == pytest.approx(2644.70)
        assert stack.lens.pixel_pitch_um * 2 * 938.13 == pytest.approx(36_000)
    assert load_stack(scene).lens.f_number == 1.4


def test_broken_zedd_is_named(tmp_path: Path) -> None:
    scene = zedd(tmp_path)
    table = tmp_path / "metadata.txt"
    whole = table.read_text()
    table.write_text(whole.replace("run_2\t4EA8\t1.21", ""))
    with pytest.raises(DualpixError, match="is of run 2"):
        read_layout(scene)
    table.write_text(whole.replace("1.21", "far"))
    with pytest.raises(DualpixError, match="run_2"):
        read_layout(scene)
    table.write_text(whole)
    (scene / "gt" / "K.txt").write_text("one two three")
    with pytest.raises(DualpixError, match="camera matrix"):
        read_layout(scene)
    (tmp_path / "val" / "val_0002" / "focus_stack").mkdir(parents=True)
    with pytest.raises(DualpixError, match="2 scenes"):
        read_layout(tmp_path)


def ddff(path: Path, **datasets: np.ndarray) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def test_ddff_slices_are_nearest_first_and_even_in_disparity(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(1, 255, (1, 10, 24, 32, 3)).astype(np.uint8)
    stack = load_stack(ddff(tmp_path / "a.h5", stack_test=codes))
    distances = ddff_distances_m(10)
    assert distances[0] == pytest.approx(0.504, abs=0.001) and distances[-1] == pytest.approx(7.06, abs=0.01)
    assert np.allclose(np.diff(1 / distances, 2), 0, atol=1e-9)
    assert np.allclose(stack.focus_distance_m, distances[::-1])
    assert stack.frames[0].mean() > 0


def test_broken_ddff_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DualpixError, match="HDF5"):
        read_layout(tmp_path / "text.h5")
    with pytest.raises(DualpixError, match="no stack_test"):
        read_layout(ddff(tmp_path / "other.h5", pictures=np.zeros(3)))
    with pytest.raises(DualpixError, match="'stack_test' is"):
        read_layout(ddff(tmp_path / "flat.h5", stack_test=np.zeros((3, 4), np.uint8)))
    wrong = ddff(
        tmp_path / "wrong.h5", stack_test=np.zeros((1, 3, 8, 8, 3), np.uint8), focus_distance_m_test=np.zeros((1, 3))
    )
    with pytest.raises(DualpixError, match="distances"):
        read_layout(wrong)


def test_a_folder_of_anything_else_is_none_of_them(tmp_path: Path) -> None:
    assert read_layout(tmp_path) is None
    pictures(tmp_path, ["a.png", "00_D1.0.png"])
    assert read_layout(tmp_path) is None
    assert read_layout(tmp_path / "a.png") is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=8, unique=True))
def test_the_assumed_error_is_a_quarter_of_the_smallest_step(diopters: list[float]) -> None:
    listing = from_distances([Path(f"{n}.png") for n in range(len(diopters))], diopters, "given")
    steps = np.diff(np.sort(diopters))
    expected = steps[steps > 1e-9].min() / 4 if (steps > 1e-9).any() else 0.1
    assert all(frame.uncertainty_d == pytest.approx(expected) for frame in listing.frames)
    assert with_assumed_uncertainty(listing.frames) == listing.frames  # what is known stays
