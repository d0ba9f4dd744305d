"""Flags that flip while the samples lie alike, and pictures that are really turned."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.brackets import META, SIZE_HW, scene_frame, taken, write_bracket, write_shot
from tests.support.dng import write_frame_dng
from tests.support.halves import CROP, sensor_frames

from dualpix.capture.raw.develop.geometry import as_sensor
from dualpix.capture.stack.judge.align import align_stack
from dualpix.capture.stack.judge.verify import verify
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.keep.importer import import_stack
from dualpix.capture.stack.keep.listing import ListedFrame
from dualpix.capture.stack.keep.load import load_stack, read_listing
from dualpix.capture.stack.keep.orientation import with_one_orientation

DIOPTERS = (2.5, 2.1, 1.7, 1.3, 0.9, 0.5)


def bracket(folder: Path, orientations: tuple[int, ...], suffix: str = "JPG") -> Path:
    metas = [replace(taken(META, n), focus_distance_m=1 / d) for n, d in enumerate(DIOPTERS)]
    write_bracket(folder, [f"DSC_{n}.{suffix}" for n in range(6)], metas, orientations)
    return folder


FLIPS = [(1, 3), (1, 6), (1, 8), (6, 1), (8, 6), (3, 1), (1, 2), (5, 1), (6, 7)]


@pytest.mark.parametrize(
    ("usual", "odd", "suffix"), [*((usual, odd, "JPG") for usual, odd in FLIPS), (1, 3, "png"), (6, 8, "png")]
)
def test_a_flag_that_differs_is_named_and_not_believed(tmp_path: Path, usual: int, odd: int, suffix: str) -> None:
    source = bracket(tmp_path / "in", (usual, usual, odd, usual, usual, usual), suffix)
    done = import_stack([source], tmp_path / "out")
    said = f"'DSC_2.{suffix}' is flagged as orientation {odd}, 5 of 6 frames as {usual}"
    assert [note for note in done.notes if said in note and f"{usual} is taken" in note]
    assert [f.details.get("orientation") for f in done.record.frames] == [None, None, None, usual, None, None]
    stack = load_stack(tmp_path / "out")
    assert stack.frames.shape[1:3] == (SIZE_HW if usual < 5 else SIZE_HW[::-1])
    stored = [as_sensor(frame, usual) for frame in stack.frames]
    assert all(np.corrcoef(one.ravel(), stored[2].ravel())[0, 1] > 0.85 for one in stored)
    _, alignment = align_stack(stack)
    assert all(alignment.trusted) and np.abs(alignment.rotation_deg).max() < 1
    found = {finding.code: finding for finding in verify(tmp_path / "out").findings}
    assert found["orientation"].severity == "note" and found["orientation"].frames == (3,)
    assert re.search(rf"frame 3 \('s0001_f03_.*'\) as {odd}; .* rest: {usual} is taken", found["orientation"].text)
    assert not [code for code, finding in found.items() if finding.severity == "bad"]


def test_several_flags_take_the_one_of_most(tmp_path: Path) -> None:
    done = import_stack([bracket(tmp_path / "in", (6, 1, 1, 3, 8, 1))], tmp_path / "out")
    assert sum("is taken" in note for note in done.notes) == 3
    assert load_stack(tmp_path / "out").frames.shape == (6, *SIZE_HW, 3)


def test_a_picture_that_a_program_has_turned_keeps_its_flag(tmp_path: Path) -> None:
    """Five frames lie on their side and say so; one was turned upright, samples and flag."""
    bracket(tmp_path / "in", (6,) * 6)
    turned = np.ascontiguousarray(np.rot90(scene_frame(0.4), -1))
    write_shot(tmp_path / "in" / "DSC_2.JPG", turned, replace(taken(META, 2), focus_distance_m=1 / 1.7), 1)
    done = import_stack([tmp_path / "in"], tmp_path / "out")
    assert not [note for note in done.notes if "flagged" in note]
    stack = load_stack(tmp_path / "out")
    assert stack.frames.shape[1:3] == SIZE_HW[::-1]
    assert np.corrcoef(stack.frames[2].ravel(), stack.frames[3].ravel())[0, 1] > 0.85


def test_a_half_turn_of_the_samples_is_told_from_one_of_the_flag(tmp_path: Path) -> None:
    bracket(tmp_path / "in", (1,) * 6)
    turned = np.ascontiguousarray(scene_frame(0.4)[::-1, ::-1])
    write_shot(tmp_path / "in" / "DSC_2.JPG", turned, replace(taken(META, 2), focus_distance_m=1 / 1.7), 3)
    stack = load_stack(import_stack([tmp_path / "in"], tmp_path / "out").folder)
    assert np.corrcoef(stack.frames[2].ravel(), stack.frames[3].ravel())[0, 1] > 0.85


def test_flags_flip_in_any_stack_that_is_loaded(tmp_path: Path) -> None:
    """Not on import alone: a list of frames that somebody made himself."""
    bracket(tmp_path / "in", (1, 1, 1, 1, 3, 1))
    rows = "".join(f"DSC_{n}.JPG,{d}\n" for n, d in enumerate(DIOPTERS))
    (tmp_path / "in" / "focus.csv").write_text("file,diopters\n" + rows)
    listing = read_listing(tmp_path / "in")
    assert [frame.orientation for frame in listing.frames] == [None] * 4 + [1, None]
    assert "orientation" in {finding.code for finding in verify(tmp_path / "in").findings}


def test_raw_frames_as_well(tmp_path: Path) -> None:
    frames = sensor_frames()
    paths = []
    for number, orientation in enumerate((1, 1, 8)):
        paths.append(tmp_path / f"{number}.dng")
        write_frame_dng(paths[-1], frames.composite, CROP, orientation=orientation)
    listed = [ListedFrame(path, 1.0 + n, 0.01, "given", n) for n, path in enumerate(paths)]
    turned, notes = with_one_orientation(listed)
    assert turned[2].orientation == 1 and "'2.dng' is flagged as orientation 8" in notes[0]
    assert read_light(paths[2], 1).image.shape == read_light(paths[0]).image.shape


def test_frames_that_cannot_be_read_are_left_to_whoever_reads_them(tmp_path: Path) -> None:
    bracket(tmp_path, (1, 1, 3, 1, 1, 1))
    (tmp_path / "DSC_4.JPG").write_bytes(b"no picture")
    listed = [ListedFrame(tmp_path / f"DSC_{n}.JPG", 1.0 + n, 0.01, "given", n) for n in range(7)]
    turned, notes = with_one_orientation(listed)
    assert [frame.orientation for frame in turned] == [None, None, 1, None, None, None, None] and len(notes) == 1
