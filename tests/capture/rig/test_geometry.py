"""Geometry of a rig, and the calibration that finds it, against rigs of which every number is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.calibrate.board import Board
from dualpix.capture.rig.calibrate.calibration import CoverageError, Sighting, calibrate
from dualpix.capture.rig.calibrate.coverage import coverage_of
from dualpix.capture.rig.calibrate.solve import BoardPair, solve
from dualpix.capture.rig.calibrate.store import read_rig, rig_of, write_rig
from dualpix.capture.rig.calibrate.sync import skew_of
from dualpix.capture.rig.geometry import RigGeometry, rotation_deg
from dualpix.capture.rig.labels.label import calibration_sigma
from dualpix.capture.rig.labels.rectify import rectification
from dualpix.capture.rig.plan import RigPlan
from dualpix.capture.rig.simulate.rig import SimulatedRig

BOARD = Board("charuco", (9, 6), 0.025)
SIZE = (480, 640)


def sighting(pairs: list[BoardPair]) -> Sighting:
    return Sighting(BOARD, tuple(pairs), (SIZE, SIZE), (None, None), "x")


@given(seed=st.integers(0, 10_000), mount=st.sampled_from([0, 180]), along=st.sampled_from(["x", "y"]))
@settings(max_examples=25, deadline=None)
def test_points_come_back_from_both_pictures(seed: int, mount: int, along: str) -> None:
    g = SimulatedRig.from_seed(seed, SIZE, mount_deg=mount, along=along).geometry
    rng = np.random.default_rng(seed)
    points = rng.uniform([-0.3, -0.2, 0.6], [0.3, 0.2, 4.0], (50, 3))
    seen = g.a.project(points), g.b.project(g.to_b(points))
    assert np.allclose(g.triangulate(*seen), points[:, 2], rtol=1e-7)
    assert g.mount_deg == mount
    assert np.allclose(RigGeometry.of(SIZE, SIZE, g.parameters).parameters, g.parameters)
    # rows meet, and disparity is f B / depth with a on the left, however the phones are held
    frame = rectification(g)
    a, b = frame.of_pixels(seen[0], "a"), frame.of_pixels(seen[1], "b")
    depth = points @ frame.turn[2]
    assert np.allclose(a[:, 1], b[:, 1], atol=1e-6)
    assert np.allclose(a[:, 0] - b[:, 0], frame.disparity_per_diopter_px / depth, rtol=1e-7)


def test_the_map_back_lies_on_the_views_own_pixels() -> None:
    """A view of half the pixels sees the same field: its pixel centres lie between those of the picture."""
    g = SimulatedRig.from_seed(4, SIZE).geometry
    frame = rectification(g)
    whole, _ = frame.of_view(SIZE)
    half, _ = frame.of_view((240, 320))
    between = whole.reshape(240, 2, 320, 2, 2).mean(axis=(1, 3))
    assert np.abs(half - between).max() < 0.01
    # and the map is the inverse of what rectified pictures were made by
    y, x = 200, 300
    there = frame.map_a[y, x].astype(float)
    assert np.allclose(frame.of_pixels(there[None], "a")[0], (x, y), atol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_pose_is_found_and_as_sure_as_stated(seed: int) -> None:
    rig = SimulatedRig.from_seed(seed, SIZE, mount_deg=180 * (seed % 2))
    found = calibrate(sighting(rig.board_corners(BOARD, 30, seed)))
    truth = rig.geometry
    assert rotation_deg(found.geometry.rotation @ truth.rotation.T) < 0.05
    assert abs(found.geometry.baseline_m / truth.baseline_m - 1) < 0.002
    free = found.sigmas > 0
    pulls = ((found.geometry.parameters - truth.parameters)[free]) / found.sigmas[free]
    assert np.abs(pulls).max() < 4.5 and np.sqrt(np.mean(pulls**2)) < 2
    assert found.rms_px == pytest.approx(0.05, rel=0.15)


def test_stated_errors_are_those_of_many_calibrations() -> None:
    """Inverse depth through sixteen calibrations of one rig scatters as the covariance of one says."""
    rig = SimulatedRig.from_seed(21, SIZE)
    pixels = np.array([[100.0, 80.0], [320.0, 240.0], [560.0, 400.0]])
    points = rig.geometry.a.rays(pixels) / 0.7
    seen = rig.geometry.b.project(rig.geometry.to_b(points))
    found = [solve(BOARD, rig.board_corners(BOARD, 20, seed), SIZE, SIZE) for seed in range(16)]
    errors = np.array([1 / one.geometry.triangulate(pixels, seen) - 0.7 for one in found])
    stated = []
    for one in found:
        sigma = calibration_sigma(one.geometry, one.covariance, np.full(SIZE, 0.7, np.float32))
        stated.append([sigma[int(y), int(x)] for x, y in pixels])
    pulls = errors / np.array(stated)
    assert 0.6 < np.sqrt(np.mean(pulls**2)) < 1.5


def test_boards_in_one_place_are_refused_with_a_picture() -> None:
    rig = SimulatedRig.from_seed(2, SIZE)
    pairs = [p for p in rig.board_corners(BOARD, 60, 2) if p.a.pixels[:, 0].max() < 420]
    with pytest.raises(
        CoverageError, match=r"boards reach \d+ of 16 parts of camera a's picture \(not: .*right"
    ) as caught:
        calibrate(sighting(pairs))
    assert caught.value.picture.shape[2] == 3
    red = np.all(caught.value.picture == (178, 24, 43), axis=2)
    width = caught.value.picture.shape[1] // 2
    assert red[:, width // 2 : width].sum() > red[:, : width // 2].sum()  # the right of camera a is where to hold it


def test_a_rig_that_moved_between_two_pictures_is_refused() -> None:
    rig = SimulatedRig.from_seed(3, SIZE)
    before, after = rig.board_corners(BOARD, 30, 3), rig.moved(0.5).board_corners(BOARD, 30, 3)
    with pytest.raises(DualpixError, match=r"turned against each other by 0\.[3-7]\d degrees between 'board1[2-7]'"):
        calibrate(sighting([*before[:15], *after[15:]]))


def test_a_pair_that_was_not_taken_at_one_moment_is_named() -> None:
    rig = SimulatedRig.from_seed(5, SIZE)
    pairs, other = rig.board_corners(BOARD, 30, 5), rig.board_corners(BOARD, 30, 6)
    late = next(o for o in other if o.name == "board07")
    pairs = [BoardPair(p.name, p.a, late.b) if p.name == "board07" else p for p in pairs]
    with pytest.raises(DualpixError, match="pair 'board07' fits the others to"):
        calibrate(sighting(pairs))


@pytest.mark.parametrize(("square_m", "every"), [(0.030, 2), (0.026, 2), (0.030, 10)])
def test_boards_of_two_sizes_are_refused(square_m: float, every: int) -> None:
    """They look the same but for their distance: no picture alone tells."""
    rig = SimulatedRig.from_seed(4, SIZE)
    pairs = rig.board_corners(BOARD, 30, 4)
    others = rig.board_corners(Board("charuco", (9, 6), square_m), 30, 54)
    mixed = [
        other if index % every == 1 else pair for index, (pair, other) in enumerate(zip(pairs, others, strict=True))
    ]
    with pytest.raises(DualpixError, match=r"more than one size|fits the others to"):
        calibrate(sighting(mixed))


def test_skew_of_a_moving_board() -> None:
    """The board turns and slides; b sees it 12 ms later than a."""
    import cv2

    from dualpix.capture.rig.calibrate.board import Found

    rig = SimulatedRig.from_seed(8, SIZE)
    g, rng = rig.geometry, np.random.default_rng(8)

    def place(t: float) -> np.ndarray:
        turn, _ = cv2.Rodrigues(np.array([0.2 + 0.5 * t, -0.1 + 0.8 * t, 0.1]))
        return BOARD.points @ turn.T + np.array([-0.12 + 0.3 * t, -0.06 + 0.05 * t, 0.45])

    ids = np.arange(BOARD.corners)
    pairs = []
    for index in range(8):
        t = 0.05 * index
        a = g.a.project(place(t)) + rng.normal(0, 0.05, (ids.size, 2))
        b = g.b.project(g.to_b(place(t + 0.012))) + rng.normal(0, 0.05, (ids.size, 2))
        pairs.append(BoardPair(f"p{index}", Found(ids, a), Found(ids, b)))
    skew = skew_of(BOARD, pairs, g, 0.05)
    assert abs(skew.seconds - 0.012) < max(skew.uncertainty_s, 3e-4) and skew.uncertainty_s < 3e-3
    with pytest.raises(DualpixError, match="the board moves by"):
        skew_of(BOARD, [pairs[0]] * 5, g, 0.05)


def test_a_rig_is_read_as_it_was_written(tmp_path: Path) -> None:
    rig = SimulatedRig.from_seed(6, SIZE)
    seen = sighting(rig.board_corners(BOARD, 30, 6))
    kept = rig_of(seen, calibrate(seen))
    write_rig(tmp_path / "rig.json", kept)
    again = read_rig(tmp_path / "rig.json")
    assert np.allclose(again.geometry.parameters, kept.geometry.parameters, rtol=0, atol=1e-12)
    assert np.array_equal(again.covariance, kept.covariance)
    text = (tmp_path / "rig.json").read_text()
    for broken in (text.replace('"format": 1', '"format": 7'), text.replace('"fx"', '"gx"'), "[]", text[:200]):
        (tmp_path / "broken.json").write_text(broken)
        with pytest.raises(DualpixError, match="rig"):
            read_rig(tmp_path / "broken.json")


def test_plan_has_one_error_of_inverse_depth() -> None:
    plan = RigPlan(500.0, 640, 0.025, 0.3, 4.0, 0.15)
    assert plan.inverse_depth_sigma == pytest.approx(0.15 / 12.5)
    assert float(plan.depth_sigma_m(np.array(2.0))) == pytest.approx(0.012 * 4)
    assert plan.disparity_px(0.5) == pytest.approx(25)
    with pytest.raises(DualpixError, match="px apart"):
        RigPlan(500.0, 640, 0.5, 0.3, 4.0)


def test_coverage_names_what_is_missing() -> None:
    rig = SimulatedRig.from_seed(7, SIZE)
    pairs = [p for p in rig.board_corners(BOARD, 30, 7) if p.a.pixels[:, 1].max() < 300]
    assert any(name.startswith("bottom") for name in coverage_of("a", SIZE, pairs).missing)
