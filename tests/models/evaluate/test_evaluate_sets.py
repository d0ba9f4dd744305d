"""What a mean is worth, and the rendered sets that weights are chosen on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.models.data.rendered import EVALUATION_SEED
from dualpix.models.evaluate import Score, group_means, intervals, mean_scores, rendered, rendered_camera
from dualpix.models.evaluate.boundaries import boundary_f1
from dualpix.models.evaluate.figures import depth_figures
from dualpix.models.evaluate.methods import of_pair
from dualpix.models.evaluate.rendered_pairs import KINDS, SEEDS, draw_camera, rendered_protocol
from dualpix.models.evaluate.run import score_one
from dualpix.models.evaluate.validation import CHECK_SEED, FIT_SEED, TABLE_SEED
from dualpix.models.predict.disparity import match_disparity


def scores(*values: float | None, method: str = "m") -> list[Score]:
    return [Score(f"{i}", method, {"error": value, "ties": "average"}) for i, value in enumerate(values)]


def test_intervals_are_those_of_a_bootstrap_over_scenes() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    (low, high) = intervals(scores(*values))["m"]["error"]
    # by the central limit theorem
    half = 1.96 * values.std() / len(values) ** 0.5
    assert low == pytest.approx(values.mean() - half, abs=0.03) and high == pytest.approx(
        values.mean() + half, abs=0.03
    )
    assert intervals(scores(*values)) == intervals(scores(*values)), "the draws are seeded"


def test_one_scene_has_a_mean_and_no_interval() -> None:
    assert mean_scores(scores(3.0)) == {"m": {"error": 3.0}} and intervals(scores(3.0)) == {"m": {}}


def test_scenes_without_a_figure_do_not_count_in_its_mean() -> None:
    found = mean_scores([*scores(1.0, None, 3.0), *scores(None, None, method="n")])
    assert found == {"m": {"error": 2.0}, "n": {}}
    grouped = group_means([Score("a", "m", {"error": 1.0}, "x"), Score("b", "m", {"error": 5.0}, "y")])
    assert grouped == {"x": {"m": {"error": 1.0}}, "y": {"m": {"error": 5.0}}}


def test_errors_by_range_add_up() -> None:
    """The mean over all is that of the ranges, weighted by their shares."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.3, 9, (40, 50)).astype(np.float32)
    found = (truth * rng.uniform(0.7, 1.5, truth.shape)).astype(np.float32)
    valid = rng.random(truth.shape) < 0.7
    figures = depth_figures(found, truth, valid, (0.01, 1000))
    for kind in ("mae_m", "mae_diopters", "abs_rel"):
        ranges = ("0_1", "1_2", "2_4", "over_4")
        total = sum(figures[f"share_{name}"] * figures[f"{kind}_{name}"] for name in ranges)
        assert total == pytest.approx(figures[kind]), kind
    assert figures["d1_05"] < figures["d1_15"] < figures["d1_25"] < figures["d1_25_2"]
    ratio = np.maximum(found / truth, truth / found)[valid]
    assert figures["d1_15"] == pytest.approx((ratio < 1.15).mean())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_relative_figures_do_not_know_the_unit(seed: int, unit: float) -> None:
    """Twice as large, twice as far off: the same ratios, the same edges; errors in m and diopters scale either way."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.normal(0, 1, (12, 15))).astype(np.float32)
    found = (truth * np.exp(rng.normal(0, 0.2, truth.shape))).astype(np.float32)
    valid = rng.random(truth.shape) < 0.8
    small, large = (depth_figures(found * s, truth * s, valid, (1e-6, 1e6)) for s in (1, unit))
    for name in ("abs_rel", "rmse_log", "d1_05", "d1_15", "d1_25"):
        assert large[name] == pytest.approx(small[name], rel=1e-5), name
    assert large["mae_m"] == pytest.approx(unit * small["mae_m"], rel=1e-5)
    assert large["mae_diopters"] == pytest.approx(small["mae_diopters"] / unit, rel=1e-5)
    assert boundary_f1(found * unit, truth * unit, valid) == pytest.approx(boundary_f1(found, truth, valid), abs=1e-3)


# --- rendered cameras as they differ ---


@pytest.mark.parametrize("kind", [*KINDS])
def test_scenes_are_the_same_at_any_time_and_in_any_order(kind: str) -> None:
    forth, back = (
        {p.name: p.load() for p in order}
        for order in (rendered_camera(kind, 2, (64, 96)), reversed(rendered_camera(kind, 2, (64, 96))))
    )
    for name, sample in forth.items():
        again = back[name]
        assert np.array_equal(sample.truth, again.truth)
        assert sample.pair is not None and again.pair is not None
        assert np.array_equal(sample.pair.left, again.pair.left) and np.isfinite(sample.pair.left).all()
        assert sample.truth.shape == (64, 96) and sample.valid.all() and sample.group in KINDS[kind].uses
    assert not np.array_equal(forth["000"].truth, forth["001"].truth)


def test_seeds_are_apart_from_those_of_training_calibration_and_other_sets() -> None:
    others = {FIT_SEED, TABLE_SEED, CHECK_SEED, EVALUATION_SEED}
    taken = {seed + near for seed in others for near in range(1000)}
    assert len(set(SEEDS.values())) == 3 and not taken & set(SEEDS.values())
    assert min(SEEDS.values()) >= EVALUATION_SEED, "training refuses seeds from there on"


def test_cameras_differ_around_what_was_measured() -> None:
    for name, kind in KINDS.items():
        drawn = [draw_camera(kind, np.random.default_rng([0, n])) for n in range(60)]
        gains = np.array([psf.disparity_gain for psf, _ in drawn])
        assert len(set(gains)) == 60 and 0.03 < gains.min() < gains.max() <= 0.4244, name
        noise = [sensor.left_noise.shot_dn / sensor.range_dn for _, sensor in drawn]
        assert min(noise) > 0 and max(noise) / min(noise) > 8, name
        edges = [sensor.shading.left[0, 0, 0] for _, sensor in drawn if sensor.shading is not None]
        assert len(edges) == 60 and np.ptp(edges) > 0.2, f"{name}: vignetting"
        assert np.std([sensor.tilt_left for _, sensor in drawn]) == pytest.approx(0.03, rel=0.35), name


@pytest.mark.parametrize("kind", [*KINDS])
def test_the_truth_is_what_matching_sees(kind: str) -> None:
    """Where semi-global matching is sure it agrees with the truth: the sign, the scale and the halves are right."""
    protocol = rendered_protocol(kind)
    right = []
    for pending in rendered_camera(kind, 4, (192, 256)):
        sample = pending.load()
        prediction = of_pair(match_disparity)(sample)
        assert prediction.confidence is not None
        sure = prediction.confidence > 0.6
        if sure.mean() > 0.1 and np.ptp(sample.truth[sure]) > 1.0:
            right.append(np.corrcoef(prediction.values[sure], sample.truth[sure])[0, 1])
        figures = score_one(protocol, sample, "sgbm", prediction).score.figures
        assert figures["mae_px"] < 5 and figures["one_minus_abs_rho_dense8"] is not None
    assert right and np.median(right) > 0.6


def test_command_scores_a_validation_set() -> None:
    args = ["evaluate", "--data", "rendered:macro", "--count", "2", "--size", "64", "96", "--method", "sgbm", "--json"]
    done = CliRunner().invoke(root, args)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["data"] == "rendered:macro" and len(record["scenes"]) == 2
    assert set(record["group_mean"]) == {"macro"} and record["interval_of"].endswith("seed 20260101")
    assert {"one_minus_abs_rho", "one_minus_abs_rho_dense8", "one_minus_abs_rho_argsort"} <= set(record["mean"]["sgbm"])


def test_sizes_that_networks_do_not_take_are_refused() -> None:
    for make in (rendered, lambda *args: rendered_camera("phone", *args)):
        with pytest.raises(DualpixError, match="multiples of 32"):
            make(1, (50, 64))
