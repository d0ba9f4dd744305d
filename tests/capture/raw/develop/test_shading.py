"""Equalisation of the halves: it removes shading, keeps disparity, never clips and survives darkness."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.support.halves import CROP, SensorFrames, sensor_frames, shift_between

from dualpix.capture.cameras import SimulatedCamera, SimulatedSensor
from dualpix.capture.errors import DecodeError
from dualpix.capture.profiles.half_gain import MAX_GAIN, Gain, gain_of
from dualpix.capture.raw import decode, decode_capture
from dualpix.capture.raw.develop.shading import refined_gain, self_gain, sheet_gain
from dualpix.capture.raw.write.dng import write_dual_pixel_dng

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


def column_ratio(left: Image, right: Image, bands: int = 16) -> Image:
    """Left / right of vertical bands."""
    parts = zip(np.array_split(left, bands, 1), np.array_split(right, bands, 1), strict=True)
    return np.array([a.mean() / b.mean() for a, b in parts], np.float32)


def bands_of(log_gain: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Mean of 16 vertical bands."""
    return np.array([b.mean() for b in np.array_split(log_gain, 16, 1)])


def lens_shading(height: int, width: int) -> npt.NDArray[np.float64]:
    """log(left / right) as strong and as curved as a Pixel 4's, with the terms of an R6 II's corners."""
    x, y = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    return 0.17 + 0.1 * x + 0.03 * x**2 - 0.4 * x**3 - 0.25 * x * y**2


def test_white_sheet_removes_the_shading(tmp_path: Path) -> None:
    shot = save(tmp_path / "shot.dng", sensor_frames(shading=0.3))
    sheet = save(tmp_path / "white.dng", white_sheet(0.3))
    before = decode(shot, equalise=False)
    after = decode(shot, flat_field=(sheet, sheet))
    # The scene itself differs between the bands of both views by its disparity: measured without shading.
    scene = decode(save(tmp_path / "even.dng", sensor_frames()), equalise=False)
    assert np.ptp(column_ratio(before.left, before.right)) > 0.5
    error = column_ratio(after.left, after.right) / column_ratio(scene.left, scene.right) - 1
    assert np.abs(error).max() < 0.01
    assert "white sheet white.dng" in after.meta.provenance["equalised"]
    assert np.array_equal(after.combined, before.combined)


@pytest.mark.parametrize("shading", [-0.3, 0.3])
def test_views_alone_remove_it_and_keep_disparity(tmp_path: Path, shading: float) -> None:
    """On a picture of 128x84 with a disparity of 2.3 % of its width: ten times what cameras have."""
    shot = save(tmp_path / "shot.dng", sensor_frames(shading=shading))
    scene = decode(save(tmp_path / "even.dng", sensor_frames()), equalise=False)
    after = decode(shot)
    error = column_ratio(after.left, after.right) / column_ratio(scene.left, scene.right) - 1
    assert np.abs(error).max() < 0.03
    assert shift_between(after.left, after.right)[0] == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("seed", [100, 102])
def test_views_alone_find_the_simulated_lens(tmp_path: Path, seed: int) -> None:
    """Band error of the gain; the simulated camera has a linear tilt, to which a real lens's shading is added."""
    sensor = SimulatedSensor(size_hw=(384, 512))
    shot = SimulatedCamera(sensor=sensor).shoot(tmp_path / "shot.dng", seed)
    capture = decode_capture(shot.path, equalise=False)
    left, right = capture.view("left"), capture.view("right")
    height, width = capture.size_hw
    tilt = sensor.shading * np.linspace(1, -1, width)[None]
    added = lens_shading(height, width)[..., None].astype(np.float32)
    truth = np.log((1 + tilt) / (1 - tilt)) + added[..., 0]
    gain = self_gain(left * np.exp(added / 2), right * np.exp(-added / 2), (~capture.saturated).astype(np.float32))
    assert gain.grid.shape == (height, width, 3)
    error = np.log(gain.grid[..., 1]) - truth
    assert np.sqrt(np.mean(error**2)) < 0.006
    assert np.abs(bands_of(error)).max() < 0.01 < 0.5 < np.abs(bands_of(truth)).max()


def test_disparity_is_not_taken_for_shading() -> None:
    """One strong edge in an even scene; the ratio of box means would bend there by some percent."""
    x = np.arange(256, dtype=np.float32)

    def edge(at: float) -> Image:
        return np.repeat((0.2 + 0.6 / (1 + np.exp(-(x - at) / 3)))[None], 192, 0).astype(np.float32)

    left, right, valid = edge(128 - 1.0), edge(128 + 1.0), np.ones((192, 256), np.float32)
    assert np.abs(np.log(column_ratio(left, right))).max() > 0.05
    assert np.abs(np.log(self_gain(left, right, valid).grid)).max() < 0.005


