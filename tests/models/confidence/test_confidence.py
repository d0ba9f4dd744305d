"""Confidence: calibrated, unsure where nothing can be measured, and no disparity changes by it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pairs import NOTHING, SIZE_HW, capture_of_halves, moved, noise, shifted, texture

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import DualPixelImage
from dualpix.models.confidence import CONFIDENT, Calibration, parse_calibration
from dualpix.models.confidence.evidence import Evidence, Tolerance
from dualpix.models.confidence.fit import fit_calibration, isotonic
from dualpix.models.evaluate.validation import CHECK_SEED, FIT_SEED, ValidationScene, validation_scenes
from dualpix.models.predict.disparity import (
    estimate,
    match_disparity,
    network_estimator,
    network_working_sizes,
    predict_disparity,
)
from dualpix.models.predict.working import DisparityMap
from dualpix.models.zoo import CONFIDENCE, DEFAULT_MODEL, ZOO, LoadedModel, known_models, load_model
from dualpix.models.zoo.cards import find_model

STORED = [
    (path.parent.name, key) for path in sorted(ZOO.glob(f"*/{CONFIDENCE}")) for key in json.loads(path.read_text())
]
GOLDEN_PX = {
    "difusenet-compact": [[0.9368, 0.9277, 0.8982], [0.9200, 0.9405, 0.9166], [0.9197, 0.9449, 0.9437]],
    "fmdp-compact": [[0.9267, 1.0045, 0.9044], [0.9495, 0.9601, 0.9523], [0.9611, 0.9677, 0.9667]],
}
METHODS = ("network", "network at one size", "sgbm")
NETWORKS = [name for name in known_models() if find_model(name).spec.output == "disparity_px"]


@pytest.fixture(scope="module")
def network() -> LoadedModel:
    return load_model()


def run(method: str, network: LoadedModel, image: DualPixelImage) -> DisparityMap:
    if method == "sgbm":
        return match_disparity(image)
    return predict_disparity(image, network, working_long_side_px=256 if method.endswith("size") else None)


# --- what nothing can be measured in ---


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NOTHING)
def test_what_holds_no_disparity_is_unsure(method: str, name: str, network: LoadedModel) -> None:
    make, code = NOTHING[name]
    judged = run(method, network, make()).judged
    assert judged.measured_fraction < 0.05, "fewer than one pixel in twenty is confident"
    assert [f.code for f in judged.findings] == [code]


@pytest.mark.parametrize(
    ("method", "dx_px"),
    [("network", -1.0), ("network", 0.4), ("network", 2.0), ("sgbm", -2.0), ("sgbm", 1.0), ("sgbm", 9.0)],
)
def test_a_textured_plane_is_measured(method: str, dx_px: float, network: LoadedModel) -> None:
    found = run(method, network, shifted(dx_px))
    judged, inner = found.judged, (slice(24, -24), slice(32, -32))
    right = np.abs(found.disparity_px - dx_px) <= judged.tolerance.at(found.disparity_px)
    assert right[inner].mean() > 0.9 and judged.measured[inner].mean() > 0.9
    assert judged.findings == () and judged.beyond_reach < 0.02


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dx_px", [-12.0, -8.0, -6.0, -5.0, 5.0, 6.0, 8.0, 12.0])
def test_a_network_that_is_wrong_is_unsure(dx_px: float, name: str) -> None:
    """Sharp and yet far apart, as no lens makes halves: unlike any in training, though within its range.

    Where a map is wrong by little more than its tolerance, as at 4 px, nothing tells it from a right one.
    """
    found = predict_disparity(shifted(dx_px), load_model(name))
    error = np.abs(found.disparity_px - dx_px) / found.judged.tolerance.at(found.disparity_px)
    assert (found.judged.measured & (error > 1.5)).mean() < 0.05
    if np.median(error) > 1.5:
        assert [f.code for f in found.judged.findings] in (["no_fit"], ["no_texture"])


def test_matching_is_unsure_where_it_locks_on_whole_pixels() -> None:
    """Semi-global matching of sharp texture that is 0.4 px apart says 0.12 px."""
    found = match_disparity(shifted(0.4))
    right = np.abs(found.disparity_px - 0.4) <= found.judged.tolerance.at(found.disparity_px)
    assert right.mean() < 0.5 and found.judged.measured_fraction < 0.2


@pytest.mark.parametrize("method", ["network", "sgbm"])
def test_only_what_shows_texture_is_measured(method: str, network: LoadedModel) -> None:
    """A textured patch on a grey card."""
    halves = []
    for side in (-1, 1):
        view = np.full(SIZE_HW, 0.45, np.float32)
        view[:, :96] = moved(texture(1), side * 0.5)[:, :96]
        halves.append(view + noise(7 + side))
    confidence = run(method, network, capture_of_halves(*halves)).judged.confidence
    assert confidence[:, 16:72].mean() > 0.7 and np.percentile(confidence[:, 200:], 95) < 0.35


def test_saturated_pixels_are_not_measured(network: LoadedModel) -> None:
    image = shifted(0.5)
    saturated = np.zeros(SIZE_HW, bool)
    saturated[60:90, 100:140] = True
    judged = predict_disparity(replace(image, saturated=saturated), network).judged
    assert judged.confidence[saturated].max() == 0 and judged.measured[:, :80].mean() > 0.8


def test_disparities_outside_training_are_said_to_be(network: LoadedModel) -> None:
    """A network that gives 20 px of everything, trained for at most 15.12."""
    far = replace(network, module=lambda *views: views[1] * 0 + 20.0)  # type: ignore[arg-type]
    judged = predict_disparity(shifted(1.0), far).judged
    assert judged.reach_px == pytest.approx(36 * 0.42) and judged.beyond_reach == 1 and judged.measured_fraction == 0
    (found,) = judged.findings
    assert found.code == "outside_training" and "100% of the disparities are outside the -15 ... 15 px" in found.text


def test_a_network_that_gives_no_number_is_refused(network: LoadedModel) -> None:
    broken = replace(network, module=lambda *views: views[1] * np.nan)  # type: ignore[arg-type]
    with pytest.raises(DualpixError, match=r"gives \d+ disparities of this capture that are NaN or infinite"):
        predict_disparity(shifted(1.0), broken)


@pytest.mark.parametrize("baseline", ["x", "y"])
def test_confidence_has_the_view_s_size_and_axis(baseline: str) -> None:
    image = shifted(0.5)
    turned = (
        image
        if baseline == "x"
        else DualPixelImage(
            image.left.T.copy(), image.right.T.copy(), image.combined.T.copy(), image.saturated.T.copy(), "y"
        )
    )
    found, upright = match_disparity(turned).judged, match_disparity(image).judged
    shown = found.confidence if baseline == "x" else found.confidence.T
    assert found.confidence.shape == found.error_px.shape == turned.size_hw and np.array_equal(
        shown, upright.confidence
    )


def test_errors_are_in_pixels_of_the_view() -> None:
    """The same picture at twice the size, worked on at the same size: all lengths are twice as many pixels."""
    small = shifted(1.0)
    big = capture_of_halves(*(np.kron(view, np.ones((2, 2), np.float32)) for view in (small.left, small.right)))
    one, two = (match_disparity(image, working_long_side_px=256).judged for image in (small, big))
    assert two.tolerance == one.tolerance.scaled(2) and two.reach_px == 2 * one.reach_px
    assert np.median(two.error_px) == pytest.approx(2 * np.median(one.error_px), rel=0.05)
    assert two.measured_fraction == pytest.approx(one.measured_fraction, abs=0.02)


@pytest.mark.parametrize("method", ["network", "sgbm"])
def test_the_wrong_baseline_is_doubted(method: str, network: LoadedModel) -> None:
    scene = next(s for s in validation_scenes(CHECK_SEED, (0, 4, 0)) if s.kind == "plain")
    right, wrong = (run(method, network, replace(scene.image, baseline=axis)).judged for axis in ("x", "y"))  # type: ignore[arg-type]
    assert right.findings == () and "across_baseline" in [f.code for f in wrong.findings]
    assert "(--baseline)?" in wrong.findings[0].text
    # the halves differ by little more across the baseline (0.3 px) than a disparity may be off (0.2 px + 10 %): that is
    # a doubt of each pixel, and none that leaves but a few
    assert wrong.measured_fraction < 0.8 * right.measured_fraction


# --- the disparities ---


def test_judging_changes_no_disparity(network: LoadedModel) -> None:
    image = shifted(1.3)
    plain = estimate(image, network_estimator(network), "n", working_long_side_px=network_working_sizes(image))
    judged = predict_disparity(image, network)
    assert plain.judgement is None and np.array_equal(plain.disparity_px, judged.disparity_px)
    with pytest.raises(DualpixError, match="'n' without a confidence"):
        _ = plain.judged


@pytest.mark.parametrize("name", GOLDEN_PX)
def test_disparities_of_a_shipped_network_are_those_of_its_release(name: str) -> None:
    """Golden values: the weights' own, those that they gave of these halves when they were put in."""
    found = predict_disparity(shifted(1.0), load_model(name)).disparity_px
    assert found[40:160:40, 64:256:64] == pytest.approx(np.array(GOLDEN_PX[name]), abs=2e-3)


