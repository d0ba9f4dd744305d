"""Matching, semi-global and of blocks: sign, sub-pixel size, what happens to pixels without a match."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dualpix.capture.stereo import SgbmSettings, ZnccSettings, match_sgbm, match_zncc


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.random((height, width), np.float32), (0, 0), 1.5) * 2


def shifted(image: np.ndarray, dx: float) -> np.ndarray:
    """The picture with its content moved by +dx along x."""
    move = np.array([[1, 0, dx], [0, 1, 0]], np.float32)
    return cv2.warpAffine(image, move, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("dx", [-6.0, -1.5, 0.0, 2.25, 9.0])
def test_disparity_is_right_minus_left(dx: float) -> None:
    left = texture(80, 160)
    disparity, measured = match_sgbm(left, shifted(left, dx))
    inside = disparity[10:-10, 32:-32]
    # sub-pixel steps of semi-global matching lean towards whole pixels
    assert np.median(inside) == pytest.approx(dx, abs=0.26)
    assert measured[10:-10, 32:-32].mean() > 0.95


def test_unmatched_borders_are_filled_from_their_row_and_said_so() -> None:
    left = texture(60, 120)
    disparity, measured = match_sgbm(left, shifted(left, 3.0))
    assert not measured[:, :16].any() and not measured[:, -15:].any()
    assert np.isfinite(disparity).all() and np.median(disparity[:, :8]) == pytest.approx(3.0, abs=0.25)
    row = 30
    first = int(np.flatnonzero(measured[row])[0])
    assert (disparity[row, :first] == disparity[row, first]).all()


def test_exposure_and_values_above_white_do_not_matter() -> None:
    left = texture(60, 120)
    right = shifted(left, 4.0)
    base, _ = match_sgbm(left, right)
    brighter, _ = match_sgbm(left * 16, right * 16)
    assert np.array_equal(base, brighter)


def test_a_view_narrower_than_the_search_is_matched_and_a_blank_one_is_in_focus() -> None:
    left = texture(40, 24)
    disparity, _ = match_sgbm(left, left)
    assert disparity.shape == (40, 24) and np.abs(disparity).max() <= 16
    blank, _ = match_sgbm(np.zeros((40, 64), np.float32), np.zeros((40, 64), np.float32))
    assert np.abs(blank).max() <= 16 and not np.signbit(blank[blank == 0]).any()


def test_reach_limits_the_search() -> None:
    left = texture(60, 160)
    near, _ = match_sgbm(left, shifted(left, 12.0), SgbmSettings(reach_px=8))
    assert np.abs(near).max() <= 8


@pytest.mark.parametrize("dx", [-6.0, -1.5, -0.3, 0.0, 0.4, 2.25, 9.0])
def test_blocks_tell_fractions_of_a_pixel(dx: float) -> None:
    left = texture(80, 160)
    disparity, measured = match_zncc(left, shifted(left, dx))
    inside = disparity[10:-10, 32:-32]
    assert np.median(inside) == pytest.approx(dx, abs=0.06) and np.abs(inside - dx).max() < 0.35
    assert measured[10:-10, 32:-32].all()


def test_the_score_of_blocks_is_the_formula() -> None:
    left, right = texture(40, 60, 1), texture(40, 60, 2)
    settings = ZnccSettings(block_px=5, reach_px=4)
    disparity, measured = match_zncc(left, right, settings)
    for y, x in ((8, 20), (20, 30), (31, 41)):

        def block(view: np.ndarray, dx: int, y: int = y, x: int = x) -> np.ndarray:
            return view[y - 2 : y + 3, x + dx - 2 : x + dx + 3].astype(np.float64).ravel()

        scores = [float(np.corrcoef(block(left, 0), block(right, d))[0, 1]) for d in range(-4, 5)]
        best = int(np.argmax(scores))
        assert measured[y, x] == (0 < best < 8)
        if measured[y, x]:
            a, b, c = scores[best - 1 : best + 2]
            assert disparity[y, x] == pytest.approx(best - 4 + 0.5 * (a - c) / (a - 2 * b + c), abs=1e-5)


def test_blocks_see_no_brightness_and_no_contrast() -> None:
    left = texture(60, 120)
    right = shifted(left, 4.0)
    base, _ = match_zncc(left, right)
    other, _ = match_zncc(left, 0.4 * right + 0.3)
    assert np.abs(base - other).max() < 1e-3


def test_blocks_without_texture_or_match_are_filled() -> None:
    flat = np.full((30, 64), 0.4, np.float32)
    disparity, measured = match_zncc(flat, flat)
    assert not measured.any() and not disparity.any()
    left = texture(60, 160)
    _, measured = match_zncc(left, shifted(left, 6.0), ZnccSettings(reach_px=6))
    assert not measured[10:-10, 32:-32].any()  # the largest value is at the end: it may lie beyond
    narrow, _ = match_zncc(left[:, :12], left[:, :12])
    assert narrow.shape == (60, 12) and np.abs(narrow).max() <= 16.5
