"""From pictures of a board to a calibrated rig, and what is refused on the way.

Convention: :mod:`dualpix.capture.rig.geometry`. What would give a wrong rig without a sign of it is an error: boards
that one camera alone saw, pictures of other sizes, a rig that moved between two pictures, a pair that was not taken at
one moment, boards held in one place only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.calibrate import coverage
from dualpix.capture.rig.calibrate.board import Board
from dualpix.capture.rig.calibrate.coverage import Coverage
from dualpix.capture.rig.calibrate.solve import BoardPair, Solution, first_cameras, relative_pose, solve
from dualpix.capture.rig.geometry import Array
from dualpix.capture.rig.pairs.session import RigPair, View, check_skew, read_view
from dualpix.capture.types import Baseline

LEAST_PAIRS = 8
_LEAST_CORNERS = 6
_MOST_ROTATION_SIGMA_DEG, _MOST_BASELINE_SIGMA = 0.05, 0.002
_MOVED_DEG, _MOVED_SIGMAS, _LEAST_SIDE = 0.12, 6.0, 3
_LOOSE_PX = 0.15
"""Corners of sharp pictures of one flat board fit several times better."""
_ODD_PX, _ODD_TIMES = 0.6, 5.0


class CoverageError(DualpixError):
    """Boards were not held where they are needed; ``picture`` shows where to hold the next ones."""

    def __init__(self, found: str, coverages: tuple[Coverage, ...], *, expected: str, hint: str = "") -> None:
        super().__init__(found, expected=expected, hint=hint)
        self.picture = coverage.picture(coverages)


@dataclass(frozen=True)
class Sighting:
    """What was found in the pictures of a session."""

    board: Board
    pairs: tuple[BoardPair, ...]
    """Seen by both cameras."""
    sizes: tuple[tuple[int, int], tuple[int, int]]
    """(h, w) of a's and of b's pictures."""
    cameras: tuple[str | None, str | None]
    """Models, where the files say."""
    dual_pixel_axis: Baseline | None
    """Along which a's halves are apart, as its sensor lies; None where a's pictures have no halves."""
    left_out: tuple[str, ...] = ()
    """Pairs in which one camera or neither saw the board, each with the reason."""


def find_boards(
    board: Board, pairs: Sequence[RigPair], *, max_skew_s: float, report: Callable[[int, int, str], None] | None = None
) -> Sighting:
    """Look for the board in every picture of a session.

    Raises:
        DualpixError: too few pairs in which both saw it, pictures of several sizes, a pair taken too far apart.
    """
    found: list[BoardPair] = []
    left_out: list[str] = []
    first: tuple[View, View] | None = None
    for index, pair in enumerate(pairs):
        check_skew(pair, max_skew_s)
        views = read_view(pair.a), read_view(pair.b)
        first = first or views
        _check_sizes(pair, views, first)
        seen = [board.find(view.gray) for view in views]
        enough = [one is not None and len(one.ids) >= _LEAST_CORNERS for one in seen]
        if all(enough) and seen[0] is not None and seen[1] is not None:
            found.append(BoardPair(pair.name, seen[0], seen[1]))
        else:
            left_out.append(
                f"'{pair.name}' ({'neither camera' if not any(enough) else 'not b' if enough[0] else 'not a'})"
            )
        if report is not None:
            report(index + 1, len(pairs), pair.name)
    if first is None:
        raise DualpixError("no pictures of a board", expected=f"{LEAST_PAIRS} pairs or more, better 20 to 40")
    if len(found) < LEAST_PAIRS:
        shown = ", ".join(left_out[:4]) + (f" and {len(left_out) - 4} more" if len(left_out) > 4 else "")
        raise DualpixError(
            f"both cameras see the {board.kind} of {board} in {len(found)} of {len(pairs)} pairs"
            + (f"; it is not seen in {shown}" if left_out else ""),
            expected=f"{LEAST_PAIRS} pairs or more, better 20 to 40",
            hint="hold it where both see it, and check --board, --squares and that it is sharp",
        )
    sizes = first[0].size_hw, first[1].size_hw
    return Sighting(board, tuple(found), sizes, (first[0].camera, first[1].camera), _axis(first[0]), tuple(left_out))


def calibrate(sighting: Sighting, *, third_radial: bool = False) -> Solution:
    """The rig.

    Raises:
        CoverageError: boards do not reach where they must, or the pose is not known well enough.
        DualpixError: the rig moved between two pictures, or a pair does not fit the others.
    """
    a_hw, b_hw = sighting.sizes
    coverages = coverages_of(sighting)
    _check_still(sighting, third_radial)
    solution = solve(sighting.board, sighting.pairs, a_hw, b_hw, third_radial=third_radial)
    _check_pairs(sighting.pairs, solution)
    if missing := coverage.lacking(coverages, solution.board_poses):
        raise CoverageError(
            "; ".join(missing), coverages, expected="boards all over both pictures, tilted to all sides"
        )
    sure_deg, sure = solution.rotation_sigma_deg, solution.baseline_sigma_m / solution.geometry.baseline_m
    if sure_deg > _MOST_ROTATION_SIGMA_DEG or sure > _MOST_BASELINE_SIGMA:
        raise CoverageError(
            f"the pose is known to {sure_deg:.3f} degrees and {100 * sure:.2f} % of the baseline",
            coverages,
            expected=f"{_MOST_ROTATION_SIGMA_DEG:g} degrees and {100 * _MOST_BASELINE_SIGMA:g} %",
            hint="add pairs, nearer and more tilted"
            if solution.rms_px < _LOOSE_PX
            else f"corners fit to {solution.rms_px:.2f} px only: boards of more than one size, one not flat, or blur",
        )
    return solution


def coverages_of(sighting: Sighting) -> tuple[Coverage, ...]:
    """Of both cameras."""
    return tuple(
        coverage.coverage_of(side, size, sighting.pairs) for side, size in zip("ab", sighting.sizes, strict=True)
    )


def _check_sizes(pair: RigPair, views: tuple[View, View], first: tuple[View, View]) -> None:
    for side, view, other in zip("ab", views, first, strict=True):
        if view.size_hw != other.size_hw:
            raise DualpixError(
                f"'{pair.path(side).name}' of camera {side} is {_size(view.size_hw)}",
                expected=f"{_size(other.size_hw)}, as '{other.path.name}'",
                hint="take all pictures in one mode",
            )


def _check_still(sighting: Sighting, third_radial: bool) -> None:
    """Refuse a rig that stood otherwise from some picture on: each camera by itself is not touched by that."""
    cameras = first_cameras(sighting.board, sighting.pairs, *sighting.sizes, third_radial)
    turns = [relative_pose(sighting.board, *cameras, pair)[0] for pair in sighting.pairs]
    off = np.stack([_turn_deg(turn @ turns[len(turns) // 2].T) for turn in turns])
    best = (0.0, 0, 0.0)
    for split in range(_LEAST_SIDE, len(off) - _LEAST_SIDE + 1):
        before, after = off[:split], off[split:]
        step = np.median(after, axis=0) - np.median(before, axis=0)
        rest = np.concatenate([before - np.median(before, axis=0), after - np.median(after, axis=0)])
        sigma = 1.4826 * np.median(np.abs(rest), axis=0) * np.sqrt(1 / len(before) + 1 / len(after)) * 1.25 + 1e-6
        strength = float(np.max(np.abs(step) / sigma))
        if strength > best[0] and float(np.linalg.norm(step)) > _MOVED_DEG:
            best = strength, split, float(np.linalg.norm(step))
    if best[0] > _MOVED_SIGMAS:
        names = sighting.pairs[best[1] - 1].name, sighting.pairs[best[1]].name
        raise DualpixError(
            f"the cameras turned against each other by {best[2]:.2f} degrees between '{names[0]}' and '{names[1]}'",
            expected="a rig that does not move between two pictures",
            hint="tighten the holder and calibrate with the pairs after that, or before",
        )


def _check_pairs(pairs: Sequence[BoardPair], solution: Solution) -> None:
    worst = solution.pair_rms_px.max(axis=1)
    index, usual = int(np.argmax(worst)), float(np.median(worst))
    if worst[index] > max(_ODD_PX, _ODD_TIMES * usual):
        raise DualpixError(
            f"pair '{pairs[index].name}' fits the others to {worst[index]:.2f} px, they fit to {usual:.2f} px",
            expected="both pictures of one moment, of a flat board",
            hint="the board moved between the two releases, or the two are exchanged: take the pair away",
        )


def _turn_deg(rotation: Array) -> Array:
    turn, _ = cv2.Rodrigues(np.ascontiguousarray(rotation))
    return np.asarray(np.degrees(turn.ravel()))


def _axis(view: View) -> Baseline | None:
    image = view.dual_pixel
    if image is None:
        return None
    turned = view.orientation in (5, 6, 7, 8)
    return image.baseline if not turned else ("y" if image.baseline == "x" else "x")


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
