"""How sharp a picture is, tile by tile: the one measure that capturing, checking and settling share.

Convention: sharpness is the mean squared gradient of the gray picture over its squared mean level, per px^2 of the
picture it is measured in; 0 is a picture without any detail. It does not change with exposure, and grows by nothing
with noise: each squared gradient is taken as the product of those of two neighbouring rows (columns), whose detail is
the same and whose noise is not, so that noise cancels in the mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage

Tiles = npt.NDArray[np.float64]

TILE_ROWS, TILE_COLUMNS = 6, 8
_MIN_TILE_PX = 4
_PX_PER_INDEPENDENT = 1.5  # neighbouring products share samples
_CHANNEL_SHARE = np.array([0.25, 0.5, 0.25], np.float32)  # samples of each colour in a Bayer mosaic: the least noise


def gray_of(image: FloatImage) -> FloatImage:
    """(H, W) from (H, W) or (H, W, 3) in R, G, B."""
    return image if image.ndim == 2 else np.asarray(image @ _CHANNEL_SHARE, np.float32)


def sharpness_tiles(gray: FloatImage, rows: int = TILE_ROWS, columns: int = TILE_COLUMNS) -> Tiles:
    """Sharpness of each tile of a picture.

    Args:
        gray: (H, W) or (H, W, 3), linear.
        rows: tiles from top to bottom.
        columns: tiles from left to right.

    Returns:
        (rows, columns), >= 0; 0 where a tile is black.

    Raises:
        ValueError: tiles would be smaller than 4 px.
    """
    return sharpness_with_error(gray, rows, columns)[0]


def sharpness_with_error(gray: FloatImage, rows: int = TILE_ROWS, columns: int = TILE_COLUMNS) -> tuple[Tiles, Tiles]:
    """As :func:`sharpness_tiles`, and how far noise and chance may have moved it: one standard deviation, per tile."""
    gray = gray_of(gray)
    if min(gray.shape[0] // rows, gray.shape[1] // columns) < _MIN_TILE_PX:
        raise ValueError(f"{rows} x {columns} tiles in a picture of {gray.shape}, expected tiles of 4 px or more")
    level = tile_means(gray, rows, columns)
    squared = _squared_gradient(gray)
    energy = tile_means(squared, rows, columns)
    spread = np.sqrt(np.maximum(tile_means(squared * squared, rows, columns) - energy**2, 0.0))
    independent = squared.size / (rows * columns) / _PX_PER_INDEPENDENT
    per_level = np.where(level > 0, 1.0 / np.where(level > 0, level, 1.0) ** 2, 0.0)
    return np.maximum(energy, 0.0) * per_level, spread / np.sqrt(independent) * per_level


def tile_means(values: FloatImage, rows: int = TILE_ROWS, columns: int = TILE_COLUMNS) -> Tiles:
    """(rows, columns) means of (H, W) values; tiles differ by a pixel where the size is no multiple."""
    down, across = (
        np.linspace(0, n, parts + 1).astype(np.intp)[:-1]
        for n, parts in zip(values.shape, (rows, columns), strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(values, down, axis=0, dtype=np.float64), across, axis=1)
    heights, widths = np.diff([*down, values.shape[0]]), np.diff([*across, values.shape[1]])
    return np.asarray(sums / (heights[:, None] * widths))


def _squared_gradient(gray: FloatImage) -> FloatImage:
    """(H - 3, W - 3) of (H, W); central differences, from two neighbouring rows and columns each."""
    along_x = 0.5 * (gray[:, 2:] - gray[:, :-2])
    along_y = 0.5 * (gray[2:] - gray[:-2])
    in_x = along_x[1:-2, :-1] * along_x[2:-1, :-1]
    in_y = along_y[:-1, 1:-2] * along_y[:-1, 2:-1]
    return np.asarray(in_x + in_y, np.float32)
