"""Prediction: geometry (size, axis, anamorphic pixels, scale), blending, bad input, metric depth, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.support.pairs import NOTHING, shifted
from tests.support.pgm import write_pdcapture

from dualpix.capture import optics
from dualpix.capture.cli import main, root
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.colour_map import Panel, figure
from dualpix.capture.pictures.points import PLY_VERTEX
from dualpix.capture.profiles import gain_at, lens_model, load_profile
from dualpix.capture.profiles.profile import may_be_one_camera
from dualpix.capture.raw import decode
from dualpix.capture.types import CaptureMeta, DualPixelImage, LensModel
from dualpix.models.metrics import rank_correlation
from dualpix.models.networks import NetworkSpec, build_network, network_spec
from dualpix.models.predict.disparity import (
    estimate,
    lens_of,
    match_disparity,
    metric_depth,
    predict_disparity,
    with_profile,
)
from dualpix.models.predict.working import MethodMap, WorkingViews, working_views
from dualpix.models.prepare import network_inputs
from dualpix.models.zoo import LoadedModel

LENS = LensModel(50, 4, 1.0, 46.875, 0.0613)


def capture(left: np.ndarray, right: np.ndarray, baseline: str = "x", aspect: float = 1.0) -> DualPixelImage:
    meta = CaptureMeta(pixel_aspect=aspect)
    return DualPixelImage(left, right, 0.5 * (left + right), np.zeros(left.shape[:2], bool), baseline, meta)  # type: ignore[arg-type]


def shifted_pair(height: int, width: int, dx: float) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(3).random((height, width), np.float32)
    left = cv2.GaussianBlur(noise, (0, 0), 3.0)
    move = np.array([[1, 0, dx], [0, 1, 0]], np.float32)
    return left, cv2.warpAffine(left, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel("random", build_network("difusenet").eval(), network_spec("difusenet"), {}, Path())


def test_disparity_comes_back_in_view_pixels_whatever_the_working_size() -> None:
    image = capture(*shifted_pair(160, 400, 6.0))
    for size in (400, 200):
        result = match_disparity(image, working_long_side_px=size)
        assert result.disparity_px.shape == (160, 400) and result.disparity_px.dtype == np.float32
        assert result.scale == (400 / size,)
        assert np.median(result.disparity_px[20:-20, 80:-80]) == pytest.approx(6.0, abs=0.3)


def test_a_portrait_capture_is_the_transposed_landscape_one() -> None:
    left, right = shifted_pair(160, 320, 5.0)
    landscape = match_disparity(capture(left, right), working_long_side_px=160)
    portrait = match_disparity(capture(left.T.copy(), right.T.copy(), "y"), working_long_side_px=160)
    assert np.array_equal(portrait.disparity_px.T, landscape.disparity_px)
    assert portrait.valid is not None and np.array_equal(portrait.valid.T, landscape.valid)


def test_anamorphic_views_are_made_square_by_shrinking() -> None:
    left, right = shifted_pair(100, 400, 8.0)
    image = capture(left, right, aspect=2.0)
    assert working_views(image, 1008).left.shape == (100, 200)
    result = match_disparity(image, working_long_side_px=1008)
    assert result.scale == (2.0,) and np.median(result.disparity_px[20:-20, 80:-80]) == pytest.approx(8.0, abs=0.3)
    tall = capture(left.T.copy(), right.T.copy(), "y", aspect=2.0)
    assert working_views(tall, 1008).left.shape == (100, 200)


@settings(deadline=None, max_examples=30)
@given(st.integers(16, 300), st.integers(16, 300), st.integers(16, 400), st.sampled_from("xy"))
def test_any_size_comes_back_as_it_was(height: int, width: int, size: int, baseline: str) -> None:
    image = capture(np.ones((height, width), np.float32), np.ones((height, width), np.float32), baseline)
    seen: list[WorkingViews] = []

    def ones(views: WorkingViews) -> MethodMap:
        seen.append(views)
        return MethodMap(np.ones_like(views.left))

    result = estimate(image, ones, "ones", working_long_side_px=size)
    assert result.disparity_px.shape == (height, width)
    assert max(seen[0].left.shape) <= max(size, 16) and seen[0].left.max() == pytest.approx(1, abs=1e-5)
    assert np.allclose(result.disparity_px, result.scale[0]) and result.scale[0] >= 1


def test_the_network_sees_any_size_and_colour(model: LoadedModel) -> None:
    rng = np.random.default_rng(0)
    gray = capture(*rng.random((2, 70, 101), np.float32))
    result = predict_disparity(gray, model)
    assert result.disparity_px.shape == (70, 101) and np.isfinite(result.disparity_px).all()
    assert result.method == "random" and result.valid is None and result.working_size_hw == ((70, 101), (46, 67))
    colour = capture(*rng.random((2, 70, 101, 3), np.float32))
    assert predict_disparity(colour, model, working_long_side_px=64).disparity_px.shape == (70, 101)


def test_the_network_is_run_as_it_is_where_no_padding_or_scaling_is_needed(model: LoadedModel) -> None:
    image = capture(*np.random.default_rng(5).random((2, 64, 96), np.float32))
    tensors = (torch.from_numpy(v)[None, None] for v in (image.left, image.right, image.combined))
    with torch.inference_mode():
        expected = model.module(*network_inputs(*tensors))[0, 0].numpy()
    assert np.allclose(predict_disparity(image, model, working_long_side_px=96).disparity_px, expected, atol=1e-6)


def test_what_was_clipped_says_nothing_of_a_disparity() -> None:
    """A sum that stopped leaves a derived half black where it is brightest: no method is shown that."""
    image = capture(*shifted_pair(64, 96, 1.0))
    saturated = np.zeros((64, 96), np.bool_)
    saturated[10:30, 20:50] = True
    left, right = image.left.copy(), image.right.copy()
    left[saturated], right[saturated] = 0.9, 0.1  # what is left of a sum of 1
    seen: list[WorkingViews] = []

    def method(views: WorkingViews) -> MethodMap:
        seen.append(views)
        return MethodMap(np.zeros(views.left.shape, np.float32))

    clipped = replace(image, left=left, right=right, saturated=saturated)
    estimate(clipped, method, "method", working_long_side_px=96)
    views = seen[0]
    assert np.allclose(views.left[saturated], 0.5) and np.allclose(views.right[saturated], 0.5)
    assert np.array_equal(views.left[~saturated], image.left[~saturated])
    estimate(image, method, "method", working_long_side_px=96)
    assert np.array_equal(seen[1].left, image.left) and np.array_equal(seen[1].right, image.right)


def test_several_sizes_are_blended() -> None:
    image = capture(*np.ones((2, 40, 120), np.float32))

    def width_of(views: WorkingViews) -> MethodMap:
        # 10, 20, 90 view pixels at 120, 60, 30 working pixels
        value = {120: 10.0, 60: 10.0, 30: 22.5}[views.left.shape[1]]
        return MethodMap(np.full(views.left.shape, value, np.float32))

    sizes = [120, 60, 30]
    assert np.allclose(estimate(image, width_of, "w", working_long_side_px=sizes).disparity_px, 20)
    mean = estimate(image, width_of, "w", working_long_side_px=sizes, blend="mean")
    assert np.allclose(mean.disparity_px, 40) and mean.working_size_hw == ((40, 120), (20, 60), (10, 30))


def test_bad_pixels_tiny_views_and_other_outputs_are_refused(model: LoadedModel) -> None:
    views = np.ones((2, 32, 32), np.float32)
    broken = views.copy()
    broken[0, 3, 4:6] = np.nan
    with pytest.raises(DualpixError, match="2 pixels of the left view are NaN"):
        match_disparity(capture(*broken))
    with pytest.raises(DualpixError, match="only 32 x 8 px"):
        match_disparity(capture(*views[:, :8]))
    with pytest.raises(DualpixError, match="working size"):
        match_disparity(capture(*views), working_long_side_px=[])
    spec = NetworkSpec(model.spec.build, model.spec.inputs, "inverse_depth_affine", 32, "")
    with pytest.raises(DualpixError, match="expected a model that gives disparity_px"):
        predict_disparity(capture(*views), replace(model, spec=spec))


def test_metric_depth_needs_all_lens_data() -> None:
    assert lens_of(CaptureMeta(f_number=4.0)) == [
        "focal_length_mm", "focus_distance_m", "pixel_pitch_um", "disparity_gain",
    ]  # fmt: skip
    known = CaptureMeta(
        f_number=4, focal_length_mm=50, focus_distance_m=1.0, pixel_pitch_um=46.875, disparity_gain=0.0613
    )
    assert lens_of(known) == LENS
    with pytest.raises(DualpixError, match="focal length"):
        lens_of(replace(known, focus_distance_m=0.01))


def test_metric_depth_inverts_the_optics() -> None:
    depth = np.linspace(0.5, 20, 50, dtype=np.float32).reshape(5, 10)
    disparity = optics.disparity_px(depth.astype(np.float64), LENS).astype(np.float32)
    assert np.allclose(metric_depth(disparity, LENS), depth, rtol=1e-4)


# --- dualpix depth ---


def invoke(*args: str | Path) -> Result:
    return CliRunner().invoke(root, ["depth", *map(str, args)])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A 16-bit pair of files, linear, shifted by 2 px."""
    for name, view in zip(("left", "right"), shifted_pair(96, 160, 2.0), strict=True):
        cv2.imwrite(str(tmp_path / f"shot_{name}.png"), np.rint(view * 40000).astype(np.uint16))
    return tmp_path / "shot_left.png"


