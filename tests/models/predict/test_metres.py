"""Metres only where they mean something: the error of the disparity through the lens, and lenses that give none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.pairs import SIZE_HW

from dualpix.capture import optics
from dualpix.capture.types import LensModel
from dualpix.models.confidence.evidence import Tolerance
from dualpix.models.predict.disparity import metric_depth
from dualpix.models.predict.metres import MetricDepth, measured_depth
from dualpix.models.predict.working import DisparityMap, Judgement

CANON = LensModel(50, 4, 1.0, 46.875, 0.0613)
PHONE = LensModel(4.38, 1.73, 1.0, 2.8, 0.21)


def seen(
    depth_m: float, lens: LensModel, error_px: float = 0.05, confidence: float = 0.9, bias_px: float = 0.0
) -> DisparityMap:
    """A wall."""
    disparity = np.full(SIZE_HW, float(optics.disparity_px(depth_m, lens)) + bias_px, np.float32)
    even = [np.full(SIZE_HW, value, np.float32) for value in (confidence, error_px)]
    judgement = Judgement(even[0], even[1], Tolerance(), 15.0, 0.0, "test", ())
    return DisparityMap(disparity, None, "test", (SIZE_HW,), (1.0,), judgement)


def measured(found: DisparityMap, lens: LensModel, relative: np.ndarray | None = None) -> MetricDepth:
    return measured_depth(found, metric_depth(found.disparity_px, lens, relative), lens, relative)


@pytest.mark.parametrize("lens", [CANON, PHONE])
@pytest.mark.parametrize("depth_m", [0.7, 1.0, 2.0])
def test_a_sure_disparity_gives_its_depth_and_the_error_in_diopters(lens: LensModel, depth_m: float) -> None:
    found = measured(seen(depth_m, lens, error_px=0.02), lens)
    assert found.measured_fraction == 1 and found.findings == ()
    assert np.allclose(found.depth_m, depth_m, rtol=1e-3)
    # what an error of 0.02 px does to 1 / depth, by the optics alone
    moved_px = float(optics.disparity_px(depth_m, lens)) + 0.02
    assert np.allclose(found.uncertainty_d, abs(1 / depth_m - float(optics.diopters_from_disparity(moved_px, lens))))


def test_what_is_not_measured_has_no_metres() -> None:
    found = measured(seen(1.0, CANON, confidence=0.4), CANON)
    assert found.measured_fraction == 0 and np.isnan(found.depth_m).all() and np.isnan(found.uncertainty_d).all()
    assert found.findings == (), "that nothing is measured is said of the disparity"


@pytest.mark.parametrize("f_number", [16.0, 64.0])
def test_a_stopped_down_phone_gives_no_metres(f_number: float) -> None:
    """At f/64 one diopter is 0.02 px: 0.05 px are 2 diopters, 0.3 m ... infinity from 1 m."""
    lens = replace(PHONE, f_number=f_number)
    found = measured(seen(1.0, lens), lens)
    (finding,) = found.findings
    assert found.measured_fraction == 0 and finding.code == "metres_unsure"
    slope = optics.disparity_px_per_diopter(lens)
    assert f"gives {slope:.2g} px of disparity per diopter" in finding.text
    assert f"only to {0.05 / slope:.2g} diopters at f/{f_number:g}" in finding.text


def test_a_finer_disparity_gives_a_stopped_down_phone_its_metres() -> None:
    lens = replace(PHONE, f_number=16.0)
    assert measured(seen(1.0, lens, error_px=0.01), lens).measured_fraction == 1


def test_infinity_stays_a_depth() -> None:
    found = measured(seen(np.inf, CANON, bias_px=0.02), CANON)
    assert np.isinf(found.depth_m).all() and found.findings == ()
    far = replace(CANON, focus_distance_m=np.inf)
    found = measured(seen(np.inf, far), far)
    assert np.isinf(found.depth_m).all() and found.measured_fraction == 1


@pytest.mark.parametrize("lens", [replace(CANON, disparity_gain=1e-4), replace(CANON, focus_distance_m=3.0)])
def test_a_lens_that_does_not_fit_is_doubted(lens: LensModel) -> None:
    """Disparities of the Canon's own lens, read with a gain of a 600th and with a focus three times as far."""
    wall = seen(12.0, CANON, error_px=1e-4)
    found = measured(wall, lens)
    assert [f.code for f in found.findings] == ["lens_misfit"] and "100% of what was measured" in found.findings[0].text


def test_nothing_is_nearer_than_the_focal_length() -> None:
    lens = replace(CANON, disparity_gain=1e-4)
    found = measured(seen(0.5, CANON, error_px=1e-5), lens)
    assert found.measured_fraction == 0 and [f.code for f in found.findings] == ["lens_misfit"]


def test_the_gain_over_the_field_scales_the_error_too() -> None:
    relative = np.linspace(0.5, 1.5, 8, dtype=np.float32)[None].repeat(4, 0)
    found = measured(seen(1.0, CANON), CANON, relative)
    assert found.uncertainty_d[96, 8] == pytest.approx(3 * found.uncertainty_d[96, -8], rel=0.1)
