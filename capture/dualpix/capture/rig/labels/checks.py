"""Whether a pair of pictures is one of the rig that was calibrated: not exchanged, not knocked since.

Convention: features (SIFT, Lowe 2004, which do not mind a camera that is turned) are matched and rectified; the rows of
a match then meet. ``offset_px`` is by how much they do not, as a smooth course over the picture; scatter about it is
false matches and noise. A turn about the axis across the baseline moves matches along their rows, where depth moves
them too: no picture tells it, unless it brings things beyond infinity.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.geometry import Array
from dualpix.capture.rig.labels.match import Gray
from dualpix.capture.rig.labels.rectify import Rectification

LEAST_MATCHES = 30
_RATIO = 0.75
_MOST_FEATURES = 3000
_MOST_OFFSET_PX = 0.8
_SURE = 5.0
_BETTER = 0.5
_ROBUST_STEPS = 8
_BEYOND_PX = -1.5
"""Disparity that no thing has."""
_NEAR_ROWS = 0.12
"""Matches whose rows differ by more of the picture's height are false."""
_NEAR_COLUMNS = 0.5
"""As are those whose columns differ by more of its width: the few that are true have no use."""
_EXPLAINED = 0.5
"""A course over the picture is believed that leaves less than this part of the rows' scatter unexplained."""


@dataclass(frozen=True)
class RowCheck:
    """How the rows of matches meet."""

    matches: int
    offset_px: float
    """Root mean square of the smooth course over the matches."""
    sigma_px: float
    """Of ``offset_px``, by the scatter."""
    beyond: float
    """Share of matches that lie beyond infinity."""

    @property
    def off(self) -> bool:
        """Whether they surely do not meet."""
        return (self.offset_px > _MOST_OFFSET_PX and self.offset_px > _SURE * self.sigma_px) or self.beyond > 0.5


def check_pair(name: str, gray_a: Gray, gray_b: Gray, frame: Rectification) -> RowCheck | None:
    """Refuse a pair whose rows do not meet; None where there are too few matches to tell.

    Args:
        name: of the pair, for messages.
        gray_a: (H, W) display-coded picture of a, as its sensor lies.
        gray_b: of b.
        frame: of the rig.

    Raises:
        DualpixError: the two are exchanged, or the rig is not as it was calibrated.
    """
    at_a, at_b = _matches(gray_a, gray_b)
    if len(at_a) < LEAST_MATCHES:
        return None
    size_a, size_b = gray_a.shape, gray_b.shape
    given = _rows(frame, at_a, at_b)
    exchanged = _rows(frame, at_b, at_a)
    if given is not None and not given.off:
        return given
    if (
        exchanged is not None
        and not exchanged.off
        and (given is None or exchanged.offset_px < _BETTER * given.offset_px + 0.2)
    ):
        raise DualpixError(
            f"pair '{name}' fits the calibration with its cameras exchanged ({_words(exchanged)}), not as given "
            f"({_words(given)})",
            expected="the camera that was calibrated as a in folder a",
            hint="exchange the folders a and b",
        )
    turned_a, turned_b = _turned(at_a, size_a), _turned(at_b, size_b)
    for what, a, b in (
        ("the pictures of both cameras", turned_a, turned_b),
        ("camera a's picture", turned_a, at_b),
        ("camera b's picture", at_a, turned_b),
    ):
        if (found := _rows(frame, a, b)) is not None and not found.off:
            raise DualpixError(
                f"pair '{name}' fits the calibration with {what} turned by 180 degrees ({_words(found)}), not as given "
                f"({_words(given)})",
                expected="pixels as the sensors lie, as in the calibration",
                hint="hold the rig as it was held then, or turn off what turns pictures by how a phone is held",
            )
    raise DualpixError(
        f"pair '{name}' does not fit the calibration: {_words(given)}",
        expected=f"rows that meet within {_MOST_OFFSET_PX:g} px",
        hint="the rig was moved, zoomed or knocked since: calibrate again, or leave the pair out",
    )


def _turned(pixels: Array, size_hw: tuple[int, ...]) -> Array:
    return np.array([size_hw[1] - 1, size_hw[0] - 1]) - pixels


def _words(check: RowCheck | None) -> str:
    if check is None:
        return "rows do not meet at all"
    if check.beyond > 0.5:
        return f"{100 * check.beyond:.0f} % of matches lie beyond infinity"
    return f"rows meet to {check.offset_px:.1f} px"


def _matches(gray_a: Gray, gray_b: Gray) -> tuple[Array, Array]:
    """(N, 2) px of both pictures."""
    # the default doubles the picture by a resize that shifts it: all points come out a quarter pixel off, which a
    # camera mounted upside down turns into half a pixel between the rows (OpenCV 5.0.0, from 4.8 on by this switch)
    finder = cv2.SIFT.create(nfeatures=_MOST_FEATURES, enable_precise_upscale=True)
    found = [finder.detectAndCompute(gray, None) for gray in (gray_a, gray_b)]
    if any(descriptors is None or len(descriptors) < 2 for _, descriptors in found):
        return np.zeros((0, 2)), np.zeros((0, 2))
    (points_a, words_a), (points_b, words_b) = found
    pairs = [
        best
        for best, *rest in cv2.BFMatcher(cv2.NORM_L2).knnMatch(words_a, words_b, k=2)
        if rest and best.distance < _RATIO * rest[0].distance
    ]
    at_a = np.array([points_a[pair.queryIdx].pt for pair in pairs], np.float64).reshape(-1, 2)
    return at_a, np.array([points_b[pair.trainIdx].pt for pair in pairs], np.float64).reshape(-1, 2)


def _rows(frame: Rectification, at_a: Array, at_b: Array) -> RowCheck | None:
    with np.errstate(all="ignore"):
        a, b = frame.of_pixels(at_a, "a"), frame.of_pixels(at_b, "b")
    apart = a - b
    near = np.isfinite(apart).all(axis=1) & (np.abs(apart[:, 1]) < _NEAR_ROWS * frame.size_hw[0])
    near &= np.abs(apart[:, 0]) < _NEAR_COLUMNS * frame.size_hw[1]
    if near.sum() < max(LEAST_MATCHES / 2, 0.3 * len(near)):
        return None
    a, apart = a[near], apart[near]
    place = (a - frame.centre) / frame.focal_px
    design = np.stack([np.ones(len(a)), place[:, 0], place[:, 1], apart[:, 0] / frame.focal_px], -1)
    rows = apart[:, 1]
    course = np.full(len(a), np.median(rows))
    # false matches lie far out in disparity, where a few of them would tilt a course that begins with all alike
    for _ in range(_ROBUST_STEPS):
        rest = rows - course
        weight = 1 / (1 + (rest / (2 * _scatter(rest))) ** 2)
        course = design @ np.linalg.lstsq(design * weight[:, None], rows * weight, rcond=None)[0]
    if _scatter(rows - course) > _EXPLAINED * _scatter(rows):
        course = np.full(len(a), np.median(rows))
    scatter = _scatter(rows - course)
    inlying = np.abs(rows - course) < 3 * scatter
    offset = float(np.sqrt(np.mean(course[inlying] ** 2)))
    sigma = scatter * float(np.sqrt(design.shape[1] / max(int(inlying.sum()), 1)))
    return RowCheck(len(a), offset, sigma, float(np.mean(apart[inlying, 0] < _BEYOND_PX)))


def _scatter(values: Array) -> float:
    """Robust standard deviation about 0, px."""
    return 1.4826 * float(np.median(np.abs(values))) + 1e-3