@pytest.fixture(scope="module")
def model_folder(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    save_file(model.module.state_dict(), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": "difusenet"}))
    return folder


LENS_ARGS = (
    "--focal-length-mm", "50", "--f-number", "4", "--focus-distance-m", "1",
    "--pixel-pitch-um", "46.875", "--disparity-gain", "0.424",
)  # fmt: skip


def test_command_writes_disparity_and_says_what_depth_lacks(pair: Path, tmp_path: Path) -> None:
    done = invoke(pair, "-o", tmp_path / "out", "--method", "sgbm", "--json")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "shot"
    assert {p.name for p in folder.iterdir()} == {"depth.json", "disparity.png", "disparity_px.tiff", "confidence.tiff"}
    disparity = tifffile.imread(folder / "disparity_px.tiff")
    assert disparity.dtype == np.float32 and np.median(disparity) == pytest.approx(2, abs=0.2)
    record = json.loads((folder / "depth.json").read_text())
    assert record["depth"]["metric"] is False and "--f-number" in record["depth"]["hint"]
    assert len(record["depth"]["missing"]) == 5
    assert json.loads(done.stdout)[0]["result"] == record


def test_command_gives_metric_depth_from_lens_options(pair: Path, model_folder: Path, tmp_path: Path) -> None:
    done = invoke(pair, "-o", tmp_path / "out", "--model", model_folder, *LENS_ARGS)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "shot"
    disparity, confidence, depth, uncertainty = (
        tifffile.imread(folder / f"{n}.tiff") for n in ("disparity_px", "confidence", "depth_m", "depth_uncertainty_d")
    )
    lens = LensModel(50, 4, 1.0, 46.875, 0.424)
    measured = np.isfinite(uncertainty)
    assert np.allclose(depth[measured], optics.depth_m(disparity[measured].astype(np.float64), lens), rtol=1e-5)
    assert np.array_equal(np.isnan(depth), ~measured) and confidence.dtype == uncertainty.dtype == np.float32
    assert confidence[measured].min() >= 0.5 and confidence.min() >= 0 and confidence.max() <= 1
    assert cv2.imread(str(folder / "depth.png")).shape[2] == 3
    assert json.loads((folder / "depth.json").read_text())["depth"]["lens"]["focal_length_mm"] == 50


def test_points_are_the_measured_metres_in_space(pair: Path, model_folder: Path, tmp_path: Path) -> None:
    done = invoke(pair, "-o", tmp_path / "out", "--model", model_folder, "--ply", *LENS_ARGS)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "shot"
    head, body = (folder / "points.ply").read_bytes().split(b"end_header\n", 1)
    vertices = np.frombuffer(body, PLY_VERTEX)
    depth, confidence = (tifffile.imread(folder / name) for name in ("depth_m.tiff", "confidence.tiff"))
    told = json.loads((folder / "depth.json").read_text())["points"]
    chosen = np.isfinite(depth)
    assert f"element vertex {chosen.sum()}".encode() in head and told["count"] == len(vertices) == chosen.sum() > 0
    assert np.array_equal(vertices["z"], depth[chosen]) and np.array_equal(vertices["confidence"], confidence[chosen])
    # 50 mm focused at 1 m: 52.63 mm to the sensor
    assert told["fx_px"] == told["fy_px"] == pytest.approx(52.6316e3 / 46.875, rel=1e-5)
    rows, columns = np.nonzero(chosen)
    assert np.allclose(vertices["x"], depth[chosen] * (columns - 79.5) / told["fx_px"], rtol=1e-5)
    assert np.allclose(vertices["y"], depth[chosen] * (rows - 47.5) / told["fy_px"], rtol=1e-5)


def test_points_without_metres_say_what_is_missing(pair: Path, tmp_path: Path) -> None:
    done = invoke(pair, "-o", tmp_path / "out", "--method", "sgbm", "--ply", *LENS_ARGS[:4])
    assert done.exit_code == 0, done.output
    said = "no points were written, which need metres: focus_distance_m, pixel_pitch_um, disparity_gain are not known"
    assert said in " ".join(done.stdout.split()) and not (tmp_path / "out" / "shot" / "points.ply").exists()


def test_a_lens_focused_at_infinity_is_taken_and_named(pair: Path, tmp_path: Path) -> None:
    args = [arg if arg != "1" else "inf" for arg in LENS_ARGS]
    done = invoke(pair, "-o", tmp_path / "out", "--method", "sgbm", *args)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "shot" / "depth.json").read_text())
    assert record["meta"]["focus_distance_m"] == "inf" and record["depth"]["lens"]["focus_distance_m"] == "inf"


