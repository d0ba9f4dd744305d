"""`dualpix calibrate gain` and `psf`: known gains and kernels are recovered, bad captures refused with the reason."""

from __future__ import annotations

import json
import re
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
from tests.support.planes import LENS, SIZE_HW, halves, texture, write_pair, write_plane

from dualpix.capture import optics
from dualpix.capture.calibrate.gain import GainResult, LensFacts, check_depth, fit_gain
from dualpix.capture.calibrate.planes import CELLS, PlaneError, local_disparity, measure_plane, read_views
from dualpix.capture.calibrate.psf import (
    Kernels,
    PsfError,
    deconvolve,
    measure_psf,
    model_kernels,
    read_kernels,
    with_kernels,
)
from dualpix.capture.cli import main
from dualpix.capture.profiles.facts import GainField, at_cell
from dualpix.capture.profiles.profile import SCHEMA, CameraProfile, Shading, read_profile, write_profile
from dualpix.capture.raw.write.dng import SIMULATED_MODEL, write_dual_pixel_dng
from dualpix.capture.stereo import match_sgbm
from dualpix.capture.types import CaptureMeta

Floats = npt.NDArray[np.float64]
SharedData = Callable[[str], Path]
FACTS = LensFacts(LENS.focal_length_mm, LENS.f_number, LENS.pixel_pitch_um)
EVERYWHERE = np.ones(SIZE_HW, bool)


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("planes")
    return [write_plane(folder, z) for z in (0.6, 1.5)]


def shifted(light: Floats, by_px: float) -> npt.NDArray[np.float32]:
    spectrum = np.fft.rfft(light, axis=1) * np.exp(-2j * np.pi * np.fft.rfftfreq(light.shape[1]) * by_px)
    return np.fft.irfft(spectrum, light.shape[1], axis=1).astype(np.float32)


@settings(max_examples=4, deadline=None)
@given(st.floats(-4, 4), st.integers(0, 99))
def test_shifts_are_measured_without_favourite_values(shift: float, seed: int) -> None:
    light = cv2.GaussianBlur(texture(seed, (256, 384)), (0, 0), 1)
    left, right = shifted(light, -shift / 2), shifted(light, shift / 2)
    found, sigma = local_disparity(left, right * np.float32(1.03), np.ones((256, 384), bool), (3, 4))
    error = float(np.nanmedian(np.abs(found - shift)))
    assert error < (0.02 if abs(shift) < 1.2 else 0.15) and error < 0.01 + float(np.nanmedian(sigma))


@pytest.mark.parametrize(("coc_px", "gain"), [(-9.4, 0.06), (4.0, 0.06), (-8.0, 0.12), (6.0, 0.21), (9.0, 0.4)])
def test_blurred_halves_give_the_distance_of_their_centroids(coc_px: float, gain: float) -> None:
    left, right = (v.astype(np.float32) for v in halves(texture(), coc_px, gain))
    found, _ = local_disparity(left, right, EVERYWHERE, CELLS)
    assert np.nanmedian(found) == pytest.approx(gain * coc_px, rel=0.05)


def test_semi_global_matching_of_blur_locks_to_whole_pixels() -> None:
    """Why the gain is not measured by block matching: a quarter of a pixel is not seen, half a pixel is nearly one."""
    for coc_px, truth in ((4.0, 0.24), (-9.4, -0.564)):
        left, right = (v.astype(np.float32) for v in halves(texture(), coc_px, 0.06))
        disparity, measured = match_sgbm(left, right)
        assert abs(float(np.median(disparity[measured])) / truth - 1) > 0.3


