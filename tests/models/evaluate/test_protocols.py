"""Protocols on small folders in the official layouts: a perfect map has no error, a wrong one the error worked out by
hand, and a folder of another layout is told so in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from tests.support import benchmark_folders as made

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import LensModel
from dualpix.models.evaluate import PROTOCOLS, Method, Prediction, Sample, evaluate, mean_scores, protocol_named
from dualpix.models.evaluate.boundaries import THRESHOLDS, boundary_f1
from dualpix.models.evaluate.figures import bumpiness, image_figures
from dualpix.models.evaluate.gaussian_stack import blur_radius_px, gather_gaussian
from dualpix.models.evaluate.methods import Choice, blurred_input, methods_for
from dualpix.models.evaluate.protocol import Figures
from dualpix.models.evaluate.protocols.dpd_disp_iccp import covered, halved
from dualpix.models.evaluate.protocols.ibims1 import FIXED_M, nearest_filled
from dualpix.models.evaluate.protocols.ibims1_adaptive import adaptive_list
from dualpix.models.evaluate.run import score_one
from dualpix.models.metrics import affine_invariant_error

DEPTH = ("zedd", "infinigen-defocus", "ibims1", "ibims1-adaptive", "nyuv2-stacks")
AFFINE = ("dpd-disp-iccp", "dpd-disp-fmdp", "google-dp", "ddd-syn")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    kept: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in kept:
            kept[name] = tmp_path_factory.mktemp(name)
            made.MAKERS[name](kept[name])
        return kept[name]

    return find


@pytest.fixture(scope="module")
def sample_of(folder_of: Callable[[str], Path]) -> Callable[[str], Sample]:
    kept: dict[str, Sample] = {}

    def find(name: str) -> Sample:
        if name not in kept:
            kept[name] = PROTOCOLS[name].read(folder_of(name))[0].load()
        return kept[name]

    return find


def figures_of(name: str, sample: Sample, values: np.ndarray) -> Figures:
    protocol = PROTOCOLS[name]
    prediction = Prediction(np.asarray(values, np.float32), protocol.unit)
    return score_one(protocol, sample, "told", prediction).score.figures


@pytest.mark.parametrize("name", [*made.MAKERS])
def test_a_perfect_map_has_no_error(name: str, sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of(name)
    figures = figures_of(name, sample, np.where(np.isfinite(sample.truth), sample.truth, 1))
    errors = ("mae_m", "mae_diopters", "mae", "mse", "abs_rel", "ai2", "one_minus_abs_rho", "bumpiness", "ai2_bad_003")
    for key in errors:
        assert (figures.get(key) or 0) == pytest.approx(0, abs=1e-6), key
    for key in ("d1_05", "d1_25", "d1", "d3", "ssim"):
        assert figures.get(key, 1) == pytest.approx(1), key
    assert figures.get("psnr_db", 100) == 100
    assert figures.get("one_minus_abs_rho_dense8", 0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", AFFINE)
def test_an_affine_image_of_the_truth_has_no_affine_error(name: str, sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of(name)
    figures = figures_of(name, sample, 7 - 3 * sample.truth)
    assert figures["ai1"] == pytest.approx(0, abs=1e-6) and figures["scale"] == pytest.approx(-1 / 3, rel=1e-4)
    assert figures["one_minus_abs_rho_argsort"] <= 1  # ties of a truth of two codes fall by position


def test_labelled_pairs_by_hand(sample_of: Callable[[str], Sample]) -> None:
    """A quarter of a pixel off: within 0.2 px + 10 % where the truth is beyond half a pixel, either way."""
    sample = sample_of("labelled")
    assert sample.valid.mean() == pytest.approx(38 / 48) and sample.confidence is not None
    figures = figures_of("labelled", sample, sample.truth + np.float32(0.25))
    assert figures["mae_px"] == pytest.approx(0.25, rel=1e-5) and figures["median_px"] == pytest.approx(0.25, rel=1e-5)
    truth = np.linspace(-2, 3, 64, dtype=np.float32)
    assert figures["within"] == pytest.approx(float(np.mean(np.abs(truth) >= 0.5)))
    assert figures["ai1"] == pytest.approx(0, abs=1e-6) and figures["edge_mae_px"] is None


@pytest.mark.parametrize("name", DEPTH)
def test_a_tenth_too_far_by_hand(name: str, sample_of: Callable[[str], Sample]) -> None:
    """Truth of 1 m and 4 m: 0.1 m and 0.4 m, a tenth of each; 1 - 1 / 1.1 and a quarter of it in diopters."""
    sample = sample_of(name)
    near = float((sample.truth[sample.valid] < 2).mean())
    figures = figures_of(name, sample, np.where(sample.valid, sample.truth * 1.1, 0))
    nearly = {"rel": 2e-3}
    assert figures["abs_rel"] == pytest.approx(0.1, **nearly)
    assert figures["mae_m"] == pytest.approx(0.1 * near + 0.4 * (1 - near), **nearly)
    assert figures["mae_diopters"] == pytest.approx((1 - 1 / 1.1) * (near + (1 - near) / 4), **nearly)
    assert figures["mae_m_over_4"] is None or figures["mae_m_over_4"] == pytest.approx(0.4, **nearly)
    assert (figures["d1_05"], figures["d1_15"], figures["d1_25"]) == (0, 1, 1)
    assert sum(figures[f"share_{name}"] for name in ("0_1", "1_2", "2_4", "over_4")) == pytest.approx(1)


def test_an_estimate_at_infinity_has_a_finite_error_and_nan_is_refused(sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of("infinigen-defocus")
    figures = figures_of("infinigen-defocus", sample, np.full(sample.truth.shape, np.inf))
    assert figures["clamped"] == 1 and figures["mae_m"] == pytest.approx((999 + 996) / 2)
    with pytest.raises(
        DualpixError, match=r"1280 of 2560 values predicted for '1a4897de_1' where there is a truth are NaN"
    ):
        figures_of("infinigen-defocus", sample, np.where(sample.truth > 2, np.nan, 1))
    affine = sample_of("ddd-syn")
    with pytest.raises(DualpixError, match="NaN or infinite"):
        figures_of("ddd-syn", affine, np.full(affine.truth.shape, np.inf))


# --- dual-pixel pairs ---


def test_dpd_disp_is_cut_as_in_the_authors_script(sample_of: Callable[[str], Sample]) -> None:
    """Of half size 1470 x 2590 rows 39 to 1425 and columns 39 to 2547, which est.TIF of their repository has."""
    assert covered(1470) == slice(39, 39 + 1386) and covered(2590) == slice(39, 39 + 2508)
    sample = sample_of("dpd-disp-iccp")
    assert sample.truth.shape == (264 - 200, 297 - 200)
    # one map on every size on the way: full, half, what the patches cover, scored
    full = np.arange(700 * 800, dtype=np.float32).reshape(700, 800) % 977
    half = cv2.resize(full, (400, 350), interpolation=cv2.INTER_AREA)
    patches = half[39:303, 39:336]
    scored = patches[100:-100, 100:-100]
    for values in (full, half, patches, scored):
        assert np.array_equal(sample.on_truth(values), scored)
    with pytest.raises(DualpixError, match="is 10 x 10 px; expected 700 x 800 or 350 x 400 or 264 x 297 or 64 x 97"):
        sample.on_truth(np.zeros((10, 10), np.float32))


def test_half_size_is_bicubic_with_antialiasing() -> None:
    """A checkerboard is grey, and a step overshoots by what MATLAB's kernel of a = -0.5 gives."""
    board = (np.indices((16, 16)).sum(0) % 2 * 200).astype(np.uint8)
    assert np.ptp(halved(board)[2:-2, 2:-2].astype(int)) == 0
    step = made.halves((16, 32), 50, 150, np.uint8)
    # its taps at distances of .75, 1.25 and 1.75 pixels of half size weigh .1133, -.0352 and -.0117
    assert halved(step)[4, 6:8].tolist() == [round(50 - 1.17), round(50 + 11.33 - 3.52 - 1.17)]


