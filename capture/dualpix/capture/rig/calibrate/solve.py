"""Bundle adjustment of two cameras and the boards they saw together, with the covariance of what it finds.

Convention: :mod:`dualpix.capture.rig.geometry`. The unknowns are the rig's 24 parameters and a pose (rotation vector,
translation) of the board before camera a for each pair; residuals are pixels of both pictures. Levenberg-Marquardt with
OpenCV's analytic derivatives, weights of Huber (1964) beyond ``_HUBER_PX``. The covariance is
``s^2 (J' W J)^-1``, s^2 the residuals' mean square over the degrees of freedom: what corners that scatter
independently leave unknown. A board that is not flat, or squares of another size than stated, are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.calibrate.board import Board, Found
from dualpix.capture.rig.geometry import PER_CAMERA, RIG_PARAMETERS, Array, Intrinsics, RigGeometry

_STEPS = 60
_CONVERGED = 1e-10
_HUBER_PX = 0.5
_POSE = 6
_K3 = 8


@dataclass(frozen=True)
class BoardPair:
    """A board seen by both cameras."""

    name: str
    a: Found
    b: Found


@dataclass(frozen=True)
class Solution:
    """A rig, the boards, and how well it all fits."""

    geometry: RigGeometry
    covariance: Array
    """(24, 24) of the rig's parameters; zero for those that were held."""
    board_poses: Array
    """(pairs, 6)."""
    pair_rms_px: Array
    """(pairs, 2) of a and b."""
    rms_px: float
    """Of all corners, one axis."""

    @cached_property
    def sigmas(self) -> Array:
        """(24,) one standard deviation each."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def rotation_sigma_deg(self) -> float:
        """Of the angle of R, root sum of squares over its three axes."""
        return float(np.degrees(np.linalg.norm(self.sigmas[18:21])))

    @property
    def baseline_sigma_m(self) -> float:
        """Of the length of t."""
        unit = self.geometry.translation_m / self.geometry.baseline_m
        return float(np.sqrt(unit @ self.covariance[21:24, 21:24] @ unit))


def solve(
    board: Board,
    pairs: Sequence[BoardPair],
    a_hw: tuple[int, int],
    b_hw: tuple[int, int],
    *,
    third_radial: bool = False,
) -> Solution:
    """The rig that fits the corners of all pairs best.

    Args:
        board: what was seen.
        pairs: at least three, with four corners or more in either picture.
        a_hw: size of a's pictures.
        b_hw: of b's.
        third_radial: also fit k3; wide lenses need it, and it makes the rest less sure.

    Raises:
        DualpixError: no camera fits them.
    """
    cameras = first_cameras(board, pairs, a_hw, b_hw, third_radial)
    poses_a = np.stack([pose_of(board, cameras[0], pair.a) for pair in pairs])
    start = RigGeometry(cameras[0], cameras[1], *_middle([relative_pose(board, *cameras, pair) for pair in pairs]))
    state = np.concatenate([start.parameters, poses_a.ravel()])
    free = np.ones(state.size, bool)
    if not third_radial:
        free[[_K3, PER_CAMERA + _K3]] = False
    problem = _Problem(board, tuple(pairs), a_hw, b_hw)
    state, hessian, residuals = _minimised(problem, state, free)
    return _solution(problem, state, free, hessian, residuals)


def first_cameras(
    board: Board, pairs: Sequence[BoardPair], a_hw: tuple[int, int], b_hw: tuple[int, int], third_radial: bool
) -> tuple[Intrinsics, Intrinsics]:
    """Each camera by its own pictures alone.

    Raises:
        DualpixError: no lens fits them.
    """
    return (
        _first_camera(board, [pair.a for pair in pairs], a_hw, third_radial, "a"),
        _first_camera(board, [pair.b for pair in pairs], b_hw, third_radial, "b"),
    )


def pose_of(board: Board, camera: Intrinsics, found: Found) -> Array:
    """(6,) rotation vector and translation of the board before a camera."""
    points, pixels = board.points[found.ids], found.pixels
    done, turn, shift = cv2.solvePnP(points, pixels, camera.matrix, camera.distortion, flags=cv2.SOLVEPNP_IPPE)
    if done:
        turn, shift = cv2.solvePnPRefineLM(points, pixels, camera.matrix, camera.distortion, turn, shift)
    if not done or not np.isfinite(shift).all():
        raise DualpixError("a board whose pose cannot be found", expected="at least four corners, not in one line")
    return np.concatenate([turn.ravel(), shift.ravel()])


def relative_pose(board: Board, a: Intrinsics, b: Intrinsics, pair: BoardPair) -> tuple[Array, Array]:
    """R and t of the rig by one pair alone."""
    pose_a, pose_b = pose_of(board, a, pair.a), pose_of(board, b, pair.b)
    turn_a, turn_b = (np.asarray(cv2.Rodrigues(pose[:3])[0], np.float64) for pose in (pose_a, pose_b))
    rotation = turn_b @ turn_a.T
    return rotation, pose_b[3:] - rotation @ pose_a[3:]


def _first_camera(
    board: Board, found: Sequence[Found], size_hw: tuple[int, int], third_radial: bool, side: str
) -> Intrinsics:
    points = [board.points[f.ids].astype(np.float32) for f in found]
    pixels = [f.pixels.astype(np.float32)[:, None] for f in found]
    flags = 0 if third_radial else cv2.CALIB_FIX_K3
    guess: Any = None
    try:
        _, matrix, distortion, _, _ = cv2.calibrateCamera(
            points, pixels, (size_hw[1], size_hw[0]), guess, guess, flags=flags
        )
    except cv2.error as error:
        raise DualpixError(
            f"no lens fits the boards of camera {side}", expected="boards tilted to all sides", hint="take more pairs"
        ) from error
    return Intrinsics(size_hw, np.asarray(matrix, np.float64), np.asarray(distortion, np.float64).ravel()[:5])


def _middle(poses: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The pose nearest all others, by angle; it is a start."""
    turns = np.stack([rotation for rotation, _ in poses])
    cosines = np.einsum("nij,mij->nm", turns, turns)
    best = int(np.argmax(np.median(cosines, axis=1)))
    return turns[best], np.median(np.stack([shift for _, shift in poses]), axis=0)