def test_the_gain_of_planes_is_recovered(planes: list[Path]) -> None:
    result = fit_gain([measure_plane(read_views(p), z) for p, z in zip(planes, (0.6, 1.5), strict=True)], FACTS)
    assert result.profile.disparity_gain == pytest.approx(LENS.disparity_gain, rel=0.05)
    assert result.gain.focus_distance_m == pytest.approx(1.0, rel=0.03) and result.gain.focus_fitted
    assert float(result.gain.relative.mean()) == pytest.approx(1, abs=1e-3)
    assert np.ptp(result.gain.relative) < 0.15 and result.gain.residual_px < 0.04 and not result.warnings
    slope = float(optics.disparity_px(np.inf, LENS))
    assert result.gain.slope_px == pytest.approx(slope, rel=0.05)


def test_a_focus_sweep_of_one_plane_gives_the_same(tmp_path: Path) -> None:
    focus = (0.7, 1.0, 1.6)
    files = [write_plane(tmp_path, 1.0, focus_m=f) for f in focus]
    measured = [measure_plane(read_views(p), 1.0, f) for p, f in zip(files, focus, strict=True)]
    result = fit_gain(measured, FACTS)
    assert result.profile.disparity_gain == pytest.approx(LENS.disparity_gain, rel=0.06)
    assert result.fitted_focus_m is None and not result.gain.focus_fitted


def test_a_wrong_focus_distance_and_one_side_only_are_warned_of(planes: list[Path], tmp_path: Path) -> None:
    wrong = [measure_plane(read_views(p), z, 0.9) for p, z in zip(planes, (0.6, 1.5), strict=True)]
    assert "agree best with a focus distance of 1" in fit_gain(wrong, FACTS).warnings[0]
    near = [measure_plane(read_views(write_plane(tmp_path, z)), z, 1.0) for z in (0.6, 0.75)]
    assert "all planes are in front of the focus plane" in fit_gain(near, FACTS).warnings[0]
    assert fit_gain(near).profile.disparity_gain is None  # without lens data the slope alone
    tight = replace(FACTS, f_number=22.0)
    measured = [measure_plane(read_views(p), z) for p, z in zip(planes, (0.6, 1.5), strict=True)]
    assert "more than two half discs" in fit_gain(measured, tight).warnings[0]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_cells_lie_as_the_sensor_does(tmp_path: Path, orientation: int) -> None:
    """A plane whose upper left quarter on the sensor has no texture, the camera held in four ways."""
    light = texture()
    light[:192, :256] = 0.3
    left, right = (np.rint(512 + 7000 * v).astype(np.uint16) for v in halves(light, -8.0, 0.12))
    mosaic = [np.repeat(np.repeat(v, 2, 0), 2, 1) for v in (left, right)]
    path = tmp_path / "plane.dng"
    meta = CaptureMeta(camera=SIMULATED_MODEL, orientation=orientation, f_number=4.0, focal_length_mm=50.0)
    write_dual_pixel_dng(path, mosaic[0] + mosaic[1] - 512, mosaic[0], white=16383, meta=meta)
    plane = measure_plane(read_views(path), 0.6)
    empty = ~np.isfinite(plane.disparity_px)
    assert plane.disparity_px.shape == CELLS and empty[:2, 1:3].all()
    assert empty[3:].mean() < 0.1 and empty[:, 4:].mean() < 0.1
    assert np.nanmedian(plane.disparity_px) == pytest.approx(-0.96, rel=0.1)


