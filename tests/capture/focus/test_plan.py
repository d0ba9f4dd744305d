"""Plans: each mode against the geometry it promises, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.capture.focus.fakes import true_calibration

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.plan import MODES, PlanOptics, describe, make_plan, plan_from_json, reachable

LENS = PlanOptics(50.0, 2.8, 36.0, 1824)
optical = st.builds(
    PlanOptics,
    focal_length_mm=st.floats(4, 200),
    f_number=st.floats(1.2, 16),
    sensor_width_mm=st.floats(4, 40),
    width_px=st.integers(200, 8000),
)


@st.composite
def ends(draw: st.DrawFn, lens: PlanOptics) -> tuple[float, float]:
    """(near, far) in m, from close up to infinity."""
    f_m = lens.focal_length_mm / 1000
    near = draw(st.floats(1.5 * f_m, 200 * f_m))
    return near, draw(st.one_of(st.floats(1.05 * near, 1e4), st.just(math.inf)))


def steps_px(lens: PlanOptics, stops: tuple[float, ...]) -> np.ndarray:
    """Blur that the next focus has in each frame, by the optics alone."""
    return np.array([lens.blur_px(here, there) for here, there in pairwise(stops)])


@given(st.data(), optical, st.integers(2, 60))
def test_uniform_diopters_are_uniform_blur_away_from_macro(data: st.DataObject, lens: PlanOptics, count: int) -> None:
    near, far = data.draw(ends(lens))
    assume(near > 50 * lens.focal_length_mm / 1000)
    plan = make_plan("diopter", lens=lens, near_m=near, far_m=far, count=count)
    assert np.diff(plan.stops_d) == pytest.approx((1 / near - 1 / far) / (count - 1), rel=1e-6)
    blur = steps_px(lens, plan.stops_d)
    assert blur.max() / blur.min() < 1.021  # 1 / (1 - f P) at fifty focal lengths
    assert (plan.stops_d[0], plan.stops_d[-1]) == (1 / far, 1 / near)


@given(st.data(), optical, st.integers(2, 60))
def test_even_blur_is_even_close_up_too(data: st.DataObject, lens: PlanOptics, count: int) -> None:
    near, far = data.draw(ends(lens))
    blur = steps_px(lens, make_plan("coc", lens=lens, near_m=near, far_m=far, count=count).stops_d)
    assert blur == pytest.approx(blur[0], rel=1e-4)


def test_close_up_even_diopters_are_not_even_blur() -> None:
    macro = PlanOptics(100.0, 2.8)
    even_diopters = steps_px(macro, make_plan("diopter", lens=macro, near_m=0.25, far_m=1.0, count=5).stops_d)
    assert even_diopters[-1] / even_diopters[0] > 1.3
    # the same worked out by lens extension: equal blur is an equal ratio of image distances v = f / (1 - f P)
    stops = np.array(make_plan("coc", lens=macro, near_m=0.25, far_m=1.0, count=5).stops_d)
    image_distance_mm = 100 / (1 - 0.1 * stops)
    assert np.diff(np.log(image_distance_mm)) == pytest.approx(math.log((100 / 0.6) / (100 / 0.9)) / 4, rel=1e-9)


@given(st.data(), optical, st.floats(0.5, 60))
def test_largest_step_is_kept_with_as_few_stops_as_can_be(data: st.DataObject, lens: PlanOptics, step: float) -> None:
    near, far = data.draw(ends(lens))
    assume(step < lens.focal_length_mm / lens.f_number / lens.pixel_pitch_um * 500)
    widest = lens.blur_px(1 / far, 1 / near)
    assume(widest / step < 300)
    stops = make_plan("coc", lens=lens, near_m=near, far_m=far, step_px=step).stops_d
    assert steps_px(lens, stops).max() <= step * (1 + 1e-6)
    if len(stops) > 2:
        fewer = make_plan("coc", lens=lens, near_m=near, far_m=far, count=len(stops) - 1).stops_d
        assert steps_px(lens, fewer).max() > step * (1 - 1e-6)


@given(st.data(), optical, st.floats(0.5, 20), st.floats(0, 0.6))
def test_depths_of_field_overlap_and_cover_the_range(
    data: st.DataObject, lens: PlanOptics, limit: float, overlap: float
) -> None:
    near, far = data.draw(ends(lens))
    assume(limit < lens.focal_length_mm / lens.f_number / lens.pixel_pitch_um * 300)
    assume(lens.blur_px(1 / far, 1 / near) / limit / (1 - overlap) < 300)
    plan = make_plan("overlap", lens=lens, near_m=near, far_m=far, blur_limit_px=limit, overlap=overlap)
    limit_mm = limit * lens.pixel_pitch_um / 1000
    sharp = [optics.depth_of_field_m(lens.at(stop), limit_mm) for stop in plan.stops_d]
    sharp_d = [(1 / far_m, 1 / near_m) for near_m, far_m in sharp]
    slack = 1e-5 / near  # a lens that is racked out blurs a little more, which is counted at one end of the range
    assert sharp_d[0][0] <= 1 / far + slack
    assert sharp_d[-1][1] >= 1 / near - slack
    for (_, reaches), (begins, _) in pairwise(sharp_d):
        assert begins <= reaches + slack


def test_overlap_takes_no_more_frames_than_it_needs() -> None:
    # 2 px to either side are 4 px a frame; 0.25 to 2 diopters are 81.6 px at 50 mm f/2.8, 1824 px
    plan = make_plan("overlap", lens=LENS, near_m=0.5, far_m=4.0, blur_limit_px=2.0)
    assert len(plan.stops_d) == 21
    assert len(make_plan("overlap", lens=LENS, near_m=0.5, far_m=4.0, blur_limit_px=100.0).stops_d) == 1


def test_hyperfocal_end_keeps_infinity_sharp() -> None:
    plan = make_plan("hyperfocal", lens=LENS, near_m=0.5, count=7, blur_limit_px=2.0)
    assert LENS.blur_px(plan.stops_d[0], 0.0) == pytest.approx(2.0, rel=0.01)
    assert plan.stops_d[-1] == 2.0
    with pytest.raises(DualpixError, match="was given a far end"):
        make_plan("hyperfocal", lens=LENS, near_m=0.5, far_m=9.0, count=7)


def test_presets() -> None:
    assert [round(1 / d, 2) for d in make_plan("explicit", preset="ddff12").stops_d] == [7.06, 1.33, 0.86, 0.63, 0.5]
    zedd = make_plan("explicit", preset="zedd").stops_d
    assert len(zedd) == 9
    assert (1 / zedd[0], 1 / zedd[-1]) == pytest.approx((8.10, 0.82))
    assert np.diff(zedd) == pytest.approx(0.137, abs=5e-4)


def test_grid_takes_all_apertures_at_a_stop_and_one_frame_all_in_focus() -> None:
    plan = make_plan("grid", near_m=0.5, far_m=4.0, count=3, apertures=(5.6, 2.8), exposure_s=0.01, iso=200.0)
    taken = [(round(f.diopters, 4), f.exposure.f_number, f.role) for f in plan.frames]
    assert taken == [
        (0.25, 2.8, "focus"), (0.25, 5.6, "focus"),
        (1.125, 2.8, "focus"), (1.125, 5.6, "focus"), (1.125, 16.0, "all_in_focus"),
        (2.0, 2.8, "focus"), (2.0, 5.6, "focus"),
    ]  # fmt: skip
    assert [f.index for f in plan.frames] == list(range(7))
    assert plan.lens.f_number == 2.8
    light = {f.exposure.exposure_s / f.exposure.f_number**2 for f in plan.frames}  # type: ignore[operator]
    assert max(light) == pytest.approx(min(light))
    assert {f.exposure.iso for f in plan.frames} == {200.0}


def test_all_in_focus_frame_is_a_choice_in_other_modes() -> None:
    wanted: dict[str, Any] = {"near_m": 0.5, "far_m": 4.0, "count": 4}
    assert len(make_plan("diopter", **wanted).frames) == 4
    roles = [f.role for f in make_plan("diopter", all_in_focus=True, **wanted).frames]
    assert roles.count("all_in_focus") == 1
    assert len(make_plan("grid", all_in_focus=False, **wanted).frames) == 4
    with pytest.raises(DualpixError, match="all-in-focus frame at f/2"):
        make_plan("diopter", all_in_focus=2.0, **wanted)


def test_camera_bracket_steps_evenly_from_near_and_ends_at_infinity() -> None:
    plan = make_plan("camera-bracket", lens=LENS, near_m=0.5, increment=10, shots=999)
    blur = steps_px(plan.lens, plan.stops_d)
    # increment 10 is twice 30 um of blur on 36 mm: 3.04 px of 1824
    assert blur == pytest.approx(3.04, rel=1e-6)
    assert plan.stops_d[-1] == pytest.approx(2.0)
    assert 0 <= plan.stops_d[0] < plan.stops_d[1] - plan.stops_d[0]
    assert plan.parameters["shots"] == len(plan.frames) < 999
    twice = make_plan("camera-bracket", lens=LENS, near_m=0.5, increment=5, shots=3, bracket_unit_mm=0.012)
    assert steps_px(twice.lens, twice.stops_d) == pytest.approx(3.04, rel=1e-6)
    enough = make_plan("camera-bracket", lens=LENS, near_m=0.5, far_m=2.0, increment=10)
    assert enough.stops_d[0] <= 0.5 < enough.stops_d[1]


@given(st.data(), st.floats(0.2, 1.0), st.floats(0.1, 3.0))
def test_out_of_the_lens_range_is_refused_never_clipped(data: st.DataObject, near: float, closest: float) -> None:
    far = data.draw(st.one_of(st.floats(1.1, 50), st.just(math.inf)))
    wanted = {"lens": LENS, "near_m": near, "far_m": far, "count": 5}
    if near < closest * (1 - 1e-9):
        with pytest.raises(DualpixError, match="out of the range of the lens"):
            make_plan("diopter", min_focus_m=closest, **wanted)
    else:
        plan = make_plan("diopter", min_focus_m=closest, **wanted)
        assert (plan.stops_d[0], plan.stops_d[-1]) == (1 / far, 1 / near)


def test_range_of_a_calibrated_lens_binds_at_both_ends() -> None:
    short = true_calibration(coefficients=(0.2, 0.0084, 0.0), backlash_units=0.0)  # 5 m to 0.37 m
    make_plan("diopter", near_m=0.5, far_m=4.9, count=3, calibration=short)
    with pytest.raises(DualpixError, match=r"1 of 3 stops.*infinity.*expected 5 m"):
        make_plan("diopter", near_m=0.5, far_m=math.inf, count=3, calibration=short)
    with pytest.raises(DualpixError, match=r"1 of 3 stops.*0\.3 m"):
        make_plan("diopter", near_m=0.3, far_m=4.0, count=3, calibration=short)


@pytest.mark.parametrize(
    ("mode", "wanted", "message"),
    [
        ("diopter", {"near_m": 0.5, "count": 5}, "no far end"),
        ("diopter", {"near_m": 0.5, "far_m": 4.0}, "no number of frames"),
        ("diopter", {"near_m": 4.0, "far_m": 0.5, "count": 5}, "0 < near < far"),
        ("diopter", {"near_m": math.nan, "far_m": 0.5, "count": 5}, "0 < near < far"),
        ("diopter", {"near_m": 0.5, "far_m": 4.0, "count": 1}, "2 to 999"),
        ("diopter", {"near_m": 0.04, "far_m": 4.0, "count": 3}, "out of the range"),
        ("coc", {"near_m": 0.04, "far_m": 4.0, "count": 3}, "within the focal length"),
        ("coc", {"near_m": 0.5, "far_m": 4.0}, "either a number of frames or the largest step"),
        ("coc", {"near_m": 0.5, "far_m": 4.0, "count": 3, "step_px": 5.0}, "either"),
        ("coc", {"near_m": 0.5, "far_m": 4.0, "step_px": 0.01}, "at most 999"),
        ("coc", {"near_m": 0.5, "far_m": 4.0, "step_px": -1.0}, "a blur of -1 px"),
        ("overlap", {"near_m": 0.5, "far_m": 4.0, "overlap": 1.0}, "overlap 1"),
        ("hyperfocal", {"near_m": 0.5, "count": 3, "blur_limit_px": 0.0}, "blur limit 0"),
        ("explicit", {}, "no distances"),
        ("explicit", {"distances_m": [0.5, 0.5]}, "different ones"),
        ("explicit", {"distances_m": [0.5, -1.0]}, "above 0"),
        ("scene", {"count": 3}, "nothing of the scene"),
        ("camera-bracket", {"near_m": 0.5, "shots": 5}, "no focus increment"),
        ("camera-bracket", {"near_m": 0.5, "increment": 11, "shots": 5}, "focus increment 11; expected 1 to 10"),
        ("camera-bracket", {"near_m": 0.5, "increment": 1, "shots": 1000}, "number of shots 1000"),
        ("camera-bracket", {"near_m": 0.5, "increment": 1, "shots": 5, "apertures": (2.8, 4.0)}, "several apertures"),
        ("diopter", {"near_m": 0.5, "far_m": 4.0, "count": 3, "apertures": (0.0,)}, "f-numbers"),
        ("diopter", {"near_m": 0.5, "far_m": 4.0, "count": 3, "min_focus_m": 0.0}, "above 0"),
        ("log", {}, "unknown mode 'log'"),
        ("explicit", {"preset": "nyu"}, "unknown preset"),
    ],
)
def test_what_is_missing_or_wrong_is_said(mode: str, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        make_plan(mode, **wanted)


@pytest.mark.parametrize("mode", [m for m in MODES if m != "scene"])
def test_plans_survive_json(mode: str) -> None:
    wanted: dict[str, Any] = {
        "diopter": {"near_m": 0.5, "far_m": math.inf, "count": 3},
        "coc": {"near_m": 0.5, "far_m": 3.0, "step_px": 9.0},
        "overlap": {"near_m": 0.5, "far_m": 3.0},
        "hyperfocal": {"near_m": 0.5, "count": 3},
        "explicit": {"distances_m": [0.5, math.inf]},
        "camera-bracket": {"near_m": 0.5, "increment": 3, "shots": 4},
        "grid": {"preset": "ddff12", "apertures": (2.0, 4.0)},
    }[mode]
    plan = make_plan(mode, exposure_s=0.01, **wanted)
    assert plan_from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False))) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "not numbered"),
        ({"format": 2}, "'format'"),
        ({"lens": {"focal_length_mm": -1}}, "focal_length_mm"),
        ({"frames": "many"}, "'frames'"),
        ({"parameters": 3}, "'parameters'"),
    ],
)
def test_damaged_plan_is_refused(change: dict[str, Any], message: str) -> None:
    value = {**make_plan("explicit", preset="ddff12").to_json(), **change}
    with pytest.raises(DualpixError, match=message):
        plan_from_json(value)


def test_plan_without_an_entry_or_out_of_order_is_refused() -> None:
    value = make_plan("explicit", preset="ddff12").to_json()
    with pytest.raises(DualpixError, match="no 'lens'"):
        plan_from_json({k: v for k, v in value.items() if k != "lens"})
    frames = json.loads(json.dumps(value["frames"]))
    frames[0]["diopters"] = 1.9
    with pytest.raises(DualpixError, match="not in order"):
        plan_from_json({**value, "frames": frames})
    frames[0]["diopters"] = math.nan
    with pytest.raises(DualpixError, match="'diopters'"):
        plan_from_json({**value, "frames": frames})


@given(st.data())
def test_reachable_frames_are_monotone_and_near(data: st.DataObject) -> None:
    calibration = true_calibration(
        units_per_step={1: 1.0, 2: data.draw(st.floats(2, 9)), 3: data.draw(st.floats(10, 60))},
        jitter=data.draw(st.floats(0, 0.05)),
        coefficients=(data.draw(st.floats(-0.05, 0.0)), 0.0083, data.draw(st.floats(-2e-6, 5e-6))),
    )
    far, near = max(0.02, calibration.range_d[0]), calibration.range_d[1]
    stops = sorted(data.draw(st.lists(st.floats(far, near - 1e-6), min_size=1, max_size=12, unique=True)))
    assume(all(b - a > 1e-9 for a, b in pairwise(stops)))
    plan = make_plan("explicit", distances_m=[1 / s for s in stops], calibration=calibration, apertures=(2.8, 4.0))
    hit = reachable(plan, calibration)
    assert [f.index for f in hit.frames] == [f.index for f in plan.frames]
    assert all(b.diopters >= a.diopters for a, b in pairwise(hit.frames))
    assert all(b.uncertainty_d >= a.uncertainty_d - 1e-3 for a, b in pairwise(hit.frames))
    half_step = 0.5 * max(calibration.slope_at(0), calibration.slope_at(calibration.travel_units))
    slack = calibration.diopters_at(calibration.backlash_units) - calibration.diopters_at(0)
    for frame in hit.frames:
        assert abs(frame.diopters - frame.requested_d) <= half_step * 1.001 + slack
    pairs = [hit.frames[i].units for i in range(0, len(hit.frames), 2)]
    assert pairs == [hit.frames[i].units for i in range(1, len(hit.frames), 2)]  # both apertures at one place


def test_description_agrees_with_the_optics() -> None:
    plan = make_plan("grid", lens=LENS, near_m=0.5, far_m=4.0, count=5, apertures=(2.8, 5.6))
    summary = describe(plan)
    # 50 mm / 2.8 x 0.05 m = 0.893 mm per diopter on 19.74 um
    assert summary.px_per_diopter == pytest.approx(45.238, abs=1e-3)
    assert summary.far_end_blur_px == pytest.approx(45.238 * 1.75 / (1 - 0.05 * 2.0), rel=1e-4)
    assert summary.stops == 5
    assert len(summary.frames) == 11
    first = summary.frames[0]
    assert first.step_px == pytest.approx(45.238 * 0.4375 / (1 - 0.05 * 0.25), rel=1e-4)
    assert first.overlap is not None
    assert first.overlap < 0
    assert first.sharp_near_m < 4.0 < first.sharp_far_m
    assert summary.frames[-1].step_px is None
    assert json.loads(json.dumps(summary.to_json(), allow_nan=False))["stops"] == 5
    wider = describe(make_plan("overlap", lens=LENS, near_m=0.5, far_m=4.0, blur_limit_px=5.0), blur_limit_px=5.0)
    overlaps = [f.overlap for f in wider.frames if f.overlap is not None]
    assert min(overlaps) >= -1e-9


def test_duration_counts_moves_settling_exposures_and_transfer() -> None:
    from dualpix.capture.focus.plan import Timing

    plan = make_plan("diopter", near_m=0.5, far_m=4.0, count=5, exposure_s=0.5)
    quick = describe(plan, timing=Timing(0.0, 0.0, 0.0, 0.0)).duration_s
    assert quick == pytest.approx(2.5)
    assert describe(plan, timing=Timing(0.0, 1.0, 0.0, 2.0)).duration_s == pytest.approx(2.5 + 5 + 10)
    calibrated = describe(plan, true_calibration(), Timing(1.0, 0.0, 0.0, 0.0))
    assert calibrated.duration_s == pytest.approx(2.5 + calibrated.steps_taken + 12)


def test_notes_say_what_is_unusual() -> None:
    close = make_plan("diopter", lens=PlanOptics(100.0, 2.8), near_m=0.25, far_m=1.0, count=5)
    assert "uneven in blur" in " ".join(describe(close).notes)
    bracket = make_plan("camera-bracket", near_m=0.5, increment=5, shots=4)
    assert "estimated" in " ".join(describe(bracket).notes)
    fine = make_plan("explicit", distances_m=[1.0, 1 / 1.002])
    assert "coincide" in " ".join(describe(fine, true_calibration()).notes)
    plan = make_plan("explicit", distances_m=[0.5, 1.0])
    shaky = describe(plan, true_calibration(jitter=0.2))
    assert "is known to" in " ".join(shaky.notes)
    assert describe(plan, true_calibration()).notes == ()


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys, dualpix.capture.stack.focus_cli, dualpix.capture.focus.picture;"
        "sys.exit('torch' in sys.modules or 'matplotlib' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
