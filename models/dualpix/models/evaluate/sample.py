"""What is scored: a capture with its truth, and what a method says of it.

Convention: maps are float32 (H, W), pictures (H, W, 3) in R, G, B, 0..1. A map's unit is one of ``Unit``; metres and
diopters are from the lens. Disparity is ``x_right - x_left`` in pixels of the decoded view, > 0 behind the focus plane.

A method sees a whole capture, a protocol scores part of it, often at another size. ``Sample.grids`` says which sizes a
prediction may have and how each comes onto the truth's pixels, so that a method's map and a file of anybody's pass the
same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import DualPixelImage, FloatImage, FocusStack, LensModel, Mask
from dualpix.models.predict.disparity import metric_depth

Unit = Literal["affine", "disparity_px", "light_field_disparity_px", "inverse_depth", "depth_m", "image"]
"""``affine``: any map that is the truth's up to scale and offset; ``light_field_disparity_px``: between neighbouring
views of a light field camera; ``inverse_depth``: in the unit of the data set's files; ``image``: a sharp picture."""
Kind = Literal["pair", "stack"]
P = TypeVar("P", np.float32, np.uint8)


@dataclass(frozen=True)
class MetricTruth:
    """True depth, and the optics that make depth of a method's disparity."""

    depth_m: FloatImage
    """(h, w), from the lens; what it holds where there is no truth does not matter."""
    lens: LensModel
    relative_gain: FloatImage
    """(rows, columns): the camera's gain over the field, as a part of the lens's."""
    range_m: tuple[float, float]
    """Depths that can be; scores clamp estimates to it, those at and beyond infinity to its far end."""

    def depth_of(self, disparity_px: FloatImage) -> FloatImage:
        """Depth (h, w) in m of a disparity (h, w) in px; infinity from the disparity of infinity on."""
        return metric_depth(disparity_px, self.lens, self.relative_gain)


@dataclass(frozen=True)
class Grid:
    """A size that a prediction may have."""

    size_hw: tuple[int, int]
    onto_truth: Callable[[FloatImage], FloatImage]
    """A map (H, W) or picture (H, W, 3) of this size to that of the truth."""


@dataclass(frozen=True)
class Sample:
    """A capture with its ground truth: a dual-pixel pair, or a focus stack with distances."""

    name: str
    """Unique in its data; "/" stands between folders."""
    truth: FloatImage
    """(h, w), or (h, w, 3) a sharp picture, in the protocol's unit."""
    valid: Mask
    """(h, w): where there is a truth."""
    pair: DualPixelImage | None = None
    stack: FocusStack | None = None
    confidence: FloatImage | None = None
    """(h, w) weight of each pixel; None: all alike."""
    group: str = ""
    """Samples of one kind, whose means are told apart."""
    metric: MetricTruth | None = None
    """Where the truth of a pair is in m and its optics are known."""
    sharp: FloatImage | None = None
    """(h, w) or (h, w, 3) linear light of the full-aperture view in focus everywhere, where that is known beside the
    truth."""
    grids: tuple[Grid, ...] = ()
    """Sizes of predictions beside the truth's own; where there are none, a larger map is cut to its centre."""

    @property
    def input_size_hw(self) -> tuple[int, int]:
        """(height, width) of what methods see."""
        if self.pair is not None:
            return self.pair.size_hw
        return self.truth.shape[:2] if self.stack is None else self.stack.frames.shape[1:3]

    def window(self, view: npt.NDArray[P]) -> npt.NDArray[P]:
        """The centre of a map or picture, of the truth's size."""
        return centre(view, self.truth.shape[:2])

    def sizes_hw(self) -> list[tuple[int, int]]:
        """Sizes that a prediction may have; that of the input first."""
        own = self.truth.shape[0], self.truth.shape[1]
        taken = [grid.size_hw for grid in self.grids] or [self.input_size_hw]
        return list(dict.fromkeys([*taken, own]))

    def on_truth(self, values: FloatImage) -> FloatImage:
        """A prediction on the truth's pixels.

        Raises:
            DualpixError: it has none of the sizes that it may have.
        """
        size = values.shape[0], values.shape[1]
        for grid in self.grids:
            if grid.size_hw == size:
                return grid.onto_truth(values)
        if size == self.truth.shape[:2]:
            return values
        if size not in self.sizes_hw():
            expected = " or ".join(f"{h} x {w}" for h, w in self.sizes_hw())
            raise DualpixError(
                f"the prediction of '{self.name}' is {size[0]} x {size[1]} px", expected=f"{expected} (height x width)"
            )
        return self.window(values)


@dataclass(frozen=True)
class Prediction:
    """What a method says of a sample."""

    values: FloatImage
    """(H, W), or (H, W, 3) for a picture, of one of the sample's sizes."""
    unit: Unit
    confidence: FloatImage | None = None
    """(H, W), 0 to 1; None where the method has none."""
    sharp: FloatImage | None = None
    """(H, W, 3) linear light of the full-aperture view in focus everywhere; None where the method gives none."""


Method = Callable[[Sample], Prediction]
"""A network, a classical method, or a folder of somebody's maps."""


def centre(view: npt.NDArray[P], size_hw: tuple[int, ...]) -> npt.NDArray[P]:
    """The central (h, w) of a map or picture; of an odd rest, the larger part is cut at the bottom and right."""
    (height, width), (h, w) = view.shape[:2], size_hw
    top, left = (height - h) // 2, (width - w) // 2
    return view[top : top + h, left : left + w]