def test_along_y_it_is_the_same_turned() -> None:
    rng = np.random.default_rng(3)
    scene = cv2.GaussianBlur(rng.random((96, 128), np.float32), (0, 0), 3) + np.float32(0.1)
    tilt = np.exp(lens_shading(96, 128) / 2).astype(np.float32)
    along_x = self_gain(scene * tilt, scene / tilt, np.ones_like(scene)).grid
    along_y = self_gain((scene * tilt).T, (scene / tilt).T, np.ones_like(scene).T, "y").grid
    assert np.allclose(along_x.swapaxes(0, 1), along_y, rtol=1e-6)
    assert np.sqrt(np.mean((np.log(along_x[..., 0]) - lens_shading(96, 128)) ** 2)) < 0.006


def test_a_sheet_of_another_focus_is_refined() -> None:
    rng = np.random.default_rng(4)
    scene = cv2.GaussianBlur(rng.random((192, 256), np.float32), (0, 0), 4)
    x = np.linspace(-1, 1, 256, dtype=np.float32)[None, :, None]
    # steeper at the border than the fit of the views alone can follow
    sheet = gain_of(np.repeat(0.2 + 0.1 * x - 0.3 * x**15, 192, 0), "white sheet")
    truth = np.log(sheet.grid[..., 0]) + 0.05 * x[..., 0]
    left, right = scene * np.exp(truth / 2), scene * np.exp(-truth / 2)
    valid = np.ones_like(scene)
    errors = [
        np.abs(bands_of(np.log(g.grid[..., 0]) - truth)).max()
        for g in (sheet, self_gain(left, right, valid), refined_gain(sheet, left, right, valid))
    ]
    assert errors[0] > 0.04 and errors[1] > 0.01 and errors[2] < 0.002


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
    gain = self_gain(left, right, np.ones((60, 90), np.float32))
    assert float((right * gain.at((60, 90))[..., 0])[30, 40]) > 1.5


def test_clipped_pixels_do_not_bias_the_gain() -> None:
    left = np.full((60, 90), 0.30, np.float32)
    right = left / 1.2
    valid = np.ones((60, 90), np.float32)
    valid[:, :30] = 0
    right[:, :30] = 0.05  # a derived half below a clipped composite
    assert np.allclose(self_gain(left, right, valid).grid[:, 30:], 1.2, rtol=0.005)


def test_darkness_gives_no_gain() -> None:
    dark = np.zeros((40, 60), np.float32)
    assert np.allclose(self_gain(dark, dark, np.ones_like(dark)).grid, 1)
    assert np.allclose(self_gain(dark + 0.3, dark + 0.1, dark).grid, 1)  # all saturated
    assert np.allclose(sheet_gain(dark, dark).grid, 1)


@settings(max_examples=60, deadline=None)
@given(
    npst.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=40)
    .map(lambda shape: (*shape[:2], 3) if len(shape) == 3 else shape)
    .flatmap(
        lambda shape: st.tuples(
            npst.arrays(np.float32, shape, elements=st.floats(-0.5, 4, width=32)),
            npst.arrays(np.float32, shape, elements=st.floats(-0.5, 4, width=32)),
            npst.arrays(np.float32, shape[:2], elements=st.sampled_from([0.0, 0.5, 1.0])),
        )
    )
)
def test_gain_is_always_finite_and_bounded(case: tuple[Image, Image, Image]) -> None:
    left, right, valid = case
    for gain in (self_gain(left, right, valid), sheet_gain(left, right)):
        grid = gain.grid
        assert grid.shape == (*left.shape[:2], 3 if left.ndim == 3 else 1) and grid.dtype == np.float32
        assert np.isfinite(grid).all() and grid.min() >= 1 / MAX_GAIN and grid.max() <= MAX_GAIN


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3])),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(0, 89),
    st.integers(1, 40),
)
def test_rows_are_those_of_the_whole(
    shape: tuple[int, int, int], size_hw: tuple[int, int], top: int, count: int
) -> None:
    gain = Gain(np.random.default_rng(0).random(shape).astype(np.float32), "test")
    rows = slice(min(top, size_hw[0] - 1), min(top + count, size_hw[0]))
    whole = gain.at(size_hw)
    assert whole.shape == (*size_hw, shape[2])
    assert np.array_equal(gain.at(size_hw, rows), whole[rows])
    plain = cv2.resize(gain.grid, size_hw[::-1], interpolation=cv2.INTER_LINEAR).reshape(whole.shape)
    assert np.allclose(whole, plain, atol=1e-5)


def test_sheet_of_another_size_and_contradiction(tmp_path: Path) -> None:
    shot = save(tmp_path / "shot.dng", sensor_frames())
    flat = sensor_frames()
    small = tmp_path / "small.dng"
    write_dual_pixel_dng(small, flat.composite[:100], flat.half[:100], white=16383)
    with pytest.raises(DecodeError, match=r"white sheet 'small.dng'"):
        decode(shot, flat_field=(small, small))
    with pytest.raises(DecodeError, match="equalisation off"):
        decode(shot, flat_field=(shot, shot), equalise=False)
