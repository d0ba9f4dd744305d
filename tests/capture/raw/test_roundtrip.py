"""Every kind of dual-pixel raw through the decoder: what was written comes back, bit by bit where that is meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.cr2 import Shot
from tests.support.fixtures import (
    BODIES,
    FULL_SIZE,
    KINDS,
    Kind,
    Recipe,
    Truth,
    small_body,
    suffix,
    write,
    write_frames,
    write_full_size,
)
from tests.support.halves import shift_between

from dualpix.capture.raw import RawCapture, decode_capture
from dualpix.capture.raw.develop.geometry import Crop, upright
from dualpix.capture.raw.frames.libraw import read_frame

MADE_FILES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CAMERA_KINDS: tuple[Kind, ...] = ("CR2", "CR3", "C-RAW")
DNG_KINDS: tuple[Kind, ...] = ("DNG-strip", "DNG-strip-ljpeg", "DNG-tiles-ljpeg")


def made(folder: Path, recipe: Recipe) -> tuple[Truth, RawCapture]:
    path = folder / f"shot{suffix(recipe.kind)}"
    return write(path, recipe), decode_capture(path, layout="mosaic", equalise=False)


def assert_frames_exact(truth: Truth, capture: RawCapture, *, other_within: int = 0) -> None:
    """``other_within`` counts where the few masked samples are too noisy to tell the difference of blacks exactly."""
    frames = capture.frames()
    assert np.array_equal(frames["frame0"], truth.composite)
    assert np.array_equal(frames["frame1"], truth.half)
    assert np.abs(frames["other"] - truth.other).max() <= other_within


def assert_black_found(truth: Truth, capture: RawCapture) -> None:
    """The mean of n masked samples of noise s lies within 5 s / sqrt(n) of the level; rounding adds variance 1/12."""
    rows = truth.body.size_hw[0] - truth.crop.top
    samples = (rows // 2) * ((truth.crop.left - 12) // 2)
    tolerance = 5 * np.sqrt((truth.recipe.read_noise**2 + 1 / 12) / samples)
    assert set(capture.details["black_source"].values()) == {"masked columns"}
    for index, levels in enumerate(truth.black):
        assert capture.details["black"][f"frame{index}"] == pytest.approx(levels, abs=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_levels_crop_and_mask(tmp_path: Path, kind: Kind) -> None:
    truth, capture = made(tmp_path, Recipe(kind, black=(512, 509), highlight=2.0, shot_noise=0.3, stated_white=16383))
    assert_frames_exact(truth, capture)
    assert_black_found(truth, capture)
    crop = truth.crop
    expected = {"left": crop.left, "top": crop.top, "width": crop.width, "height": crop.height}
    assert capture.details["crop"] == expected
    assert 0.001 < capture.saturated.mean() < 0.1
    assert np.array_equal(capture.saturated, truth.saturated[truth.inside])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("iso", "black"),
    [
        (100, (512, 512)),
        (100, ((511, 512, 511, 512), (508, 510, 509, 507))),
        (12800, (2047, 2048)),
        (12800, ((2041, 2053, 2050, 2047), (2003, 2031, 2017, 2059))),
    ],
)
def test_black_of_each_channel_and_frame(tmp_path: Path, kind: Kind, iso: int, black: tuple) -> None:
    noise = 2.0 if iso == 100 else 6.0
    recipe = Recipe(kind, shot=Shot(iso=iso), black=black, stated_black=2048 if iso > 100 else 512, read_noise=noise)
    if kind in DNG_KINDS:
        recipe = replace(recipe, stated_black=None)  # a DNG states the levels of both frames
    truth, capture = made(tmp_path, recipe)
    assert_black_found(truth, capture)
    assert_frames_exact(truth, capture, other_within=0 if iso == 100 else 1)
    assert capture.meta.iso == iso


def test_views_are_the_light_of_the_halves(tmp_path: Path) -> None:
    """The derived half too, with blacks that differ by channel and frame: only rounding and measured black are left."""
    black = ((511, 514, 509, 512), (505, 517, 511, 508))
    for kind in KINDS:
        truth, capture = made(tmp_path, Recipe(kind, black=black, read_noise=0.0))
        counts = capture.details["white"] - np.mean(black[0])
        for name, light in (("left", truth.sensor.left), ("right", truth.sensor.right)):
            assert np.abs(capture.view(name) * counts - light[truth.inside]).max() < 1.01
        assert np.allclose(capture.view("combined"), capture.view("left") + capture.view("right"), atol=1e-6)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_orientation_turns_pictures_baseline_and_names(tmp_path: Path, kind: Kind, orientation: int) -> None:
    truth, capture = made(tmp_path, Recipe(kind, shot=Shot(orientation=orientation), read_noise=0.0))
    # The stored half is the left one as the sensor lies. Turned by 180 or 270 degrees its names change.
    stored, derived = ("right", "left") if orientation in (3, 8) else ("left", "right")
    white = capture.details["white"] - 512
    for name, light in ((stored, truth.sensor.left), (derived, truth.sensor.right)):
        expected = upright(light[truth.inside], orientation)
        assert capture.view(name).shape == expected.shape
        assert np.abs(capture.view(name) * white - expected).max() < 1.01
    assert capture.baseline == ("x" if orientation in (1, 3) else "y")
    assert capture.meta.orientation == orientation
    assert capture.size_hw == ((168, 256) if orientation in (1, 3) else (256, 168))
    image = decode_capture(tmp_path / f"shot{suffix(kind)}", equalise=False).image
    dx, dy = shift_between(image.left, image.right)
    along, across = (dx, dy) if orientation in (1, 3) else (dy, dx)
    assert along == pytest.approx(truth.sensor.disparity_px / 2, abs=0.1)  # half-size views
    assert across == pytest.approx(0, abs=0.1)


CLIPS = {
    "full range": (16383, 16383),
    "intermediate ISO": (13616, 13616),
    "frame 1 lower": (16383, 15200),
    "frame 1 lower in each channel": (16383, (15100, 14200, 14260, 15300)),
    "both by channel": ((13600, 13500, 13516, 13580), (13450, 12800, 12820, 13390)),
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("kind", CAMERA_KINDS)
@pytest.mark.parametrize("orientation", [1, 8])
def test_mask_is_what_clipped(tmp_path: Path, kind: Kind, clip: str, orientation: int) -> None:
    """So bright a light that both frames clip, each at levels of its own below the nominal white."""
    recipe = Recipe(kind, shot=Shot(orientation=orientation), clip=CLIPS[clip], highlight=9.0, shot_noise=0.3)
    truth, capture = made(tmp_path, recipe)
    assert (truth.half[truth.inside] == np.min(recipe.clip[1])).any()
    expected = truth.saturated[truth.inside]
    assert 0.002 < expected.mean() < 0.2
    assert np.array_equal(capture.saturated, upright(expected, orientation))
    cells = decode_capture(tmp_path / f"shot{suffix(kind)}", equalise=False).saturated
    height, width = expected.shape
    whole = expected.reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3))
    assert np.array_equal(cells, upright(whole, orientation))


@pytest.mark.parametrize("kind", CAMERA_KINDS)
def test_nothing_clipped_means_an_empty_mask(tmp_path: Path, kind: Kind) -> None:
    truth, capture = made(tmp_path, Recipe(kind, highlight=0.5, shot_noise=0.3))
    assert not truth.saturated.any()
    assert not capture.saturated.any()


@pytest.mark.parametrize("kind", DNG_KINDS)
def test_samples_above_the_stated_white_of_a_dng(tmp_path: Path, kind: Kind) -> None:
    """Converters state 14008 of sensors that go on to 16383: above it, but not piled up, nothing has clipped."""
    truth, capture = made(tmp_path, Recipe(kind, highlight=2.0, shot_noise=0.3, stated_white=14008))
    inside = truth.composite[truth.inside]
    assert ((inside > 14008) & (inside < 16383)).any()
    assert np.array_equal(capture.saturated, truth.saturated[truth.inside])


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", DNG_KINDS)
def test_bit_depths_of_dng(tmp_path: Path, kind: Kind, bits: int) -> None:
    white = (1 << bits) - 1
    recipe = Recipe(
        kind,
        bits=bits,
        black=(white // 16, white // 16 + 1),
        clip=(white, white),
        stated_white=white,
        full=white * 0.3,
        read_noise=1.0,
        highlight=2.0,
    )
    truth, capture = made(tmp_path, recipe)
    assert_frames_exact(truth, capture)
    assert np.array_equal(capture.saturated, truth.saturated[truth.inside])
    assert capture.details["white"] == white
    assert 0.3 < float(capture.view("combined").max()) < 1.1


@pytest.mark.parametrize(
    ("slices", "components"), [((1, 144, 144), 4), ((2, 96, 96), 4), ((5, 52, 28), 2), ((0, 0, 0), 2)]
)
def test_slices_of_cr2(tmp_path: Path, slices: tuple[int, int, int], components: int) -> None:
    recipe = Recipe("CR2", slices=slices if slices[0] else (0, 288, 288), components=components)
    assert_frames_exact(*made(tmp_path, recipe))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Any kind at any small even size, with its smallest tiles and odd edges among them."""
    kind = draw(st.sampled_from(KINDS))
    height, width = 2 * draw(st.integers(50, 80)), 2 * draw(st.integers(60, 110))
    if kind == "CR2":
        width = width // 4 * 4  # pairs of pixels in each of two slices
    black = draw(st.integers(450, 2100))
    left, top = 2 * draw(st.integers(16, 24)), 2 * draw(st.integers(0, 8))
    crop = Crop(left, top, width - left - 2 * draw(st.integers(0, 4)), height - top - 2 * draw(st.integers(0, 4)))
    return Recipe(
        kind,
        small_body(kind, (height, width), crop),
        Shot(orientation=draw(st.integers(1, 8))),
        black=(black, black + draw(st.integers(-60, 60))),
        stated_white=16383,
        highlight=draw(st.sampled_from([0.0, 2.0])),
        disparity_px=draw(st.floats(-8, 8)),
        shading=draw(st.floats(-0.5, 0.5)),
        tile_wh=(2 * draw(st.integers(16, 60)), 2 * draw(st.integers(16, 50))),
        tile_columns=draw(st.integers(1, 2)),
        components=draw(st.sampled_from([2, 4])) if width > height else 2,
        seed=draw(st.integers(0, 99)),
    )