def test_a_profile_gives_the_lens_and_its_gain_over_the_field(pair: Path, tmp_path: Path) -> None:
    # at f/1: at the profile's f/4 a picture of 160 px shows 0.2 px for a diopter, and has no metres
    fast = ("--profile", "canon-r6m2-rf50", "--f-number", "1")
    done = invoke(pair, "-o", tmp_path / "out", "--method", "sgbm", *fast)
    assert done.exit_code == 0, done.output
    folder, profile = tmp_path / "out" / "shot", load_profile("canon-r6m2-rf50")
    disparity, depth = (tifffile.imread(folder / f"{n}.tiff") for n in ("disparity_px", "depth_m"))
    assert profile.gain is not None and profile.gain.pixel_pitch_um is not None
    pitch_um = profile.gain.pixel_pitch_um * profile.gain.view_width_px / 160
    lens = lens_model(profile, f_number=1.0, pixel_pitch_um=pitch_um)
    field = cv2.resize(profile.gain.relative, (160, 96), interpolation=cv2.INTER_LINEAR)
    assert np.ptp(field) > 0.1
    measured = ~np.isnan(depth)
    assert measured.mean() > 0.5
    assert np.allclose(
        depth[measured], optics.depth_m((disparity / field).astype(np.float64), lens)[measured], rtol=1e-4
    )
    assert json.loads((folder / "depth.json").read_text())["depth"]["gain_over_field"] is True


