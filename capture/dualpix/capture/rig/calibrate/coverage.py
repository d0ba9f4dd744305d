"""Whether boards were held where a calibration needs them, and a picture of where to hold the next ones.

Convention: a picture is cut into ``CELLS`` x ``CELLS`` parts, row by row; one is covered when corners lie in it. A lens
that distorts is known where corners were, and guessed elsewhere. Tilts are those of the board's normal against the
optical axis: boards all held alike leave focal length and distance confused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.rig.calibrate.solve import BoardPair
from dualpix.capture.rig.geometry import Array

CELLS = 4
_LEAST_CELLS = 13
"""Of 16: three corners of a picture may stay empty, not a side."""
_LEAST_TILT = 0.12
"""Standard deviation of the normal's x and of its y: about 7 degrees."""
_WIDTH_PX = 480
_GAP_PX, _TITLE_PX = 12, 26
_INK, _PAPER, _SEEN, _MISSING = (40, 40, 40), (236, 236, 236), (33, 102, 172), (178, 24, 43)
_ROWS, _COLUMNS = ("top", "upper middle", "lower middle", "bottom"), ("left", "centre left", "centre right", "right")


@dataclass(frozen=True)
class Coverage:
    """Of one camera."""

    side: str
    size_hw: tuple[int, int]
    corners: Array
    """(N, 2) px of all pairs."""
    counts: npt.NDArray[np.int64]
    """(CELLS, CELLS) corners in each part."""

    @property
    def covered(self) -> int:
        """Parts with corners."""
        return int(np.count_nonzero(self.counts))

    @property
    def missing(self) -> list[str]:
        """Names of the others."""
        return [f"{_ROWS[row]} {_COLUMNS[column]}" for row, column in np.argwhere(self.counts == 0)]


def coverage_of(side: str, size_hw: tuple[int, int], pairs: Sequence[BoardPair]) -> Coverage:
    """Where corners were in the pictures of a side."""
    corners = np.concatenate([np.zeros((0, 2)), *(getattr(pair, side).pixels for pair in pairs)])
    height, width = size_hw
    counts, _, _ = np.histogram2d(
        corners[:, 1], corners[:, 0], bins=CELLS, range=((-0.5, height - 0.5), (-0.5, width - 0.5))
    )
    return Coverage(side, size_hw, corners, counts.astype(np.int64))


def lacking(coverages: Sequence[Coverage], board_poses: Array) -> list[str]:
    """What has to be mended before such a calibration can be trusted; empty where nothing has.

    Args:
        coverages: of both cameras.
        board_poses: (pairs, 6) before camera a.
    """
    found = [
        f"boards reach {one.covered} of {CELLS**2} parts of camera {one.side}'s picture (not: {', '.join(one.missing)})"
        for one in coverages
        if one.covered < _LEAST_CELLS
    ]
    normals = np.stack([np.asarray(cv2.Rodrigues(pose[:3])[0], np.float64)[:, 2] for pose in board_poses])
    spread = normals[:, :2].std(axis=0)
    flat = [name for name, value in zip(("sideways", "up and down"), spread, strict=True) if value < _LEAST_TILT]
    if flat:
        found.append(f"boards are hardly tilted {' or '.join(flat)}")
    return found


def picture(coverages: Sequence[Coverage]) -> Rgb:
    """Both cameras' pictures: blue where corners were, red boards where one still has to be held."""
    panels = [_panel(one) for one in coverages]
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, _GAP_PX), (0, 0)), constant_values=255) for p in panels]
    return np.asarray(np.hstack(padded), np.uint8)


def _panel(one: Coverage) -> Rgb:
    height, width = one.size_hw
    scale = _WIDTH_PX / width
    canvas = np.full((round(height * scale), _WIDTH_PX, 3), _PAPER, np.uint8)
    cell = np.array([canvas.shape[1] / CELLS, canvas.shape[0] / CELLS])
    for row, column in np.argwhere(one.counts == 0):
        middle = (np.array([column, row]) + 0.5) * cell
        box = cv2.boxPoints((tuple(middle.tolist()), tuple((0.82 * cell).tolist()), -12.0))
        cv2.polylines(canvas, [box.astype(np.int32)], True, _MISSING, 2, cv2.LINE_AA)
        _write(canvas, "hold here", middle - (34, -5), _MISSING)
    for line in range(1, CELLS):
        x, y = (int(v) for v in line * cell)
        cv2.line(canvas, (x, 0), (x, canvas.shape[0]), (205, 205, 205), 1)
        cv2.line(canvas, (0, y), (canvas.shape[1], y), (205, 205, 205), 1)
    for x, y in (one.corners + 0.5) * scale:
        cv2.circle(canvas, (round(x), round(y)), 2, _SEEN, -1, cv2.LINE_AA)
    title = np.full((_TITLE_PX, _WIDTH_PX, 3), 255, np.uint8)
    _write(title, f"camera {one.side}: {one.covered} of {CELLS**2} parts", np.array([4.0, 18.0]), _INK)
    return np.vstack([title, canvas])


def _write(canvas: Rgb, text: str, at: Array, colour: tuple[int, int, int]) -> None:
    place = (int(at[0]), int(at[1]))
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
