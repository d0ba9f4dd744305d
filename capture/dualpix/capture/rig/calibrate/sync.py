"""The skew of two cameras from a board that moves before both.

Convention: pairs are ``interval_s`` apart by the clock of a. The board's corners in the frame of a, and their speed
from the pairs before and after, say where b would see them ``skew_s`` later; that skew is found for which b did
see them there. > 0: b is later.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.calibrate.board import Board
from dualpix.capture.rig.calibrate.solve import BoardPair, pose_of
from dualpix.capture.rig.geometry import Array, RigGeometry
from dualpix.capture.rig.pairs.session import Skew

_LEAST = 3
_LEAST_SPEED_PX_S = 20.0
_SURE = 2.0


def skew_of(board: Board, pairs: Sequence[BoardPair], geometry: RigGeometry, interval_s: float) -> Skew:
    """The skew that all pairs share; its uncertainty is two standard deviations.

    Args:
        board: what moved.
        pairs: in the order they were taken, none missing.
        geometry: of the rig.
        interval_s: between two pairs.

    Raises:
        DualpixError: too few pairs, or the board hardly moves.
    """
    if len(pairs) < _LEAST:
        raise DualpixError(f"{len(pairs)} pairs of a moving board", expected=f"{_LEAST} or more, one after the other")
    places = [_corners(board, geometry, pair) for pair in pairs]
    offs, speeds = [], []
    for before, at, after, pair in zip(places, places[1:], places[2:], pairs[1:-1], strict=False):
        # of the board's places before and after, the middle takes the slope of a steady turn or push
        velocity = (after - before) / (2 * interval_s)
        ids = pair.b.ids
        seen = geometry.b.project(geometry.to_b(at[ids]))
        step_s = 1e-3
        speed = (geometry.b.project(geometry.to_b(at[ids] + step_s * velocity[ids])) - seen) / step_s
        offs.append((pair.b.pixels - seen).ravel())
        speeds.append(speed.ravel())
    off, speed = np.concatenate(offs), np.concatenate(speeds)
    if np.sqrt(np.mean(speed**2)) < _LEAST_SPEED_PX_S:
        raise DualpixError(
            f"the board moves by {np.sqrt(np.mean(speed**2)):.1f} px/s",
            expected=f"{_LEAST_SPEED_PX_S:g} px/s or more",
            hint="swing it before the cameras",
        )
    skew = float(off @ speed / (speed @ speed))
    rest = off - skew * speed
    # corners of one picture share their errors: pictures are counted, not corners
    sigma = float(np.sqrt(np.mean(rest**2) / (np.mean(speed**2) * 2 * len(offs))))
    return Skew(skew, _SURE * sigma)


def _corners(board: Board, geometry: RigGeometry, pair: BoardPair) -> Array:
    """(corners, 3) in the frame of a."""
    pose = pose_of(board, geometry.a, pair.a)
    turn, _ = cv2.Rodrigues(pose[:3])
    return np.asarray(board.points @ np.asarray(turn, np.float64).T + pose[3:])
