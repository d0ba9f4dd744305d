"""What is wrong with a pair as a whole is said, and said of no pair that is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.pairs import NOTHING, SIZE_HW, capture_of_halves, moved, noise, shifted, texture

from dualpix.capture.types import DualPixelImage
from dualpix.models.confidence.halves import Pair, examine, why_nothing

REACH_PX = 15.0


def look(image: DualPixelImage, reach_px: float = REACH_PX) -> Pair:
    return examine(image.left, image.right, image.saturated, reach_px)


@pytest.mark.parametrize("name", NOTHING)
def test_every_pair_that_holds_nothing_is_explained(name: str) -> None:
    make, code = NOTHING[name]
    image = make()
    pair = look(image)
    found = [f.code for f in pair.findings] or [why_nothing(image.left, image.right, 0.0).code]
    assert found == [code]
    assert pair.usable == (code not in ("no_light", "one_half_dark", "same_picture"))


@pytest.mark.parametrize("dx_px", [-14.0, -3.0, -0.4, 0.0, 0.4, 3.0, 14.0])
def test_nothing_is_said_of_a_textured_plane_within_reach(dx_px: float) -> None:
    pair = look(shifted(dx_px))
    assert pair.findings == () and pair.usable and not pair.beyond.any()


@pytest.mark.parametrize("dx_px", [-60.0, -24.0, 24.0, 40.0, 60.0])
def test_a_shift_beyond_the_reach_is_measured(dx_px: float) -> None:
    pair = examine(shifted(dx_px).left, shifted(dx_px).right, np.zeros(SIZE_HW, bool), REACH_PX, view_px_per_px=2.0)
    (found,) = pair.findings
    stated_px = float(found.text.split(" px apart")[0].rsplit(maxsplit=1)[1])
    assert stated_px == pytest.approx(2 * dx_px, abs=4.1), "the search is as fine as a cell"
    assert "outside the -30 ... 30 px" in found.text and pair.beyond.all()


def test_one_near_thing_beyond_the_reach_is_found() -> None:
    background, near = texture(1), texture(2)
    halves = []
    for side in (-1, 1):
        view = moved(background, side * 0.5)
        view[:, 96:224] = moved(near, side * 14)[:, 96:224]
        halves.append(view + noise(5 + side))
    (found,) = look(capture_of_halves(*halves)).findings
    assert found.code == "beyond_reach" and "+28 px apart in 25%" in found.text and "% of the picture" in found.text


@pytest.mark.parametrize("dy_px", [-4.0, -1.5, 1.5, 4.0])
def test_a_shift_across_the_baseline_is_measured(dy_px: float) -> None:
    (found,) = look(shifted(1.0, dy_px)).findings
    stated_px = float(found.text.split(" px apart")[0].rsplit(maxsplit=1)[1])
    assert found.code == "across_baseline" and stated_px == pytest.approx(dy_px, abs=0.4)


def test_a_clipped_picture_is_said_to_be() -> None:
    image = shifted(0.5)
    mask = np.arange(SIZE_HW[1])[None] < 200
    saturated = np.broadcast_to(mask, SIZE_HW).copy()
    left, right = (np.where(saturated, np.float32(1), view) for view in (image.left, image.right))
    (found,) = look(capture_of_halves(left, right, saturated)).findings
    assert found.text == "78% of the pixels are clipped"


def test_columns_that_are_all_alike_are_not_across_the_baseline() -> None:
    light = np.repeat(0.6 * np.random.default_rng(3).random((1, SIZE_HW[1]), np.float32), SIZE_HW[0], 0)
    assert look(capture_of_halves(light + noise(1), light + noise(2))).findings == ()


@settings(deadline=None, max_examples=25)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(0, 5))
def test_any_size_is_examined(height: int, width: int, seed: int) -> None:
    left, right = np.random.default_rng(seed).random((2, height, width), np.float32)
    pair = examine(left, right, np.zeros((height, width), bool), REACH_PX)
    assert pair.usable and all("\n" not in f.text for f in pair.findings)
    assert why_nothing(left, right, 0.0).code in ("no_texture", "unrelated")
