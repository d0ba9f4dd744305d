"""What live view tells of a lens: whether the picture changed, came to rest, and how sharp it is where.

Convention: pictures are (H, W) gray. They are compared after division by their mean level, so that lamps that flicker
do not look like motion, at full resolution and averaged over 4 x 4 pixels: the first sees the change of a sharp
picture, the second, whose noise is lower, that of a blurred one. What two pictures at rest differ by is the yardstick;
it is measured, and measured anew when it turns out to be wrong.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import FocusDrive, Settled
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage

Box = tuple[float, float, float, float]
"""x, y, width, height in shares of the picture, from the top left."""

_COARSE = 4
_CHANGE_FACTOR = 1.6  # a mean over thousands of pixels hardly scatters
# What pictures without noise may differ by and still be the same: a fifth of a level of 8 bits, less where averaged.
_FLOOR = np.array([1.0, 0.1]) * (0.2 / 255) ** 2
_NOISE_PAIRS = 4
_RECENT = 5
_LEAST_LOOKS = 3
_MOST_NOISE_PICTURES = 10


@dataclass(frozen=True)
class Bounds:
    """How long to wait for evidence."""

    settle_s: float = 1.5
    """Longest wait for a picture at rest."""
    rest_pairs: int = 2
    """Pairs of pictures in a row without change that make a rest."""
    change_s: float = 1.0
    """Longest wait for a picture to change after a step."""
    first_change_s: float = 0.4
    """The same as long as no change has been seen that would tell how fast this camera shows one."""
    poll_s: float = 0.0
    """Between live-view pictures, for cameras that hand out the same one again and again."""
    stale_s: float = 120.0
    """Without motion for so long, a lens may have gone to sleep: its position is no longer known."""


@dataclass(frozen=True)
class View:
    """A live-view picture, made comparable."""

    full: FloatImage
    coarse: FloatImage

    @staticmethod
    def of(gray: FloatImage) -> View:
        """Divide by the mean level and reduce.

        Raises:
            DualpixError: the picture is black.
        """
        level = float(gray.mean())
        if not level > 1e-4:
            raise DualpixError("live view is black", hint="open the aperture, add light or take off the lens cap")
        full = np.asarray(gray / np.float32(level), np.float32)
        size = max(1, gray.shape[1] // _COARSE), max(1, gray.shape[0] // _COARSE)
        return View(full, np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.float32))

    @staticmethod
    def mean(views: Sequence[View]) -> View:
        """Of pictures of the same thing, with less noise."""
        return View(
            *(
                np.asarray(np.mean(p, axis=0), np.float32)
                for p in zip(*((v.full, v.coarse) for v in views), strict=True)
            )
        )

    def difference(self, other: View) -> npt.NDArray[np.float64]:
        """(2,) mean squared difference, at full resolution and reduced."""
        if self.full.shape != other.full.shape:
            raise DualpixError(f"live view changed its size from {other.full.shape} to {self.full.shape}")
        return np.array([np.square(a - b).mean() for a, b in ((self.full, other.full), (self.coarse, other.coarse))])


class Watch:
    """Looks at live view, and knows how much pictures differ without reason."""

    def __init__(
        self,
        drive: FocusDrive,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bounds = bounds or Bounds()
        self._drive, self._clock, self._sleep = drive, clock, sleep
        self._noise: npt.NDArray[np.float64] | None = None
        self._waits_s: deque[float] = deque(maxlen=_RECENT)
        """Between a command to a lens at rest and the first picture that showed it; the last few."""

    @property
    def _patience_s(self) -> float:
        if not self._waits_s:
            return self.bounds.first_change_s
        return min(self.bounds.change_s, 3 * max(self._waits_s) + 0.01)

    def look(self) -> View:
        """The next picture."""
        return View.of(self._drive.live_view())

    def look_again(self) -> View:
        """The next picture, a little later."""
        self._pause()
        return self.look()

    def _pause(self) -> None:
        if self.bounds.poll_s > 0:
            self._sleep(self.bounds.poll_s)

    def changed(self, before: View, after: View) -> bool:
        """Whether two pictures differ by more than pictures at rest do."""
        return bool((after.difference(before) > _CHANGE_FACTOR * self._rest_noise() + _FLOOR).any())

    def wait_for_change(self, before: View, *, rested: bool) -> tuple[bool, View]:
        """Look until the picture differs from ``before``, or for longer than this camera needs to show a step.

        Args:
            before: a picture from before the step.
            rested: whether the lens was at rest before it; only then it tells how long the camera needs.
        """
        start, looked = self._clock(), 0
        while True:
            now, looked = self.look(), looked + 1
            waited_s = self._clock() - start
            if self.changed(before, now):
                if rested:
                    self._waits_s.append(waited_s)
                return True, now
            if waited_s >= self._patience_s and looked >= _LEAST_LOOKS:
                return False, now
            self._pause()

    def settle(self, pairs: int | None = None, *, learn: bool = True) -> tuple[Settled, View]:
        """Look until pictures in a row do not change any more, within the bounds; and the mean of the last ones.

        Args:
            pairs: of pictures without change that make a rest; by default those of the bounds.
            learn: take a picture that will not rest, and does not fade to rest either, for noise from then on.
        """
        start, pairs = self._clock(), pairs or self.bounds.rest_pairs
        least_s = min(float(np.median(self._waits_s)) if self._waits_s else 0.0, self.bounds.settle_s)
        views, seen = [self.look()], list[npt.NDArray[np.float64]]()
        looked, quiet = 1, 0
        while True:
            now = self.look_again()
            looked += 1
            seen.append(now.difference(views[-1]))
            quiet = 0 if self.changed(views[-1], now) else quiet + 1
            views, seconds = [*views[-pairs:], now], self._clock() - start
            if quiet >= pairs and seconds >= least_s:
                return Settled(seconds, looked, True, self._words(seen[-1])), View.mean(views)
            if seconds >= self.bounds.settle_s:
                evidence = self._words(seen[-1])
                if learn:
                    self._learn(seen)
                return Settled(seconds, looked, False, evidence), now

    def learn_rest(self) -> View:
        """Measure what pictures differ by without reason, while nothing moves; the last of them.

        The same picture twice, which some cameras hand out, tells nothing of noise.
        """
        seen: list[npt.NDArray[np.float64]] = []
        before = self.look()
        for _ in range(_MOST_NOISE_PICTURES):
            now = self.look_again()
            difference = now.difference(before)
            before = now
            if difference[0] > 0:
                seen.append(difference)
            if len(seen) == _NOISE_PAIRS:
                break
        # the least: the lens may still be coming to rest
        self._noise = np.min(seen, axis=0) if seen else np.zeros(2)
        return before

    def _rest_noise(self) -> npt.NDArray[np.float64]:
        if self._noise is None:
            self.learn_rest()
        return np.zeros(2) if self._noise is None else self._noise

    def _learn(self, seen: Sequence[npt.NDArray[np.float64]]) -> None:
        """Take a restlessness that does not fade for noise: water, leaves, a lamp."""
        half = len(seen) // 2
        early, late = np.median(seen[: max(half, 1)], axis=0), np.median(seen[half:], axis=0)
        if (late > early / 2).all():
            self._noise = late

    def _words(self, difference: npt.NDArray[np.float64]) -> str:
        share = float((difference / (self._rest_noise() + _FLOOR)).max())
        return f"difference {share:.1f} of that at rest"


def sharpness(gray: FloatImage) -> float:
    """Mean squared gradient over the squared mean level of (H, W), which light does not change."""
    gray = np.asarray(gray, np.float32)
    level = max(float(gray.mean()), 1e-6)
    return float((np.square(np.diff(gray, axis=0)).mean() + np.square(np.diff(gray, axis=1)).mean()) / level**2)


def inside(gray: FloatImage, box: Box) -> FloatImage:
    """The part of a picture in a box."""
    height, width = gray.shape
    x, y, w, h = box
    rows, columns = slice(round(y * height), round((y + h) * height)), slice(round(x * width), round((x + w) * width))
    return gray[rows, columns]
