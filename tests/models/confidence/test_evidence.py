"""Evidence against what theory and simulation say: the bound of noise, what is left over, what counts as none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.pairs import NOTHING, SIZE_HW, capture_of_halves, moved, noise, shifted, texture

from dualpix.models.confidence.evidence import CELL_PX, TERMS, Evidence, Tolerance, gather_evidence


def of(left: np.ndarray, right: np.ndarray, disparity_px: float = 0.0, **options: object) -> Evidence:
    flat = np.full(left.shape, disparity_px, np.float32)
    return gather_evidence(left, right, flat, **options)  # type: ignore[arg-type]


def inner(values: np.ndarray) -> np.ndarray:
    """Without the cells whose windows reach over the border."""
    return values[5:-5, 5:-5]


@pytest.mark.parametrize("sigma", [0.004, 0.02])
def test_noise_is_what_the_left_over_disparity_scatters_by(sigma: float) -> None:
    """The bound against 40 draws of noise: one step of Lucas and Kanade reaches it."""
    view = texture(0)
    drawn = [
        of(view + noise(2 * k, sigma=sigma), view + noise(2 * k + 1, sigma=sigma), reference="left") for k in range(40)
    ]
    scatter = np.sqrt(np.mean([inner(e.misfit_px) ** 2 for e in drawn], axis=0))
    bound = np.mean([inner(e.noise_px) for e in drawn], axis=0)
    assert np.median(scatter / bound) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("wrong_by_px", [-0.4, -0.1, 0.1, 0.4])
def test_misfit_is_what_a_map_is_wrong_by(wrong_by_px: float) -> None:
    image = shifted(1.5)
    found = of(image.left, image.right, 1.5 + wrong_by_px)
    assert np.median(inner(found.misfit_px)) == pytest.approx(abs(wrong_by_px), rel=0.2)
    assert np.median(inner(of(image.left, image.right, 1.5).misfit_px)) < 0.02


@pytest.mark.parametrize("dy_px", [-0.3, 0.2])
def test_what_differs_across_the_baseline_is_told_apart(dy_px: float) -> None:
    image = shifted(0.0, dy_px)
    found = of(image.left, image.right)
    # somewhat less where there is more texture along the baseline
    assert 0.6 * abs(dy_px) < np.median(inner(found.across_px)) < 1.1 * abs(dy_px)
    assert np.median(inner(found.misfit_px)) < 0.05
    turned = of(image.left.T.copy(), image.right.T.copy())
    assert np.median(inner(turned.misfit_px)) == pytest.approx(abs(dy_px), rel=0.2)
    terms = [np.median(e.terms(Tolerance())["misfit"]) for e in (found, turned)]
    assert 0.6 * terms[1] < terms[0] < 1.1 * terms[1]


def test_a_map_of_the_left_view_is_compared_there() -> None:
    """A ramp of disparity over the left view's columns: as a map of the centre it is wrong."""
    view, x = texture(0), np.arange(SIZE_HW[1], dtype=np.float32)
    ramp = np.broadcast_to(0.03 * x, SIZE_HW).astype(np.float32)
    sources = np.broadcast_to(x / 1.03, SIZE_HW).astype(np.float32)  # x_right = 1.03 x_left
    right = np.stack([np.interp(sources[row], x, view[row]) for row in range(SIZE_HW[0])]).astype(np.float32)
    right_place = gather_evidence(view, right, ramp, reference="left").misfit_px
    wrong_place = gather_evidence(view, right, ramp, reference="centre").misfit_px
    assert np.median(inner(right_place)) < 0.01 < 0.03 < np.median(inner(wrong_place)[:, -20:])


def test_shading_that_is_left_over_is_no_misfit() -> None:
    image = shifted(0.0)
    shading = np.linspace(0.96, 1.04, SIZE_HW[1], dtype=np.float32)
    assert np.median(inner(of(image.left, image.right * shading).misfit_px)) < 0.02


