"""Forms of DNG samples that LibRaw reads wrongly or not at all: the same samples however they are stored."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rawpy
from tests.support.tiffs import LONG, RATIONAL, SHORT, SRATIONAL, Form, Tags, dng_tags, fp24, write_tiff

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode_capture
from dualpix.capture.raw.containers.tiff import Ifd, TiffReader
from dualpix.capture.raw.containers.tiff_samples import unpack
from dualpix.capture.raw.frames.dng_frame import dng_of
from dualpix.capture.raw.frames.libraw import read_frame, read_mosaic
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.stack.keep.frames import read_light

RNG = np.random.default_rng(11)
MOSAIC = (600 + 4000 * RNG.random((48, 64))).astype(np.uint16)
PAIR = np.stack([MOSAIC, 300 + MOSAIC // 2], axis=-1).astype(np.uint16)
SHARES = (RNG.random((48, 64)) * 1.5).astype(np.float32)
"""Light of a scene with highlights beyond white."""
LEVELS: dict[str, Any] = {"black": (SHORT, [512, 512]), "white": [14000, 14000]}

INTEGERS = {
    "planar": Form(planar=True),
    "planar, big-endian": Form(planar=True, order=">"),
    "planar tiles": Form(planar=True, tile_hw=(16, 32)),
    "planar strips": Form(planar=True, rows_per_strip=7),
    "planar 14 bits": Form(planar=True, int_bits=14),
    "deflated": Form(compression=8),
    "deflated, old number": Form(compression=32946, order=">"),
    "deflated tiles over the edge": Form(compression=8, tile_hw=(32, 48)),
    "deflated differences": Form(compression=8, predictor=2),
    "deflated differences, big-endian": Form(compression=8, predictor=2, order=">", rows_per_strip=5),
    "differences over 2": Form(compression=8, predictor=34892),
    "differences over 4": Form(compression=8, predictor=34893, tile_hw=(16, 16)),
    "BigTIFF": Form(big=True),
    "BigTIFF tiles, big-endian": Form(big=True, order=">", tile_hw=(16, 32)),
    "BigTIFF 12 bits": Form(big=True, int_bits=13),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_frames_are_bit_exact_in_every_form(name: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.dng", PAIR, dng_tags(**LEVELS), INTEGERS[name])
    for index in (0, 1):
        frame = read_frame(tmp_path / "a.dng", index)
        assert np.array_equal(frame.samples, PAIR[..., index]), name
        assert frame.samples.dtype == np.uint16 and frame.white == 14000
    capture = decode_capture(tmp_path / "a.dng", equalise=False)
    write_tiff(tmp_path / "plain.dng", PAIR, dng_tags(**LEVELS))
    assert np.array_equal(capture.view("left"), decode_capture(tmp_path / "plain.dng", equalise=False).view("left"))
    answer = inspect(tmp_path / "a.dng", levels=True)
    assert answer.dual_pixel and answer.broken is None and answer.crop is not None
    assert (answer.crop.width, answer.frames[0].width) == (64, 64)


@pytest.mark.parametrize("name", INTEGERS)
def test_frames_of_stacks_are_read_in_every_form(name: str, tmp_path: Path) -> None:
    levels = {"black": (SHORT, [512]), "white": [14000]}
    write_tiff(tmp_path / "a.dng", MOSAIC, dng_tags(cfa="GBRG", **levels), INTEGERS[name])
    write_tiff(tmp_path / "plain.dng", MOSAIC, dng_tags(cfa="GBRG", **levels))
    assert np.array_equal(read_light(tmp_path / "a.dng").image, read_light(tmp_path / "plain.dng").image)


FLOATS = [
    Form(order=order, float_bits=bits, compression=compression, predictor=predictor, tile_hw=tile)
    for bits in (16, 24, 32)
    for order in "<>"
    for compression, predictor, tile in (
        (1, 1, None),
        (1, 1, (16, 32)),
        (8, 1, None),
        (8, 3, (16, 32)),
        (8, 34894, (48, 64)),
        (8, 34895, (16, 32)),
    )
]


def rounded(values: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float32]:
    """As a float of so many bits holds it; of 24, an implementation of its own."""
    if bits == 16:
        return values.astype(np.float16).astype(np.float32)
    if bits == 32:
        return values
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.floor(mantissa * 2**17) / 2**17, exponent).astype(np.float32)


@pytest.mark.parametrize("form", FLOATS, ids=str)
def test_floats_are_the_numbers_that_were_stored(form: Form, tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.dng", SHARES, dng_tags(), form)
    frame = read_mosaic(tmp_path / "a.dng")
    assert frame.samples.dtype == np.float32
    assert np.array_equal(frame.samples, rounded(SHARES, form.float_bits or 0))
    assert frame.metadata_black == (0, 0, 0, 0) and frame.white == 1.0  # the defaults of the specification


def test_floats_of_24_bits_at_their_limits() -> None:
    """Golden values by hand: 1.0 has the exponent 63, the least normal number is 2**-62, all-one exponents none."""
    words = np.array([[0x000000, 0x3F0000, 0xBF0000, 0x3F8000, 0x010000, 0x000001, 0x7EFFFF]], np.uint32)
    data = words.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    tags = {0x0100: (7,), 0x0101: (1,), 0x0102: (24,), 0x0153: (3,), 0x0111: (0,), 0x0117: (len(data),), 0x0116: (1,)}
    found = unpack(data, ">", Ifd(tags, 0), (0,))[0, :, 0]
    assert found.tolist() == [0, 1, -1, 1.5, 2.0**-62, 2.0**-78, np.float32((2 - 2.0**-16) * 2.0**63)]
    assert np.array_equal(fp24(found[1:4]), words[0, 1:4])


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_one_highlight_does_not_darken_its_frame(bits: int, tmp_path: Path) -> None:
    """LibRaw scales a file by its brightest sample; the frames of a stack must keep one scale."""
    bright = SHARES.copy()
    bright[10, 10] = 4.0
    for name, samples in (("a", SHARES), ("b", bright)):
        write_tiff(tmp_path / f"{name}.dng", samples, dng_tags(), Form(float_bits=bits, compression=8, predictor=3))
    first, second = (read_light(tmp_path / f"{name}.dng") for name in "ab")
    assert second.image[5, 5, 0] == 4.0 and second.saturated[5, 5]
    rest = np.ones(first.saturated.shape, bool)
    rest[5, 5] = False
    assert np.array_equal(first.image[rest], second.image[rest])


def test_float_levels_count(tmp_path: Path) -> None:
    """HDR mergers write floats in counts of the camera, with its levels."""
    tags = dng_tags(black=(RATIONAL, [512.5]), white=[14000], xC61C=(SRATIONAL, list(range(48))))
    counts = SHARES * 9000 + 512.5 + np.arange(48, dtype=np.float32)[:, None]
    write_tiff(tmp_path / "a.dng", counts, tags, Form(float_bits=32))
    found, mean_black = read_light(tmp_path / "a.dng").image, 512.5 + 23.5
    assert found[..., 0] == pytest.approx(SHARES[::2, ::2] * 9000 / (14000 - mean_black), abs=1e-5)


@pytest.mark.parametrize("bits", [16, 32])
def test_a_dual_pixel_dng_in_floats(bits: int, tmp_path: Path) -> None:
    composite = rounded(SHARES * 0.5, bits)
    half = rounded(composite * 0.45, bits)
    form = Form(float_bits=bits, compression=8, predictor=34894)
    write_tiff(tmp_path / "a.dng", np.stack([composite, half], axis=-1), dng_tags(), form)
    capture = decode_capture(tmp_path / "a.dng", equalise=False, layout="mosaic")
    assert np.array_equal(capture.view("left"), half)
    assert capture.view("right") == pytest.approx(composite - half, abs=1e-7)
    assert capture.frames()["other"] == pytest.approx(composite - half, abs=1e-7)
    answer = inspect(tmp_path / "a.dng", levels=True)
    assert answer.light_ratio == pytest.approx(0.45, abs=0.01)
    assert answer.frames[0].compression == "deflate, floating point"


def test_integers_of_32_bits(tmp_path: Path) -> None:
    counts = MOSAIC.astype(np.uint32) * 65536
    levels = {"black": (LONG, [512 * 65536]), "white": [14000 * 65536]}
    write_tiff(tmp_path / "a.dng", counts, dng_tags(**levels), Form(compression=8, predictor=2))
    write_tiff(tmp_path / "b.dng", MOSAIC, dng_tags(black=(SHORT, [512]), white=[14000]))
    assert read_light(tmp_path / "a.dng").image == pytest.approx(read_light(tmp_path / "b.dng").image, abs=1e-6)


def test_colour_is_the_one_that_libraw_finds(tmp_path: Path) -> None:
    colour = {
        "xC621": (SRATIONAL, [0.9, -0.2, -0.1, -0.4, 1.2, 0.2, -0.05, 0.2, 0.7]),
        "xC622": (SRATIONAL, [0.7, -0.1, -0.05, -0.5, 1.3, 0.2, -0.1, 0.25, 0.6]),
        "xC65A": (SHORT, [17]),
        "xC65B": (SHORT, [21]),
        "xC627": (RATIONAL, [1.1, 1, 0.9]),
        "xC628": (RATIONAL, [0.5, 1, 0.625]),
    }
    write_tiff(tmp_path / "libraw.dng", PAIR, dng_tags(**LEVELS, **colour))
    write_tiff(tmp_path / "own.dng", PAIR, dng_tags(**LEVELS, **colour), Form(compression=8))
    libraw, own = (read_frame(tmp_path / f"{name}.dng", 0) for name in ("libraw", "own"))
    assert own.white_balance == pytest.approx(libraw.white_balance)
    assert own.srgb_from_camera == libraw.srgb_from_camera
    with rawpy.imread(str(tmp_path / "libraw.dng")) as raw:
        assert np.array(own.srgb_from_camera) == pytest.approx(raw.color_matrix[:, :3], abs=2e-3)


@pytest.mark.parametrize(
    ("form", "tags", "message"),
    [
        (
            Form(big=True),
            {0x0103: (SHORT, [7])},
            "DNG of lossless JPEG; expected plain or deflated samples",
        ),
        (Form(compression=8), {0x013D: (SHORT, [3])}, "16 bits in format 1 with predictor 3"),
        (Form(compression=8), {0xC71F: (LONG, [2])}, "interleaved order"),
        (Form(compression=8), {0x0153: (SHORT, [2, 2])}, "16 bits in format 2"),
        (Form(compression=8), {0x0116: (LONG, [10])}, "1 strips or tiles; expected 5"),
        (
            Form(compression=8),
            {0x0101: (LONG, [60]), 0x0116: (LONG, [60])},
            "piece of 12288 bytes; expected 15360",
        ),
        (Form(compression=8), {0x828E: (1, [0, 1, 2, 1])}, "colour pattern"),
        (Form(compression=8), {0x828E: (1, [1, 0, 2, 1])}, "colour pattern"),
    ],
)
def test_other_forms_are_named_in_one_line(form: Form, tags: Tags, message: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.dng", PAIR, {**dng_tags(**LEVELS), **tags}, form)
    with pytest.raises(DecodeError, match=message) as refused:
        decode_capture(tmp_path / "a.dng")
    assert "\n" not in str(refused.value)


def test_damage_in_deflated_samples_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    write_tiff(path, PAIR, dng_tags(**LEVELS), Form(compression=8))
    data = bytearray(path.read_bytes())
    data[-3000:-2990] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(DecodeError, match="damaged deflated samples"):
        decode_capture(path)
    assert inspect(path, levels=True).broken is not None


def test_a_header_that_claims_too_much_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    tags = {**dng_tags(**LEVELS), 0x0100: (LONG, [10_000]), 0x0101: (LONG, [10_000])}
    write_tiff(path, PAIR, tags, Form(compression=8))
    with pytest.raises(DecodeError, match="claims 10000x10000 pixels"):
        decode_capture(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20])
def test_floats_that_are_no_light_are_refused(value: float, tmp_path: Path) -> None:
    samples = SHARES.copy()
    samples[3, 3] = value
    write_tiff(tmp_path / "a.dng", samples, dng_tags(), Form(float_bits=32))
    with pytest.raises(DecodeError, match="NaN or beyond 1e"):
        read_light(tmp_path / "a.dng")


def test_a_codec_that_libraw_lacks_is_named(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.dng", PAIR, {**dng_tags(**LEVELS), 0x0103: (SHORT, [52546])})
    with pytest.raises(DecodeError, match=r"whose samples are JPEG XL: .* Adobe's DNG Converter"):
        decode_capture(tmp_path / "a.dng")


def test_ordinary_files_stay_with_libraw(tmp_path: Path) -> None:
    """Lossless JPEG, packed and plain integers are its own trade, and it takes two threads to them."""
    for form in (Form(), Form(tile_hw=(16, 32)), Form(int_bits=14), Form(order=">")):
        write_tiff(tmp_path / "a.dng", PAIR, dng_tags(**LEVELS), form)
        found = dng_of(tmp_path / "a.dng")
        assert found is not None and not found.unpacked_here
        assert np.array_equal(read_frame(tmp_path / "a.dng", 1).samples, PAIR[..., 1])


def test_what_libraw_makes_of_these_forms(tmp_path: Path) -> None:
    """LibRaw 0.22.2: why they are unpacked here. Fails when a new version changes."""
    path = tmp_path / "a.dng"

    def by_libraw(samples: npt.NDArray[Any], form: Form) -> npt.NDArray[Any]:
        write_tiff(path, samples, dng_tags(), form)
        with rawpy.RawPy() as raw:
            raw.open_file(str(path))
            raw.unpack()
            return np.array(raw.raw_image)

    for bits in (16, 24):
        assert not by_libraw(SHARES, Form(float_bits=bits)).any()  # zeros, and no error
    bright = SHARES.copy()
    bright[0, 0] = 1e6
    first, second = (by_libraw(samples, Form(float_bits=32))[5, 5] for samples in (SHARES, bright))
    assert second < first / 10  # scaled by its brightest
    assert not np.array_equal(by_libraw(PAIR, Form(planar=True)), PAIR[..., 0])
    for form in (Form(compression=8), Form(big=True)):
        with pytest.raises(rawpy.LibRawError):
            by_libraw(MOSAIC, form)


def test_bigtiff_directories(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.dng", MOSAIC, dng_tags(black=(SHORT, [1, 2, 3, 4])), Form(big=True, order=">"))
    data = (tmp_path / "a.dng").read_bytes()
    reader = TiffReader(data)
    ifd = reader.ifd(reader.first_offset)
    assert reader.big and ifd.integers(0xC61A) == (1, 2, 3, 4) and ifd.text(0x010F) == "Acme"
    assert [page.integer(0x0100) for page in reader.chain()] == [64]
    for cut in range(0, 60, 3):
        with pytest.raises(DecodeError):
            broken = TiffReader(data[:cut])
            broken.ifd(broken.first_offset)
    with pytest.raises(DecodeError, match="does not fit"):
        TiffReader(data[:16] + struct.pack(">Q", 2**60) + data[24:]).ifd(16)
