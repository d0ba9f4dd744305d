"""Equalisation of the halves: it removes shading, keeps disparity, never clips and survives darkness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.support.halves import CROP, SensorFrames, sensor_frames, shift_between

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode
from dualpix.capture.raw.dng import write_dual_pixel_dng
from dualpix.capture.raw.shading import MAX_GAIN, self_gain, sheet_gain

Image = npt.NDArray[np.float32]


def save(path: Path, frames: SensorFrames) -> Path:
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, crop=CROP)
    return path


def white_sheet(shading: float) -> SensorFrames:
    flat = sensor_frames(shading=shading, disparity_px=0.0)
    light = flat.left + flat.right
    inside = light > 0
    scale = np.where(inside, 6000.0 / np.maximum(light, 1), 0)  # the texture divided out: an even sheet
    left, right = flat.left * scale, flat.right * scale
    composite, half = (np.round(v + 512).astype(np.uint16) for v in (left + right, left))
    return SensorFrames(composite, half, left.astype(np.float32), right.astype(np.float32), 0.0)


def column_ratio(left: Image, right: Image) -> Image:
    """Left / right of eight vertical bands."""
    bands = [(a.mean(), b.mean()) for a, b in zip(np.array_split(left, 8, 1), np.array_split(right, 8, 1), strict=True)]
    return np.array([a / b for a, b in bands], np.float32)


def test_white_sheet_removes_the_shading(tmp_path: Path) -> None:
    shot = save(tmp_path / "shot.dng", sensor_frames(shading=0.3))
    sheet = save(tmp_path / "white.dng", white_sheet(0.3))
    before = decode(shot, equalise=False)
    after = decode(shot, flat_field=(sheet, sheet))
    # The scene itself differs between the bands of both views by its disparity: measured without shading.
    scene = decode(save(tmp_path / "even.dng", sensor_frames()), equalise=False)
    assert np.ptp(column_ratio(before.left, before.right)) > 0.4
    error = column_ratio(after.left, after.right) / column_ratio(scene.left, scene.right) - 1
    assert np.abs(error).max() < 0.01
    assert "white sheet white.dng" in after.meta.provenance["equalised"]
    assert np.array_equal(after.combined, before.combined)


@pytest.mark.parametrize("shading", [-0.3, 0.3])
def test_views_alone_remove_most_of_it_and_keep_disparity(tmp_path: Path, shading: float) -> None:
    shot = save(tmp_path / "shot.dng", sensor_frames(shading=shading))
    before, after = decode(shot, equalise=False), decode(shot)
    assert np.ptp(column_ratio(after.left, after.right)) < 0.35 * np.ptp(column_ratio(before.left, before.right))
    assert shift_between(after.left, after.right)[0] == pytest.approx(3.0, abs=0.15)


def test_gain_of_the_swapped_halves_is_for_the_new_right(tmp_path: Path) -> None:
    shot = save(tmp_path / "shot.dng", sensor_frames(shading=0.3))
    sheet = save(tmp_path / "white.dng", white_sheet(0.3))
    plain, swapped = (decode(shot, flat_field=(sheet, sheet), swap=s) for s in (False, True))
    # left untouched in both: the swapped left is the plain right without its gain
    assert np.array_equal(swapped.left, decode(shot, equalise=False).right)
    ratio = np.median(swapped.right / swapped.left, axis=(0, 2)) * np.median(plain.right / plain.left, axis=(0, 2))
    assert np.abs(np.log(ratio)).max() < 0.15  # both are near 1 everywhere, not doubled


def test_nothing_is_clipped_at_white() -> None:
    left = np.full((60, 90), 0.9, np.float32)
    right = np.full((60, 90), 0.5, np.float32)
    right[30, 40] = 0.95
    gain = self_gain(left, right, np.zeros((60, 90), bool))
    assert float((right * gain)[30, 40]) > 1.5


def test_clipped_pixels_do_not_bias_the_gain() -> None:
    left = np.full((60, 90), 0.30, np.float32)
    right = left / 1.2
    mask = np.zeros((60, 90), bool)
    mask[:, :30] = True
    right[mask] = 0.05  # a derived half below a clipped composite
    gain = self_gain(left, right, mask)
    assert np.allclose(gain[:, 31:], 1.2, rtol=0.02)


def test_darkness_gives_no_gain() -> None:
    dark = np.zeros((40, 60), np.float32)
    assert np.allclose(self_gain(dark, dark, np.zeros((40, 60), bool)), 1)
    assert np.allclose(sheet_gain(dark, dark), 1)


@settings(max_examples=60, deadline=None)
@given(
    npst.array_shapes(min_dims=2, max_dims=2, min_side=4, max_side=40).flatmap(
        lambda shape: st.tuples(
            npst.arrays(np.float32, shape, elements=st.floats(-0.5, 4, width=32)),
            npst.arrays(np.float32, shape, elements=st.floats(-0.5, 4, width=32)),
            npst.arrays(np.bool_, shape),
        )
    )
)
def test_gain_is_always_finite_and_bounded(case: tuple[Image, Image, npt.NDArray[np.bool_]]) -> None:
    left, right, mask = case
    for gain in (self_gain(left, right, mask), sheet_gain(left, right)):
        assert gain.shape == left.shape and gain.dtype == np.float32
        assert np.isfinite(gain).all() and gain.min() >= 1 / MAX_GAIN and gain.max() <= MAX_GAIN


def test_sheet_of_another_size_and_contradiction(tmp_path: Path) -> None:
    shot = save(tmp_path / "shot.dng", sensor_frames())
    flat = sensor_frames()
    small = tmp_path / "small.dng"
    write_dual_pixel_dng(small, flat.composite[:100], flat.half[:100], white=16383)
    with pytest.raises(DecodeError, match=r"white sheet 'small.dng' has views of"):
        decode(shot, flat_field=(small, small))
    with pytest.raises(DecodeError, match="equalisation off"):
        decode(shot, flat_field=(shot, shot), equalise=False)
