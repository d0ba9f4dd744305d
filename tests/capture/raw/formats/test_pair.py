"""Pairs of files: Google PDCapture PGM, Pixel 4 PNG, exported left / right views; and everything wrong with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.support import exported
from tests.support.halves import sensor_frames, shift_between
from tests.support.pgm import write_pdcapture

from dualpix.capture.errors import DecodeError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw import decode, decode_capture
from dualpix.capture.raw.containers.hints import profile_tone
from dualpix.capture.raw.develop.geometry import as_sensor, upright_baseline
from dualpix.capture.raw.formats.pair import pair_stem, right_name
from dualpix.capture.raw.write.dng import write_dual_pixel_dng

Samples = npt.NDArray[np.integer]


def save(path: Path, image: npt.NDArray[np.generic]) -> None:
    assert cv2.imwrite(str(path), image)


def views(scale: float, offset: float) -> tuple[Samples, Samples]:
    truth = sensor_frames(disparity_px=4.0, read_noise=0)
    both = [v[16:176, 32:272] / 4000 for v in (truth.left / 1.0, truth.right / 1.0)]
    cell = [v[0::2, 1::2] for v in both]  # green only, as on a Pixel
    left, right = (np.round(v * scale + offset).astype(np.uint16) for v in cell)
    return left, right


def test_pdcapture_levels_and_sign(tmp_path: Path) -> None:
    left, right = views(500, 64)
    left[0, 0], left[0, 1] = 64, 1023
    write_pdcapture(tmp_path / "t_left.pgm", left)
    write_pdcapture(tmp_path / "t_right.pgm", right)
    capture = decode_capture(tmp_path / "t_left.pgm", equalise=False)
    image = capture.image
    assert capture.decoder == "pixel-pdcapture"
    assert capture.image.meta.pixel_aspect == 2.0
    assert np.allclose(image.left, (left - 64.0) / (1023 - 64), atol=1e-6)
    assert np.allclose(image.combined, (image.left + image.right) / 2)
    assert (image.left[0, 0], image.left[0, 1]) == (0, 1)
    assert image.saturated[0, 1] and image.saturated.sum() == 1
    assert shift_between(image.left, image.right)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("size_hw", "baseline"), [((1512, 2016), "x"), ((2016, 1512), "y")])
def test_pixel4_png_levels(tmp_path: Path, size_hw: tuple[int, int], baseline: str) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.integers(1009, 9000, size_hw).astype(np.uint16) for _ in range(2))
    left[5, 6], right[7, 8] = 16464, 16383
    save(tmp_path / "001_left.png", left)
    save(tmp_path / "001_right.png", right)
    capture = decode_capture(tmp_path / "001_left.png", equalise=False)
    assert capture.decoder == "pixel4-png"
    assert capture.image.baseline == baseline
    assert np.allclose(capture.image.left, (left - 1024.0) / (16383 - 1024), atol=1e-6)
    assert sorted(zip(*np.nonzero(capture.image.saturated), strict=True)) == [(5, 6), (7, 8)]


def test_a_png_of_other_range_is_a_generic_pair(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        save(tmp_path / f"a_{side}.png", rng.integers(0, 65535, (1512, 2016)).astype(np.uint16))
    assert decode_capture(tmp_path / "a_left.png").decoder == "pair"


@pytest.mark.parametrize("most", [16000, 65535])
def test_a_picture_that_decoders_look_at_is_unpacked_once(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, unpacked = np.random.default_rng(0), []
    for side in ("left", "right"):
        save(tmp_path / f"a_{side}.png", rng.integers(1024, most, (1512, 2016)).astype(np.uint16))
    plain = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: (unpacked.append(1), plain(*given))[1])
    assert decode_capture(tmp_path / "a_left.png").decoder == ("pixel4-png" if most == 16000 else "pair")
    assert len(unpacked) == 2


def test_exported_8_bit_pair_is_linearised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 256, (20, 30, 3)).astype(np.uint8) for _ in range(2))
    save(tmp_path / "box_l.png", left[..., ::-1])
    save(tmp_path / "box_r.png", right[..., ::-1])
    image = decode(tmp_path / "box_l.png", equalise=False)
    assert np.allclose(image.left, linear_from_srgb((left / 255).astype(np.float32)), atol=1e-6)
    assert image.meta.provenance["tone"] == "srgb (assumed)"
    assert np.array_equal(image.saturated, ((left == 255) | (right == 255)).any(-1))
    linear = decode(tmp_path / "box_l.png", equalise=False, encoding="linear")
    assert np.allclose(linear.right, right / 255, atol=1e-6)


def test_srgb_curve_at_known_points() -> None:
    known = np.array([0, 0.04045, 0.5, 1], np.float32)
    assert np.allclose(linear_from_srgb(known), [0, 0.0031308, 0.2140411, 1], atol=1e-6)


def test_16_bit_and_float_pairs_are_linear(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.random((16, 24)).astype(np.float32) for _ in range(2))
    tifffile.imwrite(tmp_path / "f_left.tiff", left)
    tifffile.imwrite(tmp_path / "f_right.tiff", right)
    assert np.array_equal(decode(tmp_path / "f_left.tiff", equalise=False).left, left)
    codes = (right * 65535).astype(np.uint16)
    save(tmp_path / "A.png", (left * 65535).astype(np.uint16))
    save(tmp_path / "B.png", codes)
    image = decode(tmp_path / "A.png", right=tmp_path / "B.png", equalise=False, baseline="y")
    assert np.allclose(image.right, codes / 65535, atol=1e-6)
    assert image.baseline == "y"


@pytest.mark.parametrize(
    ("left", "right", "stem"),
    [
        ("001_left.png", "001_right.png", "001"),
        ("box_001_l.png", "box_001_r.png", "box_001"),
        ("result_leftPd_center.png", "result_rightPd_center.png", "result_Pd_center"),
        ("IMG_1_L.TIF", "IMG_1_R.TIF", "IMG_1"),
        ("left.png", "right.png", "left"),
        ("a-Left-b.jpg", "a-Right-b.jpg", "a-b"),
        ("left_turn_left.png", "left_turn_right.png", "left_turn"),
        ("leftover.png", None, "leftover"),
        ("IMG_l.CR2", None, "IMG_l"),
        ("a_left.npy", "a_right.npy", "a"),
        ("result_leftPd_left.png", "result_rightPd_left.png", "result_Pd_left"),
        ("result_pd_left_right.png", "result_pd_right_right.png", "result_pd_right"),
        ("result_up_pd_left_left.png", "result_up_pd_right_left.png", "result_up_pd_left"),
        ("result_pd_right_left.png", None, "result_pd_right_left"),
        ("result_scaled_image_left.jpg", None, "result_scaled_image_left"),
        ("result_merged_depth_left.png", None, "result_merged_depth_left"),
    ],
)
def test_names_of_pairs(left: str, right: str | None, stem: str) -> None:
    found = right_name(Path("d") / left)
    assert (found.name if found else None) == right
    assert pair_stem(Path("d") / left) == stem


TREES = [
    ("inputL/1P0A1695.png", "inputR/1P0A1695.png", "1P0A1695"),
    ("train_l/source/00017.png", "train_r/source/00017.png", "00017"),
    ("test_l/source/1P0A1695_L.png", "test_r/source/1P0A1695_R.png", "1P0A1695"),
    ("L/a b.tif", "R/a b.tif", "a b"),
    ("left/a_left.npy", "right/a_right.npy", "a"),
    ("left/a_left.png", "right/a_left.png", "a"),
    ("left_pd/apt_1/result_leftPd_center.png", "right_pd/apt_1/result_rightPd_center.png", "apt_1_center"),
    (
        "raw_up_left_pd/apt/12/result_up_pd_left_right.png",
        "raw_up_right_pd/apt/12/result_up_pd_right_right.png",
        "apt_12_right",
    ),
]


@pytest.mark.parametrize(("left", "right", "stem"), TREES)
def test_right_files_in_sibling_folders(tmp_path: Path, left: str, right: str, stem: str) -> None:
    for name in (left, right):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert right_name(tmp_path / left) == tmp_path / right
    assert pair_stem(tmp_path / left) == stem


def test_a_folder_is_left_only_beside_a_right_one(tmp_path: Path) -> None:
    alone = tmp_path / "l" / "holiday.png"
    alone.parent.mkdir()
    assert right_name(alone) is None
    (tmp_path / "r").mkdir()
    assert right_name(alone) == tmp_path / "r" / "holiday.png"
    with pytest.raises(
        DecodeError, match=r"no right file 'holiday.png' for 'holiday.png'; expected it at '.*r/holiday"
    ):
        decode(png(alone))


def test_a_pair_within_one_folder_comes_first(tmp_path: Path) -> None:
    """Two cameras side by side, each with both halves."""
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        for side in ("left", "right"):
            png(tmp_path / folder / f"a_{side}.png")
    assert right_name(tmp_path / "left" / "a_left.png") == tmp_path / "left" / "a_right.png"


def test_dpdd_pair(tmp_path: Path) -> None:
    """16-bit colour PNG of one name in the folders inputL and inputR, bit-exact and linear."""
    rng = np.random.default_rng(0)
    stored = {side: rng.integers(0, 65536, (112, 168, 3)).astype(np.uint16) for side in "LRC"}
    for side, image in stored.items():
        (tmp_path / f"input{side}").mkdir()
        save(tmp_path / f"input{side}" / "1P0A1695.png", image[..., ::-1])
    capture = decode_capture(tmp_path / "inputL" / "1P0A1695.png", equalise=False)
    assert np.array_equal(capture.frames()["frame0"], stored["L"])
    assert np.array_equal(capture.frames()["frame1"], stored["R"])
    image = capture.image
    assert np.allclose(image.left, stored["L"] / 65535, atol=1e-6)
    assert np.allclose(image.combined, (image.left + image.right) / 2, atol=1e-6)
    assert image.meta.provenance["tone"] == "linear (assumed)"
    with pytest.raises(DecodeError, match="is one picture"):
        decode(tmp_path / "inputC" / "1P0A1695.png")


def test_garg_tree_is_a_portrait_along_y(tmp_path: Path) -> None:
    for side in ("left", "right"):
        folder = tmp_path / f"{side}_pd" / "apt"
        folder.mkdir(parents=True)
        png(folder / f"result_{side}Pd_top.png", (40, 30), seed=len(side))
    path = tmp_path / "left_pd" / "apt" / "result_leftPd_top.png"
    assert decode(path).baseline == "y"
    assert decode(path, baseline="x").baseline == "x"


def test_dpp_tiff_with_lzw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = [np.cumsum(rng.integers(0, 30, (60, 90, 3)), axis=1).astype(np.uint16) for _ in range(2)]
    for side, image in zip("LR", stored, strict=True):
        assert cv2.imwrite(str(tmp_path / f"IMG_{side}.TIF"), image[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    frames = decode_capture(tmp_path / "IMG_L.TIF").frames()
    assert np.array_equal(frames["frame0"], stored[0]) and np.array_equal(frames["frame1"], stored[1])


SRGB_TABLE = linear_from_srgb(np.linspace(0, 1, 1024, dtype=np.float32))


@pytest.mark.parametrize(
    ("remark", "tone"),
    [
        ({}, "linear (assumed)"),
        ({"colour_space": 1}, "srgb (EXIF ColorSpace)"),
        ({"colour_space": 65535}, "linear (assumed)"),
        ({"profile": exported.icc(exported.curve_table(SRGB_TABLE))}, "srgb (embedded ICC profile)"),
        ({"profile": exported.icc(exported.curve_gamma(2.2))}, "srgb (embedded ICC profile)"),
        ({"profile": exported.icc(exported.curve_gamma(1.0)), "colour_space": 1}, "linear (embedded ICC profile)"),
        ({"profile": b"\xff" * 200}, "linear (assumed)"),
    ],
)
def test_a_16_bit_tiff_is_believed_about_its_tone(tmp_path: Path, remark: dict[str, Any], tone: str) -> None:
    rng = np.random.default_rng(0)
    stored = [rng.integers(0, 65536, (16, 20, 3)).astype(np.uint16) for _ in range(2)]
    for side, image in zip(("left", "right"), stored, strict=True):
        exported.write_tiff(tmp_path / f"a_{side}.tif", image, **remark)
    image = decode(tmp_path / "a_left.tif", equalise=False)
    assert image.meta.provenance["tone"] == tone
    code = (stored[0] / 65535).astype(np.float32)
    assert np.allclose(image.left, linear_from_srgb(code) if tone.startswith("srgb") else code, atol=1e-6)
    forced = decode(tmp_path / "a_left.tif", equalise=False, encoding="linear")
    assert np.allclose(forced.left, code, atol=1e-6) and forced.meta.provenance["tone"] == "linear (as given)"


def test_a_16_bit_png_is_believed_about_its_tone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    linear_profile = exported.iccp(exported.icc(exported.curve_parametric(1.0), b"kTRC"))
    for chunks, tone in (
        ([(b"sRGB", b"\0")], "srgb (sRGB chunk)"),
        ([(b"gAMA", (45455).to_bytes(4, "big"))], "linear (assumed)"),
        ([linear_profile], "linear (embedded ICC profile)"),
        ([(b"iCCP", b"name\0\0not zlib")], "linear (assumed)"),
    ):
        for side in ("left", "right"):
            samples = rng.integers(0, 65536, (16, 20)).astype(np.uint16)
            exported.write_png(tmp_path / f"a_{side}.png", samples, *chunks)
        assert decode(tmp_path / "a_left.png").meta.provenance["tone"] == tone


@pytest.mark.parametrize(
    ("curve", "tone"),
    [
        (exported.curve_gamma(1.0), "linear"),
        (exported.curve_gamma(1.8), "srgb"),
        (exported.curve_parametric(1.0), "linear"),
        (exported.curve_parametric(2.4), "srgb"),
        (exported.curve_table(np.linspace(0, 1, 256)), "linear"),
        (exported.curve_table(np.linspace(0, 1, 256) ** 2.2), "srgb"),
        (b"curv\0\0\0\0\0\0\0\0", "linear"),
        (b"curv", None),
    ],
)
def test_tone_curves_of_profiles(curve: bytes, tone: str | None) -> None:
    assert profile_tone(exported.icc(curve)) == tone


@given(st.binary(max_size=400))
def test_no_profile_is_too_broken(noise: bytes) -> None:
    assert profile_tone(noise) in (None, "srgb", "linear")
    assert profile_tone(exported.icc(noise)) in (None, "srgb", "linear")


def textured_pair() -> tuple[Samples, Samples]:
    """8-bit halves (160, 200) with x_right - x_left = 4 px."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).random((160, 208)).astype(np.float32), (0, 0), 2)
    codes = (20 + 200 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    return codes[:, 4:204], codes[:, 0:200]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_exif_orientation_is_honoured(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Samples stay as stored; views are upright, axis and names follow, and behind focus stays positive."""
    stored = textured_pair()
    for side, image in zip(("left", "right"), stored, strict=True):
        path = tmp_path / f"a_{side}.{suffix}"
        if suffix == "tif":
            exported.write_tiff(path, image, orientation=orientation)
        elif suffix == "png":
            exported.write_png(path, image, (b"eXIf", exported.exif(orientation)))
        else:
            exported.write_jpeg(path, image, orientation)
    capture = decode_capture(tmp_path / f"a_left.{suffix}", equalise=False)
    baseline, turned_over = upright_baseline("x", orientation)
    assert capture.meta.orientation == orientation and capture.baseline == baseline
    image = capture.image
    lying = as_sensor(image.right if turned_over else image.left, orientation)
    assert np.allclose(lying, linear_from_srgb((stored[0] / 255).astype(np.float32)), atol=0.02)
    if suffix != "jpg":
        assert np.array_equal(capture.frames()["frame0"], stored[0])
    shift = shift_between(image.left, image.right)
    assert shift[0 if baseline == "x" else 1] == pytest.approx(4, abs=0.2)
    given = decode_capture(tmp_path / f"a_left.{suffix}", baseline="y")
    assert given.baseline == "y"  # of the upright picture


def test_halves_of_unequal_orientation(tmp_path: Path) -> None:
    left, right = textured_pair()
    exported.write_tiff(tmp_path / "a_left.tif", left, orientation=6)
    exported.write_tiff(tmp_path / "a_right.tif", right)
    with pytest.raises(DecodeError, match=r"'a_left.tif' has EXIF orientation 6 and 'a_right.tif' 1"):
        decode(tmp_path / "a_left.tif")


@given(st.text(alphabet="leftrigh_-.LPd01 ", min_size=1, max_size=24))
def test_any_name_is_handled(stem: str) -> None:
    path = Path("d") / (stem + ".png")
    right = right_name(path)
    assert right is None or (right.parent == path.parent and right.name != path.name)
    assert pair_stem(path)


def png(path: Path, size_hw: tuple[int, int] = (20, 30), seed: int = 0) -> Path:
    save(path, np.random.default_rng(seed).integers(0, 200, size_hw).astype(np.uint8))
    return path


def test_missing_right_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"no right file 'a_right.png' for 'a_left.png'"):
        decode(png(tmp_path / "a_left.png"))
    with pytest.raises(DecodeError, match=r"is one picture.*--left A --right B"):
        decode(png(tmp_path / "holiday.png"))


def test_unequal_pair(tmp_path: Path) -> None:
    left = png(tmp_path / "a_left.png")
    png(tmp_path / "a_right.png", (20, 32))
    with pytest.raises(DecodeError, match=r"is 30x20 uint8 and 'a_right.png' is 32x20 uint8"):
        decode(left)


def test_the_same_picture_twice(tmp_path: Path) -> None:
    left = png(tmp_path / "a_left.png")
    with pytest.raises(DecodeError, match="same picture"):
        decode(left, right=left)


def test_nan_pixels(tmp_path: Path) -> None:
    image = np.ones((16, 16), np.float32)
    tifffile.imwrite(tmp_path / "n_right.tiff", image * 0.5)
    image[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "n_left.tiff", image)
    with pytest.raises(DecodeError, match="1 values that are NaN or infinite"):
        decode(tmp_path / "n_left.tiff")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"P5 1000000 1000000 65535 ", "claims 1000000x1000000 pixels"),
        (b"P5 0 10 65535 ", "claims 0x10 pixels"),
        (b"P5 16 16 65535 ", "bytes of pixels; expected 512 for 16x16"),
        (b"P5 16 16 99999 ", "PGM maximum of 99999"),
        (b"P5 16 -16 65535 ", "broken PGM header"),
        (b"P5 16 999999999999999999999 65535 ", "broken PGM header"),
        (b"P5 65535", "broken PGM header"),
    ],
)
def test_broken_pgm(tmp_path: Path, header: bytes, message: str) -> None:
    for side in ("left", "right"):
        (tmp_path / f"p_{side}.pgm").write_bytes(header + bytes(100))
    with pytest.raises(DecodeError, match=message):
        decode(tmp_path / "p_left.pgm")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "pgm"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.97])
def test_cut_pictures_are_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        save(tmp_path / f"c_{side}.{suffix}", rng.integers(0, 255, (64, 96)).astype(np.uint8))
    right = tmp_path / f"c_right.{suffix}"
    data = right.read_bytes()
    right.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DecodeError):
        decode(tmp_path / f"c_left.{suffix}")


def test_corrupt_png_data_is_refused(tmp_path: Path) -> None:
    left, right = png(tmp_path / "c_left.png", (64, 96)), png(tmp_path / "c_right.png", (64, 96), seed=1)
    data = bytearray(right.read_bytes())
    data[len(data) // 2] ^= 0xFF
    right.write_bytes(bytes(data))
    with pytest.raises(DecodeError, match="damaged PNG"):
        decode(left)


def test_not_an_image_at_all(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(DecodeError) as caught:
        decode(text)
    message = str(caught.value)
    assert message.startswith("no decoder takes 'notes.txt' (") and "canon: " in message and "pair: " in message
    assert "\n" not in message and len(message) < 600
    empty = tmp_path / "empty.CR2"
    empty.touch()
    for path, expected in ((empty, "is empty"), (tmp_path, "is a folder"), (tmp_path / "gone.CR3", "no file")):
        with pytest.raises(DecodeError, match=expected):
            decode(path)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.dng"))
    path.write_bytes(b"II*\0")
    with pytest.raises(DecodeError, match="is not UTF-8; rename the file"):
        decode(path)


def test_a_raw_with_a_right_file_is_refused(tmp_path: Path) -> None:
    truth = sensor_frames()
    write_dual_pixel_dng(tmp_path / "a.dng", truth.composite, truth.half, white=16383)
    with pytest.raises(DecodeError, match="leave out --right"):
        decode(tmp_path / "a.dng", right=png(tmp_path / "b.png"))
