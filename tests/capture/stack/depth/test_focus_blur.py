"""The model of blur against its slow reference, and lenses of any blur that nobody states."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from tests.support import blur_reference
from tests.support.sweeps import UNKNOWN_LENS, noisy, rendered

from dualpix.capture.stack.depth.focus_blur import blurred_by, by_blur, find_blur, hypotheses
from dualpix.capture.stack.depth.focus_depth import blur_px_per_diopter, depth_from_focus
from dualpix.capture.stack.depth.focus_peaks import filled, noise_of, peaks, rise, roots_of, window_sums
from dualpix.capture.stack.sharpness import gray_of
from dualpix.capture.types import FloatImage, FocusStack


def prepared(stack: FocusStack) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Gray frames, their roots, and places by sharpness."""
    grays = np.stack([gray_of(frame) for frame in stack.frames]).astype(np.float32)
    roots = roots_of(grays)
    volume = window_sums(roots)
    contrast = rise(volume, noise_of(roots)).contrast
    return grays, roots, filled(peaks(volume, stack.sweep), contrast, roots, kept=2 * contrast - np.float32(0.5))


@pytest.mark.parametrize(("seed", "frames"), [(3, 7), (5, 11), (3, 24)])
def test_it_is_what_the_slow_reference_computes(seed: int, frames: int) -> None:
    """Shortcuts of the fast one: rungs of a ladder for circles, reduced pictures for large ones, fewer frames in the
    first round (more than 20 of them), and a median of some places."""
    stack, truth = rendered(seed, (96, 128), frames)
    grays, roots, first = prepared(stack)
    focus, step = stack.sweep, float(np.diff(stack.sweep)[0])
    blur = blur_px_per_diopter(stack.lens, focus)
    assert blur is not None
    fast, fast_confidence = by_blur(roots, grays, focus, first, blur)
    slow, slow_confidence = blur_reference.by_blur(grays.astype(float), focus, first.astype(float), blur)
    apart = np.abs(fast - slow) / step
    assert np.median(apart) < 0.08 and np.mean(apart > 0.5) < 0.06
    assert np.abs(fast_confidence - slow_confidence).mean() < 0.03
    errors = [float(np.abs(found - truth).mean()) for found in (fast, slow)]
    assert errors[0] == pytest.approx(errors[1], rel=0.06)


@pytest.mark.parametrize("circle_px", [3.0, 9.0, 15.0, 30.0, 60.0, 100.0])
def test_a_disc_on_a_reduced_picture_is_the_disc(circle_px: float) -> None:
    """Within less than the next rung of the ladder, 10 % wider, would differ."""
    stack, _ = rendered(3, (240, 320), 3)
    picture = gray_of(stack.frames[1]).astype(np.float64)
    exact, wider = (blur_reference._spread(picture, circle_px * scale) for scale in (1.0, 1.1))
    found = blurred_by(picture.astype(np.float32), circle_px)
    inside = (slice(int(circle_px), -int(circle_px)),) * 2
    apart = np.abs(found - exact)[inside].mean()
    assert apart < np.abs(wider - exact)[inside].mean()
    assert found.mean() == pytest.approx(picture.mean(), rel=0.01)


@pytest.mark.parametrize("share", [0.008, 0.03, 0.1, 0.2, 0.3])
def test_the_blur_of_an_unknown_lens_is_found_however_large(share: float) -> None:
    """Textured steps, blurred by discs; ``share`` is the blur across the sweep over the picture's long side."""
    rng = np.random.default_rng(1)
    sharp = np.clip(cv2.GaussianBlur(rng.random((180, 240), np.float32), (0, 0), 0.8) * 3 - 1, 0.02, 1)
    focus = np.linspace(0.5, 2.0, 9)
    truth = np.repeat(np.linspace(0.6, 1.9, 4, dtype=np.float32), 60)[None].repeat(180, axis=0)
    blur = share * 240 / 1.5
    frames = np.empty((9, 180, 240), np.float32)
    for k, place in enumerate(focus):
        for value in np.unique(truth):
            frames[k][truth == value] = blurred_by(sharp, blur * abs(place - value))[truth == value]
    frames = noisy(frames, rng)
    assert find_blur(frames, focus, truth) == pytest.approx(blur, rel=0.15)
    stack = FocusStack(frames[..., None].repeat(3, axis=3), 1 / focus, np.full(9, 0.01), UNKNOWN_LENS)
    found = depth_from_focus(stack)
    assert found.blur_source == "found" and found.blur_px_per_d == pytest.approx(blur, rel=0.3)
    assert np.median(np.abs(found.diopters - truth)) < 0.25 * np.diff(focus)[0]


def test_as_many_places_are_tried_as_blur_can_tell_apart() -> None:
    focus = np.arange(100.0)
    assert len(hypotheses(focus, 4, 0.1)) == len(hypotheses(focus, 1, 0.1)) == 28  # 10 px over the whole sweep
    assert len(hypotheses(focus, 4, 3.0)) == 200  # 300 px: one for each 1.5
    assert len(hypotheses(focus, 1, 30.0)) == 101  # not more than one a frame where that is asked for
    few = np.arange(5.0)
    assert np.diff(hypotheses(few, 4))[0] == pytest.approx(0.25)


def test_places_without_distances_are_tried_beyond_the_first_and_the_last_frame() -> None:
    tried = hypotheses(np.arange(9.0))
    assert tried[0] == -0.5 and tried[-1] == 8.5 and math.isclose(np.ptp(np.diff(tried)), 0, abs_tol=1e-12)
