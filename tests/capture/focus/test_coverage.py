"""How many stops close the gaps of a bracket, and what its f/16 frame really holds, against the optics alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dualpix.capture.cli import main
from dualpix.capture.focus.coverage import coverage_notes
from dualpix.capture.focus.plan import PlanOptics, PlanSummary, describe, make_plan

LENS = PlanOptics(50.0, 2.8, 36.0, 1824)


def notes(summary: PlanSummary) -> list[str]:
    return coverage_notes(summary.mode, summary.stops, summary.coverage, summary.all_in_focus, summary.blur_limit_px)


def overlaps(plan: Any, limit: float) -> list[float]:
    return [frame.overlap for frame in describe(plan, blur_limit_px=limit).frames if frame.overlap is not None]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["diopter", "coc"]), st.floats(0.15, 2.0), st.floats(1.2, 50), st.floats(0.8, 6.0),
    st.floats(1.4, 11), st.sampled_from([24.0, 50.0, 100.0]),
)  # fmt: skip
def test_as_many_stops_as_it_says_close_the_gaps_and_no_fewer(
    mode: str, near: float, ratio: float, limit: float, f_number: float, focal_mm: float
) -> None:
    assume(near > 1.3 * focal_mm / 1000)
    lens = PlanOptics(focal_mm, f_number, 36.0, 1824)

    def plan(count: int) -> Any:
        return make_plan(mode, lens=lens, near_m=near, far_m=near * ratio, count=count)

    found = describe(plan(2), blur_limit_px=limit).coverage[0]
    assume(found.closing_stops <= 150)
    closed = describe(plan(found.closing_stops), blur_limit_px=limit)
    assert closed.coverage[0].gaps == 0 and closed.coverage[0].sharp_share == pytest.approx(1.0)
    assert min(overlaps(plan(found.closing_stops), limit)) > -1e-6
    assert closed.coverage[0].closing_stops == found.closing_stops
    assert not notes(closed)
    if found.closing_stops > 2:
        fewer = describe(plan(found.closing_stops - 1), blur_limit_px=limit).coverage[0]
        assert fewer.gaps > 0 and fewer.sharp_share < 1


def test_the_share_that_is_sharp_somewhere() -> None:
    """By trying every depth against every frame."""
    plan = make_plan("diopter", lens=LENS, near_m=0.5, far_m=4, count=9, apertures=(2.8, 5.6))
    depths = np.linspace(0.25, 2.0, 20001)
    for found in describe(plan).coverage:
        blurs = np.array([LENS.blurs_px(stop, depths, found.f_number) for stop in plan.stops_d])
        assert found.sharp_share == pytest.approx(float(np.mean(blurs.min(axis=0) <= 2.0)), abs=2e-3)
        assert found.gaps == 8


def test_the_small_aperture_holds_what_it_says() -> None:
    plan = make_plan("diopter", lens=LENS, near_m=0.5, far_m=4, count=9, all_in_focus=True)
    summary = describe(plan)
    small = summary.all_in_focus
    assert small is not None and (small.f_number, f"{small.sharp_near_m:.3f}") == (16, "0.733")
    stop = next(frame.diopters for frame in plan.frames if frame.role == "all_in_focus")
    depths = np.linspace(0.25, 2.0, 20001)
    assert small.sharp_share == pytest.approx(float(np.mean(LENS.blurs_px(stop, depths, 16.0) <= 2.0)), abs=2e-3)
    assert LENS.blurs_px(stop, np.array([0.25, 2.0]), small.needed_f_number).max() == pytest.approx(2.0)
    # Airy: 2.44 * 0.55 um * 16 / (1 - 0.05 * stop) on pixels of 36 mm / 1824
    assert small.diffraction_px == pytest.approx(2.44 * 0.55e-3 * 16 / (1 - 0.05 * stop) / (36 / 1824))
    assert any("the f/16 frame is sharp to 2 px from 0.733 m to 1.13 m, 27% of the range" in n for n in notes(summary))


def test_one_that_holds_all_says_so() -> None:
    plan = make_plan("diopter", lens=LENS, near_m=1.0, far_m=1.2, count=3, all_in_focus=True)
    summary = describe(plan)
    assert summary.all_in_focus is not None and summary.all_in_focus.sharp_share == 1
    assert summary.all_in_focus.needed_f_number == 16
    assert any("all of the range; diffraction adds" in note for note in notes(summary))


def test_infinity_is_named() -> None:
    summary = describe(make_plan("coc", lens=LENS, near_m=3.0, far_m=math.inf, count=4, all_in_focus=32))
    assert any(" m to infinity, all of the range" in note for note in notes(summary))


def test_one_stop_and_blur_that_no_lens_has() -> None:
    lone = describe(make_plan("explicit", lens=LENS, distances_m=[1.0]))
    assert (lone.coverage[0].gaps, lone.coverage[0].sharp_share, lone.coverage[0].closing_stops) == (0, 1.0, 1)
    blind = describe(make_plan("diopter", lens=LENS, near_m=0.5, far_m=4, count=3), blur_limit_px=1e6)
    assert blind.coverage[0].gaps == 0 and blind.coverage[0].closing_stops == 2


def test_the_command_says_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["capture", "plan", "--near", "0.5", "--far", "4", "--count", "9", "--all-in-focus"])
    out = capsys.readouterr().out
    assert "note: gaps at f/2.8: 38% of the range is sharp to 2 px in some frame; 23 stops instead of 9" in out
    assert "(all of it: f/59); diffraction adds 1.2 px" in out
