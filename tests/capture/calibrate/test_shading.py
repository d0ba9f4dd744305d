"""`dualpix calibrate shading`: known shading is recovered, bad sheets are refused, profiles are as the schema says."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.conftest import DATA_ROOT
from tests.support.halves import CROP, sensor_frames

from dualpix.capture.calibrate.shading import calibrate, read_sheet
from dualpix.capture.cli import main
from dualpix.capture.profiles.profile import (
    SCHEMA,
    CameraProfile,
    HalfNoise,
    ProfileError,
    Shading,
    profile_gain,
    read_profile,
    write_profile,
)
from dualpix.capture.raw import RawCapture, decode, decode_capture
from dualpix.capture.raw.develop.layout import thumbnail
from dualpix.capture.raw.develop.shading import refined_gain, sheet_gain
from dualpix.capture.raw.write.dng import SIMULATED_MODEL, write_dual_pixel_dng
from dualpix.capture.types import CaptureMeta

Image = npt.NDArray[np.float32]
SharedData = Callable[[str], Path]
SIZE_HW = (256, 384)
META = CaptureMeta(camera=SIMULATED_MODEL, iso=100, f_number=2.0, focal_length_mm=50.0)


def lens(height: int, width: int, channel: float = 0.0) -> npt.NDArray[np.float64]:
    """log(left / right) of the true lens, different in each channel."""
    x, y = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    return 0.1 + (0.2 + channel) * x - 0.2 * x**3 - 0.1 * x * y**2


def write_sheet(
    path: Path,
    seed: int = 0,
    *,
    scene: npt.NDArray[np.float64] | float = 1.0,
    exposure: float = 0.5,
    meta: CaptureMeta = META,
    size_hw: tuple[int, int] = SIZE_HW,
) -> Path:
    """A white sheet (or ``scene``, 1 = white) through a vignetting lens onto an RGGB sensor with noise."""
    height, width = size_hw
    rng = np.random.default_rng([seed, 7])
    x, y = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    light = exposure * 15871 / 2 * scene * (1 - 0.25 * (x**2 + y**2)) * np.ones(size_hw)
    ratio = np.empty(size_hw)
    for row, column, channel in ((0, 0, -0.05), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 0.05)):
        ratio[row::2, column::2] = lens(height, width, channel)[row::2, column::2]
    electrons = [rng.poisson(8 * light * np.exp(s * ratio / 2)) / 8 for s in (1, -1)]  # 8 electrons a count
    frames = [512 + v + rng.normal(0, 3, size_hw) for v in (electrons[0] + electrons[1], electrons[0])]
    composite, half = (np.clip(np.rint(f), 0, 16383).astype(np.uint16) for f in frames)
    write_dual_pixel_dng(path, composite, half, white=16383, meta=meta)
    return path


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "shading", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sheets")
    return [write_sheet(folder / f"white_{i}.dng", i, exposure=0.4 + 0.03 * i) for i in range(4)]


@pytest.fixture(scope="module")
def profile_path(sheets: list[Path]) -> Path:
    path = sheets[0].with_name("profile.json")
    write_profile(path, calibrate([read_sheet(p) for p in sheets]).profile)
    return path


def test_known_shading_is_recovered(sheets: list[Path]) -> None:
    result = calibrate([read_sheet(p) for p in sheets])
    gain, warnings = profile_gain(result.profile, SIZE_HW, META)
    assert not warnings and not result.warnings and result.cross_validated
    for channel, part in ((0, -0.05), (1, 0.0), (2, 0.05)):
        error = np.log(gain.at((128, 192))[..., channel]) - lens(128, 192, part)
        assert np.sqrt(np.mean(error**2)) < 0.002 and np.abs(error).max() < 0.012
        assert max(abs(b.mean()) for b in np.array_split(error, 16, 1)) < 0.005
    assert result.before.worst_band > 15 and result.after.worst_band < 0.5 and result.after.rms < 2
    vignetting = 1 - 0.25 * (np.linspace(-1, 1, 64)[None] ** 2 + np.linspace(-1, 1, 43)[:, None] ** 2)
    both = np.sqrt(result.profile.shading.left[..., 1] * result.profile.shading.right[..., 1])
    assert np.allclose(both / both.max(), vignetting, atol=0.02)


def test_more_sheets_leave_less_noise(sheets: list[Path]) -> None:
    def error(paths: list[Path]) -> float:
        grid = np.log(profile_gain(calibrate([read_sheet(p) for p in paths]).profile, SIZE_HW, META)[0].at((128, 192)))
        return float(np.sqrt(np.mean((grid[8:-8, 8:-8, 1] - lens(128, 192)[8:-8, 8:-8]) ** 2)))

    assert error(sheets) < 0.7 * error(sheets[:1])
    assert "one white sheet only" in calibrate([read_sheet(sheets[0])]).warnings[0]


@pytest.mark.parametrize("made", [1, 6, 3])
@pytest.mark.parametrize("used", [1, 3, 6, 8, 5])
def test_a_profile_fits_every_way_of_holding_the_camera(tmp_path: Path, made: int, used: int) -> None:
    """The sensor's shading does not turn with the camera; the upright views must come out equal all the same."""
    sheet = write_sheet(tmp_path / "white.dng", 1, meta=replace(META, orientation=made))
    shot = write_sheet(tmp_path / "shot.dng", 2, meta=replace(META, orientation=used))
    path = tmp_path / "profile.json"
    write_profile(path, calibrate([read_sheet(sheet)]).profile)
    assert read_profile(path).size_hw == SIZE_HW
    for swap in (False, True):
        before = decode(shot, swap=swap, equalise=False)
        after = decode(shot, swap=swap, shading=path)
        axis = 1 if after.baseline == "x" else 0
        assert after.baseline == ("y" if used >= 5 else "x")
        bands = [_bands(view.left, view.right, axis) for view in (before, after)]
        assert np.abs(bands[0]).max() > 0.15 and np.abs(bands[1]).max() < 0.006


