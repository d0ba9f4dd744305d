"""Left and right by the sign of the disparity: only when asked or known, and only when clear."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.cr2 import Shot, write_cr2
from tests.support.halves import CROP, SensorFrames, sensor_frames

from dualpix.capture.raw import decode
from dualpix.capture.raw.develop.naming import SignEvidence
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.types import CaptureMeta


@pytest.fixture(scope="module")
def behind() -> SensorFrames:
    return sensor_frames(disparity_px=6.0)


def test_named_by_what_the_lens_was_focused_on(tmp_path: Path, behind: SensorFrames) -> None:
    write_cr2(tmp_path / "a.CR2", behind.composite, behind.half, CROP)
    plain = decode(tmp_path / "a.CR2", equalise=False)
    assert "assumed" in plain.meta.provenance["left"] and "naming" not in plain.meta.provenance
    nearest = decode(tmp_path / "a.CR2", equalise=False, focused_on="nearest")
    assert "as named" in nearest.meta.provenance["naming"]
    assert np.array_equal(nearest.left, plain.left)
    farthest = decode(tmp_path / "a.CR2", equalise=False, focused_on="farthest")
    assert "exchanged" in farthest.meta.provenance["naming"]
    assert np.array_equal(farthest.left, plain.right)
    assert farthest.meta.provenance["right"].startswith("frame 1")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_naming_is_independent_of_how_the_camera_was_held(
    tmp_path: Path, behind: SensorFrames, orientation: int
) -> None:
    write_cr2(tmp_path / "a.CR2", behind.composite, behind.half, CROP, Shot(orientation=orientation))
    read = decode(tmp_path / "a.CR2", focused_on="farthest")
    assert "exchanged" in read.meta.provenance["naming"]


def test_a_lens_at_infinity_decides_by_itself_unless_the_file_says_the_half(
    tmp_path: Path, behind: SensorFrames
) -> None:
    meta = CaptureMeta(focus_distance_m=math.inf)
    path = tmp_path / "a.dng"
    write_dual_pixel_dng(path, behind.composite, behind.half, white=16383, crop=CROP, meta=meta, half_side="left")
    assert "naming" not in decode(path).meta.provenance
    data = path.read_bytes()
    assert data.count(b'"half"') == 1
    path.write_bytes(data.replace(b'"half"', b'"flah"'))  # the same file, silent about its half
    assert "exchanged" in decode(path).meta.provenance["naming"]
    assert "naming" not in decode(path, swap=True).meta.provenance


def test_unclear_signs_change_nothing(tmp_path: Path) -> None:
    flat = sensor_frames(disparity_px=0.0)
    write_cr2(tmp_path / "a.CR2", flat.composite, flat.half, CROP)
    read = decode(tmp_path / "a.CR2", focused_on="farthest")
    assert "unclear" in read.meta.provenance["naming"]
    assert read.meta.provenance["left"].startswith("frame 1")


def test_verdicts() -> None:
    assert SignEvidence(0.3, 0.95).verdict("nearest") == "as named"
    assert SignEvidence(0.3, 0.95).verdict("farthest") == "exchanged"
    assert SignEvidence(0.3, 0.05).verdict("farthest") == "as named"
    assert SignEvidence(0.3, 0.6).verdict("farthest") == "unclear"
    assert SignEvidence(0.01, 1.0).verdict("farthest") == "unclear"


@pytest.mark.parametrize("name", ["001", "002", "003", "004", "005"])
def test_real_pixel_scenes_focused_on_the_nearest_thing_agree_with_their_names(
    shared_data: Callable[[str], Path], name: str
) -> None:
    read = decode(shared_data("pixel4_xin2021") / f"{name}_left.png", focused_on="nearest")
    assert "as named" in read.meta.provenance["naming"]


def test_real_canon_flats_on_either_side_of_the_focus(shared_data: Callable[[str], Path]) -> None:
    """Planes at 0.6 m and 1.5 m of a lens focused at 1 m: in front, behind."""
    folder = shared_data("canon_r6m2_dp119")
    near = decode(folder / "flat_0600mm_f4_l.png", focused_on="farthest")
    far = decode(folder / "flat_1500mm_f4_l.png", focused_on="nearest")
    assert all("as named" in image.meta.provenance["naming"] for image in (near, far))