@dataclass(frozen=True)
class _Problem:
    board: Board
    pairs: tuple[BoardPair, ...]
    a_hw: tuple[int, int]
    b_hw: tuple[int, int]

    def linearised(self, state: Array) -> tuple[Array, Array]:
        """Residuals (M,) in px, pair by pair, a before b; and their Jacobian (M, parameters)."""
        rows, slopes = [], []
        for index, pair in enumerate(self.pairs):
            for part, slope in (self._of_a(state, index, pair.a), self._of_b(state, index, pair.b)):
                rows.append(part)
                slopes.append(slope)
        return np.concatenate(rows), np.concatenate(slopes)

    def _of_a(self, state: Array, index: int, found: Found) -> tuple[Array, Array]:
        at = RIG_PARAMETERS + _POSE * index
        residual, by_pose, by_camera = self._seen(
            Intrinsics.of(self.a_hw, state[:PER_CAMERA]), state[at : at + 6], found
        )
        slope = np.zeros((residual.size, state.size))
        slope[:, :PER_CAMERA], slope[:, at : at + 6] = by_camera, by_pose
        return residual, slope

    def _of_b(self, state: Array, index: int, found: Found) -> tuple[Array, Array]:
        at = RIG_PARAMETERS + _POSE * index
        pose, rig = state[at : at + 6], state[18:24]
        turn, shift, dr_dr, dr_dt, dr_drig, dr_dtrig, dt_dr, dt_dt, dt_drig, dt_dtrig = cv2.composeRT(
            pose[:3], pose[3:], rig[:3], rig[3:]
        )
        camera = Intrinsics.of(self.b_hw, state[PER_CAMERA:18])
        residual, by_pose, by_camera = self._seen(camera, np.concatenate([turn.ravel(), shift.ravel()]), found)
        slope = np.zeros((residual.size, state.size))
        slope[:, PER_CAMERA:18] = by_camera
        slope[:, at : at + 6] = by_pose @ np.block([[dr_dr, dr_dt], [dt_dr, dt_dt]])
        slope[:, 18:24] = by_pose @ np.block([[dr_drig, dr_dtrig], [dt_drig, dt_dtrig]])
        return residual, slope

    def _seen(self, camera: Intrinsics, pose: Array, found: Found) -> tuple[Array, Array, Array]:
        """Residuals, and their slopes by the pose and by the camera's own parameters."""
        pixels, slope = cv2.projectPoints(
            self.board.points[found.ids], pose[:3], pose[3:], camera.matrix, camera.distortion
        )
        residual = np.asarray(pixels, np.float64).reshape(-1, 2) - found.pixels
        return residual.ravel(), np.asarray(slope[:, :6]), np.asarray(slope[:, 6 : 6 + PER_CAMERA])


