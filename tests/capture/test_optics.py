"""Thin-lens conversions: values worked out by hand, and every conversion against its inverse."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import LensModel

CANON = LensModel(focal_length_mm=50, f_number=4, focus_distance_m=1.0, pixel_pitch_um=46.875)
"""50 mm f/4 at 1 m; 36 mm over 768 px."""

lenses = st.builds(
    LensModel,
    focal_length_mm=st.floats(2, 200),
    f_number=st.floats(1, 22),
    focus_distance_m=st.one_of(st.floats(0.25, 1000), st.just(math.inf)),
    pixel_pitch_um=st.floats(0.7, 50),
    disparity_gain=st.floats(0.05, 0.424),
)


def test_circle_of_confusion_worked_by_hand() -> None:
    # A = 12.5 mm; c = 12.5 * 50 * (2000 - 1000) / (2000 * (1000 - 50)) mm
    assert optics.aperture_mm(CANON) == 12.5
    assert optics.circle_of_confusion_mm(2.0, CANON) == pytest.approx(12.5 * 50 * 1000 / (2000 * 950), rel=1e-12)
    assert optics.circle_of_confusion_mm(2.0, CANON) == pytest.approx(0.3289473684, rel=1e-9)
    assert optics.circle_of_confusion_px(2.0, CANON) == pytest.approx(0.3289473684 / 0.046875, rel=1e-9)


def test_ideal_canon_disparity_is_six_px_times_defocus() -> None:
    # d = a (1 - 1/z) with a = 0.4244 * 12.5 * 50 / 950 / 0.046875 = 5.957 px
    lens = replace(CANON, disparity_gain=optics.IDEAL_DISPARITY_GAIN)
    assert optics.disparity_at_infinity_px(lens) == pytest.approx(5.957, abs=5e-4)
    assert optics.disparity_px(4.0, lens) == pytest.approx(0.75 * 5.957, abs=5e-4)


def test_sign_is_positive_behind_the_focus_and_negative_before_it() -> None:
    assert optics.disparity_px(1.5, CANON) > 0
    assert optics.disparity_px(0.7, CANON) < 0
    assert optics.disparity_px(1.0, CANON) == 0


def test_ideal_gain_is_the_distance_of_half_disc_centroids() -> None:
    n = np.linspace(-0.5, 0.5, 2001)
    x, y = np.meshgrid(n, n)
    right = (x**2 + y**2 <= 0.25) & (x > 0)
    assert 2 * x[right].mean() == pytest.approx(optics.IDEAL_DISPARITY_GAIN, abs=1e-3)


@given(lenses, st.floats(0.1, 100))
def test_depth_inverts_disparity(lens: LensModel, depth: float) -> None:
    assert optics.depth_m(optics.disparity_px(depth, lens), lens) == pytest.approx(depth, rel=1e-6)
    assert optics.depth_from_circle_m(optics.circle_of_confusion_mm(depth, lens), lens) == pytest.approx(
        depth, rel=1e-6
    )


@given(lenses, st.floats(-30, 30))
def test_circle_inverts_to_disparity(lens: LensModel, disparity: float) -> None:
    circle = optics.circle_from_disparity_mm(disparity, lens)
    assert circle * 1000 / lens.pixel_pitch_um * lens.disparity_gain == pytest.approx(disparity, rel=1e-9, abs=1e-12)


@given(st.floats(1e-3, 1e3))
def test_diopters_invert(distance: float) -> None:
    assert optics.distance_m(optics.diopters(distance)) == pytest.approx(distance, rel=1e-12)


@given(lenses)
def test_disparity_beyond_infinity_is_infinitely_far(lens: LensModel) -> None:
    limit = optics.disparity_at_infinity_px(lens)
    assert optics.depth_m(limit + 0.1, lens) == math.inf
    assert optics.disparity_px(1e9, lens) <= limit + 1e-6


def test_focus_at_infinity_is_finite_math() -> None:
    lens = replace(CANON, focus_distance_m=math.inf)
    assert optics.disparity_at_infinity_px(lens) == 0
    assert optics.circle_of_confusion_mm(2.0, lens) == pytest.approx(-12.5 * 50 / 2000)


def test_arrays_and_tensors_give_what_scalars_give() -> None:
    depths = [0.4, 1.0, 3.0, math.inf]
    expected = [optics.disparity_px(d, CANON) for d in depths]
    as_array = optics.disparity_px(np.array(depths), CANON)
    as_tensor = optics.disparity_px(torch.tensor(depths, dtype=torch.float64), CANON)
    assert np.allclose(as_array, expected) and np.allclose(as_tensor.numpy(), expected)
    beyond = [*expected, expected[-1] + 2]
    for back in (optics.depth_m(np.array(beyond), CANON), optics.depth_m(torch.tensor(beyond), CANON).numpy()):
        assert np.allclose(back[:3], depths[:3], rtol=1e-5) and np.isinf(back[4]) and back[4] > 0


def test_gradient_passes_through_torch() -> None:
    disparity = torch.tensor([0.5, -1.0], requires_grad=True)
    optics.depth_m(disparity, CANON).sum().backward()
    assert disparity.grad is not None and torch.isfinite(disparity.grad).all() and (disparity.grad > 0).all()


def test_depth_of_field_worked_by_hand() -> None:
    # f = 50 mm, N = 4, c = 0.03 mm: H = 2500 / 0.12 + 50 = 20883.3 mm
    hyperfocal = optics.hyperfocal_m(50, 4, 0.03)
    assert hyperfocal == pytest.approx(20.88333, abs=1e-5)
    near, far = optics.depth_of_field_m(replace(CANON, focus_distance_m=hyperfocal), 0.0300001)
    assert far == math.inf and near == pytest.approx(hyperfocal / 2, rel=1e-3)
    near, far = optics.depth_of_field_m(CANON, 0.03)
    # s (H - f) / (H + s - 2 f) and s (H - f) / (H - s), s = 1 m
    assert near == pytest.approx(20.83333 / 21.78333, rel=1e-5) and far == pytest.approx(20.83333 / 19.88333, rel=1e-5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("f_number", 0.0, r"lens f_number is 0; expected 0\.5 to 256"),
        ("f_number", -4.0, "f_number is -4"),
        ("f_number", 1e9, r"f_number is 1e\+09"),
        ("f_number", math.inf, "f_number is inf"),
        ("focal_length_mm", 0.05, r"focal_length_mm is 0\.05; expected 0\.5 to 6000 mm"),
        ("focal_length_mm", 1e9, r"focal_length_mm is 1e\+09"),
        ("pixel_pitch_um", math.nan, "pixel_pitch_um is nan"),
        ("pixel_pitch_um", 1e-6, "pixel_pitch_um is 1e-06"),
        ("pixel_pitch_um", 1e7, r"pixel_pitch_um is 1e\+07"),
        ("disparity_gain", 1e-300, "disparity_gain is 1e-300; expected 0.0001 to 1"),
        ("disparity_gain", -0.2, r"disparity_gain is -0\.2"),
        ("disparity_gain", 21.0, "disparity_gain is 21"),
        ("focus_distance_m", 0.04, "focal length"),
        ("focus_distance_m", 0.0, "focus_distance_m is 0"),
        ("focus_distance_m", math.nan, "focus_distance_m is nan"),
        ("focus_distance_m", -math.inf, "focus_distance_m is -inf"),
    ],
)
def test_impossible_lenses_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(DualpixError, match=message) as caught:
        optics.check_lens(replace(CANON, **{field: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lens",
    [
        LensModel(4.38, 1.73, 0.2, 1.4, 0.21),  # a phone, sensor pixels
        LensModel(1.2, 2.8, 0.005, 0.5, 0.424),  # an endoscope's module
        LensModel(5200, 14, math.inf, 8.0),  # the longest photographic lens
        LensModel(300, 64, 2.0, 20.0, 0.004),  # view camera stopped down
        LensModel(50, 0.95, 1.0, 36_000 / 32),  # a thumbnail of 32 px
        LensModel(65, 16, 0.078, 4.3),  # five times life size
    ],
)
def test_unusual_lenses_are_taken(lens: LensModel) -> None:
    assert optics.check_lens(lens) is lens


def test_disparity_per_diopter_is_the_slope_of_the_disparity() -> None:
    near, far = (float(optics.disparity_px(1 / d, CANON)) for d in (2.0, 1.5))
    assert optics.disparity_px_per_diopter(CANON) == pytest.approx((far - near) / 0.5)


def test_import_brings_no_torch() -> None:
    code = "import sys, dualpix.capture.optics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
