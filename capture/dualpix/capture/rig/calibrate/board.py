"""Calibration boards: ChArUco and chessboards, printed, drawn and found.

Convention: a board lies in its own plane, x right along its columns, y down, in m, the first corner of its first square
at the origin. ``squares`` are (columns, rows); a board has (columns - 1) x (rows - 1) inner corners, numbered row by
row. Pixel centres are at whole coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.geometry import Array

BoardKind = Literal["charuco", "chessboard"]
BOARD_KINDS: tuple[BoardKind, ...] = get_args(BoardKind)
_MARKER_SHARE = 0.7
"""Side of a marker over that of its square."""
_MOST_SQUARES = 40
_DICTIONARIES = ((50, cv2.aruco.DICT_5X5_50), (250, cv2.aruco.DICT_5X5_250), (1000, cv2.aruco.DICT_5X5_1000))
_REFINE_PX = 5
_REFINED = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 60, 1e-4)


@dataclass(frozen=True)
class Found:
    """Corners of a board in a picture."""

    ids: npt.NDArray[np.int64]
    """(N,) rising."""
    pixels: Array
    """(N, 2)."""

    def only(self, ids: npt.NDArray[np.int64]) -> Array:
        """(M, 2) of the given corners, all of which were found."""
        return np.asarray(self.pixels[np.searchsorted(self.ids, ids)])


@dataclass(frozen=True)
class Board:
    """A printed board."""

    kind: BoardKind = "charuco"
    squares: tuple[int, int] = (9, 6)
    square_m: float = 0.025
    """Side of a square, as measured on the print."""

    def __post_init__(self) -> None:
        if self.kind not in BOARD_KINDS:
            raise DualpixError(f"a board of kind '{self.kind}'", expected="one of: " + ", ".join(BOARD_KINDS))
        if not all(3 <= n <= _MOST_SQUARES for n in self.squares):
            raise DualpixError(f"a board of {self}", expected=f"3 to {_MOST_SQUARES} squares each way")
        if not 1e-4 <= self.square_m <= 1:
            raise DualpixError(
                f"squares of {self.square_m * 1e3:g} mm", expected="0.1 to 1000 mm, measured on the print"
            )
        if self.kind == "chessboard" and (self.squares[0] + self.squares[1]) % 2 == 0:
            raise DualpixError(
                f"a chessboard of {self}: it looks the same upside down",
                expected="an odd number of squares one way and an even one the other",
            )

    def __str__(self) -> str:
        return f"{self.squares[0]}x{self.squares[1]} squares"

    @property
    def corners(self) -> int:
        """Inner corners."""
        return (self.squares[0] - 1) * (self.squares[1] - 1)

    @cached_property
    def points(self) -> Array:
        """(corners, 3) in m, z = 0."""
        columns, rows = self.squares[0] - 1, self.squares[1] - 1
        y, x = np.mgrid[1 : rows + 1, 1 : columns + 1]
        return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], -1) * self.square_m

    @property
    def size_m(self) -> tuple[float, float]:
        """(width, height) of all squares."""
        return self.squares[0] * self.square_m, self.squares[1] * self.square_m

    def picture(self, square_px: int = 60, margin_px: int = 30) -> npt.NDArray[np.uint8]:
        """The board as printed, uint8 (H, W), with a white margin."""
        size = (self.squares[0] * square_px, self.squares[1] * square_px)
        if self.kind == "charuco":
            drawn = self._charuco.generateImage(size, marginSize=0)
        else:
            y, x = np.mgrid[0 : size[1], 0 : size[0]] // square_px
            drawn = np.where((x + y) % 2 == 0, 0, 255)
        return np.pad(np.asarray(drawn, np.uint8), margin_px, constant_values=255)

    def find(self, picture: npt.NDArray[np.uint8]) -> Found | None:
        """The board's corners in a gray picture (H, W), to a fraction of a pixel; None where it is not seen."""
        ids, pixels = self._find_charuco(picture) if self.kind == "charuco" else self._find_chessboard(picture)
        if len(ids) < 4:
            return None
        order = np.argsort(ids)
        return Found(ids[order], pixels[order])

    @cached_property
    def _charuco(self) -> Any:
        markers = self.squares[0] * self.squares[1] // 2
        dictionary = next(d for count, d in _DICTIONARIES if count >= markers)
        return cv2.aruco.CharucoBoard(
            self.squares, self.square_m, self.square_m * _MARKER_SHARE, cv2.aruco.getPredefinedDictionary(dictionary)
        )

    def _find_charuco(self, picture: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], Array]:
        corners, ids, _, _ = cv2.aruco.CharucoDetector(self._charuco).detectBoard(picture)
        if ids is None or len(ids) < 4:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        return ids.ravel().astype(np.int64), _refined(picture, np.asarray(corners, np.float32))

    def _find_chessboard(self, picture: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], Array]:
        columns, rows = self.squares[0] - 1, self.squares[1] - 1
        flags = cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
        seen, corners = cv2.findChessboardCornersSB(picture, (columns, rows), flags=flags)
        if not seen:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        return np.arange(columns * rows), _numbered(np.asarray(corners, np.float64).reshape(rows, columns, 2), picture)


def _refined(picture: npt.NDArray[np.uint8], corners: npt.NDArray[np.float32]) -> Array:
    """Saddle points, searched no further than the next corner allows."""
    points = np.ascontiguousarray(corners.reshape(-1, 1, 2), np.float32)
    apart = np.linalg.norm(points - points.reshape(1, -1, 2), axis=2)
    np.fill_diagonal(apart, np.inf)
    reach = int(np.clip(0.35 * apart.min(), 2, _REFINE_PX))
    return np.asarray(cv2.cornerSubPix(picture, points, (reach, reach), (-1, -1), _REFINED), np.float64).reshape(-1, 2)


def _numbered(grid: Array, picture: npt.NDArray[np.uint8]) -> Array:
    """Corners (rows, columns, 2) of a chessboard from its own first one, whichever way it is held.

    OpenCV begins at either end: both are the board's grid for it. Of the two ends the first has a dark square.
    """
    first = _corner_square(grid, picture)
    last = _corner_square(grid[::-1, ::-1], picture)
    return (grid if first <= last else grid[::-1, ::-1]).reshape(-1, 2)


def _corner_square(grid: Array, picture: npt.NDArray[np.uint8]) -> float:
    """Brightness of the square beyond the first corner."""
    middle = grid[0, 0] - 0.5 * ((grid[0, 1] - grid[0, 0]) + (grid[1, 0] - grid[0, 0]))
    x, y = (round(float(v)) for v in middle)
    height, width = picture.shape
    return float(picture[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])
