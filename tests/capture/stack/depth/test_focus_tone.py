"""Frames whose tone curve drifts over a sweep, as phones' do."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from tests.support.sweeps import UNKNOWN_LENS, rendered

from dualpix.capture.stack.depth.focus_depth import depth_from_focus
from dualpix.capture.stack.depth.focus_tone import one_tone, toned
from dualpix.capture.stack.sharpness import gray_of
from dualpix.capture.types import FloatImage, FocusStack


@pytest.fixture(scope="module")
def scene() -> tuple[FocusStack, FloatImage]:
    stack, truth = rendered(3, (144, 192), 9)
    return replace(stack, lens=UNKNOWN_LENS), truth


def drifting(frames: FloatImage, most: float = 0.2) -> FloatImage:
    """Bright parts gain up to ``most`` from the first frame to the last, dark ones nothing."""
    share = np.linspace(0, most, len(frames), dtype=np.float32)[:, None, None, None]
    return np.asarray(frames * (1 + share * np.clip(frames, 0, 1)), np.float32)


def test_what_defocus_does_is_left_alone(scene: tuple[FocusStack, FloatImage]) -> None:
    grays = np.stack([gray_of(frame) for frame in scene[0].frames]).astype(np.float32)
    matched, _ = one_tone(grays)
    bright = grays > 0.05
    assert np.median(np.abs(matched[bright] / grays[bright] - 1)) < 0.005
    assert np.percentile(np.abs(matched[bright] / grays[bright] - 1), 95) < 0.03


def test_a_drift_of_the_tone_curve_is_taken_out(scene: tuple[FocusStack, FloatImage]) -> None:
    frames = scene[0].frames
    grays, drifted = (np.stack([gray_of(f) for f in stack]).astype(np.float32) for stack in (frames, drifting(frames)))
    matched, reference = one_tone(drifted)

    def apart(stack: FloatImage) -> float:
        """Of the levels of wide windows, between the first frame and the last."""
        first, last = (cv2.blur(gray, (61, 61)) for gray in (stack[0], stack[-1]))
        return float(np.abs(np.log(last / first)).max())

    assert apart(drifted) > 0.08
    assert apart(matched) < 0.35 * apart(drifted) + apart(grays)
    again = toned(drifted[-1], reference)
    assert np.allclose(again, matched[-1], rtol=1e-5)


def test_depth_withstands_it(scene: tuple[FocusStack, FloatImage]) -> None:
    stack, truth = scene
    step = float(np.diff(stack.sweep)[0])
    errors = [
        float(np.abs(depth_from_focus(replace(stack, frames=frames)).diopters - truth).mean()) / step
        for frames in (stack.frames, drifting(stack.frames))
    ]
    print(f"mean error {errors[0]:.3f} steps, {errors[1]:.3f} with the drift")
    assert errors[1] < 1.5 * errors[0]


def test_a_picture_of_one_level_has_no_classes() -> None:
    flat = np.full((3, 40, 60), 0.3, np.float32) * np.array([1.0, 1.1, 0.9], np.float32)[:, None, None]
    matched, _ = one_tone(flat)
    assert np.allclose(matched, matched[0], rtol=1e-3)
    black, _ = one_tone(np.zeros((3, 40, 60), np.float32))
    assert not black.any()
