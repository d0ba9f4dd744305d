"""Frames that are of one bracket, whatever their lens makes of f-number and focal length, and frames that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.brackets import META, scene_frame, taken, write_bracket, write_shot

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.depth.focus_depth import blur_px_per_diopter
from dualpix.capture.stack.keep.importer import Given, import_stack
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import read_record
from dualpix.capture.types import CaptureMeta

DIOPTERS = (2.5, 2.1, 1.7, 1.3, 0.9, 0.5)
PITCH_UM = 24.0


def bracket(folder: Path, distances: bool = True, **columns: Sequence[object]) -> Path:
    """Frames near to far whose metadata change from one to the next."""
    metas = []
    for number, d in enumerate(DIOPTERS):
        meta = replace(taken(META, number), focus_distance_m=1 / d if distances else None)
        metas.append(replace(meta, **{name: values[number] for name, values in columns.items()}))  # type: ignore[arg-type]
    write_bracket(folder, [f"DSC_{number:04}.JPG" for number in range(1, 7)], metas)
    return folder


NIKON = (4.8, 4.6, 4.4, 4.2, 4.0, 4.0)
"""As a 105 mm macro lens writes them."""


def test_effective_f_numbers_are_one_aperture(tmp_path: Path) -> None:
    done = import_stack([bracket(tmp_path / "in", f_number=NIKON)], tmp_path / "out", Given(pixel_pitch_um=PITCH_UM))
    frames = read_record(tmp_path / "out").frames
    assert len({f.f_number for f in frames}) == 1
    assert [f.details["stated_f_number"] for f in frames[::-1]] == list(NIKON)
    assert "effective f-numbers, f/4 to f/4.8: one aperture" in " ".join(done.notes)
    stack = load_stack(tmp_path / "out")
    assert len(stack.frames) == 6  # none is left out as of another aperture


def test_optics_take_the_effective_f_number(tmp_path: Path) -> None:
    """A thin lens: image distance v = f / (1 - f P), aperture A = v / N_eff, blur v^2 / N_eff / pitch per diopter."""
    focal_m, number = 0.105, 4.0
    effective = [number / (1 - focal_m * d) for d in DIOPTERS]
    bracket(tmp_path / "in", f_number=[round(n, 2) for n in effective])
    import_stack([tmp_path / "in"], tmp_path / "out", Given(pixel_pitch_um=PITCH_UM))
    lens = load_stack(tmp_path / "out").lens
    assert lens.f_number == pytest.approx(number, abs=0.01)
    focus = np.array(DIOPTERS)
    image_mm = 105.0 / (1 - focal_m * focus)
    expected = image_mm**2 / np.array(effective) / PITCH_UM
    assert blur_px_per_diopter(lens, focus) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("ends", [(2.5, 0.5), None])
def test_effective_f_numbers_without_distances_in_the_files(tmp_path: Path, ends: tuple[float, float] | None) -> None:
    source = bracket(tmp_path / "in", distances=False, f_number=NIKON)
    done = import_stack([source], tmp_path / "out", Given(ends_d=ends))
    numbers = {f.f_number for f in done.record.frames}
    assert len(numbers) == 1 and 3.5 < next(iter(numbers)) <= 4.0  # type: ignore[operator]
    assert len(load_stack(tmp_path / "out").frames) == 6


def test_the_user_s_f_number_and_focal_length_count(tmp_path: Path) -> None:
    odd = bracket(tmp_path / "in", f_number=(4, 8, 4, 5.6, 4, 4), focal_length_mm=(105, 24, 105, 105, 70, 105))
    import_stack([odd], tmp_path / "out", Given(f_number=3.5, focal_length_mm=100.0, pixel_pitch_um=5.0))
    lens = load_stack(tmp_path / "out").lens
    assert (lens.f_number, lens.focal_length_mm, lens.pixel_pitch_um) == (3.5, 100.0, 5.0)


def test_a_focal_length_that_breathes_is_that_of_the_far_end(tmp_path: Path) -> None:
    source = bracket(tmp_path / "in", focal_length_mm=(88.0, 92.0, 96.0, 100.0, 103.0, 105.0))
    done = import_stack([source], tmp_path / "out")
    assert done.record.camera.focal_length_mm == 105.0
    assert "the focal length changes with focus, 105 to 88 mm" in " ".join(done.notes)
    assert load_stack(tmp_path / "out").lens.focal_length_mm == 105.0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"f_number": (2.8, 2.8, 8.0, 2.8, 2.8, 2.8)},
         r"'DSC_0003.JPG' is at f/8, the other 5 frames at f/2.8; expected frames of one bracket; leave .*--f-number"),
        ({"f_number": (2.8, 2.8, 2.8, 2.8, 2.8, 16.0)}, r"'DSC_0006.JPG' is at f/16"),
        ({"f_number": (16.0, 2.8, 2.8, 2.8, 2.8, 2.8)}, r"'DSC_0001.JPG' is at f/16"),
        ({"f_number": (4.0, 4.0, 4.0, 5.6, 5.6, 5.6)}, r"of 2 apertures: 4.0, 5.6 \('DSC_0001.JPG' is at f/4, "),
        ({"f_number": (4.0, 4.0, 4.2, 4.4, 4.6, 4.8)}, r"of 5 apertures|at f/"),  # larger where it is farther
        ({"camera": ("A", "A", "A", "B", "A", "A")}, r"'DSC_0004.JPG' is from 'B', the other 5 frames from 'A'"),
        ({"lens_model": ("x", "x", "x", "x", "x", "y")}, r"'DSC_0006.JPG' is with 'y', the other 5 frames with 'x'"),
        ({"focal_length_mm": (50.0, 50.0, 24.0, 50.0, 50.0, 50.0)}, r"'DSC_0003.JPG' is at 24 mm, .*--focal-length-mm"),
    ],
)  # fmt: skip
def test_frames_that_do_not_belong_are_named(
    tmp_path: Path, columns: dict[str, Sequence[object]], message: str
) -> None:
    with pytest.raises(DualpixError, match=message) as error:
        import_stack([bracket(tmp_path / "in", **columns)], tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
    with pytest.raises(DualpixError, match=message):
        import_stack([tmp_path / "in"], tmp_path / "out", Given(ends_d=(2.5, 0.5)))


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    bracket(tmp_path / "in")
    meta = replace(taken(META, 59), focus_distance_m=4.0)
    write_shot(tmp_path / "in" / "DSC_0009.JPG", scene_frame(1, (120, 144)), meta)
    with pytest.raises(DualpixError, match=r"'DSC_0009.JPG' is of 144x120 pixels, the other 6 frames of 144x96 pixels"):
        import_stack([tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_file_leaves_out_is_no_contradiction(tmp_path: Path) -> None:
    source = bracket(tmp_path / "in", camera=("A", None, "A", "A", None, "A"), f_number=(4, None, 4, 4, 4, 4))
    done = import_stack([source], tmp_path / "out")
    assert {f.f_number for f in done.record.frames} == {4.0}


def test_a_grid_of_apertures_and_given_distances_stays_one(tmp_path: Path) -> None:
    source = bracket(tmp_path / "in", distances=False, f_number=(2.8, 8.0, 2.8, 8.0, 2.8, 8.0))
    import_stack([source], tmp_path / "out", Given(diopters=(2.0, 2.0, 1.5, 1.5, 1.0, 1.0)))
    assert len(load_stack(tmp_path / "out", 2.8).frames) == len(load_stack(tmp_path / "out", 8.0).frames) == 3


def test_metadata_are_read_as_they_are_written(tmp_path: Path) -> None:
    from dualpix.capture.stack.keep.frames import frame_meta

    path = write_shot(tmp_path / "a.jpg", scene_frame(0), taken(META, "07.250"))
    assert frame_meta(path).date_time == "2024-05-01T10:00:07.250"
    assert frame_meta(path).f_number == META.f_number
    assert frame_meta(write_shot(tmp_path / "b.jpg", scene_frame(0), None)) == CaptureMeta()
