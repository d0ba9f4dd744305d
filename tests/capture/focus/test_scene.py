"""Scenes: what is where, and stops where something is."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.plan import PlanOptics, make_plan
from dualpix.capture.focus.scene import (
    occupied_stops,
    read_scene,
    scene_from_depth,
    scene_from_disparity,
    scene_from_sweep,
)
from dualpix.capture.types import LensModel


@settings(max_examples=40)
@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=5), st.floats(0.02, 0.3), st.integers(2, 60))
def test_stops_lie_where_something_is_and_nothing_is_far_from_one(
    places: list[float], margin: float, count: int
) -> None:
    rng = np.random.default_rng(1)
    samples = np.concatenate([place + 0.02 * rng.random(500) for place in places])
    stops = occupied_stops(samples, margin, count=count)
    assert len(stops) == count
    assert (np.diff(stops) > 0).all()
    assert stops[0] >= 0
    bin_width = (samples.max() - samples.min() + 2 * margin) / 256
    assert np.abs(samples[:, None] - stops[None]).min(axis=0).max() <= margin + 2 * bin_width
    # along what is occupied the stops are even: nothing is further from one than their spacing there
    occupied = len(places) * (0.02 + 2 * margin)
    spacing = occupied / (count - 1) + 2 * bin_width
    assume(spacing < margin)  # else a small place may have to do without a stop
    inner = samples[(samples > np.percentile(samples, 1)) & (samples < np.percentile(samples, 99))]
    assert np.abs(inner[:, None] - stops[None]).min(axis=1).max() <= spacing


@given(st.floats(0.01, 0.5))
def test_largest_step_holds_within_what_is_occupied(step: float) -> None:
    samples = np.concatenate([np.linspace(0.3, 0.9, 4000), np.linspace(2.0, 2.2, 2000)])
    stops = occupied_stops(samples, 0.05, step=step)
    within = [b - a for a, b in pairwise(stops) if not (a < 1.0 < b)]
    assert max(within, default=0.0) <= step + 0.02
    crossing = [b - a for a, b in pairwise(stops) if a < 1.0 < b]
    assert len(crossing) <= 1


def test_gap_costs_no_frames() -> None:
    rng = np.random.default_rng(0)
    depth = np.where(rng.random((60, 80)) < 0.5, 0.5, 4.0).astype(np.float32)
    plan = make_plan("scene", lens=PlanOptics(50.0, 1.8), scene_d=scene_from_depth(depth), count=8)
    stops = np.array(plan.stops_d)
    assert ((abs(stops - 0.25) < 0.1) | (abs(stops - 2.0) < 0.1)).all()
    assert stops[0] < 0.25 < 2.0 < stops[-1]  # the ends bracket the scene
    uniform = make_plan("diopter", near_m=0.5, far_m=4.0, count=8)
    assert np.abs(np.array(uniform.stops_d) - 1.0).min() < 0.2


def test_outliers_do_not_stretch_the_range() -> None:
    depth = np.full((100, 100), 1.0, np.float32)
    depth[0, :5], depth[1, :5] = 0.05, np.inf
    stops = make_plan("scene", scene_d=scene_from_depth(depth), step_px=2.0).stops_d
    assert 0.9 < stops[0] <= 1.0 <= stops[-1] < 1.1


def test_depth_map_without_depth_and_masked_pixels() -> None:
    depth = np.array([[0.0, -1.0], [np.nan, 2.0]], np.float32)
    assert scene_from_depth(depth) == pytest.approx([0.5])
    with pytest.raises(DualpixError, match="no valid depth"):
        scene_from_depth(depth, np.array([[True, True], [True, False]]))
    assert scene_from_depth(np.array([[np.inf]], np.float32)) == pytest.approx([0.0])


def test_disparity_of_a_dual_pixel_frame_gives_its_diopters() -> None:
    lens = LensModel(50.0, 1.8, 1.0, 20.0, 0.21)
    depth = np.array([[0.6, 1.0, 3.0, 1e6]])
    disparity = np.asarray(optics.disparity_px(depth, lens), np.float32)
    assert scene_from_disparity(disparity, lens) == pytest.approx((1 / depth).ravel(), abs=1e-5)
    beyond = np.full((1, 1), 1.2 * optics.disparity_at_infinity_px(lens), np.float32)
    assert scene_from_disparity(beyond, lens) == pytest.approx([0.0])
    with pytest.raises(DualpixError, match="no valid disparity"):
        scene_from_disparity(np.full((2, 2), np.nan, np.float32), lens)


def sweep(peaks: list[float], diopters: np.ndarray) -> np.ndarray:
    """Sharpness (N, tiles) that falls off from each tile's peak."""
    return 0.01 + 1 / (1 + (8 * (diopters[:, None] - np.array(peaks)[None])) ** 2)


