"""Headerless RAW_DEPTH dumps: bit-exact in both packings, and every geometry that cannot be."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.support.dump import interleave, pack_raw10, stretch, write_dump
from tests.support.halves import shift_between

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode, decode_capture
from dualpix.capture.raw.containers.images import read_pgm
from dualpix.capture.raw.formats.dump import Dump, unpack_raw10
from dualpix.capture.raw.formats.pair import right_name
from dualpix.capture.raw.formats.raw_depth import ten_bit

Samples = npt.NDArray[np.uint16]
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def halves(size_hw: tuple[int, int] = (24, 40), seed: int = 0) -> tuple[Samples, Samples]:
    rng = np.random.default_rng(seed)
    left, right = (rng.integers(40, 1000, size_hw).astype(np.uint16) for _ in range(2))
    left[0, :2] = 64, 1023
    return left, right


@pytest.mark.parametrize(("bits", "stretched"), [(16, False), (16, True), (10, False)])
def test_a_dump_is_bit_exact(tmp_path: Path, bits: int, stretched: bool) -> None:
    left, right = halves()
    raw = interleave(left, right)
    write_dump(tmp_path / "d.raw", stretch(raw) if stretched else raw, bits=bits)
    capture = decode_capture(tmp_path / "d.raw", dump=Dump(80, 24, bits), equalise=False)
    frames, image = capture.frames(), capture.image
    assert capture.decoder == "raw-depth-dump"
    assert np.array_equal(frames["frame0"], stretch(left) if stretched else left)
    assert np.array_equal(frames["frame1"], stretch(right) if stretched else right)
    assert np.allclose(image.left, (left - 64.0) / 959, atol=1e-6)
    assert np.allclose(image.right, (right - 64.0) / 959, atol=1e-6)
    assert np.allclose(image.combined, (image.left + image.right) / 2, atol=1e-6)
    assert (image.left[0, 0], image.left[0, 1]) == (0, 1)
    assert image.saturated[0, 1] and image.saturated.sum() == 1
    assert (image.meta.pixel_aspect, image.baseline) == (2.0, "x")
    assert image.meta.provenance["left"] == "even columns"
    assert "assumed" in image.meta.provenance["levels"]
    assert ("stretched" in capture.details["format"]) == stretched


@pytest.mark.parametrize("bits", [16, 10])
@pytest.mark.parametrize("pad_last_row", [True, False])
def test_padded_rows(tmp_path: Path, bits: int, pad_last_row: bool) -> None:
    left, right = halves()
    write_dump(tmp_path / "d.raw", interleave(left, right), bits=bits, stride_bytes=192, pad_last_row=pad_last_row)
    frames = decode_capture(tmp_path / "d.raw", dump=Dump.parse(f"80x24x{bits}:192")).frames()
    assert np.array_equal(frames["frame0"], left) and np.array_equal(frames["frame1"], right)


def test_the_sign_is_kept(tmp_path: Path) -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(0).random((96, 136)).astype(np.float32), (0, 0), 2)
    counts = (100 + 800 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint16)
    write_dump(tmp_path / "d.raw", interleave(counts[:, 6:134], counts[:, 2:130]))
    image = decode(tmp_path / "d.raw", dump=Dump(256, 96), equalise=False)
    dx, dy = shift_between(image.left, image.right)
    assert dx == pytest.approx(4, abs=0.1) and dy == pytest.approx(0, abs=0.1)


@QUICK
@given(st.data())
def test_raw10_packing_is_inverted(data: st.DataObject) -> None:
    height, groups = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 8))
    samples = data.draw(hnp.arrays(np.uint16, (height, 4 * groups), elements=st.integers(0, 1023)))
    assert np.array_equal(unpack_raw10(pack_raw10(samples)), samples)


def test_raw10_of_known_bytes() -> None:
    # P0 = 0b0000000101, P1 = 0b1111111110, P2 = 0b1000000000, P3 = 0b0000000011: low bits 01, 10, 00, 11.
    packed = np.array([[0b00000001, 0b11111111, 0b10000000, 0b00000000, 0b11_00_10_01]], np.uint8)
    assert unpack_raw10(packed).tolist() == [[5, 1022, 512, 3]]


@QUICK
@given(
    width=st.integers(1, 16).map(lambda n: 4 * n + 4),
    height=st.integers(4, 20),
    bits=st.sampled_from([10, 16]),
    padding=st.integers(0, 9),
    pad_last_row=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_geometry(
    tmp_path: Path, width: int, height: int, bits: int, padding: int, pad_last_row: bool, seed: int
) -> None:
    samples = np.random.default_rng(seed).integers(0, 1024, (height, width)).astype(np.uint16)
    stride = width * bits // 8 + padding
    write_dump(tmp_path / "d.bin", samples, bits=bits, stride_bytes=stride, pad_last_row=pad_last_row)
    frames = decode_capture(tmp_path / "d.bin", dump=Dump(width, height, bits, stride), equalise=False).frames()
    assert np.array_equal(interleave(frames["frame0"], frames["frame1"]), samples)


def test_every_ten_bit_value_is_told_from_others() -> None:
    raw = np.arange(1024, dtype=np.uint16)
    exact = ten_bit(stretch(raw))
    assert exact is not None and np.array_equal(exact, raw)
    every = np.arange(65536, dtype=np.uint16)
    accepted = [value for value in every[1024:] if ten_bit(np.array([[value]])) is not None]
    assert accepted == [v for v in stretch(raw).tolist() if v >= 1024]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4032x756", Dump(4032, 756, 16)),
        ("4032x756x16", Dump(4032, 756, 16)),
        ("4032x756x10", Dump(4032, 756, 10)),
        (" 4032x756x10:5120 ", Dump(4032, 756, 10, 5120)),
        ("4032x756:8192", Dump(4032, 756, 16, 8192)),
    ],
)
def test_spellings(text: str, expected: Dump) -> None:
    assert Dump.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4032", "dump geometry '4032'; expected WIDTHxHEIGHT"),
        ("4032*756", "dump geometry"),
        ("-4032x756", "dump geometry"),
        ("9999999x756", "dump geometry"),
        ("4032x756x12", "a dump of 12-bit samples; expected 16, or 10"),
        ("4031x756", "16-bit dump of 4031x756 samples; expected a width divisible by 2"),
        ("4034x756x10", "10-bit dump of 4034x756 samples; expected a width divisible by 4"),
        ("4032x0", "a height from 4"),
        ("4x100", "a width divisible by 2 from 8"),
        ("99998x99999", "both up to 65535"),
        ("4032x756:8063", "a row stride of 8063 bytes; expected at least 8064 for 4032 samples of 16 bits"),
    ],
)
def test_geometries_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Dump.parse(text)


@QUICK
@given(st.text(alphabet="0123456789x: ", max_size=20))
@example("65535x65535x10:999999")
def test_any_spelling_is_a_geometry_or_refused(text: str) -> None:
    try:
        dump = Dump.parse(text)
    except DecodeError as error:
        assert "\n" not in str(error)
    else:
        assert dump.row_bytes <= dump.stride_bytes and dump.file_sizes[0] >= dump.file_sizes[1] > 0


def test_a_cut_file(tmp_path: Path) -> None:
    write_dump(tmp_path / "d.raw", interleave(*halves()))
    data = (tmp_path / "d.raw").read_bytes()
    (tmp_path / "d.raw").write_bytes(data[:-1])
    with pytest.raises(DecodeError, match=r"'d.raw' has 3839 bytes; expected 3840 for 80x24 samples of 16 bits"):
        decode(tmp_path / "d.raw", dump=Dump(80, 24))


def test_padding_is_recognised_and_the_option_named(tmp_path: Path) -> None:
    write_dump(tmp_path / "d.raw", interleave(*halves()), stride_bytes=192)
    with pytest.raises(DecodeError, match=r"expected 3840 .*if its rows are padded, add :192"):
        decode(tmp_path / "d.raw", dump=Dump(80, 24))


def test_the_wrong_geometry_of_the_right_size(tmp_path: Path) -> None:
    """Packed samples read as 16-bit ones of the same file size are no 10-bit values."""
    left, right = halves((32, 64))
    write_dump(tmp_path / "d.raw", interleave(left, right), bits=10)
    with pytest.raises(DecodeError, match=r"neither 10-bit ones nor such stretched.*little-endian"):
        decode(tmp_path / "d.raw", dump=Dump(80, 32))


def test_big_endian_samples_are_refused(tmp_path: Path) -> None:
    write_dump(tmp_path / "d.raw", interleave(*halves()).byteswap())
    with pytest.raises(DecodeError, match="byte order"):
        decode(tmp_path / "d.raw", dump=Dump(80, 24))


def test_an_absurd_geometry_costs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "d.raw").write_bytes(bytes(100))
    tracemalloc.start()
    try:
        for dump in (Dump(65532, 65532, 10), Dump(16000, 8000)):
            with pytest.raises(DecodeError, match=r"claims 65532x65532 pixels|'d.raw' has 100 bytes"):
                decode(tmp_path / "d.raw", dump=dump)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_options_that_contradict_a_dump(tmp_path: Path) -> None:
    write_dump(tmp_path / "d.raw", interleave(*halves()))
    with pytest.raises(DecodeError, match="leave out --right"):
        decode(tmp_path / "d.raw", dump=Dump(80, 24), right=tmp_path / "d.raw")
    with pytest.raises(DecodeError, match="leave out --sub"):
        decode(tmp_path / "d.raw", dump=Dump(80, 24), sub=tmp_path / "d.raw")
    with pytest.raises(DecodeError, match=r"no decoder takes 'd.raw'.*no geometry given \(--dump\)"):
        decode(tmp_path / "d.raw")


def save(path: Path, image: Samples) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize(
    ("size_hw", "baseline", "aspect"), [((756, 2016), "x", 2.0), ((1512, 2016), "x", 1.0), ((2016, 1512), "y", 1.0)]
)
@pytest.mark.parametrize("stretched", [False, True])
def test_png_of_ten_bit_samples(
    tmp_path: Path, size_hw: tuple[int, int], baseline: str, aspect: float, stretched: bool
) -> None:
    """The tree of Learning to Autofocus, with a phone of the rig that is itself called "left"."""
    left, right = halves(size_hw)
    stored = [stretch(v) if stretched else v for v in (left, right)]
    path = save(tmp_path / "raw_left_pd" / "apt1_0" / "7" / "result_pd_left_left.png", stored[0])
    save(tmp_path / "raw_left_pd" / "apt1_0" / "7" / "result_pd_left_right.png", stored[0][::-1])
    save(tmp_path / "raw_right_pd" / "apt1_0" / "7" / "result_pd_right_left.png", stored[1])
    capture = decode_capture(path, equalise=False)
    assert capture.decoder == "raw-depth-png"
    assert np.allclose(capture.image.right, (right - 64.0) / 959, atol=1e-6)
    assert (capture.baseline, capture.meta.pixel_aspect) == (baseline, aspect)
    assert np.array_equal(capture.frames()["frame0"], stored[0])


def test_png_whose_right_file_is_of_another_kind(tmp_path: Path) -> None:
    left, right = halves((756, 2016))
    path = save(tmp_path / "a_left.png", left)
    save(tmp_path / "a_right.png", right * 3)
    with pytest.raises(DecodeError, match=r"'a_right.png' holds other than 10-bit samples"):
        decode(path)


@pytest.mark.parametrize("form", ["stretched", "16", "10"])
def test_a_real_capture_as_a_dump_is_the_capture(shared_data: Callable[[str], Path], tmp_path: Path, form: str) -> None:
    """PDCapture de-interleaved this stream into its two files; put back, it decodes to the same views."""
    left = shared_data("pixel4_pdcapture") / "20210705_161427_778_left.pgm"
    halves = [read_pgm(left)[0], read_pgm(right_name(left) or left)[0]]
    if form != "stretched":
        halves = [np.round(v * (1023 / 65535)).astype(np.uint16) for v in halves]
    dump = Dump.parse("4032x756x10" if form == "10" else "4032x756")
    write_dump(tmp_path / "d.raw", interleave(*halves), bits=dump.bits)
    capture, expected = decode(tmp_path / "d.raw", dump=dump, equalise=False), decode(left, equalise=False)
    for name in ("left", "right", "combined", "saturated"):
        assert np.array_equal(getattr(capture, name), getattr(expected, name)), name
