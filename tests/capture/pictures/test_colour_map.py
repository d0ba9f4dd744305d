"""Colour maps: what a colour means, what a scale covers, and that the picture is the map."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture.errors import OutputError
from dualpix.capture.pictures.colour_map import (
    INVALID_GREY,
    Panel,
    coloured,
    default_limits,
    depth_picture,
    depth_ticks,
    disparity_picture,
    figure,
    save_picture,
)

GREY = tuple(round(255 * c) for c in INVALID_GREY)


def test_red_is_in_front_blue_behind_and_focus_pale() -> None:
    front, focus, behind = coloured(Panel("", np.array([[-3.0, 0.0, 3.0]], np.float32), "diverging"))[0].astype(int)
    assert front[0] > front[2] + 50 and behind[2] > behind[0] + 50
    assert focus.min() > 235 and np.ptp(focus) < 10


def test_a_larger_disparity_is_never_paler() -> None:
    values = np.linspace(0, 5, 40, dtype=np.float32)[None]
    lightness = cv2.cvtColor(coloured(Panel("", values, "diverging", limits=(-5, 5))), cv2.COLOR_RGB2LAB)[0, :, 0]
    assert (np.diff(lightness.astype(int)) <= 1).all() and lightness[0] - lightness[-1] > 100


def test_depth_is_bright_near_even_in_diopters_and_infinity_is_the_far_end() -> None:
    depth = np.array([[0.5, 2 / 3, 1.0, 2.0, np.inf, np.nan, 1e9]], np.float32)
    colours = coloured(Panel("", depth, "depth", limits=(0.0, 2.0)))[0].astype(int)
    lightness = cv2.cvtColor(colours[None].astype(np.uint8), cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert all(a > b + 20 for a, b in itertools.pairwise(lightness[:5]))
    assert tuple(colours[4]) == tuple(colours[6]) and tuple(colours[5]) == GREY


def test_masked_and_nan_pixels_are_grey_and_do_not_set_the_scale() -> None:
    values = np.array([[1.0, -1.0, 900.0, np.nan]], np.float32)
    valid = np.array([[True, True, False, True]])
    assert default_limits(values, valid, "diverging") == pytest.approx((-1, 1), rel=0.02)
    colours = coloured(Panel("", values, "diverging", valid=valid))[0]
    assert tuple(colours[2]) == tuple(colours[3]) == GREY and tuple(colours[0]) != GREY


def test_limits_forget_outliers_and_survive_emptiness_and_constants() -> None:
    values = np.concatenate([np.linspace(-2, 1, 1000), [500.0]]).astype(np.float32)
    low, high = default_limits(values, None, "diverging")
    assert low == -high and high == pytest.approx(2, abs=0.05)
    empty = np.full((2, 2), np.nan, np.float32)
    for scale in ("diverging", "sequential", "depth"):
        low, high = default_limits(empty, None, scale)
        assert low < high
        low, high = default_limits(np.ones((2, 2), np.float32), None, scale)
        assert low < high


def test_the_map_itself_is_in_the_picture() -> None:
    values = np.zeros((120, 200), np.float32)
    values[:, 100:] = 4.0
    picture = disparity_picture(values, limits=(-4, 4))
    assert picture.dtype == np.uint8 and picture.shape[0] > 120 and picture.shape[1] > 200
    dark = coloured(Panel("", values, "diverging", limits=(-4, 4)))[0, -1]
    same = (picture == dark).all(axis=2)
    # the right half of the map, and the top of the scale bar
    assert 120 * 100 <= same.sum() < 120 * 100 + 400
    assert (picture < 80).all(axis=2).any(), "title and ticks are drawn"


def test_large_maps_are_reduced_and_panels_form_a_grid() -> None:
    values = np.zeros((600, 3000), np.float32)
    assert disparity_picture(values).shape[1] < 1100
    panel = Panel("p", np.zeros((50, 80, 3), np.uint8))
    row, grid = figure([panel] * 4), figure([panel] * 4, columns=2)
    assert row.shape[1] > 1.8 * grid.shape[1] and grid.shape[0] == 2 * row.shape[0]


@pytest.mark.parametrize("depths", [(0.3, np.inf), (1.02, 1.15), (5.0, 5.0), (1e-3, 1e4)])
def test_depth_pictures_of_any_range(depths: tuple[float, float]) -> None:
    diopters = np.linspace(1 / depths[0], max(1 / depths[1], 1e-30), 50)
    values = np.tile(1 / diopters, (30, 1)).astype(np.float32)
    assert depth_picture(values).shape[2] == 3


def test_saved_picture_reads_back(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    save_picture(tmp_path / "p.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "p.png"))[..., ::-1], picture)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_unwritable_place_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_picture(tmp_path / "taken", np.zeros((4, 4, 3), np.uint8))


@given(st.floats(0, 5), st.floats(0.01, 8))
def test_depth_ticks_are_inside_and_apart(low: float, span: float) -> None:
    ticks = depth_ticks(low, low + span)
    places = list(ticks)
    assert len(ticks) >= 3 and all(low <= place <= low + span for place in places)
    assert all(b - a >= span / 16.01 for a, b in itertools.pairwise(places))
    assert (ticks.get(0.0) == "∞") == (low == 0)
    assert all(float(text) == pytest.approx(1 / place, rel=5e-3) for place, text in ticks.items() if place > 0)


def test_colours_fade_to_grey_where_unsure() -> None:
    values = np.full((1, 4), 2.0, np.float32)
    sure = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    plain, faded = (coloured(Panel("", values, "diverging", limits=(-3, 3), confidence=c)) for c in (None, sure))
    grey = np.array(INVALID_GREY) * 255
    assert np.array_equal(faded[0, 2:], plain[0, 2:]) and np.allclose(faded[0, 0], grey, atol=1)
    assert np.allclose(faded[0, 1], (plain[0, 1] + grey) / 2, atol=1)


def test_unsure_values_do_not_stretch_the_scale() -> None:
    values = np.array([[1.0, -1.0, 50.0]], np.float32)
    sure = np.array([[0.9, 0.9, 0.1]], np.float32)
    apart = coloured(Panel("", values, "diverging", confidence=sure))
    assert np.array_equal(apart[0, :2], coloured(Panel("", values, "diverging", limits=(-1, 1)))[0, :2])
    # where nothing is sure, all values make the scale
    nothing = coloured(Panel("", values, "diverging", confidence=np.zeros_like(sure)))
    assert np.allclose(nothing, np.array(INVALID_GREY) * 255, atol=1)
    with pytest.raises(ValueError, match="confidence"):
        Panel("", values, "diverging", confidence=sure[:, :2])
