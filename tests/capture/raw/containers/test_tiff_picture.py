"""TIFF pictures of every form: the same samples, however another program stored them; what is not read is named."""

from __future__ import annotations

import json
import logging
import lzma
import subprocess
import sys
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from tests.support.tiffs import LONG, SHORT, Form, Tags, write_tiff

from dualpix.capture.cli import main
from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.raw.containers.images import read_picture, read_tagged_picture
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.stack.keep.frames import read_light

RNG = np.random.default_rng(5)
GREY8 = RNG.integers(0, 256, (24, 36)).astype(np.uint8)
GREY16 = RNG.integers(0, 65536, (24, 36)).astype(np.uint16)
RGB8 = RNG.integers(0, 256, (24, 36, 3)).astype(np.uint8)
RGB16 = RNG.integers(0, 65536, (24, 36, 3)).astype(np.uint16)
GREY32 = RNG.random((24, 36)).astype(np.float32)
RGB32 = RNG.random((24, 36, 3)).astype(np.float32)
PLAIN = {"grey8": GREY8, "grey16": GREY16, "rgb8": RGB8, "rgb16": RGB16, "grey32": GREY32, "rgb32": RGB32}
FORMS = {
    "strips": Form(rows_per_strip=7),
    "tiles": Form(tile_hw=(16, 16)),
    "planar": Form(planar=True),
    "planar strips": Form(planar=True, rows_per_strip=5),
    "planar tiles": Form(planar=True, tile_hw=(16, 16)),
    "big-endian": Form(order=">"),
    "big-endian planar": Form(order=">", planar=True),
    "BigTIFF": Form(big=True),
    "BigTIFF big-endian": Form(big=True, order=">"),
    "deflate": Form(compression=8),
    "old deflate, planar": Form(compression=32946, planar=True),
    "differences": Form(compression=8, predictor=2),
    "planar differences": Form(compression=8, predictor=2, planar=True, tile_hw=(16, 16)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", PLAIN)
def test_samples_are_those_that_were_stored(kind: str, form: str, tmp_path: Path) -> None:
    samples, how = PLAIN[kind], FORMS[form]
    if samples.dtype.kind == "f" and how.predictor == 2:
        how = Form(compression=8, predictor=3, planar=how.planar, tile_hw=how.tile_hw)
    write_tiff(tmp_path / "a.tif", samples, {}, how)
    found = read_picture(tmp_path / "a.tif")
    assert found.dtype == samples.dtype and np.array_equal(found, samples)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("samples", [GREY8, RGB8, GREY16, RGB16, RGB32], ids=["g8", "c8", "g16", "c16", "c32"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_lzw_needs_no_further_package(samples: npt.NDArray[Any], planar: bool, predictor: int, tmp_path: Path) -> None:
    """OpenCV writes LZW; the pieces of its planes make one planar file."""
    planes = [samples] if samples.ndim == 2 else [samples[..., i] for i in range(3)] if planar else [samples]
    predictor = 3 if predictor == 2 and samples.dtype.kind == "f" else predictor
    keys = cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_PREDICTOR, cv2.IMWRITE_TIFF_ROWSPERSTRIP
    pieces = []
    for plane in planes:
        written = plane[..., ::-1] if plane.ndim == 3 else plane
        assert cv2.imwrite(str(tmp_path / "p.tif"), written, [keys[0], 5, keys[1], predictor, keys[2], 24])
        with tifffile.TiffFile(tmp_path / "p.tif") as file:
            page = file.pages[0]
            assert page.compression == 5 and page.predictor == predictor and len(page.dataoffsets) == 1
            at, size = page.dataoffsets[0], page.databytecounts[0]
            pieces.append((tmp_path / "p.tif").read_bytes()[at : at + size])
    tags: Tags = {0x0103: (SHORT, [5]), 0x013D: (SHORT, [predictor])}
    write_tiff(tmp_path / "a.tif", samples, tags, Form(planar=planar), pieces=pieces)
    assert np.array_equal(read_picture(tmp_path / "a.tif"), samples)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("form", ["plain", "deflate", "predictor", "planar predictor"])
@pytest.mark.parametrize("order", "<>")
def test_floats_of_every_width(bits: int, form: str, order: str, tmp_path: Path) -> None:
    how = Form(
        order=order,
        float_bits=bits,
        compression=1 if form == "plain" else 8,
        predictor=3 if "predictor" in form else 1,
        planar="planar" in form,
    )
    write_tiff(tmp_path / "a.tif", RGB32, {}, how)
    found = read_picture(tmp_path / "a.tif")
    assert found.dtype == np.float32
    precision = {16: 2.0**-11, 24: 2.0**-16, 32: 0.0}[bits]
    assert np.abs(found - RGB32).max() <= precision
    if bits == 16:
        assert np.array_equal(found, RGB32.astype(np.float16).astype(np.float32))


def test_doubles(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", RGB32.astype(np.float64), {})
    assert np.array_equal(read_picture(tmp_path / "a.tif"), RGB32)
    write_tiff(tmp_path / "b.tif", np.full((8, 8), 1e300), {})
    with pytest.raises(DecodeError, match="NaN or infinite"):
        read_picture(tmp_path / "b.tif")


ALPHA8, ALPHA16 = np.dstack([RGB8, GREY8]), np.dstack([RGB16, GREY16])


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", [0, 1, 2], ids=["unspecified", "associated", "unassociated"])
@pytest.mark.parametrize(
    ("samples", "truth"),
    [
        (ALPHA8, RGB8),
        (ALPHA16, RGB16),
        (np.dstack([RGB16, GREY16, GREY16, GREY16]), RGB16),
        (np.dstack([RGB32, GREY32]), RGB32),
        (np.dstack([GREY8, GREY8[::-1]]), GREY8),
        (np.dstack([GREY16, GREY16[::-1]]), GREY16),
    ],
    ids=["rgba8", "rgba16", "rgb16+3", "rgba32", "ga8", "ga16"],
)
def test_alpha_and_extra_samples_are_left_out(
    samples: npt.NDArray[Any], truth: npt.NDArray[Any], kind: int, planar: bool, tmp_path: Path
) -> None:
    extra = samples.shape[2] - (3 if truth.ndim == 3 else 1)
    tags: Tags = {0x0152: (SHORT, [kind] * extra), 0x0106: (SHORT, [2 if truth.ndim == 3 else 1])}
    write_tiff(tmp_path / "a.tif", samples, tags, Form(planar=planar))
    assert np.array_equal(read_picture(tmp_path / "a.tif"), truth)


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
def test_white_that_is_zero_is_turned(bits: int, tmp_path: Path) -> None:
    largest = (1 << bits) - 1
    codes = (GREY16 >> (16 - bits)).astype(np.uint8 if bits <= 8 else np.uint16)
    form = Form() if bits in (8, 16) else Form(int_bits=bits)
    write_tiff(tmp_path / "a.tif", codes, {0x0106: (SHORT, [0])}, form)
    full = 255 if bits <= 8 else 65535
    assert np.array_equal(read_picture(tmp_path / "a.tif"), np.rint((largest - codes) * (full / largest)).astype(int))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("colour", [False, True])
def test_packed_integers_keep_their_counts_and_say_their_white(
    bits: int, colour: bool, planar: bool, tmp_path: Path
) -> None:
    counts = (RGB16 if colour else GREY16) >> (16 - bits)
    write_tiff(tmp_path / "a.tif", counts, {}, Form(int_bits=bits, planar=planar))
    picture = read_tagged_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.samples, counts) and picture.white == (1 << bits) - 1
    stretched = read_picture(tmp_path / "a.tif")
    assert np.array_equal(stretched, np.rint(counts * (65535 / ((1 << bits) - 1))).astype(np.uint16))
    light = read_light(tmp_path / "a.tif").image
    truth = counts / ((1 << bits) - 1)
    assert light == pytest.approx(truth if colour else np.repeat(truth[..., None], 3, axis=2), abs=1e-6)


@pytest.mark.parametrize("shift", [0, 8], ids=["8-bit colours", "16-bit colours"])
def test_palettes(shift: int, tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (3, 256))
    tags: Tags = {0x0106: (SHORT, [3]), 0x0140: (SHORT, (colours << shift).ravel().tolist())}
    write_tiff(tmp_path / "a.tif", GREY8, tags, Form(compression=8))
    assert np.array_equal(read_picture(tmp_path / "a.tif"), colours.T[GREY8])


def test_jpeg_and_ycbcr_in_a_tiff(tmp_path: Path) -> None:
    smooth = cv2.resize(RGB8, (64, 48), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    found = read_picture(tmp_path / "a.tif")
    assert found.shape == smooth.shape and np.abs(found.astype(int) - smooth).mean() < 6
    grey = np.dstack([GREY8, np.full_like(GREY8, 128), np.full_like(GREY8, 128)])
    write_tiff(tmp_path / "b.tif", grey, {0x0106: (SHORT, [6]), 0x0212: (SHORT, [1, 1])})
    assert np.abs(read_picture(tmp_path / "b.tif").astype(int) - GREY8[..., None]).max() <= 1


def test_packbits(tmp_path: Path) -> None:
    Image.fromarray(RGB8).save(tmp_path / "a.tif", compression="packbits")
    assert np.array_equal(read_picture(tmp_path / "a.tif"), RGB8)


def test_bilevel(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY8 > 100)
    assert np.array_equal(read_picture(tmp_path / "a.tif") == 255, tifffile.imread(tmp_path / "a.tif") == 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["samples", "jpeg"])
def test_samples_lie_as_stored_and_the_orientation_is_told(orientation: int, kind: str, tmp_path: Path) -> None:
    tags: Tags = {0x0112: (SHORT, [orientation])}
    if kind == "jpeg":  # OpenCV's way, which would turn them
        tags = {**tags, 0x0106: (SHORT, [6]), 0x0212: (SHORT, [1, 1])}
    write_tiff(tmp_path / "a.tif", RGB8, tags, Form(big=orientation % 2 == 0))
    picture = read_tagged_picture(tmp_path / "a.tif")
    assert picture.hints.orientation == orientation and picture.samples.shape == RGB8.shape


@pytest.mark.parametrize("planar", [False, True])
def test_a_planar_pair_is_the_interleaved_one(planar: bool, tmp_path: Path) -> None:
    """Views, frames of stacks and depth alike: one reader."""
    for side, shift in (("left", 0), ("right", 1)):
        write_tiff(tmp_path / f"a_{side}.tif", np.roll(RGB16, shift, axis=1), {}, Form(planar=planar))
    image = decode(tmp_path / "a_left.tif", equalise=False)
    assert image.left == pytest.approx(RGB16 / 65535, abs=1e-6)
    assert image.right == pytest.approx(np.roll(RGB16, 1, axis=1) / 65535, abs=1e-6)
    assert read_light(tmp_path / "a_left.tif").image == pytest.approx(RGB16 / 65535, abs=1e-6)
    assert inspect(tmp_path / "a_left.tif").dual_pixel


def test_a_depth_map_in_lzw_is_read_too_and_keeps_its_holes(tmp_path: Path) -> None:
    depth = (GREY32 * 3 + 1).astype(np.float32)
    depth[2:5, 3:9] = np.nan
    assert cv2.imwrite(str(tmp_path / "depth.tif"), depth, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert np.array_equal(read_depth_file(tmp_path / "depth.tif"), depth, equal_nan=True)
    with pytest.raises(DecodeError, match="NaN or infinite"):
        read_picture(tmp_path / "depth.tif")


@pytest.mark.parametrize("compression", ["zstd", "jpegxl", "lerc", "webp", "lzma", "png", "jpeg2000"])
@pytest.mark.parametrize("samples", [GREY8, RGB8], ids=["g8", "c8"])
def test_codecs_of_imagecodecs(compression: str, samples: npt.NDArray[Any], tmp_path: Path) -> None:
    if compression != "lzma":
        pytest.importorskip("imagecodecs")
    if compression == "webp" and samples.ndim == 2:
        pytest.skip("WebP has no grey")
    lossless = {"webp": {"lossless": True}, "jpegxl": {"lossless": True}, "jpeg2000": {"reversible": True}}
    photometric = "rgb" if samples.ndim == 3 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif",
        samples,
        photometric=photometric,
        compression=compression,
        compressionargs=lossless.get(compression),
    )
    assert np.array_equal(read_picture(tmp_path / "a.tif"), samples)


# --- what is not read -----------------------------------------------------------------------------------------------


def compressed(path: Path, code: int, samples: npt.NDArray[Any] = GREY8) -> None:
    write_tiff(path, samples, {0x0103: (SHORT, [code])})


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (50000, "Zstandard"),
        (50001, "WebP"),
        (50002, "JPEG XL"),
        (34887, "LERC"),
        (34712, "JPEG 2000"),
        (34933, "PNG"),
        (65000, "TIFF compression 65000"),
    ],
)
def test_a_codec_that_is_not_there_is_named(code: int, name: str, tmp_path: Path) -> None:
    """In a process of its own, whose tifffile finds no imagecodecs."""
    compressed(tmp_path / "a_left.tif", code)
    compressed(tmp_path / "a_right.tif", code, GREY8[::-1])
    script = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from dualpix.capture.cli import main\n"
        "main(['decode', sys.argv[1], '-o', sys.argv[2]])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a_left.tif"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    if code != 65000:
        assert f"'a_left.tif' is compressed with {name}, which" in done.stderr
        assert "pip install 'dualpix[tiff]'" in done.stderr and "damaged" not in done.stderr
    assert not any((tmp_path / "out").glob("*"))


def test_depth_maps_of_other_codecs_are_refused_in_one_line(tmp_path: Path) -> None:
    """Whether imagecodecs is there, to find that these are no such samples, or not."""
    compressed(tmp_path / "depth.tif", 50002, GREY16)
    with pytest.raises(DualpixError, match=r"JPEG XL|damaged") as refused:
        read_depth_file(tmp_path / "depth.tif")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("samples", "tags", "message"),
    [
        (
            (GREY16 // 2).astype(np.int16),
            {},
            "has signed integers of 16 bits; expected unsigned integers of up to 16 bits",
        ),
        (GREY8.astype(np.int8), {}, "has signed integers of 8 bits"),
        (GREY16.astype(np.uint32), {}, "has unsigned integers of 32 bits"),
        (GREY16.astype(np.uint64), {}, "has unsigned integers of 64 bits"),
        (GREY32.astype(np.complex64), {}, "has complex numbers of 64 bits"),
        (GREY8, {0x0153: (SHORT, [4])}, "has samples of no stated type of 8 bits"),
        (RGB16, {0x0102: (SHORT, [5, 6, 5])}, r"has samples of \[5, 6\] bits; expected the same in all channels"),
        (ALPHA8, {0x0106: (SHORT, [5])}, "is CMYK; expected grey or R, G, B"),
        (RGB8, {0x0106: (SHORT, [8])}, r"is CIE L\*a\*b\*"),
        (GREY16, {0x0106: (SHORT, [32803])}, "is the mosaic of a colour filter array"),
        (RGB16, {0x0106: (SHORT, [34892])}, "is LinearRaw"),
        (np.dstack([RGB16, RGB16, RGB16]), {}, "has 9 samples per pixel; expected 3 to 8"),
        (np.dstack([RGB16, ALPHA16])[..., :5], {0x0106: (SHORT, [1])}, "has 5 samples per pixel; expected 1 to 4"),
        (RGB16, {0x0106: (SHORT, [6])}, "is a YCbCr picture of 16 bits; expected 8"),
        (GREY16, {0x0103: (SHORT, [7])}, "is a JPEG picture of 16 bits; expected 8"),
    ],
)
def test_other_colours_and_samples_are_named(
    samples: npt.NDArray[Any], tags: Tags, message: str, tmp_path: Path
) -> None:
    write_tiff(tmp_path / "a.tif", samples, tags)
    with pytest.raises(DecodeError, match=message) as refused:
        read_picture(tmp_path / "a.tif")
    assert "damaged" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("tags", "form", "message"),
    [
        ({0x0101: (LONG, [48]), 0x0116: (LONG, [48])}, Form(), "is a damaged TIFF"),
        ({0x0101: (LONG, [48]), 0x0116: (LONG, [48])}, Form(compression=8), "has a piece of 5184 bytes"),
        ({0x0116: (LONG, [5])}, Form(compression=8), "is a cut TIFF"),
        ({0x0117: (LONG, [0, 0, 0])}, Form(rows_per_strip=8), "is a cut TIFF"),
        ({0x011C: (SHORT, [2])}, Form(), "is a cut TIFF"),
        ({0x0142: (LONG, [1 << 30])}, Form(tile_hw=(16, 16)), "is a damaged TIFF"),
        ({0x0142: (LONG, [0])}, Form(tile_hw=(16, 16)), "is a damaged TIFF"),
        ({0x0106: (SHORT, [3])}, Form(), "has a palette of 16 bits; expected 8"),
        ({0x0100: (LONG, [10_000_000])}, Form(compression=8), "claims 10000000x24 pixels"),
    ],
)
def test_what_is_missing_is_never_black(tags: Tags, form: Form, message: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", RGB16, tags, form)
    with pytest.raises(DecodeError, match=message):
        read_picture(tmp_path / "a.tif")


def test_damage_within_deflated_samples_is_found(tmp_path: Path) -> None:
    for predictor in (1, 2):
        write_tiff(tmp_path / "a.tif", RGB16, {}, Form(compression=8, predictor=predictor))
        data = bytearray((tmp_path / "a.tif").read_bytes())
        data[-900:-880] = bytes(20)
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.raises(DecodeError, match="has damaged deflated samples"):
            read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("code", [8, 34925])
def test_a_piece_is_unpacked_to_its_place_and_no_further(code: int, tmp_path: Path) -> None:
    pack = zlib.compress if code == 8 else lzma.compress
    bomb = pack(bytes(50 << 20))
    tags: Tags = {0x0103: (SHORT, [code])}
    write_tiff(tmp_path / "a.tif", GREY16, tags, pieces=[bomb])
    tracemalloc.start()
    with pytest.raises(DecodeError, match="more or less than the picture needs"):
        read_picture(tmp_path / "a.tif")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_last_strip_that_is_filled_up_is_read(tmp_path: Path) -> None:
    rows = np.concatenate([GREY16, np.zeros((16, 36), np.uint16)])
    strips = [zlib.compress(rows[top : top + 20].astype("<u2").tobytes()) for top in (0, 20)]
    tags: Tags = {0x0103: (SHORT, [8]), 0x0116: (LONG, [20])}
    write_tiff(tmp_path / "a.tif", GREY16, tags, Form(rows_per_strip=20), pieces=strips)
    assert np.array_equal(read_picture(tmp_path / "a.tif"), GREY16)


def test_nothing_is_printed_by_libraries(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_tiff(tmp_path / "a.tif", GREY8, {0x0103: (SHORT, [7])})
    write_tiff(tmp_path / "b.tif", GREY8, {0x0116: (LONG, [5])}, Form(compression=8, rows_per_strip=6))
    with caplog.at_level(logging.CRITICAL):
        for name in "ab":
            with pytest.raises(DecodeError):
                read_picture(tmp_path / f"{name}.tif")
    assert capfd.readouterr() == ("", "")


def test_what_opencv_makes_of_planar_samples(tmp_path: Path) -> None:
    """OpenCV 5.0.0: why it is not asked for them. Fails when a new version changes."""
    write_tiff(tmp_path / "a.tif", RGB16, {}, Form(planar=True))
    found = cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED)
    assert found is not None and found.shape == RGB16.shape and not np.array_equal(found[..., ::-1], RGB16)
    write_tiff(tmp_path / "b.tif", ALPHA8, {0x0152: (SHORT, [2])})
    found = cv2.imread(str(tmp_path / "b.tif"), cv2.IMREAD_UNCHANGED)
    assert found is not None and np.abs(found[..., 2::-1] / 255 - RGB8 / 255 * (GREY8 / 255)[..., None]).max() < 0.02


def test_the_command_reads_half_floats(tmp_path: Path) -> None:
    for side, shift in (("left", 0), ("right", 1)):
        samples = np.roll(np.tile(GREY32, (3, 3)), shift, axis=1)
        write_tiff(tmp_path / f"f_{side}.tif", samples, {}, Form(float_bits=16))
    with pytest.raises(SystemExit) as stopped:
        main(["decode", str(tmp_path / "f_left.tif"), "-o", str(tmp_path / "out")])
    assert not stopped.value.code
    record = json.loads((tmp_path / "out" / "f" / "decode.json").read_text())
    assert record["sensor"]["white"] == 1.0 and Fraction(record["saturated_fraction"]) == 0
