"""Canon CR2 and CR3 and dual-pixel DNG: frames, levels, crop, mask, sign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.support.cr2 import Shot, write_cr2
from tests.support.cr3 import write_cr3
from tests.support.crx import encode_track
from tests.support.dng import write_tiled_dng
from tests.support.halves import CROP, SIZE_HW, sensor_frames, shift_between

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode, decode_capture
from dualpix.capture.raw.develop.geometry import Crop, upright, upright_baseline
from dualpix.capture.raw.formats.canon import clip_levels
from dualpix.capture.raw.frames.libraw import read_frame
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.types import CaptureMeta

Frame = npt.NDArray[np.uint16]
Writer = Callable[..., None]


def write_dng(path: Path, composite: Frame, half: Frame, crop: Crop, shot: Shot | None = None) -> None:
    shot = shot or Shot()
    meta = CaptureMeta(orientation=shot.orientation, pixel_pitch_um=2 * shot.pitch_um)
    levels = (shot.black, shot.black)
    write_dual_pixel_dng(path, composite, half, white=16383, black=levels, crop=crop, meta=meta, model="Canon EOS X")


FORMATS = {"CR2": write_cr2, "CR3": write_cr3, "DNG": write_dng}


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_frames_are_bit_exact(tmp_path: Path, kind: str) -> None:
    truth = sensor_frames(highlight=2.0, black=(512, 530))
    path = tmp_path / f"shot.{kind}"
    FORMATS[kind](path, truth.composite, truth.half, CROP)
    frames = decode_capture(path).frames()
    assert np.array_equal(frames["frame0"], truth.composite)
    assert np.array_equal(frames["frame1"], truth.half)
    assert frames["other"].dtype == np.int32
    expected = truth.composite.astype(np.int32) - truth.half - (512 - 530)
    assert np.array_equal(frames["other"], expected)


def test_lossless_jpeg_tiles_of_adobes_converter(tmp_path: Path) -> None:
    truth = sensor_frames(highlight=2.0)
    path = tmp_path / "tiled.dng"
    write_tiled_dng(path, truth.composite, truth.half, CROP)
    capture = decode_capture(path)
    assert np.array_equal(capture.frames()["frame0"], truth.composite)
    assert np.array_equal(capture.frames()["frame1"], truth.half)
    # WhiteLevel is 14008, but the samples clip at 16383 and pile up there.
    assert capture.details["white"] == 14008
    assert max(capture.details["clip"]["frame0"]) == 16383
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DecodeError, match="cut or damaged"):
        decode(path)


CONTENT = {
    "constant": lambda rng: np.full(SIZE_HW, 8192),
    "full": lambda rng: np.full(SIZE_HW, 16383),
    "noise": lambda rng: rng.integers(0, 16384, SIZE_HW),
    "extremes": lambda rng: rng.choice([0, 16383], SIZE_HW),
    "sparse": lambda rng: np.where(rng.random(SIZE_HW) < 0.03, rng.integers(0, 16384, SIZE_HW), 8192),
    "runs": lambda rng: rng.integers(8190, 8195, (SIZE_HW[0], SIZE_HW[1] // 8)).repeat(8, 1),
}


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("container", ["CR2", "CR3"])
def test_hostile_content_is_bit_exact(tmp_path: Path, container: str, content: str) -> None:
    rng = np.random.default_rng(1)
    frames = [CONTENT[content](rng).astype(np.uint16) for _ in range(2)]
    path = tmp_path / f"shot.{container}"
    FORMATS[container](path, *frames, CROP)
    for index, truth in enumerate(frames):
        assert np.array_equal(read_frame(path, index).samples, truth)


def test_views_are_the_halves_above_black(tmp_path: Path, kind: str) -> None:
    truth = sensor_frames(read_noise=0)
    path = tmp_path / f"shot.{kind}"
    FORMATS[kind](path, truth.composite, truth.half, CROP)
    image = decode(path, equalise=False)
    assert image.size_hw == (CROP.height // 2, CROP.width // 2)
    assert image.left.dtype == np.float32
    inside = (slice(CROP.top, CROP.top + CROP.height), slice(CROP.left, CROP.left + CROP.width))
    for view, light in ((image.left, truth.left), (image.right, truth.right)):
        cell = light[inside] / (16383 - 512)
        expected = np.stack([cell[::2, ::2], (cell[::2, 1::2] + cell[1::2, ::2]) / 2, cell[1::2, 1::2]], -1)
        assert np.abs(view - expected).max() < 1.5 / (16383 - 512)  # rounding of two readings
    assert np.allclose(image.combined, image.left + image.right, atol=1e-6)
    assert image.meta.pixel_pitch_um == pytest.approx(10.72, rel=1e-3)


def test_dark_noise_stays_signed(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    composite, half = (np.round(512 + rng.normal(0, 8, SIZE_HW)).astype(np.uint16) for _ in range(2))
    path = tmp_path / "dark.CR2"
    write_cr2(path, composite, half, CROP)
    image = decode(path, equalise=False)
    assert image.right.min() < 0 < image.right.max()
    assert abs(float(image.right.mean())) < 1e-4


@pytest.mark.parametrize("writer", [write_cr2, write_cr3])
def test_black_is_measured_per_frame_on_masked_columns(tmp_path: Path, writer: Writer) -> None:
    truth = sensor_frames(black=(2041, 2008), read_noise=5.0)
    path = tmp_path / ("shot.CR2" if writer is write_cr2 else "shot.CR3")
    writer(path, truth.composite, truth.half, CROP, Shot(black=2048))
    details = decode_capture(path).details
    assert details["black_source"] == {"frame0": "masked columns", "frame1": "masked columns"}
    assert details["black"]["frame0"] == pytest.approx([2041] * 4, abs=0.6)
    assert details["black"]["frame1"] == pytest.approx([2008] * 4, abs=0.6)


def test_black_falls_back_to_metadata(tmp_path: Path) -> None:
    whole = Crop(0, 0, SIZE_HW[1], SIZE_HW[0])
    truth = sensor_frames(crop=whole, black=(512, 500))
    path = tmp_path / "nomask.dng"
    write_dual_pixel_dng(path, truth.composite, truth.half, white=16383, black=(512, 500))
    details = decode_capture(path).details
    assert details["black_source"] == {"frame0": "metadata", "frame1": "metadata"}
    assert details["black"] == {"frame0": [512.0] * 4, "frame1": [500.0] * 4}


def test_lit_columns_are_not_taken_for_masked_ones(tmp_path: Path) -> None:
    truth = sensor_frames(crop=Crop(0, 0, SIZE_HW[1], SIZE_HW[0]))  # light everywhere, the file claims a border
    path = tmp_path / "lit.CR2"
    write_cr2(path, truth.composite, truth.half, CROP)
    details = decode_capture(path).details
    assert details["black_source"]["frame0"] == "metadata"
    assert details["black"]["frame0"] == [512.0] * 4


def test_crop_is_the_official_one(tmp_path: Path, kind: str) -> None:
    truth = sensor_frames()
    path = tmp_path / f"shot.{kind}"
    FORMATS[kind](path, truth.composite, truth.half, CROP)
    assert decode_capture(path).details["crop"] == {"left": 24, "top": 16, "width": 256, "height": 168}


def test_mask_marks_any_clipped_sample_of_the_cell(tmp_path: Path, kind: str) -> None:
    truth = sensor_frames(highlight=1.6)
    path = tmp_path / f"shot.{kind}"
    FORMATS[kind](path, truth.composite, truth.half, CROP)
    image = decode(path)
    inside = (slice(CROP.top, CROP.top + CROP.height), slice(CROP.left, CROP.left + CROP.width))
    clipped = (truth.composite[inside] >= 16383) | (truth.half[inside] >= 16383)
    expected = clipped.reshape(CROP.height // 2, 2, CROP.width // 2, 2).any(axis=(1, 3))
    assert 0 < expected.mean() < 0.2
    assert np.array_equal(image.saturated, expected)
    green_only = clipped[0::2, 1::2] & ~clipped[0::2, 0::2]
    assert green_only.any()  # the mask is not only red's


def test_clip_level_below_nominal_white_is_found() -> None:
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal(9000, 4000, (400, 600)), 0, 13100).astype(np.uint16)
    picture[7, 9] = 16000  # a hot pixel above it
    assert clip_levels(picture, 16383, int(picture.max())) == (13100,) * 4
    unclipped = rng.integers(500, 9000, (400, 600)).astype(np.uint16)
    assert clip_levels(unclipped, 16383, int(unclipped.max())) == (16383,) * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("disparity_px", [6.0, -4.0])
def test_sign_in_the_upright_view(tmp_path: Path, orientation: int, disparity_px: float) -> None:
    truth = sensor_frames(disparity_px=disparity_px)
    path = tmp_path / "turned.dng"
    write_dng(path, truth.composite, truth.half, CROP, Shot(orientation=orientation))
    image = decode(path)
    dx, dy = shift_between(image.left, image.right)
    along, across = (dx, dy) if image.baseline == "x" else (dy, dx)
    assert image.baseline == ("y" if orientation >= 5 else "x")
    assert image.size_hw == ((128, 84) if orientation >= 5 else (84, 128))
    assert along == pytest.approx(disparity_px / 2, abs=0.1)  # half-size views
    assert across == pytest.approx(0, abs=0.1)
    assert ("rotation" in image.meta.provenance) == upright_baseline("x", orientation)[1]


@pytest.mark.parametrize("writer", [write_cr2, write_cr3])
def test_orientation_of_camera_files(tmp_path: Path, writer: Writer) -> None:
    truth = sensor_frames()
    path = tmp_path / ("p.CR2" if writer is write_cr2 else "p.CR3")
    writer(path, truth.composite, truth.half, CROP, Shot(orientation=8))
    image = decode(path)
    assert (image.baseline, image.meta.orientation) == ("y", 8)
    assert shift_between(image.left, image.right)[1] == pytest.approx(3.0, abs=0.1)


def test_upright_against_numpy_rotations() -> None:
    a = np.arange(12).reshape(3, 4)
    assert np.array_equal(upright(a, 3), np.rot90(a, 2))
    assert np.array_equal(upright(a, 6), np.rot90(a, -1))
    assert np.array_equal(upright(a, 8), np.rot90(a, 1))
    assert np.array_equal(upright(a, 2), a[:, ::-1])
    assert np.array_equal(upright(a, 5), a.T)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_swap_reverses_the_sign(tmp_path: Path, orientation: int) -> None:
    truth = sensor_frames()
    path = tmp_path / "s.dng"
    write_dng(path, truth.composite, truth.half, CROP, Shot(orientation=orientation))
    image = decode(path, swap=True)
    axis = 0 if image.baseline == "x" else 1
    assert shift_between(image.left, image.right)[axis] == pytest.approx(-3.0, abs=0.1)
    assert image.meta.provenance["swap"]


def test_provenance_says_assumed(tmp_path: Path) -> None:
    truth = sensor_frames()
    path = tmp_path / "s.CR2"
    write_cr2(path, truth.composite, truth.half, CROP)
    provenance = decode(path).meta.provenance
    assert "assumed" in provenance["left"]
    assert provenance["right"].startswith("derived")


def test_metadata_of_camera_files(tmp_path: Path) -> None:
    truth = sensor_frames()
    for name, writer, camera in (("a.CR2", write_cr2, "Canon EOS 5D Mark IV"), ("a.CR3", write_cr3, "Canon EOS R")):
        writer(tmp_path / name, truth.composite, truth.half, CROP, Shot(iso=800))
        meta = decode(tmp_path / name).meta
        assert (meta.camera, meta.iso, meta.f_number, meta.focal_length_mm) == (camera, 800, 2.8, 50)
        assert meta.exposure_s == pytest.approx(1 / 125)
        assert meta.pixel_pitch_um == pytest.approx(10.72, rel=1e-3)


@pytest.mark.parametrize("writer", [write_cr2, write_cr3])
def test_ordinary_raw_is_refused(tmp_path: Path, writer: Writer) -> None:
    path = tmp_path / ("plain.CR2" if writer is write_cr2 else "plain.CR3")
    writer(path, sensor_frames().composite, None, CROP)
    with pytest.raises(DecodeError, match=r"holds one frame.*turn on Dual Pixel RAW"):
        decode(path)


def test_equal_frames_and_wrong_ratio_are_refused(tmp_path: Path) -> None:
    truth = sensor_frames()
    path = tmp_path / "same.dng"
    write_dual_pixel_dng(path, truth.composite, truth.composite, white=16383)
    with pytest.raises(DecodeError, match="same picture"):
        decode(path)
    almost = truth.composite.copy()
    almost[::4] += 1  # two ordinary shots, not two photodiodes
    write_dual_pixel_dng(path, truth.composite, almost, white=16383, crop=CROP)
    with pytest.raises(DecodeError, match="of the light of frame 0"):
        decode(path)


@settings(max_examples=15, deadline=None)
@given(npst.arrays(np.uint16, (8, 12), elements=st.integers(0, 16383)))
def test_crx_planes_have_the_sizes_the_header_says(frame: Frame) -> None:
    data, header, tile = encode_track(frame)
    assert header % 8 == 0 and tile == 12 and len(data) % 4 == 0