def test_tiles_of_a_coarse_sweep_say_where_they_are() -> None:
    diopters = np.linspace(0.1, 2.4, 12)
    found = scene_from_sweep(diopters, sweep([0.4, 1.3, 1.36, 2.1], diopters))
    assert found == pytest.approx([0.4, 1.3, 1.36, 2.1], abs=0.05)
    assert scene_from_sweep(diopters, sweep([2.6], diopters)) == pytest.approx([2.4])
    with pytest.raises(DualpixError, match="sharper in one frame"):
        scene_from_sweep(diopters, np.ones((12, 4, 6)))
    with pytest.raises(DualpixError, match="a sweep of 2 frames"):
        scene_from_sweep(diopters[:2], np.ones((2, 4)))


def record(diopters: np.ndarray, f_number: float = 2.8, **changes: Any) -> list[dict[str, Any]]:
    tiles = sweep([0.5, 0.7, 2.0, 2.0, 0.5, 0.6], diopters).reshape(-1, 2, 3).tolist()
    return [
        {"role": "focus", "achieved_d": float(d), "f_number": f_number, "sharpness_tiles": t, **changes}
        for d, t in zip(diopters, tiles, strict=True)
    ]


def test_stack_record_of_a_sweep(tmp_path: Path) -> None:
    diopters = np.linspace(0.1, 2.4, 12)
    small = record(diopters, 16.0, sharpness_tiles=[[1.0]])
    unread = [{"role": "focus", "achieved_d": 9.0, "f_number": 2.8, "sharpness_tiles": None}]
    sharp = [{"role": "all_in_focus", "achieved_d": 1.0, "f_number": 1.4, "sharpness_tiles": [[9.0]]}]
    value = {"frames": small + unread + sharp + record(diopters)[::-1]}
    (tmp_path / "stack.json").write_text(json.dumps(value))
    assert sorted(read_scene(tmp_path)) == pytest.approx([0.5, 0.5, 0.6, 0.7, 2.0, 2.0], abs=0.05)
    assert sorted(read_scene(tmp_path / "stack.json")) == sorted(read_scene(tmp_path))


@pytest.mark.parametrize("value", [{}, [], {"frames": [{"role": "focus"}]}, {"frames": 3}, {"frames": []}])
def test_other_json_is_no_scene(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DualpixError):
        read_scene(path)


def test_depth_maps_are_read_from_files(tmp_path: Path) -> None:
    depth = np.array([[0.5, 1.0], [math.inf, 2.0]], np.float32)
    np.save(tmp_path / "d.npy", depth)
    tifffile.imwrite(tmp_path / "depth_m.tiff", depth)
    assert read_scene(tmp_path / "d.npy") == pytest.approx([2.0, 1.0, 0.0, 0.5])
    assert read_scene(tmp_path) == pytest.approx([2.0, 1.0, 0.0, 0.5])


def test_what_is_no_depth_map_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rgb.npy", np.ones((4, 4, 3)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "rgb.npy").read_bytes()[:-9])
    (tmp_path / "huge.npy").write_bytes(
        (tmp_path / "rgb.npy").read_bytes()[:128].replace(b"(4, 4, 3)", b"(99999, 9)")[:128]
    )
    (tmp_path / "text.tiff").write_text("no picture")
    (tmp_path / "cut.json").write_text("{")
    (tmp_path / "empty").mkdir()
    for name in ("rgb.npy", "objects.npy", "cut.npy", "huge.npy", "text.tiff", "cut.json", "empty", "absent.npy"):
        with pytest.raises(DualpixError) as caught:
            read_scene(tmp_path / name)
        assert name in str(caught.value)
