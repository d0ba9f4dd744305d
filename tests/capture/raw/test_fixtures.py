"""The writers of camera files, against readers that are not ours: LibRaw, exifread, and the codecs spelt out slowly."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import exifread
import numpy as np
import numpy.typing as npt
import pytest
import rawpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.support import crx, crx_wavelet, ljpeg
from tests.support.bits import pack
from tests.support.cr2 import Shot
from tests.support.cr3 import write_cr3
from tests.support.fixtures import BODIES, FULL_SIZE, KINDS, Kind, Recipe, small_body, suffix, write, write_frames
from tests.support.halves import Frame

from dualpix.capture.raw.containers.boxes import read_cr3
from dualpix.capture.raw.containers.tiff import TiffReader
from dualpix.capture.raw.develop.geometry import Crop


def libraw_frame(path: Path, index: int) -> tuple[Frame, rawpy.RawPy]:
    raw = rawpy.RawPy()
    raw.set_unpack_params(shot_select=index)
    raw.open_file(str(path))
    raw.unpack()
    return raw.raw_image, raw


@pytest.mark.parametrize("kind", KINDS)
def test_libraw_reads_each_kind_exactly(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"shot{suffix(kind)}"
    truth = write(path, Recipe(kind, shot=Shot(orientation=6, iso=3200), highlight=2.0, black=(2047, 2031)))
    for index, frame in enumerate((truth.composite, truth.half)):
        read, raw = libraw_frame(path, index)
        assert np.array_equal(read, frame)
        assert raw.raw_pattern.tolist() == [[0, 1], [3, 2]]
        s = raw.sizes
        assert Crop(s.crop_left_margin, s.crop_top_margin, s.crop_width, s.crop_height) == truth.crop
        assert s.flip == 6
    with pytest.raises(rawpy.LibRawRequestForNonexistentImageError):
        libraw_frame(path, 2)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["DNG-strip", "DNG-strip-ljpeg", "DNG-tiles-ljpeg"])
def test_libraw_reads_fewer_bits_exactly(tmp_path: Path, kind: Kind, bits: int) -> None:
    path = tmp_path / "shot.dng"
    frames = np.random.default_rng(bits).integers(0, 1 << bits, (2, 50, 98)).astype(np.uint16)
    recipe = Recipe(kind, small_body(kind, (50, 98), Crop(0, 0, 98, 50)), bits=bits, black=(9, 8), stated_white=1000)
    write_frames(path, recipe, *frames)
    for index in (0, 1):
        assert np.array_equal(libraw_frame(path, index)[0], frames[index])


@pytest.mark.parametrize("kind", ["CR2", "CR3", "C-RAW"])
def test_an_ordinary_shot_has_one_frame(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"plain{suffix(kind)}"
    frame = np.random.default_rng(0).integers(500, 9000, (192, 288)).astype(np.uint16)
    write_frames(path, Recipe(kind), frame, None)
    assert np.array_equal(libraw_frame(path, 0)[0], frame)
    with pytest.raises(rawpy.LibRawRequestForNonexistentImageError):
        libraw_frame(path, 1)


def test_bodies_have_even_pictures_behind_masked_columns() -> None:
    for body in BODIES.values():
        crop, (height, width) = body.crop, body.size_hw
        assert all(n % 2 == 0 for n in (height, width, crop.left, crop.top, crop.width, crop.height))
        assert crop.left >= 100 and crop.left + crop.width <= width and crop.top + crop.height <= height
    assert {kind for kind in KINDS if kind not in FULL_SIZE} == {"C-RAW"}


@pytest.mark.parametrize("kind", ["CR2", "DNG-strip", "DNG-tiles-ljpeg"])
def test_exif_as_an_independent_reader_sees_it(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"shot{suffix(kind)}"
    write(path, Recipe(kind, shot=Shot(orientation=8, iso=640, lens="EF50mm f/1.4 USM")))
    with path.open("rb") as file:
        tags = exifread.process_file(file, details=False)
    assert tags["Image Model"].values == "Canon EOS 5D Mark IV"
    assert tags["EXIF LensModel"].values == "EF50mm f/1.4 USM"
    assert tags["Image Orientation"].values == [8]
    assert tags["EXIF ISOSpeedRatings"].values == [640]
    assert float(tags["EXIF FocalPlaneXResolution"].values[0]) == pytest.approx(25400 / 5.36, rel=1e-5)


@pytest.mark.parametrize("kind", ["CR2", "CR3", "C-RAW"])
@pytest.mark.parametrize("dual", [None, False])
def test_maker_notes(tmp_path: Path, kind: Kind, dual: bool | None) -> None:
    path = tmp_path / f"shot{suffix(kind)}"
    shot = Shot(lens="RF50mm F1.2 L USM", focus_m=(math.inf, 21.3), dual=dual)
    write(path, Recipe(kind, shot=shot))
    data = path.read_bytes()
    if kind == "CR2":
        reader = TiffReader(data)
        exif = reader.ifd(next(reader.chain()).integer(0x8769))
        (value,) = [v for tag, v in exif.tags.items() if tag == 0x927C and isinstance(v, bytes)]
        note = reader.ifd(data.index(value))
    else:
        reader = TiffReader(read_cr3(data).blobs[b"CMT3"])
        note = reader.ifd(reader.first_offset)
    limits = note.integers(0x0004)[19:21] if kind == "CR2" else note.integers(0x0093)[20:22]
    assert limits == (65535, 2130)
    assert note.integers(0x4018)[11] == (dual is None)
    assert note.integers(0x0001)[3] == (7 if kind == "C-RAW" else 4)
    assert note.text(0x0095) == "RF50mm F1.2 L USM"
    assert note.integers(0x00E0)[5:9] == (24, 16, 279, 183)  # SensorInfo: borders of the picture


CONTENT = {
    "dark": lambda rng, shape: rng.normal(512, 1, shape),
    "middle": lambda rng, shape: rng.normal(8192, 0.7, shape).round(),
    "flat": lambda rng, shape: np.full(shape, 8192),
    "extremes": lambda rng, shape: rng.choice([0, 16383], shape),
    "noise": lambda rng, shape: rng.integers(0, 16384, shape),
    "clipped": lambda rng, shape: np.clip(rng.normal(15500, 900, shape), 0, 16383),
    "runs": lambda rng, shape: rng.integers(8190, 8195, (shape[0], -(-shape[1] // 8))).repeat(8, 1)[:, : shape[1]],
}


def hostile(content: str, shape: tuple[int, int], seed: int = 0) -> Frame:
    return CONTENT[content](np.random.default_rng(seed), shape).astype(np.uint16)


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("shape", [(64, 96), (50, 178), (102, 230)])
@pytest.mark.parametrize("tiles", [1, 2])
def test_c_raw_with_steps_of_one_is_exact(tmp_path: Path, content: str, shape: tuple[int, int], tiles: int) -> None:
    """The wavelet, its sub-bands across tiles, and their entropy code, odd sizes of the levels among them."""
    frames = [hostile(content, shape, seed) for seed in (1, 2)]
    path = tmp_path / "c.CR3"
    write_cr3(path, *frames, Crop(14, 10, shape[1] - 16, shape[0] - 12), tiles=tiles, quantiser=4)
    for index, frame in enumerate(frames):
        assert np.array_equal(libraw_frame(path, index)[0], frame)


def worst_error(step: int) -> float:
    """The largest error of a sample where each detail is off by half a step and the average not at all.

    Per level and axis, low samples take half the error of two details' mean (and round down), high ones the mean of two
    low ones and that of their detail.
    """
    detail = step / 2

    def joined(low: float, high: float) -> float:
        even = low + high / 2 + 1
        return max(even, even + high + 1)

    error = 0.0
    for _ in range(crx_wavelet.LEVELS):
        error = joined(joined(error, detail), joined(detail, detail))  # rows first, then columns
    return error


def test_coarser_c_raw_is_smaller_and_within_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "coarse.CR3"
    exact = write(path, Recipe("C-RAW", shot_noise=0.5))
    sizes = [path.stat().st_size]
    for quantiser in (10, 16, 20, 26):
        write_frames(path, Recipe("C-RAW", quantiser=quantiser), exact.composite, exact.half)
        step = crx_wavelet.quantiser_step(quantiser)
        for index, frame in enumerate((exact.composite, exact.half)):
            error = libraw_frame(path, index)[0].astype(int) - frame
            assert 0 < np.abs(error).max() <= worst_error(step)
            assert np.sqrt(np.mean(error**2.0)) < 1.2 * step / math.sqrt(12) + 1
            assert abs(error.mean()) < 0.5  # black levels and light survive
        sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.7 * sizes[0]


def test_quantiser_steps_double_every_six() -> None:
    assert [crx_wavelet.quantiser_step(q) for q in (4, 10, 16, 22, 28, 34)] == [1, 2, 4, 8, 16, 32]


@given(
    npst.arrays(
        np.int64, npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9), elements=st.integers(-99, 99)
    )
)
def test_wavelet_has_an_inverse(samples: npt.NDArray[np.int64]) -> None:
    """Undone as ITU-T T.800, equation F-5 and F-6, has it."""
    for axis in (0, 1):
        low, high = (np.moveaxis(part, axis, 0) for part in crx_wavelet.split(samples, axis))
        at = lambda values, i: values[min(max(i, 0), len(values) - 1)]  # noqa: E731
        even = np.array([low[i] - ((at(high, i - 1) + at(high, i) + 2) >> 2) for i in range(len(low))])
        odd = np.array([high[i] + ((even[i] + at(even, i + 1)) >> 1) for i in range(len(high))])
        joined = np.empty_like(np.moveaxis(samples, axis, 0))
        joined[0::2], joined[1::2] = even, odd
        assert np.array_equal(np.moveaxis(joined, 0, axis), samples)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1 << 17), min_size=1, max_size=300), st.integers(1, 60))
def test_golomb_parameters_are_those_of_the_plain_recursion(pattern: list[int], repeats: int) -> None:
    adapted = np.array(pattern * repeats, np.int64)
    k, expected = 0, []
    for value in adapted.tolist():
        expected.append(k)
        k = min(k - (value < (1 << k) // 2) + (value >> k > 2) + (value >> k > 5), 15)
    assert crx.golomb_parameters(adapted).tolist() == expected


@given(st.integers(1, 9000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(0, 31))
def test_run_codes_read_back(run: tuple[int, int], step: int) -> None:
    """Read as LibRaw's crxDecodeLine does; the steps of JPEG-LS."""
    length, remaining = run
    value, count, after = crx.run_code(length, remaining, step)
    text = f"{value:0{count}b}"
    bits = iter(text)
    found, read_step = 0, step
    if next(bits) == "1":
        found = 1
        while next(bits) == "1":
            found += 1 << crx.RUN_BITS[read_step]
            if found > remaining:
                found = remaining
                break
            read_step = min(read_step + 1, 31)
            if found == remaining:
                break
        if found < remaining:
            extra = crx.RUN_BITS[read_step]
            found += int("0" + "".join(next(bits) for _ in range(extra)), 2)
            read_step = max(read_step - 1, 0)
    assert (found, read_step, list(bits)) == (length, after, [])


@given(st.lists(st.integers(0, 64).flatmap(lambda n: st.tuples(st.integers(0, (1 << n) - 1), st.just(n))), max_size=40))
def test_packed_codes_are_their_bits_in_a_row(codes: list[tuple[int, int]]) -> None:
    values = np.array([v for v, _ in codes], np.uint64)
    counts = np.array([n for _, n in codes], np.int64)
    text = "".join(f"{v:0{n}b}" if n else "" for v, n in codes)
    for fill in "01":
        full = text + fill * (-len(text) % 8)
        expected = int(full, 2).to_bytes(len(full) // 8, "big") if full else b""
        assert pack(values, counts, pad_bit=int(fill)) == expected
    assert len(pack(values, counts, align=4)) % 4 == 0


def test_huffman_codes_never_exceed_sixteen_bits() -> None:
    frequency = [1, 1]
    while len(frequency) < 17:  # the worst case: each code is one longer than the next frequent one's
        frequency.append(frequency[-1] + frequency[-2])
    lengths = ljpeg.code_lengths(np.array(frequency) * 1000)
    assert max(lengths.values()) <= 16
    assert sum(Fraction(1, 1 << n) for n in lengths.values()) < 1  # the all-ones code stays free
