"""A captured folder becomes one stack: decoded, of one aperture and exposure, in order, with its optics."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.support.stack_folders import ShotStack, rewritten, shoot_stack

from dualpix.capture import decode
from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.raw.write.dng import ViewDng, write_view_dng
from dualpix.capture.raw.write.writers import Coding
from dualpix.capture.stack.keep.frames import frame_meta, read_light
from dualpix.capture.stack.keep.load import load_stack, read_listing
from dualpix.capture.stack.keep.record import STACK
from dualpix.capture.types import CaptureMeta

STOPS = (0.3, 0.9, 1.6, 2.2)


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> ShotStack:
    place = tmp_path_factory.mktemp("load") / "stack"
    return shoot_stack(place, diopters=STOPS, f_numbers=(2.8, 5.6), all_in_focus=True, exposure=(1.0, 1.25, 1.0, 0.8))


def test_frames_are_the_combined_views_of_the_widest_aperture_in_order(shot: ShotStack) -> None:
    stack = load_stack(shot.folder)
    wide = [frame for frame in shot.record.frames if frame.f_number == 2.8]
    assert stack.frames.shape == (4, 128, 192, 3) and stack.frames.dtype == np.float32
    assert np.allclose(1 / stack.focus_distance_m, [frame.achieved_d for frame in wide])
    assert np.all(np.diff(stack.focus_distance_m) < 0)
    assert np.array_equal(stack.uncertainty_d, [frame.uncertainty_d for frame in wide])
    assert stack.provenance == ("calibration",) * 4
    view = decode(shot.folder / wide[0].files[0]).combined
    assert np.array_equal(stack.frames[0], view)  # the first frame keeps its light


def test_the_record_may_list_frames_in_any_order_of_focus(shot: ShotStack, tmp_path: Path) -> None:
    turned = [replace(f, achieved_d=2.5 - f.achieved_d) for f in shot.record.frames]
    rewritten(shot, turned)
    try:
        assert np.all(np.diff(load_stack(shot.folder).focus_distance_m) < 0)
    finally:
        rewritten(shot, shot.record.frames)


def test_exposures_are_made_equal_by_what_is_seen(shot: ShotStack) -> None:
    raw = [read_light(shot.folder / f.files[0]).image.mean() for f in shot.record.frames if f.f_number == 2.8]
    assert max(raw) / min(raw) > 1.4
    stack = load_stack(shot.folder)
    means = stack.frames.mean(axis=(1, 2, 3))
    assert np.allclose(means, means[0], rtol=0.01)
    assert stack.all_in_focus is not None
    assert stack.all_in_focus.mean() == pytest.approx(means[0], rel=0.02)


def test_a_stated_exposure_is_believed_where_all_is_clipped(tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(tmp_path / name), np.full((32, 40), 255, np.uint8))
    (tmp_path / "focus.csv").write_text(
        "file,diopters,exposure_s,iso,f_number\n0.png,0.5,0.1,100,4\n1.png,1.0,0.2,100,4\n"
    )
    assert load_stack(tmp_path).frames.mean(axis=(1, 2, 3)).tolist() == [1.0, 0.5]


def test_another_aperture_by_number_and_none_that_is_not_there(shot: ShotStack) -> None:
    assert load_stack(shot.folder, 5.6).lens.f_number == 5.6
    assert not np.array_equal(load_stack(shot.folder, 5.6).frames[3], load_stack(shot.folder).frames[3])
    with pytest.raises(DualpixError, match=r"no frames at f/4.*one of: 2.8, 5.6"):
        load_stack(shot.folder, 4.0)


def test_optics_come_from_the_files_and_follow_a_reduction(shot: ShotStack) -> None:
    lens = load_stack(shot.folder).lens
    assert (lens.focal_length_mm, lens.f_number, lens.pixel_pitch_um, lens.disparity_gain) == (50, 2.8, 100, 0.21)
    assert lens.focus_distance_m == pytest.approx(1 / 0.3, rel=1e-3)
    small = load_stack(shot.folder, max_side_px=96)
    assert small.frames.shape == (4, 64, 96, 3)
    assert small.lens.pixel_pitch_um == pytest.approx(200)


def test_pictures_without_optics_load_with_nan(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("00_D0.500.png", "01_D1.250.png", "02_D-0.020.png"):
        cv2.imwrite(str(tmp_path / name), rng.integers(1, 255, (40, 50, 3)).astype(np.uint8))
    stack = load_stack(tmp_path)
    assert stack.focus_distance_m.tolist() == [math.inf, 2.0, 0.8]  # beyond infinity is infinite
    assert math.isnan(stack.lens.focal_length_mm) and math.isnan(stack.lens.f_number)
    assert stack.uncertainty_d[0] == pytest.approx(0.52 / 4)
    assert all("assumed" in origin for origin in stack.provenance)


def test_eight_bits_are_srgb_and_sixteen_linear(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((16, 16, 3), 128, np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((16, 16, 3), 32768, np.uint16))
    assert read_light(tmp_path / "a.png").image[0, 0] == pytest.approx(0.2158605, abs=1e-4)
    assert read_light(tmp_path / "b.png").image[0, 0] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_an_ordinary_raw_of_any_phase_is_read(pattern: str, tmp_path: Path) -> None:
    light = np.empty((40, 60), np.float32)
    for place, colour in zip(((0, 0), (0, 1), (1, 0), (1, 1)), pattern, strict=True):
        light[place[0] :: 2, place[1] :: 2] = {"R": 0.1, "G": 0.3, "B": 0.6}[colour]
    meta = CaptureMeta(camera="Phone X", f_number=1.7, exposure_s=0.01, iso=50, focal_length_mm=6.9, orientation=1)
    how = ViewDng(Coding(16, black=4096), meta, (1.2, 1.2), pattern, (2.0, 1.0, 1.5), None, "a test")
    write_view_dng(tmp_path / "a.dng", light, how)
    found = read_light(tmp_path / "a.dng")
    assert np.allclose(found.image, [0.1, 0.3, 0.6], atol=2e-3)
    assert found.meta.f_number == 1.7 and found.binning == 2
    assert frame_meta(tmp_path / "a.dng").focal_length_mm == pytest.approx(6.9)


def test_what_is_wrong_is_said(shot: ShotStack, tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match="is no focus stack"):
        load_stack(tmp_path)
    with pytest.raises(DualpixError, match="is no focus stack"):
        load_stack(tmp_path / "nothing")
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(DualpixError, match="--resume"):
        read_listing(tmp_path)
    frames = list(shot.record.frames)
    try:
        rewritten(shot, [replace(f, achieved_d=0.5) for f in frames])
        with pytest.raises(DualpixError, match=r"both at 0.5000 D"):
            load_stack(shot.folder)
        rewritten(shot, [replace(f, achieved_d=-0.1 if f.index < 4 else f.achieved_d) for f in frames])
        with pytest.raises(DualpixError, match="beyond infinity"):
            load_stack(shot.folder)
        rewritten(shot, frames[:2])
        with pytest.raises(DualpixError, match="1 focus frames"):
            load_stack(shot.folder)
        rewritten(shot, [replace(f, files=("gone.dng",)) if f.index == 2 else f for f in frames])
        with pytest.raises(DecodeError, match=r"no file .*gone.dng"):
            load_stack(shot.folder)
    finally:
        rewritten(shot, frames)


def test_names_that_climb_out_of_the_folder_are_refused(shot: ShotStack, tmp_path: Path) -> None:
    text = (shot.folder / STACK).read_text().replace(shot.record.frames[0].files[0], "../../etc/passwd")
    (tmp_path / STACK).write_text(text)
    with pytest.raises(DualpixError, match="within the folder"):
        load_stack(tmp_path)
    other = tmp_path / "csv"
    other.mkdir()
    (other / "focus.csv").write_text("file,diopters\n../secret.png,1\n../other.png,2\n")
    with pytest.raises(DualpixError, match="within the folder"):
        load_stack(other)


def test_frames_of_different_sizes_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "00_D0.5.png"), np.full((40, 50), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "01_D1.0.png"), np.full((40, 60), 90, np.uint8))
    with pytest.raises(DualpixError, match=r"60x40 pixels.*50x40"):
        load_stack(tmp_path)


def test_more_than_memory_allows_is_refused(shot: ShotStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualpix.capture.stack.keep.load.MEMORY_LIMIT_BYTES", 1 << 20)
    with pytest.raises(DualpixError, match="max_side_px"):
        load_stack(shot.folder)