# --- calibration ---


@pytest.mark.parametrize(("name", "key"), STORED)
def test_stored_calibrations_are_whole(name: str, key: str) -> None:
    calibration = parse_calibration(stored(name, key), name)
    check = calibration.provenance["check"]
    assert calibration.tolerance == Tolerance(0.2, 0.1)
    assert calibration.confidence[0] < 0.25 and calibration.confidence[-1] > 0.85
    # more evidence, more confidence, and never less; a map's slope, misfit and spread take from it, and never add
    for evidence, weight in calibration.weights.items():
        assert weight >= 0 if evidence in ("support", "learned") else weight <= 0
    assert calibration.weights["misfit"] < 0 < calibration.weights["support"]
    assert check["expected_calibration_error"] < 0.07
    # to be too sure is worse than to be too careful
    bins = check["reliability"]
    too_sure = sum(max(b["confidence"] - b["right"], 0) * b["pixels"] for b in bins) / sum(b["pixels"] for b in bins)
    assert too_sure < 0.03
    assert len(set(calibration.provenance["seeds"].values())) == 3


@pytest.fixture(scope="module")
def check_scenes() -> list[ValidationScene]:
    return list(validation_scenes(CHECK_SEED, (16, 0, 0)))


@pytest.mark.parametrize("method", ["network", "sgbm"])
def test_confidence_is_the_share_that_is_right_on_scenes_it_has_not_seen(
    method: str, network: LoadedModel, check_scenes: list[ValidationScene]
) -> None:
    """A reliability diagram of five bins over scenes of the check seed; a few tens scatter by some per cent."""
    confidence, right = [], []
    for scene in check_scenes:
        found = run(method, network, scene.image)
        error = np.abs(found.disparity_px - scene.disparity_px)
        confidence.append(found.judged.confidence.ravel())
        right.append((error <= found.judged.tolerance.at(found.disparity_px)).ravel())
    share, hit = np.concatenate(confidence), np.concatenate(right)
    which = np.clip((share * 5).astype(int), 0, 4)
    gaps = [abs(share[which == k].mean() - hit[which == k].mean()) for k in range(5) if (which == k).sum() > 5000]
    weights = [np.mean(which == k) for k in range(5) if (which == k).sum() > 5000]
    assert len(gaps) >= 3 and np.average(gaps, weights=weights) < 0.1
    assert hit[share >= CONFIDENT].mean() > hit[share < CONFIDENT].mean() + 0.3


