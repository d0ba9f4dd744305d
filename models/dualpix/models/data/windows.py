"""Samples brought to one form: a number of frames, and a window of a common size.

A sample smaller than the window is reflected at its border; what is reflected has no known truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.models.data.checks import FEWEST_KNOWN
from dualpix.models.data.source import SampleError
from dualpix.models.tasks.task import KNOWN, Field, Sample, Task

_LEAST_PX = 8
_MOST_PX = 1 << 14


@dataclass(frozen=True)
class Window:
    """What all samples of a batch have in common.

    Raises:
        DualpixError: no size that a picture has.
    """

    size_hw: tuple[int, int] | None = None
    """None leaves samples as large as they are: all must be of one size then."""
    frames: int | None = None
    """Of a focus stack; None leaves them all."""
    fewest_frames: int | None = None
    """Where batches have from so many up to ``frames``; None: all have ``frames``."""

    def __post_init__(self) -> None:
        if self.size_hw is not None and not all(_LEAST_PX <= side <= _MOST_PX for side in self.size_hw):
            raise DualpixError(
                f"a window of {self.size_hw[0]} x {self.size_hw[1]} px", expected=f"{_LEAST_PX} to {_MOST_PX} px"
            )
        if self.frames is not None and self.frames < 2:
            raise DualpixError(f"{self.frames} frames", expected="2 or more")
        if self.fewest_frames is not None and not 2 <= self.fewest_frames <= (self.frames or 0):
            raise DualpixError(f"{self.fewest_frames} to {self.frames} frames", expected="2 or more, rising")

    def check(self, sample: Sample, task: Task, named: str) -> None:
        """Refuse a sample that cannot be brought to this form.

        Raises:
            SampleError: it has too few frames, or is not half as large.
        """
        have = _frames_in(sample, task)
        if self.frames is not None and have is not None and have < self.frames:
            raise SampleError(f"{named} has {have} frames", expected=f"{self.frames} or more")
        if self.size_hw is None:
            return
        height, width = _size_of(sample, task)
        if any(side < (wanted + 1) // 2 + 1 for side, wanted in zip((height, width), self.size_hw, strict=True)):
            raise SampleError(
                f"{named} is {height}x{width} (h, w) px",
                expected=f"at least half of the window, {self.size_hw[0]}x{self.size_hw[1]}",
            )

    def frames_of_batch(self, rng: np.random.Generator) -> int:
        """How many frames the stacks of one batch have; 0: as many as always."""
        if self.frames is None or self.fewest_frames is None:
            return 0
        return int(rng.integers(self.fewest_frames, self.frames + 1))

    def of(self, sample: Sample, task: Task, rng: np.random.Generator, frames: int = 0) -> Sample:
        """The sample in this form; ``rng`` chooses place and frames.

        Where the truth of a place is not known at all, one is taken in which it is.

        Args:
            sample: that :meth:`check` does not refuse.
            task: whose sample it is.
            rng: a random stream of its own.
            frames: of its batch, see :meth:`frames_of_batch`.
        """
        sample = _some_frames(sample, task, rng, frames or self.frames)
        if self.size_hw is None:
            return sample
        size = _size_of(sample, task)
        corner = tuple(int(rng.integers(0, room + 1)) for room in self._rooms(size))
        window = self._window(sample, task, corner)
        if KNOWN in window and float(window[KNOWN].mean()) < FEWEST_KNOWN:
            pixels = torch.nonzero(sample[KNOWN][0])
            pixel = tuple(pixels[int(rng.integers(len(pixels)))].tolist()) if len(pixels) else corner
            middle = zip(pixel, self.size_hw, self._rooms(size), strict=True)
            window = self._window(sample, task, tuple(min(max(at - side // 2, 0), room) for at, side, room in middle))
        return window

    def _rooms(self, size_hw: tuple[int, int]) -> tuple[int, ...]:
        """How far the window can be moved, down and to the right."""
        assert self.size_hw is not None  # noqa: S101 - the caller looked
        return tuple(max(have - wanted, 0) for have, wanted in zip(size_hw, self.size_hw, strict=True))

    def _window(self, sample: Sample, task: Task, corner: tuple[int, ...]) -> Sample:
        assert self.size_hw is not None  # noqa: S101 - the caller looked
        (top, left), (h, w) = corner, self.size_hw
        maps = [field.name for field in task.sample if field.kind != "scalar" and field.name in sample]
        window = {name: sample[name][..., top : top + h, left : left + w] for name in maps}
        return {**sample, **_grown(window, self.size_hw)}


def _some_frames(sample: Sample, task: Task, rng: np.random.Generator, wanted: int | None) -> Sample:
    have = _frames_in(sample, task)
    if wanted is None or have is None or have == wanted:
        return sample
    chosen = torch.from_numpy(_spread(have, wanted, rng))
    names = {field.name for field in task.sample if field.per_frame}
    return {k: v[chosen.to(v.device)] if k in names else v for k, v in sample.items()}


def _spread(have: int, wanted: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """``wanted`` of ``have`` places, rising, about evenly: the range of focus stays, the steps grow."""
    edges = np.linspace(0, have, wanted + 1)
    return np.array([int(rng.integers(int(a), max(int(a) + 1, int(b)))) for a, b in pairwise(edges)])


def _grown(window: Sample, size_hw: tuple[int, int]) -> Sample:
    """Reflected to the right and below up to the size."""
    height, width = next(iter(window.values())).shape[-2:]
    missing = (0, size_hw[1] - width, 0, size_hw[0] - height)
    if not any(missing):
        return window
    grown = {name: _reflected(value, missing) for name, value in window.items()}
    if KNOWN in grown:
        inside = torch.zeros_like(grown[KNOWN])
        inside[..., :height, :width] = window[KNOWN]
        grown[KNOWN] = inside
    return grown


def _reflected(value: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    lead = value.shape[:-3]
    flat = value.reshape(-1, *value.shape[-3:])
    return F.pad(flat, pad, mode="reflect").reshape(*lead, value.shape[-3], *_after(value, pad))


def _after(value: Tensor, pad: tuple[int, int, int, int]) -> tuple[int, int]:
    return value.shape[-2] + pad[3], value.shape[-1] + pad[1]


def _frames_in(sample: Sample, task: Task) -> int | None:
    return next((int(sample[f.name].shape[0]) for f in task.sample if f.per_frame and f.name in sample), None)


def _size_of(sample: Sample, task: Task) -> tuple[int, int]:
    fields: list[Field] = [field for field in task.sample if field.kind != "scalar" and field.name in sample]
    height, width = sample[fields[0].name].shape[-2:]
    return int(height), int(width)