@MADE_FILES
@given(recipes())
def test_any_size_tiling_and_crop(tmp_path: Path, recipe: Recipe) -> None:
    truth, capture = made(tmp_path, recipe)
    assert_frames_exact(truth, capture)
    assert np.array_equal(capture.saturated, upright(truth.saturated[truth.inside], recipe.shot.orientation))


@pytest.mark.parametrize("kind", KINDS)
def test_smallest_file(tmp_path: Path, kind: Kind) -> None:
    """The least the codecs allow: 44 pixels to a CRX tile. Its border is too narrow to measure black on."""
    body = small_body(kind, (48, 92), Crop(8, 4, 80, 40))
    recipe = Recipe(kind, body, tile_wh=(32, 16), black=(512, 512))
    truth, capture = made(tmp_path, recipe)
    assert_frames_exact(truth, capture)
    assert set(capture.details["black_source"].values()) == {"metadata"}
    assert capture.size_hw == (40, 80)


def test_focus_distance_lens_and_flag_of_the_notes(tmp_path: Path) -> None:
    for kind in CAMERA_KINDS:
        shot = Shot(lens="RF50mm F1.2 L USM", focus_m=(2.41, 2.12))
        _, capture = made(tmp_path, Recipe(kind, shot=shot))
        assert capture.meta.focus_distance_m == pytest.approx(2 / (1 / 2.41 + 1 / 2.12), rel=0.02)
        assert any("C-RAW" in line for line in capture.warnings) == (kind == "C-RAW")


