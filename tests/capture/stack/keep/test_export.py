"""What is exported is read back: the same distances, the same light to within the rounding of the layout."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.support.stack_folders import ShotStack, rewritten, shoot_stack

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.stack.judge.aligned import align_folder
from dualpix.capture.stack.keep.export import DDFF_FILE, export_stack
from dualpix.capture.stack.keep.importer import import_stack
from dualpix.capture.stack.keep.load import load_stack

STOPS = (0.3, 0.9, 1.6, 2.2)


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> ShotStack:
    place = tmp_path_factory.mktemp("export") / "stack"
    return shoot_stack(place, diopters=STOPS, f_numbers=(2.8, 5.6), all_in_focus=True)


def clipped(light: np.ndarray) -> np.ndarray:
    return np.maximum(light, 0)


@pytest.mark.parametrize("imported", [False, True])
def test_plain_keeps_all(imported: bool, shot: ShotStack, tmp_path: Path) -> None:
    done = export_stack(shot.folder, tmp_path / "plain", "plain")
    assert "00_D0.300_F2.8.png" in done.files and "focus.csv" in done.files and not done.notes
    folder = done.folder
    if imported:
        folder = import_stack([folder], tmp_path / "again").folder
    for f_number in (2.8, 5.6):
        before, after = load_stack(shot.folder, f_number), load_stack(folder, f_number)
        assert np.array_equal(after.focus_distance_m, before.focus_distance_m)
        assert np.array_equal(after.uncertainty_d, before.uncertainty_d)
        assert np.abs(after.frames - clipped(before.frames)).max() < 3e-5
        assert (after.lens.focal_length_mm, after.lens.pixel_pitch_um) == (50, 100)
        assert before.all_in_focus is not None and after.all_in_focus is not None
        assert np.abs(after.all_in_focus - clipped(before.all_in_focus)).max() < 3e-5


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize(("picture", "error"), [("png", 0.004), ("jpg", 0.02)])
def test_zedd_and_back(picture: str, error: float, imported: bool, shot: ShotStack, tmp_path: Path) -> None:
    done = export_stack(shot.folder, tmp_path / "zedd", "zedd", picture=picture)  # type: ignore[arg-type]
    folder = done.folder
    if imported:
        folder = import_stack([folder], tmp_path / "again").folder
    before, after = load_stack(shot.folder, 5.6), load_stack(folder, 5.6)
    assert after.focus_distance_m == pytest.approx(before.focus_distance_m, rel=1e-12)
    display = json.loads((done.folder / "display.json").read_text())["white"]
    unclipped = (before.frames < 0.98 * np.array(display)).all(axis=-1)
    assert unclipped.mean() > 0.95
    assert np.abs(after.frames - clipped(before.frames))[unclipped].mean() < error
    assert after.all_in_focus is not None


def test_zedd_is_what_its_own_loader_reads(shot: ShotStack, tmp_path: Path) -> None:
    """Run numbers count from near, codes are motor positions, the all-in-focus frame is F16.0 of its run."""
    done = export_stack(shot.folder, tmp_path / "zedd", "zedd")
    runs = {}
    for line in (done.folder / "metadata.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            run, code, metres = line.split("\t")
            runs[run] = (code, float(metres))
    assert [runs[f"run_{n}"][1] for n in (1, 2, 3, 4)] == pytest.approx([1 / d for d in STOPS[::-1]], rel=1e-3)
    steps = {round(f.achieved_d, 3): f.motor_steps for f in shot.record.frames}
    assert int(runs["run_1"][0], 16) == steps[2.2] and len(runs["run_1"][0]) == 4
    pictures = done.folder / "val" / "val_0001" / "focus_stack"
    for n in (1, 2, 3, 4):
        for f_number in (2.8, 5.6):
            assert (pictures / f"img_run_{n}_motor_{runs[f'run_{n}'][0]}_aperture_F{f_number:.1f}.jpg").is_file()
    assert len(list(pictures.glob(f"img_run_2_motor_{runs['run_2'][0]}_aperture_F16.0.jpg"))) == 1
    matrix = np.loadtxt(done.folder / "val" / "val_0001" / "gt" / "K.txt")
    assert matrix == pytest.approx(np.array([[500, 0, 96], [0, 500, 64], [0, 0, 1]]))
    shown = cv2.imread(str(next(pictures.glob("*F2.8.jpg"))))
    assert shown.shape == (128, 192, 3) and 60 < shown.mean() < 220


@pytest.mark.parametrize("imported", [False, True])
def test_ddff_and_back(imported: bool, shot: ShotStack, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    done = export_stack(shot.folder, tmp_path / "ddff", "ddff", f_number=5.6)
    with h5py.File(done.folder / DDFF_FILE) as file:
        assert file["stack_test"].shape == (1, 4, 128, 192, 3) and file["stack_test"].dtype == np.uint8
        sharpest_near = file["stack_test"][0, 0].astype(float)
    assert "10 slices" in done.notes[0] and "all-in-focus" in done.notes[1]
    source = done.folder / DDFF_FILE
    folder = import_stack([source], tmp_path / "again").folder if imported else source
    before, after = load_stack(shot.folder, 5.6), load_stack(folder)
    assert np.array_equal(after.focus_distance_m, before.focus_distance_m)
    assert after.lens.f_number == 5.6 and after.lens.focal_length_mm == 50
    assert np.abs(after.frames - clipped(before.frames)).mean() < 0.004
    near = clipped(before.frames[-1]).mean(axis=-1).ravel()
    assert np.corrcoef(sharpest_near.mean(axis=-1).ravel(), near)[0, 1] > 0.98  # nearest slice first


def test_aligned_frames_are_exported_unless_the_captured_ones_are_wanted(shot: ShotStack, tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    shutil.copytree(shot.folder, folder)
    align_folder(folder)
    exports = [export_stack(folder, tmp_path / f"{flag}", "plain", aligned=flag) for flag in (True, False)]
    first = [load_stack(done.folder, 2.8).frames[0] for done in exports]
    assert np.abs(first[0] - load_stack(folder, 2.8).frames[0]).max() < 4e-5
    assert np.abs(first[1] - clipped(load_stack(folder, 2.8, aligned=False).frames[0])).max() < 4e-5
    assert np.abs(first[0] - first[1]).mean() > 0.01


def test_light_above_white_survives(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / "in" / f"{number}_D{1 + number}.0.tiff"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((24, 32, 3), 1.75, np.float32))
    done = export_stack(tmp_path / "in", tmp_path / "out", "plain")
    rows = list(csv.DictReader((tmp_path / "out" / "focus.csv").read_text().splitlines()))
    assert [float(row["full_scale"]) for row in rows] == [1.75, 1.75]
    assert load_stack(done.folder).frames.max() == pytest.approx(1.75, rel=1e-4)
    assert load_stack(import_stack([done.folder], tmp_path / "again").folder).frames.max() == pytest.approx(
        1.75, rel=1e-4
    )


def test_infinity_is_written_and_read(shot: ShotStack, tmp_path: Path) -> None:
    frames = list(shot.record.frames)
    try:
        rewritten(shot, [replace(f, achieved_d=-0.01, requested_d=0.0) if f.index < 2 else f for f in frames])
        for layout in ("plain", "zedd", "ddff"):
            done = export_stack(shot.folder, tmp_path / layout, layout)  # type: ignore[arg-type]
            source = done.folder / DDFF_FILE if layout == "ddff" else done.folder
            assert math.isinf(load_stack(source).focus_distance_m[0])
    finally:
        rewritten(shot, frames)


def test_only_an_earlier_export_is_replaced(shot: ShotStack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_stack(shot.folder, out, "plain", f_number=5.6)
    export_stack(shot.folder, out, "plain", f_number=2.8)
    assert {path.name[-8:-4] for path in out.glob("*F*.png") if "all" not in path.name} == {"F2.8"}
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="no earlier result"):
        export_stack(shot.folder, precious, "plain")
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]


def test_errors_leave_nothing(shot: ShotStack, tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match="no frames at f/4"):
        export_stack(shot.folder, tmp_path / "out", "plain", f_number=4.0)
    broken = tmp_path / "broken"
    shutil.copytree(shot.folder, broken)
    path = broken / shot.record.frames[5].files[0]
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DualpixError, match="cut or damaged"):
        export_stack(broken, tmp_path / "out", "zedd")
    assert not (tmp_path / "out").exists() and [p.name for p in tmp_path.iterdir()] == ["broken"]
