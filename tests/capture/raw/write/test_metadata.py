"""Metadata of written pictures, as readers that are not ours see them."""

from __future__ import annotations

import json
import math
import shutil
import struct
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import exifread
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.support.halves import CROP, sensor_frames
from tests.support.pgm import write_pdcapture

from dualpix.capture.raw import decode_capture
from dualpix.capture.raw.batch.output_settings import OutputSettings
from dualpix.capture.raw.batch.outputs import write_capture
from dualpix.capture.raw.containers.exif import capture_meta
from dualpix.capture.raw.containers.tiff import TiffReader
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.raw.write.metadata import exif_block, exif_tags, picture_tags, pitch_xy_um
from dualpix.capture.types import CaptureMeta

SENSOR_PITCH_UM = 5.36
META = CaptureMeta(
    camera="Acme One",
    lens_model="Acme 50mm f/1.8",
    date_time="2024-05-06T07:08:09+02:00",
    iso=400.0,
    exposure_s=1 / 250,
    f_number=1.8,
    focal_length_mm=50.0,
    focus_distance_m=1.25,
    pixel_pitch_um=2 * SENSOR_PITCH_UM,
)
FORMATS = [("tiff", 16), ("tiff", 32), ("png", 16), ("png", 8), ("dng", 16)]


def written(folder: Path, form: Any, bits: int, *, layout: Any = "superpixel", orientation: int = 6) -> Path:
    truth = sensor_frames()
    path = folder / "shot.dng"
    meta = replace(META, orientation=orientation)
    write_dual_pixel_dng(
        path, truth.composite, truth.half, white=16383, crop=CROP, meta=meta, make="Acme", model="Acme One"
    )
    write_capture(decode_capture(path, layout=layout), [path], folder / "out", OutputSettings(form, bits))
    return folder / "out" / f"right.{form}"


@pytest.mark.parametrize(("form", "bits"), FORMATS)
@pytest.mark.parametrize("layout", ["superpixel", "mosaic", "rgb"])
def test_exif_as_an_independent_reader_sees_it(tmp_path: Path, form: str, bits: int, layout: str) -> None:
    with written(tmp_path, form, bits, layout=layout).open("rb") as file:
        tags = exifread.process_file(file, details=False)
    pitch_um = SENSOR_PITCH_UM * (2 if layout == "superpixel" else 1)
    numbers = {
        "EXIF ExposureTime": 1 / 250,
        "EXIF FNumber": 1.8,
        "EXIF ISOSpeedRatings": 400,
        "EXIF FocalLength": 50,
        "EXIF SubjectDistance": 1.25,
        "EXIF FocalPlaneXResolution": 1e4 / pitch_um,
        "EXIF FocalPlaneYResolution": 1e4 / pitch_um,
        "EXIF FocalPlaneResolutionUnit": 3,
        "Image Orientation": 6 if form == "dng" else 1,
    }
    for name, value in numbers.items():
        assert float(tags[name].values[0]) == pytest.approx(value, rel=1e-5), name
    assert tags["Image Make"].values == "Acme" and tags["Image Model"].values == "Acme One"
    assert "Acme 50mm f/1.8" in str(tags["EXIF LensModel"].values)
    assert tags["EXIF DateTimeOriginal"].values == "2024:05:06 07:08:09"
    assert tags["EXIF OffsetTimeOriginal"].values == "+02:00"


@pytest.mark.parametrize(("form", "bits"), FORMATS)
def test_exif_as_exiftool_sees_it(tmp_path: Path, form: str, bits: int) -> None:
    tool = shutil.which("exiftool")
    if tool is None:
        pytest.skip("exiftool is not installed")
    path = written(tmp_path, form, bits)
    said = subprocess.run(
        [tool, "-json", "-n", "-a", "-all", "-validate", "-warning", path], capture_output=True, check=True
    )
    record = json.loads(said.stdout)[0]
    assert "Error" not in record and "Warning" not in record, record
    expected = {
        "ExposureTime": 1 / 250,
        "FNumber": 1.8,
        "ISO": 400,
        "FocalLength": 50,
        "SubjectDistance": 1.25,
        "FocalPlaneXResolution": 1e4 / META.pixel_pitch_um if META.pixel_pitch_um else 0,
        "Orientation": 6 if form == "dng" else 1,
    }
    for name, value in expected.items():
        assert record[name] == pytest.approx(value, rel=1e-5), name
    assert record["LensModel"] == META.lens_model and record["Make"] == "Acme" and record["Model"] == "Acme One"
    assert record["DateTimeOriginal"] == "2024:05:06 07:08:09" and record["OffsetTimeOriginal"] == "+02:00"
    assert (record["ImageWidth"], record["ImageHeight"]) == ((128, 84) if form == "dng" else (84, 128))


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_tiff_opens_in_other_libraries(tmp_path: Path, bits: int) -> None:
    path = written(tmp_path, "tiff", bits)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        codes = page.asarray()
        assert page.is_memmappable and page.compression == 1 and page.photometric == 2
        assert page.tags["ExifTag"].value["LensModel"] == META.lens_model
        assert "linear light" in page.description and page.description.startswith("right view; ")
    shown = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert shown.dtype == codes.dtype and np.array_equal(shown[..., ::-1], codes)