def test_what_the_user_or_the_file_says_stands_beside_a_profile(pair: Path, tmp_path: Path) -> None:
    wide = ("--profile", "canon-r6m2-rf50", "--f-number", "2", "--focus-distance-m", "2")
    for out, own in (("scaled", ()), ("own", ("--disparity-gain", "0.1"))):
        assert invoke(pair, "-o", tmp_path / out, "--method", "sgbm", *wide, *own).exit_code == 0
    scaled, own_gain = (
        json.loads((tmp_path / out / "shot" / "depth.json").read_text())["depth"]["lens"] for out in ("scaled", "own")
    )
    profile = load_profile("canon-r6m2-rf50")
    assert scaled["disparity_gain"] == pytest.approx(gain_at(profile, 2.0))
    assert own_gain["disparity_gain"] == 0.1 and own_gain["focus_distance_m"] == 2 == scaled["focus_distance_m"]


def test_a_profile_that_does_not_fit_is_refused(pair: Path, tmp_path: Path) -> None:
    profile = load_profile("canon-r6m2-rf50")
    with pytest.raises(DualpixError, match="the profile is of a"):
        with_profile(CaptureMeta(camera="Other"), replace(profile, camera="Canon EOS R6m2"), 160)
    with pytest.raises(DualpixError, match="has no gain"):
        with_profile(CaptureMeta(), replace(profile, disparity_gain=None), 160)
    done = invoke(pair, "-o", tmp_path / "out", "--profile", "nikon")
    assert done.exit_code != 0 and "canon-r6m2-rf50" in str(done.exception)