def test_layouts_get_the_same_equalisation(profile_path: Path, tmp_path: Path) -> None:
    shot = write_sheet(tmp_path / "shot.dng", 9)
    for layout in ("superpixel", "green", "mosaic", "rgb"):
        image = decode(shot, shading=profile_path, layout=layout)
        assert np.abs(_bands(image.left, image.right, 1)).max() < 0.006, layout


def test_command_writes_profile_and_picture(
    sheets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "lens.json"
    assert run(*sheets, "-o", target) == 0
    shown = capsys.readouterr()
    assert "lens.json, 4 sheets, dualpix Simulated Camera, f/2, 50 mm" in shown.out and "worst of 16 bands" in shown.out
    assert "warning" not in shown.err
    profile = read_profile(target)
    assert profile.sources == tuple(p.name for p in sheets) and profile.f_number == 2
    picture = cv2.imread(str(target.with_suffix(".png")))
    assert picture is not None and picture.shape[1] > 900 and 30 < picture.std() < 110
    assert {p.name for p in target.parent.iterdir()} == {"lens.json", "lens.png"}


def test_json_for_machines(sheets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*sheets[:2], "-o", tmp_path / "p.json", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["before"]["worst_band_percent"] > 15 > 1 > record["after"]["worst_band_percent"]
    assert len(record["after"]["bands_percent"]) == 16 and record["cross_validated"]
    assert record["written"] == [str(tmp_path / "p.json"), str(tmp_path / "p.png")] and record["sources"] == [
        "white_0.dng",
        "white_1.dng",
    ]


def test_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = decode(write_sheet(tmp_path / "w.dng"), equalise=False)
    for name, view in (("w_left", views.left), ("w_right", views.right)):
        codes = np.rint(np.clip(view[..., 1], 0, 1) * 65535).astype(np.uint16)
        cv2.imwrite(str(tmp_path / f"{name}.png"), codes)
    assert run(tmp_path / "w_left.png", tmp_path / "w_right.png", "-o", tmp_path / "a.json") == 0
    shutil.copy(tmp_path / "w_left.png", tmp_path / "A.png")
    shutil.copy(tmp_path / "w_right.png", tmp_path / "B.png")
    assert run("--left", tmp_path / "A.png", "--right", tmp_path / "B.png", "-o", tmp_path / "b.json") == 0
    one, other = (read_profile(tmp_path / n) for n in ("a.json", "b.json"))
    assert one.shading.left.shape[2] == 1 and np.array_equal(one.shading.left, other.shading.left)
    assert (
        run("--left", tmp_path / "A.png", "--right", tmp_path / "B.png", "--baseline", "y", "-o", tmp_path / "c.json")
        == 0
    )
    assert read_profile(tmp_path / "c.json").baseline == "y"
    capsys.readouterr()
    assert run(tmp_path / "A.png", "--left", tmp_path / "A.png", "-o", tmp_path / "d.json") == 2
    assert run("-o", tmp_path / "d.json") == 2
    assert run(tmp_path / "A.png", "-o", tmp_path / "d.txt") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("dualpix: error: ") for line in errors)


def _edge() -> npt.NDArray[np.float64]:
    scene = np.ones(SIZE_HW)
    scene[:, 250:] = 0.8
    return scene


def _texture() -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return 1 + 2.0 * (cv2.GaussianBlur(rng.random(SIZE_HW), (0, 0), 3) - 0.5)


def _blob() -> npt.NDArray[np.float64]:
    """Smooth, but neither vignetting nor a lamp."""
    x = np.linspace(0, 8 * np.pi, SIZE_HW[1])[None]
    return 1 + 0.3 * np.sin(x) * np.ones(SIZE_HW)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"exposure": 1.6}, "of 'bad.dng' is clipped; expected at most 1 %"),
        ({"exposure": 0.015}, "is too dark: mean 1"),
        ({"scene": _edge()}, r"is not uniform: .*\(most at 6[456]% of the width"),
        ({"scene": _texture()}, "is not uniform: texture"),
        ({"scene": _blob()}, "uneven by"),
        ({"size_hw": (128, 384)}, "differ in size: 'white_0.dng' 384x256, 'bad.dng' 384x128"),
        ({"meta": replace(META, f_number=4.0)}, "differ in f-number: 'white_0.dng' 2.0, 'bad.dng' 4.0"),
        ({"meta": replace(META, focal_length_mm=85.0)}, "differ in focal length"),
    ],
)
def test_bad_sheets_are_refused_with_the_reason(
    sheets: list[Path], tmp_path: Path, how: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_sheet(tmp_path / "bad.dng", **how)
    assert run(sheets[0], bad, "-o", tmp_path / "p.json") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dualpix: error: ")
    assert re.search(message, error), error
    assert not (tmp_path / "p.json").exists() and not (tmp_path / "p.png").exists()


def test_a_scene_is_no_sheet(tmp_path: Path) -> None:
    frames = sensor_frames()
    write_dual_pixel_dng(tmp_path / "scene.dng", frames.composite, frames.half, white=16383, crop=CROP)
    with pytest.raises(Exception, match=r"'scene.dng' is not uniform"):
        read_sheet(tmp_path / "scene.dng")


def test_profile_of_another_size_camera_or_lens(profile_path: Path, tmp_path: Path) -> None:
    profile = read_profile(profile_path)
    with pytest.raises(ProfileError, match="for pictures of 384x256 samples; expected 192x128 as the capture"):
        profile_gain(profile, (128, 192), META)
    with pytest.raises(ProfileError, match="the profile is of a 'dualpix Simulated Camera'; expected 'EOS R'"):
        profile_gain(profile, SIZE_HW, replace(META, camera="EOS R"))
    _, warnings = profile_gain(profile, SIZE_HW, replace(META, f_number=11.0, focal_length_mm=85.0))
    assert len(warnings) == 2 and "f/2, this shot at f/11" in warnings[0] and "50 mm, this shot at 85 mm" in warnings[1]
    assert profile_gain(profile, SIZE_HW, replace(META, f_number=2.2))[1] == ()
    assert profile_gain(profile, SIZE_HW, CaptureMeta())[1] == ()
    shot = write_sheet(tmp_path / "shot.dng", meta=replace(META, f_number=11.0))
    assert any("f/11" in w for w in decode_capture(shot, shading=profile_path).warnings)
    small = write_sheet(tmp_path / "small.dng", size_hw=(128, 192))
    with pytest.raises(ProfileError, match="384x256"):
        decode(small, shading=profile_path)


def example(**changes: Any) -> CameraProfile:
    grid = np.linspace(0.2, 1, 24, dtype=np.float32).round(5).reshape(4, 6, 1)
    shading = Shading(grid, grid[:, ::-1].copy(), (1.1,), 0.5, 0.2)
    return replace(CameraProfile((100, 150), shading), **changes)


profiles = st.builds(
    example,
    camera=st.none() | st.text(max_size=20),
    lens=st.none() | st.just("RF50mm F1.8 STM"),
    f_number=st.none() | st.floats(0.5, 64),
    focal_length_mm=st.none() | st.floats(1, 2000),
    focus_distance_m=st.none() | st.floats(0.01, 1e6) | st.just(math.inf),
    baseline=st.sampled_from(["x", "y"]),
    noise=st.none() | st.just({"left": HalfNoise(1e-5, 1e-3), "right": HalfNoise(2e-5, 2e-3)}),
    disparity_gain=st.none() | st.floats(0.01, 1),
    notes=st.none() | st.just({"shading": "white sheets"}),
    sources=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(profiles)
def test_round_trip_and_schema(tmp_path_factory: pytest.TempPathFactory, profile: CameraProfile) -> None:
    path = tmp_path_factory.mktemp("profile") / "p.json"
    write_profile(path, profile)
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(path.read_text()))
    again = read_profile(path)
    assert again.to_json() == profile.to_json()
    assert np.array_equal(again.shading.left, profile.shading.left)


def test_the_published_schema_is_one_and_measured_profiles_keep_it(profile_path: Path) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(profile_path.read_text()))


