"""Curves of sharpness over the frames of a sweep: valleys, peaks, and the order that explains them best.

Convention: curves (N, tiles) are logarithms of sharpness, the farthest frame first; a *valley* is a frame that is less
sharp than frames on both sides of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.stack.judge.verification import FrameCheck

Curves = npt.NDArray[np.float64]
"""(N, tiles) logarithm of sharpness, farthest frame first."""
VALLEY = 0.08
"""Depth that counts, in the logarithm."""
EXCHANGE_GAIN = 0.5
"""Share of all valleys that must vanish when two frames change places."""
EXCHANGE_VALLEY = 0.1
"""Mean depth of a tile's valleys from which places are questioned."""
_MAX_SEARCHED = 48


def valley_depths(curves: Curves) -> Curves:
    """(N, tiles): how far each frame lies below the sharpest frames on both sides, in the logarithm, >= 0."""
    if len(curves) < 3:
        return np.zeros_like(curves)
    before = np.maximum.accumulate(curves, axis=0)
    after = np.maximum.accumulate(curves[::-1], axis=0)[::-1]
    depths = np.zeros_like(curves)
    depths[1:-1] = np.maximum(np.minimum(before[:-2], after[2:]) - curves[1:-1], 0.0)
    return depths


def peak_places(curves: Curves, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(tiles,) place of the peak: of the parabola through the logarithms of the sharpest frame and its neighbours."""
    best = np.argmax(curves, axis=0)
    peaks = np.array(places[best], np.float64)
    for tile in np.flatnonzero((best > 0) & (best < len(curves) - 1)):
        three = slice(best[tile] - 1, best[tile] + 2)
        a, b, _ = np.polyfit(places[three] - places[best[tile]], curves[three, tile], 2)
        if a < 0:
            peaks[tile] += float(np.clip(-b / (2 * a), *(places[three][[0, 2]] - places[best[tile]])))
    return peaks


@dataclass(frozen=True)
class Misplaced:
    """Frames that changed places, or one that belongs elsewhere."""

    kind: Literal["exchange", "move"]
    frames: tuple[int, ...]
    """Places in the sweep: the two, or the one and the one before which it belongs."""

    def text(self, checks: Sequence[FrameCheck]) -> str:
        """For people."""
        first = checks[self.frames[0]]
        if self.kind == "exchange":
            then = checks[self.frames[1]]
            return f"frames {first.index} and {then.index} look exchanged: {first.marked} and {then.marked}"
        place = self.frames[1]
        ends = ("farthest", "nearest") if first.diopters is not None else ("first", "last")
        where = ends[0] if place == 0 else ends[1] if place == len(checks) else None
        between = where or f"between {checks[place - 1].marked.removesuffix(' D')} and {checks[place].marked}"
        return f"frame {first.index} is marked {first.marked}, by its sharpness it belongs {between}"


def best_order(curves: Curves) -> Misplaced | None:
    """The one exchange or move of frames that explains most valleys; None where the order as it is does well."""
    count = len(curves)
    now = _cost(curves)
    if now < EXCHANGE_VALLEY or not 4 <= count <= _MAX_SEARCHED:
        return None
    tries = [(_cost(curves[order]), wrong) for order, wrong in _orders(count)]
    best, wrong = min(tries, key=lambda t: t[0])
    return wrong if best < (1 - EXCHANGE_GAIN) * now else None


def _orders(count: int) -> Iterator[tuple[list[int], Misplaced]]:
    for first, then in combinations(range(count), 2):
        order = list(range(count))
        order[first], order[then] = then, first
        yield order, Misplaced("exchange", (first, then))
    for frame in range(count):
        rest = [number for number in range(count) if number != frame]
        for place in range(count):
            if abs(place - frame) > 1:  # a move by one is an exchange
                before = rest[place] if place < len(rest) else count
                yield [*rest[:place], frame, *rest[place:]], Misplaced("move", (frame, before))


def _cost(curves: Curves) -> float:
    """Mean over tiles of the valleys that count, each tile's limited: few tiles must not decide."""
    depths = valley_depths(curves)
    return float(np.mean(np.minimum(np.where(depths > VALLEY, depths, 0.0).sum(axis=0), 2.0)))


def robust_line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset after Theil and Sen: medians over all pairs, which a few wrong frames do not move."""
    pairs = [(a, b) for a, b in combinations(range(len(x)), 2) if x[b] != x[a] and np.isfinite(y[a] + y[b])]
    if not pairs:
        return 0.0, 0.0
    slope = float(np.median([(y[b] - y[a]) / (x[b] - x[a]) for a, b in pairs]))
    return slope, float(np.nanmedian(y - slope * x))