def _minimised(problem: _Problem, state: Array, free: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """State, Gauss-Newton Hessian of the free parameters, residuals."""
    damping = 1e-4
    residual, slope = problem.linearised(state)
    for _ in range(_STEPS):
        weight = _huber(residual)
        j = slope[:, free]
        hessian, gradient = (j.T * weight) @ j, j.T @ (weight * residual)
        scale = np.sqrt(np.diag(hessian)) + 1e-12
        step = np.zeros_like(state)
        step[free] = (
            -np.linalg.solve(hessian / np.outer(scale, scale) + damping * np.eye(len(scale)), gradient / scale) / scale
        )
        tried, tried_slope = problem.linearised(state + step)
        before, after = _cost(residual), _cost(tried)
        if after <= before:
            state, residual, slope, damping = state + step, tried, tried_slope, max(damping / 5, 1e-12)
            if before - after <= _CONVERGED * before:
                break
        else:
            damping *= 8
            if damping > 1e8:
                break
    j, weight = slope[:, free], _huber(residual)
    return state, (j.T * weight) @ j, residual


def _huber(residual: Array) -> Array:
    return np.asarray(np.minimum(1.0, _HUBER_PX / np.maximum(np.abs(residual), 1e-12)))


def _cost(residual: Array) -> float:
    size = np.abs(residual)
    return float(np.sum(np.where(size <= _HUBER_PX, size**2, 2 * _HUBER_PX * size - _HUBER_PX**2)))


def _solution(
    problem: _Problem, state: Array, free: npt.NDArray[np.bool_], hessian: Array, residual: Array
) -> Solution:
    weight = _huber(residual)
    variance = float(np.sum(weight * residual**2)) / max(residual.size - int(free.sum()), 1)
    # the Hessian of mixed units is only invertible once it is scaled
    scale = np.sqrt(np.diag(hessian)) + 1e-12
    inverse = np.linalg.inv(hessian / np.outer(scale, scale)) / np.outer(scale, scale) * variance
    covariance = np.zeros((state.size, state.size))
    covariance[np.ix_(free, free)] = inverse
    counts = np.array([2 * len(found.ids) for pair in problem.pairs for found in (pair.a, pair.b)])
    parts = np.split(residual, np.cumsum(counts)[:-1])
    rms = np.array([np.sqrt(np.mean(part**2)) for part in parts]).reshape(-1, 2)
    return Solution(
        RigGeometry.of(problem.a_hw, problem.b_hw, state[:RIG_PARAMETERS]),
        covariance[:RIG_PARAMETERS, :RIG_PARAMETERS],
        state[RIG_PARAMETERS:].reshape(-1, _POSE),
        rms,
        float(np.sqrt(np.mean(residual**2))),
    )