def test_command_writes_profile_and_picture_and_keeps_what_was_there(
    planes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "lens.json"
    target.parent.mkdir()
    ones = np.ones((2, 3, 1), np.float32)
    write_profile(target, CameraProfile(SIZE_HW, Shading(ones, ones, (1.0,), 0.1, 0.1), sources=("sheet.png",)))
    lens = ("--focal-length-mm", "50", "--f-number", "4", "--pixel-pitch-um", "70")
    assert run("gain", *planes, "--distances", "0.6,1.5", *lens, "-o", target) == 0
    shown = capsys.readouterr()
    assert "gain 0." in shown.out and "0.6 m" in shown.out and "48 of 48" in shown.out and "warning" not in shown.err
    profile = read_profile(target)
    assert profile.shading is not None and profile.gain is not None and len(profile.gain.planes) == 2
    assert profile.sources == ("sheet.png", *(p.name for p in planes))
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(target.read_text()))
    drawn = cv2.imread(str(target.with_name("lens-gain.png")))
    assert drawn is not None and drawn.shape[1] > 900 and drawn.std() > 20
    assert run("gain", *planes, "--distances", "0.6,1.5", "-o", target, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["disparity_gain"] is None and record["slope_px"] > 0 and len(record["planes"]) == 2
    assert read_profile(target).disparity_gain == profile.disparity_gain  # not unlearned


def _tilted() -> tuple[Floats, Floats]:
    light = texture()
    parts = [halves(light, c, 0.2) for c in (-2.0, -5.0, -8.0, -11.0)]
    strips = [np.array_split(np.stack(p), 4, axis=2)[i] for i, p in enumerate(parts)]
    whole = np.concatenate(strips, axis=2)
    return whole[0], whole[1]


def _plain() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    return 0.3 + rng.normal(0, 0.002, SIZE_HW), 0.3 + rng.normal(0, 0.002, SIZE_HW)


def _clipped() -> tuple[Floats, Floats]:
    left, right = halves(texture(), -8.0, 0.1)
    return 6 * left, 6 * right


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (_tilted, r"'bad_l.png' is not parallel to the sensor: its disparity changes by -2\.\d+ px from left to right"),
        (_plain, r"'bad_l.png' has no texture to measure in 4\d of 48 places"),
        (_clipped, r"\d\d % of 'bad_l.png' is clipped; expected at most 30 %; expose the plane less"),
    ],
)
def test_bad_captures_are_refused_with_the_reason(
    planes: list[Path],
    tmp_path: Path,
    views: Callable[[], tuple[Floats, Floats]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = write_pair(tmp_path / "bad_l.png", *views())
    assert run("gain", planes[0], bad, "--distances", "0.6,1.5", "-o", tmp_path / "p.json") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--distances", "600,1500"), "distances 600 m; expected metres, at most 100; 600 mm would be 0.6"),
        (("--distances", "0.6,1.5", "--focus-distance-m", "1000"), "focus-distance-m 1000 m; expected metres"),
        (("--distances", "0.6"), "all planes at 0.6 m, and the focus distance is not known"),
        (("--distances", "0.6", "--focus-distance-m", "1"), "one defocus only, -0.67 diopters"),
        (("--distances", "0.6,1.5,2"), "2 captures and 3 of --distances"),
        (("--distances", "1.5,0.6"), "disparity falls with distance"),
        (("--distances", "0,1"), "distances 0 m; expected a positive distance"),
        (("--distances", "nan,1"), "distances nan m; expected a positive distance"),
        (("--distances", "near,far"), "--distances near,far; expected metres, as in 0.6,1.5"),
        (("--distances", "0.6,1.5", "--f-number", "-4"), "--f-number is -4; expected 0.5 to 256"),
        (
            ("--distances", "0.6,1.5", "--focus-distance-m", "0.04", "--focal-length-mm", "50"),
            "focus distance 0.04 m is within the focal length of 50 mm",
        ),
    ],
)
def test_bad_arguments(
    planes: list[Path], tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("gain", *planes, *arguments, "-o", tmp_path / "p.json") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dualpix: error: ") and message in error, error


def test_planes_that_do_not_belong_together(
    planes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sharp = [write_plane(tmp_path, z, lens=replace(LENS, f_number=200.0)) for z in (0.6, 1.5)]
    assert run("gain", *sharp, "--distances", "0.6,1.5", "-o", tmp_path / "p.json") == 2
    assert "all planes are in focus, nothing to measure" in capsys.readouterr().err
    other = write_pair(tmp_path / "other_l.png", *halves(texture(0, (384, 640)), 4.0, 0.1))
    assert run("gain", planes[0], other, "--distances", "0.6,1.5", "-o", tmp_path / "p.json") == 2
    assert "the planes differ in size" in capsys.readouterr().err
    (tmp_path / "note.json").write_text("{}")
    assert run("gain", *planes, "--distances", "0.6,1.5", "-o", tmp_path / "note.json") == 2
    assert "'note.json'" in capsys.readouterr().err and (tmp_path / "note.json").read_text() == "{}"
    write_profile(tmp_path / "big.json", CameraProfile((100, 100)))
    assert run("gain", *planes, "--distances", "0.6,1.5", "-o", tmp_path / "big.json") == 2
    assert "a profile of pictures of '100x100'; expected '512x384'" in capsys.readouterr().err
    with pytest.raises(PlaneError, match="the distances do not explain the disparities"):
        near, far = (measure_plane(read_views(p), z, 1.0) for p, z in zip(planes, (0.6, 1.5), strict=True))
        fit_gain([near, replace(far, distance_m=4.0)], FACTS)


# --- kernels ---------------------------------------------------------------------------------------------------------


def test_the_model_is_recovered_from_its_own_kernels() -> None:
    truth = {"coc_px": 21.0, "gain": 0.2, "edge_relative": 0.12, "rim": 0.3, "split_offset": 0.4}
    left, right = (k.astype(np.float32)[None, None] for k in model_kernels(*truth.values(), 41))
    grid = measure_psf(Kernels(left, right, np.ones((1, 1), bool)), 2016)
    assert grid.separation_px[0, 0] == pytest.approx(4.2, abs=0.02)
    assert grid.coc_px[0, 0] == pytest.approx(21, rel=0.02)
    assert grid.edge_relative[0, 0] == pytest.approx(0.12, abs=0.02) and grid.residual[0, 0] < 0.1
    assert grid.split_offset[0, 0] == pytest.approx(0.4, abs=0.15) and grid.rim[0, 0] == pytest.approx(0.3, abs=0.2)


def test_moments_of_half_discs() -> None:
    """A disc has its own diameter by the second moment, and its halves are 4 / (3 pi) of it apart."""
    axis = np.arange(-20, 21)
    x, y = np.meshgrid(axis, axis)
    disc = (x**2 + y**2 <= 15.5**2).astype(np.float32)
    halves_ = (disc * (x < 0) + disc * (x == 0) / 2, disc * (x > 0) + disc * (x == 0) / 2)
    left, right = ((h / h.sum()).astype(np.float32)[None, None] for h in halves_)
    grid = measure_psf(Kernels(left, right, np.ones((1, 1), bool)), 100)
    assert grid.diameter_px[0, 0] == pytest.approx(31, rel=0.01)
    assert grid.gain[0, 0] == pytest.approx(optics.IDEAL_DISPARITY_GAIN, rel=0.01)


@pytest.fixture(scope="module")
def sharp_and_blurred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("psf")
    light = texture(4)
    sharp = write_pair(folder / "sharp_l.png", *halves(light, 0.0, 0.1))
    return sharp, write_pair(folder / "blurred_l.png", *halves(light, -9.0, 0.12))


def _cells_of(pair: tuple[Floats, Floats]) -> Kernels:
    left, right = (k.astype(np.float32)[None, None] for k in pair)
    return Kernels(left, right, np.ones((1, 1), bool))


def test_psf_command_recovers_kernels_from_a_sharp_and_a_blurred_plane(
    sharp_and_blurred: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sharp, blurred = sharp_and_blurred
    target = tmp_path / "lens.json"
    assert run("psf", blurred, "--sharp", sharp, "--size-px", "21", "--keep-kernels", "3", "-o", target, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    truth = measure_psf(_cells_of(model_kernels(-9.0, 0.12, 0.05, 0.0, 0.0, 21)), 512)
    assert record["cells_measured"] > 43
    assert record["diameter_px"]["mean"] == pytest.approx(truth.diameter_px[0, 0], rel=0.03)
    assert record["separation_px"]["mean"] == pytest.approx(-1.08, rel=0.05)
    assert record["coc_px"]["mean"] == pytest.approx(-9.0, rel=0.06)
    profile = read_profile(target)
    assert profile.psf is not None and profile.psf.kernels is not None and profile.disparity_gain is not None
    assert profile.psf.kernels[0].shape == (*CELLS, 7, 7)
    assert np.allclose(profile.psf.kernels[1].sum((-2, -1)), 1, atol=1e-3)
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(target.read_text()))
    drawn = cv2.imread(str(target.with_name("lens-psf.png")))
    assert drawn is not None and drawn.std() > 20
    assert run("psf", blurred, "--sharp", blurred, "-o", tmp_path / "x.json") == 2
    assert run("psf", blurred, "-o", tmp_path / "x.json") == 2
    assert run("psf", blurred, "--sharp", sharp, "--size-px", "20", "-o", tmp_path / "x.json") == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if "error" in e]
    assert re.search(r"the blur is \d\.\d px across; expected at least 3.5 px", errors[0]), errors
    assert "no --sharp; expected one blurred capture with --sharp" in errors[1]
    assert "kernels of 20 px; expected an odd size" in errors[2]


def test_other_planes_share_no_kernel(sharp_and_blurred: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_pair(tmp_path / "other_l.png", *halves(texture(9), 0.0, 0.1))
    with pytest.raises(PlaneError, match=r"give no kernel of 21 px in \d+ of 48 places"):
        deconvolve(read_views(other), read_views(sharp_and_blurred[1]), 21)


def test_kernel_grids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = (np.stack([k] * 6) for k in model_kernels(12.0, 0.2, 0.1, 0.0, 0.0, 21))
    np.save(tmp_path / "left.npy", left)
    np.save(tmp_path / "right.npy", right.astype(np.float32))
    grids = (tmp_path / "left.npy", tmp_path / "right.npy")
    shape = ("--cells", "2", "3", "--picture", "300", "200", "--field", "0.1", "0.2", "0.9", "0.8")
    assert run("psf", *grids, *shape, "--camera", "Mine", "-o", tmp_path / "p.json") == 0
    profile = read_profile(tmp_path / "p.json")
    assert profile.camera == "Mine" and profile.size_hw == (200, 300) and profile.psf is not None
    assert profile.psf.field == (0.1, 0.2, 0.9, 0.8) and np.allclose(profile.psf.separation_px, 2.4, atol=0.02)
    np.save(tmp_path / "even.npy", left[:, :20, :20])
    np.save(tmp_path / "texts.npy", np.array(["a"]))
    np.save(tmp_path / "dark.npy", 0 * left)
    (tmp_path / "none.npy").write_bytes(b"\x93NUMPY")
    for name, message in {
        "even.npy": "holds 6x20x20; expected square kernels of odd size",
        "texts.npy": "holds no grid of kernels",
        "dark.npy": "kernels without light",
        "none.npy": "cannot read kernels",
        "gone.npy": "cannot read kernels",
    }.items():
        with pytest.raises(PsfError, match=re.escape(message)):
            read_kernels(tmp_path / name, tmp_path / "right.npy", (2, 3))
    with pytest.raises(PsfError, match="holds 6 kernels; expected 6 x 8"):
        read_kernels(*grids, (6, 8))
    capsys.readouterr()
    assert run("psf", *grids, "-o", tmp_path / "q.json") == 2
    assert run("psf", *grids, *shape[:-4], "0.9", "0.2", "0.1", "0.8", "-o", tmp_path / "q.json") == 2
    errors = capsys.readouterr().err.splitlines()
    assert "expected --picture WIDTH HEIGHT" in errors[0] and "expected TOP < BOTTOM" in errors[1]


# --- what the profile keeps ------------------------------------------------------------------------------------------


def full_profile() -> CameraProfile:
    kernels = _cells_of(model_kernels(12.0, 0.2, 0.1, 0.0, 0.0, 21))
    psf = with_kernels(measure_psf(kernels, 300), kernels, 3)
    gain = GainField(1.2, np.ones((2, 3), np.float32), 1.0, True, 0.02, 300, 40.0)
    return CameraProfile((200, 300), gain=gain, psf=psf, disparity_gain=0.2, notes={"gain": "two planes"})


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("gain.slope_px_per_diopter", 0, "expected a number > 0"),
        ("gain.relative", [1.0], "'gain'.'relative' has 1 values; expected 6"),
        ("gain.focus_fitted", 1, "expected true or false"),
        ("gain.planes", [{"name": "x"}], "'gain'.'planes'[0] has no 'distance_m'"),
        ("gain.colour", "red", "unknown entry 'colour'"),
        ("psf.rows", 0, "expected a whole number 1..256"),
        ("psf.diameter_px", [-1.0], "expected a number 0.001 to 10000"),
        ("psf.field", [0.5, 0, 0.2, 1], "expected top < bottom, left < right"),
        ("psf.kernels.size", 8, "expected an odd size"),
        ("psf.kernels.left", [0.1], "has 1 values; expected 49"),
        ("notes", {"gain": 3}, "expected a text of at most 2000 characters"),
        ("sensor", {"readout": "both"}, "expected one of: halves, composite"),
    ],
)
def test_damaged_facts_say_what_is_wrong(tmp_path: Path, where: str, value: Any, message: str) -> None:
    content = full_profile().to_json()
    if where == "sensor":
        value = {"colour": "gray", "bits": 14, "black_dn": 0, "white_dn": 1, "encoding": "raw", **value}
    *parents, last = where.split(".")
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Exception, match=re.escape(message)):
        read_profile(path)
    if "values" not in message and last != "field":
        assert not Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(content) or last == "size"


