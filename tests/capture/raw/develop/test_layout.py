"""Layouts: what each pixel holds, superposition of the halves, masks, strips, pitch, colour, rotation."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cr2 import Shot, write_cr2
from tests.support.halves import CROP, sensor_frames

from dualpix.capture.raw import decode, decode_capture
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.develop.layout import (
    LAYOUTS,
    STRIP_ROWS,
    Layout,
    develop,
    develop_mask,
    malvar,
    strips,
    thumbnail,
    view_shape,
)
from dualpix.capture.raw.develop.planes import CELL, Plane
from dualpix.capture.raw.write.dng import write_dual_pixel_dng

BLACK = (512.25, 511.5, 512.0, 510.0)


def plane_of(height: int, width: int, seed: int = 0, dtype: type = np.uint16) -> Plane:
    samples = np.random.default_rng(seed).integers(-900 if dtype is np.int16 else 400, 16000, (height, width))
    return Plane(samples.astype(dtype), BLACK, 1 / 15871, mosaic=True)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32])
def test_what_each_layout_holds(dtype: type) -> None:
    plane = plane_of(8, 12, dtype=dtype)
    red, green1, green2, blue = (
        (plane.samples[r::2, c::2].astype(np.float64) - black) * plane.scale
        for black, (r, c) in zip(BLACK, CELL, strict=True)
    )
    mean = (green1 + green2) / 2
    assert np.allclose(develop(plane, "superpixel"), np.stack([red, mean, blue], axis=-1), atol=1e-6)
    assert np.allclose(develop(plane, "green"), mean, atol=1e-6)
    mosaic = develop(plane, "mosaic")
    for values, (r, c) in zip((red, green1, green2, blue), CELL, strict=True):
        assert np.allclose(mosaic[r::2, c::2], values, atol=1e-6)
    colour = develop(plane, "rgb")
    for channel, values, (r, c) in zip((0, 1, 1, 2), (red, green1, green2, blue), CELL, strict=True):
        assert np.allclose(colour[r::2, c::2, channel], values, atol=1e-6)  # the measured sample stays


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 100), columns=st.integers(2, 40), layout=st.sampled_from(LAYOUTS))
def test_strips_give_the_same_numbers_as_the_whole(rows: int, columns: int, layout: Layout) -> None:
    plane = plane_of(2 * rows, 2 * columns)
    whole = develop(plane, layout)
    assert whole.shape == view_shape(plane, layout)
    joined = np.concatenate([develop(plane, layout, part) for part, _ in strips(plane, layout)])
    assert np.array_equal(joined, whole)
    assert [view.start for _, view in strips(plane, layout)][:2] != [0, 0]
    assert (2 * rows > STRIP_ROWS) == (len(list(strips(plane, layout))) > 1)


def slow_malvar(mosaic: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Equations 2 to 4 of Malvar et al. 2004 sample by sample: bilinear plus a gain times the local Laplacian."""
    padded = np.pad(mosaic.astype(np.float64), 2, mode="reflect")
    out = np.zeros((*mosaic.shape, 3))
    for y, x in product(range(mosaic.shape[0]), range(mosaic.shape[1])):
        v = padded[y : y + 5, x : x + 5]
        cross = (v[1, 2] + v[3, 2] + v[2, 1] + v[2, 3]) / 4
        corners = (v[1, 1] + v[1, 3] + v[3, 1] + v[3, 3]) / 4
        far = (v[0, 2] + v[4, 2] + v[2, 0] + v[2, 4]) / 4
        sides = (v[2, 1] + v[2, 3]) / 2
        ends = (v[1, 2] + v[3, 2]) / 2
        kind = (y % 2, x % 2)
        if kind in ((0, 0), (1, 1)):  # red or blue: alpha = 1/2, gamma = 3/4
            laplacian = v[2, 2] - far
            own, other = (0, 2) if kind == (0, 0) else (2, 0)
            out[y, x, own], out[y, x, 1] = v[2, 2], cross + laplacian / 2
            out[y, x, other] = corners + 0.75 * laplacian
        else:  # green: beta = 5/8
            wide = 4 / 5 * corners + (v[2, 0] + v[2, 4]) / 5 - (v[0, 2] + v[4, 2]) / 10
            tall = 4 / 5 * corners + (v[0, 2] + v[4, 2]) / 5 - (v[2, 0] + v[2, 4]) / 10
            beside, above = (0, 2) if kind == (0, 1) else (2, 0)
            out[y, x, 1] = v[2, 2]
            out[y, x, beside] = sides + 5 / 8 * (v[2, 2] - wide)
            out[y, x, above] = ends + 5 / 8 * (v[2, 2] - tall)
    return out


def test_demosaicing_is_that_of_malvar_et_al() -> None:
    mosaic = np.random.default_rng(1).random((10, 14)).astype(np.float32)
    assert np.allclose(malvar(mosaic), slow_malvar(mosaic), atol=1e-6)