@pytest.mark.parametrize("kind", ["pixel-pdcapture", "pixel4-png", "raw-depth-dump", "raw-depth-png"])
def test_the_pixel_profile_fits_every_pixel_file(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    options: tuple[str, ...] = ()
    if kind == "raw-depth-dump":
        file = tmp_path / "t.raw"
        file.write_bytes(rng.integers(64, 1000, (60, 320)).astype("<u2").tobytes())
        options = ("--dump", "320x60")
    else:
        form = {
            "pixel-pdcapture": (".pgm", (60, 160), 64, 1000),
            "pixel4-png": (".png", (1512, 2016), 1024, 16000),
            "raw-depth-png": (".png", (756, 2016), 64, 1000),
        }[kind]
        for side in ("left", "right"):
            samples = rng.integers(*form[2:], form[1]).astype(np.uint16)
            path = tmp_path / f"t_{side}{form[0]}"
            write_pdcapture(path, samples) if form[0] == ".pgm" else cv2.imwrite(str(path), samples)
        file = tmp_path / f"t_left{form[0]}"
    lens = ("--focal-length-mm", "4.38", "--f-number", "1.73", "--focus-distance-m", "1", "--pixel-pitch-um", "1.4")
    done = invoke(
        file, "-o", tmp_path / "out", "--method", "sgbm", "--working-size", "64", "--profile", "pixel4", *lens, *options
    )
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "t" / "depth.json").read_text())
    assert record["decoder"] == kind
    assert record["depth"]["metric"] is True and record["depth"]["lens"]["disparity_gain"] == 0.21


def test_other_cameras_are_told_apart_by_their_whole_name() -> None:
    assert may_be_one_camera("Google Pixel", "Google Pixel 4") and may_be_one_camera(None, "Canon EOS R")
    assert not may_be_one_camera("Google Pixel 3", "Google Pixel 4")
    assert not may_be_one_camera("Canon EOS 5D", "Canon EOS 5D Mark IV")
    assert not may_be_one_camera("Google Pixel", "Google Pixelbook")


def test_pixels_that_are_not_square_are_known_from_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        write_pdcapture(tmp_path / f"t_{name}.pgm", rng.integers(64, 1000, (60, 160)))
    assert match_disparity(decode(tmp_path / "t_left.pgm")).working_size_hw == ((60, 80),)
    assert invoke(tmp_path / "t_left.pgm", "-o", tmp_path / "out", "--method", "sgbm").exit_code == 0
    bar_and_title = figure([Panel("", np.zeros((120, 160), np.float32), "diverging")])
    assert cv2.imread(str(tmp_path / "out" / "t" / "disparity.png")).shape == bar_and_title.shape