def test_a_png_has_its_exif_before_the_pixels_and_opens_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path, "png", 8)
    data, at, kinds = path.read_bytes(), 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        kinds.append(kind)
        at += length + 12
    assert kinds[:2] == [b"IHDR", b"eXIf"] and b"IDAT" in kinds and kinds[-1] == b"IEND"
    with Image.open(path) as picture:
        picture.load()  # checks every chunk's checksum
        assert picture.getexif().get_ifd(0x8769)[0xA434] == META.lens_model
        assert picture.getexif()[0x0112] == 1


def test_8_bits_are_called_srgb_only_where_they_are(tmp_path: Path) -> None:
    for layout, bits, expected in (("rgb", 8, 1), ("rgb", 16, 65535), ("superpixel", 8, 65535)):
        with written(tmp_path, "png", bits, layout=layout).open("rb") as file:
            assert exifread.process_file(file)["EXIF ColorSpace"].values == [expected]


def test_pixels_that_are_not_square_are_told_along_x_and_y(tmp_path: Path) -> None:
    for side in ("left", "right"):
        write_pdcapture(tmp_path / f"p_{side}.pgm", np.random.default_rng(len(side)).integers(64, 900, (60, 160)))
    capture = decode_capture(tmp_path / "p_left.pgm")
    write_capture(capture, [Path("p_left.pgm")], tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "left.tiff") as file:
        tags = file.pages[0].tags
        across, down = (tags[name].value for name in ("XResolution", "YResolution"))
        assert (across[0] / across[1]) / (down[0] / down[1]) == 2.0  # a pixel is twice as high as wide
        assert "LensModel" not in tags["ExifTag"].value
    meta = replace(META, pixel_aspect=2.0)
    assert pitch_xy_um(meta, "x") == (10.72, 21.44) and pitch_xy_um(meta, "y") == (21.44, 10.72)
    assert pitch_xy_um(replace(meta, pixel_pitch_um=None), "x") is None


def test_nothing_known_is_nothing_said(tmp_path: Path) -> None:
    block = exif_block(picture_tags(CaptureMeta(), "x"), exif_tags(CaptureMeta(), None))
    reader = TiffReader(block)
    first = reader.ifd(reader.first_offset)
    exif = reader.ifd(first.integer(0x8769))
    assert set(first.tags) == {0x010E, 0x0112, 0x0131, 0x8769} and set(exif.tags) == {0x9000, 0xA000, 0xA001}


positive = st.none() | st.floats(1.0, 1000.0)
texts = st.none() | st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=40)
times = st.none() | st.datetimes().filter(lambda t: t.year >= 1900).map(lambda t: t.replace(microsecond=0).isoformat())


@given(
    meta=st.builds(
        CaptureMeta,
        camera=texts,
        lens_model=texts,
        date_time=times | st.sampled_from(["2024-05-06T07:08:09-03:30", "2024-05-06T07:08:09.070+01:00"]),
        iso=st.none() | st.integers(1, 10**6).map(float),
        exposure_s=positive,
        f_number=st.none() | st.floats(0.7, 100.0),
        focal_length_mm=positive,
        focus_distance_m=positive | st.just(math.inf),
        pixel_pitch_um=st.none() | st.floats(0.5, 40.0),
    )
)
def test_what_is_written_is_what_our_own_reader_finds(meta: CaptureMeta) -> None:
    block = exif_block(picture_tags(meta, "a view"), exif_tags(meta, pitch_xy_um(meta, "x")))
    reader = TiffReader(block)
    first = reader.ifd(reader.first_offset)
    found = capture_meta(first, reader.ifd(first.integer(0x8769)), provenance={})
    for field in fields(CaptureMeta):
        wanted, got = getattr(meta, field.name), getattr(found, field.name)
        if isinstance(wanted, float):
            assert got == pytest.approx(wanted, rel=1e-5), field.name
        elif field.name != "provenance":
            assert got == wanted, field.name
