"""Levels of pairs whose files do not say them: a word where samples look like raw counts, and options to state them.

The scene is linear light of a textured plane with a known disparity, written as counts above a black level, as the raw
crops of research sets are. With the levels stated it must be the same light again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.support.halves import CROP, sensor_frames
from tests.support.pgm import write_pdcapture
from tests.support.tiffs import Form, write_tiff

from dualpix.capture.cli import main
from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import Levels, decode, decode_capture
from dualpix.capture.raw.containers.images import read_picture, read_tagged_picture
from dualpix.capture.raw.develop.levels import range_warnings
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.stack.keep.frames import read_light
from dualpix.models.predict.disparity import match_disparity

Frames = tuple[npt.NDArray[Any], npt.NDArray[Any]]
HW = (96, 128)


def light() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Left and right light in 0..1, shifted by two pixels; both of a scene that reaches neither black nor white."""
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.random((HW[0], HW[1] + 8)), (0, 0), 1.2)
    texture = 0.1 + 0.8 * (texture - texture.min()) / np.ptp(texture)
    return texture[:, 4 : HW[1] + 4], texture[:, 2 : HW[1] + 2]


def counts(black: int, white: int, dtype: Any = np.uint16) -> Frames:
    left, right = (np.rint(black + v * (white - black)).astype(dtype) for v in light())
    return left, right


def write_png(folder: Path, frames: Frames, name: str = "a") -> Path:
    for side, samples in zip(("left", "right"), frames, strict=True):
        assert cv2.imwrite(str(folder / f"{name}_{side}.png"), samples)
    return folder / f"{name}_left.png"


def write_tif(folder: Path, frames: Frames) -> Path:
    for side, samples in zip(("left", "right"), frames, strict=True):
        tifffile.imwrite(folder / f"a_{side}.tif", samples, photometric="minisblack")
    return folder / "a_left.tif"


def write_npy(folder: Path, frames: Frames) -> Path:
    for side, samples in zip(("left", "right"), frames, strict=True):
        np.save(folder / f"a_{side}.npy", samples)
    return folder / "a_left.npy"


def write_npz(folder: Path, frames: Frames) -> Path:
    np.savez(folder / "a.npz", left=frames[0], right=frames[1])
    return folder / "a.npz"


def write_pgm(folder: Path, frames: Frames, maximum: int = 65535) -> Path:
    height, width = frames[0].shape
    for side, samples in zip(("left", "right"), frames, strict=True):
        stored = samples.astype(">u2" if maximum > 255 else np.uint8).tobytes()
        (folder / f"a_{side}.pgm").write_bytes(f"P5\n{width} {height}\n{maximum}\n".encode() + stored)
    return folder / "a_left.pgm"


WRITERS: dict[str, Callable[[Path, Frames], Path]] = {
    "png": write_png, "tif": write_tif, "npy": write_npy, "npz": write_npz, "pgm": write_pgm
}  # fmt: skip


def ran(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    ("black", "white", "bits"), [(1024, 16383, 14), (64, 1023, 10), (256, 4095, 12), (512, 16383, 14), (16, 255, 8)]
)
def test_raw_counts_are_noticed_in_every_form(form: str, black: int, white: int, bits: int, tmp_path: Path) -> None:
    capture = decode_capture(WRITERS[form](tmp_path, counts(black, white)))
    (warning,) = capture.warnings
    assert f"counts of {bits} bits" in warning and f"--white {white}" in warning and "--black " in warning
    assert "\n" not in warning


@pytest.mark.parametrize("form", WRITERS)
def test_stated_levels_give_the_light_back(form: str, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path, counts(1024, 16383))
    capture = decode_capture(path, levels=Levels(1024, 16383), equalise=False)
    assert not capture.warnings
    for name, truth in zip(("left", "right"), light(), strict=True):
        assert np.abs(capture.view(name) - truth).max() < 1e-4  # type: ignore[arg-type]
    assert np.abs(capture.view("combined") - sum(light()) / 2).max() < 1e-4
    assert capture.details["black"] == 1024 and capture.details["white"] == 16383
    assert capture.meta.provenance["levels"] == "black 1024, white 16383 (as given)"
    assert not capture.saturated.any()


def test_floats_of_counts_are_noticed_and_can_be_stated(tmp_path: Path) -> None:
    """100 % of it would count as clipped."""
    frames = counts(0, 65535, np.float32)
    path = write_tif(tmp_path, frames)
    capture = decode_capture(path)
    (warning,) = capture.warnings
    low, peak = min(f.min() for f in frames), max(f.max() for f in frames)
    assert f"the floats range from {low:.6g} to {peak:.6g}, 100 % of them above white" in warning
    assert "--white 65535" in warning and capture.saturated.all()
    stated = decode_capture(path, levels=Levels(white=65535), equalise=False)
    assert not stated.warnings and not stated.saturated.any()
    assert np.abs(stated.view("left") - light()[0]).max() < 1e-4