def test_a_linear_ramp_is_demosaiced_exactly_inside() -> None:
    y, x = np.mgrid[0:24, 0:32].astype(np.float32)
    ramp = 0.01 * x + 0.02 * y
    assert np.allclose(malvar(ramp)[4:-4, 4:-4], np.repeat(ramp[4:-4, 4:-4, None], 3, axis=2), atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_left_and_right_add_up_to_combined(tmp_path: Path, layout: Layout) -> None:
    frames = sensor_frames(black=(512, 498))
    write_cr2(tmp_path / "a.CR2", frames.composite, frames.half, CROP)
    image = decode(tmp_path / "a.CR2", equalise=False, layout=layout)
    assert np.allclose(image.left + image.right, image.combined, atol=2e-6)


def test_masks_mark_every_pixel_a_clipped_sample_went_into() -> None:
    saturated = np.zeros((12, 12), bool)
    saturated[4, 7] = True  # a green
    assert np.argwhere(develop_mask(saturated, True, "mosaic")).tolist() == [[4, 7]]
    assert np.argwhere(develop_mask(saturated, True, "green")).tolist() == [[2, 3]]
    assert np.argwhere(develop_mask(saturated, True, "superpixel")).tolist() == [[2, 3]]
    red = np.zeros((12, 12), bool)
    red[4, 6] = True
    assert not develop_mask(red, True, "green").any()
    assert develop_mask(red, True, "superpixel")[2, 3]
    # Wherever one changed sample changes a demosaiced pixel, the mask says so.
    for y, x in product(range(12), range(12)):
        one = np.zeros((12, 12), np.float32)
        one[y, x] = 1
        touched = np.abs(malvar(one)).max(axis=2) > 1e-7
        assert not (touched & ~develop_mask(one > 0, True, "rgb")).any()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_orientation_in_every_layout(tmp_path: Path, orientation: int, layout: Layout) -> None:
    frames = sensor_frames()
    paths = [tmp_path / "lying.CR2", tmp_path / "turned.CR2"]
    for path, value in zip(paths, (1, orientation), strict=True):
        write_cr2(path, frames.composite, frames.half, CROP, Shot(orientation=value))
    lying, turned = (decode_capture(path, equalise=False, layout=layout) for path in paths)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert np.array_equal(turned.view("combined"), np.rot90(lying.view("combined"), turns))
    assert np.array_equal(turned.saturated, np.rot90(lying.saturated, turns))
    assert turned.view("left").shape == turned.shape
    exchanged = orientation in (3, 8)
    assert np.array_equal(turned.view("left"), np.rot90(lying.view("right" if exchanged else "left"), turns))
    if layout == "mosaic":
        assert turned.cfa == {1: "RGGB", 3: "BGGR", 6: "GRBG", 8: "GBRG"}[orientation]


def test_pitch_follows_the_layout(tmp_path: Path) -> None:
    frames = sensor_frames()
    write_cr2(tmp_path / "a.CR2", frames.composite, frames.half, CROP)
    pitch = {layout: decode_capture(tmp_path / "a.CR2", layout=layout).meta.pixel_pitch_um for layout in LAYOUTS}
    assert pitch["mosaic"] and pitch["rgb"] == pitch["mosaic"]
    assert pitch["superpixel"] == pitch["green"] == 2 * pitch["mosaic"]


def test_gains_reach_the_right_samples_of_a_mosaic(tmp_path: Path) -> None:
    """Equalising the mosaic and then taking superpixels is the same as equalising superpixels, up to interpolation."""
    frames = sensor_frames(shading=0.3)
    write_dual_pixel_dng(tmp_path / "a.dng", frames.composite, frames.half, white=16383, crop=Crop(24, 16, 256, 168))
    mosaic = decode(tmp_path / "a.dng", layout="mosaic").right
    views = decode(tmp_path / "a.dng").right
    assert np.allclose(mosaic[0::2, 0::2], views[..., 0], rtol=0.01, atol=1e-4)
    assert np.allclose((mosaic[0::2, 1::2] + mosaic[1::2, 0::2]) / 2, views[..., 1], rtol=0.01, atol=1e-4)
    assert np.allclose(mosaic[1::2, 1::2], views[..., 2], rtol=0.01, atol=1e-4)


def test_srgb_makes_a_grey_card_grey(tmp_path: Path) -> None:
    """A white-balanced grey must stay grey under the colour matrix, and the matrix must be used."""
    frames = sensor_frames(read_noise=0)
    neutral = (0.5, 1.0, 0.7)
    grey = np.tile(np.array([[0.5, 1.0], [1.0, 0.7]]), (96, 144)) * 3000
    half = (grey + 512).round().astype(np.uint16)
    write_dual_pixel_dng(
        tmp_path / "a.dng", 2 * half - np.uint16(512), half, white=16383, crop=CROP, as_shot_neutral=neutral
    )
    assert frames.composite.shape == half.shape
    camera = decode(tmp_path / "a.dng", layout="rgb", colour="camera", equalise=False).combined
    colour = decode(tmp_path / "a.dng", layout="rgb", equalise=False).combined
    assert np.allclose(camera.mean(axis=(0, 1)) / camera[..., 1].mean(), neutral, atol=0.002)
    means = colour.mean(axis=(0, 1))
    assert np.allclose(means / means[1], 1, atol=0.003)


def test_a_layout_for_mosaics_is_said_not_to_apply_to_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        np.save(tmp_path / f"a_{side}.npy", rng.random((20, 30)).astype(np.float32))
    capture = decode_capture(tmp_path / "a_left.npy", layout="rgb")
    assert capture.layout is None and any("layout 'rgb'" in line for line in capture.warnings)
    assert capture.view("left").shape == (20, 30)
    assert not decode_capture(tmp_path / "a_left.npy").warnings


def test_thumbnails_are_means_of_unsaturated_light() -> None:
    plane = plane_of(64, 96)
    saturated = np.zeros((64, 96), bool)
    saturated[:16, :16] = True
    light, valid = thumbnail(plane, saturated, long_side=12)  # blocks of 4 superpixels
    whole = develop(plane, "superpixel")
    assert light.shape == (8, 12, 3) and valid.shape == (8, 12)
    assert np.allclose(light[2:, :], whole.reshape(8, 4, 12, 4, 3).mean(axis=(1, 3))[2:], atol=1e-6)
    assert (valid[:2, :2] == 0).all() and (valid[2:] == 1).all() and (light[:2, :2] == 0).all()
