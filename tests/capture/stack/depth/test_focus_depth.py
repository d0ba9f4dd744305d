"""Depth from a stack against the truth of rendered scenes, and against yardsticks that share its code path."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.stack_folders import shoot_stack
from tests.support.sweeps import PITCH_UM, rendered
from tests.support.sweeps import UNKNOWN_LENS as UNKNOWN

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.stack.depth.focus_blur import SMALL_DISC_PX, blurred_by, composite, hypotheses, semi_global
from dualpix.capture.stack.depth.focus_depth import FocusDepth, Method, depth_from_focus
from dualpix.capture.stack.depth.focus_output import write_focus_depth
from dualpix.capture.stack.depth.focus_peaks import guided_filter, parabola_peak
from dualpix.capture.stack.judge.align import align_stack
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.types import FloatImage, FocusStack


@pytest.fixture(scope="module", params=[3, 5])
def scene(request: pytest.FixtureRequest) -> tuple[FocusStack, FloatImage]:
    return rendered(request.param)


def errors(found: FloatImage, truth: FloatImage) -> tuple[float, float]:
    """MAE in diopters and mean relative error of the depth."""
    depth = 1 / np.maximum(found, 1e-3)
    return float(np.abs(found - truth).mean()), float(np.abs(depth * truth - 1).mean())


def test_each_method_beats_the_one_before_it(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, truth = scene
    step = float(np.diff(1 / stack.focus_distance_m)[0])
    figures = {"constant": errors(np.full_like(truth, np.median(truth)), truth)}
    methods: tuple[Method, ...] = ("argmax", "sharpness", "blur")
    for method in methods:
        figures[method] = errors(depth_from_focus(stack, method).diopters, truth)
    for name, (mae_d, relative) in figures.items():
        print(f"{name:9} MAE {mae_d:.4f} D ({mae_d / step:.2f} steps), AbsRel {relative:.4f}")
    assert figures["blur"][0] < 0.75 * figures["argmax"][0]
    assert figures["sharpness"][0] < figures["argmax"][0]
    assert figures["blur"][0] < 0.5 * figures["constant"][0]
    assert figures["blur"][0] < 0.4 * step
    assert figures["blur"][1] < 0.12


def test_confidence_tells_where_it_is_right(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, truth = scene
    found = depth_from_focus(stack)
    error = np.abs(found.diopters - truth)
    sure = found.confidence >= 0.5
    assert 0.1 < sure.mean() < 1 and found.measured_fraction == pytest.approx(sure.mean())
    assert error[sure].mean() < 0.8 * error[~sure].mean()
    assert found.confidence.min() >= 0 and found.confidence.max() <= 1


def test_the_blur_of_an_unknown_lens_is_found(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, truth = scene
    known, unknown = depth_from_focus(stack), depth_from_focus(replace(stack, lens=UNKNOWN))
    assert (known.blur_source, unknown.blur_source) == ("lens", "found")
    assert known.blur_px_per_d is not None and unknown.blur_px_per_d is not None
    assert known.blur_px_per_d == pytest.approx(2500 / 2.0 / PITCH_UM, rel=0.05)
    assert unknown.blur_px_per_d == pytest.approx(known.blur_px_per_d, rel=0.25)
    assert errors(unknown.diopters, truth)[0] < 1.5 * errors(known.diopters, truth)[0]


def test_the_all_in_focus_picture_is_sharper_than_any_frame(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, _ = scene
    found = depth_from_focus(stack)

    def detail(image: FloatImage) -> float:
        return float(np.abs(cv2.Laplacian(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.CV_32F)).mean())

    assert detail(found.all_in_focus) > 1.05 * max(detail(frame) for frame in stack.frames)
    assert found.all_in_focus.shape == stack.frames.shape[1:]


def test_an_all_in_focus_frame_helps_where_there_is_little_texture() -> None:
    stack, truth = rendered(11)
    lens = replace(stack.lens, f_number=2.0)
    from dualpix.capture.scenes import make_varied_scene

    sharp = make_varied_scene(11, (144, 192), "desk").all_in_focus()
    sharp = np.asarray(sharp * 0.7 / np.percentile(sharp, 99), np.float32)
    without = errors(depth_from_focus(replace(stack, lens=lens)).diopters, truth)[0]
    with_it = errors(depth_from_focus(replace(stack, lens=lens, all_in_focus=sharp)).diopters, truth)[0]
    print(f"MAE {without:.4f} D without, {with_it:.4f} D with the frame")
    assert with_it < 1.05 * without


def test_a_captured_stack_gives_the_distances_of_the_scene(tmp_path: Path) -> None:
    """From raws with breathing, through alignment, to metres."""
    shot = shoot_stack(tmp_path / "stack", seed=2, all_in_focus=True)
    aligned, alignment = align_stack(load_stack(shot.folder))
    truth = 1 / shot.camera.depth_at_m(1 + 0.015 * alignment.d0)
    results = {method: depth_from_focus(aligned, method) for method in ("argmax", "blur")}  # type: ignore[arg-type]
    figures = {name: np.abs(found.diopters - truth) for name, found in results.items()}
    for name, error in figures.items():
        print(f"{name:7} MAE {error.mean():.4f} D, median {np.median(error):.4f} D")
    assert np.median(figures["blur"]) < 0.04
    assert figures["blur"].mean() < 0.8 * figures["argmax"].mean()


def test_larger_frames_are_worked_on_reduced(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, truth = scene
    full, half = depth_from_focus(stack), depth_from_focus(stack, working_side_px=96)
    assert half.depth_m.shape == full.depth_m.shape == truth.shape
    assert half.blur_px_per_d == full.blur_px_per_d
    assert errors(half.diopters, truth)[0] < 2.5 * errors(full.diopters, truth)[0]


def test_too_few_frames_are_refused(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, _ = scene
    two = replace(
        stack,
        frames=stack.frames[:2],
        focus_distance_m=stack.focus_distance_m[:2],
        uncertainty_d=stack.uncertainty_d[:2],
    )
    with pytest.raises(DualpixError, match="three or more"):
        depth_from_focus(two)
    near = replace(stack, focus_distance_m=stack.focus_distance_m * 0.02)
    with pytest.raises(DualpixError, match="within the focal length"):
        depth_from_focus(near)


def test_a_result_is_written_whole_or_not_at_all(scene: tuple[FocusStack, FloatImage], tmp_path: Path) -> None:
    stack, _ = scene
    found = depth_from_focus(stack, "sharpness")
    far = replace(found, depth_m=np.where(found.depth_m > np.median(found.depth_m), np.inf, found.depth_m))
    out = tmp_path / "depth"
    record = write_focus_depth(out, stack, far, {"source": "a test"})
    maps = {"depth_m.tiff", "depth_m.npy", "depth.png", "confidence.png"}
    assert {path.name for path in out.iterdir()} == maps | {"all_in_focus.tiff", "all_in_focus.png", "depth.json"}
    assert json.loads((out / "depth.json").read_text()) == record
    assert record["kind"] == "depth_m" and record["source"] == "a test" and record["blur_px_per_d"] is None
    assert np.array_equal(tifffile.imread(out / "depth_m.tiff"), far.depth_m)
    assert np.array_equal(np.load(out / "depth_m.npy"), far.depth_m)
    shown = cv2.imread(str(out / "depth.png"))
    assert shown.shape[1] > 2 * 192  # the picture, the map and its scale
    assert cv2.imread(str(out / "all_in_focus.png")).shape == (144, 192, 3)
    write_focus_depth(out, stack, found)  # an earlier result is replaced
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="no earlier result"):
        write_focus_depth(other, stack, found)
    bad = replace(found, blur_px_per_d=math.nan)
    with pytest.raises(ValueError, match="JSON"):
        write_focus_depth(tmp_path / "bad", stack, bad)
    assert not (tmp_path / "bad").exists()


# --- the parts ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 2.0), st.floats(0.1, 2.0), st.floats(-0.45, 0.45), st.floats(0.1, 10))
def test_a_parabola_is_found_between_uneven_points(low: float, high: float, place: float, bend: float) -> None:
    peak = place * (low if place < 0 else high)

    def value(x: float) -> float:
        return -bend * (x - peak) ** 2 + bend * peak**2

    found = parabola_peak(*(np.array(v) for v in (-low, high, value(-low), value(high))))
    assert found == pytest.approx(peak, abs=1e-6)


def test_no_peak_is_no_offset() -> None:
    assert parabola_peak(*(np.array(v) for v in (-1.0, 1.0, 1.0, 1.0))) == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4000).map(lambda n: n / 1000), min_size=3, max_size=30, unique=True))
def test_hypotheses_cover_the_sweep_and_stay_before_infinity(values: list[float]) -> None:
    focus = np.sort(np.array(values))
    tried = hypotheses(focus)
    assert tried[0] <= focus[0] and tried[-1] >= focus[-1]
    assert np.allclose(np.diff(tried, 2), 0, atol=1e-9)
    assert focus[0] == 0 or tried[0] > 0


@settings(max_examples=30, deadline=None)
@example(2.5)
@given(st.floats(0.5, 15.0))
def test_a_disc_keeps_light_and_spreads_it_by_a_quarter_of_its_diameter(circle_px: float) -> None:
    dot = np.zeros((41, 41), np.float32)
    dot[20, 20] = 1.0
    spread = blurred_by(dot, circle_px)
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)
    x = np.arange(41) - 20
    sigma = math.sqrt(float((spread * x[None] ** 2).sum()))
    pixel = 0.0 if circle_px < SMALL_DISC_PX else 1 / 12  # a drawn disc is averaged over pixels, which spreads it too
    assert sigma == pytest.approx(math.sqrt((circle_px / 4) ** 2 + pixel), rel=0.08)


def _least_costs(costs: npt.NDArray[np.float64], small: float, large: float) -> npt.NDArray[np.float64]:
    """Along one line, by trying every labelling."""
    labels, length = costs.shape
    best = np.full((labels, length), np.inf)
    for code in range(labels**length):
        path = [(code // labels**k) % labels for k in range(length)]
        steps = [0 if a == b else small if abs(a - b) == 1 else large for a, b in pairwise(path)]
        sums = np.cumsum([costs[p, k] + (steps[k - 1] if k else 0) for k, p in enumerate(path)])
        for place, total in enumerate(sums):
            best[path[place], place] = min(best[path[place], place], total)
    return best


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_semi_global_costs_are_those_of_the_best_path(seed: int) -> None:
    """One row: the two vertical directions add the cost itself, the horizontal ones the least cost of a path."""
    costs = np.random.default_rng(seed).uniform(0, 3, (3, 1, 5)).astype(np.float32)
    found = semi_global(costs, 0.4, 1.1)
    line = costs[:, 0].astype(np.float64)
    both = _least_costs(line, 0.4, 1.1), _least_costs(line[:, ::-1], 0.4, 1.1)[:, ::-1]
    expected = 2 * line + both[0] + both[1]
    # what is subtracted to keep the numbers small is the same for all labels of a pixel
    assert np.allclose(found[:, 0] - found[:, 0].min(axis=0), expected - expected.min(axis=0), atol=1e-4)


def test_a_guided_filter_fills_along_edges() -> None:
    guide = np.zeros((60, 80), np.float32)
    guide[:, 40:] = 1.0
    values = np.where(guide > 0, 2.0, 1.0).astype(np.float32)
    weight = np.zeros_like(guide)
    weight[::7, ::7] = 1.0
    noisy = values + np.random.default_rng(0).normal(0, 5, values.shape).astype(np.float32) * (weight == 0)
    filled = guided_filter(guide, noisy, weight, 10)
    window = (21, 21)
    plain = cv2.blur(weight * noisy, window) / cv2.blur(weight, window)
    assert np.abs(filled - values).mean() < 0.01
    assert np.abs(filled - values).max() < 0.5 * np.abs(plain - values).max()


def test_a_composite_takes_the_nearest_frame() -> None:
    frames = np.stack([np.full((20, 20, 3), float(k), np.float32) for k in range(3)])
    wanted = np.full((20, 20), 0.5, np.float32)
    wanted[:, 10:] = 1.9
    found = composite(frames, np.array([0.5, 1.0, 2.0]), wanted)
    assert found[0, 0, 0] == 0 and found[0, 19, 0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1", "4"])
def test_a_textured_surface_with_truth_is_within_half_a_slice(name: str, shared_data, capsys) -> None:  # type: ignore[no-untyped-def]
    folder = shared_data("focus") / "generated_stacks" / name
    files = sorted(folder.glob("*.jpg"))
    codes = np.stack([cv2.imread(str(path)) for path in files])
    focus = 0.5 + 0.1 * np.arange(len(files))
    frames = np.asarray((codes[..., ::-1] / 255.0) ** 2.2, np.float32)
    stack = FocusStack(frames, 1 / focus, np.full(len(files), 0.01), UNKNOWN)
    truth = -np.load(folder / "reference.npy")
    for method, limit in (("argmax", 0.6), ("sharpness", 0.45), ("blur", 0.32)):
        found: FocusDepth = depth_from_focus(stack, method)  # type: ignore[arg-type]
        slices = (found.diopters - 0.5) / 0.1
        margin = (slices.shape[0] - truth.shape[0]) // 2
        inside = slices[margin : margin + truth.shape[0], margin : margin + truth.shape[1]]
        error = np.abs(inside - truth)
        print(f"{name} {method:9} MAE {error.mean():.3f} slices, median {np.median(error):.3f}")
        assert error.mean() < limit
