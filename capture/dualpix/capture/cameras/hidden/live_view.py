"""Live view of a hidden scene: in gray, at any focus, fast enough to be asked for at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from dualpix.capture.cameras.hidden.blur import LUMINANCE, half_disc_kernels, lay_over, padded_by
from dualpix.capture.cameras.hidden.scene import HiddenScene
from dualpix.capture.types import FloatImage


@dataclass
class LiveScene:
    """The scene in gray at any focus, blended from blurred layers that are kept."""

    scene: HiddenScene
    widest_px: float
    _blurred: dict[tuple[int, int], FloatImage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels = [0.0]
        while levels[-1] < self.widest_px + 1:
            levels.append(levels[-1] + max(0.5, 0.1 * levels[-1]))
        self._levels = np.array(levels)

    def picture(self, circle_px: Callable[[float], float]) -> FloatImage:
        """(H, W) luminance; ``circle_px`` gives the diameter of the blur at a depth in diopters."""
        out = np.zeros((*self.scene.canvas_hw, 1), np.float32)
        for index, layer in enumerate(self.scene.layers):
            lay_over(out, layer, self._layer(index, circle_px(layer.diopters)))
        return self.scene.inside(out[..., 0])

    def _layer(self, index: int, circle_px: float) -> FloatImage:
        """Linear in the square of the diameter, which gives the blend the second moment of the wanted disc."""
        above = int(np.clip(np.searchsorted(self._levels, circle_px), 1, len(self._levels) - 1))
        low, high = self._levels[above - 1], self._levels[above]
        share = float(np.clip((circle_px**2 - low**2) / (high**2 - low**2), 0, 1))
        blend = cv2.addWeighted(self._level(index, above - 1), 1 - share, self._level(index, above), share, 0)
        return np.asarray(blend, np.float32)

    def _level(self, index: int, level: int) -> FloatImage:
        if (index, level) not in self._blurred:
            colour = self.scene.layers[index].colour
            gray = np.dstack([colour[..., :3] @ LUMINANCE, colour[..., 3]])
            reach = math.ceil(self._levels[-1] / 2) + 1
            self._blurred[index, level] = _softened(gray, float(self._levels[level]), reach)
        return self._blurred[index, level]


def _softened(planes: FloatImage, circle_px: float, reach: int) -> FloatImage:
    """Spread by a disc, on a window larger by ``reach``; wide discs on a coarser grid, which then misses nothing."""
    padded = padded_by(planes, reach)
    coarser = 1 if circle_px < 8 else 2 if circle_px < 16 else 4
    size = padded.shape[1], padded.shape[0]
    small = cv2.resize(padded, (size[0] // coarser, size[1] // coarser), interpolation=cv2.INTER_AREA)
    kernel = np.add(*half_disc_kernels(circle_px / coarser, 0.0))
    blurred = cv2.filter2D(small, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR), np.float32)
