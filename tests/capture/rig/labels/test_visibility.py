"""What b does not see, where the matches are known: a band beside what is nearer, and never among noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dualpix.capture.rig.labels import visibility
from dualpix.capture.rig.labels.match import SemiGlobal, match
from dualpix.capture.rig.labels.rectify import rectification
from dualpix.capture.rig.simulate.rig import SimulatedRig

SIZE = (160, 400)
WALL_PX, CARD_PX = 6.0, 26.0
CARD = (slice(20, 100), slice(180, 280))
"""In a; b sees it ``CARD_PX`` farther left."""


def views(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A card before a wall, both of smooth texture: what changes from pixel to pixel is taken for a sensor's noise."""
    wall, card = (_texture(rng) for _ in range(2))
    left, right = wall[:, 20:-20].copy(), wall[:, 20 + int(WALL_PX) : SIZE[1] + 20 + int(WALL_PX)].copy()
    left[CARD] = card[CARD]
    right[CARD[0], CARD[1].start - int(CARD_PX) : CARD[1].stop - int(CARD_PX)] = card[CARD]
    return left, right


def _texture(rng: np.random.Generator) -> np.ndarray:
    smooth = cv2.GaussianBlur(rng.normal(0, 1, (SIZE[0], SIZE[1] + 40)), (0, 0), 2.0)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """The wall's pixels that lie behind the card for b, and those left of its picture."""
    hidden = np.zeros(SIZE, bool)
    hidden[CARD[0], CARD[1].start - int(CARD_PX - WALL_PX) : CARD[1].start] = True
    hidden[:, : int(WALL_PX)] = True
    return hidden


def test_what_a_card_hides_is_a_band_of_the_two_disparities(truth: np.ndarray) -> None:
    matched = np.full(SIZE, WALL_PX, np.float32)
    matched[CARD] = CARD_PX
    matched[truth] = np.nan
    everywhere = np.ones(SIZE, bool)
    found = visibility.unseen(matched, everywhere, everywhere, everywhere)
    # a matcher widens the card at its left edge by two pixels; here it did not, so the band lies so much farther right
    inner = np.zeros(SIZE, bool)
    inner[CARD[0], CARD[1].start - 18 : CARD[1].start] = True
    assert found[inner].all() and found[:, : int(WALL_PX)].all()
    assert not found[:, : CARD[1].start - 20][:, int(WALL_PX) :].any() and not found[:, CARD[1].start + 2 :].any()


def test_disparities_among_noise_hide_nothing() -> None:
    """A matcher finds something where there is nothing to see: near ones of it once hid a quarter of a floor."""
    rng = np.random.default_rng(3)
    matched = np.full(SIZE, WALL_PX, np.float32)
    matched[60:] = np.where(rng.random((100, 400)) < 0.5, rng.uniform(0, 40, (100, 400)), np.nan)
    textured = np.ones(SIZE, bool)
    textured[60:] = False
    everywhere = np.ones(SIZE, bool)
    assert visibility.unseen(matched, everywhere, everywhere, everywhere)[60:, 50:].mean() > 0.08
    assert not visibility.unseen(matched, textured, everywhere, everywhere)[:, 50:].any()


def test_the_two_reasons_of_no_label_in_pictures(truth: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    plain = slice(108, None)  # of the wall: nothing to see but the sensor's noise
    pair = []
    for view in views(rng):
        view[plain] = 120
        pair.append(np.clip(view + rng.normal(0, 1, SIZE), 0, 255).astype(np.uint8))
    everywhere = np.ones(SIZE, bool)
    found = match(pair[0], pair[1], everywhere, everywhere, 40, SemiGlobal())
    band = truth.copy()
    band[:, : int(WALL_PX)] = False
    beyond = found.unseen.copy()
    beyond[:, : int(WALL_PX) + 2] = False
    assert found.unseen[band].mean() > 0.8 and band[beyond].mean() > 0.8
    assert found.untextured[118:, 20:-20].mean() > 0.9 and not found.unseen[118:, 20:].any()
    assert not found.untextured[8:98].any()
    labelled = np.isfinite(found.disparity_px)
    assert not (labelled & (found.unseen | found.untextured)).any() and labelled[:98].mean() > 0.5


def test_the_rectified_frame_goes_on_where_b_sees_more_on_the_left() -> None:
    """Else b's picture ends at a's left border, and what a sees there has no match though b sees it."""
    seen = 0
    for seed in range(12):
        g = SimulatedRig.from_seed(seed, (480, 640), mount_deg=180 * (seed % 2)).geometry
        frame = rectification(g)
        rows = np.linspace(20, 460, 12)
        points = g.a.rays(np.stack([np.full_like(rows, 3), rows], -1)) * 1.5
        pixels = g.b.project(g.to_b(points))
        inside = np.all((pixels > 1) & (pixels < (638, 478)), axis=1)
        seen += int(inside.sum())
        assert (frame.of_pixels(pixels[inside], "b")[:, 0] > -0.5).all(), seed
    assert seen > 10