def test_facts_round_trip(tmp_path: Path) -> None:
    write_profile(tmp_path / "p.json", full_profile())
    again = read_profile(tmp_path / "p.json")
    assert again.to_json() == full_profile().to_json()
    assert again.gain is not None and again.gain.slope_px == 1.2


def test_cells_are_read_between_and_beyond_their_centres() -> None:
    grid = np.array([[0.0, 2.0], [4.0, 6.0]])
    whole = (0.0, 0.0, 1.0, 1.0)
    assert at_cell(grid, whole, 0.25, 0.25) == 0 and at_cell(grid, whole, 0.5, 0.5) == 3
    assert at_cell(grid, whole, 0.0, 1.0) == 2 and at_cell(grid, (0.5, 0.5, 1, 1), 0.75, 0.75) == 3
    assert at_cell(np.array([[5.0]]), whole, 0.9, 0.1) == 5


# --- real cameras ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flats(shared_data: SharedData) -> GainResult:
    folder = shared_data("canon_r6m2_dp119")
    measured = [measure_plane(read_views(folder / f"flat_{z:04d}mm_f4_l.png"), z / 1000) for z in (600, 1500)]
    return fit_gain(measured, LensFacts(50.0, 4.0, 36_000 / 768))


def test_r6m2_gain_from_flats(flats: GainResult) -> None:
    """The focus comes out where 1 m from the sensor is from the lens. Block matching sees 0.8 to 0.9 of the slope of
    1.2: it locks to whole pixels. Blur kernels by deconvolution (below) agree with the larger one.
    """
    assert flats.gain.focus_distance_m == pytest.approx(0.945, abs=0.03)
    assert flats.profile.disparity_gain == pytest.approx(0.082, rel=0.06)
    assert flats.gain.slope_px == pytest.approx(1.24, rel=0.06)
    assert flats.matched_slope_px is not None and 0.78 <= flats.matched_slope_px <= 0.94
    assert flats.gain.relative.max() > 1.2 and flats.gain.relative[:, [0, -1]].max() < 0.9