def test_a_fit_lets_no_evidence_count_the_wrong_way() -> None:
    """Roughness that goes with being right, in the captures at hand: it is left out, and the rest is fitted again."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60_000, 2))
    error = np.where(rng.random(60_000) < 1 / (1 + np.exp(x[:, 0] - 0.5 * x[:, 1])), 0.5, 2.0)
    fitted = fit_calibration(("misfit", "roughness"), (x, error), (x, error), Tolerance(), {})
    alone = fit_calibration(("misfit",), (x[:, :1], error), (x[:, :1], error), Tolerance(), {})
    assert fitted.weights == {"misfit": alone.weights["misfit"], "roughness": 0.0} and fitted.bias == alone.bias


def test_confidence_is_fitted_to_what_no_lens_makes_too() -> None:
    """The truth of displaced halves is theirs: matching finds it; of striped ones nothing says anything along x."""
    seen: dict[str, ValidationScene] = {}
    for scene in validation_scenes(FIT_SEED, (24, 0, 0)):
        seen.setdefault(scene.kind, scene)
    assert set(seen) == {"plain", "faded", "flat", "striped", "displaced"}
    shown, striped = seen["displaced"], seen["striped"]
    found = match_disparity(shown.image, working_long_side_px=256)
    right = np.abs(found.disparity_px - shown.disparity_px) <= 0.5 + 0.1 * np.abs(shown.disparity_px)
    assert right[24:-24, 32:-32].mean() > 0.7
    along, across = (striped.image.left[..., 1].std(axis=axis).mean() for axis in (1, 0))
    assert along < 0.2 * across


def test_a_fit_finds_the_law_behind_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60_000, 2))
    share = 1 / (1 + np.exp(-(0.5 - 1.5 * x[:, 0] + 0.7 * x[:, 1])))
    error = np.where(rng.random(60_000) < share, 0.5, 2.0)
    half = slice(0, 30_000), slice(30_000, None)
    fitted = fit_calibration(
        ("misfit", "support"), (x[half[0]], error[half[0]]), (x[half[1]], error[half[1]]), Tolerance(), {}
    )
    assert fitted.bias == pytest.approx(0.5, abs=0.05)
    assert fitted.weights["misfit"] == pytest.approx(-1.5, abs=0.05)
    assert fitted.weights["support"] == pytest.approx(0.7, abs=0.05)
    score = 0.5 - 1.5 * x[:, 0] + 0.7 * x[:, 1]
    middle = np.abs(score) < 2
    assert np.abs(np.interp(score, fitted.scores, fitted.confidence) - share)[middle].max() < 0.06
    # 68 % of the errors are within the smaller one where more than 68 % are right
    assert fitted.error_68[0] == 2.0 and fitted.error_68[-1] == 0.5


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12))
def test_isotonic_is_the_nearest_rising_sequence(values: list[float]) -> None:
    """Against the min-max formula (Barlow et al. 1972): the largest over starts of the least over ends of means."""
    array = np.array(values)
    found = isotonic(array, np.ones(len(array)))
    n = len(array)
    expected = [max(min(array[a : b + 1].mean() for b in range(k, n)) for a in range(k + 1)) for k in range(n)]
    assert found == pytest.approx(np.array(expected), abs=1e-9)


def stored(name: str = "sgbm", key: str = "one_size") -> dict[str, Any]:
    return json.loads((ZOO / name / CONFIDENCE).read_text())[key]


def test_a_calibration_comes_back_as_it_was_written() -> None:
    assert parse_calibration(json.loads(json.dumps(stored())), "x").to_json() == stored()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: None, "does not read"),
        (lambda c: [], "does not read"),
        (lambda c: {**c, "scores": c["scores"][:-1]}, "holds no calibration"),
        (lambda c: {**c, "scores": c["scores"][::-1]}, "holds no calibration"),
        (lambda c: {**c, "confidence": [2.0] * len(c["scores"])}, "holds no calibration"),
        (lambda c: {**c, "confidence": c["confidence"][::-1]}, "holds no calibration"),
        (lambda c: {**c, "error_68": [-1.0] * len(c["scores"])}, "holds no calibration"),
        (lambda c: {**c, "bias": float("nan")}, "holds no calibration"),
        (lambda c: {**c, "bias": 10**400}, "does not read"),
        (lambda c: {**c, "tolerance": {"px": 0, "relative": 0.1}}, "holds no calibration"),
        (lambda c: {**c, "weights": {"charm": 1.0}}, "holds no calibration"),
        (lambda c: {**c, "weights": 3}, "does not read"),
        (lambda c: {k: v for k, v in c.items() if k != "bias"}, "does not read"),
        (
            lambda c: {**c, "scores": list(range(10_000)), "confidence": [0] * 10_000, "error_68": [0] * 10_000},
            "holds no",
        ),
    ],
)
def test_a_damaged_calibration_is_refused(damage: Any, message: str) -> None:
    with pytest.raises(DualpixError, match=message) as caught:
        parse_calibration(damage(copy.deepcopy(stored())), "'confidence.json' of 'mine'")
    assert "\n" not in str(caught.value) and "'mine'" in str(caught.value)


def test_evidence_without_what_has_a_weight_is_an_error_of_ours() -> None:
    cells = np.ones((2, 3), np.float32)
    calibration = Calibration(Tolerance(), 0.0, {"spread_px": -1.0}, (0.0, 1.0), (0.0, 1.0), (1.0, 0.5), {})
    with pytest.raises(ValueError, match="weights are for"):
        calibration.score(Evidence(cells, cells, cells, None, cells, cells, cells))


def test_a_model_without_a_calibration_takes_the_shipped_one_and_says_so(network: LoadedModel, tmp_path: Any) -> None:
    mine = replace(network, name="mine", folder=tmp_path)
    judged = predict_disparity(shifted(1.0), mine).judged
    assert [f.code for f in judged.findings] == ["other_calibration"] and judged.calibrated_for == DEFAULT_MODEL
    content = {"one_size": stored(), "several_sizes": stored()}
    (tmp_path / CONFIDENCE).write_text(json.dumps(content))
    own = predict_disparity(shifted(1.0), replace(mine, name=tmp_path.name)).judged
    assert own.findings == () and own.calibrated_for == tmp_path.name
    (tmp_path / CONFIDENCE).write_text("[")
    with pytest.raises(DualpixError, match="does not read"):
        predict_disparity(shifted(1.0), mine)