@pytest.mark.parametrize(
    "name", ["grey card", "noisy grey card", "white noise", "vignetted grey card", "black", "white"]
)
def test_what_shows_nothing_is_no_evidence(name: str) -> None:
    image = NOTHING[name][0]()
    found = of(image.left, image.right)
    assert np.mean(found.noise_px < 0.3) < 0.02 and np.median(found.support) < 0.02


def test_support_falls_with_the_distance_to_texture() -> None:
    left, right = (np.full(SIZE_HW, 0.4, np.float32) + noise(k) for k in (1, 2))
    for view in (left, right):
        view[:, :64] = texture(0)[:, :64] + noise(3 if view is left else 4)[:, :64]
    support = np.median(of(left, right).support, axis=0)
    assert support[4] > 0.6 and np.all(np.diff(support[16:56]) < 1e-4) and support[55] < 0.01


def test_clipped_pixels_are_no_evidence() -> None:
    image = shifted(0.5)
    clipped = np.zeros(SIZE_HW, bool)
    clipped[:, 96:160] = True
    found = of(image.left, image.right, 0.5, clipped=clipped)
    inside, outside = found.noise_px[:, 28:36], found.noise_px[:, :18]
    assert inside.min() > 1 and outside.max() < 0.2


def test_spread_and_roughness_are_those_of_the_maps() -> None:
    image = shifted(0.0)
    ramp = np.broadcast_to(0.05 * np.arange(SIZE_HW[1], dtype=np.float32), SIZE_HW)
    found = gather_evidence(
        image.left, image.right, np.ascontiguousarray(ramp), spread_px=np.full(SIZE_HW, 0.3, np.float32)
    )
    assert found.spread_px is not None and np.allclose(found.spread_px, 0.3)
    assert np.allclose(inner(found.roughness), 0.05, rtol=1e-3)
    assert set(found.terms(Tolerance())) == set(TERMS) - {"learned"}
    assert "spread_px" not in of(image.left, image.right).terms(Tolerance())


@settings(deadline=None, max_examples=25)
@given(st.integers(16, 70), st.integers(16, 70), st.floats(-40, 40, width=32), st.sampled_from(["centre", "left"]))
def test_any_size_and_map_gives_finite_evidence(height: int, width: int, disparity_px: float, reference: str) -> None:
    left, right = np.random.default_rng(0).random((2, height, width), np.float32)
    found = of(left, right, disparity_px, reference=reference)
    for name, values in found.terms(Tolerance()).items():
        assert values.shape == (-(-height // CELL_PX), -(-width // CELL_PX)) and np.isfinite(values).all(), name


def test_a_gain_of_light_changes_nothing() -> None:
    image = shifted(0.7)
    bright, dim = (of(image.left * k, image.right * k, 0.7) for k in (1.0, 1e-3))
    assert np.allclose(bright.noise_px, dim.noise_px, rtol=1e-3) and np.allclose(
        bright.misfit_px, dim.misfit_px, atol=1e-4
    )


@pytest.mark.parametrize("disparity_px", [0.2, 0.5, 1.3, -2.7])
def test_a_map_that_is_right_has_no_misfit_between_pixels_either(disparity_px: float) -> None:
    """OpenCV's cubic would leave 0.08 px at these."""
    image = shifted(disparity_px)
    for reference in ("centre", "left"):
        assert np.median(inner(of(image.left, image.right, disparity_px, reference=reference).misfit_px)) < 0.015


def test_moved_is_what_it_says() -> None:
    x = np.broadcast_to(np.arange(SIZE_HW[1], dtype=np.float32), SIZE_HW)
    for dx_px in (2.0, 0.15, -0.6):
        assert np.allclose(moved(x, dx_px)[:, 20:-20], x[:, 20:-20] - dx_px, atol=2e-3)
    assert capture_of_halves(x, x).size_hw == SIZE_HW