def test_six_fits_in_the_iccp_form_and_five_in_that_of_fmdp(sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of("dpd-disp-iccp")
    values = np.random.default_rng(0).normal(size=sample.truth.shape).astype(np.float32)
    figures = figures_of("dpd-disp-iccp", sample, values)
    assert figures["ai1"] == affine_invariant_error(values, sample.truth, iterations=6).ai1
    assert figures["ai1"] != affine_invariant_error(values, sample.truth).ai1
    assert set(PROTOCOLS["dpd-disp-iccp"].columns) >= {"one_minus_abs_rho", "one_minus_abs_rho_dense8"}


def test_fmdp_scores_nearly_the_whole_picture(sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of("dpd-disp-fmdp")
    assert sample.truth.shape == (896 - 64, 1568 - 64)
    full = np.zeros((2940, 5180), np.float32)
    full[:, 17:5162] = np.linspace(0, 1, 5145, dtype=np.float32)  # 5180 // 2 - 5145 // 2 = 18, less one
    assert sample.on_truth(full)[0, 0] == pytest.approx((32.5 * 5145 / 1568 - 0.5 + 1) / 5144, rel=1e-3)
    # a tenth of the pixels off by 0.04 after the fit: beyond .03, within .05
    values = sample.truth.copy()
    columns = np.arange(values.shape[1]) % 10 == 0
    values[:, columns] += np.where(np.arange(columns.sum()) % 2, 0.04, -0.04).astype(np.float32)
    figures = figures_of("dpd-disp-fmdp", sample, values)
    assert figures["ai2_bad_03"] == pytest.approx(columns.mean(), abs=0.01) and figures["ai2_bad_05"] == 0


def test_google_weighs_by_confidence_and_cuts_the_centre(sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of("google-dp")
    assert sample.truth.shape == (512, 384) and sample.pair is not None and sample.pair.baseline == "y"
    assert sample.confidence is not None and set(np.unique(sample.confidence)) == {1, 3}
    # a constant has the weighted spread: weights 1 : 3 of 0.2 and 0.4 have a standard deviation of 0.2 sqrt(3) / 4
    figures = figures_of("google-dp", sample, np.zeros(sample.truth.shape))
    assert figures["ai2"] == pytest.approx(0.2 * 3**0.5 / 4, rel=1e-5) and figures["one_minus_abs_rho"] == 1
    whole = np.arange(1040 * 780, dtype=np.float32).reshape(1040, 780)
    area = cv2.resize(whole, (390, 520), interpolation=cv2.INTER_AREA)
    assert np.array_equal(sample.on_truth(whole), area[4:516, 3:387])


def test_ddd_without_a_fit_by_hand(sample_of: Callable[[str], Sample]) -> None:
    """Inverse depths 0.5 and 2, both seen as 1: |0.5| / 0.5 and |1| / 2, squares 0.25 and 1."""
    sample = sample_of("ddd-syn")
    figures = figures_of("ddd-syn", sample, np.ones(sample.truth.shape))
    assert figures["abs_rel"] == pytest.approx(0.75) and figures["rmse"] == pytest.approx((1.25 / 2) ** 0.5)
    assert figures["rmse_log"] == pytest.approx(np.log(2)) and figures["d3"] == 0  # 2 > 1.25^3
    assert figures["sq_rel"] == pytest.approx((0.5 + 0.5) / 2)


def test_a_disparity_in_pixels_has_no_inverse_depth_errors(sample_of: Callable[[str], Sample]) -> None:
    sample, protocol = sample_of("ddd-syn"), PROTOCOLS["ddd-syn"]
    figures = protocol.score(sample, Prediction(sample.truth, "disparity_px"))
    assert "abs_rel" not in figures and figures["ai1"] == pytest.approx(0, abs=1e-9)


def test_ddd_reads_the_list_of_its_repository(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    made.ddd_syn(tmp_path)
    line = "6002 /testing/dp/6002_l.png /testing/dp/6002_r.png /testing/gt/6002_m.png x /testing/disp/6002_dm.pfm\n"
    (tmp_path / "nyu_test.txt").write_text(line)
    assert [p.name for p in PROTOCOLS["ddd-syn"].read(tmp_path)] == ["6002"]
    (tmp_path / "nyu_test.txt").write_text(line.replace("/testing/dp/6002_l.png", "../../etc/passwd"))
    with pytest.raises(DualpixError, match="outside"):
        PROTOCOLS["ddd-syn"].read(tmp_path)[0].load()


def test_a_sharp_picture_by_hand(sample_of: Callable[[str], Sample]) -> None:
    sample = sample_of("dpdd")
    figures = figures_of("dpdd", sample, sample.truth + 0.01)
    assert figures["psnr_db"] == pytest.approx(40, abs=0.01) and figures["mae"] == pytest.approx(0.01, rel=1e-3)
    blurred = score_one(PROTOCOLS["dpdd"], sample, "input", blurred_input(sample)).score.figures
    source = made.noise((48, 64), 0, np.uint16) / 65535
    assert blurred["psnr_db"] == pytest.approx(-10 * np.log10(((source - sample.truth) ** 2).mean()), rel=1e-4)


def test_ssim_window_by_window() -> None:
    """Against the definition, one window at a time; and of constants, where the structure term is 1."""
    x, y = np.random.default_rng(0).random((2, 10, 11))
    expected = []
    for row in range(4):
        for column in range(5):
            a, b = (v[row : row + 7, column : column + 7].ravel() for v in (x, y))
            (va, vab), (_, vb) = np.cov(a, b)
            light = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
            expected.append(light * (2 * vab + 9e-4) / (va + vb + 9e-4))
    found = image_figures(*(np.repeat(v[..., None], 3, axis=2).astype(np.float32) for v in (x, y)))
    assert found["ssim"] == pytest.approx(np.mean(expected), rel=1e-5)
    flat = image_figures(*(np.full((9, 9, 3), v, np.float32) for v in (0.25, 0.5)))
    assert flat["ssim"] == pytest.approx((2 * 0.125 + 1e-4) / (0.3125 + 1e-4), rel=1e-5)


# --- focus stacks ---


def test_stacks_carry_their_distances_farthest_first(sample_of: Callable[[str], Sample]) -> None:
    expected = {
        "ddff12": 521.4052 * 2.7088e-4 / np.linspace(0.28, 0.02, 10)[[9, 6, 4, 2, 0]],
        "zedd": [8.1, 4.93, 3.08, 1.73, 0.82],
        "infinigen-defocus": [8.0, 4.7, 3.0, 1.7, 0.8],
        "ibims1": sorted(FIXED_M, reverse=True),
        "nyuv2-stacks": np.linspace(4, 1, 10),
        "fod500": [1.5, 0.7, 0.3, 0.15, 0.1],
    }
    for name, distances in expected.items():
        stack = sample_of(name).stack
        assert stack is not None and stack.frames.shape[1:3] == sample_of(name).truth.shape, name
        assert stack.focus_distance_m == pytest.approx(distances), name
    far = sample_of("ddff12").stack
    assert far is not None and far.frames[0].mean() == pytest.approx(
        np.mean(((made.noise((40, 48), 9) / 255 + 0.055) / 1.055) ** 2.4), rel=1e-3
    ), "frame 9 is focused farthest"


def test_what_is_scored_of_each_stack(sample_of: Callable[[str], Sample], folder_of: Callable[[str], Path]) -> None:
    zedd = sample_of("zedd")
    assert zedd.truth.shape == (480, 640) and zedd.stack is not None
    assert not zedd.valid[:78].any() and zedd.valid[80:].all()  # 100 of 608 rows are holes
    assert zedd.truth[200, 319] == 1 and zedd.truth[200, 320] == 4  # the middle stays the middle
    assert zedd.stack.lens.focal_length_mm == pytest.approx(1323.575 / 912 * 36)
    assert zedd.stack.lens.pixel_pitch_um == pytest.approx(36_000 / 720)
    ibims = sample_of("ibims1")
    assert ibims.valid[6:, 4:-4].all() and ibims.valid.sum() == 42 * 56 and ibims.group == "kitchen"
    nyu = sample_of("nyuv2-stacks")
    assert nyu.truth.shape == (384, 512) and not nyu.valid[:12].any() and nyu.valid[12:].all()
    ddff = sample_of("ddff12")
    assert not ddff.valid[:4].any() and ddff.valid[4:].all()
    assert [p.name for p in PROTOCOLS["fod500"].read(folder_of("fod500"))] == ["000400"]


def test_ddff_by_hand(sample_of: Callable[[str], Sample]) -> None:
    """Disparities .05 and .2, both seen as .1: ratios of 2, errors .05 and .1."""
    sample = sample_of("ddff12")
    figures = figures_of("ddff12", sample, np.full(sample.truth.shape, 0.1))
    assert figures["mse"] == pytest.approx((0.05**2 + 0.1**2) / 2, rel=1e-5)
    assert figures["abs_rel"] == pytest.approx((1 + 0.5) / 2, rel=1e-5) and figures["rmse_log"] == pytest.approx(
        np.log(2)
    )
    assert figures["d1"] == 0 and figures["d3"] == 0
    # in m: f b / disparity, 2.82473 m and 0.70618 m seen as 1.41237 m
    scale = 521.4052 * 2.7088e-4
    assert figures["mae_m"] == pytest.approx(scale * (10 + 5) / 2, rel=1e-4)
    assert figures["mae_diopters"] == pytest.approx((0.05 + 0.1) / 2 / scale, rel=1e-4)
    depth = PROTOCOLS["ddff12"].score(
        sample, Prediction(np.full(sample.truth.shape, scale / 0.1, np.float32), "depth_m")
    )
    assert depth["mse"] == pytest.approx(figures["mse"], rel=1e-4)


def test_fod_is_clipped_before_it_is_scored(sample_of: Callable[[str], Sample]) -> None:
    """Depths .2 and 1, seen as 3, which is 1.5 once clipped: errors 1.3 and .5."""
    sample = sample_of("fod500")
    figures = figures_of("fod500", sample, np.full(sample.truth.shape, 3.0))
    assert figures["mse"] == pytest.approx((1.3**2 + 0.5**2) / 2, rel=1e-5)
    assert figures["abs_rel"] == pytest.approx((6.5 + 0.5) / 2, rel=1e-5)


def test_bumpiness_of_a_parabola_and_of_a_step() -> None:
    """Its second difference over two steps is 8 a: 100 times 0.008; steps are clipped at 0.05."""
    error = np.broadcast_to(0.001 * np.arange(40.0) ** 2, (30, 40)).astype(np.float32)
    inner = np.zeros((30, 40), bool)
    inner[4:-4, 4:-4] = True
    assert bumpiness(error, np.zeros_like(error), inner) == pytest.approx(0.8, rel=1e-4)
    step = made.halves((30, 40), 0, 1)
    # a step is felt in the four columns around it
    assert bumpiness(step, np.zeros_like(step), inner) == pytest.approx(100 * 0.05 * 4 / 32, rel=1e-4)


@pytest.mark.parametrize("name", ["infinigen-defocus", "ibims1", "ddff12", "fod500"])
def test_classical_methods_run_on_every_kind_of_stack(name: str, sample_of: Callable[[str], Sample]) -> None:
    methods: dict[str, Method] = methods_for(PROTOCOLS[name], ("argmax",), Choice(()))
    figures = score_one(PROTOCOLS[name], sample_of(name), "argmax", methods["argmax"](sample_of(name))).score.figures
    assert np.isfinite(figures["mae_diopters"])


def test_depth_from_focus_finds_what_a_gaussian_stack_hides(tmp_path: Path) -> None:
    """The stack of iBims is made of the truth: the sharpest frame is right to within the step of its list."""
    root, name = tmp_path / "ibims1_core_raw", "wall_01"
    made.ibims1(tmp_path)
    for part in ("rgb", "depth", "mask_invalid", "mask_transp"):
        (root / part / "kitchen_01.png").unlink()
    made.write(root / f"rgb/{name}.png", made.noise((96, 128)))
    made.write(root / f"depth/{name}.png", np.rint(made.halves((96, 128), 0.63, 1.33) * 65535 / 50).astype(np.uint16))
    for mask in ("mask_invalid", "mask_transp"):
        made.write(root / f"{mask}/{name}.png", np.full((96, 128), 255, np.uint8))
    (root / f"calib/{name}.txt").write_text("178,178,64,48\n")
    protocol = PROTOCOLS["ibims1"]
    methods = methods_for(protocol, ("argmax",), Choice(()))
    ((_, (result,)),) = evaluate(protocol, protocol.read(tmp_path), methods)
    assert result.score.figures["d1_05"] > 0.85


def test_adaptive_lists_say_so_and_fixed_ones_do_not() -> None:
    leaking = {name for name, protocol in PROTOCOLS.items() if protocol.leaks_scale}
    assert leaking == {"ibims1-adaptive", "nyuv2-stacks"}
    depth = np.concatenate([np.full(5, 0.5), np.linspace(1, 4, 90), np.full(5, 50.0)]).astype(np.float32)[None]
    found = adaptive_list(depth)
    low, high = np.quantile(1 / depth, (0.05, 0.95))
    assert np.allclose(1 / found, np.linspace(low, high, 5)) and found[0] > found[-1]
    assert not np.allclose(adaptive_list(depth * 2), found), "the list follows the scene's scale"


def test_the_nearest_known_depth_fills_holes() -> None:
    depth = made.halves((20, 30), 1.0, 3.0)
    known = np.ones((20, 30), bool)
    known[5:9, 2:7], known[:, 25:], known[0, 0] = False, False, False
    filled = nearest_filled(np.where(known, depth, 0).astype(np.float32), known)
    assert np.array_equal(filled, depth)


def test_boundary_f1_by_hand() -> None:
    """Edges of all four kinds around a square; one side found a pixel late, which is wrong and missed along it."""
    truth = np.full((40, 40), 4.0, np.float32)
    truth[10:30, 10:30] = 1.0
    valid = np.ones(truth.shape, bool)
    assert boundary_f1(truth, truth, valid) == 1 and boundary_f1(3 * truth, truth, valid) == 1
    late = truth.copy()
    late[10:30, 10] = 4.0
    # of 20 edges a kind the left side's are all lost, and one each of top and bottom; only the left's are wrong
    precision, recall = (0 + 1 + 1 + 1) / 4, (0 + 1 + 0.95 + 0.95) / 4
    assert boundary_f1(late, truth, valid) == pytest.approx(2 * precision * recall / (precision + recall))
    assert boundary_f1(np.ones_like(truth), truth, valid) == 0
    valid[:, 9:12] = False  # nor does an edge count that is half outside the mask
    assert boundary_f1(late, truth, valid) == boundary_f1(truth, truth, valid) == pytest.approx(0.75)
    # a step of 12 % is an edge for the thresholds below it alone
    step = made.halves((20, 20), 1.0, 1.12)
    low = THRESHOLDS < 1.12
    expected = 0.25 * THRESHOLDS[low].sum() / THRESHOLDS.sum()
    assert boundary_f1(step, step, np.ones((20, 20), bool)) == pytest.approx(expected)


# --- the blur of made stacks ---


def test_blur_radius_is_half_the_circle_of_confusion_of_a_thin_lens() -> None:
    depth = np.linspace(0.3, 20, 50, dtype=np.float32)[None]
    for focus in (0.5, 2.0, 7.06):
        lens = LensModel(50.0, 1.4, focus, 56.25)
        expected = np.abs(optics.circle_of_confusion_px(depth.astype(np.float64), lens)) / 2
        assert np.allclose(blur_radius_px(depth, focus, 0.05, 1.4, 56.25e-6), expected, rtol=1e-4)


def test_a_point_of_light_is_gathered_with_a_gaussian() -> None:
    """Radius 2 everywhere, a window of 3: weights 1, exp(-1/2) beside, exp(-1) at corners."""
    picture = np.zeros((9, 9, 3), np.float32)
    picture[4, 4] = 1
    found = gather_gaussian(picture, np.full((9, 9), 2.0, np.float32), 3)[..., 0]
    total = 1 + 4 * np.exp(-0.5) + 4 * np.exp(-1)
    assert found[4, 4] == pytest.approx(1 / total) and found[4, 5] == pytest.approx(np.exp(-0.5) / total)
    assert found[5, 5] == pytest.approx(np.exp(-1) / total) and found[4, 6] == 0


def test_sharp_pixels_stay_and_do_not_bleed() -> None:
    picture = made.halves((8, 20), 0.0, 1.0)[..., None].repeat(3, axis=2)
    radius = made.halves((8, 20), 5.0, 1.0)  # the bright half is in focus
    found = gather_gaussian(picture, radius, 7)
    assert np.array_equal(found, picture)
    assert np.allclose(gather_gaussian(np.full_like(picture, 0.3), radius, 7), 0.3)


# --- layouts ---


@pytest.mark.parametrize("name", [*PROTOCOLS])
def test_another_layout_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match=r"empty|lacks|holds no") as empty:
        PROTOCOLS[name].read(tmp_path)
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DualpixError) as other:
        PROTOCOLS[name].read(tmp_path)
    for raised in (empty, other):
        assert "\n" not in str(raised.value) and "expected" in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("zedd", "val/val_0001/focus_stack/img_run_3_motor_3B39_aperture_F2.8.jpg", "lacks focus_stack/img_run_3"),
        ("zedd", "metadata.txt", "lacks metadata.txt"),
        ("zedd", "val/val_0001/gt/K.txt", "cannot read"),
        ("infinigen-defocus", "1a4897de_1/image_ap_1.40_fd_3.00.png", "lacks image_ap_1.40_fd_3.00.png"),
        ("ibims1", "ibims1_core_raw/calib/kitchen_01.txt", "lacks calib/kitchen_01.txt"),
        ("nyuv2-stacks", "test/bathroom/sync_depth_00045.png", "lacks bathroom/sync_depth_00045.png"),
        ("fod500", "fs_6/000400_02All.tif", "has 4 frames; expected 5"),
        ("google-dp", "test/merged_conf/20180302_x/result_merged_conf_center.npy", "has no confidence"),
        ("dpdd", "test_r/source/1P0A0917.png", "has 1 in test_c/source, 1 in test_l/source, 0 in test_r/source"),
        ("ddd-syn", "testing/dp/6001_r.png", "lacks testing/dp/6001_r.png"),
        ("ddd-syn-image", "testing/gt/6001_m.png", "lacks testing/gt/6001_m.png"),
        ("dpd-disp-iccp", "005_R.jpg", "no right file '005_R.jpg'"),
    ],
)
def test_a_missing_file_is_named(name: str, damage: str, message: str, tmp_path: Path) -> None:
    made.MAKERS[name](tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(DualpixError, match=message):
        PROTOCOLS[name].read(tmp_path)[0].load()


def test_ddff_is_a_file_or_the_folder_around_it(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    protocol, file = PROTOCOLS["ddff12"], folder_of("ddff12") / "my_ddff_trainVal.h5"
    assert [p.name for p in protocol.read(file)] == [p.name for p in protocol.read(file.parent)] == ["000", "001"]
    with h5py.File(tmp_path / "dfv_trainVal.h5", "w") as other:
        other["stack_train"] = np.zeros((1, 10, 8, 8, 3), np.float32)
    with pytest.raises(DualpixError, match="stack_val"):
        protocol.read(tmp_path)


def test_infinigen_keeps_to_the_split_of_its_repository(tmp_path: Path) -> None:
    made.infinigen_defocus(tmp_path)
    entry = {"image": "/1a4897de_2/image_all_in_focus.png", "depth": "/1a4897de_2/depth.npy"}
    (tmp_path / "val.json").write_text(json.dumps({"files": [entry]}))
    assert [p.name for p in PROTOCOLS["infinigen-defocus"].read(tmp_path)] == ["1a4897de_2"]
    (tmp_path / "val.json").write_text("[]")
    with pytest.raises(DualpixError, match="no list of files"):
        PROTOCOLS["infinigen-defocus"].read(tmp_path)


def test_every_protocol_states_its_facts() -> None:
    for name, protocol in PROTOCOLS.items():
        facts = protocol.facts()
        assert facts["name"] == name and json.loads(json.dumps(facts)) == facts
        assert all(facts[key] for key in ("title", "source", "layout", "crop", "mask", "metrics", "data", "unit"))
        assert facts["assumptions"], name
        # ranks are never shown in one variant alone
        shown = [key for key in protocol.columns if key.startswith("one_minus_abs_rho")]
        assert len(shown) in (0, 3), name
    with pytest.raises(DualpixError, match="unknown protocol 'kitti'; expected one of: ddd-syn, ddd-syn-image, ddff12"):
        protocol_named("kitti")


def test_methods_that_do_not_fit_are_refused() -> None:
    for name, method, message in (
        ("zedd", "sgbm", "about a stack; expected one of: blur, sharpness, argmax"),
        ("pixel4-xin", "blur", "about a pair; expected one of: sgbm, zncc, network"),
        ("dpdd", "sgbm", "about a sharp picture; expected one of: input, network"),
    ):
        with pytest.raises(DualpixError, match=message):
            methods_for(PROTOCOLS[name], (method,), Choice(()))


def test_a_capture_of_google_keeps_its_upright_baseline(shared_data: Callable[[str], Path]) -> None:
    """The network's AI(1) on the one capture at hand; a disparity along the wrong axis has a rank error near 1."""
    protocol = PROTOCOLS["google-dp"]
    pending = protocol.read(shared_data("pixel_garg2019"))
    methods = methods_for(protocol, ("network",), Choice(("difusenet-compact",)))
    mean = mean_scores([r.score for _, results in evaluate(protocol, pending, methods) for r in results])
    (figures,) = mean.values()
    assert figures["ai1"] == pytest.approx(0.0342, abs=0.002) and figures["one_minus_abs_rho_argsort"] < 0.2