def test_half_floats_in_numpy_files(tmp_path: Path) -> None:
    frames = tuple(v.astype(np.float16) for v in light())
    capture = decode_capture(write_npy(tmp_path, frames), equalise=False)  # type: ignore[arg-type]
    assert np.array_equal(capture.view("left"), frames[0].astype(np.float32)) and not capture.warnings
    frames[0][3, 3] = np.inf
    with pytest.raises(DecodeError, match="NaN or infinite"):
        decode(write_npz(tmp_path, frames))  # type: ignore[arg-type]


@pytest.mark.parametrize(("peak", "white"), [(255, 255), (1020, 1023), (4000, 4095), (16383, 16383), (70000, 70000)])
def test_the_white_of_floats_is_guessed_from_their_peak(peak: float, white: int) -> None:
    samples = np.linspace(0, peak, 1000, dtype=np.float32)
    (warning,) = range_warnings((samples, samples), 1.0, Levels(), linear=True)
    assert f"--white {white} " in warning


def test_a_black_level_alone_can_be_stated(tmp_path: Path) -> None:
    path = write_png(tmp_path, counts(1024, 16383))
    (warning,) = decode_capture(path, levels=Levels(white=16383)).warnings
    assert "--black 1024" in warning and "--white" not in warning
    (warning,) = decode_capture(path, levels=Levels(black=1024)).warnings
    assert "--white 16383" in warning and "--black" not in warning
    dark = write_png(tmp_path, tuple(v // 2 for v in counts(1024, 16383)), "b")  # type: ignore[arg-type]
    assert not decode_capture(dark, levels=Levels(black=0)).warnings  # it may just be a dark picture


@pytest.mark.parametrize("how", ["shifted", "stretched"])
def test_fewer_bits_moved_to_the_top_of_16_keep_their_black_level(how: str, tmp_path: Path) -> None:
    raw = counts(64, 1023)
    left, right = ((v * 65535 // 1023 if how == "stretched" else v << 6).astype(np.uint16) for v in map(np.uint32, raw))
    (warning,) = decode_capture(write_png(tmp_path, (left, right))).warnings
    assert "fewer bits stretched to 16 above a black level" in warning
    assert "--black 4096" in warning and "--white" not in warning


HEALTHY: dict[str, Callable[[], Frames]] = {
    "full range": lambda: counts(0, 65535),
    "16 bits, nothing dark": lambda: counts(8000, 65535),
    "dark 16 bits": lambda: tuple(np.rint(v * 9000 * (v > 0.3)).astype(np.uint16) for v in light()),  # type: ignore[return-value]
    "floats": lambda: counts(0, 1, np.float64),
    "floats with a highlight": lambda: tuple(np.where(v > 0.89, 40, v).astype(np.float32) for v in light()),  # type: ignore[return-value]
    "overexposed floats": lambda: tuple(np.minimum(v * 1.7, 1).astype(np.float32) for v in light()),  # type: ignore[return-value]
    "8 bits": lambda: counts(40, 220, np.uint8),
    "black": lambda: (np.zeros(HW, np.uint16), np.ones(HW, np.uint16)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_ordinary_pictures(name: str, tmp_path: Path) -> None:
    frames = HEALTHY[name]()
    if name == "floats":
        frames = tuple(v.astype(np.float32) for v in light())  # type: ignore[assignment]
    assert decode_capture(write_npy(tmp_path, frames), equalise=False).warnings == ()


def test_a_tone_curve_has_no_black_level(tmp_path: Path) -> None:
    path = write_png(tmp_path, counts(1024, 16383))
    assert not decode_capture(path, encoding="srgb").warnings


def test_the_disparity_is_that_of_the_light(tmp_path: Path) -> None:
    """On a Pixel 4 capture the untold black level moved semi-global matching by half a pixel where shading differs."""
    shade = np.linspace(0.75, 1.25, HW[1])
    left, right = light()
    frames = tuple(np.rint(1024 + v * 12000).astype(np.uint16) for v in (left * shade, right / shade))
    path = write_png(tmp_path, frames)  # type: ignore[arg-type]
    stated = match_disparity(decode(path, levels=Levels(1024, 16383)), working_long_side_px=(HW[1],))
    truth_path = write_npy(tmp_path, tuple(np.float32(v * 12000 / 15359) for v in (left * shade, right / shade)))  # type: ignore[arg-type]
    truth = match_disparity(decode(truth_path), working_long_side_px=(HW[1],))
    assert truth.valid is not None and stated.valid is not None
    both = truth.valid & stated.valid
    assert np.abs(stated.disparity_px - truth.disparity_px)[both].mean() < 0.02


@pytest.mark.parametrize(
    ("black", "white", "message"),
    [
        (2000, 1000, "--black 2000 and --white 1000; expected black below white"),
        (1000, 1000, "--black 1000 and --white 1000"),
        (-1, None, "--black -1; expected a code of the samples"),
        (None, -5, "--white -5; expected a code"),
        (float("nan"), None, "--black nan"),
        (None, float("inf"), "--white inf"),
        (None, 1e12, r"--white 1e\+12"),
    ],
)
def test_levels_that_cannot_be_are_refused(black: float | None, white: float | None, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Levels(black, white)


def test_a_level_that_does_not_fit_the_other_is_refused(tmp_path: Path) -> None:
    path = write_npy(tmp_path, counts(0, 1, np.float64))
    with pytest.raises(DecodeError, match="black 1024 and white 1; expected black below white; state both"):
        decode(path, levels=Levels(black=1024))


@given(black=st.floats(0, 5000), white=st.floats(5001, 60000), seed=st.integers(0, 99))
def test_any_levels_map_black_to_0_and_white_to_1(
    black: float, white: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    frames = tuple(rng.integers(0, 65536, (8, 10)).astype(np.uint16) for _ in range(2))
    path = write_npz(tmp_path_factory.mktemp("l"), frames)  # type: ignore[arg-type]
    capture = decode_capture(path, levels=Levels(black, white), equalise=False)
    expected = (frames[0].astype(np.float64) - black) / (white - black)
    assert capture.view("left") == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert np.array_equal(capture.saturated, (frames[0] >= white) | (frames[1] >= white))


# --- the commands ---------------------------------------------------------------------------------------------------


def test_decode_says_and_takes_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_png(tmp_path, counts(1024, 16383))
    assert ran("decode", path, "-o", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "dualpix: warning: 'a_left.png': the samples lie between" in said
    record = json.loads((tmp_path / "out" / "a" / "decode.json").read_text())
    assert record["warnings"] and record["sensor"]["white"] == 65535
    assert ran("decode", path, "-o", tmp_path / "out", "--resume", "--black", "1024", "--white", "16383") == 0
    assert "warning" not in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "a" / "decode.json").read_text())
    assert not record["warnings"] and (record["sensor"]["black"], record["sensor"]["white"]) == (1024, 16383)
    assert ran("decode", path, "-o", tmp_path / "out", "--black", "2", "--white", "1") == 2
    assert "dualpix: error: --black 2 and --white 1; expected black below white" in capsys.readouterr().err


def test_depth_says_and_takes_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_png(tmp_path, counts(1024, 16383))
    assert ran("depth", path, "-o", tmp_path / "out", "--method", "sgbm") == 0
    assert "dualpix: warning: 'a_left.png'" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "a" / "depth.json").read_text())
    assert "--black 1024 --white 16383" in record["warnings"][0]
    assert "--profile" in record["depth"]["hint"] and "pixel4" in record["depth"]["hint"]
    assert ran("depth", path, "-o", tmp_path / "out", "--method", "sgbm", "--black", "1024", "--white", "16383") == 0
    assert json.loads((tmp_path / "out" / "a" / "depth.json").read_text())["warnings"] == []


def test_inspect_says_what_decoding_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_png(tmp_path, counts(64, 1023))
    assert "--white 1023" in inspect(path).warnings[0]
    assert ran("inspect", path) == 0
    assert "above a black level" in " ".join(capsys.readouterr().out.split())


def test_white_sheets_have_the_levels_of_their_capture(tmp_path: Path) -> None:
    """Both as flat field and as profile: a pedestal would make halves more alike than they are."""
    ramp = np.linspace(0.3, 0.5, HW[1])
    sheet = tuple(np.rint(1024 + np.tile(v, (HW[0], 1)) * 15359).astype(np.uint16) for v in (ramp, ramp[::-1]))
    sheet_left = write_png(tmp_path, sheet, "sheet")  # type: ignore[arg-type]
    left, right = light()
    views = tuple(np.rint(1024 + v * 15359).astype(np.uint16) for v in (left * ramp, right * ramp[::-1]))
    path = write_png(tmp_path, views)  # type: ignore[arg-type]
    levels = Levels(1024, 16383)
    image = decode(path, flat_field=(sheet_left, tmp_path / "sheet_right.png"), levels=levels)
    ratio = image.right / (right * ramp)
    assert np.abs(ratio / ratio.mean() - 1)[:, 8:-8].max() < 0.02


def test_calibrate_takes_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ramp = np.linspace(0.3, 0.5, 256)
    rng = np.random.default_rng(1)
    noisy = [np.tile(v, (192, 1)) + rng.normal(0, 1e-3, (192, 256)) for v in (ramp, ramp[::-1])]
    sheet = tuple(np.rint(1024 + v * 15359).astype(np.uint16) for v in noisy)
    path = write_png(tmp_path, sheet, "s")  # type: ignore[arg-type]
    profile = tmp_path / "p.json"
    assert ran("calibrate", "shading", path, "-o", profile, "--black", "1024", "--white", "16383", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    truth = 100 * np.log(ramp / ramp[::-1])
    assert told["before"]["rms_percent"] == pytest.approx(np.sqrt(np.mean(truth**2)), rel=0.03)
    assert ran("calibrate", "shading", path, "-o", tmp_path / "q.json", "--json") == 0
    captured = capsys.readouterr()
    assert "warning: 's_left.png': the samples lie between" in captured.err
    assert json.loads(captured.out)["before"]["rms_percent"] < 0.9 * told["before"]["rms_percent"]


# --- files that know ------------------------------------------------------------------------------------------------


def test_a_raw_keeps_its_levels_and_says_so(tmp_path: Path) -> None:
    frames = sensor_frames()
    path = tmp_path / "a.dng"
    write_dual_pixel_dng(path, frames.composite, frames.half, white=16383, crop=CROP)
    plain, told = decode_capture(path), decode_capture(path, levels=Levels(1, 2))
    assert told.details["white"] == plain.details["white"]
    assert any("the levels of the raw itself were kept" in warning for warning in told.warnings)
    assert not any("--black" in warning for warning in plain.warnings)


def test_what_the_user_states_comes_before_what_a_pixel_file_is_known_to_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for side in ("left", "right"):
        write_pdcapture(tmp_path / f"p_{side}.pgm", rng.integers(64, 1023, (12, 16)).astype(np.uint16))
    usual = decode_capture(tmp_path / "p_left.pgm")
    stated = decode_capture(tmp_path / "p_left.pgm", levels=Levels(black=60))
    assert (usual.decoder, usual.details["black"], usual.details["white"]) == ("pixel-pdcapture", 64, 1023)
    assert (stated.details["black"], stated.details["white"]) == (60, 1023)


@pytest.mark.parametrize("maximum", [1023, 4095, 16383, 40000])
def test_the_maximum_of_a_pgm_is_its_white(maximum: int, tmp_path: Path) -> None:
    frames = counts(0, maximum)
    path = write_pgm(tmp_path, frames, maximum)
    capture = decode_capture(path, equalise=False)
    assert capture.details["white"] == maximum and not capture.warnings
    assert np.abs(capture.view("left") - light()[0]).max() < 1e-3
    assert read_light(path).image[..., 1] == pytest.approx(frames[0] / maximum, abs=1e-6)
    assert np.array_equal(read_picture(path), np.rint(frames[0] * (65535 / maximum)).astype(np.uint16))


@pytest.mark.parametrize("maximum", [255, 100])
def test_a_pgm_of_8_bits_is_a_picture_like_others(maximum: int, tmp_path: Path) -> None:
    frames = counts(0, maximum)
    path = write_pgm(tmp_path, frames, maximum)
    picture = read_tagged_picture(path)
    assert picture.samples.dtype == np.uint8 and picture.white == maximum
    cv2.imwrite(str(tmp_path / "b_left.png"), read_picture(path))
    cv2.imwrite(str(tmp_path / "b_right.png"), read_picture(tmp_path / "a_right.pgm"))
    seen, as_png = decode(path, equalise=False), decode(tmp_path / "b_left.png", equalise=False)
    assert seen.left == pytest.approx(as_png.left, abs=0.012 if maximum < 255 else 1e-7)
    assert read_light(path).image == pytest.approx(read_light(tmp_path / "b_left.png").image, abs=0.012)


def test_halves_of_different_maximum_are_no_pair(tmp_path: Path) -> None:
    write_pgm(tmp_path, counts(0, 1023), 1023)
    right = (tmp_path / "a_right.pgm").read_bytes()
    (tmp_path / "a_right.pgm").write_bytes(right.replace(b"1023", b"4095", 1))
    with pytest.raises(DecodeError, match=r"'a_left\.pgm' has white at 1023 and 'a_right\.pgm' at 4095"):
        decode(tmp_path / "a_left.pgm")


def test_packed_tiffs_know_their_white(tmp_path: Path) -> None:
    for side, samples in zip(("left", "right"), counts(0, 4095), strict=True):
        write_tiff(tmp_path / f"a_{side}.tif", samples, {}, Form(int_bits=12))
    capture = decode_capture(tmp_path / "a_left.tif", equalise=False)
    assert capture.details["white"] == 4095 and not capture.warnings
    assert np.abs(capture.view("left") - light()[0]).max() < 1e-3