def test_r6m2_stopped_down_by_five_has_far_less_than_a_fifth_of_the_disparity(
    flats: GainResult, shared_data: SharedData
) -> None:
    """Of the circle of confusion it has a fifth; a gain proportional to the aperture leaves a 25th."""
    folder = shared_data("canon_r6m2_dp119")
    slope, total = 0.0, 0.0
    for z, plane in zip((600, 1500), flats.gain.planes, strict=True):
        views = read_views(folder / f"flat_{z:04d}mm_f20_l.png")
        found, sigma = local_disparity(views.left, views.right, views.usable, CELLS)
        known = np.isfinite(sigma)
        weight, open_px = 1 / sigma[known] ** 2, plane.predicted_px * flats.gain.relative[known]
        slope, total = (
            slope + float((weight * found[known] * open_px).sum()),
            total + float((weight * open_px**2).sum()),
        )
    assert slope / total == pytest.approx(1 / 25, abs=0.035)
    with pytest.raises(PlaneError, match="all planes are in focus"):
        fit_gain([measure_plane(read_views(folder / f"flat_{z:04d}mm_f20_l.png"), z / 1000) for z in (600, 1500)])


@pytest.mark.parametrize("scene", ["box_001", "box_002", "box_003", "iphone_001", "iphone_002"])
def test_r6m2_flats_predict_the_disparity_of_scenes(flats: GainResult, shared_data: SharedData, scene: str) -> None:
    folder = shared_data("canon_r6m2_dp119")
    depth = cv2.imread(str(folder / f"{scene}_depth_mm.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
    check = check_depth(read_views(folder / f"{scene}_l.png"), depth, flats.gain)
    assert check is not None
    # iphone_001 reaches 4.5 m, where its depth map counts in steps of 39 mm and the phone's own error is larger
    assert check.ratio == pytest.approx(1.0, abs=0.22 if scene == "iphone_001" else 0.1)
    assert check.residual_px < min(0.15, 0.65 * check.raw_px)


@pytest.mark.parametrize(("z_m", "sign"), [(0.6, -1), (1.5, 1)])
def test_r6m2_kernels_by_deconvolution_agree_with_lens_and_gain(
    flats: GainResult, shared_data: SharedData, z_m: float, sign: int
) -> None:
    folder = shared_data("canon_r6m2_dp119")
    sharp, blurred = (read_views(folder / f"flat_{1000 * z_m:04.0f}mm_f{n}_l.png") for n in (20, 4))
    kernels = deconvolve(sharp, blurred, 21)
    grid = measure_psf(Kernels(kernels.left[::2], kernels.right[::2], kernels.known[::2], kernels.restraint), 768)
    lens = optics.check_lens(replace(LENS, focus_distance_m=flats.gain.focus_distance_m, pixel_pitch_um=36_000 / 768))
    coc_px = abs(float(optics.circle_of_confusion_px(z_m, lens)))
    assert np.median(grid.diameter_px) == pytest.approx(coc_px, rel=0.1)
    assert np.all(np.sign(grid.separation_px) == sign)
    assert float(grid.gain.mean()) == pytest.approx(flats.profile.disparity_gain, rel=0.12)


def test_pixel4_kernels(shared_data: SharedData) -> None:
    folder = shared_data("pixel4_xin2021") / "calibration"
    kernels = read_kernels(folder / "blur_kernels_left.npy", folder / "blur_kernels_right.npy", (6, 8))
    every = Kernels(kernels.left[::2, ::3], kernels.right[::2, ::3], kernels.known[::2, ::3])
    grid = measure_psf(every, 2016)
    assert float(grid.gain.mean()) == pytest.approx(0.21, rel=0.1)
    assert grid.gain.min() > 0.19 and grid.gain.max() < 0.235
    assert (
        np.median(grid.residual) < 0.33 and grid.split_offset[:, 0].min() > 0.3 > -0.1 > grid.split_offset[:, -1].max()
    )