def _set(content: dict[str, Any], where: str, value: Any) -> None:
    *parents, last = where.split(".")
    for name in parents:
        content = content[name]
    if value is None:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("format", 2, "profile format 2; expected 1"),
        ("format", None, "the profile has no 'format'"),
        ("colour", "red", "the profile has an unknown entry 'colour'"),
        ("picture.width", 0, "'picture'.'width' is 0; expected a whole number 1..65536"),
        ("picture.width", 1.5, "is 1.5; expected a whole number"),
        ("picture.height", None, "'picture' has no 'height'"),
        ("baseline", "z", "'baseline' is \"z\""),
        ("camera", 5, "'camera' is 5; expected a text"),
        ("f_number", -1, "'f_number' is -1; expected a number 0.5 to 256"),
        ("f_number", "2.8", "'f_number' is \"2.8\"; expected a number"),
        ("focus_distance_m", 0, "expected a number > 0"),
        ("noise", {"left": {"shot": 0, "read": 0}}, "'noise' has no 'right'"),
        ("psf", [1], "'psf' is [1]; expected an object"),
        ("sources", "a.dng", "'sources' is \"a.dng\"; expected a list"),
        ("shading", [], "'shading' is []; expected an object"),
        ("shading.rows", 100000, "'shading'.'rows' is 100000"),
        ("shading.rows", 5, "'shading'.'left' has 24 values; expected 30"),
        ("shading.channels", 2, "'shading'.'channels' is 2; expected 1 or 3"),
        ("shading.left_over_right", [1.0, 1.0], "has 2 values; expected 1"),
        ("shading.left_over_right", [0], "'left_over_right'[0] is 0"),
        ("shading.left", [0.0] * 24, "'shading'.'left'[0] is 0.0; expected a number > 0 to 1"),
        ("shading.right", ["1"] * 24, "'shading'.'right'[0] is \"1\"; expected a number"),
        ("shading.right", [True] * 24, "'shading'.'right'[0] is true; expected a number"),
    ],
)
def test_a_damaged_profile_says_what_is_wrong(tmp_path: Path, where: str, value: Any, message: str) -> None:
    content = example().to_json()
    _set(content, where, value)
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ProfileError) as caught:
        read_profile(path)
    text = str(caught.value)
    assert text.startswith("'p.json': ") and message in text and "\n" not in text and len(text) < 400
    # every refusal is one of the schema's too
    assert not Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(content) or "values" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no JSON"),
        (b"[1, 2]", "the profile is [1, 2]; expected an object"),
        (b'{"format": NaN}', "NaN is no number of JSON"),
        (b'{"format": 1e999}', "1e999 is no number of JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b" " * (17 << 20), "has over 16 MiB"),
    ],
)
def test_what_is_no_profile(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(data)
    with pytest.raises(ProfileError) as caught:
        read_profile(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ProfileError, match="cannot read profile"):
        read_profile(tmp_path / "gone.json")


# Pixel 4, Xin et al. 2021. The sheet was not taken at the focus of the scenes, so it leaves a tilt, most in 005.
@pytest.mark.parametrize(
    ("scene", "by_sheet", "by_views", "by_both"),
    [
        ("001", 1.1, 1.1, 0.8),
        ("002", 0.9, 1.0, 0.8),
        ("003", 1.6, 1.3, 1.1),
        ("004", 2.1, 0.9, 0.8),
        ("005", 4.8, 1.5, 0.9),
    ],
)
def test_pixel4_by_sheet_views_and_both(
    shared_data: SharedData, pixel4_profile: Path, scene: str, by_sheet: float, by_views: float, by_both: float
) -> None:
    """rms over the 16 bands, in percent; from 20 to 23 before."""
    path = shared_data("pixel4_xin2021") / f"{scene}_left.png"
    before, views, sheet = (
        decode_capture(path, **how) for how in ({"equalise": False}, {}, {"shading": pixel4_profile})
    )
    (left, valid), (right, _) = (thumbnail(p, before.views.saturated) for p in (before.views.left, before.views.right))
    gain = refined_gain(profile_gain(read_profile(pixel4_profile), (1512, 2016), before.meta)[0], left, right, valid)
    both = replace(before, gain=gain)
    residual = [_surface_bands_percent(c) for c in (before, sheet, views, both)]
    rms = [float(np.sqrt(np.nanmean(r**2))) for r in residual]
    assert rms[0] > 19 and rms[1] < by_sheet and rms[2] < by_views and rms[3] < by_both
    assert np.nanmax(np.abs(residual[3])) < 2.2


@pytest.fixture(scope="module")
def pixel4_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sheet = DATA_ROOT / "pixel4_xin2021/calibration/white_sheet_left.png"
    if not sheet.exists():
        pytest.skip(f"no {sheet}")
    result = calibrate([read_sheet(sheet)])
    assert result.before.worst_band > 30 and result.after.worst_band < 0.4 and result.after.rms < 0.8
    path = tmp_path_factory.mktemp("pixel4") / "profile.json"
    write_profile(path, result.profile)
    return path


def test_sheet_gain_is_that_of_xin_et_al(shared_data: SharedData) -> None:
    """Theirs is a box mean over 101 px of the ratio; at the borders, where it bends, ours follows the sheet closer."""
    sheet = decode(shared_data("pixel4_xin2021") / "calibration/white_sheet_left.png", equalise=False)
    theirs = cv2.blur(sheet.left / np.maximum(sheet.right, 1e-6), (101, 101))
    small = [cv2.resize(v, (288, 216), interpolation=cv2.INTER_AREA) for v in (sheet.left, sheet.right)]
    ours = sheet_gain(*small).at(sheet.size_hw)[..., 0]
    assert np.abs(ours / theirs - 1).mean() < 0.004
    inside = (slice(100, -100), slice(100, -100))
    assert np.abs(ours / theirs - 1)[inside].max() < 0.03


@pytest.mark.parametrize("name", ["flat_0600mm_f20", "flat_1500mm_f20", "iphone_001", "box_002"])
def test_views_equalised_by_canon_stay_equal_across_the_baseline(shared_data: SharedData, name: str) -> None:
    """DPP equalises whole columns and leaves x y^2 terms of some percent, which the fit finds: bands tell."""
    capture = decode_capture(shared_data("canon_r6m2_dp119") / f"{name}_l.png")
    assert capture.gain is not None
    bands = [np.log(b).mean((0, 1)) for b in np.array_split(capture.gain.grid, 16, 1)]
    assert np.sqrt(np.mean(np.square(bands))) < 0.02
    assert capture.gain.grid.min() > 0.6 and capture.gain.grid.max() < 1.7


def _bands(left: Image, right: Image, axis: int) -> npt.NDArray[np.float64]:
    """log of the ratio of mean light in 16 bands, per channel where there are some."""
    parts = zip(np.array_split(left, 16, axis), np.array_split(right, 16, axis), strict=True)
    return np.array([np.log(a.mean((0, 1)) / b.mean((0, 1))) for a, b in parts])


def _surface_bands_percent(capture: RawCapture) -> npt.NDArray[np.float64]:
    """log(left / right) of 16 bands across x in percent, from surfaces where disparity cannot show.

    Windows of 21x21 px whose light varies by less than 3 % rms (smoothed over 2 px), that are brighter than half the
    mean and unsaturated; the median of a band, NaN with fewer than ten windows. Dark surfaces are left out because
    stray light, not the lens, rules their ratio.
    """
    left, right, size = capture.view("left"), capture.view("right"), 21

    def tiles(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        height, width = image.shape
        return image[: height // size * size].reshape(height // size, size, width // size, size)

    one, other = (np.maximum(tiles(v).mean((1, 3)), 1e-6) for v in (left, right))
    contrast = tiles(cv2.GaussianBlur(left + right, (0, 0), 2)).std((1, 3)) / (one + other)
    plain = (contrast < 0.03) & (one + other > 0.5 * (left + right).mean()) & ~tiles(capture.saturated).any((1, 3))
    ratio = 100 * np.log(one / other)
    bands = zip(np.array_split(ratio, 16, 1), np.array_split(plain, 16, 1), strict=True)
    return np.array([np.median(r[p]) if p.sum() >= 10 else np.nan for r, p in bands])
