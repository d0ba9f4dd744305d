"""Two methods on the same scenes: the difference scene by scene, and how far to trust it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import bootstrap

from dualpix.capture.cli import root
from dualpix.models.evaluate import Score, intervals, paired_differences

HARD = (0.1, 0.4, 0.9, 1.6, 2.5, 0.2)
"""Errors of scenes that differ far more than methods do."""


def scores(**methods: tuple[float, ...]) -> list[Score]:
    return [Score(f"{i}", name, {"error": v}) for name, values in methods.items() for i, v in enumerate(values)]


def test_a_method_that_is_worse_by_the_same_everywhere_is_surely_worse() -> None:
    both = scores(first=HARD, other=tuple(value + 0.05 for value in HARD))
    found = paired_differences(both, "first")["other"]["error"]
    assert found.mean == pytest.approx(0.05) and found.interval_95 == pytest.approx((0.05, 0.05))
    assert found.scenes == 6 and found.relative == pytest.approx(0.05 / np.mean(HARD))
    alone = intervals(both)  # which do not tell them apart
    assert alone["other"]["error"][0] < alone["first"]["error"][1]


def test_the_interval_is_that_of_a_percentile_bootstrap() -> None:
    rng = np.random.default_rng(5)
    first, other = rng.gamma(2.0, 1.0, 40), rng.gamma(2.0, 1.0, 40)
    found = paired_differences(scores(first=tuple(first), other=tuple(other)), "first")["other"]["error"]
    asked = bootstrap((other - first,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert found.interval_95 == pytest.approx((asked.low, asked.high), abs=0.04)  # of 1.1 in all
    assert paired_differences(scores(first=tuple(first), other=tuple(other)), "first")["other"]["error"] == found


def test_only_scenes_that_both_have_the_figure_of_are_compared() -> None:
    both = [
        Score("0", "first", {"error": 1.0, "edge": None}),
        Score("0", "other", {"error": 2.0, "edge": 7.0}),
        Score("1", "first", {"error": 5.0, "edge": 3.0}),
        Score("1", "other", {"error": 5.5, "edge": 4.0}),
        Score("2", "other", {"error": 900.0, "ties": 3.0}),
    ]
    found = paired_differences(both, "first")["other"]
    assert found["error"].mean == pytest.approx(0.75) and found["error"].scenes == 2
    assert found["edge"].mean == 1.0 and found["edge"].interval_95 is None and found["edge"].scenes == 1
    assert "ties" not in found


def test_scenes_of_one_name_in_several_groups_are_several() -> None:
    both = [
        Score("1", m, {"error": v}, g) for g in ("a", "b") for m, v in (("first", 1.0), ("other", 2.0 + (g == "b")))
    ]
    assert paired_differences(both, "first")["other"]["error"].scenes == 2


def invoke(*words: str) -> str:
    done = CliRunner().invoke(root, ["evaluate", "--data", "rendered", "--count", "2", "--size", "64", "96", *words])
    assert done.exit_code == 0, done.output or done.exception
    return done.stdout


def test_the_command_holds_all_against_the_model_that_is_named_first() -> None:
    words = ("--method", "sgbm", "--model", "dplive", "--model", "difusenet-compact")
    record = json.loads(invoke(*words, "--json"))
    assert record["difference_from"] == "dplive" and list(record["difference"]) == ["sgbm", "difusenet-compact"]
    found, means = record["difference"]["difusenet-compact"]["mae_px"], record["mean"]
    assert found["mean"] == pytest.approx(means["difusenet-compact"]["mae_px"] - means["dplive"]["mae_px"])
    assert found["interval_95"][0] <= found["mean"] <= found["interval_95"][1]
    shown = invoke(*words)
    assert "difference from dplive, on the same scenes" in shown and max(map(len, shown.splitlines())) <= 80


def test_without_a_named_model_nothing_is_held_against_it() -> None:
    record = json.loads(invoke("--method", "sgbm", "--json"))
    assert record["difference"] is None and record["difference_from"] is None
    assert "difference from" not in invoke("--method", "sgbm")