def test_one_bad_input_does_not_stop_the_others(pair: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "lonely_left.png"
    lonely.write_bytes(pair.read_bytes())
    done = invoke(lonely, pair, "-o", tmp_path / "out", "--method", "sgbm")
    assert done.exit_code == 2 and "no right file 'lonely_right.png'" in done.output
    assert (tmp_path / "out" / "shot" / "depth.json").is_file() and not (tmp_path / "out" / "lonely").exists()


def test_a_failure_leaves_no_folder_and_a_foreign_folder_is_kept(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "shot").mkdir(parents=True)
    (out / "shot" / "holiday.txt").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["depth", str(pair), "-o", str(out), "--method", "sgbm"])
    assert stop.value.code == 2 and "is no earlier result" in capsys.readouterr().err
    assert [p.name for p in (out / "shot").iterdir()] == ["holiday.txt"] and len(list(out.iterdir())) == 1
    (out / "shot" / "holiday.txt").unlink()
    for _ in range(2):  # the second run replaces the first's result
        main_ok = invoke(pair, "-o", out, "--method", "sgbm")
        assert main_ok.exit_code == 0 and [p.name for p in out.iterdir()] == ["shot"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--model", "nope"), "unknown model 'nope'; expected one of"),
        (("--method", "sgbm", *LENS_ARGS[:-1], "0"), "--disparity-gain is 0; expected 0.0001 to 1"),
        (("--method", "sgbm", "--f-number", "nan"), "--f-number is nan"),
        (("--method", "sgbm", "--pixel-pitch-um", "inf"), "--pixel-pitch-um is inf"),
        (("--method", "sgbm", "--f-number", "1e9"), "--f-number is 1e+09; expected 0.5 to 256"),
        (("--method", "sgbm", "--f-number", "-4"), "--f-number is -4"),
        (("--method", "sgbm", "--focal-length-mm", "1e9"), "--focal-length-mm is 1e+09; expected 0.5 to 6000 mm"),
        (("--method", "sgbm", "--focus-distance-m", "0"), "--focus-distance-m is 0; expected 0.001 to inf m"),
        (("--method", "sgbm", "--focus-distance-m", "-inf"), "--focus-distance-m is -inf"),
        (("--method", "sgbm", *LENS_ARGS[:-1], "1e-300"), "--disparity-gain is 1e-300; expected 0.0001 to 1"),
        (("--method", "sgbm", *LENS_ARGS[:-1], "1e400"), "--disparity-gain is inf"),
        (("--method", "sgbm", "--left", "x.png"), "both FILES and --left"),
    ],
)
def test_messages_of_wrong_arguments(
    pair: Path, tmp_path: Path, args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["depth", str(pair), "-o", str(tmp_path / "out"), *args])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("dualpix: error") == 1


def wrote_halves(folder: Path, name: str, image: DualPixelImage) -> Path:
    for half in ("left", "right"):
        codes = np.rint(np.clip(getattr(image, half), 0, 1) * 60000).astype(np.uint16)
        cv2.imwrite(str(folder / f"{name}_{half}.png"), codes)
    return folder / f"{name}_left.png"


@pytest.mark.parametrize("method", ["network", "sgbm"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grey card", "there is no texture along the baseline that stands out of the noise"),
        ("two scenes", "the halves do not show the same"),
        ("40 px", "the halves match best +40 px apart, outside the"),
        ("right half dark", "the right half has 2.0% of the other's light"),
    ],
)
def test_a_capture_that_shows_nothing_gives_no_metres_and_says_why(
    method: str, name: str, said: str, tmp_path: Path
) -> None:
    left = wrote_halves(tmp_path, "shot", NOTHING[name][0]())
    done = invoke(left, "-o", tmp_path / "out", "--method", method, *LENS_ARGS)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "shot"
    record = json.loads((folder / "depth.json").read_text())
    (line,) = (line for line in done.output.splitlines() if line.startswith("shot_left.png: "))
    measured = "nothing is measured: " if record["measured_fraction"] == 0 else "only "
    assert said in line and line.startswith(f"shot_left.png: {measured}")
    assert record["measured_fraction"] < 0.05 and record["depth"]["measured_fraction"] < 0.05
    assert said in record["findings"][0]["text"] and record["kind"] == "disparity_px"
    confidence, depth = (tifffile.imread(folder / f"{n}.tiff") for n in ("confidence", "depth_m"))
    assert np.mean(confidence >= 0.5) == pytest.approx(record["measured_fraction"], abs=1e-5)
    assert np.isnan(depth).mean() > 0.95
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("name", ["black", "white", "one picture twice"])
def test_one_picture_twice_is_no_capture(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["depth", str(wrote_halves(tmp_path, "shot", NOTHING[name][0]())), "-o", str(tmp_path / "out")])
    assert stop.value.code == 2 and "are the same picture" in capsys.readouterr().err
    assert not (tmp_path / "out" / "shot").exists()


def test_an_unsure_picture_is_grey(tmp_path: Path) -> None:
    shown = []
    for name, image in (("nothing", NOTHING["two scenes"][0]()), ("plane", shifted(0.5))):
        assert invoke(wrote_halves(tmp_path, name, image), "-o", tmp_path / "out", "--method", "sgbm").exit_code == 0
        picture = cv2.imread(str(tmp_path / "out" / name / "disparity.png")).astype(int)
        shown.append(np.median(np.ptp(picture[60:200, 40:240], axis=2)))  # colour: the spread of blue, green, red
    assert shown[0] < 30 < shown[1]


