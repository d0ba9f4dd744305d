"""Frames brought to one tone curve before they are compared.

Phones, and cameras whose JPEGs are toned by the scene, change their tone curve from frame to frame: over a sweep a
bright wall may gain 8 % while dark keys stay as they are, which no one exposure takes out. Defocus hardly changes how
bright a wide window is. So the median ratio of the levels of wide windows, in each of a few classes of brightness, is
the tone curve between a frame and the others.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage

_LEVELS_SIDE_PX = 64
_WINDOW_SHARE = 1 / 16
"""Of the picture's long side."""
_CLASSES = 9
_FLOOR = 1e-4


def one_tone(grays: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Linear frames (N, H, W) with the tone curve of their mean, and (h, w) the logarithm of the levels of that."""
    levels = np.stack([_levels(gray) for gray in grays])
    reference = levels.mean(axis=0)
    return np.stack([_matched(g, level, reference) for g, level in zip(grays, levels, strict=True)]), reference


def toned(gray: FloatImage, reference: FloatImage) -> FloatImage:
    """A picture (H, W) of the same scene with the tone curve of frames whose levels are ``reference``."""
    return _matched(gray, _levels(gray), reference)


def _levels(gray: FloatImage) -> FloatImage:
    """(h, w) logarithm of how bright a wide window is, on a small grid: it changes slowly."""
    shrink = min(1.0, _LEVELS_SIDE_PX / max(gray.shape))
    size = max(1, round(gray.shape[1] * shrink)), max(1, round(gray.shape[0] * shrink))
    side = round(max(size) * _WINDOW_SHARE) | 1
    small = cv2.blur(cv2.resize(np.maximum(gray, 0), size, interpolation=cv2.INTER_AREA), (side, side))
    return np.asarray(np.log(small + np.float32(_FLOOR)), np.float32)


def _matched(gray: FloatImage, levels: FloatImage, reference: FloatImage) -> FloatImage:
    bright, ratio = reference.ravel(), (reference - levels).ravel()
    classes = np.digitize(bright, np.quantile(bright, np.linspace(0, 1, _CLASSES + 1)[1:-1]))
    gains = np.exp(np.interp(reference, _medians(bright, classes), _medians(ratio, classes))).astype(np.float32)
    return np.asarray(gray * cv2.resize(gains, gray.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _medians(values: npt.NDArray[np.float32], classes: npt.NDArray[np.intp]) -> list[float]:
    return [float(np.median(values[classes == number])) for number in np.unique(classes)]
