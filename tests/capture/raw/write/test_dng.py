"""The dual-pixel DNG writer, read back by LibRaw, exifread and our own decoder."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import exifread
import numpy as np
import pytest
import rawpy
from hypothesis import given
from hypothesis import strategies as st
from tests.support.halves import CROP, sensor_frames

from dualpix.capture.errors import DecodeError, OutputError
from dualpix.capture.raw import decode
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.write.dng import SIMULATED_MODEL, read_description, write_dual_pixel_dng
from dualpix.capture.types import CaptureMeta

META = CaptureMeta(
    iso=400.0,
    exposure_s=1 / 250,
    f_number=1.8,
    focal_length_mm=50.0,
    focus_distance_m=1.25,
    pixel_pitch_um=10.72,
    disparity_gain=0.3,
    orientation=6,
)


def test_libraw_reads_both_samples_exactly(tmp_path: Path) -> None:
    frames = sensor_frames(black=(512, 500))
    path = tmp_path / "sim.dng"
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, black=(512, 500), crop=CROP)
    for index, truth in enumerate((frames.composite, frames.half)):
        raw = rawpy.RawPy()
        raw.set_unpack_params(shot_select=index)
        raw.open_file(str(path))
        raw.unpack()
        assert np.array_equal(raw.raw_image, truth)
        assert raw.black_level_per_channel == [(512, 500)[index]] * 4
        assert raw.white_level == 16383
        sizes = raw.sizes
        crop = (sizes.crop_left_margin, sizes.crop_top_margin, sizes.crop_width, sizes.crop_height)
        assert crop == (CROP.left, CROP.top, CROP.width, CROP.height)


def test_exif_as_an_independent_reader_sees_it(tmp_path: Path) -> None:
    frames = sensor_frames()
    path = tmp_path / "sim.dng"
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, meta=META)
    with path.open("rb") as file:
        tags = exifread.process_file(file)
    numbers = {
        "EXIF ExposureTime": 1 / 250,
        "EXIF FNumber": 1.8,
        "EXIF ISOSpeedRatings": 400,
        "EXIF FocalLength": 50,
        "EXIF SubjectDistance": 1.25,
        "EXIF FocalPlaneXResolution": 1e4 / 5.36,
        "EXIF FocalPlaneResolutionUnit": 3,
        "Image Orientation": 6,
    }
    for name, value in numbers.items():
        assert float(tags[name].values[0]) == pytest.approx(value, rel=1e-6), name
    assert tags["Image Model"].values == SIMULATED_MODEL


def test_meta_survives_the_file(tmp_path: Path) -> None:
    frames = sensor_frames()
    path = tmp_path / "sim.dng"
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, meta=META)
    read = decode(path).meta
    assert read.camera == SIMULATED_MODEL
    assert read.pixel_pitch_um == pytest.approx(10.72, rel=1e-6)
    assert read.exposure_s == pytest.approx(1 / 250, rel=1e-9)
    same = ("iso", "f_number", "focal_length_mm", "focus_distance_m", "disparity_gain", "orientation")
    assert [getattr(read, name) for name in same] == [getattr(META, name) for name in same]


def test_high_iso_and_infinity(tmp_path: Path) -> None:
    frames = sensor_frames()
    path = tmp_path / "sim.dng"
    meta = CaptureMeta(iso=102400, focus_distance_m=math.inf)
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, meta=meta)
    read = decode(path).meta
    assert read.iso == 102400
    assert read.focus_distance_m == math.inf
    assert read.provenance["focus_distance"] == "SubjectDistance: infinity"


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_file_says_which_half_it_holds(tmp_path: Path, side: str) -> None:
    frames = sensor_frames(read_noise=0)
    path = tmp_path / "sim.dng"
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, half_side=side)  # type: ignore[arg-type]
    image = decode(path, equalise=False)
    stored = (frames.half[0::2, 0::2].astype(np.float32) - 512) / (16383 - 512)
    assert np.allclose(getattr(image, side)[..., 0], stored, atol=1e-6)
    assert "stated by the file" in image.meta.provenance[side]


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    f = sensor_frames()
    path = tmp_path / "bad.dng"
    bad = [
        {"half": f.half[:-2]},
        {"half": f.half.astype(np.float32)},
        {"black": (512, 17000)},
        {"crop": Crop(1, 0, 100, 100)},
        {"crop": Crop(0, 0, 400, 100)},
        {"meta": replace(META, disparity_gain=-1.0)},
        {"meta": replace(META, f_number=0.0)},
    ]
    for change in bad:
        arguments = {"composite": f.composite, "half": f.half, "white": 16383, **change}
        with pytest.raises(ValueError):
            write_dual_pixel_dng(path, **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="cannot write"):
        write_dual_pixel_dng(tmp_path / "none" / "x.dng", f.composite, f.half, white=16383)


@pytest.mark.parametrize(
    "text",
    [
        '{"dualpix": {"half": "top"}}',
        '{"dualpix": {"disparity_gain": -0.3}}',
        '{"dualpix": {"disparity_gain": NaN}}',
        '{"dualpix": {"disparity_gain": true}}',
        '{"dualpix": {"disparity_gain": "0.3"}}',
        '{"dualpix": [1]}',
        '{"dualpix": {"half": "left"}',
        '{"dualpix": {"half": ["left"]}}',
        '{"dualpix": ' + "[" * 3000,
        '{"dualpix": {"note": "' + "x" * 5000 + '"}}',
    ],
)
def test_malformed_description_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="ImageDescription"):
        read_description(text)


@given(st.text(max_size=200))
def test_any_description_is_read_or_refused(text: str) -> None:
    for candidate in (text, '{"dualpix"' + text):
        try:
            said = read_description(candidate)
        except DecodeError:
            continue
        assert said.half in (None, "left", "right")