def test_coarse_c_raw_costs_the_halves_a_few_counts(tmp_path: Path) -> None:
    truth, capture = made(tmp_path, Recipe("C-RAW", quantiser=16, shot_noise=0.3, black=(512, 509)))
    frames = capture.frames()
    for name, exact in (("frame0", truth.composite), ("frame1", truth.half)):
        difference = frames[name].astype(int) - exact
        assert 0.5 < difference.std() < 2  # a step of 4 counts
    assert 1.2 * difference.std() < (frames["other"] - truth.other).std() < 2.8  # both errors meet in the derived half
    for index, levels in enumerate(truth.black):
        # The error of a coefficient spreads over all of so narrow a border.
        assert capture.details["black"][f"frame{index}"] == pytest.approx(levels, abs=1.5)


@pytest.mark.parametrize("kind", ["CR2", "CR3", "DNG-tiles-ljpeg"])
def test_mid_size(tmp_path: Path, kind: Kind) -> None:
    body = small_body(kind, (1000, 1500), Crop(148, 54, 1340, 930))
    recipe = Recipe(kind, body, black=(2047, 2039), stated_white=16383, highlight=2.0, shading=0.2, shot_noise=0.25)
    truth, capture = made(tmp_path, replace(recipe, tile_wh=(256, 256)))
    assert_frames_exact(truth, capture)
    assert_black_found(truth, capture)
    assert np.array_equal(capture.saturated, truth.saturated[truth.inside])


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FULL_SIZE))
def test_full_size(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"full{suffix(kind)}"
    truth = write_full_size(kind, path, seed=1)
    capture = decode_capture(path, layout="mosaic", equalise=False)
    assert_frames_exact(truth, capture)
    assert_black_found(truth, capture)
    crop = BODIES[FULL_SIZE[kind]].crop
    assert capture.details["crop"] == {"left": crop.left, "top": crop.top, "width": crop.width, "height": crop.height}
    assert np.array_equal(capture.saturated, truth.saturated[truth.inside])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["R5", "R6 II", "R7"])
def test_full_size_of_other_bodies(tmp_path: Path, name: str) -> None:
    """R5 and R7 are not, R6 II is in LibRaw's list of sizes whose black it measures itself."""
    recipe = Recipe("CR3", BODIES[name], black=(2047, 2036), highlight=2.0, shot_noise=0.25)
    truth, capture = made(tmp_path, recipe)
    assert_frames_exact(truth, capture)
    assert_black_found(truth, capture)
    assert np.array_equal(capture.saturated, truth.saturated[truth.inside])
    assert capture.meta.camera == BODIES[name].model


def test_read_frame_is_the_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 16384, (192, 288)).astype(np.uint16) for _ in range(2)]
    for kind in KINDS:
        path = tmp_path / f"noise{suffix(kind)}"
        write_frames(path, Recipe(kind), frames[0], frames[1])
        assert all(np.array_equal(read_frame(path, index).samples, frames[index]) for index in (0, 1))
