"""The sharpness measure: invariant to exposure, blind to noise, monotone in blur."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.stack.sharpness import gray_of, sharpness_tiles, sharpness_with_error, tile_means

RNG = np.random.default_rng(0)
TEXTURE = (0.5 + 0.15 * cv2.GaussianBlur(RNG.normal(0, 3, (120, 160)), (0, 0), 1.5)).astype(np.float32)


def test_more_blur_is_less_sharp_in_every_tile() -> None:
    sharpness = [sharpness_tiles(cv2.GaussianBlur(TEXTURE, (0, 0), sigma)) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert all((more < less).all() for less, more in pairwise(sharpness))


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_exposure_does_not_matter(gain: float) -> None:
    expected = sharpness_tiles(TEXTURE)
    assert np.allclose(sharpness_tiles(TEXTURE * np.float32(gain)), expected, rtol=1e-3)


def test_noise_adds_nothing() -> None:
    smooth = cv2.GaussianBlur(TEXTURE, (0, 0), 3)
    noisy = smooth + np.random.default_rng(1).normal(0, 0.02, smooth.shape).astype(np.float32)
    gx, gy = np.gradient(noisy)
    plain = tile_means((gx**2 + gy**2).astype(np.float32)) / tile_means(noisy) ** 2
    clean, found = sharpness_tiles(smooth), sharpness_tiles(noisy)
    assert np.abs(found - clean).mean() < 0.1 * np.abs(plain - clean).mean()


def test_the_stated_error_is_that_of_noise() -> None:
    found, stated = [], []
    for seed in range(30):
        noise = 0.5 + np.random.default_rng(seed).normal(0, 0.02, (96, 128)).astype(np.float32)
        sharpness, error = sharpness_with_error(noise)
        found.append(sharpness)
        stated.append(error)
    # half of the estimates are cut off at 0, so their root mean square is sqrt(1/2) of the error
    assert np.sqrt(np.mean(np.square(found)) * 2) == pytest.approx(np.mean(stated), rel=0.2)


def test_tiles_lie_where_they_say_and_darkness_is_not_sharp() -> None:
    picture = np.full((60, 80), 0.5, np.float32)
    picture[20:30, 50:60] = TEXTURE[:10, :10]
    assert np.unravel_index(np.argmax(sharpness_tiles(picture, 6, 8)), (6, 8)) == (2, 5)
    assert not sharpness_tiles(np.zeros((60, 80), np.float32)).any()


def test_colour_is_taken_as_gray_and_tiny_tiles_are_refused() -> None:
    colour = np.repeat(TEXTURE[..., None], 3, axis=2)
    assert np.allclose(gray_of(colour), TEXTURE, atol=1e-6)
    assert np.allclose(sharpness_tiles(colour), sharpness_tiles(TEXTURE), rtol=1e-4)
    with pytest.raises(ValueError, match="4 px"):
        sharpness_tiles(TEXTURE[:20], 6, 8)


@settings(max_examples=30, deadline=None)
@given(st.integers(24, 90), st.integers(24, 90), st.integers(1, 6), st.integers(1, 6))
def test_means_of_tiles_cover_every_pixel_once(height: int, width: int, rows: int, columns: int) -> None:
    values = np.random.default_rng([height, width]).random((height, width)).astype(np.float32)
    tops = np.linspace(0, height, rows + 1).astype(int)
    lefts = np.linspace(0, width, columns + 1).astype(int)
    areas = np.outer(np.diff(tops), np.diff(lefts))
    assert (tile_means(values, rows, columns) * areas).sum() == pytest.approx(values.sum(), rel=1e-4)