@pytest.mark.parametrize(
    ("dx_px", "code", "said"),
    [
        (0.0, "metres_unsure", "px of disparity per diopter: what was measured tells depth only to"),
        # 0.02 px a diopter: 1 px would lie some 50 diopters beyond infinity, which says more than that it is unsure
        (1.0, "lens_misfit", "100% of what was measured would lie beyond infinity"),
    ],
)
def test_a_stopped_down_phone_gives_disparity_but_no_metres(dx_px: float, code: str, said: str, tmp_path: Path) -> None:
    left = wrote_halves(tmp_path, "shot", shifted(dx_px))
    phone = (
        "--focal-length-mm",
        "4.38",
        "--focus-distance-m",
        "1",
        "--pixel-pitch-um",
        "2.8",
        "--disparity-gain",
        "0.21",
    )
    done = invoke(left, "-o", tmp_path / "out", "--method", "sgbm", *phone, "--f-number", "64")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "shot" / "depth.json").read_text())
    assert record["measured_fraction"] > 0.2
    # at 0 px matching has specks (6 pixels here) so near by this lens that half of their distance is a metre known
    assert record["depth"]["measured_fraction"] < 1e-3
    assert [f["code"] for f in record["findings"]] == [code]
    assert said in done.output and (code != "metres_unsure" or "at f/64" in done.output)


def test_confidence_says_what_it_means(pair: Path, tmp_path: Path) -> None:
    assert invoke(pair, "-o", tmp_path / "out", "--method", "sgbm").exit_code == 0
    record = json.loads((tmp_path / "out" / "shot" / "depth.json").read_text())
    said = record["confidence"]
    assert said["tolerance"] == {"px": 0.2, "relative": 0.1} and "within 0.2 px + 10%" in said["meaning"]
    assert said["reach_px"] == [-16, 16] and said["calibrated_for"] == "sgbm" and said["measured_from"] == 0.5
    assert 0 < record["measured_fraction"] <= 1 and record["findings"] == []


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_weights_that_are_no_numbers_are_refused_in_one_line(
    pair: Path, model_folder: Path, tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {k: v.clone() for k, v in build_network("difusenet").state_dict().items()}
    state[next(iter(state))].fill_(value)
    folder = tmp_path / "broken"
    folder.mkdir()
    save_file(state, folder / "weights.safetensors")
    (folder / "card.json").write_text((model_folder / "card.json").read_text())
    for command in (
        ["depth", str(pair), "-o", str(tmp_path / "out")],
        ["evaluate", "--data", "rendered", "--count", "1"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--model", str(folder)])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1 and "earlier checkpoint" in error
    assert not (tmp_path / "out" / "shot").exists()


def test_real_canon_plane_before_the_focus_is_nearer(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    left = shared_data("canon_r6m2_dp119/flat_0600mm_f4_l.png")
    done = invoke(left, "-o", tmp_path, "--method", "sgbm", *LENS_ARGS[:-1], "0.0613")
    assert done.exit_code == 0, done.output
    depth = tifffile.imread(tmp_path / "flat_0600mm_f4" / "depth_m.tiff")
    assert 0.4 < np.nanmedian(depth) < 0.75 and np.isfinite(depth).mean() > 0.3


def test_real_portrait_capture_has_its_disparity_along_y(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("pixel_garg2019")
    image = decode(folder / "result_leftPd_center.png", baseline="y")
    truth = cv2.imread(str(folder / "result_merged_depth_center.png"), cv2.IMREAD_UNCHANGED) / 255.0
    rho = {}
    for axis in ("x", "y"):
        found = match_disparity(replace(image, baseline=axis), working_long_side_px=2016).disparity_px
        half = cv2.resize(found, truth.shape[::-1], interpolation=cv2.INTER_AREA)
        # the centre of 512 x 384 is what the data set's authors evaluate
        rho[axis] = rank_correlation(half[248:760, 186:570], truth[248:760, 186:570])
    assert rho["y"] > 0.7 and abs(rho["x"]) < 0.2
